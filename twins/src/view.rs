//! A twin as JSON, in the shape of the public contract; written straight to the serializer.
//!
//! Promises: a value that was never received is absent, a stale one says so, a KPI without data is null with its
//! reason beside it. KPIs are as of the newest event; `now` only decides what is stale.

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use crate::{
    air::AirView,
    attributes::Attributes,
    config::Execution,
    defaults::declared_unit,
    event::Value,
    forecast::Anomalies,
    job::{self, Dwell},
    kpis::{self, Basis},
    machine::{Machine, view::RunView},
    time::Timestamp,
    twin::{Nature, Twin},
};

/// A twin as it is shown at a time.
pub struct TwinView<'a> {
    pub(crate) twin: &'a Twin,
    pub(crate) now: Timestamp,
    basis: Basis<'a>,
}

impl Twin {
    /// The shifts of a machine, the one that is on first, then the newest; of a location those of its machines that
    /// are over. A job has none.
    #[must_use]
    pub fn shifts(&self) -> Vec<RunView> {
        let ideal_cycle_s = self.config.as_ref().and_then(|config| config.ideal_cycle_s);
        match (&self.nature, self.machine_now()) {
            (_, Some(machine)) => machine.shifts(ideal_cycle_s),
            (Nature::Location(location), _) => location.line.shifts(),
            _ => Vec::new(),
        }
    }

    /// The jobs of a machine, as its shifts.
    #[must_use]
    pub fn jobs(&self) -> Vec<RunView> {
        let ideal_cycle_s = self.config.as_ref().and_then(|config| config.ideal_cycle_s);
        let machine = self.machine_now();
        machine.map_or_else(Vec::new, |machine| machine.jobs(ideal_cycle_s))
    }

    /// The KPIs of which there are data, by name.
    #[must_use]
    pub fn kpi_values(&self) -> Vec<(&'static str, f64)> {
        let basis = self.basis();
        kpis::names(self.id.kind())
            .iter()
            .filter_map(|name| Some((*name, self.kpi(name, &basis)?.ok()?)))
            .collect()
    }

    /// The twin as it is shown at `now`.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> TwinView<'_> {
        TwinView {
            twin: self,
            now,
            basis: self.basis(),
        }
    }

    /// `good`, `stale`, `bad` (the sender judged it below 0.5), `suspect` (a value breaks its contract) or `unknown` (no data yet).
    pub(crate) fn quality(&self, now: Timestamp) -> &'static str {
        match (self.data_at, &self.nature) {
            (None, Nature::Job(job)) if job.scans > 0 => "good",
            (None, _) => "unknown",
            _ if self.is_stale(now) => "stale",
            _ if self.quality_score.is_some_and(|score| score < 0.5) => "bad",
            _ if self.has_marks() => "suspect",
            _ => "good",
        }
    }

    /// The execution state as it is shown: unknown while the machine is stale.
    pub(crate) fn execution(&self, machine: &Machine, now: Timestamp) -> Option<&'static str> {
        machine.since?;
        Some(if self.is_stale(now) {
            Execution::Unknown.as_str()
        } else {
            machine.execution.as_str()
        })
    }

    /// When the execution state that is shown began.
    pub(crate) fn execution_since(&self, machine: &Machine, now: Timestamp) -> Option<Timestamp> {
        let gone = self.data_at.map(|data_at| data_at.plus_ms(self.stale_after_ms()));
        machine.since.map(|since| {
            if self.is_stale(now) {
                gone.unwrap_or(since).max(since)
            } else {
                since
            }
        })
    }
}

/// The attributes of a twin as a JSON object.
pub(crate) struct AllAttributes<'a>(pub(crate) Option<&'a Attributes>);

impl Serialize for AllAttributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(attributes) = self.0 {
            attributes.entries(&mut map)?;
        }
        map.end()
    }
}

