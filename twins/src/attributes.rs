//! Attributes: what the plant model says about a twin, and over it what people and programs set.
//!
//! Promises: a JSON merge patch (RFC 7396) as the standard has it; bounded; never fails, because the fold cannot. Kept
//! flat and sorted by name: a JSON map would take ten times the memory of two or three attributes.

use serde::ser::SerializeMap;
use serde_json::{Map, Value};

/// Most bytes of the attributes set by hand; a patch that would pass it is ignored by the fold (the api refuses it).
pub(crate) const SET_MAX: usize = 16_384;

/// Named values, sorted by name.
pub(crate) type Named = Vec<(Box<str>, Value)>;

/// The attributes of one twin.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Attributes {
    pub(crate) set: Named,
    pub(crate) model: Named,
    /// The location that its sensor named last; lies under the others.
    pub(crate) sensed_location: Option<Box<str>>,
}

/// The entries of a JSON object; none for anything else.
pub(crate) fn object(text: &str) -> Named {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => flat(object),
        _ => Named::new(),
    }
}

/// The entries as JSON text.
pub(crate) fn text(named: &Named) -> String {
    if named.is_empty() {
        String::new()
    } else {
        Value::Object(map(named)).to_string()
    }
}

fn flat(object: Map<String, Value>) -> Named {
    let mut named: Named = object
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
    named.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    named.shrink_to_fit();
    named
}

fn map(named: &Named) -> Map<String, Value> {
    named
        .iter()
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect()
}

fn find<'a>(named: &'a Named, name: &str) -> Option<&'a Value> {
    let place = named.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
    named.get(place).map(|(_, value)| value)
}

impl Attributes {
    /// Applies a merge patch; false where it changes nothing, is no object, or would make the attributes too large.
    pub(crate) fn patch(&mut self, patch: &str) -> bool {
        let Ok(patch @ Value::Object(_)) = serde_json::from_str::<Value>(patch) else {
            return false;
        };
        let before = Value::Object(map(&self.set));
        let mut after = before.clone();
        merge(&mut after, &patch);
        let fits = after.to_string().len() <= SET_MAX;
        match after {
            Value::Object(set) if fits && before != Value::Object(set.clone()) => {
                self.set = flat(set);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        find(&self.set, name).or_else(|| find(&self.model, name))
    }

    pub(crate) fn location(&self) -> Option<&str> {
        match self.get("location") {
            Some(location) => location.as_str(),
            None => self.sensed_location.as_deref(),
        }
    }

    /// Writes all attributes, the set ones over the others.
    pub(crate) fn entries<S: SerializeMap>(&self, into: &mut S) -> Result<(), S::Error> {
        if let Some(location) = &self.sensed_location
            && self.get("location").is_none()
        {
            into.serialize_entry("location", &**location)?;
        }
        for (name, value) in self
            .model
            .iter()
            .filter(|(name, _)| find(&self.set, name).is_none())
        {
            into.serialize_entry(&**name, value)?;
        }
        for (name, value) in &self.set {
            into.serialize_entry(&**name, value)?;
        }
        Ok(())
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let named = |named: &Named| {
            named
                .iter()
                .map(|(name, value)| 48 + block(name.len()) + bytes(value))
                .sum::<usize>()
        };
        named(&self.set)
            + named(&self.model)
            + self.sensed_location.as_ref().map_or(0, |text| block(text.len()))
    }
}

/// What an allocation takes: eight bytes of the allocator's own, rounded up to sixteen.
pub(crate) fn block(bytes: usize) -> usize {
    if bytes == 0 {
        0
    } else {
        (bytes + 8).next_multiple_of(16).max(32)
    }
}

fn bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => block(text.len()),
        Value::Array(values) => block(32 * values.len()) + values.iter().map(bytes).sum::<usize>(),
        // A map's node has room for eleven entries.
        Value::Object(object) if object.is_empty() => 0,
        Value::Object(object) => {
            640 + object
                .iter()
                .map(|(name, value)| block(name.len()) + bytes(value))
                .sum::<usize>()
        }
        _ => 0,
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (name, value) in patch {
            if value.is_null() {
                target.remove(name);
            } else {
                merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_merge_as_the_standards_examples_do() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            let mut merged = parse(target);
            merge(&mut merged, &parse(patch));
            assert_eq!(merged, parse(result), "{target} with {patch}");
        }
    }

    #[test]
    fn what_is_set_lies_over_the_model_and_the_model_over_the_sensor() {
        let mut attributes = Attributes {
            model: object(r#"{"name":"Mazak 07","line":"l-1"}"#),
            sensed_location: Some("cell-9".into()),
            ..Attributes::default()
        };
        assert_eq!(attributes.location(), Some("cell-9"));
        assert!(attributes.patch(r#"{"name":"Big Mazak","location":"cell-2"}"#));
        assert_eq!(attributes.get("name"), Some(&Value::String("Big Mazak".into())));
        assert_eq!(attributes.location(), Some("cell-2"));
        assert!(attributes.patch(r#"{"name":null}"#));
        assert_eq!(attributes.get("name"), Some(&Value::String("Mazak 07".into())));
    }

    #[test]
    fn a_patch_that_changes_nothing_or_too_much_is_ignored() {
        let mut attributes = Attributes::default();
        assert!(attributes.patch(r#"{"a":1}"#));
        assert!(!attributes.patch(r#"{"a":1,"b":null}"#));
        assert!(!attributes.patch("[1]"));
        assert!(!attributes.patch("not json"));
        assert!(!attributes.patch(&format!(r#"{{"long":"{}"}}"#, "x".repeat(20_000))));
        assert_eq!(text(&attributes.set), r#"{"a":1}"#);
    }
}
