// What the views ask: the twins of a kind, or one twin, now or as they were.
import { useEffect, useMemo } from "react";
import type { Kind, PartialTwin } from "../api/shapes";
import { useAppSelector, socket } from "../app/store";
import { useAt } from "../app/time";
import type { Told } from "./twins";
import type { Wanted } from "./socket";

const NONE: Told = {};

const WANTED: Record<Kind, Wanted> = {
  machine: {
    filter: "kind == 'machine'",
    rateHz: 2,
    fields: [
      "attributes", "updated_at", "alarms", "kpis", "state.quality", "state.execution", "state.execution_since",
      "state.since", "state.shift", "state.anomalies", "state.removed",
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

/** All twins of a kind (jobs: those in progress) by address. */
export const useTwins = (kind: Kind): Twins => {
  const at = useAt();
  useWanted(kind, WANTED[kind]);
  const told = useAppSelector((state) => state.twins.told[kind]);
  const live = useAppSelector((state) => state.twins.live[kind] ?? false);
  const past = useAppSelector((state) => (at === null ? null : state.past.told[kind]));
  const pastReady = useAppSelector((state) => at === null || (state.past.at === at && !state.past.loading));
  return useMemo(
    () => (at === null ? { told: told ?? NONE, ready: live || told !== undefined } : { told: past ?? NONE, ready: pastReady }),
    [at, told, live, past, pastReady],
  );
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
