//! Messages on their way to the owners of shards that this node does not own.
//!
//! Promises: one batch of a shard is on its way at a time, so that senders' messages stay in order and batches grow with
//! the load; what was not taken goes to the next owner, and so does what may have been taken, if it can be recognised
//! there; what nobody took in time is answered as such. What waits is bounded by the admission gate.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gemba_cluster::{Courier, Errand, Role, ShardId, Undelivered, keeper::Keeper, net::Lines};
use gemba_twins::event::Origin;
use prost::Message as _;
use tokio::sync::watch;

use super::wire::{BatchReply, BatchWire, ConfirmWire, FoldedReply, FoldedWire, Said, TransferWire, say};
use crate::{
    clock,
    ingest::{Item, Submission, SubmitError, TicketState},
    metric_definitions as names,
    shard::{Beyond, Router, ShardMsg, Transfer},
};

/// Most bytes and messages of a batch.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_MESSAGES: usize = 4_096;
/// Most time until a batch is answered: its owner may wait for a slow disk, or for a majority.
const BATCH_WITHIN: Duration = Duration::from_secs(5);
/// Most time that a message looks for an owner.
const OWNER_WITHIN: Duration = Duration::from_secs(12);
/// Most time until a node that another one took for the owner says that it is.
const HINTED_WITHIN: Duration = Duration::from_millis(500);
/// Between two looks for an owner.
const PAUSE: Duration = Duration::from_millis(10);
/// Messages between twins that are not taken are sent again by their shard.
const TRANSFER_WITHIN: Duration = Duration::from_secs(2);

/// The ways to other nodes' shards.
pub(super) struct Sending {
    node: u64,
    router: Arc<Router>,
    lines: Lines,
    keeper: OnceLock<Keeper>,
    lanes: Mutex<BTreeMap<u16, Lane>>,
    /// Who took the last batch of a shard, or who did not.
    owners: Mutex<BTreeMap<u16, Known>>,
}

/// What is known of a shard's owner.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// It took the last batch.
    Owner(u64),
    /// It did not.
    Not(u64),
}

#[derive(Default)]
struct Lane {
    /// With the time until which an owner is looked for.
    waiting: VecDeque<(Instant, Submission)>,
    is_running: bool,
}

/// A message of a batch, and where its answer goes.
struct Sent {
    ticket: Arc<TicketState>,
    item: Item,
    bytes: Vec<u8>,
}

impl Sending {
    pub(super) fn new(node: u64, router: Arc<Router>, lines: Lines) -> Self {
        Self {
            node,
            router,
            lines,
            keeper: OnceLock::new(),
            lanes: Mutex::default(),
            owners: Mutex::default(),
        }
    }

    /// The keeper comes after the router, which needs this.
    pub(super) fn set_keeper(&self, keeper: Keeper) {
        // Set once.
        let _ = self.keeper.set(keeper);
    }

