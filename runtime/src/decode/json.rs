//! JSON as devices send it: the text, a value of any type, and what is wrong when it is not JSON.
//!
//! Promises: a wrong type is a value, not an error, so that the one who reads a field can name the field in the
//! rejection; only text that is not JSON is an error. Knows nothing of which fields there are.

use std::{borrow::Cow, fmt, str};

use gemba_twins::{id, time::Timestamp};
use serde::{
    Deserialize, Serialize,
    de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Rejection, quoted};

/// Most characters of a free text such as a product or a source system.
pub(super) const TEXT_MAX: usize = 128;
/// Most characters of a message id.
pub(super) const MESSAGE_ID_MAX: usize = 256;
/// Most bytes of `metadata` and `device_metadata`: they ride along with every event into the journal.
pub(super) const METADATA_MAX: usize = 8 * 1_024;

/// The text of a message, without a byte order mark.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Rejection> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let detail = format!("byte {} is not UTF-8 (send JSON as UTF-8)", error.valid_up_to());
            Err(Rejection::new("json.not_utf8", detail))
        }
    }
}

/// Refuses a text that is JSON but no object: derived readers would take a list for the fields in their order.
pub(super) fn object(text: &str) -> Result<&str, Rejection> {
    let text_start = text.trim_ascii_start();
    match text_start.bytes().next() {
        Some(b'{') | None => Ok(text),
        Some(_) => {
            let detail = format!("an object is needed, not {}", quoted(text_start));
            Err(Rejection::new("json.not_an_object", detail))
        }
    }
}

/// What is wrong with a text that is not JSON, or not of the shape `code` stands for.
pub(super) fn malformed(error: &serde_json::Error, text: &str, code: &'static str) -> Rejection {
    // serde_json quotes whole strings of the message in some errors.
    let said: String = error.to_string().chars().take(200).collect();
    if error.is_data() {
        return Rejection::new(code, said);
    }
    if said.starts_with("number out of range") {
        return Rejection::new(
            "json.number_too_large",
            format!("{said} (numbers go up to 1.8e308)"),
        );
    }
    let hint = match word_at(text, error.line(), error.column()) {
        _ if text.trim_ascii().is_empty() => " (nothing was sent)",
        Some(word) if ["nan", "inf"].iter().any(|start| word.starts_with(start)) => {
            " (NaN and Infinity are not JSON: leave the metric out or send null)"
        }
        _ if said.starts_with("trailing characters") => " (send several objects as an array or as NDJSON)",
        _ if error.is_eof() => " (the message is cut off)",
        _ => "",
    };
    Rejection::new("json.malformed", format!("{said}{hint}"))
}

/// The word around the position of an error, in lower case.
fn word_at(text: &str, line: usize, column: usize) -> Option<String> {
    let line = text
        .as_bytes()
        .split(|byte| *byte == b'\n')
        .nth(line.checked_sub(1)?)?;
    let is_part = |byte: &u8| byte.is_ascii_alphabetic();
    // The column counts the bytes read, so the byte at fault is the last of them, or the next one.
    let start = column.min(line.len()).saturating_sub(1);
    let back = line[..start]
        .iter()
        .rev()
        .take(8)
        .take_while(|byte| is_part(byte))
        .count();
    let word = line[start - back..]
        .iter()
        .skip_while(|byte| !is_part(byte))
        .take_while(|byte| is_part(byte));
    Some(
        word.take(9)
            .map(|byte| char::from(byte.to_ascii_lowercase()))
            .collect(),
    )
}

/// A text that is borrowed from the message where it holds no escapes.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A value of any type; what is inside lists and objects is skipped.
#[derive(Debug)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(Cow<'a, str>),
    List,
    Object,
}

impl Scalar<'_> {
    /// The type as shown in a detail.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Scalar::Number(value as f64), Scalar::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Object)
    }
}

/// The codes that the fields of one kind of message are rejected with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codes {
    pub(super) field_missing: &'static str,
    pub(super) field_type: &'static str,
    pub(super) field_duplicate: &'static str,
    pub(super) field_length: &'static str,
    pub(super) message_id: &'static str,
    pub(super) timestamp: &'static str,
}

impl Codes {
    /// Keeps the value of a field; a field that was given before is rejected.
    pub(super) fn put<T>(
        &self,
        slot: &mut Option<T>,
        field: &'static str,
        value: T,
        rejection: &mut Option<Rejection>,
    ) {
        if slot.replace(value).is_some() && rejection.is_none() {
            *rejection = Some(Rejection::new(
                self.field_duplicate,
                format!("{field} is given twice"),
            ));
        }
    }

