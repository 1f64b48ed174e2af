//! What holds between the parts of a model: ids are unique, references lead somewhere, nothing stands in itself.
//!
//! Promises: names every reference that leads nowhere, with the nearest name that would.

use std::collections::{HashMap, HashSet};

use gemba_twins::{
    config::{MetricKind, TwinConfig},
    id::Kind,
};

use super::{
    PlantModel, alarms, analysis,
    configs::{LEVELS_MAX, all, declared},
    model::{METRIC_KINDS, word},
    readers,
    written::Problems,
};
use crate::decode::METRICS_MAX;

/// Most bytes that the model says of one twin: far below what a record of the journal takes.
const CONFIG_MAX: usize = 48 * 1_024;

/// Adds what is wrong between the parts of a model.
pub(super) fn check(model: &PlantModel, problems: &mut Problems) {
    let locations = unique(
        "locations",
        model.locations.iter().map(|location| &*location.id),
        problems,
    );
    let machines = unique(
        "machines",
        model.machines.iter().map(|machine| &*machine.id),
        problems,
    );
    unique(
        "sensors",
        model.sensors.iter().map(|sensor| &*sensor.id),
        problems,
    );
    let site = model.site.as_ref().map(|site| &*site.id);
    if let Some(site) = site.filter(|site| locations.contains(site)) {
        problems.add(
            "site.id",
            format!("{site} is also a location (the site is a location twin of its own)"),
        );
    }
    let places = || locations.iter().copied().chain(site);
    let is_place = |id: &str| locations.contains(id) || site == Some(id);
    for (at, location) in model.locations.iter().enumerate() {
        if let Some(parent) = location.parent.as_deref().filter(|parent| !is_place(parent)) {
            let hint = problems.nearest(parent, places());
            problems.add(
                format!("locations[{at}].parent"),
                format!("location {parent} is not in the model{hint}"),
            );
        }
    }
    levels(model, problems);
    for (at, machine) in model.machines.iter().enumerate() {
        if let Some(location) = machine.location.as_deref().filter(|location| !is_place(location)) {
            let hint = problems.nearest(location, places());
            problems.add(
                format!("machines[{at}].location"),
                format!("location {location} is not in the model{hint}"),
            );
        }
    }
    for (at, sensor) in model.sensors.iter().enumerate() {
        let id = &*sensor.feeds.id;
        let (known, hint) = match sensor.feeds.kind {
            Kind::Machine if machines.contains(id) => continue,
            Kind::Machine => ("machine", problems.nearest(id, machines.iter().copied())),
            _ if is_place(id) => continue,
            _ => ("location", problems.nearest(id, places())),
        };
        problems.add(
            format!("sensors[{at}].feeds"),
            format!("{known} {id} is not in the model{hint}"),
        );
    }
    unique("alarms", model.alarms.iter().map(|alarm| &*alarm.id), problems);
    readers::check(&model.readers, is_place, || places().collect(), problems);
    if problems.none() {
        declarations(model, problems);
        let configs = all(model);
        sizes(&configs, problems);
        analysis::check(model, &configs, problems);
        alarms::check(model, &configs, problems);
    }
}

/// What is said to one twin fits into one record of the journal.
fn sizes(configs: &[(Kind, Box<str>, TwinConfig)], problems: &mut Problems) {
    for (kind, id, config) in configs {
        let metrics = config.metrics.len();
        if metrics > METRICS_MAX {
            problems.add(
                format!("{kind}/{id}"),
                format!("{metrics} metrics are declared (at most {METRICS_MAX})"),
            );
        }
        let of_metrics = config
            .metrics
            .iter()
            .map(|metric| metric.name.len() + metric.unit.len() + 24);
        let of_words = config.execution_map.iter().map(|(word, _)| word.len() + 8);
        let size = config.attributes.len() + of_metrics.chain(of_words).sum::<usize>();
        if size > CONFIG_MAX {
            let detail = format!("attributes, metrics and words take {size} bytes (at most {CONFIG_MAX})");
            problems.add(format!("{kind}/{id}"), detail);
        }
    }
}

fn unique<'a>(list: &str, ids: impl Iterator<Item = &'a str>, problems: &mut Problems) -> HashSet<&'a str> {
    let mut known = HashSet::new();
    for (at, id) in ids.enumerate() {
        if !known.insert(id) {
            problems.add(format!("{list}[{at}].id"), format!("{id} occurs a second time"));
        }
    }
    known
}

/// Each location has an end to the locations around it.
fn levels(model: &PlantModel, problems: &mut Problems) {
    let parents: HashMap<&str, &str> = model
        .locations
        .iter()
        .filter_map(|location| Some((&*location.id, location.parent.as_deref()?)))
        .collect();
    for (at, location) in model.locations.iter().enumerate() {
        let mut around = &*location.id;
        for level in 0.. {
            match parents.get(around) {
                None => break,
                Some(parent) if **parent == *location.id => {
                    problems.add(
                        format!("locations[{at}].parent"),
                        format!("{} stands in itself", location.id),
                    );
                    break;
                }
                Some(_) if level == LEVELS_MAX => {
                    let detail = format!("{} stands more than {LEVELS_MAX} levels deep", location.id);
                    problems.add(format!("locations[{at}].parent"), detail);
                    break;
                }
                Some(parent) => around = parent,
            }
        }
    }
}

/// What several sensors say of one metric of a twin agrees, and with what the twin says itself.
fn declarations(model: &PlantModel, problems: &mut Problems) {
    type Said<'a> = (Option<MetricKind>, Option<&'a str>, Option<f64>);
    let mut said: HashMap<(Kind, &str, &str), Said<'_>> = HashMap::new();
    for (path, feeds, metric) in declared(model) {
        let now = (metric.kind, metric.unit, metric.rollover_at);
        let before = said.entry((feeds.0, feeds.1, metric.name)).or_insert(now);
        let twin = format!("{}/{}", feeds.0, feeds.1);
        let differ = |what: &str, one: &str, other: &str| {
            format!(
                "says {what} {other} of {} of {twin}, where {one} was said before",
                metric.name
            )
        };
        if let (Some(one), Some(other)) = (before.0, now.0)
            && one != other
        {
            problems.add(
                path(),
                differ("kind", word(&METRIC_KINDS, one), word(&METRIC_KINDS, other)),
            );
        }
        if let (Some(one), Some(other)) = (before.1, now.1)
            && one != other
        {
            problems.add(path(), differ("unit", one, other));
        }
        if let (Some(one), Some(other)) = (before.2, now.2)
            && one != other
        {
            problems.add(
                path(),
                differ("rollover_at", &one.to_string(), &other.to_string()),
            );
        }
        *before = (before.0.or(now.0), before.1.or(now.1), before.2.or(now.2));
    }
}
