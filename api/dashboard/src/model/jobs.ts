// What a job's twin says, in the older and the newer shape. Pure.
import type { PartialTwin, Visit } from "../api/shapes";

export const visitsOf = (twin: PartialTwin | undefined): Visit[] => {
  const told = twin?.state?.flow_path ?? (twin?.state?.path as Visit[] | undefined);
  return Array.isArray(told) ? told : [];
};

export const bottleneckOf = (twin: PartialTwin | undefined): { location: string; dwell_s: number | null } | null => {
  const told = (twin?.state?.bottleneck ?? twin?.kpis?.bottleneck) as { location?: string; dwell_s?: number } | string | null | undefined;
  if (!told) return null;
  if (typeof told === "string") return { location: told, dwell_s: twin?.kpis?.bottleneck_dwell_s ?? null };
  return told.location ? { location: told.location, dwell_s: told.dwell_s ?? null } : null;
};

export const estimateOf = (twin: PartialTwin | undefined): string | null => {
  const told = (twin?.state?.estimated_completion ?? twin?.kpis?.estimated_completion) as string | { at?: string } | null | undefined;
  if (!told) return null;
  return typeof told === "string" ? told : (told.at ?? null);
};

/** The CEL filter of what somebody typed, within jobs of a status. */
export const jobFilter = (text: string, status: "in_progress" | "completed" | "all"): string => {
  const parts = status === "all" ? [] : [`state.status == "${status}"`];
  const word = text.trim();
  if (word !== "") {
    const quoted = JSON.stringify(word);
    parts.push(`(id.contains(${quoted}) || (has(state.product_id) && state.product_id.contains(${quoted})) || (has(state.location) && state.location == ${quoted}))`);
  }
  return parts.join(" && ");
};
