// One dashboard: shown, arranged, saved for oneself, shown to all of the tenant by its link, and large on a wall.
import Alert from "@mui/material/Alert";
import Button from "@mui/material/Button";
import IconButton from "@mui/material/IconButton";
import TextField from "@mui/material/TextField";
import { type ReactElement, useEffect, useReducer, useState } from "react";
import { useLocation, useNavigate, useParams, useSearchParams } from "react-router";
import { detail, isMissing, status, useBoardQuery, useBoardsQuery, usePlantQuery, useRemoveBoardMutation, useSaveBoardMutation } from "../api/http";
import { Icons } from "../app/icons";
import { useAppSelector } from "../app/store";
import { useKeepAt, useNow } from "../app/time";
import { age, clock } from "../model/format";
import { boardId, edited, readBoard } from "../model/board";
import { copyText } from "../parts/copy";
import { BoardPanelShown } from "../parts/BoardPanel";
import { PanelForm } from "../parts/PanelForm";
import { Empty } from "../parts/Empty";
import { t } from "../words";

const WallHead = ({ title, id }: { title: string; id: string }): ReactElement => {
  const now = useNow();
  const zone = usePlantQuery().data?.model.site?.timezone;
  const navigate = useNavigate();
  const keep = useKeepAt();
  const { standing, heardAt } = useAppSelector((state) => state.connection);
  const full = () => void document.documentElement.requestFullscreen?.().catch(() => undefined);
  const leave = () => {
    if (document.fullscreenElement) void document.exitFullscreen();
    void navigate(keep(`/boards/${id}`));
  };
  return (
    <header className="wall-head">
      <h1>{title}</h1>
      <p className={`standing ${standing}`} role="status"><span className="lamp" aria-hidden="true" />{standing === "live" ? t("live.live") : heardAt === null ? t("live.connecting") : t("live.reconnecting", { age: age(heardAt, now) })}</p>
      <p className="wall-clock">{clock(now, zone)}</p>
      <IconButton aria-label={t("boards.full")} onClick={full}><Icons.full /></IconButton>
      <IconButton aria-label={t("boards.leave")} onClick={leave}><Icons.close /></IconButton>
    </header>
  );
};

