//! Expressions over the names of a twin, in CEL's grammar: what the plant model computes and conditions by.
//!
//! Promises: read once (`read.rs`, by the `cel` crate's parser) into a small tree of our own that is evaluated in
//! nanoseconds and without allocating; what CEL has and this has not is refused by name when it is read. Absent is not
//! zero: a name without a value, a division by zero or a value of the wrong kind make the result absent, with the
//! reason. `&&`, `||` and `? :` look only at what they need, and `&&` and `||` absorb what is absent as CEL says.
//! Differs from CEL in one thing: all numbers are doubles, so `1 / 2` is 0.5. Functions whose last bit depends on
//! the machine (`pow`, `exp`, `ln`) are left out: a fold gives the same bits everywhere. Knows nothing of twins.

mod check;
mod evaluate;
mod read;
mod wire;

use std::{fmt, sync::Arc};

use thiserror::Error;

pub use self::evaluate::{Absent, Operand};
pub(crate) use self::wire::ExprWire;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// A number.
    Number,
    /// Yes or no.
    Bool,
    /// A word.
    Text,
}

impl ValueKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Bool => "true or false",
            Self::Text => "a text",
        }
    }
}

/// Why a text is not an expression.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct ExprError {
    /// For people.
    pub detail: String,
    /// The character it is about, from 0, where that is known.
    pub position: Option<usize>,
}

impl ExprError {
    fn new(detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            position: None,
        }
    }
}

/// A compiled expression. Cheap to clone.
#[derive(Clone, PartialEq)]
pub struct Expr(Arc<Tree>);

#[derive(Debug, PartialEq)]
struct Tree {
    text: Box<str>,
    /// Children before parents; the last one is the whole.
    nodes: Box<[Node]>,
    numbers: Box<[f64]>,
    texts: Box<[Box<str>]>,
    names: Box<[Box<str>]>,
}

/// One step: what to do, and with which other nodes, or with which entry of a table.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Node {
    op: Op,
    a: u16,
    b: u16,
    c: u16,
}

/// What a node does. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Op {
    /// `a` in the table of numbers.
    Number = 1,
    /// `a` in the table of texts.
    Text = 2,
    /// `a` is 1 for true.
    Bool = 3,
    /// `a` in the table of names.
    Name = 4,
    /// Whether the name has a value.
    Known = 5,
    Not = 6,
    Negate = 7,
    And = 8,
    Or = 9,
    If = 10,
    Add = 11,
    Subtract = 12,
    Multiply = 13,
    Divide = 14,
    Modulo = 15,
    Equal = 16,
    NotEqual = 17,
    Less = 18,
    LessOrEqual = 19,
    Greater = 20,
    GreaterOrEqual = 21,
    Min = 22,
    Max = 23,
    Abs = 24,
    Round = 25,
    Floor = 26,
    Ceil = 27,
    Sqrt = 28,
    /// The first, or the second where the first is absent.
    Coalesce = 29,
    StartsWith = 30,
    EndsWith = 31,
    Contains = 32,
}

const OPS: [Op; 32] = [
    Op::Number,
    Op::Text,
    Op::Bool,
    Op::Name,
    Op::Known,
    Op::Not,
    Op::Negate,
    Op::And,
    Op::Or,
    Op::If,
    Op::Add,
    Op::Subtract,
    Op::Multiply,
    Op::Divide,
    Op::Modulo,
    Op::Equal,
    Op::NotEqual,
    Op::Less,
    Op::LessOrEqual,
    Op::Greater,
    Op::GreaterOrEqual,
    Op::Min,
    Op::Max,
    Op::Abs,
    Op::Round,
    Op::Floor,
    Op::Ceil,
    Op::Sqrt,
    Op::Coalesce,
    Op::StartsWith,
    Op::EndsWith,
    Op::Contains,
];

impl Op {
    /// How many of its places are other nodes.
    fn children(self) -> usize {
        match self {
            Self::Number | Self::Text | Self::Bool | Self::Name | Self::Known => 0,
            Self::Not | Self::Negate | Self::Abs | Self::Round | Self::Floor | Self::Ceil | Self::Sqrt => 1,
            Self::If => 3,
            _ => 2,
        }
    }
}

impl Expr {
    /// Reads an expression, e.g. `power_kw / max(throughput_rate, 1.0)`. A dotted path is one name: `kpis.oee`.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        let expr = read::read(text)?;
        expr.check(&|_| None)?;
        Ok(expr)
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The names it asks for, each once, in the order of the text.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.names.iter().map(|name| &**name)
    }

    /// What it gives, where the names are of these kinds (`None`: not known); an error names what does not fit.
    /// `None` is a kind that only the values will tell.
    pub fn check(&self, kind_of: &dyn Fn(&str) -> Option<ValueKind>) -> Result<Option<ValueKind>, ExprError> {
        check::check(&self.0, kind_of)
    }

    /// Its value, where `look` gives those of the names.
    pub fn evaluate<'a>(
        &'a self,
        look: &dyn Fn(&'a str) -> Option<Operand<'a>>,
    ) -> Result<Operand<'a>, Absent<'a>> {
        evaluate::evaluate(&self.0, look)
    }

    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let tree = &self.0;
        let words = tree.names.iter().chain(&tree.texts).map(|word| 32 + word.len());
        size_of::<Tree>()
            + tree.text.len()
            + size_of_val(&*tree.nodes)
            + size_of_val(&*tree.numbers)
            + words.sum::<usize>()
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({:?})", self.text())
    }
}

#[cfg(test)]
mod tests;
