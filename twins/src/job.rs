//! Where a job is and was: its visits in the order of time, dwell times, bottleneck.
//!
//! Promises: a scan that comes late finds its place in the path, and the locations concerned are told what changes for
//! them; a job is at one place at a time; the last visit is open and its dwell runs to the newest scan. Bounded: old
//! visits are kept as sums. Of the scans of one visit only the first and the last are known: a late scan elsewhere
//! between them splits the visit, which is resumed with its last scan.

mod estimate;
mod flow;
mod retract;
pub(crate) mod view;
pub(crate) mod wire;

pub(crate) use self::estimate::{Estimate, Remaining};
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
    /// What the location where it is told of the way before it.
    pub(crate) estimate: Option<Box<Estimate>>,
    /// The newest scan at an exit.
    pub(crate) exit: Option<(Box<str>, Timestamp)>,
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
        let before = self.path();
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
            if self.exit.as_ref().is_none_or(|(_, known)| *known <= at) {
                self.exit = Some((scan.location.clone(), at));
            }
            self.complete(id, &scan.location, told);
        }
        self.tell_flow(id, &before, false, told);
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
            let completed_at = last.seen_at;
            told.left(id, &last.location, last.entered_at, completed_at);
            self.tell_finished(id, completed_at, told);
            self.completed_at = Some(completed_at);
            self.estimate = None;
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
mod tests;
