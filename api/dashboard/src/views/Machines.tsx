// All machines as a table that can be searched and sorted.
import TextField from "@mui/material/TextField";
import { type ReactElement, memo, useDeferredValue, useMemo, useState } from "react";
import { useAt, useKeepAt, useNowIf } from "../app/time";
import { useLayout, useListed, useLocationNames, useTwins } from "../live/hooks";
import { idOf } from "../model/floor";
import { age, byId, isNumber, kpi, millis, number, percent } from "../model/format";
import { EXECUTIONS, execution, executionSince, locationOf, nameOf } from "../model/machine";
import { Empty } from "../parts/Empty";
import { Panel } from "../parts/Panel";
import { useSeen } from "../parts/seen";
import { State } from "../parts/State";
import { t } from "../words";

const MOST = 300;
const COLUMNS = ["oee", "availability", "effectiveness", "quality_ratio", "good_parts"] as const;
type Sort = "name" | "state" | (typeof COLUMNS)[number];

const LABELS: Record<Sort, string> = { name: t("common.name"), state: t("common.state"), oee: t("kpi.oee"), availability: t("kpi.availability"), effectiveness: t("kpi.effectiveness"), quality_ratio: t("kpi.quality_ratio"), good_parts: t("kpi.good_parts") };

const Row = memo(({ id, place, keep, nameOfPlace }: { id: string; place: number; keep: (to: string) => string; nameOfPlace: (id: string) => string }): ReactElement => {
  const [element, seen] = useSeen<HTMLTableRowElement>();
  const now = useNowIf(seen, place);
  const twin = useListed("machine", id, seen, now);
  const moment = millis(useAt()) ?? now;
  const home = locationOf(twin);
  return (
    <tr ref={element}>
      <th scope="row"><a href={`#${keep(`/machines/${id}`)}`}>{nameOf(twin, id)}</a></th>
      <td>{home === undefined ? t("common.absent") : nameOfPlace(home)}</td>
      <td><State area="state" word={execution(twin)} /></td>
      <td className="number">{age(executionSince(twin), moment)}</td>
      {COLUMNS.map((name) => <td key={name} className="number">{name === "good_parts" ? number(twin?.kpis?.[name]) : name === "oee" ? percent(twin?.kpis?.oee, 1) : kpi(name, twin?.kpis?.[name])}</td>)}
      <td><State area="quality" word={twin?.state?.quality} /></td>
    </tr>
  );
});
Row.displayName = "Row";

export const Machines = (): ReactElement => {
  const { told, ready } = useTwins("machine");
  const layout = useLayout("machine").told;
  const keep = useKeepAt();
  const nameOfPlace = useLocationNames();
  const [search, setSearch] = useState("");
  const [sort, setSort] = useState<{ by: Sort; down: boolean }>({ by: "name", down: false });
  const wanted = useDeferredValue(search.trim().toLowerCase());
  // Words are put in order when machines come or go; figures, which change all the time, only compare.
  const byName = useMemo(
    () => Object.entries(layout).map(([address, { value }]) => ({ address, id: idOf(address), name: nameOf(value, idOf(address)) })).sort((a, b) => byId(a.name, b.name) || byId(a.id, b.id)),
    [layout],
  );
  const rows = useMemo(() => {
    const found = byName.flatMap(({ address, id, name }, rank) => {
      const twin = told[address]?.value;
      if (!twin || twin.state?.removed) return [];
      const state = execution(twin);
      if (wanted !== "" && !`${id} ${name} ${locationOf(twin) ?? ""} ${state}`.toLowerCase().includes(wanted)) return [];
      const known = sort.by === "name" ? rank : sort.by === "state" ? EXECUTIONS.indexOf(state) : twin.kpis?.[sort.by];
      return [{ id, twin, rank, key: isNumber(known) ? known : null }];
    });
    return found.sort((a, b) => {
      // What is not known stands last, whichever way it is sorted.
      if (a.key === null || b.key === null) return a.key === b.key ? a.rank - b.rank : a.key === null ? 1 : -1;
      return (sort.down ? b.key - a.key : a.key - b.key) || a.rank - b.rank;
    });
  }, [byName, told, wanted, sort]);
  const head = (by: Sort) => (
    <th key={by} scope="col" aria-sort={sort.by === by ? (sort.down ? "descending" : "ascending") : "none"} className={by === "name" || by === "state" ? "" : "number"}>
      <button type="button" className="sort" onClick={() => setSort((was) => ({ by, down: was.by === by ? !was.down : false }))}>{LABELS[by]}<span aria-hidden="true">{sort.by === by ? (sort.down ? " ↓" : " ↑") : ""}</span></button>
    </th>
  );
  const table = () => ({
    columns: ["machine", "name", "location", "execution", "since", ...COLUMNS],
    rows: rows.map(({ id, twin }) => [id, nameOf(twin, id), locationOf(twin), execution(twin), executionSince(twin), ...COLUMNS.map((name) => twin.kpis?.[name])]),
  });
  return (
    <>
      <h1>{t("machine.title")}</h1>
      <Panel title={t("machine.list")} table={table} actions={<TextField className="search" type="search" label={t("machine.search")} value={search} onChange={(event) => setSearch(event.target.value)} />}>
        {rows.length === 0 ? <Empty>{ready ? t("common.none") : t("common.loading")}</Empty> : (
          <div className="scroll" tabIndex={0} role="region" aria-label={t("machine.list")}>
            <table className="plain-table">
              <thead><tr>{head("name")}<th scope="col">{t("common.where")}</th>{head("state")}<th scope="col" className="number">{t("common.for")}</th>{COLUMNS.map(head)}<th scope="col">{t("machine.data")}</th></tr></thead>
              <tbody>{rows.slice(0, MOST).map(({ id }, place) => <Row key={id} id={id} place={place} keep={keep} nameOfPlace={nameOfPlace} />)}</tbody>
            </table>
          </div>
        )}
        {rows.length > MOST && <p className="note">{t("common.and_more", { count: rows.length - MOST })}</p>}
      </Panel>
    </>
  );
};
