//! GS1 EPCIS 2.0 events in JSON: who was seen where, what sensors measured on the way, and what was an error.
//!
//! Promises: all five kinds of event are read: object, aggregation, transaction, transformation and association. Every
//! EPC of an event is a scan at its read point (else its business location); an event with an error declaration takes
//! those scans back; sensor reports are readings. `eventID` is the idempotency key, never computed. The event's
//! own time zone offset and its business context ride along as metadata. Quantities of a class are no things and are
//! left out. Knows nothing of JSON-LD beyond the names of the standard's context.

use gemba_twins::{
    event::{SensorType, Value as Measured},
    id,
    time::Timestamp,
};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{DecodedReading, Epc, Rejection, json, quoted};

/// Most things of one event.
const EPCS_MAX: usize = 10_000;
/// Most events of one document.
const EVENTS_MAX: usize = 10_000;
const EVENTS: [&str; 5] = [
    "ObjectEvent",
    "AggregationEvent",
    "TransactionEvent",
    "TransformationEvent",
    "AssociationEvent",
];

/// What an event says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EpcisEvent {
    /// Things that were seen.
    pub scans: Vec<EpcisScan>,
    /// What sensors measured.
    pub readings: Vec<DecodedReading>,
}

/// A thing seen at a place, not yet bound to a job.
#[derive(Debug, Clone, PartialEq)]
pub struct EpcisScan {
    /// The thing.
    pub epc: Epc,
    /// Where, the most exact first: read point, business location.
    pub places: Vec<Box<str>>,
    /// When.
    pub at: Timestamp,
    /// The event's id; one that was declared an error has another than the event itself.
    pub message_id: Option<Box<str>>,
    /// The event was declared an error.
    pub retracts: bool,
    /// JSON text of the event's context.
    pub metadata: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, rename = "epcisBody")]
    body: Option<Body<'a>>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, rename = "eventList")]
    events: Option<Vec<&'a RawValue>>,
    /// A body may hold one event by itself, or the results of a query.
    #[serde(borrow, rename = "queryResults")]
    results: Option<Results<'a>>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Results<'a> {
    #[serde(borrow, rename = "resultsBody")]
    body: Option<ResultsBody<'a>>,
}

#[derive(Deserialize)]
struct ResultsBody<'a> {
    #[serde(borrow, rename = "eventList")]
    events: Option<Vec<&'a RawValue>>,
}

/// Cuts a document into its events; a single event and an array of events are taken too.
pub fn split_epcis(bytes: &[u8]) -> Result<Vec<&[u8]>, Rejection> {
    let text = json::text(bytes)?;
    let refuse = |error: serde_json::Error| json::malformed(&error, text, "epcis.document_invalid");
    let raw: Vec<&RawValue> = if text.trim_ascii_start().starts_with('[') {
        serde_json::from_str(text).map_err(refuse)?
    } else {
        json::object(text)?;
        match serde_json::from_str::<Document<'_>>(text).map_err(refuse)?.body {
            None => vec![serde_json::from_str(text).map_err(refuse)?],
            Some(Body {
                events: Some(events), ..
            }) => events,
            Some(Body {
                results: Some(results),
                ..
            }) => results.body.and_then(|body| body.events).unwrap_or_default(),
            Some(Body { event, .. }) => event.into_iter().collect(),
        }
    };
    if raw.is_empty() {
        return Err(Rejection::new(
            "epcis.no_event",
            "the document holds no event (epcisBody.eventList is empty)",
        ));
    }
    if raw.len() > EVENTS_MAX {
        let detail = format!(
            "{} events in one document (at most {EVENTS_MAX}; split it)",
            raw.len()
        );
        return Err(Rejection::new("epcis.too_many_events", detail));
    }
    Ok(raw.into_iter().map(|event| event.get().as_bytes()).collect())
}

