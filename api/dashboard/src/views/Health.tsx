// How messages come in and what becomes of them; devices that nobody named; how the node stands.
import Alert from "@mui/material/Alert";
import Button from "@mui/material/Button";
import { type ReactElement, useEffect, useMemo, useRef, useState } from "react";
import { detail, useIngestQuery, usePlantQuery, useRejectedQuery, useRetryRejectedMutation } from "../api/http";
import type { RejectedMessage, SourceCounts } from "../api/shapes";
import { useMoment } from "../app/time";
import { useLayout } from "../live/hooks";
import { idOf } from "../model/floor";
import { age, dateTime, number } from "../model/format";
import { addsUp, rates, unknownDevices } from "../model/ingest";
import { Empty } from "../parts/Empty";
import { Panel } from "../parts/Panel";
import { QualityPanel } from "../parts/Quality";
import { t } from "../words";
import { Bind } from "./Bind";
import { Standing } from "./Standing";

const EVERY_MS = 2_000;

const Spark = ({ values }: { values: number[] }): ReactElement => {
  const most = Math.max(1, ...values);
  const points = values.map((value, index) => `${(index * 100) / Math.max(1, values.length - 1)},${22 - (value / most) * 20}`).join(" ");
  return <svg className="spark" viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true"><polyline points={points} /></svg>;
};

const Sources = (): ReactElement => {
  const { data, error, fulfilledTimeStamp } = useIngestQuery(undefined, { pollingInterval: EVERY_MS });
  const before = useRef<{ at: number; items: SourceCounts[] } | null>(null);
  const [shown, setShown] = useState<Record<string, number[]>>({});
  useEffect(() => {
    if (!data || !fulfilledTimeStamp) return;
    const last = before.current;
    before.current = { at: fulfilledTimeStamp, items: data.items };
    if (!last || fulfilledTimeStamp <= last.at) return;
    const now = rates(last.items, data.items, (fulfilledTimeStamp - last.at) / 1000);
    setShown((was) => Object.fromEntries(Object.entries(now).map(([source, rate]) => [source, [...(was[source] ?? []), rate].slice(-60)])));
  }, [data, fulfilledTimeStamp]);
  const items = data?.items ?? [];
  const wrong = items.filter((item) => !addsUp(item));
  const columns = ["received", "applied", "duplicate", "late", "rejected", "in_flight"] as const;
  return (
    <Panel title={t("health.sources")} table={() => ({ columns: ["source", ...columns, "since"], rows: items.map((item) => [item.source, ...columns.map((name) => item[name]), item.since]) })} {...(items[0] ? { note: `${t("health.since")} ${dateTime(items[0].since)}. ${wrong.length === 0 ? t("health.adds_up") : ""}` } : {})}>
      {error && !data ? <Empty>{detail(error)}</Empty> : items.length === 0 ? <Empty>{data ? t("health.none") : t("common.loading")}</Empty> : (
        <div className="scroll" tabIndex={0} role="region" aria-label={t("health.sources")}>
          <table className="plain-table">
            <thead><tr><th scope="col">{t("health.source")}</th><th scope="col" className="number">{t("health.rate")}</th><th scope="col"><span className="unseen">{t("health.trend")}</span></th>{columns.map((name) => <th key={name} scope="col" className="number">{t(`health.${name}`)}</th>)}</tr></thead>
            <tbody>
              {items.map((item) => {
                const rate = shown[item.source];
                return (
                  <tr key={item.source}>
                    <th scope="row">{item.source}</th>
                    <td className="number">{rate ? `${number(rate[rate.length - 1], 1)} /s` : t("common.absent")}</td>
                    <td><Spark values={rate ?? []} /></td>
                    {columns.map((name) => <td key={name} className="number">{number(item[name])}</td>)}
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
      {wrong.map((item) => <Alert key={item.source} severity="error">{t("health.adds_not", { source: item.source })}</Alert>)}
    </Panel>
  );
};

const Message = ({ item, onBind }: { item: RejectedMessage; onBind: (id: string) => void }): ReactElement => {
  const moment = useMoment();
  const [retry, { error, data, isLoading }] = useRetryRejectedMutation();
  const sensor = unknownDevices([item], [], undefined)[0]?.id;
  return (
    <li className="message">
      <p><strong>{item.detail}</strong></p>
      <p className="faint">{item.code} · {item.source}{item.topic ? ` · ${item.topic}` : ""} · <span title={dateTime(item.at)}>{t("common.ago", { age: age(item.at, moment) })}</span></p>
      <details><summary>{t("health.payload")}</summary><pre tabIndex={0}>{item.payload ?? `base64: ${item.payload_base64 ?? ""}`}{item.truncated ? "…" : ""}</pre></details>
      <p className="buttons">
        <Button variant="outlined" disabled={isLoading} onClick={() => void retry(item.id)}>{t("health.retry")}</Button>
        {sensor && <Button onClick={() => onBind(sensor)}>{t("health.bind")}</Button>}
        {error && <span className="bad" role="alert">{detail(error)}</span>}
        {data && <span role="status">{t("health.retried", { outcome: data.outcome })}</span>}
      </p>
    </li>
  );
};

export const Health = (): ReactElement => {
  const rejected = useRejectedQuery(undefined, { pollingInterval: 5_000 });
  const plant = usePlantQuery();
  const machines = useLayout("machine");
  const locations = useLayout("location");
  const [bind, setBind] = useState<string | null>(null);
  const [said_, setSaid] = useState<string | null>(null);
  const items = rejected.data?.items ?? [];
  const addresses = useMemo(() => [...Object.keys(machines.told), ...Object.keys(locations.told)], [machines.told, locations.told]);
  const unknown = useMemo(() => unknownDevices(items, addresses, plant.data?.model), [items, addresses, plant.data]);
  return (
    <>
      <h1>{t("health.title")}</h1>
      {said_ && <Alert severity="success" onClose={() => setSaid(null)}>{said_}</Alert>}
      <Sources />
      <Panel title={t("health.unknown")} actions={<Button onClick={() => setBind("")}>{t("health.unknown_add")}</Button>}>
        {unknown.length === 0 ? <Empty>{t("health.unknown_none")}</Empty> : (
          <ul className="devices">
            {unknown.map((device) => (
              <li key={device.id}><strong>{device.id}</strong> <span className="faint">{device.twin ? t("health.unknown_registered", { twin: device.twin }) : t("health.unknown_aside", { count: device.messages })}</span> <Button variant="outlined" onClick={() => setBind(device.id)}>{t("health.bind")}</Button></li>
            ))}
          </ul>
        )}
      </Panel>
      <Panel title={t("health.rejected_title")} {...(items.length > 0 ? { table: () => ({ columns: ["id", "at", "source", "topic", "code", "detail", "payload"], rows: items.map((item) => [item.id, item.at, item.source, item.topic, item.code, item.detail, item.payload]) }) } : {})}>
        {rejected.error && !rejected.data ? <Empty>{detail(rejected.error)}</Empty> : items.length === 0 ? <Empty>{rejected.data ? t("health.rejected_none") : t("common.loading")}</Empty> : (
          <ul className="messages">{items.map((item) => <Message key={item.id} item={item} onBind={setBind} />)}</ul>
        )}
      </Panel>
      <Standing />
      <QualityPanel />
      {bind !== null && <Bind device={bind} twins={addresses.filter((address) => idOf(address) !== bind)} onClose={() => setBind(null)} onBound={(text) => { setBind(null); setSaid(text); }} />}
    </>
  );
};