export const BoardView = (): ReactElement => {
  const { id = "" } = useParams();
  const { pathname } = useLocation();
  const wall = pathname.startsWith("/wall/");
  const [query, setQuery] = useSearchParams();
  const editing = query.get("edit") === "1" && !wall;
  const saved = useBoardQuery(id);
  const others = useBoardsQuery(undefined, { skip: !editing });
  const [board, edit] = useReducer(edited, { title: "", panels: [] });
  const [adding, setAdding] = useState<string | null>(null);
  const [copied, setCopied] = useState(false);
  const [save, saving] = useSaveBoardMutation();
  const [remove, removing] = useRemoveBoardMutation();
  const navigate = useNavigate();
  const keep = useKeepAt();
  const read = saved.data;
  useEffect(() => {
    if (read) edit({ do: "read", board: readBoard(read.content) });
  }, [read]);
  const setEditing = (on: boolean) => setQuery((was) => { if (on) was.set("edit", "1"); else was.delete("edit"); return was; }, { replace: true });
  if (!read) return <Empty>{saved.error ? (isMissing(saved.error) ? t("boards.not_found", { id }) : detail(saved.error)) : t("common.loading")}</Empty>;
  const content = { title: board.title.trim() || id, panels: board.panels };
  const changed = JSON.stringify(readBoard(read.content)) !== JSON.stringify(board);
  const store = async () => {
    const answer = await save({ id, content, version: read.version });
    if (!answer.error) setEditing(false);
  };
  const copy = async () => {
    const name = boardId(`${board.title} copy`, (others.data?.items ?? []).map((item) => item.id));
    const answer = await save({ id: name, content: { ...content, title: `${content.title} (copy)` }, version: null });
    if (!answer.error) void navigate(keep(`/boards/${name}`));
  };
  const drop = async () => {
    const answer = await remove(id);
    if (!answer.error) void navigate(keep("/boards"));
  };
  const error = saving.error ?? removing.error;
  return (
    <>
      {wall ? <WallHead title={board.title || id} id={id} /> : (
        <div className="head">
          {editing ? <TextField label={t("boards.name")} value={board.title} onChange={(event) => edit({ do: "title", title: event.target.value })} slotProps={{ htmlInput: { maxLength: 80 } }} /> : <h1>{board.title || id}</h1>}
          {!read.mine && <span className="faint">{t("boards.of", { name: read.owner })}</span>}
          <span className="buttons board-buttons">
            {editing ? (
              <>
                <Button variant="outlined" onClick={() => setAdding("new")}>{t("boards.add")}</Button>
                {read.mine ? <Button variant="contained" disabled={!changed || saving.isLoading} onClick={() => void store()}>{t("common.save")}</Button> : null}
                <Button onClick={() => void copy()}>{t("boards.copy")}</Button>
                {read.mine && <Button color="error" onClick={() => { if (window.confirm(t("boards.confirm_remove", { title: board.title }))) void drop(); }}>{t("boards.remove")}</Button>}
                <Button onClick={() => { edit({ do: "read", board: readBoard(read.content) }); setEditing(false); }}>{t("common.cancel")}</Button>
              </>
            ) : (
              <>
                <Button variant="outlined" onClick={() => setEditing(true)}>{t("boards.edit")}</Button>
                <Button onClick={() => { void copyText(window.location.href).then(setCopied); }}>{copied ? t("time.copied") : t("boards.share")}</Button>
                <Button startIcon={<Icons.full />} onClick={() => void navigate(keep(`/wall/${id}`))}>{t("boards.wall")}</Button>
              </>
            )}
          </span>
        </div>
      )}
      {error && <Alert severity="error">{status(error) === 412 ? t("boards.changed_elsewhere") : detail(error)}</Alert>}
      {board.panels.length === 0 && <Empty>{t("boards.empty")}</Empty>}
      <div className="board">
        {board.panels.map((panel, index) => (
          <div
            key={panel.id} className={`board-cell w${panel.width}`} draggable={editing}
            onDragStart={(event) => event.dataTransfer.setData("text/plain", panel.id)} onDragOver={(event) => editing && event.preventDefault()}
            onDrop={(event) => { event.preventDefault(); const dragged = event.dataTransfer.getData("text/plain"); if (editing && dragged) edit({ do: "move", id: dragged, to: index }); }}
          >
            {editing && (
              <p className="board-tools">
                <span className="faint">{t(`panel.${panel.kind}`)}</span>
                <IconButton size="small" aria-label={t("boards.up", { name: t(`panel.${panel.kind}`) })} disabled={index === 0} onClick={() => edit({ do: "move", id: panel.id, to: index - 1 })}><Icons.up /></IconButton>
                <IconButton size="small" aria-label={t("boards.down", { name: t(`panel.${panel.kind}`) })} disabled={index === board.panels.length - 1} onClick={() => edit({ do: "move", id: panel.id, to: index + 1 })}><Icons.down /></IconButton>
                <Button onClick={() => edit({ do: "change", panel: { ...panel, width: (panel.width % 3) + 1 } })}>{t("boards.width", { width: panel.width })}</Button>
                <Button onClick={() => setAdding(panel.id)}>{t("boards.change")}</Button>
                <IconButton size="small" aria-label={t("boards.take_away", { name: t(`panel.${panel.kind}`) })} onClick={() => edit({ do: "remove", id: panel.id })}><Icons.close /></IconButton>
              </p>
            )}
            <BoardPanelShown panel={panel} />
          </div>
        ))}
      </div>
      {adding !== null && (
        <PanelForm
          panel={board.panels.find((panel) => panel.id === adding)} onClose={() => setAdding(null)}
          onDone={(panel) => { edit(adding === "new" ? { do: "add", panel } : { do: "change", panel }); setAdding(null); }}
        />
      )}
    </>
  );
};
