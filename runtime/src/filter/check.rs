//! What a filter may hold: names that a twin has, functions that exist, and no more work than fits a search.
//!
//! Promises: whatever passes is evaluated in time that grows with the filter times one list of the twin, never with
//! a product of lists, and without deep recursion. Does not know what a filter means.

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, operators as op},
};

/// What a twin's JSON has at its top.
const NAMES: [&str; 11] = [
    "twin",
    "kind",
    "id",
    "rev",
    "seq",
    "updated_at",
    "attributes",
    "state",
    "kpis",
    "alarms",
    "links",
];
/// Names of types, for `type(x) == string`.
const TYPES: [&str; 9] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "uint",
];
const FUNCTIONS: [&str; 12] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "string",
    "double",
    "int",
    "uint",
    "bytes",
    "bool",
    "type",
    "dyn",
];
const OPERATORS: [&str; 18] = [
    op::CONDITIONAL,
    op::LOGICAL_AND,
    op::LOGICAL_OR,
    op::LOGICAL_NOT,
    op::SUBSTRACT,
    op::ADD,
    op::MULTIPLY,
    op::DIVIDE,
    op::MODULO,
    op::EQUALS,
    op::NOT_EQUALS,
    op::GREATER_EQUALS,
    op::LESS_EQUALS,
    op::GREATER,
    op::LESS,
    op::NEGATE,
    op::INDEX,
    op::IN,
];
/// Deepest expression.
const DEPTH_MAX: usize = 256;
/// Most loops (`exists`, `all`, `map`, `filter`), one after the other.
const LOOPS_MAX: usize = 8;

/// Why a part of a filter is refused.
#[derive(Debug, PartialEq)]
pub(super) struct Refused {
    pub(super) node: u64,
    pub(super) detail: String,
}

/// The names of the twin's fields that an expression asks for.
pub(super) fn expression(expression: &IdedExpr) -> Result<Vec<&'static str>, Refused> {
    let mut checker = Checker {
        names: Vec::new(),
        variables: Vec::new(),
        loops: 0,
    };
    checker.check(expression, 0, false)?;
    Ok(checker.names)
}

struct Checker<'a> {
    names: Vec<&'static str>,
    /// The variables of the loop that is being looked at.
    variables: Vec<&'a str>,
    loops: usize,
}

impl<'a> Checker<'a> {
    fn check(&mut self, expression: &'a IdedExpr, depth: usize, in_loop: bool) -> Result<(), Refused> {
        let refuse = |detail: String| {
            Err(Refused {
                node: expression.id,
                detail,
            })
        };
        if depth > DEPTH_MAX {
            return refuse(format!("the filter nests deeper than {DEPTH_MAX} levels"));
        }
        let depth = depth + 1;
        match &expression.expr {
            Expr::Unspecified => refuse("the filter is empty".into()),
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self
                .name(name)
                .map_or_else(|| refuse(unknown("field of a twin", name, &NAMES)), Ok),
            Expr::Select(select) => self.check(&select.operand, depth, in_loop),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let is_known =
                    OPERATORS.contains(&name) || FUNCTIONS.contains(&name) || name == op::NOT_STRICTLY_FALSE;
                if !is_known {
                    return refuse(unknown("function", name, &FUNCTIONS));
                }
                let target = call.target.as_deref();
                target
                    .into_iter()
                    .chain(&call.args)
                    .try_for_each(|part| self.check(part, depth, in_loop))
            }
            Expr::List(list) => list
                .elements
                .iter()
                .try_for_each(|element| self.check(element, depth, in_loop)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.check(&entry.key, depth, in_loop)?;
                    self.check(&entry.value, depth, in_loop)
                }
                EntryExpr::StructField(_) => refuse("a filter cannot make messages".into()),
            }),
            Expr::Struct(_) => refuse("a filter cannot make messages".into()),
            Expr::Comprehension(comprehension) => {
                self.loops += 1;
                if in_loop || self.loops > LOOPS_MAX {
                    return refuse(format!(
                        "a loop stands within another, or there are more than {LOOPS_MAX}"
                    ));
                }
                // What is looped over may itself come from a loop: one after the other.
                self.check(&comprehension.iter_range, depth, false)?;
                self.check(&comprehension.accu_init, depth, true)?;
                let outer = self.variables.len();
                self.variables
                    .extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
                self.variables.extend(comprehension.iter_var2.as_deref());
                for part in [
                    &comprehension.loop_cond,
                    &comprehension.loop_step,
                    &comprehension.result,
                ] {
                    self.check(part, depth, true)?;
                }
                self.variables.truncate(outer);
                Ok(())
            }
        }
    }

    fn name(&mut self, name: &str) -> Option<()> {
        if self.variables.contains(&name) || TYPES.contains(&name) {
            return Some(());
        }
        let known = NAMES.into_iter().find(|known| *known == name)?;
        if !self.names.contains(&known) {
            self.names.push(known);
        }
        Some(())
    }
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let shown: String = name.chars().take(40).collect();
    let nearest = known
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(a, &shown).total_cmp(&strsim::jaro_winkler(b, &shown)));
    format!(
        "{shown:?} is not a {what} (did you mean {:?}?)",
        nearest.unwrap_or(&"")
    )
}
