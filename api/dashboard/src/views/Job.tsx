// One job: where it is, the way it came, where it stayed long.
import { type ReactElement, useMemo } from "react";
import { Link, useParams } from "react-router";
import { usePlantQuery } from "../api/http";
import { useKeepAt, useMoment } from "../app/time";
import { Bars } from "../draw/Bars";
import { PathDrawing } from "../draw/Path";
import { useLocationNames, useTwin } from "../live/hooks";
import { age, dateTime, number, span } from "../model/format";
import { bottleneckOf, estimateOf, visitsOf } from "../model/jobs";
import { Empty } from "../parts/Empty";
import { Panel } from "../parts/Panel";
import { said, t } from "../words";

export const Job = (): ReactElement => {
  const { id = "" } = useParams();
  const { twin, ready } = useTwin("job", id);
  const moment = useMoment();
  const keep = useKeepAt();
  const place = useLocationNames();
  const zone = usePlantQuery().data?.model.site?.timezone;
  const visits = visitsOf(twin);
  const dwell = useMemo(() => Object.entries(twin?.state?.dwell ?? {}).map(([location, one]) => ({ location, ...one })).filter((one) => one.dwell_s > 0).sort((a, b) => b.dwell_s - a.dwell_s), [twin]);
  if (!twin) return <><h1>{id}</h1><Empty>{ready ? t("jobs.not_found", { id }) : t("common.loading")}</Empty></>;
  const slow = bottleneckOf(twin);
  const estimate = estimateOf(twin);
  const done = twin.state?.completed_at;
  const facts: [string, string][] = [
    [t("jobs.product"), [twin.state?.product_id, twin.state?.product_variant].filter(Boolean).join(", ") || t("common.absent")],
    [t("common.state"), said("status", twin.state?.status)],
    [t("common.where"), twin.state?.location ? `${place(twin.state.location)}, ${t("common.for")} ${age(twin.state.location_since, moment)}` : t("common.absent")],
    [t("jobs.started"), dateTime(twin.state?.started_at, zone)],
    done ? [t("jobs.finished"), dateTime(done, zone)] : [t("jobs.estimate"), estimate ? dateTime(estimate, zone) : t("jobs.estimate_none")],
    [t("jobs.underway"), span(twin.kpis?.lead_time_s ?? (done ? twin.kpis?.elapsed_s : (moment - Date.parse(twin.state?.started_at ?? "")) / 1000))],
    [t("jobs.bottleneck"), slow ? `${place(slow.location)}${slow.dwell_s === null ? "" : `, ${span(slow.dwell_s)}`}` : t("common.absent")],
    [t("jobs.rework"), number(twin.kpis?.rework_loops ?? twin.kpis?.rework_visits)],
  ];
  return (
    <>
      <p className="crumbs"><Link to={keep("/jobs")}>{t("jobs.title")}</Link></p>
      <h1>{id}</h1>
      <Panel title={t("jobs.now")}><dl className="kpis">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl></Panel>
      <Panel title={t("jobs.path")} picture table={() => ({ columns: ["location", "entered_at", "left_at", "dwell_s"], rows: visits.map((visit) => [visit.location, visit.entered_at, visit.left_at, visit.dwell_s]) })}>
        {visits.length === 0 ? <Empty>{t("jobs.flow_none")}</Empty> : <PathDrawing visits={visits} now={moment} nameOf={place} zone={zone} label={t("jobs.path_of", { id })} />}
      </Panel>
      {dwell.length > 0 && (
        <Panel title={t("jobs.dwell_of")} picture table={() => ({ columns: ["location", "dwell_s", "visits"], rows: dwell.map((one) => [one.location, one.dwell_s, one.visits]) })}>
          <Bars label={t("jobs.dwell_of")} bars={dwell.map((one) => ({ key: one.location, name: place(one.location), value: one.dwell_s, text: `${span(one.dwell_s)}${one.visits > 1 ? ` · ${one.visits}×` : ""}`, tone: one.location === slow?.location ? "setup" : "idle" }))} />
        </Panel>
      )}
    </>
  );
};
