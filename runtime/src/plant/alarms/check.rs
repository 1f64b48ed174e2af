//! What is wrong with the rules of a model.
//!
//! Promises: every name in a condition is one that its twins have, with the nearest one told where not; an alarm that
//! suppresses another stands on the same twins, and none in a circle. Which metrics twins have: those that the model
//! declares, and those of the native format.

use std::collections::{BTreeSet, HashMap, HashSet};

use gemba_twins::{
    alarm::{AttributeCondition, ConditionError, Kinds, Known},
    config::{MetricKind, TwinConfig},
    id::Kind,
};

use crate::plant::{PlantModel, configs::declared, written::Problems};

/// Most rules of a model, and of one twin.
const RULES_MAX: usize = 1_000;
const RULES_OF_TWIN_MAX: usize = 64;
/// Metrics of the native format, beside those whose unit their name ends with, as devices and decoders send them.
const NATIVE: [(&str, Kinds); 33] = [
    ("execution", Kinds::Text),
    ("state", Kinds::Text),
    ("program", Kinds::Text),
    ("tool", Kinds::Any),
    ("cycle_count", Kinds::Number),
    ("good_count", Kinds::Number),
    ("scrap_count", Kinds::Number),
    ("energy_kwh", Kinds::Number),
    ("power_kw", Kinds::Number),
    ("power_factor", Kinds::Number),
    ("voltage_v", Kinds::Number),
    ("current_a", Kinds::Number),
    ("frequency_hz", Kinds::Number),
    ("spindle_rpm", Kinds::Number),
    ("spindle_load_pct", Kinds::Number),
    ("spindle_temp_c", Kinds::Number),
    ("feed_mm_min", Kinds::Number),
    ("vibration_mm_s", Kinds::Number),
    ("pressure_bar", Kinds::Number),
    ("co2_ppm", Kinds::Number),
    ("pm1_ugm3", Kinds::Number),
    ("pm25_ugm3", Kinds::Number),
    ("pm4_ugm3", Kinds::Number),
    ("pm10_ugm3", Kinds::Number),
    ("voc_ppb", Kinds::Number),
    ("voc_index", Kinds::Number),
    ("tvoc_ugm3", Kinds::Number),
    ("temperature_c", Kinds::Number),
    ("humidity_pct", Kinds::Number),
    ("pressure_hpa", Kinds::Number),
    ("noise_db", Kinds::Number),
    ("battery_pct", Kinds::Number),
    ("battery_v", Kinds::Number),
];

/// Adds what is wrong with the rules of a model.
pub(in crate::plant) fn check(
    model: &PlantModel,
    configs: &[(Kind, Box<str>, TwinConfig)],
    problems: &mut Problems,
) {
    if model.alarms.is_empty() {
        return;
    }
    if model.alarms.len() > RULES_MAX {
        problems.add(
            "alarms",
            format!("has {} rules (at most {RULES_MAX})", model.alarms.len()),
        );
        return;
    }
    let mut on_twins: HashMap<&str, BTreeSet<(Kind, &str)>> = HashMap::new();
    for (kind, id, config) in configs {
        let count = config.alarms.iter().count();
        if count > RULES_OF_TWIN_MAX {
            problems.add(
                "alarms",
                format!("{count} rules are for {kind}/{id} (at most {RULES_OF_TWIN_MAX})"),
            );
        }
        for rule in config.alarms.iter() {
            let alarm = model.alarms.iter().find(|alarm| alarm.id == rule.id);
            if let Some(alarm) = alarm {
                on_twins.entry(&alarm.id).or_default().insert((*kind, id));
            }
        }
    }
    let metrics = Metrics::of(model);
    for (at, alarm) in model.alarms.iter().enumerate() {
        let place = |field: &str| format!("alarms[{at}].{field}");
        let kind = alarm.applies_to.kind;
        for (number, id) in alarm.applies_to.ids.iter().enumerate() {
            let mut known = configs
                .iter()
                .filter(|(of, ..)| *of == kind)
                .map(|(_, id, _)| &**id);
            if !known.any(|known| *known == **id) {
                let known = configs
                    .iter()
                    .filter(|(of, ..)| *of == kind)
                    .map(|(_, id, _)| &**id);
                let hint = problems.nearest(id, known);
                problems.add(
                    place(&format!("applies_to.ids[{number}]")),
                    format!("{kind} {id} is not in the model{hint}"),
                );
            }
        }
        if let Some(text) = &alarm.applies_to.condition
            && let Err(error) = AttributeCondition::compile(text)
        {
            let detail = told(error, problems);
            problems.add(place("applies_to.where"), detail);
        }
        // What may be named is what stands on all of its twins.
        let own = on_twins.get(&*alarm.id);
        let siblings: Vec<Box<str>> = model
            .alarms
            .iter()
            .filter(|other| other.applies_to.kind == kind)
            .filter(|other| match (own, on_twins.get(&*other.id)) {
                (Some(own), Some(others)) => own.is_subset(others),
                (None, _) => true,
                (Some(_), None) => false,
            })
            .map(|other| other.id.clone())
            .collect();
        let known = Known {
            kind,
            metric: &|name| metrics.kinds(kind, name),
            metrics: &|| metrics.names(kind),
            alarms: &siblings,
        };
        for (field, error) in alarm.rule().problems(&known) {
            let detail = told(error, problems);
            problems.add(place(field), detail);
        }
    }
    circles(model, problems);
}

