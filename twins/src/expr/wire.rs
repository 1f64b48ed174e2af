//! An expression as bytes: its tree, so that a twin that is read back needs no parser.
//!
//! Promises: what is read is checked: no node asks for one that comes after it, so that evaluation ends.

use prost::Message;

use super::{Expr, Node, OPS, Op, Tree, read::NODES_MAX};
use crate::wire::{DecodeError, undecodable};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExprWire {
    #[prost(string, tag = "1")]
    text: String,
    /// Four numbers a node: what it does, and its three places.
    #[prost(uint32, repeated, tag = "2")]
    nodes: Vec<u32>,
    #[prost(double, repeated, tag = "3")]
    numbers: Vec<f64>,
    #[prost(string, repeated, tag = "4")]
    texts: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    names: Vec<String>,
}

impl ExprWire {
    pub(crate) fn of(expr: &Expr) -> Self {
        let tree = &expr.0;
        let strings = |words: &[Box<str>]| words.iter().map(|word| word.to_string()).collect();
        Self {
            text: tree.text.to_string(),
            nodes: tree
                .nodes
                .iter()
                .flat_map(|node| [node.op as u32, node.a.into(), node.b.into(), node.c.into()])
                .collect(),
            numbers: tree.numbers.to_vec(),
            texts: strings(&tree.texts),
            names: strings(&tree.names),
        }
    }

    pub(crate) fn expr(self) -> Result<Expr, DecodeError> {
        let wrong = || undecodable("a damaged expression");
        let place = |number: u32| u16::try_from(number).map_err(|_| wrong());
        let nodes: Vec<Node> = self
            .nodes
            .chunks_exact(4)
            .map(|node| {
                let op = OPS.into_iter().find(|op| *op as u32 == node[0]);
                Ok(Node {
                    // An operation that only a later release knows.
                    op: op.ok_or_else(|| undecodable("an expression of a newer release"))?,
                    a: place(node[1])?,
                    b: place(node[2])?,
                    c: place(node[3])?,
                })
            })
            .collect::<Result<_, DecodeError>>()?;
        let tables = [self.numbers.len(), self.texts.len(), self.names.len()];
        if nodes.is_empty()
            || nodes.len() > NODES_MAX
            || !self.nodes.len().is_multiple_of(4)
            || !sound(&nodes, tables)
        {
            return Err(wrong());
        }
        let boxes = |words: Vec<String>| words.into_iter().map(String::into_boxed_str).collect();
        Ok(Expr(
            Tree {
                text: self.text.into(),
                nodes: nodes.into(),
                numbers: self.numbers.into(),
                texts: boxes(self.texts),
                names: boxes(self.names),
            }
            .into(),
        ))
    }
}

/// Whether every place leads to an entry or to an earlier node, and no node is used twice: evaluation is no longer
/// than the tree.
fn sound(nodes: &[Node], [numbers, texts, names]: [usize; 3]) -> bool {
    let mut used = vec![false; nodes.len()];
    nodes.iter().enumerate().all(|(at, node)| {
        let entry = usize::from(node.a);
        let is_sound = match node.op {
            Op::Number => entry < numbers,
            Op::Text => entry < texts,
            Op::Name | Op::Known => entry < names,
            _ => true,
        };
        let children = &[node.a, node.b, node.c][..node.op.children()];
        is_sound
            && children.iter().all(|child| {
                let child = usize::from(*child);
                child < at && !std::mem::replace(&mut used[child], true)
            })
    })
}
