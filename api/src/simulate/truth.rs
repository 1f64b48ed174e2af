//! What the plant really did, and the KPIs that follow from it: the reference that `gemba simulate --expect` writes.
//!
//! Promises: computed from what the simulation did, by other code than the fold's; exact where the plant's messages
//! arrive in the order in which its gateways send them. "Today" is the UTC day of a machine's newest message.

use std::collections::{BTreeMap, BTreeSet};

use gemba_twins::time::Timestamp;
use serde_json::{Map, Value as Json, json};

const DAY_MS: i64 = 86_400_000;
const MS_PER_HOUR: f64 = 3_600_000.0;

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
    newest: (Timestamp, Said),
    /// Milliseconds in each state today.
    today: BTreeMap<&'static str, i64>,
    /// Cycles and good parts before today, or when the machine was first heard.
    before: (u64, u64),
    energy_kwh: f64,
    /// The meter's newest register.
    register_kwh: Option<f64>,
}

/// What happened so far.
#[derive(Default)]
pub(super) struct Truth {
    machines: BTreeMap<String, MachineTruth>,
    /// Where each job was scanned, and when.
    jobs: BTreeMap<String, Vec<(Timestamp, String)>>,
}

impl Truth {
    pub(super) fn machine(&mut self, id: &str, ideal_cycle_ms: i64, at: Timestamp, said: Said) {
        let Some(machine) = self.machines.get_mut(id) else {
            let machine = MachineTruth {
                ideal_cycle_s: ideal_cycle_ms as f64 / 1_000.0,
                newest: (at, said),
                today: BTreeMap::new(),
                before: (said.cycles, said.good),
                energy_kwh: 0.0,
                register_kwh: None,
            };
            self.machines.insert(id.to_owned(), machine);
            return;
        };
        let (since, held) = machine.newest;
        let midnight = at.floor_to(DAY_MS);
        if since < midnight {
            machine.today.clear();
            machine.before = (held.cycles, held.good);
            machine.energy_kwh = 0.0;
        }
        *machine.today.entry(held.state).or_default() += at.ms_since(since.max(midnight));
        if machine.register_kwh.is_none() {
            // Without a meter the power is integrated, each value until the next.
            machine.energy_kwh += held.power_kw * at.ms_since(since) as f64 / MS_PER_HOUR;
        }
        machine.newest = (at, said);
    }

    pub(super) fn meter(&mut self, machine: &str, register_kwh: f64) {
        if let Some(machine) = self.machines.get_mut(machine) {
            let before = machine.register_kwh.replace(register_kwh);
            machine.energy_kwh += register_kwh - before.unwrap_or(register_kwh);
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
            twins.insert(format!("machine/{id}"), machine.kpis());
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
        Json::Object(twins)
    }
}

impl MachineTruth {
    fn kpis(&self) -> Json {
        let ms = |states: &[&str]| -> f64 {
            let of = |state: &&str| self.today.get(*state).copied().unwrap_or_default() as f64;
            states.iter().map(of).sum()
        };
        let over = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let producing = ms(&["producing"]);
        let planned = producing + ms(&["setup", "idle", "stopped", "down"]);
        let said = self.newest.1;
        let parts = (said.cycles - self.before.0) as f64;
        let good = (said.good - self.before.1) as f64;
        let availability = over(producing, planned);
        let effectiveness = over(self.ideal_cycle_s * parts, producing / 1_000.0);
        let quality = over(good, parts);
        let oee = availability
            .zip(effectiveness)
            .zip(quality)
            .map(|((availability, effectiveness), quality)| availability * effectiveness * quality);
        json!({
            "utilization": over(producing, planned + ms(&["planned_down"])),
            "availability": availability,
            "effectiveness": effectiveness,
            "quality_ratio": quality,
            "oee": oee,
            "parts": parts,
            "good_parts": good,
            "scrap_parts": parts - good,
            "energy_kwh": self.energy_kwh,
        })
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
        let hour_ms = MS_PER_HOUR as i64;
        let hour_before = newest.floor_to(hour_ms).plus_ms(-hour_ms);
        let span_ms = newest.ms_since(hour_before.max(*first));
        let counted = self.left_at.iter().filter(|left_at| **left_at >= hour_before);
        (span_ms >= 600_000).then(|| counted.count() as f64 / (span_ms as f64 / MS_PER_HOUR))
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
