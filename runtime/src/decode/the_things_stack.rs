//! Messages of The Things Stack v3, as its MQTT integration publishes them.
//!
//! Promises: an uplink gives what the payload formatter decoded, with `rssi_dbm`, `snr_db` and `f_cnt` of the radio
//! link beside it; every other message is rejected by name. The sensor is the device's EUI in lower case (its
//! `device_id` where it has none), or its attribute `sensor_id`; attributes are passed on as tags, and `sensor_type`
//! and `location_id` among them say what native readings say with these fields.
//!
//! A repetition is recognised by device, session and frame counter. The time is the gateways' (`settings.time`, then
//! that of a reception), and where no gateway knows the time, that of the server's receipt. Fields equal to zero are
//! left out by the server, except inside the decoded payload.

use std::collections::BTreeMap;

use gemba_twins::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    DecodedReading, Rejection,
    json::{self, Text},
    metrics::CodecOutput,
    quoted, sensor_type,
};

/// Reads a message (`v3/{application}@{tenant}/devices/{device}/up`); the topic only helps to name what is refused.
pub fn the_things_stack(topic: &str, payload: &[u8]) -> Result<DecodedReading, Rejection> {
    let text = json::object(json::text(payload)?)?;
    let message: Message<'_> = serde_json::from_str(text)
        .map_err(|error| json::malformed(&error, text, "the_things_stack.field_type"))?;
    match message.uplink_message {
        Some(uplink) => reading(
            message.end_device_ids,
            message.received_at,
            message.simulated,
            uplink,
        ),
        None => {
            let name = quoted(topic.split_once("/devices/").map_or(topic, |(_, rest)| {
                rest.split_once('/').map_or(rest, |(_, event)| event)
            }));
            let detail = format!("message {name} carries no measurement (subscribe to v3/…/devices/+/up)");
            Err(Rejection::new("the_things_stack.event_unsupported", detail))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "a message of The Things Stack")]
struct Message<'a> {
    #[serde(borrow)]
    end_device_ids: Option<EndDevice<'a>>,
    #[serde(borrow)]
    received_at: Option<Text<'a>>,
    #[serde(borrow)]
    uplink_message: Option<Uplink<'a>>,
    simulated: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object of the device")]
struct EndDevice<'a> {
    #[serde(borrow)]
    device_id: Option<Text<'a>>,
    #[serde(borrow)]
    application_ids: Option<Application<'a>>,
    #[serde(borrow)]
    dev_eui: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object of the application")]
struct Application<'a> {
    #[serde(borrow)]
    application_id: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object of an uplink")]
struct Uplink<'a> {
    #[serde(borrow)]
    session_key_id: Option<Text<'a>>,
    f_cnt: Option<u32>,
    #[serde(borrow)]
    frm_payload: Option<Text<'a>>,
    decoded_payload: Option<CodecOutput>,
    #[serde(borrow, default)]
    rx_metadata: Vec<Reception<'a>>,
    #[serde(borrow)]
    settings: Option<Settings<'a>>,
    #[serde(borrow)]
    version_ids: Option<Versions<'a>>,
    #[serde(default)]
    attributes: BTreeMap<Box<str>, Box<str>>,
    #[serde(borrow)]
    received_at: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object of a reception")]
struct Reception<'a> {
    #[serde(borrow)]
    gateway_ids: Option<Gateway<'a>>,
    #[serde(borrow)]
    time: Option<Text<'a>>,
    rssi: Option<f64>,
    snr: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object of the gateway")]
struct Gateway<'a> {
    #[serde(borrow)]
    gateway_id: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object of settings")]
struct Settings<'a> {
    #[serde(borrow)]
    time: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object of versions")]
struct Versions<'a> {
    #[serde(borrow)]
    brand_id: Option<Text<'a>>,
    #[serde(borrow)]
    model_id: Option<Text<'a>>,
    #[serde(borrow)]
    firmware_version: Option<Text<'a>>,
}

/// What is kept of the device with each reading.
#[derive(Debug, Serialize)]
struct DeviceMetadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_eui: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    brand: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_id: Option<&'a str>,
    /// A test uplink from the console, not from the device.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    simulated: bool,
}

