import { describe, expect, it } from "vitest";
import type { Alarm, AlarmState } from "../api/shapes";
import { may, ordered } from "./alarms";
import { type BoardPanel, boardId, edited, readBoard } from "./board";
import { errorLine, filtersOf } from "./plantText";

const alarm = (id: string, state: AlarmState, priority: Alarm["priority"] = "medium", since = "2026-11-27T10:00:00Z"): Alarm => ({ id, twin: `machine/${id}`, rule: "hot", text: "Hot", state, priority, since, count: 1 });

describe("the alarm list", () => {
  const all = [
    alarm("shelved", "shelved", "urgent"), alarm("acked", "acknowledged_active", "urgent"), alarm("returned", "rtn_unacknowledged", "urgent"),
    alarm("low", "unacknowledged_active", "low"), alarm("new", "unacknowledged_active", "high", "2026-11-27T11:00:00Z"), alarm("old", "unacknowledged_active", "high"), alarm("calm", "normal"),
  ];
  it("has first what nobody acknowledged, by priority, the newest before the older", () => {
    expect(ordered(all, "open", "all", "").map(({ id }) => id)).toEqual(["new", "old", "low", "returned", "acked"]);
  });
  it("is narrowed by group, priority and twin", () => {
    expect(ordered(all, "shelved", "all", "").map(({ id }) => id)).toEqual(["shelved"]);
    expect(ordered(all, "all", "urgent", "machine/a").map(({ id }) => id)).toEqual(["acked"]);
  });
  it.each<[AlarmState, boolean, boolean, boolean]>([["unacknowledged_active", true, true, false], ["acknowledged_active", false, true, false], ["shelved", false, false, true], ["rtn_unacknowledged", true, true, false]])(
    "in state %s: acknowledge %s, shelve %s, unshelve %s", (state, ack, shelve, unshelve) => {
      const one = alarm("x", state);
      expect([may(one, "ack"), may(one, "shelve"), may(one, "unshelve")]).toEqual([ack, shelve, unshelve]);
    });
});

describe("a dashboard of one's own", () => {
  const panel = (id: string): BoardPanel => ({ id, kind: "needs", width: 1 });
  const board = { title: "Wall", panels: [panel("a"), panel("b"), panel("c")] };
  const ids = (edit: Parameters<typeof edited>[1]) => edited(board, edit).panels.map(({ id }) => id);
  it("is arranged by moving, adding and taking away", () => {
    expect(ids({ do: "move", id: "c", to: 0 })).toEqual(["c", "a", "b"]);
    expect(ids({ do: "move", id: "a", to: 9 })).toEqual(["b", "c", "a"]);
    expect(ids({ do: "remove", id: "b" })).toEqual(["a", "c"]);
    expect(ids({ do: "add", panel: panel("d") })).toEqual(["a", "b", "c", "d"]);
  });
  it("is read without what a newer page put on it", () => {
    expect(readBoard({ title: "W", panels: [{ id: "a", kind: "hologram" }, { kind: "kpi", twin: "machine/x", kpi: "oee", width: 99 }, 5] })).toEqual({ title: "W", panels: [{ id: "p1", kind: "kpi", twin: "machine/x", kpi: "oee", width: 3 }] });
    expect(readBoard(null)).toEqual({ title: "", panels: [] });
  });
  it.each([["Wand Süd, Halle 3", [], "wand-su-d-halle-3"], ["Wall", ["wall"], "wall-2"], ["***", [], "dashboard"]])("%j gets the id of its title", (title, taken, wanted) => {
    expect(boardId(title, taken)).toBe(wanted);
  });
});

it("finds the line that an error names, and the filters that rules have", () => {
  expect(errorLine("error: unknown key at line 7 column 3")).toBe(7);
  expect(errorLine("the site has no id")).toBeNull();
  expect(filtersOf({ rules: [{ id: "hot", when: "kpis.oee < 0.5" }, { filter: "kind == 'job'" }] })).toEqual([{ name: "hot", filter: "kpis.oee < 0.5" }, { name: "rules 2", filter: "kind == 'job'" }]);
  // An alarm's condition names metrics by themselves; a twin has them within its state.
  const alarms = [
    { id: "hot", applies_to: "machine", condition: "metrics.temp_c > 80 && state.execution == \"producing\"" },
    { id: "dust", applies_to: { kind: "location", where: "attributes.type == \"cell\"", ids: ["a"] }, condition: "metrics.pm25 > 3" },
  ];
  expect(filtersOf({ alarms }).map(({ filter }) => filter)).toEqual([
    'kind == "machine" && (state.metrics.temp_c.value > 80 && state.execution == "producing")',
    'kind == "location" && (attributes.type == "cell") && id in ["a"] && (state.metrics.pm25.value > 3)',
  ]);
});
