//! The keeper of a node's groups: opens those that the map gives it, answers for them, and brings them to what the map
//! says.
//!
//! Promises: a group that has stopped is opened again, later and later; an owner changes one thing of its group at a
//! time and hands over only to a replica that has nearly all of the log; what a shard's state means is the business of
//! whoever gives it out ([`Shards`]). Knows no addresses beyond the map's.

mod joining;
mod leaving;
mod rounds;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use thiserror::Error;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

pub use self::joining::{JoinError, Welcome};
use crate::{
    Apply, Ballots, Boxed, Courier, Epoch, Errand, Group, GroupOptions, Identity, Journal, ProposeError,
    Role, ShardId, Timing, found,
    map::{Change, ClusterMap, Founding, MapState, Member, Refusals, change_body},
    net::{Answers, PeerName, Refusal},
};

/// Why the cluster's map was not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// The map does not take it.
    #[error("{0}")]
    Refused(String),
    /// Not taken, or not known to be; it may be tried again.
    #[error("{0}")]
    NotNow(String),
}

/// Gives out the states of shards.
pub trait Shards: Send + Sync + 'static {
    /// The state of a shard as a restart brings it back; called again when its group is opened again.
    fn state(&self, shard: ShardId) -> Boxed<'_, io::Result<Box<dyn Apply>>>;

    /// A shard's group is open: the node may propose to it and watch its role. Called again when it is opened again.
    fn opened(&self, group: Group);

    /// A shard has left this node, and what is kept of it may be deleted.
    fn left(&self, shard: ShardId);

    /// A batch or a question of another node's clients, for a shard that this node may own. What the bytes mean is not
    /// known here.
    fn batch(&self, from: PeerName, shard: ShardId, body: Bytes) -> Boxed<'static, Result<Bytes, Refusal>>;
}

/// What a keeper is made of.
pub struct KeeperOptions {
    /// The cluster's name.
    pub cluster: String,
    /// This node; its instance is filled in.
    pub member: Member,
    /// The node's journal.
    pub journal: Journal,
    /// The node's ballots.
    pub ballots: Arc<Ballots>,
    /// The way to other nodes.
    pub courier: Arc<dyn Courier>,
    /// Who gives out the states.
    pub shards: Arc<dyn Shards>,
    /// How long to wait.
    pub timing: Timing,
    /// Where arriving snapshots are kept; in memory without it.
    pub spool: Option<PathBuf>,
    /// Rounds (a second each) after which a node that does not answer counts as gone. 0 never.
    pub gone_after: u32,
    /// Whether an owner hands its shard over to the node that the map would have own it.
    pub rebalances: bool,
    /// The time it is, in milliseconds since 1970.
    pub now_ms: fn() -> i64,
}

/// The groups of a node. Cheap to clone.
#[derive(Clone)]
pub struct Keeper(Arc<Inner>);

/// What an owner said of its group.
#[derive(Debug, Default)]
struct Heard {
    epoch: Epoch,
    /// Since which index these are the members; 0 of a release that does not say.
    index: u64,
    members: BTreeSet<u64>,
}

impl Heard {
    /// Whether a node that knows of this epoch, and of members since this index, is no member any more. Members that it
    /// knows of since later may have taken it in again, and count on what it has.
    fn has_let_go(&self, node: u64, epoch: Epoch, index: u64) -> bool {
        let is_newest = self.epoch >= epoch && (self.index == 0 || self.index >= index);
        is_newest && !self.members.is_empty() && !self.members.contains(&node)
    }
}

struct Inner {
    cluster: String,
    member: Member,
    journal: Journal,
    ballots: Arc<Ballots>,
    courier: Arc<dyn Courier>,
    shards: Arc<dyn Shards>,
    timing: Timing,
    spool: Option<PathBuf>,
    gone_after: u32,
    rebalances: bool,
    /// Whether the map is as new as this run of the node; before, what the node keeps is not let go of.
    has_place: AtomicBool,
    now_ms: fn() -> i64,
    groups: RwLock<BTreeMap<u16, Group>>,
    /// Held while groups are opened and closed.
    opening: tokio::sync::Mutex<()>,
    map: Mutex<MapSeen>,
    /// The newest map, for all who watch it.
    publish: watch::Sender<Arc<ClusterMap>>,
    /// What owners say of their groups.
    heard: Mutex<BTreeMap<u16, Heard>>,
    /// Shards whose log is damaged here.
    damaged: Mutex<BTreeSet<u16>>,
    /// Shards whose log is damaged on other nodes, as these say.
    damaged_there: Mutex<BTreeMap<u64, BTreeSet<u16>>>,
    /// Nodes whose clocks differ from this one's, and were said to.
    skewed: Mutex<BTreeSet<u64>>,
    /// Something may have to be done.
    wake: Notify,
    working: Mutex<Vec<AbortHandle>>,
}

