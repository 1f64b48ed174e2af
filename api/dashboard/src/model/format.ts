// Numbers, spans and times as people read them. What is not there is a dash, never a zero.
import { t } from "../words";

const DASH = t("common.absent");

export const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);

const formats = new Map<number, Intl.NumberFormat>();
export const number = (value: unknown, digits = 0): string => {
  if (!isNumber(value)) return DASH;
  let format = formats.get(digits);
  if (!format) {
    format = new Intl.NumberFormat("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
    formats.set(digits, format);
  }
  return format.format(value);
};

const rounded = [0, 1, 2, 3].map((digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits }));
const atMost = (value: number, digits: number): string => (rounded[digits] ?? rounded[0])?.format(value) ?? DASH;

/** As many digits as a value of this size needs. */
export const reading = (value: unknown): string => {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return value;
  if (!isNumber(value)) return DASH;
  if (Number.isInteger(value)) return number(value);
  const size = Math.abs(value);
  return atMost(value, size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3);
};

export const percent = (value: unknown, digits = 0): string =>
  isNumber(value) ? `${number(value * 100, digits)} %` : DASH;

export const withUnit = (value: unknown, unit?: string): string =>
  isNumber(value) || typeof value === "string" || typeof value === "boolean"
    ? `${reading(value)}${unit ? ` ${unit}` : ""}`
    : DASH;

export const span = (seconds: unknown): string => {
  if (!isNumber(seconds)) return DASH;
  const s = Math.max(0, seconds);
  if (s < 10 && !Number.isInteger(s)) return `${number(s, 1)} s`;
  if (s < 100) return `${Math.round(s)} s`;
  if (s < 5_940) return `${Math.round(s / 60)} min`;
  if (s < 172_800) {
    const hours = Math.floor(s / 3_600);
    const minutes = Math.round((s - hours * 3_600) / 60);
    if (minutes === 60) return `${hours + 1} h`;
    return minutes === 0 ? `${hours} h` : `${hours} h ${minutes} min`;
  }
  return `${number(s / 86_400, s < 864_000 ? 1 : 0)} d`;
};

export const millis = (at: string | number | null | undefined): number | null => {
  if (at === null || at === undefined) return null;
  const ms = typeof at === "number" ? at : Date.parse(at);
  return Number.isFinite(ms) ? ms : null;
};

export const age = (at: string | number | null | undefined, now: number): string => {
  const ms = millis(at);
  return ms === null ? DASH : span(Math.floor(Math.max(0, now - ms) / 1000));
};

export const clock = (at: string | number | null | undefined, zone?: string, seconds = true): string => {
  const ms = millis(at);
  if (ms === null) return DASH;
  return new Intl.DateTimeFormat("en-GB", {
    hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}), ...(zone ? { timeZone: zone } : {}),
  }).format(ms);
};

export const dateTime = (at: string | number | null | undefined, zone?: string): string => {
  const ms = millis(at);
  if (ms === null) return DASH;
  return new Intl.DateTimeFormat("en-GB", {
    day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", ...(zone ? { timeZone: zone } : {}),
  }).format(ms);
};

/** The value of a KPI by what its name says of its unit. */
export const kpi = (name: string, value: unknown): string => {
  if (!isNumber(value)) return typeof value === "string" ? value : DASH;
  if (name.endsWith("_s") || name.includes("_s_")) return span(value);
  if (name.endsWith("_kwh") || name.startsWith("energy_")) return `${reading(value)} kWh`;
  if (name.endsWith("_kw")) return `${number(value, 1)} kW`;
  if (name.endsWith("_per_h")) return `${number(value, 1)} /h`;
  if (FRACTIONS.has(name)) return percent(value, 1);
  return reading(value);
};

const FRACTIONS = new Set([
  "utilization", "availability", "effectiveness", "quality_ratio", "oee", "nee", "utilization_efficiency",
  "allocation_efficiency", "technical_efficiency", "setup_rate", "idle_energy_share",
]);
