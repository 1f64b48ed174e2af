//! What the plant really did, and the KPIs that follow from it: the reference that `gemba simulate --expect` writes.
//!
//! Promises: computed from what the simulation did, by other code than the fold's; exact where the plant's messages
//! arrive within the lateness window. A machine's are of the shift of its newest message (`ledger.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use gemba_twins::time::Timestamp;
use serde_json::{Map, Value as Json, json};

use super::ledger::{HOUR_MS, Ledger, Sample, Sums};

/// A machine as it says it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) state: &'static str,
    pub(super) cycles: u64,
    pub(super) good: u64,
    pub(super) power_kw: f64,
}

struct MachineTruth {
    ideal_cycle_s: f64,
    cell: String,
    /// All that was told to the line.
    told: Ledger,
    /// What was not; the first so many of them were folded.
    waits: VecDeque<Sample>,
    folded: usize,
}

/// What happened so far.
pub(super) struct Truth {
    /// How much later than newer ones messages may come: what a line knows of its machines is so much older.
    lateness_ms: i64,
    machines: BTreeMap<String, MachineTruth>,
    /// Where each job was scanned, and when.
    jobs: BTreeMap<String, Vec<(Timestamp, String)>>,
}

impl Truth {
    pub(super) fn new(lateness_ms: i64) -> Self {
        Self {
            lateness_ms,
            machines: BTreeMap::new(),
            jobs: BTreeMap::new(),
        }
    }

    pub(super) fn machine(&mut self, id: &str, cell: usize, ideal_cycle_ms: i64, at: Timestamp, said: Said) {
        let machine = self
            .machines
            .entry(id.to_owned())
            .or_insert_with(|| MachineTruth {
                ideal_cycle_s: ideal_cycle_ms as f64 / 1_000.0,
                cell: format!("cell-{}", cell + 1),
                told: Ledger::default(),
                waits: VecDeque::new(),
                folded: 0,
            });
        machine.waits.push_back(Sample {
            at,
            said,
            register_kwh: None,
        });
        machine.tell(at, self.lateness_ms);
    }

    pub(super) fn meter(&mut self, machine: &str, register_kwh: f64) {
        let sample = self
            .machines
            .get_mut(machine)
            .and_then(|machine| machine.waits.back_mut());
        if let Some(sample) = sample {
            sample.register_kwh = Some(register_kwh);
        }
    }

    pub(super) fn scan(&mut self, job: &str, location: &str, at: Timestamp) {
        let scans = self.jobs.entry(job.to_owned()).or_default();
        scans.push((at, location.to_owned()));
    }

    /// The KPIs of each twin by its address; `null` where nothing can be said. `exit` is where jobs end.
    pub(super) fn kpis(&self, exit: &str) -> Json {
        let mut twins = Map::new();
        for (id, machine) in &self.machines {
            twins.insert(format!("machine/{id}"), machine.now().kpis(machine.ideal_cycle_s));
        }
        let mut locations: BTreeMap<&str, LocationTruth> = BTreeMap::new();
        for (id, scans) in &self.jobs {
            twins.insert(format!("job/{id}"), job_kpis(scans, exit));
            let leaving = scans.iter().skip(1).map(|(at, _)| Some(*at));
            for ((entered_at, location), left_at) in scans.iter().zip(leaving.chain([None])) {
                let left_at = left_at.or((location == exit).then_some(*entered_at));
                locations.entry(location).or_default().visit(*entered_at, left_at);
            }
        }
        for (id, location) in locations {
            twins.insert(format!("location/{id}"), location.kpis());
        }
        for (id, sums) in self.lines() {
            let twin = twins.entry(format!("location/{id}")).or_insert_with(|| json!({}));
            if let Json::Object(twin) = twin {
                twin.extend(sums.kpis());
            }
        }
        Json::Object(twins)
    }

    /// The sums of each place's machines, as of what they told it last.
    fn lines(&self) -> BTreeMap<&str, Sums> {
        let mut machines: BTreeMap<&str, Vec<&MachineTruth>> = BTreeMap::new();
        for machine in self
            .machines
            .values()
            .filter(|machine| machine.told.newest().is_some())
        {
            for place in [&machine.cell, "line-1", "demo-plant"] {
                machines.entry(place).or_default().push(machine);
            }
        }
        let sum = |machines: Vec<&MachineTruth>| {
            let told = |machine: &&MachineTruth| machine.told.newest().map(|sample| sample.at.ms());
            let newest = machines.iter().filter_map(told).max();
            let mut sums = Sums::default();
            // Who has told nothing of the newest one's shift yet is not in it.
            let is_on = |machine: &&&MachineTruth| machine.told.period().map(|(_, end)| end) > newest;
            for machine in machines.iter().filter(is_on) {
                sums.add(&machine.told.sums(machine.ideal_cycle_s));
            }
            sums
        };
        machines
            .into_iter()
            .map(|(place, machines)| (place, sum(machines)))
            .collect()
    }
}

