import { describe, expect, it } from "vitest";
import { losses, meaning, pareto, spanMs, stretches, waterfall, within } from "./machine";

describe("the OEE waterfall", () => {
  // ISO 22400-2: OEE = availability × effectiveness × quality ratio.
  it("takes from the planned time what each factor takes", () => {
    const steps = waterfall({ availability: 0.9, effectiveness: 0.8, quality_ratio: 0.95 });
    if (!Array.isArray(steps)) throw new Error(steps.reason);
    expect(steps.map((step) => [step.name, Number(step.from.toFixed(4)), Number(step.to.toFixed(4))])).toEqual([
      ["planned", 0, 1], ["loss_availability", 0.9, 1], ["loss_effectiveness", 0.72, 0.9], ["loss_quality", 0.684, 0.72], ["oee", 0, 0.684],
    ]);
  });

  it("says why it cannot be said, and draws no zero", () => {
    expect(waterfall({ availability: 0.9, effectiveness: null, quality_ratio: null, reasons: { effectiveness: "no ideal cycle" } })).toEqual({ reason: "no ideal cycle" });
    expect(waterfall(undefined)).toEqual({ reason: "no data" });
  });
});

describe("the Pareto of losses", () => {
  it("stands longest first, with the share so far", () => {
    const bars = pareto([{ name: "tool", s: 20 }, { name: "jam", s: 60 }, { name: "none", s: 0 }, { name: "material", s: 20 }]);
    expect(bars.map((bar) => [bar.name, bar.cumulative])).toEqual([["jam", 0.6], ["tool", 0.8], ["material", 1]]);
  });

  it("is of reasons where the node tells them, else of states but producing", () => {
    expect(losses({ state: { downtime: [{ reason: "jam", s: 5, count: 2 }] } })).toMatchObject({ byReason: true, bars: [{ name: "jam", count: 2 }] });
    expect(losses({ state: { time_in_state_today_s: { producing: 900, setup: 30 } } })).toMatchObject({ byReason: false, bars: [{ name: "setup", s: 30 }] });
  });
});

describe("a machine's words as stretches of time", () => {
  const at = (s: number, text: string) => ({ time: new Date(s * 1000).toISOString(), metric: "execution", text });

  it("joins what repeats and leaves silence open", () => {
    const drawn = stretches([at(0, "RUN"), at(10, "RUN"), at(20, "ALARM"), at(100, "RUN")], { RUN: "producing", ALARM: "down" }, 30_000, 110_000);
    expect(drawn.map(({ from, to, state }) => [from / 1000, to / 1000, state])).toEqual([[0, 20, "producing"], [20, 50, "down"], [100, 110, "producing"]]);
  });

  it("begins with what held before, cut at the beginning", () => {
    const drawn = stretches([at(0, "RUN"), at(40, "ALARM")], { RUN: "producing", ALARM: "down" }, 30_000, 60_000);
    expect(within(drawn, 20_000).map(({ from, to, state }) => [from / 1000, to / 1000, state])).toEqual([[20, 30, "producing"], [40, 60, "down"]]);
    expect(within(drawn, 30_000)).toHaveLength(1);
  });

  it.each([["ACTIVE", "producing"], ["producing", "producing"], ["INTERRUPTED", "stopped"], ["gibberish", "unknown"]])("%s means %s", (word, wanted) => {
    expect(meaning(word)).toBe(wanted);
  });

  it.each([["30s", 30_000], ["5m", 300_000], ["62ms", 62], ["", null]])("reads %j as a span", (text, wanted) => {
    expect(spanMs(text)).toBe(wanted);
  });
});
