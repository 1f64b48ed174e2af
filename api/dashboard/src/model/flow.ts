// How jobs move between locations, for a Sankey drawing; which has no circles. Pure.
import type { Visit } from "../api/shapes";

export type Move = { from: string; to: string; count: number };
export type Flow = { nodes: string[]; forward: Move[]; back: Move[] };

/** Counts the moves of all paths; those that would close a circle are told apart as moves back. */
export const flow = (paths: readonly (readonly Visit[])[]): Flow => {
  const counts = new Map<string, Move>();
  const rank = new Map<string, { sum: number; seen: number }>();
  for (const path of paths) {
    path.forEach((visit, index) => {
      const place = rank.get(visit.location) ?? { sum: 0, seen: 0 };
      place.sum += index;
      place.seen += 1;
      rank.set(visit.location, place);
      const next = path[index + 1];
      if (!next || next.location === visit.location) return;
      const key = `${visit.location}\n${next.location}`;
      const move = counts.get(key) ?? { from: visit.location, to: next.location, count: 0 };
      move.count += 1;
      counts.set(key, move);
    });
  }
  const mean = (id: string) => {
    const place = rank.get(id);
    return place ? place.sum / place.seen : 0;
  };
  // The places in the order in which jobs mostly come to them; a move against that order would close a circle.
  const nodes = [...rank.keys()].sort((a, b) => mean(a) - mean(b) || a.localeCompare(b));
  const order = new Map(nodes.map((id, index) => [id, index]));
  const moves = [...counts.values()].sort((a, b) => b.count - a.count);
  const goesOn = (move: Move) => (order.get(move.from) ?? 0) < (order.get(move.to) ?? 0);
  return { nodes, forward: moves.filter(goesOn), back: moves.filter((move) => !goesOn(move)) };
};

export type Stay = { location: string; mean_s: number; visits: number };

/** The mean stay by location, the longest first. */
export const stays = (paths: readonly (readonly Visit[])[]): Stay[] => {
  const all = new Map<string, { sum: number; visits: number }>();
  for (const path of paths) {
    for (const visit of path) {
      // A stay that still lasts would make the mean too short.
      if (visit.left_at === undefined) continue;
      const place = all.get(visit.location) ?? { sum: 0, visits: 0 };
      place.sum += visit.dwell_s;
      place.visits += 1;
      all.set(visit.location, place);
    }
  }
  return [...all]
    .map(([location, { sum, visits }]) => ({ location, mean_s: sum / visits, visits }))
    .sort((a, b) => b.mean_s - a.mean_s);
};
