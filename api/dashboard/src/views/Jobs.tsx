// Jobs: search, how they flow between locations, where they stay long.
import TextField from "@mui/material/TextField";
import ToggleButton from "@mui/material/ToggleButton";
import ToggleButtonGroup from "@mui/material/ToggleButtonGroup";
import { type ReactElement, useDeferredValue, useMemo, useState } from "react";
import { Link } from "react-router";
import { detail, useFlowQuery, useTwinsQuery } from "../api/http";
import type { PartialTwin } from "../api/shapes";
import { useAt, useKeepAt, useMoment } from "../app/time";
import { Bars } from "../draw/Bars";
import { FlowDrawing } from "../draw/Flow";
import { useLocationNames, useTwins } from "../live/hooks";
import { idOf } from "../model/floor";
import { flow, flowOf, stays } from "../model/flow";
import { age, dateTime, isNumber, span } from "../model/format";
import { bottleneckOf, jobFilter, visitsOf } from "../model/jobs";
import { Empty } from "../parts/Empty";
import { Panel } from "../parts/Panel";
import { said, t } from "../words";

const MOST = 200;
const FIELDS = "kind,attributes,state.status,state.product_id,state.location,state.location_since,state.started_at,state.completed_at,state.flow_path,state.path,state.bottleneck,kpis";
type Status = "in_progress" | "completed" | "all";

