// The plant's hierarchy with its twins in it, and what in it needs a person. Pure.
import type { PartialTwin, PlantModel } from "../api/shapes";
import type { Told } from "../live/twins";
import { byId, isNumber, millis } from "./format";
import { execution, executionSince, locationOf, nameOf } from "./machine";
import { air } from "./air";

export type Place = {
  id: string;
  name: string;
  type: string;
  machines: string[];
  places: Place[];
};

export const idOf = (address: string): string => address.slice(address.indexOf("/") + 1);

/** The places of the model in their order, each with the machines that say they stand there; others come last. */
export const floor = (model: PlantModel | undefined, machines: Told, locations: Told): Place[] => {
  const places = new Map<string, Place>();
  const place = (id: string, type: string, name?: string): Place => {
    const known = places.get(id);
    if (known) return known;
    const made = { id, type, name: name ?? nameOf(locations[`location/${id}`]?.value, id), machines: [], places: [] };
    places.set(id, made);
    return made;
  };
  const roots: Place[] = [];
  for (const { id, type, name } of model?.locations ?? []) place(id, type ?? "cell", name);
  for (const { id, parent } of model?.locations ?? []) {
    const here = places.get(id);
    const above = parent === undefined ? undefined : places.get(parent);
    if (!here) continue;
    if (above && above !== here) above.places.push(here);
    else roots.push(here);
  }
  const site = model?.site?.id;
  for (const address of Object.keys(locations).sort(byId)) {
    const id = idOf(address);
    if (id === site || places.has(id) || locations[address]?.value.state?.removed) continue;
    roots.push(place(id, "cell"));
  }
  const homeless: string[] = [];
  for (const address of Object.keys(machines).sort(byId)) {
    const twin = machines[address]?.value;
    if (twin?.state?.removed) continue;
    const home = locationOf(twin);
    const found = home === undefined ? undefined : places.get(home);
    if (found) found.machines.push(idOf(address));
    else homeless.push(idOf(address));
  }
  if (homeless.length > 0) roots.push({ id: "", name: "", type: "cell", machines: homeless, places: [] });
  return roots;
};

export type Need = {
  key: string;
  rank: number;
  what: "down" | "stopped" | "stale" | "alarm" | "air" | "rejected";
  name: string;
  count?: number;
  since: number | null;
  detail?: string;
  link: string;
};

const SEVERITY: Record<string, number> = { urgent: 0, high: 1, medium: 3, low: 4 };

/** What needs a person, the most pressing first, the longest-standing before the newer. */
export const needs = (machines: Told, locations: Told, now: number, rejected: { count: number; since: number | null } | null = null): Need[] => {
  const all: Need[] = [];
  if (rejected && rejected.count > 0) all.push({ key: "rejected", rank: 6, what: "rejected", name: "", count: rejected.count, since: rejected.since, link: "/health" });
  const look = (address: string, twin: PartialTwin, link: string) => {
    const unacknowledged = twin.alarms?.unacknowledged ?? 0;
    if (unacknowledged > 0) {
      all.push({
        key: `${address}:alarm`, rank: SEVERITY[twin.alarms?.highest_severity ?? ""] ?? 3, what: "alarm",
        name: nameOf(twin, idOf(address)), count: unacknowledged, since: null, link: `/alarms?twin=${encodeURIComponent(address)}`,
      });
    }
    if (twin.state?.quality === "stale") {
      all.push({
        key: `${address}:stale`, rank: 5, what: "stale", name: nameOf(twin, idOf(address)), since: millis(twin.updated_at), link,
      });
    }
  };
  for (const [address, { value }] of Object.entries(machines)) {
    if (value.state?.removed) continue;
    const id = idOf(address);
    const link = `/machines/${id}`;
    look(address, value, link);
    const since = millis(executionSince(value));
    if (execution(value) === "down") all.push({ key: `${address}:down`, rank: 2, what: "down", name: nameOf(value, id), since, link });
    // A short stop is part of the work; one that lasts is not.
    if (execution(value) === "stopped" && since !== null && now - since > 5 * 60_000) {
      all.push({ key: `${address}:stopped`, rank: 4, what: "stopped", name: nameOf(value, id), since, link });
    }
  }
  for (const [address, { value }] of Object.entries(locations)) {
    if (value.state?.removed) continue;
    look(address, value, "/air");
    const here = air(value);
    if (here?.category === "poor") {
      all.push({
        key: `${address}:air`, rank: 3, what: "air", name: nameOf(value, idOf(address)), since: null, link: "/air",
        ...(here.why ? { detail: here.why } : {}),
      });
    }
  }
  return all.sort((a, b) => a.rank - b.rank || (a.since ?? now) - (b.since ?? now) || byId(a.name, b.name));
};

export const countStates = (machines: Told): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const { value } of Object.values(machines)) {
    if (value.state?.removed) continue;
    const state = execution(value);
    counts[state] = (counts[state] ?? 0) + 1;
  }
  return counts;
};

/** The sum over those who know it; null where nobody does. */
export const sumOf = (twins: Told, kpi: string): number | null => {
  let sum: number | null = null;
  for (const { value } of Object.values(twins)) {
    const one = value.kpis?.[kpi];
    if (isNumber(one) && !value.state?.removed) sum = (sum ?? 0) + one;
  }
  return sum;
};
