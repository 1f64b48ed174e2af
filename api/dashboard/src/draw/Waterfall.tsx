// OEE as what is left of the planned time, and what each factor took.
import type { ReactElement } from "react";
import type { WaterfallStep } from "../model/machine";
import { percent } from "../model/format";
import { type Word, t } from "../words";
import { useWidth } from "./size";

const WORDS: Record<WaterfallStep["name"], Word> = {
  planned: "machine.planned", loss_availability: "machine.loss_availability", loss_effectiveness: "machine.loss_effectiveness",
  loss_quality: "machine.loss_quality", oee: "machine.oee",
};
const ROW = 34;

export const Waterfall = ({ steps }: { steps: WaterfallStep[] }): ReactElement => {
  const [place, width] = useWidth<HTMLDivElement>();
  const label = Math.min(150, width * 0.36);
  const room = Math.max(0, width - label - 64);
  // A machine may be faster than its ideal; the drawing then has to reach further.
  const most = Math.max(1, ...steps.map((step) => Math.max(step.from, step.to)));
  const x = (share: number) => label + (share / most) * room;
  return (
    <div ref={place}>
      <svg className="drawing" width={width} height={steps.length * ROW + 4} role="img" aria-label={steps.map((step) => `${t(WORDS[step.name])} ${percent(step.to - step.from, 1)}`).join(", ")}>
        {steps.map((step, index) => {
          const [low, high] = [Math.min(step.from, step.to), Math.max(step.from, step.to)];
          const loss = step.name.startsWith("loss");
          const gain = loss && step.from > step.to;
          const share = loss ? (gain ? step.from - step.to : step.from - step.to) : step.to;
          const next = steps[index + 1];
          return (
            <g key={step.name} transform={`translate(0 ${index * ROW})`}>
              <text className="label" x={label - 8} y={ROW / 2 + 4} textAnchor="end">{t(WORDS[step.name])}</text>
              <rect className={`bar ${loss ? "loss" : step.name}`} x={x(low)} width={Math.max(1.5, x(high) - x(low))} y={6} height={ROW - 12} rx={3} />
              {next && <line className="thin" x1={x(loss ? step.from : step.to)} x2={x(loss ? step.from : step.to)} y1={ROW - 6} y2={ROW + 6} />}
              <text className="value" x={x(high) + 6} y={ROW / 2 + 4}>{loss ? `−${percent(step.to - step.from, 1)}` : percent(share, 1)}</text>
            </g>
          );
        })}
      </svg>
    </div>
  );
};
