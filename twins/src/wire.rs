//! Events as bytes: protobuf by prost's derive, drawn in FORMAT.md.
//!
//! Promises: numbers of fields are never used again for another; a field that an older release does not know is
//! skipped. The address stands first, so that a journal can be scanned for one twin without reading the rest.

mod config;
mod reading;

use prost::Message;
use thiserror::Error;

use crate::{
    alarm::AlarmSaidWire,
    event::{AttributesSet, Body, Event, Origin, Reading, Scan, SensorType, TwinMessage, Value},
    id::{Kind, TenantId, TwinId},
    job::wire::{EstimatedWire, FinishedWire, JobFlowWire},
    line::{ReportWire, report_from_wire, report_to_wire},
    refolded::RefoldedWire,
    time::Timestamp,
};

pub(crate) use self::config::{ConfigWire, config_from_wire, config_to_wire};

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot be decoded: {0}")]
pub struct DecodeError(pub(crate) String);

pub(crate) fn undecodable(error: impl std::fmt::Display) -> DecodeError {
    DecodeError(error.to_string())
}

#[derive(Clone, PartialEq, Message)]
struct EventWire {
    #[prost(string, tag = "1")]
    tenant: String,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(sint64, tag = "4")]
    at_ms: i64,
    /// Relative to `at_ms`: mostly a few milliseconds, so one byte or two.
    #[prost(sint64, tag = "5")]
    received_after_ms: i64,
    #[prost(string, tag = "6")]
    source: String,
    #[prost(string, tag = "7")]
    message_id: String,
    #[prost(message, optional, tag = "8")]
    origin: Option<OriginWire>,
    #[prost(
        oneof = "BodyWire",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 101, 120, 140, 141, 142, 160"
    )]
    body: Option<BodyWire>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum BodyWire {
    #[prost(message, tag = "10")]
    Reading(ReadingWire),
    #[prost(message, tag = "11")]
    Scan(ScanWire),
    #[prost(message, tag = "12")]
    AttributesSet(AttributesWire),
    #[prost(message, boxed, tag = "13")]
    Configured(Box<ConfigWire>),
    #[prost(bool, tag = "14")]
    Ticked(bool),
    #[prost(message, tag = "15")]
    JobEntered(VisitWire),
    #[prost(message, tag = "16")]
    JobLeft(VisitWire),
    #[prost(message, tag = "17")]
    JobDwellCorrected(CorrectionWire),
    #[prost(message, boxed, tag = "101")]
    MachineReported(Box<ReportWire>),
    #[prost(message, tag = "120")]
    Alarm(AlarmSaidWire),
    #[prost(message, tag = "160")]
    Refolded(RefoldedWire),
    #[prost(message, tag = "140")]
    JobFlow(JobFlowWire),
    #[prost(message, tag = "141")]
    JobFinished(FinishedWire),
    #[prost(message, tag = "142")]
    Estimated(EstimatedWire),
}

