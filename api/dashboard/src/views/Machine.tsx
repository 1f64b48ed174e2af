// One machine: its state over time, OEE with the losses behind it, and every metric with its unit, age and quality.
import Alert from "@mui/material/Alert";
import Button from "@mui/material/Button";
import ToggleButton from "@mui/material/ToggleButton";
import ToggleButtonGroup from "@mui/material/ToggleButtonGroup";
import { type ReactElement, useMemo, useState } from "react";
import { Link, useParams, useSearchParams } from "react-router";
import { detail, useHistoryQuery, usePlantQuery } from "../api/http";
import type { PartialTwin } from "../api/shapes";
import { Shape } from "../app/icons";
import { useAt, useKeepAt, useMoment } from "../app/time";
import { Bars } from "../draw/Bars";
import { Timeline } from "../draw/Timeline";
import { Waterfall } from "../draw/Waterfall";
import { useLocationNames, useTwin } from "../live/hooks";
import { age, clock, dateTime, isNumber, kpi, span, withUnit } from "../model/format";
import { execution, executionSince, locationOf, losses, machineOf, nameOf, spanMs, stretches, waterfall, within } from "../model/machine";
import { MetricSeries } from "../parts/MetricSeries";
import { Empty } from "../parts/Empty";
import { Panel } from "../parts/Panel";
import { QualityPanel } from "../parts/Quality";
import { State } from "../parts/State";
import { metricName, said, t } from "../words";
import { JobsOn, Shifts } from "./Runs";

/** A title that names the machine where the page around it does not. */
const titled = (of: string | undefined, title: string): string => (of === undefined ? title : `${of}: ${title}`);

const SPANS = [{ key: "1h", label: "1 h", ms: 3_600_000, every: 30_000 }, { key: "8h", label: "8 h", ms: 8 * 3_600_000, every: 300_000 }, { key: "24h", label: "24 h", ms: 24 * 3_600_000, every: 900_000 }] as const;

export const StateOverTime = ({ id, of }: { id: string; of?: string }): ReactElement => {
  const at = useAt();
  const moment = useMoment();
  const plant = usePlantQuery().data?.model;
  const machine = machineOf(plant, id);
  const [chosen, setChosen] = useState<(typeof SPANS)[number]["key"]>("1h");
  const [until, setUntil] = useState<number | null>(null);
  const wide = SPANS.find(({ key }) => key === chosen) ?? SPANS[0];
  // A band that is asked for anew every half minute is live enough, and spares the journal.
  const end = until ?? (at === null ? Math.ceil(moment / wide.every) * wide.every : moment);
  const from = end - wide.ms;
  const stale = spanMs(machine?.stale_after) ?? 60_000;
  // What was said shortly before the window still holds at its beginning.
  const { data, currentData, isFetching, error } = useHistoryQuery({ kind: "machine", id, metric: "execution", from: from - stale, to: end, step: "raw" });
  const points = currentData ?? data;
  const drawn = useMemo(
    () => within(stretches(points ?? [], machine?.execution ?? {}, stale, Math.min(end, moment)), from),
    // The moment only cuts the last stretch.
    [points, machine, end, from],
  );
  const zone = plant?.site?.timezone;
  const pan = (by: number) => setUntil(end + by * wide.ms >= moment ? null : end + by * wide.ms);
  return (
    <Panel
      title={titled(of, t("machine.timeline"))} note={`${dateTime(from, zone)} – ${until === null ? clock(Math.min(end, moment), zone) : dateTime(end, zone)}. ${t("machine.timeline_note")}`} picture
      table={() => ({ columns: ["from", "to", "state", "word"], rows: drawn.map((one) => [new Date(one.from).toISOString(), new Date(one.to).toISOString(), one.state, one.word]) })}
    >
      <div className="tools">
        <ToggleButtonGroup className="windows" exclusive size="small" value={chosen} aria-label={t("machine.window")} onChange={(_, key: typeof chosen | null) => { if (key) { setUntil(null); setChosen(key); } }}>
          {SPANS.map(({ key, label }) => <ToggleButton key={key} value={key}>{label}</ToggleButton>)}
        </ToggleButtonGroup>
        <span className="tool-pair"><Button onClick={() => pan(-0.5)}>{t("machine.earlier")}</Button><Button disabled={until === null} onClick={() => pan(0.5)}>{t("machine.later")}</Button></span>
      </div>
      {drawn.length > 0 ? <Timeline stretches={drawn} from={from} to={Math.min(end, moment)} zone={zone} /> : <Empty>{isFetching ? t("common.loading") : error ? detail(error) : t("machine.timeline_none")}</Empty>}
    </Panel>
  );
};

