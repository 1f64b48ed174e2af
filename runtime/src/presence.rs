//! Presence of RFID tags: which of their many reads are scans.
//!
//! A reader reads a tag many times a second. The first read at a place is a scan; what follows while the tag stays
//! changes nothing but when it was seen last, which is written down once a minute and when the tag goes on. Where two
//! places hear a tag at the same time, it is where it is heard best.
//!
//! Promises: decisions are pure and by the reads' own times. What is kept here is a cache: the journal holds the scans,
//! and a scan at the place where a job is already only says that it was seen again, so what is lost here (a restart)
//! costs one scan for each tag and nothing else. A read that changes nothing may be acknowledged only because the scan
//! before it is durable: until [`Presences::settle`] has said so, reads are scans. Bounded: so many tags of a tenant.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use gemba_twins::{id::TenantId, time::Timestamp};

use crate::plant::Smoothing;

/// Tags of a tenant that are followed; reads of more are all scans.
const TAGS_MAX: usize = 50_000;
/// A tag that was not seen for so long is forgotten when room is needed.
const FORGOTTEN_MS: i64 = 10 * 60_000;
/// How often it is written down that a tag is still there.
const REFRESH_MS: i64 = 60_000;

/// A read of a tag, bound to a job and a place.
#[derive(Debug, Clone)]
pub(crate) struct Read<'a> {
    pub(crate) location: &'a str,
    pub(crate) rssi_dbm: Option<f64>,
    pub(crate) at: Timestamp,
    pub(crate) smoothing: Smoothing,
}

/// What a read leads to.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Verdict {
    /// Where and when the tag is written down to have been, in the order of time; nothing for a read that changes
    /// nothing.
    pub(crate) scans: Vec<(Box<str>, Timestamp)>,
    /// By this number [`Presences::settle`] has to be told whether they became durable.
    pub(crate) number: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
struct Presence {
    location: Box<str>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    /// What is written down of `last_seen`.
    written: Timestamp,
    /// The strongest read of late, and when.
    strongest: Option<(f64, Timestamp)>,
    /// The scan by which it came, until it is durable.
    arrival: Option<u64>,
    /// A later scan that only says that it is still there, until it is durable.
    refresh: Option<u64>,
    /// Where it was by reads that came late, and the scan of them until it is durable.
    late: Option<(Box<str>, Timestamp, Option<u64>)>,
}

#[derive(Default)]
struct Tags {
    by_job: HashMap<Box<str>, Presence>,
    /// The number of the newest scan.
    scans: u64,
}

/// The presences of all tenants of a node.
#[derive(Default)]
pub(crate) struct Presences {
    tenants: Mutex<HashMap<TenantId, Tags>>,
}

impl Presences {
    /// Takes a read of a job's tag. `own` are the numbers of the batch that the read is in: they become durable
    /// together.
    pub(crate) fn take(&self, tenant: &TenantId, job: &str, read: &Read<'_>, own: &[u64]) -> Verdict {
        let faint = |least: f64| read.rssi_dbm.is_some_and(|rssi| rssi < least);
        if read.smoothing.min_rssi_dbm.is_some_and(faint) {
            return Verdict::default();
        }
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let tags = tenants.entry(tenant.clone()).or_default();
        let number = tags.scans + 1;
        let verdict = match tags.by_job.get_mut(job) {
            Some(presence) => presence.take(read, number, own),
            None => {
                tags.make_room(read.at);
                if tags.by_job.len() < TAGS_MAX {
                    tags.by_job.insert(job.into(), Presence::begin(read, number));
                }
                here(read, Some(number))
            }
        };
        tags.scans = verdict.number.unwrap_or(tags.scans);
        verdict
    }

    /// The scans of a batch are durable, or they are not: then the next reads of their tags are scans again.
    pub(crate) fn settle(&self, tenant: &TenantId, scans: &[(Box<str>, u64)], durable: bool) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tags) = tenants.get_mut(tenant) else {
            return;
        };
        for (job, number) in scans {
            let concerned = tags
                .by_job
                .get_mut(job)
                .is_some_and(|presence| presence.settle(*number));
            if concerned && !durable {
                tags.by_job.remove(job);
            }
        }
    }
}

impl Tags {
    fn make_room(&mut self, now: Timestamp) {
        if self.by_job.len() >= TAGS_MAX {
            self.by_job
                .retain(|_, presence| now.ms_since(presence.last_seen) < FORGOTTEN_MS);
        }
    }
}

fn here(read: &Read<'_>, number: Option<u64>) -> Verdict {
    Verdict {
        scans: vec![(read.location.into(), read.at)],
        number,
    }
}

impl Presence {
    fn begin(read: &Read<'_>, number: u64) -> Self {
        Self {
            location: read.location.into(),
            first_seen: read.at,
            last_seen: read.at,
            written: read.at,
            strongest: read.rssi_dbm.map(|rssi| (rssi, read.at)),
            arrival: Some(number),
            refresh: None,
            late: None,
        }
    }

