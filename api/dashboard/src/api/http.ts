// The calls of the public API. Answers are typed by openapi.json.
import { createApi, fetchBaseQuery, type FetchBaseQueryError } from "@reduxjs/toolkit/query/react";
import type { SerializedError } from "@reduxjs/toolkit";
import { t } from "../words";
import type {
  Checkpoint, Cluster, Upload,
  Alarm, AlarmEntry, AlarmFigures, AppliedPlant, Dashboard, DashboardHead, FlowAnswer, ForecastAnswer, HistoryPoint, Plan, PlantChange, Problem,
  Ready, RejectedMessage, Run, Sensor, SourceCounts, Twin,
} from "./shapes";
import { token } from "./token";

export type List<T> = { items: T[]; cursor: string | null };
export type HistoryQuery = { kind: string; id: string; metric?: string; from: number; to: number; step: string; at?: string };

const base = fetchBaseQuery({
  baseUrl: "/",
  prepareHeaders: (headers) => {
    const key = token();
    if (key) headers.set("authorization", `Bearer ${key}`);
    return headers;
  },
});

export const path = (...parts: string[]): string => parts.map(encodeURIComponent).join("/");

export const http = createApi({
  reducerPath: "http",
  baseQuery: base,
  tagTypes: ["plant", "rejected", "alarms", "boards"],
  endpoints: (build) => ({
    plant: build.query<AppliedPlant, void>({ query: () => "v1/plant", providesTags: ["plant"] }),
    plantText: build.query<string, void>({
      query: () => ({ url: "v1/plant", headers: { accept: "application/yaml" }, responseHandler: "text" }),
      providesTags: ["plant"],
      keepUnusedDataFor: 0,
    }),
    planPlant: build.mutation<Plan, string>({
      query: (body) => ({ url: "v1/plant/plan", method: "POST", body, headers: { "content-type": "application/yaml" } }),
    }),
    applyPlant: build.mutation<PlantChange, string>({
      query: (body) => ({ url: "v1/plant", method: "PUT", body, headers: { "content-type": "application/yaml" } }),
      invalidatesTags: ["plant", "rejected"],
    }),
    twins: build.query<List<Partial<Twin>>, { kind?: string; filter?: string; fields?: string; sort?: string; limit?: number }>({
      query: (params) => ({ url: "v1/twins", params }),
      keepUnusedDataFor: 5,
    }),
    history: build.query<HistoryPoint[], HistoryQuery>({
      query: ({ kind, id, metric, from, to, step }) => ({
        url: `v1/twins/${path(kind, id)}/history`,
        params: { ...(metric ? { metric } : {}), from: Math.floor(from), to: Math.ceil(to), step },
      }),
      keepUnusedDataFor: 15,
    }),
    forecast: build.query<ForecastAnswer, { kind: string; id: string; metric: string; horizon: string }>({
      query: ({ kind, id, metric, horizon }) => ({ url: `v1/twins/${path(kind, id)}/forecast`, params: { metric, horizon } }),
      keepUnusedDataFor: 30,
    }),
    shifts: build.query<List<Run>, string>({ query: (id) => `v1/twins/${path("machine", id)}/shifts` }),
    machineJobs: build.query<List<Run>, string>({ query: (id) => `v1/twins/${path("machine", id)}/jobs` }),
    quality: build.query<List<Sensor>, string | null>({ query: (twin) => ({ url: "v1/quality", params: { ...(twin === null ? {} : { twin }), limit: 1000 } }) }),
    ingest: build.query<List<SourceCounts>, void>({ query: () => "v1/ingest" }),
    rejected: build.query<List<RejectedMessage>, void>({ query: () => ({ url: "v1/rejected", params: { limit: 200 } }), providesTags: ["rejected"] }),
    retryRejected: build.mutation<{ id: string; outcome: string }, string>({
      query: (id) => ({ url: `v1/rejected/${path(id)}/retry`, method: "POST" }),
      invalidatesTags: ["rejected"],
    }),
    ready: build.query<Ready, void>({
      query: () => ({ url: "readyz", validateStatus: (answer) => answer.status === 200 || answer.status === 503 }),
    }),
    flow: build.query<FlowAnswer, void>({ query: () => "v1/flow" }),
    boards: build.query<List<DashboardHead>, void>({ query: () => "v1/dashboards", providesTags: ["boards"] }),
    board: build.query<Dashboard, string>({ query: (id) => `v1/dashboards/${path(id)}`, providesTags: ["boards"], keepUnusedDataFor: 0 }),
    saveBoard: build.mutation<Dashboard, { id: string; content: Dashboard["content"]; version: number | null }>({
      query: ({ id, content, version }) => ({
        url: `v1/dashboards/${path(id)}`, method: "PUT", body: content,
        headers: version === null ? { "if-none-match": "*" } : { "if-match": `"version:${version}"` },
      }),
      invalidatesTags: ["boards"],
    }),
    removeBoard: build.mutation<unknown, string>({ query: (id) => ({ url: `v1/dashboards/${path(id)}`, method: "DELETE" }), invalidatesTags: ["boards"] }),
    alarms: build.query<List<Alarm>, void>({ query: () => ({ url: "v1/alarms", params: { limit: 1000 } }), providesTags: ["alarms"] }),
    alarmFigures: build.query<AlarmFigures, void>({ query: () => "v1/alarms/figures", providesTags: ["alarms"] }),
    alarmHistory: build.query<List<AlarmEntry>, string>({ query: (id) => `v1/alarms/${path(id)}/history`, providesTags: ["alarms"] }),
    setAlarm: build.mutation<Alarm, { id: string; what: "ack" | "shelve" | "unshelve" | "comment"; comment?: string; for?: string }>({
      query: ({ id, what, ...body }) => ({ url: `v1/alarms/${path(id)}/${what}`, method: "POST", body }),
      invalidatesTags: ["alarms"],
    }),
    cluster: build.query<Cluster, void>({ query: () => "v1/cluster" }),
    checkpoints: build.query<List<Checkpoint>, void>({ query: () => ({ url: "v1/checkpoints", params: { limit: 1000 } }) }),
    uploads: build.query<List<Upload>, void>({ query: () => ({ url: "v1/uploads", params: { limit: 20 } }) }),
  }),
});

