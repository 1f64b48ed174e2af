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
