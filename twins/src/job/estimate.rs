//! When a job will be done: what a location learned of the jobs before, and what it told this one.
//!
//! Promises: the mean of what jobs took from a location to their end, whichever way they went and how often they came
//! back; the last 32 visits count most. It goes by the jobs that are done: without one there is no estimate.

use crate::{
    event::TwinMessage,
    job::{Job, Told},
    time::Timestamp,
};

/// So many visits count about equally; older ones fade.
const REMEMBERED: u32 = 32;

/// What a location knows of the time from here to a job's end.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Remaining {
    pub(crate) mean_ms: f64,
    /// Visits ever counted.
    pub(crate) visits: u32,
}

impl Remaining {
    pub(crate) fn add(&mut self, remaining_ms: i64, visits: u32) {
        if visits == 0 {
            return;
        }
        self.visits = self.visits.saturating_add(visits);
        let share = f64::from(visits) / f64::from(self.visits.min(REMEMBERED.max(visits)));
        let mean_ms = remaining_ms as f64 / f64::from(visits);
        self.mean_ms += share * (mean_ms - self.mean_ms);
    }
}

/// What the location that a job came to told it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) location: Box<str>,
    pub(crate) entered_at: Timestamp,
    pub(crate) remaining_ms: i64,
    pub(crate) visits: u32,
}

impl Job {
    /// Takes what a location told; false where it concerns a visit that is over.
    pub(crate) fn hear(&mut self, message: &TwinMessage) -> bool {
        let TwinMessage::Estimated {
            location,
            entered_at,
            remaining_ms,
            visits,
        } = message
        else {
            return false;
        };
        let concerns = |visit: &super::Visit| visit.location == *location && visit.entered_at == *entered_at;
        if self.completed_at.is_some() || !self.visits.last().is_some_and(concerns) {
            return false;
        }
        self.estimate = Some(Box::new(Estimate {
            location: location.clone(),
            entered_at: *entered_at,
            remaining_ms: *remaining_ms,
            visits: *visits,
        }));
        true
    }

    /// When it will be done, or why nothing is known of that.
    pub(crate) fn estimated_completion(&self) -> Result<Timestamp, &'static str> {
        let open = self.visits.last().ok_or("not scanned yet")?;
        if self.completed_at.is_some() {
            return Err("completed");
        }
        let told = self
            .estimate
            .as_deref()
            .filter(|estimate| estimate.location == open.location && estimate.entered_at == open.entered_at);
        told.map(|estimate| estimate.entered_at.plus_ms(estimate.remaining_ms))
            .ok_or("no job has gone from here to its end yet")
    }

    /// Tells the locations of its path how long it took from them to its end.
    pub(super) fn tell_finished(&self, id: &str, completed_at: Timestamp, told: &mut Told) {
        let mut by_location: Vec<(&str, i64, u32)> = Vec::new();
        for visit in &self.visits {
            let remaining_ms = completed_at.ms_since(visit.entered_at);
            match by_location
                .iter_mut()
                .find(|(location, ..)| **location == *visit.location)
            {
                Some((_, sum, visits)) => (*sum, *visits) = (sum.saturating_add(remaining_ms), *visits + 1),
                None => by_location.push((&visit.location, remaining_ms, 1)),
            }
        }
        for (location, remaining_ms, visits) in by_location {
            let finished = TwinMessage::JobFinished {
                job: id.into(),
                remaining_ms,
                visits,
            };
            told.0.push((location.into(), finished));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_the_newest_visits() {
        let mut remaining = Remaining::default();
        for ms in [1_000, 2_000, 3_000] {
            remaining.add(ms, 1);
        }
        assert!((remaining.mean_ms - 2_000.0).abs() < 1e-9);
        remaining.add(2_000, 2);
        assert!(
            (remaining.mean_ms - 1_600.0).abs() < 1e-9,
            "two visits of a second"
        );
        (0..300).for_each(|_| remaining.add(9_000, 1));
        assert!((remaining.mean_ms - 9_000.0).abs() < 10.0);
    }
}