/// A part of the view that is an object of its own.
enum Part<'a> {
    Seq,
    State,
    Metrics,
    Metric(&'a crate::metric::Metric),
    /// A metric without a value, and why.
    Absent(&'a str, &'a str),
    Path,
    Visit(usize),
    Dwell(&'a [Dwell]),
    DwellAt(&'a Dwell),
    Jobs,
    JobHere(&'a str, Timestamp),
    Operators,
    Machines,
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
        map.serialize_entry("attributes", &AllAttributes(twin.attributes.as_deref()))?;
        map.serialize_entry("state", &Of(self, Part::State))?;
        map.serialize_entry("kpis", &Of(self, Part::Kpis))?;
        if let Some(alarms) = twin.alarm_summary() {
            map.serialize_entry("alarms", &alarms)?;
        }
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
            Nature::Machine(sealed) => {
                let machine = view.basis.machine().unwrap_or(sealed);
                if let (Some(execution), Some(since)) = (
                    twin.execution(machine, view.now),
                    twin.execution_since(machine, view.now),
                ) {
                    map.serialize_entry("execution", execution)?;
                    map.serialize_entry("execution_since", &since)?;
                    map.serialize_entry("since", &since)?;
                    let ideal_cycle_s = twin.config.as_ref().and_then(|config| config.ideal_cycle_s);
                    machine.entries(map, ideal_cycle_s)?;
                }
            }
            Nature::Location(location) => {
                if let Some(air) = twin.air_category(view.now) {
                    map.serialize_entry("air_quality", air.word)?;
                    map.serialize_entry("air_quality_reason", air.why)?;
                }
                let now = view.now;
                map.serialize_entry("air", &AirView { twin, location, now })?;
                map.serialize_entry("jobs", &self.of(Part::Jobs))?;
                if location.unlisted > 0 {
                    map.serialize_entry("jobs_unlisted", &location.unlisted)?;
                }
                if !location.line.is_empty() {
                    map.serialize_entry("machines", &self.of(Part::Machines))?;
                    location.line.entries(map)?;
                }
                if !location.operators.is_empty() {
                    map.serialize_entry("operators", &self.of(Part::Operators))?;
                }
            }
            Nature::Job(job) => {
                if let Some(visit) = job.location() {
                    map.serialize_entry("location", &*visit.location)?;
                    map.serialize_entry("location_since", &visit.entered_at)?;
                    map.serialize_entry("last_seen_at", &visit.seen_at)?;
                }
                if let Some(status) = job.status() {
                    map.serialize_entry("status", status)?;
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
                map.serialize_entry("dwell", &self.of(Part::Dwell(&job.dwell_by_location())))?;
                job::view::entries(job, view.now, map)?;
            }
        }
        map.serialize_entry("metrics", &self.of(Part::Metrics))?;
        if let Some(quality) = twin.quality_in_short() {
            map.serialize_entry("data_quality", &quality)?;
        }
        if twin.forecasts.is_some() {
            map.serialize_entry("anomalies", &Anomalies(twin))?;
        }
        if twin.metrics.refused > 0 {
            map.serialize_entry("values_refused", &twin.metrics.refused)?;
        }
        if twin.is_removed() {
            map.serialize_entry("removed", &true)?;
        }
        Ok(())
    }

    fn metric<S: SerializeMap>(&self, metric: &crate::metric::Metric, map: &mut S) -> Result<(), S::Error> {
        let twin = self.0.twin;
        match &metric.value {
            Value::Number(number) => map.serialize_entry("value", number)?,
            Value::Text(text) => map.serialize_entry("value", &**text)?,
            Value::Bool(yes) => map.serialize_entry("value", yes)?,
        }
        map.serialize_entry("at", &metric.at)?;
        let unit = declared_unit(twin.config.as_deref(), &metric.name);
        if !unit.is_empty() {
            map.serialize_entry("unit", unit)?;
        }
        if twin.is_old(metric.at, self.0.now) {
            map.serialize_entry("quality", "stale")?;
        } else if twin.has_marks() && twin.is_marked(&metric.name) {
            map.serialize_entry("quality", "suspect")?;
        }
        Ok(())
    }

    fn kpis<S: SerializeMap>(&self, map: &mut S) -> Result<(), S::Error> {
        let twin = self.0.twin;
        let mut missing = false;
        for name in kpis::names(twin.id.kind()) {
            match twin.kpi(name, &self.0.basis) {
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
        if let Some(day) = twin.kpi_day(&self.0.basis) {
            map.serialize_entry("day_start", &day)?;
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
            _ => twin
                .attributes
                .as_ref()
                .and_then(|attributes| attributes.location()),
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
                for metric in twin.metrics.items.iter().filter(|metric| !metric.lapsed) {
                    map.serialize_entry(&*metric.name, &Of(view, Part::Metric(metric)))?;
                }
                for (name, reason) in twin.absent_computed() {
                    map.serialize_entry(name, &Of(view, Part::Absent(name, &reason)))?;
                }
            }
            Part::Metric(metric) => self.metric(metric, &mut map)?,
            Part::Absent(name, reason) => {
                map.serialize_entry("value", &())?;
                map.serialize_entry("reason", reason)?;
                let unit = declared_unit(twin.config.as_deref(), name);
                if !unit.is_empty() {
                    map.serialize_entry("unit", unit)?;
                }
            }
            Part::Visit(index) => {
                if let Nature::Job(job) = &twin.nature
                    && let Some(visit) = job.visits.get(*index)
                {
                    map.serialize_entry("location", &*visit.location)?;
                    map.serialize_entry("entered_at", &visit.entered_at)?;
                    if let Some(left_at) = job.left_at(*index) {
                        map.serialize_entry("left_at", &left_at)?;
                    }
                    map.serialize_entry("dwell_s", &(job.dwell_ms(*index) as f64 / 1_000.0))?;
                }
            }
            Part::Dwell(dwell) => {
                for dwell in *dwell {
                    map.serialize_entry(&*dwell.location, &self.of(Part::DwellAt(dwell)))?;
                }
            }
            Part::DwellAt(dwell) => {
                map.serialize_entry("dwell_s", &(dwell.ms as f64 / 1_000.0))?;
                map.serialize_entry("visits", &dwell.visits)?;
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
            Part::Machines => {
                if let Nature::Location(location) = &twin.nature {
                    for (execution, number) in location.line.counts() {
                        map.serialize_entry(execution, &number)?;
                    }
                }
            }
            Part::Kpis => self.kpis(&mut map)?,
            Part::Reasons => {
                for name in kpis::names(twin.id.kind()) {
                    if let Some(Err(reason)) = twin.kpi(name, &view.basis) {
                        map.serialize_entry(name, reason)?;
                    }
                }
            }
            Part::Links => self.links(&mut map)?,
        }
        map.end()
    }
}