impl MachineTruth {
    /// A machine tells its line once a minute, when its state changed five seconds after it told the last one, and
    /// when a shift is over; of what is folded by then.
    fn tell(&mut self, newest: Timestamp, lateness_ms: i64) {
        while let Some(sample) = self.waits.get(self.folded).copied() {
            if newest.ms_since(sample.at) <= lateness_ms {
                return;
            }
            self.folded += 1;
            let told = self.told.newest();
            let is_due = told.is_none_or(|told| {
                told.at.floor_to(60_000) < sample.at.floor_to(60_000)
                    || (told.said.state != sample.said.state && sample.at.ms_since(told.at) >= 5_000)
            });
            if is_due {
                for sample in self.waits.drain(..self.folded) {
                    self.told.take(sample);
                }
                self.folded = 0;
            }
        }
    }

    /// All that it did.
    fn now(&self) -> Ledger {
        let mut ledger = self.told.clone();
        self.waits.iter().for_each(|sample| ledger.take(*sample));
        ledger
    }
}

#[derive(Default)]
struct LocationTruth {
    here: u64,
    dwell_ms: Vec<i64>,
    /// When the last one left, and how long it had stayed.
    last: Option<(Timestamp, i64)>,
    /// When jobs came and left, and when they left.
    moments: Vec<Timestamp>,
    left_at: Vec<Timestamp>,
}

impl LocationTruth {
    fn visit(&mut self, entered_at: Timestamp, left_at: Option<Timestamp>) {
        self.moments.push(entered_at);
        self.moments.extend(left_at);
        self.left_at.extend(left_at);
        let Some(left_at) = left_at else {
            self.here += 1;
            return;
        };
        let dwell_ms = left_at.ms_since(entered_at);
        self.dwell_ms.push(dwell_ms);
        self.last = self.last.max(Some((left_at, dwell_ms)));
    }

    /// Jobs that left in an hour, over the clock hour of the newest scan and the one before.
    fn throughput_per_h(&self) -> Option<f64> {
        let (first, newest) = (self.moments.iter().min()?, self.moments.iter().max()?);
        let hour_before = newest.floor_to(HOUR_MS).plus_ms(-HOUR_MS);
        let span_ms = newest.ms_since(hour_before.max(*first));
        let counted = self.left_at.iter().filter(|left_at| **left_at >= hour_before);
        (span_ms >= 600_000).then(|| counted.count() as f64 / (span_ms as f64 / HOUR_MS as f64))
    }

    fn kpis(&self) -> Json {
        let (visits, sum_ms) = (
            self.dwell_ms.len() as f64,
            self.dwell_ms.iter().sum::<i64>() as f64,
        );
        json!({
            "wip": self.here as f64,
            "visits": visits,
            "dwell_s_mean": (visits > 0.0).then(|| sum_ms / 1_000.0 / visits),
            "throughput_per_h": self.throughput_per_h(),
            "dwell_s_max": self.dwell_ms.iter().max().map(|ms| *ms as f64 / 1_000.0),
        })
    }
}

fn job_kpis(scans: &[(Timestamp, String)], exit: &str) -> Json {
    let mut dwell: BTreeMap<&str, i64> = BTreeMap::new();
    for pair in scans.windows(2) {
        *dwell.entry(&pair[0].1).or_default() += pair[1].0.ms_since(pair[0].0);
    }
    let places: BTreeSet<&str> = scans.iter().map(|(_, location)| &**location).collect();
    let elapsed_ms = match scans {
        [first, .., last] => last.0.ms_since(first.0),
        _ => 0,
    };
    let is_done = scans.last().is_some_and(|(_, location)| location == exit);
    let longest = dwell.values().max().filter(|ms| **ms > 0);
    json!({
        "elapsed_s": elapsed_ms as f64 / 1_000.0,
        "bottleneck_dwell_s": longest.map(|ms| *ms as f64 / 1_000.0),
        "locations": places.len() as f64,
        "rework_visits": (scans.len() - places.len()) as f64,
        "rework_loops": (scans.len() - places.len()) as f64,
        "lead_time_s": is_done.then(|| elapsed_ms as f64 / 1_000.0),
        "scans": scans.len() as f64,
    })
}
