// The dashboards that people of the tenant saved, and the way to a new one.
import Button from "@mui/material/Button";
import TextField from "@mui/material/TextField";
import { type FormEvent, type ReactElement, useState } from "react";
import { Link, useNavigate } from "react-router";
import { detail, isMissing, useBoardsQuery, useSaveBoardMutation } from "../api/http";
import { useKeepAt, useMoment } from "../app/time";
import { age } from "../model/format";
import { boardId } from "../model/board";
import { Empty } from "../parts/Empty";
import { Panel } from "../parts/Panel";
import { t } from "../words";

export const Boards = (): ReactElement => {
  const { data, error } = useBoardsQuery();
  const [save, saving] = useSaveBoardMutation();
  const [title, setTitle] = useState("");
  const navigate = useNavigate();
  const keep = useKeepAt();
  const moment = useMoment();
  const make = async (event: FormEvent) => {
    event.preventDefault();
    const id = boardId(title, (data?.items ?? []).map((item) => item.id));
    const panels = [{ id: "p1", kind: "needs", width: 3 }, { id: "p2", kind: "states", width: 3 }];
    const answer = await save({ id, content: { title: title.trim(), panels }, version: null });
    if (!answer.error) void navigate(keep(`/boards/${id}?edit=1`));
  };
  return (
    <>
      <h1>{t("boards.title")}</h1>
      <Panel title={t("boards.new")}>
        <form className="tools" onSubmit={(event) => void make(event)}>
          <TextField className="search" label={t("boards.name")} value={title} onChange={(event) => setTitle(event.target.value)} required slotProps={{ htmlInput: { maxLength: 80 } }} />
          <Button type="submit" variant="contained" disabled={title.trim() === "" || saving.isLoading}>{t("boards.make")}</Button>
        </form>
        {saving.error && <p className="bad" role="alert">{detail(saving.error)}</p>}
      </Panel>
      <Panel title={t("boards.saved")}>
        {error ? <Empty>{isMissing(error) ? t("common.unavailable") : detail(error)}</Empty> : !data ? <Empty>{t("common.loading")}</Empty> : data.items.length === 0 ? <Empty>{t("boards.none")}</Empty> : (
          <ul className="devices">
            {data.items.map((item) => (
              <li key={item.id}>
                <Link to={keep(`/boards/${item.id}`)}><strong>{item.title ?? item.id}</strong></Link>
                <span className="faint">{item.mine ? t("boards.mine") : t("boards.of", { name: item.owner })}, {t("common.ago", { age: age(item.saved_at, moment) })}</span>
                <Button component={Link} to={keep(`/wall/${item.id}`)}>{t("boards.wall")}</Button>
              </li>
            ))}
          </ul>
        )}
      </Panel>
    </>
  );
};
