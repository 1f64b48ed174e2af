//! Rollups: what a metric did within a minute, five minutes, an hour, a day.
//!
//! Promises: merging is associative and commutative (but for the last bit of a sum), so that late data and the parts
//! of a bucket can be put together in any order. A bucket may be handed out in parts; whoever keeps rows merges those
//! of equal width and start. Times are UTC. Knows nothing of how a reading comes into a bucket (`bucket.rs`).
//!
//! A metric of words has one entry per word it took, named `execution=producing`: `covered_ms` is the time in that
//! state, `increase` how often it was entered, `count` 0.

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
    /// Negative in a correction that takes time from a state and gives it to another.
    pub covered_ms: i32,
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
    /// First value by time; the smaller one of equal times.
    pub first: f64,
    /// Last value by time; the larger one of equal times.
    pub last: f64,
    /// Value times milliseconds over the covered time.
    pub integral: f64,
    /// What a counter grew by, over resets and rollovers; how often a state was entered; 0 for gauges.
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
        let at_ms = at.ms();
        Self {
            count: 1,
            first_at_ms: at_ms,
            last_at_ms: at_ms,
            sum: value,
            min: value,
            max: value,
            first: value,
            last: value,
            ..Self::default()
        }
    }

    /// A value that held for some time, without a reading of its own.
    pub(crate) fn held(value: f64, ms: i64) -> Self {
        Self {
            covered_ms: i32::try_from(ms).unwrap_or(0),
            integral: value * ms as f64,
            ..Self::default()
        }
    }

    /// Time in a state, and how often it was entered.
    pub(crate) fn state(ms: i32, entered: u32) -> Self {
        Self {
            covered_ms: ms,
            integral: f64::from(ms),
            increase: f64::from(entered),
            ..Self::default()
        }
    }

    /// Whether nothing was measured, nothing held over and nothing grew.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.covered_ms == 0 && self.integral == 0.0 && self.increase == 0.0
    }

    /// Puts two parts of a bucket together.
    pub fn merge(&mut self, other: &Self) {
        if other.count > 0 {
            let first = (other.first_at_ms, other.first);
            if self.count == 0 || is_before(first, (self.first_at_ms, self.first)) {
                (self.first_at_ms, self.first) = first;
            }
            let last = (other.last_at_ms, other.last);
            if self.count == 0 || is_before((self.last_at_ms, self.last), last) {
                (self.last_at_ms, self.last) = last;
            }
        }
        self.count = self.count.saturating_add(other.count);
        self.covered_ms = self.covered_ms.saturating_add(other.covered_ms);
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

fn is_before(one: (i64, f64), other: (i64, f64)) -> bool {
    one.0 < other.0 || (one.0 == other.0 && one.1.total_cmp(&other.1).is_lt())
}

/// One bucket of a twin, or a part of it, all its metrics together.
#[derive(Debug, Clone, PartialEq)]
pub struct RollupRow {
    /// Its width.
    pub level: Level,
    /// Its start.
    pub start: Timestamp,
    /// Late data changed it after it was closed.
    pub corrected: bool,
    /// What each metric did, sorted by name.
    pub metrics: Vec<(Box<str>, Stats)>,
}

#[derive(Clone, PartialEq, Message)]
struct StatsWire {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    count: u32,
    #[prost(sint32, tag = "3")]
    covered_ms: i32,
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
    fn of(name: &str, stats: &Stats) -> Self {
        Self {
            name: name.to_owned(),
            count: stats.count,
            covered_ms: stats.covered_ms,
            first_at_ms: stats.first_at_ms,
            span_ms: stats.last_at_ms.saturating_sub(stats.first_at_ms),
            sum: stats.sum,
            min: stats.min,
            max: stats.max,
            first: stats.first,
            last: stats.last,
            integral: stats.integral,
            increase: stats.increase,
        }
    }

    fn stats(&self) -> Stats {
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
        self.metrics.sort_by(|(one, _), (other, _)| one.cmp(other));
    }

    /// Appends the row's bytes: a version, then protobuf.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = RowWire {
            level: self.level as u32,
            start_ms: self.start.ms(),
            corrected: self.corrected,
            metrics: self
                .metrics
                .iter()
                .map(|(name, stats)| StatsWire::of(name, stats))
                .collect(),
        };
        out.push(1);
        wire.encode_raw(out);
    }

    /// Reads a row.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some((1, body)) = bytes.split_first() else {
            return Err(undecodable("unknown version of a rollup"));
        };
        let wire = RowWire::decode(body).map_err(undecodable)?;
        let level = Level::ALL.into_iter().find(|level| *level as u32 == wire.level);
        Ok(Self {
            level: level.ok_or_else(|| undecodable("unknown width of a bucket"))?,
            start: Timestamp::from_ms(wire.start_ms),
            corrected: wire.corrected,
            metrics: wire
                .metrics
                .iter()
                .map(|stats| (stats.name.as_str().into(), stats.stats()))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(1_764_115_200_000 + ms)
    }

    #[test]
    fn parts_of_a_bucket_give_the_whole_in_any_order() {
        let (one, two, same_time) = (
            Stats::of(at(10), 4.0),
            Stats::of(at(20), 1.0),
            Stats::of(at(20), 7.0),
        );
        let merged = |parts: [Stats; 3]| {
            let mut whole = Stats::default();
            parts.iter().for_each(|part| whole.merge(part));
            whole
        };
        let whole = merged([one, two, same_time]);
        assert_eq!(
            (whole.count, whole.first, whole.last, whole.min, whole.max),
            (3, 4.0, 7.0, 1.0, 7.0)
        );
        assert_eq!(whole.avg(), Some(4.0));
        assert_eq!(merged([same_time, one, two]), whole);
        assert_eq!(merged([two, same_time, one]), whole);
    }

    #[test]
    fn a_time_weighted_mean_weighs_by_time() {
        let mut stats = Stats::held(10.0, 45_000);
        stats.merge(&Stats::held(50.0, 15_000));
        assert_eq!(stats.time_weighted_avg(), Some(20.0));
        assert_eq!(stats.avg(), None);
    }

    #[test]
    fn widths_are_read_as_they_are_asked_for() {
        let steps = ["1m", "5m", "1h", "1d"].map(|text| Level::parse(text).expect("a width").step_ms());
        assert_eq!(steps, [60_000, 300_000, 3_600_000, 86_400_000]);
        assert_eq!(Level::parse("2m"), None);
    }
}
