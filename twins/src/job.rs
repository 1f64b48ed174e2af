//! Where a job is and was: its visits in the order of time, dwell times, bottleneck.
//!
//! Promises: a scan that comes late finds its place in the path, and the locations concerned are told what changes for
//! them; a job is at one place at a time; the last visit is open and its dwell runs to the newest scan. Bounded: old
//! visits are kept as sums. Of the scans of one visit only the first and the last are known: a late scan elsewhere
//! between them splits the visit, which is resumed with its last scan.

use crate::{
    event::{Scan, TwinMessage},
    time::Timestamp,
};

/// Visits kept one by one.
const VISITS_MAX: usize = 128;
/// Locations whose older visits are kept as sums; visits of more are forgotten.
const LOCATIONS_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Visit {
    pub(crate) location: Box<str>,
    pub(crate) entered_at: Timestamp,
    /// The newest scan there.
    pub(crate) seen_at: Timestamp,
}

/// How long a job was at a location, all visits together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dwell {
    pub(crate) location: Box<str>,
    pub(crate) ms: i64,
    pub(crate) visits: u32,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Job {
    /// In order of time; the last one is where the job is.
    pub(crate) visits: Vec<Visit>,
    /// Visits no longer listed.
    pub(crate) older: Vec<Dwell>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) completed_at: Option<Timestamp>,
    pub(crate) scans: u64,
    pub(crate) product_id: Option<Box<str>>,
    pub(crate) product_variant: Option<Box<str>>,
    pub(crate) operator_id: Option<Box<str>>,
}

/// Messages to locations, by their ids.
#[derive(Default)]
pub(crate) struct Told(pub(crate) Vec<(Box<str>, TwinMessage)>);

impl Told {
    fn entered(&mut self, job: &str, location: &str, entered_at: Timestamp, operator: Option<&str>) {
        let operator_id = operator.map(Into::into);
        self.0.push((
            location.into(),
            TwinMessage::JobEntered {
                job: job.into(),
                entered_at,
                operator_id,
            },
        ));
    }

    fn left(&mut self, job: &str, location: &str, entered_at: Timestamp, left_at: Timestamp) {
        self.0.push((
            location.into(),
            TwinMessage::JobLeft {
                job: job.into(),
                entered_at,
                left_at,
            },
        ));
    }

    fn corrected(&mut self, job: &str, location: &str, by_ms: i64) {
        if by_ms != 0 {
            self.0.push((
                location.into(),
                TwinMessage::JobDwellCorrected {
                    job: job.into(),
                    by_ms,
                },
            ));
        }
    }
}

impl Job {
    /// Takes a scan of the job called `id`; false where it came late.
    pub(crate) fn scan(&mut self, id: &str, at: Timestamp, scan: &Scan, told: &mut Told) -> bool {
        self.scans = self.scans.saturating_add(1);
        let newest = self.visits.last().is_none_or(|visit| at >= visit.seen_at);
        for (place, value) in [
            (&mut self.product_id, &scan.product_id),
            (&mut self.product_variant, &scan.product_variant),
            (&mut self.operator_id, &scan.operator_id),
        ] {
            // A late scan may still say what no other said.
            if value.is_some() && (newest || place.is_none()) {
                place.clone_from(value);
            }
        }
        if newest {
            self.move_on(id, at, scan, told);
        } else {
            self.insert(id, at, scan, told);
        }
        self.started_at = Some(self.started_at.map_or(at, |started| started.min(at)));
        if scan.completes {
            self.complete(id, &scan.location, told);
        }
        self.forget_oldest();
        newest
    }

    fn move_on(&mut self, id: &str, at: Timestamp, scan: &Scan, told: &mut Told) {
        let operator = scan.operator_id.as_deref();
        let completed_at = self.completed_at.take();
        match self.visits.last_mut() {
            Some(last) if last.location == scan.location && completed_at.is_none() => {
                last.seen_at = at;
                return;
            }
            Some(last) if last.location == scan.location => {
                // Seen again after it was done: it never left. If this scan is at the exit too, it is done again.
                let told_ms = completed_at.map_or(0, |completed_at| completed_at.ms_since(last.entered_at));
                last.seen_at = at;
                if scan.completes {
                    told.corrected(id, &scan.location, at.ms_since(last.entered_at) - told_ms);
                    self.completed_at = Some(at);
                    return;
                }
                // The visit that was told as finished counts as one of its own, what follows as another.
                let seen_again = completed_at.unwrap_or(at);
                self.visits.push(Visit {
                    location: scan.location.clone(),
                    entered_at: seen_again,
                    seen_at: at,
                });
                told.entered(id, &scan.location, seen_again, operator);
                return;
            }
            Some(last) => match completed_at {
                None => told.left(id, &last.location, last.entered_at, at),
                // It was not done: it stayed there until it was seen elsewhere.
                Some(completed_at) => told.corrected(id, &last.location, at.ms_since(completed_at)),
            },
            None => {}
        }
        self.visits.push(Visit {
            location: scan.location.clone(),
            entered_at: at,
            seen_at: at,
        });
        told.entered(id, &scan.location, at, operator);
    }

