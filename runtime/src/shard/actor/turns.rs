//! What a shard does without being asked: ticks, snapshots, passivation; and how it ends.

use std::time::Duration;

use gemba_twins::{event::Body, time::Timestamp};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::{info, warn};

use super::{Done, ShardMsg, ShardState, commands::own_event};
use crate::{
    clock, metric_definitions as names,
    shard::{core::watch_deadline, record::Record, router::control_number, snapshot::Collected},
    store::StoreError,
    table::Entry,
};

/// Most ticks that one turn journals: the rest waits a second.
const TICKS_MAX: usize = 4_096;
/// Fresh rollups after which a snapshot is due, so that they do not fill the memory.
const FRESH_ROLLUPS_MAX: usize = 50_000;

impl ShardState {
    pub(super) fn turn(&mut self, now: Timestamp) {
        self.now = now;
        self.turns = self.turns.wrapping_add(1);
        if self.broken.is_some() {
            return;
        }
        self.look_for_majority();
        if self.serves() {
            self.tick(now);
            self.core.outbox.turn();
            self.send_messages();
        }
        self.begin_cut();
        self.snapshot_if_due();
        if self.turns.is_multiple_of(30) && self.snapshot_permit.is_none() {
            self.core.passivate(self.seconds());
        }
        let shard = self.core.number.to_string();
        metrics::gauge!(names::TWINS_RESIDENT, "shard" => shard.clone()).set(self.core.resident as f64);
        let known = self.core.table.map.read().map_or(0, |map| map.len());
        metrics::gauge!(names::TWINS_KNOWN, "shard" => shard.clone()).set(known as f64);
        if self.replica.is_some() {
            metrics::gauge!(names::SHARD_QUEUE, "shard" => shard.clone()).set(self.waiting() as f64);
        }
        metrics::gauge!(names::OUTBOX_WAITING, "shard" => shard).set(self.core.outbox.len() as f64);
        self.dispatch();
    }

    pub(super) fn seconds(&self) -> u32 {
        u32::try_from(self.now.ms_since(self.started) / 1_000).unwrap_or(0)
    }

    /// Journals a tick for each twin whose time has come: it became stale, or a delay of one of its alarms is over.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if self.refusal().is_some() {
            return;
        }
        for _ in 0..TICKS_MAX {
            match self.core.deadlines.first_key_value() {
                Some(((deadline, _), _)) if *deadline <= now => {}
                _ => return,
            }
            let Some(((_, id), has_alarms)) = self.core.deadlines.pop_first() else {
                return;
            };
            let is_passive = !matches!(self.core.table.entry(&id), Some(Entry::Resident(_)));
            if is_passive && !has_alarms {
                continue;
            }
            let slot = match self.core.activate(&id) {
                Ok(slot) => slot,
                Err(error) => {
                    warn!(shard = self.core.number, twin = %id, %error, "twin not told that time has passed");
                    continue;
                }
            };
            let mut state = slot.lock();
            state.deadline = None;
            match state.twin.next_deadline().filter(|_| !state.set_aside) {
                Some(deadline) if deadline > now => watch_deadline(&mut self.core.deadlines, &mut state),
                Some(deadline) => {
                    drop(state);
                    let mut event = own_event(id, now, Body::Ticked);
                    event.at = deadline;
                    self.push(Done::Nobody, Record::Event(event));
                }
                None => {}
            }
        }
    }

    pub(super) fn snapshot_if_due(&mut self) {
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

    pub(super) fn begin_snapshot(&mut self, permit: OwnedSemaphorePermit) {
        self.snapshot_permit = Some(permit);
        self.snapshot_began = Some(clock::instant());
        self.last_snapshot = self.now;
        self.core.begin_snapshot();
        let _ = self.myself.cast(ShardMsg::SnapshotStep);
    }

    pub(super) fn step_snapshot(&mut self) {
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

    pub(super) fn snapshot_written(&mut self, collected: Collected, result: Result<(), StoreError>) {
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
        let result = result.map_err(|error| error.to_string());
        self.answer_cuts(&result);
        if !self.finish_leave() {
            self.finish_stop();
        }
    }

    pub(super) fn stop(&mut self, stopped: oneshot::Sender<()>) {
        self.stopping = Some(stopped);
        if self.replica.is_some() {
            self.step_down();
        }
        self.finish_stop();
    }

    pub(super) fn finish_stop(&mut self) {
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
