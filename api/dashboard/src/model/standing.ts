// How the history and the cluster stand, in few lines. Pure.
import type { Checkpoint, Cluster } from "../api/shapes";

export type Standing = {
  destination: Checkpoint["destination"];
  stream: Checkpoint["stream"];
  /** Of all its shards, the one that needs a person most. */
  state: Checkpoint["state"];
  shards: number;
  lag_events: number;
  /** The age of the oldest event that is not there; null where nothing waits. */
  lag_s: number | null;
  committed_at: string | null;
  dead_letters: number;
  missing: number;
  last_error: string | null;
};

/** From what needs a person to what does not. */
const WORST = ["refused", "ahead", "fenced", "retrying", "waiting", "starting", "running", "standby"] as const;
const worse = (one: Checkpoint["state"], other: Checkpoint["state"]): Checkpoint["state"] => (WORST.indexOf(one) <= WORST.indexOf(other) ? one : other);
const most = <T extends number | string>(one: T | null, other: T | null): T | null => (one === null ? other : other === null || one > other ? one : other);

/** One line for each destination and stream, whatever the number of shards; those that other nodes send only where there are no others. */
export const standings = (items: readonly Checkpoint[]): Standing[] => {
  const found = new Map<string, Standing>();
  const keyOf = (item: Checkpoint): string => `${item.destination} ${item.stream}`;
  const sent = new Set(items.filter((item) => item.state !== "standby").map(keyOf));
  for (const item of items) {
    const key = keyOf(item);
    if (item.state === "standby" && sent.has(key)) continue;
    const was = found.get(key);
    found.set(key, {
      destination: item.destination,
      stream: item.stream,
      state: was ? worse(was.state, item.state) : item.state,
      shards: (was?.shards ?? 0) + 1,
      lag_events: (was?.lag_events ?? 0) + item.lag_events,
      lag_s: most(was?.lag_s ?? null, item.lag_s),
      committed_at: most(was?.committed_at ?? null, item.committed_at),
      dead_letters: (was?.dead_letters ?? 0) + item.dead_letters,
      missing: (was?.missing ?? 0) + item.missing.length,
      last_error: was?.last_error ?? item.last_error,
    });
  }
  return [...found.values()];
};

/** Shards without an owner, or with a copy behind the owner's or on another node than it should be. */
export const unsettled = (cluster: Cluster): number =>
  cluster.shards.filter(({ owner, lag, members, wanted }) => owner === null || lag > 0 || members.length < wanted.length || wanted.some((node) => !members.includes(node))).length;
