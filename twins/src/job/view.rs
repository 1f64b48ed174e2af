//! What a job shows beside its flow path: the path with open dwell, its bottleneck, when it will be done.
//!
//! ```json
//! "path":[{"location":"cell-1","entered_at":"…","left_at":"…","dwell_s":310},
//!         {"location":"cell-2","entered_at":"…","left_at":null,"dwell_s":1200,"open":true}],
//! "bottleneck":{"location":"cell-2","dwell_s":1200,"open":true},"estimated_completion":"…"
//! ```
//! Promises: the last visit of a job that is not done is open and grows with `now`; `flow_path` and the KPIs run to
//! the newest scan only.

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::Job;
use crate::time::Timestamp;

/// Adds what depends on `now` to a job's state.
pub(crate) fn entries<S: SerializeMap>(job: &Job, now: Timestamp, map: &mut S) -> Result<(), S::Error> {
    map.serialize_entry("path", &Path(job, now))?;
    map.serialize_entry("bottleneck", &job.bottleneck_at(now))?;
    match job.estimated_completion() {
        Ok(at) => {
            map.serialize_entry("estimated_completion", &at)?;
            if now > at {
                map.serialize_entry("late_by_s", &seconds(now.ms_since(at)))?;
            }
        }
        Err(reason) => {
            map.serialize_entry("estimated_completion", &())?;
            map.serialize_entry("estimated_completion_reason", reason)?;
        }
    }
    Ok(())
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

impl Job {
    fn is_open(&self, index: usize) -> bool {
        index + 1 == self.visits.len() && self.completed_at.is_none()
    }

    /// Milliseconds of a listed visit; an open one runs to `now`.
    fn dwell_ms_at_time(&self, index: usize, now: Timestamp) -> i64 {
        let ms = self.dwell_ms(index);
        match self.visits.get(index) {
            Some(visit) if self.is_open(index) => ms.max(now.ms_since(visit.entered_at)),
            _ => ms,
        }
    }

    fn bottleneck_at(&self, now: Timestamp) -> Option<Bottleneck<'_>> {
        let mut sums: Vec<Bottleneck<'_>> = Vec::new();
        let older = self.older.iter().map(|dwell| (&*dwell.location, dwell.ms, false));
        let listed = self.visits.iter().enumerate().map(|(index, visit)| {
            (
                &*visit.location,
                self.dwell_ms_at_time(index, now),
                self.is_open(index),
            )
        });
        for (location, ms, open) in older.chain(listed) {
            match sums.iter_mut().find(|known| known.location == location) {
                Some(known) => (known.ms, known.open) = (known.ms.saturating_add(ms), known.open || open),
                None => sums.push(Bottleneck { location, ms, open }),
            }
        }
        // The earlier one of equals.
        sums.into_iter()
            .filter(|place| place.ms > 0)
            .reduce(|longest, place| if place.ms > longest.ms { place } else { longest })
    }
}

struct Bottleneck<'a> {
    location: &'a str,
    ms: i64,
    open: bool,
}

impl Serialize for Bottleneck<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("location", self.location)?;
        map.serialize_entry("dwell_s", &seconds(self.ms))?;
        if self.open {
            map.serialize_entry("open", &true)?;
        }
        map.end()
    }
}

struct Path<'a>(&'a Job, Timestamp);

struct Visit<'a>(&'a Job, usize, Timestamp);

impl Serialize for Path<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.visits.len()))?;
        for index in 0..self.0.visits.len() {
            list.serialize_element(&Visit(self.0, index, self.1))?;
        }
        list.end()
    }
}

impl Serialize for Visit<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(job, index, now) = *self;
        let mut map = serializer.serialize_map(None)?;
        if let Some(visit) = job.visits.get(index) {
            map.serialize_entry("location", &*visit.location)?;
            map.serialize_entry("entered_at", &visit.entered_at)?;
            map.serialize_entry("left_at", &job.left_at(index))?;
            map.serialize_entry("dwell_s", &seconds(job.dwell_ms_at_time(index, now)))?;
            if job.is_open(index) {
                map.serialize_entry("open", &true)?;
            }
        }
        map.end()
    }
}
