// A metric's history made ready for drawing: which step fits a window, and gaps where nothing was said. Pure.
import type { AlignedData } from "uplot";
import type { HistoryPoint } from "../api/shapes";
import { isNumber, millis } from "./format";

export type Step = "raw" | "1m" | "5m" | "1h" | "1d";
export const STEP_MS: Record<Step, number> = { raw: 0, "1m": 60_000, "5m": 300_000, "1h": 3_600_000, "1d": 86_400_000 };

/** The finest step that gives a window some hundred points, not thousands. */
export const stepFor = (windowMs: number): Step => {
  if (windowMs <= 20 * 60_000) return "raw";
  if (windowMs <= 12 * 3_600_000) return "1m";
  if (windowMs <= 3 * 86_400_000) return "5m";
  if (windowMs <= 45 * 86_400_000) return "1h";
  return "1d";
};

export const WINDOWS: readonly { key: string; label: string; ms: number }[] = [
  { key: "15m", label: "15 min", ms: 15 * 60_000 },
  { key: "1h", label: "1 h", ms: 3_600_000 },
  { key: "8h", label: "8 h", ms: 8 * 3_600_000 },
  { key: "24h", label: "24 h", ms: 86_400_000 },
  { key: "7d", label: "7 d", ms: 7 * 86_400_000 },
  { key: "30d", label: "30 d", ms: 30 * 86_400_000 },
  { key: "180d", label: "6 months", ms: 180 * 86_400_000 },
];

export type Drawn = {
  /** Seconds since 1970, as uPlot wants them. */
  time: number[];
  mid: (number | null)[];
  low: (number | null)[];
  high: (number | null)[];
  corrected: boolean[];
  gaps: number;
};

/** Whether a metric counts up, so that its growth is what says something. */
export const counts = (metric: string): boolean => /_(count|total|kwh)$/.test(metric);

export const drawn = (points: readonly HistoryPoint[], step: Step, growth: boolean): Drawn => {
  const result: Drawn = { time: [], mid: [], low: [], high: [], corrected: [], gaps: 0 };
  const sorted = points
    .map((point) => ({ point, at: millis(point.time) }))
    .filter((row): row is { point: HistoryPoint; at: number } => row.at !== null)
    .sort((a, b) => a.at - b.at);
  // Raw values come when they come: what is ten times the usual distance is a gap.
  const distances = sorted.slice(1).map((row, index) => row.at - (sorted[index]?.at ?? row.at)).sort((a, b) => a - b);
  const usual = step === "raw" ? (distances[Math.floor(distances.length / 2)] ?? 0) * 10 : STEP_MS[step] * 1.5;
  let before: number | null = null;
  for (const { point, at } of sorted) {
    const mid = growth ? point.increase : (point.time_weighted_avg ?? point.avg ?? point.last);
    if (before !== null && usual > 0 && at - before > usual) {
      result.time.push((before + (step === "raw" ? 1 : STEP_MS[step])) / 1000);
      result.mid.push(null);
      result.low.push(null);
      result.high.push(null);
      result.corrected.push(false);
      result.gaps += 1;
    }
    before = at;
    result.time.push(at / 1000);
    result.mid.push(isNumber(mid) ? mid : null);
    result.low.push(growth ? null : (point.min ?? null));
    result.high.push(growth ? null : (point.max ?? null));
    result.corrected.push(point.corrected === true);
  }
  return result;
};

export type Forecast = { time: number[]; value: (number | null)[]; low: (number | null)[]; high: (number | null)[] };

/** All series on one time axis, as uPlot wants them. */
export const aligned = (series: Drawn, forecast: Forecast | null | undefined): AlignedData => {
  const known = series.time.length;
  const ahead = forecast?.time.filter((time) => time > (series.time[known - 1] ?? 0)) ?? [];
  const skip = (forecast?.time.length ?? 0) - ahead.length;
  const fill = <T,>(values: readonly T[]): (T | null)[] => [...values, ...ahead.map(() => null)];
  const later = (values: readonly (number | null)[] | undefined): (number | null)[] => [...series.time.map(() => null), ...(values ?? []).slice(skip)];
  const marks = series.mid.map((value, index) => (series.corrected[index] ? value : null));
  return [
    [...series.time, ...ahead], fill(series.low), fill(series.high), fill(series.mid), fill(marks),
    later(forecast?.low), later(forecast?.high), later(forecast?.value),
  ];
};
