//! Computed metrics as the plant model says them: of a machine, of a location, or of all twins of a class.
//!
//! Promises: an expression that asks for a name that the twin has not is refused, with the nearest one it has; so are
//! cycles, with the cycle, and values of the wrong kind. What is said of a twin itself comes before what is said of
//! its class. Knows nothing of how an expression is evaluated.

use std::collections::HashMap;

use gemba_twins::{
    analysis::{COMPUTED_MAX, Computed as Resolved},
    computed::kpi_names,
    config::{MetricConfig, MetricKind, TwinConfig},
    expr::{Expr, Operand, ValueKind},
    id::Kind,
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{
    PlantModel,
    configs::declared,
    fields::Fields,
    written::{Problems, Tree},
};

/// Names of metrics that everybody spells alike: what an expression may ask for without their being declared.
pub(super) const STANDARD_NAMES: [(&str, ValueKind); 34] = [
    ("execution", ValueKind::Text),
    ("state", ValueKind::Text),
    ("cycle_count", ValueKind::Number),
    ("part_count", ValueKind::Number),
    ("good_count", ValueKind::Number),
    ("scrap_count", ValueKind::Number),
    ("reject_count", ValueKind::Number),
    ("cycle_time_s", ValueKind::Number),
    ("throughput_rate", ValueKind::Number),
    ("utilization", ValueKind::Number),
    ("energy_kwh", ValueKind::Number),
    ("power_kw", ValueKind::Number),
    ("power_factor", ValueKind::Number),
    ("reactive_power_kvar", ValueKind::Number),
    ("apparent_power_kva", ValueKind::Number),
    ("voltage_v", ValueKind::Number),
    ("current_a", ValueKind::Number),
    ("frequency_hz", ValueKind::Number),
    ("spindle_rpm", ValueKind::Number),
    ("feed_rate", ValueKind::Number),
    ("vibration_mm_s", ValueKind::Number),
    ("temperature_c", ValueKind::Number),
    ("humidity_pct", ValueKind::Number),
    ("pressure_hpa", ValueKind::Number),
    ("pressure_bar", ValueKind::Number),
    ("co2_ppm", ValueKind::Number),
    ("voc_ppb", ValueKind::Number),
    ("voc_index", ValueKind::Number),
    ("pm1_ugm3", ValueKind::Number),
    ("pm25_ugm3", ValueKind::Number),
    ("pm4_ugm3", ValueKind::Number),
    ("pm10_ugm3", ValueKind::Number),
    ("noise_db", ValueKind::Number),
    ("battery_pct", ValueKind::Number),
];

/// A computed metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Computed {
    /// Its name.
    pub name: Box<str>,
    /// What it is: an expression over the twin's metrics and KPIs.
    #[serde(serialize_with = "as_text")]
    pub value: Expr,
    /// Its unit, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Box<str>>,
    /// In the list of the plant: the twins it is of, a condition over `kind`, `id` and `attributes`.
    #[serde(
        rename = "for",
        serialize_with = "as_optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub applies_to: Option<Expr>,
}

fn as_text<S: Serializer>(expr: &Expr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(expr.text())
}

pub(super) fn as_optional_text<S: Serializer>(expr: &Option<Expr>, serializer: S) -> Result<S::Ok, S::Error> {
    expr.as_ref().map(Expr::text).serialize(serializer)
}

/// Reads one of a twin's own.
pub(super) fn computed(tree: &Tree, path: String, problems: &mut Problems) -> Option<Computed> {
    read(Fields::of(tree, path, &["name", "value", "unit"], problems)?)
}

/// Reads one of the plant's list.
pub(super) fn computed_of_class(tree: &Tree, path: String, problems: &mut Problems) -> Option<Computed> {
    let mut fields = Fields::of(tree, path, &["name", "value", "unit", "for"], problems)?;
    let applies_to = fields.class("for");
    if fields.get("for").is_none() {
        fields.problem(
            "for",
            "is missing (a condition over the twins, e.g. kind == \"machine\" && attributes.line == \"machining\")",
        );
    }
    let computed = read(fields)?;
    Some(Computed {
        applies_to: Some(applies_to?),
        ..computed
    })
}

