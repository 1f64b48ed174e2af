//! The cluster's map: who its members are, where they are reached, and which of them keep which shard.
//!
//! Promises: a fold of changes in the order of a small raft group of its own, the same on every node; a change that does
//! not fit is refused with its reason, by every node alike. Knows no network and no time: whoever finds a node gone says
//! so by a change.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;

use crate::{
    Apply, Ballots, Boxed, Cut, Epoch, Frame, FrameBody, FrameBuilder, Seq, ShardId,
    placement::{Place, ShardMap, place},
};

/// Copies of each shard, unless the map says otherwise.
const COPIES: u32 = 3;
/// Most members that vote on what concerns the whole cluster: more would only make each change slower.
pub(crate) const VOTERS: usize = 5;

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MemberState {
    /// Keeps shards.
    Up = 0,
    /// Gives its shards away and then leaves; still reached.
    Draining = 1,
    /// Has not been heard of for the set time; its shards are copied elsewhere.
    Gone = 2,
}

/// A node of the cluster.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Member {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Where its cluster port is: `HOST:PORT`.
    #[prost(string, tag = "2")]
    pub address: String,
    /// What fails together with it.
    #[prost(string, tag = "3")]
    pub zone: String,
    /// How it stands.
    #[prost(enumeration = "MemberState", tag = "4")]
    pub state: i32,
    /// Drawn when its data folder was made: tells a node from another one with its number.
    #[prost(uint64, tag = "5")]
    pub instance: u64,
    /// The newest protocol that it speaks.
    #[prost(uint32, tag = "6")]
    pub protocol: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ShardRow {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(uint64, repeated, tag = "2")]
    nodes: Vec<u64>,
}

/// A change of the map.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MapChange {
    /// What changes.
    #[prost(oneof = "Change", tags = "1, 2, 3, 4")]
    pub change: Option<Change>,
}

/// What changes.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Change {
    /// The first member makes the cluster.
    #[prost(message, tag = "1")]
    Found(Founding),
    /// A node joins, or says anew where it is.
    #[prost(message, tag = "2")]
    Join(Member),
    /// A member stands differently.
    #[prost(message, tag = "3")]
    Stand(Standing),
    /// A member that keeps nothing leaves for good.
    #[prost(uint64, tag = "4")]
    Leave(u64),
}

/// How a cluster begins.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Founding {
    /// Its first member.
    #[prost(message, optional, tag = "1")]
    pub member: Option<Member>,
    /// The number of data shards; never changes.
    #[prost(uint32, tag = "2")]
    pub shards: u32,
    /// Copies of each.
    #[prost(uint32, tag = "3")]
    pub copies: u32,
}

/// How a member stands from here on.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Standing {
    /// The member.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// How it stands.
    #[prost(enumeration = "MemberState", tag = "2")]
    pub state: i32,
}

#[derive(Clone, PartialEq, Message)]
struct MapWire {
    #[prost(message, repeated, tag = "1")]
    members: Vec<Member>,
    #[prost(message, repeated, tag = "2")]
    shards: Vec<ShardRow>,
    #[prost(uint32, tag = "3")]
    count: u32,
    #[prost(uint32, tag = "4")]
    copies: u32,
    #[prost(uint64, tag = "5")]
    seq: u64,
}

/// The cluster's map at a seq.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterMap {
    /// By number.
    pub members: BTreeMap<u64, Member>,
    /// Which nodes keep which shard.
    pub shards: ShardMap,
    /// The number of data shards.
    pub count: u16,
    /// Copies of each shard, where there are enough nodes.
    pub copies: usize,
    /// The seq of the last change.
    pub seq: Seq,
}

impl ClusterMap {
    /// Takes in a change; refuses one that does not fit, and is then as before.
    pub fn change(&mut self, change: &MapChange) -> Result<(), String> {
        match change
            .change
            .as_ref()
            .ok_or("a change without content (written by a newer release?)")?
        {
            Change::Found(founding) => {
                let member = founding.member.clone().ok_or("a founding without a member")?;
                if !self.members.is_empty() {
                    return Err("the cluster has been founded already".into());
                }
                self.count = u16::try_from(founding.shards).map_err(|_| "too many shards")?;
                self.copies = founding.copies.max(1) as usize;
                self.members.insert(member.node, member);
            }
            Change::Join(member) => self.join(member)?,
            Change::Stand(Standing { node, state }) => {
                let up = self.up().count();
                let member = self.members.get_mut(node).ok_or_else(|| unknown(*node))?;
                let leaves = *state != MemberState::Up as i32 && member.state == MemberState::Up as i32;
                if leaves && up == 1 {
                    return Err(format!("node {node} is the last one that is up"));
                }
                member.state = *state;
            }
            Change::Leave(node) => {
                if !self.members.contains_key(node) {
                    return Err(unknown(*node));
                }
                let kept = self
                    .shards
                    .nodes
                    .values()
                    .filter(|nodes| nodes.contains(node))
                    .count();
                if kept > 0 {
                    return Err(format!("node {node} still keeps {kept} shards (drain it first)"));
                }
                self.members.remove(node);
            }
        }
        self.shards = self.placed();
        Ok(())
    }

