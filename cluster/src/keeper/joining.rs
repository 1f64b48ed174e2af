//! How a node joins: it says who it is to any member, and learns the map.
//!
//! Promises: a node that does not fit (another cluster, a number that is taken, a protocol that is not spoken) is told
//! why; joining twice is joining once.

use std::{
    io,
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use thiserror::Error;

use super::{ChangeError, Heard, Keeper};
use crate::{
    Epoch, Errand, Group, ShardId, Undelivered,
    map::{Change, ClusterMap, Member},
    net::{Lines, PROTOCOL, PeerName, Refusal},
};

/// How often a joining node asks: longer than any election takes on a busy machine.
const TRIES: usize = 40;

/// Clocks may differ by so much, and the message has been on its way.
const SKEW_MS: i64 = 2_000;
/// A node whose clock differs by more is not let in: it would take times for the future, or miss them.
const SKEW_MAX_MS: i64 = 60_000;

/// What a node says when it meets another one.
#[derive(Clone, PartialEq, Message)]
struct HelloWire {
    /// Who says it.
    #[prost(message, optional, tag = "1")]
    member: Option<Member>,
    /// Whether it wants to join, or only to know whether the other one lives.
    #[prost(bool, tag = "2")]
    joins: bool,
    /// Shards whose log is damaged there: their owners let the node go and take it in again.
    #[prost(uint32, repeated, tag = "4")]
    damaged: Vec<u32>,
    /// The name of its cluster: the certificate says so too, and this one can be told.
    #[prost(string, tag = "3")]
    cluster: String,
    /// The time it is there, in milliseconds since 1970; 0 of a release that does not say.
    #[prost(int64, tag = "5")]
    now_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct WelcomeWire {
    #[prost(bytes = "bytes", tag = "1")]
    map: Bytes,
    /// Ask there instead: the map's owner.
    #[prost(string, tag = "2")]
    ask_at: String,
    /// Whom the shards have that the answering node owns.
    #[prost(message, repeated, tag = "3")]
    owned: Vec<OwnedRow>,
    /// The time it is there, in milliseconds since 1970; 0 of a release that does not say.
    #[prost(int64, tag = "4")]
    now_ms: i64,
}

/// A shard that a node owns, with the members that a majority has taken in.
#[derive(Clone, PartialEq, Message)]
struct OwnedRow {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, repeated, tag = "3")]
    members: Vec<u64>,
    /// The index at which these became the members; 0 of a release that does not say.
    #[prost(uint64, tag = "4")]
    members_index: u64,
}

/// What a joining node learns.
#[derive(Debug, Clone)]
pub struct Welcome {
    /// The cluster's map, with the new node in it.
    pub map: ClusterMap,
}

/// Why a node did not join.
#[derive(Debug, Error)]
pub enum JoinError {
    /// Nobody answered, or not as it should.
    #[error("failed to join by {address}: {source}")]
    Undelivered {
        /// Whom it asked.
        address: String,
        /// What failed.
        source: Undelivered,
    },
    /// The cluster does not take it.
    #[error("failed to join by {address}: {reason}")]
    Refused {
        /// Whom it asked.
        address: String,
        /// Why.
        reason: String,
    },
}

