//! The shard actor: puts messages in order, has them journaled in waves, folds what is durable, answers.
//!
//! Promises: one wave of a shard is with the journal at a time and what comes meanwhile forms the next, so batches
//! grow with the load and nobody waits without need; an append that fails is answered as such and leaves no trace.
//! Never blocks: the journal's commit and the snapshot's write report back by message.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use gemba_cluster::{Append, AppendError, Epoch, FrameBuilder, Journal, Seq, ShardId};
use gemba_twins::{
    event::{AttributesSet, Body, Event, Origin},
    id::{TenantId, TwinId},
    time::Timestamp,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::{error, info, warn};

use super::{
    Core,
    outbox::Transfer,
    record::{self, PlantRecord, Record},
    router::{Router, control_number},
    snapshot::Collected,
};
use crate::{
    accounts::End,
    clock,
    ingest::{Payload, Submission, SubmitError, TicketState},
    metric_definitions as names,
    node::{CommandError, Health},
    store::StoreError,
    table::Entry,
};

/// Most ticks that one turn journals: the rest waits a second.
const TICKS_MAX: usize = 4_096;
/// Fresh rollups after which a snapshot is due, so that they do not fill the memory.
const FRESH_ROLLUPS_MAX: usize = 50_000;

/// What a shard actor is told.
pub(crate) enum ShardMsg {
    /// Messages of a connector's batch.
    Submit(Submission),
    /// Messages from twins of another shard, or of this one.
    Transfer(Transfer),
    /// A shard has our messages up to this one on disk.
    Confirm { by: u16, up_to: Origin },
    /// A wish of a person or a program.
    Command(Command),
    /// The journal wrote a frame, or could not.
    Written {
        first: u64,
        result: Result<(), AppendError>,
    },
    /// A second passed.
    Turn(Timestamp),
    /// Encode some more of the snapshot.
    SnapshotStep,
    /// The snapshot was written, or could not be.
    SnapshotWritten {
        collected: Box<Collected>,
        result: Result<(), StoreError>,
    },
    /// Finish what is under way, write a snapshot, end.
    Stop(oneshot::Sender<()>),
}

/// A wish, and where its answer goes: the twin's new revision, or a version.
pub(crate) struct Command {
    pub(crate) kind: CommandKind,
    pub(crate) reply: oneshot::Sender<Result<u64, CommandError>>,
}

pub(crate) enum CommandKind {
    /// Set attributes by a JSON merge patch, if the twin is at a revision.
    SetAttributes {
        twin: TwinId,
        patch: Box<str>,
        by: Box<str>,
        if_rev: Option<u64>,
    },
    /// A rejected message is settled.
    Resolve { tenant: TenantId, seq: u64 },
    /// A plant model takes force.
    ApplyPlant {
        tenant: TenantId,
        text: Box<str>,
        by: Box<str>,
    },
}

/// Where the answer for a record goes.
enum Done {
    Ticket(Arc<TicketState>, u32),
    Reply(oneshot::Sender<Result<u64, CommandError>>),
    /// To the shard whose twin sent it, when the wave is folded.
    Heard,
    Nobody,
}

/// A record on its way to the journal.
struct Pending {
    done: Done,
    /// `None` for a repetition of something that is still on its way: it waits for that to be durable.
    record: Option<Record>,
    bytes: usize,
}

/// A frame that is with the journal.
struct Flight {
    first: u64,
    pending: Vec<Pending>,
    /// The dedupe window's count when its last record was taken in.
    dedupe_count: u64,
}

pub(crate) struct ShardActor;

pub(crate) struct ShardArguments {
    pub(crate) core: Core,
    pub(crate) journal: Journal,
    pub(crate) router: Arc<Router>,
    pub(crate) snapshots: Arc<Semaphore>,
    pub(crate) health: Arc<Health>,
}

pub(crate) struct ShardState {
    myself: ActorRef<ShardMsg>,
    core: Core,
    journal: Journal,
    router: Arc<Router>,
    health: Arc<Health>,
    queue: VecDeque<Pending>,
    /// The bytes of the queue's records, one after the other.
    queue_bytes: Vec<u8>,
    commands: VecDeque<Command>,
    flights: VecDeque<Flight>,
    /// Why the wave under way failed; what waits is answered with it when the wave is back.
    failure: Option<Arc<str>>,
    /// The highest message of each shard in queue and flights.
    hearing: BTreeMap<u16, Origin>,
    snapshots: Arc<Semaphore>,
    snapshot_permit: Option<OwnedSemaphorePermit>,
    snapshot_began: Option<std::time::Instant>,
    last_snapshot: Timestamp,
    started: Timestamp,
    now: Timestamp,
    turns: u32,
    stopping: Option<oneshot::Sender<()>>,
    /// Folding cannot go on: the state store lost something.
    broken: Option<Arc<str>>,
}

impl Actor for ShardActor {
    type Msg = ShardMsg;
    type State = ShardState;
    type Arguments = ShardArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ShardMsg>,
        arguments: ShardArguments,
    ) -> Result<ShardState, ActorProcessingErr> {
        let now = clock::now();
        let mut state = ShardState {
            myself,
            core: arguments.core,
            journal: arguments.journal,
            router: arguments.router,
            health: arguments.health,
            queue: VecDeque::new(),
            queue_bytes: Vec::new(),
            commands: VecDeque::new(),
            flights: VecDeque::new(),
            failure: None,
            hearing: BTreeMap::new(),
            snapshots: arguments.snapshots,
            snapshot_permit: None,
            snapshot_began: None,
            last_snapshot: now,
            started: now,
            now,
            turns: 0,
            stopping: None,
            broken: None,
        };
        state.hearing.clone_from(&state.core.heard);
        state.core.watch_deadlines();
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<ShardMsg>,
        message: ShardMsg,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardMsg::Submit(submission) => state.submit(submission),
            ShardMsg::Transfer(transfer) => state.hear(transfer),
            ShardMsg::Confirm { by, up_to } => state.confirm(by, up_to),
            ShardMsg::Command(command) => state.command(command),
            ShardMsg::Written { first, result } => state.written(first, result),
            ShardMsg::Turn(now) => state.turn(now),
            ShardMsg::SnapshotStep => state.step_snapshot(),
            ShardMsg::SnapshotWritten { collected, result } => state.snapshot_written(*collected, result),
            ShardMsg::Stop(stopped) => state.stop(stopped),
        }
        Ok(())
    }
}

