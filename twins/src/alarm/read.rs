//! From CEL's syntax tree to a condition: names become places, comparisons become native.
//!
//! Promises: a name that no twin has, a function that does not exist and whatever could run long (loops) is refused
//! with a reason. What is left to `cel` is the smallest part that it takes.

use cel::{
    IdedExpr,
    common::ast::{Expr as Cel, LiteralValue, SelectExpr, operators as op},
};

use super::{
    check::ConditionError,
    condition::{Arithmetic, Comparison, Expr, Scopes, WordTest},
    foreign::{FUNCTIONS, Foreign},
};

/// What stands at the top of a condition.
pub(crate) const NAMES: [&str; 7] = ["metrics", "state", "kpis", "attributes", "alarms", "kind", "id"];
/// Most parts of a path.
pub(super) const PATH_MAX: usize = 8;
/// Deepest expression.
const DEPTH_MAX: usize = 200;

pub(super) fn read(expression: &IdedExpr, scopes: &mut Scopes<'_>) -> Result<Expr, ConditionError> {
    Reader { scopes, depth: 0 }.read(expression)
}

struct Reader<'a, 'b> {
    scopes: &'a mut Scopes<'b>,
    depth: usize,
}

type Read = Result<Expr, ConditionError>;

fn invalid<T>(detail: impl Into<String>) -> Result<T, ConditionError> {
    Err(ConditionError::Invalid(detail.into()))
}

fn unknown<T>(what: &'static str, name: &str, known: &[&str]) -> Result<T, ConditionError> {
    Err(ConditionError::Unknown {
        what,
        name: name.chars().take(60).collect(),
        known: known.iter().map(|known| (*known).to_owned()).collect(),
    })
}