    /// The text of a field; absent and null are `None`.
    pub(super) fn text<'a>(
        &self,
        field: &'static str,
        value: Option<Scalar<'a>>,
    ) -> Result<Option<Cow<'a, str>>, Rejection> {
        match value {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(text)) => Ok(Some(text)),
            Some(other) => {
                let detail = format!("{field} is {} (it has to be text, in quotes)", other.type_name());
                Err(Rejection::new(self.field_type, detail))
            }
        }
    }

    /// A field that holds a free text of 1 to 128 characters.
    pub(super) fn words(
        &self,
        field: &'static str,
        value: Option<Scalar<'_>>,
    ) -> Result<Option<Box<str>>, Rejection> {
        let Some(text) = self.text(field, value)? else {
            return Ok(None);
        };
        if text.is_empty() || text.chars().count() > TEXT_MAX || text.chars().any(char::is_control) {
            let detail = format!(
                "{field} {} has {} characters (1 to {TEXT_MAX} without control characters are allowed)",
                quoted(&text),
                text.chars().count()
            );
            return Err(Rejection::new(self.field_length, detail));
        }
        Ok(Some(text.into()))
    }

    /// A field that holds an id.
    pub(super) fn id(
        &self,
        field: &'static str,
        value: Option<Scalar<'_>>,
        code: &'static str,
    ) -> Result<Option<Box<str>>, Rejection> {
        let Some(text) = self.text(field, value)? else {
            return Ok(None);
        };
        check_id(field, &text, code)?;
        Ok(Some(text.into()))
    }

    /// The sender's idempotency key.
    pub(super) fn message_id(&self, value: Option<Scalar<'_>>) -> Result<Option<Box<str>>, Rejection> {
        let Some(text) = self.text("message_id", value)? else {
            return Ok(None);
        };
        if text.is_empty() || text.chars().count() > MESSAGE_ID_MAX || text.chars().any(char::is_control) {
            let detail = format!(
                "message_id {} has {} characters (1 to {MESSAGE_ID_MAX} without control characters are allowed; \
                 without any, one is derived from the content)",
                quoted(&text),
                text.chars().count()
            );
            return Err(Rejection::new(self.message_id, detail));
        }
        Ok(Some(text.into()))
    }

    /// A time: RFC 3339, or a whole number of milliseconds since 1970.
    pub(super) fn time(
        &self,
        field: &'static str,
        value: Option<Scalar<'_>>,
    ) -> Result<Option<Timestamp>, Rejection> {
        let refuse = |detail: String| Err(Rejection::new(self.timestamp, detail));
        match value {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(text)) => match text.parse() {
                Ok(time) => Ok(Some(time)),
                Err(error) => refuse(format!("{field}: {error}")),
            },
            Some(Scalar::Integer(ms)) => match Timestamp::checked_from_ms(ms) {
                Some(time) => Ok(Some(time)),
                None => refuse(format!(
                    "{field} {ms} is not between 2000 and 2200 (numbers count milliseconds since 1970, not seconds)"
                )),
            },
            Some(other) => refuse(format!(
                "{field} is {} (use RFC 3339 text, or a whole number of milliseconds since 1970)",
                other.type_name()
            )),
        }
    }

    /// A field that may hold anything, kept as JSON text.
    pub(super) fn metadata(
        &self,
        field: &'static str,
        value: Option<&RawValue>,
    ) -> Result<Option<Box<str>>, Rejection> {
        match value.map(RawValue::get) {
            None | Some("null") => Ok(None),
            Some(text) if text.len() > METADATA_MAX => {
                let detail = format!(
                    "{field} has {} bytes (at most {METADATA_MAX} are kept)",
                    text.len()
                );
                Err(Rejection::new(self.field_length, detail))
            }
            Some(text) => Ok(Some(text.into())),
        }
    }

    /// The rejection of a message without a required field.
    pub(super) fn missing(&self, field: &'static str) -> Rejection {
        Rejection::new(self.field_missing, format!("{field} is missing (it is required)"))
    }
}

/// Checks an id, rejecting with `code`.
pub(super) fn check_id(field: &'static str, text: &str, code: &'static str) -> Result<(), Rejection> {
    id::check_id(field, text, id::ID_MAX).map_err(|error| Rejection::new(code, error.to_string()))
}

/// A message id that a network server made; one that cannot be kept is left out, and derived from the content.
pub(super) fn foreign_message_id(id: Option<&str>) -> Option<Box<str>> {
    id.filter(|id| (1..=MESSAGE_ID_MAX).contains(&id.len()) && !id.chars().any(char::is_control))
        .map(Box::from)
}

/// What a network server says of a device, as JSON text; left out when it is too long to ride along.
pub(super) fn foreign_metadata(metadata: &impl Serialize) -> Option<Box<str>> {
    serde_json::to_string(metadata)
        .ok()
        .filter(|text| text.len() <= METADATA_MAX)
        .map(Box::from)
}
