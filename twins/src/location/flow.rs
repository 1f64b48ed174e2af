//! Jobs through a location, hour by hour: how many came and from where, how many left and how long they had stayed.
//!
//! Promises: agrees with the paths of the jobs whatever the order of their scans: a job tells how its path changed as
//! visits taken out and put in, and sums are whole numbers. Kept are the newest hour and the 24 before it; what is
//! older is forgotten, and changes to it are not taken. Bounded: 25 hours, 32 sources by name.

use prost::Message;

use crate::{
    event::{JobFlow, VisitChange},
    time::Timestamp,
};

const HOUR_MS: i64 = 3_600_000;
const HOURS_KEPT: i64 = 25;
/// Sources told apart; more are counted as `other`.
const SOURCES_MAX: usize = 32;
const OTHER: &str = "other";
/// Far above what comes, far below what overflows.
const COUNT_MAX: i64 = 1 << 32;
const DAMAGED_MAX: i64 = 1 << 55;
/// A rate over less than this says nothing.
const RATE_LEAST_MS: i64 = 10 * 60_000;

/// One hour. Offsets are milliseconds into it, summed: they give how many jobs were there on average.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Hour {
    /// Since 1970.
    number: i64,
    entered: i64,
    left: i64,
    /// Of those that left.
    dwell_ms: i64,
    entered_offset_ms: i64,
    left_offset_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Inflow {
    hour: i64,
    source: u32,
    count: i64,
}

/// What is kept of the jobs' flow.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Flow {
    /// In order of time; hours in which nothing happened are left out.
    hours: Vec<Hour>,
    inflows: Vec<Inflow>,
    /// Where jobs came from; empty for jobs that began here.
    sources: Vec<Box<str>>,
    /// The first and the newest time that is known.
    first: Option<Timestamp>,
    newest: Option<Timestamp>,
}

/// Jobs through a location within a time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LocationFlow {
    /// Jobs that are there now.
    pub wip: u64,
    /// Jobs that came.
    pub entered: u64,
    /// Jobs that left.
    pub left: u64,
    /// How long those that left had stayed, together.
    pub dwell_ms: i64,
    /// Time that jobs spent there within the time asked for, together.
    pub present_ms: i64,
    /// Where the jobs came from, and how many; empty for those that began here.
    pub sources: Vec<(Box<str>, u64)>,
    /// When the first of what is kept happened.
    pub kept_from: Option<Timestamp>,
}

impl Flow {
    /// Takes how a job's path changed.
    pub(crate) fn take(&mut self, flow: &JobFlow) {
        let added = flow.changes.iter().filter(|change| change.added);
        for at in added
            .flat_map(|change| [Some(change.entered_at), change.left_at])
            .flatten()
        {
            self.first = Some(self.first.map_or(at, |first| first.min(at)));
            self.newest = self.newest.max(Some(at));
        }
        self.forget();
        for change in &flow.changes {
            self.apply(change);
        }
        self.inflows.retain(|inflow| inflow.count != 0);
        self.hours.retain(|hour| {
            *hour
                != Hour {
                    number: hour.number,
                    ..Hour::default()
                }
        });
    }

    fn apply(&mut self, change: &VisitChange) {
        let sign = if change.added { 1 } else { -1 };
        let offset_ms = |at: Timestamp| at.ms().rem_euclid(HOUR_MS);
        if let Some(hour) = self.hour(change.entered_at) {
            hour.entered += sign;
            hour.entered_offset_ms += sign * offset_ms(change.entered_at);
            let (number, source) = (hour.number, self.source(&change.from));
            self.inflow(number, source).count += sign;
        }
        if let Some(left_at) = change.left_at
            && let Some(hour) = self.hour(left_at)
        {
            hour.left += sign;
            hour.left_offset_ms += sign * offset_ms(left_at);
            hour.dwell_ms += sign * left_at.ms_since(change.entered_at).max(0);
        }
    }

    fn oldest_kept(&self) -> i64 {
        self.newest
            .map_or(i64::MIN, |newest| hour_of(newest) - HOURS_KEPT + 1)
    }