    /// A scan came to its end; whether it was one of this presence.
    fn settle(&mut self, number: u64) -> bool {
        let mut concerned = false;
        let late = self.late.as_mut().map(|(.., under_way)| under_way);
        for under_way in [Some(&mut self.arrival), Some(&mut self.refresh), late]
            .into_iter()
            .flatten()
        {
            if *under_way == Some(number) {
                *under_way = None;
                concerned = true;
            }
        }
        concerned
    }

    fn take(&mut self, read: &Read<'_>, number: u64, own: &[u64]) -> Verdict {
        let durable = |under_way: Option<u64>| under_way.is_none_or(|scan| own.contains(&scan));
        if *self.location == *read.location {
            return self.take_here(read, number, durable(self.arrival));
        }
        let after_ms = read.at.ms_since(self.last_seen);
        if after_ms < -read.smoothing.overlap_ms {
            let late = self.late.as_ref().is_some_and(|(location, at, under_way)| {
                **location == *read.location
                    && durable(*under_way)
                    && read.at.ms_since(*at).abs() <= read.smoothing.absence_ms
            });
            if late {
                return Verdict::default();
            }
            // A reader sends what it had kept: the job's path takes it where it belongs.
            self.late = Some((read.location.into(), read.at, Some(number)));
            return here(read, Some(number));
        }
        if after_ms <= read.smoothing.overlap_ms && !self.is_weaker_than(read) {
            // Heard at two places at once, and better where it is.
            return if durable(self.arrival) {
                Verdict::default()
            } else {
                Verdict {
                    scans: vec![(self.location.clone(), self.last_seen)],
                    number: None,
                }
            };
        }
        let before = (self.last_seen > self.written).then(|| (self.location.clone(), self.last_seen));
        *self = Self::begin(read, number);
        let scans = before.into_iter().chain([(read.location.into(), read.at)]);
        Verdict {
            scans: scans.collect(),
            number: Some(number),
        }
    }

    fn take_here(&mut self, read: &Read<'_>, number: u64, durable: bool) -> Verdict {
        let absence_ms = read.smoothing.absence_ms;
        if let Some(rssi) = read.rssi_dbm {
            let of_late = self
                .strongest
                .filter(|(_, at)| read.at.ms_since(*at) <= absence_ms);
            if of_late.is_none_or(|(strongest, _)| rssi >= strongest) {
                self.strongest = Some((rssi, read.at));
            }
        }
        if read.at < self.first_seen {
            if self.first_seen.ms_since(read.at) > absence_ms {
                return here(read, None);
            }
            // It was there earlier than was known.
            (self.first_seen, self.refresh) = (read.at, Some(number));
            return here(read, Some(number));
        }
        if read.at.ms_since(self.last_seen) > absence_ms {
            // It was gone and came back.
            let before = (self.last_seen > self.written).then(|| (self.location.clone(), self.last_seen));
            *self = Self::begin(read, number);
            let scans = before.into_iter().chain([(read.location.into(), read.at)]);
            return Verdict {
                scans: scans.collect(),
                number: Some(number),
            };
        }
        self.last_seen = self.last_seen.max(read.at);
        if read.at.ms_since(self.written) >= REFRESH_MS {
            (self.written, self.refresh) = (read.at, Some(number));
            return here(read, Some(number));
        }
        if durable {
            Verdict::default()
        } else {
            here(read, None)
        }
    }

