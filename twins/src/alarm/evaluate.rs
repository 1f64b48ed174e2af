//! A condition over a twin as it stands: what holds, what does not, and what cannot be decided.
//!
//! Promises: agrees with the `cel` crate on what is native (a test compares them); allocates nothing for numbers and
//! for texts that the twin holds. A deadband moves the limits of a condition that holds already, so that a value has to
//! come back behind them before it ceases to hold; within a negation the other way round.

use std::{cell::OnceCell, cmp::Ordering};

use super::{
    condition::{Arithmetic, Comparison, Condition, Expr, WordTest},
    life::Alarm,
};
use crate::{config::Execution, event::Value, field::Field, time::Timestamp, twin::Twin};

/// What a condition is evaluated over.
pub(crate) struct Scope<'a> {
    pub(crate) twin: &'a Twin,
    /// What the machine does, worked out when the first condition asks: what waits in its window has to be folded for
    /// it.
    pub(crate) execution: &'a OnceCell<Option<Execution>>,
    pub(crate) now: Timestamp,
    /// Where the metrics of the rules stand among the twin's; `u16::MAX` for those it does not have.
    pub(crate) slots: &'a [u16],
    pub(crate) alarms: &'a [Alarm],
}

impl Condition {
    /// Whether it holds; `None` where it cannot be decided.
    pub(crate) fn holds(&self, scope: &Scope<'_>, deadband: f64) -> Option<bool> {
        self.root.holds(scope, deadband)
    }
}

impl<'a> Scope<'a> {
    fn execution(&self) -> Option<&'static str> {
        let said = self.execution.get_or_init(|| {
            let machine = self.twin.machine_now()?;
            machine.since.map(|_| machine.execution)
        });
        said.map(|said| {
            if self.twin.is_stale(self.now) {
                Execution::Unknown.as_str()
            } else {
                said.as_str()
            }
        })
    }

    fn metric(&self, place: u16) -> Option<&'a Value> {
        let slot = usize::from(*self.slots.get(usize::from(place))?);
        self.twin.metrics.items.get(slot).map(|metric| &metric.value)
    }

    fn field(&self, path: &[Box<str>]) -> Option<Field<'a>> {
        // Paths are short; a fixed array keeps the evaluation from allocating.
        let mut parts = [""; super::read::PATH_MAX];
        for (place, part) in parts.iter_mut().zip(path) {
            *place = part;
        }
        self.twin.field(parts.get(..path.len())?, self.now)
    }
}

impl Expr {
    fn holds(&self, scope: &Scope<'_>, deadband: f64) -> Option<bool> {
        match self {
            Self::Compare(comparison, both) => {
                let [one, other] = &**both;
                if let (Some(one), Some(other)) = (one.number(scope), other.number(scope)) {
                    return comparison.of_numbers(one, other, deadband);
                }
                comparison.of_fields(&one.value(scope)?, &other.value(scope)?, deadband)
            }
            Self::All(parts) => join(parts, false, scope, deadband),
            Self::Any(parts) => join(parts, true, scope, deadband),
            Self::Not(part) => part.holds(scope, -deadband).map(|holds| !holds),
            Self::Bool(holds) => Some(*holds),
            Self::Alarm(place) => scope.alarms.get(usize::from(*place)).map(|alarm| alarm.active),
            Self::In(part, list) => {
                let field = part.value(scope)?;
                Some(
                    list.iter()
                        .any(|item| item.value(scope).is_some_and(|item| equal(&field, &item))),
                )
            }
            Self::Words(test, both) => {
                let (Field::Text(text), Field::Text(part)) = (both[0].value(scope)?, both[1].value(scope)?)
                else {
                    return None;
                };
                Some(match test {
                    WordTest::StartsWith => text.starts_with(&*part),
                    WordTest::EndsWith => text.ends_with(&*part),
                    WordTest::Contains => text.contains(&*part),
                })
            }
            Self::Choose(parts) => {
                let [condition, one, other] = &**parts;
                if condition.holds(scope, deadband)? {
                    one.holds(scope, deadband)
                } else {
                    other.holds(scope, deadband)
                }
            }
            Self::Has(part) => Some(part.value(scope).is_some()),
            _ => match self.value(scope)? {
                Field::Bool(yes) => Some(yes),
                _ => None,
            },
        }
    }

