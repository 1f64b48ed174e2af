//! The common part of CEL, evaluated over a twin's fields without making its JSON.
//!
//! Promises: agrees with the `cel` crate on what it takes (a test compares them); takes nothing it is not sure of.

use std::borrow::Cow;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, operators as op},
};
use gemba_twins::{Field, time::Timestamp, twin::Twin};

/// A compiled condition.
#[derive(Debug)]
pub(super) enum Predicate {
    And(Vec<Predicate>),
    Or(Vec<Predicate>),
    Not(Box<Predicate>),
    /// A path that is true.
    Is(Path),
    Has(Path),
    Compare(Path, Comparison, Constant),
    In(Path, Vec<Constant>),
    Text(Path, TextTest, Box<str>),
}

type Path = Vec<Box<str>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Constant {
    Null,
    Bool(bool),
    Number(f64),
    Text(Box<str>),
}

impl Predicate {
    /// The predicate of an expression, `None` where `cel` has to evaluate it.
    pub(super) fn of(expression: &IdedExpr) -> Option<Self> {
        match &expression.expr {
            Expr::Call(call) => Self::of_call(call),
            Expr::Select(select) if select.test => {
                let mut path = path(&select.operand)?;
                path.push(select.field.as_str().into());
                Some(Self::Has(path))
            }
            Expr::Select(_) | Expr::Ident(_) => path(expression).map(Self::Is),
            _ => None,
        }
    }

    fn of_call(call: &CallExpr) -> Option<Self> {
        let both = || Some((call.args.first()?, call.args.get(1)?));
        if let Some(target) = &call.target {
            let test = match call.func_name.as_str() {
                "startsWith" => TextTest::StartsWith,
                "endsWith" => TextTest::EndsWith,
                "contains" => TextTest::Contains,
                _ => return None,
            };
            let Constant::Text(text) = constant(call.args.first()?)? else { return None };
            return Some(Self::Text(path(target)?, test, text));
        }
        let comparison = match call.func_name.as_str() {
            op::LOGICAL_AND => return call.args.iter().map(Self::of).collect::<Option<_>>().map(Self::And),
            op::LOGICAL_OR => return call.args.iter().map(Self::of).collect::<Option<_>>().map(Self::Or),
            op::LOGICAL_NOT => return Some(Self::Not(Box::new(Self::of(call.args.first()?)?))),
            op::IN => {
                let (value, list) = both()?;
                let Expr::List(list) = &list.expr else { return None };
                let constants = list.elements.iter().map(constant).collect::<Option<_>>()?;
                return Some(Self::In(path(value)?, constants));
            }
            op::EQUALS => Comparison::Equal,
            op::NOT_EQUALS => Comparison::NotEqual,
            op::LESS => Comparison::Less,
            op::LESS_EQUALS => Comparison::LessOrEqual,
            op::GREATER => Comparison::Greater,
            op::GREATER_EQUALS => Comparison::GreaterOrEqual,
            _ => return None,
        };
        let (left, right) = both()?;
        match (path(left), constant(right)) {
            (Some(path), Some(constant)) => Some(Self::Compare(path, comparison, constant)),
            _ => Some(Self::Compare(path(right)?, comparison.mirrored(), constant(left)?)),
        }
    }

    pub(super) fn holds(&self, twin: &Twin, now: Timestamp) -> bool {
        self.evaluate(twin, now) == Some(true)
    }

    /// `None` is CEL's error: a field that is not there, or values that cannot be compared.
    fn evaluate(&self, twin: &Twin, now: Timestamp) -> Option<bool> {
        match self {
            Self::And(parts) => join(parts, false, twin, now),
            Self::Or(parts) => join(parts, true, twin, now),
            Self::Not(part) => part.evaluate(twin, now).map(|holds| !holds),
            Self::Is(path) => match field(path, twin, now)? {
                Field::Bool(yes) => Some(yes),
                _ => None,
            },
            Self::Has(path) => {
                let (_, above) = path.split_last()?;
                let present = field(path, twin, now).is_some();
                (present || above.len() == 1 || field(above, twin, now).is_some()).then_some(present)
            }
            Self::Compare(path, comparison, constant) => comparison.holds(&field(path, twin, now)?, constant),
            Self::In(path, constants) => {
                let field = field(path, twin, now)?;
                Some(constants.iter().any(|constant| equal(&field, constant)))
            }
            Self::Text(path, test, text) => {
                let Field::Text(value) = field(path, twin, now)? else { return None };
                Some(match test {
                    TextTest::StartsWith => value.starts_with(&**text),
                    TextTest::EndsWith => value.ends_with(&**text),
                    TextTest::Contains => value.contains(&**text),
                })
            }
        }
    }
}

