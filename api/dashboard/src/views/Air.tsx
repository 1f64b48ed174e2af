// The air by location: the category and why, NowCast and thresholds where the node tells them, and the last day as a
// field of colours.
import MenuItem from "@mui/material/MenuItem";
import TextField from "@mui/material/TextField";
import { type ReactElement, useEffect, useMemo, useState } from "react";
import { usePlantQuery } from "../api/http";
import type { HistoryPoint, PartialTwin } from "../api/shapes";
import { path } from "../api/http";
import { token } from "../api/token";
import { useAt, useMoment, useStep } from "../app/time";
import { Heat, type HeatRow } from "../draw/Heat";
import { useLayout, useTwins } from "../live/hooks";
import { AIR_METRICS, air, measuresAir } from "../model/air";
import { idOf } from "../model/floor";
import { age, byId, isNumber, millis, withUnit } from "../model/format";
import { nameOf } from "../model/machine";
import { MetricSeries } from "../parts/MetricSeries";
import { Empty } from "../parts/Empty";
import { Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { metricName, t } from "../words";

const STEP = 15 * 60_000;
const DAY = 24 * 3_600_000;

const useHeat = (ids: string[], metric: string, from: number, to: number): { rows: Map<string, (number | null)[]>; loading: boolean } => {
  const [rows, setRows] = useState<Map<string, (number | null)[]>>(new Map());
  const [loading, setLoading] = useState(true);
  const key = ids.join(",");
  useEffect(() => {
    const stop = new AbortController();
    const key_ = token();
    setLoading(true);
    void Promise.all(
      key.split(",").filter(Boolean).map(async (id) => {
        const url = `/v1/twins/${path("location", id)}/history?metric=${encodeURIComponent(metric)}&from=${from}&to=${to}&step=5m`;
        const answer = await fetch(url, { signal: stop.signal, ...(key_ ? { headers: { authorization: `Bearer ${key_}` } } : {}) });
        const points = answer.ok ? ((await answer.json()) as HistoryPoint[]) : [];
        const cells: { sum: number; count: number }[] = Array.from({ length: Math.ceil((to - from) / STEP) }, () => ({ sum: 0, count: 0 }));
        for (const point of points) {
          const cell = cells[Math.floor(((millis(point.time) ?? 0) - from) / STEP)];
          const value = point.time_weighted_avg ?? point.avg;
          if (cell && isNumber(value)) { cell.sum += value; cell.count += 1; }
        }
        return [id, cells.map(({ sum, count }) => (count > 0 ? sum / count : null))] as const;
      }),
    ).then((all) => { setRows(new Map(all)); setLoading(false); }, () => setLoading(false));
    return () => stop.abort();
  }, [key, metric, from, to]);
  return { rows, loading };
};

export const Card = ({ id, twin, chosen, onChoose }: { id: string; twin: PartialTwin; chosen: boolean; onChoose: () => void }): ReactElement => {
  const moment = useMoment();
  const here = air(twin);
  const metrics = Object.entries(twin.state?.metrics ?? {});
  const facts: [string, string][] = [];
  if (here && isNumber(here.aqi)) facts.push([t("air.aqi"), `${here.aqi}${here.aqi_category ? ` (${here.aqi_category.replaceAll("_", " ")})` : ""}`]);
  if (isNumber(here?.nowcast_pm25_ugm3)) facts.push([t("air.nowcast_pm25"), withUnit(here.nowcast_pm25_ugm3, "µg/m³")]);
  if (isNumber(here?.nowcast_pm10_ugm3)) facts.push([t("air.nowcast_pm10"), withUnit(here.nowcast_pm10_ugm3, "µg/m³")]);
  return (
    <section className={`panel air-card c-edge-${here?.category ?? "unknown"}`} aria-label={nameOf(twin, id)}>
      <header><h2><button type="button" className="plain" aria-pressed={chosen} onClick={onChoose}>{nameOf(twin, id)}</button></h2><State area="air" word={here?.category} strong /></header>
      {here?.why && <p className="note">{t("air.because")} {here.why}</p>}
      <dl className="pairs">
        {facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}
        {metrics.map(([name, metric]) => (
          <div key={name} className={metric.quality === "stale" ? "stale" : ""}>
            <dt title={name}>{metricName(name)}</dt><dd>{withUnit(metric.value, metric.unit)} <small className="faint">{metric.quality === "stale" ? `${t("quality.stale")}, ` : ""}{age(metric.at, moment)}</small></dd>
          </div>
        ))}
      </dl>
    </section>
  );
};

export const AirView = (): ReactElement => {
  const { told, ready } = useTwins("location");
  const plant = usePlantQuery().data?.model;
  const at = useAt();
  const names = useLayout("location").told;
  const end = Math.ceil(useStep(300_000) / STEP) * STEP;
  const [metric, setMetric] = useState("co2_ppm");
  const [chosen, setChosen] = useState<string | null>(null);
  const places = useMemo(
    () => Object.entries(told).filter(([, { value }]) => measuresAir(value) && !value.state?.removed).map(([address, { value }]) => ({ id: idOf(address), twin: value })).sort((a, b) => byId(a.id, b.id)),
    [told],
  );
  const ids = places.slice(0, 40).map(({ id }) => id);
  const { rows, loading } = useHeat(ids, metric, end - DAY, end);
  const metrics = useMemo(() => {
    const known = new Set(places.flatMap(({ twin }) => Object.entries(twin.state?.metrics ?? {}).filter(([, one]) => typeof one.value === "number").map(([name]) => name)));
    return [...AIR_METRICS.filter((name) => known.has(name)), ...[...known].filter((name) => !AIR_METRICS.includes(name)).sort()];
  }, [places]);
  const unit = places.map(({ twin }) => twin.state?.metrics?.[metric]?.unit).find(Boolean) ?? "";
  const heat = useMemo<HeatRow[]>(() => ids.map((id) => ({ id, name: nameOf(names[`location/${id}`]?.value, id), cells: rows.get(id) ?? [] })), [ids.join(), names, rows]);
  const profiles = places.flatMap(({ id, twin }) => (air(twin)?.profiles ?? []).map((profile) => ({ place: nameOf(twin, id), ...profile })));
  const open = chosen ?? places[0]?.id ?? null;
  const select = <TextField select label={t("air.metric")} value={metrics.includes(metric) ? metric : ""} onChange={(event) => setMetric(event.target.value)}>{metrics.map((name) => <MenuItem key={name} value={name}>{metricName(name)}</MenuItem>)}</TextField>;
  return (
    <>
      <h1>{t("air.title")}</h1>
      {places.length === 0 ? <Empty>{ready ? t("air.none") : t("common.loading")}</Empty> : (
        <>
          <div className="cards">{places.map(({ id, twin }) => <Card key={id} id={id} twin={twin} chosen={open === id} onChoose={() => setChosen(id)} />)}</div>
          <Panel title={t("air.heat")} actions={select} picture table={() => ({ columns: ["location", "from", metric], rows: heat.flatMap((row) => row.cells.map((value, index) => [row.id, new Date(end - DAY + index * STEP).toISOString(), value])) })}>
            {heat.some((row) => row.cells.some((value) => value !== null)) ? <Heat rows={heat} from={end - DAY} stepMs={STEP} unit={unit} zone={plant?.site?.timezone} label={`${t("air.heat")}: ${metric}`} /> : <Empty>{loading ? t("common.loading") : t("air.heat_none", { metric })}</Empty>}
          </Panel>
          {open && <MetricSeries title={`${nameOf(told[`location/${open}`]?.value, open)}: ${metricName(metric)}`} kind="location" id={open} metric={metric} unit={unit} metrics={metrics} onMetric={setMetric} forecast={at === null} />}
          <Panel title={t("air.thresholds")} {...(profiles.length > 0 ? { table: () => ({ columns: ["location", "profile", "level", "metric", "source"], rows: profiles.map((one) => [one.place, one.profile, one.level, one.metric, one.source]) }) } : {})}>
            {profiles.length === 0 ? <Empty>{t("air.profiles_none")}</Empty> : (
              <div className="scroll" tabIndex={0} role="region" aria-label={t("air.thresholds")}>
                <table className="plain-table">
                  <thead><tr><th scope="col">{t("common.where")}</th><th scope="col">{t("air.profile")}</th><th scope="col">{t("air.level")}</th><th scope="col">{t("air.metric")}</th></tr></thead>
                  <tbody>{profiles.map((one) => <tr key={`${one.place}${one.profile}${one.metric ?? ""}`}><th scope="row">{one.place}</th><td title={one.source}>{one.profile.replaceAll("_", " ")}</td><td>{one.level.replaceAll("_", " ")}</td><td>{one.metric ? metricName(one.metric) : t("common.absent")}</td></tr>)}</tbody>
                </table>
              </div>
            )}
          </Panel>
        </>
      )}
    </>
  );
};