    fn forget(&mut self) {
        let oldest = self.oldest_kept();
        self.hours.retain(|hour| hour.number >= oldest);
        self.inflows.retain(|inflow| inflow.hour >= oldest);
    }

    fn hour(&mut self, at: Timestamp) -> Option<&mut Hour> {
        let number = hour_of(at);
        if number < self.oldest_kept() {
            return None;
        }
        let place = match self.hours.binary_search_by_key(&number, |hour| hour.number) {
            Ok(place) => place,
            Err(place) => {
                let hour = Hour {
                    number,
                    ..Hour::default()
                };
                self.hours.insert(place, hour);
                place
            }
        };
        self.hours.get_mut(place)
    }

    fn source(&mut self, name: &str) -> u32 {
        let known = |sources: &[Box<str>], name: &str| sources.iter().position(|known| **known == *name);
        let place = known(&self.sources, name).unwrap_or_else(|| {
            let name = if self.sources.len() < SOURCES_MAX {
                name
            } else {
                OTHER
            };
            known(&self.sources, name).unwrap_or_else(|| {
                self.sources.push(name.into());
                self.sources.len() - 1
            })
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    fn inflow(&mut self, hour: i64, source: u32) -> &mut Inflow {
        let key = |inflow: &Inflow| (inflow.hour, inflow.source);
        let place = match self.inflows.binary_search_by_key(&(hour, source), key) {
            Ok(place) => place,
            Err(place) => {
                let inflow = Inflow {
                    hour,
                    source,
                    count: 0,
                };
                self.inflows.insert(place, inflow);
                place
            }
        };
        &mut self.inflows[place]
    }

    /// What happened from the hour of `from` up to `to`; `wip` is how many jobs are there now.
    pub(crate) fn between(&self, from: Timestamp, to: Timestamp, wip: u64) -> LocationFlow {
        let asked = hour_of(from)..=hour_of(to.plus_ms(-1));
        let mut flow = LocationFlow {
            wip,
            kept_from: self.kept_from(),
            ..LocationFlow::default()
        };
        // Backwards from now: how many were there when each hour began.
        let mut there = i64::try_from(wip).map_or(COUNT_MAX, |wip| wip.min(COUNT_MAX));
        let mut hours = self.hours.iter().rev().peekable();
        while hours
            .next_if(|hour| hour.number > *asked.end())
            .is_some_and(|hour| {
                there -= hour.entered - hour.left;
                true
            })
        {}
        for number in asked.clone().rev().take(HOURS_KEPT as usize) {
            let start_ms = number * HOUR_MS;
            let length = HOUR_MS.min(to.ms() - start_ms);
            let Some(hour) = hours.next_if(|hour| hour.number == number) else {
                if self.first.is_some_and(|first| hour_of(first) <= number) {
                    flow.present_ms += there.max(0) * length;
                }
                continue;
            };
            there -= hour.entered - hour.left;
            flow.entered += u64::try_from(hour.entered).unwrap_or_default();
            flow.left += u64::try_from(hour.left).unwrap_or_default();
            flow.dwell_ms += hour.dwell_ms;
            let came = hour.entered * length - hour.entered_offset_ms;
            let went = hour.left * length - hour.left_offset_ms;
            flow.present_ms += (there * length + came - went).max(0);
        }
        for inflow in self.inflows.iter().filter(|inflow| asked.contains(&inflow.hour)) {
            let name = self
                .sources
                .get(inflow.source as usize)
                .cloned()
                .unwrap_or_default();
            let count = u64::try_from(inflow.count).unwrap_or_default();
            match flow.sources.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known += count,
                None => flow.sources.push((name, count)),
            }
        }
        flow.sources.sort();
        flow
    }

    fn kept_from(&self) -> Option<Timestamp> {
        let oldest = self.oldest_kept().saturating_mul(HOUR_MS);
        self.first.map(|first| first.max(Timestamp::from_ms(oldest)))
    }

    /// Jobs that left in an hour, over the running clock hour and the one before.
    pub(crate) fn throughput_per_h(&self) -> Result<f64, &'static str> {
        let (Some(first), Some(newest)) = (self.first, self.newest) else {
            return Err("no job has been here yet");
        };
        let from = newest.floor_to(HOUR_MS).plus_ms(-HOUR_MS).max(first);
        let span_ms = newest.ms_since(from);
        if span_ms < RATE_LEAST_MS {
            return Err("less than ten minutes are known");
        }
        let recent = self.hours.iter().filter(|hour| hour.number >= hour_of(from));
        let left: i64 = recent.map(|hour| hour.left).sum();
        Ok(left as f64 * HOUR_MS as f64 / span_ms as f64)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        use crate::attributes::block;
        let names = self.sources.iter().map(|name| block(name.len()));
        block(self.hours.capacity() * size_of::<Hour>())
            + block(self.inflows.capacity() * size_of::<Inflow>())
            + block(self.sources.capacity() * size_of::<Box<str>>())
            + names.sum::<usize>()
    }

    pub(crate) fn to_wire(&self) -> FlowWire {
        FlowWire {
            hours: self.hours.iter().map(HourWire::of).collect(),
            inflows: self
                .inflows
                .iter()
                .map(|inflow| InflowWire {
                    hour: inflow.hour,
                    source: inflow.source,
                    count: inflow.count,
                })
                .collect(),
            sources: self.sources.iter().map(|name| name.to_string()).collect(),
            first_ms: self.first.map(Timestamp::ms),
            newest_ms: self.newest.map(Timestamp::ms),
        }
    }

    pub(crate) fn from_wire(wire: FlowWire) -> Self {
        Self {
            hours: wire.hours.iter().map(HourWire::hour).collect(),
            inflows: wire
                .inflows
                .iter()
                .map(|inflow| Inflow {
                    hour: inflow.hour,
                    source: inflow.source,
                    count: inflow.count.clamp(-COUNT_MAX, COUNT_MAX),
                })
                .collect(),
            sources: wire.sources.into_iter().map(String::into_boxed_str).collect(),
            first: wire.first_ms.map(Timestamp::from_ms),
            newest: wire.newest_ms.map(Timestamp::from_ms),
        }
    }
}

fn hour_of(at: Timestamp) -> i64 {
    at.ms().div_euclid(HOUR_MS)
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FlowWire {
    #[prost(message, repeated, tag = "1")]
    hours: Vec<HourWire>,
    #[prost(message, repeated, tag = "2")]
    inflows: Vec<InflowWire>,
    #[prost(string, repeated, tag = "3")]
    sources: Vec<String>,
    #[prost(sint64, optional, tag = "4")]
    first_ms: Option<i64>,
    #[prost(sint64, optional, tag = "5")]
    newest_ms: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct HourWire {
    #[prost(sint64, tag = "1")]
    number: i64,
    #[prost(sint64, tag = "2")]
    entered: i64,
    #[prost(sint64, tag = "3")]
    left: i64,
    #[prost(sint64, tag = "4")]
    dwell_ms: i64,
    #[prost(sint64, tag = "5")]
    entered_offset_ms: i64,
    #[prost(sint64, tag = "6")]
    left_offset_ms: i64,
}

impl HourWire {
    fn of(hour: &Hour) -> Self {
        Self {
            number: hour.number,
            entered: hour.entered,
            left: hour.left,
            dwell_ms: hour.dwell_ms,
            entered_offset_ms: hour.entered_offset_ms,
            left_offset_ms: hour.left_offset_ms,
        }
    }

    /// Bytes that were damaged lead to nonsense, but not to an overflow.
    fn hour(&self) -> Hour {
        let held = |value: i64| value.clamp(-DAMAGED_MAX, DAMAGED_MAX);
        Hour {
            number: held(self.number),
            entered: held(self.entered).clamp(-COUNT_MAX, COUNT_MAX),
            left: held(self.left).clamp(-COUNT_MAX, COUNT_MAX),
            dwell_ms: held(self.dwell_ms),
            entered_offset_ms: held(self.entered_offset_ms),
            left_offset_ms: held(self.left_offset_ms),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
struct InflowWire {
    #[prost(sint64, tag = "1")]
    hour: i64,
    #[prost(uint32, tag = "2")]
    source: u32,
    #[prost(sint64, tag = "3")]
    count: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-02-02T06:00:00Z.
    fn at(minute: i64) -> Timestamp {
        Timestamp::from_ms(1_770_012_000_000 + minute * 60_000)
    }

    fn visit(from: &str, entered: i64, left: Option<i64>, added: bool) -> VisitChange {
        VisitChange {
            from: from.into(),
            entered_at: at(entered),
            left_at: left.map(at),
            added,
        }
    }

    fn take(flow: &mut Flow, changes: Vec<VisitChange>) {
        flow.take(&JobFlow {
            job: "job-1".into(),
            changes,
            retraction: false,
        });
    }

    #[test]
    fn jobs_that_were_there_are_counted_by_their_time() {
        let mut flow = Flow::default();
        take(&mut flow, vec![visit("saw", 10, Some(40), true)]);
        take(&mut flow, vec![visit("saw", 50, Some(70), true)]);
        take(&mut flow, vec![visit("", 90, None, true)]);
        let first = flow.between(at(0), at(60), 1);
        assert_eq!((first.entered, first.left, first.dwell_ms), (2, 1, 30 * 60_000));
        assert_eq!(first.present_ms, (30 + 10) * 60_000);
        let second = flow.between(at(60), at(100), 1);
        assert_eq!(
            (second.entered, second.left, second.dwell_ms),
            (1, 1, 20 * 60_000)
        );
        assert_eq!(second.present_ms, (10 + 10) * 60_000);
        let both = flow.between(at(0), at(100), 1);
        assert_eq!(both.sources, [("".into(), 1), ("saw".into(), 2)]);
        assert_eq!(both.kept_from, Some(at(10)));
        assert_eq!(Flow::from_wire(flow.to_wire()), flow);
    }

    #[test]
    fn what_is_taken_out_again_leaves_nothing() {
        let mut flow = Flow::default();
        take(&mut flow, vec![visit("saw", 10, Some(40), true)]);
        take(&mut flow, vec![visit("saw", 10, Some(40), false)]);
        assert_eq!((flow.hours.len(), flow.inflows.len()), (0, 0));
    }

    #[test]
    fn a_day_is_kept_and_sources_are_bounded() {
        let mut flow = Flow::default();
        for hour in 0..50 {
            let from = format!("cell-{hour}");
            take(
                &mut flow,
                vec![visit(&from, hour * 60, Some(hour * 60 + 30), true)],
            );
        }
        assert_eq!(flow.hours.len(), HOURS_KEPT as usize);
        assert_eq!(flow.kept_from(), Some(at(25 * 60)));
        let whole = flow.between(at(0), at(50 * 60), 0);
        assert_eq!((whole.entered, whole.left), (25, 25));
        assert_eq!(whole.sources.iter().map(|(_, count)| count).sum::<u64>(), 25);
        assert!(whole.sources.contains(&(OTHER.into(), 18)), "{:?}", whole.sources);
        take(&mut flow, vec![visit("late", 0, Some(1), true)]);
        assert_eq!(flow.between(at(0), at(50 * 60), 0).entered, 25);
    }

    #[test]
    fn throughput_is_over_the_last_one_to_two_hours() {
        let mut flow = Flow::default();
        assert!(flow.throughput_per_h().is_err());
        take(&mut flow, vec![visit("", 0, Some(5), true)]);
        assert!(flow.throughput_per_h().is_err());
        for number in 1..10 {
            take(&mut flow, vec![visit("", number * 10, Some(number * 10), true)]);
        }
        // Ten jobs in 90 minutes.
        let found = flow.throughput_per_h().unwrap_or_default();
        assert!((found - 10.0 / 1.5).abs() < 1e-9, "{found}");
    }
}
