//! A node as a member of a cluster: its shards are replicated, and each node reaches every twin.
//!
//! Promises: a node that is no member serves nothing until it is one; a folder never belongs to two clusters; a stop
//! hands the node's shards over first. Replication, membership and the port are the `cluster` crate's; here is what a
//! shard's records do, and what nodes say to one another on behalf of their clients.

mod elsewhere;
mod followed;
mod following;
mod keeping;
mod past;
mod reading;
mod replica;
mod sending;
mod standing;
mod wire;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gemba_cluster::{
    Ballots, Errand, Group, Journal, ShardId, Timing, Undelivered,
    keeper::{JoinError, Keeper, KeeperOptions, LateKeeper},
    map::{ClusterMap, Member, MemberState},
    net::{AddressBook, Credentials, Lines, Port, PortLimits},
};
use tokio::sync::watch;
use tracing::{info, warn};

pub use self::{
    elsewhere::{Calls, PassedCall, PassedReply, Wanted},
    following::Following,
    standing::{ClusterView, DrainError, Draining, NodeView, ShardView},
};
pub(crate) use self::{keeping::Keeping, reading::Membership};
use self::{
    keeping::Seam,
    sending::{Sending, Way},
    wire::{Said, ToldWire, say},
};
use crate::{metric_definitions as names, settings::ClusterSettings, table::Recovery};

/// Most time that a member is given to answer a node that joins.
const JOIN_WITHIN: Duration = Duration::from_secs(3);
/// Between two rounds of asking to join.
const JOIN_PAUSE: Duration = Duration::from_secs(1);
/// Most time that a stop waits until the node's shards have other owners.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(3);

/// A node's part in its cluster.
pub(crate) struct Cluster {
    pub(crate) node: u64,
    pub(crate) name: String,
    pub(crate) keeper: Keeper,
    keeping: Arc<Keeping>,
    sending: Arc<Sending>,
    lines: Lines,
    port: Mutex<Option<Port>>,
    settings: ClusterSettings,
    /// Why the node cannot be a member, once that is known.
    failed: watch::Sender<Option<String>>,
    /// Whether all that the node keeps has been here once.
    is_caught_up: watch::Sender<bool>,
}

/// Whether a journal is of a member of a cluster.
pub(crate) fn is_member(journal: &Journal) -> bool {
    journal.log(ShardId::MAP).is_some()
}

impl Cluster {
    /// Opens the port and takes up what the folder has; joining goes on in the background.
    pub(crate) async fn open(settings: ClusterSettings, keeping: Arc<Keeping>) -> Result<Arc<Self>, String> {
        let credentials = Credentials::read(&settings.authorities, &settings.certificate, &settings.key)
            .map_err(|error| error.to_string())?;
        let (name, node) = (credentials.name.cluster.clone(), credentials.name.node);
        let folder = keeping.shared.settings.data_dir.clone();
        let ballots = Ballots::open(&folder.join("raft.redb")).map_err(|error| error.to_string())?;
        let (book, late) = (AddressBook::default(), Arc::new(LateKeeper::default()));
        let lines = Lines::new(credentials.clone(), book.clone());
        let port = Port::open(settings.listen, credentials, PortLimits::default(), late.clone())
            .await
            .map_err(|error| error.to_string())?;
        let sending = Arc::new(Sending::new(node, keeping.router.clone(), lines.clone()));
        keeping.router.set_beyond(Arc::new(Way(sending.clone())));
        let router = keeping.router.clone();
        keeping
            .shared
            .notifier
            .set_owned(Arc::new(move |shard| router.serves(shard)));
        let keeper = Keeper::open(KeeperOptions {
            cluster: name.clone(),
            member: Member {
                node,
                address: settings.advertise.clone(),
                zone: settings.zone.clone(),
                ..Member::default()
            },
            journal: keeping.journal.clone(),
            ballots: Arc::new(ballots),
            courier: Arc::new(lines.clone()),
            shards: Arc::new(Seam(keeping.clone())),
            timing: Timing::of_heartbeat(settings.heartbeat),
            spool: Some(folder),
            gone_after: u32::try_from(settings.gone_after.as_secs()).unwrap_or(u32::MAX),
            rebalances: settings.rebalances,
            now_ms: || crate::clock::now().ms(),
        })
        .await
        .map_err(|error| error.to_string())?;
        sending.set_keeper(keeper.clone());
        keeping.set_keeper(keeper.clone());
        late.set(keeper.clone());
        info!(cluster = name, node, address = %port.address(), "member of a cluster");
        let cluster = Arc::new(Self {
            node,
            name,
            keeper,
            keeping,
            sending,
            lines,
            port: Mutex::new(Some(port)),
            settings,
            failed: watch::Sender::new(None),
            is_caught_up: watch::Sender::new(false),
        });
        cluster.keeping.set_cluster(&cluster);
        tokio::spawn(cluster.clone().follow_map(book));
        tokio::spawn(cluster.clone().belong());
        tokio::spawn(cluster.clone().look_around());
        Ok(cluster)
    }

