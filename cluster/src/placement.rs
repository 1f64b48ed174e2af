//! Which nodes keep which shard: a pure function of the members and of what was before.
//!
//! Promises: the same arguments give the same map; the copies of a shard stand in different zones where there are
//! enough of them; where the zones leave the choice, nodes differ by at most one copy; no copy moves that does not have
//! to. Knows no network, no time and no load.

use std::collections::{BTreeMap, BTreeSet};

/// A node that may keep copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub node: u64,
    /// What fails together: a rack, a room, a site. Nodes of one zone are told apart from those of others only.
    pub zone: String,
}

/// Which nodes keep which shard; the first of each list is the one that should own it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardMap {
    /// The nodes by shard.
    pub nodes: BTreeMap<u16, Vec<u64>>,
}

impl ShardMap {
    /// The nodes that keep a shard.
    #[must_use]
    pub fn of(&self, shard: u16) -> &[u64] {
        self.nodes.get(&shard).map_or(&[], Vec::as_slice)
    }

    /// How many copies of this map the other one has elsewhere: what has to be copied on the way there.
    #[must_use]
    pub fn moves_to(&self, other: &Self) -> usize {
        let moved = other.nodes.iter().map(|(shard, nodes)| {
            let known = self.of(*shard);
            nodes.iter().filter(|node| !known.contains(node)).count()
        });
        moved.sum()
    }
}

/// Places `copies` of each of `shards` shards on the members; on all of them where there are fewer.
#[must_use]
pub fn place(members: &[Place], previous: &ShardMap, shards: u16, copies: usize) -> ShardMap {
    let zones: BTreeMap<u64, &str> = members
        .iter()
        .map(|member| (member.node, member.zone.as_str()))
        .collect();
    if zones.is_empty() {
        return previous.clone();
    }
    let copies = copies.clamp(1, zones.len());
    let mut board = Board::new(&zones, previous, shards, copies);
    board.fill(copies);
    board.spread();
    board.balance();
    board.choose_owners(previous)
}

struct Board<'a> {
    zones: &'a BTreeMap<u64, &'a str>,
    kept: BTreeMap<u16, BTreeSet<u64>>,
    counts: BTreeMap<u64, usize>,
    previous: &'a ShardMap,
}

impl<'a> Board<'a> {
    /// What stays where it is.
    fn new(zones: &'a BTreeMap<u64, &'a str>, previous: &'a ShardMap, shards: u16, copies: usize) -> Self {
        let mut board = Self {
            zones,
            kept: BTreeMap::new(),
            counts: zones.keys().map(|node| (*node, 0)).collect(),
            previous,
        };
        for shard in 0..shards {
            let known = previous.of(shard).iter().filter(|node| zones.contains_key(node));
            board.kept.insert(shard, known.copied().collect());
        }
        for nodes in board.kept.values() {
            for node in nodes {
                *board.counts.entry(*node).or_default() += 1;
            }
        }
        // Fewer copies are wanted than there are: those on full nodes and in shared zones go first.
        for shard in 0..shards {
            while board.kept[&shard].len() > copies {
                let nodes = &board.kept[&shard];
                let worst = nodes
                    .iter()
                    .copied()
                    .max_by_key(|node| (board.sharing(nodes, *node), board.counts[node], *node));
                let Some(worst) = worst else { break };
                board.take(shard, worst);
            }
        }
        board
    }

    /// How many other nodes of a set are in a node's zone.
    fn sharing(&self, nodes: &BTreeSet<u64>, node: u64) -> usize {
        let zone = self.zones[&node];
        nodes
            .iter()
            .filter(|other| **other != node && self.zones[other] == zone)
            .count()
    }

    fn take(&mut self, shard: u16, node: u64) {
        if self.kept.entry(shard).or_default().remove(&node) {
            *self.counts.entry(node).or_default() -= 1;
        }
    }

    fn give(&mut self, shard: u16, node: u64) {
        if self.kept.entry(shard).or_default().insert(node) {
            *self.counts.entry(node).or_default() += 1;
        }
    }

    fn was_there(&self, shard: u16, node: u64) -> bool {
        self.previous.of(shard).contains(&node)
    }

