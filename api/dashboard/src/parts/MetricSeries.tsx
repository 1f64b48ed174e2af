// A metric over time with its window, and what is foreseen of it where the node says so.
import Button from "@mui/material/Button";
import MenuItem from "@mui/material/MenuItem";
import TextField from "@mui/material/TextField";
import ToggleButton from "@mui/material/ToggleButton";
import ToggleButtonGroup from "@mui/material/ToggleButtonGroup";
import { type ReactElement, useMemo, useState } from "react";
import { detail, isMissing, useForecastQuery, useHistoryQuery, usePlantQuery } from "../api/http";
import { useStep } from "../app/time";
import { Series } from "../draw/Series";
import { clock, dateTime, millis } from "../model/format";
import { type Forecast, WINDOWS, counts, drawn, stepFor } from "../model/series";
import { metricName, t } from "../words";
import { Empty } from "./Empty";
import { Panel } from "./Panel";

type Props = { kind: string; id: string; metric: string; unit: string; metrics?: string[]; onMetric?: (metric: string) => void; forecast?: boolean; height?: number; title?: string };

export const MetricSeries = ({ kind, id, metric, unit, metrics, onMetric, forecast, height, title }: Props): ReactElement => {
  const zone = usePlantQuery().data?.model.site?.timezone;
  const [wanted, setWanted] = useState("1h");
  const [zoomed, setZoomed] = useState<{ from: number; to: number } | null>(null);
  const width = WINDOWS.find(({ key }) => key === wanted)?.ms ?? 3_600_000;
  // New points are asked for about three hundred times a window, at most every five seconds.
  const beat = Math.max(5_000, width / 300);
  const end = useStep(beat);
  const { from, to } = zoomed ?? { from: end - width, to: end };
  const step = stepFor(to - from);
  const growth = counts(metric) && step !== "raw";
  const { data, currentData, error, isFetching } = useHistoryQuery({ kind, id, metric, from, to, step });
  const points = currentData ?? data;
  const series = useMemo(() => drawn(points ?? [], step, growth), [points, step, growth]);
  const ahead = useForecastQuery({ kind, id, metric, horizon: "4h" }, { skip: !forecast || zoomed !== null, pollingInterval: 60_000 });
  const told = ahead.currentData;
  const foreseen = useMemo<Forecast | null>(() => {
    // A forecast of hours beside minutes of the past would leave nothing to see of them.
    if (!told?.points || told.points.length === 0 || zoomed !== null || growth || width < 3_600_000) return null;
    const kept = told.points.filter((point) => (millis(point.time) ?? 0) <= to + width / 2);
    return { time: kept.map((point) => (millis(point.time) ?? 0) / 1000), value: kept.map((point) => point.value), low: kept.map((point) => point.low), high: kept.map((point) => point.high) };
  }, [told, zoomed, growth, width, to]);
  const pan = (by: number) => setZoomed({ from: from + by * (to - from), to: to + by * (to - from) });
  const label = growth ? t("machine.increase", { metric: metricName(metric) }) : metricName(metric);
  const notes = [
    `${dateTime(from, zone)} – ${zoomed ? dateTime(to, zone) : clock(to, zone)}${zone ? ` (${zone})` : ""}`,
    step === "raw" ? t("series.raw") : t("series.step", { step }),
    series.gaps > 0 ? t("series.gaps", { count: series.gaps }) : "",
    series.corrected.some(Boolean) ? t("series.late") : "",
    forecast && isMissing(ahead.error) ? t("machine.forecast_unavailable") : "",
    told?.reason ? t("machine.forecast_none", { reason: told.reason }) : "",
  ].filter(Boolean);
  return (
    <Panel
      title={title ?? t("machine.series")} picture note={notes.join(" · ")}
      table={() => ({ columns: ["time", "metric", "mid", "min", "max", "corrected"], rows: series.time.map((time, index) => [new Date(time * 1000).toISOString(), metric, series.mid[index], series.low[index], series.high[index], series.corrected[index] ? "yes" : ""]) })}
    >
      <div className="tools">
        {metrics && onMetric && (
          <TextField select label={t("machine.metric")} value={metric} onChange={(event) => onMetric(event.target.value)}>
            {metrics.map((name) => <MenuItem key={name} value={name}>{metricName(name)}</MenuItem>)}
          </TextField>
        )}
        <ToggleButtonGroup className="windows" exclusive size="small" value={zoomed ? null : wanted} aria-label={t("machine.window")} onChange={(_, key: string | null) => { setZoomed(null); if (key) setWanted(key); }}>
          {WINDOWS.map(({ key, label: name }) => <ToggleButton key={key} value={key}>{name}</ToggleButton>)}
        </ToggleButtonGroup>
        <span className="tool-pair">
          <Button onClick={() => pan(-0.5)}>{t("machine.earlier")}</Button>
          <Button disabled={to >= end} onClick={() => pan(0.5)}>{t("machine.later")}</Button>
        </span>
      </div>
      {error ? <Empty>{detail(error)}</Empty> : series.time.length === 0 ? <Empty>{isFetching ? t("common.loading") : t("machine.series_none", { metric: metricName(metric) })}</Empty> : (
        <>
          <Series series={series} unit={unit} label={label} zone={zone} from={from} to={to} forecast={foreseen} bars={growth} {...(height ? { height } : {})} onZoom={(a, b) => setZoomed({ from: a, to: b })} onReset={() => setZoomed(null)} />
          <p className="note hint">{t("machine.series_hint")}</p>
        </>
      )}
    </Panel>
  );
};
