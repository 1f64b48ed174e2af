//! Whether a series behaves as it should: how far it is from its forecast, and whether its level shifted.
//!
//! Promises: a few numbers. The score is the larger of the smoothed residual and the level shift, both in standard
//! deviations, as z/(z+4): it never reaches 1, so that two anomalies can be told apart, and passes 0.5 where z passes
//! 4. After an anomaly began, no other one begins for twelve and a half hours: what follows is the same story.

use super::model::Expected;
use crate::time::Timestamp;

/// Half-way point of the score, in standard deviations.
const HALF: f64 = 4.0;
/// An anomaly begins above, and ends below.
const BEGINS: f64 = 0.5;
const ENDS: f64 = 0.4;
/// Quarters after the beginning of an anomaly in which no other one begins.
const REFRACTORY_SLOTS: i64 = 50;
/// Weights of the newest value: in the smoothed residual, and in the means that a shift of the level is told by.
const RESIDUAL: f64 = 0.5;
const FAST: f64 = 0.3;
const SLOW: f64 = 0.02;
/// The standard error of the fast mean of unrest without memory: the root of FAST / (2 - FAST).
const FAST_ERROR: f64 = 0.42;
/// Values after which the slow mean says something: a day.
const SETTLED: u32 = 96;

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Detector {
    /// The smoothed residual, in standard deviations.
    pub(crate) residual: f64,
    /// Fast and slow mean of what the series is away from its forecast.
    pub(crate) fast: f64,
    pub(crate) slow: f64,
    /// Mean square of what differs from the slow mean.
    pub(crate) spread: f64,
    pub(crate) count: u32,
    pub(crate) z: f64,
    /// The anomaly that is on.
    pub(crate) since: Option<Timestamp>,
    /// When the last one began.
    pub(crate) began_slot: Option<i64>,
}

impl Detector {
    /// A quarter is over: what it was, and what it should have been.
    pub(crate) fn see(
        &mut self,
        value: f64,
        expected: Expected,
        deviation: Option<f64>,
        end: Timestamp,
        slot: i64,
    ) {
        let away = value - expected.value;
        // What never erred has no deviation: the least that is told apart then is a thousandth of the value.
        let least = (expected.value.abs() * 1e-3).max(1e-9);
        self.residual += RESIDUAL * (away / expected.deviation.max(least) - self.residual);
        let shift = if self.count >= SETTLED {
            (self.fast - self.slow).abs() / (self.spread.sqrt() * FAST_ERROR).max(least)
        } else {
            0.0
        };
        // Of what is left when the season is taken away: a day's ups and downs are no shift.
        self.fast += FAST * (away - self.fast);
        let apart = away - self.slow;
        self.slow += SLOW * apart;
        self.count = self.count.saturating_add(1);
        // Slower still, lest a shift hides in the spread that it makes.
        let weight = (1.0 / f64::from(self.count)).max(SLOW / 4.0);
        self.spread += weight * (apart * apart - self.spread);
        self.z = self.residual.abs().max(shift).min(1e12);
        let score = self.z / (self.z + HALF);
        let (begins, goes_on) = match deviation {
            Some(most) => (away.abs() > most, away.abs() > most),
            None => (score > BEGINS, score > ENDS),
        };
        match self.since {
            Some(_) if !goes_on => self.since = None,
            None if begins
                && self
                    .began_slot
                    .is_none_or(|began| slot.saturating_sub(began) >= REFRACTORY_SLOTS) =>
            {
                (self.since, self.began_slot) = (Some(end), Some(slot));
            }
            _ => {}
        }
    }

    pub(crate) fn score(&self) -> Option<f64> {
        (self.count > 0).then(|| self.z / (self.z + HALF))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(values: impl IntoIterator<Item = f64>, deviation: Option<f64>) -> (Vec<i64>, Vec<f64>) {
        let expected = Expected {
            value: 10.0,
            deviation: 1.0,
        };
        let (mut detector, mut began, mut scores) = (Detector::default(), Vec::new(), Vec::new());
        for (slot, value) in (0_i64..).zip(values) {
            let was_on = detector.since.is_some();
            detector.see(value, expected, deviation, Timestamp::default(), slot);
            if !was_on && detector.since.is_some() {
                began.push(slot);
            }
            scores.push(detector.score().expect("a score"));
        }
        (began, scores)
    }

    fn calm(count: usize) -> impl Iterator<Item = f64> {
        (0..count).map(|slot| 10.0 + [0.9, -0.7, 0.3, -0.5][slot % 4])
    }

    #[test]
    fn an_outlier_is_an_anomaly_and_another_one_soon_after_is_the_same_story() {
        let values = calm(10)
            .chain([30.0])
            .chain(calm(20))
            .chain([30.0])
            .chain(calm(60))
            .chain([30.0]);
        assert_eq!(run(values, None).0, [10, 92]);
        assert!(run(calm(500), None).0.is_empty());
    }

    #[test]
    fn scores_of_anomalies_do_not_end_in_a_tie() {
        let score = |value: f64| run(calm(10).chain([value]), None).1[10];
        let (some, much, absurd) = (score(40.0), score(4e3), score(4e6));
        assert!(
            0.5 < some && some < much && much < absurd && absurd < 1.0,
            "{some} {much} {absurd}"
        );
    }

    #[test]
    fn a_level_that_shifts_by_less_than_an_outlier_is_noticed() {
        let shifted = |by: f64| calm(300).chain(calm(12).map(move |value| value + by));
        let began = run(shifted(3.5), None).0;
        assert!(began.len() == 1 && (300..312).contains(&began[0]), "{began:?}");
        assert!(run(shifted(0.5), None).0.is_empty());
    }

    #[test]
    fn twenty_points_of_utilization_are_a_rule_of_their_own() {
        // The design document's rule: the actual value is more than 20 points from the forecast.
        let values = [10.0, 10.19, 10.21, 10.3, 9.9, 9.7];
        assert_eq!(run(values, Some(0.2)).0, [2]);
    }
}