impl ShardState {
    fn submit(&mut self, submission: Submission) {
        let Submission { ticket, items, arena } = submission;
        if let Some(reason) = self.refusal() {
            items
                .iter()
                .for_each(|_| ticket.fail(SubmitError::Storage(reason.clone())));
            return;
        }
        let mut start = 0;
        for item in items {
            let end = item.end as usize;
            let bytes = &arena[start..end];
            start = end;
            let done = Done::Ticket(ticket.clone(), item.index);
            if !self.core.dedupe.insert(item.dedupe) {
                self.repeated(done);
                continue;
            }
            let record = match item.payload {
                Payload::Event(event) => Record::Event(event),
                Payload::Rejected(rejected) => Record::Rejected(*rejected),
            };
            self.queue_bytes.extend_from_slice(bytes);
            self.queue.push_back(Pending {
                done,
                record: Some(record),
                bytes: bytes.len(),
            });
        }
        self.dispatch();
    }

    /// Sent before. If the first one may still be on its way, the answer waits until that is durable.
    fn repeated(&mut self, done: Done) {
        if self.flights.is_empty() && self.queue.is_empty() {
            if let Done::Ticket(ticket, index) = done {
                ticket.end(index, End::Duplicate);
            }
        } else {
            self.queue.push_back(Pending {
                done,
                record: None,
                bytes: 0,
            });
        }
    }

    fn refusal(&self) -> Option<Arc<str>> {
        self.broken.clone().or_else(|| self.failure.clone())
    }

    fn hear(&mut self, transfer: Transfer) {
        let high = self.hearing.get(&transfer.from).copied().unwrap_or_default();
        if transfer.previous > high || self.refusal().is_some() {
            // Something before it is missing; the sender sends all of it again.
            return;
        }
        let queued = self.queue.len();
        for event in transfer.events {
            let Some(origin) = event.origin else { continue };
            if origin <= self.hearing.get(&transfer.from).copied().unwrap_or_default() {
                continue;
            }
            self.hearing.insert(transfer.from, origin);
            self.push(Done::Heard, Record::Event(event));
        }
        if self.queue.len() == queued && self.flights.is_empty() && queued == 0 {
            let heard = self.core.heard.get(&transfer.from).copied().unwrap_or_default();
            self.router.confirm(transfer.from, self.core.number, heard);
        }
        self.dispatch();
    }

