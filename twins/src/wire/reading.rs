//! A reading's event as bytes, straight from what it holds: readings are nearly all that a node encodes.
//!
//! Promises: the same bytes as the declared messages make (a test compares them), without a copy of any text.

use crate::event::{Event, Reading, Value};

/// A whole number, seven bits a byte.
const VARINT: u32 = 0;
/// Eight bytes.
const FIXED: u32 = 1;
/// A length, then so many bytes.
const BYTES: u32 = 2;

/// The field of the event that holds a reading.
const READING: u32 = 10;

fn varint_len(number: u64) -> usize {
    // Seven bits a byte, and one byte for zero.
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// All fields here have numbers below 16, so their keys take one byte.
fn put_key(field: u32, form: u32, out: &mut Vec<u8>) {
    out.push((field << 3 | form) as u8);
}

/// Small negative numbers stay short.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn put_number(field: u32, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        put_key(field, VARINT, out);
        put_varint(number, out);
    }
}

fn put_double(field: u32, number: f64, out: &mut Vec<u8>) {
    put_key(field, FIXED, out);
    out.extend_from_slice(&number.to_le_bytes());
}

fn bytes_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

fn put_bytes(field: u32, text: &str, out: &mut Vec<u8>) {
    put_key(field, BYTES, out);
    put_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// An empty text is not written.
fn put_text(field: u32, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        put_bytes(field, text, out);
    }
}

fn text_len(text: &str) -> usize {
    if text.is_empty() { 0 } else { bytes_len(text.len()) }
}

fn maybe_len(text: Option<&str>) -> usize {
    text.map_or(0, |text| bytes_len(text.len()))
}

fn put_maybe(field: u32, text: Option<&str>, out: &mut Vec<u8>) {
    if let Some(text) = text {
        put_bytes(field, text, out);
    }
}

fn metric_len(name: &str, value: &Value) -> usize {
    let value = match value {
        Value::Number(_) => 1 + 8,
        Value::Text(text) => bytes_len(text.len()),
        Value::Bool(_) => 1 + 1,
    };
    text_len(name) + value
}

fn put_metric(name: &str, value: &Value, out: &mut Vec<u8>) {
    put_text(1, name, out);
    match value {
        Value::Number(number) => put_double(2, *number, out),
        Value::Text(text) => put_bytes(3, text, out),
        Value::Bool(yes) => {
            put_key(4, VARINT, out);
            out.push(u8::from(*yes));
        }
    }
}

fn reading_len(reading: &Reading) -> usize {
    let metrics = reading.metrics.iter();
    text_len(&reading.sensor_id)
        + 2 * usize::from(reading.sensor_type.is_some())
        + maybe_len(reading.location_id.as_deref())
        + metrics
            .map(|(name, value)| bytes_len(metric_len(name, value)))
            .sum::<usize>()
        + 9 * usize::from(reading.quality_score.is_some())
        + maybe_len(reading.source_system.as_deref())
        + maybe_len(reading.device_metadata.as_deref())
}

fn put_reading(reading: &Reading, out: &mut Vec<u8>) {
    put_text(1, &reading.sensor_id, out);
    put_number(2, reading.sensor_type.map_or(0, |kind| kind as u64), out);
    put_maybe(3, reading.location_id.as_deref(), out);
    for (name, value) in &reading.metrics {
        put_key(4, BYTES, out);
        put_varint(metric_len(name, value) as u64, out);
        put_metric(name, value, out);
    }
    if let Some(score) = reading.quality_score {
        put_double(5, score, out);
    }
    put_maybe(6, reading.source_system.as_deref(), out);
    put_maybe(7, reading.device_metadata.as_deref(), out);
}

/// Appends the bytes of an event that is this reading; events of readings have no origin.
pub(super) fn encode(event: &Event, reading: &Reading, out: &mut Vec<u8>) {
    let length = reading_len(reading);
    // The event's own fields and the keys take less than this beside its texts.
    let texts = event.twin.tenant().as_str().len() + event.twin.id().len() + event.source.len();
    out.reserve(64 + texts + event.message_id.len() + length);
    put_text(1, event.twin.tenant().as_str(), out);
    put_number(2, event.twin.kind() as u64, out);
    put_text(3, event.twin.id(), out);
    put_number(4, zigzag(event.at.ms()), out);
    put_number(5, zigzag(event.received_at.ms_since(event.at)), out);
    put_text(6, &event.source, out);
    put_text(7, &event.message_id, out);
    put_key(READING, BYTES, out);
    put_varint(length as u64, out);
    put_reading(reading, out);
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};
    use prost::Message;

    use super::super::event_to_wire;
    use crate::{
        event::{Body, Event, Reading, SensorType, Value},
        id::{Kind, TenantId, TwinId},
        time::Timestamp,
    };

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<f64>().prop_map(Value::Number),
            "[a-zé]{0,200}".prop_map(|text| Value::Text(text.into())),
            any::<bool>().prop_map(Value::Bool),
        ]
    }

    fn reading() -> impl Strategy<Value = Reading> {
        let kinds = [
            SensorType::Machine,
            SensorType::Energy,
            SensorType::AirQuality,
            SensorType::Rfid,
        ];
        let text = || option::of(".{0,300}".prop_map(String::into_boxed_str));
        (
            ".{0,40}",
            option::of(prop::sample::select(kinds.to_vec())),
            text(),
            vec((".{0,140}", value()), 0..6),
            option::of(any::<f64>()),
            text(),
            text(),
        )
            .prop_map(
                |(
                    sensor,
                    sensor_type,
                    location_id,
                    metrics,
                    quality_score,
                    source_system,
                    device_metadata,
                )| {
                    Reading {
                        sensor_id: sensor.into(),
                        sensor_type,
                        location_id,
                        metrics: metrics
                            .into_iter()
                            .map(|(name, value)| (name.into(), value))
                            .collect(),
                        quality_score,
                        source_system,
                        device_metadata,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_declared_messages(
            reading in reading(),
            at in any::<i32>(),
            later in any::<i16>(),
            source in ".{0,30}",
            message in ".{0,140}",
            id in "[a-z0-9]{1,128}",
        ) {
            let tenant = TenantId::parse("acme").map_err(|error| TestCaseError::fail(error.to_string()))?;
            let at = Timestamp::from_ms(i64::from(at) * 1_000);
            let event = Event {
                twin: TwinId::new(tenant, Kind::Machine, &id).map_err(|error| TestCaseError::fail(error.to_string()))?,
                at,
                received_at: at.plus_ms(i64::from(later)),
                source: source.into(),
                message_id: message.into(),
                origin: None,
                body: Body::Reading(reading),
            };
            let mut bytes = vec![7];
            event.encode(&mut bytes);
            prop_assert_eq!(&bytes[1..], event_to_wire(&event).encode_to_vec());
        }
    }
}
