//! An expression's value.
//!
//! Promises: allocates nothing; recursion is bounded by the depth that reading allows; gives a finite number, a truth
//! or a text, or the first reason why there is none.

use std::fmt;

use super::{Node, Op, Tree, ValueKind};

/// A value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operand<'a> {
    /// A finite number.
    Number(f64),
    /// Yes or no.
    Bool(bool),
    /// A word.
    Text(&'a str),
}

impl Operand<'_> {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Number(_) => ValueKind::Number,
            Self::Bool(_) => ValueKind::Bool,
            Self::Text(_) => ValueKind::Text,
        }
    }
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent<'a> {
    /// This name has none.
    Missing(&'a str),
    /// Something was divided by zero.
    DividedByZero,
    /// A result is no finite number: too large, or the root of a negative number.
    NotFinite,
    /// A value is of another kind than is needed.
    WrongKind(ValueKind),
}

impl fmt::Display for Absent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "{name} has no value"),
            Self::DividedByZero => f.write_str("division by zero"),
            Self::NotFinite => f.write_str("the result is not a finite number"),
            Self::WrongKind(needed) => write!(f, "{} is needed", needed.as_str()),
        }
    }
}

type Value<'a> = Result<Operand<'a>, Absent<'a>>;

/// Where names get their values.
type Look<'a, 'l> = &'l dyn Fn(&'a str) -> Option<Operand<'a>>;

pub(super) fn evaluate<'a>(tree: &'a Tree, look: Look<'a, '_>) -> Value<'a> {
    match tree.nodes.len().checked_sub(1) {
        Some(last) => value(tree, last, look),
        None => Err(Absent::NotFinite),
    }
}

fn value<'a>(tree: &'a Tree, at: usize, look: Look<'a, '_>) -> Value<'a> {
    let Node { op, a, b, c } = tree.nodes[at];
    let (a, b, c) = (usize::from(a), usize::from(b), usize::from(c));
    let of = |at: usize| value(tree, at, look);
    let number = |at: usize| match value(tree, at, look)? {
        Operand::Number(number) => Ok(number),
        _ => Err(Absent::WrongKind(ValueKind::Number)),
    };
    let truth = |at: usize| match value(tree, at, look)? {
        Operand::Bool(yes) => Ok(yes),
        _ => Err(Absent::WrongKind(ValueKind::Bool)),
    };
    let text = |at: usize| match value(tree, at, look)? {
        Operand::Text(text) => Ok(text),
        _ => Err(Absent::WrongKind(ValueKind::Text)),
    };
    let compared = |holds: fn(f64, f64) -> bool| Ok(Operand::Bool(holds(number(a)?, number(b)?)));
    match op {
        Op::Number => Ok(Operand::Number(tree.numbers[a])),
        Op::Text => Ok(Operand::Text(&tree.texts[a])),
        Op::Bool => Ok(Operand::Bool(a == 1)),
        Op::Name => look(&tree.names[a]).ok_or(Absent::Missing(&tree.names[a])),
        Op::Known => Ok(Operand::Bool(look(&tree.names[a]).is_some())),
        Op::Not => Ok(Operand::Bool(!truth(a)?)),
        Op::Negate => finite(-number(a)?),
        Op::And => join(truth(a), false, || truth(b)),
        Op::Or => join(truth(a), true, || truth(b)),
        Op::If => of(if truth(a)? { b } else { c }),
        Op::Add => finite(number(a)? + number(b)?),
        Op::Subtract => finite(number(a)? - number(b)?),
        Op::Multiply => finite(number(a)? * number(b)?),
        Op::Divide | Op::Modulo => {
            let (dividend, divisor) = (number(a)?, number(b)?);
            if divisor == 0.0 {
                return Err(Absent::DividedByZero);
            }
            finite(if op == Op::Divide {
                dividend / divisor
            } else {
                dividend % divisor
            })
        }
        Op::Equal => Ok(Operand::Bool(of(a)? == of(b)?)),
        Op::NotEqual => Ok(Operand::Bool(of(a)? != of(b)?)),
        Op::Less => compared(|one, other| one < other),
        Op::LessOrEqual => compared(|one, other| one <= other),
        Op::Greater => compared(|one, other| one > other),
        Op::GreaterOrEqual => compared(|one, other| one >= other),
        Op::Min => finite(number(a)?.min(number(b)?)),
        Op::Max => finite(number(a)?.max(number(b)?)),
        Op::Abs => finite(number(a)?.abs()),
        Op::Round => finite(number(a)?.round()),
        Op::Floor => finite(number(a)?.floor()),
        Op::Ceil => finite(number(a)?.ceil()),
        Op::Sqrt => finite(number(a)?.sqrt()),
        Op::Coalesce => of(a).or_else(|_| of(b)),
        Op::StartsWith => Ok(Operand::Bool(text(a)?.starts_with(text(b)?))),
        Op::EndsWith => Ok(Operand::Bool(text(a)?.ends_with(text(b)?))),
        Op::Contains => Ok(Operand::Bool(text(a)?.contains(text(b)?))),
    }
}

/// Minus zero becomes zero: it would not survive its way to disk.
fn finite<'a>(number: f64) -> Value<'a> {
    if number.is_finite() {
        Ok(Operand::Number(number + 0.0))
    } else {
        Err(Absent::NotFinite)
    }
}

/// `&&` and `||`: a side that decides wins over an absent one, whichever comes first.
fn join<'a>(
    one: Result<bool, Absent<'a>>,
    decides: bool,
    other: impl FnOnce() -> Result<bool, Absent<'a>>,
) -> Value<'a> {
    if one == Ok(decides) {
        return Ok(Operand::Bool(decides));
    }
    match (one, other()) {
        (_, Ok(truth)) if truth == decides => Ok(Operand::Bool(decides)),
        (Err(absent), _) | (_, Err(absent)) => Err(absent),
        _ => Ok(Operand::Bool(!decides)),
    }
}
