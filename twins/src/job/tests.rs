//! Jobs that walk through a plant: whatever the order of their scans, the locations agree with them.

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
        self.tell(&told);
    }

    fn retract(&mut self, location: &str, minute: i64) -> bool {
        let mut told = Told::default();
        let found = self.job.retract("job-1", at(minute), location, &mut told);
        self.tell(&told);
        found
    }

    fn tell(&mut self, told: &Told) {
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
            .filter(|(_, told)| *told != (0, 0, 0))
            .collect();
        assert_eq!(told, wanted, "{:?}", self.path());
        self.assert_flow_agrees();
        if let Some(open) = self.job.location().filter(|_| self.job.completed_at.is_none()) {
            assert_eq!(
                self.locations[&open.location].jobs.get("job-1"),
                Some(&open.entered_at)
            );
        }
    }

    /// What each location counted by the hour agrees with the job's path too.
    fn assert_flow_agrees(&self) {
        type Counted = (u64, u64, i64, BTreeMap<Box<str>, u64>);
        let mut wanted: BTreeMap<&str, Counted> = BTreeMap::new();
        let mut from = "";
        for (index, visit) in self.job.visits.iter().enumerate() {
            let (entered, left, dwell_ms, sources) = wanted.entry(&visit.location).or_default();
            *entered += 1;
            *sources.entry(from.into()).or_default() += 1;
            if self.job.left_at(index).is_some() {
                *left += 1;
                *dwell_ms += self.job.dwell_ms(index);
            }
            from = &visit.location;
        }
        let mut told: BTreeMap<&str, Counted> = BTreeMap::new();
        for (id, location) in &self.locations {
            let Some(flow) = &location.flow else { continue };
            let flow = flow.between(at(0), at(120), location.wip());
            let sources = flow.sources.into_iter().filter(|(_, count)| *count > 0).collect();
            told.insert(id, (flow.entered, flow.left, flow.dwell_ms, sources));
        }
        told.retain(|_, counted| *counted != Counted::default());
        assert_eq!(told, wanted, "{:?}", self.path());
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

#[test]
fn a_scan_that_is_taken_back_never_was() {
    let mut plant = Plant::walk(&[("saw", 0), ("wrong", 10), ("saw", 12), ("mill", 20)]);
    assert!(plant.retract("wrong", 10));
    assert_eq!(plant.path(), [("saw", 0), ("mill", 20)]);
    plant.assert_agrees();
    assert_eq!(plant.job.rework_visits(), 0);
    assert!(!plant.retract("wrong", 10), "it is gone");
    assert!(plant.retract("mill", 20));
    assert_eq!(plant.path(), [("saw", 0)]);
    plant.assert_agrees();
    assert_eq!(plant.job.left_at(0), None, "it is still there");
}

#[test]
fn a_job_is_not_done_when_its_exit_is_taken_back_and_done_when_what_came_after_is() {
    let mut plant = Plant::walk(&[("saw", 0), ("exit", 30), ("exit", 31)]);
    assert!(plant.retract("exit", 31));
    assert_eq!(plant.job.completed_at, Some(at(30)));
    plant.assert_agrees();
    plant.scan("saw", 40);
    assert_eq!(plant.job.completed_at, None);
    assert!(plant.retract("saw", 40));
    assert_eq!(plant.job.completed_at, Some(at(30)));
    plant.assert_agrees();
    assert!(plant.retract("exit", 30));
    assert_eq!(plant.job.completed_at, None);
    assert_eq!(plant.path(), [("saw", 0)]);
    plant.assert_agrees();
}

#[test]
fn locations_learn_how_long_it_takes_from_them_to_the_end() {
    let plant = Plant::walk(&[("saw", 0), ("mill", 10), ("saw", 20), ("exit", 30)]);
    let minutes = |location: &str| plant.locations[location].remaining.mean_ms / 60_000.0;
    // From the saw it took 30 minutes the first time and 10 the second.
    assert_eq!(
        (minutes("saw"), minutes("mill"), minutes("exit")),
        (20.0, 20.0, 0.0)
    );
}

#[test]
fn an_estimate_holds_while_the_job_is_where_it_was_given() {
    let mut plant = Plant::walk(&[("saw", 0)]);
    assert!(plant.job.estimated_completion().is_err());
    let told = |minute| TwinMessage::Estimated {
        location: "saw".into(),
        entered_at: at(minute),
        remaining_ms: 45 * 60_000,
        visits: 3,
    };
    assert!(!plant.job.hear(&told(-5)), "another visit");
    assert!(plant.job.hear(&told(0)));
    assert_eq!(plant.job.estimated_completion(), Ok(at(45)));
    plant.scan("mill", 10);
    assert!(plant.job.estimated_completion().is_err());
    plant.scan("exit", 20);
    assert_eq!(plant.job.estimated_completion(), Err("completed"));
}

proptest! {
    #[test]
    fn whatever_the_order_of_scans_locations_agree_with_the_job(
        scans in proptest::collection::vec((0_usize..5, 0_i64..60, 0_u8..4), 1..40),
    ) {
        let mut plant = Plant::default();
        let places = ["saw", "mill", "wash", "pack", "exit"];
        for (index, (location, minute, what)) in scans.iter().enumerate() {
            if *what == 0 && index > 0 {
                // Often one that was scanned before.
                let (location, minute, _) = scans[index / 2];
                plant.retract(places[location], minute);
            } else {
                plant.scan(places[*location], *minute);
            }
            plant.assert_agrees();
            prop_assert!(plant.job.visits.is_sorted_by_key(|visit| visit.entered_at));
        }
    }

    #[test]
    fn a_scan_elsewhere_and_its_retraction_leave_the_path_as_it_was(
        scans in proptest::collection::vec((0_usize..4, 0_i64..30), 1..20),
        wrong in 0_i64..30,
    ) {
        let mut plant = Plant::default();
        for (location, minute) in scans {
            // Each minute but those of the wrong scan.
            plant.scan(["saw", "mill", "wash", "exit"][location], 2 * minute);
        }
        let before = plant.job.clone();
        plant.scan("wrong", 2 * wrong + 1);
        prop_assert!(plant.retract("wrong", 2 * wrong + 1));
        prop_assert_eq!(&plant.job.visits, &before.visits);
        prop_assert_eq!(plant.job.completed_at, before.completed_at);
        prop_assert_eq!(plant.job.scans, before.scans);
        plant.assert_agrees();
    }
}
