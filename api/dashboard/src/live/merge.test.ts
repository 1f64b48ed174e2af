import { expect, it } from "vitest";
import { merged } from "./merge";

// RFC 7396, appendix A.
it.each([
  [{ a: "b" }, { a: "c" }, { a: "c" }],
  [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }],
  [{ a: "b" }, { a: null }, {}],
  [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
  [{ a: ["b"] }, { a: "c" }, { a: "c" }],
  [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
  [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
  [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
  [["a", "b"], ["c", "d"], ["c", "d"]],
  [{ a: "b" }, ["c"], ["c"]],
  [{ a: "foo" }, null, null],
  [{ a: "foo" }, "bar", "bar"],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [[1, 2], { a: "b", c: null }, { a: "b" }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
])("%j patched by %j is %j", (target, patch, wanted) => {
  expect(merged(target, patch)).toEqual(wanted);
});

it("leaves what it was given as it was, and keeps the identity of what did not change", () => {
  const twin = { state: { execution: "idle", metrics: { rpm: 1 } }, kpis: { oee: 0.5 } };
  const before = JSON.stringify(twin);
  const next = merged(twin, { state: { execution: "down" } }) as typeof twin;
  expect(JSON.stringify(twin)).toBe(before);
  expect(next.kpis).toBe(twin.kpis);
  expect(next.state.metrics).toBe(twin.state.metrics);
  expect(merged(twin, { kpis: { oee: 0.5 } })).toBe(twin);
});
