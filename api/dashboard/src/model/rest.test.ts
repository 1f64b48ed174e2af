import { describe, expect, it } from "vitest";
import { layOut } from "../draw/Flow";
import { csv } from "../parts/save";
import { air } from "./air";
import { flow, flowOf, stays } from "./flow";
import { age, kpi, number, percent, reading, span } from "./format";
import { addsUp, rates, unknownDevices, withSensor } from "./ingest";
import { bottleneckOf, jobFilter } from "./jobs";
import { broken, worstFirst } from "./quality";
import { aligned, drawn, stepFor } from "./series";

const visit = (location: string, dwell_s = 10, left = true) => ({ location, entered_at: "2026-11-27T10:00:00Z", dwell_s, ...(left ? { left_at: "2026-11-27T10:00:10Z" } : {}) });

describe("figures as people read them", () => {
  it.each([[undefined, "–"], [null, "–"], [NaN, "–"], [0, "0 s"], [59, "59 s"], [150, "3 min"], [7_200, "2 h"], [9_000, "2 h 30 min"], [259_200, "3.0 d"]])("%s seconds are %s", (s, wanted) => {
    expect(span(s)).toBe(wanted);
  });
  it("shows what is absent as a dash, never as zero", () => {
    expect([number(null), percent(undefined), reading(undefined), kpi("oee", null), age(null, 0)]).toEqual(["–", "–", "–", "–", "–"]);
  });
  it("reads the unit of a KPI from its name", () => {
    expect([kpi("oee", 0.8123), kpi("mttr_s", 90), kpi("energy_kwh", 12.5), kpi("parts", 1200)]).toEqual(["81.2 %", "90 s", "12.5 kWh", "1,200"]);
  });
});

describe("the flow of jobs", () => {
  const paths = [["in", "turn", "mill", "out"], ["in", "turn", "mill", "turn", "mill", "out"], ["in", "turn"]].map((path) => path.map((place) => visit(place)));
  it("tells moves back apart, so that the drawing has no circle", () => {
    const moves = flow(paths);
    expect(moves.nodes).toEqual(["in", "turn", "mill", "out"]);
    expect(moves.forward.map((move) => [move.from, move.to, move.count])).toEqual([["in", "turn", 3], ["turn", "mill", 3], ["mill", "out", 2]]);
    expect(moves.back).toEqual([{ from: "mill", to: "turn", count: 1 }]);
  });
  it("is the same of moves that the node counted, circles told apart", () => {
    const moves = flowOf([{ from: null, to: "in", count: 9 }, { from: "in", to: "turn", count: 3 }, { from: "turn", to: "mill", count: 3 }, { from: "mill", to: "turn", count: 1 }, { from: "mill", to: "out", count: 2 }]);
    expect(moves.nodes).toEqual(["in", "turn", "mill", "out"]);
    expect(moves.back).toEqual([{ from: "mill", to: "turn", count: 1 }]);
  });
  it("can be laid out, widths by the number of moves", () => {
    const layout = layOut(flow(paths), 600, 300);
    const widths = layout?.links.map((link) => link.width ?? 0) ?? [];
    expect(layout?.nodes.map((node) => node.id)).toEqual(["in", "turn", "mill", "out"]);
    expect((widths[0] ?? 0) / (widths[2] ?? 1)).toBeCloseTo(1.5);
  });
  it("means stays that have ended, the longest first", () => {
    expect(stays([[visit("a", 10), visit("b", 40), visit("a", 1000, false)], [visit("a", 20)]])).toEqual([
      { location: "b", mean_s: 40, visits: 1 }, { location: "a", mean_s: 15, visits: 2 },
    ]);
  });
  it("reads a bottleneck in both shapes", () => {
    expect(bottleneckOf({ kpis: { bottleneck: "cell-2", bottleneck_dwell_s: 5 } })).toEqual({ location: "cell-2", dwell_s: 5 });
    expect(bottleneckOf({ state: { bottleneck: { location: "cell-3", dwell_s: 7 } } })).toEqual({ location: "cell-3", dwell_s: 7 });
  });
  it("quotes what was typed", () => {
    expect(jobFilter('a"b', "completed")).toContain('id.contains("a\\"b")');
    expect(jobFilter(" ", "all")).toBe("");
  });
});