export const Oee = ({ twin, of }: { twin: PartialTwin; of?: string }): ReactElement => {
  const steps = waterfall(twin.kpis);
  return (
    <Panel title={titled(of, t("machine.waterfall"))} note={t("machine.waterfall_note")} picture {...(Array.isArray(steps) ? { table: () => ({ columns: ["step", "from", "to"], rows: steps.map((step) => [step.name, step.from, step.to]) }) } : {})}>
      {Array.isArray(steps) ? <Waterfall steps={steps} /> : <Empty>{t("machine.waterfall_none", { reason: steps.reason })}</Empty>}
    </Panel>
  );
};

export const Losses = ({ twin, of }: { twin: PartialTwin; of?: string }): ReactElement => {
  const { byReason, bars } = losses(twin);
  const stops = twin.state?.micro_stops;
  return (
    <Panel
      title={titled(of, byReason ? t("machine.pareto_reasons") : t("machine.pareto"))} picture
      note={byReason ? (stops ? t("machine.micro_stops", { count: stops.count, time: span(stops.s) }) : undefined) : t("machine.pareto_states")}
      table={() => ({ columns: ["reason", "seconds", "count", "cumulative_share"], rows: bars.map((bar) => [bar.name, bar.s, bar.count, bar.cumulative]) })}
    >
      {bars.length === 0 ? <Empty>{t("machine.pareto_none")}</Empty> : (
        <Bars label={t("machine.pareto")} bars={bars.map((bar) => ({ key: bar.name, name: said("state", bar.name), value: bar.s, text: `${span(bar.s)}${bar.count === undefined ? "" : ` · ${bar.count}×`}`, tone: byReason ? "down" : bar.name, cumulative: bar.cumulative }))} />
      )}
    </Panel>
  );
};

const NOT_FIGURES = new Set(["reasons", "day_start", "bottleneck", "energy_kwh_per_good_part"]);

const Figures = ({ twin }: { twin: PartialTwin }): ReactElement => {
  const kpis = twin.kpis ?? {};
  const names = Object.keys(kpis).filter((name) => !NOT_FIGURES.has(name) && (isNumber(kpis[name]) || kpis[name] === null));
  const shift = twin.state?.shift;
  return (
    <Panel title={t("machine.kpis")} note={shift?.name ? t("machine.shift", { name: shift.name }) : t("machine.day")} table={() => ({ columns: ["kpi", "value", "reason"], rows: names.map((name) => [name, kpis[name] as number | null, kpis.reasons?.[name]]) })}>
      {names.length === 0 ? <Empty>{t("common.none")}</Empty> : (
        <dl className="kpis">
          {names.map((name) => (
            <div key={name}>
              <dt>{said("kpi", name)}</dt>
              <dd>{isNumber(kpis[name]) ? kpi(name, kpis[name]) : <span className="faint why">{kpis.reasons?.[name] ?? t("common.no_reason")}</span>}</dd>
            </div>
          ))}
        </dl>
      )}
    </Panel>
  );
};