    /// Gives each shard the copies that it lacks: in a zone of its own if there is one, on the emptiest node there.
    fn fill(&mut self, copies: usize) {
        let shards: Vec<u16> = self.kept.keys().copied().collect();
        for shard in shards {
            while self.kept[&shard].len() < copies {
                let nodes = &self.kept[&shard];
                let free = self.zones.keys().copied().filter(|node| !nodes.contains(node));
                let best = free.min_by_key(|node| (self.sharing(nodes, *node), self.counts[node], *node));
                let Some(best) = best else { break };
                self.give(shard, best);
            }
        }
    }

    /// Moves copies that share a zone while another zone has none.
    fn spread(&mut self) {
        let shards: Vec<u16> = self.kept.keys().copied().collect();
        for shard in shards {
            loop {
                let nodes = self.kept[&shard].clone();
                let crowded = nodes
                    .iter()
                    .copied()
                    .filter(|node| self.sharing(&nodes, *node) > 0)
                    .max_by_key(|node| (!self.was_there(shard, *node), self.counts[node], *node));
                let empty = self
                    .zones
                    .keys()
                    .copied()
                    .filter(|node| !nodes.contains(node) && self.sharing(&nodes, *node) == 0)
                    .min_by_key(|node| (self.counts[node], *node));
                let (Some(from), Some(to)) = (crowded, empty) else {
                    break;
                };
                self.take(shard, from);
                self.give(shard, to);
            }
        }
    }

    /// Moves copies from full nodes to empty ones, as far as the zones allow.
    fn balance(&mut self) {
        while let Some(moves) = self.free_moves().or_else(|| self.costly_move()) {
            for (shard, from, to) in moves {
                self.take(shard, from);
                self.give(shard, to);
            }
        }
    }

    /// Whether a copy may go from one node to another without making its zones worse.
    fn may_move(&self, nodes: &BTreeSet<u64>, from: u64, to: u64) -> bool {
        if !nodes.contains(&from) || nodes.contains(&to) {
            return false;
        }
        let mut without = nodes.clone();
        without.remove(&from);
        self.sharing(&without, to) <= self.sharing(nodes, from)
    }

    /// A chain of moves that evens two nodes out and copies nothing that has not to be copied anyway: each of its
    /// copies was not where it is before, or goes back to where it was.
    fn free_moves(&self) -> Option<Vec<(u16, u64, u64)>> {
        let mut fullest: Vec<u64> = self.counts.keys().copied().collect();
        fullest.sort_by_key(|node| std::cmp::Reverse(self.counts[node]));
        for first in fullest {
            let mut came: BTreeMap<u64, (u16, u64)> = BTreeMap::new();
            let mut reached = vec![first];
            while let Some(from) = reached.pop() {
                for (shard, nodes) in &self.kept {
                    for to in self.zones.keys().copied() {
                        let is_free = !self.was_there(*shard, from) || self.was_there(*shard, to);
                        let is_new = to != first && !came.contains_key(&to);
                        if !is_free || !is_new || !self.may_move(nodes, from, to) {
                            continue;
                        }
                        came.insert(to, (*shard, from));
                        if self.counts[&to] + 2 <= self.counts[&first] {
                            return Some(chain(&came, first, to));
                        }
                        reached.push(to);
                    }
                }
            }
        }
        None
    }

    /// A move that evens out and has to be copied: between the two nodes that differ most.
    fn costly_move(&self) -> Option<Vec<(u16, u64, u64)>> {
        let mut by_count: Vec<(usize, u64)> =
            self.counts.iter().map(|(node, count)| (*count, *node)).collect();
        by_count.sort_unstable();
        for (most, from) in by_count.iter().rev() {
            for (least, to) in &by_count {
                if least + 2 > *most {
                    break;
                }
                let found = self
                    .kept
                    .iter()
                    .find(|(_, nodes)| self.may_move(nodes, *from, *to));
                if let Some((shard, _)) = found {
                    return Some(vec![(*shard, *from, *to)]);
                }
            }
        }
        None
    }

