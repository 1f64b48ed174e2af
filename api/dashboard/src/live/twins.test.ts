import { describe, expect, it } from "vitest";
import type { StreamFrame } from "../api/shapes";
import { connectionLost, framesCame, subscriptionEnded, twinsReducer, type TwinsState } from "./twins";

const begin: StreamFrame[] = [
  { type: "subscribed", id: "machine", twins: 2 },
  { type: "snapshot", id: "machine", twin: "machine/cnc-01", rev: 5, value: { state: { execution: "idle" }, kpis: { oee: 0.5 } } },
  { type: "snapshot", id: "machine", twin: "machine/cnc-02", rev: 9, value: { state: { execution: "producing" } } },
  { type: "live", id: "machine", resume: "t1" },
];
const told = (...rounds: [StreamFrame[], string[]?][]): TwinsState =>
  rounds.reduce((state, [frames, fresh]) => twinsReducer(state, framesCame(frames, fresh ?? [])), twinsReducer(undefined, { type: "@@init" }));
const machines = (state: TwinsState) => state.told.machine ?? {};

describe("what a subscription has told", () => {
  it("begins with snapshots and is live after them", () => {
    const state = told([begin, ["machine"]]);
    expect(Object.keys(machines(state))).toEqual(["machine/cnc-01", "machine/cnc-02"]);
    expect(state.live.machine).toBe(true);
  });

  it("changes one twin and leaves the other the same object, so that it is not drawn again", () => {
    const before = told([begin, ["machine"]]);
    const after = twinsReducer(before, framesCame([{ type: "change", id: "machine", twin: "machine/cnc-01", rev: 6, patch: { state: { execution: "down" } } }], []));
    expect(machines(after)["machine/cnc-01"]).toEqual({ rev: 6, value: { state: { execution: "down" }, kpis: { oee: 0.5 } } });
    expect(machines(after)["machine/cnc-02"]).toBe(machines(before)["machine/cnc-02"]);
    expect(machines(before)["machine/cnc-01"]?.rev).toBe(5);
  });

  it("skips what a resumed subscription is told again", () => {
    const state = told([begin, ["machine"]], [[
      { type: "subscribed", id: "machine", twins: 2 },
      { type: "change", id: "machine", twin: "machine/cnc-01", rev: 5, patch: { state: { execution: "stopped" } } },
    ]]);
    expect(machines(state)["machine/cnc-01"]?.value.state?.execution).toBe("idle");
  });

  it("keeps what it has over a resume, and begins empty without one", () => {
    const resumed = told([begin, ["machine"]], [[{ type: "subscribed", id: "machine", twins: 2 }]]);
    expect(Object.keys(machines(resumed))).toHaveLength(2);
    const anew = told([begin, ["machine"]], [[{ type: "subscribed", id: "machine", twins: 0 }], ["machine"]]);
    expect(machines(anew)).toEqual({});
  });

  it("forgets everything when something was lost, until fresh snapshots come", () => {
    const state = told([begin, ["machine"]], [[
      { type: "lost", id: "machine", count: 3, reason: "too slow" },
      { type: "snapshot", id: "machine", twin: "machine/cnc-02", rev: 12, value: { state: { execution: "setup" } } },
    ]]);
    expect(Object.keys(machines(state))).toEqual(["machine/cnc-02"]);
  });

  it("drops a twin that left, and all of a subscription that ended", () => {
    const left = told([begin, ["machine"]], [[{ type: "leave", id: "machine", twin: "machine/cnc-01" }]]);
    expect(Object.keys(machines(left))).toEqual(["machine/cnc-02"]);
    expect(twinsReducer(left, subscriptionEnded("machine")).told).toEqual({});
  });

  it("is no longer live when the connection is lost, but still knows what it was told", () => {
    const state = twinsReducer(told([begin, ["machine"]]), connectionLost());
    expect(state.live).toEqual({});
    expect(Object.keys(machines(state))).toHaveLength(2);
  });

  it("says why a subscription was refused", () => {
    const state = told([[{ type: "error", id: "machine", code: "filter.invalid", detail: "unknown word" }]]);
    expect(state.refused.machine).toBe("unknown word");
  });

  it("tells apart what a machine does and where it stands, so that readings move no floor", () => {
    const before = told([begin, ["machine"]]);
    expect(before.layout.machine).toBe(before.told.machine);
    const change = (patch: Record<string, unknown>): TwinsState => twinsReducer(before, framesCame([{ type: "change", id: "machine", twin: "machine/cnc-01", rev: 6, patch }], []));
    expect(change({ state: { execution: "down" }, kpis: { oee: 0.4 } }).layout).toBe(before.layout);
    const moved = change({ attributes: { location: "cell-9" } });
    expect(moved.layout.machine?.["machine/cnc-01"]?.value.attributes).toEqual({ location: "cell-9" });
    expect(change({ state: { removed: true } }).layout.machine).not.toBe(before.layout.machine);
    const left = twinsReducer(before, framesCame([{ type: "leave", id: "machine", twin: "machine/cnc-01" }], []));
    expect(Object.keys(left.layout.machine ?? {})).toEqual(["machine/cnc-02"]);
    const lost = twinsReducer(before, framesCame([{ type: "lost", id: "machine", count: 1, reason: "slow" }], []));
    expect(lost.layout.machine).toEqual({});
  });
});
