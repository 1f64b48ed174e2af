//! The plant model as it is valid: sites, locations, machines and sensors, and its canonical text.
//!
//! Promises: made only by [`PlantModel::parse`]; keeps the order in which things were written; its text reads back as
//! the same model. Fields left out stay left out, so that a default may become better later.

use std::collections::BTreeMap;

use gemba_twins::{
    config::{AirProfile, Execution, MetricKind},
    event::SensorType,
    id::Kind,
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use super::{
    Computed, DataContract, Demand, EpcRule, Forecast, Reader, Span,
    alarms::Alarm,
    check::check,
    place::as_profiles,
    read::read,
    shifts::Shift,
    written::{PlantError, Problems, Tree},
};
use crate::decode::SENSOR_TYPES;

/// Execution states by the words of the model.
pub(super) const EXECUTIONS: [(&str, Execution); 7] = [
    ("producing", Execution::Producing),
    ("setup", Execution::Setup),
    ("idle", Execution::Idle),
    ("stopped", Execution::Stopped),
    ("down", Execution::Down),
    ("planned_down", Execution::PlannedDown),
    ("unknown", Execution::Unknown),
];
/// Kinds of metric by the words of the model.
pub(super) const METRIC_KINDS: [(&str, MetricKind); 3] = [
    ("gauge", MetricKind::Gauge),
    ("counter", MetricKind::Counter),
    ("state", MetricKind::State),
];
/// Types of location by the words of the model, from the outside in (ISA-95).
pub(super) const LOCATION_TYPES: [(&str, LocationType); 4] = [
    ("site", LocationType::Site),
    ("area", LocationType::Area),
    ("line", LocationType::Line),
    ("cell", LocationType::Cell),
];
/// What becomes of unknown sensors, by the words of the model.
pub(super) const UNKNOWN_SENSORS: [(&str, UnknownSensors); 2] = [
    ("register", UnknownSensors::Register),
    ("keep_aside", UnknownSensors::KeepAside),
];

/// The word of a value in one of the tables above.
pub(super) fn word<T: Copy + PartialEq>(table: &[(&'static str, T)], value: T) -> &'static str {
    table
        .iter()
        .find(|(_, entry)| *entry == value)
        .map_or("", |(word, _)| word)
}

/// A valid plant model. Its shape is drawn in the documentation of [`crate::plant`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlantModel {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) site: Option<Site>,
    /// The shifts of all machines that have none of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) shifts: Vec<Shift>,
    /// A stop that is shorter is a micro-stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) micro_stop: Option<Span>,
    /// Messages may come so much later than newer ones and are still folded in their place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lateness: Option<Span>,
    #[serde(serialize_with = "as_unknown_sensors", skip_serializing_if = "is_default")]
    pub(super) unknown_sensors: UnknownSensors,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) locations: Vec<Location>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) machines: Vec<Machine>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) sensors: Vec<Sensor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) alarms: Vec<Alarm>,
    /// What is computed for all twins of a class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) computed: Vec<Computed>,
    /// What is forecast of all twins of a class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) forecast: Vec<Forecast>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) readers: Vec<Reader>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) epcs: Vec<EpcRule>,
}

impl Default for PlantModel {
    /// A plant of which nothing is said.
    fn default() -> Self {
        Self {
            version: 1,
            site: None,
            shifts: Vec::new(),
            micro_stop: None,
            lateness: None,
            unknown_sensors: UnknownSensors::Register,
            locations: Vec::new(),
            machines: Vec::new(),
            sensors: Vec::new(),
            alarms: Vec::new(),
            computed: Vec::new(),
            forecast: Vec::new(),
            readers: Vec::new(),
            epcs: Vec::new(),
        }
    }
}

