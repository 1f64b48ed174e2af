//! A twin as JSON, in the shape of the public contract; written straight to the serializer.
//!
//! Promises: a value that was never received is absent, a stale one says so, a KPI without data is null with its
//! reason beside it. KPIs are as of the newest event; `now` only decides what is stale.

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use crate::{
    air,
    config::Execution,
    event::Value,
    id::Kind,
    machine::{Kpi, Machine},
    time::Timestamp,
    twin::{Nature, Twin, declared},
};

/// A twin as it is shown at a time.
pub struct TwinView<'a> {
    pub(crate) twin: &'a Twin,
    pub(crate) now: Timestamp,
}

impl Twin {
    /// The twin as it is shown at `now`.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> TwinView<'_> {
        TwinView { twin: self, now }
    }

    /// `good`, `stale`, `bad` (the sender judged it below 0.5) or `unknown` (no data yet).
    pub(crate) fn quality(&self, now: Timestamp) -> &'static str {
        match (self.data_at, &self.nature) {
            (None, Nature::Job(job)) if job.scans > 0 => "good",
            (None, _) => "unknown",
            _ if self.is_stale(now) => "stale",
            _ if self.quality_score.is_some_and(|score| score < 0.5) => "bad",
            _ => "good",
        }
    }

    /// The execution state as it is shown: unknown while the machine is stale.
    pub(crate) fn execution(&self, now: Timestamp) -> Option<&'static str> {
        let Nature::Machine(machine) = &self.nature else { return None };
        machine.since?;
        Some(if self.is_stale(now) { Execution::Unknown.as_str() } else { machine.execution.as_str() })
    }

    pub(crate) fn air(&self, now: Timestamp) -> Option<air::Air> {
        let stale_ms = self.stale_after_ms();
        matches!(self.nature, Nature::Location(_)).then(|| {
            air::category(self.metrics.fresh("pm25_ugm3", now, stale_ms), self.metrics.fresh("co2_ppm", now, stale_ms))
        })
    }

    /// A numeric KPI by name; `None` where the kind of twin has no such KPI.
    pub(crate) fn kpi(&self, name: &str) -> Option<Kpi> {
        let seconds = |ms: i64| ms as f64 / 1_000.0;
        Some(match (&self.nature, name) {
            (Nature::Machine(machine), name) => machine_kpi(machine, name, self.config.as_ref().and_then(|config| config.ideal_cycle_s))?,
            (Nature::Location(location), "wip") => Ok(location.wip() as f64),
            (Nature::Location(location), "visits") => Ok(location.visits as f64),
            (Nature::Location(location), "dwell_s_mean") if location.visits > 0 => {
                Ok(seconds(location.dwell_ms_sum) / location.visits as f64)
            }
            (Nature::Location(location), "dwell_s_max") if location.visits > 0 => Ok(seconds(location.dwell_ms_max)),
            (Nature::Location(_), "dwell_s_mean" | "dwell_s_max") => Err("no job has left yet"),
            (Nature::Job(job), "elapsed_s") => job.elapsed_ms().map(seconds).ok_or("not scanned yet"),
            (Nature::Job(job), "bottleneck_dwell_s") => {
                job.bottleneck().map(|(_, dwell_ms)| seconds(dwell_ms)).ok_or("no dwell time yet")
            }
            (Nature::Job(job), "rework_visits") => Ok(job.rework_visits() as f64),
            (Nature::Job(job), "scans") => Ok(job.scans as f64),
            _ => return None,
        })
    }
}

const MACHINE_KPIS: [&str; 9] = [
    "utilization",
    "availability",
    "effectiveness",
    "quality_ratio",
    "oee",
    "energy_kwh",
    "energy_kwh_per_good_part",
    "idle_energy_share",
    "parts",
];
const LOCATION_KPIS: [&str; 4] = ["wip", "visits", "dwell_s_mean", "dwell_s_max"];
const JOB_KPIS: [&str; 4] = ["elapsed_s", "bottleneck_dwell_s", "rework_visits", "scans"];

fn machine_kpi(machine: &Machine, name: &str, ideal_cycle_s: Option<f64>) -> Option<Kpi> {
    Some(match name {
        "utilization" => machine.utilization(),
        "availability" => machine.availability(),
        "effectiveness" => machine.effectiveness(ideal_cycle_s),
        "quality_ratio" => machine.quality_ratio(),
        "oee" => machine.oee(ideal_cycle_s),
        "energy_kwh" => machine.energy(),
        "energy_kwh_per_good_part" => machine.energy_per_good_part(),
        "idle_energy_share" => machine.idle_energy_share(),
        "parts" => machine.since.map(|_| machine.cycles).ok_or("no data received"),
        _ => return None,
    })
}

