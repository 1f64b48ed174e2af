// What sensors send, and how they keep to what was agreed: of one twin, or of all, the worst first.
import { type ReactElement, useMemo } from "react";
import { Link } from "react-router";
import { detail, isMissing, useQualityQuery } from "../api/http";
import type { Sensor } from "../api/shapes";
import { Shape } from "../app/icons";
import { useKeepAt, useNow } from "../app/time";
import { age, dateTime, isNumber, number, percent } from "../model/format";
import { broken, worstFirst } from "../model/quality";
import { metricName, said, t } from "../words";
import { Empty } from "./Empty";
import { Panel } from "./Panel";
import { State } from "./State";

const MOST = 50;

const schemaOf = (sensor: Sensor): string =>
  // Most are numbers; what is not says so.
  sensor.schema.map(({ metric, types, unit }) => `${metricName(metric)}${unit ? ` ${unit}` : ""}${types.join() === "number" ? "" : ` (${types.join(" or ")})`}`).join(", ");

const Contract = ({ sensor }: { sensor: Sensor }): ReactElement => {
  const count = broken(sensor);
  if (count === 0) return <State area="contract" word={sensor.completeness === null ? "none" : "good"} />;
  const last = sensor.last_violation;
  return (
    <>
      <State area="contract" word="suspect" />{" "}
      {Object.entries(sensor.violations).map(([rule, times]) => `${said("rule", rule)} ${times}×`).join(", ")}
      {last && <span className="faint"> {t("quality.last_violation", { metric: metricName(last.metric), time: dateTime(last.at) })}</span>}
    </>
  );
};

const Row = ({ sensor, withTwin }: { sensor: Sensor; withTwin: boolean }): ReactElement => {
  const now = useNow();
  const keep = useKeepAt();
  const changes = sensor.schema_changes ?? [];
  const machine = sensor.twin.startsWith("machine/");
  return (
    <tr>
      <th scope="row">{sensor.sensor}</th>
      {withTwin && <td><Link to={keep(machine ? `/machines/${sensor.twin.slice(8)}` : "/air")}>{sensor.twin}</Link></td>}
      <td className="number"><Shape of={!isNumber(sensor.score) ? "unknown" : sensor.score >= 0.95 ? "good" : sensor.score >= 0.7 ? "moderate" : "bad"} /> {percent(sensor.score, 1)}</td>
      <td className="number" title={sensor.reason}>{isNumber(sensor.completeness) ? percent(sensor.completeness, 1) : t("common.absent")}</td>
      <td className="number">{t("common.ago", { age: age(sensor.last_at, now) })}</td>
      <td className="number">{number(sensor.readings)}</td>
      <td className="wrap"><Contract sensor={sensor} /></td>
      <td className="wrap schema">
        {schemaOf(sensor)}
        {changes.map((change) => <span key={`${change.at}${change.metric}`} className="faint"> {t(change.change === "added" ? "quality.added" : "quality.retyped", { metric: metricName(change.metric), time: dateTime(change.at) })}</span>)}
      </td>
    </tr>
  );
};

export const QualityPanel = ({ twin }: { twin?: string }): ReactElement => {
  const { data, error } = useQualityQuery(twin ?? null, { pollingInterval: 15_000 });
  const sensors = useMemo(() => worstFirst(data?.items ?? []), [data]);
  const table = () => ({
    columns: ["sensor", "twin", "score", "completeness", "last_at", "readings", "violations", "schema"],
    rows: sensors.map((sensor) => [sensor.sensor, sensor.twin, sensor.score, sensor.completeness, sensor.last_at, sensor.readings, broken(sensor), schemaOf(sensor)]),
  });
  return (
    <Panel title={t("quality.title")} note={t("quality.note")} table={table}>
      {error && !data ? <Empty>{isMissing(error) ? t("common.unavailable") : detail(error)}</Empty> : sensors.length === 0 ? <Empty>{data ? t("quality.none") : t("common.loading")}</Empty> : (
        <div className="scroll" tabIndex={0} role="region" aria-label={t("quality.title")}>
          <table className="plain-table">
            <thead><tr><th scope="col">{t("quality.sensor")}</th>{!twin && <th scope="col">{t("alarms.twin")}</th>}<th scope="col" className="number">{t("quality.score")}</th><th scope="col" className="number">{t("quality.completeness")}</th><th scope="col" className="number">{t("quality.last")}</th><th scope="col" className="number">{t("quality.readings")}</th><th scope="col">{t("quality.contract")}</th><th scope="col">{t("quality.schema")}</th></tr></thead>
            <tbody>{sensors.slice(0, MOST).map((sensor) => <Row key={`${sensor.twin} ${sensor.sensor}`} sensor={sensor} withTwin={!twin} />)}</tbody>
          </table>
        </div>
      )}
      {sensors.length > MOST && <p className="note">{t("common.and_more", { count: sensors.length - MOST })}</p>}
    </Panel>
  );
};
