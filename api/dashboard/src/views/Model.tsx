// The plant model: edited as text, checked, shown as a plan, and only then applied; and which twins a rule would match.
import Alert from "@mui/material/Alert";
import Button from "@mui/material/Button";
import TextField from "@mui/material/TextField";
import { type ReactElement, useDeferredValue, useEffect, useMemo, useRef, useState } from "react";
import { Link } from "react-router";
import { detail, isMissing, useApplyPlantMutation, usePlanPlantMutation, usePlantQuery, usePlantTextQuery, useTwinsQuery } from "../api/http";
import { useKeepAt } from "../app/time";
import { dateTime } from "../model/format";
import { nameOf } from "../model/machine";
import { errorLine, filtersOf } from "../model/plantText";
import { idOf } from "../model/floor";
import { Empty } from "../parts/Empty";
import { Panel } from "../parts/Panel";
import { PlanShown, isEmptyPlan } from "../parts/PlanShown";
import { t } from "../words";

const FIRST = "version: 1\nsite: {id: works, name: Works, timezone: Europe/Helsinki}\nlocations:\n  - {id: cell-1, name: Cell 1, type: cell}\nmachines:\n  - {id: cnc-01, name: Mazak 01, location: cell-1, ideal_cycle: 45s, stale_after: 30s}\n";

const Editor = ({ text, wrong, onText }: { text: string; wrong: number | null; onText: (text: string) => void }): ReactElement => {
  const numbers = useRef<HTMLPreElement>(null);
  const lines = text.split("\n").length;
  return (
    <div className="editor">
      <pre ref={numbers} aria-hidden="true">{Array.from({ length: lines }, (_, index) => <span key={index} className={wrong === index + 1 ? "bad" : ""}>{`${index + 1}\n`}</span>)}</pre>
      <textarea
        aria-label={t("model.text")} spellCheck={false} wrap="off" value={text} rows={Math.min(28, Math.max(12, lines + 1))} aria-invalid={wrong !== null}
        onChange={(event) => onText(event.target.value)} onScroll={(event) => { if (numbers.current) numbers.current.scrollTop = event.currentTarget.scrollTop; }}
      />
    </div>
  );
};

const Matches = ({ rules }: { rules: { name: string; filter: string }[] }): ReactElement => {
  const [filter, setFilter] = useState("kind == 'machine' && kpis.oee < 0.6");
  const keep = useKeepAt();
  const wanted = useDeferredValue(filter.trim());
  const [asked, setAsked] = useState(wanted);
  useEffect(() => {
    const timer = window.setTimeout(() => setAsked(wanted), 350);
    return () => window.clearTimeout(timer);
  }, [wanted]);
  const { data, error, isFetching } = useTwinsQuery({ filter: asked, fields: "attributes.name", limit: 100 }, { skip: asked === "", pollingInterval: 5_000 });
  const items = data?.items ?? [];
  return (
    <Panel title={t("model.matches")} note={t("model.matches_help")}>
      <TextField fullWidth label={t("model.filter")} value={filter} onChange={(event) => setFilter(event.target.value)} error={error !== undefined && !isFetching} slotProps={{ htmlInput: { spellCheck: false, className: "code" } }} />
      {rules.length > 0 && <p className="buttons">{rules.map((rule) => <Button key={rule.name} variant="outlined" onClick={() => setFilter(rule.filter)}>{rule.name}</Button>)}</p>}
      <div role="status">
        {error ? <p className="bad">{detail(error)}</p> : <p>{asked === "" ? t("model.matches_none_asked") : !data ? t("common.loading") : items.length === 1 ? t("model.matches_one") : t("model.matches_count", { count: `${items.length}${data.cursor ? "+" : ""}` })}</p>}
      </div>
      {!error && items.length > 0 && (
        <ul className="chips">{items.map((twin) => {
          const address = twin.twin ?? "";
          const to = address.startsWith("machine/") ? `/machines/${idOf(address)}` : address.startsWith("job/") ? `/jobs/${idOf(address)}` : "/air";
          return <li key={address}><Link to={keep(to)}>{nameOf(twin, idOf(address))}</Link> <span className="faint">{address}</span></li>;
        })}</ul>
      )}
    </Panel>
  );
};

export const Model = (): ReactElement => {
  const applied = usePlantQuery();
  const source = usePlantTextQuery();
  const [text, setText] = useState<string | null>(null);
  const [checked, setChecked] = useState<string | null>(null);
  const [plan, planned] = usePlanPlantMutation();
  const [apply, sent] = useApplyPlantMutation();
  const missing = isMissing(source.error);
  const shown = text ?? source.data ?? (missing ? FIRST : "");
  const changed = text !== null && text !== source.data;
  const error = sent.error ?? planned.error;
  const rules = useMemo(() => filtersOf(applied.data?.model), [applied.data]);
  const write = (next: string) => {
    setText(next);
    if (checked !== null) setChecked(null);
    planned.reset();
    sent.reset();
  };
  const check = async () => {
    sent.reset();
    const answer = await plan(shown);
    setChecked(answer.error ? null : shown);
  };
  const send = async () => {
    const answer = await apply(shown);
    if (!answer.error) {
      setText(null);
      setChecked(null);
      planned.reset();
    }
  };
  return (
    <>
      <h1>{t("model.title")}</h1>
      <div className="two wide-left">
        <Panel title={t("model.text")} note={applied.data ? t("model.in_force", { version: applied.data.version, time: dateTime(applied.data.applied_at), by: applied.data.by }) : missing ? t("model.none") : undefined}>
          {source.isLoading ? <Empty>{t("common.loading")}</Empty> : <Editor text={shown} wrong={errorLine(error ? detail(error) : "")} onText={write} />}
          <p className="buttons">
            <Button variant={checked === shown ? "outlined" : "contained"} disabled={planned.isLoading} onClick={() => void check()}>{t("model.check")}</Button>
            <Button variant="contained" disabled={checked !== shown || sent.isLoading || (planned.data !== undefined && isEmptyPlan(planned.data))} onClick={() => void send()}>{t("model.apply")}</Button>
            <Button disabled={!changed} onClick={() => { setText(null); setChecked(null); planned.reset(); sent.reset(); }}>{t("model.reset")}</Button>
          </p>
        </Panel>
        <Panel title={t("model.plan")}>
          {error && <Alert severity="error">{detail(error)}</Alert>}
          {sent.data && <Alert severity="success">{t("model.applied", { version: sent.data.version })}</Alert>}
          {planned.data && checked === shown ? <PlanShown plan={planned.data} /> : !error && !sent.data && <Empty>{t("model.plan_none")}</Empty>}
        </Panel>
      </div>
      <Matches rules={rules} />
    </>
  );
};
