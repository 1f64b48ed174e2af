//! What a plant model says to each of its twins.
//!
//! Promises: a twin is told when, and only when, what it is told differs from before; a twin that left the model is
//! told so once. The order is that of the model, so the same two models always give the same list.

use std::collections::{HashMap, HashSet};

use gemba_twins::{
    calendar::Offset,
    config::{MetricConfig, MetricKind, Operation, TwinConfig},
    id::Kind,
};
use serde_json::{Map, Value};

use super::{
    Location, LocationType, Machine, PlantModel,
    alarms::RulesByTwin,
    analysis,
    model::{LOCATION_TYPES, word},
    place,
    shifts::{calendar, offsets},
};

/// Most locations around a location.
pub(super) const LEVELS_MAX: usize = 32;

/// The configurations of the twins for which `new` says something else than `old`, as of `version` of the model.
#[must_use]
pub fn twin_configs(
    old: Option<&PlantModel>,
    new: &PlantModel,
    version: u64,
) -> Vec<(Kind, Box<str>, TwinConfig)> {
    let before = old.map(all).unwrap_or_default();
    let before_by_id: HashMap<(Kind, &str), &TwinConfig> = before
        .iter()
        .map(|(kind, id, config)| ((*kind, &**id), config))
        .collect();
    let now = all(new);
    let kept: HashSet<(Kind, &str)> = now.iter().map(|(kind, id, _)| (*kind, &**id)).collect();
    let removed = before
        .iter()
        .filter(|(kind, id, _)| !kept.contains(&(*kind, &**id)));
    let removed: Vec<_> = removed
        .map(|(kind, id, _)| {
            (
                *kind,
                id.clone(),
                TwinConfig {
                    attributes: "{}".into(),
                    removed: true,
                    ..TwinConfig::default()
                },
            )
        })
        .collect();
    let differs = |(kind, id, config): &(Kind, Box<str>, TwinConfig)| {
        before_by_id.get(&(*kind, &**id)) != Some(&config)
    };
    let mut changed: Vec<_> = now.iter().filter(|item| differs(item)).cloned().collect();
    changed.extend(removed);
    for (_, _, config) in &mut changed {
        config.model_version = version;
    }
    changed
}

/// What the model says to all its twins, as of version 0.
pub(super) fn all(model: &PlantModel) -> Vec<(Kind, Box<str>, TwinConfig)> {
    let around = Around::of(model);
    let mut metrics = Declarations::of(model);
    let mut configs = Vec::with_capacity(1 + model.locations.len() + model.machines.len());
    if let Some(site) = &model.site {
        let mut attributes = site.attributes.clone();
        put(&mut attributes, "name", site.name.as_deref());
        put(&mut attributes, "type", Some("site"));
        put(&mut attributes, "timezone", site.timezone.as_deref());
        let metrics = metrics.take(Kind::Location, &site.id);
        configs.push((
            Kind::Location,
            site.id.clone(),
            TwinConfig {
                attributes: text(attributes),
                metrics,
                ..TwinConfig::default()
            },
        ));
    }
    for location in &model.locations {
        let config = TwinConfig {
            attributes: text(location_attributes(location, &around)),
            metrics: metrics.take(Kind::Location, &location.id),
            stale_after_ms: location.stale_after.map(|span| span.ms()),
            operation: model.lateness.map(|span| {
                Box::new(Operation {
                    lateness_ms: Some(span.ms()),
                    ..Operation::default()
                })
            }),
            location: place::config(location),
            ..TwinConfig::default()
        };
        configs.push((Kind::Location, location.id.clone(), config));
    }
    for machine in &model.machines {
        let config = TwinConfig {
            attributes: text(machine_attributes(machine, &around)),
            metrics: metrics.take(Kind::Machine, &machine.id),
            ideal_cycle_s: machine.ideal_cycle.map(|span| span.seconds()),
            stale_after_ms: machine.stale_after.map(|span| span.ms()),
            execution_map: machine
                .execution
                .iter()
                .map(|(word, meaning)| (word.clone(), *meaning))
                .collect(),
            operation: around.operation(model, machine),
            ..TwinConfig::default()
        };
        configs.push((Kind::Machine, machine.id.clone(), config));
    }
    let mut rules = RulesByTwin::of(model);
    for (kind, id, config) in &mut configs {
        config.alarms = rules.take(*kind, id, &config.attributes);
    }
    analysis::put(model, &mut configs);
    configs
}

