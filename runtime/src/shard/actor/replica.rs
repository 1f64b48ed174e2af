//! A shard whose journal is replicated: its group decides what is durable and who may write.
//!
//! Promises: only the owner takes messages, and only in its epoch; a frame is folded when a majority has it, by every
//! replica alike; a proposal that was not taken, or whose fate is not known, is answered or goes on to the new owner,
//! where what can be recognised counts once. An owner that has lost its majority holds nobody up for long.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use gemba_cluster::{Applied, Epoch, Frame, FrameBuilder, Group, ProposeError, Role, ShardId};
use gemba_twins::event::Event;
use ractor::ActorRef;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::{Done, Flight, Pending, ShardMsg, ShardState, answer};
use crate::{
    accounts::End,
    clock,
    ingest::dedupe_key,
    metric_definitions as names,
    node::CommandError,
    shard::record::{self, Record},
};

/// Most time that callers wait for a majority: an owner that is cut off tells them after it.
const MAJORITY_WITHIN: Duration = Duration::from_secs(3);
/// A group that takes nothing at the moment, because it is being handed over, is tried again after this.
const NOT_NOW: Duration = Duration::from_millis(10);

/// What became of the records of a frame: their ends, and what a command is answered.
type Ends = Vec<(End, Option<u64>)>;

/// What the actor of a replicated shard knows of its group.
#[derive(Default)]
pub(super) struct Replica {
    group: Option<Group>,
    /// The epoch in which this node owns the shard.
    epoch: Option<Epoch>,
    /// What is on its way of messages that can be recognised.
    on_the_way: HashSet<u128>,
    /// What became of the frames of the own epoch, by their first seqs, until their proposals are answered.
    ends: VecDeque<(u64, Ends)>,
    /// The number of the next proposal.
    next: u64,
    /// When the wave under way was proposed, and in which epoch.
    proposed_at: Option<Instant>,
    proposed_in: Epoch,
    /// No majority has answered for too long.
    is_stuck: bool,
    /// Something of the wave under way was not applied.
    has_failed: bool,
    /// The group took nothing of it, and nothing is tried for a moment.
    rests: bool,
    /// Callers that wait for a snapshot of what is folded now: those whose snapshot is under way, and the others.
    pub(super) cuts: Vec<oneshot::Sender<Result<(), String>>>,
    pub(super) cuts_waiting: Vec<oneshot::Sender<Result<(), String>>>,
}

/// Tells the actor of a proposal's fate, also when raft forgets it.
struct Fate {
    actor: ActorRef<ShardMsg>,
    shard: ShardId,
    number: Option<u64>,
}

impl Fate {
    fn tell(mut self, result: Result<Applied, ProposeError>) {
        if let Some(number) = self.number.take() {
            // A shard that is gone has turned its callers away already.
            let _ = self.actor.cast(ShardMsg::Proposed { number, result });
        }
    }
}

impl Drop for Fate {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            let result = Err(ProposeError::Unknown { shard: self.shard });
            let _ = self.actor.cast(ShardMsg::Proposed { number, result });
        }
    }
}

impl ShardState {
    /// Whether messages may be put in order here.
    pub(super) fn serves(&self) -> bool {
        self.replica
            .as_ref()
            .is_none_or(|replica| replica.epoch.is_some() && !replica.is_stuck)
    }

    /// Takes the key of a message in; false where it is known already.
    pub(super) fn is_new(&mut self, key: u128) -> bool {
        match &mut self.replica {
            None => self.core.dedupe.insert(key),
            Some(replica) => key == 0 || (!self.core.dedupe.contains(key) && replica.on_the_way.insert(key)),
        }
    }