/// `&&` and `||`: a part that decides wins over an error, whichever comes first.
fn join(parts: &[Predicate], decides: bool, twin: &Twin, now: Timestamp) -> Option<bool> {
    let mut failed = false;
    for part in parts {
        match part.evaluate(twin, now) {
            Some(holds) if holds == decides => return Some(decides),
            Some(_) => {}
            None => failed = true,
        }
    }
    (!failed).then_some(!decides)
}

impl Comparison {
    fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }

    fn holds(self, field: &Field<'_>, constant: &Constant) -> Option<bool> {
        let order = match (field, constant) {
            (_, _) if self == Self::Equal => return Some(equal(field, constant)),
            (_, _) if self == Self::NotEqual => return Some(!equal(field, constant)),
            (Field::Number(a), Constant::Number(b)) => a.partial_cmp(b)?,
            (Field::Text(a), Constant::Text(b)) => (**a).cmp(&**b),
            (Field::Bool(a), Constant::Bool(b)) => a.cmp(b),
            _ => return None,
        };
        Some(match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            _ => order.is_ge(),
        })
    }
}

fn equal(field: &Field<'_>, constant: &Constant) -> bool {
    match (field, constant) {
        (Field::Null, Constant::Null) => true,
        (Field::Bool(a), Constant::Bool(b)) => a == b,
        (Field::Number(a), Constant::Number(b)) => a == b,
        (Field::Text(a), Constant::Text(b)) => **a == **b,
        _ => false,
    }
}

fn field<'a>(path: &[Box<str>], twin: &'a Twin, now: Timestamp) -> Option<Field<'a>> {
    // Paths are short; a fixed array keeps the evaluation from allocating.
    let mut parts = [""; 8];
    for (place, part) in parts.iter_mut().zip(path) {
        *place = part;
    }
    match twin.field(parts.get(..path.len())?, now)? {
        Field::Text(Cow::Borrowed(text)) => Some(Field::Text(Cow::Borrowed(text))),
        other => Some(other),
    }
}

fn path(expression: &IdedExpr) -> Option<Path> {
    match &expression.expr {
        Expr::Ident(name) => Some(vec![name.as_str().into()]),
        Expr::Select(select) if !select.test => {
            let mut path = path(&select.operand)?;
            path.push(select.field.as_str().into());
            (path.len() <= 8).then_some(path)
        }
        Expr::Call(call) if call.func_name == op::INDEX && call.target.is_none() => {
            let mut path = path(call.args.first()?)?;
            let Constant::Text(name) = constant(call.args.get(1)?)? else { return None };
            path.push(name);
            (path.len() <= 8).then_some(path)
        }
        _ => None,
    }
}

fn constant(expression: &IdedExpr) -> Option<Constant> {
    match &expression.expr {
        Expr::Literal(LiteralValue::Null) => Some(Constant::Null),
        Expr::Literal(LiteralValue::Boolean(yes)) => Some(Constant::Bool(*yes.inner())),
        Expr::Literal(LiteralValue::Int(number)) => Some(Constant::Number(*number.inner() as f64)),
        Expr::Literal(LiteralValue::Double(number)) => Some(Constant::Number(*number.inner())),
        Expr::Literal(LiteralValue::String(text)) => Some(Constant::Text(text.inner().into())),
        Expr::Call(call) if call.func_name == op::NEGATE => match constant(call.args.first()?)? {
            Constant::Number(number) => Some(Constant::Number(-number)),
            _ => None,
        },
        _ => None,
    }
}
