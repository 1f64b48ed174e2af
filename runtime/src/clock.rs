//! The one clock: the only place that asks the system for the time.
//!
//! Everything else takes time as an argument; clippy bans the rest. What is asked here reaches a fold only inside an
//! event.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use gemba_twins::time::Timestamp;

/// The time of day in UTC, to the millisecond.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

/// A point on the monotonic clock, for measuring how long something takes.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn instant() -> Instant {
    Instant::now()
}