fn read(mut fields: Fields<'_, '_>) -> Option<Computed> {
    let name = fields.metric_name("name");
    let unit = fields.words("unit");
    if fields.get("value").is_none() {
        fields.problem("value", "is missing (e.g. power_kw / max(throughput_rate, 1.0))");
    }
    let value = fields.expression("value");
    Some(Computed {
        name: name?,
        value: value?,
        unit,
        applies_to: None,
    })
}

impl Fields<'_, '_> {
    pub(super) fn expression(&mut self, field: &str) -> Option<Expr> {
        match Expr::parse(self.text(field)?) {
            Ok(expr) => Some(expr),
            Err(error) => {
                self.problem(field, &error.detail);
                None
            }
        }
    }

    /// A condition that tells which twins something is said of.
    pub(super) fn class(&mut self, field: &str) -> Option<Expr> {
        let expr = self.expression(field)?;
        for name in expr.names() {
            if !matches!(name, "kind" | "id") && !name.starts_with("attributes.") {
                let hint = self
                    .problems
                    .nearest(name, ["kind", "id", "attributes"].into_iter());
                self.problem(
                    field,
                    &format!("{name} is not known here{hint} (kind, id and attributes.NAME are)"),
                );
                return None;
            }
        }
        if !matches!(expr.check(&class_kind), Ok(None | Some(ValueKind::Bool))) {
            self.problem(
                field,
                "a condition is needed, e.g. attributes.line == \"machining\"",
            );
            return None;
        }
        Some(expr)
    }
}

fn class_kind(name: &str) -> Option<ValueKind> {
    matches!(name, "kind" | "id").then_some(ValueKind::Text)
}

/// Whether a class holds a twin.
pub(super) fn holds(class: &Expr, kind: Kind, id: &str, attributes: &Map<String, Value>) -> bool {
    let held = class.evaluate(&|name| match name {
        "kind" => Some(Operand::Text(kind.as_str())),
        "id" => Some(Operand::Text(id)),
        _ => match name
            .strip_prefix("attributes.")
            .and_then(|name| attributes.get(name))?
        {
            Value::String(text) => Some(Operand::Text(text)),
            Value::Bool(yes) => Some(Operand::Bool(*yes)),
            Value::Number(number) => number.as_f64().map(Operand::Number),
            _ => None,
        },
    });
    held == Ok(Operand::Bool(true))
}

/// What is computed for a twin, with the path of each; its own before its class's.
fn of_twin<'m>(
    model: &'m PlantModel,
    kind: Kind,
    id: &str,
    attributes: &Map<String, Value>,
) -> Vec<(String, &'m Computed)> {
    let own = match kind {
        Kind::Machine => find(&model.machines, id, |machine| &machine.id)
            .map(|(at, machine)| ("machines", at, &machine.computed)),
        _ => find(&model.locations, id, |location| &location.id)
            .map(|(at, location)| ("locations", at, &location.computed)),
    };
    let own = own.into_iter().flat_map(|(list, at, computed)| {
        let path = move |(number, computed)| (format!("{list}[{at}].computed[{number}]"), computed);
        computed.iter().enumerate().map(path)
    });
    let mut all: Vec<(String, &Computed)> = own.collect();
    for (number, computed) in model.computed.iter().enumerate() {
        let applies = computed.applies_to.as_ref();
        if applies.is_some_and(|class| holds(class, kind, id, attributes))
            && !all.iter().any(|(_, known)| known.name == computed.name)
        {
            all.push((format!("computed[{number}]"), computed));
        }
    }
    all
}

fn find<'m, T>(items: &'m [T], id: &str, id_of: impl Fn(&T) -> &Box<str>) -> Option<(usize, &'m T)> {
    items.iter().enumerate().find(|(_, item)| **id_of(item) == *id)
}

/// Whether the model computes anything.
pub(super) fn is_used(model: &PlantModel) -> bool {
    !model.computed.is_empty()
        || model.machines.iter().any(|machine| !machine.computed.is_empty())
        || model
            .locations
            .iter()
            .any(|location| !location.computed.is_empty())
}