    /// The group says what this replica is.
    pub(super) fn role(&mut self, group: Group, role: &Role) {
        let Some(replica) = &mut self.replica else { return };
        replica.group = Some(group);
        let epoch = role.serves.then_some(role.epoch);
        if replica.epoch == epoch {
            return;
        }
        replica.rests = false;
        let had = std::mem::replace(&mut replica.epoch, epoch);
        replica.is_stuck = false;
        if had.is_some() {
            self.step_down();
        }
        let shard = self.core.number;
        match epoch {
            Some(epoch) => {
                info!(shard, epoch = epoch.get(), seq = self.core.seq, "shard owned");
                self.hearing.clone_from(&self.core.heard);
                self.core.outbox.send_again();
                self.core.watch_deadlines();
                self.router.set_serves(shard, true);
                self.core.shared.notifier.wake();
                self.send_messages();
                self.dispatch();
            }
            None if had.is_some() => {
                info!(shard, owner = ?role.owner, seq = self.core.seq, "shard no longer owned");
            }
            None => {}
        }
        self.finish_stop();
    }

    /// This node no longer owns the shard: what waits goes to whoever does. What is with the group keeps its place until
    /// its fate is known.
    pub(super) fn step_down(&mut self) {
        self.router.set_serves(self.core.number, false);
        let waiting: Vec<Pending> = std::mem::take(&mut self.queue).into();
        self.queue_bytes.clear();
        self.turn_away(waiting, true);
        for command in std::mem::take(&mut self.commands) {
            answer(command.reply, Err(CommandError::Moved));
        }
        self.forget_what_waited();
    }

    /// Nothing waits any more: the keys and messages of what was turned away are no longer on their way.
    fn forget_what_waited(&mut self) {
        let flying: HashSet<u128> = self
            .flights
            .iter()
            .flat_map(|flight| flight.pending.iter().map(|pending| pending.dedupe))
            .collect();
        if let Some(replica) = &mut self.replica {
            replica.on_the_way.retain(|key| flying.contains(key));
        }
        if self.flights.is_empty() {
            self.hearing.clone_from(&self.core.heard);
            self.core.watch_deadlines();
        }
    }

    /// Proposes a wave's frames, in order.
    pub(super) fn propose(&mut self, flights: Vec<(Flight, FrameBuilder)>) {
        let Some(replica) = &mut self.replica else { return };
        let (Some(group), Some(epoch)) = (replica.group.clone(), replica.epoch) else {
            return;
        };
        let mut bodies = Vec::new();
        for (mut flight, frame) in flights {
            if frame.is_empty() {
                // Only repetitions of what is folded.
                for pending in flight.pending {
                    if let Done::Ticket(ticket, index) = pending.done {
                        ticket.end(index, End::Duplicate);
                    }
                }
                continue;
            }
            replica.next += 1;
            flight.first = replica.next;
            let fate = Fate {
                actor: self.myself.clone(),
                shard: group.shard(),
                number: Some(replica.next),
            };
            self.flights.push_back(flight);
            bodies.push((frame.finish(), fate));
        }
        if bodies.is_empty() {
            return;
        }
        replica.proposed_at = Some(clock::instant());
        replica.proposed_in = epoch;
        tokio::spawn(async move {
            for (body, fate) in bodies {
                group.propose(epoch, body, move |result| fate.tell(result)).await;
            }
        });
    }

