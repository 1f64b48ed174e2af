//! What this node keeps of the cluster's shards: their actors, begun and ended as their groups come and go; and the
//! answers to what other nodes ask of them.
//!
//! Promises: a shard has one actor at a time, made from what the store holds; what has left this node is deleted before
//! it can come again. Only the owner answers for a shard.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use gemba_cluster::{
    Apply, Boxed, Group, Journal, Role, ShardId,
    keeper::{Keeper, Shards},
    net::{PeerName, Refusal},
};
use gemba_twins::{event::Origin, id::TenantId};
use prost::Message as _;
use ractor::Actor;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};

use super::{
    Calls, Cluster,
    followed::Followed,
    past::Floors,
    replica::{Replica, blocking},
    standing::{ChangeReply, owned},
    wire::{
        AwaitWire, BatchReply, BatchWire, CommandReply, CommandWire, Envelope, FoldedReply, FoldedWire, Said,
    },
};
use crate::{
    ingest::{Ticket, TicketState},
    metric_definitions as names,
    node::{CommandError, Health},
    notify::Told,
    shard::{
        Command, Core, Router, ShardActor, ShardArguments, ShardMsg, Shared, recover, router::control_number,
    },
    table::{Recovery, TwinTable, Twins},
};

/// Most time that a node is kept waiting for a seq.
const AWAIT_WITHIN: Duration = Duration::from_secs(5);
/// Most time until an owner knows that it still is one.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_millis(500);