struct MapSeen {
    refusals: Refusals,
}

impl Keeper {
    /// Takes up what the node has: its groups are opened as far as the map gives them to it.
    pub async fn open(options: KeeperOptions) -> io::Result<Self> {
        let KeeperOptions {
            cluster,
            mut member,
            journal,
            ballots,
            courier,
            shards,
            timing,
            spool,
            gone_after,
            rebalances,
            now_ms,
        } = options;
        let Identity { instance, .. } = ballots.claim(&cluster, member.node)?;
        member.instance = instance;
        member.protocol = crate::net::PROTOCOL;
        let (publish, _) = watch::channel(Arc::new(ClusterMap::default()));
        let has_place = AtomicBool::new(journal.log(ShardId::MAP).is_none());
        let keeper = Self(Arc::new(Inner {
            cluster,
            member,
            journal,
            ballots,
            courier,
            shards,
            timing,
            spool,
            gone_after,
            rebalances,
            has_place,
            now_ms,
            skewed: Mutex::default(),
            groups: RwLock::default(),
            opening: tokio::sync::Mutex::new(()),
            map: Mutex::new(MapSeen {
                refusals: Refusals::default(),
            }),
            publish,
            heard: Mutex::default(),
            damaged: Mutex::default(),
            damaged_there: Mutex::default(),
            wake: Notify::new(),
            working: Mutex::default(),
        }));
        if keeper.0.journal.log(ShardId::MAP).is_some() {
            keeper.open_group(ShardId::MAP).await?;
        }
        let rounds = tokio::spawn(keeper.clone().go_rounds()).abort_handle();
        keeper.work(rounds);
        Ok(keeper)
    }

    /// Says that the node has its place on the map, after it was asked or joined: from now on it lets go of what the map gives
    /// to others. A node that comes back has a map of before, and may be about to be given again what it would delete.
    pub fn has_place(&self) {
        self.0.has_place.store(true, Ordering::Release);
        self.0.wake.notify_one();
    }

    /// Makes this node the first of a new cluster: its shards become groups of one, with all that is in them.
    pub async fn found(&self, shards: u16, copies: usize) -> io::Result<()> {
        let (journal, ballots, node) = (&self.0.journal, &self.0.ballots, self.0.member.node);
        for shard in (0..shards)
            .map(ShardId::new)
            .chain([ShardId::CONTROL, ShardId::MAP])
        {
            found(journal, ballots, shard, node).await?;
        }
        self.open_group(ShardId::MAP).await?;
        let founding = Change::Found(Founding {
            member: Some(self.0.member.clone()),
            shards: shards.into(),
            copies: u32::try_from(copies).unwrap_or(3),
        });
        if self.map().borrow().members.is_empty() {
            self.change_map(founding).await.map_err(io::Error::other)?;
        }
        self.0.wake.notify_one();
        Ok(())
    }

    /// The cluster's map, and each change of it.
    #[must_use]
    pub fn map(&self) -> watch::Receiver<Arc<ClusterMap>> {
        self.0.publish.subscribe()
    }

