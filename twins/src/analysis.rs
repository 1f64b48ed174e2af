//! What the plant model has a twin work out beyond what is measured, as the fold needs it.
//!
//! Promises: a part of the twin's configuration, so it reaches the fold in order with the events; bounded in number.
//! Knows nothing of YAML, nor of what was worked out (`computed.rs` and its neighbours).

use prost::Message;

use crate::{
    expr::{Expr, ExprWire},
    wire::{DecodeError, undecodable},
};

/// Most computed metrics of a twin.
pub const COMPUTED_MAX: usize = 16;

/// What one twin works out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Analysis {
    /// Computed metrics, each after those that it asks for.
    pub computed: Vec<Computed>,
}

/// A metric that follows from others.
#[derive(Debug, Clone, PartialEq)]
pub struct Computed {
    /// Its name.
    pub name: Box<str>,
    /// What it is, over the twin's metrics by name and its KPIs as `kpis.NAME`.
    pub value: Expr,
}

impl Analysis {
    /// Whether there is nothing to work out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let computed = self.computed.iter();
        size_of::<Self>()
            + computed
                .map(|computed| size_of::<Computed>() + 32 + computed.value.heap_bytes())
                .sum::<usize>()
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnalysisWire {
    #[prost(message, repeated, tag = "1")]
    computed: Vec<ComputedWire>,
}

#[derive(Clone, PartialEq, Message)]
struct ComputedWire {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<ExprWire>,
}

impl AnalysisWire {
    pub(crate) fn of(analysis: &Analysis) -> Self {
        Self {
            computed: analysis
                .computed
                .iter()
                .map(|computed| ComputedWire {
                    name: computed.name.to_string(),
                    value: Some(ExprWire::of(&computed.value)),
                })
                .collect(),
        }
    }

    pub(crate) fn analysis(self) -> Result<Analysis, DecodeError> {
        let computed = |wire: ComputedWire| {
            let value = wire
                .value
                .ok_or_else(|| undecodable("a computed metric without a value"))?;
            Ok(Computed {
                name: wire.name.into(),
                value: value.expr()?,
            })
        };
        Ok(Analysis {
            computed: self
                .computed
                .into_iter()
                .map(computed)
                .collect::<Result<_, DecodeError>>()?,
        })
    }
}
