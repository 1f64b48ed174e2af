//! Decoding: from the bytes of one message to a reading or a scan.
//!
//! Promises: pure and total. Any bytes give a decoded message or a [`Rejection`] that says what is wrong and how to
//! mend it; nothing panics, and the output is never larger than the input by more than a constant. Units are passed
//! on as they came, never converted. Absent and `null` mean "not measured", never zero.
//!
//! Knows nothing of twins, tenants, transports or clocks: which twin a sensor feeds is for `plant`, and a message
//! without a time keeps none.
//!
//! Codes of rejections begin with what is wrong: `json.…` (not JSON at all), `reading.…` and `scan.…` (the content),
//! `chirpstack.…` and `the_things_stack.…` (what those servers wrap around it), `rfid.…` (reads of tags), `epcis.…`
//! (EPCIS events), `batch.…` (a body of many).

mod chirpstack;
mod epc;
mod epcis;
mod json;
mod metrics;
mod reading;
mod rfid;
mod scan;
mod split;
mod the_things_stack;

use gemba_twins::{
    event::{SensorType, Value},
    time::Timestamp,
};

pub use chirpstack::chirpstack;
pub use epc::{Epc, EpcParts};
pub(crate) use epcis::as_id;
pub use epcis::{EpcisEvent, EpcisScan, epcis_event, split_epcis};
pub(crate) use metrics::first_duplicate;
pub use metrics::{METRIC_NAME_MAX, METRIC_TEXT_MAX, METRICS_MAX};
pub use reading::native_reading;
pub use rfid::{DecodedRead, RfidFormat, rfid_format, rfid_reads};
pub use scan::native_scan;
pub use split::{BATCH_ITEMS_MAX, Content, split_batch};
pub use the_things_stack::the_things_stack;

/// Why a message cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Rejection {
    /// For programs, stable, e.g. `reading.metric_type`.
    pub code: &'static str,
    /// For people: what is wrong, with a hint in parentheses. At most a few hundred characters.
    pub detail: String,
}

impl Rejection {
    pub(crate) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}

/// What a sensor measured, not yet bound to a twin.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedReading {
    /// The sensor, valid as an id.
    pub sensor_id: Box<str>,
    /// What the sensor is, where it was said.
    pub sensor_type: Option<SensorType>,
    /// Where the sensor says it stands, valid as an id.
    pub location_id: Option<Box<str>>,
    /// When it measured; `None` takes the time of receipt.
    pub at: Option<Timestamp>,
    /// The sender's idempotency key.
    pub message_id: Option<Box<str>>,
    /// One to 256 values; each name occurs once.
    pub metrics: Vec<(Box<str>, Value)>,
    /// 0 to 1, as the sender judged it.
    pub quality_score: Option<f64>,
    /// The system that sent it.
    pub source_system: Option<Box<str>>,
    /// JSON text of what was said about the device.
    pub device_metadata: Option<Box<str>>,
    /// Tags that an integrator gave the device on its network server; binding reads `twin`, `machine_id` and
    /// `location_id`.
    pub tags: Vec<(Box<str>, Box<str>)>,
}

/// A job seen at a place, not yet bound to a twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedScan {
    /// The job, valid as an id.
    pub job_id: Box<str>,
    /// The place, valid as an id.
    pub location: Box<str>,
    /// The reader, valid as an id.
    pub reader_id: Option<Box<str>>,
    /// What is made.
    pub product_id: Option<Box<str>>,
    /// In which variant.
    pub product_variant: Option<Box<str>>,
    /// Who handled it.
    pub operator_id: Option<Box<str>>,
    /// When it was seen; `None` takes the time of receipt.
    pub at: Option<Timestamp>,
    /// The sender's idempotency key.
    pub message_id: Option<Box<str>>,
    /// JSON text of the sender's `metadata`.
    pub metadata: Option<Box<str>>,
}

/// The sensor types by name. Upper case in the native format; any case is read.
pub(crate) const SENSOR_TYPES: [(&str, SensorType); 4] = [
    ("MACHINE", SensorType::Machine),
    ("ENERGY", SensorType::Energy),
    ("AIR_QUALITY", SensorType::AirQuality),
    ("RFID", SensorType::Rfid),
];

/// The sensor type of a word.
pub(crate) fn sensor_type(word: &str) -> Option<SensorType> {
    SENSOR_TYPES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))
        .map(|(_, kind)| *kind)
}

/// The word of a sensor type.
pub(crate) fn word_of(of: SensorType) -> &'static str {
    let known = SENSOR_TYPES.iter().find(|(_, kind)| *kind == of);
    known.map_or("", |(word, _)| word)
}

/// A foreign text as shown in a detail: quoted, escaped and short.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(48).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
