// The shapes of the public API, by short names. All of them come from openapi.json; none is written here.
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Twin = Schemas["Twin"];
export type TwinState = Schemas["TwinState"];
export type Kpis = Schemas["Kpis"];
export type MetricValue = Schemas["MetricValue"];
export type Visit = Schemas["Visit"];
export type HistoryPoint = Schemas["HistoryPoint"];
export type SourceCounts = Schemas["SourceCounts"];
export type RejectedMessage = Schemas["RejectedMessage"];
export type AppliedPlant = Schemas["AppliedPlant"];
export type PlantModel = Schemas["PlantModel"];
export type Plan = Schemas["Plan"];
export type PlantChange = Schemas["PlantChange"];
export type Problem = Schemas["Problem"];
export type Ready = Schemas["Ready"];
export type StreamFrame = Schemas["StreamFrame"];
export type StreamRequest = Schemas["StreamRequest"];
export type Air = Schemas["Air"];
export type FlowAnswer = Schemas["Flow"];
export type Dashboard = Schemas["Dashboard"];
export type DashboardHead = Schemas["DashboardHead"];
export type Alarm = Schemas["Alarm"];
export type AlarmFigures = Schemas["AlarmFigures"];
export type AlarmEntry = Schemas["AlarmEntry"];
export type AlarmState = Alarm["state"];
export type Priority = Alarm["priority"];
export type Run = Schemas["Run"];
export type Sensor = Schemas["Sensor"];
export type Cluster = Schemas["Cluster"];
export type Checkpoint = Schemas["Checkpoint"];
export type Upload = Schemas["Upload"];
export type ForecastAnswer = Schemas["Forecast"];
export type Kind = Twin["kind"];

/** A twin of which only some fields may have been asked for, as a subscription or a search gives it. */
export type PartialTwin = {
  attributes?: Twin["attributes"];
  state?: Partial<TwinState> & Record<string, unknown>;
  kpis?: Kpis & Record<string, unknown>;
  alarms?: { active?: number; unacknowledged?: number; highest_severity?: string | null };
  updated_at?: string;
  rev?: number;
};
