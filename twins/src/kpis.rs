//! A twin's headline KPIs by their names in the JSON.
//!
//! Promises: each is a number or the reason why there is none; as of the newest event. A machine's are over the shift
//! that is on, else over the UTC day of the newest event (`machine/figures.rs` has the formulas).

use std::borrow::Cow;

use crate::{
    id::Kind,
    machine::{Figures, Kpi, Machine},
    time::Timestamp,
    twin::{Nature, Twin},
};

const MACHINE: [&str; 23] = [
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
    "nee",
    "utilization_efficiency",
    "allocation_efficiency",
    "technical_efficiency",
    "setup_rate",
    "mtbf_s",
    "mttr_s",
    "cycle_time_s",
    "throughput_per_h",
    "energy_per_good_part_kwh",
    "peak_demand_kw",
    "power_factor",
];
/// Those after the first nine are of the machines that stand there, and absent where none do.
const LOCATION: [&str; 27] = [
    "wip",
    "visits",
    "left_today",
    "dwell_s_mean",
    "dwell_s_max",
    "dwell_s_last",
    "throughput_per_h",
    "cycle_time_s",
    "takt_s",
    "utilization",
    "availability",
    "effectiveness",
    "quality_ratio",
    "oee",
    "nee",
    "utilization_efficiency",
    "allocation_efficiency",
    "technical_efficiency",
    "setup_rate",
    "parts",
    "good_parts",
    "scrap_parts",
    "energy_kwh",
    "energy_kwh_per_good_part",
    "energy_per_good_part_kwh",
    "idle_energy_share",
    "power_factor",
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

/// What the KPIs of a twin are read off, worked out once for all of them.
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack of a view")]
pub(crate) enum Basis<'a> {
    /// A machine, with what waits to be folded.
    Machine(Cow<'a, Machine>),
    /// The sum of a location's machines.
    Line(Box<Figures>),
    /// The twin as it is.
    Itself,
}

impl Basis<'_> {
    pub(crate) fn machine(&self) -> Option<&Machine> {
        if let Self::Machine(machine) = self {
            Some(machine)
        } else {
            None
        }
    }
}

/// Of a location: the machines' demands were not at one time, and what it turns out is told by its jobs.
fn of_machines(name: &str) -> bool {
    !matches!(name, "peak_demand_kw" | "throughput_per_h" | "cycle_time_s")
}

impl Twin {
    /// What its KPIs are read off.
    pub(crate) fn basis(&self) -> Basis<'_> {
        match (&self.nature, self.machine_now()) {
            (_, Some(machine)) => Basis::Machine(machine),
            (Nature::Location(location), _) if !location.line.is_empty() => {
                Basis::Line(Box::new(location.line.figures()))
            }
            _ => Basis::Itself,
        }
    }

    /// The same, of what is folded only.
    pub(crate) fn sealed_basis(&self) -> Basis<'_> {
        match &self.nature {
            Nature::Machine(machine) => Basis::Machine(Cow::Borrowed(machine)),
            _ => self.basis(),
        }
    }

    /// A numeric KPI by name; `None` where the kind of twin has no such KPI.
    pub(crate) fn kpi(&self, name: &str, basis: &Basis<'_>) -> Option<Kpi> {
        let seconds = |ms: i64| ms as f64 / 1_000.0;
        let left = |visits: u64, value: f64| {
            if visits > 0 {
                Ok(value)
            } else {
                Err("no job has left yet")
            }
        };
        if let Basis::Machine(machine) = basis {
            let ideal_cycle_s = self.config.as_ref().and_then(|config| config.ideal_cycle_s);
            return machine.kpi(name, ideal_cycle_s);
        }
        Some(match (&self.nature, name) {
            (Nature::Machine(sealed), name) => {
                let ideal_cycle_s = self.config.as_ref().and_then(|config| config.ideal_cycle_s);
                sealed.kpi(name, ideal_cycle_s)?
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
            (Nature::Location(_), name) if of_machines(name) => {
                let Basis::Line(figures) = basis else { return None };
                figures.kpi(name, None)?
            }
            _ => return None,
        })
    }

    /// The UTC day that a day's KPIs are over.
    pub(crate) fn kpi_day(&self, basis: &Basis<'_>) -> Option<Timestamp> {
        match &self.nature {
            // Where a shift is on, the KPIs are over it (`state.shift`).
            Nature::Machine(sealed) => {
                let machine = if let Basis::Machine(machine) = basis {
                    machine
                } else {
                    &**sealed
                };
                machine.day_start().filter(|_| machine.shift.is_none())
            }
            Nature::Location(location) => location.day(),
            Nature::Job(_) => None,
        }
    }
}