    /// A late scan: into the path, where its time belongs.
    fn insert(&mut self, id: &str, at: Timestamp, scan: &Scan, told: &mut Told) {
        let next = self.visits.partition_point(|visit| visit.entered_at <= at);
        let before = next.checked_sub(1);
        if before.is_none() && !self.older.is_empty() {
            // Older than what is kept visit by visit: its place is not known any more.
            return;
        }
        if let Some(before) = before {
            let visit = &mut self.visits[before];
            if visit.location == scan.location {
                visit.seen_at = visit.seen_at.max(at);
                return;
            }
            if at < visit.seen_at {
                self.split(id, before, at, scan, told);
                return;
            }
        }
        // Here the scan lies between two visits, or before the first: a newer one would not be late.
        let Some(following) = self.visits.get(next) else {
            return;
        };
        let (until, by_ms) = (following.entered_at, following.entered_at.ms_since(at));
        if let Some(before) = before {
            told.corrected(id, &self.visits[before].location, -by_ms);
        }
        if following.location == scan.location {
            // It was there earlier than was known.
            let is_open = next + 1 == self.visits.len() && self.completed_at.is_none();
            self.visits[next].entered_at = at;
            if is_open {
                told.entered(id, &scan.location, at, None);
            } else {
                told.corrected(id, &scan.location, by_ms);
            }
            return;
        }
        self.visits.insert(
            next,
            Visit {
                location: scan.location.clone(),
                entered_at: at,
                seen_at: at,
            },
        );
        told.entered(id, &scan.location, at, scan.operator_id.as_deref());
        told.left(id, &scan.location, at, until);
        self.tell_again(id, &scan.location, told);
    }

    /// A late scan elsewhere, between the first and the last scan of visit number `index`.
    fn split(&mut self, id: &str, index: usize, at: Timestamp, scan: &Scan, told: &mut Told) {
        let left_at = self.left_at(index);
        let visit = self.visits[index].clone();
        let (resumed_at, location) = (visit.seen_at, visit.location.clone());
        match left_at {
            Some(left_at) => told.corrected(id, &location, at.ms_since(left_at)),
            None => told.left(id, &location, visit.entered_at, at),
        }
        told.entered(id, &scan.location, at, scan.operator_id.as_deref());
        told.left(id, &scan.location, at, resumed_at);
        told.entered(id, &location, resumed_at, None);
        if let Some(left_at) = left_at {
            told.left(id, &location, resumed_at, left_at);
            self.tell_again(id, &location, told);
        }
        self.tell_again(id, &scan.location, told);
        self.visits[index].seen_at = at;
        let inserted = Visit {
            location: scan.location.clone(),
            entered_at: at,
            seen_at: at,
        };
        self.visits.splice(
            index + 1..index + 1,
            [
                inserted,
                Visit {
                    entered_at: resumed_at,
                    ..visit
                },
            ],
        );
    }

    /// A location that was told of a past visit forgot, with its end, that the job is there now.
    fn tell_again(&self, id: &str, location: &str, told: &mut Told) {
        if let Some(open) = self.visits.last()
            && self.completed_at.is_none()
            && *open.location == *location
        {
            told.entered(id, location, open.entered_at, None);
        }
    }

    /// The job is done, unless it was seen elsewhere since.
    fn complete(&mut self, id: &str, at_location: &str, told: &mut Told) {
        if let Some(last) = self.visits.last()
            && self.completed_at.is_none()
            && *last.location == *at_location
        {
            told.left(id, &last.location, last.entered_at, last.seen_at);
            self.completed_at = Some(last.seen_at);
        }
    }

    fn forget_oldest(&mut self) {
        while self.visits.len() > VISITS_MAX {
            let oldest = self.visits.remove(0);
            let ms = self.visits[0].entered_at.ms_since(oldest.entered_at);
            let is_known = self.older.iter().any(|dwell| dwell.location == oldest.location);
            if is_known || self.older.len() < LOCATIONS_MAX {
                add_dwell(&mut self.older, &oldest.location, ms);
            }
        }
    }

    /// Where the job is, or was last.
    pub(crate) fn location(&self) -> Option<&Visit> {
        self.visits.last()
    }

