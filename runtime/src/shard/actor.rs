//! The shard actor: puts messages in order, has them journaled in waves, folds what is durable, answers.
//!
//! Promises: one wave of a shard is with the journal at a time and what comes meanwhile forms the next, so batches
//! grow with the load and nobody waits without need; an append that fails is answered as such and leaves no trace.
//! Never blocks: the journal's commit and the snapshot's write report back by message.

mod commands;
mod replica;
mod turned_away;
mod turns;
mod wave;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use gemba_cluster::{AppendError, Applied, Frame, Group, Journal, ProposeError, Role};
use gemba_twins::{
    alarm::{AlarmSaid, AlarmState},
    event::Origin,
    id::{TenantId, TwinId},
    refolded::Refolded,
    time::Timestamp,
    twin::Twin,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::replica::Replica;
use super::{
    Core,
    outbox::Transfer,
    record::{self, Record},
    router::Router,
    snapshot::Collected,
};
use crate::{
    accounts::End,
    clock,
    dashboards::PutDashboard,
    ingest::{Payload, Submission, SubmitError, TicketState},
    node::{CommandError, Health},
    store::StoreError,
    table::Entry,
};

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
    /// A majority has a frame: it is to be folded (replicated shards only, as what follows).
    Committed(Frame, oneshot::Sender<Result<(), String>>),
    /// The fate of a proposal.
    Proposed {
        number: u64,
        result: Result<Applied, ProposeError>,
    },
    /// The group says what this replica is.
    Role(Group, Role),
    /// The group may take something again.
    Rested,
    /// Write a snapshot of what is folded now, for another replica.
    Cut(oneshot::Sender<Result<(), String>>),
    /// End at once; another state takes this one's place.
    Leave(oneshot::Sender<()>),
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

#[derive(Clone)]
pub(crate) enum CommandKind {
    /// Set attributes by a JSON merge patch, if the twin is at a revision.
    SetAttributes {
        twin: TwinId,
        patch: Box<str>,
        by: Box<str>,
        if_rev: Option<u64>,
    },
    /// Do something about an alarm, if it is in a state.
    Alarm {
        twin: TwinId,
        said: AlarmSaid,
        if_state: Option<AlarmState>,
    },
    /// A twin takes over what it was folded to again, if it is at a revision.
    Refold {
        twin: TwinId,
        refolded: Refolded,
        if_rev: u64,
    },
    /// A rejected message is settled.
    Resolve { tenant: TenantId, seq: u64 },
    /// A plant model takes force.
    ApplyPlant {
        tenant: TenantId,
        text: Box<str>,
        by: Box<str>,
    },
    /// A dashboard is saved or removed.
    PutDashboard(Box<PutDashboard>),
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
    /// What a repetition is recognised by; 0 where it cannot be.
    dedupe: u128,
}

/// A frame that is with the journal.
struct Flight {
    /// Its first seq; of a replicated shard, whose log gives out the seqs, the number of the proposal.
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
    /// Whether a group decides what is durable.
    pub(crate) is_replicated: bool,
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
    replica: Option<Replica>,
    leaving: Option<oneshot::Sender<()>>,
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
            replica: arguments.is_replicated.then(Replica::default),
            leaving: None,
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
            ShardMsg::Committed(frame, done) => {
                let _ = done.send(state.committed(&frame));
            }
            ShardMsg::Proposed { number, result } => state.proposed(number, result),
            ShardMsg::Role(group, role) => state.role(group, &role),
            ShardMsg::Rested => state.rested(),
            ShardMsg::Cut(reply) => state.cut(reply),
            ShardMsg::Leave(left) => state.leave(left),
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
        if !self.serves() {
            return self.router.send_on(self.core.number, submission);
        }
        let Submission { ticket, items, arena } = submission;
        if let Some(reason) = self.refusal() {
            items
                .iter()
                .for_each(|_| ticket.fail(SubmitError::Storage(reason.clone())));
            return;
        }
        self.queue.reserve(items.len());
        self.queue_bytes.reserve(arena.len());
        let mut start = 0;
        for item in items {
            let end = item.end as usize;
            let bytes = &arena[start..end];
            start = end;
            let done = Done::Ticket(ticket.clone(), item.index);
            if !self.is_new(item.dedupe) {
                self.repeated(done, item.dedupe);
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
                dedupe: item.dedupe,
            });
        }
        self.dispatch();
    }

    /// Sent before. If the first one may still be on its way, the answer waits until that is durable.
    fn repeated(&mut self, done: Done, dedupe: u128) {
        if self.flights.is_empty() && self.queue.is_empty() {
            if let Done::Ticket(ticket, index) = done {
                ticket.end(index, End::Duplicate);
            }
        } else {
            self.queue.push_back(Pending {
                done,
                record: None,
                bytes: 0,
                dedupe,
            });
        }
    }

    fn refusal(&self) -> Option<Arc<str>> {
        self.broken.clone().or_else(|| self.failure.clone())
    }

    fn hear(&mut self, transfer: Transfer) {
        let high = self.hearing.get(&transfer.from).copied().unwrap_or_default();
        if transfer.previous > high || self.refusal().is_some() || !self.serves() {
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
        if self.serves() {
            self.send_messages();
        }
    }

    fn send_messages(&mut self) {
        for (to, transfer) in self.core.outbox.take_unsent() {
            self.router.transfer(to, transfer);
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
            dedupe: 0,
        });
    }

    /// What a command that led to this record is answered: the twin's revision, or a version.
    fn answer_of(&self, record: &Record) -> Option<u64> {
        match record {
            Record::Event(event) => match self.core.table.entry(&event.twin)? {
                Entry::Resident(slot) => Some(slot.with(Twin::rev)),
                Entry::Passive => None,
            },
            Record::Plant(plant) => Some(plant.version),
            Record::Dashboard(dashboard) => Some(dashboard.version),
            Record::Rejected(_) | Record::Resolved { .. } => None,
        }
    }
}

fn encode(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Event(event) => record::encode_event(event, out),
        Record::Rejected(rejected) => record::encode_rejected(rejected, out),
        Record::Resolved { tenant, seq } => record::encode_resolved(tenant, *seq, out),
        Record::Plant(plant) => record::encode_plant(plant, out),
        Record::Dashboard(dashboard) => record::encode_dashboard(dashboard, out),
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
