// Moves of jobs between locations as a Sankey drawing.
import { sankey, sankeyLinkHorizontal, type SankeyLink, type SankeyNode } from "d3-sankey";
import { type ReactElement, memo, useMemo } from "react";
import type { Flow } from "../model/flow";
import { useWidth } from "./size";

type Node = { id: string };
type Link = { value: number };

export const layOut = (flow: Flow, width: number, height: number) => {
  const used = new Set(flow.forward.flatMap((move) => [move.from, move.to]));
  const nodes = flow.nodes.filter((id) => used.has(id)).map((id) => ({ id }));
  const index = new Map(nodes.map((node, at) => [node.id, at]));
  const links = flow.forward.map((move) => ({ source: index.get(move.from) ?? 0, target: index.get(move.to) ?? 0, value: move.count }));
  if (nodes.length === 0 || width < 50) return null;
  return sankey<Node, Link>()
    .nodeWidth(12)
    .nodePadding(18)
    .extent([[1, 6], [Math.max(2, width - 1), height - 6]])({ nodes: nodes.map((node) => ({ ...node })), links });
};

export const FlowDrawing = memo(({ flow, nameOf, label }: { flow: Flow; nameOf: (id: string) => string; label: string }): ReactElement => {
  const [place, width] = useWidth<HTMLDivElement>();
  const height = Math.max(180, Math.min(420, flow.nodes.length * 44));
  const drawn = useMemo(() => layOut(flow, width, height), [flow, width, height]);
  const most = Math.max(1, ...flow.forward.map((move) => move.count));
  const path = sankeyLinkHorizontal<Node, Link>();
  const key = (link: SankeyLink<Node, Link>) => `${(link.source as SankeyNode<Node, Link>).id}→${(link.target as SankeyNode<Node, Link>).id}`;
  return (
    <div ref={place}>
      <svg className="drawing flow" width={width} height={height + (flow.back.length > 0 ? 40 : 0)} role="img" aria-label={label}>
        {drawn?.links.map((link) => (
          <path key={key(link)} className="link" d={path(link) ?? ""} strokeWidth={Math.max(1.5, link.width ?? 0)}>
            <title>{`${nameOf((link.source as SankeyNode<Node, Link>).id)} → ${nameOf((link.target as SankeyNode<Node, Link>).id)}: ${link.value}`}</title>
          </path>
        ))}
        {drawn && flow.back.map((move) => {
          const from = drawn.nodes.find((node) => node.id === move.from);
          const to = drawn.nodes.find((node) => node.id === move.to);
          if (!from || !to) return null;
          const [x1, x2] = [(from.x0 ?? 0) + 6, (to.x1 ?? 0) - 6];
          const bottom = Math.max(from.y1 ?? 0, to.y1 ?? 0) + 14 + Math.min(22, Math.abs(x1 - x2) / 12);
          return (
            <path key={`${move.from}←${move.to}`} className="back" d={`M${x1},${from.y1 ?? 0} C${x1},${bottom + 12} ${x2},${bottom + 12} ${x2},${to.y1 ?? 0}`} strokeWidth={Math.min(10, 1.5 + (move.count / most) * 12)}>
              <title>{`${nameOf(move.from)} → ${nameOf(move.to)}: ${move.count}`}</title>
            </path>
          );
        })}
        {drawn?.nodes.map((node) => {
          // Names stand in the gap behind their node; the last have none behind them.
          const left = (node.x1 ?? 0) < width - 20;
          // On a narrow screen they would stand upon the names of the nodes before.
          const middle = !left && width < 420 ? (node.y0 ?? 0) + 14 : ((node.y0 ?? 0) + (node.y1 ?? 0)) / 2;
          return (
            <g key={node.id}>
              <rect className="node" x={node.x0} y={node.y0} width={(node.x1 ?? 0) - (node.x0 ?? 0)} height={Math.max(2, (node.y1 ?? 0) - (node.y0 ?? 0))} rx={2} />
              <text className="label halo" x={left ? (node.x1 ?? 0) + 6 : (node.x0 ?? 0) - 6} y={middle - 1} textAnchor={left ? "start" : "end"}>{nameOf(node.id)}</text>
              <text className="faint halo" x={left ? (node.x1 ?? 0) + 6 : (node.x0 ?? 0) - 6} y={middle + 13} textAnchor={left ? "start" : "end"}>{node.value}</text>
            </g>
          );
        })}
      </svg>
    </div>
  );
});
FlowDrawing.displayName = "FlowDrawing";