    /// Another node that may own a shard: the owner that its group knows, else one of those that keep it, by turns. `None`
    /// where this node is the owner, also if it does not serve yet.
    pub(super) fn other_owner(&self, shard: u16, turn: usize) -> Option<u64> {
        let keeper = self.keeper.get()?;
        let id = ShardId::new(shard);
        match self.role(shard).and_then(|role| role.borrow().owner) {
            // This node is about to serve it: whoever was the owner before may be frozen.
            Some(owner) if owner == self.node => return None,
            Some(owner) => return Some(owner),
            None => {}
        }
        let known = self
            .owners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&shard)
            .copied();
        let mut keepers = keeper.map().borrow().keepers(id);
        keepers.retain(|node| *node != self.node);
        match known {
            Some(Known::Owner(node)) if turn == 0 => return Some(node),
            // It is asked last: what cannot be recognised is tried only once.
            Some(Known::Not(node)) => keepers.sort_by_key(|keeper| *keeper == node),
            _ => {}
        }
        (!keepers.is_empty()).then(|| keepers[turn % keepers.len()])
    }

    pub(super) async fn ask(
        &self,
        node: u64,
        errand: Errand,
        shard: u16,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, Undelivered> {
        self.lines
            .send(node, errand, ShardId::new(shard), body, within)
            .await
    }

    /// Asks the owner of a shard; gives up as soon as the shard's group knows another one, for a node that is frozen would
    /// be waited for in vain.
    pub(super) async fn ask_owner(
        &self,
        owner: u64,
        shard: u16,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, Undelivered> {
        tokio::select! {
            answer = self.ask(owner, Errand::Batch, shard, body, within) => answer,
            () = self.replaced(owner, shard) => Err(Undelivered::Late { to: owner, within }),
        }
    }

    /// Whether a node that another one named is the owner. A node that learns of an election late names one that may be
    /// frozen: it would be waited for in vain, and nobody would tell, for the group here knows another owner already.
    async fn owns(&self, hinted: u64, shard: u16) -> bool {
        if self.role(shard).and_then(|role| role.borrow().owner) == Some(hinted) {
            return true;
        }
        let next = self
            .ask_of_shards(hinted, Said::Folded, &[shard], HINTED_WITHIN)
            .await;
        next.first().is_some_and(|next| *next > 0)
    }

    /// Asks a node for a number of each of these shards; nothing where it does not answer.
    pub(super) async fn ask_of_shards(
        &self,
        node: u64,
        question: fn(FoldedWire) -> Said,
        shards: &[u16],
        within: Duration,
    ) -> Vec<u64> {
        let Some(first) = shards.first() else {
            return Vec::new();
        };
        let wire = FoldedWire {
            shards: shards.iter().copied().map(u32::from).collect(),
        };
        let answer = self
            .ask(node, Errand::Ask, *first, say(question(wire)), within)
            .await;
        let reply = answer.ok().and_then(|answer| FoldedReply::decode(answer).ok());
        reply.map(|reply| reply.next).unwrap_or_default()
    }

    /// What the shard's replica here is, and each change of it.
    fn role(&self, shard: u16) -> Option<watch::Receiver<Role>> {
        let group = self.keeper.get()?.group(ShardId::new(shard))?;
        Some(group.role())
    }

    /// Notes who took a batch, or did not.
    fn note_owner(&self, shard: u16, known: Known) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.insert(shard, known);
    }

    /// Waits between two looks for a shard's owner, or until its group here tells something new.
    async fn look_again(&self, shard: u16) {
        match self.role(shard) {
            Some(mut role) => {
                role.borrow_and_update();
                // It may have ended.
                let _ = tokio::time::timeout(PAUSE, role.changed()).await;
            }
            None => pause().await,
        }
    }

    /// Resolves when an owner is known to have been replaced.
    async fn replaced(&self, owner: u64, shard: u16) {
        if let Some(mut role) = self.role(shard) {
            // Who is asked on a hint may own it although this replica still knows another one.
            let may_be_replaced = role.borrow().owner.is_none_or(|known| known == owner);
            let another = |role: &Role| role.owner.is_some_and(|known| known != owner);
            if may_be_replaced && role.wait_for(another).await.is_ok() {
                return;
            }
        }
        std::future::pending().await
    }

    /// The next batch, and until when an owner is looked for.
    fn take(&self, shard: u16) -> Option<(Instant, Vec<Sent>)> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(shard).or_default();
        let (mut sent, mut bytes, mut until) = (Vec::new(), 0, None);
        while let Some((_, next)) = lane.waiting.front() {
            let is_full =
                bytes + next.arena.len() > BATCH_BYTES || sent.len() + next.items.len() > BATCH_MESSAGES;
            if is_full && !sent.is_empty() {
                break;
            }
            bytes += next.arena.len();
            let Some((its_until, submission)) = lane.waiting.pop_front() else {
                break;
            };
            until.get_or_insert(its_until);
            sent.extend(each(submission));
        }
        lane.is_running = !sent.is_empty();
        until.map(|until| (until, sent)).filter(|_| lane.is_running)
    }

    async fn run(self: Arc<Self>, shard: u16) {
        while let Some((until, sent)) = self.take(shard) {
            self.deliver(shard, sent, until).await;
        }
    }

    async fn deliver(&self, shard: u16, mut sent: Vec<Sent>, until: Instant) {
        let (mut hint, mut turn) = (None, 0_usize);
        while !sent.is_empty() {
            if self.router.serves(shard) {
                return self.deliver_here(shard, sent);
            }
            let owner = match hint.take() {
                Some(hinted) => self.owns(hinted, shard).await.then_some(hinted),
                None => self.other_owner(shard, turn),
            };
            turn += 1;
            if let Some(owner) = owner {
                let asked = self.ask_owner(owner, shard, batch_of(&sent), BATCH_WITHIN).await;
                match asked.map(BatchReply::decode) {
                    Ok(Ok(reply)) if reply.owned => {
                        self.note_owner(shard, Known::Owner(owner));
                        sent = settle(sent, &reply);
                    }
                    Ok(Ok(reply)) => {
                        self.note_owner(shard, Known::Not(owner));
                        hint = reply
                            .owner
                            .filter(|hinted| *hinted != owner && *hinted != self.node)
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(shard, owner, %error, "a node answered what is not understood");
                        sent = recognisable(sent);
                    }
                    Err(error) => {
                        tracing::debug!(shard, owner, %error, "messages not put in order; looking for the owner");
                        self.note_owner(shard, Known::Not(owner));
                        if !matches!(error, Undelivered::Unreachable { is_unsent: true, .. }) {
                            sent = recognisable(sent);
                        }
                    }
                }
                if sent.is_empty() {
                    return;
                }
                metrics::counter!(names::FORWARD_RETRIES).increment(1);
            }
            if clock::instant() >= until {
                break;
            }
            if hint.is_none() {
                self.look_again(shard).await;
            }
        }
        for Sent { ticket, .. } in sent {
            ticket.fail(SubmitError::Moved);
        }
    }

    /// The shard has come to this node meanwhile.
    fn deliver_here(&self, shard: u16, sent: Vec<Sent>) {
        let mut parts: Vec<Submission> = Vec::new();
        for Sent {
            ticket,
            mut item,
            bytes,
        } in sent
        {
            let is_same = parts
                .last()
                .is_some_and(|part| Arc::ptr_eq(&part.ticket, &ticket));
            if !is_same {
                parts.push(Submission {
                    ticket,
                    items: Vec::new(),
                    arena: Vec::new(),
                });
            }
            if let Some(part) = parts.last_mut() {
                part.arena.extend_from_slice(&bytes);
                item.end = u32::try_from(part.arena.len()).unwrap_or(u32::MAX);
                part.items.push(item);
            }
        }
        for part in parts {
            self.router.send(shard, ShardMsg::Submit(part));
        }
    }
}

