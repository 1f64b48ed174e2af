//! The open buckets of one metric: what is not handed out yet, in little memory.
//!
//! Promises: agrees with `Stats::merge`; all times of one hour, as offsets into it. The minute, the five minutes and
//! the hour are disjoint: what closes moves up, so a reading touches only the minute. There is no day: its rows are
//! handed out hour by hour, as parts that whoever keeps rows merges.

use prost::Message;

use crate::{
    config::{Execution, MetricKind},
    rollup::{Level, Stats},
    time::Timestamp,
};

/// The steps a bucket moves up: minute, five minutes, hour.
pub(crate) const STEPS: [Level; 3] = [Level::M1, Level::M5, Level::H1];
/// Words of one metric told apart within an hour; more are added up as `other`.
const WORDS_MAX: usize = 16;

/// What a numeric metric did in a part of an hour. 64 bytes: a machine has some twenty of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    count: u32,
    covered_ms: i32,
    /// Milliseconds into the hour.
    first_ms: u32,
    last_ms: u32,
    sum: f64,
    min: f64,
    max: f64,
    first: f64,
    last: f64,
    /// A gauge's integral, or a counter's increase.
    grown: f64,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            count: 0,
            covered_ms: 0,
            first_ms: 0,
            last_ms: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            first: 0.0,
            last: 0.0,
            grown: 0.0,
        }
    }
}

impl Bucket {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && self.covered_ms == 0 && self.grown == 0.0
    }

    /// `Stats::merge` with `Stats::of`, without the detour: this runs for every value received.
    pub(crate) fn add(&mut self, ms_into_hour: u32, value: f64) {
        let first = (ms_into_hour, value);
        if self.count == 0 || is_before(first, (self.first_ms, self.first)) {
            (self.first_ms, self.first) = first;
        }
        if self.count == 0 || is_before((self.last_ms, self.last), first) {
            (self.last_ms, self.last) = first;
        }
        self.count = self.count.saturating_add(1);
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// A gauge's value held for some time.
    pub(crate) fn hold(&mut self, value: f64, ms: i64) {
        self.grown += value * ms as f64;
        self.covered_ms = self.covered_ms.saturating_add(i32::try_from(ms).unwrap_or(0));
    }

    /// A counter grew.
    pub(crate) fn grow(&mut self, by: f64) {
        self.grown += by;
    }

    pub(crate) fn merge(&mut self, kind: MetricKind, hour: Timestamp, part: &Stats) {
        let mut stats = self.stats(kind, hour);
        stats.merge(part);
        let into_hour = |at_ms: i64| u32::try_from(at_ms - hour.ms()).unwrap_or(0);
        *self = Self {
            count: stats.count,
            covered_ms: stats.covered_ms,
            first_ms: if stats.count > 0 {
                into_hour(stats.first_at_ms)
            } else {
                0
            },
            last_ms: if stats.count > 0 {
                into_hour(stats.last_at_ms)
            } else {
                0
            },
            sum: stats.sum,
            min: stats.min,
            max: stats.max,
            first: stats.first,
            last: stats.last,
            grown: if kind == MetricKind::Counter {
                stats.increase
            } else {
                stats.integral
            },
        };
    }

    pub(crate) fn stats(&self, kind: MetricKind, hour: Timestamp) -> Stats {
        let at_ms = |ms: u32| {
            if self.count > 0 {
                hour.ms() + i64::from(ms)
            } else {
                0
            }
        };
        let (integral, increase) = if kind == MetricKind::Counter {
            (0.0, self.grown)
        } else {
            (self.grown, 0.0)
        };
        Stats {
            count: self.count,
            covered_ms: self.covered_ms,
            first_at_ms: at_ms(self.first_ms),
            last_at_ms: at_ms(self.last_ms),
            sum: self.sum,
            min: self.min,
            max: self.max,
            first: self.first,
            last: self.last,
            integral,
            increase,
        }
    }
}

fn is_before(one: (u32, f64), other: (u32, f64)) -> bool {
    one.0 < other.0 || (one.0 == other.0 && one.1.total_cmp(&other.1).is_lt())
}

/// A word that a metric took.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Word {
    /// A machine's execution state, whatever word its control has for it.
    Execution(Execution),
    /// Any other.
    Text(Box<str>),
}

impl Word {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Execution(execution) => execution.as_str(),
            Self::Text(text) => text,
        }
    }
}

