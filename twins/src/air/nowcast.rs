//! The last hours of one pollutant, for its NowCast.
//!
//! Promises: what is kept depends on which values came, not on their order, as long as they are at most twelve hours
//! late. An hour's mean is weighted by time at a grain of ten minutes: each ten minutes that hold a value count the
//! same, however many values they hold. Bounded: 13 hours of 36 bytes.

use prost::Message;

use super::aqi::HOURS;
use crate::time::Timestamp;

const HOUR_MS: i64 = 3_600_000;
/// Parts of an hour.
const SLOTS: usize = 6;
/// An hour counts when at least half of its parts hold a value: a sensor that sends every 20 minutes is enough.
const SLOTS_LEAST: usize = 3;
/// Those of a NowCast, and the running one.
const KEPT: usize = HOURS + 1;

/// Sums are whole hundredths of µg/m³, so that the order in which values are added does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Hour {
    sum: [u32; SLOTS],
    count: [u16; SLOTS],
}

/// The hours of one pollutant.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Hours {
    /// Hours since 1970 of the newest value.
    newest: i64,
    /// By hour since 1970, modulo their number.
    hours: [Hour; KEPT],
}

impl Hours {
    /// Takes a value in µg/m³; what is no concentration or too old is left out.
    pub(crate) fn add(&mut self, at: Timestamp, ugm3: f64) {
        let hour = at.ms().div_euclid(HOUR_MS);
        if !(0.0..1e6).contains(&ugm3) || hour <= self.newest - KEPT as i64 {
            return;
        }
        if hour > self.newest {
            let passed = (hour - self.newest).min(KEPT as i64);
            (0..passed).for_each(|back| self.hours[place(hour - back)] = Hour::default());
            self.newest = hour;
        }
        let slot = (at.ms().rem_euclid(HOUR_MS) * SLOTS as i64 / HOUR_MS) as usize;
        let kept = &mut self.hours[place(hour)];
        let sum = kept.sum[slot].checked_add((ugm3 * 100.0).round() as u32);
        // A slot that is full has seen enough.
        if let (Some(sum), Some(count)) = (sum, kept.count[slot].checked_add(1)) {
            (kept.sum[slot], kept.count[slot]) = (sum, count);
        }
    }

    fn mean(&self, hour: i64) -> Option<f64> {
        if hour > self.newest || hour <= self.newest - KEPT as i64 {
            return None;
        }
        let kept = &self.hours[place(hour)];
        let slots = || kept.sum.iter().zip(kept.count).filter(|(_, count)| *count > 0);
        let sum: f64 = slots()
            .map(|(sum, count)| f64::from(*sum) / f64::from(count))
            .sum();
        let filled = slots().count();
        (filled >= SLOTS_LEAST).then(|| sum / filled as f64 / 100.0)
    }

    /// The means of the twelve clock hours that ended before `now`, the newest first.
    pub(crate) fn before(&self, now: Timestamp) -> [Option<f64>; HOURS] {
        let running = now.ms().div_euclid(HOUR_MS);
        std::array::from_fn(|back| self.mean(running - 1 - back as i64))
    }

    pub(crate) fn to_wire(&self) -> HoursWire {
        let kept = (0..KEPT as i64).map(|back| self.newest - back);
        let hours = kept.filter_map(|hour| {
            let kept = &self.hours[place(hour)];
            (*kept != Hour::default()).then(|| HourWire {
                back: u32::try_from(self.newest - hour).unwrap_or_default(),
                sum: kept.sum.to_vec(),
                count: kept.count.map(u32::from).to_vec(),
            })
        });
        HoursWire {
            newest: self.newest,
            hours: hours.collect(),
        }
    }

    pub(crate) fn from_wire(wire: &HoursWire) -> Self {
        let mut kept = Self {
            newest: wire.newest.clamp(0, i64::from(u32::MAX)),
            ..Self::default()
        };
        for hour in wire.hours.iter().filter(|hour| (hour.back as usize) < KEPT) {
            let place = &mut kept.hours[place(kept.newest - i64::from(hour.back))];
            for (slot, (sum, count)) in hour.sum.iter().zip(&hour.count).take(SLOTS).enumerate() {
                place.sum[slot] = *sum;
                place.count[slot] = u16::try_from(*count).unwrap_or(u16::MAX);
            }
        }
        kept
    }
}

fn place(hour: i64) -> usize {
    hour.rem_euclid(KEPT as i64) as usize
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HoursWire {
    #[prost(sint64, tag = "1")]
    newest: i64,
    #[prost(message, repeated, tag = "2")]
    hours: Vec<HourWire>,
}

#[derive(Clone, PartialEq, Message)]
struct HourWire {
    /// Hours before the newest.
    #[prost(uint32, tag = "1")]
    back: u32,
    #[prost(uint32, repeated, tag = "2")]
    sum: Vec<u32>,
    #[prost(uint32, repeated, tag = "3")]
    count: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-02-02T06:00:00Z.
    const START_MS: i64 = 1_770_012_000_000;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_ms(START_MS + minute * 60_000)
    }

    #[test]
    fn ten_minutes_count_the_same_however_many_values_they_hold() {
        let mut hours = Hours::default();
        (0..10).for_each(|minute| hours.add(at(minute), 10.0));
        hours.add(at(30), 40.0);
        hours.add(at(55), 40.0);
        assert_eq!(hours.before(at(60))[0], Some(30.0));
        assert_eq!(hours.before(at(59))[0], None, "the running hour is not over");
    }

    #[test]
    fn an_hour_with_too_few_values_does_not_count() {
        let mut hours = Hours::default();
        (0..20).for_each(|minute| hours.add(at(minute), 10.0));
        assert_eq!(hours.before(at(60))[0], None);
        hours.add(at(40), 10.0);
        assert_eq!(hours.before(at(60))[0], Some(10.0));
    }

    #[test]
    fn old_hours_make_room_and_what_is_no_concentration_is_left_out() {
        let mut hours = Hours::default();
        for minute in 0..30 * 60 {
            hours.add(at(minute), 5.0);
            hours.add(at(minute), -1.0);
            hours.add(at(minute), f64::NAN);
        }
        assert_eq!(hours.before(at(30 * 60)), [Some(5.0); HOURS]);
        hours.add(at(0), 500.0);
        assert_eq!(hours.before(at(30 * 60)), [Some(5.0); HOURS]);
        assert_eq!(hours.before(at(60 * 60)), [None; HOURS]);
        assert_eq!(Hours::from_wire(&hours.to_wire()), hours);
    }

    proptest! {
        #[test]
        fn the_order_of_values_does_not_matter(
            values in proptest::collection::vec((0_i64..11 * 60, 0.0..500.0), 1..60),
            seed in any::<u64>(),
        ) {
            let (mut sorted, mut shuffled) = (values.clone(), values);
            sorted.sort_by_key(|(minute, _)| *minute);
            let length = shuffled.len() as u64;
            for index in 0..shuffled.len() {
                let other = (seed.rotate_left(index as u32) % length) as usize;
                shuffled.swap(index, other);
            }
            let taken = |values: &[(i64, f64)]| {
                let mut hours = Hours::default();
                values.iter().for_each(|(minute, value)| hours.add(at(*minute), *value));
                hours
            };
            prop_assert_eq!(taken(&sorted), taken(&shuffled));
        }
    }
}
