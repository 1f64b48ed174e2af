//! What a channel does when it cannot go on: it tries again, is opened anew, or leaves the channel to another writer.

use std::time::Duration;

use tracing::{error, info, warn};

use super::{Fence, Lane, POLL_EVERY};
use crate::{
    checkpoint::{Shared, breaker::channel_wait, client::Fault, metric_names as names, view::ChannelState},
    clock,
};

/// Longest time between two looks after a channel that waits for a person or another writer.
const LOOK_EVERY: Duration = Duration::from_secs(30);

impl Lane {
    /// Looks after a channel that another writer has, without touching it.
    pub(super) fn watch(&mut self, shared: &Shared) -> Result<Duration, Fault> {
        let status = shared
            .client
            .status(&self.pipe, &self.channel)?
            .unwrap_or_default();
        let committed = status.committed()?;
        let Some(fence) = &mut self.fence else {
            return Ok(Duration::ZERO);
        };
        if committed != fence.committed {
            (fence.committed, fence.since) = (committed, clock::instant());
            fence.alive = true;
        }
        let takeover = shared.settings.takeover_after;
        if !fence.alive && !takeover.is_zero() && fence.since.elapsed() >= takeover {
            info!(channel = %self.channel, "nobody has written to the channel since it was taken; it is taken back");
            (self.fence, self.reason) = (None, "takeover");
            return Ok(Duration::ZERO);
        }
        Ok(look_again(shared))
    }

    pub(super) fn ahead(&mut self, shared: &Shared, committed: u64, newest: u64) -> Duration {
        let says = format!(
            "the warehouse has rows up to seq {committed}, the journal ends at {newest} (another data folder wrote them; \
             give this one a snowflake.channel_prefix of its own)"
        );
        let known = self.edit(|view| view.state == ChannelState::Ahead);
        if !known {
            error!(channel = %self.channel, table = self.place.table.name(), committed, newest, "the warehouse is ahead of the journal; nothing is sent");
        }
        self.session = None;
        self.show(ChannelState::Ahead, Some(says));
        look_again(shared)
    }

    /// What a failure leads to; answers when to come again.
    pub(super) fn suffer(&mut self, shared: &Shared, fault: Fault) -> Duration {
        if let Fault::Closed(wait) = fault {
            self.show(ChannelState::Waiting, None);
            return wait;
        }
        self.failures = self.failures.saturating_add(1);
        let wait = channel_wait(shared.settings.retry_after, self.failures);
        let (known, says) = match fault {
            Fault::Closed(_) => return wait,
            Fault::Busy(says) => ("busy", says),
            Fault::Uncommitted => {
                self.careful_since.get_or_insert_with(clock::instant);
                self.show(ChannelState::Retrying, None);
                return wait.min(POLL_EVERY);
            }
            Fault::Unknown(says) => {
                self.give_up("unknown");
                ("unknown", says)
            }
            Fault::Reopen(says) => {
                self.give_up("asked");
                ("reopen", says)
            }
            Fault::Stale(says) => {
                error!(channel = %self.channel, table = self.place.table.name(), says, "another writer has taken the channel; nothing is sent");
                self.give_up("takeover");
                self.fence = Some(Fence {
                    committed: self.kept.committed,
                    since: clock::instant(),
                    alive: false,
                });
                self.show(
                    ChannelState::Fenced,
                    Some(format!("another writer has taken the channel ({says})")),
                );
                return wait;
            }
            Fault::Refused(says) => {
                if self.failures == 1 {
                    error!(channel = %self.channel, table = self.place.table.name(), says, "the warehouse cannot be written to; trying again");
                }
                self.give_up("refused");
                metrics::counter!(names::FAILED, "known" => "refused").increment(1);
                self.show(ChannelState::Refused, Some(says));
                return wait.max(shared.settings.retry_after * 4);
            }
        };
        metrics::counter!(names::FAILED, "known" => known).increment(1);
        warn!(channel = %self.channel, table = self.place.table.name(), says, wait_ms = wait.as_millis() as u64, "checkpoint failed; trying again");
        self.show(ChannelState::Retrying, Some(says));
        wait
    }

    fn give_up(&mut self, reason: &'static str) {
        self.session = None;
        self.reason = reason;
    }
}

/// When it is looked again after a channel that waits for a person or another writer.
fn look_again(shared: &Shared) -> Duration {
    LOOK_EVERY.min(shared.settings.retry_after * 8)
}