fn each(submission: Submission) -> impl Iterator<Item = Sent> {
    let Submission { ticket, items, arena } = submission;
    let mut start = 0;
    items.into_iter().map(move |item| {
        let end = item.end as usize;
        let bytes = arena[start..end].to_vec();
        start = end;
        Sent {
            ticket: ticket.clone(),
            item,
            bytes,
        }
    })
}

fn batch_of(sent: &[Sent]) -> Bytes {
    let (mut arena, mut ends, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for Sent { item, bytes, .. } in sent {
        arena.extend_from_slice(bytes);
        ends.push(u32::try_from(arena.len()).unwrap_or(u32::MAX));
        keys.extend_from_slice(&item.dedupe.to_le_bytes());
    }
    say(Said::Batch(BatchWire {
        arena: arena.into(),
        ends,
        keys: keys.into(),
    }))
}

/// Tells how messages ended; those of which nothing was promised come back, if they can be recognised.
fn settle(sent: Vec<Sent>, reply: &BatchReply) -> Vec<Sent> {
    let (mut left, mut done) = (Vec::new(), 0);
    for (at, sent) in sent.into_iter().enumerate() {
        match reply.end(at) {
            Some(end) => {
                done += 1;
                sent.ticket.end(sent.item.index, end);
            }
            None => left.push(sent),
        }
    }
    metrics::counter!(names::FORWARDED).increment(done);
    recognisable(left)
}

/// Those messages that may be sent again although they may have been taken; the others are answered as not taken.
fn recognisable(sent: Vec<Sent>) -> Vec<Sent> {
    let (again, never): (Vec<_>, Vec<_>) = sent.into_iter().partition(|sent| sent.item.dedupe != 0);
    for Sent { ticket, .. } in never {
        ticket.fail(SubmitError::Moved);
    }
    again
}

/// The sending as the router's seam.
pub(super) struct Way(pub(super) Arc<Sending>);

impl Beyond for Way {
    fn send_on(&self, shard: u16, submission: Submission) {
        let starts = {
            let mut lanes = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            let lane = lanes.entry(shard).or_default();
            lane.waiting.push_back((until(), submission));
            !std::mem::replace(&mut lane.is_running, true)
        };
        if starts {
            tokio::spawn(self.0.clone().run(shard));
        }
    }

    fn transfer(&self, to: u16, transfer: Transfer) {
        let sending = self.0.clone();
        tokio::spawn(async move {
            for part in TransferWire::parts(&transfer) {
                let Some(owner) = sending.other_owner(to, 0) else {
                    return;
                };
                let body = say(Said::Transfer(part));
                let sent = sending.ask(owner, Errand::Batch, to, body, TRANSFER_WITHIN).await;
                if sent.is_err() {
                    // The shard sends it all again.
                    return;
                }
            }
        });
    }

    fn confirm(&self, to: u16, by: u16, up_to: Origin) {
        let Some(keeper) = self.0.keeper.get() else { return };
        let map = keeper.map().borrow().clone();
        let with = map.keepers(ShardId::new(by));
        for node in map.keepers(ShardId::new(to)) {
            if with.contains(&node) || node == self.0.node {
                continue;
            }
            let sending = self.0.clone();
            tokio::spawn(async move {
                let confirm = ConfirmWire {
                    by: u32::from(by),
                    up_to: Some(up_to.into()),
                };
                let body = say(Said::Confirm(confirm));
                // A later one says it too.
                let _ = sending.ask(node, Errand::Ask, to, body, TRANSFER_WITHIN).await;
            });
        }
    }
}

/// When a look for an owner is given up.
pub(super) fn until() -> Instant {
    clock::instant() + OWNER_WITHIN
}

/// Waits between two looks.
pub(super) async fn pause() {
    tokio::time::sleep(PAUSE).await;
}
