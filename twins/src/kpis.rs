//! A twin's headline KPIs by their names in the JSON.
//!
//! Promises: each is a number or the reason why there is none; as of the newest event, over the UTC day of it where
//! they are a day's. Shift calendars and the rest of ISO 22400 are not known here.

use crate::{
    id::Kind,
    machine::{Kpi, Machine},
    time::Timestamp,
    twin::{Nature, Twin},
};

const MACHINE: [&str; 11] = [
    "utilization",
    "availability",
    "effectiveness",
    "quality_ratio",
    "oee",
    "parts",
    "good_parts",
    "scrap_parts",
    "energy_kwh",
    "energy_kwh_per_good_part",
    "idle_energy_share",
];
const LOCATION: [&str; 9] = [
    "wip",
    "visits",
    "left_today",
    "dwell_s_mean",
    "dwell_s_max",
    "dwell_s_last",
    "throughput_per_h",
    "cycle_time_s",
    "takt_s",
];
const JOB: [&str; 7] = [
    "elapsed_s",
    "bottleneck_dwell_s",
    "locations",
    "rework_visits",
    "scans",
    "lead_time_s",
    "rework_loops",
];

/// The numeric KPIs of a kind of twin, in the order in which they are shown.
pub(crate) fn names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Machine => &MACHINE,
        Kind::Location => &LOCATION,
        Kind::Job => &JOB,
    }
}

impl Twin {
    /// A numeric KPI by name; `None` where the kind of twin has no such KPI.
    pub(crate) fn kpi(&self, name: &str) -> Option<Kpi> {
        let seconds = |ms: i64| ms as f64 / 1_000.0;
        let left = |visits: u64, value: f64| {
            if visits > 0 {
                Ok(value)
            } else {
                Err("no job has left yet")
            }
        };
        Some(match (&self.nature, name) {
            (Nature::Machine(machine), name) => {
                let ideal_cycle_s = self.config.as_ref().and_then(|config| config.ideal_cycle_s);
                machine_kpi(machine, name, ideal_cycle_s)?
            }
            (Nature::Location(location), "wip") => Ok(location.wip() as f64),
            (Nature::Location(location), "visits") => Ok(location.visits as f64),
            (Nature::Location(location), "left_today") => left(location.visits, location.left_today as f64),
            (Nature::Location(location), "dwell_s_mean") => left(
                location.visits,
                seconds(location.dwell_ms_sum) / location.visits as f64,
            ),
            (Nature::Location(location), "dwell_s_max") => {
                left(location.visits, seconds(location.dwell_ms_max))
            }
            (Nature::Location(location), "dwell_s_last") => {
                left(location.visits, seconds(location.dwell_ms_last))
            }
            (Nature::Location(location), "throughput_per_h") => location.throughput_per_h(),
            (Nature::Location(location), "cycle_time_s") => location.cycle_time_s(),
            (Nature::Location(_), "takt_s") => self
                .config
                .as_ref()
                .and_then(|config| config.location.as_ref()?.takt_s)
                .ok_or("the plant model gives no demand"),
            (Nature::Job(job), "lead_time_s") => match job.completed_at {
                Some(_) => job.elapsed_ms().map(seconds).ok_or("not scanned yet"),
                None => Err("the job is not completed"),
            },
            (Nature::Job(job), "elapsed_s") => job.elapsed_ms().map(seconds).ok_or("not scanned yet"),
            (Nature::Job(job), "bottleneck_dwell_s") => job
                .bottleneck()
                .map(|(_, dwell_ms)| seconds(dwell_ms))
                .ok_or("no dwell time yet"),
            (Nature::Job(job), "locations") => Ok(job.locations() as f64),
            (Nature::Job(job), "rework_visits" | "rework_loops") => Ok(job.rework_visits() as f64),
            (Nature::Job(job), "scans") => Ok(job.scans as f64),
            _ => return None,
        })
    }

    /// The UTC day that a day's KPIs are over.
    pub(crate) fn kpi_day(&self) -> Option<Timestamp> {
        match &self.nature {
            Nature::Machine(machine) => machine.day(),
            Nature::Location(location) => location.day(),
            Nature::Job(_) => None,
        }
    }
}

fn machine_kpi(machine: &Machine, name: &str, ideal_cycle_s: Option<f64>) -> Option<Kpi> {
    Some(match name {
        "utilization" => machine.utilization(),
        "availability" => machine.availability(),
        "effectiveness" => machine.effectiveness(ideal_cycle_s),
        "quality_ratio" => machine.quality_ratio(),
        "oee" => machine.oee(ideal_cycle_s),
        "parts" => machine.produced(),
        "good_parts" => machine.good_parts(),
        "scrap_parts" => machine.scrap_parts(),
        "energy_kwh" => machine.energy(),
        "energy_kwh_per_good_part" => machine.energy_per_good_part(),
        "idle_energy_share" => machine.idle_energy_share(),
        _ => return None,
    })
}