    /// Names who answers calls that other nodes pass on.
    pub(crate) fn set_calls(&self, calls: Arc<dyn Calls>) {
        self.keeping.set_calls(calls);
    }

    /// Why the node cannot be a member, once that is known.
    pub(crate) fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// Whether all shards that the node keeps have been here as they are at their owners, once since the start.
    pub(crate) fn is_caught_up(&self) -> bool {
        *self.is_caught_up.borrow()
    }

    /// Waits for [`Cluster::is_caught_up`].
    pub(crate) async fn caught_up(&self) {
        // The sender lives as long as the cluster.
        let _ = self.is_caught_up.subscribe().wait_for(|is| *is).await;
    }

    /// Keeps the addresses, and which shards are kept elsewhere.
    async fn follow_map(self: Arc<Self>, book: AddressBook) {
        let mut seen = self.keeper.map();
        loop {
            let map = seen.borrow_and_update().clone();
            for member in map.members.values() {
                if book.get(member.node).as_deref() != Some(&*member.address) {
                    book.set(member.node, member.address.clone());
                    self.lines.hang_up(member.node);
                }
            }
            for shard in self.all_shards().filter(|_| map.seq.get() > 0) {
                let keeps = map.keepers(ShardId::new(shard)).contains(&self.node);
                if let Some(table) = self.keeping.table(shard) {
                    // A shard that comes to this node is there when its group is open.
                    if !keeps && self.keeping.group(shard).is_none() {
                        table.set_recovery(Recovery::Elsewhere);
                    } else if keeps && table.is_elsewhere() {
                        table.set_recovery(Recovery::UnderWay);
                    }
                }
            }
            if seen.changed().await.is_err() {
                return;
            }
        }
    }

    /// Becomes a member, if the node is none, and tells the others where it is.
    async fn belong(self: Arc<Self>) {
        if let Err(reason) = self.become_member().await {
            self.failed.send_replace(Some(reason));
            return;
        }
        self.keeper.has_place();
        loop {
            let all: Vec<u16> = self.kept().collect();
            let until = crate::clock::instant() + Duration::from_secs(60);
            let is_here = !all.is_empty() && self.catch_up_until(all, until).await.is_ok();
            if is_here
                && self
                    .kept()
                    .all(|shard| self.keeping.table(shard).is_some_and(|table| table.is_ready()))
            {
                self.is_caught_up.send_replace(true);
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The shards that the map gives to this node.
    fn kept(&self) -> impl Iterator<Item = u16> + use<'_> {
        let map = self.keeper.map().borrow().clone();
        let is_known = map.seq.get() > 0;
        self.all_shards()
            .filter(move |shard| is_known && map.keepers(ShardId::new(*shard)).contains(&self.node))
    }

    async fn become_member(&self) -> Result<(), String> {
        let was_member = is_member(&self.keeping.journal);
        let asked = self
            .settings
            .join
            .iter()
            .filter(|address| **address != self.settings.advertise);
        let mut asked: Vec<String> = asked.cloned().collect();
        let mut rounds = 0_u32;
        loop {
            if was_member {
                // It may have been let go of since, and its map be of before.
                let is_certain = self.keeper.ask_around().await;
                let map = self.keeper.map().borrow().clone();
                let others = map.members.values().filter(|member| member.node != self.node);
                asked.extend(others.map(|member| member.address.clone()));
                asked.sort();
                asked.dedup();
                let own = map.members.get(&self.node);
                let is_known = own.is_some_and(|own| {
                    own.address == self.settings.advertise && own.state() == MemberState::Up
                });
                if (is_known && is_certain) || (asked.is_empty() && map.seq.get() > 0) {
                    return Ok(());
                }
            }
            for address in &asked {
                match self.keeper.join(&self.lines, address, JOIN_WITHIN).await {
                    Ok(welcome) => return self.check(&welcome.map),
                    Err(JoinError::Refused { reason, .. }) if reason.contains("nobody owns") => {}
                    Err(
                        error @ (JoinError::Refused { .. }
                        | JoinError::Undelivered {
                            source: Undelivered::Refused { .. },
                            ..
                        }),
                    ) => return Err(error.to_string()),
                    // One of the two was made by another authority: asking again does not change it.
                    Err(JoinError::Undelivered {
                        source: Undelivered::Unreachable { detail, .. },
                        address,
                    }) if detail.contains("invalid peer certificate") => {
                        return Err(format!(
                            "failed to join by {address}: {detail} (are both certificates of this cluster's authority?)"
                        ));
                    }
                    Err(error) => {
                        if rounds.is_multiple_of(10) {
                            warn!(%error, "not joined yet");
                        }
                    }
                }
            }
            if !was_member && self.settings.founds {
                let count = self.keeping.shared.settings.shards;
                let founded = self.keeper.found(count, self.settings.copies).await;
                return founded.map_err(|error| format!("the cluster cannot be founded: {error}"));
            }
            if !was_member && asked.is_empty() {
                return Err(
                    "the data folder is of no cluster: name members with cluster.join, or found one with \
                     cluster.found"
                        .into(),
                );
            }
            rounds += 1;
            tokio::time::sleep(JOIN_PAUSE).await;
        }
    }

    fn check(&self, map: &ClusterMap) -> Result<(), String> {
        let own = self.keeping.shared.settings.shards;
        if map.count == own {
            return Ok(());
        }
        Err(format!(
            "the cluster has {} shards, this data folder was made for {own} (remove it and set node.shards = {})",
            map.count, map.count
        ))
    }

    /// Each second: the metrics, and how far notifications were told.
    async fn look_around(self: Arc<Self>) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut told_before = Vec::new();
        while self.port.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            seconds.tick().await;
            self.measure();
            let told = self.keeping.shared.notifier.told();
            if told != told_before {
                self.tell_told(&told);
                told_before = told;
            }
        }
    }