#[derive(Clone, Copy, PartialEq, Message)]
struct OriginWire {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(uint32, tag = "3")]
    index: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ReadingWire {
    #[prost(string, tag = "1")]
    sensor_id: String,
    #[prost(uint32, tag = "2")]
    sensor_type: u32,
    #[prost(string, optional, tag = "3")]
    location_id: Option<String>,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<MetricWire>,
    #[prost(double, optional, tag = "5")]
    quality_score: Option<f64>,
    #[prost(string, optional, tag = "6")]
    source_system: Option<String>,
    #[prost(string, optional, tag = "7")]
    device_metadata: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetricWire {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(oneof = "ValueWire", tags = "2, 3, 4")]
    pub(crate) value: Option<ValueWire>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum ValueWire {
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
}

#[derive(Clone, PartialEq, Message)]
struct ScanWire {
    #[prost(string, tag = "1")]
    location: String,
    #[prost(string, optional, tag = "2")]
    reader_id: Option<String>,
    #[prost(string, optional, tag = "3")]
    product_id: Option<String>,
    #[prost(string, optional, tag = "4")]
    product_variant: Option<String>,
    #[prost(string, optional, tag = "5")]
    operator_id: Option<String>,
    #[prost(bool, tag = "6")]
    completes: bool,
    #[prost(string, optional, tag = "7")]
    metadata: Option<String>,
    #[prost(bool, tag = "140")]
    retracts: bool,
}

#[derive(Clone, PartialEq, Message)]
struct AttributesWire {
    #[prost(string, tag = "1")]
    patch: String,
    #[prost(string, tag = "2")]
    by: String,
}

#[derive(Clone, PartialEq, Message)]
struct VisitWire {
    #[prost(string, tag = "1")]
    job: String,
    #[prost(sint64, tag = "2")]
    entered_at_ms: i64,
    #[prost(sint64, tag = "3")]
    left_at_ms: i64,
    #[prost(string, optional, tag = "4")]
    operator_id: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct CorrectionWire {
    #[prost(string, tag = "1")]
    job: String,
    #[prost(sint64, tag = "2")]
    by_ms: i64,
}

fn text(boxed: Option<&str>) -> Option<String> {
    boxed.map(str::to_owned)
}

fn boxed(text: Option<String>) -> Option<Box<str>> {
    text.map(String::into_boxed_str)
}

impl Event {
    /// Appends the event's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // Only messages between twins have an origin.
        if let (Body::Reading(reading), None) = (&self.body, self.origin) {
            return reading::encode(self, reading, out);
        }
        let wire = event_to_wire(self);
        out.reserve(wire.encoded_len());
        wire.encode_raw(out);
    }

    /// Reads an event.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire = EventWire::decode(bytes).map_err(undecodable)?;
        let tenant = TenantId::parse(&wire.tenant).map_err(undecodable)?;
        let kind = Kind::from_number(wire.kind).ok_or_else(|| undecodable("unknown kind"))?;
        let origin = match wire.origin {
            None => None,
            Some(OriginWire { shard, seq, index }) => Some(Origin {
                shard: u16::try_from(shard).map_err(undecodable)?,
                seq,
                index,
            }),
        };
        Ok(Self {
            twin: TwinId::new(tenant, kind, &wire.id).map_err(undecodable)?,
            at: Timestamp::from_ms(wire.at_ms),
            received_at: Timestamp::from_ms(wire.at_ms.saturating_add(wire.received_after_ms)),
            source: wire.source.into(),
            message_id: wire.message_id.into(),
            origin,
            body: body_from_wire(wire.body.ok_or_else(|| undecodable("what happened is unknown"))?)?,
        })
    }

    /// Reads only the address: tenant, kind, id.
    pub fn peek_twin(bytes: &[u8]) -> Result<(&str, Kind, &str), DecodeError> {
        let short = || undecodable("too short");
        let (tenant, rest) = peek_text(bytes, 0x0a).ok_or_else(short)?;
        let (&[0x10, kind], rest) = rest.split_first_chunk::<2>().ok_or_else(short)? else {
            return Err(short());
        };
        let kind = Kind::from_number(u32::from(kind)).ok_or_else(|| undecodable("unknown kind"))?;
        let (id, _) = peek_text(rest, 0x1a).ok_or_else(short)?;
        Ok((tenant, kind, id))
    }
}

/// A short text field with this tag byte at the front.
fn peek_text(bytes: &[u8], tag: u8) -> Option<(&str, &[u8])> {
    let (&[first, low], rest) = bytes.split_first_chunk::<2>()?;
    if first != tag {
        return None;
    }
    // Ids have at most 128 bytes, so their length takes one byte, or two of which the second is 1.
    let (length, rest) = if low < 0x80 {
        (usize::from(low), rest)
    } else {
        (
            usize::from(low & 0x7f) + 128 * usize::from(*rest.first()?),
            &rest[1..],
        )
    };
    let (text, rest) = rest.split_at_checked(length)?;
    Some((str::from_utf8(text).ok()?, rest))
}

fn event_to_wire(event: &Event) -> EventWire {
    EventWire {
        tenant: event.twin.tenant().as_str().to_owned(),
        kind: event.twin.kind() as u32,
        id: event.twin.id().to_owned(),
        at_ms: event.at.ms(),
        received_after_ms: event.received_at.ms_since(event.at),
        source: event.source.to_string(),
        message_id: event.message_id.to_string(),
        origin: event.origin.map(|origin| OriginWire {
            shard: u32::from(origin.shard),
            seq: origin.seq,
            index: origin.index,
        }),
        body: Some(body_to_wire(&event.body)),
    }
}

fn body_to_wire(body: &Body) -> BodyWire {
    match body {
        Body::Reading(reading) => BodyWire::Reading(ReadingWire {
            sensor_id: reading.sensor_id.to_string(),
            sensor_type: reading.sensor_type.map_or(0, |kind| kind as u32),
            location_id: text(reading.location_id.as_deref()),
            metrics: reading
                .metrics
                .iter()
                .map(|(name, value)| metric_to_wire(name, value))
                .collect(),
            quality_score: reading.quality_score,
            source_system: text(reading.source_system.as_deref()),
            device_metadata: text(reading.device_metadata.as_deref()),
        }),
        Body::Scan(scan) => BodyWire::Scan(ScanWire {
            location: scan.location.to_string(),
            reader_id: text(scan.reader_id.as_deref()),
            product_id: text(scan.product_id.as_deref()),
            product_variant: text(scan.product_variant.as_deref()),
            operator_id: text(scan.operator_id.as_deref()),
            completes: scan.completes,
            metadata: text(scan.metadata.as_deref()),
            retracts: scan.retracts,
        }),
        Body::AttributesSet(set) => BodyWire::AttributesSet(AttributesWire {
            patch: set.patch.to_string(),
            by: set.by.to_string(),
        }),
        Body::Configured(config) => BodyWire::Configured(Box::new(config_to_wire(config))),
        Body::Ticked => BodyWire::Ticked(true),
        Body::Told(TwinMessage::MachineReported(report)) => {
            BodyWire::MachineReported(Box::new(report_to_wire(report)))
        }
        Body::Alarm(said) => BodyWire::Alarm(AlarmSaidWire::of(said)),
        Body::Refolded(refolded) => BodyWire::Refolded(RefoldedWire::of(refolded)),
        Body::Told(TwinMessage::JobEntered {
            job,
            entered_at,
            operator_id,
        }) => BodyWire::JobEntered(VisitWire {
            job: job.to_string(),
            entered_at_ms: entered_at.ms(),
            left_at_ms: 0,
            operator_id: text(operator_id.as_deref()),
        }),
        Body::Told(TwinMessage::JobLeft {
            job,
            entered_at,
            left_at,
        }) => BodyWire::JobLeft(VisitWire {
            job: job.to_string(),
            entered_at_ms: entered_at.ms(),
            left_at_ms: left_at.ms(),
            operator_id: None,
        }),
        Body::Told(TwinMessage::JobDwellCorrected { job, by_ms }) => {
            BodyWire::JobDwellCorrected(CorrectionWire {
                job: job.to_string(),
                by_ms: *by_ms,
            })
        }
        Body::Told(TwinMessage::JobFlow(flow)) => BodyWire::JobFlow(JobFlowWire::of(flow)),
        Body::Told(message @ TwinMessage::JobFinished { .. }) => {
            BodyWire::JobFinished(FinishedWire::of(message))
        }
        Body::Told(message @ TwinMessage::Estimated { .. }) => {
            BodyWire::Estimated(EstimatedWire::told(message))
        }
    }
}

