//! One field of a twin by its path, without making the twin's JSON: what search filters look at.
//!
//! Promises: agrees with the JSON of `view.rs`; allocates nothing for numbers and for texts the twin holds.

use std::borrow::Cow;

use crate::{
    event::Value,
    time::Timestamp,
    twin::{Nature, Twin, declared},
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
            ["kpis", name] => self.kpi_field(name),
            ["state", "metrics", name, part] => self.metric_field(name, part, now),
            ["state", "metrics", name] => self.metrics.get(name).map(|_| Field::Composite),
            ["state", name] => self.state_field(name, now),
            ["state", "time_in_state_today_s" | "operators", ..] | ["links", ..] => Some(Field::Composite),
            _ => None,
        }
    }

    fn attribute(&self, path: &[&str]) -> Option<Field<'_>> {
        let attributes = self.attributes.as_deref()?;
        let (name, rest) = path.split_first()?;
        let Some(mut value) = attributes.get(name) else {
            let sensed = attributes.sensed_location.as_deref().filter(|_| *name == "location" && rest.is_empty())?;
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
            return Some(job.bottleneck().map_or(Field::Null, |(location, _)| Field::Text(location.into_string().into())));
        }
        if name == "reasons" {
            return Some(Field::Composite);
        }
        self.kpi(name).map(|kpi| kpi.map_or(Field::Null, Field::Number))
    }

    fn metric_field(&self, name: &str, part: &str, now: Timestamp) -> Option<Field<'_>> {
        let metric = self.metrics.get(name)?;
        match part {
            "value" => Some(match &metric.value {
                Value::Number(number) => Field::Number(*number),
                Value::Text(text) => Field::Text((&**text).into()),
                Value::Bool(yes) => Field::Bool(*yes),
            }),
            "at" => Some(Field::Text(metric.at.to_string().into())),
            "unit" => {
                let (_, unit) = declared(self.config.as_deref(), &metric.name, metric.kind);
                (!unit.is_empty()).then_some(Field::Text(unit.into()))
            }
            "quality" => (now.ms_since(metric.at) > self.stale_after_ms()).then_some(Field::Text("stale".into())),
            _ => None,
        }
    }

    fn state_field(&self, name: &str, now: Timestamp) -> Option<Field<'_>> {
        let text = |text: &str| Some(Field::Text(text.to_owned().into()));
        let time = |at: Option<Timestamp>| at.map(|at| Field::Text(at.to_string().into()));
        match (name, &self.nature) {
            ("quality", _) => Some(Field::Text(self.quality(now).into())),
            ("metrics", _) => Some(Field::Composite),
            ("execution", Nature::Machine(_)) => self.execution(now).map(|execution| Field::Text(execution.into())),
            ("execution_since", Nature::Machine(machine)) => time(machine.since),
            ("time_in_state_today_s", Nature::Machine(machine)) => machine.since.map(|_| Field::Composite),
            ("transitions_today", Nature::Machine(machine)) => {
                machine.since.map(|_| Field::Number(f64::from(machine.transitions_today)))
            }
            ("air_quality", Nature::Location(_)) => self.air(now).map(|air| Field::Text(air.category.into())),
            ("air_quality_reason", Nature::Location(_)) => self.air(now).map(|air| Field::Text(air.reason.into())),
            ("jobs", Nature::Location(_)) | ("flow_path", Nature::Job(_)) => Some(Field::Composite),
            ("operators", Nature::Location(location)) => (!location.operators.is_empty()).then_some(Field::Composite),
            ("location", Nature::Job(job)) => job.location().and_then(|visit| text(&visit.location)),
            ("location_since", Nature::Job(job)) => time(job.location().map(|visit| visit.entered_at)),
            ("last_seen_at", Nature::Job(job)) => time(job.location().map(|visit| visit.seen_at)),
            ("status", Nature::Job(job)) => {
                job.location().and_then(|_| text(if job.completed_at.is_some() { "completed" } else { "in_progress" }))
            }
            ("product_id", Nature::Job(job)) => job.product_id.as_deref().and_then(text),
            ("product_variant", Nature::Job(job)) => job.product_variant.as_deref().and_then(text),
            ("operator_id", Nature::Job(job)) => job.operator_id.as_deref().and_then(text),
            ("started_at", Nature::Job(job)) => time(job.started_at),
            ("completed_at", Nature::Job(job)) => time(job.completed_at),
            _ => None,
        }
    }
}
