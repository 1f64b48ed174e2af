// The moment that the page looks at: a slider back from now, a date, and a link that keeps it.
import Button from "@mui/material/Button";
import IconButton from "@mui/material/IconButton";
import Slider from "@mui/material/Slider";
import TextField from "@mui/material/TextField";
import ToggleButton from "@mui/material/ToggleButton";
import ToggleButtonGroup from "@mui/material/ToggleButtonGroup";
import { type ReactElement, useEffect, useState } from "react";
import { PAST_MAX } from "../live/past";
import { dateTime, millis, span } from "../model/format";
import { copyText } from "../parts/copy";
import { t } from "../words";
import { Icons } from "./icons";
import { useAppSelector } from "./store";
import { useAt, useNow, useTravel } from "./time";
import { useZone } from "./Shell";

const RANGES = [
  { key: "1h", label: "1 h", ms: 3_600_000 },
  { key: "24h", label: "24 h", ms: 86_400_000 },
  { key: "30d", label: "30 d", ms: 30 * 86_400_000 },
] as const;

/** A time as an input of the browser wants it: local, without a zone. */
const local = (ms: number): string => {
  const date = new Date(ms);
  return new Date(ms - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
};

export const TimeTravel = ({ onClose }: { onClose: () => void }): ReactElement => {
  const at = useAt();
  const travel = useTravel();
  const now = useNow();
  const zone = useZone();
  const past = useAppSelector((state) => state.past);
  const [range, setRange] = useState<(typeof RANGES)[number]["key"]>(() => {
    const back = Date.now() - (millis(at) ?? Date.now());
    return RANGES.find(({ ms }) => back <= ms)?.key ?? "30d";
  });
  const [dragged, setDragged] = useState<number | null>(null);
  const [copied, setCopied] = useState(false);
  const width = RANGES.find(({ key }) => key === range)?.ms ?? 3_600_000;
  const back = at === null ? 0 : Math.min(width, Math.max(0, now - (millis(at) ?? now)));

  useEffect(() => setCopied(false), [at]);

  const shown = dragged ?? back;
  const empty = at !== null && !past.loading && past.failed === null && Object.values(past.told).every((told) => Object.keys(told ?? {}).length === 0);
  return (
    <section className={`travel${at === null ? "" : " away"}`} aria-label={t("time.travel")}>
      <p className="travel-at" role="status">
        {at === null ? t("plant.now") : <><strong>{t("time.as_of")}</strong> {dateTime(at, zone)}</>}
        {past.loading && <span className="faint"> {t("time.loading", { done: past.done, total: past.total })}</span>}
        {past.failed !== null && <span className="bad"> {t("time.failed", { detail: past.failed })}</span>}
        {empty && <span className="bad"> {t("time.empty")}</span>}
        {past.capped && <span className="faint"> {t("time.first", { count: PAST_MAX })}</span>}
      </p>
      <div className="travel-tools">
        <ToggleButtonGroup exclusive size="small" value={range} aria-label={t("time.slider")} onChange={(_, key: typeof range | null) => key && setRange(key)}>
          {RANGES.map(({ key, label }) => <ToggleButton key={key} value={key}>{label}</ToggleButton>)}
        </ToggleButtonGroup>
        <Slider
          className="travel-slider" aria-label={t("time.slider")} min={-width} max={0} step={Math.max(1000, Math.round(width / 720 / 1000) * 1000)} value={-shown} track="inverted"
          valueLabelDisplay="auto" valueLabelFormat={(value) => (value === 0 ? t("plant.now") : t("common.ago", { age: span(-value / 1000) }))}
          getAriaValueText={(value) => (value === 0 ? t("plant.now") : t("common.ago", { age: span(-value / 1000) }))}
          onChange={(_, value) => setDragged(-(value as number))}
          onChangeCommitted={(_, value) => {
            setDragged(null);
            travel(value === 0 ? null : new Date(Math.floor((Date.now() + (value as number)) / 1000) * 1000).toISOString());
          }}
        />
        <TextField
          type="datetime-local" label={t("time.at")} value={local(millis(at) ?? now)} slotProps={{ htmlInput: { step: 1, max: local(now) }, inputLabel: { shrink: true } }}
          onChange={(event) => { const ms = Date.parse(event.target.value); if (Number.isFinite(ms) && ms < Date.now()) travel(new Date(ms).toISOString()); }}
        />
        <Button disabled={at === null} onClick={() => { void copyText(window.location.href).then(setCopied); }}>{copied ? t("time.copied") : t("time.link")}</Button>
        <Button variant={at === null ? "text" : "contained"} disabled={at === null} onClick={() => travel(null)}>{t("time.now")}</Button>
      </div>
      <span className="travel-close"><IconButton aria-label={t("common.close")} onClick={() => { travel(null); onClose(); }}><Icons.close /></IconButton></span>
    </section>
  );
};
