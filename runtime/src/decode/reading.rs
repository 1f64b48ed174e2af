//! The native reading: one JSON object, as CONTRACT and the OpenAPI document describe it.
//!
//! ```json
//! {"sensor_id":"cnc-07","sensor_type":"MACHINE","location_id":"cell-2","timestamp":"2026-11-23T07:57:28.560Z",
//!  "message_id":"01JD…","metrics":{"execution":"producing","cycle_count":1042},"quality_score":0.98,
//!  "source_system":"edge-1","device_metadata":{"firmware":"2.1"}}
//! ```
//! Promises: `sensor_id` (from the body or the topic; both have to agree) and `metrics` are required, `null` is the
//! same as absent, a field given twice is refused, fields that are not ours are ignored. A `timestamp` is RFC 3339 or
//! a whole number of milliseconds since 1970. Text is borrowed while reading: a reading of 200 bytes takes well below
//! a microsecond.

use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    DecodedReading, Rejection, SENSOR_TYPES,
    json::{self, Codes, Scalar},
    metrics::Metrics,
    quoted, sensor_type,
};

const CODES: Codes = Codes {
    field_missing: "reading.field_missing",
    field_type: "reading.field_type",
    field_duplicate: "reading.field_duplicate",
    field_length: "reading.field_length",
    message_id: "reading.message_id_invalid",
    timestamp: "reading.timestamp_invalid",
};

/// Reads a native reading; `sensor_from_topic` is the sensor that the topic names, where it names one.
pub fn native_reading(sensor_from_topic: Option<&str>, json: &[u8]) -> Result<DecodedReading, Rejection> {
    let text = json::text(json)?;
    let written: Written<'_> =
        serde_json::from_str(text).map_err(|error| json::malformed(&error, text, "json.not_an_object"))?;
    if let Some(rejection) = written.rejection {
        return Err(rejection);
    }
    let metrics = written
        .metrics
        .ok_or_else(|| CODES.missing("metrics"))?
        .finish()?;
    let sensor_id = sensor_id(sensor_from_topic, written.sensor_id)?;
    let sensor_type = match CODES.text("sensor_type", written.sensor_type)? {
        None => None,
        Some(word) => Some(sensor_type(&word).ok_or_else(|| unknown_type(&word))?),
    };
    if metrics.is_empty() {
        let detail = "metrics holds no value (null means not measured; send at least one)";
        return Err(Rejection::new("reading.metrics_empty", detail));
    }
    Ok(DecodedReading {
        sensor_id,
        sensor_type,
        location_id: CODES.id("location_id", written.location_id, "reading.location_id_invalid")?,
        at: CODES.time("timestamp", written.timestamp)?,
        message_id: CODES.message_id(written.message_id)?,
        metrics,
        quality_score: quality_score(written.quality_score)?,
        source_system: CODES.words("source_system", written.source_system)?,
        device_metadata: CODES.metadata("device_metadata", written.device_metadata)?,
        tags: Vec::new(),
    })
}

fn sensor_id(from_topic: Option<&str>, from_body: Option<Scalar<'_>>) -> Result<Box<str>, Rejection> {
    let invalid = "reading.sensor_id_invalid";
    let from_body = CODES.text("sensor_id", from_body)?;
    match (from_topic, from_body) {
        (Some(topic), Some(body)) if *topic != *body => {
            let detail = format!(
                "the topic names sensor {}, the message {} (they have to agree)",
                quoted(topic),
                quoted(&body)
            );
            Err(Rejection::new("reading.sensor_mismatch", detail))
        }
        (_, Some(id)) => json::check_id("sensor_id", &id, invalid).map(|()| id.into()),
        (Some(id), None) => json::check_id("sensor_id", id, invalid).map(|()| id.into()),
        (None, None) => Err(CODES.missing("sensor_id")),
    }
}

fn unknown_type(word: &str) -> Rejection {
    let known = SENSOR_TYPES.map(|(name, _)| name).join(", ");
    Rejection::new(
        "reading.sensor_type_unknown",
        format!("sensor_type {} is unknown (one of {known})", quoted(word)),
    )
}

fn quality_score(value: Option<Scalar<'_>>) -> Result<Option<f64>, Rejection> {
    let score = match value {
        None | Some(Scalar::Null) => return Ok(None),
        Some(Scalar::Integer(score)) => score as f64,
        Some(Scalar::Number(score)) => score,
        Some(other) => {
            let detail = format!(
                "quality_score is {} (a number from 0 to 1 is needed)",
                other.type_name()
            );
            return Err(Rejection::new("reading.field_type", detail));
        }
    };
    if (0.0..=1.0).contains(&score) {
        Ok(Some(score))
    } else {
        Err(Rejection::new(
            "reading.quality_score_range",
            format!("quality_score is {score} (0 to 1 is allowed)"),
        ))
    }
}

/// What was written, before any of it is judged.
#[derive(Default)]
struct Written<'a> {
    sensor_id: Option<Scalar<'a>>,
    sensor_type: Option<Scalar<'a>>,
    location_id: Option<Scalar<'a>>,
    timestamp: Option<Scalar<'a>>,
    message_id: Option<Scalar<'a>>,
    metrics: Option<Metrics>,
    quality_score: Option<Scalar<'a>>,
    source_system: Option<Scalar<'a>>,
    device_metadata: Option<&'a RawValue>,
    rejection: Option<Rejection>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    SensorId,
    SensorType,
    LocationId,
    Timestamp,
    MessageId,
    Metrics,
    QualityScore,
    SourceSystem,
    DeviceMetadata,
    #[serde(other)]
    NotOurs,
}

impl<'de> Deserialize<'de> for Written<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadingVisitor)
    }
}

struct ReadingVisitor;

impl<'de> Visitor<'de> for ReadingVisitor {
    type Value = Written<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that holds a reading")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut read = Written::default();
        while let Some(field) = map.next_key()? {
            let wrong = &mut read.rejection;
            match field {
                Field::SensorId => CODES.put(&mut read.sensor_id, "sensor_id", map.next_value()?, wrong),
                Field::SensorType => {
                    CODES.put(&mut read.sensor_type, "sensor_type", map.next_value()?, wrong)
                }
                Field::LocationId => {
                    CODES.put(&mut read.location_id, "location_id", map.next_value()?, wrong)
                }
                Field::Timestamp => CODES.put(&mut read.timestamp, "timestamp", map.next_value()?, wrong),
                Field::MessageId => CODES.put(&mut read.message_id, "message_id", map.next_value()?, wrong),
                Field::Metrics => CODES.put(&mut read.metrics, "metrics", map.next_value()?, wrong),
                Field::QualityScore => {
                    CODES.put(&mut read.quality_score, "quality_score", map.next_value()?, wrong)
                }
                Field::SourceSystem => {
                    CODES.put(&mut read.source_system, "source_system", map.next_value()?, wrong)
                }
                Field::DeviceMetadata => {
                    CODES.put(
                        &mut read.device_metadata,
                        "device_metadata",
                        map.next_value()?,
                        wrong,
                    );
                }
                Field::NotOurs => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(read)
    }
}
