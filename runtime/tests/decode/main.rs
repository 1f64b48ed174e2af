//! What every decoder promises: real messages of each source are read, and what cannot be read is rejected by name.
//!
//! Where the samples come from is written in `tests/samples/SOURCES.md`.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod mutations;
mod native;
mod network_servers;
mod tags;

use gemba_runtime::decode::{DecodedReading, Rejection};
use gemba_twins::event::Value;
use serde_json::{Map, json};

/// A decoded reading as JSON, without what is absent, for snapshots.
fn shown(reading: &DecodedReading) -> serde_json::Value {
    let metric = |(name, value): &(Box<str>, Value)| {
        let value = match value {
            Value::Number(number) => json!(number),
            Value::Text(text) => json!(text),
            Value::Bool(truth) => json!(truth),
        };
        (name.to_string(), value)
    };
    let metadata = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("metadata is JSON");
    let fields = json!({
        "sensor_id": reading.sensor_id,
        "sensor_type": reading.sensor_type.map(|kind| format!("{kind:?}")),
        "location_id": reading.location_id,
        "at": reading.at,
        "message_id": reading.message_id,
        "metrics": reading.metrics.iter().map(metric).collect::<Map<_, _>>(),
        "quality_score": reading.quality_score,
        "source_system": reading.source_system,
        "device_metadata": reading.device_metadata.as_deref().map(metadata),
        "tags": reading.tags.iter().map(|(name, value)| (name.to_string(), json!(value))).collect::<Map<_, _>>(),
    });
    let serde_json::Value::Object(fields) = fields else {
        return fields;
    };
    fields.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

/// Code and detail in one line, for tables.
fn told<T: std::fmt::Debug>(result: Result<T, Rejection>) -> String {
    result.expect_err("a rejection").to_string()
}
