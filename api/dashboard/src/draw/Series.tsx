// A metric over time on a canvas (uPlot): mean, the band from least to most, a forecast band, late corrections as
// marks, gaps as gaps. Dragging zooms, a double click goes back.
import { type ReactElement, useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { type Drawn, type Forecast, aligned } from "../model/series";
import { reading } from "../model/format";
import { t } from "../words";
import { useWidth } from "./size";

type Props = {
  series: Drawn;
  unit: string;
  label: string;
  zone?: string | undefined;
  from: number;
  to: number;
  forecast?: Forecast | null;
  bars?: boolean;
  height?: number;
  onZoom?: (from: number, to: number) => void;
  onReset?: () => void;
};

export const Series = ({ series, unit, label, zone, from, to, forecast, bars, height = 260, onZoom, onReset }: Props): ReactElement => {
  const [place, width] = useWidth<HTMLDivElement>();
  const plot = useRef<uPlot | null>(null);
  const zoom = useRef({ onZoom, onReset });
  zoom.current = { onZoom, onReset };
  const scheme = document.documentElement.dataset.scheme ?? "";
  useEffect(() => {
    const element = place.current;
    if (!element || width === 0) return undefined;
    const look = getComputedStyle(element);
    const tone = (name: string) => look.getPropertyValue(name).trim();
    const [ink, faint, line, band, ahead] = [tone("--ink"), tone("--faint"), tone("--series"), tone("--series-band"), tone("--forecast")];
    const thin = { stroke: "transparent", width: 0, points: { show: false } };
    const axis = { stroke: faint, grid: { stroke: tone("--line"), width: 1 }, ticks: { stroke: tone("--line"), width: 1 }, font: `12px ${look.fontFamily}` };
    const made = new uPlot(
      {
        width, height,
        ...(zone ? { tzDate: (seconds: number) => uPlot.tzDate(new Date(seconds * 1000), zone) } : {}),
        scales: { x: { time: true } },
        legend: { show: true, live: true },
        cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 7 } },
        axes: [{ ...axis, values: [[86_400, "{D} {MMM}", null, null, null, null, null, null, 1], [3_600, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1], [60, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] }, { ...axis, size: 64, values: (_: uPlot, ticks: number[]) => ticks.map((tick) => reading(tick)) }],
        series: [
          { value: "{HH}:{mm}:{ss}" },
          { ...thin, label: t("series.low"), value: (_: uPlot, value: number | null) => reading(value) },
          { ...thin, label: t("series.high"), value: (_: uPlot, value: number | null) => reading(value) },
          { label, stroke: line, width: 1.75, points: { show: series.time.length < 60, size: 4 }, spanGaps: false, value: (_: uPlot, value: number | null) => (value === null ? "–" : `${reading(value)} ${unit}`), ...(bars && uPlot.paths.bars ? { paths: uPlot.paths.bars({ size: [0.8, 60] }), fill: band, points: { show: false } } : {}) },
          { label: t("machine.corrected"), stroke: tone("--late"), width: 0, paths: () => null, points: { show: true, size: 8, width: 2, fill: "transparent" }, value: (_: uPlot, value: number | null) => (value === null ? "–" : "✓") },
          { ...thin, label: t("series.ahead_low"), value: (_: uPlot, value: number | null) => reading(value) },
          { ...thin, label: t("series.ahead_high"), value: (_: uPlot, value: number | null) => reading(value) },
          { label: t("machine.forecast"), stroke: ahead, width: 1.75, dash: [6, 4], points: { show: false }, value: (_: uPlot, value: number | null) => reading(value) },
        ],
        bands: [{ series: [2, 1], fill: band }, { series: [6, 5], fill: tone("--forecast-band") }],
        hooks: {
          setSelect: [(chart) => {
            if (chart.select.width < 5) return;
            const a = chart.posToVal(chart.select.left, "x") * 1000;
            const b = chart.posToVal(chart.select.left + chart.select.width, "x") * 1000;
            chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            zoom.current.onZoom?.(a, b);
          }],
        },
      },
      [[], [], [], [], [], [], [], []],
      element,
    );
    made.root.style.color = ink;
    made.over.ondblclick = () => zoom.current.onReset?.();
    plot.current = made;
    return () => {
      made.destroy();
      plot.current = null;
    };
    // The data comes by the effect below, so that a new point does not make a new chart.
  }, [width, height, unit, label, zone, bars, scheme, place, series.time.length < 60]);
  useEffect(() => {
    const chart = plot.current;
    if (!chart) return;
    chart.setData(aligned(series, forecast), false);
    const end = forecast && forecast.time.length > 0 ? Math.max(to / 1000, forecast.time[forecast.time.length - 1] ?? 0) : to / 1000;
    chart.batch(() => {
      chart.setScale("x", { min: from / 1000, max: end });
      [5, 6, 7].forEach((index) => chart.setSeries(index, { show: Boolean(forecast && forecast.time.length > 0) }, false));
    });
  }, [series, forecast, from, to, width, height, unit, label, zone, bars, scheme]);
  return <div className={`series${forecast && forecast.time.length > 0 ? "" : " no-ahead"}${series.corrected.some(Boolean) ? "" : " no-late"}`} ref={place} role="img" aria-label={label} style={{ minHeight: height }} />;
};
