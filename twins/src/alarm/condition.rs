//! A condition of an alarm: CEL, read into a form that is evaluated over the twin itself.
//!
//! Promises: what is written in comparisons, arithmetic, words and logic is native (`read.rs`); the rest is left to
//! the `cel` crate, part by part (`foreign.rs`). Metrics are places in the rules' common list, not names, so that a
//! look-up costs no comparison of texts. Reading is deterministic and its work bounded.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{check::ConditionError, foreign::Foreign, read::read, shape::shape};

/// Longest condition, in bytes.
pub(crate) const CONDITION_MAX: usize = 2_048;

/// A compiled condition.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) root: Expr,
}

/// What names in a condition stand for.
pub(crate) struct Scopes<'a> {
    /// The metrics that conditions of the set name, in the order met.
    pub(crate) metrics: Vec<Box<str>>,
    /// The rules of the set.
    pub(crate) alarms: &'a [Box<str>],
}

/// A part of a condition.
#[derive(Debug)]
pub(crate) enum Expr {
    Null,
    Bool(bool),
    Number(f64),
    Text(Box<str>),
    /// The newest value of a metric.
    Metric(u16),
    /// A machine's execution state.
    Execution,
    /// Another field of the twin's JSON.
    Field(Box<[Box<str>]>),
    /// Whether another alarm of the twin is active.
    Alarm(u16),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Compare(Comparison, Box<[Expr; 2]>),
    Arithmetic(Arithmetic, Box<[Expr; 2]>),
    In(Box<Expr>, Vec<Expr>),
    Words(WordTest, Box<[Expr; 2]>),
    /// `a ? b : c`
    Choose(Box<[Expr; 3]>),
    Has(Box<Expr>),
    /// Left to `cel`.
    Foreign(Box<Foreign>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WordTest {
    StartsWith,
    EndsWith,
    Contains,
}

impl Scopes<'_> {
    /// The place of a metric.
    pub(crate) fn metric(&mut self, name: &str) -> u16 {
        let place = self.metrics.iter().position(|known| **known == *name);
        let place = place.unwrap_or_else(|| {
            self.metrics.push(name.into());
            self.metrics.len() - 1
        });
        // A condition has 2,048 bytes and a twin at most 64 rules, so the places stay far below.
        u16::try_from(place).unwrap_or(u16::MAX)
    }
}

impl Condition {
    pub(crate) fn compile(text: &str, scopes: &mut Scopes<'_>) -> Result<Self, ConditionError> {
        if text.len() > CONDITION_MAX {
            let detail = format!("has {} bytes (at most {CONDITION_MAX} are allowed)", text.len());
            return Err(ConditionError::Invalid(detail));
        }
        if let Some(detail) = shape("condition", text) {
            return Err(ConditionError::Invalid(detail));
        }
        // The parser is generated code over foreign text; should it panic, the text is to blame.
        let program = match catch_unwind(AssertUnwindSafe(|| cel::Program::compile(text))) {
            Ok(Ok(program)) => program,
            Ok(Err(problems)) => return Err(syntax(&problems)),
            Err(_) => return Err(ConditionError::Invalid("cannot be parsed".into())),
        };
        let root = read(program.expression(), scopes)?;
        Ok(Self { root })
    }

    /// The metric that it names first.
    pub(crate) fn first_metric(&self) -> Option<u16> {
        let mut first = None;
        self.root.each(&mut |part| {
            if let (None, Expr::Metric(place)) = (first, part) {
                first = Some(*place);
            }
        });
        first
    }
}

fn syntax(problems: &cel::parser::ParseErrors) -> ConditionError {
    let example = "(example: metrics.spindle_temp_c > 80 && state.execution == \"producing\")";
    let detail = problems.errors.first().map_or_else(
        || format!("cannot be parsed {example}"),
        |first| {
            let message: String = first.msg.chars().take(200).collect();
            format!("{message} at character {} {example}", first.pos.1)
        },
    );
    ConditionError::Invalid(detail)
}

impl Expr {
    /// Calls `look` with this part and all within it, in the order written.
    pub(crate) fn each<'a>(&'a self, look: &mut impl FnMut(&'a Expr)) {
        look(self);
        match self {
            Self::Not(part) | Self::Negate(part) | Self::Has(part) => part.each(look),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.each(look)),
            Self::Compare(_, both) | Self::Arithmetic(_, both) | Self::Words(_, both) => {
                both.iter().for_each(|part| part.each(look));
            }
            Self::In(part, list) => {
                part.each(look);
                list.iter().for_each(|part| part.each(look));
            }
            Self::Choose(parts) => parts.iter().for_each(|part| part.each(look)),
            Self::Null
            | Self::Bool(_)
            | Self::Number(_)
            | Self::Text(_)
            | Self::Metric(_)
            | Self::Execution
            | Self::Field(_)
            | Self::Alarm(_)
            | Self::Foreign(_) => {}
        }
    }
}
