// One job's way through the plant: a row for each visit, in time.
import { scaleTime } from "d3-scale";
import type { ReactElement } from "react";
import type { Visit } from "../api/shapes";
import { clock, millis, span } from "../model/format";
import { useWidth } from "./size";

const ROW = 32;

export const PathDrawing = ({ visits, now, nameOf, zone, label }: { visits: Visit[]; now: number; nameOf: (id: string) => string; zone?: string | undefined; label: string }): ReactElement => {
  const [place, width] = useWidth<HTMLDivElement>();
  const names = Math.min(150, width * 0.32);
  const begin = millis(visits[0]?.entered_at) ?? now;
  const last = visits[visits.length - 1];
  const end = Math.max(millis(last?.left_at) ?? now, begin + 1000);
  const x = scaleTime([begin, end], [names, Math.max(names + 1, width - 70)]);
  const height = visits.length * ROW;
  const longest = visits.reduce((most, visit) => Math.max(most, visit.dwell_s), 0);
  return (
    <div ref={place}>
      <svg className="drawing" width={width} height={height + 24} role="img" aria-label={label}>
        {visits.map((visit, index) => {
          const from = millis(visit.entered_at) ?? begin;
          const to = millis(visit.left_at) ?? end;
          const stay = visit.left_at === undefined ? (end - from) / 1000 : visit.dwell_s;
          const y = index * ROW;
          return (
            <g key={visit.entered_at}>
              <text className="label" x={names - 8} y={y + ROW / 2 + 4} textAnchor="end">{nameOf(visit.location)}</text>
              {index > 0 && <line className="thin" x1={x(from)} x2={x(from)} y1={y - ROW / 2} y2={y + 7} />}
              <rect className={`bar ${visit.left_at === undefined ? "f-producing" : visit.dwell_s === longest ? "f-setup" : "f-idle"}`} x={x(from)} y={y + 7} width={Math.max(2, x(to) - x(from))} height={ROW - 14} rx={3}>
                <title>{`${nameOf(visit.location)}: ${clock(from, zone)} to ${visit.left_at === undefined ? "now" : clock(to, zone)}`}</title>
              </rect>
              <text className="value" x={x(to) + 6} y={y + ROW / 2 + 4}>{span(stay)}</text>
            </g>
          );
        })}
        {x.ticks(Math.max(2, Math.floor((width - names) / 120))).map((tick) => (
          <text key={tick.getTime()} className="faint" x={x(tick)} y={height + 16} textAnchor="middle">{clock(tick.getTime(), zone, false)}</text>
        ))}
      </svg>
    </div>
  );
};