    /// `in_progress` or `completed`; `None` before the first scan.
    pub(crate) fn status(&self) -> Option<&'static str> {
        self.location()?;
        Some(if self.completed_at.is_some() {
            "completed"
        } else {
            "in_progress"
        })
    }

    /// When a listed visit ended; `None` while it is open.
    pub(crate) fn left_at(&self, index: usize) -> Option<Timestamp> {
        self.visits
            .get(index + 1)
            .map(|next| next.entered_at)
            .or(self.completed_at)
    }

    /// Newest time the job is known of.
    fn newest(&self) -> Option<Timestamp> {
        self.completed_at
            .or_else(|| self.visits.last().map(|visit| visit.seen_at))
    }

    /// Milliseconds of a listed visit.
    pub(crate) fn dwell_ms(&self, index: usize) -> i64 {
        let Some(visit) = self.visits.get(index) else {
            return 0;
        };
        let until = self.left_at(index).unwrap_or(visit.seen_at);
        until.ms_since(visit.entered_at).max(0)
    }

    pub(crate) fn elapsed_ms(&self) -> Option<i64> {
        Some(self.newest()?.ms_since(self.started_at?))
    }

    /// Dwell by location, in the order first visited.
    pub(crate) fn dwell_by_location(&self) -> Vec<Dwell> {
        let mut dwell = self.older.clone();
        for (index, visit) in self.visits.iter().enumerate() {
            add_dwell(&mut dwell, &visit.location, self.dwell_ms(index));
        }
        dwell
    }

    /// Locations it was at.
    pub(crate) fn locations(&self) -> usize {
        let is_new = |index: usize, location: &str| {
            !self.older.iter().any(|dwell| *dwell.location == *location)
                && !self.visits[..index]
                    .iter()
                    .any(|visit| *visit.location == *location)
        };
        let listed = self
            .visits
            .iter()
            .enumerate()
            .filter(|(index, visit)| is_new(*index, &visit.location))
            .count();
        self.older.len() + listed
    }

    /// The location where it spent the longest time, and the milliseconds; the earlier one of equals.
    pub(crate) fn bottleneck(&self) -> Option<(&str, i64)> {
        let mut longest: Option<(&str, i64)> = None;
        let older = self.older.iter().map(|dwell| &dwell.location);
        for location in older.chain(self.visits.iter().map(|visit| &visit.location)) {
            let ms = self.dwell_ms_at(location);
            if ms > longest.map_or(0, |(_, ms)| ms) {
                longest = Some((location, ms));
            }
        }
        longest
    }

    fn dwell_ms_at(&self, location: &str) -> i64 {
        let older = self
            .older
            .iter()
            .filter(|dwell| *dwell.location == *location)
            .map(|dwell| dwell.ms);
        let listed = (0..self.visits.len()).filter(|index| *self.visits[*index].location == *location);
        older
            .chain(listed.map(|index| self.dwell_ms(index)))
            .fold(0, i64::saturating_add)
    }

    /// Visits to locations where it had been before.
    pub(crate) fn rework_visits(&self) -> u64 {
        let older: u64 = self
            .older
            .iter()
            .map(|dwell| u64::from(dwell.visits.saturating_sub(1)))
            .sum();
        let first_visits = self.locations() - self.older.len();
        older + (self.visits.len() - first_visits) as u64
    }
}