/// The shards that this node keeps.
pub(crate) struct Keeping {
    pub(super) shared: Shared,
    pub(super) journal: Journal,
    pub(super) router: Arc<Router>,
    pub(super) twins: Arc<Twins>,
    pub(super) control: Arc<TwinTable>,
    pub(super) health: Arc<Health>,
    snapshots: Arc<Semaphore>,
    /// Held while an actor is begun or ended.
    pub(super) working: tokio::sync::Mutex<()>,
    /// The open groups, with a number by which a later one of the same shard is told from an earlier one.
    groups: Mutex<BTreeMap<u16, (u64, Group)>>,
    opened: AtomicU64,
    keeper: OnceLock<Keeper>,
    cluster: OnceLock<Weak<Cluster>>,
    /// Who answers calls that other nodes pass on.
    calls: OnceLock<Arc<dyn Calls>>,
    /// Up to which seq the warehouse needs nothing of a shard that this node owns.
    pub(super) floors: OnceLock<Floors>,
    /// Subscriptions of other nodes' clients.
    pub(super) followed: Followed,
    /// Shards that have left and are to be deleted.
    leaving: Mutex<BTreeSet<u16>>,
    /// The actors' tasks.
    pub(super) tasks: Mutex<Vec<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeping {
    pub(crate) fn new(
        shared: Shared,
        journal: Journal,
        router: Arc<Router>,
        twins: Arc<Twins>,
        control: Arc<TwinTable>,
        health: Arc<Health>,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            journal,
            router,
            twins,
            control,
            health,
            snapshots: Arc::new(Semaphore::new(1)),
            working: tokio::sync::Mutex::default(),
            groups: Mutex::default(),
            opened: AtomicU64::new(0),
            keeper: OnceLock::new(),
            cluster: OnceLock::new(),
            calls: OnceLock::new(),
            floors: OnceLock::new(),
            followed: Followed::default(),
            leaving: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// The keeper comes later: it needs this.
    pub(super) fn set_keeper(&self, keeper: Keeper) {
        // Set once.
        let _ = self.keeper.set(keeper);
    }

    /// Comes later, as the keeper does.
    pub(super) fn set_cluster(&self, cluster: &Arc<Cluster>) {
        // Set once.
        let _ = self.cluster.set(Arc::downgrade(cluster));
    }

    pub(super) fn cluster(&self) -> Option<Arc<Cluster>> {
        self.cluster.get()?.upgrade()
    }

    /// Names who answers calls that other nodes pass on; only the first one counts.
    pub(super) fn set_calls(&self, calls: Arc<dyn Calls>) {
        let _ = self.calls.set(calls);
    }

    pub(super) fn calls(&self) -> Option<Arc<dyn Calls>> {
        self.calls.get().cloned()
    }

    pub(super) fn table(&self, number: u16) -> Option<Arc<TwinTable>> {
        if number == control_number() {
            return Some(self.control.clone());
        }
        self.twins.tables.get(usize::from(number)).cloned()
    }

    pub(super) fn group(&self, number: u16) -> Option<Group> {
        lock(&self.groups).get(&number).map(|(_, group)| group.clone())
    }

    /// Ends a shard's actor, if there is one; its callers are sent on.
    pub(super) async fn end(&self, number: u16) {
        let Some(actor) = self.router.remove_actor(number) else {
            return;
        };
        let (left, ended) = oneshot::channel();
        if actor.cast(ShardMsg::Leave(left)).is_ok() {
            // An actor that has ended otherwise needs no waiting for.
            let _ = ended.await;
        }
    }

    /// A shard's state as the store has it, and the records that a node wrote before it was replicated.
    pub(super) async fn bring_back(&self, number: u16) -> io::Result<Core> {
        let table = self
            .table(number)
            .ok_or_else(|| io::Error::other("no such shard"))?;
        table.clear();
        let log = self.journal.log(ShardId::new(number));
        let until = log.map_or(0, |log| log.base.seq);
        let (shared, journal) = (self.shared.clone(), self.journal.clone());
        let recovered = tokio::task::spawn_blocking(move || recover(number, shared, table, &journal, until));
        recovered
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)
    }

    /// Begins the actor of a shard.
    pub(super) async fn begin(&self, core: Core) -> io::Result<()> {
        let number = core.number;
        let arguments = ShardArguments {
            core,
            journal: self.journal.clone(),
            router: self.router.clone(),
            snapshots: self.snapshots.clone(),
            health: self.health.clone(),
            is_replicated: true,
        };
        let (actor, task) = Actor::spawn(None, ShardActor, arguments)
            .await
            .map_err(|problem| io::Error::other(problem.to_string()))?;
        self.router.set_actor(number, actor.clone());
        lock(&self.tasks).push(task);
        if let Some(group) = self.group(number) {
            let role = group.role().borrow().clone();
            // It has just begun.
            let _ = actor.cast(ShardMsg::Role(group, role));
        }
        Ok(())
    }

    /// Deletes what is left of a shard that has left.
    async fn clear_if_left(&self, number: u16) -> io::Result<()> {
        if !lock(&self.leaving).remove(&number) {
            return Ok(());
        }
        self.end(number).await;
        let (router, store) = (self.router.clone(), self.shared.store.clone());
        blocking(move || {
            let keeps = |tenant: &TenantId| router.rejected_shard(tenant) == number;
            store.import(number, number == control_number(), &keeps)?.finish()
        })
        .await?;
        if let Some(table) = self.table(number) {
            table.clear();
            table.set_recovery(Recovery::Elsewhere);
        }
        Ok(())
    }

    async fn open(self: Arc<Self>, number: u16) -> io::Result<Box<dyn Apply>> {
        let _working = self.working.lock().await;
        lock(&self.groups).remove(&number);
        if let Some(table) = self.table(number) {
            table.set_recovery(Recovery::UnderWay);
        }
        self.clear_if_left(number).await?;
        self.end(number).await;
        let core = self.bring_back(number).await?;
        let holds = core.seq;
        self.begin(core).await?;
        // What could not fold on has begun anew.
        self.health.broken.store(false, Ordering::Release);
        Ok(Box::new(Replica {
            keeping: self.clone(),
            number,
            holds,
        }))
    }

    /// Passes on what the group of a shard says of its role.
    async fn watch(self: Arc<Self>, opened: u64, group: Group) {
        let number = group.shard().get();
        let (mut roles, mut owner) = (group.role(), None);
        let is_current = || {
            lock(&self.groups)
                .get(&number)
                .is_some_and(|(known, _)| *known == opened)
        };
        loop {
            let role = roles.borrow_and_update().clone();
            if role.owner.is_some() && role.owner != owner {
                if owner.is_some() {
                    metrics::counter!(names::OWNER_CHANGES, "shard" => number.to_string()).increment(1);
                }
                owner = role.owner;
            }
            if !is_current() {
                return;
            }
            self.tell_role(&group, role);
            if roles.changed().await.is_err() {
                break;
            }
        }
        if is_current() {
            self.tell_role(&group, Role::default());
        }
    }

    fn tell_role(&self, group: &Group, role: Role) {
        if let Some(actor) = self.router.actor(group.shard().get()) {
            // An actor that has ended needs no role.
            let _ = actor.cast(ShardMsg::Role(group.clone(), role));
        }
    }

    /// Which of these shards the node owns for certain, and how far each is folded.
    async fn folded(&self, asked: FoldedWire) -> FoldedReply {
        let of = |shard: u32| async move {
            let number = u16::try_from(shard).ok()?;
            let (group, table) = (self.group(number)?, self.table(number)?);
            if !group.role().borrow().serves {
                return None;
            }
            let confirmed = tokio::time::timeout(CONFIRM_WITHIN, group.confirm_by_lease()).await;
            confirmed.ok()?.ok()?;
            Some(table.folded() + 1)
        };
        let next = futures_util::future::join_all(asked.shards.into_iter().map(of)).await;
        FoldedReply {
            next: next.into_iter().map(Option::unwrap_or_default).collect(),
        }
    }

    async fn take_batch(&self, number: u16, batch: BatchWire) -> Result<BatchReply, String> {
        if !self.router.serves(number) {
            let owner = self.group(number).and_then(|group| group.role().borrow().owner);
            return Ok(BatchReply {
                owner,
                ..BatchReply::default()
            });
        }
        let count = batch.ends.len();
        let ticket = TicketState::new(count, count, Vec::new(), None, None, None);
        let submission = batch.submission(ticket.clone())?;
        if count > 0 {
            self.router.send(number, ShardMsg::Submit(submission));
            // What failed is told by the ends that are missing.
            let _ = Ticket(ticket.clone()).await;
        }
        Ok(BatchReply::of(ticket.ends()))
    }

    /// Has a command carried out by this node's actor.
    pub(super) async fn command_here(
        &self,
        number: u16,
        kind: crate::shard::CommandKind,
    ) -> Result<u64, CommandError> {
        if !self.router.serves(number) {
            return Err(CommandError::Moved);
        }
        let (reply, answer) = oneshot::channel();
        self.router
            .send(number, ShardMsg::Command(Command { kind, reply }));
        let unknown = "the shard's actor has ended, and whether it was carried out is not known";
        answer
            .await
            .unwrap_or_else(|_| Err(CommandError::Unavailable(unknown.into())))
    }

    async fn command(&self, number: u16, wire: CommandWire) -> Result<Bytes, String> {
        let result = self.command_here(number, wire.kind()?).await;
        Ok(CommandReply::of(result).encode_to_vec().into())
    }

    async fn wait(&self, number: u16, wire: AwaitWire) -> Result<Bytes, String> {
        let table = self.table(number).ok_or("no such shard")?;
        let folded = tokio::time::timeout(AWAIT_WITHIN, table.folded_up_to(wire.seq)).await;
        folded.map_err(|_| "the seq is not folded here yet".to_owned())?;
        Ok(Bytes::new())
    }

    async fn answer(&self, number: u16, body: Bytes) -> Result<Bytes, String> {
        let envelope = Envelope::decode(body).map_err(|error| error.to_string())?;
        match envelope.said.ok_or("a message that is not known here")? {
            Said::Batch(batch) => Ok(self.take_batch(number, batch).await?.encode_to_vec().into()),
            Said::Transfer(transfer) => {
                if self.router.serves(number) {
                    self.router.transfer_here(number, transfer.transfer()?);
                }
                Ok(Bytes::new())
            }
            Said::Confirm(confirm) => {
                let by = u16::try_from(confirm.by).map_err(|error| error.to_string())?;
                let up_to = confirm.up_to.ok_or("a confirmation of nothing")?;
                self.router.confirm_here(number, by, up_to.into());
                Ok(Bytes::new())
            }
            Said::Command(command) => self.command(number, command).await,
            Said::Folded(asked) => Ok(self.folded(asked).await.encode_to_vec().into()),
            Said::Await(wire) => self.wait(number, wire).await,
            Said::Standing(_) => {
                let owned = self.keeper.get().map(owned).unwrap_or_default();
                Ok(owned.encode_to_vec().into())
            }
            Said::Change(wire) => {
                let keeper = self.keeper.get().ok_or("the node is starting")?;
                let changed = keeper.change_map(wire.change()).await;
                Ok(ChangeReply::of(changed).encode_to_vec().into())
            }
            Said::Twins(wire) => Ok(self.tell_twins(number, wire).await?.encode_to_vec().into()),
            Said::Call(wire) => Ok(self.answer_call(wire).await?.encode_to_vec().into()),
            Said::Follow(wire) => Ok(self.follow(wire).await?.encode_to_vec().into()),
            Said::Next(wire) => Ok(self.tell_frames(wire).await.encode_to_vec().into()),
            Said::Cleared(asked) => Ok(self.tell_floors(&asked).encode_to_vec().into()),
            Said::Past(wire) => Ok(self.tell_past(number, wire).await?.encode_to_vec().into()),
            Said::Told(told) => {
                for origin in told.told.into_iter().map(Origin::from) {
                    let so_far = Told {
                        seq: origin.seq,
                        index: origin.index,
                    };
                    self.shared
                        .notifier
                        .hear_told(&told.destination, origin.shard, so_far);
                }
                Ok(Bytes::new())
            }
        }
    }
}

/// The keeping as the keeper's seam.
pub(crate) struct Seam(pub(crate) Arc<Keeping>);

impl Shards for Seam {
    fn state(&self, shard: ShardId) -> Boxed<'_, io::Result<Box<dyn Apply>>> {
        Box::pin(self.0.clone().open(shard.get()))
    }

    fn opened(&self, group: Group) {
        let number = group.shard().get();
        let opened = self.0.opened.fetch_add(1, Ordering::Relaxed);
        lock(&self.0.groups).insert(number, (opened, group.clone()));
        if let Some(table) = self.0.table(number) {
            table.set_recovery(Recovery::Done);
        }
        tokio::spawn(self.0.clone().watch(opened, group));
    }

    fn left(&self, shard: ShardId) {
        let number = shard.get();
        lock(&self.0.groups).remove(&number);
        lock(&self.0.leaving).insert(number);
        let keeping = self.0.clone();
        tokio::spawn(async move {
            let _working = keeping.working.lock().await;
            if let Err(error) = keeping.clear_if_left(number).await {
                tracing::warn!(shard = number, %error, "what is kept of a shard that has left cannot be deleted");
            }
        });
    }

    fn batch(&self, _: PeerName, shard: ShardId, body: Bytes) -> Boxed<'static, Result<Bytes, Refusal>> {
        let keeping = self.0.clone();
        Box::pin(async move { keeping.answer(shard.get(), body).await.map_err(Refusal::NotNow) })
    }
}
