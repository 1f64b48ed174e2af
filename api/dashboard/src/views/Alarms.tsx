// The alarm list of ISA-18.2. Everything can be done from the keyboard: arrows move, single letters act.
import Alert from "@mui/material/Alert";
import Button from "@mui/material/Button";
import Dialog from "@mui/material/Dialog";
import DialogActions from "@mui/material/DialogActions";
import DialogContent from "@mui/material/DialogContent";
import DialogTitle from "@mui/material/DialogTitle";
import MenuItem from "@mui/material/MenuItem";
import TextField from "@mui/material/TextField";
import ToggleButton from "@mui/material/ToggleButton";
import ToggleButtonGroup from "@mui/material/ToggleButtonGroup";
import { type KeyboardEvent, type ReactElement, useMemo, useRef, useState } from "react";
import { Link, useSearchParams } from "react-router";
import { detail, isMissing, useAlarmFiguresQuery, useAlarmHistoryQuery, useAlarmsQuery, useSetAlarmMutation } from "../api/http";
import type { Alarm, Priority } from "../api/shapes";
import { Shape } from "../app/icons";
import { useAt, useKeepAt, useMoment } from "../app/time";
import { type Group, PRIORITIES, inGroup, may, ordered } from "../model/alarms";
import { age, dateTime, reading } from "../model/format";
import { useLayout } from "../live/hooks";
import { idOf } from "../model/floor";
import { nameOf } from "../model/machine";
import { Empty } from "../parts/Empty";
import { Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { said, t } from "../words";

type What = "ack" | "shelve" | "unshelve" | "comment";
const KEYS: Record<string, What> = { a: "ack", s: "shelve", u: "unshelve", c: "comment" };
const SPANS = ["15m", "30m", "1h", "4h", "8h", "24h"];
const GROUPS: readonly Group[] = ["open", "unacknowledged", "shelved", "all"];

const Ask = ({ what, alarm, onClose }: { what: What; alarm: Alarm; onClose: () => void }): ReactElement => {
  const [comment, setComment] = useState("");
  const [span, setSpan] = useState("30m");
  const [send, { error, isLoading }] = useSetAlarmMutation();
  const go = async () => {
    const answer = await send({ id: alarm.id, what, ...(comment.trim() === "" ? {} : { comment: comment.trim() }), ...(what === "shelve" ? { for: span } : {}) });
    if (!answer.error) onClose();
  };
  return (
    <Dialog open onClose={onClose} fullWidth maxWidth="xs" aria-labelledby="ask">
      <form onSubmit={(event) => { event.preventDefault(); void go(); }}>
        <DialogTitle id="ask">{t(`alarms.${what}`)}: {alarm.text || alarm.rule}</DialogTitle>
        <DialogContent className="form">
          {what === "shelve" && <TextField select label={t("alarms.for")} value={span} onChange={(event) => setSpan(event.target.value)} margin="dense">{SPANS.map((one) => <MenuItem key={one} value={one}>{t(`alarms.span_${one}` as "alarms.span_1h")}</MenuItem>)}</TextField>}
          <TextField label={what === "comment" ? t("alarms.comment") : t("alarms.comment_optional")} value={comment} onChange={(event) => setComment(event.target.value)} required={what === "comment"} multiline minRows={2} autoFocus margin="dense" slotProps={{ htmlInput: { maxLength: 500 } }} />
          {error && <p className="bad" role="alert">{detail(error)}</p>}
        </DialogContent>
        <DialogActions><Button onClick={onClose}>{t("common.cancel")}</Button><Button type="submit" variant="contained" disabled={isLoading || (what === "comment" && comment.trim() === "")}>{t(`alarms.${what}`)}</Button></DialogActions>
      </form>
    </Dialog>
  );
};

const History = ({ alarm }: { alarm: Alarm }): ReactElement => {
  const { data, error } = useAlarmHistoryQuery(alarm.id, { pollingInterval: 5_000 });
  const entries = [...(data?.items ?? [])].sort((a, b) => b.at.localeCompare(a.at));
  return (
    <Panel title={t("alarms.history_of", { name: alarm.text || alarm.rule })} table={() => ({ columns: ["at", "what", "by", "comment"], rows: entries.map((entry) => [entry.at, entry.what, entry.by, entry.comment]) })}>
      {error ? <Empty>{detail(error)}</Empty> : entries.length === 0 ? <Empty>{data ? t("common.none") : t("common.loading")}</Empty> : (
        <ol className="entries">{entries.map((entry) => <li key={`${entry.at}${entry.what}`}><time dateTime={entry.at}>{dateTime(entry.at)}</time> <strong>{said("alarm_event", entry.what)}</strong>{entry.by && <> {t("alarms.by", { name: entry.by })}</>}{entry.comment && <q>{entry.comment}</q>}</li>)}</ol>
      )}
    </Panel>
  );
};

const Figures = (): ReactElement | null => {
  const { data } = useAlarmFiguresQuery(undefined, { pollingInterval: 5_000 });
  if (!data) return null;
  const figures: [string, string][] = [
    [t("alarms.active"), reading(data.active)], [t("alarms.unacknowledged"), reading(data.unacknowledged)], [t("alarms.rate"), reading(data.per_10_min)],
    [t("alarms.chattering"), reading(data.chattering?.length)], [t("alarms.stale"), reading(data.stale?.length)],
  ];
  return (
    <>
      {data.flood && <Alert severity="warning">{t("alarms.flood")}</Alert>}
      <dl className="alarm-figures">{figures.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
    </>
  );
};

export const AlarmList = ({ compact }: { compact?: boolean }): ReactElement => {
  const { data, error } = useAlarmsQuery(undefined, { pollingInterval: 2_500 });
  const [query, setQuery] = useSearchParams();
  const moment = useMoment();
  const keep = useKeepAt();
  const [group, setGroup] = useState<Group>("open");
  const [priority, setPriority] = useState<Priority | "all">("all");
  const [chosen, setChosen] = useState<string | null>(null);
  const [ask, setAsk] = useState<{ what: What; alarm: Alarm } | null>(null);
  const body = useRef<HTMLTableSectionElement>(null);
  const twin = compact ? "" : (query.get("twin") ?? "");
  const machines = useLayout("machine").told;
  const locations = useLayout("location").told;
  const name = (address: string) => nameOf((machines[address] ?? locations[address])?.value, idOf(address));
  const alarms = useMemo(() => ordered(data?.items ?? [], group, priority, twin), [data, group, priority, twin]);
  const current = alarms.find((alarm) => alarm.id === chosen) ?? null;
  if (isMissing(error)) return <Empty>{t("alarms.unavailable")}</Empty>;
  if (error && !data) return <Empty>{detail(error)}</Empty>;
  const focus = (index: number) => {
    const alarm = alarms[Math.max(0, Math.min(alarms.length - 1, index))];
    if (!alarm) return;
    setChosen(alarm.id);
    body.current?.querySelector<HTMLTableRowElement>(`tr[data-id="${CSS.escape(alarm.id)}"]`)?.focus();
  };
  const press = (event: KeyboardEvent<HTMLTableSectionElement>) => {
    const row = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey || !(row instanceof HTMLTableRowElement)) return;
    const index = alarms.findIndex((alarm) => alarm.id === row.dataset.id);
    const alarm = alarms[index];
    const what = KEYS[event.key];
    if (event.key === "ArrowDown" || event.key === "j") focus(index + 1);
    else if (event.key === "ArrowUp" || event.key === "k") focus(index - 1);
    else if (event.key === "Home") focus(0);
    else if (event.key === "End") focus(alarms.length - 1);
    else if (event.key === "Enter" || event.key === " ") setChosen(alarm?.id ?? null);
    else if (what && alarm && may(alarm, what)) setAsk({ what, alarm });
    else return;
    event.preventDefault();
  };
  return (
    <>
      {!compact && (
        <div className="tools">
          <ToggleButtonGroup exclusive size="small" value={group} aria-label={t("alarms.show")} onChange={(_, key: Group | null) => key && setGroup(key)}>
            {GROUPS.map((one) => <ToggleButton key={one} value={one}>{t(`alarms.group_${one}` as "alarms.group_all")} ({(data?.items ?? []).filter((alarm) => inGroup(alarm, one)).length})</ToggleButton>)}
          </ToggleButtonGroup>
          <TextField select label={t("alarms.priority")} value={priority} onChange={(event) => setPriority(event.target.value as Priority | "all")}>
            <MenuItem value="all">{t("common.all")}</MenuItem>
            {PRIORITIES.map((one) => <MenuItem key={one} value={one}>{said("priority", one)}</MenuItem>)}
          </TextField>
          <TextField type="search" label={t("alarms.twin")} value={twin} onChange={(event) => setQuery((was) => { if (event.target.value) was.set("twin", event.target.value); else was.delete("twin"); return was; }, { replace: true })} />
        </div>
      )}
      {alarms.length === 0 ? <Empty>{data ? t("alarms.none") : t("common.loading")}</Empty> : (
        <div className="scroll">
          <table className="plain-table alarms">
            <thead><tr><th scope="col">{t("alarms.priority")}</th><th scope="col">{t("alarms.alarm")}</th><th scope="col">{t("common.where")}</th><th scope="col">{t("common.state")}</th><th scope="col" className="number">{t("alarms.value")}</th><th scope="col" className="number">{t("common.for")}</th><th scope="col">{t("alarms.do")}</th></tr></thead>
            <tbody ref={body} onKeyDown={press}>
              {alarms.slice(0, compact ? 12 : 500).map((alarm, index) => (
                <tr key={alarm.id} data-id={alarm.id} tabIndex={chosen === alarm.id || (current === null && index === 0) ? 0 : -1} aria-current={chosen === alarm.id ? "true" : undefined} className={`a-${alarm.state}`} onClick={(event) => { if (event.target === event.currentTarget || (event.target as Element).tagName === "TD") setChosen(alarm.id); }} onFocus={(event) => { if (event.target === event.currentTarget) setChosen(alarm.id); }}>
                  <td><State area="priority" word={alarm.priority} strong={alarm.state.includes("unacknowledged")} /></td>
                  <td className="wrap"><strong>{alarm.text || alarm.rule}</strong>{alarm.comment && <span className="faint"> “{alarm.comment}”</span>}</td>
                  <td><Link to={keep(alarm.twin.startsWith("machine/") ? `/machines/${alarm.twin.slice(8)}` : alarm.twin.startsWith("job/") ? `/jobs/${alarm.twin.slice(4)}` : "/air")} tabIndex={-1} title={alarm.twin}>{name(alarm.twin)}</Link></td>
                  <td>{said("alarm", alarm.state)}{alarm.state === "shelved" && alarm.shelved_until && <span className="faint">, {t("alarms.until", { time: dateTime(alarm.shelved_until) })}</span>}</td>
                  <td className={`number value${alarm.value == null && alarm.count <= 1 ? " nothing" : ""}`}>{reading(alarm.value)}{alarm.count > 1 && <span className="faint"> {alarm.count}×</span>}</td>
                  <td className="number">{age(alarm.since ?? alarm.raised_at, moment)}</td>
                  <td className="acts">
                    {(["ack", "shelve", "unshelve", "comment"] as const).filter((what) => may(alarm, what)).map((what) => (
                      <Button key={what} tabIndex={-1} variant={what === "ack" ? "contained" : "text"} onClick={() => setAsk({ what, alarm })}>{t(`alarms.${what}`)}</Button>
                    ))}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {!compact && alarms.length > 0 && <p className="note wide-only">{t("alarms.keys")}</p>}
      {!compact && current && <History alarm={current} />}
      {ask && <Ask {...ask} onClose={() => setAsk(null)} />}
    </>
  );
};

export const Alarms = (): ReactElement => {
  const at = useAt();
  return (
    <>
      <h1>{t("alarms.title")}</h1>
      {at !== null && <Alert severity="info" icon={<Shape of="stale" />}>{t("alarms.now_only")}</Alert>}
      <Figures />
      <section className="panel" aria-label={t("alarms.list")}><AlarmList /></section>
    </>
  );
};
