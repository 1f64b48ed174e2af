//! What the plant model says of a twin, as bytes.
//!
//! Promises: as those of events, numbers of fields are never used again for another.

use std::sync::Arc;

use prost::Message;

use super::{DecodeError, undecodable};
use crate::{
    alarm::AlarmRules,
    analysis::AnalysisWire,
    config::{Execution, MetricConfig, MetricKind, TwinConfig},
    location::{LocationConfig, LocationConfigWire},
    operation::{OperationWire, operation_from_wire, operation_to_wire},
};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigWire {
    #[prost(uint64, tag = "1")]
    model_version: u64,
    #[prost(string, tag = "2")]
    attributes: String,
    #[prost(message, repeated, tag = "3")]
    metrics: Vec<MetricConfigWire>,
    #[prost(double, optional, tag = "4")]
    ideal_cycle_s: Option<f64>,
    #[prost(int64, optional, tag = "5")]
    stale_after_ms: Option<i64>,
    #[prost(message, repeated, tag = "6")]
    execution_map: Vec<WordWire>,
    #[prost(bool, tag = "7")]
    removed: bool,
    /// Rules of alarms.
    #[prost(bytes = "vec", tag = "120")]
    alarms: Vec<u8>,
    #[prost(message, optional, tag = "101")]
    operation: Option<OperationWire>,
    #[prost(message, optional, tag = "160")]
    analysis: Option<AnalysisWire>,
    #[prost(message, optional, tag = "140")]
    location: Option<LocationConfigWire>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricConfigWire {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(string, tag = "3")]
    unit: String,
    #[prost(double, optional, tag = "4")]
    rollover_at: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct WordWire {
    #[prost(string, tag = "1")]
    word: String,
    #[prost(uint32, tag = "2")]
    execution: u32,
}

pub(crate) fn config_to_wire(config: &TwinConfig) -> ConfigWire {
    ConfigWire {
        model_version: config.model_version,
        attributes: config.attributes.to_string(),
        metrics: config
            .metrics
            .iter()
            .map(|metric| MetricConfigWire {
                name: metric.name.to_string(),
                kind: metric.kind as u32,
                unit: metric.unit.to_string(),
                rollover_at: metric.rollover_at,
            })
            .collect(),
        ideal_cycle_s: config.ideal_cycle_s,
        stale_after_ms: config.stale_after_ms,
        execution_map: config
            .execution_map
            .iter()
            .map(|(word, execution)| WordWire {
                word: word.to_string(),
                execution: *execution as u32,
            })
            .collect(),
        removed: config.removed,
        alarms: config.alarms.bytes(),
        operation: config.operation.as_deref().map(operation_to_wire),
        analysis: config.analysis.as_deref().map(AnalysisWire::of),
        location: config.location.as_deref().map(LocationConfig::to_wire),
    }
}

pub(crate) fn config_from_wire(wire: ConfigWire) -> Result<TwinConfig, DecodeError> {
    let metric = |wire: MetricConfigWire| {
        let kind = MetricKind::from_number(wire.kind).ok_or_else(|| undecodable("unknown kind of metric"))?;
        Ok(MetricConfig {
            name: wire.name.into(),
            kind,
            unit: wire.unit.into(),
            rollover_at: wire.rollover_at,
        })
    };
    let word = |wire: WordWire| {
        (
            wire.word.into(),
            Execution::from_number(wire.execution).unwrap_or(Execution::Unknown),
        )
    };
    Ok(TwinConfig {
        model_version: wire.model_version,
        attributes: wire.attributes.into(),
        metrics: wire
            .metrics
            .into_iter()
            .map(metric)
            .collect::<Result<_, DecodeError>>()?,
        ideal_cycle_s: wire.ideal_cycle_s,
        stale_after_ms: wire.stale_after_ms,
        execution_map: wire.execution_map.into_iter().map(word).collect(),
        removed: wire.removed,
        alarms: AlarmRules::from_bytes(wire.alarms)?,
        operation: wire.operation.map(operation_from_wire).map(Box::new),
        analysis: wire
            .analysis
            .map(AnalysisWire::analysis)
            .transpose()?
            .map(Arc::new),
        location: wire
            .location
            .map(|location| Box::new(LocationConfig::from_wire(&location))),
    })
}
