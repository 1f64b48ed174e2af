// The plant as it was: the twins of each kind at one time, read one by one by `?at=`.
import { createAsyncThunk, createSlice } from "@reduxjs/toolkit";
import type { Kind, PartialTwin, Twin } from "../api/shapes";
import { path } from "../api/http";
import { token } from "../api/token";
import type { Told } from "./twins";

/** Most twins of a kind that are read for a moment; a whole plant of thousands is not read twin by twin. */
export const PAST_MAX = 200;
const AT_ONCE = 6;

export type PastState = {
  at: string | null;
  told: Partial<Record<Kind, Told>>;
  done: number;
  total: number;
  capped: boolean;
  loading: boolean;
  failed: string | null;
};
const initialState: PastState = { at: null, told: {}, done: 0, total: 0, capped: false, loading: false, failed: null };

const call = async (url: string, signal: AbortSignal): Promise<Response> => {
  const key = token();
  return fetch(url, { signal, ...(key ? { headers: { authorization: `Bearer ${key}` } } : {}) });
};

export const readPast = createAsyncThunk<{ told: Partial<Record<Kind, Told>>; capped: boolean }, string>(
  "past/read",
  async (at, { signal, dispatch, requestId }) => {
    const told: Partial<Record<Kind, Told>> = { machine: {}, location: {}, job: {} };
    const wanted: { kind: Kind; id: string }[] = [];
    let capped = false;
    for (const kind of ["machine", "location", "job"] as const) {
      // Jobs that ended before that moment, or began after it, were not underway.
      const filter = kind === "job" ? `&filter=${encodeURIComponent(`state.started_at <= "${at}" && (state.status == "in_progress" || state.completed_at >= "${at}")`)}` : "";
      let answer = await call(`/v1/twins?kind=${kind}&fields=kind&limit=${PAST_MAX}${filter}`, signal);
      if (!answer.ok && filter) answer = await call(`/v1/twins?kind=${kind}&fields=kind&limit=${PAST_MAX}`, signal);
      if (!answer.ok) throw new Error(((await answer.json()) as { detail?: string }).detail ?? String(answer.status));
      const page = (await answer.json()) as { items: Twin[]; cursor: string | null };
      capped ||= page.cursor !== null;
      for (const twin of page.items) wanted.push({ kind, id: twin.twin.slice(kind.length + 1) });
    }
    let done = 0;
    const one = async () => {
      for (let next = wanted.shift(); next; next = wanted.shift()) {
        const { kind, id } = next;
        const answer = await call(`/v1/twins/${path(kind, id)}?at=${encodeURIComponent(at)}`, signal);
        if (answer.ok) {
          const twin = (await answer.json()) as Twin;
          const over = kind === "job" && twin.state.status !== "in_progress";
          if (!over) (told[kind] as Told)[`${kind}/${id}`] = { rev: twin.rev, value: twin as PartialTwin };
        } else if (answer.status !== 404) {
          throw new Error(((await answer.json()) as { detail?: string }).detail ?? String(answer.status));
        }
        done += 1;
        dispatch(slice.actions.progressed({ requestId, done, total: done + wanted.length }));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
    return { told, capped };
  },
);

const slice = createSlice({
  name: "past",
  initialState: initialState as PastState & { request?: string },
  reducers: {
    progressed: (state, { payload }: { payload: { requestId: string; done: number; total: number } }) => {
      if (state.request === payload.requestId) {
        state.done = payload.done;
        state.total = payload.total;
      }
    },
    leftPast: () => initialState,
  },
  extraReducers: (builder) => {
    builder
      .addCase(readPast.pending, (state, { meta }) => ({
        ...initialState, told: state.told, at: meta.arg, loading: true, request: meta.requestId,
      }))
      .addCase(readPast.fulfilled, (state, { meta, payload }) =>
        state.request === meta.requestId ? { ...state, ...payload, loading: false } : state)
      .addCase(readPast.rejected, (state, { meta, error }) =>
        state.request === meta.requestId && !meta.aborted ? { ...state, told: {}, loading: false, failed: error.message ?? "?" } : state);
  },
});

export const { leftPast } = slice.actions;
export const pastReducer = slice.reducer;
