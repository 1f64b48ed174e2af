//! What a place does when it cannot go on: it tries again by a new session, or leaves the place to another writer.

use std::time::Duration;

use tracing::{error, info, warn};

use super::{Fence, SqlLane};
use crate::{
    checkpoint::{Shared, breaker::channel_wait, client::Fault, metric_names as names, view::ChannelState},
    clock,
};

/// Longest time between two looks after a place that waits for a person or another writer.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl SqlLane {
    /// Looks after a place that another writer has, without touching it.
    pub(super) fn watch(&mut self, shared: &Shared) -> Result<Option<Duration>, Fault> {
        let session = self.session(shared)?;
        let found = self.row.read(&session)?;
        session.close();
        let Some(fence) = &mut self.fence else {
            return Ok(Some(Duration::ZERO));
        };
        if found != fence.seen {
            fence.alive |= fence.seen.is_some();
            (fence.seen, fence.since) = (found, clock::instant());
        }
        let takeover = shared.settings.takeover_after.max(shared.settings.sql_every * 2);
        let may = !fence.alive && !shared.settings.takeover_after.is_zero();
        if may && fence.since.elapsed() >= takeover {
            info!(
                stream = self.place.table.word(),
                shard = self.place.shard,
                "nobody has written since the place was taken; it is taken back"
            );
            (self.fence, self.held, self.reason) = (None, None, "takeover");
            return Ok(Some(Duration::ZERO));
        }
        Ok(Some(look_again(shared)))
    }

    pub(super) fn ahead(&mut self, shared: &Shared, committed: u64, newest: u64) -> Duration {
        let says = format!(
            "the warehouse has rows up to seq {committed}, the journal ends at {newest} (another data folder wrote them; \
             give this one a snowflake.channel_prefix of its own)"
        );
        if self.edit(|view| view.state != ChannelState::Ahead) {
            error!(
                stream = self.place.table.word(),
                shard = self.place.shard,
                committed,
                newest,
                "the warehouse is ahead of the journal; nothing is sent"
            );
        }
        self.show(ChannelState::Ahead, Some(says));
        look_again(shared)
    }

    /// What a failure leads to; answers when to come again.
    pub(super) fn suffer(&mut self, shared: &Shared, fault: Fault) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let wait = channel_wait(shared.settings.retry_after, self.failures);
        let (stream, shard) = (self.place.table.word(), self.place.shard);
        let (known, says) = match fault {
            Fault::Closed(wait) => return wait,
            Fault::Uncommitted => ("busy", "rows are not committed yet".to_owned()),
            Fault::Busy(says) => ("busy", says),
            Fault::Unknown(says) => ("unknown", says),
            Fault::Reopen(says) => ("reopen", says),
            Fault::Stale(says) => {
                error!(
                    stream,
                    shard, says, "another writer has taken the place; nothing is sent"
                );
                self.give_up("takeover");
                self.fence = Some(Fence {
                    seen: None,
                    since: clock::instant(),
                    alive: false,
                });
                self.show(
                    ChannelState::Fenced,
                    Some(format!("another writer has taken the place ({says})")),
                );
                return wait;
            }
            Fault::Refused(says) => {
                if self.failures == 1 {
                    error!(
                        stream,
                        shard, says, "the warehouse cannot be written to; trying again"
                    );
                }
                self.give_up("refused");
                metrics::counter!(names::FAILED, "known" => "refused").increment(1);
                self.show(ChannelState::Refused, Some(says));
                return wait.max(shared.settings.retry_after * 4);
            }
        };
        // Also where it is busy: what a transaction has done so far is not known to be there.
        self.give_up(known);
        metrics::counter!(names::FAILED, "known" => known).increment(1);
        warn!(
            stream,
            shard,
            says,
            wait_ms = wait.as_millis() as u64,
            "checkpoint failed; trying again"
        );
        self.show(ChannelState::Retrying, Some(says));
        wait
    }

    /// Ends the session, and with it the transaction that may be open in it.
    pub(super) fn give_up(&mut self, reason: &'static str) {
        self.reason = reason;
        if let Some(open) = self.open.take() {
            open.session.close();
        }
    }

    /// Names seqs that the journal gave up before they were sent.
    pub(super) fn note_missing(&mut self, gap: (u64, u64)) {
        if !self.kept.missing.contains(&gap) {
            error!(
                stream = self.place.table.word(),
                shard = self.place.shard,
                from = gap.0,
                to = gap.1,
                "the journal gave these up before they were sent"
            );
            self.kept.missing.push(gap);
        }
    }
}

/// When it is looked again after a place that waits for a person or another writer.
fn look_again(shared: &Shared) -> Duration {
    LOOK_EVERY.min(shared.settings.retry_after * 8)
}
