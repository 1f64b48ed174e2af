//! A length of time as people write it: `45s`, `5m`, `33.3ms`.
//!
//! Promises: exact to the microsecond, more than nothing and at most 366 days; what is shown reads back the same.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use thiserror::Error;

/// Units by name, in microseconds, longest first.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];
/// Longest span.
const MICROSECONDS_MAX: u64 = 366 * 86_400_000_000;

/// A text that is not a span.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a duration (a number and us, ms, s, m, h or d, e.g. 45s; more than 0, at most 366d)")]
pub struct InvalidSpan(String);

/// A length of time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(u64);

impl Span {
    /// In seconds.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// In milliseconds, rounded up.
    #[must_use]
    pub fn ms(self) -> i64 {
        // At most 366 days.
        i64::try_from(self.0.div_ceil(1_000)).unwrap_or(i64::MAX)
    }
}

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let refuse = || InvalidSpan(text.chars().take(40).collect());
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or_else(refuse)?;
        let (number, unit) = text.split_at(end);
        let (_, microseconds) = UNITS
            .iter()
            .find(|(name, _)| *name == unit.trim_start())
            .ok_or_else(refuse)?;
        let span = number.parse::<f64>().map_err(|_| refuse())? * *microseconds as f64;
        // The cast saturates and takes what is not a number for 0: both are out of range.
        let span = span.round() as u64;
        if (1..=MICROSECONDS_MAX).contains(&span) {
            Ok(Self(span))
        } else {
            Err(refuse())
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS
            .iter()
            .find(|(_, microseconds)| self.0.is_multiple_of(*microseconds));
        let (unit, microseconds) = whole.copied().unwrap_or(("us", 1));
        write!(f, "{}{unit}", self.0 / microseconds)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown_in_their_largest_whole_unit() {
        for (written, shown) in [
            ("45s", "45s"),
            ("300s", "5m"),
            ("1.5m", "90s"),
            ("500ms", "500ms"),
            ("33.3ms", "33300us"),
            ("0.0333 s", "33300us"),
            ("24h", "1d"),
            ("366d", "366d"),
        ] {
            let span: Span = written.parse().expect(written);
            assert_eq!(span.to_string(), shown);
            assert_eq!(shown.parse::<Span>().expect(shown), span);
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "45",
            "s",
            "0s",
            "-1s",
            "1.2.3s",
            ".s",
            "5 minutes",
            "367d",
            "9e9s",
            "1µs",
            "0.1us",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