fn text(attributes: Map<String, Value>) -> Box<str> {
    Value::Object(attributes).to_string().into()
}

fn put(attributes: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        attributes.insert(name.to_owned(), value.into());
    }
}

fn location_attributes(location: &Location, around: &Around<'_>) -> Map<String, Value> {
    let mut attributes = location.attributes.clone();
    let parent = around.parent(location);
    if let Some(parent) = parent {
        around.describe(parent, &mut attributes);
    }
    put(&mut attributes, "name", location.name.as_deref());
    put(
        &mut attributes,
        "type",
        location.location_type.map(|kind| word(&LOCATION_TYPES, kind)),
    );
    put(&mut attributes, "parent", parent);
    if location.exit {
        attributes.insert("exit".into(), true.into());
    }
    attributes
}

fn machine_attributes(machine: &Machine, around: &Around<'_>) -> Map<String, Value> {
    let mut attributes = machine.attributes.clone();
    if let Some(location) = machine.location.as_deref().or(around.site) {
        around.describe(location, &mut attributes);
    }
    put(&mut attributes, "name", machine.name.as_deref());
    put(&mut attributes, "location", machine.location.as_deref());
    attributes
}

/// Which location stands around which.
struct Around<'m> {
    site: Option<&'m str>,
    locations: HashMap<&'m str, &'m Location>,
    offsets: Box<[Offset]>,
}

impl<'m> Around<'m> {
    fn of(model: &'m PlantModel) -> Self {
        Self {
            site: model.site.as_ref().map(|site| &*site.id),
            locations: model
                .locations
                .iter()
                .map(|location| (&*location.id, location))
                .collect(),
            offsets: offsets(model.site.as_ref().and_then(|site| site.timezone.as_deref())),
        }
    }

    fn parent(&self, location: &'m Location) -> Option<&'m str> {
        location.parent.as_deref().or(self.site)
    }

    /// A location and those around it.
    fn path(&self, id: Option<&'m str>) -> Box<[Box<str>]> {
        let (mut path, mut next) = (Vec::new(), id);
        while let Some(id) = next.filter(|_| path.len() <= LEVELS_MAX) {
            path.push(id.into());
            let location = self.locations.get(id).copied();
            next = location.and_then(|location| self.parent(location));
        }
        path.into()
    }

    /// When a machine means to work: its own shifts, else those of the nearest location that has some, else the plant's.
    fn operation(&self, model: &PlantModel, machine: &'m Machine) -> Option<Box<Operation>> {
        let mut shifts = machine.shifts.as_deref();
        let mut next = machine.location.as_deref();
        for _ in 0..=LEVELS_MAX {
            let location = next.and_then(|id| self.locations.get(id).copied());
            let (None, Some(location)) = (shifts, location) else {
                break;
            };
            (shifts, next) = (location.shifts.as_deref(), location.parent.as_deref());
        }
        let operation = Operation {
            calendar: calendar(shifts.unwrap_or(&model.shifts), &self.offsets),
            micro_stop_ms: model.micro_stop.map(|span| span.ms()),
            lateness_ms: model.lateness.map(|span| span.ms()),
            reports_to: self.path(machine.location.as_deref().or(self.site)),
        };
        (operation != Operation::default()).then(|| Box::new(operation))
    }

    /// Puts the ids of a location and those around it under the names of their types, the nearest of a type.
    fn describe(&self, id: &'m str, attributes: &mut Map<String, Value>) {
        let mut next = Some(id);
        for _ in 0..=LEVELS_MAX {
            let Some(id) = next else { return };
            let location = self.locations.get(id).copied();
            let kind = location.map_or(Some(LocationType::Site), |location| location.location_type);
            if let Some(kind) = kind {
                attributes
                    .entry(word(&LOCATION_TYPES, kind))
                    .or_insert_with(|| id.into());
            }
            next = location.and_then(|location| self.parent(location));
        }
    }
}

/// What is said of one metric of one twin.
pub(super) struct Declared<'m> {
    pub(super) name: &'m str,
    pub(super) kind: Option<MetricKind>,
    pub(super) unit: Option<&'m str>,
    pub(super) rollover_at: Option<f64>,
}