    /// The number that it is, where that can be told without looking far.
    fn number(&self, scope: &Scope<'_>) -> Option<f64> {
        match self {
            Self::Metric(place) => match scope.metric(*place)? {
                Value::Number(number) => Some(*number),
                _ => None,
            },
            Self::Number(number) => Some(*number),
            Self::Arithmetic(arithmetic, both) => {
                let (one, other) = (both[0].any_number(scope)?, both[1].any_number(scope)?);
                Some(match arithmetic {
                    Arithmetic::Add => one + other,
                    Arithmetic::Subtract => one - other,
                    Arithmetic::Multiply => one * other,
                    Arithmetic::Divide => one / other,
                })
            }
            Self::Negate(part) => part.any_number(scope).map(|number| -number),
            _ => None,
        }
    }

    fn any_number(&self, scope: &Scope<'_>) -> Option<f64> {
        match self {
            Self::Metric(_) | Self::Number(_) | Self::Arithmetic(..) | Self::Negate(_) => self.number(scope),
            _ => match self.value(scope)? {
                Field::Number(number) => Some(number),
                _ => None,
            },
        }
    }

    fn value<'a>(&'a self, scope: &Scope<'a>) -> Option<Field<'a>> {
        match self {
            Self::Null => Some(Field::Null),
            Self::Bool(yes) => Some(Field::Bool(*yes)),
            Self::Number(number) => Some(Field::Number(*number)),
            Self::Text(text) => Some(Field::Text((&**text).into())),
            Self::Metric(place) => scope.metric(*place).map(|value| match value {
                Value::Number(number) => Field::Number(*number),
                Value::Text(text) => Field::Text((&**text).into()),
                Value::Bool(yes) => Field::Bool(*yes),
            }),
            Self::Execution => scope.execution().map(|word| Field::Text(word.into())),
            Self::Field(path) => scope.field(path),
            Self::Arithmetic(Arithmetic::Add, both) => match (both[0].value(scope)?, both[1].value(scope)?) {
                (Field::Text(one), Field::Text(other)) => {
                    Some(Field::Text((one + other).into_owned().into()))
                }
                (Field::Number(one), Field::Number(other)) => Some(Field::Number(one + other)),
                _ => None,
            },
            Self::Arithmetic(..) | Self::Negate(_) => self.number(scope).map(Field::Number),
            Self::Choose(parts) => {
                let [condition, one, other] = &**parts;
                if condition.holds(scope, 0.0)? {
                    one.value(scope)
                } else {
                    other.value(scope)
                }
            }
            Self::Foreign(foreign) => foreign.evaluate(scope),
            _ => self.holds(scope, 0.0).map(Field::Bool),
        }
    }
}

/// `&&` and `||`: a part that decides wins over one that cannot be decided, whichever comes first.
fn join(parts: &[Expr], decides: bool, scope: &Scope<'_>, deadband: f64) -> Option<bool> {
    let mut undecided = false;
    for part in parts {
        match part.holds(scope, deadband) {
            Some(holds) if holds == decides => return Some(decides),
            Some(_) => {}
            None => undecided = true,
        }
    }
    (!undecided).then_some(!decides)
}

impl Comparison {
    fn of_numbers(self, one: f64, other: f64, deadband: f64) -> Option<bool> {
        if one.is_nan() || other.is_nan() {
            // Nothing was divided by nothing: that says neither yes nor no.
            return None;
        }
        Some(match self {
            Self::Equal => one == other,
            Self::NotEqual => one != other,
            Self::Less => one < other + deadband,
            Self::LessOrEqual => one <= other + deadband,
            Self::Greater => one > other - deadband,
            Self::GreaterOrEqual => one >= other - deadband,
        })
    }

    fn of_fields(self, one: &Field<'_>, other: &Field<'_>, deadband: f64) -> Option<bool> {
        let order = match (one, other) {
            (Field::Number(one), Field::Number(other)) => return self.of_numbers(*one, *other, deadband),
            (_, _) if self == Self::Equal => return Some(equal(one, other)),
            (_, _) if self == Self::NotEqual => return Some(!equal(one, other)),
            (Field::Text(one), Field::Text(other)) => (**one).cmp(&**other),
            (Field::Bool(one), Field::Bool(other)) => one.cmp(other),
            _ => return None,
        };
        Some(match self {
            Self::Less => order == Ordering::Less,
            Self::LessOrEqual => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            _ => order != Ordering::Less,
        })
    }
}

fn equal(one: &Field<'_>, other: &Field<'_>) -> bool {
    match (one, other) {
        (Field::Null, Field::Null) => true,
        (Field::Bool(one), Field::Bool(other)) => one == other,
        (Field::Number(one), Field::Number(other)) => one == other,
        (Field::Text(one), Field::Text(other)) => **one == **other,
        _ => false,
    }
}