/// A part of the view that is an object of its own.
enum Part<'a> {
    Seq,
    State,
    Metrics,
    Metric(&'a crate::metric::Metric),
    Times(&'a crate::machine::StateTimes),
    Path,
    Visit(usize),
    Jobs,
    JobHere(&'a str, Timestamp),
    Operators,
    Kpis,
    Reasons,
    Links,
}

struct Of<'a>(&'a TwinView<'a>, Part<'a>);

impl Serialize for TwinView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let twin = self.twin;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("twin", &Shown(&twin.id))?;
        map.serialize_entry("kind", twin.id.kind().as_str())?;
        map.serialize_entry("id", twin.id.id())?;
        map.serialize_entry("rev", &twin.rev)?;
        map.serialize_entry("seq", &Of(self, Part::Seq))?;
        if let Some(at) = twin.updated_at {
            map.serialize_entry("updated_at", &at)?;
        }
        match &twin.attributes {
            Some(attributes) => map.serialize_entry("attributes", &attributes.all())?,
            None => map.serialize_entry("attributes", &serde_json::Map::new())?,
        }
        map.serialize_entry("state", &Of(self, Part::State))?;
        map.serialize_entry("kpis", &Of(self, Part::Kpis))?;
        map.serialize_entry("links", &Of(self, Part::Links))?;
        map.end()
    }
}

struct Shown<'a, T>(&'a T);

impl<T: std::fmt::Display> Serialize for Shown<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

impl<'a> Of<'a> {
    fn of(&self, part: Part<'a>) -> Of<'a> {
        Of(self.0, part)
    }

    fn state<S: SerializeMap>(&self, map: &mut S) -> Result<(), S::Error> {
        let (view, twin) = (self.0, self.0.twin);
        map.serialize_entry("quality", twin.quality(view.now))?;
        match &twin.nature {
            Nature::Machine(machine) => {
                if let (Some(execution), Some(since)) = (twin.execution(view.now), machine.since) {
                    map.serialize_entry("execution", execution)?;
                    map.serialize_entry("execution_since", &since)?;
                    map.serialize_entry("time_in_state_today_s", &self.of(Part::Times(&machine.today)))?;
                    map.serialize_entry("transitions_today", &machine.transitions_today)?;
                }
            }
            Nature::Location(location) => {
                if let Some(air) = twin.air(view.now) {
                    map.serialize_entry("air_quality", air.category)?;
                    map.serialize_entry("air_quality_reason", air.reason)?;
                }
                map.serialize_entry("jobs", &self.of(Part::Jobs))?;
                if !location.operators.is_empty() {
                    map.serialize_entry("operators", &self.of(Part::Operators))?;
                }
            }
            Nature::Job(job) => {
                if let Some(visit) = job.location() {
                    map.serialize_entry("location", &*visit.location)?;
                    map.serialize_entry("location_since", &visit.entered_at)?;
                    map.serialize_entry("last_seen_at", &visit.seen_at)?;
                    map.serialize_entry("status", if job.completed_at.is_some() { "completed" } else { "in_progress" })?;
                }
                for (name, value) in [
                    ("product_id", &job.product_id),
                    ("product_variant", &job.product_variant),
                    ("operator_id", &job.operator_id),
                ] {
                    if let Some(value) = value {
                        map.serialize_entry(name, &**value)?;
                    }
                }
                if let Some(at) = job.started_at {
                    map.serialize_entry("started_at", &at)?;
                }
                if let Some(at) = job.completed_at {
                    map.serialize_entry("completed_at", &at)?;
                }
                map.serialize_entry("flow_path", &self.of(Part::Path))?;
            }
        }
        map.serialize_entry("metrics", &self.of(Part::Metrics))
    }

    fn metric<S: SerializeMap>(&self, metric: &crate::metric::Metric, map: &mut S) -> Result<(), S::Error> {
        let twin = self.0.twin;
        match &metric.value {
            Value::Number(number) => map.serialize_entry("value", number)?,
            Value::Text(text) => map.serialize_entry("value", &**text)?,
            Value::Bool(yes) => map.serialize_entry("value", yes)?,
        }
        map.serialize_entry("at", &metric.at)?;
        let (_, unit) = declared(twin.config.as_deref(), &metric.name, metric.kind);
        if !unit.is_empty() {
            map.serialize_entry("unit", unit)?;
        }
        if self.0.now.ms_since(metric.at) > twin.stale_after_ms() {
            map.serialize_entry("quality", "stale")?;
        }
        Ok(())
    }

    fn kpis<S: SerializeMap>(&self, map: &mut S) -> Result<(), S::Error> {
        let twin = self.0.twin;
        let mut missing = false;
        for name in twin.kpi_names() {
            match twin.kpi(name) {
                Some(Ok(value)) => map.serialize_entry(name, &value)?,
                Some(Err(_)) => {
                    missing = true;
                    map.serialize_entry(name, &())?;
                }
                None => {}
            }
        }
        if let Nature::Job(job) = &twin.nature {
            map.serialize_entry("bottleneck", &job.bottleneck().map(|(location, _)| location))?;
        }
        if missing {
            map.serialize_entry("reasons", &self.of(Part::Reasons))?;
        }
        Ok(())
    }

    fn links<S: SerializeMap>(&self, map: &mut S) -> Result<(), S::Error> {
        let twin = self.0.twin;
        map.serialize_entry("self", &Shown(&format_args!("/v1/twins/{}", twin.id)))?;
        map.serialize_entry("history", &Shown(&format_args!("/v1/twins/{}/history", twin.id)))?;
        let location = match &twin.nature {
            Nature::Job(job) => job.location().map(|visit| &*visit.location),
            _ => twin.attributes.as_ref().and_then(|attributes| attributes.location()),
        };
        if let Some(location) = location {
            map.serialize_entry("location", &Shown(&format_args!("/v1/twins/location/{location}")))?;
        }
        Ok(())
    }

    fn list<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        match (&self.1, &self.0.twin.nature) {
            (Part::Path, Nature::Job(job)) => {
                for index in 0..job.visits.len() {
                    list.serialize_element(&self.of(Part::Visit(index)))?;
                }
            }
            (Part::Jobs, Nature::Location(location)) => {
                for (job, entered_at) in &location.jobs {
                    list.serialize_element(&self.of(Part::JobHere(job, *entered_at)))?;
                }
            }
            _ => {}
        }
        list.end()
    }
}

