// How the node, its cluster and its history stand, and which files were uploaded.
import Alert from "@mui/material/Alert";
import type { ReactElement, ReactNode } from "react";
import { detail, isMissing, useCheckpointsQuery, useClusterQuery, useReadyQuery, useUploadsQuery, type CallError } from "../api/http";
import type { Cluster, Upload } from "../api/shapes";
import { useMoment } from "../app/time";
import { age, dateTime, number, span } from "../model/format";
import { type Standing as Line, standings, unsettled } from "../model/standing";
import { Empty } from "../parts/Empty";
import { Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { said, t } from "../words";

const EVERY = { pollingInterval: 5_000 };

/** What there is, or why there is nothing to show. */
const Told = <T,>({ data, error, show }: { data: T | undefined; error: CallError; show: (data: T) => ReactNode }): ReactNode =>
  data !== undefined ? show(data) : <Empty>{error ? (isMissing(error) ? t("common.unavailable") : detail(error)) : t("common.loading")}</Empty>;

const Table = ({ title, heads, children }: { title: string; heads: [string, boolean?][]; children: ReactNode }): ReactElement => (
  <div className="scroll" tabIndex={0} role="region" aria-label={title}>
    <table className="plain-table">
      <thead><tr>{heads.map(([head, isNumber]) => <th key={head} scope="col" {...(isNumber ? { className: "number" } : {})}>{head}</th>)}</tr></thead>
      <tbody>{children}</tbody>
    </table>
  </div>
);

const Node = (): ReactElement => {
  const { data: ready } = useReadyQuery(undefined, EVERY);
  return (
    <Panel title={t("health.node")}>
      {ready ? (
        <dl className="pairs">
          <div><dt>{t("health.status")}</dt><dd><State area="health" word={ready.status} /></dd></div>
          <div><dt>{t("health.shards")}</dt><dd>{t("health.of", { part: ready.shards_recovered, whole: ready.shards })}</dd></div>
        </dl>
      ) : <Empty>{t("common.loading")}</Empty>}
      <p className="note"><a href="/metrics">{t("health.metrics")}</a></p>
    </Panel>
  );
};

const Members = ({ cluster }: { cluster: Cluster }): ReactElement => {
  const [lagging, whole] = [unsettled(cluster), cluster.shards.length];
  return (
    <>
      <Table title={t("health.cluster")} heads={[[t("health.member")], [t("health.status")], [t("health.owns"), true], [t("health.keeps"), true]]}>
        {cluster.nodes.map((node) => (
          <tr key={node.node}>
            <th scope="row" title={node.address}>{node.node}{node.zone ? ` · ${node.zone}` : ""}</th>
            <td>{node.answers || node.state === "gone" ? <State area="health" word={node.state} /> : <State area="health" word="silent" />}</td>
            <td className="number">{number(node.owns)}</td>
            <td className="number">{number(node.keeps)}</td>
          </tr>
        ))}
      </Table>
      {cluster.has_quorum ? <p className="note">{t("health.quorum")} {lagging === 0 ? t("health.whole", { whole }) : t("health.lags", { count: lagging, whole })}</p> : <Alert severity="error">{t("health.no_quorum")}</Alert>}
    </>
  );
};

const Nodes = (): ReactElement => {
  const { data, error } = useClusterQuery(undefined, EVERY);
  return (
    <Panel title={t("health.cluster")}>
      <Told data={data} error={error} show={(cluster) => (cluster.cluster === null ? <Empty>{t("health.alone")}</Empty> : <Members cluster={cluster} />)} />
    </Panel>
  );
};

const Way = ({ line }: { line: Line }): ReactElement => {
  const moment = useMoment();
  return (
    <tr>
      <th scope="row">{said("destination", line.destination)}{line.stream === "all" ? "" : `, ${said("stream", line.stream)}`}</th>
      <td><State area="health" word={line.state} /></td>
      <td>{line.lag_events === 0 ? t("common.none") : t("health.waits", { count: number(line.lag_events), span: span(line.lag_s) })}</td>
      <td title={dateTime(line.committed_at)}>{line.committed_at === null ? t("common.absent") : t("common.ago", { age: age(line.committed_at, moment) })}</td>
    </tr>
  );
};

const Checkpoints = (): ReactElement => {
  const { data, error } = useCheckpointsQuery(undefined, EVERY);
  const show = (lines: Line[]): ReactElement => (
    <>
      <Table title={t("health.checkpoints")} heads={[[t("health.to")], [t("health.status")], [t("health.behind")], [t("health.last")]]}>
        {lines.map((line) => <Way key={`${line.destination} ${line.stream}`} line={line} />)}
      </Table>
      {lines.every((line) => line.destination === "files") && <p className="note">{t("health.no_warehouse")}</p>}
      {lines.filter((line) => line.last_error !== null).map((line) => <Alert key={line.stream} severity="warning">{line.last_error}</Alert>)}
      {lines.filter((line) => line.dead_letters > 0).map((line) => <Alert key={line.stream} severity="warning">{t("health.dead", { count: line.dead_letters })}</Alert>)}
      {lines.filter((line) => line.missing > 0).map((line) => <Alert key={line.stream} severity="warning">{t("health.given_up", { count: line.missing })}</Alert>)}
    </>
  );
  return (
    <Panel title={t("health.checkpoints")}>
      <Told data={data} error={error} show={({ items }) => (items.length === 0 ? <Empty>{t("common.none")}</Empty> : show(standings(items)))} />
    </Panel>
  );
};

const File = ({ file }: { file: Upload }): ReactElement => {
  const moment = useMoment();
  const part = file.size > 0 ? ` ${number((100 * file.offset) / file.size)} %` : "";
  return (
    <tr>
      <th scope="row">{file.name}</th>
      <td><State area="upload" word={file.state} />{file.state === "receiving" ? part : ""}{file.problem ? <div className="bad">{file.problem.detail}</div> : null}</td>
      <td className="number">{file.rows ? number(file.rows.accepted) : t("common.absent")}</td>
      <td className="number">{number(file.rows?.rejected)}</td>
      <td>{file.by}, {t("common.ago", { age: age(file.changed_at, moment) })}</td>
    </tr>
  );
};

const Uploads = (): ReactElement => {
  const { data, error } = useUploadsQuery(undefined, EVERY);
  return (
    <Panel title={t("health.uploads")}>
      <Told data={data} error={error} show={({ items }) => (items.length === 0 ? <Empty>{t("health.uploads_none")}</Empty> : (
        <Table title={t("health.uploads")} heads={[[t("health.file")], [t("health.status")], [t("health.rows"), true], [t("health.rejected"), true], [t("health.by")]]}>
          {items.map((file) => <File key={file.id} file={file} />)}
        </Table>
      ))} />
    </Panel>
  );
};

export const Standing = (): ReactElement => (
  <>
    <div className="three"><Node /><Nodes /></div>
    <Checkpoints />
    <Uploads />
  </>
);