    fn confirm(&mut self, by: u16, up_to: Origin) {
        self.core.outbox.confirm(by, up_to);
        self.send_messages();
    }

    fn send_messages(&mut self) {
        for (to, transfer) in self.core.outbox.take_unsent() {
            self.router.transfer(to, transfer);
        }
    }

    fn command(&mut self, command: Command) {
        match self.refusal() {
            Some(reason) => answer(command.reply, Err(CommandError::Unavailable(reason.to_string()))),
            None => {
                self.commands.push_back(command);
                self.dispatch();
            }
        }
    }

    fn push(&mut self, done: Done, record: Record) {
        let start = self.queue_bytes.len();
        encode(&record, &mut self.queue_bytes);
        let bytes = self.queue_bytes.len() - start;
        self.queue.push_back(Pending {
            done,
            record: Some(record),
            bytes,
        });
    }

    /// Sends what waits to the journal, if nothing of this shard is there.
    fn dispatch(&mut self) {
        if !self.flights.is_empty() || self.failure.is_some() || self.broken.is_some() {
            return;
        }
        // Commands go first: what they depend on (a revision) is what was folded last.
        let mut wave = Vec::new();
        let mut pending = self.admit_commands(&mut wave);
        pending.extend(self.queue.drain(..));
        wave.append(&mut self.queue_bytes);
        if pending.is_empty() {
            return;
        }
        let dedupe_count = self.core.dedupe.count();
        let mut next = self.core.seq + 1;
        let mut frame = FrameBuilder::new();
        let mut flight = Flight {
            first: next,
            pending: Vec::new(),
            dedupe_count,
        };
        let mut flights = Vec::new();
        let mut start = 0;
        for pending in pending {
            let bytes = &wave[start..start + pending.bytes];
            start += pending.bytes;
            if pending.record.is_some() {
                if frame.push(bytes).is_err() {
                    let full = std::mem::replace(&mut frame, FrameBuilder::new());
                    let begun = Flight {
                        first: next,
                        pending: Vec::new(),
                        dedupe_count,
                    };
                    flights.push((std::mem::replace(&mut flight, begun), full));
                    // An empty frame takes any record that admission let through.
                    if frame.push(bytes).is_err() {
                        error!(
                            shard = self.core.number,
                            bytes = bytes.len(),
                            "record does not fit into a frame"
                        );
                    }
                }
                next += 1;
            }
            flight.pending.push(pending);
        }
        flights.push((flight, frame));
        for (flight, frame) in flights {
            self.append(flight, frame);
        }
    }

    fn append(&mut self, flight: Flight, frame: FrameBuilder) {
        let first = flight.first;
        if frame.is_empty() {
            // Only repetitions, and nothing on its way before them.
            self.flights.push_back(flight);
            self.written(first, Ok(()));
            return;
        }
        self.flights.push_back(flight);
        let myself = self.myself.clone();
        let append = Append {
            shard: ShardId::new(self.core.number),
            epoch: Epoch::new(1),
            first: Seq::new(first),
            body: frame.finish(),
            done: Box::new(move |result| {
                // A shard that is gone has failed its tickets already.
                let _ = myself.cast(ShardMsg::Written {
                    first,
                    result: result.map(|_| ()),
                });
            }),
        };
        if let Err(refused) = self.journal.append(append) {
            let result = Err(refused.into());
            let _ = self.myself.cast(ShardMsg::Written { first, result });
        }
    }

