//! Events of ChirpStack v4, as its MQTT integration publishes them in JSON.
//!
//! Promises: an `up` gives what the payload codec decoded, with the radio link's `rssi_dbm`, `snr_db` and `f_cnt`
//! beside it; a `status` gives `battery_pct` and `margin_db`; every other event is rejected by name. The sensor is the
//! device's EUI in lower case, or its tag `sensor_id`; the message id is ChirpStack's `deduplicationId`. Tags
//! `sensor_type` and `location_id` say what native readings say with these fields.
//!
//! ChirpStack's JSON is the protobuf mapping, so a number that is absent was zero; the same rule makes an absent RSSI,
//! which is never zero, unknown. Payload bytes are not decoded here: that is the codec's work in ChirpStack.

use std::collections::BTreeMap;

use gemba_twins::{event::Value, time::Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    DecodedReading, Rejection,
    json::{self, Text},
    metrics::{CodecOutput, Metrics},
    quoted, sensor_type,
};

/// Reads an event; the topic's last part names its kind (`application/{id}/device/{eui}/event/up`).
pub fn chirpstack(topic: &str, payload: &[u8]) -> Result<DecodedReading, Rejection> {
    let text = json::object(json::text(payload)?)?;
    let event: Event<'_> =
        serde_json::from_str(text).map_err(|error| json::malformed(&error, text, "chirpstack.field_type"))?;
    match kind(topic, &event) {
        Some(EventKind::Uplink) => uplink(event),
        Some(EventKind::Status) => status(event),
        None => {
            let name = quoted(topic.rsplit('/').next().unwrap_or_default());
            let detail =
                format!("event {name} carries no measurement (subscribe to …/event/up and …/event/status)");
            Err(Rejection::new("chirpstack.event_unsupported", detail))
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum EventKind {
    Uplink,
    Status,
}

/// By the topic; by what is in it where an integrator changed the topic's template.
fn kind(topic: &str, event: &Event<'_>) -> Option<EventKind> {
    match topic.rsplit('/').next() {
        Some("up") => Some(EventKind::Uplink),
        Some("status") => Some(EventKind::Status),
        Some("join" | "ack" | "txack" | "log" | "location" | "integration") => None,
        _ if event.rx_info.is_some() => Some(EventKind::Uplink),
        _ if event.battery_level.is_some() || event.margin.is_some() => Some(EventKind::Status),
        _ => None,
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an event of ChirpStack")]
struct Event<'a> {
    #[serde(borrow)]
    deduplication_id: Option<Text<'a>>,
    #[serde(borrow)]
    time: Option<Text<'a>>,
    #[serde(borrow)]
    device_info: Option<DeviceInfo<'a>>,
    f_cnt: Option<u32>,
    #[serde(borrow)]
    data: Option<Text<'a>>,
    object: Option<CodecOutput>,
    rx_info: Option<Vec<Reception<'a>>>,
    margin: Option<f64>,
    battery_level: Option<f64>,
    external_power_source: Option<bool>,
    battery_level_unavailable: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object of the device")]
struct DeviceInfo<'a> {
    #[serde(borrow)]
    application_name: Option<Text<'a>>,
    #[serde(borrow)]
    device_profile_name: Option<Text<'a>>,
    #[serde(borrow)]
    device_name: Option<Text<'a>>,
    #[serde(borrow)]
    dev_eui: Option<Text<'a>>,
    #[serde(default)]
    tags: BTreeMap<Box<str>, Box<str>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object of a reception")]
struct Reception<'a> {
    #[serde(borrow)]
    gateway_id: Option<Text<'a>>,
    rssi: Option<f64>,
    snr: Option<f64>,
}

/// What is kept of `deviceInfo` with each reading.
#[derive(Debug, Serialize)]
struct DeviceMetadata<'a> {
    dev_eui: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_profile: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_id: Option<&'a str>,
}

fn uplink(mut event: Event<'_>) -> Result<DecodedReading, Rejection> {
    let has_data = event.data.as_ref().is_some_and(|data| !data.0.is_empty());
    if event.object.is_none() && has_data {
        let detail =
            "the uplink has data but no object (add a payload codec to the device profile in ChirpStack)";
        return Err(Rejection::new("chirpstack.no_object", detail));
    }
    let mut metrics = event.object.take().unwrap_or_default().0;
    if let Some(best) = best(&event) {
        if let Some(rssi) = best.rssi {
            metrics.push_unless_given("rssi_dbm", rssi);
        }
        metrics.push_unless_given("snr_db", best.snr.unwrap_or(0.0));
    }
    metrics.push_unless_given("f_cnt", f64::from(event.f_cnt.unwrap_or(0)));
    reading(event, metrics.finish()?)
}

fn status(event: Event<'_>) -> Result<DecodedReading, Rejection> {
    let mut metrics = Metrics::default();
    metrics.push_unless_given("margin_db", event.margin.unwrap_or(0.0));
    let powered = event.external_power_source == Some(true);
    if !powered && event.battery_level_unavailable != Some(true) {
        metrics.push_unless_given("battery_pct", event.battery_level.unwrap_or(0.0));
    }
    let mut metrics = metrics.finish()?;
    if powered {
        metrics.push(("external_power".into(), Value::Bool(true)));
    }
    reading(event, metrics)
}

/// The reception at the gateway that heard the device loudest.
fn best<'e, 'a>(event: &'e Event<'a>) -> Option<&'e Reception<'a>> {
    let loudness = |reception: &Reception<'_>| reception.rssi.unwrap_or(f64::NEG_INFINITY);
    event
        .rx_info
        .as_ref()?
        .iter()
        .max_by(|a, b| loudness(a).total_cmp(&loudness(b)))
}

fn reading(event: Event<'_>, metrics: Vec<(Box<str>, Value)>) -> Result<DecodedReading, Rejection> {
    let missing = |field: &str| Rejection::new("chirpstack.field_missing", format!("{field} is missing"));
    let device = event.device_info.as_ref().ok_or_else(|| missing("deviceInfo"))?;
    let eui = device
        .dev_eui
        .as_ref()
        .ok_or_else(|| missing("deviceInfo.devEui"))?
        .0
        .to_ascii_lowercase();
    let invalid = "reading.sensor_id_invalid";
    json::check_id("deviceInfo.devEui", &eui, invalid)?;
    let tag = |name: &str| device.tags.get(name).map(|value| &**value);
    if let Some(id) = tag("sensor_id") {
        json::check_id("tag sensor_id", id, invalid)?;
    }
    if let Some(id) = tag("location_id") {
        json::check_id("tag location_id", id, "reading.location_id_invalid")?;
    }
    let at = match &event.time {
        None => None,
        Some(Text(time)) => Some(
            time.parse::<Timestamp>()
                .map_err(|error| Rejection::new("chirpstack.timestamp_invalid", format!("time: {error}")))?,
        ),
    };
    let gateway = best(&event).and_then(|reception| reception.gateway_id.as_ref());
    let metadata = DeviceMetadata {
        dev_eui: &eui,
        device_name: device.device_name.as_ref().map(|text| &*text.0),
        device_profile: device.device_profile_name.as_ref().map(|text| &*text.0),
        application: device.application_name.as_ref().map(|text| &*text.0),
        gateway_id: gateway.map(|text| &*text.0),
    };
    Ok(DecodedReading {
        sensor_id: tag("sensor_id").unwrap_or(&eui).into(),
        sensor_type: tag("sensor_type").and_then(sensor_type),
        location_id: tag("location_id").map(Box::from),
        at,
        message_id: json::foreign_message_id(event.deduplication_id.as_ref().map(|text| &*text.0)),
        metrics,
        quality_score: None,
        source_system: Some("chirpstack".into()),
        device_metadata: json::foreign_metadata(&metadata),
        tags: device
            .tags
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    })
}
