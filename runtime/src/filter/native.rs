//! The common part of CEL, evaluated over a twin's fields without making its JSON.
//!
//! Promises: agrees with the `cel` crate on what it takes (a test compares them); what it is not sure of it leaves to
//! `cel`, part by part, so that `kind == "machine" && size(attributes.name) > 3` asks `cel` for machines only.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, SelectExpr, operators as op},
};
use gemba_twins::Field;

use super::{Filter, by_cel::Over};

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
    Always(bool),
    /// Left to `cel`.
    ByCel(Box<IdedExpr>),
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
    /// The predicate of an expression.
    pub(super) fn of(expression: &IdedExpr) -> Self {
        let native = match &expression.expr {
            Expr::Call(call) => Self::of_call(call),
            Expr::Select(select) if select.test => {
                let tested = SelectExpr {
                    test: false,
                    ..select.clone()
                };
                path(&IdedExpr {
                    id: expression.id,
                    expr: Expr::Select(tested),
                })
                .map(Self::Has)
            }
            Expr::Select(_) | Expr::Ident(_) => path(expression).map(Self::Is),
            Expr::Literal(LiteralValue::Boolean(always)) => Some(Self::Always(*always.inner())),
            _ => None,
        };
        native.unwrap_or_else(|| Self::ByCel(Box::new(expression.clone())))
    }

    pub(super) fn is_native(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().all(Self::is_native),
            Self::Not(part) => part.is_native(),
            Self::ByCel(_) => false,
            _ => true,
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
            let Constant::Text(text) = constant(call.args.first()?)? else {
                return None;
            };
            return Some(Self::Text(path(target)?, test, text));
        }
        let comparison = match call.func_name.as_str() {
            op::LOGICAL_AND => return Some(Self::And(call.args.iter().map(Self::of).collect())),
            op::LOGICAL_OR => return Some(Self::Or(call.args.iter().map(Self::of).collect())),
            op::LOGICAL_NOT => return Some(Self::Not(Box::new(Self::of(call.args.first()?)))),
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
            _ => Some(Self::Compare(
                path(right)?,
                comparison.mirrored(),
                constant(left)?,
            )),
        }
    }

    /// Texts without which it cannot hold: by path, any of the texts.
    pub(super) fn required_texts<'a>(&'a self, into: &mut Vec<(&'a [Box<str>], Vec<&'a str>)>) {
        let text = |constant: &'a Constant| match constant {
            Constant::Text(text) => Some(&**text),
            _ => None,
        };
        match self {
            Self::And(parts) => parts.iter().for_each(|part| part.required_texts(into)),
            Self::Compare(path, Comparison::Equal, Constant::Text(text)) => into.push((path, vec![text])),
            Self::In(path, constants) => {
                if let Some(texts) = constants.iter().map(text).collect() {
                    into.push((path, texts));
                }
            }
            _ => {}
        }
    }

    /// `None` is CEL's error: a field that is not there, or values that cannot be compared.
    pub(super) fn evaluate(&self, over: &Over<'_>) -> Option<bool> {
        match self {
            Self::And(parts) => join(parts, false, over),
            Self::Or(parts) => join(parts, true, over),
            Self::Not(part) => part.evaluate(over).map(|holds| !holds),
            Self::Always(holds) => Some(*holds),
            Self::ByCel(expression) => over.evaluate(expression),
            Self::Is(path) => match field(path, over)? {
                Field::Bool(yes) => Some(yes),
                _ => None,
            },
            Self::Has(path) => {
                if field(path, over).is_some() {
                    return Some(true);
                }
                let (_, above) = path.split_last()?;
                matches!(field(above, over)?, Field::Composite).then_some(false)
            }
            Self::Compare(path, comparison, constant) => comparison.holds(&field(path, over)?, constant),
            Self::In(path, constants) => {
                let field = field(path, over)?;
                Some(constants.iter().any(|constant| equal(&field, constant)))
            }
            Self::Text(path, test, text) => {
                let Field::Text(value) = field(path, over)? else {
                    return None;
                };
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
fn join(parts: &[Predicate], decides: bool, over: &Over<'_>) -> Option<bool> {
    let mut failed = false;
    for part in parts {
        match part.evaluate(over) {
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

fn field<'a>(path: &[Box<str>], over: &Over<'a>) -> Option<Field<'a>> {
    // Paths are short; a fixed array keeps the evaluation from allocating.
    let mut parts = [""; Filter::PATH_MAX];
    for (place, part) in parts.iter_mut().zip(path) {
        *place = part;
    }
    over.twin.field(parts.get(..path.len())?, over.now)
}

/// The path that an expression is, if the twin itself knows all that can stand there.
fn path(expression: &IdedExpr) -> Option<Path> {
    let path = any_path(expression)?;
    let parts: Vec<&str> = path.iter().map(|part| &**part).collect();
    let is_known = match parts.as_slice() {
        [
            "alarms",
            "active" | "unacknowledged" | "highest_severity" | "shelved",
        ] => true,
        ["attributes", ..] | ["seq" | "kpis" | "state", _] => path.len() <= Filter::PATH_MAX,
        ["state", "metrics", _] | ["state", "metrics", _, _] => true,
        [_] => true,
        _ => false,
    };
    is_known.then_some(path)
}

fn any_path(expression: &IdedExpr) -> Option<Path> {
    let (mut path, name) = match &expression.expr {
        Expr::Ident(name) => (Path::new(), name.as_str().into()),
        Expr::Select(select) if !select.test => (any_path(&select.operand)?, select.field.as_str().into()),
        Expr::Call(call) if call.func_name == op::INDEX && call.target.is_none() => {
            let Constant::Text(name) = constant(call.args.get(1)?)? else {
                return None;
            };
            (any_path(call.args.first()?)?, name)
        }
        _ => return None,
    };
    path.push(name);
    Some(path)
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
