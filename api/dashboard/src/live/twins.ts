// What the subscriptions have told, by subscription and twin.
//
// The reducer is written without Immer: thousands of changes a second come in one action, and a twin that did not
// change has to keep its identity.
import type { UnknownAction } from "@reduxjs/toolkit";
import type { PartialTwin, StreamFrame } from "../api/shapes";
import { merged } from "./merge";

export type Live = { rev: number; value: PartialTwin };
export type Told = Record<string, Live>;
export type TwinsState = {
  told: Record<string, Told>;
  /**
   * What a subscription's twins are and where they stand: as `told`, but the same object until one comes or goes, or is
   * given another name or place. What arranges twins looks here, so that thousands of readings move nothing.
   */
  layout: Record<string, Told>;
  live: Record<string, boolean>;
  refused: Record<string, string>;
};

const empty: TwinsState = { told: {}, layout: {}, live: {}, refused: {} };

const stands = (before: PartialTwin | undefined, after: PartialTwin): boolean =>
  before !== undefined && before.attributes === after.attributes && before.state?.removed === after.state?.removed;

export const framesCame = (frames: readonly StreamFrame[], fresh: readonly string[]) =>
  ({ type: "twins/framesCame", frames, fresh }) as const;
export const subscriptionEnded = (id: string) => ({ type: "twins/subscriptionEnded", id }) as const;
export const connectionLost = () => ({ type: "twins/connectionLost" }) as const;
export type TwinsAction =
  | ReturnType<typeof framesCame>
  | ReturnType<typeof subscriptionEnded>
  | ReturnType<typeof connectionLost>;

/** Applies frames; `fresh` names the subscriptions that began without a resume token, so that they start empty. */
const apply = (state: TwinsState, frames: readonly StreamFrame[], fresh: readonly string[]): TwinsState => {
  const told = { ...state.told };
  let { live, refused } = state;
  const moved = new Set<string>();
  const opened = new Set<string>();
  // Each subscription's record is copied once for all its frames.
  const own = (id: string): Told => {
    if (!opened.has(id)) {
      opened.add(id);
      told[id] = { ...told[id] };
    }
    return told[id] as Told;
  };
  const clear = (id: string) => {
    opened.add(id);
    moved.add(id);
    told[id] = {};
  };
  for (const frame of frames) {
    switch (frame.type) {
      case "subscribed":
        if (fresh.includes(frame.id)) clear(frame.id);
        else own(frame.id);
        if (refused[frame.id]) {
          refused = { ...refused };
          delete refused[frame.id];
        }
        break;
      case "lost":
        clear(frame.id);
        break;
      case "snapshot":
        own(frame.id)[frame.twin] = { rev: frame.rev, value: frame.value as PartialTwin };
        moved.add(frame.id);
        break;
      case "change": {
        const known = own(frame.id)[frame.twin];
        // A resumed subscription may be told again what it has.
        if (known && frame.rev <= known.rev) break;
        const value = merged(known?.value, frame.patch) as PartialTwin;
        own(frame.id)[frame.twin] = { rev: frame.rev, value };
        if (!stands(known?.value, value)) moved.add(frame.id);
        break;
      }
      case "leave":
        moved.add(frame.id);
        delete own(frame.id)[frame.twin];
        break;
      case "live":
        own(frame.id);
        if (!live[frame.id]) live = { ...live, [frame.id]: true };
        break;
      case "error":
        if (frame.id) refused = { ...refused, [frame.id]: frame.detail };
        break;
      default:
        break;
    }
  }
  let { layout } = state;
  if (moved.size > 0) {
    layout = { ...layout };
    for (const id of moved) layout[id] = told[id] as Told;
  }
  return { told, layout, live, refused };
};

export const twinsReducer = (state: TwinsState = empty, action: UnknownAction): TwinsState => {
  const known = action as TwinsAction;
  switch (known.type) {
    case "twins/framesCame":
      return apply(state, known.frames, known.fresh);
    case "twins/subscriptionEnded": {
      const [told, layout, live, refused] = [{ ...state.told }, { ...state.layout }, { ...state.live }, { ...state.refused }];
      for (const part of [told, layout, live, refused]) delete part[known.id];
      return { told, layout, live, refused };
    }
    case "twins/connectionLost":
      return { ...state, live: {} };
    default:
      return state;
  }
};
