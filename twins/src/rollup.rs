//! Rollups: what a metric did within a minute, five minutes, an hour, a day.
//!
//! Promises: merging is associative and, but for the order of equal times, commutative, so that late data and parts
//! of a bucket can be put together in any order. Times are UTC.

use prost::Message;

use crate::{
    time::Timestamp,
    wire::{DecodeError, undecodable},
};

/// The width of a bucket. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// A minute.
    M1 = 1,
    /// Five minutes.
    M5 = 2,
    /// An hour.
    H1 = 3,
    /// A day.
    D1 = 4,
}

impl Level {
    /// All widths, the shortest first.
    pub const ALL: [Self; 4] = [Self::M1, Self::M5, Self::H1, Self::D1];

    /// The width in milliseconds.
    #[must_use]
    pub fn step_ms(self) -> i64 {
        match self {
            Self::M1 => 60_000,
            Self::M5 => 300_000,
            Self::H1 => 3_600_000,
            Self::D1 => 86_400_000,
        }
    }

    /// Parses `1m`, `5m`, `1h`, `1d`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "1m" => Some(Self::M1),
            "5m" => Some(Self::M5),
            "1h" => Some(Self::H1),
            "1d" => Some(Self::D1),
            _ => None,
        }
    }
}

/// What a metric did within a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// Readings.
    pub count: u32,
    /// Milliseconds for which the value is known: previous values hold until the next one, but not past staleness.
    pub covered_ms: u32,
    /// Time of the first reading, milliseconds since 1970; meaningless where `count` is 0.
    pub first_at_ms: i64,
    /// Time of the last reading.
    pub last_at_ms: i64,
    /// Sum of the values.
    pub sum: f64,
    /// Smallest value; infinite where `count` is 0.
    pub min: f64,
    /// Largest value; negative infinite where `count` is 0.
    pub max: f64,
    /// First value by time.
    pub first: f64,
    /// Last value by time.
    pub last: f64,
    /// Value times milliseconds over the covered time.
    pub integral: f64,
    /// What a counter grew by, over resets and rollovers; 0 for gauges.
    pub increase: f64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            count: 0,
            covered_ms: 0,
            first_at_ms: 0,
            last_at_ms: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            first: 0.0,
            last: 0.0,
            integral: 0.0,
            increase: 0.0,
        }
    }
}

impl Stats {
    /// One reading by itself.
    #[must_use]
    pub fn of(at: Timestamp, value: f64) -> Self {
        let mut stats = Self::default();
        stats.add(at, value);
        stats
    }

    /// Whether nothing was measured and nothing held over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.covered_ms == 0
    }

    pub(crate) fn add(&mut self, at: Timestamp, value: f64) {
        let at = at.ms();
        if self.count == 0 || at < self.first_at_ms {
            (self.first, self.first_at_ms) = (value, at);
        }
        if self.count == 0 || at >= self.last_at_ms {
            (self.last, self.last_at_ms) = (value, at);
        }
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    pub(crate) fn hold(&mut self, value: f64, ms: i64) {
        self.integral += value * ms as f64;
        self.covered_ms += u32::try_from(ms).unwrap_or(0);
    }

    /// Puts two parts of a bucket together.
    pub fn merge(&mut self, other: &Self) {
        if other.count > 0 {
            if self.count == 0 || other.first_at_ms < self.first_at_ms {
                (self.first, self.first_at_ms) = (other.first, other.first_at_ms);
            }
            if self.count == 0 || other.last_at_ms >= self.last_at_ms {
                (self.last, self.last_at_ms) = (other.last, other.last_at_ms);
            }
        }
        self.count += other.count;
        self.covered_ms += other.covered_ms;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.integral += other.integral;
        self.increase += other.increase;
    }

    /// Mean of the readings.
    #[must_use]
    pub fn avg(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }

    /// Mean over the covered time.
    #[must_use]
    pub fn time_weighted_avg(&self) -> Option<f64> {
        (self.covered_ms > 0).then(|| self.integral / f64::from(self.covered_ms))
    }
}

/// One bucket of a twin, all its metrics together.
#[derive(Debug, Clone, PartialEq)]
pub struct RollupRow {
    /// Its width.
    pub level: Level,
    /// Its start.
    pub start: Timestamp,
    /// Late data changed it after it was closed.
    pub corrected: bool,
    /// What each metric did.
    pub metrics: Vec<(Box<str>, Stats)>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatsWire {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "2")]
    count: u32,
    #[prost(uint32, tag = "3")]
    covered_ms: u32,
    #[prost(sint64, tag = "4")]
    first_at_ms: i64,
    #[prost(sint64, tag = "5")]
    span_ms: i64,
    #[prost(double, tag = "6")]
    sum: f64,
    #[prost(double, tag = "7")]
    min: f64,
    #[prost(double, tag = "8")]
    max: f64,
    #[prost(double, tag = "9")]
    first: f64,
    #[prost(double, tag = "10")]
    last: f64,
    #[prost(double, tag = "11")]
    integral: f64,
    #[prost(double, tag = "12")]
    increase: f64,
}

impl StatsWire {
    pub(crate) fn of(name: &str, stats: &Stats) -> Self {
        Self {
            name: name.to_owned(),
            count: stats.count,
            covered_ms: stats.covered_ms,
            first_at_ms: stats.first_at_ms,
            span_ms: stats.last_at_ms - stats.first_at_ms,
            sum: stats.sum,
            min: stats.min,
            max: stats.max,
            first: stats.first,
            last: stats.last,
            integral: stats.integral,
            increase: stats.increase,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            count: self.count,
            covered_ms: self.covered_ms,
            first_at_ms: self.first_at_ms,
            last_at_ms: self.first_at_ms.saturating_add(self.span_ms),
            sum: self.sum,
            min: self.min,
            max: self.max,
            first: self.first,
            last: self.last,
            integral: self.integral,
            increase: self.increase,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct RowWire {
    #[prost(uint32, tag = "1")]
    level: u32,
    #[prost(sint64, tag = "2")]
    start_ms: i64,
    #[prost(bool, tag = "3")]
    corrected: bool,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<StatsWire>,
}

impl RollupRow {
    /// Puts another part of the same bucket to this one.
    pub fn merge(&mut self, other: &Self) {
        self.corrected |= other.corrected;
        for (name, stats) in &other.metrics {
            match self.metrics.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => known.merge(stats),
                None => self.metrics.push((name.clone(), *stats)),
            }
        }
    }

    /// Appends the row's bytes: a version, then protobuf.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = RowWire {
            level: self.level as u32,
            start_ms: self.start.ms(),
            corrected: self.corrected,
            metrics: self.metrics.iter().map(|(name, stats)| StatsWire::of(name, stats)).collect(),
        };
        out.push(1);
        wire.encode_raw(out);
    }

    /// Reads a row.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some((1, body)) = bytes.split_first() else { return Err(undecodable("unknown version of a rollup")) };
        let wire = RowWire::decode(body).map_err(undecodable)?;
        let level = Level::ALL.into_iter().find(|level| *level as u32 == wire.level);
        Ok(Self {
            level: level.ok_or_else(|| undecodable("unknown width of a bucket"))?,
            start: Timestamp::from_ms(wire.start_ms),
            corrected: wire.corrected,
            metrics: wire.metrics.iter().map(|stats| (stats.name.as_str().into(), stats.stats())).collect(),
        })
    }
}
