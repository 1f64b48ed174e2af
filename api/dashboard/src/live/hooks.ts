// What the views ask: the twins of a kind, how they stand to each other, or one twin, now or as they were.
import { useEffect, useMemo, useRef } from "react";
import type { Kind, PartialTwin } from "../api/shapes";
import { useAppSelector, socket } from "../app/store";
import { useAt } from "../app/time";
import { nameOf } from "../model/machine";
import type { Told } from "./twins";
import type { Wanted } from "./socket";

const NONE: Told = {};

const WANTED: Record<Kind, Wanted> = {
  machine: {
    filter: "kind == 'machine'",
    rateHz: 2,
    fields: [
      "attributes", "updated_at", "alarms", "kpis.oee", "kpis.availability", "kpis.effectiveness", "kpis.quality_ratio",
      "kpis.good_parts", "kpis.energy_kwh", "state.quality", "state.execution", "state.execution_since", "state.removed",
    ],
  },
  location: {
    filter: "kind == 'location'",
    rateHz: 2,
    fields: [
      "attributes", "updated_at", "alarms", "kpis", "state.quality", "state.air_quality", "state.air_quality_reason",
      "state.air", "state.machines", "state.metrics", "state.removed",
    ],
  },
  job: {
    filter: "kind == 'job' && state.status == 'in_progress'",
    rateHz: 1,
    fields: [
      "attributes", "updated_at", "kpis", "state.status", "state.product_id", "state.product_variant", "state.location",
      "state.location_since", "state.started_at", "state.completed_at", "state.flow_path",
    ],
  },
};

const useWanted = (id: string, wanted: Wanted | null): void => {
  useEffect(() => {
    if (!wanted) return undefined;
    socket.want(id, wanted);
    return () => socket.release(id);
  }, [id, wanted === null]);
};

export type Twins = { told: Told; ready: boolean };

/** Twins of a kind as `part` of what is told keeps them, or as they were. */
const useKind = (kind: Kind, part: "told" | "layout"): Twins => {
  const at = useAt();
  useWanted(kind, WANTED[kind]);
  const told = useAppSelector((state) => state.twins[part][kind]);
  const live = useAppSelector((state) => state.twins.live[kind] ?? false);
  const past = useAppSelector((state) => (at === null ? null : state.past.told[kind]));
  const pastReady = useAppSelector((state) => at === null || (state.past.at === at && !state.past.loading));
  return useMemo(
    () => (at === null ? { told: told ?? NONE, ready: live || told !== undefined } : { told: past ?? NONE, ready: pastReady }),
    [at, told, live, past, pastReady],
  );
};

/** All twins of a kind (jobs: those in progress) by address; whoever asks is drawn again at each change of any. */
export const useTwins = (kind: Kind): Twins => useKind(kind, "told");

/** The same, but told anew only when twins come or go, or are given another name or place. */
export const useLayout = (kind: Kind): Twins => useKind(kind, "layout");

/**
 * One twin as the subscription to its kind tells it; somebody has to hold that one. While `awake` is false, it stays as it
 * was last seen until `turn` changes: what is out of sight need not follow each reading.
 */
export const useListed = (kind: Kind, id: string, awake = true, turn: unknown = null): PartialTwin | undefined => {
  const at = useAt();
  const name = `${kind}/${id}`;
  const last = useRef<{ twin: PartialTwin | undefined; name: string; turn: unknown; at: string | null } | null>(null);
  const twin = useAppSelector((state) => {
    const known = last.current;
    if (!awake && known && known.name === name && known.turn === turn && known.at === at) return known.twin;
    return (at === null ? state.twins.told[kind] : state.past.told[kind])?.[name]?.value;
  });
  useEffect(() => {
    last.current = { twin, name, turn, at };
  });
  return twin;
};

/** The names of locations by their ids. */
export const useLocationNames = (): ((id: string) => string) => {
  const { told } = useLayout("location");
  return useMemo(() => (id: string) => nameOf(told[`location/${id}`]?.value, id), [told]);
};

/** One twin with everything it has. */
export const useTwin = (kind: Kind, id: string): { twin: PartialTwin | undefined; ready: boolean } => {
  const at = useAt();
  const name = `${kind}/${id}`;
  const key = `one:${name}`;
  const wanted = useMemo<Wanted>(() => ({ filter: `kind == '${kind}' && id == ${JSON.stringify(id)}`, rateHz: 4 }), [kind, id]);
  useWanted(key, wanted);
  const told = useAppSelector((state) => state.twins.told[key]);
  const live = useAppSelector((state) => state.twins.live[key] ?? false);
  const past = useAppSelector((state) => (at === null ? undefined : state.past.told[kind]?.[name]));
  const pastReady = useAppSelector((state) => at === null || (state.past.at === at && !state.past.loading));
  return at === null ? { twin: told?.[name]?.value, ready: live } : { twin: past?.value, ready: pastReady };
};
