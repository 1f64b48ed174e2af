//! The native scan: a job seen at a place, one JSON object.
//!
//! ```json
//! {"job_id":"J-1042","location":"cell-2","product_id":"P-7","product_variant":"blue","operator_id":"op-3",
//!  "scan_timestamp":"2026-11-23T07:57:28.560Z","message_id":"01JD…","metadata":{"weight_kg":4.1}}
//! ```
//! Promises: `job_id` and `location` are required; the reader comes from the topic or from `reader_id`, and both have
//! to agree; `timestamp` is read as `scan_timestamp`. Otherwise as the native reading.

use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    DecodedScan, Rejection,
    json::{self, Codes, Scalar},
    quoted,
};

const CODES: Codes = Codes {
    field_missing: "scan.field_missing",
    field_type: "scan.field_type",
    field_duplicate: "scan.field_duplicate",
    field_length: "scan.field_length",
    message_id: "scan.message_id_invalid",
    timestamp: "scan.timestamp_invalid",
};

/// Reads a native scan; `reader_from_topic` is the reader that the topic names, where it names one.
pub fn native_scan(reader_from_topic: Option<&str>, json: &[u8]) -> Result<DecodedScan, Rejection> {
    let text = json::text(json)?;
    let written: Written<'_> =
        serde_json::from_str(text).map_err(|error| json::malformed(&error, text, "json.not_an_object"))?;
    if let Some(rejection) = written.rejection {
        return Err(rejection);
    }
    let job_id = CODES.id("job_id", written.job_id, "scan.job_id_invalid")?;
    let location = CODES.id("location", written.location, "scan.location_invalid")?;
    Ok(DecodedScan {
        job_id: job_id.ok_or_else(|| CODES.missing("job_id"))?,
        location: location.ok_or_else(|| CODES.missing("location"))?,
        reader_id: reader_id(reader_from_topic, written.reader_id)?,
        product_id: CODES.words("product_id", written.product_id)?,
        product_variant: CODES.words("product_variant", written.product_variant)?,
        operator_id: CODES.words("operator_id", written.operator_id)?,
        at: CODES.time("scan_timestamp", written.scan_timestamp)?,
        message_id: CODES.message_id(written.message_id)?,
        metadata: CODES.metadata("metadata", written.metadata)?,
    })
}

fn reader_id(from_topic: Option<&str>, from_body: Option<Scalar<'_>>) -> Result<Option<Box<str>>, Rejection> {
    let invalid = "scan.reader_id_invalid";
    match (from_topic, CODES.id("reader_id", from_body, invalid)?) {
        (Some(topic), Some(body)) if *topic != *body => {
            let detail = format!(
                "the topic names reader {}, the message {} (they have to agree)",
                quoted(topic),
                quoted(&body)
            );
            Err(Rejection::new("scan.reader_mismatch", detail))
        }
        (Some(topic), None) => json::check_id("reader_id", topic, invalid).map(|()| Some(topic.into())),
        (_, from_body) => Ok(from_body),
    }
}

/// What was written, before any of it is judged.
#[derive(Default)]
struct Written<'a> {
    job_id: Option<Scalar<'a>>,
    location: Option<Scalar<'a>>,
    reader_id: Option<Scalar<'a>>,
    product_id: Option<Scalar<'a>>,
    product_variant: Option<Scalar<'a>>,
    operator_id: Option<Scalar<'a>>,
    scan_timestamp: Option<Scalar<'a>>,
    message_id: Option<Scalar<'a>>,
    metadata: Option<&'a RawValue>,
    rejection: Option<Rejection>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    JobId,
    Location,
    ReaderId,
    ProductId,
    ProductVariant,
    OperatorId,
    #[serde(alias = "timestamp")]
    ScanTimestamp,
    MessageId,
    Metadata,
    #[serde(other)]
    NotOurs,
}

impl<'de> Deserialize<'de> for Written<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ScanVisitor)
    }
}

struct ScanVisitor;

impl<'de> Visitor<'de> for ScanVisitor {
    type Value = Written<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that holds a scan")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut scan = Written::default();
        while let Some(field) = map.next_key()? {
            let wrong = &mut scan.rejection;
            match field {
                Field::JobId => CODES.put(&mut scan.job_id, "job_id", map.next_value()?, wrong),
                Field::Location => CODES.put(&mut scan.location, "location", map.next_value()?, wrong),
                Field::ReaderId => CODES.put(&mut scan.reader_id, "reader_id", map.next_value()?, wrong),
                Field::ProductId => CODES.put(&mut scan.product_id, "product_id", map.next_value()?, wrong),
                Field::ProductVariant => {
                    CODES.put(
                        &mut scan.product_variant,
                        "product_variant",
                        map.next_value()?,
                        wrong,
                    );
                }
                Field::OperatorId => {
                    CODES.put(&mut scan.operator_id, "operator_id", map.next_value()?, wrong)
                }
                Field::ScanTimestamp => {
                    CODES.put(
                        &mut scan.scan_timestamp,
                        "scan_timestamp",
                        map.next_value()?,
                        wrong,
                    );
                }
                Field::MessageId => CODES.put(&mut scan.message_id, "message_id", map.next_value()?, wrong),
                Field::Metadata => CODES.put(&mut scan.metadata, "metadata", map.next_value()?, wrong),
                Field::NotOurs => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(scan)
    }
}