export const Jobs = (): ReactElement => {
  const [status, setStatus] = useState<Status>("in_progress");
  const [search, setSearch] = useState("");
  const wanted = useDeferredValue(search);
  const at = useAt();
  const live = useTwins("job");
  const keep = useKeepAt();
  const moment = useMoment();
  const place = useLocationNames();
  const filter = jobFilter(wanted, status);
  // Jobs under way come live; everything else is asked for.
  const asks = at === null && (status !== "in_progress" || wanted.trim() !== "");
  const { data, error, isFetching } = useTwinsQuery({ kind: "job", filter, fields: FIELDS, sort: "-state.started_at", limit: MOST }, { skip: !asks, pollingInterval: 10_000 });
  const jobs = useMemo<{ id: string; twin: PartialTwin }[]>(() => {
    if (asks) return (data?.items ?? []).map((twin) => ({ id: idOf(twin.twin ?? ""), twin: twin as PartialTwin }));
    const word = wanted.trim().toLowerCase();
    return Object.entries(live.told)
      .map(([address, { value }]) => ({ id: idOf(address), twin: value }))
      .filter(({ id, twin }) => word === "" || `${id} ${twin.state?.product_id ?? ""} ${twin.state?.location ?? ""}`.toLowerCase().includes(word))
      .sort((a, b) => (b.twin.state?.started_at ?? "").localeCompare(a.twin.state?.started_at ?? ""));
  }, [asks, data, live.told, wanted]);
  // The drawing takes jobs that are done too: those under way have not gone far.
  const done = useTwinsQuery({ kind: "job", filter: jobFilter(wanted, "all"), fields: "kind,state.flow_path,state.path", sort: "-state.started_at", limit: MOST }, { skip: at !== null, pollingInterval: 30_000 });
  const paths = useMemo(() => (at === null ? (done.data?.items ?? []).map((twin) => visitsOf(twin as PartialTwin)) : jobs.map(({ twin }) => visitsOf(twin))), [at, done.data, jobs]);
  // What the node counted of all jobs, where it does; else what the listed jobs' paths say.
  const counted = useFlowQuery(undefined, { skip: at !== null || wanted.trim() !== "", pollingInterval: 15_000 });
  const whole = at === null && wanted.trim() === "" && counted.data && counted.data.flows.length > 0 ? counted.data : null;
  const moves = useMemo(() => (whole ? flowOf(whole.flows) : flow(paths)), [whole, paths]);
  const dwell = useMemo(
    () => (whole ? whole.locations.flatMap(({ location, dwell_s_mean, left }) => (isNumber(dwell_s_mean) ? [{ location, mean_s: dwell_s_mean, visits: left ?? 0 }] : [])).sort((a, b) => b.mean_s - a.mean_s) : stays(paths)).slice(0, 12),
    [whole, paths],
  );
  const loading = asks ? isFetching && !data : !live.ready;
  return (
    <>
      <h1>{t("jobs.title")}</h1>
      <div className="tools">
        <TextField className="search" type="search" label={t("jobs.search")} helperText={t("jobs.search_help")} value={search} onChange={(event) => setSearch(event.target.value)} />
        <ToggleButtonGroup exclusive size="small" value={status} aria-label={t("common.state")} onChange={(_, key: Status | null) => key && setStatus(key)}>
          <ToggleButton value="in_progress">{t("jobs.in_progress")}</ToggleButton>
          <ToggleButton value="completed" disabled={at !== null}>{t("jobs.done")}</ToggleButton>
          <ToggleButton value="all" disabled={at !== null}>{t("jobs.all")}</ToggleButton>
        </ToggleButtonGroup>
      </div>
      <div className="two wide-left">
        <Panel title={t("jobs.flow")} note={whole ? t("jobs.flow_counted", { time: dateTime(whole.kept_from ?? whole.from) }) : t("jobs.flow_note", { count: paths.length })} picture table={() => ({ columns: ["from", "to", "moves"], rows: [...moves.forward, ...moves.back].map((move) => [move.from, move.to, move.count]) })}>
          {moves.forward.length === 0 ? <Empty>{done.isFetching && at === null ? t("common.loading") : t("jobs.flow_none")}</Empty> : <FlowDrawing flow={moves} nameOf={place} label={`${t("jobs.flow")}: ${moves.forward.map((move) => `${place(move.from)} → ${place(move.to)} ${move.count}`).join(", ")}`} />}
          {moves.back.length > 0 && <p className="note">{t("jobs.flow_back")}: {moves.back.slice(0, 6).map((move) => `${place(move.from)} → ${place(move.to)} (${move.count})`).join(", ")}</p>}
        </Panel>
        <Panel title={t("jobs.dwell")} note={whole?.bottleneck ? t("jobs.bottleneck_is", { name: place(whole.bottleneck.location), why: whole.bottleneck.why }) : undefined} picture table={() => ({ columns: ["location", "mean_s", "visits"], rows: dwell.map((stay) => [stay.location, stay.mean_s, stay.visits]) })}>
          {dwell.length === 0 ? <Empty>{t("jobs.flow_none")}</Empty> : <Bars label={t("jobs.dwell")} bars={dwell.map((stay, index) => ({ key: stay.location, name: place(stay.location), value: stay.mean_s, text: span(stay.mean_s), tone: index === 0 ? "setup" : "idle" }))} />}
        </Panel>
      </div>
      <Panel title={t("jobs.list")} table={() => ({ columns: ["job", "product", "status", "location", "started_at", "path"], rows: jobs.map(({ id, twin }) => [id, twin.state?.product_id, twin.state?.status, twin.state?.location, twin.state?.started_at, visitsOf(twin).map((visit) => visit.location).join(" > ")]) })}>
        {error ? <Empty>{detail(error)}</Empty> : jobs.length === 0 ? <Empty>{loading ? t("common.loading") : t("jobs.none")}</Empty> : (
          <div className="scroll" tabIndex={0} role="region" aria-label={t("jobs.list")}>
            <table className="plain-table">
              <thead><tr><th scope="col">{t("jobs.job")}</th><th scope="col">{t("jobs.product")}</th><th scope="col">{t("common.state")}</th><th scope="col">{t("common.where")}</th><th scope="col" className="number">{t("jobs.underway")}</th><th scope="col">{t("jobs.bottleneck")}</th><th scope="col">{t("jobs.path")}</th></tr></thead>
              <tbody>
                {jobs.slice(0, MOST).map(({ id, twin }) => {
                  const slow = bottleneckOf(twin);
                  const finished = twin.state?.completed_at;
                  return (
                    <tr key={id}>
                      <th scope="row"><Link to={keep(`/jobs/${id}`)}>{id}</Link></th>
                      <td>{twin.state?.product_id ?? t("common.absent")}</td>
                      <td>{said("status", twin.state?.status)}</td>
                      <td>{twin.state?.location ? place(twin.state.location) : t("common.absent")}</td>
                      <td className="number">{finished && twin.state?.started_at ? span((Date.parse(finished) - Date.parse(twin.state.started_at)) / 1000) : age(twin.state?.started_at, moment)}</td>
                      <td>{slow ? `${place(slow.location)}${slow.dwell_s === null ? "" : `, ${span(slow.dwell_s)}`}` : t("common.absent")}</td>
                      <td className="path">{visitsOf(twin).map((visit) => place(visit.location)).join(" → ")}</td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </div>
        )}
        {(asks ? data?.cursor != null : jobs.length > MOST) && <p className="note">{t("jobs.capped", { count: MOST })}</p>}
      </Panel>
    </>
  );
};
