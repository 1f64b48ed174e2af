//! What applying a plant model would change, for people and for programs.
//!
//! Promises: lists every machine, location and sensor that is added, changed or removed, and for a change each field;
//! two equal models give an empty plan. Purely a comparison: knows nothing of what the twins hold.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    PlantModel,
    model::{UNKNOWN_SENSORS, word},
};

/// The difference between two plant models.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Plan {
    /// What the new model adds, in its order.
    pub added: Vec<PlanItem>,
    /// What both models have and describe differently.
    pub changed: Vec<PlanItem>,
    /// What the new model no longer has. Twins stay with their history, marked as removed.
    pub removed: Vec<PlanItem>,
    /// Settings of the model as a whole that change.
    pub settings: Vec<String>,
    /// How many things stay as they are.
    pub unchanged: usize,
}

/// One thing that a plan adds, changes or removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanItem {
    /// Which: `machine/cnc-07`, `location/cell-2` or `sensor/am319-01`.
    pub twin: String,
    /// Its fields: `location: cell-2`, or `location: cell-1 → cell-2` for a change.
    pub what: Vec<String>,
}

impl Plan {
    /// Whether applying the model would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.changed.is_empty()
            && self.removed.is_empty()
            && self.settings.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for setting in &self.settings {
            writeln!(f, "~ {setting}")?;
        }
        for (sign, items) in [('+', &self.added), ('~', &self.changed), ('-', &self.removed)] {
            for item in items {
                writeln!(f, "{sign} {}", item.twin)?;
                for what in &item.what {
                    writeln!(f, "    {what}")?;
                }
            }
        }
        let (added, changed, removed) = (self.added.len(), self.changed.len(), self.removed.len());
        write!(
            f,
            "{added} to add, {changed} to change, {removed} to remove, {} unchanged",
            self.unchanged
        )
    }
}

/// What applying `new` would change where `old` is in force.
#[must_use]
pub fn plan(old: Option<&PlantModel>, new: &PlantModel) -> Plan {
    let (order, now) = parts(new);
    let (old_order, before) = old.map(parts).unwrap_or_default();
    let mut plan = Plan::default();
    for twin in order {
        match (before.get(&twin), &now[&twin]) {
            (None, fields) => plan.added.push(PlanItem {
                what: listed(fields),
                twin,
            }),
            (Some(before), fields) if before == fields => plan.unchanged += 1,
            (Some(before), fields) => plan.changed.push(PlanItem {
                what: differences(before, fields),
                twin,
            }),
        }
    }
    let gone = old_order.into_iter().filter(|twin| !now.contains_key(twin));
    plan.removed = gone
        .map(|twin| PlanItem {
            twin,
            what: Vec::new(),
        })
        .collect();
    let was = old.map(|old| old.unknown_sensors).unwrap_or_default();
    if was != new.unknown_sensors {
        let (was, is) = (
            word(&UNKNOWN_SENSORS, was),
            word(&UNKNOWN_SENSORS, new.unknown_sensors),
        );
        plan.settings.push(format!("unknown_sensors: {was} → {is}"));
    }
    // What is said of classes, by name.
    let classes = |model: &PlantModel| -> Vec<(String, Map<String, Value>)> {
        let fields = |value: Option<Value>| value.and_then(|value| value.as_object().cloned());
        let computed = model.computed.iter().filter_map(|computed| {
            let value = fields(serde_json::to_value(computed).ok())?;
            Some((format!("computed.{}", computed.name), value))
        });
        let forecasts = model.forecast.iter().filter_map(|forecast| {
            let value = fields(serde_json::to_value(forecast).ok())?;
            Some((format!("forecast.{}", forecast.metric), value))
        });
        computed.chain(forecasts).collect()
    };
    let (was, is) = (old.map(classes).unwrap_or_default(), classes(new));
    for (name, fields) in &is {
        match was.iter().find(|(known, _)| known == name) {
            None => plan
                .settings
                .push(format!("{name}: (none) → {}", listed(fields).join(", "))),
            Some((_, before)) if before != fields => plan
                .settings
                .push(format!("{name}: {}", differences(before, fields).join(", "))),
            Some(_) => {}
        }
    }
    let gone = was
        .iter()
        .filter(|(name, _)| !is.iter().any(|(known, _)| known == name));
    plan.settings
        .extend(gone.map(|(name, _)| format!("{name}: removed")));
    plan
}

type Parts = (Vec<String>, BTreeMap<String, Map<String, Value>>);

/// The parts of a model by name, and their order.
fn parts(model: &PlantModel) -> Parts {
    let site = model
        .site
        .iter()
        .map(|site| ("location", serde_json::to_value(site)));
    let locations = model
        .locations
        .iter()
        .map(|location| ("location", serde_json::to_value(location)));
    let machines = model
        .machines
        .iter()
        .map(|machine| ("machine", serde_json::to_value(machine)));
    let sensors = model
        .sensors
        .iter()
        .map(|sensor| ("sensor", serde_json::to_value(sensor)));
    let (mut order, mut by_name) = (Vec::new(), BTreeMap::new());
    let alarms = model
        .alarms
        .iter()
        .map(|alarm| ("alarm", serde_json::to_value(alarm)));
    let readers = model
        .readers
        .iter()
        .map(|reader| ("reader", serde_json::to_value(reader)));
    let epcs = model.epcs.iter().map(|rule| ("epcs", serde_json::to_value(rule)));
    let all = site.chain(locations).chain(machines).chain(sensors);
    for (kind, value) in all.chain(readers).chain(epcs).chain(alarms) {
        if let Ok(Value::Object(mut fields)) = value {
            let name = if kind == "epcs" { "match" } else { "id" };
            let id = fields.remove(name).unwrap_or_default();
            let name = format!("{kind}/{}", id.as_str().unwrap_or_default());
            order.push(name.clone());
            by_name.insert(name, fields);
        }
    }
    (order, by_name)
}

fn listed(fields: &Map<String, Value>) -> Vec<String> {
    fields
        .iter()
        .map(|(name, value)| format!("{name}: {}", shown(value)))
        .collect()
}

fn differences(before: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let value =
        |fields: &Map<String, Value>, name: &str| fields.get(name).map_or_else(|| "(none)".into(), shown);
    let differing = names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name));
    differing
        .map(|name| format!("{name}: {} → {}", value(before, name), value(now, name)))
        .collect()
}

/// A value as people read it, in at most 120 characters.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= 120 {
        text
    } else {
        text.chars().take(119).chain(['…']).collect()
    }
}
