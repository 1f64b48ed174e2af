//! From what was written to a model: fields, types, words and ranges, with the path of everything that is wrong.
//!
//! Promises: never stops at the first problem, and never makes a guess: what is wrong is left out of the model, which
//! is then not used. Unknown and repeated keys are problems. Knows nothing of references between things.

use std::collections::BTreeMap;

use gemba_twins::{
    config::{Execution, MetricKind},
    event::SensorType,
    id::{self, Kind},
};
use serde_json::{Map, Value};

use super::{
    Feeds, Location, Machine, Metric, MetricMapping, PlantModel, Sensor, Site,
    alarms::alarm,
    computed::{computed, computed_of_class},
    fields::{Fields, WORDS_MAX, shortened},
    forecast::{forecast, forecast_of_class},
    model::{EXECUTIONS, LOCATION_TYPES, METRIC_KINDS, UNKNOWN_SENSORS},
    readers,
    shifts::shifts,
    written::{Problems, Tree},
};
use crate::decode::{METRIC_NAME_MAX, METRICS_MAX, SENSOR_TYPES};

/// What waits for late messages takes memory.
const LATENESS_MAX_MS: i64 = 3_600_000;
/// Most bytes of the attributes of one twin, as JSON.
const ATTRIBUTES_MAX: usize = 16 * 1_024;
/// Attributes that follow from the model; given by hand they would say something else.
const RESERVED: [&str; 10] = [
    "name", "type", "location", "parent", "cell", "line", "area", "site", "timezone", "exit",
];

