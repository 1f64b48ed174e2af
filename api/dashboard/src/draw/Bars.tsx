// Bars with a name before and a value behind, and the share they make together: a Pareto.
import type { ReactElement } from "react";
import { percent } from "../model/format";
import { useWidth } from "./size";

export type Bar = { key: string; name: string; value: number; text: string; tone?: string; cumulative?: number };
const ROW = 30;

export const Bars = ({ bars, label }: { bars: Bar[]; label: string }): ReactElement => {
  const [place, width] = useWidth<HTMLDivElement>();
  const names = Math.min(160, width * 0.36);
  const shares = bars.some((bar) => bar.cumulative !== undefined) && width > 380;
  const room = Math.max(0, width - names - 92 - (shares ? 56 : 0));
  const most = Math.max(...bars.map((bar) => bar.value), Number.MIN_VALUE);
  return (
    <div ref={place}>
      <svg className="drawing" width={width} height={bars.length * ROW + 2} role="img" aria-label={`${label}: ${bars.map((bar) => `${bar.name} ${bar.text}`).join(", ")}`}>
        {bars.map((bar, index) => {
          const length = Math.max(1.5, (bar.value / most) * room);
          return (
            <g key={bar.key} transform={`translate(0 ${index * ROW})`}>
              <text className="label" x={names - 8} y={ROW / 2 + 4} textAnchor="end">
                {bar.name.length > names / 7 ? `${bar.name.slice(0, Math.floor(names / 7) - 1)}…` : bar.name}
                <title>{bar.name}</title>
              </text>
              <rect className={`bar f-${bar.tone ?? "plain"}`} x={names} y={5} width={length} height={ROW - 10} rx={3} />
              <text className="value" x={names + length + 6} y={ROW / 2 + 4}>{bar.text}</text>
              {shares && bar.cumulative !== undefined && <text className="faint" x={width - 2} y={ROW / 2 + 4} textAnchor="end">{percent(bar.cumulative)}</text>}
            </g>
          );
        })}
      </svg>
    </div>
  );
};