    /// Turns the commands that can go now into records; a second one that depends on the same twin waits.
    fn admit_commands(&mut self, wave: &mut Vec<u8>) -> Vec<Pending> {
        let mut pending = Vec::new();
        let mut touched = BTreeSet::new();
        for command in std::mem::take(&mut self.commands) {
            let Command { kind, reply } = command;
            let record = match &kind {
                CommandKind::SetAttributes {
                    twin,
                    patch,
                    by,
                    if_rev,
                } => {
                    if if_rev.is_some() && touched.contains(twin) {
                        self.commands.push_back(Command { kind, reply });
                        continue;
                    }
                    match self.check_rev(twin, *if_rev) {
                        Ok(()) => {}
                        Err(error) => {
                            answer(reply, Err(error));
                            continue;
                        }
                    }
                    touched.insert(twin.clone());
                    let body = Body::AttributesSet(AttributesSet {
                        patch: patch.clone(),
                        by: by.clone(),
                    });
                    Record::Event(self.own_event(twin.clone(), self.now_asked(), body))
                }
                CommandKind::Resolve { tenant, seq } => Record::Resolved {
                    tenant: tenant.clone(),
                    seq: *seq,
                },
                CommandKind::ApplyPlant { tenant, text, by } => {
                    if !pending.is_empty() {
                        self.commands.push_back(Command { kind, reply });
                        continue;
                    }
                    let version = self
                        .core
                        .shared
                        .plants
                        .plant(tenant)
                        .map_or(1, |plant| plant.version + 1);
                    let at = self.now_asked();
                    Record::Plant(PlantRecord {
                        tenant: tenant.clone(),
                        version,
                        at,
                        by: by.clone(),
                        text: text.clone(),
                    })
                }
            };
            let start = wave.len();
            encode(&record, wave);
            pending.push(Pending {
                done: Done::Reply(reply),
                record: Some(record),
                bytes: wave.len() - start,
            });
        }
        pending
    }

    fn check_rev(&self, twin: &TwinId, if_rev: Option<u64>) -> Result<(), CommandError> {
        let current = match self.core.table.entry(twin) {
            None => return Err(CommandError::NotFound),
            Some(Entry::Resident(slot)) => slot.with(gemba_twins::twin::Twin::rev),
            Some(Entry::Passive) => match self.core.shared.store.twin(self.core.number, twin) {
                Ok(twin) => twin.map_or(0, |twin| twin.rev()),
                Err(error) => return Err(CommandError::Unavailable(error.to_string())),
            },
        };
        match if_rev {
            Some(wanted) if wanted != current => Err(CommandError::RevMismatch { current }),
            _ => Ok(()),
        }
    }

    fn now_asked(&self) -> Timestamp {
        clock::now()
    }

    fn own_event(&self, twin: TwinId, at: Timestamp, body: Body) -> Event {
        Event {
            twin,
            at,
            received_at: at,
            source: "".into(),
            message_id: "".into(),
            origin: None,
            body,
        }
    }

    fn written(&mut self, first: u64, result: Result<(), AppendError>) {
        let Some(flight) = self.flights.pop_front() else {
            return;
        };
        debug_assert_eq!(flight.first, first, "the journal answers in order");
        match result {
            Ok(()) => self.fold(flight),
            Err(error) => {
                metrics::counter!(names::APPEND_FAILED).increment(1);
                self.health.append_failed();
                if self.failure.is_none() {
                    warn!(shard = self.core.number, first, %error, "append failed; nothing of it is acknowledged");
                }
                let reason: Arc<str> = error.to_string().into();
                let reason = self.failure.get_or_insert(reason).clone();
                fail(flight.pending, &reason);
            }
        }
        self.finish_failure();
        self.dispatch();
        self.finish_stop();
    }

    /// When a failed wave is back: what waits is answered too, and the window forgets what was never durable.
    fn finish_failure(&mut self) {
        if !self.flights.is_empty() {
            return;
        }
        let Some(reason) = self.failure.take() else { return };
        self.queue_bytes.clear();
        fail(std::mem::take(&mut self.queue).into(), &reason);
        for command in std::mem::take(&mut self.commands) {
            answer(command.reply, Err(CommandError::Unavailable(reason.to_string())));
        }
        self.core.dedupe.roll_back(self.core.dedupe_folded);
        self.hearing.clone_from(&self.core.heard);
        self.core.watch_deadlines();
    }