/// Reads a model; it is valid in itself when no problems were added.
pub(super) fn read(tree: &Tree, problems: &mut Problems) -> PlantModel {
    let mut model = PlantModel::default();
    let known = [
        "version",
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
    let Some(mut plant) = Fields::of(tree, String::new(), &known, problems) else {
        return model;
    };
    match plant.get("version") {
        None => {}
        Some(Tree::Number(version)) if version.as_u64() == Some(1) => {}
        Some(_) => plant.problem(
            "version",
            "this release reads version 1 (the format's version, not the plant's)",
        ),
    }
    model.unknown_sensors = plant
        .one_of("unknown_sensors", &UNKNOWN_SENSORS)
        .unwrap_or_default();
    model.site = plant.get("site").and_then(|tree| site(tree, plant.problems));
    model.shifts = shifts(&mut plant, "shifts").unwrap_or_default();
    model.micro_stop = plant.span("micro_stop");
    model.lateness = plant.span("lateness");
    if model.lateness.is_some_and(|span| span.ms() > LATENESS_MAX_MS) {
        plant.problem(
            "lateness",
            "at most an hour is possible (what comes later corrects history)",
        );
    }
    model.locations = plant.list("locations", location);
    model.machines = plant.list("machines", machine);
    model.sensors = plant.list("sensors", sensor);
    model.alarms = plant.list("alarms", alarm);
    model.computed = plant.list("computed", computed_of_class);
    model.forecast = plant.list("forecast", forecast_of_class);
    model.readers = plant.list("readers", readers::reader);
    model.epcs = plant.list("epcs", readers::rule);
    model
}

fn site(tree: &Tree, problems: &mut Problems) -> Option<Site> {
    let mut site = Fields::of(
        tree,
        "site".into(),
        &["id", "name", "timezone", "attributes"],
        problems,
    )?;
    let timezone = site.words("timezone");
    if let Some(name) = &timezone
        && jiff::tz::TimeZone::get(name).is_err()
    {
        let detail =
            format!("{name:?} is not a time zone (use a name of the IANA database, e.g. Europe/Helsinki)");
        site.problem("timezone", &detail);
    }
    let (id, name, attributes) = (site.id("id"), site.words("name"), site.attributes());
    Some(Site {
        id: id?,
        name,
        timezone,
        attributes,
    })
}

fn location(tree: &Tree, path: String, problems: &mut Problems) -> Option<Location> {
    let known = [
        "id",
        "name",
        "type",
        "parent",
        "exit",
        "stale_after",
        "shifts",
        "air_profiles",
        "demand",
        "metrics",
        "computed",
        "forecast",
        "contract",
        "attributes",
    ];
    let mut location = Fields::of(tree, path, &known, problems)?;
    let id = location.id("id");
    let read = Location {
        id: id.clone().unwrap_or_default(),
        name: location.words("name"),
        location_type: location.one_of("type", &LOCATION_TYPES),
        parent: location.optional_id("parent"),
        exit: location.truth("exit"),
        stale_after: location.span("stale_after"),
        shifts: shifts(&mut location, "shifts"),
        air_profiles: location.air_profiles(),
        demand: location.demand(),
        metrics: location.metrics(),
        computed: location.list("computed", computed),
        forecast: location.list("forecast", forecast),
        contract: location.contract(),
        attributes: location.attributes(),
    };
    id.map(|_| read)
}

fn machine(tree: &Tree, path: String, problems: &mut Problems) -> Option<Machine> {
    let known = [
        "id",
        "name",
        "location",
        "ideal_cycle",
        "stale_after",
        "shifts",
        "execution",
        "metrics",
        "computed",
        "forecast",
        "contract",
        "attributes",
    ];
    let mut machine = Fields::of(tree, path, &known, problems)?;
    let id = machine.id("id");
    let read = Machine {
        id: id.clone().unwrap_or_default(),
        name: machine.words("name"),
        location: machine.optional_id("location"),
        ideal_cycle: machine.span("ideal_cycle"),
        stale_after: machine.span("stale_after"),
        shifts: shifts(&mut machine, "shifts"),
        execution: machine.execution(),
        metrics: machine.metrics(),
        computed: machine.list("computed", computed),
        forecast: machine.list("forecast", forecast),
        contract: machine.contract(),
        attributes: machine.attributes(),
    };
    id.map(|_| read)
}

fn sensor(tree: &Tree, path: String, problems: &mut Problems) -> Option<Sensor> {
    let mut sensor = Fields::of(
        tree,
        path,
        &["id", "feeds", "type", "metrics", "ignore", "contract"],
        problems,
    )?;
    let (id, feeds) = (sensor.id("id"), sensor.feeds());
    let sensor_type: Option<SensorType> = sensor.one_of("type", &SENSOR_TYPES);
    let metrics = sensor.mappings();
    let ignore = sensor.list("ignore", metric_name);
    for name in &ignore {
        if metrics.contains_key(name) {
            sensor.problem(
                "ignore",
                &format!("{name:?} is also among the metrics (take it out of one of the two)"),
            );
        }
    }
    let contract = sensor.contract();
    Some(Sensor {
        id: id?,
        feeds: feeds?,
        sensor_type,
        metrics,
        ignore,
        contract,
    })
}

pub(super) fn metric_name(tree: &Tree, path: String, problems: &mut Problems) -> Option<Box<str>> {
    match tree {
        Tree::Text(name) if is_metric_name(name) => Some(name.as_str().into()),
        _ => {
            let detail = format!(
                "a metric's name is needed (text of 1 to {METRIC_NAME_MAX} characters, no control characters)"
            );
            problems.add(path, detail);
            None
        }
    }
}

pub(super) fn is_metric_name(name: &str) -> bool {
    (1..=METRIC_NAME_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

fn metric(tree: &Tree, path: String, problems: &mut Problems) -> Option<Metric> {
    let mut metric = Fields::of(tree, path, &["name", "kind", "unit", "rollover_at"], problems)?;
    let name = metric.metric_name("name");
    let (kind, unit, rollover_at) = metric.folding();
    Some(Metric {
        name: name?,
        kind,
        unit,
        rollover_at,
    })
}

impl Fields<'_, '_> {
    fn metrics(&mut self) -> Vec<Metric> {
        let metrics = self.list("metrics", metric);
        if metrics.len() > METRICS_MAX {
            self.problem(
                "metrics",
                &format!("has {} entries (at most {METRICS_MAX})", metrics.len()),
            );
            return Vec::new();
        }
        for (at, metric) in metrics.iter().enumerate() {
            if metrics[..at].iter().any(|before| before.name == metric.name) {
                self.problem("metrics", &format!("{:?} is declared twice", metric.name));
            }
        }
        metrics
    }

    pub(super) fn metric_name(&mut self, field: &str) -> Option<Box<str>> {
        let path = self.at(field);
        metric_name(self.get(field).unwrap_or(&Tree::Null), path, self.problems)
    }

    fn folding(&mut self) -> (Option<MetricKind>, Option<Box<str>>, Option<f64>) {
        let (kind, unit) = (self.one_of("kind", &METRIC_KINDS), self.words("unit"));
        let rollover_at = match self.get("rollover_at") {
            None => None,
            Some(Tree::Number(number)) => number.as_f64().filter(|number| *number > 0.0),
            Some(_) => None,
        };
        if self.get("rollover_at").is_some() {
            if rollover_at.is_none() {
                self.problem(
                    "rollover_at",
                    "a number above 0 is needed, e.g. 4294967296 for 32 bits",
                );
            } else if kind.is_some_and(|kind| kind != MetricKind::Counter) {
                self.problem("rollover_at", "only a counter rolls over (kind: counter)");
            }
        }
        (kind, unit, rollover_at)
    }

    fn execution(&mut self) -> BTreeMap<Box<str>, Execution> {
        let mut words = BTreeMap::new();
        for (control, ours) in self.map("execution") {
            let field = format!("execution.{}", shortened(control));
            let known = EXECUTIONS.map(|(word, _)| word);
            if control.is_empty() || control.chars().count() > WORDS_MAX {
                self.problem(
                    &field,
                    &format!("a word of 1 to {WORDS_MAX} characters is needed"),
                );
            }
            match ours {
                Tree::Text(text) => match EXECUTIONS.iter().find(|(word, _)| word == text) {
                    Some((_, execution)) => {
                        words.insert(control.as_str().into(), *execution);
                    }
                    None => {
                        let hint = self.problems.nearest(text, known.into_iter());
                        let detail = format!(
                            "{:?} is unknown{hint} (one of {})",
                            shortened(text),
                            known.join(", ")
                        );
                        self.problem(&field, &detail);
                    }
                },
                _ => self.problem(&field, &format!("one of {} is needed", known.join(", "))),
            }
        }
        words
    }

    fn feeds(&mut self) -> Option<Feeds> {
        let shape = "machine/ID or location/ID is needed";
        if self.get("feeds").is_none() {
            self.problem("feeds", &format!("is missing ({shape})"));
        }
        let text = self.text("feeds")?;
        let found = text
            .split_once('/')
            .and_then(|(kind, id)| Some((Kind::parse(kind).ok()?, id)));
        match found {
            Some((kind @ (Kind::Machine | Kind::Location), id)) => {
                match id::check_id("the id", id, id::ID_MAX) {
                    Ok(()) => return Some(Feeds { kind, id: id.into() }),
                    Err(error) => self.problem("feeds", &error.to_string()),
                }
            }
            Some((Kind::Job, _)) => self.problem(
                "feeds",
                &format!("jobs are fed by scans, not by sensors ({shape})"),
            ),
            None => self.problem("feeds", &format!("{:?} is not a twin ({shape})", shortened(text))),
        }
        None
    }

    fn mappings(&mut self) -> BTreeMap<Box<str>, MetricMapping> {
        let mut mappings: BTreeMap<Box<str>, MetricMapping> = BTreeMap::new();
        for (name, tree) in self.map("metrics") {
            let field = format!("metrics.{}", shortened(name));
            if !is_metric_name(name) {
                self.problem(&field, "is not a metric's name");
                continue;
            }
            let path = self.at(&field);
            let mapping = match tree {
                Tree::Text(_) => metric_name(tree, path, self.problems).map(|to| MetricMapping {
                    to,
                    kind: None,
                    unit: None,
                    rollover_at: None,
                }),
                _ => Fields::of(tree, path, &["to", "kind", "unit", "rollover_at"], self.problems).and_then(
                    |mut fields| {
                        // Without a new name, only unit or kind are said.
                        let to = if fields.get("to").is_some() {
                            fields.metric_name("to")
                        } else {
                            Some(name.as_str().into())
                        };
                        let (kind, unit, rollover_at) = fields.folding();
                        Some(MetricMapping {
                            to: to?,
                            kind,
                            unit,
                            rollover_at,
                        })
                    },
                ),
            };
            if let Some(mapping) = mapping {
                if mappings.values().any(|before| before.to == mapping.to) {
                    let detail = format!("another metric of this sensor becomes {:?} already", mapping.to);
                    self.problem(&field, &detail);
                }
                mappings.insert(name.as_str().into(), mapping);
            }
        }
        mappings
    }

    fn attributes(&mut self) -> Map<String, Value> {
        let mut attributes = Map::new();
        for (key, tree) in self.map("attributes") {
            let field = format!("attributes.{}", shortened(key));
            if RESERVED.contains(&key.as_str()) {
                self.problem(
                    &field,
                    "follows from the model (take it out here, and say it where the model has it)",
                );
            }
            if let Some(value) = self.value(&field, tree) {
                attributes.insert(key.clone(), value);
            }
        }
        let length = serde_json::to_string(&attributes).map_or(0, |text| text.len());
        if length > ATTRIBUTES_MAX {
            self.problem(
                "attributes",
                &format!("take {length} bytes as JSON (at most {ATTRIBUTES_MAX})"),
            );
        }
        attributes
    }

    /// A tree as a JSON value; what is null is not there.
    fn value(&mut self, field: &str, tree: &Tree) -> Option<Value> {
        Some(match tree {
            Tree::Null => return None,
            Tree::Bool(truth) => Value::Bool(*truth),
            Tree::Number(number) => Value::Number(number.clone()),
            Tree::Text(text) => Value::String(text.clone()),
            Tree::List(items) => {
                let values = items
                    .iter()
                    .map(|item| self.value(field, item).unwrap_or(Value::Null));
                Value::Array(values.collect())
            }
            Tree::Map(entries) => {
                let mut map = Map::new();
                for (key, tree) in entries {
                    if let Some(value) = self.value(field, tree)
                        && map.insert(key.clone(), value).is_some()
                    {
                        self.problem(field, &format!("{:?} is given twice", shortened(key)));
                    }
                }
                Value::Object(map)
            }
        })
    }
}
