//! Why a machine stood still, for how long, and how often it failed.
//!
//! Promises: a stop is the time in `stopped` or `down` without another known state between; its reason may be said at
//! any time of it and holds for all of it. The mean time between failures is the operating time (production and
//! setup) up to the last failure over the number of failures, the mean time to repair the time down of those that
//! were repaired over their number (ISO 22400-2; some printings divide by one more).

use super::figures::Figures;
use crate::config::Execution;

/// Longest reason kept, in bytes.
const REASON_MAX: usize = 64;

pub(super) fn is_stop(execution: Execution) -> bool {
    matches!(execution, Execution::Stopped | Execution::Down)
}

/// A stop that is on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stop {
    /// How long it is so far.
    pub(crate) total_ms: i64,
    /// Of it, what is not told to a period yet.
    pub(crate) ms: i64,
    /// A period counted it already.
    pub(crate) counted: bool,
    /// Stopped, or down at any time of it.
    pub(crate) worst: Execution,
    pub(crate) reason: Option<Box<str>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            total_ms: 0,
            ms: 0,
            counted: false,
            worst: Execution::Stopped,
            reason: None,
        }
    }
}

impl Stop {
    pub(super) fn add(&mut self, ms: i64) {
        self.total_ms = self.total_ms.saturating_add(ms).max(0);
        self.ms = self.ms.saturating_add(ms).max(0);
    }

    pub(super) fn say(&mut self, reason: &str) {
        let reason = &reason[..reason.floor_char_boundary(REASON_MAX)];
        let says = !reason.is_empty() && !reason.eq_ignore_ascii_case("none");
        if says && self.reason.as_deref() != Some(reason) {
            self.reason = Some(reason.into());
        }
    }

    pub(super) fn flush(&mut self, figures: &mut Figures) {
        if self.ms == 0 {
            return;
        }
        let reason = self.reason.as_deref().unwrap_or(self.worst.as_str());
        figures.stood(reason, self.ms, u32::from(!self.counted));
        (self.ms, self.counted) = (0, true);
    }
}

/// Failures since the machine is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Failures {
    pub(crate) count: u32,
    pub(crate) repairs: u32,
    /// It failed and was not repaired yet.
    pub(crate) is_failed: bool,
    /// Operating time up to the last failure.
    pub(crate) operating_ms: i64,
    /// Time down up to the last repair.
    pub(crate) repaired_ms: i64,
}

impl Failures {
    pub(super) fn say(&mut self, execution: Execution, operating_ms: i64, down_ms: i64) {
        match execution {
            Execution::Unknown => {}
            Execution::Down if !self.is_failed => {
                self.is_failed = true;
                self.count = self.count.saturating_add(1);
                self.operating_ms = operating_ms;
            }
            Execution::Down => {}
            _ if self.is_failed => {
                self.is_failed = false;
                self.repairs = self.repairs.saturating_add(1);
                self.repaired_ms = down_ms;
            }
            _ => {}
        }
    }
}
