//! How the cluster stands, as any node tells it, and how a node leaves it for good.
//!
//! Promises: who owns what is told by the owners themselves; a node that does not answer is shown as such. A node is let
//! go only when no shard has it among its members.

use std::{collections::BTreeMap, time::Duration};

use gemba_cluster::{
    Errand, ShardId,
    keeper::ChangeError,
    map::{Change, MemberState, Standing},
};
use prost::Message;
use serde::Serialize;
use thiserror::Error;

use super::{
    Cluster,
    sending::{pause, until},
    wire::{Said, say},
};
use crate::{clock, shard::router::control_number};

/// Most time until a node says how its shards stand.
const STANDING_WITHIN: Duration = Duration::from_secs(1);

/// How a cluster stands.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterView {
    /// Its name.
    pub cluster: String,
    /// The node that was asked.
    pub node: u64,
    /// Whether each shard has an owner that answers.
    pub has_quorum: bool,
    /// Its nodes, by number.
    pub nodes: Vec<NodeView>,
    /// Its shards: data shards by number, then `control` and `map`.
    pub shards: Vec<ShardView>,
}

/// A node of a cluster.
#[derive(Debug, Clone, Serialize)]
pub struct NodeView {
    /// Its number.
    pub node: u64,
    /// Where its cluster port is.
    pub address: String,
    /// What fails together with it.
    pub zone: String,
    /// `up`, `draining` or `gone`.
    pub state: &'static str,
    /// Whether it answered just now.
    pub answers: bool,
    /// Shards that it owns.
    pub owns: usize,
    /// Shards that it is a member of.
    pub keeps: usize,
}

/// A shard of a cluster.
#[derive(Debug, Clone, Serialize)]
pub struct ShardView {
    /// Its number, `control` or `map`.
    pub shard: String,
    /// Its owner, which answered itself; none where nobody did.
    pub owner: Option<u64>,
    /// The owner's epoch.
    pub epoch: u64,
    /// The last seq at the owner.
    pub seq: u64,
    /// The nodes that vote.
    pub members: Vec<u64>,
    /// The nodes that the map wants to keep it, the one first that should own it.
    pub wanted: Vec<u64>,
    /// Entries by which the farthest member is behind.
    pub lag: u64,
    /// What the node that was asked has of it: the last seq that is folded.
    pub here: Option<u64>,
    /// A hash of the twins' state that the node that was asked has; where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// Why a node does not leave.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DrainError {
    /// The node that was asked is in no cluster.
    #[error("this node is in no cluster")]
    Alone,
    /// The cluster has no such node.
    #[error("node {0} is not a member of the cluster")]
    NotFound(u64),
    /// The map does not take it.
    #[error("{0}")]
    Refused(String),
    /// Not now.
    #[error("{0} (try again)")]
    NotNow(String),
}

/// How far a node's leaving has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Draining {
    /// The node.
    pub node: u64,
    /// Whether it has left.
    pub left: bool,
    /// Shards that it is still a member of.
    pub shards: usize,
}

/// What an owner says of its shard.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OwnedWire {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    seq: u64,
    #[prost(uint64, repeated, tag = "4")]
    members: Vec<u64>,
    #[prost(uint64, tag = "5")]
    lag: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StandingReply {
    #[prost(message, repeated, tag = "1")]
    pub(super) owned: Vec<OwnedWire>,
}

/// A change of the map by its owner: how a node stands, or that it leaves.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ChangeWire {
    #[prost(uint64, tag = "1")]
    pub(super) node: u64,
    #[prost(bool, tag = "2")]
    pub(super) leaves: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ChangeReply {
    /// 0 changed, 1 refused, 2 not now.
    #[prost(uint32, tag = "1")]
    what: u32,
    #[prost(string, tag = "2")]
    detail: String,
}

impl ChangeReply {
    pub(super) fn of(result: Result<(), ChangeError>) -> Self {
        let detail = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let what = match result {
            Ok(()) => 0,
            Err(ChangeError::Refused(_)) => 1,
            Err(ChangeError::NotNow(_)) => 2,
        };
        Self { what, detail }
    }

    fn result(self) -> Result<(), ChangeError> {
        match self.what {
            0 => Ok(()),
            1 => Err(ChangeError::Refused(self.detail)),
            _ => Err(ChangeError::NotNow(self.detail)),
        }
    }
}

impl ChangeWire {
    pub(super) fn change(self) -> Change {
        if self.leaves {
            return Change::Leave(self.node);
        }
        Change::Stand(Standing {
            node: self.node,
            state: MemberState::Draining as i32,
        })
    }
}

/// What this node owns, for whoever asks how the cluster stands.
pub(super) fn owned(keeper: &gemba_cluster::keeper::Keeper) -> StandingReply {
    let of = |group: gemba_cluster::Group| {
        let standing = group.standing();
        standing.role.serves.then(|| OwnedWire {
            shard: group.shard().get().into(),
            epoch: standing.role.epoch.get(),
            seq: standing.applied.get(),
            members: standing.voters.union(&standing.learners).copied().collect(),
            lag: standing
                .behind
                .iter()
                .map(|(_, behind)| *behind)
                .max()
                .unwrap_or_default(),
        })
    };
    StandingReply {
        owned: keeper.groups().into_iter().filter_map(of).collect(),
    }
}

fn name_of(shard: ShardId) -> String {
    match shard {
        ShardId::CONTROL => "control".into(),
        ShardId::MAP => "map".into(),
        shard => shard.to_string(),
    }
}

/// By node whether it answered, and by shard who says that it owns it.
struct Heard {
    answered: BTreeMap<u64, bool>,
    owned: BTreeMap<u32, (u64, OwnedWire)>,
}

