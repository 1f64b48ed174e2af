import { describe, expect, it } from "vitest";
import type { Checkpoint, Cluster } from "../api/shapes";
import { standings, unsettled } from "./standing";

const checkpoint = (more: Partial<Checkpoint>): Checkpoint => ({
  destination: "snowflake", stream: "readings", table: "SENSOR_READINGS_RAW", channel: "gemba.acme.00000", shard: 0, state: "running", committed_seq: 10, sent_seq: 10,
  newest_seq: 10, lag_events: 0, lag_bytes: 0, lag_s: null, rows_committed: 10, committed_at: null, reopens: {}, dead_letters: 0, missing: [], last_error: null, ...more,
});

describe("how the history stands", () => {
  it("is one line for each destination and stream, with the worst of its shards", () => {
    const lines = standings([
      checkpoint({ destination: "files", stream: "all", lag_events: 3, lag_s: 2.5 }),
      checkpoint({ lag_events: 1, committed_at: "2026-11-27T10:00:00Z" }),
      checkpoint({ shard: 1, state: "fenced", lag_events: 5, lag_s: 8, missing: [[1, 3]], last_error: "another writer" }),
      checkpoint({ shard: 2, state: "retrying", lag_s: 4, committed_at: "2026-11-27T10:00:05Z", dead_letters: 2 }),
    ]);
    expect(lines.map((line) => [line.destination, line.stream, line.shards])).toEqual([["files", "all", 1], ["snowflake", "readings", 3]]);
    expect(lines[1]).toMatchObject({ state: "fenced", lag_events: 6, lag_s: 8, committed_at: "2026-11-27T10:00:05Z", dead_letters: 2, missing: 1, last_error: "another writer" });
  });

  it("leaves to other nodes what they send, and says so where they send all of it", () => {
    const lines = standings([
      checkpoint({ lag_events: 1 }),
      checkpoint({ shard: 1, state: "standby", lag_events: 500 }),
      checkpoint({ stream: "scans", state: "standby", lag_events: 7 }),
    ]);
    expect(lines.map((line) => [line.stream, line.state, line.shards, line.lag_events])).toEqual([["readings", "running", 1, 1], ["scans", "standby", 1, 7]]);
  });
});

describe("the shards of a cluster", () => {
  const shard = { shard: "0", owner: 1, epoch: 1, seq: 9, members: [1, 2, 3], wanted: [1, 2, 3], lag: 0, here: 9 };
  const cluster = (shards: Cluster["shards"]): Cluster => ({ cluster: "acme", node: 1, has_quorum: true, nodes: [], shards });
  it.each([
    ["level", {}, 0], ["without an owner", { owner: null }, 1], ["behind", { lag: 4 }, 1], ["with a copy too few", { members: [1, 2] }, 1], ["with a copy elsewhere", { members: [1, 2, 4] }, 1],
  ])("%s", (_, more, wanted) => expect(unsettled(cluster([{ ...shard, ...more }]))).toBe(wanted));
});
