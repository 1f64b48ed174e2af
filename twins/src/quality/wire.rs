//! Data quality as bytes, within a twin's snapshot.
//!
//! Promises: lossless. What a later release knows and this one does not is left out.

use prost::Message;

use super::{Change, Field, More, Pace, Quality, Rule, Sensor};
use crate::{
    time::Timestamp,
    wire::{DecodeError, undecodable},
};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QualityWire {
    #[prost(message, repeated, tag = "1")]
    sensors: Vec<SensorWire>,
    #[prost(uint32, repeated, tag = "2")]
    marked: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct SensorWire {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(sint64, tag = "2")]
    first_at_ms: i64,
    #[prost(sint64, tag = "3")]
    last_at_ms: i64,
    #[prost(uint32, tag = "4")]
    readings: u32,
    #[prost(float, tag = "5")]
    conforming: f32,
    /// Two numbers a field: the metric's, and the kinds of its values.
    #[prost(uint32, repeated, tag = "6")]
    fields: Vec<u32>,
    #[prost(message, optional, tag = "7")]
    more: Option<MoreWire>,
}

#[derive(Clone, PartialEq, Message)]
struct MoreWire {
    #[prost(uint32, repeated, tag = "1")]
    broken: Vec<u32>,
    #[prost(uint32, tag = "2")]
    last_rule: u32,
    #[prost(string, tag = "3")]
    last_metric: String,
    #[prost(sint64, tag = "4")]
    last_at_ms: i64,
    #[prost(message, repeated, tag = "5")]
    changes: Vec<ChangeWire>,
    #[prost(message, optional, tag = "6")]
    pace: Option<PaceWire>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ChangeWire {
    #[prost(sint64, tag = "1")]
    at_ms: i64,
    #[prost(uint32, tag = "2")]
    metric: u32,
    #[prost(uint32, tag = "3")]
    kinds_before: u32,
    #[prost(uint32, tag = "4")]
    kind: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct PaceWire {
    #[prost(sint64, tag = "1")]
    period_ms: i64,
    #[prost(sint64, tag = "2")]
    anchor_ms: i64,
    #[prost(sint64, tag = "3")]
    newest: i64,
    #[prost(fixed64, tag = "4")]
    heard: u64,
}

impl QualityWire {
    pub(crate) fn of(quality: &Quality) -> Self {
        Self {
            sensors: quality.sensors.iter().map(sensor_to_wire).collect(),
            marked: quality.marked.iter().map(|metric| u32::from(*metric)).collect(),
        }
    }

    pub(crate) fn quality(self) -> Result<Quality, DecodeError> {
        Ok(Quality {
            sensors: self
                .sensors
                .into_iter()
                .map(sensor_from_wire)
                .collect::<Result<_, _>>()?,
            marked: self.marked.into_iter().map(narrow).collect::<Result<_, _>>()?,
        })
    }
}

fn narrow<T: TryFrom<u32>>(number: u32) -> Result<T, DecodeError> {
    T::try_from(number).map_err(|_| undecodable("a number of a schema is too large"))
}

fn sensor_to_wire(sensor: &Sensor) -> SensorWire {
    let fields = sensor.fields.iter();
    SensorWire {
        id: sensor.id.to_string(),
        first_at_ms: sensor.first_at.ms(),
        last_at_ms: sensor.last_at.ms(),
        readings: sensor.readings,
        conforming: sensor.conforming,
        fields: fields
            .flat_map(|field| [u32::from(field.metric), u32::from(field.kinds)])
            .collect(),
        more: sensor.more.as_deref().map(more_to_wire),
    }
}

fn sensor_from_wire(wire: SensorWire) -> Result<Sensor, DecodeError> {
    let field = |pair: &[u32]| {
        Ok(Field {
            metric: narrow(pair[0])?,
            kinds: narrow(pair[1])?,
        })
    };
    Ok(Sensor {
        id: wire.id.into(),
        first_at: Timestamp::from_ms(wire.first_at_ms),
        last_at: Timestamp::from_ms(wire.last_at_ms),
        readings: wire.readings,
        conforming: wire.conforming,
        fields: wire
            .fields
            .chunks_exact(2)
            .map(field)
            .collect::<Result<_, DecodeError>>()?,
        more: wire.more.map(more_from_wire).transpose()?.map(Box::new),
    })
}

fn more_to_wire(more: &More) -> MoreWire {
    let last = more.last.as_ref();
    MoreWire {
        broken: more.broken.to_vec(),
        last_rule: last.map_or(0, |(rule, ..)| *rule as u32),
        last_metric: last.map_or_else(String::new, |(_, metric, _)| metric.to_string()),
        last_at_ms: last.map_or(0, |(.., at)| at.ms()),
        changes: more
            .changes
            .iter()
            .map(|change| ChangeWire {
                at_ms: change.at.ms(),
                metric: change.metric.into(),
                kinds_before: change.kinds_before.into(),
                kind: change.kind.into(),
            })
            .collect(),
        pace: more.pace.map(|pace| PaceWire {
            period_ms: pace.period_ms,
            anchor_ms: pace.anchor.ms(),
            newest: pace.newest,
            heard: pace.heard,
        }),
    }
}

fn more_from_wire(wire: MoreWire) -> Result<More, DecodeError> {
    let mut broken = [0; Rule::ALL.len()];
    for (place, count) in broken.iter_mut().zip(&wire.broken) {
        *place = *count;
    }
    let rule = Rule::ALL.into_iter().find(|rule| *rule as u32 == wire.last_rule);
    let change = |wire: ChangeWire| {
        Ok(Change {
            at: Timestamp::from_ms(wire.at_ms),
            metric: narrow(wire.metric)?,
            kinds_before: narrow(wire.kinds_before)?,
            kind: narrow(wire.kind)?,
        })
    };
    Ok(More {
        broken,
        last: rule.map(|rule| (rule, wire.last_metric.into(), Timestamp::from_ms(wire.last_at_ms))),
        changes: wire
            .changes
            .into_iter()
            .map(change)
            .collect::<Result<_, DecodeError>>()?,
        pace: wire.pace.map(|wire| Pace {
            period_ms: wire.period_ms.clamp(1, i64::MAX / 4),
            anchor: Timestamp::from_ms(wire.anchor_ms),
            newest: wire.newest.clamp(0, i64::MAX / 4),
            heard: wire.heard,
        }),
    })
}