    fn fold(&mut self, flight: Flight) {
        self.health.append_succeeded();
        let now_s = self.seconds();
        self.core.begin_batch(now_s);
        let mut ended = Vec::with_capacity(flight.pending.len());
        let mut heard_from = BTreeSet::new();
        let mut seq = flight.first;
        for pending in flight.pending {
            let Some(record) = pending.record else {
                ended.push((pending.done, End::Duplicate, None));
                continue;
            };
            let end = match self.core.fold(seq, &record) {
                Ok(end) => end,
                Err(error) => return self.break_down(&error, ended, pending.done),
            };
            seq += 1;
            if let Record::Event(Event {
                origin: Some(origin), ..
            }) = &record
            {
                heard_from.insert(origin.shard);
            }
            let value = match (&pending.done, &record) {
                (Done::Reply(_), Record::Event(event)) => {
                    self.core.table.entry(&event.twin).and_then(|entry| match entry {
                        Entry::Resident(slot) => Some(slot.with(gemba_twins::twin::Twin::rev)),
                        Entry::Passive => None,
                    })
                }
                (Done::Reply(_), Record::Plant(plant)) => Some(plant.version),
                _ => None,
            };
            ended.push((pending.done, end, value));
        }
        self.core.dedupe_folded = flight.dedupe_count;
        self.core.publish();
        for (done, end, value) in ended {
            match done {
                Done::Ticket(ticket, index) => ticket.end(index, end),
                Done::Reply(reply) => answer(reply, Ok(value.unwrap_or_default())),
                Done::Heard | Done::Nobody => {}
            }
        }
        for from in heard_from {
            let heard = self.core.heard.get(&from).copied().unwrap_or_default();
            self.router.confirm(from, self.core.number, heard);
        }
        self.send_messages();
        self.snapshot_if_due();
    }

    /// The state store lost something that folding needs. The journal has it all; a restart brings it back.
    fn break_down(&mut self, error: &StoreError, ended: Vec<(Done, End, Option<u64>)>, done: Done) {
        error!(shard = self.core.number, %error, "shard cannot fold on");
        let reason: Arc<str> = error.to_string().into();
        self.broken = Some(reason.clone());
        self.health.broken.store(true, Ordering::Release);
        let all = ended.into_iter().map(|(done, ..)| done).chain([done]);
        fail(
            all.map(|done| Pending {
                done,
                record: None,
                bytes: 0,
            })
            .collect(),
            &reason,
        );
        for flight in std::mem::take(&mut self.flights) {
            fail(flight.pending, &reason);
        }
        fail(std::mem::take(&mut self.queue).into(), &reason);
    }

    fn seconds(&self) -> u32 {
        u32::try_from(self.now.ms_since(self.started) / 1_000).unwrap_or(0)
    }

    fn turn(&mut self, now: Timestamp) {
        self.now = now;
        self.turns = self.turns.wrapping_add(1);
        if self.broken.is_some() {
            return;
        }
        self.tick(now);
        self.core.outbox.turn();
        self.send_messages();
        self.snapshot_if_due();
        if self.turns.is_multiple_of(30) && self.snapshot_permit.is_none() {
            self.core.passivate(self.seconds());
        }
        let shard = self.core.number.to_string();
        metrics::gauge!(names::TWINS_RESIDENT, "shard" => shard.clone()).set(self.core.resident as f64);
        let known = self.core.table.map.read().map_or(0, |map| map.len());
        metrics::gauge!(names::TWINS_KNOWN, "shard" => shard.clone()).set(known as f64);
        metrics::gauge!(names::OUTBOX_WAITING, "shard" => shard).set(self.core.outbox.len() as f64);
        self.dispatch();
    }

    /// Journals a tick for each twin that became stale.
    fn tick(&mut self, now: Timestamp) {
        if self.refusal().is_some() {
            return;
        }
        for _ in 0..TICKS_MAX {
            match self.core.deadlines.peek() {
                Some(Reverse((deadline, _))) if *deadline <= now => {}
                _ => return,
            }
            let Some(Reverse((_, id))) = self.core.deadlines.pop() else {
                return;
            };
            let Some(Entry::Resident(slot)) = self.core.table.entry(&id) else {
                continue;
            };
            let deadline = slot.with(gemba_twins::twin::Twin::stale_deadline);
            match deadline {
                Some(deadline) if deadline > now => self.core.deadlines.push(Reverse((deadline, id))),
                Some(deadline) => {
                    slot.lock().has_deadline = false;
                    let mut event = self.own_event(id, now, Body::Ticked);
                    event.at = deadline;
                    self.push(Done::Nobody, Record::Event(event));
                }
                None => slot.lock().has_deadline = false,
            }
        }
    }

    fn snapshot_if_due(&mut self) {
        if self.snapshot_permit.is_some() || self.broken.is_some() {
            return;
        }
        let settings = &self.core.shared.settings;
        let fresh = self
            .core
            .table
            .history
            .pending
            .lock()
            .map_or(0, |pending| pending.len());
        let age = Duration::from_millis(u64::try_from(self.now.ms_since(self.last_snapshot)).unwrap_or(0));
        let due = self.core.folded_since_snapshot >= settings.snapshot_events
            || fresh >= FRESH_ROLLUPS_MAX
            || (self.core.is_crowded() && !self.core.dirty.is_empty())
            || (age >= settings.snapshot_every && self.core.folded_since_snapshot > 0);
        // A disk that is full fails snapshots too; once a second is often enough to ask.
        if !due || (self.health.storage_failed() && age < Duration::from_secs(1)) {
            return;
        }
        if let Ok(permit) = self.snapshots.clone().try_acquire_owned() {
            self.begin_snapshot(permit);
        }
    }