const Metrics = ({ twin, chosen, onChoose }: { twin: PartialTwin; chosen: string | null; onChoose: (metric: string) => void }): ReactElement => {
  const moment = useMoment();
  const metrics = Object.entries(twin.state?.metrics ?? {});
  return (
    <Panel title={t("machine.metrics")} table={() => ({ columns: ["metric", "value", "unit", "at", "quality"], rows: metrics.map(([name, metric]) => [name, String(metric.value), metric.unit, metric.at, metric.quality ?? "good"]) })}>
      {metrics.length === 0 ? <Empty>{t("common.none")}</Empty> : (
        <div className="scroll" tabIndex={0} role="region" aria-label={t("machine.metrics")}>
          <table className="plain-table">
            <thead><tr><th scope="col">{t("machine.metric")}</th><th scope="col" className="number">{t("machine.value")}</th><th scope="col" className="number">{t("machine.age")}</th><th scope="col">{t("machine.data")}</th></tr></thead>
            <tbody>
              {metrics.map(([name, metric]) => (
                <tr key={name} aria-current={chosen === name ? "true" : undefined}>
                  <th scope="row">{typeof metric.value === "number" ? <button type="button" className="plain" title={name} onClick={() => onChoose(name)}>{metricName(name)}</button> : metricName(name)}</th>
                  <td className="number">{withUnit(metric.value, metric.unit)}</td>
                  <td className="number">{age(metric.at, moment)}</td>
                  <td><State area="quality" word={metric.quality ?? "good"} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
};

export const Machine = (): ReactElement => {
  const { id = "" } = useParams();
  const { twin, ready } = useTwin("machine", id);
  const moment = useMoment();
  const keep = useKeepAt();
  const place = useLocationNames();
  const [query, setQuery] = useSearchParams();
  const at = useAt();
  if (!twin) return <><h1>{id}</h1><Empty>{ready ? t("machine.not_found", { id }) : t("common.loading")}</Empty></>;
  const metrics = twin.state?.metrics ?? {};
  const numbers = Object.entries(metrics).filter(([, metric]) => typeof metric.value === "number").map(([name]) => name);
  const chosen = query.get("metric") ?? (numbers.includes("power_kw") ? "power_kw" : (numbers[0] ?? null));
  const choose = (metric: string) => setQuery((was) => { was.set("metric", metric); return was; }, { replace: true });
  const anomalies = twin.state?.anomalies ?? [];
  const location = locationOf(twin);
  return (
    <>
      <div className="head">
        <h1>{nameOf(twin, id)}</h1>
        <State area="state" word={execution(twin)} strong />
        <span className="faint">{t("common.for")} {age(executionSince(twin), moment)}</span>
        {location && <span className="faint">{t("common.where")}: <Link to={keep("/")}>{place(location)}</Link></span>}
        <span className="faint">{t("machine.data")}: <State area="quality" word={twin.state?.quality} />, {t("common.ago", { age: age(twin.updated_at, moment) })}</span>
        {(twin.alarms?.active ?? 0) > 0 && <Link to={keep(`/alarms?twin=${encodeURIComponent(`machine/${id}`)}`)}><Shape of="high" /> {twin.alarms?.active === 1 ? t("machine.alarms_one") : t("machine.alarms", { count: twin.alarms?.active ?? 0 })}</Link>}
      </div>
      {twin.state?.quality === "stale" && <Alert severity="warning">{t("machine.stale")}</Alert>}
      {anomalies.map((one) => <Alert key={one.metric} severity="info">{t("machine.anomaly", { metric: metricName(one.metric), age: age(one.since, moment) })}</Alert>)}
      <StateOverTime id={id} />
      <div className="two">
        <Oee twin={twin} />
        <Losses twin={twin} />
      </div>
      <Figures twin={twin} />
      {chosen && <MetricSeries kind="machine" id={id} metric={chosen} unit={metrics[chosen]?.unit ?? ""} metrics={numbers} onMetric={choose} forecast={at === null} />}
      <Metrics twin={twin} chosen={chosen} onChoose={choose} />
      {at === null ? <><Shifts id={id} /><JobsOn id={id} /><QualityPanel twin={`machine/${id}`} /></> : <p className="note">{t("machine.now_only")}</p>}
    </>
  );
};
