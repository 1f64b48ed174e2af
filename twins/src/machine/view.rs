//! A machine's own part of its JSON, and its shifts and jobs that are over.
//!
//! Promises: times are of the shift that is on, else of the day; a KPI without data is null with its reason beside it.

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::{Figures, Machine, StateTimes, figures::StopTime, runs::Run};
use crate::{config::Execution, line::Line, time::Timestamp};

/// KPIs of a shift or a job that is over.
const RUN_KPIS: [&str; 21] = [
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
    "cycle_time_s",
    "throughput_per_h",
    "parts",
    "good_parts",
    "scrap_parts",
    "energy_kwh",
    "energy_kwh_per_good_part",
    "energy_per_good_part_kwh",
    "idle_energy_share",
    "peak_demand_kw",
    "power_factor",
];

/// Seconds by state; states without time are left out.
pub(crate) struct Times<'a>(pub(crate) &'a StateTimes);

impl Serialize for Times<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let times = Execution::ALL.into_iter().zip(self.0.iter());
        let known = times.filter(|(_, ms)| **ms > 0);
        serializer.collect_map(known.map(|(execution, ms)| (execution.as_str(), *ms as f64 / 1_000.0)))
    }
}

struct Stops<'a>(&'a [StopTime]);

#[derive(Serialize)]
struct StopShown<'a> {
    reason: &'a str,
    s: f64,
    count: u32,
}

impl Serialize for Stops<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for stop in self.0.iter().take(16) {
            list.serialize_element(&StopShown {
                reason: &stop.reason,
                s: stop.ms as f64 / 1_000.0,
                count: stop.count,
            })?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct MicroStops {
    count: u32,
    s: f64,
}

impl MicroStops {
    fn of(figures: &Figures) -> Self {
        Self {
            count: figures.micro_stops,
            s: figures.micro_stop_ms as f64 / 1_000.0,
        }
    }
}

#[derive(Serialize)]
struct ShiftShown<'a> {
    name: &'a str,
    began_at: Timestamp,
    ends_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct JobShown<'a> {
    id: &'a str,
    since: Timestamp,
    kpis: Kpis<'a>,
}

/// The KPIs of a period.
struct Kpis<'a>(&'a Figures, Option<f64>);

impl Serialize for Kpis<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = || {
            RUN_KPIS
                .into_iter()
                .filter_map(|name| Some((name, self.0.kpi(name, self.1)?)))
        };
        let mut map = serializer.serialize_map(None)?;
        for (name, kpi) in all() {
            map.serialize_entry(name, &kpi.ok())?;
        }
        let reasons: Vec<_> = all().filter_map(|(name, kpi)| Some((name, kpi.err()?))).collect();
        if !reasons.is_empty() {
            map.serialize_entry("reasons", &Reasons(&reasons))?;
        }
        map.end()
    }
}

struct Reasons<'a>(&'a [(&'static str, &'static str)]);

impl Serialize for Reasons<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// A shift or a job as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    run: Run,
    is_over: bool,
    ideal_cycle_s: Option<f64>,
}

impl RunView {
    pub(crate) fn open(run: &Run, ideal_cycle_s: Option<f64>) -> Self {
        Self {
            run: run.clone(),
            is_over: false,
            ideal_cycle_s,
        }
    }

    pub(crate) fn over(run: Run) -> Self {
        Self {
            run,
            is_over: true,
            ideal_cycle_s: None,
        }
    }
}

impl Serialize for RunView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (run, figures) = (&self.run, &self.run.figures);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &*run.name)?;
        map.serialize_entry("began_at", &run.began_at)?;
        let (ended_at, ends_at) = if self.is_over {
            (run.ends_at, None)
        } else {
            (None, run.ends_at)
        };
        map.serialize_entry("ended_at", &ended_at)?;
        if let Some(ends_at) = ends_at {
            map.serialize_entry("ends_at", &ends_at)?;
        }
        map.serialize_entry("time_in_state_s", &Times(&figures.times))?;
        map.serialize_entry("kpis", &Kpis(figures, self.ideal_cycle_s))?;
        map.serialize_entry("downtime", &Stops(&figures.longest_stops()))?;
        map.serialize_entry("micro_stops", &MicroStops::of(figures))?;
        map.end()
    }
}

impl Line {
    /// What is said of its machines' time within `state`.
    pub(crate) fn entries<S: SerializeMap>(&self, map: &mut S) -> Result<(), S::Error> {
        let figures = self.figures();
        map.serialize_entry("time_in_state_s", &Times(&figures.times))?;
        map.serialize_entry("downtime", &Stops(&figures.longest_stops()))?;
        map.serialize_entry("micro_stops", &MicroStops::of(&figures))
    }
}

impl Machine {
    /// What is said of its periods within `state`.
    pub(crate) fn entries<S: SerializeMap>(
        &self,
        map: &mut S,
        ideal_cycle_s: Option<f64>,
    ) -> Result<(), S::Error> {
        map.serialize_entry("time_in_state_s", &Times(&self.figures().times))?;
        map.serialize_entry("time_in_state_today_s", &Times(&self.day.times))?;
        map.serialize_entry("time_in_state_total_s", &Times(&self.total))?;
        map.serialize_entry("transitions_today", &self.day.transitions)?;
        let shift = self.shift.as_ref().map(|shift| ShiftShown {
            name: &shift.name,
            began_at: shift.began_at,
            ends_at: shift.ends_at,
        });
        map.serialize_entry("shift", &shift)?;
        map.serialize_entry("downtime", &Stops(&self.downtime()))?;
        map.serialize_entry("micro_stops", &MicroStops::of(self.figures()))?;
        if let Some(job) = &self.job {
            let shown = JobShown {
                id: &job.name,
                since: job.began_at,
                kpis: Kpis(&job.figures, ideal_cycle_s),
            };
            map.serialize_entry("job", &shown)?;
        }
        Ok(())
    }

    /// Its shifts, the one that is on first, then the newest.
    pub(crate) fn shifts(&self, ideal_cycle_s: Option<f64>) -> Vec<RunView> {
        let on = self
            .shift
            .as_deref()
            .map(|shift| RunView::open(shift, ideal_cycle_s));
        let over = self.shifts_done.iter().rev().filter_map(|done| done.run());
        on.into_iter().chain(over.map(RunView::over)).collect()
    }

    /// Its jobs, the one that is on first, then the newest.
    pub(crate) fn jobs(&self, ideal_cycle_s: Option<f64>) -> Vec<RunView> {
        let on = self.job.as_deref().map(|job| RunView::open(job, ideal_cycle_s));
        let over = self.jobs_done.iter().rev().filter_map(|done| done.run());
        on.into_iter().chain(over.map(RunView::over)).collect()
    }
}
