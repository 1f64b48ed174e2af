// Shapes of calls that a node may not have yet. What openapi.json describes does not belong here.
export type AlarmState =
  | "unacknowledged_active" | "acknowledged_active" | "rtn_unacknowledged" | "latched_unacknowledged" | "latched_acknowledged"
  | "normal" | "shelved" | "suppressed" | "out_of_service";
export type Priority = "low" | "medium" | "high" | "urgent";
export type Alarm = {
  id: string;
  twin: string;
  rule?: string;
  text?: string;
  state: AlarmState;
  priority: Priority;
  since?: string | null;
  raised_at?: string | null;
  returned_at?: string | null;
  acknowledged_at?: string | null;
  acknowledged_by?: string | null;
  comment?: string | null;
  shelved_until?: string | null;
  value?: number | string | boolean | null;
  count?: number;
};
export type AlarmFigures = { active?: number; unacknowledged?: number; per_10_min?: number; flood?: boolean; chattering?: string[]; stale?: string[] };
export type AlarmEntry = { at: string; what: string; by?: string | null; comment?: string | null };
