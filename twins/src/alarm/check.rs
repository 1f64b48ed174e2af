//! What is wrong with a rule, told when the plant model is applied and not when an alarm stays silent.
//!
//! Promises: a name that twins of the kind do not have, a word that the execution state never is, and a comparison of
//! things that cannot be compared are found before the rule is in force. Knows no distances between names: whoever asks
//! finds the nearest of those given.

use thiserror::Error;

use super::{
    condition::{Comparison, Condition, Expr, Scopes},
    evaluate::Scope,
    rule::AlarmRule,
};
use crate::{config::Execution, id::Kind, kpis, time::Timestamp, twin::Twin};

/// What is wrong with a condition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConditionError {
    /// It cannot be read, or compares what cannot be compared.
    #[error("{0}")]
    Invalid(String),
    /// It names something that does not exist.
    #[error("{name:?} is not {what}")]
    Unknown {
        /// What was expected there.
        what: &'static str,
        /// What was written.
        name: String,
        /// What could have been written.
        known: Vec<String>,
    },
}

/// What kind of value something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// It cannot be told before it is there.
    Any,
    /// Yes or no.
    Bool,
    /// A number, or nothing for want of data.
    Number,
    /// A word.
    Text,
}

impl Kinds {
    fn as_str(self) -> &'static str {
        match self {
            Self::Any => "something",
            Self::Bool => "yes or no",
            Self::Number => "a number",
            Self::Text => "text",
        }
    }

    fn fits(self, other: Self) -> bool {
        self == Self::Any || other == Self::Any || self == other
    }
}

/// A condition over what the plant model says of a twin: its attributes, kind and id.
#[derive(Debug)]
pub struct AttributeCondition(Condition);

impl AttributeCondition {
    /// Reads it; a name beside attributes, kind and id is refused.
    pub fn compile(text: &str) -> Result<Self, ConditionError> {
        let mut scopes = Scopes {
            metrics: Vec::new(),
            alarms: &[],
        };
        let condition = Condition::compile(text, &mut scopes)?;
        let mut strange = scopes.metrics.first().map(|_| "metrics");
        condition.root.each(&mut |part| match part {
            Expr::Execution => strange = Some("state"),
            Expr::Field(path) if matches!(&*path[0], "state" | "kpis") => strange = Some("state and kpis"),
            Expr::Foreign(_) => strange = Some("functions"),
            _ => {}
        });
        match strange {
            None => Ok(Self(condition)),
            Some(strange) => invalid(format!(
                "{strange} change with each event (name attributes, kind or id, which the model says)"
            )),
        }
    }

    /// Whether it holds of a twin.
    #[must_use]
    pub fn holds(&self, twin: &Twin) -> bool {
        let scope = Scope {
            twin,
            execution: &std::cell::OnceCell::new(),
            now: Timestamp::default(),
            slots: &[],
            alarms: &[],
        };
        self.0.holds(&scope, 0.0) == Some(true)
    }
}

/// What is known of the twins that a rule is for.
pub struct Known<'a> {
    /// Their kind.
    pub kind: Kind,
    /// What a metric of them holds; `None` where they have no such metric.
    pub metric: &'a dyn Fn(&str) -> Option<Kinds>,
    /// The metrics that could have been meant.
    pub metrics: &'a dyn Fn() -> Vec<String>,
    /// The rules that hold for the same twins.
    pub alarms: &'a [Box<str>],
}

const QUALITY: &[&str] = &["good", "stale", "bad", "unknown"];
const AIR: &[&str] = &["good", "moderate", "poor", "unknown"];

/// Fields of `state` by kind of twin. What stands below them is not looked at before it is there.
fn state_fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Machine => &[
            "execution",
            "execution_since",
            "since",
            "quality",
            "time_in_state_s",
            "time_in_state_today_s",
            "time_in_state_total_s",
            "transitions_today",
            "shift",
            "downtime",
            "micro_stops",
            "anomalies",
            "metrics",
            "values_refused",
            "removed",
        ],
        Kind::Location => &[
            "quality",
            "air",
            "air_quality",
            "air_quality_reason",
            "machines",
            "jobs",
            "jobs_unlisted",
            "operators",
            "anomalies",
            "metrics",
            "values_refused",
            "removed",
        ],
        Kind::Job => &[
            "quality",
            "location",
            "location_since",
            "last_seen_at",
            "status",
            "product_id",
            "product_variant",
            "operator_id",
            "started_at",
            "completed_at",
            "path",
            "flow_path",
            "dwell",
            "metrics",
        ],
    }
}