export const {
  usePlantQuery, usePlantTextQuery, usePlanPlantMutation, useApplyPlantMutation, useTwinsQuery, useHistoryQuery, useIngestQuery,
  useRejectedQuery, useRetryRejectedMutation, useReadyQuery, useClusterQuery, useCheckpointsQuery, useUploadsQuery, useFlowQuery, useBoardsQuery, useBoardQuery, useSaveBoardMutation, useRemoveBoardMutation, useAlarmsQuery, useAlarmFiguresQuery,
  useAlarmHistoryQuery, useSetAlarmMutation, useForecastQuery, useShiftsQuery, useMachineJobsQuery, useQualityQuery,
} = http;

export type CallError = FetchBaseQueryError | SerializedError | undefined;

export const status = (error: CallError): number | null =>
  error && "status" in error && typeof error.status === "number" ? error.status : null;

/** Whether the node does not have such a call, or nothing at it. */
export const isMissing = (error: CallError): boolean => status(error) === 404;

/** An error in the node's own words. */
export const detail = (error: CallError): string => {
  if (!error) return "";
  if ("status" in error) {
    const problem = error.data as Partial<Problem> | undefined;
    if (problem && typeof problem === "object" && problem.detail) return problem.detail;
    if (error.status === "FETCH_ERROR") return t("problem.unreachable");
    if (error.status === "PARSING_ERROR" && typeof error.data === "string") {
      try {
        const parsed = JSON.parse(error.data) as Partial<Problem>;
        if (parsed.detail) return parsed.detail;
      } catch {
        // It was no problem document.
      }
    }
  }
  return t("problem.unknown");
};
