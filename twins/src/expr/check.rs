//! Whether the kinds within an expression fit, before there are values.
//!
//! Promises: what passes with all kinds known never fails for a wrong kind. Knows no names of its own.

use super::{ExprError, Node, Op, Tree, ValueKind};

type Kind = Option<ValueKind>;

pub(super) fn check(tree: &Tree, kind_of: &dyn Fn(&str) -> Kind) -> Result<Kind, ExprError> {
    let mut kinds: Vec<Kind> = Vec::with_capacity(tree.nodes.len());
    for node in &tree.nodes {
        let kind = kind(tree, *node, &kinds, kind_of)?;
        kinds.push(kind);
    }
    Ok(kinds.pop().flatten())
}

fn kind(tree: &Tree, node: Node, kinds: &[Kind], kind_of: &dyn Fn(&str) -> Kind) -> Result<Kind, ExprError> {
    use ValueKind::{Bool, Number, Text};
    let at = |place: u16| kinds[usize::from(place)];
    let need = |place: u16, needed: ValueKind| match at(place) {
        Some(kind) if kind != needed => Err(ExprError::new(format!(
            "{} needs {}, not {}{}",
            word(node.op),
            needed.as_str(),
            kind.as_str(),
            named(tree, place),
        ))),
        _ => Ok(()),
    };
    let same = |one: u16, other: u16| match (at(one), at(other)) {
        (Some(one), Some(other)) if one != other => Err(ExprError::new(format!(
            "{} puts {} beside {}",
            word(node.op),
            one.as_str(),
            other.as_str(),
        ))),
        (one, other) => Ok(one.or(other)),
    };
    let Node { op, a, b, c } = node;
    match op {
        Op::Number => return Ok(Some(Number)),
        Op::Text => return Ok(Some(Text)),
        Op::Name => return Ok(kind_of(&tree.names[usize::from(a)])),
        Op::Bool | Op::Known => {}
        Op::Not => need(a, Bool)?,
        Op::And | Op::Or => {
            need(a, Bool)?;
            need(b, Bool)?;
        }
        Op::If => {
            need(a, Bool)?;
            return same(b, c);
        }
        Op::Coalesce => return same(a, b),
        Op::Equal | Op::NotEqual => {
            same(a, b)?;
        }
        Op::Less | Op::LessOrEqual | Op::Greater | Op::GreaterOrEqual => {
            need(a, Number)?;
            need(b, Number)?;
        }
        Op::StartsWith | Op::EndsWith | Op::Contains => {
            need(a, Text)?;
            need(b, Text)?;
        }
        Op::Negate | Op::Abs | Op::Round | Op::Floor | Op::Ceil | Op::Sqrt => {
            need(a, Number)?;
            return Ok(Some(Number));
        }
        Op::Add | Op::Subtract | Op::Multiply | Op::Divide | Op::Modulo | Op::Min | Op::Max => {
            need(a, Number)?;
            need(b, Number)?;
            return Ok(Some(Number));
        }
    }
    Ok(Some(Bool))
}

/// The name that a node is, for a message.
fn named(tree: &Tree, place: u16) -> String {
    let node = tree.nodes[usize::from(place)];
    match node.op {
        Op::Name => format!(" ({})", tree.names[usize::from(node.a)]),
        _ => String::new(),
    }
}

/// How people write it.
fn word(op: Op) -> &'static str {
    match op {
        Op::Number | Op::Text | Op::Bool | Op::Name => "a value",
        Op::Known => "known",
        Op::Not => "!",
        Op::Negate | Op::Subtract => "-",
        Op::And => "&&",
        Op::Or => "||",
        Op::If => "? :",
        Op::Add => "+",
        Op::Multiply => "*",
        Op::Divide => "/",
        Op::Modulo => "%",
        Op::Equal => "==",
        Op::NotEqual => "!=",
        Op::Less => "<",
        Op::LessOrEqual => "<=",
        Op::Greater => ">",
        Op::GreaterOrEqual => ">=",
        Op::Min => "min",
        Op::Max => "max",
        Op::Abs => "abs",
        Op::Round => "round",
        Op::Floor => "floor",
        Op::Ceil => "ceil",
        Op::Sqrt => "sqrt",
        Op::Coalesce => "coalesce",
        Op::StartsWith => "startsWith",
        Op::EndsWith => "endsWith",
        Op::Contains => "contains",
    }
}