/// Puts what is computed for a twin into its configuration, inputs before what asks for them.
pub(super) fn put(model: &PlantModel, kind: Kind, id: &str, config: &mut TwinConfig) -> Vec<Resolved> {
    let attributes = attributes_of(config);
    let all = of_twin(model, kind, id, &attributes);
    let mut resolved = Vec::with_capacity(all.len());
    for number in order(&all).unwrap_or_default() {
        let computed = all[number].1;
        resolved.push(Resolved {
            name: computed.name.clone(),
            value: computed.value.clone(),
        });
        // Whatever its name ends in, it is a level; a declaration of its own may say otherwise.
        if !config.metrics.iter().any(|metric| metric.name == computed.name) {
            config.metrics.push(MetricConfig {
                name: computed.name.clone(),
                kind: MetricKind::Gauge,
                unit: computed.unit.clone().unwrap_or_default(),
                rollover_at: None,
            });
        }
    }
    resolved
}

pub(super) fn attributes_of(config: &TwinConfig) -> Map<String, Value> {
    serde_json::from_str(&config.attributes).unwrap_or_default()
}

/// The order in which inputs come before what asks for them, or the names of a cycle.
fn order(all: &[(String, &Computed)]) -> Result<Vec<usize>, Vec<Box<str>>> {
    let by_name: HashMap<&str, usize> = (0..)
        .zip(all)
        .map(|(number, (_, computed))| (&*computed.name, number))
        .collect();
    let (mut order, mut path) = (Vec::with_capacity(all.len()), Vec::new());
    for number in 0..all.len() {
        visit(number, all, &by_name, &mut path, &mut order)?;
    }
    Ok(order)
}

fn visit(
    number: usize,
    all: &[(String, &Computed)],
    by_name: &HashMap<&str, usize>,
    path: &mut Vec<usize>,
    order: &mut Vec<usize>,
) -> Result<(), Vec<Box<str>>> {
    if order.contains(&number) {
        return Ok(());
    }
    if let Some(from) = path.iter().position(|on_path| *on_path == number) {
        let cycle = path[from..].iter().chain([&number]);
        return Err(cycle.map(|number| all[*number].1.name.clone()).collect());
    }
    // Deeper than a twin may have anyway: refused by its number.
    if path.len() > COMPUTED_MAX {
        return Ok(());
    }
    path.push(number);
    for name in all[number].1.value.names() {
        if let Some(input) = by_name.get(name) {
            visit(*input, all, by_name, path, order)?;
        }
    }
    path.pop();
    order.push(number);
    Ok(())
}

/// Names and kinds of the metrics that the model declares of each twin.
pub(super) type Declarations<'a> = HashMap<(Kind, &'a str), Vec<(&'a str, Option<MetricKind>)>>;

/// The metrics that the model declares, by twin.
pub(super) fn declarations(model: &PlantModel) -> Declarations<'_> {
    let mut declarations = Declarations::new();
    for (_, twin, metric) in declared(model) {
        declarations
            .entry(twin)
            .or_default()
            .push((metric.name, metric.kind));
    }
    declarations
}

