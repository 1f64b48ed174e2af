//! From a twin's address to the actor of its shard.
//!
//! Promises: what is sent before a shard has recovered waits for it (bounded by the admission gate); what is sent
//! after it stopped fails at once, so that nobody waits for ever. The shard of a twin never changes.

use std::sync::{Mutex, OnceLock, PoisonError};

use gemba_cluster::ShardId;
use gemba_twins::{
    event::Origin,
    id::{TenantId, TwinId},
};
use ractor::{ActorRef, MessagingErr};

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

#[derive(Default)]
struct Cell {
    actor: OnceLock<ActorRef<ShardMsg>>,
    /// What came before the actor was there; `None` once it is.
    early: Mutex<Vec<ShardMsg>>,
}

/// The shard actors of this node.
pub(crate) struct Router {
    shards: u16,
    /// The data shards by number, then the control shard.
    cells: Vec<Cell>,
}

impl Router {
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            shards,
            cells: (0..=shards).map(|_| Cell::default()).collect(),
        }
    }

    pub(crate) fn shard_of(&self, id: &TwinId) -> u16 {
        shard_of(id, self.shards)
    }

    /// The shard that keeps a tenant's rejected messages: one, so that they have an order.
    pub(crate) fn rejected_shard(&self, tenant: &TenantId) -> u16 {
        let key = [tenant.as_str().as_bytes(), b"\0rejected"].concat();
        gemba_cluster::shard_of(&key, self.shards).get()
    }

    fn cell(&self, number: u16) -> &Cell {
        let at = if number == control_number() {
            self.shards
        } else {
            number
        };
        &self.cells[usize::from(at)]
    }

    /// The actor of a recovered shard; hands it what waited.
    pub(crate) fn set_actor(&self, number: u16, actor: ActorRef<ShardMsg>) {
        let cell = self.cell(number);
        let mut early = cell.early.lock().unwrap_or_else(PoisonError::into_inner);
        for message in early.drain(..) {
            send(&actor, message);
        }
        // Within the lock: nobody can put something aside after the drain.
        let _ = cell.actor.set(actor);
    }

    pub(crate) fn actors(&self) -> impl Iterator<Item = &ActorRef<ShardMsg>> {
        self.cells.iter().filter_map(|cell| cell.actor.get())
    }

    pub(crate) fn send(&self, number: u16, message: ShardMsg) {
        let cell = self.cell(number);
        if let Some(actor) = cell.actor.get() {
            return send(actor, message);
        }
        let mut early = cell.early.lock().unwrap_or_else(PoisonError::into_inner);
        match cell.actor.get() {
            Some(actor) => send(actor, message),
            None => early.push(message),
        }
    }

    pub(crate) fn submit(&self, number: u16, submission: Submission) {
        self.send(number, ShardMsg::Submit(submission));
    }

    /// Hands over messages between twins; a shard that is not there yet gets them again later.
    pub(crate) fn transfer(&self, to: u16, transfer: Transfer) {
        if let Some(actor) = self.cell(to).actor.get() {
            send(actor, ShardMsg::Transfer(transfer));
        }
    }

    pub(crate) fn confirm(&self, to: u16, by: u16, up_to: Origin) {
        if let Some(actor) = self.cell(to).actor.get() {
            send(actor, ShardMsg::Confirm { by, up_to });
        }
    }
}

fn send(actor: &ActorRef<ShardMsg>, message: ShardMsg) {
    if let Err(MessagingErr::SendErr(ShardMsg::Submit(submission))) = actor.cast(message) {
        for _ in &submission.items {
            submission.ticket.fail(SubmitError::Stopping);
        }
    }
    // A command's reply port goes with it, which tells its caller; the rest is sent again after a start.
}
