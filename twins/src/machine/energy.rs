//! The energy a machine uses: from a cumulative register, else from its power; and the demand of quarter hours.
//!
//! Promises: once a register was read, power adds nothing. A power holds until the next one, at most until it is
//! stale. What a register grew by is spread evenly over the time between its two readings, so that a register read
//! once an hour gives the hour's mean as demand. Quarters of an hour are those of UTC.

use crate::time::Timestamp;

pub(super) const QUARTER_MS: i64 = 900_000;
const MS_PER_HOUR: f64 = 3_600_000.0;
const QUARTERS_PER_HOUR: f64 = 4.0;

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Energy {
    /// A register was read.
    pub(crate) has_register: bool,
    /// The power that holds, and until when.
    pub(crate) power: Option<(f64, Timestamp)>,
    /// Used in the open quarter of an hour; `None` where nothing was measured in it.
    pub(crate) quarter_kwh: Option<f64>,
}

/// The demand of quarters of an hour that a reading of a register closed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Demand {
    /// When the first of them ended, and its mean.
    first_end: Timestamp,
    first_kw: f64,
    /// When the last of them ended, and the mean of all but the first.
    last_end: Timestamp,
    whole_kw: f64,
}

impl Energy {
    /// Quarters of an hour are closed by time; those of a register are closed by its next reading.
    pub(super) fn is_timed(&self) -> bool {
        !self.has_register && (self.quarter_kwh.is_some() || self.power.is_some())
    }

    pub(super) fn begin_register(&mut self) {
        (self.power, self.has_register) = (None, true);
    }

    /// Takes a power where no register says better; true where none held before.
    pub(super) fn set_power(&mut self, kw: f64, until: Timestamp) -> bool {
        !self.has_register && self.power.replace((kw, until)).is_none()
    }

    /// What the power that holds gives in a stretch of time within one quarter of an hour.
    pub(super) fn hold(&mut self, from: Timestamp, to: Timestamp) -> f64 {
        let Some((kw, until)) = self.power else { return 0.0 };
        let ms = to.min(until).ms_since(from).max(0);
        if until <= to {
            self.power = None;
        }
        if ms == 0 {
            return 0.0;
        }
        let kwh = kw * ms as f64 / MS_PER_HOUR;
        self.quarter_kwh = Some(self.quarter_kwh.unwrap_or(0.0) + kwh);
        kwh
    }

    /// A quarter of an hour is over: its mean in kW.
    pub(super) fn close_quarter(&mut self) -> Option<f64> {
        if self.has_register {
            return None;
        }
        self.quarter_kwh.take().map(|kwh| QUARTERS_PER_HOUR * kwh)
    }

    /// Spreads what a register grew by over the time since it was read before.
    pub(super) fn spread(&mut self, kwh: f64, from: Option<Timestamp>, at: Timestamp) -> Option<Demand> {
        let quarter = at.floor_to(QUARTER_MS);
        let so_far = self.quarter_kwh.unwrap_or(0.0);
        let Some(from) = from.filter(|from| *from < quarter) else {
            self.quarter_kwh = Some(so_far + kwh);
            return None;
        };
        let per_ms = kwh / at.ms_since(from) as f64;
        let first_end = from.floor_to(QUARTER_MS).plus_ms(QUARTER_MS);
        let first_kwh = so_far + per_ms * first_end.ms_since(from) as f64;
        self.quarter_kwh = Some(per_ms * at.ms_since(quarter) as f64);
        Some(Demand {
            first_end,
            first_kw: QUARTERS_PER_HOUR * first_kwh,
            last_end: quarter,
            whole_kw: QUARTERS_PER_HOUR * per_ms * QUARTER_MS as f64,
        })
    }
}

impl Demand {
    /// The highest mean of the quarters that ended in a period that began then.
    pub(super) fn since(&self, began: Timestamp) -> Option<f64> {
        let first = (self.first_end > began).then_some(self.first_kw);
        let whole = (self.last_end > self.first_end && self.last_end > began).then_some(self.whole_kw);
        match (first, whole) {
            (Some(first), Some(whole)) => Some(first.max(whole)),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_ms(1_764_115_200_000 + minutes * 60_000)
    }

    #[test]
    fn a_register_is_spread_over_the_quarters_between_its_readings() {
        let mut energy = Energy::default();
        energy.begin_register();
        assert_eq!(energy.spread(0.0, None, at(0)), None);
        // 1 kWh in ten minutes, then 3 kWh in forty: 75 W·h a minute.
        assert_eq!(energy.spread(1.0, Some(at(0)), at(10)), None);
        let demand = energy.spread(3.0, Some(at(10)), at(50));
        let wanted = Demand {
            first_end: at(15),
            first_kw: 4.0 * (1.0 + 0.075 * 5.0),
            last_end: at(45),
            whole_kw: 4.0 * 0.075 * 15.0,
        };
        let close = |one: f64, other: f64| (one - other).abs() < 1e-9;
        let found = demand.unwrap_or(wanted);
        assert_eq!(
            (found.first_end, found.last_end),
            (wanted.first_end, wanted.last_end)
        );
        assert!(
            close(found.first_kw, wanted.first_kw) && close(found.whole_kw, wanted.whole_kw),
            "{found:?}"
        );
        assert!(energy.quarter_kwh.is_some_and(|kwh| close(kwh, 0.375)));
        assert_eq!(found.since(at(15)), Some(found.whole_kw));
        assert_eq!(found.since(at(45)), None);
    }

    #[test]
    fn a_power_holds_until_it_is_stale_and_a_register_says_better() {
        let mut energy = Energy::default();
        assert!(energy.set_power(6.0, at(10)));
        assert!((energy.hold(at(0), at(15)) - 1.0).abs() < 1e-12);
        assert!(energy.close_quarter().is_some_and(|kw| (kw - 4.0).abs() < 1e-12));
        assert_eq!((energy.hold(at(15), at(30)), energy.close_quarter()), (0.0, None));
        energy.begin_register();
        assert!(!energy.set_power(6.0, at(40)));
        assert_eq!(energy.hold(at(30), at(40)), 0.0);
    }
}