impl PlantModel {
    /// Reads a model from YAML or JSON, or says everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PlantError> {
        let tree = Tree::read(text).map_err(|problem| PlantError {
            problems: vec![problem],
        })?;
        let mut problems = Problems::default();
        let model = read(&tree, &mut problems);
        // References of a model that could not be read whole would be told as unknown for no fault of their own.
        if problems.none() {
            check(&model, &mut problems);
        }
        if problems.none() {
            Ok(model)
        } else {
            Err(problems.into_error())
        }
    }

    /// The canonical text: JSON in one line. It is what the journal holds.
    #[must_use]
    pub fn text(&self) -> String {
        // Maps have text as keys and numbers are finite, so nothing can go wrong.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The model as JSON for people.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The model as YAML.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        // Through JSON values: so both forms hold the same, whatever a serialiser makes of empty and optional fields.
        let value = serde_json::to_value(self).unwrap_or_default();
        serde_saphyr::to_string(&Ordered(&value)).unwrap_or_default()
    }

    /// The site, where the model names it.
    #[must_use]
    pub fn site(&self) -> Option<&Site> {
        self.site.as_ref()
    }

    /// What becomes of readings of sensors that the model does not name.
    #[must_use]
    pub fn unknown_sensors(&self) -> UnknownSensors {
        self.unknown_sensors
    }

    /// The places within the site.
    #[must_use]
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// The machines.
    #[must_use]
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// The rules of alarms.
    #[must_use]
    pub fn alarms(&self) -> &[Alarm] {
        &self.alarms
    }

    /// The sensors that need more than their id says.
    #[must_use]
    pub fn sensors(&self) -> &[Sensor] {
        &self.sensors
    }

    /// The RFID and barcode readers.
    #[must_use]
    pub fn readers(&self) -> &[Reader] {
        &self.readers
    }

    /// Which job a tag is.
    #[must_use]
    pub fn epcs(&self) -> &[EpcRule] {
        &self.epcs
    }
}

/// Keys as people write them: `id` and `version` before the rest.
struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                let rank = |key: &str| {
                    let first = [
                        "version",
                        "id",
                        "name",
                        "site",
                        "shifts",
                        "micro_stop",
                        "lateness",
                        "unknown_sensors",
                        "locations",
                        "machines",
                        "sensors",
                        "alarms",
                        "computed",
                        "forecast",
                        "readers",
                        "epcs",
                    ];
                    first
                        .iter()
                        .position(|known| *known == key)
                        .unwrap_or(first.len())
                };
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| rank(key));
                let mut written = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    written.serialize_entry(key, &Ordered(value))?;
                }
                written.end()
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Ordered)),
            other => other.serialize(serializer),
        }
    }
}

/// What becomes of a reading whose sensor the model does not name, and of a scan at a place it does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownSensors {
    /// A twin is made for it.
    #[default]
    Register,
    /// It is kept among the rejected messages until the model names it and it is retried.
    KeepAside,
}

/// The plant as a whole; a location twin of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Site {
    /// The id of its location twin.
    pub id: Box<str>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Box<str>>,
    /// An IANA time zone, e.g. `Europe/Helsinki`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<Box<str>>,
    /// Further attributes.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub attributes: Map<String, Value>,
}

/// What a location is, after ISA-95.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocationType {
    /// A whole plant.
    Site,
    /// A part of a plant.
    Area,
    /// A production line.
    Line,
    /// A work cell.
    Cell,
}

/// A place; a location twin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Location {
    /// The id of its twin.
    pub id: Box<str>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Box<str>>,
    /// What it is.
    #[serde(
        rename = "type",
        serialize_with = "as_location_type",
        skip_serializing_if = "Option::is_none"
    )]
    pub location_type: Option<LocationType>,
    /// The location around it; `None` stands in the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<str>>,
    /// A job that is scanned here is done.
    #[serde(skip_serializing_if = "is_default")]
    pub exit: bool,
    /// Without data for so long, the twin is stale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<Span>,
    /// Shifts of the machines here, instead of those around it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shifts: Option<Vec<Shift>>,
    /// Named thresholds that its air is judged by.
    #[serde(serialize_with = "as_profiles", skip_serializing_if = "Vec::is_empty")]
    pub air_profiles: Vec<AirProfile>,
    /// Jobs that have to leave here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demand: Option<Demand>,
    /// What is said of its metrics.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// What is computed from them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub computed: Vec<Computed>,
    /// What is forecast.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forecast: Vec<Forecast>,
    /// What its sensors are agreed to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract: Option<DataContract>,
    /// Further attributes.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub attributes: Map<String, Value>,
}

