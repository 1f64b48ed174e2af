// A machine's states over time: one band, coloured and hatched by state; gaps stay empty.
import { scaleTime } from "d3-scale";
import type { ReactElement } from "react";
import { EXECUTIONS, type Stretch } from "../model/machine";
import { clock, span } from "../model/format";
import { said } from "../words";
import { State } from "../parts/State";
import { useWidth } from "./size";

const HEIGHT = 46;

export const Timeline = ({ stretches, from, to, zone }: { stretches: Stretch[]; from: number; to: number; zone?: string | undefined }): ReactElement => {
  const [place, width] = useWidth<HTMLDivElement>();
  const x = scaleTime([from, to], [0, width]);
  const sums = new Map<string, number>();
  for (const { state, from: a, to: b } of stretches) sums.set(state, (sums.get(state) ?? 0) + (b - a));
  const present = EXECUTIONS.filter((state) => sums.has(state));
  const ticks = x.ticks(Math.max(2, Math.floor(width / 110)));
  return (
    <div ref={place}>
      <svg className="drawing" width={width} height={HEIGHT + 22} role="img" aria-label={present.map((state) => `${said("state", state)} ${span((sums.get(state) ?? 0) / 1000)}`).join(", ")}>
        <rect className="gap" x={0} y={0} width={width} height={HEIGHT} rx={4} />
        {stretches.map((stretch) => (
          <rect key={`${stretch.from}${stretch.word}`} className={`bar f-${stretch.state}`} x={x(stretch.from)} y={0} width={Math.max(0.75, x(stretch.to) - x(stretch.from))} height={HEIGHT}>
            <title>{`${said("state", stretch.state)}${stretch.word.toLowerCase() === stretch.state ? "" : ` (${stretch.word})`}: ${clock(stretch.from, zone)} to ${clock(stretch.to, zone)}, ${span((stretch.to - stretch.from) / 1000)}`}</title>
          </rect>
        ))}
        {ticks.map((tick) => {
          const at = x(tick);
          const anchor = at < 24 ? "start" : at > width - 24 ? "end" : "middle";
          return (
            <g key={tick.getTime()}>
              <line className="thin" x1={at} x2={at} y1={HEIGHT} y2={HEIGHT + 5} />
              <text className="faint" x={at} y={HEIGHT + 18} textAnchor={anchor}>{clock(tick.getTime(), zone, to - from < 600_000)}</text>
            </g>
          );
        })}
      </svg>
      <ul className="legend">
        {present.map((state) => (
          <li key={state}><State area="state" word={state} /> <span className="faint">{span((sums.get(state) ?? 0) / 1000)}</span></li>
        ))}
      </ul>
    </div>
  );
};
