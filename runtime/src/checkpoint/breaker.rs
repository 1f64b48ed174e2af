//! When to try again: a circuit breaker for the whole destination, and waits that grow for each channel.
//!
//! Promises: after some failures in a row nobody asks any more but one, whose waits grow to five minutes; its first
//! success lets all go on. Waits are spread at random, so that channels do not come back all at once.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures in a row after which the breaker opens.
const FAILURES: u32 = 5;
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Whoever may not ask looks again after this at the latest: the one that tries for all may have succeeded meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest wait of a channel of its own.
const CHANNEL_WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until then nobody asks; afterwards one does.
    closed_until: Option<Instant>,
}

/// The breaker of a destination.
#[derive(Debug)]
pub(super) struct Breaker {
    first_wait: Duration,
    state: Mutex<State>,
}

impl Breaker {
    pub(super) fn new(first_wait: Duration) -> Self {
        Self {
            first_wait,
            state: Mutex::default(),
        }
    }

    /// Whether somebody may ask now; else after which time.
    pub(super) fn allows(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.closed_until {
            Some(until) if until > now => Err((until - now).min(LOOK_EVERY)),
            Some(_) => {
                // This one tries for all; the others wait for what it finds.
                let wait = grown(self.first_wait, state.failures.saturating_sub(FAILURES), WAIT_MAX);
                state.closed_until = Some(now + wait);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// As [`Breaker::allows`], for who may not ask after all: it takes nobody's turn.
    pub(super) fn would_allow(&self, now: Instant) -> Result<(), Duration> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.closed_until {
            Some(until) if until > now => Err((until - now).min(LOOK_EVERY)),
            _ => Ok(()),
        }
    }

    pub(super) fn succeeded(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    pub(super) fn failed(&self, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            let wait = grown(self.first_wait, state.failures - FAILURES, WAIT_MAX);
            state.closed_until = Some(now + spread(wait));
        }
    }

    /// Whether nobody may ask.
    pub(super) fn is_open(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed_until.is_some()
    }
}

/// The wait of a channel after so many failures in a row.
pub(super) fn channel_wait(first: Duration, failures: u32) -> Duration {
    spread(grown(first, failures.saturating_sub(1), CHANNEL_WAIT_MAX))
}

fn grown(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(most)
}

/// Between half of a wait and all of it.
fn spread(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_in_a_row_one_asks_for_all() {
        let (breaker, start) = (Breaker::new(Duration::from_secs(1)), crate::clock::instant());
        for _ in 0..FAILURES - 1 {
            breaker.failed(start);
            assert!(breaker.allows(start).is_ok());
        }
        breaker.failed(start);
        assert!(breaker.is_open() && breaker.allows(start).is_err() && breaker.would_allow(start).is_err());
        let later = start + Duration::from_secs(2);
        assert!(
            breaker.would_allow(later).is_ok(),
            "and that is nobody's turn yet"
        );
        assert!(breaker.allows(later).is_ok(), "one tries");
        let told = breaker.allows(later).expect_err("the others wait for it");
        assert!(told <= LOOK_EVERY, "and hear soon that it succeeded: {told:?}");
        breaker.succeeded();
        assert!(!breaker.is_open() && breaker.allows(later).is_ok());
    }

    #[test]
    fn waits_grow_to_their_limit() {
        let first = Duration::from_millis(500);
        for (failures, most_ms) in [(1, 500), (2, 1_000), (4, 4_000), (30, 60_000)] {
            let wait = channel_wait(first, failures).as_millis();
            assert!((most_ms / 2..=most_ms).contains(&wait), "{failures}: {wait}");
        }
    }
}