impl AlarmRule {
    /// What is wrong with its conditions, each with the field it stands in.
    #[must_use]
    pub fn problems(&self, known: &Known<'_>) -> Vec<(&'static str, ConditionError)> {
        let mut problems = Vec::new();
        let mut look = |field, text: &str, deadband| {
            if let Err(error) = check(text, known, deadband) {
                problems.push((field, error));
            }
        };
        match &self.stale {
            None => look("condition", &self.condition, self.deadband > 0.0),
            Some(stale) => {
                if let Some(metric) = stale
                    .metric
                    .as_deref()
                    .filter(|metric| (known.metric)(metric).is_none())
                {
                    problems.push(("stale.metric", unknown_metric(metric, known)));
                }
                if self.deadband > 0.0 {
                    let detail = "data that does not come has no limit (take it out)".to_owned();
                    problems.push(("deadband", ConditionError::Invalid(detail)));
                }
            }
        }
        if let Some(text) = &self.suppressed_by
            && let Err(error) = check(text, known, false)
        {
            problems.push(("suppressed_by", error));
        }
        problems
    }

    /// The alarms that suppress it, of those given.
    #[must_use]
    pub fn suppressors(&self, alarms: &[Box<str>]) -> Vec<Box<str>> {
        let mut scopes = Scopes {
            metrics: Vec::new(),
            alarms,
        };
        let text = self.suppressed_by.as_deref();
        let condition = text.and_then(|text| Condition::compile(text, &mut scopes).ok());
        let mut named = Vec::new();
        if let Some(condition) = &condition {
            condition.root.each(&mut |part| {
                if let Expr::Alarm(place) = part
                    && let Some(id) = alarms.get(usize::from(*place))
                {
                    named.push(id.clone());
                }
            });
        }
        named
    }
}

fn check(text: &str, known: &Known<'_>, has_deadband: bool) -> Result<(), ConditionError> {
    let mut scopes = Scopes {
        metrics: Vec::new(),
        alarms: known.alarms,
    };
    let condition = Condition::compile(text, &mut scopes)?;
    if let Some(strange) = scopes.metrics.iter().find(|name| (known.metric)(name).is_none()) {
        return Err(unknown_metric(strange, known));
    }
    let checker = Checker {
        known,
        metrics: &scopes.metrics,
    };
    let kind = checker.kind(&condition.root)?;
    if !kind.fits(Kinds::Bool) {
        return invalid(format!(
            "is {}, not yes or no (compare it with something)",
            kind.as_str()
        ));
    }
    let mut has_limit = false;
    condition.root.each(&mut |part| {
        has_limit |= matches!(
            part,
            Expr::Compare(
                Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual,
                _
            )
        );
    });
    if has_deadband && !has_limit {
        return invalid(
            "holds no limit that a deadband could belong to (compare with <, <=, > or >=)".into(),
        );
    }
    Ok(())
}

fn invalid<T>(detail: String) -> Result<T, ConditionError> {
    Err(ConditionError::Invalid(detail))
}

fn unknown_metric(name: &str, known: &Known<'_>) -> ConditionError {
    ConditionError::Unknown {
        what: "a metric of these twins",
        name: name.chars().take(60).collect(),
        known: (known.metrics)(),
    }
}

fn unknown(what: &'static str, name: &str, known: &[&str]) -> ConditionError {
    ConditionError::Unknown {
        what,
        name: name.chars().take(60).collect(),
        known: known.iter().map(|known| (*known).to_owned()).collect(),
    }
}

struct Checker<'a> {
    known: &'a Known<'a>,
    metrics: &'a [Box<str>],
}