    fn tell_told(&self, told: &[(String, Vec<(u16, crate::notify::Told)>)]) {
        let map = self.keeper.map().borrow().clone();
        for (destination, told) in told.iter().filter(|(_, told)| !told.is_empty()) {
            let origins = told.iter().map(|(shard, told)| {
                let (shard, seq, index) = (*shard, told.seq, told.index);
                gemba_twins::event::Origin { shard, seq, index }.into()
            });
            let body = say(Said::Told(ToldWire {
                destination: destination.clone(),
                told: origins.collect(),
            }));
            for node in map.members.keys().copied().filter(|node| *node != self.node) {
                let (sending, body) = (self.sending.clone(), body.clone());
                tokio::spawn(async move {
                    // What is not heard of is told again with the next.
                    let _ = sending.ask(node, Errand::Ask, 0, body, JOIN_WITHIN).await;
                });
            }
        }
    }

    /// Shards kept here of which no owner is known.
    pub(crate) fn without_owner(&self) -> usize {
        let owner = |shard: u16| self.keeping.group(shard)?.role().borrow().owner;
        self.kept().filter(|shard| owner(*shard).is_none()).count()
    }

    fn measure(&self) {
        let map = self.keeper.map().borrow().clone();
        let states = [
            (MemberState::Up, "up"),
            (MemberState::Draining, "draining"),
            (MemberState::Gone, "gone"),
        ];
        for (state, name) in states {
            let count = map
                .members
                .values()
                .filter(|member| member.state() == state)
                .count();
            metrics::gauge!(names::NODES, "state" => name).set(count as f64);
        }
        let orphans = self.without_owner();
        metrics::gauge!(names::SHARDS_WITHOUT_OWNER).set(orphans as f64);
        metrics::gauge!(names::HAS_QUORUM).set(f64::from(u8::from(orphans == 0 && map.seq.get() > 0)));
        for group in self.keeper.groups() {
            let standing = group.standing();
            let shard = group.shard().to_string();
            let lag = standing
                .behind
                .iter()
                .map(|(_, behind)| *behind)
                .max()
                .unwrap_or_default();
            let owned = f64::from(u8::from(standing.role.serves));
            metrics::gauge!(names::SHARD_OWNED, "shard" => shard.clone()).set(owned);
            metrics::gauge!(names::SHARD_EPOCH, "shard" => shard.clone())
                .set(standing.role.epoch.get() as f64);
            metrics::gauge!(names::SHARD_LAG, "shard" => shard).set(lag as f64);
        }
        if let Some(port) = &*self.port.lock().unwrap_or_else(PoisonError::into_inner) {
            metrics::gauge!(names::CONNECTIONS_REFUSED).set(port.refused() as f64);
        }
    }

    /// Hands the node's shards over, and ends its part in the groups. Their actors go on until they are stopped.
    pub(crate) async fn close(&self) {
        let handing = self.keeper.groups().into_iter().map(hand_over);
        futures_util::future::join_all(handing).await;
        self.keeper.close().await;
        drop(self.port.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// The tasks of the shards' actors, to be waited for after they were stopped.
    pub(crate) fn take_tasks(&self) -> Vec<tokio::task::JoinHandle<()>> {
        std::mem::take(&mut *self.keeping.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets go of a shard's log up to a seq that the store covers.
    pub(crate) fn purge(&self, shard: u16, seq: u64) {
        if let Some(group) = self.keeping.group(shard) {
            tokio::spawn(async move {
                if let Err(error) = group.purge_up_to(gemba_cluster::Seq::new(seq)).await {
                    warn!(shard, %error, "log not purged; trying again");
                }
            });
        }
    }
}

/// Hands a group over to the replica that has most of its log, if this node owns it.
async fn hand_over(group: Group) {
    let standing = group.standing();
    if !standing.role.serves {
        return;
    }
    let others = standing
        .behind
        .iter()
        .filter(|(node, _)| standing.voters.contains(node));
    let Some((to, _)) = others.min_by_key(|(_, behind)| *behind) else {
        return;
    };
    if let Err(error) = group.hand_over(*to, HAND_OVER_WITHIN).await {
        // The others elect an owner by themselves.
        tracing::debug!(shard = %group.shard(), %error, "shard not handed over");
    }
}