/// Adds what is wrong with what is computed.
pub(super) fn check(model: &PlantModel, configs: &[(Kind, Box<str>, TwinConfig)], problems: &mut Problems) {
    let declared_names = declarations(model);
    // A class may hold twins that lack a metric; one that all of them lack is unknown.
    let mut unknown: HashMap<(String, String), Option<String>> = HashMap::new();
    for (kind, id, config) in configs {
        let all = of_twin(model, *kind, id, &attributes_of(config));
        if all.is_empty() {
            continue;
        }
        let twin = format!("{kind}/{id}");
        if all.len() > COMPUTED_MAX {
            let detail = format!("{} computed metrics (at most {COMPUTED_MAX})", all.len());
            problems.add(twin, detail);
            return;
        }
        for (at, (path, computed)) in all.iter().enumerate() {
            if all[..at].iter().any(|(_, before)| before.name == computed.name) {
                problems.add(
                    format!("{path}.name"),
                    format!("{} is computed twice", computed.name),
                );
                return;
            }
        }
        let order = match order(&all) {
            Ok(order) => order,
            Err(cycle) => {
                let place = all.iter().find(|(_, computed)| computed.name == cycle[0]);
                let path = place.map_or(twin, |(path, _)| format!("{path}.value"));
                problems.add(path, format!("asks for itself: {}", cycle.join(" → ")));
                return;
            }
        };
        let declared = declared_names.get(&(*kind, &**id)).map_or(&[][..], Vec::as_slice);
        let mut names = Names::of(*kind, declared, &all);
        for number in order {
            let (path, computed) = &all[number];
            for name in computed.value.names() {
                let key = (format!("{path}.value"), name.to_owned());
                if names.has(name) {
                    unknown.insert(key, None);
                } else {
                    unknown.entry(key).or_insert_with(|| {
                        let hint = problems.nearest(name, names.all());
                        Some(format!(
                            "{twin} has no metric {name}{hint} (declare it under metrics, or ask for kpis.NAME)"
                        ))
                    });
                }
            }
            match computed.value.check(&|name| names.kind(name)) {
                Ok(Some(ValueKind::Text)) => {
                    problems.add(
                        format!("{path}.value"),
                        "gives a text (a number or a truth is needed)",
                    );
                }
                Ok(kind) => names.set_kind(&computed.name, kind),
                Err(error) => problems.add(format!("{path}.value"), error.detail),
            }
        }
    }
    let mut unknown: Vec<_> = unknown
        .into_iter()
        .filter_map(|((path, _), detail)| Some((path, detail?)))
        .collect();
    unknown.sort();
    for (path, detail) in unknown {
        problems.add(path, detail);
    }
}

/// The names that a twin's expressions may ask for, and what they are.
pub(super) struct Names<'a> {
    known: Vec<(&'a str, Option<ValueKind>)>,
    kpis: Vec<String>,
}

impl<'a> Names<'a> {
    fn of(
        kind: Kind,
        declared: &[(&'a str, Option<MetricKind>)],
        computed: &[(String, &'a Computed)],
    ) -> Self {
        let mut names = Self::without_computed(kind, declared);
        // Set when they are checked, in order.
        let computed = computed.iter().map(|(_, computed)| (&*computed.name, None));
        names.known.splice(0..0, computed);
        names
    }

    /// What is measured, and the KPIs.
    pub(super) fn without_computed(kind: Kind, declared: &[(&'a str, Option<MetricKind>)]) -> Self {
        let declared = declared.iter().map(|(name, kind)| {
            let is_number = kind.is_some_and(|kind| kind != MetricKind::State);
            (*name, is_number.then_some(ValueKind::Number))
        });
        let standard = STANDARD_NAMES.iter().map(|(name, kind)| (*name, Some(*kind)));
        Self {
            known: declared.chain(standard).collect(),
            kpis: kpi_names(kind)
                .iter()
                .map(|name| format!("kpis.{name}"))
                .collect(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        let known = self.known.iter().map(|(name, _)| *name);
        known.chain(self.kpis.iter().map(String::as_str))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        // How unusual a series is may be asked for of anything that may be one.
        let name = name.strip_prefix("anomaly.").unwrap_or(name);
        self.all().any(|known| known == name)
    }

    fn kind(&self, name: &str) -> Option<ValueKind> {
        if name.starts_with("kpis.") || name.starts_with("anomaly.") {
            return Some(ValueKind::Number);
        }
        self.known.iter().find(|(known, _)| *known == name)?.1
    }

    fn set_kind(&mut self, name: &str, kind: Option<ValueKind>) {
        if let Some(known) = self.known.iter_mut().find(|(known, _)| *known == name) {
            known.1 = kind;
        }
    }

    /// A hint that names the nearest.
    pub(super) fn nearest(&self, name: &str, problems: &mut Problems) -> String {
        problems.nearest(name, self.all())
    }
}
