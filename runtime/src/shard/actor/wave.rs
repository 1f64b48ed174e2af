//! Waves: what waits goes to the journal, what is durable is folded, published and answered.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use gemba_cluster::{Append, AppendError, Epoch, FrameBuilder, Seq, ShardId};
use gemba_twins::event::Event;
use tracing::{error, warn};

use super::{Done, Flight, Pending, ShardMsg, ShardState, answer, fail};
use crate::{
    accounts::End, metric_definitions as names, node::CommandError, shard::record::Record, store::StoreError,
};

impl ShardState {
    /// Sends what waits to the journal, if nothing of this shard is there.
    pub(super) fn dispatch(&mut self) {
        if !self.flights.is_empty() || self.failure.is_some() || self.broken.is_some() || !self.serves() {
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
            pending: Vec::with_capacity(pending.len()),
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
        if self.replica.is_some() {
            return self.propose(flights);
        }
        for (flight, frame) in flights {
            self.append(flight, frame);
        }
    }

    pub(super) fn append(&mut self, flight: Flight, frame: FrameBuilder) {
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

    pub(super) fn written(&mut self, first: u64, result: Result<(), AppendError>) {
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
    pub(super) fn finish_failure(&mut self) {
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

    pub(super) fn fold(&mut self, flight: Flight) {
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
            let value = match &pending.done {
                Done::Reply(_) => self.answer_of(&record),
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
    pub(super) fn break_down(
        &mut self,
        error: &StoreError,
        ended: Vec<(Done, End, Option<u64>)>,
        done: Done,
    ) {
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
                dedupe: 0,
            })
            .collect(),
            &reason,
        );
        for flight in std::mem::take(&mut self.flights) {
            fail(flight.pending, &reason);
        }
        fail(std::mem::take(&mut self.queue).into(), &reason);
    }
}
