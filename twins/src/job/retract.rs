//! A scan is taken back (GS1 EPCIS calls it an error declaration).
//!
//! Promises: the path is what it would be without the scan, as far as the scans of a visit are known: the first and
//! the last. A scan between them leaves the path as it is; where the first one goes, the visit begins with the last.
//! Product, variant and operator stay as they were said.

use super::{Job, Told};
use crate::time::Timestamp;

impl Job {
    /// Takes the scan at this time and place back; false where there is none.
    pub(crate) fn retract(&mut self, id: &str, at: Timestamp, location: &str, told: &mut Told) -> bool {
        let here = |visit: &super::Visit| {
            *visit.location == *location && (visit.entered_at..=visit.seen_at).contains(&at)
        };
        let Some(index) = self.visits.iter().position(here) else {
            return false;
        };
        let before = self.path();
        let was_last = index + 1 == self.visits.len();
        let visit = &mut self.visits[index];
        match (at == visit.entered_at, at == visit.seen_at) {
            (false, false) => {}
            (true, false) => visit.entered_at = visit.seen_at,
            (false, true) => visit.seen_at = visit.entered_at,
            (true, true) => self.take_out(index),
        }
        if self
            .exit
            .as_ref()
            .is_some_and(|(exit, exit_at)| **exit == *location && *exit_at == at)
        {
            let still_there = self
                .visits
                .get(index)
                .filter(|visit| *visit.location == *location);
            self.exit = still_there.map(|visit| (visit.location.clone(), visit.seen_at));
        }
        if was_last {
            // Done is a job that was seen leaving where it was last.
            let done = |visit: &&super::Visit| {
                self.exit.as_ref().is_some_and(|(exit, at)| {
                    visit.location == *exit && (visit.entered_at..=visit.seen_at).contains(at)
                })
            };
            self.completed_at = self.visits.last().filter(done).map(|visit| visit.seen_at);
        }
        self.scans = self.scans.saturating_sub(1);
        if self.older.is_empty() {
            self.started_at = self.visits.first().map(|visit| visit.entered_at);
        }
        self.estimate = None;
        self.tell_flow(id, &before, true, told);
        true
    }

    /// The visits around one that never was become one where they are at the same place.
    fn take_out(&mut self, index: usize) {
        self.visits.remove(index);
        let around = index
            .checked_sub(1)
            .and_then(|before| self.visits.get(before..=index));
        if let Some([first, second]) = around
            && first.location == second.location
        {
            let seen_at = second.seen_at;
            self.visits.remove(index);
            self.visits[index - 1].seen_at = seen_at;
        }
    }
}
