//! Whether a sensor sends as often as it is agreed to: one bit for each of the last 64 periods.
//!
//! Promises: the same bits whichever order the readings come in, within those 64 periods; a period begins half a
//! period before a reading is due, so that a sender's jitter loses nothing.

use crate::time::Timestamp;

/// Periods that are looked back on.
const SLOTS: i64 = 64;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    pub(crate) period_ms: i64,
    /// The reading that periods are counted from.
    pub(crate) anchor: Timestamp,
    /// The newest period with a reading, counted from the anchor's.
    pub(crate) newest: i64,
    /// Bit 0 is the newest period.
    pub(crate) heard: u64,
}

impl Pace {
    pub(crate) fn new(period_ms: i64, at: Timestamp) -> Self {
        Self {
            period_ms: period_ms.max(1),
            anchor: at,
            newest: 0,
            heard: 1,
        }
    }

    fn slot(&self, at: Timestamp) -> i64 {
        (at.ms_since(self.anchor) + self.period_ms / 2).div_euclid(self.period_ms)
    }

    pub(crate) fn heard(&mut self, at: Timestamp) {
        let slot = self.slot(at);
        if slot > self.newest {
            let by = slot.saturating_sub(self.newest);
            self.heard = if by < SLOTS { self.heard << by } else { 0 } | 1;
            self.newest = slot;
        } else if slot >= 0 && self.newest - slot < SLOTS {
            self.heard |= 1 << (self.newest - slot);
        }
    }

    /// The share of periods in which something came, of the last 64 that are over at `now`.
    pub(crate) fn completeness(&self, now: Timestamp) -> f64 {
        // A period that is not over yet counts once something came in it.
        let last = (self.slot(now) - 1).max(self.newest).max(0);
        let first = (last - (SLOTS - 1)).max(0);
        let silent = last - self.newest;
        let heard = if silent < SLOTS { self.heard << silent } else { 0 };
        f64::from(heard.count_ones()) / (last - first + 1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(1_770_073_200_000 + ms)
    }

    fn pace(moments: impl IntoIterator<Item = i64>) -> Pace {
        let mut moments = moments.into_iter();
        let mut pace = Pace::new(MINUTE, at(moments.next().unwrap_or_default()));
        moments.for_each(|ms| pace.heard(at(ms)));
        pace
    }

    #[test]
    fn what_came_is_counted_over_what_was_due() {
        let jitter = |minute: i64| minute * MINUTE + [0, 20_000, -20_000, 7_000][(minute % 4) as usize];
        for (what, pace, now, wanted) in [
            ("all", pace((0..100).map(jitter)), 99 * MINUTE, 1.0),
            (
                "each second one",
                pace((0..100).step_by(2).map(jitter)),
                98 * MINUTE,
                0.5,
            ),
            ("ten of twenty", pace((0..10).map(jitter)), 20 * MINUTE, 0.5),
            ("only the first so far", pace([0]), 1_000, 1.0),
            ("silent for hours", pace((0..10).map(jitter)), 600 * MINUTE, 0.0),
            (
                "more often than agreed",
                pace((0..100).map(|half| half * MINUTE / 2)),
                50 * MINUTE,
                1.0,
            ),
        ] {
            assert!(
                (pace.completeness(at(now)) - wanted).abs() < 0.02,
                "{what}: {pace:?}"
            );
        }
    }

    #[test]
    fn the_order_in_which_readings_come_does_not_matter() {
        let in_order: Vec<i64> = (1..60)
            .filter(|minute| minute % 7 != 0)
            .map(|minute| minute * MINUTE)
            .collect();
        let mut shuffled = in_order.clone();
        shuffled.reverse();
        shuffled.rotate_left(13);
        let with_first = |moments: Vec<i64>| pace(std::iter::once(0).chain(moments));
        assert_eq!(with_first(shuffled), with_first(in_order));
    }
}
