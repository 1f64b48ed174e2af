//! One field of a twin by its path, without making the twin's JSON: what search filters look at.
//!
//! Promises: agrees with the JSON of `view.rs`; allocates nothing for numbers and for texts the twin holds.

use std::borrow::Cow;

use crate::{
    defaults::declared_unit,
    event::Value,
    kpis,
    time::Timestamp,
    twin::{Nature, Twin},
};

/// What stands at a path.
#[derive(Debug, Clone, PartialEq)]
pub enum Field<'a> {
    /// `null`.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// An object or a list: look into the JSON.
    Composite,
}

impl Twin {
    /// The field at a path such as `["kpis", "oee"]` as it is shown at `now`; `None` where the JSON has none.
    #[must_use]
    pub fn field(&self, path: &[&str], now: Timestamp) -> Option<Field<'_>> {
        match path {
            ["twin"] => Some(Field::Text(self.id.to_string().into())),
            ["kind"] => Some(Field::Text(self.id.kind().as_str().into())),
            ["id"] => Some(Field::Text(self.id.id().into())),
            ["rev"] => Some(Field::Number(self.rev as f64)),
            ["updated_at"] => self.updated_at.map(|at| Field::Text(at.to_string().into())),
            ["seq"] | ["attributes"] | ["state"] | ["kpis"] | ["links"] => Some(Field::Composite),
            ["seq", "shard"] => Some(Field::Number(f64::from(self.position.shard))),
            ["seq", "seq"] => Some(Field::Number(self.position.seq as f64)),
            ["attributes", rest @ ..] => self.attribute(rest),
            ["alarms"] => self.alarm_summary().map(|_| Field::Composite),
            ["alarms", name] => self.alarm_field(name),
            ["kpis", name] => self.kpi_field(name),
            ["state", "metrics", name, part] => self.metric_field(name, part, now),
            ["state", "metrics", name] => {
                let is_there = self.metrics.get(name).is_some() || self.absent(name).is_some();
                is_there.then_some(Field::Composite)
            }
            ["state", name] => self.state_field(name, now),
            // Deeper than what filters commonly ask for.
            ["state" | "kpis" | "links", ..] => Some(Field::Composite),
            _ => None,
        }
    }

    fn attribute(&self, path: &[&str]) -> Option<Field<'_>> {
        let attributes = self.attributes.as_deref()?;
        let (name, rest) = path.split_first()?;
        let Some(mut value) = attributes.get(name) else {
            let sensed = attributes
                .sensed_location
                .as_deref()
                .filter(|_| *name == "location" && rest.is_empty())?;
            return Some(Field::Text(sensed.into()));
        };
        for name in rest {
            value = value.get(name)?;
        }
        Some(match value {
            serde_json::Value::Null => Field::Null,
            serde_json::Value::Bool(yes) => Field::Bool(*yes),
            serde_json::Value::Number(number) => Field::Number(number.as_f64()?),
            serde_json::Value::String(text) => Field::Text(text.as_str().into()),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => Field::Composite,
        })
    }

    fn kpi_field(&self, name: &str) -> Option<Field<'_>> {
        if name == "bottleneck"
            && let Nature::Job(job) = &self.nature
        {
            return Some(
                job.bottleneck()
                    .map_or(Field::Null, |(location, _)| Field::Text(location.into())),
            );
        }
        if name == "day_start" {
            return self
                .kpi_day(&self.basis())
                .map(|day| Field::Text(day.to_string().into()));
        }
        if name == "reasons" {
            let (mut kpis, basis) = (kpis::names(self.id.kind()).iter(), self.basis());
            return kpis
                .any(|name| matches!(self.kpi(name, &basis), Some(Err(_))))
                .then_some(Field::Composite);
        }
        let kpi = self.kpi(name, &self.basis());
        kpi.map(|kpi| kpi.map_or(Field::Null, Field::Number))
    }

    /// Why a computed metric has no value.
    fn absent(&self, name: &str) -> Option<Cow<'static, str>> {
        self.absent_computed()
            .find(|(absent, _)| *absent == name)
            .map(|(_, reason)| reason)
    }

    fn metric_field(&self, name: &str, part: &str, now: Timestamp) -> Option<Field<'_>> {
        let Some(metric) = self.metrics.get(name) else {
            let reason = self.absent(name)?;
            let unit = declared_unit(self.config.as_deref(), name);
            return match part {
                "value" => Some(Field::Null),
                "reason" => Some(Field::Text(reason)),
                "unit" => (!unit.is_empty()).then_some(Field::Text(unit.into())),
                _ => None,
            };
        };
        match part {
            "value" => Some(match &metric.value {
                Value::Number(number) => Field::Number(*number),
                Value::Text(text) => Field::Text((&**text).into()),
                Value::Bool(yes) => Field::Bool(*yes),
            }),
            "at" => Some(Field::Text(metric.at.to_string().into())),
            "unit" => {
                let unit = declared_unit(self.config.as_deref(), &metric.name);
                (!unit.is_empty()).then_some(Field::Text(unit.into()))
            }
            "quality" if self.is_old(metric.at, now) => Some(Field::Text("stale".into())),
            "quality" => self.is_marked(name).then_some(Field::Text("suspect".into())),
            _ => None,
        }
    }

    fn state_field(&self, name: &str, now: Timestamp) -> Option<Field<'_>> {
        let time = |at: Option<Timestamp>| at.map(|at| Field::Text(at.to_string().into()));
        match name {
            "quality" => return Some(Field::Text(self.quality(now).into())),
            "metrics" => return Some(Field::Composite),
            "values_refused" => {
                return (self.metrics.refused > 0).then_some(Field::Number(self.metrics.refused as f64));
            }
            "data_quality" => return self.quality_in_short().map(|_| Field::Composite),
            "anomalies" => return self.forecasts.as_ref().map(|_| Field::Composite),
            "removed" => return self.is_removed().then_some(Field::Bool(true)),
            _ => {}
        }
        match &self.nature {
            Nature::Machine(_) => {
                let machine = self.machine_now()?;
                machine.since?;
                match name {
                    "execution" => self
                        .execution(&machine, now)
                        .map(|execution| Field::Text(execution.into())),
                    "execution_since" | "since" => time(self.execution_since(&machine, now)),
                    "time_in_state_s"
                    | "time_in_state_today_s"
                    | "time_in_state_total_s"
                    | "downtime"
                    | "micro_stops" => Some(Field::Composite),
                    "transitions_today" => Some(Field::Number(f64::from(machine.day.transitions))),
                    "shift" => Some(machine.shift.as_ref().map_or(Field::Null, |_| Field::Composite)),
                    "job" => machine.job.as_ref().map(|_| Field::Composite),
                    _ => None,
                }
            }
            Nature::Location(location) => match name {
                "air_quality" => self.air_category(now).map(|air| Field::Text(air.word.into())),
                "air_quality_reason" => self.air_category(now).map(|air| Field::Text(air.why.into())),
                "air" | "jobs" => Some(Field::Composite),
                "machines" | "time_in_state_s" | "downtime" | "micro_stops" => {
                    (!location.line.is_empty()).then_some(Field::Composite)
                }
                "jobs_unlisted" => (location.unlisted > 0).then_some(Field::Number(location.unlisted as f64)),
                "operators" => (!location.operators.is_empty()).then_some(Field::Composite),
                _ => None,
            },
            Nature::Job(job) => match name {
                "location" => job.location().map(|visit| Field::Text((&*visit.location).into())),
                "location_since" => time(job.location().map(|visit| visit.entered_at)),
                "last_seen_at" => time(job.location().map(|visit| visit.seen_at)),
                "status" => job.status().map(|status| Field::Text(status.into())),
                "product_id" => text(&job.product_id),
                "product_variant" => text(&job.product_variant),
                "operator_id" => text(&job.operator_id),
                "started_at" => time(job.started_at),
                "completed_at" => time(job.completed_at),
                "flow_path" | "dwell" | "path" => Some(Field::Composite),
                // Made as JSON: they depend on the time it is, or may be null.
                "bottleneck" | "estimated_completion" | "estimated_completion_reason" | "late_by_s" => {
                    Some(Field::Composite)
                }
                _ => None,
            },
        }
    }
}

fn text(text: &Option<Box<str>>) -> Option<Field<'_>> {
    text.as_deref().map(|text| Field::Text(text.into()))
}
