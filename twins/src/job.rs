//! Where a job is and was: its visits in the order of time, dwell times, bottleneck.
//!
//! Promises: a scan that comes late finds its place in the path and the locations concerned are told; the last
//! visit is open and its dwell runs to the newest scan. Bounded: old visits are kept as sums.

use crate::{
    event::{Scan, TwinMessage},
    time::Timestamp,
};

/// Visits kept one by one.
const VISITS_MAX: usize = 128;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Visit {
    pub(crate) location: Box<str>,
    pub(crate) entered_at: Timestamp,
    /// The newest scan there.
    pub(crate) seen_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Job {
    /// In order of time; the last one is where the job is.
    pub(crate) visits: Vec<Visit>,
    /// Dwell of visits no longer listed, by location.
    pub(crate) older: Vec<(Box<str>, i64)>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) completed_at: Option<Timestamp>,
    pub(crate) scans: u64,
    pub(crate) product_id: Option<Box<str>>,
    pub(crate) product_variant: Option<Box<str>>,
    pub(crate) operator_id: Option<Box<str>>,
}

/// Messages to locations, by their ids.
pub(crate) type Told = Vec<(Box<str>, TwinMessage)>;

impl Job {
    /// Takes a scan of the job called `id`; false where it came late.
    pub(crate) fn scan(&mut self, id: &str, at: Timestamp, scan: &Scan, told: &mut Told) -> bool {
        self.scans += 1;
        let newest = self.visits.last().is_none_or(|visit| at >= visit.seen_at);
        if newest {
            for (place, value) in [
                (&mut self.product_id, &scan.product_id),
                (&mut self.product_variant, &scan.product_variant),
                (&mut self.operator_id, &scan.operator_id),
            ] {
                if value.is_some() {
                    place.clone_from(value);
                }
            }
        }
        self.started_at = Some(self.started_at.map_or(at, |started| started.min(at)));
        if newest {
            self.move_on(id, at, scan, told);
        } else {
            self.insert(id, at, scan, told);
        }
        if scan.completes {
            self.complete(id, at, told);
        }
        self.forget_oldest();
        newest
    }

    fn move_on(&mut self, id: &str, at: Timestamp, scan: &Scan, told: &mut Told) {
        let completed = self.completed_at.take();
        if let Some(last) = self.visits.last_mut() {
            if last.location == scan.location {
                last.seen_at = at;
                if completed.is_some() {
                    // Seen again after it was done: it is there again.
                    told.push((scan.location.clone(), entered(id, last.entered_at, scan)));
                }
                return;
            }
            if completed.is_none() {
                told.push((last.location.clone(), left(id, last.entered_at, at)));
            }
        }
        self.visits.push(Visit { location: scan.location.clone(), entered_at: at, seen_at: at });
        told.push((scan.location.clone(), entered(id, at, scan)));
    }

    /// A late scan between two visits, or before the first.
    fn insert(&mut self, id: &str, at: Timestamp, scan: &Scan, told: &mut Told) {
        let next = self.visits.partition_point(|visit| visit.entered_at <= at);
        if let Some(before) = next.checked_sub(1).map(|index| &self.visits[index])
            && before.location == scan.location
        {
            return;
        }
        let Some(following) = self.visits.get(next) else {
            // Within the open visit: seen elsewhere between two scans at the same place. The path notes it and the
            // job is back where it was.
            let Some(open) = self.visits.last().cloned() else { return };
            told.push((open.location.clone(), left(id, open.entered_at, at)));
            told.push((scan.location.clone(), entered(id, at, scan)));
            told.push((scan.location.clone(), left(id, at, open.seen_at)));
            told.push((open.location.clone(), entered(id, open.seen_at, scan)));
            if let Some(last) = self.visits.last_mut() {
                last.seen_at = at;
            }
            self.visits.push(Visit { location: scan.location.clone(), entered_at: at, seen_at: at });
            self.visits.push(Visit { entered_at: open.seen_at, ..open });
            return;
        };
        if following.location == scan.location {
            // It was there earlier than was known.
            let by_ms = following.entered_at.ms_since(at);
            self.shorten_before(id, next, by_ms, told);
            if next + 1 < self.visits.len() {
                told.push((scan.location.clone(), TwinMessage::JobDwellCorrected { job: id.into(), by_ms }));
            }
            self.visits[next].entered_at = at;
            return;
        }
        let until = following.entered_at;
        self.shorten_before(id, next, until.ms_since(at), told);
        told.push((scan.location.clone(), entered(id, at, scan)));
        told.push((scan.location.clone(), left(id, at, until)));
        self.visits.insert(next, Visit { location: scan.location.clone(), entered_at: at, seen_at: at });
    }

    /// The visit before number `next` ended earlier than its location was told.
    fn shorten_before(&self, id: &str, next: usize, by_ms: i64, told: &mut Told) {
        if let Some(before) = next.checked_sub(1).map(|index| &self.visits[index]) {
            told.push((before.location.clone(), TwinMessage::JobDwellCorrected { job: id.into(), by_ms: -by_ms }));
        }
    }

