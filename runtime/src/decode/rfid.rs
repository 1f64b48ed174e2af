//! Reads of RFID tags and barcodes: Impinj's IoT device interface, Zebra's IoT Connector, and what integrators write
//! themselves.
//!
//! ```json
//! {"reads":[{"epc":"3074257BF7194E4000001A85","rssi":-56,"antenna":2,"timestamp":"2026-01-15T10:00:00.123Z"}]}
//! ```
//! The last one is read leniently: an object, an array, `{"reads":[…]}` or an array of codes; `epc`, `epcHex`, `idHex`,
//! `tag`, `id`, `code`; `rssi`, `peakRssi`, `rssi_dbm`; `antenna`, `antennaPort`, `port`; `timestamp`, `readAt`, `time`,
//! `at`; `reader_id`, `readerId`, `reader`, `scannerId`, `hostname`.
//!
//! Promises: a message of a reader that reads no tag (a heartbeat) gives no read and no rejection; times are RFC 3339
//! (also with `+0000`) or numbers of seconds or milliseconds since 1970. Knows nothing of presence: every read counts.

use base64::{Engine, engine::general_purpose::STANDARD};
use gemba_twins::time::Timestamp;
use serde_json::{Map, Value};

use super::{Epc, Rejection, json, quoted};

/// Most reads of one message.
const READS_MAX: usize = 10_000;
/// Longest name of a reader or an antenna.
const NAME_MAX: usize = 128;

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RfidFormat {
    /// Impinj R700 and its kin.
    Impinj,
    /// Zebra FX and ATR.
    Zebra,
    /// Anybody.
    Generic,
}

/// A tag that was read, not yet bound to a job.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedRead {
    /// What stands on it.
    pub epc: Epc,
    /// The reader, as it calls itself.
    pub reader: Option<Box<str>>,
    /// The antenna's number or name.
    pub antenna: Option<Box<str>>,
    /// How strongly it was heard.
    pub rssi_dbm: Option<f64>,
    /// When; `None` takes the time of receipt.
    pub at: Option<Timestamp>,
}

/// The reads of a message: one event, or an array of them.
pub fn rfid_reads(format: RfidFormat, bytes: &[u8]) -> Result<Vec<DecodedRead>, Rejection> {
    let text = json::text(bytes)?;
    let value: Value =
        serde_json::from_str(text).map_err(|error| json::malformed(&error, text, "json.malformed"))?;
    let items = match value {
        Value::Array(items) => items,
        Value::Object(mut object) => match (format, object.remove("reads")) {
            (RfidFormat::Generic, Some(Value::Array(mut items))) => {
                // What is said once holds for each of them.
                for item in &mut items {
                    with_defaults(item, &object);
                }
                items
            }
            (RfidFormat::Generic, Some(_)) => {
                return Err(Rejection::new("rfid.reads_invalid", "reads is not a list"));
            }
            (_, Some(reads)) => {
                object.insert("reads".into(), reads);
                vec![Value::Object(object)]
            }
            (_, None) => vec![Value::Object(object)],
        },
        other => vec![other],
    };
    if items.len() > READS_MAX {
        let detail = format!(
            "{} reads in one message (at most {READS_MAX}; split it)",
            items.len()
        );
        return Err(Rejection::new("rfid.too_many_reads", detail));
    }
    let mut reads = Vec::with_capacity(items.len());
    for item in &items {
        let read = match format {
            RfidFormat::Impinj => impinj(item),
            RfidFormat::Zebra => zebra(item),
            RfidFormat::Generic => generic(item),
        };
        reads.extend(read?);
    }
    Ok(reads)
}

/// The format of a message that does not say whose it is.
#[must_use]
pub fn rfid_format(bytes: &[u8]) -> RfidFormat {
    let has = |wanted: &str| {
        bytes
            .windows(wanted.len())
            .take(64 << 10)
            .any(|window| window == wanted.as_bytes())
    };
    if has("\"eventType\"") {
        RfidFormat::Impinj
    } else if has("\"data\"") && has("\"type\"") {
        RfidFormat::Zebra
    } else {
        RfidFormat::Generic
    }
}

fn with_defaults(item: &mut Value, around: &Map<String, Value>) {
    if let Value::String(code) = item {
        *item = Value::Object(Map::from_iter([(
            "epc".to_owned(),
            Value::String(std::mem::take(code)),
        )]));
    }
    if let Value::Object(item) = item {
        for (name, value) in around {
            if matches!(value, Value::String(_) | Value::Number(_)) && !item.contains_key(name) {
                item.insert(name.clone(), value.clone());
            }
        }
    }
}

fn impinj(item: &Value) -> Result<Option<DecodedRead>, Rejection> {
    let event = object(item)?;
    let Some(read) = event.get("tagInventoryEvent").and_then(Value::as_object) else {
        let kind = event.get("eventType").and_then(Value::as_str);
        return match kind {
            Some(kind) if kind != "tagInventory" => Ok(None),
            _ => Err(Rejection::new(
                "rfid.not_impinj",
                "eventType and tagInventoryEvent are missing (is it a message of an Impinj reader?)",
            )),
        };
    };
    let epc = match (text(read, &["epcHex"]), text(read, &["epc"])) {
        (Some(hex), _) => Epc::read(hex)?,
        (None, Some(encoded)) => match STANDARD.decode(encoded) {
            Ok(bytes) if !bytes.is_empty() => Epc::of_bytes(&bytes),
            _ => {
                let detail = format!("epc {} is not base64", quoted(encoded));
                return Err(Rejection::new("rfid.epc_invalid", detail));
            }
        },
        (None, None) => return Err(no_epc("epcHex or epc (switch one on in the reader's preset)")),
    };
    let at = read.get("lastSeenTime").or_else(|| event.get("timestamp"));
    Ok(Some(DecodedRead {
        epc,
        reader: name(event, &["hostname"])?,
        antenna: name(read, &["antennaPort", "antennaName"])?,
        rssi_dbm: number(read, &["peakRssiCdbm"]).map(|hundredths| hundredths / 100.0),
        at: time(at)?,
    }))
}

