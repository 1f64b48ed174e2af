// The width of an element, followed as it changes.
import { type RefObject, useLayoutEffect, useRef, useState } from "react";

export const useWidth = <T extends HTMLElement>(): [RefObject<T | null>, number] => {
  const place = useRef<T>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = place.current;
    if (!element) return undefined;
    setWidth(element.clientWidth);
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [place, width];
};