    fn complete(&mut self, id: &str, at: Timestamp, told: &mut Told) {
        if self.completed_at.is_none()
            && let Some(last) = self.visits.last()
        {
            told.push((last.location.clone(), left(id, last.entered_at, at.max(last.seen_at))));
            self.completed_at = Some(at.max(last.seen_at));
        }
    }

    fn forget_oldest(&mut self) {
        if self.visits.len() > VISITS_MAX {
            let oldest = self.visits.remove(0);
            let dwell_ms = self.visits[0].entered_at.ms_since(oldest.entered_at);
            add_dwell(&mut self.older, &oldest.location, dwell_ms);
        }
    }

    pub(crate) fn location(&self) -> Option<&Visit> {
        self.visits.last()
    }

    /// Newest time the job is known of.
    fn newest(&self) -> Option<Timestamp> {
        self.completed_at.or_else(|| self.visits.last().map(|visit| visit.seen_at))
    }

    /// Milliseconds of each listed visit, in their order.
    pub(crate) fn dwell_ms(&self, index: usize) -> i64 {
        let visit = &self.visits[index];
        let until = self.visits.get(index + 1).map(|next| next.entered_at).or_else(|| self.newest());
        until.map_or(0, |until| until.ms_since(visit.entered_at).max(0))
    }

    pub(crate) fn elapsed_ms(&self) -> Option<i64> {
        Some(self.newest()?.ms_since(self.started_at?))
    }

    /// Total dwell by location, in the order first visited.
    pub(crate) fn dwell_by_location(&self) -> Vec<(Box<str>, i64)> {
        let mut dwell = self.older.clone();
        for index in 0..self.visits.len() {
            add_dwell(&mut dwell, &self.visits[index].location, self.dwell_ms(index));
        }
        dwell
    }

    /// The location where it spent the longest time; the earlier one of equals.
    pub(crate) fn bottleneck(&self) -> Option<(Box<str>, i64)> {
        self.dwell_by_location().into_iter().rev().max_by_key(|(_, dwell_ms)| *dwell_ms).filter(|(_, dwell_ms)| *dwell_ms > 0)
    }

    /// Visits to locations where it had been before.
    pub(crate) fn rework_visits(&self) -> usize {
        let visits = self.visits.iter().enumerate();
        visits.filter(|(index, visit)| self.visits[..*index].iter().any(|before| before.location == visit.location)).count()
    }
}

fn add_dwell(dwell: &mut Vec<(Box<str>, i64)>, location: &str, ms: i64) {
    match dwell.iter_mut().find(|(known, _)| **known == *location) {
        Some((_, sum)) => *sum += ms,
        None => dwell.push((location.into(), ms)),
    }
}

fn entered(job: &str, entered_at: Timestamp, scan: &Scan) -> TwinMessage {
    TwinMessage::JobEntered { job: job.into(), entered_at, operator_id: scan.operator_id.clone() }
}

fn left(job: &str, entered_at: Timestamp, left_at: Timestamp) -> TwinMessage {
    TwinMessage::JobLeft { job: job.into(), entered_at, left_at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::Location;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_ms(1_764_115_200_000 + minute * 60_000)
    }

    /// Folds scans in the order given; answers the job and what each location knows.
    fn walk(scans: &[(&str, i64)]) -> (Job, std::collections::BTreeMap<Box<str>, Location>) {
        let (mut job, mut locations) = (Job::default(), std::collections::BTreeMap::<_, Location>::new());
        for (location, minute) in scans {
            let mut told = Told::new();
            let scan = Scan { location: (*location).into(), ..Scan::default() };
            job.scan("job-1", at(*minute), &scan, &mut told);
            told.iter().for_each(|(to, message)| locations.entry(to.clone()).or_default().hear(message));
        }
        (job, locations)
    }

    #[test]
    fn a_late_scan_leads_to_the_same_path_and_dwell() {
        let (in_order, locations_in_order) = walk(&[("saw", 0), ("mill", 10), ("wash", 30), ("pack", 35)]);
        let (late, locations_late) = walk(&[("saw", 0), ("wash", 30), ("pack", 35), ("mill", 10)]);
        assert_eq!(in_order.visits, late.visits);
        let sums = |locations: &std::collections::BTreeMap<Box<str>, Location>| {
            locations.iter().map(|(id, location)| (id.clone(), location.dwell_ms_sum, location.wip())).collect::<Vec<_>>()
        };
        assert_eq!(sums(&locations_in_order), sums(&locations_late));
        assert_eq!(late.bottleneck(), Some(("mill".into(), 20 * 60_000)));
        assert_eq!(late.elapsed_ms(), Some(35 * 60_000));
    }

    #[test]
    fn a_job_is_at_one_place_and_rework_is_a_second_visit() {
        let (job, locations) = walk(&[("saw", 0), ("saw", 5), ("mill", 10), ("saw", 20)]);
        assert_eq!(job.visits.len(), 3);
        assert_eq!(job.rework_visits(), 1);
        assert_eq!(locations.values().map(Location::wip).sum::<u64>(), 1);
        assert_eq!(locations["saw"].wip(), 1);
    }
}