    /// Puts the node that should own each shard first: the one that did, unless another has much less to do.
    fn choose_owners(&self, previous: &ShardMap) -> ShardMap {
        let mut owned: BTreeMap<u64, usize> = self.counts.keys().map(|node| (*node, 0)).collect();
        let mut owners: BTreeMap<u16, u64> = BTreeMap::new();
        for (shard, nodes) in &self.kept {
            let before = previous.of(*shard).first().filter(|node| nodes.contains(node));
            if let Some(owner) = before {
                owners.insert(*shard, *owner);
                *owned.entry(*owner).or_default() += 1;
            }
        }
        for (shard, nodes) in &self.kept {
            if owners.contains_key(shard) {
                continue;
            }
            if let Some(owner) = nodes.iter().copied().min_by_key(|node| (owned[node], *node)) {
                owners.insert(*shard, owner);
                *owned.entry(owner).or_default() += 1;
            }
        }
        while let Some((shard, to)) = owners.iter().find_map(|(shard, owner)| {
            let least = self.kept[shard]
                .iter()
                .copied()
                .min_by_key(|node| (owned[node], *node))?;
            (owned[owner] >= owned[&least] + 2).then_some((*shard, least))
        }) {
            if let Some(from) = owners.insert(shard, to) {
                *owned.entry(from).or_default() -= 1;
            }
            *owned.entry(to).or_default() += 1;
        }
        let nodes = self.kept.iter().map(|(shard, nodes)| {
            let owner = owners.get(shard).copied();
            let others = nodes.iter().copied().filter(|node| Some(*node) != owner);
            (*shard, owner.into_iter().chain(others).collect())
        });
        ShardMap {
            nodes: nodes.collect(),
        }
    }
}

