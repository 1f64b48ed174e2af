//! Data contracts as the plant model says them: of a sensor, or of all sensors of a machine or a location.
//!
//! Promises: what a contract rejects is decided here, by the reading and the model alone, before anything is journaled;
//! what it only marks is left to the fold. Names are those at the twin. A unit is compared with what else is said of
//! the metric, never converted.

use std::collections::{BTreeMap, HashMap};

use gemba_twins::{
    event::Reading,
    expr::ValueKind,
    id::Kind,
    quality::{Contract, MetricContract},
};
use serde::{Serialize, Serializer};

use super::{
    PlantModel, Span,
    configs::declared,
    fields::{Fields, WORDS_MAX, shortened},
    model::word,
    written::{Problems, Tree},
};
use crate::decode::{Rejection, quoted};

const TYPES: [(&str, ValueKind); 3] = [
    ("number", ValueKind::Number),
    ("text", ValueKind::Text),
    ("bool", ValueKind::Bool),
];
const ON_VIOLATION: [(&str, OnViolation); 2] =
    [("accept", OnViolation::Accept), ("reject", OnViolation::Reject)];
/// Most words of an enumeration.
const ONE_OF_MAX: usize = 64;

/// What becomes of what breaks a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnViolation {
    /// It is taken, marked and counted.
    #[default]
    Accept,
    /// The message is kept among the rejected ones.
    Reject,
}

/// A data contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataContract {
    /// How often a sensor sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Span>,
    /// Metrics that every reading holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<Box<str>>,
    /// What becomes of what breaks it.
    #[serde(serialize_with = "as_on_violation", skip_serializing_if = "is_accept")]
    pub on_violation: OnViolation,
    /// What is agreed of single metrics.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<Box<str>, MetricTerms>,
}

/// What is agreed of one metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricTerms {
    /// What its values are.
    #[serde(
        rename = "type",
        serialize_with = "as_type",
        skip_serializing_if = "Option::is_none"
    )]
    pub kind: Option<ValueKind>,
    /// Its unit; has to be that of the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Box<str>>,
    /// Its smallest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Its largest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The most it changes in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate_per_s: Option<f64>,
    /// The words it may be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<Box<str>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_accept(on_violation: &OnViolation) -> bool {
    *on_violation == OnViolation::Accept
}

fn as_on_violation<S: Serializer>(value: &OnViolation, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word(&ON_VIOLATION, *value))
}

fn as_type<S: Serializer>(value: &Option<ValueKind>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|value| word(&TYPES, value)).serialize(serializer)
}

impl Fields<'_, '_> {
    pub(super) fn contract(&mut self) -> Option<DataContract> {
        let tree = self.get("contract")?;
        let path = self.at("contract");
        read(tree, path, self.problems)
    }

    pub(super) fn finite(&mut self, field: &str) -> Option<f64> {
        let number = match self.get(field)? {
            Tree::Number(number) => number.as_f64().filter(|number| number.is_finite()),
            _ => None,
        };
        if number.is_none() {
            self.problem(field, "a number is needed");
        }
        number
    }
}

fn read(tree: &Tree, path: String, problems: &mut Problems) -> Option<DataContract> {
    let known = ["period", "required", "on_violation", "metrics"];
    let mut fields = Fields::of(tree, path, &known, problems)?;
    let mut metrics = BTreeMap::new();
    for (name, tree) in fields.map("metrics") {
        let field = format!("metrics.{}", shortened(name));
        let path = fields.at(&field);
        if !super::read::is_metric_name(name) {
            fields.problem(&field, "is not a metric's name");
        } else if let Some(terms) = terms(tree, path, fields.problems) {
            metrics.insert(name.as_str().into(), terms);
        }
    }
    Some(DataContract {
        period: fields.span("period"),
        required: fields.list("required", super::read::metric_name),
        on_violation: fields.one_of("on_violation", &ON_VIOLATION).unwrap_or_default(),
        metrics,
    })
}

