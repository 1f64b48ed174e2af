//! What the plant model has a twin work out beyond what is measured, as the fold needs it.
//!
//! Promises: a part of the twin's configuration, so it reaches the fold in order with the events; bounded in number.
//! Knows nothing of YAML, nor of what was worked out (`computed.rs` and its neighbours).

use prost::Message;

use crate::{
    expr::{Expr, ExprWire, ValueKind},
    forecast::ForecastRule,
    quality::{Contract, MetricContract},
    wire::{DecodeError, undecodable},
};

/// Most computed metrics of a twin.
pub const COMPUTED_MAX: usize = 16;

/// What one twin works out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Analysis {
    /// Computed metrics, each after those that it asks for.
    pub computed: Vec<Computed>,
    /// What its sensors are agreed to send.
    pub contracts: Vec<Contract>,
    /// What is forecast.
    pub forecasts: Vec<ForecastRule>,
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
        let computed = computed.map(|computed| size_of::<Computed>() + 32 + computed.value.heap_bytes());
        let forecasts = self.forecasts.iter();
        size_of::<Self>()
            + computed.sum::<usize>()
            + self.contracts.iter().map(Contract::heap_bytes).sum::<usize>()
            + forecasts
                .map(|rule| size_of::<ForecastRule>() + 16 + rule.metric.len())
                .sum::<usize>()
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnalysisWire {
    #[prost(message, repeated, tag = "1")]
    computed: Vec<ComputedWire>,
    #[prost(message, repeated, tag = "2")]
    contracts: Vec<ContractWire>,
    #[prost(message, repeated, tag = "3")]
    forecasts: Vec<ForecastWire>,
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
            contracts: analysis.contracts.iter().map(contract_to_wire).collect(),
            forecasts: analysis
                .forecasts
                .iter()
                .map(|rule| ForecastWire {
                    metric: rule.metric.to_string(),
                    deviation: rule.deviation,
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
            contracts: self.contracts.into_iter().map(contract_from_wire).collect(),
            forecasts: self
                .forecasts
                .into_iter()
                .map(|wire| ForecastRule {
                    metric: wire.metric.into(),
                    deviation: wire.deviation,
                })
                .collect(),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct ForecastWire {
    #[prost(string, tag = "1")]
    metric: String,
    #[prost(double, optional, tag = "2")]
    deviation: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct ContractWire {
    #[prost(string, tag = "1")]
    sensor: String,
    #[prost(int64, optional, tag = "2")]
    period_ms: Option<i64>,
    #[prost(string, repeated, tag = "3")]
    required: Vec<String>,
    #[prost(bool, tag = "4")]
    rejects: bool,
    #[prost(message, repeated, tag = "5")]
    metrics: Vec<TermsWire>,
}

#[derive(Clone, PartialEq, Message)]
struct TermsWire {
    #[prost(string, tag = "1")]
    name: String,
    /// 0 where all are allowed, 1 number, 2 text, 3 bool.
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(double, optional, tag = "3")]
    min: Option<f64>,
    #[prost(double, optional, tag = "4")]
    max: Option<f64>,
    #[prost(double, optional, tag = "5")]
    max_rate_per_s: Option<f64>,
    #[prost(string, repeated, tag = "6")]
    one_of: Vec<String>,
}

fn contract_to_wire(contract: &Contract) -> ContractWire {
    let words = |words: &[Box<str>]| words.iter().map(|word| word.to_string()).collect();
    ContractWire {
        sensor: contract.sensor.to_string(),
        period_ms: contract.period_ms,
        required: words(&contract.required),
        rejects: contract.rejects,
        metrics: contract
            .metrics
            .iter()
            .map(|terms| TermsWire {
                name: terms.name.to_string(),
                kind: match terms.kind {
                    None => 0,
                    Some(ValueKind::Number) => 1,
                    Some(ValueKind::Text) => 2,
                    Some(ValueKind::Bool) => 3,
                },
                min: terms.min,
                max: terms.max,
                max_rate_per_s: terms.max_rate_per_s,
                one_of: words(&terms.one_of),
            })
            .collect(),
    }
}

fn contract_from_wire(wire: ContractWire) -> Contract {
    let boxes = |words: Vec<String>| words.into_iter().map(String::into_boxed_str).collect();
    let terms = |wire: TermsWire| MetricContract {
        name: wire.name.into(),
        kind: match wire.kind {
            1 => Some(ValueKind::Number),
            2 => Some(ValueKind::Text),
            3 => Some(ValueKind::Bool),
            _ => None,
        },
        min: wire.min,
        max: wire.max,
        max_rate_per_s: wire.max_rate_per_s,
        one_of: boxes(wire.one_of),
    };
    Contract {
        sensor: wire.sensor.into(),
        period_ms: wire.period_ms,
        required: boxes(wire.required),
        rejects: wire.rejects,
        metrics: wire.metrics.into_iter().map(terms).collect(),
    }
}
