// What a location's twin says of its air, in the older and the newer shape. Pure.
import type { PartialTwin } from "../api/shapes";

export type AirProfile = { profile: string; level: string; metric?: string; source?: string };
export type Air = {
  category: "good" | "moderate" | "poor" | "unknown";
  why?: string;
  aqi?: number;
  aqi_category?: string;
  nowcast_pm25_ugm3?: number;
  nowcast_pm10_ugm3?: number;
  profiles?: AirProfile[];
};

const CATEGORIES = ["good", "moderate", "poor", "unknown"] as const;

/** What is measured of the air, and nothing of a place that measures none. */
export const AIR_METRICS = ["co2_ppm", "pm25_ugm3", "pm10_ugm3", "voc_index", "temperature_c", "humidity_pct"];

export const measuresAir = (twin: PartialTwin | undefined): boolean =>
  AIR_METRICS.some((name) => twin?.state?.metrics?.[name] !== undefined);

export const air = (twin: PartialTwin | undefined): Air | null => {
  const told = twin?.state?.air as Air | undefined;
  if (told && typeof told === "object") return told;
  const word = twin?.state?.air_quality;
  if (word === undefined || !measuresAir(twin)) return null;
  const category = CATEGORIES.find((known) => known === word) ?? "unknown";
  const why = twin?.state?.air_quality_reason;
  return { category, ...(why ? { why } : {}) };
};
