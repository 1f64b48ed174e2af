// What a panel of a dashboard shows: chosen from the twins that are there.
import Autocomplete from "@mui/material/Autocomplete";
import Button from "@mui/material/Button";
import Dialog from "@mui/material/Dialog";
import DialogActions from "@mui/material/DialogActions";
import DialogContent from "@mui/material/DialogContent";
import DialogTitle from "@mui/material/DialogTitle";
import MenuItem from "@mui/material/MenuItem";
import TextField from "@mui/material/TextField";
import { type FormEvent, type ReactElement, useState } from "react";
import { useTwin, useTwins } from "../live/hooks";
import { type BoardPanel, PANEL_KINDS, type PanelKind, wants } from "../model/board";
import { isNumber } from "../model/format";
import { metricName, said, t } from "../words";

export const PanelForm = ({ panel, onDone, onClose }: { panel: BoardPanel | undefined; onDone: (panel: BoardPanel) => void; onClose: () => void }): ReactElement => {
  const [kind, setKind] = useState<PanelKind>(panel?.kind ?? "series");
  const [twin, setTwin] = useState(panel?.twin ?? "");
  const [metric, setMetric] = useState(panel?.metric ?? "");
  const [kpi, setKpi] = useState(panel?.kpi ?? "");
  const [text, setText] = useState(panel?.text ?? "");
  const machines = Object.keys(useTwins("machine").told).sort();
  const locations = Object.keys(useTwins("location").told).sort();
  const needed = wants(kind);
  const [of, id] = [twin.startsWith("location/") ? ("location" as const) : ("machine" as const), twin.slice(twin.indexOf("/") + 1)];
  const known = useTwin(of, id).twin;
  const metrics = Object.entries(known?.state?.metrics ?? {}).filter(([, one]) => typeof one.value === "number").map(([name]) => name);
  const kpis = Object.entries(known?.kpis ?? {}).filter(([, value]) => isNumber(value) || value === null).map(([name]) => name);
  const options = needed.twin === "machine" ? machines : needed.twin === "location" ? locations : [...machines, ...locations];
  const whole = (!needed.twin || twin.includes("/")) && (!needed.metric || metric !== "") && (!needed.kpi || kpi !== "") && (!needed.text || text.trim() !== "");
  const done = (event: FormEvent) => {
    event.preventDefault();
    if (!whole) return;
    onDone({
      id: panel?.id ?? `p${Date.now().toString(36)}`, kind, width: panel?.width ?? (kind === "kpi" || kind === "air" ? 1 : kind === "series" || kind === "timeline" ? 2 : 3),
      ...(needed.twin ? { twin } : {}), ...(needed.metric ? { metric } : {}), ...(needed.kpi ? { kpi } : {}), ...(needed.text ? { text: text.trim() } : {}),
    });
  };
  return (
    <Dialog open onClose={onClose} fullWidth maxWidth="xs" aria-labelledby="panel-form">
      <form onSubmit={done}>
        <DialogTitle id="panel-form">{panel ? t("boards.change") : t("boards.add")}</DialogTitle>
        <DialogContent className="form">
          <TextField select label={t("panel.kind")} value={kind} onChange={(event) => setKind(event.target.value as PanelKind)} margin="dense">{PANEL_KINDS.map((one) => <MenuItem key={one} value={one}>{t(`panel.${one}`)}</MenuItem>)}</TextField>
          {needed.twin && <Autocomplete options={options} value={options.includes(twin) ? twin : null} onChange={(_, value) => { setTwin(value ?? ""); }} renderInput={(props) => <TextField {...props} label={t("panel.twin")} required />} />}
          {needed.metric && <TextField select label={t("machine.metric")} value={metrics.includes(metric) ? metric : ""} onChange={(event) => setMetric(event.target.value)} required disabled={metrics.length === 0}>{metrics.map((name) => <MenuItem key={name} value={name}>{metricName(name)}</MenuItem>)}</TextField>}
          {needed.kpi && <TextField select label={t("panel.kpi")} value={kpis.includes(kpi) ? kpi : ""} onChange={(event) => setKpi(event.target.value)} required disabled={kpis.length === 0}>{kpis.map((name) => <MenuItem key={name} value={name}>{said("kpi", name)}</MenuItem>)}</TextField>}
          {needed.text && <TextField label={t("panel.text")} value={text} onChange={(event) => setText(event.target.value)} multiline minRows={3} required slotProps={{ htmlInput: { maxLength: 2000 } }} />}
        </DialogContent>
        <DialogActions><Button onClick={onClose}>{t("common.cancel")}</Button><Button type="submit" variant="contained" disabled={!whole}>{t("boards.take")}</Button></DialogActions>
      </form>
    </Dialog>
  );
};
