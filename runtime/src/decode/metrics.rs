//! The metrics of a reading: names and values, checked as they are read.
//!
//! Promises: at most 256 metrics, names of 1 to 128 characters without control characters, texts of at most 256,
//! finite numbers; `null` is left out. The first thing wrong is kept and the rest of the message is still read, so
//! that text which is not JSON is told before a wrong value. Knows nothing of units or of which metrics there are.

use std::{borrow::Cow, fmt};

use gemba_twins::event::Value;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    Rejection,
    json::{Scalar, Text},
    quoted,
};

/// Most metrics of one reading, and of one twin.
pub const METRICS_MAX: usize = 256;
/// Most characters of a metric's name.
pub const METRIC_NAME_MAX: usize = 128;
/// Most characters of a metric's value when it is text.
pub const METRIC_TEXT_MAX: usize = 256;

/// Metrics read so far, and the first thing that was wrong.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    values: Vec<(Box<str>, Value)>,
    rejection: Option<Rejection>,
}

impl Metrics {
    /// The metrics, or what was wrong with them.
    pub(super) fn finish(self) -> Result<Vec<(Box<str>, Value)>, Rejection> {
        if let Some(rejection) = self.rejection {
            return Err(rejection);
        }
        match first_duplicate(&self.values) {
            Some(name) => Err(Rejection::new(
                "reading.metric_duplicate",
                format!(
                    "metric {} is given twice (send two readings, each with its time)",
                    quoted(name)
                ),
            )),
            None => Ok(self.values),
        }
    }

    /// Adds a metric unless the message has one of that name.
    pub(super) fn push_unless_given(&mut self, name: &'static str, value: f64) {
        if !self.values.iter().any(|(given, _)| **given == *name) && value.is_finite() {
            self.push(name.into(), Scalar::Number(value));
        }
    }

    pub(super) fn push(&mut self, name: Cow<'_, str>, value: Scalar<'_>) {
        if self.rejection.is_some() || matches!(value, Scalar::Null) {
            return;
        }
        match checked(&name, value, self.values.len()) {
            Ok(value) => self.values.push((name.into(), value)),
            Err(rejection) => self.rejection = Some(rejection),
        }
    }

    fn reject_shape(mut self, found: &Scalar<'_>) -> Self {
        let detail = format!(
            "metrics is {} (it has to be an object of names and values)",
            found.type_name()
        );
        self.rejection = Some(Rejection::new("reading.field_type", detail));
        self
    }
}

fn checked(name: &str, value: Scalar<'_>, given: usize) -> Result<Value, Rejection> {
    if given >= METRICS_MAX {
        let detail = format!("more than {METRICS_MAX} metrics (split the reading)");
        return Err(Rejection::new("reading.too_many_metrics", detail));
    }
    if name.is_empty()
        || (name.len() > METRIC_NAME_MAX && name.chars().count() > METRIC_NAME_MAX)
        || has_control_characters(name)
    {
        let detail = format!(
            "metric name {} has {} characters (1 to {METRIC_NAME_MAX} without control characters are allowed)",
            quoted(name),
            name.chars().count()
        );
        return Err(Rejection::new("reading.metric_name_invalid", detail));
    }
    match value {
        Scalar::Integer(value) => Ok(Value::Number(value as f64)),
        Scalar::Number(value) if value.is_finite() => Ok(Value::Number(value)),
        Scalar::Bool(value) => Ok(Value::Bool(value)),
        Scalar::Text(text) if text.len() <= METRIC_TEXT_MAX || text.chars().count() <= METRIC_TEXT_MAX => {
            Ok(Value::Text(text.into()))
        }
        Scalar::Text(text) => {
            let length = text.chars().count();
            let detail = format!(
                "metric {} is a text of {length} characters (at most {METRIC_TEXT_MAX})",
                quoted(name)
            );
            Err(Rejection::new("reading.metric_text_too_long", detail))
        }
        other => {
            let detail = format!(
                "metric {} is {} (a number, text, true or false is needed; give nested values names of their own)",
                quoted(name),
                other.type_name()
            );
            Err(Rejection::new("reading.metric_type", detail))
        }
    }
}