impl Serialize for Of<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (view, twin) = (self.0, self.0.twin);
        if matches!(self.1, Part::Path | Part::Jobs) {
            return self.list(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        match &self.1 {
            Part::Path | Part::Jobs => {}
            Part::Seq => {
                map.serialize_entry("shard", &twin.position.shard)?;
                map.serialize_entry("seq", &twin.position.seq)?;
            }
            Part::State => self.state(&mut map)?,
            Part::Metrics => {
                for metric in &twin.metrics.items {
                    map.serialize_entry(&*metric.name, &Of(view, Part::Metric(metric)))?;
                }
            }
            Part::Metric(metric) => self.metric(metric, &mut map)?,
            Part::Times(times) => {
                for (execution, ms) in Execution::ALL.into_iter().zip(times.iter()).filter(|(_, ms)| **ms > 0) {
                    map.serialize_entry(execution.as_str(), &(*ms as f64 / 1_000.0))?;
                }
            }
            Part::Visit(index) => {
                if let Nature::Job(job) = &twin.nature
                    && let Some(visit) = job.visits.get(*index)
                {
                    map.serialize_entry("location", &*visit.location)?;
                    map.serialize_entry("entered_at", &visit.entered_at)?;
                    let left_at = job.visits.get(index + 1).map(|next| next.entered_at).or(job.completed_at);
                    if let Some(left_at) = left_at {
                        map.serialize_entry("left_at", &left_at)?;
                    }
                    map.serialize_entry("dwell_s", &(job.dwell_ms(*index) as f64 / 1_000.0))?;
                }
            }
            Part::JobHere(job, entered_at) => {
                map.serialize_entry("job", job)?;
                map.serialize_entry("entered_at", entered_at)?;
            }
            Part::Operators => {
                if let Nature::Location(location) = &twin.nature {
                    for (operator, at) in &location.operators {
                        map.serialize_entry(&**operator, at)?;
                    }
                }
            }
            Part::Kpis => self.kpis(&mut map)?,
            Part::Reasons => {
                for name in twin.kpi_names() {
                    if let Some(Err(reason)) = twin.kpi(name) {
                        map.serialize_entry(name, reason)?;
                    }
                }
            }
            Part::Links => self.links(&mut map)?,
        }
        map.end()
    }
}

impl Twin {
    fn kpi_names(&self) -> &'static [&'static str] {
        match self.id.kind() {
            Kind::Machine => &MACHINE_KPIS,
            Kind::Location => &LOCATION_KPIS,
            Kind::Job => &JOB_KPIS,
        }
    }
}