describe("a metric over time", () => {
  const point = (minute: number, avg: number, corrected = false) => ({ time: new Date(minute * 60_000).toISOString(), metric: "kw", count: 1, avg, min: avg - 1, max: avg + 1, increase: 2, corrected });
  it.each([[15 * 60_000, "raw"], [3_600_000, "1m"], [86_400_000, "5m"], [7 * 86_400_000, "1h"], [180 * 86_400_000, "1d"]])("takes for %d ms the step %s", (ms, step) => {
    expect(stepFor(ms)).toBe(step);
  });
  it("keeps a gap a gap and marks what late data corrected", () => {
    const series = drawn([point(0, 5), point(1, 6, true), point(9, 7)], "1m", false);
    expect(series.mid).toEqual([5, 6, null, 7]);
    expect(series.corrected).toEqual([false, true, false, false]);
    expect(series.gaps).toBe(1);
  });
  it("shows of a counter how much it grew", () => {
    expect(drawn([point(0, 5)], "1m", true)).toMatchObject({ mid: [2], low: [null], high: [null] });
  });
  it("puts the forecast behind what is known, on one axis", () => {
    const series = drawn([point(0, 5), point(1, 6)], "1m", false);
    const data = aligned(series, { time: [60, 120, 180], value: [6, 7, 8], low: [5, 6, 7], high: [7, 8, 9] });
    expect(data[0]).toEqual([0, 60, 120, 180]);
    expect(data[3]).toEqual([5, 6, null, null]);
    expect(data[7]).toEqual([null, null, 7, 8]);
  });
});

describe("ingest", () => {
  const counts = { source: "mqtt", received: 10, applied: 7, duplicate: 1, late: 1, rejected: 1, in_flight: 0, since: "t" };
  it("checks that the counts add up", () => {
    expect([addsUp(counts), addsUp({ ...counts, received: 11 })]).toEqual([true, false]);
  });
  it("makes rates of two looks, and counts from nothing after a restart", () => {
    expect(rates([counts], [{ ...counts, received: 30 }], 2)).toEqual({ mqtt: 10 });
    expect(rates([counts], [{ ...counts, received: 4, since: "later" }], 2)).toEqual({ mqtt: 2 });
  });
  it("finds devices that nobody named, whether kept aside or registered", () => {
    const rejected = { id: "1", at: "", source: "http", topic: "", code: "reading.sensor_unknown", detail: "", truncated: false, payload: '{"sensor_id":"new-1"}' };
    const model = { machines: [{ id: "cnc-01" }], sensors: [{ id: "meter", feeds: "machine/cnc-01" }] };
    expect(unknownDevices([rejected, rejected, { ...rejected, code: "reading.metrics_empty" }], ["machine/cnc-01", "machine/stray"], model)).toEqual([
      { id: "new-1", messages: 2 }, { id: "stray", messages: 0, twin: "machine/stray" },
    ]);
  });
  it("adds a sensor to the model once", () => {
    const text = withSensor({ sensors: [{ id: "a", feeds: "machine/x" }] }, { id: "a", feeds: "machine/y" });
    expect(JSON.parse(text).sensors).toEqual([{ id: "a", feeds: "machine/y" }]);
  });
});

it("reads the air in both shapes, and says nothing of a place that measures none", () => {
  expect(air({ state: { air_quality: "unknown", metrics: {} } })).toBeNull();
  expect(air({ state: { air_quality: "moderate", air_quality_reason: "CO2", metrics: { co2_ppm: { value: 1, at: "" } } } })).toEqual({ category: "moderate", why: "CO2" });
  expect(air({ state: { air: { category: "good", why: "all below their limits", aqi: 3 } } })).toMatchObject({ category: "good", aqi: 3 });
});

it("writes CSV that a spreadsheet reads and does not execute", () => {
  expect(csv({ columns: ["a", "b"], rows: [['say "x"', null], ["=1+1", -2.5]] })).toBe('a,b\r\n"say ""x""",\r\n\'=1+1,-2.5\r\n');
});

it("puts the sensor first that keeps least to its contract, and one without a score last", () => {
  const sensor = (id: string, score: number | null, violations: Record<string, number> = {}) => ({ sensor: id, twin: "machine/a", score, completeness: null, freshness_s: 1, last_at: "", since: "", readings: 1, schema: [], violations });
  const sorted = worstFirst([sensor("fresh", null), sensor("fine", 1), sensor("bad", 0.4, { range: 2, type: 1 }), sensor("slow", 1, { rate: 1 })]);
  expect(sorted.map((one) => [one.sensor, broken(one)])).toEqual([["bad", 3], ["slow", 1], ["fine", 0], ["fresh", 0]]);
});