fn has_control_characters(text: &str) -> bool {
    // Most names are plain ASCII: no need to decode characters.
    text.bytes().any(|byte| !(0x20..0x7f).contains(&byte)) && text.chars().any(char::is_control)
}

/// A name that occurs twice, if any does.
pub(crate) fn first_duplicate(metrics: &[(Box<str>, Value)]) -> Option<&str> {
    // Comparing each with each beats sorting for the few metrics that most readings have, and costs no memory.
    if metrics.len() <= 16 {
        let again = |(at, (name, _)): (usize, &(Box<str>, Value))| {
            metrics[..at]
                .iter()
                .any(|(before, _)| before == name)
                .then_some(at)
        };
        return metrics
            .iter()
            .enumerate()
            .find_map(again)
            .map(|at| &*metrics[at].0);
    }
    let mut names: Vec<&str> = metrics.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names
        .windows(2)
        .find(|pair| pair[0] == pair[1])
        .map(|pair| pair[0])
}

/// Reads a flat object: nested values are rejected.
impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FlatVisitor)
    }
}

struct FlatVisitor;

impl<'de> Visitor<'de> for FlatVisitor {
    type Value = Metrics;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of metrics")
    }

    fn visit_unit<E>(self) -> Result<Metrics, E> {
        Ok(Metrics::default().reject_shape(&Scalar::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Metrics, E> {
        Ok(Metrics::default().reject_shape(&Scalar::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Metrics, E> {
        Ok(Metrics::default().reject_shape(&Scalar::Integer(value)))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Metrics, E> {
        Ok(Metrics::default().reject_shape(&Scalar::Integer(0)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Metrics, E> {
        Ok(Metrics::default().reject_shape(&Scalar::Number(value)))
    }

    fn visit_str<E>(self, _: &str) -> Result<Metrics, E> {
        Ok(Metrics::default().reject_shape(&Scalar::Text(Cow::Borrowed(""))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Metrics, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Metrics::default().reject_shape(&Scalar::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metrics, A::Error> {
        let mut metrics = Metrics {
            values: Vec::with_capacity(8),
            rejection: None,
        };
        while let Some((Text(name), value)) = map.next_entry::<Text<'de>, Scalar<'de>>()? {
            metrics.push(name, value);
        }
        Ok(metrics)
    }
}

/// What a payload codec of a LoRaWAN network server made of a payload: objects in objects, joined with `.`; lists are
/// left out; an object of a `value` and a text `unit` (as Decentlab's codecs make them) is one metric.
#[derive(Debug, Default)]
pub(super) struct CodecOutput(pub(super) Metrics);

impl<'de> Deserialize<'de> for CodecOutput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mut metrics, mut prefix) = (Metrics::default(), String::new());
        Nested {
            metrics: &mut metrics,
            prefix: &mut prefix,
            top: true,
        }
        .deserialize(deserializer)?;
        Ok(Self(metrics))
    }
}

struct Nested<'m> {
    metrics: &'m mut Metrics,
    prefix: &'m mut String,
    top: bool,
}

impl Nested<'_> {
    fn take(self, value: Scalar<'_>) {
        if self.top {
            if self.metrics.rejection.is_none() && !matches!(value, Scalar::Null) {
                let detail = format!(
                    "the codec's output is {} (an object is needed)",
                    value.type_name()
                );
                self.metrics.rejection = Some(Rejection::new("reading.metric_type", detail));
            }
        } else {
            self.metrics.push(Cow::Borrowed(self.prefix), value);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of decoded values")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.take(Scalar::Null);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.take(Scalar::Bool(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.take(Scalar::Integer(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.take(Scalar::Number(value as f64));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.take(Scalar::Number(value));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.take(Scalar::Text(Cow::Borrowed(value)));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        if self.top {
            self.take(Scalar::List);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { metrics, prefix, top } = self;
        let (first, mark) = (metrics.values.len(), prefix.len());
        let mut has_unit = false;
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            // A name that is too long already stays too long: no need to let it grow with every level.
            if mark <= 4 * METRIC_NAME_MAX {
                if !top {
                    prefix.push('.');
                }
                prefix.push_str(&key);
            }
            has_unit |= key == "unit";
            map.next_value_seed(Nested {
                metrics: &mut *metrics,
                prefix: &mut *prefix,
                top: false,
            })?;
            prefix.truncate(mark);
        }
        if has_unit && !top {
            join_value_and_unit(&mut metrics.values, first, prefix);
        }
        Ok(())
    }
}

/// Makes `co2.value`, `co2.unit`, `co2.displayName` the one metric `co2`.
fn join_value_and_unit(values: &mut Vec<(Box<str>, Value)>, first: usize, name: &str) {
    let part = |name: &str, part: &str, (given, _): &(Box<str>, Value)| {
        given.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) == Some(part)
    };
    let own = &values[first..];
    let has_unit = own
        .iter()
        .any(|metric| part(name, "unit", metric) && matches!(metric.1, Value::Text(_)));
    let Some(at) = own.iter().position(|metric| part(name, "value", metric)) else {
        return;
    };
    if has_unit {
        let (_, value) = values.swap_remove(first + at);
        values.truncate(first);
        values.push((name.into(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flattened(json: &str) -> Result<Vec<(Box<str>, Value)>, Rejection> {
        serde_json::from_str::<CodecOutput>(json)
            .expect("the text is JSON")
            .0
            .finish()
    }

    fn names(json: &str) -> Vec<String> {
        let shown = |(name, value): (Box<str>, Value)| match value {
            Value::Number(number) => format!("{name}={number}"),
            Value::Text(text) => format!("{name}={text:?}"),
            Value::Bool(truth) => format!("{name}={truth}"),
        };
        flattened(json).expect("metrics").into_iter().map(shown).collect()
    }

    #[test]
    fn nested_values_are_joined_with_dots_and_lists_left_out() {
        assert_eq!(
            names(r#"{"a":1,"b":{"c":2.5,"d":{"e":true}},"history":[{"x":1}],"gone":null,"mode":"auto"}"#),
            ["a=1", "b.c=2.5", "b.d.e=true", "mode=\"auto\""]
        );
    }

    #[test]
    fn a_value_with_its_unit_is_one_metric() {
        assert_eq!(
            names(r#"{"co2":{"displayName":"CO2","value":640,"unit":"ppm"},"t":{"value":3,"timestamp":9}}"#),
            ["co2=640", "t.value=3", "t.timestamp=9"]
        );
        // A unit that is not text, or without a value, is an ordinary field.
        assert_eq!(
            names(r#"{"a":{"unit":5,"value":1},"b":{"unit":"V"}}"#),
            ["a.unit=5", "a.value=1", "b.unit=\"V\""]
        );
    }

    #[test]
    fn depth_and_length_of_names_are_bounded() {
        let deep = format!("{}1{}", r#"{"abcdefgh":"#.repeat(100), "}".repeat(100));
        assert_eq!(
            flattened(&deep).expect_err("800 characters").code,
            "reading.metric_name_invalid"
        );
        assert_eq!(flattened("[1]").expect_err("a list").code, "reading.metric_type");
        assert_eq!(flattened("7").expect_err("a number").code, "reading.metric_type");
    }

    #[test]
    fn duplicates_are_found_among_few_and_many() {
        for count in [2_u32, 16, 17, 200] {
            let mut metrics: Vec<(Box<str>, Value)> = (0..count)
                .map(|number| (format!("m{number}").into(), Value::Bool(true)))
                .collect();
            assert_eq!(first_duplicate(&metrics), None);
            metrics.push(("m1".into(), Value::Bool(false)));
            assert_eq!(first_duplicate(&metrics), Some("m1"));
        }
    }
}