    fn begin_snapshot(&mut self, permit: OwnedSemaphorePermit) {
        self.snapshot_permit = Some(permit);
        self.snapshot_began = Some(clock::instant());
        self.last_snapshot = self.now;
        self.core.begin_snapshot();
        let _ = self.myself.cast(ShardMsg::SnapshotStep);
    }

    fn step_snapshot(&mut self) {
        let Some(collected) = self.core.step_snapshot() else {
            if self.core.collecting.is_some() {
                let _ = self.myself.cast(ShardMsg::SnapshotStep);
            }
            return;
        };
        let (store, table, myself) = (
            self.core.shared.store.clone(),
            self.core.table.clone(),
            self.myself.clone(),
        );
        tokio::task::spawn_blocking(move || {
            let result = collected.write(&store, &table.history);
            let _ = myself.cast(ShardMsg::SnapshotWritten {
                collected: Box::new(collected),
                result,
            });
        });
    }

    fn snapshot_written(&mut self, collected: Collected, result: Result<(), StoreError>) {
        if let Err(error) = &result {
            warn!(shard = self.core.number, %error, "snapshot not written; the journal keeps everything");
        }
        self.core.finish_snapshot(collected, result.is_ok());
        self.snapshot_permit = None;
        if let Some(began) = self.snapshot_began.take() {
            metrics::histogram!(names::SNAPSHOT_SECONDS).record(began.elapsed().as_secs_f64());
        }
        if self.core.is_crowded() {
            self.core.passivate(self.seconds());
        }
        if self.stopping.is_some() && result.is_err() {
            // The journal has everything; the next start replays a longer tail.
            self.core.folded_since_snapshot = 0;
            self.core.dirty.clear();
        }
        self.finish_stop();
    }

    fn stop(&mut self, stopped: oneshot::Sender<()>) {
        self.stopping = Some(stopped);
        self.finish_stop();
    }

    fn finish_stop(&mut self) {
        if self.stopping.is_none()
            || !self.flights.is_empty()
            || !self.queue.is_empty()
            || self.snapshot_permit.is_some()
        {
            return;
        }
        let clean = self.core.folded_since_snapshot == 0 && self.core.dirty.is_empty();
        if !clean && self.broken.is_none() {
            let myself = self.myself.clone();
            if let Ok(permit) = self.snapshots.clone().try_acquire_owned() {
                self.begin_snapshot(permit);
            } else {
                // Another shard is writing; ask again when it is done.
                let snapshots = self.snapshots.clone();
                let stopped = self.stopping.take();
                tokio::spawn(async move {
                    drop(snapshots.acquire().await);
                    if let Some(stopped) = stopped {
                        let _ = myself.cast(ShardMsg::Stop(stopped));
                    }
                });
            }
            return;
        }
        info!(
            shard = self.core.number,
            seq = self.core.seq,
            control = self.core.number == control_number(),
            "shard stopped"
        );
        if let Some(stopped) = self.stopping.take() {
            let _ = stopped.send(());
        }
        self.myself.stop(None);
    }
}

fn encode(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Event(event) => record::encode_event(event, out),
        Record::Rejected(rejected) => record::encode_rejected(rejected, out),
        Record::Resolved { tenant, seq } => record::encode_resolved(tenant, *seq, out),
        Record::Plant(plant) => record::encode_plant(plant, out),
    }
}

fn answer(reply: oneshot::Sender<Result<u64, CommandError>>, result: Result<u64, CommandError>) {
    // A caller that went away does not need its answer.
    let _ = reply.send(result);
}

fn fail(pending: Vec<Pending>, reason: &Arc<str>) {
    for Pending { done, .. } in pending {
        match done {
            Done::Ticket(ticket, _) => ticket.fail(SubmitError::Storage(reason.clone())),
            Done::Reply(reply) => answer(reply, Err(CommandError::Unavailable(reason.to_string()))),
            Done::Heard | Done::Nobody => {}
        }
    }
}