fn reading(
    device: Option<EndDevice<'_>>,
    received_at: Option<Text<'_>>,
    simulated: Option<bool>,
    mut uplink: Uplink<'_>,
) -> Result<DecodedReading, Rejection> {
    let missing =
        |field: &str| Rejection::new("the_things_stack.field_missing", format!("{field} is missing"));
    let device = device.ok_or_else(|| missing("end_device_ids"))?;
    let has_payload = uplink
        .frm_payload
        .as_ref()
        .is_some_and(|payload| !payload.0.is_empty());
    if uplink.decoded_payload.is_none() && has_payload {
        let detail = "the uplink has frm_payload but no decoded_payload (add a payload formatter to the device in The \
                      Things Stack)";
        return Err(Rejection::new("the_things_stack.no_decoded_payload", detail));
    }
    let f_cnt = uplink.f_cnt.unwrap_or(0);
    let mut metrics = uplink.decoded_payload.take().unwrap_or_default().0;
    let best = best(&uplink);
    if let Some(best) = best {
        if let Some(rssi) = best.rssi {
            metrics.push_unless_given("rssi_dbm", rssi);
        }
        metrics.push_unless_given("snr_db", best.snr.unwrap_or(0.0));
    }
    metrics.push_unless_given("f_cnt", f64::from(f_cnt));
    let eui = device.dev_eui.as_ref().map(|eui| eui.0.to_ascii_lowercase());
    let own_id = eui
        .as_deref()
        .or_else(|| device.device_id.as_ref().map(|id| &*id.0));
    let own_id = own_id.ok_or_else(|| missing("end_device_ids.dev_eui"))?;
    let invalid = "reading.sensor_id_invalid";
    json::check_id("end_device_ids.dev_eui", own_id, invalid)?;
    let tag = |name: &str| uplink.attributes.get(name).map(|value| &**value);
    if let Some(id) = tag("sensor_id") {
        json::check_id("attribute sensor_id", id, invalid)?;
    }
    if let Some(id) = tag("location_id") {
        json::check_id("attribute location_id", id, "reading.location_id_invalid")?;
    }
    let message_id = uplink
        .session_key_id
        .as_ref()
        .map(|session| format!("{own_id}:{}:{f_cnt}", session.0));
    let versions = uplink.version_ids.as_ref();
    let metadata = DeviceMetadata {
        dev_eui: eui.as_deref(),
        device_id: device.device_id.as_ref().map(|id| &*id.0),
        application: device
            .application_ids
            .as_ref()
            .and_then(|ids| ids.application_id.as_ref())
            .map(|id| &*id.0),
        brand: versions.and_then(|ids| ids.brand_id.as_ref()).map(|id| &*id.0),
        model: versions.and_then(|ids| ids.model_id.as_ref()).map(|id| &*id.0),
        firmware: versions
            .and_then(|ids| ids.firmware_version.as_ref())
            .map(|id| &*id.0),
        gateway_id: best
            .and_then(|best| best.gateway_ids.as_ref())
            .and_then(|ids| ids.gateway_id.as_ref())
            .map(|id| &*id.0),
        simulated: simulated == Some(true),
    };
    Ok(DecodedReading {
        sensor_id: tag("sensor_id").unwrap_or(own_id).into(),
        sensor_type: tag("sensor_type").and_then(sensor_type),
        location_id: tag("location_id").map(Box::from),
        at: event_time(&uplink, received_at.as_ref()),
        message_id: json::foreign_message_id(message_id.as_deref()),
        metrics: metrics.finish()?,
        quality_score: None,
        source_system: Some("the_things_stack".into()),
        device_metadata: json::foreign_metadata(&metadata),
        tags: uplink
            .attributes
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    })
}

/// The reception at the gateway that heard the device loudest.
fn best<'e, 'a>(uplink: &'e Uplink<'a>) -> Option<&'e Reception<'a>> {
    let loudness = |reception: &Reception<'_>| reception.rssi.unwrap_or(f64::NEG_INFINITY);
    uplink
        .rx_metadata
        .iter()
        .max_by(|a, b| loudness(a).total_cmp(&loudness(b)))
}

/// The first time that can be read: a gateway without GPS gives none, or one of a clock that was never set.
fn event_time(uplink: &Uplink<'_>, received_at: Option<&Text<'_>>) -> Option<Timestamp> {
    let of_settings = uplink
        .settings
        .as_ref()
        .and_then(|settings| settings.time.as_ref());
    let of_receptions = uplink
        .rx_metadata
        .iter()
        .filter_map(|reception| reception.time.as_ref());
    let of_server = uplink.received_at.iter().chain(received_at);
    of_settings
        .into_iter()
        .chain(of_receptions)
        .chain(of_server)
        .find_map(|time| time.0.parse().ok())
}