    /// Folds a frame that a majority has.
    pub(super) fn committed(&mut self, frame: &Frame) -> Result<(), String> {
        if let Some(reason) = &self.broken {
            return Err(reason.to_string());
        }
        let is_own = self
            .replica
            .as_ref()
            .is_some_and(|replica| replica.proposed_at.is_some() && replica.proposed_in == frame.epoch());
        let now_s = self.seconds();
        self.core.begin_batch(now_s);
        let (mut ends, mut heard_from) = (Vec::new(), BTreeSet::new());
        for (seq, bytes) in (frame.first().get()..).zip(frame.records()) {
            if seq <= self.core.seq {
                ends.push((End::Applied, None));
                continue;
            }
            let unfit = |detail: String| format!("shard {} at seq {seq}: {detail}", self.core.number);
            if seq != self.core.seq + 1 {
                return Err(unfit(format!("the state ends at seq {}", self.core.seq)));
            }
            let record = record::decode(bytes).map_err(|error| unfit(error.to_string()))?;
            if let Record::Event(event) = &record {
                self.core.dedupe.insert(dedupe_key(event));
            }
            let end = match self.core.fold(seq, &record) {
                Ok(end) => end,
                Err(error) => {
                    let reason: Arc<str> = error.to_string().into();
                    self.broken = Some(reason.clone());
                    self.health.broken.store(true, Ordering::Release);
                    return Err(reason.to_string());
                }
            };
            if let Record::Event(Event {
                origin: Some(origin), ..
            }) = &record
            {
                heard_from.insert(origin.shard);
            }
            let value = if is_own { self.answer_of(&record) } else { None };
            ends.push((end, value));
        }
        self.core.dedupe_folded = self.core.dedupe.count();
        self.core.publish();
        if let Some(replica) = self.replica.as_mut().filter(|_| is_own) {
            replica.ends.push_back((frame.first().get(), ends));
        }
        // Each replica confirms to its node's replica of the sending shard: what is folded is on a majority's disks.
        for from in heard_from {
            let heard = self.core.heard.get(&from).copied().unwrap_or_default();
            self.router.confirm(from, self.core.number, heard);
        }
        if self.serves() {
            self.send_messages();
        }
        self.snapshot_if_due();
        Ok(())
    }

    /// The fate of a proposal.
    pub(super) fn proposed(&mut self, number: u64, result: Result<Applied, ProposeError>) {
        let Some(at) = self.flights.iter().position(|flight| flight.first == number) else {
            return;
        };
        let Some(flight) = self.flights.remove(at) else {
            return;
        };
        let shard = self.core.number;
        if let Some(replica) = &mut self.replica {
            for pending in &flight.pending {
                replica.on_the_way.remove(&pending.dedupe);
            }
        }
        match result {
            Ok(applied) => {
                self.health.append_succeeded();
                self.settle(flight, applied);
            }
            Err(error) => {
                debug!(shard, %error, "a wave was not applied here");
                let is_untouched =
                    matches!(error, ProposeError::NotNow { .. } | ProposeError::NotOwner { .. });
                if let ProposeError::Stopped { detail, .. } = &error {
                    metrics::counter!(names::APPEND_FAILED).increment(1);
                    self.health.append_failed();
                    warn!(shard, detail, "a wave met a replica that has stopped");
                }
                if let Some(replica) = &mut self.replica {
                    replica.has_failed = true;
                    replica.rests |= matches!(error, ProposeError::NotNow { .. });
                }
                self.turn_away(flight.pending, is_untouched);
            }
        }
        if !self.flights.is_empty() {
            return;
        }
        let Some(replica) = &mut self.replica else { return };
        replica.proposed_at = None;
        replica.ends.clear();
        let was_stuck = std::mem::take(&mut replica.is_stuck);
        if std::mem::take(&mut replica.has_failed) || was_stuck {
            // What waits may depend on what was not applied.
            let (epoch, rests) = (replica.epoch, replica.rests);
            self.step_down();
            match epoch {
                Some(_) if rests => self.rest(),
                Some(_) => self.router.set_serves(shard, true),
                None => {}
            }
        }
        self.dispatch();
        self.finish_stop();
    }

    /// Tries in a moment whether the group takes something again.
    fn rest(&self) {
        let actor = self.myself.clone();
        tokio::spawn(async move {
            tokio::time::sleep(NOT_NOW).await;
            // An actor that has ended tries nothing.
            let _ = actor.cast(ShardMsg::Rested);
        });
    }

    /// Messages come here again, if this is still the owner.
    pub(super) fn rested(&mut self) {
        let Some(replica) = &mut self.replica else { return };
        if std::mem::take(&mut replica.rests) && replica.epoch.is_some() {
            self.router.set_serves(self.core.number, true);
        }
    }