fn body_from_wire(wire: BodyWire) -> Result<Body, DecodeError> {
    Ok(match wire {
        BodyWire::Reading(wire) => Body::Reading(Reading {
            sensor_id: wire.sensor_id.into(),
            sensor_type: SensorType::from_number(wire.sensor_type),
            location_id: boxed(wire.location_id),
            metrics: wire
                .metrics
                .into_iter()
                .map(metric_from_wire)
                .collect::<Result<_, _>>()?,
            quality_score: wire.quality_score,
            source_system: boxed(wire.source_system),
            device_metadata: boxed(wire.device_metadata),
        }),
        BodyWire::Scan(wire) => Body::Scan(Scan {
            location: wire.location.into(),
            reader_id: boxed(wire.reader_id),
            product_id: boxed(wire.product_id),
            product_variant: boxed(wire.product_variant),
            operator_id: boxed(wire.operator_id),
            completes: wire.completes,
            metadata: boxed(wire.metadata),
            retracts: wire.retracts,
        }),
        BodyWire::AttributesSet(wire) => Body::AttributesSet(AttributesSet {
            patch: wire.patch.into(),
            by: wire.by.into(),
        }),
        BodyWire::Configured(wire) => Body::Configured(Box::new(config_from_wire(*wire)?)),
        BodyWire::Ticked(_) => Body::Ticked,
        BodyWire::Alarm(wire) => Body::Alarm(wire.said()?),
        BodyWire::Refolded(wire) => Body::Refolded(Box::new(wire.refolded())),
        BodyWire::JobEntered(wire) => Body::Told(TwinMessage::JobEntered {
            job: wire.job.into(),
            entered_at: Timestamp::from_ms(wire.entered_at_ms),
            operator_id: boxed(wire.operator_id),
        }),
        BodyWire::JobLeft(wire) => Body::Told(TwinMessage::JobLeft {
            job: wire.job.into(),
            entered_at: Timestamp::from_ms(wire.entered_at_ms),
            left_at: Timestamp::from_ms(wire.left_at_ms),
        }),
        BodyWire::MachineReported(wire) => {
            Body::Told(TwinMessage::MachineReported(Box::new(report_from_wire(*wire))))
        }
        BodyWire::JobDwellCorrected(wire) => Body::Told(TwinMessage::JobDwellCorrected {
            job: wire.job.into(),
            by_ms: wire.by_ms,
        }),
        BodyWire::JobFlow(wire) => Body::Told(TwinMessage::JobFlow(wire.flow())),
        BodyWire::JobFinished(wire) => Body::Told(wire.message()),
        BodyWire::Estimated(wire) => Body::Told(wire.message()),
    })
}

pub(crate) fn metric_to_wire(name: &str, value: &Value) -> MetricWire {
    let value = match value {
        Value::Number(number) => ValueWire::Number(*number),
        Value::Text(text) => ValueWire::Text(text.to_string()),
        Value::Bool(yes) => ValueWire::Bool(*yes),
    };
    MetricWire {
        name: name.to_owned(),
        value: Some(value),
    }
}

pub(crate) fn metric_from_wire(wire: MetricWire) -> Result<(Box<str>, Value), DecodeError> {
    let value = match wire.value {
        Some(ValueWire::Number(number)) => Value::Number(number),
        Some(ValueWire::Text(text)) => Value::Text(text.into()),
        Some(ValueWire::Bool(yes)) => Value::Bool(yes),
        None => return Err(undecodable("a metric without a value")),
    };
    Ok((wire.name.into(), value))
}
