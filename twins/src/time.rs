//! Points in time: milliseconds since 1970 in UTC, parsed from and shown as RFC 3339.
//!
//! Promises: never asks a clock; every time that exists can be shown. The fold gets all its time from events.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use thiserror::Error;

/// A text that is not a time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a time (use RFC 3339, e.g. 2026-11-23T07:57:28.560Z)")]
pub struct InvalidTime(String);

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 2000-01-01T00:00:00Z: an earlier time from a device is a clock that was never set.
const EARLIEST_MS: i64 = 946_684_800_000;
/// 2200-01-01T00:00:00Z: keeps all arithmetic on times far from overflow.
const LATEST_MS: i64 = 7_258_118_400_000;

impl Timestamp {
    /// A time of milliseconds since 1970, held to 2000 to 2200.
    #[must_use]
    pub fn from_ms(ms: i64) -> Self {
        Self(ms.clamp(EARLIEST_MS, LATEST_MS))
    }

    /// A time of milliseconds since 1970, `None` outside 2000 to 2200.
    #[must_use]
    pub fn checked_from_ms(ms: i64) -> Option<Self> {
        (EARLIEST_MS..=LATEST_MS).contains(&ms).then_some(Self(ms))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn ms(self) -> i64 {
        self.0
    }

    /// Milliseconds from `earlier` to this time; negative when `earlier` is later.
    #[must_use]
    pub fn ms_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// This time moved by `ms` milliseconds, held to 2000 to 2200.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self::from_ms(self.0.saturating_add(ms))
    }

    /// The start of the bucket of `step_ms` that holds this time, in UTC.
    #[must_use]
    pub fn floor_to(self, step_ms: i64) -> Self {
        Self(self.0 - self.0.rem_euclid(step_ms))
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;

    /// Parses RFC 3339 with any offset; digits past the millisecond are cut.
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let refuse = || InvalidTime(text.chars().take(60).collect());
        let parsed: jiff::Timestamp = text.parse().map_err(|_| refuse())?;
        Self::checked_from_ms(parsed.as_millisecond()).ok_or_else(refuse)
    }
}

/// RFC 3339 with milliseconds, in UTC: `2026-11-23T07:57:28.560Z`.
struct Text([u8; 24]);

impl Text {
    fn of(time: Timestamp) -> Self {
        let mut text = *b"0000-00-00T00:00:00.000Z";
        // From 1970 to 2200, so it exists and its year has four digits.
        let instant = jiff::Timestamp::from_millisecond(time.0).unwrap_or_default();
        let utc = jiff::tz::Offset::UTC.to_datetime(instant);
        let mut put = |from: usize, to: usize, number: i64| {
            let mut rest = number.unsigned_abs();
            for digit in text[from..to].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        };
        put(0, 4, utc.year().into());
        put(5, 7, utc.month().into());
        put(8, 10, utc.day().into());
        put(11, 13, utc.hour().into());
        put(14, 16, utc.minute().into());
        put(17, 19, utc.second().into());
        put(20, 23, utc.millisecond().into());
        Self(text)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Text::of(*self).as_str())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Text::of(*self).as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_through_text() {
        for text in ["2026-11-23T07:57:28.560Z", "2000-01-01T00:00:00.000Z"] {
            assert_eq!(text.parse::<Timestamp>().expect("a time").to_string(), text);
        }
        let with_offset: Timestamp = "2022-07-18T11:34:15.775023242+02:00".parse().expect("an offset");
        assert_eq!(with_offset.to_string(), "2022-07-18T09:34:15.775Z");
    }

    #[test]
    fn a_clock_that_was_never_set_is_refused() {
        assert!("1970-01-01T00:00:03Z".parse::<Timestamp>().is_err());
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert!("2026-13-01T00:00:00Z".parse::<Timestamp>().is_err());
    }
}