fn terms(tree: &Tree, path: String, problems: &mut Problems) -> Option<MetricTerms> {
    let known = ["type", "unit", "min", "max", "max_rate_per_s", "one_of"];
    let mut fields = Fields::of(tree, path, &known, problems)?;
    let terms = MetricTerms {
        kind: fields.one_of("type", &TYPES),
        unit: fields.words("unit"),
        min: fields.finite("min"),
        max: fields.finite("max"),
        max_rate_per_s: fields.finite("max_rate_per_s"),
        one_of: fields.list("one_of", one_word),
    };
    if let (Some(min), Some(max)) = (terms.min, terms.max)
        && min > max
    {
        fields.problem("min", &format!("{min} is above max, {max}"));
    }
    if terms.max_rate_per_s.is_some_and(|rate| rate <= 0.0) {
        fields.problem("max_rate_per_s", "a number above 0 is needed");
    }
    if terms.one_of.len() > ONE_OF_MAX {
        fields.problem("one_of", &format!("at most {ONE_OF_MAX} words are allowed"));
    }
    let of_numbers = terms.min.is_some() || terms.max.is_some() || terms.max_rate_per_s.is_some();
    let wrong = match terms.kind {
        Some(ValueKind::Number) | None => !terms.one_of.is_empty() && of_numbers,
        Some(_) => of_numbers,
    } || matches!(terms.kind, Some(ValueKind::Number | ValueKind::Bool))
        && !terms.one_of.is_empty();
    if wrong {
        fields.problem(
            "type",
            "min, max and max_rate_per_s are of numbers, one_of is of text",
        );
    }
    Some(terms)
}

fn one_word(tree: &Tree, path: String, problems: &mut Problems) -> Option<Box<str>> {
    match tree {
        Tree::Text(text) if (1..=WORDS_MAX).contains(&text.chars().count()) => Some(text.as_str().into()),
        _ => {
            problems.add(
                path,
                format!("a word of 1 to {WORDS_MAX} characters is needed (put it in quotes)"),
            );
            None
        }
    }
}

/// All contracts, with their paths: whose twin, which sensor (empty for all), what.
fn all(model: &PlantModel) -> impl Iterator<Item = (String, (Kind, &str), &str, &DataContract)> {
    let machines = model.machines.iter().enumerate().filter_map(|(at, machine)| {
        let contract = machine.contract.as_ref()?;
        Some((
            format!("machines[{at}].contract"),
            (Kind::Machine, &*machine.id),
            "",
            contract,
        ))
    });
    let locations = model.locations.iter().enumerate().filter_map(|(at, location)| {
        let contract = location.contract.as_ref()?;
        Some((
            format!("locations[{at}].contract"),
            (Kind::Location, &*location.id),
            "",
            contract,
        ))
    });
    let sensors = model.sensors.iter().enumerate().filter_map(|(at, sensor)| {
        let contract = sensor.contract.as_ref()?;
        let feeds = (sensor.feeds.kind, &*sensor.feeds.id);
        Some((format!("sensors[{at}].contract"), feeds, &*sensor.id, contract))
    });
    machines.chain(locations).chain(sensors)
}

pub(super) fn is_used(model: &PlantModel) -> bool {
    all(model).next().is_some()
}

fn resolved(sensor: &str, contract: &DataContract) -> Contract {
    // Readings carry a network server's EUI in lower case.
    let sensor = if super::bindings::is_eui(sensor) {
        sensor.to_ascii_lowercase().into()
    } else {
        sensor.into()
    };
    Contract {
        sensor,
        period_ms: contract.period.map(|period| period.ms()),
        required: contract.required.clone(),
        rejects: contract.on_violation == OnViolation::Reject,
        metrics: contract
            .metrics
            .iter()
            .map(|(name, terms)| MetricContract {
                name: name.clone(),
                kind: terms.kind,
                min: terms.min,
                max: terms.max,
                max_rate_per_s: terms.max_rate_per_s,
                one_of: terms.one_of.clone(),
            })
            .collect(),
    }
}

/// The contracts of each twin's sensors.
pub(super) fn by_twin(model: &PlantModel) -> HashMap<(Kind, &str), Vec<Contract>> {
    let mut contracts: HashMap<(Kind, &str), Vec<Contract>> = HashMap::new();
    for (_, twin, sensor, contract) in all(model) {
        contracts
            .entry(twin)
            .or_default()
            .push(resolved(sensor, contract));
    }
    contracts
}