fn zebra(item: &Value) -> Result<Option<DecodedRead>, Rejection> {
    let event = object(item)?;
    let data = event.get("data").and_then(Value::as_object);
    let Some(data) = data.filter(|data| data.contains_key("idHex") || data.contains_key("epc")) else {
        return if event.contains_key("type") {
            Ok(None)
        } else {
            Err(Rejection::new(
                "rfid.not_zebra",
                "type and data are missing (is it a message of Zebra's IoT Connector?)",
            ))
        };
    };
    let code = text(data, &["idHex", "epc"]).ok_or_else(|| no_epc("data.idHex"))?;
    Ok(Some(DecodedRead {
        epc: Epc::read(code)?,
        reader: name(data, &["hostName", "hostname"])?,
        antenna: name(data, &["antenna"])?,
        rssi_dbm: number(data, &["peakRssi"]),
        at: time(event.get("timestamp"))?,
    }))
}

fn generic(item: &Value) -> Result<Option<DecodedRead>, Rejection> {
    if let Value::String(code) = item {
        return Ok(Some(DecodedRead {
            epc: Epc::read(code)?,
            reader: None,
            antenna: None,
            rssi_dbm: None,
            at: None,
        }));
    }
    let read = object(item)?;
    let names = ["epc", "epcHex", "idHex", "tag", "id", "code"];
    let code = text(read, &names).ok_or_else(|| no_epc(&names.join(", ")))?;
    let at = ["timestamp", "readAt", "time", "at"]
        .iter()
        .find_map(|name| read.get(*name));
    let readers = [
        "reader_id",
        "readerId",
        "reader",
        "scannerId",
        "scanner_id",
        "hostname",
    ];
    Ok(Some(DecodedRead {
        epc: Epc::read(code)?,
        reader: name(read, &readers)?,
        antenna: name(read, &["antenna", "antennaPort", "port"])?,
        rssi_dbm: number(read, &["rssi", "peakRssi", "rssi_dbm"]),
        at: time(at)?,
    }))
}

fn object(item: &Value) -> Result<&Map<String, Value>, Rejection> {
    item.as_object().ok_or_else(|| {
        let shown: String = item.to_string().chars().take(40).collect();
        Rejection::new("rfid.not_a_read", format!("{} is not a read", quoted(&shown)))
    })
}

fn no_epc(names: &str) -> Rejection {
    Rejection::new(
        "rfid.epc_missing",
        format!("the read names no tag: {names} is missing"),
    )
}

fn text<'a>(object: &'a Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    names
        .iter()
        .find_map(|name| object.get(*name)?.as_str())
        .filter(|text| !text.is_empty())
}

fn number(object: &Map<String, Value>, names: &[&str]) -> Option<f64> {
    names
        .iter()
        .find_map(|name| object.get(*name)?.as_f64())
        .filter(|number| number.is_finite())
}

/// A reader or an antenna, by name or number.
fn name(object: &Map<String, Value>, names: &[&str]) -> Result<Option<Box<str>>, Rejection> {
    let Some(value) = names
        .iter()
        .find_map(|name| object.get(*name).filter(|value| !value.is_null()))
    else {
        return Ok(None);
    };
    let shown = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Ok(None),
    };
    if shown.is_empty() || shown.len() > NAME_MAX || shown.chars().any(char::is_control) {
        let detail = format!("{} is not a name of 1 to {NAME_MAX} characters", quoted(&shown));
        return Err(Rejection::new("rfid.name_invalid", detail));
    }
    Ok(Some(shown.into()))
}

fn time(value: Option<&Value>) -> Result<Option<Timestamp>, Rejection> {
    let refuse = |detail: String| Err(Rejection::new("rfid.timestamp_invalid", detail));
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => match with_colon(text).parse() {
            Ok(at) => Ok(Some(at)),
            Err(error) => refuse(format!("{error}")),
        },
        Some(Value::Number(number)) => {
            let number = number.as_f64().unwrap_or_default();
            // Seconds of the year 2200 are fewer than milliseconds of 1970's fourth month.
            let ms = if number.abs() < 1e10 {
                number * 1_000.0
            } else {
                number
            };
            match Timestamp::checked_from_ms(ms.round() as i64) {
                Some(at) => Ok(Some(at)),
                None => refuse(format!("{number} is not a time between 2000 and 2200")),
            }
        }
        Some(_) => refuse("the time is neither text nor a number".into()),
    }
}

/// Zebra writes offsets without a colon, which RFC 3339 has.
fn with_colon(text: &str) -> String {
    let bytes = text.as_bytes();
    let at = bytes.len().wrapping_sub(5);
    let has_none = bytes.get(at).is_some_and(|sign| matches!(sign, b'+' | b'-'))
        && bytes[at + 1..].iter().all(u8::is_ascii_digit);
    if has_none && text.is_ascii() {
        format!("{}:{}", &text[..at + 3], &text[at + 3..])
    } else {
        text.to_owned()
    }
}
