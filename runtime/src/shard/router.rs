//! From a twin's address to the actor of its shard, on this node or beyond it.
//!
//! Promises: what is sent before a shard has recovered waits for it (bounded by the admission gate); what is sent
//! after it stopped fails at once, so that nobody waits for ever. The shard of a twin never changes.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use gemba_cluster::ShardId;
use gemba_twins::{
    event::Origin,
    id::{TenantId, TwinId},
};
use ractor::{ActorRef, MessagingErr};
use tokio::sync::watch;

use super::{ShardMsg, outbox::Transfer};
use crate::ingest::{Submission, SubmitError};

/// The number of the control shard, which holds the plant models and no twins.
pub(crate) fn control_number() -> u16 {
    ShardId::CONTROL.get()
}

/// The bytes that a twin's shard is taken from.
pub(crate) fn shard_key(id: &TwinId) -> Vec<u8> {
    let (tenant, text) = (id.tenant().as_str().as_bytes(), id.id().as_bytes());
    let mut key = Vec::with_capacity(tenant.len() + text.len() + 2);
    key.extend_from_slice(tenant);
    key.extend_from_slice(&[0, id.kind() as u8]);
    key.extend_from_slice(text);
    key
}

/// The shard of a twin among `shards`.
pub(crate) fn shard_of(id: &TwinId, shards: u16) -> u16 {
    gemba_cluster::shard_of(&shard_key(id), shards).get()
}

/// The shard, among `shards`, that keeps a tenant's rejected messages.
pub(crate) fn rejected_shard_of(tenant: &TenantId, shards: u16) -> u16 {
    let key = [tenant.as_str().as_bytes(), b"\0rejected"].concat();
    gemba_cluster::shard_of(&key, shards).get()
}

#[derive(Default)]
struct Cell {
    actor: RwLock<Option<ActorRef<ShardMsg>>>,
    /// What came before the actor was there.
    early: Mutex<Vec<ShardMsg>>,
    /// Whether this node may put the shard's messages in order. Only looked at where shards are replicated.
    serves: AtomicBool,
}

/// What lies beyond this node: the owners of shards that it does not own.
pub(crate) trait Beyond: Send + Sync {
    /// Has messages put in order by the shard's owner.
    fn send_on(&self, shard: u16, submission: Submission);
    /// Hands messages between twins to the shard's owner.
    fn transfer(&self, to: u16, transfer: Transfer);
    /// Tells those that keep a shard what `by` has on disk.
    fn confirm(&self, to: u16, by: u16, up_to: Origin);
}

/// The shard actors of this node, and the way to those of other nodes.
pub(crate) struct Router {
    shards: u16,
    /// The data shards by number, then the control shard.
    cells: Vec<Cell>,
    beyond: OnceLock<Arc<dyn Beyond>>,
    /// Whether the node owns the control shard: what runs on one node at a time runs there.
    holds: watch::Sender<bool>,
}

