// Time on the page: a clock that ticks once a second for all ages, and the moment that time travel looks at.
import { useCallback, useSyncExternalStore } from "react";
import { useLocation, useNavigate } from "react-router";
import { millis } from "../model/format";

let now = Date.now();
const listeners = new Set<() => void>();
let timer: number | null = null;

const subscribe = (listener: () => void) => {
  listeners.add(listener);
  timer ??= window.setInterval(() => {
    now = Date.now();
    listeners.forEach((tell) => tell());
  }, 1000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0 && timer !== null) {
      window.clearInterval(timer);
      timer = null;
    }
  };
};

export const useNow = (): number => useSyncExternalStore(subscribe, () => now);

/** What is out of sight is drawn again in turns: each second another of these. */
const TURNS = 10;

/**
 * Now, told anew each second to what is awake, and every tenth second to what is asleep, each of `place` at another, so
 * that a thousand things out of sight cost a hundred a second.
 */
export const useNowIf = (awake: boolean, place: number): number =>
  useSyncExternalStore(subscribe, () => {
    if (awake) return now;
    const second = Math.floor(now / 1000);
    return (second - ((second + place) % TURNS)) * 1000;
  });

/** The moment in the address (`?at=`), or null for now. */
export const useAt = (): string | null => {
  const { search } = useLocation();
  const at = new URLSearchParams(search).get("at");
  const ms = millis(at);
  return ms === null ? null : new Date(ms).toISOString();
};

/** What ages are counted from: the moment looked at, else now. */
export const useMoment = (): number => {
  const at = useAt();
  const ticking = useNow();
  return millis(at) ?? ticking;
};

/** The end of the step of time that runs, told anew when the next begins; the moment looked at, if that is not now. */
export const useStep = (stepMs: number): number => {
  const at = useAt();
  const ticking = useSyncExternalStore(subscribe, () => Math.ceil(now / stepMs) * stepMs);
  return millis(at) ?? ticking;
};

export const useTravel = (): ((at: string | null) => void) => {
  const navigate = useNavigate();
  const { search, pathname } = useLocation();
  return useCallback(
    (at) => {
      const query = new URLSearchParams(search);
      if (at === null) query.delete("at");
      else query.set("at", at);
      void navigate({ pathname, search: query.toString() }, { replace: true });
    },
    [navigate, search, pathname],
  );
};

/** A link within the page that keeps the moment looked at. */
export const useKeepAt = (): ((to: string) => string) => {
  const at = useAt();
  return useCallback(
    (to) => (at === null ? to : `${to}${to.includes("?") ? "&" : "?"}at=${encodeURIComponent(at)}`),
    [at],
  );
};
