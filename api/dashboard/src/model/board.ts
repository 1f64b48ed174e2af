// A dashboard of one's own: its panels and their order, and how it is edited. Pure.
export const PANEL_KINDS = ["needs", "states", "kpi", "series", "timeline", "oee", "losses", "air", "flow", "alarms", "text"] as const;
export type PanelKind = (typeof PANEL_KINDS)[number];
export type BoardPanel = { id: string; kind: PanelKind; twin?: string; metric?: string; kpi?: string; text?: string; width: number };
export type Board = { title: string; panels: BoardPanel[] };

export type Edit =
  | { do: "read"; board: Board }
  | { do: "title"; title: string }
  | { do: "add"; panel: BoardPanel }
  | { do: "change"; panel: BoardPanel }
  | { do: "remove"; id: string }
  | { do: "move"; id: string; to: number };

export const WIDTH_MAX = 3;
const PANELS_MAX = 40;

/** Which panels need what. */
export const wants = (kind: PanelKind): { twin?: "machine" | "location" | "any"; metric?: true; kpi?: true; text?: true } => {
  switch (kind) {
    case "series": return { twin: "any", metric: true };
    case "kpi": return { twin: "any", kpi: true };
    case "timeline": case "oee": case "losses": return { twin: "machine" };
    case "air": return { twin: "location" };
    case "text": return { text: true };
    default: return {};
  }
};

const text = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined);

/** A saved dashboard as it can be shown: what is not understood, e.g. of a newer page, is left out. */
export const readBoard = (content: unknown): Board => {
  const told = (typeof content === "object" && content !== null ? content : {}) as { title?: unknown; panels?: unknown };
  const panels = (Array.isArray(told.panels) ? told.panels : []).flatMap((one: unknown, index): BoardPanel[] => {
    const panel = (typeof one === "object" && one !== null ? one : {}) as Record<string, unknown>;
    const kind = PANEL_KINDS.find((known) => known === panel.kind);
    if (!kind) return [];
    const width = typeof panel.width === "number" ? Math.min(WIDTH_MAX, Math.max(1, Math.round(panel.width))) : 1;
    const [twin, metric, kpi, words] = [text(panel.twin), text(panel.metric), text(panel.kpi), text(panel.text)];
    return [{ id: text(panel.id) ?? `p${index}`, kind, width, ...(twin ? { twin } : {}), ...(metric ? { metric } : {}), ...(kpi ? { kpi } : {}), ...(words ? { text: words } : {}) }];
  });
  return { title: text(told.title) ?? "", panels: panels.slice(0, PANELS_MAX) };
};

export const edited = (board: Board, edit: Edit): Board => {
  switch (edit.do) {
    case "read": return edit.board;
    case "title": return { ...board, title: edit.title };
    case "add": return board.panels.length >= PANELS_MAX ? board : { ...board, panels: [...board.panels, edit.panel] };
    case "change": return { ...board, panels: board.panels.map((panel) => (panel.id === edit.panel.id ? edit.panel : panel)) };
    case "remove": return { ...board, panels: board.panels.filter((panel) => panel.id !== edit.id) };
    case "move": {
      const moved = board.panels.find((panel) => panel.id === edit.id);
      if (!moved) return board;
      const others = board.panels.filter((panel) => panel !== moved);
      const to = Math.max(0, Math.min(others.length, edit.to));
      return { ...board, panels: [...others.slice(0, to), moved, ...others.slice(to)] };
    }
  }
};

/** An id for a dashboard, made of its title. */
export const boardId = (title: string, taken: readonly string[]): string => {
  const plain = title.toLowerCase().normalize("NFKD").replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 48) || "dashboard";
  for (let number = 1; ; number += 1) {
    const id = number === 1 ? plain : `${plain}-${number}`;
    if (!taken.includes(id)) return id;
  }
};