/// Adds what does not go with the rest of the model.
pub(super) fn check(model: &PlantModel, problems: &mut Problems) {
    let mut units: HashMap<(Kind, &str, &str), &str> = HashMap::new();
    for (_, (kind, id), metric) in declared(model) {
        if let Some(unit) = metric.unit {
            units.insert((kind, id, metric.name), unit);
        }
    }
    for (path, (kind, id), sensor, contract) in all(model) {
        for (name, terms) in &contract.metrics {
            if let Some(unit) = terms.unit.as_deref()
                && let Some(declared) = units
                    .get(&(kind, id, &**name))
                    .filter(|declared| **declared != unit)
            {
                let detail = format!("is {unit}, where {declared} is declared of {name} of {kind}/{id}");
                problems.add(format!("{path}.metrics.{name}.unit"), detail);
            }
        }
        // A device's own name never reaches the twin, so a contract over it would never or always be broken.
        let Some(sensor) = model.sensors.iter().find(|known| *known.id == *sensor) else {
            continue;
        };
        for name in contract.metrics.keys().chain(&contract.required) {
            let is_given = sensor.metrics.values().any(|mapping| mapping.to == *name);
            if let Some(mapping) = sensor
                .metrics
                .get(name)
                .filter(|mapping| mapping.to != *name && !is_given)
            {
                let detail = format!("{name} is the device's name (at the twin it is {})", mapping.to);
                problems.add(path.clone(), detail);
            } else if sensor.ignore.contains(name) && !is_given {
                problems.add(
                    path.clone(),
                    format!("{name} is ignored (take it out of one of the two)"),
                );
            }
        }
    }
}

/// The contracts that reject, by twin.
#[derive(Debug, Default)]
pub(super) struct Rejecting {
    machines: HashMap<Box<str>, Vec<Contract>>,
    locations: HashMap<Box<str>, Vec<Contract>>,
}

impl Rejecting {
    pub(super) fn of(model: &PlantModel) -> Self {
        let mut rejecting = Self::default();
        for ((kind, id), mut contracts) in by_twin(model) {
            contracts.retain(|contract| contract.rejects);
            if !contracts.is_empty() {
                let twins = match kind {
                    Kind::Machine => &mut rejecting.machines,
                    _ => &mut rejecting.locations,
                };
                twins.insert(id.into(), contracts);
            }
        }
        rejecting
    }

    /// Refuses a reading that breaks a contract of its twin.
    pub(super) fn check(&self, kind: Kind, id: &str, reading: &Reading) -> Result<(), Rejection> {
        let twins = match kind {
            Kind::Machine => &self.machines,
            _ => &self.locations,
        };
        if twins.is_empty() {
            return Ok(());
        }
        let contracts = twins.get(id).map_or(&[][..], Vec::as_slice);
        for contract in contracts
            .iter()
            .filter(|contract| contract.is_of(&reading.sensor_id))
        {
            if let Some(violation) = contract.broken_by(reading).next() {
                let value = reading
                    .metrics
                    .iter()
                    .find(|(name, _)| **name == *violation.metric);
                let given = value.map_or_else(
                    || "is missing".into(),
                    |(_, value)| format!("is {}", shown(value)),
                );
                let detail = format!(
                    "metric {} of sensor {} {given}; its contract says {} ({} rejects; mend the sensor, or the contract \
                     and retry)",
                    quoted(violation.metric),
                    reading.sensor_id,
                    contract.agreed(&violation),
                    if contract.sensor.is_empty() {
                        "the twin's contract"
                    } else {
                        "the sensor's contract"
                    },
                );
                return Err(Rejection::new(violation.rule.code(), detail));
            }
        }
        Ok(())
    }
}

fn shown(value: &gemba_twins::event::Value) -> String {
    match value {
        gemba_twins::event::Value::Number(number) => number.to_string(),
        gemba_twins::event::Value::Text(text) => quoted(text),
        gemba_twins::event::Value::Bool(yes) => yes.to_string(),
    }
}