fn told(error: ConditionError, problems: &mut Problems) -> String {
    match error {
        ConditionError::Invalid(detail) => detail,
        ConditionError::Unknown { what, name, known } => {
            let mut hint = problems.nearest(&name, known.iter().map(String::as_str));
            if hint.is_empty() && what.starts_with("a metric") {
                hint = " (declare it among the metrics of its machine, location or sensor)".into();
            } else if hint.is_empty() && !known.is_empty() && known.len() <= 24 {
                hint = format!(" (known are {})", known.join(", "));
            }
            format!("{name:?} is not {what}{hint}")
        }
    }
}

/// Alarms that suppress each other would hide what is wrong for ever.
fn circles(model: &PlantModel, problems: &mut Problems) {
    let ids: Vec<Box<str>> = model.alarms.iter().map(|alarm| alarm.id.clone()).collect();
    let suppressors: HashMap<&str, Vec<Box<str>>> = model
        .alarms
        .iter()
        .map(|alarm| (&*alarm.id, alarm.rule().suppressors(&ids)))
        .collect();
    for (at, alarm) in model.alarms.iter().enumerate() {
        let (mut seen, mut next) = (HashSet::new(), suppressors[&*alarm.id].clone());
        while let Some(id) = next.pop() {
            if id == alarm.id {
                let detail = format!("{} is suppressed by itself, maybe by way of others", alarm.id);
                problems.add(format!("alarms[{at}].suppressed_by"), detail);
                break;
            }
            if seen.insert(id.clone()) {
                next.extend(suppressors.get(&*id).into_iter().flatten().cloned());
            }
        }
    }
}

/// The metrics that twins of each kind have, as far as the model and the native format say.
struct Metrics<'m> {
    declared: HashMap<(Kind, &'m str), Kinds>,
}

impl<'m> Metrics<'m> {
    fn of(model: &'m PlantModel) -> Self {
        let mut all: HashMap<(Kind, &str), Kinds> = HashMap::new();
        for (_, (kind, _), metric) in declared(model) {
            let kinds = match metric.kind {
                Some(MetricKind::Counter) => Kinds::Number,
                Some(MetricKind::Gauge) if metric.unit.is_some() => Kinds::Number,
                Some(MetricKind::State) | Some(MetricKind::Gauge) => Kinds::Any,
                None if metric.unit.is_some() => Kinds::Number,
                None => native(metric.name).unwrap_or(Kinds::Any),
            };
            all.entry((kind, metric.name))
                .and_modify(|before| {
                    if *before != kinds {
                        *before = Kinds::Any;
                    }
                })
                .or_insert(kinds);
        }
        Self { declared: all }
    }

    fn kinds(&self, kind: Kind, name: &str) -> Option<Kinds> {
        self.declared.get(&(kind, name)).copied().or_else(|| native(name))
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        let declared = self
            .declared
            .keys()
            .filter(|(of, _)| *of == kind)
            .map(|(_, name)| *name);
        let mut names: Vec<String> = declared
            .chain(NATIVE.iter().map(|(name, _)| *name))
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names
    }
}

fn native(name: &str) -> Option<Kinds> {
    NATIVE
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, kinds)| *kinds)
}
