//! What is forecast, as the plant model says it: of a machine, of a location, or of all twins of a class.
//!
//! Promises: a metric that the twin has not is refused with the nearest one; so is a counter, of which only the growth
//! would mean something. What is said of a twin itself comes before what is said of its class.

use gemba_twins::{
    config::{MetricKind, TwinConfig},
    expr::Expr,
    forecast::{ForecastRule, SERIES_MAX},
    id::Kind,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    PlantModel,
    computed::{Names, as_optional_text, attributes_of, declarations, holds},
    configs::kind_by_name,
    fields::Fields,
    written::{Problems, Tree},
};

/// A metric that is forecast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// The metric, `kpis.NAME`, or `utilization` of a machine.
    pub metric: Box<str>,
    /// An anomaly is what is further from its forecast than this; `None` goes by the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    /// In the list of the plant: the twins it is of, a condition over `kind`, `id` and `attributes`.
    #[serde(
        rename = "for",
        serialize_with = "as_optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub applies_to: Option<Expr>,
}

/// Reads one of a twin's own: a name, or a mapping.
pub(super) fn forecast(tree: &Tree, path: String, problems: &mut Problems) -> Option<Forecast> {
    if let Tree::Text(_) = tree {
        let metric = super::read::metric_name(tree, path, problems)?;
        return Some(Forecast {
            metric,
            deviation: None,
            applies_to: None,
        });
    }
    rule(Fields::of(tree, path, &["metric", "deviation"], problems)?)
}

/// Reads one of the plant's list.
pub(super) fn forecast_of_class(tree: &Tree, path: String, problems: &mut Problems) -> Option<Forecast> {
    let mut fields = Fields::of(tree, path, &["metric", "deviation", "for"], problems)?;
    if fields.get("for").is_none() {
        fields.problem(
            "for",
            "is missing (a condition over the twins, e.g. kind == \"machine\" && attributes.line == \"machining\")",
        );
    }
    let applies_to = fields.class("for");
    let rule = rule(fields)?;
    Some(Forecast {
        applies_to: Some(applies_to?),
        ..rule
    })
}

fn rule(mut fields: Fields<'_, '_>) -> Option<Forecast> {
    let metric = fields.metric_name("metric");
    let deviation = fields.finite("deviation");
    if deviation.is_some_and(|deviation| deviation <= 0.0) {
        fields.problem("deviation", "a number above 0 is needed, in the metric's unit");
    }
    Some(Forecast {
        metric: metric?,
        deviation,
        applies_to: None,
    })
}

pub(super) fn is_used(model: &PlantModel) -> bool {
    !model.forecast.is_empty()
        || model.machines.iter().any(|machine| !machine.forecast.is_empty())
        || model
            .locations
            .iter()
            .any(|location| !location.forecast.is_empty())
}

fn of_twin<'m>(
    model: &'m PlantModel,
    kind: Kind,
    id: &str,
    attributes: &Map<String, Value>,
) -> Vec<(String, &'m Forecast)> {
    let machine = model
        .machines
        .iter()
        .enumerate()
        .find(|(_, machine)| *machine.id == *id);
    let location = model
        .locations
        .iter()
        .enumerate()
        .find(|(_, location)| *location.id == *id);
    let (list, at, own) = match (kind, machine, location) {
        (Kind::Machine, Some((at, machine)), _) => ("machines", at, &machine.forecast[..]),
        (Kind::Location, _, Some((at, location))) => ("locations", at, &location.forecast[..]),
        _ => ("", 0, &[][..]),
    };
    let own = own.iter().enumerate();
    let mut all: Vec<_> = own
        .map(|(number, forecast)| (format!("{list}[{at}].forecast[{number}]"), forecast))
        .collect();
    for (number, forecast) in model.forecast.iter().enumerate() {
        let class = forecast.applies_to.as_ref();
        if class.is_some_and(|class| holds(class, kind, id, attributes))
            && !all.iter().any(|(_, known)| known.metric == forecast.metric)
        {
            all.push((format!("forecast[{number}]"), forecast));
        }
    }
    all
}

/// What is forecast of a twin.
pub(super) fn put(model: &PlantModel, kind: Kind, id: &str, config: &TwinConfig) -> Vec<ForecastRule> {
    of_twin(model, kind, id, &attributes_of(config))
        .into_iter()
        .map(|(_, forecast)| ForecastRule {
            metric: forecast.metric.clone(),
            deviation: forecast.deviation,
        })
        .collect()
}

/// Adds what is wrong with what is forecast.
pub(super) fn check(model: &PlantModel, configs: &[(Kind, Box<str>, TwinConfig)], problems: &mut Problems) {
    let declarations = declarations(model);
    // A class may hold twins that lack a metric; one that all of them lack is unknown.
    let mut unknown: Vec<(String, Option<String>)> = Vec::new();
    for (kind, id, config) in configs {
        let all = of_twin(model, *kind, id, &attributes_of(config));
        if all.len() > SERIES_MAX {
            let detail = format!("{} metrics are forecast (at most {SERIES_MAX})", all.len());
            problems.add(format!("{kind}/{id}"), detail);
            return;
        }
        let declared = declarations.get(&(*kind, &**id)).map_or(&[][..], Vec::as_slice);
        let names = Names::without_computed(*kind, declared);
        for (at, (path, forecast)) in all.iter().enumerate() {
            let metric = &*forecast.metric;
            if all[..at].iter().any(|(_, before)| *before.metric == *metric) {
                problems.add(path.clone(), format!("{metric} is forecast twice"));
                return;
            }
            let computed = config
                .analysis
                .as_deref()
                .map_or(&[][..], |analysis| &analysis.computed);
            let is_computed = computed.iter().any(|computed| *computed.name == *metric);
            if is_computed || names.has(metric) {
                unknown.retain(|(known, _)| known != path);
                unknown.push((path.clone(), None));
            } else if !unknown.iter().any(|(known, _)| known == path) {
                let hint = names.nearest(metric, problems);
                let detail = format!(
                    "{kind}/{id} has no metric {metric}{hint} (declare it under metrics, or name kpis.NAME)"
                );
                unknown.push((path.clone(), Some(detail)));
            }
            let said = declared
                .iter()
                .find_map(|(name, kind)| (*name == metric).then_some(*kind)?);
            let is_kpi = metric.starts_with("kpis.") || is_computed;
            if !is_kpi && said.unwrap_or_else(|| kind_by_name(metric, None)) == MetricKind::Counter {
                let detail =
                    format!("{metric} is a counter (forecast a level, such as power_kw, or utilization)");
                problems.add(path.clone(), detail);
                return;
            }
        }
    }
    for (path, detail) in unknown {
        if let Some(detail) = detail {
            problems.add(path, detail);
        }
    }
}
