// How the page stands with the node, in words that the page shows.
import { createSlice, type PayloadAction } from "@reduxjs/toolkit";

export type Standing = "connecting" | "live" | "reconnecting" | "key_needed" | "key_refused";
export type ConnectionState = { standing: Standing; heardAt: number | null; attempts: number };

const initialState: ConnectionState = { standing: "connecting", heardAt: null, attempts: 0 };

const slice = createSlice({
  name: "connection",
  initialState,
  reducers: {
    opened: (state) => {
      state.standing = "live";
      state.attempts = 0;
    },
    heard: (state, { payload }: PayloadAction<number>) => {
      state.heardAt = payload;
    },
    closed: (state) => {
      state.standing = state.heardAt === null && state.attempts === 0 ? "connecting" : "reconnecting";
      state.attempts += 1;
    },
    keyNeeded: (state, { payload }: PayloadAction<boolean>) => {
      state.standing = payload ? "key_refused" : "key_needed";
    },
    trying: (state) => {
      if (state.standing === "key_needed" || state.standing === "key_refused") state.standing = "connecting";
    },
  },
});

export const { opened, heard, closed, keyNeeded, trying } = slice.actions;
export const connectionReducer = slice.reducer;