/// Reads one event.
pub fn epcis_event(bytes: &[u8]) -> Result<EpcisEvent, Rejection> {
    let text = json::text(bytes)?;
    let event: Map<String, Value> = serde_json::from_str(json::object(text)?)
        .map_err(|error| json::malformed(&error, text, "epcis.event_invalid"))?;
    let kind = word(&event, "type").unwrap_or_default();
    if !EVENTS.contains(&kind) {
        let detail = format!(
            "type {} is no EPCIS event (one of {})",
            quoted(kind),
            EVENTS.join(", ")
        );
        return Err(Rejection::new("epcis.type_unknown", detail));
    }
    let at = time(&event, "eventTime")?
        .ok_or_else(|| Rejection::new("epcis.time_missing", "eventTime is missing (it is required)"))?;
    let event_id = word(&event, "eventID");
    let retracts = event.get("errorDeclaration").is_some_and(Value::is_object);
    let places: Vec<Box<str>> = ["readPoint", "bizLocation"]
        .iter()
        .filter_map(|field| word(event.get(*field)?.as_object()?, "id"))
        .map(Box::from)
        .collect();
    let mut read = EpcisEvent::default();
    for epc in things(&event)? {
        let mark = if retracts { "!error" } else { "" };
        read.scans.push(EpcisScan {
            metadata: metadata(kind, &event, &epc),
            epc,
            places: places.clone(),
            at,
            message_id: message_id(event_id, mark),
            retracts,
        });
    }
    if places.is_empty() && !read.scans.is_empty() {
        let detail = "the event names no place (readPoint or bizLocation is needed)";
        return Err(Rejection::new("epcis.place_missing", detail));
    }
    if !retracts {
        readings(&event, event_id, at, &places, &mut read.readings)?;
    }
    if read == EpcisEvent::default() && !event.contains_key("sensorElementList") {
        let detail = "the event names no single thing (quantities of a class are not followed)";
        return Err(Rejection::new("epcis.no_epc", detail));
    }
    Ok(read)
}

fn word<'a>(object: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    object.get(field)?.as_str().filter(|text| !text.is_empty())
}

fn time(object: &Map<String, Value>, field: &str) -> Result<Option<Timestamp>, Rejection> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => match text.parse() {
            Ok(at) => Ok(Some(at)),
            Err(error) => Err(Rejection::new("epcis.time_invalid", format!("{field}: {error}"))),
        },
        Some(_) => Err(Rejection::new(
            "epcis.time_invalid",
            format!("{field} is not text"),
        )),
    }
}

fn message_id(event_id: Option<&str>, mark: &str) -> Option<Box<str>> {
    json::foreign_message_id(Some(&format!("{}{mark}", event_id?)))
}

/// All things of an event, each once.
fn things(event: &Map<String, Value>) -> Result<Vec<Epc>, Rejection> {
    let mut things: Vec<Epc> = Vec::new();
    let lists = ["epcList", "childEPCs", "inputEPCList", "outputEPCList"];
    let listed = lists.iter().filter_map(|field| event.get(*field));
    let parent = event.get("parentID").map(std::slice::from_ref);
    for list in parent
        .into_iter()
        .chain(listed.filter_map(|list| list.as_array().map(Vec::as_slice)))
    {
        for item in list {
            let Some(code) = item.as_str() else {
                return Err(Rejection::new("epcis.epc_invalid", "an EPC is not text"));
            };
            if things.len() >= EPCS_MAX {
                let detail = format!("more than {EPCS_MAX} EPCs in one event (split it)");
                return Err(Rejection::new("epcis.too_many_epcs", detail));
            }
            things.push(Epc::read(code)?);
        }
    }
    things.sort_by(|one, other| one.uri.cmp(&other.uri));
    things.dedup();
    Ok(things)
}

/// The last part of a word of the core business vocabulary, which may be written as a URI.
fn vocabulary(text: &str) -> &str {
    let last = text.rsplit(['/', ':']).next().unwrap_or(text);
    last.split_once('-').map_or(last, |(_, word)| word)
}

fn metadata(kind: &str, event: &Map<String, Value>, epc: &Epc) -> Option<Box<str>> {
    let mut kept = Map::new();
    kept.insert("epcis".into(), kind.into());
    kept.insert("epc".into(), (*epc.uri).into());
    for (field, name) in [
        ("action", "action"),
        ("eventTimeZoneOffset", "event_time_zone_offset"),
        ("bizTransactionList", "biz_transactions"),
    ] {
        if let Some(value) = event.get(field) {
            kept.insert(name.into(), value.clone());
        }
    }
    for (field, name) in [("bizStep", "biz_step"), ("disposition", "disposition")] {
        if let Some(text) = word(event, field) {
            kept.insert(name.into(), vocabulary(text).into());
        }
    }
    if let Some(declared) = event.get("errorDeclaration").and_then(Value::as_object) {
        kept.insert(
            "error".into(),
            json!({"reason": declared.get("reason"), "declared_at": declared.get("declarationTime")}),
        );
    }
    json::foreign_metadata(&kept)
}