impl Router {
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            shards,
            cells: (0..=shards).map(|_| Cell::default()).collect(),
            beyond: OnceLock::new(),
            holds: watch::Sender::new(true),
        }
    }

    /// Shards are replicated from here on: an actor takes messages only while its node owns the shard.
    pub(crate) fn set_beyond(&self, beyond: Arc<dyn Beyond>) {
        // It is set once, before the first actor.
        let _ = self.beyond.set(beyond);
        self.holds.send_replace(false);
    }

    pub(crate) fn shard_of(&self, id: &TwinId) -> u16 {
        shard_of(id, self.shards)
    }

    /// The shard that keeps a tenant's rejected messages: one, so that they have an order.
    pub(crate) fn rejected_shard(&self, tenant: &TenantId) -> u16 {
        rejected_shard_of(tenant, self.shards)
    }

    fn cell(&self, number: u16) -> &Cell {
        let at = if number == control_number() {
            self.shards
        } else {
            number
        };
        &self.cells[usize::from(at)]
    }

    pub(crate) fn set_serves(&self, number: u16, serves: bool) {
        self.cell(number).serves.store(serves, Ordering::Release);
        if number == control_number() {
            self.holds
                .send_if_modified(|holds| std::mem::replace(holds, serves) != serves);
        }
    }

    /// Whether the node owns the control shard, and each change of it; always, where it is alone.
    pub(crate) fn holds(&self) -> watch::Receiver<bool> {
        self.holds.subscribe()
    }

    /// Whether a shard's messages are put in order here.
    pub(crate) fn serves(&self, number: u16) -> bool {
        self.beyond.get().is_none() || self.cell(number).serves.load(Ordering::Acquire)
    }

    /// The actor of a recovered shard; hands it what waited.
    pub(crate) fn set_actor(&self, number: u16, actor: ActorRef<ShardMsg>) {
        let cell = self.cell(number);
        let mut early = cell.early.lock().unwrap_or_else(PoisonError::into_inner);
        for message in early.drain(..) {
            send(&actor, message);
        }
        // Within the lock: nobody can put something aside after the drain.
        *cell.actor.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
    }

    /// The shard's actor has ended, and no other one takes its place yet.
    pub(crate) fn remove_actor(&self, number: u16) -> Option<ActorRef<ShardMsg>> {
        let cell = self.cell(number);
        self.set_serves(number, false);
        cell.actor.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn actor(&self, number: u16) -> Option<ActorRef<ShardMsg>> {
        let actor = self.cell(number).actor.read();
        actor.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn actors(&self) -> Vec<ActorRef<ShardMsg>> {
        let actors = self.cells.iter();
        let actors = actors.map(|cell| cell.actor.read().unwrap_or_else(PoisonError::into_inner).clone());
        actors.flatten().collect()
    }

    pub(crate) fn send(&self, number: u16, message: ShardMsg) {
        let cell = self.cell(number);
        if let Some(actor) = &*cell.actor.read().unwrap_or_else(PoisonError::into_inner) {
            return send(actor, message);
        }
        let mut early = cell.early.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cell.actor.read().unwrap_or_else(PoisonError::into_inner) {
            Some(actor) => send(actor, message),
            // A replica may be a long time in coming; its callers ask the owner instead.
            None if self.beyond.get().is_some() => refuse(message),
            None => early.push(message),
        }
    }

    pub(crate) fn submit(&self, number: u16, submission: Submission) {
        match self.beyond.get() {
            Some(beyond) if !self.serves(number) => beyond.send_on(number, submission),
            _ => self.send(number, ShardMsg::Submit(submission)),
        }
    }

    /// Has messages put in order by the owner, which is not this node's actor at the moment.
    pub(crate) fn send_on(&self, number: u16, submission: Submission) {
        match self.beyond.get() {
            Some(beyond) => beyond.send_on(number, submission),
            None => refuse(ShardMsg::Submit(submission)),
        }
    }

    /// Hands over messages between twins; a shard that is not there yet gets them again later.
    pub(crate) fn transfer(&self, to: u16, transfer: Transfer) {
        match self.beyond.get() {
            Some(beyond) if !self.serves(to) => beyond.transfer(to, transfer),
            _ => self.transfer_here(to, transfer),
        }
    }

    pub(crate) fn transfer_here(&self, to: u16, transfer: Transfer) {
        if let Some(actor) = self.actor(to) {
            send(&actor, ShardMsg::Transfer(transfer));
        }
    }

    /// Says that `by` has a shard's messages on disk: to this node's actor, and where `by` is owned here to those nodes
    /// that keep the one shard and not the other.
    pub(crate) fn confirm(&self, to: u16, by: u16, up_to: Origin) {
        self.confirm_here(to, by, up_to);
        if let Some(beyond) = self.beyond.get().filter(|_| self.serves(by)) {
            beyond.confirm(to, by, up_to);
        }
    }

    pub(crate) fn confirm_here(&self, to: u16, by: u16, up_to: Origin) {
        if let Some(actor) = self.actor(to) {
            send(&actor, ShardMsg::Confirm { by, up_to });
        }
    }
}

fn send(actor: &ActorRef<ShardMsg>, message: ShardMsg) {
    if let Err(MessagingErr::SendErr(message)) = actor.cast(message) {
        refuse(message);
    }
}

fn refuse(message: ShardMsg) {
    if let ShardMsg::Submit(submission) = message {
        for _ in &submission.items {
            submission.ticket.fail(SubmitError::Stopping);
        }
    }
    // A command's reply port goes with it, which tells its caller; the rest is sent again after a start.
}
