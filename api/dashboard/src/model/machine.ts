// What a machine's twin says, ready for drawing. Pure.
import type { HistoryPoint, Kpis, PartialTwin, PlantModel } from "../api/shapes";
import { isNumber, millis } from "./format";

export const EXECUTIONS = ["producing", "setup", "idle", "stopped", "down", "planned_down", "unknown"] as const;
export type Execution = (typeof EXECUTIONS)[number];

export const execution = (twin: PartialTwin | undefined): Execution => {
  const word = twin?.state?.execution;
  return EXECUTIONS.includes(word as Execution) ? (word as Execution) : "unknown";
};

export const executionSince = (twin: PartialTwin | undefined): string | undefined =>
  twin?.state?.execution_since ?? (twin?.state?.since as string | undefined);

export const nameOf = (twin: PartialTwin | undefined, id: string): string => {
  const name = twin?.attributes?.name;
  return typeof name === "string" && name !== "" ? name : id;
};

export const locationOf = (twin: PartialTwin | undefined): string | undefined => {
  const location = twin?.attributes?.location;
  return typeof location === "string" ? location : undefined;
};

export type WaterfallStep = { name: "planned" | "loss_availability" | "loss_effectiveness" | "loss_quality" | "oee"; from: number; to: number };

/** The planned time, what each factor takes of it, and what is left; or the reason why it cannot be said. */
export const waterfall = (kpis: Partial<Kpis> | undefined): WaterfallStep[] | { reason: string } => {
  const [a, e, q] = [kpis?.availability, kpis?.effectiveness, kpis?.quality_ratio];
  if (!isNumber(a) || !isNumber(e) || !isNumber(q)) {
    const missing = (["availability", "effectiveness", "quality_ratio", "oee"] as const).find((name) => !isNumber(kpis?.[name]));
    return { reason: (missing && kpis?.reasons?.[missing]) ?? "no data" };
  }
  const running = a;
  const ideal = a * e;
  const good = a * e * q;
  return [
    { name: "planned", from: 0, to: 1 },
    { name: "loss_availability", from: running, to: 1 },
    { name: "loss_effectiveness", from: ideal, to: running },
    { name: "loss_quality", from: good, to: ideal },
    { name: "oee", from: 0, to: good },
  ];
};

export type ParetoBar = { name: string; s: number; count?: number; cumulative: number };

/** Longest first, with the share that the bars so far make of all. */
export const pareto = (rows: readonly { name: string; s: number; count?: number }[], most = 10): ParetoBar[] => {
  const sorted = rows.filter((row) => row.s > 0).sort((a, b) => b.s - a.s);
  const total = sorted.reduce((sum, row) => sum + row.s, 0);
  let sum = 0;
  return sorted.slice(0, most).map((row) => {
    sum += row.s;
    return { ...row, cumulative: total > 0 ? sum / total : 0 };
  });
};

/** Reasons of downtime where the node tells them, else the states in which nothing was made. */
export const losses = (twin: PartialTwin | undefined): { byReason: boolean; bars: ParetoBar[] } => {
  const told = twin?.state?.downtime;
  if (told) return { byReason: true, bars: pareto(told.map(({ reason, s, count }) => ({ name: reason, s, count }))) };
  const times = twin?.state?.time_in_state_s ?? twin?.state?.time_in_state_today_s ?? {};
  const rows = Object.entries(times).filter(([name]) => name !== "producing").map(([name, s]) => ({ name, s }));
  return { byReason: false, bars: pareto(rows) };
};

// The words of MTConnect; the seven of gemba stand for themselves, and the plant model may name others.
const WORDS: Record<string, Execution> = {
  active: "producing", ready: "idle", wait: "idle", stopped: "stopped", interrupted: "stopped", feed_hold: "stopped",
  optional_stop: "stopped", program_stopped: "stopped", program_completed: "idle", unavailable: "unknown",
};

export const meaning = (word: string, own: Record<string, string> = {}): Execution => {
  const lower = word.toLowerCase();
  const named = Object.entries(own).find(([name]) => name.toLowerCase() === lower)?.[1] ?? lower;
  if (EXECUTIONS.includes(named as Execution)) return named as Execution;
  return WORDS[named] ?? "unknown";
};

export type Stretch = { from: number; to: number; state: Execution; word: string };

/** Raw words of a machine as stretches of time. Silence for longer than `staleMs` is a gap. */
export const stretches = (points: readonly HistoryPoint[], own: Record<string, string>, staleMs: number, until: number): Stretch[] => {
  const all: Stretch[] = [];
  let open: (Stretch & { heard: number }) | null = null;
  const end = (at: number) => {
    if (!open) return;
    const to = Math.min(at, open.heard + staleMs);
    if (to > open.from) all.push({ from: open.from, to, state: open.state, word: open.word });
    open = null;
  };
  for (const point of points) {
    const at = millis(point.time);
    if (at === null || point.text === undefined) continue;
    if (open && open.word === point.text && at - open.heard <= staleMs) {
      open.heard = at;
      continue;
    }
    end(at);
    open = { from: at, to: at, heard: at, word: point.text, state: meaning(point.text, own) };
  }
  end(until);
  return all;
};

/** What of stretches lies behind a time. */
export const within = (all: readonly Stretch[], from: number): Stretch[] =>
  all.filter((stretch) => stretch.to > from).map((stretch) => (stretch.from < from ? { ...stretch, from } : stretch));

export const machineOf = (model: PlantModel | undefined, id: string) => model?.machines?.find((machine) => machine.id === id);

/** `30s`, `5m`, `1h` of the plant model in milliseconds. */
export const spanMs = (text: string | undefined): number | null => {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text ?? "");
  if (!match) return null;
  return Number(match[1]) * { ms: 1, s: 1e3, m: 6e4, h: 3.6e6, d: 8.64e7 }[match[2] as "ms" | "s" | "m" | "h" | "d"];
};