impl Keeper {
    /// Joins a cluster by any of its members. Afterwards its groups come to this node as the map says.
    pub async fn join(&self, lines: &Lines, address: &str, within: Duration) -> Result<Welcome, JoinError> {
        let journal = &self.0.journal;
        if let Some(shard) = journal
            .shards()
            .into_iter()
            .find(|shard| journal.log(*shard).is_none())
        {
            let reason = format!(
                "shard {shard} of the data folder has records of a node that was alone (join with an empty folder, or \
                 let the others join this node)"
            );
            let address = address.to_owned();
            return Err(JoinError::Refused { address, reason });
        }
        let hello = HelloWire {
            member: Some(self.0.member.clone()),
            joins: true,
            cluster: self.0.cluster.clone(),
            damaged: self.damaged(),
            now_ms: (self.0.now_ms)(),
        };
        let body: Bytes = hello.encode_to_vec().into();
        // The member that was asked may not own the map; the one it names may just have lost it, or have died.
        let (mut ask_at, mut silent) = (address.to_owned(), None);
        for _ in 0..TRIES {
            // A member that comes back under another address may own the map itself: the others then only know where
            // it was.
            let group = self.group(ShardId::MAP);
            if group.is_some_and(|group| group.role().borrow().serves) {
                match self.change_map(Change::Join(self.0.member.clone())).await {
                    Ok(()) => {
                        let map = ClusterMap::clone(&self.map().borrow());
                        return Ok(Welcome { map });
                    }
                    Err(ChangeError::Refused(reason)) => {
                        let address = address.to_owned();
                        return Err(JoinError::Refused { address, reason });
                    }
                    Err(ChangeError::NotNow(_)) => {}
                }
            }
            let answer = match lines.ask_at(&ask_at, Errand::Hello, body.clone(), within).await {
                Ok(answer) => answer,
                Err(source @ Undelivered::Refused { .. }) => {
                    return Err(JoinError::Undelivered {
                        address: ask_at,
                        source,
                    });
                }
                Err(source) => {
                    silent = Some(JoinError::Undelivered {
                        address: ask_at,
                        source,
                    });
                    ask_at = address.to_owned();
                    tokio::time::sleep(self.0.timing.election.0).await;
                    continue;
                }
            };
            let refused = |reason: String| JoinError::Refused {
                address: ask_at.clone(),
                reason,
            };
            let welcome = WelcomeWire::decode(answer).map_err(|error| refused(error.to_string()))?;
            if !welcome.ask_at.is_empty() {
                ask_at = welcome.ask_at;
                tokio::time::sleep(self.0.timing.heartbeat).await;
                continue;
            }
            let map = ClusterMap::decode(&welcome.map).map_err(|error| refused(error.to_string()))?;
            self.take_map(map.clone().into());
            return Ok(Welcome { map });
        }
        let nobody = || JoinError::Refused {
            address: address.to_owned(),
            reason: "nobody owns the cluster's map".into(),
        };
        Err(silent.unwrap_or_else(nobody))
    }

    /// Takes up a map from its group here or from another node, if it is newer: a replica of the map's group that follows
    /// late tells what was so long ago.
    pub(super) fn take_map(&self, map: Arc<ClusterMap>) {
        let is_newer = self.0.publish.send_if_modified(|known| {
            let is_newer = map.seq > known.seq;
            if is_newer {
                known.clone_from(&map);
            }
            is_newer
        });
        if is_newer {
            self.0.wake.notify_one();
        }
    }

    /// Greets the other members that are known: the map here may be older than what was decided without this node.
    /// Answers whether a majority of them, with this node, knows of nothing newer than the map is now.
    pub async fn ask_around(&self) -> bool {
        let map = self.map().borrow().clone();
        let others = map.members.keys().filter(|node| **node != self.0.member.node);
        let greeted = futures_util::future::join_all(others.map(|node| self.greet(*node))).await;
        let answered = greeted.iter().filter(|answered| **answered).count();
        2 * (answered + 1) > map.members.len()
    }

    /// Whether a node lives; learns its map if that is newer.
    pub(super) async fn greet(&self, node: u64) -> bool {
        let hello = HelloWire {
            member: Some(self.0.member.clone()),
            joins: false,
            cluster: self.0.cluster.clone(),
            damaged: self.damaged(),
            now_ms: (self.0.now_ms)(),
        };
        let body = hello.encode_to_vec().into();
        let within = self.0.timing.election.1;
        let asked_ms = (self.0.now_ms)();
        let sent = self
            .0
            .courier
            .send(node, Errand::Hello, ShardId::MAP, body, within)
            .await;
        let Ok(answer) = sent else { return false };
        let welcome = WelcomeWire::decode(answer).map_err(io::Error::other);
        // An answer that was long on its way, as to a node that has frozen, says nothing about clocks.
        if let Ok(welcome) = &welcome
            && (self.0.now_ms)() - asked_ms <= SKEW_MS / 2
        {
            self.compare_clocks(node, welcome.now_ms);
        }
        match welcome.and_then(|welcome| Ok((ClusterMap::decode(&welcome.map)?, welcome.owned))) {
            Ok((map, owned)) => {
                self.take_map(map.into());
                for OwnedRow {
                    shard,
                    epoch,
                    members,
                    members_index,
                } in owned
                {
                    let Ok(shard) = u16::try_from(shard) else { continue };
                    let said = Heard {
                        epoch: Epoch::new(epoch),
                        index: members_index,
                        members: members.into_iter().collect(),
                    };
                    self.hear_of(ShardId::new(shard), said);
                }
            }
            Err(error) => tracing::warn!(node, %error, "a node said what is not understood"),
        }
        true
    }

    /// By how much another node's clock is ahead of this one's, in milliseconds; 0 where it is not known.
    fn ahead_ms(&self, there_ms: i64) -> i64 {
        if there_ms == 0 {
            0
        } else {
            there_ms - (self.0.now_ms)()
        }
    }

