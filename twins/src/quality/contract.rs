//! A data contract: what a sensor is agreed to send.
//!
//! Promises: pure and without memory but for the rate of change, so that a contract that rejects is decided before the
//! journal, by the reading alone (`broken_by`); a rate is decided in the fold, where the value before is known, and
//! there a contract that rejects does not take the value. What is not agreed is allowed.

use crate::{
    event::{Reading, Value},
    expr::ValueKind,
};

/// What is agreed of a sensor, or of all sensors of a twin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Contract {
    /// The sensor; empty for all that feed the twin.
    pub sensor: Box<str>,
    /// How often it sends, in milliseconds.
    pub period_ms: Option<i64>,
    /// Metrics that every reading holds.
    pub required: Vec<Box<str>>,
    /// What breaks the contract is rejected; else it is taken and marked.
    pub rejects: bool,
    /// What is agreed of single metrics.
    pub metrics: Vec<MetricContract>,
}

/// What is agreed of one metric.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetricContract {
    /// Its name at the twin.
    pub name: Box<str>,
    /// What its values are.
    pub kind: Option<ValueKind>,
    /// Its smallest value.
    pub min: Option<f64>,
    /// Its largest value.
    pub max: Option<f64>,
    /// The most it changes in a second.
    pub max_rate_per_s: Option<f64>,
    /// The words it may be; empty allows all.
    pub one_of: Vec<Box<str>>,
}

/// A rule of a contract. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// A value is of another kind.
    Type = 1,
    /// A number is too small or too large.
    Range = 2,
    /// A word is none of those agreed.
    Enumeration = 3,
    /// A metric is missing from a reading.
    Required = 4,
    /// A number changed too fast.
    Rate = 5,
}

impl Rule {
    /// All rules, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Type,
        Self::Range,
        Self::Enumeration,
        Self::Required,
        Self::Rate,
    ];

    /// The rule as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Range => "range",
            Self::Enumeration => "enumeration",
            Self::Required => "required",
            Self::Rate => "rate",
        }
    }

    /// The code of a message that is rejected for it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Type => "contract.type",
            Self::Range => "contract.range",
            Self::Enumeration => "contract.enumeration",
            Self::Required => "contract.required",
            Self::Rate => "contract.rate",
        }
    }
}

/// A rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation<'a> {
    /// The metric.
    pub metric: &'a str,
    /// The rule.
    pub rule: Rule,
}

impl Contract {
    /// Whether it is about this sensor.
    #[must_use]
    pub fn is_of(&self, sensor: &str) -> bool {
        self.sensor.is_empty() || *self.sensor == *sensor
    }

    /// What of a reading breaks it, as far as the reading alone tells.
    pub fn broken_by<'a>(&'a self, reading: &'a Reading) -> impl Iterator<Item = Violation<'a>> {
        let values = reading.metrics.iter().filter_map(|(name, value)| {
            let agreed = self.metrics.iter().find(|agreed| agreed.name == *name)?;
            let rule = agreed.broken_by(value)?;
            Some(Violation { metric: name, rule })
        });
        let missing = self.required.iter().filter(|required| {
            let mut names = reading.metrics.iter().map(|(name, _)| name);
            !names.any(|name| name == *required)
        });
        values.chain(missing.map(|metric| Violation {
            metric,
            rule: Rule::Required,
        }))
    }

    /// What is agreed where a rule was broken, for people.
    #[must_use]
    pub fn agreed(&self, violation: &Violation<'_>) -> String {
        let metric = self
            .metrics
            .iter()
            .find(|metric| *metric.name == *violation.metric);
        match (violation.rule, metric) {
            (Rule::Required, _) => "every reading holds it".into(),
            (Rule::Type, Some(metric)) => metric.kind.map_or("", ValueKind::as_str).into(),
            (Rule::Range, Some(metric)) => match (metric.min, metric.max) {
                (Some(min), Some(max)) => format!("{min} to {max}"),
                (Some(min), None) => format!("at least {min}"),
                (None, Some(max)) => format!("at most {max}"),
                (None, None) => String::new(),
            },
            (Rule::Enumeration, Some(metric)) => format!("one of {}", metric.one_of.join(", ")),
            (Rule::Rate, Some(metric)) => {
                format!("at most {} a second", metric.max_rate_per_s.unwrap_or_default())
            }
            (_, None) => String::new(),
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let words = |words: &[Box<str>]| words.iter().map(|word| 32 + word.len()).sum::<usize>();
        let metrics = self
            .metrics
            .iter()
            .map(|metric| size_of::<MetricContract>() + 16 + metric.name.len() + words(&metric.one_of));
        size_of::<Self>() + 16 + self.sensor.len() + words(&self.required) + metrics.sum::<usize>()
    }
}

impl MetricContract {
    fn broken_by(&self, value: &Value) -> Option<Rule> {
        let kind = match value {
            Value::Number(_) => ValueKind::Number,
            Value::Text(_) => ValueKind::Text,
            Value::Bool(_) => ValueKind::Bool,
        };
        if self.kind.is_some_and(|agreed| agreed != kind) {
            return Some(Rule::Type);
        }
        match value {
            Value::Number(number) => {
                let is_out =
                    self.min.is_some_and(|min| *number < min) || self.max.is_some_and(|max| *number > max);
                is_out.then_some(Rule::Range)
            }
            Value::Text(word) => {
                let is_out = !self.one_of.is_empty() && !self.one_of.contains(word);
                is_out.then_some(Rule::Enumeration)
            }
            Value::Bool(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_names_what_breaks_it() {
        let contract = Contract {
            required: vec!["co2_ppm".into(), "door".into()],
            metrics: vec![
                MetricContract {
                    name: "co2_ppm".into(),
                    kind: Some(ValueKind::Number),
                    min: Some(300.0),
                    max: Some(5_000.0),
                    ..MetricContract::default()
                },
                MetricContract {
                    name: "door".into(),
                    one_of: vec!["open".into(), "shut".into()],
                    ..MetricContract::default()
                },
            ],
            ..Contract::default()
        };
        let broken = |metrics: &[(&str, Value)]| {
            let reading = Reading {
                metrics: metrics
                    .iter()
                    .map(|(name, value)| ((*name).into(), value.clone()))
                    .collect(),
                ..Reading::default()
            };
            let broken = contract.broken_by(&reading);
            broken
                .map(|violation| {
                    format!(
                        "{} {}: {}",
                        violation.metric,
                        violation.rule.as_str(),
                        contract.agreed(&violation)
                    )
                })
                .collect::<Vec<_>>()
        };
        let (number, text) = (Value::Number, |text: &str| Value::Text(text.into()));
        assert!(
            broken(&[
                ("co2_ppm", number(300.0)),
                ("door", text("open")),
                ("else", number(-9.0))
            ])
            .is_empty()
        );
        assert_eq!(
            broken(&[("co2_ppm", number(299.0)), ("door", text("ajar"))]),
            [
                "co2_ppm range: 300 to 5000",
                "door enumeration: one of open, shut"
            ]
        );
        assert_eq!(
            broken(&[("co2_ppm", text("high"))]),
            ["co2_ppm type: a number", "door required: every reading holds it"]
        );
        assert_eq!(
            broken(&[("co2_ppm", number(5_000.5)), ("door", text("shut"))]).len(),
            1
        );
    }
}