impl Reader<'_, '_> {
    fn read(&mut self, expression: &IdedExpr) -> Read {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return invalid(format!("nests deeper than {DEPTH_MAX} levels"));
        }
        let read = self.part(expression);
        self.depth -= 1;
        read
    }

    fn part(&mut self, expression: &IdedExpr) -> Read {
        match &expression.expr {
            Cel::Unspecified => invalid("is empty"),
            Cel::Literal(literal) => Ok(match literal {
                LiteralValue::Null => Expr::Null,
                LiteralValue::Boolean(yes) => Expr::Bool(*yes.inner()),
                LiteralValue::Int(number) => Expr::Number(*number.inner() as f64),
                LiteralValue::UInt(number) => Expr::Number(*number.inner() as f64),
                LiteralValue::Double(number) => Expr::Number(*number.inner()),
                LiteralValue::String(text) => Expr::Text(text.inner().into()),
                LiteralValue::Bytes(_) => return invalid("bytes are nothing that a twin has"),
            }),
            Cel::Ident(_) => self.path(expression),
            Cel::Select(select) if select.test => {
                let tested = SelectExpr {
                    test: false,
                    ..select.clone()
                };
                let path = IdedExpr {
                    id: expression.id,
                    expr: Cel::Select(tested),
                };
                Ok(Expr::Has(Box::new(self.path(&path)?)))
            }
            Cel::Select(_) => self.path(expression),
            Cel::Call(call) if call.target.is_some() => {
                let test = match call.func_name.as_str() {
                    "startsWith" => WordTest::StartsWith,
                    "endsWith" => WordTest::EndsWith,
                    "contains" => WordTest::Contains,
                    _ => return self.foreign(expression),
                };
                match (&call.target, call.args.as_slice()) {
                    (Some(target), [argument]) => {
                        let both = [self.read(target)?, self.read(argument)?];
                        Ok(Expr::Words(test, Box::new(both)))
                    }
                    _ => invalid(format!("{} takes one text", call.func_name)),
                }
            }
            Cel::Call(call) => self.call(expression, &call.func_name, &call.args),
            Cel::Comprehension(_) => {
                invalid("loops (exists, all, map, filter) are not possible in a condition of an alarm")
            }
            Cel::List(_) | Cel::Map(_) | Cel::Struct(_) => invalid("a list can only stand right of `in`"),
        }
    }

    fn call(&mut self, expression: &IdedExpr, function: &str, arguments: &[IdedExpr]) -> Read {
        let comparison = |comparison| Some((Some(comparison), None));
        let arithmetic = |arithmetic| Some((None, Some(arithmetic)));
        let two = match function {
            op::EQUALS => comparison(Comparison::Equal),
            op::NOT_EQUALS => comparison(Comparison::NotEqual),
            op::LESS => comparison(Comparison::Less),
            op::LESS_EQUALS => comparison(Comparison::LessOrEqual),
            op::GREATER => comparison(Comparison::Greater),
            op::GREATER_EQUALS => comparison(Comparison::GreaterOrEqual),
            op::ADD => arithmetic(Arithmetic::Add),
            op::SUBSTRACT => arithmetic(Arithmetic::Subtract),
            op::MULTIPLY => arithmetic(Arithmetic::Multiply),
            op::DIVIDE => arithmetic(Arithmetic::Divide),
            _ => None,
        };
        match (function, arguments) {
            (op::LOGICAL_AND, parts) => Ok(Expr::All(self.all(parts)?)),
            (op::LOGICAL_OR, parts) => Ok(Expr::Any(self.all(parts)?)),
            (op::LOGICAL_NOT, [part]) => Ok(Expr::Not(Box::new(self.read(part)?))),
            (op::NEGATE, [part]) => Ok(match self.read(part)? {
                Expr::Number(number) => Expr::Number(-number),
                part => Expr::Negate(Box::new(part)),
            }),
            (op::CONDITIONAL, [condition, one, other]) => {
                let parts = [self.read(condition)?, self.read(one)?, self.read(other)?];
                Ok(Expr::Choose(Box::new(parts)))
            }
            (op::IN, [value, list]) => match &list.expr {
                Cel::List(list) => {
                    let value = Box::new(self.read(value)?);
                    Ok(Expr::In(value, self.all(&list.elements)?))
                }
                _ => self.foreign(expression),
            },
            (op::INDEX, _) => match self.path(expression) {
                Err(ConditionError::Invalid(_)) => self.foreign(expression),
                path => path,
            },
            (_, [one, other]) if two.is_some() => {
                let both = Box::new([self.read(one)?, self.read(other)?]);
                Ok(match two {
                    Some((Some(comparison), _)) => Expr::Compare(comparison, both),
                    Some((_, Some(arithmetic))) => Expr::Arithmetic(arithmetic, both),
                    _ => Expr::Null,
                })
            }
            _ => self.foreign(expression),
        }
    }

    fn all(&mut self, parts: &[IdedExpr]) -> Result<Vec<Expr>, ConditionError> {
        parts.iter().map(|part| self.read(part)).collect()
    }

    /// A path such as `metrics.spindle_rpm` or `attributes["line"]`.
    fn path(&mut self, expression: &IdedExpr) -> Read {
        let Some(path) = path_of(expression) else {
            return invalid("only a field with a fixed name can be looked at");
        };
        let parts: Vec<&str> = path.iter().map(|part| &**part).collect();
        if parts.len() > PATH_MAX {
            return invalid(format!("a path has at most {PATH_MAX} parts"));
        }
        match parts.as_slice() {
            ["metrics", name] => Ok(Expr::Metric(self.scopes.metric(name))),
            ["metrics", name, "value"] => Ok(Expr::Metric(self.scopes.metric(name))),
            ["state", "execution"] => Ok(Expr::Execution),
            ["alarms", name] => match self.scopes.alarms.iter().position(|known| **known == **name) {
                Some(place) => Ok(Expr::Alarm(u16::try_from(place).unwrap_or(u16::MAX))),
                None => {
                    let known: Vec<&str> = self.scopes.alarms.iter().map(|known| &**known).collect();
                    unknown("an alarm of the same twins", name, &known)
                }
            },
            ["state" | "kpis" | "attributes", _, ..] | ["kind" | "id"] => Ok(Expr::Field(path.into())),
            [name @ ("metrics" | "state" | "kpis" | "attributes" | "alarms")] => {
                invalid(format!("{name} is not a value (name a field, e.g. {name}.x)"))
            }
            ["metrics" | "alarms", name, ..] => invalid(format!("{name} has no fields")),
            [name @ ("kind" | "id"), ..] => invalid(format!("{name} has no fields")),
            [name, ..] => unknown("a name", name, &NAMES),
            [] => invalid("is empty"),
        }
    }

    /// Leaves a part to `cel`, if it is a function that exists over names that exist.
    fn foreign(&mut self, expression: &IdedExpr) -> Read {
        let mut names = Vec::new();
        self.allow(expression, &mut names, 0)?;
        Ok(Expr::Foreign(Box::new(Foreign::new(expression.clone(), names))))
    }

    fn allow(
        &mut self,
        expression: &IdedExpr,
        names: &mut Vec<&'static str>,
        depth: usize,
    ) -> Result<(), ConditionError> {
        if depth > DEPTH_MAX {
            return invalid(format!("nests deeper than {DEPTH_MAX} levels"));
        }
        match &expression.expr {
            Cel::Literal(_) => Ok(()),
            Cel::Ident(name) => {
                let Some(known) = NAMES.iter().find(|known| **known == *name) else {
                    return unknown("a name", name, &NAMES);
                };
                if *known == "alarms" {
                    return invalid("alarms can only be named plainly, e.g. alarms.line_stopped");
                }
                if !names.contains(known) {
                    names.push(known);
                }
                Ok(())
            }
            Cel::Select(select) => {
                // Metrics within are checked for their names like all others.
                if let Some(path) = path_of(expression)
                    && let [first, name, ..] = path.as_slice()
                    && **first == *"metrics"
                {
                    self.scopes.metric(name);
                }
                self.allow(&select.operand, names, depth + 1)
            }
            Cel::Call(call) => {
                let is_operator = call.func_name.starts_with(['_', '!', '-', '@']);
                if !is_operator && !FUNCTIONS.contains(&call.func_name.as_str()) {
                    return unknown("a function", &call.func_name, &FUNCTIONS);
                }
                let parts = call.target.as_deref().into_iter().chain(&call.args);
                for part in parts {
                    self.allow(part, names, depth + 1)?;
                }
                Ok(())
            }
            Cel::List(list) => list
                .elements
                .iter()
                .try_for_each(|element| self.allow(element, names, depth + 1)),
            _ => invalid("loops, maps and messages are not possible in a condition of an alarm"),
        }
    }
}

fn path_of(expression: &IdedExpr) -> Option<Vec<Box<str>>> {
    let (mut path, name): (Vec<Box<str>>, Box<str>) = match &expression.expr {
        Cel::Ident(name) => (Vec::new(), name.as_str().into()),
        Cel::Select(select) if !select.test => (path_of(&select.operand)?, select.field.as_str().into()),
        Cel::Call(call) if call.func_name == op::INDEX && call.target.is_none() => {
            let Cel::Literal(LiteralValue::String(name)) = &call.args.get(1)?.expr else {
                return None;
            };
            (path_of(call.args.first()?)?, name.inner().into())
        }
        _ => return None,
    };
    path.push(name);
    Some(path)
}
