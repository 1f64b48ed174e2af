//! What an event becomes in the warehouse: a row of one of its tables, as a line of JSON.
//!
//! Promises: an event always leads to the same row, at most one; every column is supplied, since a default would be
//! null under Snowpipe Streaming; a line holds no line break. The columns are those of
//! `deploy/snowflake/003_tables.sql`. Knows nothing of channels.

use gemba_twins::{
    event::{Body, Event, Reading, Scan, SensorType, Value},
    id::Kind,
    time::Timestamp,
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

/// What goes into the warehouse, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Readings as they were journaled.
    Readings,
    /// Scans as they were journaled.
    Scans,
    /// What twins compute: rollups, KPIs and states, in a table each.
    Twins,
}

impl Table {
    /// The tables whose rows are events.
    pub const OF_EVENTS: [Self; 2] = [Self::Readings, Self::Scans];

    /// Its name in the warehouse.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Readings => "SENSOR_READINGS_RAW",
            Self::Scans => "JOB_TRACKING",
            Self::Twins => "METRIC_ROLLUPS, TWIN_KPIS, TWIN_STATES",
        }
    }

    /// What it holds, in gemba's words.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Scans => "scans",
            Self::Twins => "twins",
        }
    }

    /// The pipe that every table has of itself.
    pub(super) fn pipe(self) -> String {
        format!("{}-STREAMING", self.name())
    }

    /// Whether it can hold events of a kind of twin: known from a record's head.
    pub(super) fn may_hold(self, kind: Kind) -> bool {
        match self {
            // A reading may be bound to any twin.
            Self::Readings | Self::Twins => true,
            Self::Scans => kind == Kind::Job,
        }
    }

    /// Whether an event is a row of it, or changes one.
    pub(super) fn holds(self, event: &Event) -> bool {
        matches!(
            (self, &event.body),
            (Self::Readings, Body::Reading(_)) | (Self::Scans, Body::Scan(_)) | (Self::Twins, _)
        )
    }
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct ReadingRow<'a> {
    tenant_id: &'a str,
    shard: u16,
    seq: u64,
    twin_kind: &'a str,
    twin_id: &'a str,
    sensor_id: &'a str,
    sensor_type: Option<&'static str>,
    location_id: Option<&'a str>,
    event_ts: Ntz,
    received_ts: Ntz,
    payload: Metrics<'a>,
    quality_score: Option<f64>,
    device_metadata: Option<Foreign<'a>>,
    source_system: Option<&'a str>,
    message_id: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct ScanRow<'a> {
    tenant_id: &'a str,
    shard: u16,
    seq: u64,
    job_id: &'a str,
    location: &'a str,
    scan_ts: Ntz,
    received_ts: Ntz,
    reader_id: Option<&'a str>,
    product_id: Option<&'a str>,
    product_variant: Option<&'a str>,
    operator_id: Option<&'a str>,
    completes: bool,
    retracts: bool,
    metadata: Option<Foreign<'a>>,
    message_id: Option<&'a str>,
}

/// A time in UTC without a zone, as TIMESTAMP_NTZ takes it.
struct Ntz(Timestamp);

impl Serialize for Ntz {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.to_string();
        serializer.serialize_str(text.strip_suffix('Z').unwrap_or(&text))
    }
}

struct Metrics<'a>(&'a Reading);

impl Serialize for Metrics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.metrics.len()))?;
        for (name, value) in &self.0.metrics {
            match value {
                Value::Number(number) => map.serialize_entry(&**name, number)?,
                Value::Text(text) => map.serialize_entry(&**name, &**text)?,
                Value::Bool(flag) => map.serialize_entry(&**name, flag)?,
            }
        }
        map.end()
    }
}

/// JSON that a sender wrote; what is none is a text.
struct Foreign<'a>(&'a str);

impl Serialize for Foreign<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.contains(['\n', '\r']) {
            return match serde_json::from_str::<serde_json::Value>(self.0) {
                Ok(value) => value.serialize(serializer),
                Err(_) => serializer.serialize_str(self.0),
            };
        }
        match serde_json::from_str::<&RawValue>(self.0) {
            Ok(raw) => raw.serialize(serializer),
            Err(_) => serializer.serialize_str(self.0),
        }
    }
}

fn sensor_type(of: SensorType) -> &'static str {
    match of {
        SensorType::Machine => "MACHINE",
        SensorType::Energy => "ENERGY",
        SensorType::AirQuality => "AIR_QUALITY",
        SensorType::Rfid => "RFID",
    }
}

