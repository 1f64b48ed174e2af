// A panel of a dashboard, shown by what the views are made of.
import { type ReactElement, useMemo, useState } from "react";
import { useTwinsQuery } from "../api/http";
import type { Kind, PartialTwin } from "../api/shapes";
import { FlowDrawing } from "../draw/Flow";
import { useLocationNames, useTwin, useTwins } from "../live/hooks";
import type { BoardPanel } from "../model/board";
import { flow } from "../model/flow";
import { isNumber, kpi } from "../model/format";
import { visitsOf } from "../model/jobs";
import { nameOf } from "../model/machine";
import { AlarmList } from "../views/Alarms";
import { Card } from "../views/Air";
import { Losses, Oee, StateOverTime } from "../views/Machine";
import { Figures, Needs } from "../views/Plant";
import { metricName, said, t } from "../words";
import { MetricSeries } from "./MetricSeries";
import { Empty } from "./Empty";
import { Panel } from "./Panel";

const split = (twin: string | undefined): { kind: Kind; id: string } => {
  const [kind, id] = [twin?.slice(0, twin.indexOf("/")), twin?.slice(twin.indexOf("/") + 1)];
  return { kind: kind === "location" || kind === "job" ? kind : "machine", id: id ?? "" };
};

const Kpi = ({ panel }: { panel: BoardPanel }): ReactElement => {
  const { kind, id } = split(panel.twin);
  const { twin, ready } = useTwin(kind, id);
  const name = panel.kpi ?? "oee";
  const value = twin?.kpis?.[name];
  return (
    <Panel title={`${nameOf(twin, id)}: ${said("kpi", name)}`} table={() => ({ columns: ["twin", "kpi", "value"], rows: [[panel.twin, name, isNumber(value) ? value : null]] })}>
      {twin ? <p className="huge">{isNumber(value) ? kpi(name, value) : t("common.absent")}{!isNumber(value) && <small className="faint">{twin.kpis?.reasons?.[name] ?? t("common.no_reason")}</small>}</p> : <Empty>{ready ? t("board.twin_gone", { twin: panel.twin ?? "" }) : t("common.loading")}</Empty>}
    </Panel>
  );
};

const OfMachine = ({ panel }: { panel: BoardPanel }): ReactElement => {
  const { id } = split(panel.twin);
  const { twin, ready } = useTwin("machine", id);
  if (!twin) return <Panel title={id}><Empty>{ready ? t("board.twin_gone", { twin: panel.twin ?? "" }) : t("common.loading")}</Empty></Panel>;
  const name = nameOf(twin, id);
  return panel.kind === "oee" ? <Oee twin={twin} of={name} /> : panel.kind === "losses" ? <Losses twin={twin} of={name} /> : <StateOverTime id={id} of={name} />;
};

const OfMetric = ({ panel }: { panel: BoardPanel }): ReactElement => {
  const { kind, id } = split(panel.twin);
  const { twin } = useTwin(kind, id);
  const metric = panel.metric ?? "power_kw";
  return <MetricSeries title={`${nameOf(twin, id)}: ${metricName(metric)}`} kind={kind} id={id} metric={metric} unit={twin?.state?.metrics?.[metric]?.unit ?? ""} forecast height={200} />;
};

const OfAir = ({ panel }: { panel: BoardPanel }): ReactElement => {
  const { id } = split(panel.twin);
  const { told, ready } = useTwins("location");
  const twin = told[`location/${id}`]?.value;
  return twin ? <Card id={id} twin={twin} chosen={false} onChoose={() => undefined} /> : <Panel title={id}><Empty>{ready ? t("board.twin_gone", { twin: panel.twin ?? "" }) : t("common.loading")}</Empty></Panel>;
};

const FlowPanel = (): ReactElement => {
  const { data } = useTwinsQuery({ kind: "job", fields: "kind,state.flow_path,state.path", sort: "-state.started_at", limit: 200 }, { pollingInterval: 30_000 });
  const place = useLocationNames();
  const moves = useMemo(() => flow((data?.items ?? []).map((twin) => visitsOf(twin as PartialTwin))), [data]);
  return (
    <Panel title={t("jobs.flow")} picture table={() => ({ columns: ["from", "to", "moves"], rows: [...moves.forward, ...moves.back].map((move) => [move.from, move.to, move.count]) })}>
      {moves.forward.length === 0 ? <Empty>{data ? t("jobs.flow_none") : t("common.loading")}</Empty> : <FlowDrawing flow={moves} nameOf={place} label={t("jobs.flow")} />}
    </Panel>
  );
};

const OfPlant = ({ kind }: { kind: "needs" | "states" }): ReactElement => {
  const machines = useTwins("machine");
  const locations = useTwins("location");
  const [shown, setShown] = useState<Parameters<typeof Figures>[0]["shown"]>(null);
  return kind === "needs" ? <Needs machines={machines.told} locations={locations.told} ready={machines.ready && locations.ready} /> : <Figures machines={machines.told} locations={locations.told} shown={shown} onShow={setShown} />;
};

export const BoardPanelShown = ({ panel }: { panel: BoardPanel }): ReactElement => {
  switch (panel.kind) {
    case "needs": case "states": return <OfPlant kind={panel.kind} />;
    case "kpi": return <Kpi panel={panel} />;
    case "series": return <OfMetric panel={panel} />;
    case "timeline": case "oee": case "losses": return <OfMachine panel={panel} />;
    case "air": return <OfAir panel={panel} />;
    case "flow": return <FlowPanel />;
    case "alarms": return <Panel title={t("alarms.title")}><AlarmList compact /></Panel>;
    case "text": return <Panel title={t("panel.text")}><p className="board-text">{panel.text}</p></Panel>;
  }
};
