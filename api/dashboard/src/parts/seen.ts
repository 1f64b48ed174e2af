// Whether an element can be seen; one observer for all of them.
import { type RefObject, useEffect, useRef, useState } from "react";

const told = new WeakMap<Element, (seen: boolean) => void>();
let observer: IntersectionObserver | null = null;

const watched = (): IntersectionObserver => {
  observer ??= new IntersectionObserver((entries) => {
    for (const entry of entries) told.get(entry.target)?.(entry.isIntersecting);
  });
  return observer;
};

/** Until the observer has spoken, everything counts as unseen; it is drawn once all the same. */
export const useSeen = <T extends Element>(): [RefObject<T | null>, boolean] => {
  const place = useRef<T>(null);
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const element = place.current;
    if (!element) return undefined;
    told.set(element, setSeen);
    watched().observe(element);
    return () => {
      watched().unobserve(element);
      told.delete(element);
    };
  }, []);
  return [place, seen];
};