    /// Answers the callers of a frame that is applied.
    fn settle(&mut self, flight: Flight, applied: Applied) {
        let Some(replica) = &mut self.replica else { return };
        let at = replica
            .ends
            .iter()
            .position(|(first, _)| *first == applied.first.get());
        let ends = at.and_then(|at| replica.ends.remove(at));
        let mut ends = ends.map(|(_, ends)| ends).unwrap_or_default().into_iter();
        for Pending { done, record, .. } in flight.pending {
            let (end, value) = match record {
                None => (End::Duplicate, None),
                Some(_) => ends.next().unwrap_or((End::Applied, None)),
            };
            match done {
                Done::Ticket(ticket, index) => ticket.end(index, end),
                Done::Reply(reply) => answer(reply, Ok(value.unwrap_or_default())),
                Done::Heard | Done::Nobody => {}
            }
        }
    }

    /// An owner that hears of no majority sends its callers away: elsewhere there may be another one by now.
    pub(super) fn look_for_majority(&mut self) {
        let Some(replica) = &mut self.replica else { return };
        let waits = replica
            .proposed_at
            .is_some_and(|at| at.elapsed() >= MAJORITY_WITHIN);
        if !waits || replica.is_stuck {
            return;
        }
        replica.is_stuck = true;
        warn!(
            shard = self.core.number,
            "no majority answers; callers are sent on"
        );
        let mut away = Vec::new();
        for flight in &mut self.flights {
            for pending in &mut flight.pending {
                let left = Pending {
                    done: Done::Nobody,
                    record: None,
                    bytes: 0,
                    dedupe: pending.dedupe,
                };
                away.push(std::mem::replace(pending, left));
            }
        }
        self.turn_away(away, false);
        self.step_down();
    }

    /// Asks for a snapshot of what is folded now.
    pub(super) fn cut(&mut self, reply: oneshot::Sender<Result<(), String>>) {
        let is_clean = self.core.folded_since_snapshot == 0 && self.core.dirty.is_empty();
        if is_clean && self.snapshot_permit.is_none() {
            let _ = reply.send(Ok(()));
            return;
        }
        if let Some(replica) = &mut self.replica {
            replica.cuts_waiting.push(reply);
        }
        self.begin_cut();
    }

    /// Begins the snapshot that somebody waits for, if none is under way.
    pub(super) fn begin_cut(&mut self) {
        let waits = self
            .replica
            .as_ref()
            .is_some_and(|replica| !replica.cuts_waiting.is_empty());
        if !waits || self.snapshot_permit.is_some() {
            return;
        }
        if let Ok(permit) = self.snapshots.clone().try_acquire_owned() {
            if let Some(replica) = &mut self.replica {
                replica.cuts.append(&mut replica.cuts_waiting);
            }
            self.begin_snapshot(permit);
        }
    }

    /// A snapshot is written, or is not: tells those who wait for it.
    pub(super) fn answer_cuts(&mut self, result: &Result<(), String>) {
        if let Some(replica) = &mut self.replica {
            for cut in replica.cuts.drain(..) {
                let _ = cut.send(result.clone());
            }
        }
        self.begin_cut();
    }

    /// Ends without a snapshot: another state takes this one's place. Waits for a write under way.
    pub(super) fn leave(&mut self, left: oneshot::Sender<()>) {
        if let Some(replica) = &mut self.replica {
            replica.epoch = None;
        }
        self.leaving = Some(left);
        for flight in std::mem::take(&mut self.flights) {
            self.turn_away(flight.pending, false);
        }
        self.step_down();
        self.finish_leave();
    }

    pub(super) fn finish_leave(&mut self) -> bool {
        if self.leaving.is_none() || self.snapshot_permit.is_some() {
            return false;
        }
        if let Some(left) = self.leaving.take() {
            let _ = left.send(());
        }
        self.myself.stop(None);
        true
    }

    /// Messages that wait here.
    pub(super) fn waiting(&self) -> usize {
        let flying = self
            .flights
            .iter()
            .map(|flight| flight.pending.len())
            .sum::<usize>();
        self.queue.len() + flying
    }
}
