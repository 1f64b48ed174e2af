// All machines as a table that can be searched and sorted.
import Table from "@mui/material/Table";
import TableBody from "@mui/material/TableBody";
import TableCell from "@mui/material/TableCell";
import TableContainer from "@mui/material/TableContainer";
import TableHead from "@mui/material/TableHead";
import TableRow from "@mui/material/TableRow";
import TableSortLabel from "@mui/material/TableSortLabel";
import TextField from "@mui/material/TextField";
import { type ReactElement, useDeferredValue, useMemo, useState } from "react";
import { Link } from "react-router";
import type { PartialTwin } from "../api/shapes";
import { useKeepAt, useMoment } from "../app/time";
import { useTwins } from "../live/hooks";
import { idOf } from "../model/floor";
import { age, isNumber, kpi, number, percent } from "../model/format";
import { execution, executionSince, locationOf, nameOf } from "../model/machine";
import { Empty, Panel } from "../parts/Panel";
import { State } from "../parts/State";
import { t } from "../words";

const MOST = 300;
const COLUMNS = ["oee", "availability", "effectiveness", "quality_ratio", "good_parts"] as const;
type Sort = "name" | "state" | (typeof COLUMNS)[number];

export const Machines = (): ReactElement => {
  const { told, ready } = useTwins("machine");
  const moment = useMoment();
  const keep = useKeepAt();
  const [search, setSearch] = useState("");
  const [sort, setSort] = useState<{ by: Sort; down: boolean }>({ by: "name", down: false });
  const wanted = useDeferredValue(search.trim().toLowerCase());
  const rows = useMemo(() => {
    const value = (id: string, twin: PartialTwin): string | number | null => {
      if (sort.by === "name") return nameOf(twin, id);
      if (sort.by === "state") return execution(twin);
      const known = twin.kpis?.[sort.by];
      return isNumber(known) ? known : null;
    };
    return Object.entries(told)
      .map(([address, { value: twin }]) => ({ id: idOf(address), twin }))
      .filter(({ id, twin }) => !twin.state?.removed && (wanted === "" || `${id} ${nameOf(twin, id)} ${locationOf(twin) ?? ""} ${execution(twin)}`.toLowerCase().includes(wanted)))
      .sort((a, b) => {
        const [x, y] = [value(a.id, a.twin), value(b.id, b.twin)];
        // What is not known stands last, whichever way it is sorted.
        if (x === null || y === null) return x === y ? a.id.localeCompare(b.id) : x === null ? 1 : -1;
        const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
        return (sort.down ? -order : order) || a.id.localeCompare(b.id);
      });
  }, [told, wanted, sort]);
  const head = (by: Sort, label: string) => (
    <TableCell key={by} sortDirection={sort.by === by ? (sort.down ? "desc" : "asc") : false} align={by === "name" || by === "state" ? "left" : "right"}>
      <TableSortLabel active={sort.by === by} direction={sort.by === by && sort.down ? "desc" : "asc"} onClick={() => setSort((was) => ({ by, down: was.by === by ? !was.down : false }))}>{label}</TableSortLabel>
    </TableCell>
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
          <TableContainer className="scroll" tabIndex={0}>
            <Table>
              <TableHead><TableRow>{head("name", t("common.name"))}<TableCell>{t("common.where")}</TableCell>{head("state", t("common.state"))}<TableCell>{t("common.for")}</TableCell>{COLUMNS.map((name) => head(name, t(`kpi.${name}`)))}<TableCell>{t("machine.data")}</TableCell></TableRow></TableHead>
              <TableBody>
                {rows.slice(0, MOST).map(({ id, twin }) => (
                  <TableRow key={id} hover>
                    <TableCell component="th" scope="row"><Link to={keep(`/machines/${id}`)}>{nameOf(twin, id)}</Link></TableCell>
                    <TableCell>{locationOf(twin) ?? t("common.absent")}</TableCell>
                    <TableCell><State area="state" word={execution(twin)} /></TableCell>
                    <TableCell className="number">{age(executionSince(twin), moment)}</TableCell>
                    {COLUMNS.map((name) => <TableCell key={name} className="number" align="right">{name === "good_parts" ? number(twin.kpis?.[name]) : name === "oee" ? percent(twin.kpis?.oee, 1) : kpi(name, twin.kpis?.[name])}</TableCell>)}
                    <TableCell><State area="quality" word={twin.state?.quality} /></TableCell>
                  </TableRow>
                ))}
              </TableBody>
            </Table>
          </TableContainer>
        )}
        {rows.length > MOST && <p className="note">{t("common.and_more", { count: rows.length - MOST })}</p>}
      </Panel>
    </>
  );
};
