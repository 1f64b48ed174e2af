// The alarm list as ISA-18.2 wants it read: what nobody has acknowledged first, then by priority, then the newest. Pure.
import type { Alarm, AlarmState, Priority } from "../api/shapes";

export const PRIORITIES: readonly Priority[] = ["urgent", "high", "medium", "low"];
export type Group = "open" | "unacknowledged" | "shelved" | "all";

const UNACKNOWLEDGED: readonly AlarmState[] = ["unacknowledged_active", "latched_unacknowledged", "rtn_unacknowledged"];
const ACTIVE: readonly AlarmState[] = ["unacknowledged_active", "acknowledged_active", "latched_unacknowledged", "latched_acknowledged"];
const ASIDE: readonly AlarmState[] = ["shelved", "suppressed", "out_of_service"];

export const isUnacknowledged = (alarm: Alarm): boolean => UNACKNOWLEDGED.includes(alarm.state);
export const isActive = (alarm: Alarm): boolean => ACTIVE.includes(alarm.state);

export const inGroup = (alarm: Alarm, group: Group): boolean => {
  switch (group) {
    case "open": return isActive(alarm) || isUnacknowledged(alarm);
    case "unacknowledged": return isUnacknowledged(alarm);
    case "shelved": return ASIDE.includes(alarm.state);
    default: return true;
  }
};

const rank = (alarm: Alarm): number => (isUnacknowledged(alarm) ? (isActive(alarm) ? 0 : 1) : isActive(alarm) ? 2 : ASIDE.includes(alarm.state) ? 3 : 4);

export const ordered = (alarms: readonly Alarm[], group: Group, priority: Priority | "all", twin: string): Alarm[] =>
  alarms
    .filter((alarm) => inGroup(alarm, group) && (priority === "all" || alarm.priority === priority) && (twin === "" || alarm.twin.includes(twin)))
    .sort(
      (a, b) =>
        rank(a) - rank(b) || PRIORITIES.indexOf(a.priority) - PRIORITIES.indexOf(b.priority) ||
        (b.since ?? b.raised_at ?? "").localeCompare(a.since ?? a.raised_at ?? "") || a.id.localeCompare(b.id),
    );

/** What may be done with an alarm in its state. */
export const may = (alarm: Alarm, what: "ack" | "shelve" | "unshelve" | "comment"): boolean => {
  if (what === "ack") return isUnacknowledged(alarm);
  if (what === "shelve") return !ASIDE.includes(alarm.state);
  if (what === "unshelve") return alarm.state === "shelved";
  return true;
};