/// Appends an event's row as a line; events that are no row of the table append nothing.
pub(super) fn push_line(out: &mut Vec<u8>, shard: u16, seq: u64, event: &Event) {
    let message_id = (!event.message_id.is_empty()).then_some(&*event.message_id);
    let written = match &event.body {
        Body::Reading(reading) => reading_line(out, shard, seq, event, reading, message_id),
        Body::Scan(scan) => scan_line(out, shard, seq, event, scan, message_id),
        _ => return,
    };
    // A vector takes everything, and nothing of a row has a form that JSON lacks.
    debug_assert!(written.is_ok(), "a row of seq {seq} could not be written");
    out.push(b'\n');
}

fn reading_line(
    out: &mut Vec<u8>,
    shard: u16,
    seq: u64,
    event: &Event,
    reading: &Reading,
    message_id: Option<&str>,
) -> serde_json::Result<()> {
    let row = ReadingRow {
        tenant_id: event.twin.tenant().as_str(),
        shard,
        seq,
        twin_kind: event.twin.kind().as_str(),
        twin_id: event.twin.id(),
        sensor_id: &reading.sensor_id,
        sensor_type: reading.sensor_type.map(sensor_type),
        location_id: reading.location_id.as_deref(),
        event_ts: Ntz(event.at),
        received_ts: Ntz(event.received_at),
        payload: Metrics(reading),
        quality_score: reading.quality_score,
        device_metadata: reading.device_metadata.as_deref().map(Foreign),
        source_system: reading.source_system.as_deref(),
        message_id,
    };
    serde_json::to_writer(out, &row)
}

fn scan_line(
    out: &mut Vec<u8>,
    shard: u16,
    seq: u64,
    event: &Event,
    scan: &Scan,
    message_id: Option<&str>,
) -> serde_json::Result<()> {
    let row = ScanRow {
        tenant_id: event.twin.tenant().as_str(),
        shard,
        seq,
        job_id: event.twin.id(),
        location: &scan.location,
        scan_ts: Ntz(event.at),
        received_ts: Ntz(event.received_at),
        reader_id: scan.reader_id.as_deref(),
        product_id: scan.product_id.as_deref(),
        product_variant: scan.product_variant.as_deref(),
        operator_id: scan.operator_id.as_deref(),
        completes: scan.completes,
        retracts: scan.retracts,
        metadata: scan.metadata.as_deref().map(Foreign),
        message_id,
    };
    serde_json::to_writer(out, &row)
}

#[cfg(test)]
mod tests {
    use gemba_twins::id::{TenantId, TwinId};

    use super::*;

    #[test]
    fn a_row_is_a_line_with_every_column_and_foreign_json_stays_json() {
        let event = Event {
            twin: TwinId::new(
                TenantId::parse("acme").expect("a tenant"),
                Kind::Machine,
                "cnc-07",
            )
            .expect("an id"),
            at: Timestamp::from_ms(1_790_000_000_123),
            received_at: Timestamp::from_ms(1_790_000_001_000),
            source: "mqtt".into(),
            message_id: "m\n1".into(),
            origin: None,
            body: Body::Reading(Reading {
                sensor_id: "cnc-07".into(),
                sensor_type: Some(SensorType::AirQuality),
                metrics: vec![
                    ("rpm".into(), Value::Number(8_120.5)),
                    ("execution".into(), Value::Text("producing".into())),
                    ("door".into(), Value::Bool(true)),
                ],
                device_metadata: Some("{\n \"firmware\": \"2.1\"}".into()),
                ..Reading::default()
            }),
        };
        let mut line = Vec::new();
        push_line(&mut line, 3, 42, &event);
        let text = String::from_utf8(line).expect("UTF-8");
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let row: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let expected = serde_json::json!({
            "TENANT_ID": "acme", "SHARD": 3, "SEQ": 42, "TWIN_KIND": "machine", "TWIN_ID": "cnc-07",
            "SENSOR_ID": "cnc-07", "SENSOR_TYPE": "AIR_QUALITY", "LOCATION_ID": null,
            "EVENT_TS": "2026-09-21T14:13:20.123", "RECEIVED_TS": "2026-09-21T14:13:21.000",
            "PAYLOAD": {"rpm": 8120.5, "execution": "producing", "door": true}, "QUALITY_SCORE": null,
            "DEVICE_METADATA": {"firmware": "2.1"}, "SOURCE_SYSTEM": null, "MESSAGE_ID": "m\n1",
        });
        assert_eq!(row, expected);
    }
}