    /// Says it once when another node's clock differs, and once when it no longer does.
    fn compare_clocks(&self, node: u64, there_ms: i64) {
        let ahead_ms = self.ahead_ms(there_ms);
        let mut skewed = self.0.skewed.lock().unwrap_or_else(PoisonError::into_inner);
        if ahead_ms.abs() <= SKEW_MS {
            if skewed.remove(&node) {
                tracing::info!(node, "the clock of a node is right again");
            }
        } else if skewed.insert(node) {
            tracing::warn!(
                node,
                ahead_ms,
                "the clock of a node differs from this one's (does NTP run on both?)"
            );
        }
    }

    /// Whom the shards have that this node owns.
    fn owned(&self) -> Vec<OwnedRow> {
        let of = |group: Group| {
            let standing = group.standing();
            let is_known = standing.role.serves && standing.is_settled;
            is_known.then(|| OwnedRow {
                shard: group.shard().get().into(),
                epoch: standing.role.epoch.get(),
                members: standing.voters.union(&standing.learners).copied().collect(),
                members_index: standing.members_index,
            })
        };
        self.groups().into_iter().filter_map(of).collect()
    }

    pub(super) async fn welcome(&self, from: &PeerName, body: &[u8]) -> Result<Bytes, Refusal> {
        let never = |reason: String| Refusal::Never(reason);
        let hello = HelloWire::decode(body).map_err(|error| never(error.to_string()))?;
        if hello.cluster != self.0.cluster {
            return Err(never(format!(
                "this is cluster {:?}, not {:?}",
                self.0.cluster, hello.cluster
            )));
        }
        let member = hello
            .member
            .ok_or_else(|| never("a hello without a member".into()))?;
        if member.node != from.node {
            return Err(never(format!(
                "the certificate is of node {}, the hello of node {}",
                from.node, member.node
            )));
        }
        let known = self.map().borrow().members.get(&member.node).cloned();
        if let Some(known) = &known
            && known.instance != member.instance
            && !hello.joins
        {
            return Err(never(format!(
                "there is another node {}, at {}",
                known.node, known.address
            )));
        }
        if known
            .as_ref()
            .is_some_and(|known| known.instance == member.instance)
        {
            let shards = hello
                .damaged
                .iter()
                .filter_map(|shard| u16::try_from(*shard).ok());
            self.hear_damaged(member.node, shards.collect());
        }
        if hello.joins {
            let ahead_s = self.ahead_ms(hello.now_ms) / 1_000;
            if ahead_s.abs() > SKEW_MAX_MS / 1_000 {
                let way = if ahead_s > 0 { "ahead of" } else { "behind" };
                return Err(never(format!(
                    "the clock of node {} is {} s {way} that of node {} (set it, and have NTP keep it)",
                    member.node,
                    ahead_s.abs(),
                    self.0.member.node
                )));
            }
            if member.protocol != PROTOCOL {
                return Err(never(format!(
                    "node {} speaks protocol {}, this cluster {PROTOCOL} (upgrade the older one)",
                    member.node, member.protocol
                )));
            }
            let group = self.group(ShardId::MAP);
            let role = group
                .map(|group| group.role().borrow().clone())
                .unwrap_or_default();
            if !role.serves {
                let map = self.map().borrow().clone();
                let owner = role.owner.filter(|owner| *owner != self.0.member.node);
                let owner = owner.and_then(|owner| map.members.get(&owner));
                let Some(owner) = owner else {
                    return Err(Refusal::NotNow(
                        "nobody owns the cluster's map at the moment".into(),
                    ));
                };
                let ask_at = owner.address.clone();
                let welcome = WelcomeWire {
                    ask_at,
                    now_ms: (self.0.now_ms)(),
                    ..WelcomeWire::default()
                };
                return Ok(welcome.encode_to_vec().into());
            }
            if known.as_ref() != Some(&member) {
                let joined = self.change_map(Change::Join(member)).await;
                joined.map_err(|error| match error {
                    ChangeError::Refused(reason) => Refusal::Never(reason),
                    ChangeError::NotNow(reason) => Refusal::NotNow(reason),
                })?;
            }
        }
        let map = self.map().borrow().encode();
        let welcome = WelcomeWire {
            map,
            owned: self.owned(),
            now_ms: (self.0.now_ms)(),
            ..WelcomeWire::default()
        };
        Ok(welcome.encode_to_vec().into())
    }
}