    /// Whether the tag is heard better by this read than where it is.
    fn is_weaker_than(&self, read: &Read<'_>) -> bool {
        match (self.strongest, read.rssi_dbm) {
            (Some((here, _)), Some(there)) => there >= here + read.smoothing.hysteresis_db,
            // Without a strength the newest read counts.
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-02-02T06:00:00Z.
    fn at(second: i64) -> Timestamp {
        Timestamp::from_ms(1_770_012_000_000 + second * 1_000)
    }

    struct Gates(Presences, TenantId);

    impl Gates {
        fn new() -> Self {
            Self(Presences::default(), TenantId::parse("acme").expect("a tenant"))
        }

        fn read(&self, location: &str, second: i64, rssi_dbm: Option<f64>) -> Verdict {
            let read = Read {
                location,
                rssi_dbm,
                at: at(second),
                smoothing: Smoothing::default(),
            };
            self.0.take(&self.1, "job-1", &read, &[])
        }

        /// Reads, and says that what it led to is durable.
        fn durable(&self, location: &str, second: i64, rssi_dbm: Option<f64>) -> Vec<(String, i64)> {
            let verdict = self.read(location, second, rssi_dbm);
            if let Some(number) = verdict.number {
                self.0.settle(&self.1, &[("job-1".into(), number)], true);
            }
            let scans = verdict.scans.iter();
            scans
                .map(|(location, time)| (location.to_string(), time.ms_since(at(0)) / 1_000))
                .collect()
        }
    }

    fn scan(location: &str, second: i64) -> (String, i64) {
        (location.to_owned(), second)
    }

    #[test]
    fn a_tag_that_stays_is_scanned_once_and_written_down_each_minute() {
        let gates = Gates::new();
        let mut scans = Vec::new();
        for second in 0..150 {
            scans.extend(gates.durable("gate-1", second, Some(-60.0)));
        }
        assert_eq!(
            scans,
            [scan("gate-1", 0), scan("gate-1", 60), scan("gate-1", 120)]
        );
    }

    #[test]
    fn a_tag_that_comes_back_after_its_absence_is_scanned_again_and_when_it_went_is_known() {
        let gates = Gates::new();
        gates.durable("gate-1", 0, None);
        gates.durable("gate-1", 8, None);
        assert_eq!(
            gates.durable("gate-1", 40, None),
            [scan("gate-1", 8), scan("gate-1", 40)]
        );
    }

    #[test]
    fn a_tag_heard_at_two_places_is_where_it_is_heard_best() {
        let gates = Gates::new();
        assert_eq!(gates.durable("gate-1", 0, Some(-50.0)), [scan("gate-1", 0)]);
        assert_eq!(gates.durable("gate-2", 1, Some(-65.0)), [], "a faint echo");
        assert_eq!(gates.durable("gate-2", 1, Some(-48.5)), [], "not enough better");
        assert_eq!(gates.durable("gate-1", 2, Some(-52.0)), []);
        assert_eq!(
            gates.durable("gate-2", 3, Some(-40.0)),
            [scan("gate-1", 2), scan("gate-2", 3)]
        );
        // Where it was last heard, when the other place hears it no more.
        assert_eq!(gates.durable("gate-1", 9, Some(-70.0)), [scan("gate-1", 9)]);
    }

    #[test]
    fn without_a_strength_the_newest_place_counts() {
        let gates = Gates::new();
        gates.durable("gate-1", 0, None);
        assert_eq!(gates.durable("gate-2", 1, None), [scan("gate-2", 1)]);
    }

    #[test]
    fn nothing_is_left_out_before_the_scan_it_relies_on_is_durable() {
        let gates = Gates::new();
        let first = gates.read("gate-1", 0, Some(-50.0));
        let number = first.number.expect("a scan");
        assert_eq!(
            gates.read("gate-1", 1, Some(-50.0)).scans.len(),
            1,
            "not durable yet"
        );
        assert_eq!(
            gates.read("gate-2", 1, Some(-70.0)).scans,
            [("gate-1".into(), at(1))]
        );
        let read = Read {
            location: "gate-1",
            rssi_dbm: None,
            at: at(2),
            smoothing: Smoothing::default(),
        };
        assert_eq!(
            gates.0.take(&gates.1, "job-1", &read, &[number]),
            Verdict::default(),
            "durable with the batch it is in"
        );
        gates.0.settle(&gates.1, &[("job-1".into(), number)], false);
        assert_eq!(gates.read("gate-1", 3, None).scans.len(), 1, "the disk was full");
    }

    #[test]
    fn reads_that_a_reader_had_kept_are_one_scan() {
        let gates = Gates::new();
        gates.durable("gate-2", 500, None);
        assert_eq!(gates.durable("gate-1", 100, None), [scan("gate-1", 100)]);
        assert_eq!(gates.durable("gate-1", 101, None), []);
        assert_eq!(gates.durable("gate-1", 105, None), []);
        assert_eq!(gates.durable("gate-2", 501, None), [], "it is still there");
        assert_eq!(
            gates.durable("gate-2", 495, None),
            [scan("gate-2", 495)],
            "it was there earlier"
        );
    }

    #[test]
    fn what_is_too_faint_is_not_taken() {
        let gates = Gates::new();
        let smoothing = Smoothing {
            min_rssi_dbm: Some(-70.0),
            ..Smoothing::default()
        };
        let read = |rssi_dbm| Read {
            location: "gate-1",
            rssi_dbm,
            at: at(0),
            smoothing,
        };
        assert_eq!(
            gates.0.take(&gates.1, "job-1", &read(Some(-71.0)), &[]),
            Verdict::default()
        );
        assert_eq!(gates.0.take(&gates.1, "job-1", &read(None), &[]).scans.len(), 1);
    }

    #[test]
    fn tags_are_bounded() {
        let gates = Gates::new();
        let read = Read {
            location: "gate-1",
            rssi_dbm: None,
            at: at(0),
            smoothing: Smoothing::default(),
        };
        for number in 0..TAGS_MAX + 10 {
            assert_eq!(
                gates
                    .0
                    .take(&gates.1, &format!("job-{number}"), &read, &[])
                    .scans
                    .len(),
                1
            );
        }
        let followed = || gates.0.tenants.lock().expect("no panic")[&gates.1].by_job.len();
        assert_eq!(followed(), TAGS_MAX);
        let later = Read {
            at: at(3_600),
            ..read
        };
        gates.0.take(&gates.1, "new", &later, &[]);
        assert_eq!(followed(), 1, "what was not seen for long made room");
    }
}