impl Heard {
    fn keeps(&self, node: u64) -> usize {
        let members = self.owned.values();
        members.filter(|(_, owned)| owned.members.contains(&node)).count()
    }
}

impl Cluster {
    async fn hear(&self) -> Heard {
        let map = self.keeper.map().borrow().clone();
        let asked = map.members.keys().copied().map(|node| async move {
            if node == self.node {
                return (node, Some(owned(&self.keeper)));
            }
            let body = say(Said::Standing(super::wire::Nothing {}));
            let answer = self
                .sending
                .ask(node, Errand::Ask, control_number(), body, STANDING_WITHIN)
                .await;
            (
                node,
                answer.ok().and_then(|answer| StandingReply::decode(answer).ok()),
            )
        });
        let mut heard = Heard {
            answered: BTreeMap::new(),
            owned: BTreeMap::new(),
        };
        for (node, reply) in futures_util::future::join_all(asked).await {
            heard.answered.insert(node, reply.is_some());
            for row in reply.into_iter().flat_map(|reply| reply.owned) {
                let known = heard.owned.get(&row.shard);
                // An owner that was replaced may not know it yet.
                if known.is_none_or(|(_, known)| known.epoch < row.epoch) {
                    heard.owned.insert(row.shard, (node, row));
                }
            }
        }
        heard
    }

    /// How the cluster stands; with a hash of each shard's twins where it is asked for.
    pub(crate) async fn view(&self, hashes: bool) -> ClusterView {
        let heard = self.hear().await;
        let map = self.keeper.map().borrow().clone();
        let nodes = map.members.values().map(|member| NodeView {
            node: member.node,
            address: member.address.clone(),
            zone: member.zone.clone(),
            state: match member.state() {
                MemberState::Up => "up",
                MemberState::Draining => "draining",
                MemberState::Gone => "gone",
            },
            answers: heard.answered.get(&member.node).copied().unwrap_or_default(),
            owns: heard
                .owned
                .values()
                .filter(|(owner, _)| *owner == member.node)
                .count(),
            keeps: heard.keeps(member.node),
        });
        let shards = map.all_shards().map(|shard| {
            let owned = heard.owned.get(&shard.get().into());
            let table = self.keeping.table(shard.get()).filter(|table| table.is_ready());
            let hash = table.as_ref().filter(|_| hashes && shard != ShardId::CONTROL);
            let hash = hash.and_then(|_| self.keeping.twins.hash_of(usize::from(shard.get())).ok());
            ShardView {
                shard: name_of(shard),
                owner: owned.map(|(owner, _)| *owner),
                epoch: owned.map_or(0, |(_, row)| row.epoch),
                seq: owned.map_or(0, |(_, row)| row.seq),
                members: owned.map(|(_, row)| row.members.clone()).unwrap_or_default(),
                wanted: map.keepers(shard),
                lag: owned.map_or(0, |(_, row)| row.lag),
                here: table.map(|table| table.folded()),
                hash: hash.map(|hash| format!("{hash:016x}")),
            }
        });
        let shards: Vec<_> = shards.collect();
        ClusterView {
            cluster: self.name.clone(),
            node: self.node,
            has_quorum: !shards.is_empty() && shards.iter().all(|shard| shard.owner.is_some()),
            nodes: nodes.collect(),
            shards,
        }
    }

    /// Has a node give its shards away; lets it go when it is a member of none.
    pub(crate) async fn drain(&self, node: u64) -> Result<Draining, DrainError> {
        let map = self.keeper.map().borrow().clone();
        let member = map.members.get(&node).ok_or(DrainError::NotFound(node))?;
        if member.state() == MemberState::Up {
            self.change(ChangeWire { node, leaves: false }).await?;
        }
        let heard = self.hear().await;
        let shards = heard.keeps(node);
        let is_known = heard.owned.len() == map.all_shards().count();
        let left = shards == 0 && is_known && member.state() != MemberState::Up;
        if left {
            self.change(ChangeWire { node, leaves: true }).await?;
        }
        Ok(Draining { node, left, shards })
    }

    /// Has the map changed by its owner.
    async fn change(&self, wire: ChangeWire) -> Result<(), DrainError> {
        let (until, map) = (until(), ShardId::MAP.get());
        for turn in 0.. {
            let is_own = self
                .keeper
                .group(ShardId::MAP)
                .is_some_and(|group| group.role().borrow().serves);
            let changed = if is_own {
                self.keeper.change_map(wire.change()).await
            } else {
                let not_now = |detail: String| ChangeError::NotNow(detail);
                match self.sending.other_owner(map, turn) {
                    None => Err(not_now("nobody owns the cluster's map".into())),
                    Some(owner) => {
                        let asked = self
                            .sending
                            .ask(
                                owner,
                                Errand::Ask,
                                map,
                                say(Said::Change(wire)),
                                STANDING_WITHIN * 5,
                            )
                            .await;
                        let reply = asked.map_err(|error| not_now(error.to_string()));
                        reply.and_then(|reply| {
                            let reply = ChangeReply::decode(reply);
                            reply.map_err(|error| not_now(error.to_string()))?.result()
                        })
                    }
                }
            };
            match changed {
                Ok(()) => return Ok(()),
                Err(ChangeError::Refused(reason)) => return Err(DrainError::Refused(reason)),
                Err(ChangeError::NotNow(reason)) if clock::instant() >= until => {
                    return Err(DrainError::NotNow(reason));
                }
                Err(ChangeError::NotNow(_)) => pause().await,
            }
        }
        Ok(())
    }
}