    fn join(&mut self, member: &Member) -> Result<(), String> {
        if self.members.is_empty() {
            return Err("the cluster has not been founded".into());
        }
        let (node, address) = (member.node, &member.address);
        if let Some(other) = self
            .members
            .values()
            .find(|other| other.node != node && other.address == *address)
        {
            return Err(format!("node {} is reached at {address} already", other.node));
        }
        if let Some(known) = self.members.get(&node) {
            let is_another = known.instance != member.instance;
            if is_another && known.state != MemberState::Gone as i32 {
                return Err(format!(
                    "node {node} is a member already, at {} (give this node another number, or remove the other one)",
                    known.address
                ));
            }
        }
        let mut member = member.clone();
        member.state = MemberState::Up as i32;
        self.members.insert(node, member);
        Ok(())
    }

    fn up(&self) -> impl Iterator<Item = &Member> {
        self.members
            .values()
            .filter(|member| member.state() == MemberState::Up)
    }

    fn placed(&self) -> ShardMap {
        let places: Vec<Place> = self
            .up()
            .map(|member| Place {
                node: member.node,
                zone: member.zone.clone(),
            })
            .collect();
        place(&places, &self.shards, self.count, self.copies)
    }

    /// The nodes that keep a shard, the one that should own it first. The map itself is kept by up to five members, the
    /// first ones by number; the control shard by all, for each binds messages by the plant models.
    #[must_use]
    pub fn keepers(&self, shard: ShardId) -> Vec<u64> {
        let up = self.up().map(|member| member.node);
        match shard {
            ShardId::CONTROL => up.collect(),
            ShardId::MAP => up.take(VOTERS).collect(),
            shard => self.shards.of(shard.get()).to_vec(),
        }
    }

    /// All shards of the cluster.
    pub fn all_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.count)
            .map(ShardId::new)
            .chain([ShardId::CONTROL, ShardId::MAP])
    }

    /// The map as bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let rows = self.shards.nodes.iter().map(|(shard, nodes)| ShardRow {
            shard: u32::from(*shard),
            nodes: nodes.clone(),
        });
        MapWire {
            members: self.members.values().cloned().collect(),
            shards: rows.collect(),
            count: u32::from(self.count),
            copies: u32::try_from(self.copies).unwrap_or(COPIES),
            seq: self.seq.get(),
        }
        .encode_to_vec()
        .into()
    }

    /// The map from bytes.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        let wire = MapWire::decode(bytes).map_err(io::Error::other)?;
        let out_of_range = |_| io::Error::other("a shard's number is out of range");
        let mut shards = ShardMap::default();
        for row in wire.shards {
            shards
                .nodes
                .insert(u16::try_from(row.shard).map_err(out_of_range)?, row.nodes);
        }
        Ok(Self {
            members: wire
                .members
                .into_iter()
                .map(|member| (member.node, member))
                .collect(),
            shards,
            count: u16::try_from(wire.count).map_err(out_of_range)?,
            copies: wire.copies as usize,
            seq: Seq::new(wire.seq),
        })
    }
}

fn unknown(node: u64) -> String {
    format!("node {node} is not a member")
}

/// A change as a batch for the map's group.
#[must_use]
pub fn change_body(change: Change) -> FrameBody {
    let mut builder = FrameBuilder::new();
    // An empty frame takes any record of this size.
    let _ = builder.push(&MapChange { change: Some(change) }.encode_to_vec());
    builder.finish()
}

/// The state of the map's group: the newest map, for all who watch it.
pub struct MapState {
    map: ClusterMap,
    ballots: Arc<Ballots>,
    publish: watch::Sender<Arc<ClusterMap>>,
    refused: Refusals,
}

/// What became of the last changes, by seq: whoever proposed one asks here after it was applied.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<std::sync::Mutex<BTreeMap<u64, String>>>);

impl Refusals {
    /// Why the change at a seq was refused; `None` if it was taken.
    #[must_use]
    pub fn of(&self, seq: Seq) -> Option<String> {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(&seq.get()).cloned()
    }
}

impl MapState {
    /// Takes up the map where its last snapshot stands.
    pub fn open(ballots: Arc<Ballots>) -> io::Result<(Self, watch::Receiver<Arc<ClusterMap>>, Refusals)> {
        let map = match ballots.map()? {
            Some(bytes) => ClusterMap::decode(&bytes)?,
            None => ClusterMap::default(),
        };
        let (publish, seen) = watch::channel(Arc::new(map.clone()));
        let refused = Refusals::default();
        let state = Self {
            map,
            ballots,
            publish,
            refused: refused.clone(),
        };
        Ok((state, seen, refused))
    }