fn add_dwell(dwell: &mut Vec<Dwell>, location: &str, ms: i64) {
    match dwell.iter_mut().find(|known| *known.location == *location) {
        Some(known) => {
            known.ms = known.ms.saturating_add(ms);
            known.visits = known.visits.saturating_add(1);
        }
        None => dwell.push(Dwell {
            location: location.into(),
            ms,
            visits: 1,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::location::Location;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_ms(1_764_115_200_000 + minute * 60_000)
    }

    /// A job that walks through a plant; what it tells reaches the locations.
    #[derive(Default)]
    struct Plant {
        job: Job,
        locations: BTreeMap<Box<str>, Location>,
    }

    impl Plant {
        /// Scans in the order in which they arrive; `exit` completes the job.
        fn walk(scans: &[(&str, i64)]) -> Self {
            let mut plant = Self::default();
            scans
                .iter()
                .for_each(|(location, minute)| plant.scan(location, *minute));
            plant
        }

        fn scan(&mut self, location: &str, minute: i64) {
            let mut told = Told::default();
            let scan = Scan {
                location: location.into(),
                completes: location == "exit",
                ..Scan::default()
            };
            self.job.scan("job-1", at(minute), &scan, &mut told);
            for (to, message) in &told.0 {
                self.locations.entry(to.clone()).or_default().hear(message);
            }
        }

        fn path(&self) -> Vec<(&str, i64)> {
            let minutes = |visit: &Visit| visit.entered_at.ms_since(at(0)) / 60_000;
            self.job
                .visits
                .iter()
                .map(|visit| (&*visit.location, minutes(visit)))
                .collect()
        }

        /// What each location knows of finished visits and jobs agrees with the job's own path.
        fn assert_agrees(&self) {
            let mut wanted: BTreeMap<&str, (u64, i64, u64)> = BTreeMap::new();
            for (index, visit) in self.job.visits.iter().enumerate() {
                let (visits, dwell_ms, wip) = wanted.entry(&visit.location).or_default();
                if self.job.left_at(index).is_some() {
                    *visits += 1;
                    *dwell_ms += self.job.dwell_ms(index);
                } else {
                    *wip += 1;
                }
            }
            let told: BTreeMap<&str, (u64, i64, u64)> = self
                .locations
                .iter()
                .map(|(id, location)| (&**id, (location.visits, location.dwell_ms_sum, location.wip())))
                .collect();
            assert_eq!(told, wanted, "{:?}", self.path());
            if let Some(open) = self.job.location().filter(|_| self.job.completed_at.is_none()) {
                assert_eq!(
                    self.locations[&open.location].jobs.get("job-1"),
                    Some(&open.entered_at)
                );
            }
        }
    }

    #[test]
    fn a_late_scan_leads_to_the_same_path_and_dwell() {
        let in_order = Plant::walk(&[("saw", 0), ("mill", 10), ("wash", 30), ("pack", 35)]);
        let late = Plant::walk(&[("saw", 0), ("wash", 30), ("pack", 35), ("mill", 10)]);
        assert_eq!(in_order.job.visits, late.job.visits);
        let sums = |plant: &Plant| {
            let known = plant.locations.iter();
            known
                .map(|(id, known)| (id.clone(), known.dwell_ms_sum, known.visits, known.wip()))
                .collect::<Vec<_>>()
        };
        assert_eq!(sums(&in_order), sums(&late));
        assert_eq!(late.job.bottleneck(), Some(("mill", 20 * 60_000)));
        assert_eq!(late.job.elapsed_ms(), Some(35 * 60_000));
    }

    #[test]
    fn a_job_is_at_one_place_and_rework_is_a_second_visit() {
        let plant = Plant::walk(&[("saw", 0), ("saw", 5), ("mill", 10), ("saw", 20)]);
        assert_eq!(plant.path(), [("saw", 0), ("mill", 10), ("saw", 20)]);
        assert_eq!(plant.job.rework_visits(), 1);
        assert_eq!(plant.locations["saw"].wip(), 1);
        let dwell = plant.job.dwell_by_location();
        assert_eq!(
            dwell[0],
            Dwell {
                location: "saw".into(),
                ms: 10 * 60_000,
                visits: 2
            }
        );
    }

    #[test]
    fn a_late_scan_within_a_visit_splits_it() {
        let plant = Plant::walk(&[("saw", 0), ("saw", 20), ("mill", 30), ("wash", 10)]);
        assert_eq!(
            plant.path(),
            [("saw", 0), ("wash", 10), ("saw", 20), ("mill", 30)]
        );
        plant.assert_agrees();
    }

    #[test]
    fn an_exit_completes_the_job_even_when_scans_before_it_come_later() {
        let mut plant = Plant::walk(&[("saw", 0), ("exit", 30)]);
        assert_eq!(plant.job.completed_at, Some(at(30)));
        plant.scan("mill", 10);
        assert_eq!(plant.job.completed_at, Some(at(30)));
        assert_eq!(plant.path(), [("saw", 0), ("mill", 10), ("exit", 30)]);
        plant.assert_agrees();
        // A job that is seen again was not done.
        plant.scan("mill", 40);
        assert_eq!(plant.job.completed_at, None);
        plant.assert_agrees();
    }

    #[test]
    fn old_visits_are_kept_as_sums() {
        let scans: Vec<_> = (0..300)
            .map(|minute| (if minute % 2 == 0 { "saw" } else { "mill" }, minute))
            .collect();
        let plant = Plant::walk(&scans);
        assert_eq!(plant.job.visits.len(), VISITS_MAX);
        let dwell = plant.job.dwell_by_location();
        assert_eq!(dwell.iter().map(|dwell| dwell.visits).sum::<u32>(), 300);
        assert_eq!(dwell.iter().map(|dwell| dwell.ms).sum::<i64>(), 299 * 60_000);
        assert_eq!(plant.job.rework_visits(), 298);
        // Its place in the path is not known any more.
        let mut plant = plant;
        plant.scan("wash", 5);
        assert_eq!(plant.job.visits.len(), VISITS_MAX);
        assert_eq!(plant.job.scans, 301);
    }

    proptest! {
        #[test]
        fn whatever_the_order_of_scans_locations_agree_with_the_job(
            scans in proptest::collection::vec((0_usize..5, 0_i64..60), 1..40),
        ) {
            let mut plant = Plant::default();
            for (location, minute) in scans {
                plant.scan(["saw", "mill", "wash", "pack", "exit"][location], minute);
                plant.assert_agrees();
                prop_assert!(plant.job.visits.is_sorted_by_key(|visit| visit.entered_at));
            }
        }
    }
}
