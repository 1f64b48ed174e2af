import { describe, expect, it } from "vitest";
import type { PartialTwin, PlantModel } from "../api/shapes";
import type { Told } from "../live/twins";
import { countStates, floor, needs, sumOf } from "./floor";

const told = (twins: Record<string, PartialTwin>): Told => Object.fromEntries(Object.entries(twins).map(([name, value]) => [name, { rev: 1, value }]));
const model: PlantModel = {
  site: { id: "works" },
  locations: [{ id: "machining", type: "line" }, { id: "cell-1", type: "cell", parent: "machining" }, { id: "goods-in", type: "area" }],
  machines: [],
};
const NOW = Date.parse("2026-11-27T10:00:00Z");

describe("the floor", () => {
  it("puts machines into their places, places into their lines, and shows what has no place", () => {
    const places = floor(
      model,
      told({ "machine/cnc-2": { attributes: { location: "cell-1" } }, "machine/cnc-10": { attributes: { location: "cell-1" } }, "machine/stray": {} }),
      told({ "location/works": {}, "location/yard": { attributes: { name: "Yard" } } }),
    );
    expect(places.map((place) => [place.name, place.places.map((inner) => inner.id), place.machines])).toEqual([
      ["machining", ["cell-1"], []], ["goods-in", [], []], ["Yard", [], []], ["", [], ["stray"]],
    ]);
    expect(places[0]?.places[0]?.machines).toEqual(["cnc-2", "cnc-10"]);
  });

  it("sums only what is known", () => {
    const twins = told({ a: { kpis: { good_parts: 3 } }, b: { kpis: { good_parts: null } } });
    expect(sumOf(twins, "good_parts")).toBe(3);
    expect(sumOf(twins, "energy_kwh")).toBeNull();
  });

  it("counts a machine without a word as unknown", () => {
    expect(countStates(told({ a: { state: { execution: "down" } }, b: {} }))).toEqual({ down: 1, unknown: 1 });
  });
});

describe("what needs a person", () => {
  it("stands by urgency, then by how long it has", () => {
    const found = needs(
      told({
        "machine/late": { state: { execution: "down", execution_since: "2026-11-27T09:59:00Z" } },
        "machine/early": { state: { execution: "down", execution_since: "2026-11-27T09:00:00Z" } },
        "machine/hot": { alarms: { active: 2, unacknowledged: 2, highest_severity: "urgent" } },
        "machine/silent": { state: { quality: "stale", execution: "unknown" }, updated_at: "2026-11-27T09:50:00Z" },
        "machine/pause": { state: { execution: "stopped", execution_since: "2026-11-27T09:59:30Z" } },
        "machine/fine": { state: { execution: "producing" } },
      }),
      told({ "location/cell-1": { state: { air: { category: "poor", why: "CO2 above 1400 ppm" } } } }),
      NOW,
      { count: 3, since: NOW - 60_000 },
    );
    expect(found.map((need) => [need.name, need.what])).toEqual([["hot", "alarm"], ["early", "down"], ["late", "down"], ["cell-1", "air"], ["silent", "stale"], ["", "rejected"]]);
  });
});