/// All that a model says of metrics, with its path: by the twins themselves, then by their sensors.
pub(super) fn declared<'m>(
    model: &'m PlantModel,
) -> impl Iterator<Item = (impl Fn() -> String + 'm, (Kind, &'m str), Declared<'m>)> + 'm {
    let locations = model
        .locations
        .iter()
        .enumerate()
        .map(|(at, location)| ("locations", at, Kind::Location, &location.id, &location.metrics));
    let machines = model
        .machines
        .iter()
        .enumerate()
        .map(|(at, machine)| ("machines", at, Kind::Machine, &machine.id, &machine.metrics));
    let by_twins = locations
        .chain(machines)
        .flat_map(|(list, at, kind, id, metrics)| {
            metrics.iter().enumerate().map(move |(number, metric)| {
                let declared = Declared {
                    name: &metric.name,
                    kind: metric.kind,
                    unit: metric.unit.as_deref(),
                    rollover_at: metric.rollover_at,
                };
                ((list, at, number.to_string()), (kind, &**id), declared)
            })
        });
    let by_sensors = model.sensors.iter().enumerate().flat_map(|(at, sensor)| {
        sensor.metrics.iter().map(move |(name, metric)| {
            let declared = Declared {
                name: &metric.to,
                kind: metric.kind,
                unit: metric.unit.as_deref(),
                rollover_at: metric.rollover_at,
            };
            (
                ("sensors", at, name.to_string()),
                (sensor.feeds.kind, &*sensor.feeds.id),
                declared,
            )
        })
    });
    by_twins
        .chain(by_sensors)
        .map(|((list, at, name), twin, declared)| {
            let path = move || match list {
                "sensors" => format!("{list}[{at}].metrics.{name}"),
                _ => format!("{list}[{at}].metrics[{name}]"),
            };
            (path, twin, declared)
        })
}

/// The metrics of each twin, of all that is said of them.
struct Declarations<'m>(HashMap<(Kind, &'m str), Vec<MetricConfig>>);

impl<'m> Declarations<'m> {
    fn of(model: &'m PlantModel) -> Self {
        let mut twins: HashMap<(Kind, &str), Vec<(&str, Declared<'_>)>> = HashMap::new();
        for (_, twin, metric) in declared(model) {
            // A mere change of name says nothing of the metric.
            if metric.kind.is_none() && metric.unit.is_none() && metric.rollover_at.is_none() {
                continue;
            }
            let metrics = twins.entry(twin).or_default();
            match metrics.iter_mut().find(|(name, _)| *name == metric.name) {
                Some((_, said)) => {
                    said.kind = said.kind.or(metric.kind);
                    said.unit = said.unit.or(metric.unit);
                    said.rollover_at = said.rollover_at.or(metric.rollover_at);
                }
                None => metrics.push((metric.name, metric)),
            }
        }
        let config = |(name, said): (&str, Declared<'_>)| MetricConfig {
            name: name.into(),
            kind: said.kind.unwrap_or_else(|| kind_by_name(name, said.rollover_at)),
            unit: said.unit.unwrap_or_default().into(),
            rollover_at: said.rollover_at,
        };
        Self(
            twins
                .into_iter()
                .map(|(twin, metrics)| (twin, metrics.into_iter().map(config).collect()))
                .collect(),
        )
    }

    fn take(&mut self, kind: Kind, id: &'m str) -> Vec<MetricConfig> {
        self.0.remove(&(kind, id)).unwrap_or_default()
    }
}

/// The kind of a metric of which the model says a unit but no kind: as a twin without a model takes it.
pub(super) fn kind_by_name(name: &str, rollover_at: Option<f64>) -> MetricKind {
    let counts = ["_count", "_kwh", "_kvarh", "_total"]
        .iter()
        .any(|end| name.ends_with(end));
    match name {
        _ if counts || rollover_at.is_some() => MetricKind::Counter,
        "execution" | "state" | "state_change" => MetricKind::State,
        _ => MetricKind::Gauge,
    }
}
