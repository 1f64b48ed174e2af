//! How large the journal may get while a destination does not take what it holds.
//!
//! Promises: from 80 % of a limit on the journal is trimmed as far as snapshots, files and the warehouse allow, and
//! where that is not enough an alarm says so; at 100 % new data is refused, or what the files hold is given up and
//! loaded into the warehouse from them, as the operator decided. Nothing is dropped silently. The limits are looked at every
//! few seconds, so what arrives within that time may pass them.

use std::time::Duration;

use gemba_twins::time::Timestamp;

use super::{
    Inner,
    history::{HistoryState, Needed},
};
use crate::{checkpoint::ChannelState, metric_definitions as names, settings::WhenFull};

/// From this part of a limit on there is an alarm.
const ALARM: f64 = 0.8;

impl Inner {
    pub(super) fn keep_within_limits(&self, state: &mut HistoryState) {
        let limits = self.settings.journal_limits;
        if limits.bytes.is_none() && limits.lag.is_none() {
            return;
        }
        let mut full = self.journal_full();
        if full >= ALARM {
            self.make_room(state, Needed::ByAll);
            full = self.journal_full();
        }
        if full >= 1.0 && limits.when_full == WhenFull::Spill && self.settings.history.folder.is_some() {
            tracing::error!(
                full,
                "the journal is full; what the history's files hold is given up (the warehouse gets it from them)"
            );
            self.make_room(state, Needed::WithoutWarehouse);
            full = self.journal_full();
        }
        let refuses = full >= 1.0 && !(limits.when_full == WhenFull::Spill && self.within_bytes());
        if self.gate.set_closed(refuses) {
            if refuses {
                tracing::error!(
                    full,
                    "the journal is full; new data is refused until there is room (see GET /v1/checkpoints)"
                );
            } else {
                tracing::info!(full, "the journal has room again");
            }
        }
        let alarmed = std::mem::replace(&mut state.alarmed, full >= ALARM);
        if state.alarmed && !alarmed {
            tracing::error!(
                full,
                "the journal is nearly full: a destination does not take what it holds (see GET /v1/checkpoints)"
            );
        }
        metrics::gauge!(names::JOURNAL_FULL_RATIO).set(full);
        metrics::gauge!(names::JOURNAL_REFUSING).set(f64::from(u8::from(refuses)));
    }

    /// How much of its nearest limit the journal has reached.
    fn journal_full(&self) -> f64 {
        let limits = self.settings.journal_limits;
        let bytes = limits
            .bytes
            .map_or(0.0, |most| self.journal.stats().bytes as f64 / most.max(1) as f64);
        let lag = limits
            .lag
            .map_or(0.0, |most| self.lag().as_secs_f64() / most.as_secs_f64());
        bytes.max(lag)
    }

    fn within_bytes(&self) -> bool {
        let bytes = self.settings.journal_limits.bytes;
        bytes.is_none_or(|most| self.journal.stats().bytes < most)
    }

    /// Age of the oldest event that the warehouse does not have.
    fn lag(&self) -> Duration {
        let channels = self
            .checkpoint
            .as_ref()
            .map(|checkpoint| checkpoint.channels(None));
        let oldest = channels
            .into_iter()
            .flatten()
            .filter(|channel| channel.state != ChannelState::Standby)
            .filter_map(|channel| channel.lag_s)
            .fold(0.0, f64::max);
        Duration::from_secs_f64(oldest)
    }

    fn make_room(&self, state: &mut HistoryState, needed: Needed) {
        if let Err(error) = self.trim(state, Timestamp::from_ms(i64::MAX), needed) {
            tracing::warn!(%error, "journal not trimmed; trying again");
        }
    }
}
