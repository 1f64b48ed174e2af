// A row for each place and a field for each quarter of an hour: where and when a value was high. The scale runs from
// dark blue to yellow (cividis), which every reader sees as darker and lighter.
import { scaleSequential } from "d3-scale";
import { type ReactElement, memo } from "react";
import { clock, reading } from "../model/format";
import { useWidth } from "./size";

export type HeatRow = { id: string; name: string; cells: (number | null)[] };
const ROW = 28;

// Nine steps of cividis (Nuñez, Anderton, Renslow 2018).
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#fee838"];
const colour = (share: number): string => CIVIDIS[Math.max(0, Math.min(CIVIDIS.length - 1, Math.floor(share * CIVIDIS.length)))] ?? "#707173";

export const Heat = memo(({ rows, from, stepMs, unit, zone, label }: { rows: HeatRow[]; from: number; stepMs: number; unit: string; zone?: string | undefined; label: string }): ReactElement => {
  const [place, width] = useWidth<HTMLDivElement>();
  const names = Math.min(130, width * 0.3);
  const columns = Math.max(1, ...rows.map((row) => row.cells.length));
  const cell = Math.max(0, (width - names) / columns);
  const values = rows.flatMap((row) => row.cells).filter((value): value is number => value !== null);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const tone = scaleSequential([low, high > low ? high : low + 1], colour);
  const height = rows.length * ROW;
  const every = Math.max(1, Math.ceil(columns / Math.max(1, Math.floor((width - names) / 70))));
  return (
    <div ref={place}>
      <svg className="drawing" width={width} height={height + 22} role="img" aria-label={label}>
        {rows.map((row, at) => (
          <g key={row.id} transform={`translate(0 ${at * ROW})`}>
            <text className="label" x={names - 8} y={ROW / 2 + 4} textAnchor="end">{row.name}</text>
            {row.cells.map((value, index) => (
              <rect key={index} className={value === null ? "gap" : "heat"} x={names + index * cell} y={2} width={Math.max(0.5, cell - 0.5)} height={ROW - 4} {...(value === null ? {} : { fill: tone(value) })}>
                <title>{`${row.name}, ${clock(from + index * stepMs, zone, false)}: ${value === null ? "no data" : `${reading(value)} ${unit}`}`}</title>
              </rect>
            ))}
          </g>
        ))}
        {Array.from({ length: Math.ceil(columns / every) }, (_, index) => (
          <text key={index} className="faint" x={names + index * every * cell} y={height + 16} textAnchor="start">{clock(from + index * every * stepMs, zone, false)}</text>
        ))}
      </svg>
      {values.length > 0 && (
        <p className="heat-key"><span>{reading(low)}</span><svg width="120" height="12" aria-hidden="true">{CIVIDIS.map((fill, index) => <rect key={fill} x={(index * 120) / CIVIDIS.length} width={120 / CIVIDIS.length + 0.5} height="12" fill={fill} />)}</svg><span>{`${reading(high)} ${unit}`}</span></p>
      )}
    </div>
  );
});
Heat.displayName = "Heat";