/// A machine, or a meter of its own; a machine twin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// The id of its twin.
    pub id: Box<str>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Box<str>>,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Box<str>>,
    /// Planned run time per part (ISO 22400 PRI).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ideal_cycle: Option<Span>,
    /// Without data for so long, the twin is stale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<Span>,
    /// Its own shifts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shifts: Option<Vec<Shift>>,
    /// What is computed from its metrics.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub computed: Vec<Computed>,
    /// What is forecast.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forecast: Vec<Forecast>,
    /// What its sensors are agreed to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract: Option<DataContract>,
    /// Words of the machine's control and what they mean.
    #[serde(serialize_with = "as_executions", skip_serializing_if = "BTreeMap::is_empty")]
    pub execution: BTreeMap<Box<str>, Execution>,
    /// What is said of its metrics.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// Further attributes.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub attributes: Map<String, Value>,
}

/// What is said of one metric of a twin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// Its name.
    pub name: Box<str>,
    /// How it is folded; `None` follows from the name.
    #[serde(serialize_with = "as_metric_kind", skip_serializing_if = "Option::is_none")]
    pub kind: Option<MetricKind>,
    /// Its unit, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Box<str>>,
    /// Where a counter wraps round to zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollover_at: Option<f64>,
}

/// A sensor that feeds a twin under other names than its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sensor {
    /// The id its readings carry.
    pub id: Box<str>,
    /// The twin it feeds.
    pub feeds: Feeds,
    /// What it is, where its readings do not say.
    #[serde(
        rename = "type",
        serialize_with = "as_sensor_type",
        skip_serializing_if = "Option::is_none"
    )]
    pub sensor_type: Option<SensorType>,
    /// The sensor's names of metrics, and what becomes of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<Box<str>, MetricMapping>,
    /// The sensor's names of metrics that are dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<Box<str>>,
    /// What it is agreed to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract: Option<DataContract>,
}

/// What becomes of one metric of a sensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricMapping {
    /// Its name at the twin.
    pub to: Box<str>,
    /// How it is folded; `None` follows from the name.
    #[serde(serialize_with = "as_metric_kind", skip_serializing_if = "Option::is_none")]
    pub kind: Option<MetricKind>,
    /// Its unit, for people. Values are never converted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Box<str>>,
    /// Where a counter wraps round to zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollover_at: Option<f64>,
}

/// The twin that a sensor feeds: a machine or a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feeds {
    /// Machine or location.
    pub kind: Kind,
    /// The twin's id.
    pub id: Box<str>,
}

impl Serialize for Feeds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.kind, self.id))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn as_unknown_sensors<S: Serializer>(value: &UnknownSensors, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word(&UNKNOWN_SENSORS, *value))
}

fn as_location_type<S: Serializer>(value: &Option<LocationType>, serializer: S) -> Result<S::Ok, S::Error> {
    value
        .map(|value| word(&LOCATION_TYPES, value))
        .serialize(serializer)
}

fn as_metric_kind<S: Serializer>(value: &Option<MetricKind>, serializer: S) -> Result<S::Ok, S::Error> {
    value
        .map(|value| word(&METRIC_KINDS, value))
        .serialize(serializer)
}

fn as_sensor_type<S: Serializer>(value: &Option<SensorType>, serializer: S) -> Result<S::Ok, S::Error> {
    value
        .map(|value| word(&SENSOR_TYPES, value))
        .serialize(serializer)
}

fn as_executions<S: Serializer>(
    value: &BTreeMap<Box<str>, Execution>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        value
            .iter()
            .map(|(control, execution)| (control, word(&EXECUTIONS, *execution))),
    )
}
