// A machine's shifts and jobs: what it did in each, and what it lost most time to.
import { type ReactElement } from "react";
import { Link } from "react-router";
import { detail, isMissing, useMachineJobsQuery, usePlantQuery, useShiftsQuery } from "../api/http";
import type { Run } from "../api/shapes";
import { useKeepAt, useNow } from "../app/time";
import { dateTime, isNumber, kpi, millis, number, percent, span } from "../model/format";
import { Empty } from "../parts/Empty";
import { Panel } from "../parts/Panel";
import { said, t } from "../words";

const FIGURES = ["oee", "availability", "effectiveness", "quality_ratio"] as const;
type Answer = { data?: { items: Run[] }; error?: Parameters<typeof detail>[0] };

const Why = ({ run, name }: { run: Run; name: (typeof FIGURES)[number] }): ReactElement => {
  const value = run.kpis[name];
  return isNumber(value) ? <>{percent(value, 1)}</> : <span className="faint" title={run.kpis.reasons?.[name]}>{t("common.absent")}</span>;
};

const lost = (run: Run): string => {
  const most = run.downtime[0];
  return most ? `${said("state", most.reason)}, ${span(most.s)}` : t("common.absent");
};

const Runs = ({ title, none, answer, first, link }: { title: string; none: string | null; answer: Answer; first: string; link?: (name: string) => string }): ReactElement | null => {
  const zone = usePlantQuery().data?.model.site?.timezone;
  const now = useNow();
  const { data, error } = answer;
  const items = data?.items ?? [];
  if (none === null && items.length === 0) return null;
  return (
    <Panel title={title} table={() => ({ columns: ["name", "began_at", "ended_at", ...FIGURES, "good_parts", "scrap_parts", "energy_kwh"], rows: items.map((run) => [run.name, run.began_at, run.ended_at, ...FIGURES.map((name) => run.kpis[name]), run.kpis.good_parts, run.kpis.scrap_parts, run.kpis.energy_kwh]) })}>
      {error && !data ? <Empty>{isMissing(error) ? t("common.unavailable") : detail(error)}</Empty> : items.length === 0 ? <Empty>{data ? none : t("common.loading")}</Empty> : (
        <div className="scroll" tabIndex={0} role="region" aria-label={title}>
          <table className="plain-table">
            <thead><tr><th scope="col">{first}</th><th scope="col">{t("runs.began")}</th><th scope="col" className="number">{t("runs.took")}</th>{FIGURES.map((name) => <th key={name} scope="col" className="number">{t(`kpi.${name}`)}</th>)}<th scope="col" className="number">{t("kpi.good_parts")}</th><th scope="col" className="number">{t("runs.energy")}</th><th scope="col">{t("runs.lost")}</th></tr></thead>
            <tbody>
              {items.map((run) => (
                <tr key={`${run.name}${run.began_at}`} aria-current={run.ended_at === null ? "true" : undefined}>
                  <th scope="row">{link ? <Link to={link(run.name)}>{run.name}</Link> : run.name}{run.ended_at === null && <span className="faint"> {t("runs.on")}</span>}</th>
                  <td>{dateTime(run.began_at, zone)}</td>
                  <td className="number">{span(((millis(run.ended_at) ?? now) - (millis(run.began_at) ?? now)) / 1000)}</td>
                  {FIGURES.map((name) => <td key={name} className="number"><Why run={run} name={name} /></td>)}
                  <td className="number">{number(run.kpis.good_parts)}</td>
                  <td className="number">{kpi("energy_kwh", run.kpis.energy_kwh)}</td>
                  <td>{lost(run)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
};

export const Shifts = ({ id }: { id: string }): ReactElement =>
  <Runs title={t("runs.shifts")} none={t("runs.no_shifts")} answer={useShiftsQuery(id, { pollingInterval: 30_000 })} first={t("runs.shift")} />;

export const JobsOn = ({ id }: { id: string }): ReactElement => {
  const keep = useKeepAt();
  return <Runs title={t("runs.jobs")} none={null} answer={useMachineJobsQuery(id, { pollingInterval: 30_000 })} first={t("jobs.job")} link={(name) => keep(`/jobs/${encodeURIComponent(name)}`)} />;
};
