//! What is known of a sensor, as JSON.
//!
//! Promises: completeness is null, with the reason, where no period is agreed; the score is of what was sent and, where
//! a period is agreed, of what was not.

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::{Change, Field, Rule, Sensor};
use crate::{defaults::declared_unit, time::Timestamp, twin::Twin};

/// A sensor of a twin as it is shown at a time.
pub struct SensorView<'a> {
    twin: &'a Twin,
    sensor: &'a Sensor,
    now: Timestamp,
}

impl Twin {
    /// The sensors that feed it, as they are shown at `now`.
    pub fn sensors(&self, now: Timestamp) -> impl Iterator<Item = SensorView<'_>> {
        let quality = self.quality_of_data.as_deref();
        quality
            .into_iter()
            .flat_map(|quality| &quality.sensors)
            .map(move |sensor| SensorView {
                twin: self,
                sensor,
                now,
            })
    }

    /// About how many bytes data quality takes in memory.
    #[must_use]
    pub fn data_quality_bytes(&self) -> usize {
        self.quality_of_data
            .as_deref()
            .map_or(0, super::Quality::heap_bytes)
    }

    /// Whether its newest value of a metric breaks a contract.
    pub(crate) fn is_marked(&self, metric: &str) -> bool {
        let marked = self
            .quality_of_data
            .as_deref()
            .map_or(&[][..], |quality| &quality.marked);
        marked.iter().any(|number| self.metric_name(*number) == metric)
    }

    pub(crate) fn has_marks(&self) -> bool {
        self.quality_of_data
            .as_deref()
            .is_some_and(|quality| !quality.marked.is_empty())
    }

    fn metric_name(&self, number: u16) -> &str {
        let metric = self.metrics.items.get(usize::from(number));
        metric.map_or("", |metric| &metric.name)
    }

    /// The sensors' quality in short, where a contract is agreed.
    pub(crate) fn quality_in_short(&self) -> Option<impl Serialize + '_> {
        let quality = self.quality_of_data.as_deref()?;
        let agreed = |sensor: &&Sensor| {
            let more = sensor.more.as_deref();
            more.is_some_and(|more| more.pace.is_some() || more.broken.iter().any(|count| *count > 0))
        };
        quality
            .sensors
            .iter()
            .any(|sensor| agreed(&sensor))
            .then_some(InShort(self))
    }
}

struct InShort<'a>(&'a Twin);

impl Serialize for InShort<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let twin = self.0;
        // As of its newest data, so that it changes only with events.
        let now = twin.data_at.unwrap_or_default();
        let mut map = serializer.serialize_map(None)?;
        let worst = twin
            .sensors(now)
            .filter_map(|sensor| sensor.score())
            .min_by(f64::total_cmp);
        map.serialize_entry("score", &worst)?;
        let counts = twin
            .sensors(now)
            .map(|sensor| sensor.broken().map(u64::from).sum::<u64>());
        map.serialize_entry("violations", &counts.sum::<u64>())?;
        if let Some(quality) = twin.quality_of_data.as_deref().filter(|_| twin.has_marks()) {
            let mut marked: Vec<&str> = quality
                .marked
                .iter()
                .map(|number| twin.metric_name(*number))
                .collect();
            marked.sort_unstable();
            map.serialize_entry("marked", &marked)?;
        }
        map.end()
    }
}

impl SensorView<'_> {
    fn completeness(&self) -> Option<f64> {
        let pace = self.sensor.more.as_deref()?.pace.as_ref()?;
        Some(rounded(pace.completeness(self.now)))
    }

    fn score(&self) -> Option<f64> {
        let conforming = f64::from(self.sensor.conforming);
        (self.sensor.readings > 0).then(|| rounded(conforming * self.completeness().unwrap_or(1.0)))
    }

    fn broken(&self) -> impl Iterator<Item = u32> {
        let more = self.sensor.more.as_deref();
        more.map_or([0; Rule::ALL.len()], |more| more.broken).into_iter()
    }
}

/// To four places: what is behind them says nothing and reads badly.
fn rounded(share: f64) -> f64 {
    (share * 10_000.0).round() / 10_000.0
}

impl Serialize for SensorView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sensor = self.sensor;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("sensor", &*sensor.id)?;
        map.serialize_entry("twin", &self.twin.id.to_string())?;
        map.serialize_entry("score", &self.score())?;
        map.serialize_entry("completeness", &self.completeness())?;
        if self.completeness().is_none() {
            map.serialize_entry(
                "reason",
                "no period is agreed (contract.period in the plant model)",
            )?;
        }
        let age_ms = self.now.ms_since(sensor.last_at).max(0);
        map.serialize_entry("freshness_s", &(age_ms as f64 / 1_000.0))?;
        map.serialize_entry("last_at", &sensor.last_at)?;
        map.serialize_entry("since", &sensor.first_at)?;
        map.serialize_entry("readings", &sensor.readings)?;
        map.serialize_entry("schema", &Schema(self.twin, &sensor.fields))?;
        map.serialize_entry("violations", &Violations(self))?;
        if let Some(more) = sensor.more.as_deref() {
            if let Some((rule, metric, at)) = &more.last {
                map.serialize_entry("last_violation", &LastViolation(*rule, metric, *at))?;
            }
            if !more.changes.is_empty() {
                map.serialize_entry("schema_changes", &Changes(self.twin, &more.changes))?;
            }
        }
        map.end()
    }
}

struct Schema<'a>(&'a Twin, &'a [Field]);

impl Serialize for Schema<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.1.len()))?;
        for field in self.1 {
            list.serialize_element(&FieldView(self.0, field))?;
        }
        list.end()
    }
}

struct FieldView<'a>(&'a Twin, &'a Field);

impl Serialize for FieldView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = self.0.metric_name(self.1.metric);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("metric", name)?;
        map.serialize_entry("types", &kinds(self.1.kinds))?;
        let unit = declared_unit(self.0.config.as_deref(), name);
        if !unit.is_empty() {
            map.serialize_entry("unit", unit)?;
        }
        map.end()
    }
}

fn kinds(bits: u8) -> Vec<&'static str> {
    let all = [(1, "number"), (2, "text"), (4, "bool")];
    all.iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, word)| *word)
        .collect()
}

struct Violations<'a>(&'a SensorView<'a>);

impl Serialize for Violations<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = Rule::ALL
            .into_iter()
            .zip(self.0.broken())
            .filter(|(_, count)| *count > 0);
        serializer.collect_map(counts.map(|(rule, count)| (rule.as_str(), count)))
    }
}

struct LastViolation<'a>(Rule, &'a str, Timestamp);

impl Serialize for LastViolation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("rule", self.0.as_str())?;
        map.serialize_entry("metric", self.1)?;
        map.serialize_entry("at", &self.2)?;
        map.end()
    }
}

struct Changes<'a>(&'a Twin, &'a [Change]);

impl Serialize for Changes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.1.len()))?;
        for change in self.1 {
            list.serialize_element(&ChangeView(self.0, change))?;
        }
        list.end()
    }
}

struct ChangeView<'a>(&'a Twin, &'a Change);

impl Serialize for ChangeView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let change = self.1;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("at", &change.at)?;
        map.serialize_entry("metric", self.0.metric_name(change.metric))?;
        if change.kinds_before == 0 {
            map.serialize_entry("change", "added")?;
        } else {
            map.serialize_entry("change", "type")?;
            map.serialize_entry("types_before", &kinds(change.kinds_before))?;
        }
        map.serialize_entry("type", &kinds(change.kind).first())?;
        map.end()
    }
}
