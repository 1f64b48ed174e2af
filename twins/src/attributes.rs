//! Attributes: what the plant model says about a twin, and over it what people and programs set.
//!
//! Promises: a JSON merge patch (RFC 7396) as the standard has it; bounded; never fails, because the fold cannot.

use serde_json::{Map, Value};

/// Most bytes of the attributes set by hand; a patch that would pass it is ignored by the fold (the api refuses it).
const SET_MAX: usize = 16_384;

/// The attributes of one twin, as JSON objects.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Attributes {
    pub(crate) set: Map<String, Value>,
    pub(crate) model: Map<String, Value>,
    /// The location that its sensor named last; lies under the others.
    pub(crate) sensed_location: Option<Box<str>>,
}

pub(crate) fn object(text: &str) -> Map<String, Value> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

impl Attributes {
    /// Applies a merge patch; false where it changes nothing or is no object.
    pub(crate) fn patch(&mut self, patch: &str) -> bool {
        let Ok(patch @ Value::Object(_)) = serde_json::from_str::<Value>(patch) else { return false };
        let mut set = Value::Object(self.set.clone());
        merge(&mut set, &patch);
        let fits = set.to_string().len() <= SET_MAX;
        match set {
            Value::Object(set) if fits && set != self.set => {
                self.set = set;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.set.get(name).or_else(|| self.model.get(name))
    }

    pub(crate) fn location(&self) -> Option<&str> {
        self.get("location").and_then(Value::as_str).or(self.sensed_location.as_deref())
    }

    /// All attributes, the set ones over the others.
    pub(crate) fn all(&self) -> Map<String, Value> {
        let mut all = Map::new();
        if let Some(location) = &self.sensed_location {
            all.insert("location".into(), Value::String(location.to_string()));
        }
        all.extend(self.model.clone());
        all.extend(self.set.clone());
        all
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
    fn a_patch_merges_as_the_standard_says() {
        let mut attributes = Attributes::default();
        assert!(attributes.patch(r#"{"name":"Mazak","maker":{"name":"Yamazaki","year":2019}}"#));
        assert!(attributes.patch(r#"{"maker":{"year":null,"city":"Oguchi"},"name":null}"#));
        assert_eq!(Value::Object(attributes.set.clone()).to_string(), r#"{"maker":{"city":"Oguchi","name":"Yamazaki"}}"#);
        assert!(!attributes.patch("[1]"));
        assert!(!attributes.patch(&format!(r#"{{"long":"{}"}}"#, "x".repeat(20_000))));
    }
}