    fn take(&mut self, seq: u64, record: &[u8]) {
        let changed = MapChange::decode(record)
            .map_err(|error| error.to_string())
            .and_then(|change| self.map.change(&change));
        if let Err(reason) = changed {
            tracing::warn!(seq, reason, "change of the cluster's map refused");
            let mut refused = self.refused.0.lock().unwrap_or_else(PoisonError::into_inner);
            refused.insert(seq, reason);
            while refused.len() > 256 {
                refused.pop_first();
            }
        }
        self.map.seq = Seq::new(seq);
    }
}

impl Apply for MapState {
    fn holds(&mut self) -> Seq {
        self.map.seq
    }

    fn applied(&mut self, frame: Frame) -> Boxed<'_, io::Result<()>> {
        for (seq, record) in (frame.first().get()..).zip(frame.records()) {
            if seq > self.map.seq.get() {
                self.take(seq, record);
            }
        }
        self.publish.send_replace(Arc::new(self.map.clone()));
        Box::pin(async { Ok(()) })
    }

    fn began(&mut self, _: Epoch, _: bool) -> Boxed<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn snapshot(&mut self) -> Boxed<'_, io::Result<Cut>> {
        Box::pin(async {
            let bytes = self.map.encode();
            self.ballots.save_map(&bytes)?;
            Ok(Cut::in_memory(self.map.seq, bytes))
        })
    }

    fn install(&mut self, cut: Cut) -> Boxed<'_, io::Result<()>> {
        Box::pin(async move {
            let seq = cut.seq;
            let bytes = cut.read().await?;
            let mut map = ClusterMap::decode(&bytes)?;
            map.seq = seq;
            self.ballots.save_map(&map.encode())?;
            self.map = map;
            self.publish.send_replace(Arc::new(self.map.clone()));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, zone: &str) -> Member {
        Member {
            node,
            address: format!("10.0.0.{node}:7600"),
            zone: zone.into(),
            state: MemberState::Up as i32,
            instance: node * 100,
            protocol: 1,
        }
    }

    fn take(map: &mut ClusterMap, change: Change) -> Result<(), String> {
        map.change(&MapChange { change: Some(change) })
    }

    fn founded() -> ClusterMap {
        let mut map = ClusterMap::default();
        let founding = Founding {
            member: Some(member(1, "a")),
            shards: 16,
            copies: 3,
        };
        take(&mut map, Change::Found(founding)).expect("founded");
        map
    }

    #[test]
    fn a_cluster_grows_and_shrinks() {
        let mut map = founded();
        assert!(map.all_shards().all(|shard| map.keepers(shard) == [1]));
        for (node, zone) in [(2, "b"), (3, "c"), (4, "a"), (5, "b")] {
            take(&mut map, Change::Join(member(node, zone))).expect("joined");
        }
        assert!((0..16).all(|shard| map.keepers(ShardId::new(shard)).len() == 3));
        take(&mut map, Change::Join(member(6, "c"))).expect("joined");
        assert_eq!(map.keepers(ShardId::CONTROL), [1, 2, 3, 4, 5, 6]);
        assert_eq!(map.keepers(ShardId::MAP), [1, 2, 3, 4, 5]);
        let draining = Standing {
            node: 5,
            state: MemberState::Draining as i32,
        };
        assert!(take(&mut map, Change::Leave(5)).is_err(), "it still keeps shards");
        take(&mut map, Change::Stand(draining)).expect("draining");
        assert!(map.all_shards().all(|shard| !map.keepers(shard).contains(&5)));
        take(&mut map, Change::Leave(5)).expect("left");
        assert_eq!(ClusterMap::decode(&map.encode()).expect("a map"), map);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_reason() {
        let mut map = founded();
        take(&mut map, Change::Join(member(2, "b"))).expect("joined");
        let before = map.clone();
        let mut other = member(2, "b");
        (other.instance, other.address) = (7, "10.0.0.9:7600".into());
        let mut same_address = member(3, "c");
        same_address.address = member(1, "a").address;
        let gone = |node| {
            Change::Stand(Standing {
                node,
                state: MemberState::Gone as i32,
            })
        };
        let refused = [
            (Change::Join(other.clone()), "node 2 is a member already"),
            (Change::Join(same_address), "node 1 is reached at"),
            (gone(9), "node 9 is not a member"),
            (Change::Found(Founding::default()), "a founding without a member"),
        ];
        for (change, reason) in refused {
            let answer = take(&mut map, change).expect_err("refused");
            assert!(answer.starts_with(reason), "{answer}");
            assert_eq!(map, before);
        }
        take(&mut map, gone(2)).expect("gone");
        take(&mut map, Change::Join(other)).expect("a new node takes the slot of one that is gone");
        take(&mut map, gone(2)).expect("gone again");
        assert!(take(&mut map, gone(1)).is_err(), "somebody has to be up");
    }
}
