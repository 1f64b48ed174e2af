// Binds a device to a twin: the plant model with one more sensor, shown as a plan before it is applied.
import Button from "@mui/material/Button";
import Dialog from "@mui/material/Dialog";
import DialogActions from "@mui/material/DialogActions";
import DialogContent from "@mui/material/DialogContent";
import DialogTitle from "@mui/material/DialogTitle";
import Autocomplete from "@mui/material/Autocomplete";
import MenuItem from "@mui/material/MenuItem";
import TextField from "@mui/material/TextField";
import { type ReactElement, useState } from "react";
import { detail, useApplyPlantMutation, usePlanPlantMutation, usePlantQuery } from "../api/http";
import { withSensor } from "../model/ingest";
import { PlanShown } from "../parts/PlanShown";
import { t } from "../words";

const TYPES = ["MACHINE", "ENERGY", "AIR_QUALITY", "RFID"];

export const Bind = ({ device, twins, onClose, onBound }: { device: string; twins: string[]; onClose: () => void; onBound: (text: string) => void }): ReactElement => {
  const plant = usePlantQuery();
  const [id, setId] = useState(device);
  const [feeds, setFeeds] = useState("");
  const [type, setType] = useState("MACHINE");
  const [plan, planned] = usePlanPlantMutation();
  const [apply, applied] = useApplyPlantMutation();
  const text = () => withSensor(plant.data?.model, { id: id.trim(), feeds, type });
  const whole = id.trim() !== "" && /^(machine|location)\/.+/.test(feeds);
  const send = async () => {
    const answer = await apply(text());
    if (!answer.error) onBound(t("health.bound", { id: id.trim(), twin: feeds }));
  };
  const error = applied.error ?? planned.error;
  return (
    <Dialog open onClose={onClose} fullWidth maxWidth="sm" aria-labelledby="bind">
      <DialogTitle id="bind">{device === "" ? t("health.unknown_add") : t("health.bind_title", { id: device })}</DialogTitle>
      <DialogContent className="form">
        <p>{t("health.bind_help")}</p>
        {device === "" && <TextField label={t("health.unknown_id")} value={id} onChange={(event) => { setId(event.target.value); planned.reset(); }} autoFocus />}
        <Autocomplete freeSolo options={twins} inputValue={feeds} onInputChange={(_, value) => { setFeeds(value); planned.reset(); }} renderInput={(props) => <TextField {...props} label={t("health.bind_to")} placeholder="machine/cnc-07" />} />
        <TextField select label={t("health.bind_type")} value={type} onChange={(event) => { setType(event.target.value); planned.reset(); }}>{TYPES.map((name) => <MenuItem key={name} value={name}>{name}</MenuItem>)}</TextField>
        {planned.data && <PlanShown plan={planned.data} />}
        {error && <p className="bad" role="alert">{detail(error)}</p>}
      </DialogContent>
      <DialogActions>
        <Button onClick={onClose}>{t("common.cancel")}</Button>
        <Button disabled={!whole || planned.isLoading} onClick={() => void plan(text())}>{t("health.bind_plan")}</Button>
        <Button variant="contained" disabled={!whole || !planned.data || applied.isLoading} onClick={() => void send()}>{t("health.bind_apply")}</Button>
      </DialogActions>
    </Dialog>
  );
};