/// Time in one state within the open hour, by step: minute, five minutes, hour.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StateTime {
    pub(crate) word: Word,
    pub(crate) ms: [i32; 3],
    pub(crate) entered: [u32; 3],
}

/// The states that a metric of words took within the open hour.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct States(pub(crate) Vec<StateTime>);

impl States {
    pub(crate) fn of(&mut self, word: &Word) -> Option<&mut StateTime> {
        let place = match self.0.iter().position(|state| state.word == *word) {
            Some(place) => place,
            None => {
                let full = self.0.len() >= WORDS_MAX;
                let word = if full {
                    Word::Text("other".into())
                } else {
                    word.clone()
                };
                match self.0.iter().position(|state| full && state.word == word) {
                    Some(place) => place,
                    None => {
                        self.0.reserve_exact(1);
                        self.0.push(StateTime {
                            word,
                            ms: [0; 3],
                            entered: [0; 3],
                        });
                        self.0.len() - 1
                    }
                }
            }
        };
        self.0.get_mut(place)
    }

    /// Adds to a step of a word's time.
    pub(crate) fn add(&mut self, step: usize, word: &Word, ms: i64, entered: u32) {
        let Some(state) = self.of(word) else { return };
        state.ms[step] = state.ms[step].saturating_add(i32::try_from(ms).unwrap_or(0));
        state.entered[step] = state.entered[step].saturating_add(entered);
    }

    /// Drops what holds nothing, so that a word of yesterday takes no memory.
    pub(crate) fn forget_empty(&mut self) {
        self.0
            .retain(|state| state.ms != [0; 3] || state.entered != [0; 3]);
        self.0.shrink_to_fit();
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BucketWire {
    #[prost(uint32, tag = "1")]
    count: u32,
    #[prost(sint32, tag = "2")]
    covered_ms: i32,
    #[prost(uint32, tag = "3")]
    first_ms: u32,
    #[prost(uint32, tag = "4")]
    last_ms: u32,
    #[prost(double, tag = "5")]
    sum: f64,
    /// Absent where there is no reading, as are the three that follow.
    #[prost(double, optional, tag = "6")]
    min: Option<f64>,
    #[prost(double, optional, tag = "7")]
    max: Option<f64>,
    #[prost(double, tag = "8")]
    first: f64,
    #[prost(double, tag = "9")]
    last: f64,
    #[prost(double, tag = "10")]
    grown: f64,
}

impl BucketWire {
    pub(crate) fn of(bucket: &Bucket) -> Self {
        Self {
            count: bucket.count,
            covered_ms: bucket.covered_ms,
            first_ms: bucket.first_ms,
            last_ms: bucket.last_ms,
            sum: bucket.sum,
            min: (bucket.count > 0).then_some(bucket.min),
            max: (bucket.count > 0).then_some(bucket.max),
            first: bucket.first,
            last: bucket.last,
            grown: bucket.grown,
        }
    }

    pub(crate) fn bucket(&self) -> Bucket {
        Bucket {
            count: self.count,
            covered_ms: self.covered_ms,
            first_ms: self.first_ms,
            last_ms: self.last_ms,
            sum: self.sum,
            min: self.min.unwrap_or(f64::INFINITY),
            max: self.max.unwrap_or(f64::NEG_INFINITY),
            first: self.first,
            last: self.last,
            grown: self.grown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_of_a_gauge_stays_small() {
        assert_eq!(size_of::<Bucket>(), 64);
    }

    #[test]
    fn adding_a_value_is_merging_a_part_of_one_value() {
        let hour = Timestamp::from_ms(1_764_115_200_000);
        let (mut added, mut merged) = (Bucket::default(), Bucket::default());
        for (ms, value) in [(500, 3.0), (100, -1.0), (500, 2.0), (500, 9.0), (100, -4.0)] {
            added.add(ms, value);
            merged.merge(
                MetricKind::Gauge,
                hour,
                &Stats::of(hour.plus_ms(i64::from(ms)), value),
            );
        }
        assert_eq!(added, merged);
        assert_eq!((added.first, added.last), (-4.0, 9.0));
    }

    #[test]
    fn endless_new_words_stay_within_bounds() {
        let mut states = States::default();
        for number in 0..100 {
            states.add(0, &Word::Text(format!("word-{number}").into()), 10, 1);
        }
        assert_eq!(states.0.len(), WORDS_MAX + 1);
        assert_eq!(states.0.iter().map(|state| state.ms[0]).sum::<i32>(), 1_000);
    }
}