    /// This node.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.0.member
    }

    /// The group of a shard, if this node keeps it.
    #[must_use]
    pub fn group(&self, shard: ShardId) -> Option<Group> {
        let groups = self.0.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.get(&shard.get()).cloned()
    }

    /// All groups of this node.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let groups = self.0.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.values().cloned().collect()
    }

    /// Changes the map; only the map's owner can. Answers why it was refused, if it was.
    pub async fn change_map(&self, change: Change) -> Result<(), ChangeError> {
        let group = self
            .group(ShardId::MAP)
            .ok_or_else(|| ChangeError::NotNow("this node does not keep the cluster's map".into()))?;
        let mut tries = 0;
        let applied = loop {
            let role = self.serving(&group).await;
            if !role.serves {
                return Err(ChangeError::NotNow(format!(
                    "this node does not own the cluster's map (node {:?} may)",
                    role.owner
                )));
            }
            tries += 1;
            match group.append(role.epoch, change_body(change.clone())).await {
                Ok(applied) => break applied,
                // Not taken, so it may be tried again.
                Err(ProposeError::NotNow { .. } | ProposeError::NotOwner { .. }) if tries < 20 => {
                    tokio::time::sleep(self.0.timing.heartbeat).await;
                }
                Err(error) => return Err(ChangeError::NotNow(error.to_string())),
            }
        };
        let seen = self.0.map.lock().unwrap_or_else(PoisonError::into_inner);
        seen.refusals
            .of(applied.last)
            .map_or(Ok(()), |reason| Err(ChangeError::Refused(reason)))
    }

    /// What a group's replica is once it serves or has stopped, or after a while without either.
    async fn serving(&self, group: &Group) -> Role {
        let mut role = group.role();
        let serving = role.wait_for(|role| role.serves || role.failed.is_some());
        // Whether it is so is seen below.
        drop(tokio::time::timeout(self.0.timing.election.1 * 4, serving).await);
        role.borrow().clone()
    }

    /// Ends the node's part in its groups.
    pub async fn close(&self) {
        for work in self
            .0
            .working
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            work.abort();
        }
        let groups = std::mem::take(&mut *self.0.groups.write().unwrap_or_else(PoisonError::into_inner));
        for group in groups.values() {
            group.close().await;
        }
    }

    /// Notes what an owner says of its group.
    fn hear_of(&self, shard: ShardId, said: Heard) {
        let mut heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let known = heard.entry(shard.get()).or_default();
        if (known.epoch, known.index) <= (said.epoch, said.index) {
            *known = said;
        }
    }

    fn damaged(&self) -> Vec<u32> {
        let damaged = self.0.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.iter().copied().map(u32::from).collect()
    }

    fn hear_damaged(&self, node: u64, shards: BTreeSet<u16>) {
        let mut there = self
            .0
            .damaged_there
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_new = there
            .get(&node)
            .map_or(!shards.is_empty(), |known| *known != shards);
        there.insert(node, shards);
        drop(there);
        if is_new {
            self.0.wake.notify_one();
        }
    }

    fn work(&self, handle: AbortHandle) {
        let mut working = self.0.working.lock().unwrap_or_else(PoisonError::into_inner);
        working.retain(|work| !work.is_finished());
        working.push(handle);
    }

    /// Opens the group of a shard, if it is not open.
    async fn open_group(&self, shard: ShardId) -> io::Result<()> {
        let _opening = self.0.opening.lock().await;
        if self.group(shard).is_some() {
            return Ok(());
        }
        let apply: Box<dyn Apply> = if shard == ShardId::MAP {
            self.open_map()?
        } else {
            self.0.shards.state(shard).await?
        };
        let group = Group::open(GroupOptions {
            shard,
            node: self.0.member.node,
            journal: self.0.journal.clone(),
            ballots: self.0.ballots.clone(),
            courier: self.0.courier.clone(),
            apply,
            timing: self.0.timing,
            spool: self.0.spool.clone(),
        })
        .await
        .map_err(io::Error::other)?;
        self.0
            .groups
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(shard.get(), group.clone());
        if shard != ShardId::MAP {
            self.0.shards.opened(group);
        }
        Ok(())
    }

    fn open_map(&self) -> io::Result<Box<dyn Apply>> {
        let (state, mut seen, refusals) = MapState::open(self.0.ballots.clone())?;
        self.0.map.lock().unwrap_or_else(PoisonError::into_inner).refusals = refusals;
        let keeper = self.clone();
        let passing = tokio::spawn(async move {
            loop {
                let map = seen.borrow_and_update().clone();
                if !map.members.is_empty() {
                    keeper.take_map(map);
                }
                if seen.changed().await.is_err() {
                    return;
                }
            }
        });
        self.work(passing.abort_handle());
        Ok(Box::new(state))
    }

    fn remove_group(&self, shard: ShardId) -> Option<Group> {
        let mut groups = self.0.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.remove(&shard.get())
    }
}

impl Answers for Keeper {
    fn answer(
        &self,
        from: PeerName,
        errand: Errand,
        shard: ShardId,
        body: Bytes,
    ) -> Boxed<'static, Result<Bytes, Refusal>> {
        let keeper = self.clone();
        match errand {
            Errand::Batch | Errand::Ask => keeper.0.shards.batch(from, shard, body),
            Errand::Hello => Box::pin(async move { keeper.welcome(&from, &body).await }),
            _ => Box::pin(async move {
                let group = match keeper.group(shard) {
                    Some(group) => group,
                    // An owner has made this node a replica before the map has come here; it will ask again.
                    None => return Err(Refusal::NotNow(format!("shard {shard} is not kept here"))),
                };
                let answered = group.answer(errand, body).await;
                answered.map_err(|error| Refusal::NotNow(error.to_string()))
            }),
        }
    }
}

/// Answers for a keeper that comes later: a port opens before there is one, and says so until then.
#[derive(Default)]
pub struct LateKeeper(OnceLock<Keeper>);

impl LateKeeper {
    /// The keeper is there; only the first one counts.
    pub fn set(&self, keeper: Keeper) {
        let _ = self.0.set(keeper);
    }
}

impl Answers for LateKeeper {
    fn answer(
        &self,
        from: PeerName,
        errand: Errand,
        shard: ShardId,
        body: Bytes,
    ) -> Boxed<'static, Result<Bytes, Refusal>> {
        match self.0.get() {
            Some(keeper) => keeper.answer(from, errand, shard, body),
            None => Box::pin(async { Err(Refusal::NotNow("the node is starting".into())) }),
        }
    }
}