/// The moves by which a node was reached, from the first one on.
fn chain(came: &BTreeMap<u64, (u16, u64)>, first: u64, last: u64) -> Vec<(u16, u64, u64)> {
    let (mut moves, mut to) = (Vec::new(), last);
    while to != first {
        let Some((shard, from)) = came.get(&to) else { break };
        moves.push((*shard, *from, to));
        to = *from;
    }
    moves.reverse();
    moves
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(zones: &[u8]) -> Vec<Place> {
        let place = |(index, zone): (usize, &u8)| Place {
            node: index as u64 + 1,
            zone: format!("zone-{zone}"),
        };
        zones.iter().enumerate().map(place).collect()
    }

    fn counts(map: &ShardMap, members: &[Place]) -> Vec<usize> {
        let of = |node| map.nodes.values().filter(|nodes| nodes.contains(&node)).count();
        members.iter().map(|member| of(member.node)).collect()
    }

    fn differ(counts: &[usize]) -> usize {
        counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
    }

    /// The copies that have to move to any even map, found another way than the placement does: copies flow one after
    /// the other from shards to nodes on the cheapest way there is. A node's place is free up to the even count, then
    /// there is one more for a price that no move outweighs.
    fn least_moves(previous: &ShardMap, members: &[Place], shards: u16, copies: usize) -> usize {
        const DEAR: i64 = 1_000_000;
        let (shards, nodes) = (usize::from(shards), members.len());
        let (source, sink) = (shards + nodes, shards + nodes + 1);
        let even = i64::try_from(shards * copies / nodes).unwrap();
        // From, to, how many may pass, the price of each; the edge beside it leads back.
        let mut edges: Vec<[i64; 4]> = Vec::new();
        let mut edge = |from: usize, to: usize, room: i64, price: i64| {
            let (from, to) = (i64::try_from(from).unwrap(), i64::try_from(to).unwrap());
            edges.extend([[from, to, room, price], [to, from, 0, -price]]);
        };
        for shard in 0..shards {
            edge(source, shard, i64::try_from(copies).unwrap(), 0);
            for (at, member) in members.iter().enumerate() {
                let stays = previous.of(u16::try_from(shard).unwrap()).contains(&member.node);
                edge(shard, shards + at, 1, i64::from(!stays));
            }
        }
        for node in shards..source {
            edge(node, sink, even, 0);
            edge(node, sink, 1, DEAR);
        }
        let mut spent = 0;
        loop {
            let mut nearest: Vec<Option<(i64, usize)>> = vec![None; sink + 1];
            nearest[source] = Some((0, usize::MAX));
            let mut is_nearer = true;
            while is_nearer {
                is_nearer = false;
                for (at, [from, to, room, price]) in edges.iter().enumerate() {
                    let Some((way, _)) = nearest[usize::try_from(*from).unwrap()] else {
                        continue;
                    };
                    let there = &mut nearest[usize::try_from(*to).unwrap()];
                    if *room > 0 && there.is_none_or(|(known, _)| way + price < known) {
                        *there = Some((way + price, at));
                        is_nearer = true;
                    }
                }
            }
            let Some((way, _)) = nearest[sink] else { break };
            spent += way;
            let mut at = sink;
            while at != source {
                let (_, by) = nearest[at].unwrap();
                edges[by][2] -= 1;
                edges[by ^ 1][2] += 1;
                at = usize::try_from(edges[by][0]).unwrap();
            }
        }
        usize::try_from(spent % DEAR).unwrap()
    }

    #[test]
    fn three_nodes_keep_all_and_own_a_third_each() {
        let map = place(&members(&[1, 2, 3]), &ShardMap::default(), 15, 3);
        assert!(map.nodes.values().all(|nodes| nodes.len() == 3));
        let owned = |node| map.nodes.values().filter(|nodes| nodes[0] == node).count();
        assert_eq!([owned(1), owned(2), owned(3)], [5, 5, 5]);
    }

    #[test]
    fn a_node_that_goes_leaves_the_others_where_they_are() {
        let five = members(&[1, 2, 3, 4, 5]);
        let before = place(&five, &ShardMap::default(), 16, 3);
        let lost = before.nodes.values().filter(|nodes| nodes.contains(&5)).count();
        let after = place(&five[..4], &before, 16, 3);
        assert_eq!(
            before.moves_to(&after),
            lost,
            "only what was on the node is copied"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn without_zones_nodes_differ_by_one_and_no_copy_moves_in_vain(
            before in 1_usize..9, after in 1_usize..9, shards in 1_u16..33, copies in 1_usize..6,
            from in 0_usize..9, among in 1_usize..9, others in 1_usize..6,
        ) {
            let all: Vec<Place> = members(&(0..9).collect::<Vec<u8>>());
            let (old, new) = (&all[..before], &all[9 - after..]);
            let previous = place(old, &ShardMap::default(), shards, copies);
            let previous = place(&all[from..(from + among).min(9)], &previous, shards, others);
            let map = place(new, &previous, shards, copies);
            let wanted = copies.min(after);
            prop_assert!(map.nodes.values().all(|nodes| nodes.len() == wanted));
            let now = counts(&map, new);
            prop_assert!(differ(&now) <= 1, "{now:?}");
            let moved = previous.moves_to(&map);
            prop_assert_eq!(moved, least_moves(&previous, new, shards, wanted));
            prop_assert_eq!(place(new, &map, shards, copies), map.clone(), "a placed map stays");
        }

        #[test]
        fn copies_stand_in_different_zones_where_they_can(
            zones in prop::collection::vec(0_u8..5, 1..10), gone in 0_usize..10, shards in 1_u16..40, copies in 1_usize..6,
        ) {
            let all = members(&zones);
            let previous = place(&all, &ShardMap::default(), shards, copies);
            let left: Vec<Place> = all.iter().enumerate().filter(|(index, _)| *index != gone).map(|(_, m)| m.clone()).collect();
            prop_assume!(!left.is_empty());
            for (members, map) in [(&all, &previous), (&left, &place(&left, &previous, shards, copies))] {
                let zone = |node: &u64| members.iter().find(|member| member.node == *node).map(|member| &member.zone);
                let there: BTreeSet<_> = members.iter().map(|member| &member.zone).collect();
                for nodes in map.nodes.values() {
                    let used: BTreeSet<_> = nodes.iter().map(zone).collect();
                    prop_assert_eq!(used.len(), there.len().min(nodes.len()), "{:?}", nodes);
                }
            }
        }
    }
}