fn readings(
    event: &Map<String, Value>,
    event_id: Option<&str>,
    at: Timestamp,
    places: &[Box<str>],
    into: &mut Vec<DecodedReading>,
) -> Result<(), Rejection> {
    let elements = event.get("sensorElementList").and_then(Value::as_array);
    for (number, element) in elements.into_iter().flatten().enumerate() {
        let nothing = Map::new();
        let about = element
            .get("sensorMetadata")
            .and_then(Value::as_object)
            .unwrap_or(&nothing);
        let mut metrics: Vec<(Box<str>, Measured)> = Vec::new();
        for report in element
            .get("sensorReport")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let Some(report) = report.as_object() else {
                continue;
            };
            if let Some((name, value)) = measured(report)
                && metrics.len() < super::METRICS_MAX
                && !metrics.iter().any(|(known, _)| *known == name)
            {
                metrics.push((name, value));
            }
        }
        let device = word(about, "deviceID").or_else(|| places.first().map(|place| &**place));
        let (Some(device), false) = (device, metrics.is_empty()) else {
            continue;
        };
        into.push(DecodedReading {
            sensor_id: as_id(device),
            sensor_type: Some(SensorType::AirQuality),
            location_id: places.first().map(|place| as_id(place)),
            at: Some(time(about, "time")?.unwrap_or(at)),
            message_id: message_id(event_id, &format!("#{number}")),
            metrics,
            quality_score: None,
            source_system: Some("epcis".into()),
            device_metadata: None,
            tags: Vec::new(),
        });
    }
    Ok(())
}

/// A report as a metric: its kind and unit make the name.
fn measured(report: &Map<String, Value>) -> Option<(Box<str>, Measured)> {
    let kind = word(report, "type")?.rsplit(['/', ':']).next()?;
    let kind = kind.strip_prefix("MeasurementType-").unwrap_or(kind);
    let value = match (
        report.get("value"),
        report.get("stringValue"),
        report.get("booleanValue"),
    ) {
        (Some(value), ..) => Measured::Number(value.as_f64().filter(|value| value.is_finite())?),
        (_, Some(Value::String(text)), _) => {
            Measured::Text(text.chars().take(super::METRIC_TEXT_MAX).collect())
        }
        (.., Some(Value::Bool(yes))) => Measured::Bool(*yes),
        _ => return None,
    };
    let mut name = String::new();
    for letter in kind.chars().filter(char::is_ascii_alphanumeric).take(64) {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    if let Some(unit) = word(report, "uom").map(unit).filter(|unit| !unit.is_empty()) {
        name.push('_');
        name.push_str(&unit);
    }
    (!name.is_empty()).then(|| (name.into(), value))
}

/// The ending of a name for a unit of UN/CEFACT recommendation 20. An unknown one stands as it is: units are named,
/// never converted.
fn unit(code: &str) -> String {
    let known = match code {
        "CEL" => "c",
        "FAH" => "f",
        "KEL" => "k",
        "P1" => "pct",
        "59" => "ppm",
        "61" => "ppb",
        "GQ" => "ugm3",
        "A93" => "gm3",
        "A97" => "hpa",
        "PAL" => "pa",
        "LUX" => "lx",
        "KMH" => "kmh",
        "MTS" => "mps",
        "KGM" => "kg",
        "MTR" => "m",
        "VLT" => "v",
        "AMP" => "a",
        "WTT" => "w",
        "KWT" => "kw",
        "KWH" => "kwh",
        "C62" => "",
        _ => {
            let plain = code.chars().filter(char::is_ascii_alphanumeric).take(8);
            return plain.map(|letter| letter.to_ascii_lowercase()).collect();
        }
    };
    known.to_owned()
}

/// A foreign name as an id: what an id may not hold becomes a dash.
pub(crate) fn as_id(text: &str) -> Box<str> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | ':');
    let short = text.strip_prefix("https://").unwrap_or(text);
    let id: String = short
        .chars()
        .take(id::ID_MAX)
        .map(|letter| if allowed(letter) { letter } else { '-' })
        .collect();
    if id.is_empty() { "-".into() } else { id.into() }
}