impl Checker<'_> {
    fn kind(&self, part: &Expr) -> Result<Kinds, ConditionError> {
        Ok(match part {
            Expr::Null | Expr::Foreign(_) => Kinds::Any,
            Expr::Bool(_) | Expr::Alarm(_) => Kinds::Bool,
            Expr::Number(_) => Kinds::Number,
            Expr::Text(_) => Kinds::Text,
            Expr::Metric(place) => {
                let name = self.metrics.get(usize::from(*place));
                name.and_then(|name| (self.known.metric)(name))
                    .unwrap_or(Kinds::Any)
            }
            Expr::Execution if self.known.kind == Kind::Machine => Kinds::Text,
            Expr::Execution => {
                return Err(unknown(
                    "a field of state",
                    "execution",
                    state_fields(self.known.kind),
                ));
            }
            Expr::Field(path) => self.field(path)?,
            Expr::Not(part) => self.wants(part, Kinds::Bool, "!")?,
            Expr::Negate(part) => self.wants(part, Kinds::Number, "-")?,
            Expr::All(parts) | Expr::Any(parts) => {
                for part in parts {
                    self.wants(part, Kinds::Bool, "&& and ||")?;
                }
                Kinds::Bool
            }
            Expr::Compare(comparison, both) => {
                self.same(&both[0], &both[1])?;
                self.words(&both[0], &both[1])?;
                self.words(&both[1], &both[0])?;
                if !matches!(comparison, Comparison::Equal | Comparison::NotEqual)
                    && both.iter().any(|part| matches!(part, Expr::Null))
                {
                    return invalid("nothing is less or more than null (use == or !=)".into());
                }
                Kinds::Bool
            }
            Expr::Arithmetic(super::condition::Arithmetic::Add, both) => self.same(&both[0], &both[1])?,
            Expr::Arithmetic(_, both) => {
                self.wants(&both[0], Kinds::Number, "arithmetic")?;
                self.wants(&both[1], Kinds::Number, "arithmetic")?
            }
            Expr::In(part, list) => {
                for item in list {
                    self.same(part, item)?;
                    self.words(part, item)?;
                }
                Kinds::Bool
            }
            Expr::Words(_, both) => {
                self.wants(&both[0], Kinds::Text, "contains, startsWith and endsWith")?;
                self.wants(&both[1], Kinds::Text, "contains, startsWith and endsWith")?;
                Kinds::Bool
            }
            Expr::Choose(parts) => {
                self.wants(&parts[0], Kinds::Bool, "?:")?;
                self.same(&parts[1], &parts[2])?
            }
            Expr::Has(part) => {
                self.kind(part)?;
                Kinds::Bool
            }
        })
    }

    fn wants(&self, part: &Expr, wanted: Kinds, by: &str) -> Result<Kinds, ConditionError> {
        let kind = self.kind(part)?;
        if kind.fits(wanted) {
            return Ok(wanted);
        }
        invalid(format!(
            "{by} takes {}, and here it is {}",
            wanted.as_str(),
            kind.as_str()
        ))
    }

    fn same(&self, one: &Expr, other: &Expr) -> Result<Kinds, ConditionError> {
        let (one, other) = (self.kind(one)?, self.kind(other)?);
        if !one.fits(other) {
            return invalid(format!(
                "{} and {} stand on the two sides of an operator (compare the same kind of thing)",
                one.as_str(),
                other.as_str()
            ));
        }
        Ok(if one == Kinds::Any { other } else { one })
    }

    /// A word that is compared with a state of few words is one of those.
    fn words(&self, part: &Expr, word: &Expr) -> Result<(), ConditionError> {
        let Expr::Text(word) = word else { return Ok(()) };
        let executions: Vec<&str> = Execution::ALL.into_iter().map(Execution::as_str).collect();
        let (what, words) = match part {
            Expr::Execution => ("an execution state", executions.as_slice()),
            Expr::Field(path) => match &**path {
                [state, name] if **state == *"state" && **name == *"quality" => ("a quality", QUALITY),
                [state, name] if **state == *"state" && **name == *"air_quality" => ("an air quality", AIR),
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        if words.contains(&&**word) {
            return Ok(());
        }
        Err(unknown(what, word, words))
    }

    fn field(&self, path: &[Box<str>]) -> Result<Kinds, ConditionError> {
        let parts: Vec<&str> = path.iter().map(|part| &**part).collect();
        match parts.as_slice() {
            ["kpis", name] => {
                let names = kpis::names(self.known.kind);
                if names.contains(name) {
                    return Ok(Kinds::Number);
                }
                if *name == "bottleneck" && self.known.kind == Kind::Job {
                    return Ok(Kinds::Text);
                }
                Err(unknown("a KPI of these twins", name, names))
            }
            ["kpis", ..] => invalid("a KPI has no fields".into()),
            ["state", "quality" | "air_quality" | "status"] => Ok(Kinds::Text),
            ["state", name, ..] => {
                let fields = state_fields(self.known.kind);
                if fields.contains(name) {
                    return Ok(Kinds::Any);
                }
                Err(unknown("a field of state", name, fields))
            }
            ["kind" | "id"] => Ok(Kinds::Text),
            _ => Ok(Kinds::Any),
        }
    }
}
