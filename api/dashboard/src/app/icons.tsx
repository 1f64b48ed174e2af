// The few drawings of the page's frame, and the shapes that stand beside the words of states.
import type { ReactElement } from "react";

const icon = (path: string) => (): ReactElement => (
  <svg className="icon" viewBox="0 0 24 24" aria-hidden="true"><path d={path} /></svg>
);

export const Icons = {
  plant: icon("M3 21V10l6 4v-4l6 4V4h6v17zM7 17h2v2H7zm5 0h2v2h-2z"),
  machine: icon("M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zm9 5.5v-3l-2.6-.5-.7-1.7 1.5-2.2-2.1-2.1-2.2 1.5-1.7-.7L12.700 2h-3l-.5 2.700-1.700.7-2.200-1.500-2.100 2.100 1.500 2.200-.7 1.700-2.500.6v3l2.600.5.7 1.700-1.500 2.200 2.100 2.100 2.200-1.500 1.700.7.5 2.600h3l.5-2.600 1.700-.7 2.200 1.500 2.100-2.100-1.500-2.200.7-1.700z"),
  air: icon("M3 8h10.500a2.500 2.500 0 1 0-2.400-3.200l1.900.6a.5.5 0 1 1 .5.6H3zm0 5h15.500a1.500 1.500 0 1 1-1.400 2l-1.900.7A3.500 3.500 0 1 0 18.500 11H3zm0 5h8.500a.8.800 0 1 1-.7 1.100l-1.800.8A2.800 2.800 0 1 0 11.500 16H3z"),
  job: icon("M4 4h6v6H4zm10 10h6v6h-6zM7 12v5h5v2H5v-7zm10 0V7h-5V5h7v7z"),
  alarm: icon("M12 3a6 6 0 0 0-6 6v5l-2 3v1h16v-1l-2-3V9a6 6 0 0 0-6-6zm-2 16a2 2 0 0 0 4 0z"),
  health: icon("M3 12h4l2-6 4 13 3-9 1.500 2H21v2h-4.500l-.5-.7L13 22.500 8.900 9.500 8.400 14H3z"),
  model: icon("M10 3h4v4h-1v3h5v4h1v4h-4v-4h1v-2h-8v2h1v4H5v-4h1v-4h5V7h-1z"),
  boards: icon("M3 4h8v9H3zm10 0h8v5h-8zM3 15h8v5H3zm10-4h8v9h-8z"),
  menu: icon("M3 6h18v2H3zm0 5h18v2H3zm0 5h18v2H3z"),
  clock: icon("M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm1 4v5l4 2.300-1 1.700-5-3V7z"),
  theme: icon("M12 3a9 9 0 1 0 0 18zm2 .200v17.600A9 9 0 0 0 14 3.200z"),
  dots: icon("M12 4a2 2 0 1 0 0 4 2 2 0 0 0 0-4zm0 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4zm0 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4z"),
  close: icon("M6.400 5 12 10.600 17.600 5 19 6.400 13.400 12l5.600 5.600-1.400 1.400-5.600-5.600L6.400 19 5 17.600 10.600 12 5 6.400z"),
  up: icon("M12 6l7 8h-4v5H9v-5H5z"),
  down: icon("M12 18l-7-8h4V5h6v5h4z"),
  full: icon("M4 4h6v2H6v4H4zm10 0h6v6h-2V6h-4zM4 14h2v4h4v2H4zm14 0h2v6h-6v-2h4z"),
};

// One shape for each state, so that colour is never alone.
const SHAPES: Record<string, string> = {
  producing: "M3 2l10 6-10 6z",
  good: "M2.500 8.500l2-2L7 9l5-5 2 2-7 7z",
  ready: "M2.500 8.500l2-2L7 9l5-5 2 2-7 7z",
  setup: "M8 1l7 13H1z",
  moderate: "M8 1l7 13H1z",
  medium: "M8 1l7 13H1z",
  idle: "M2 6h12v4H2z",
  low: "M2 6h12v4H2z",
  stopped: "M2 2h12v12H2z",
  down: "M8 0l8 8-8 8-8-8z",
  poor: "M8 0l8 8-8 8-8-8z",
  high: "M8 0l8 8-8 8-8-8z",
  urgent: "M5 0h6l5 5v6l-5 5H5l-5-5V5z",
  bad: "M8 0l8 8-8 8-8-8z",
  planned_down: "M3 2h4v12H3zm6 0h4v12H9z",
  suspect: "M8 1l7 13H1z",
  stale: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm1 3v4l3 2-1 1.700-4-2.700V4z",
  unknown: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 2.500a4.500 4.500 0 1 1 0 9 4.500 4.500 0 0 1 0-9z",
};

export const Shape = ({ of }: { of: string }): ReactElement => (
  <svg className={`shape c-${of}`} viewBox="0 0 16 16" aria-hidden="true"><path d={SHAPES[of] ?? SHAPES.unknown} /></svg>
);
