// The store, and the one socket that feeds it.
import { configureStore } from "@reduxjs/toolkit";
import { useDispatch, useSelector } from "react-redux";
import { http } from "../api/http";
import { closed, connectionReducer, heard, keyNeeded, opened } from "../live/connection";
import { pastReducer } from "../live/past";
import { LiveSocket } from "../live/socket";
import { connectionLost, framesCame, subscriptionEnded, twinsReducer } from "../live/twins";

export const store = configureStore({
  reducer: { twins: twinsReducer, connection: connectionReducer, past: pastReducer, [http.reducerPath]: http.reducer },
  // Walking thousands of twins after each action to see that they are plain would cost more than drawing them.
  middleware: (defaults) => defaults({ serializableCheck: false, immutableCheck: false }).concat(http.middleware),
});

export type RootState = ReturnType<typeof store.getState>;
export const useAppSelector = useSelector.withTypes<RootState>();
export const useAppDispatch = useDispatch.withTypes<typeof store.dispatch>();

export const socket = new LiveSocket({
  opened: () => {
    const again = store.getState().connection.attempts > 0;
    store.dispatch(opened());
    // What was read by calls may be of before the loss.
    if (again) store.dispatch(http.util.invalidateTags(["plant", "rejected", "alarms"]));
  },
  closed: () => {
    store.dispatch(closed());
    store.dispatch(connectionLost());
  },
  heard: (at) => store.dispatch(heard(at)),
  came: (frames, fresh) => store.dispatch(framesCame(frames, fresh)),
  ended: (id) => store.dispatch(subscriptionEnded(id)),
  keyNeeded: (refused) => store.dispatch(keyNeeded(refused)),
});
