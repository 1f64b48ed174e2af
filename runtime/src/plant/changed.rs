//! A plant model with a part of it changed, for trying things out.
//!
//! Promises: what the part does not name stays; the result is checked like any model. Things are found by `id`
//! (computed metrics by `name`) and patched as RFC 7396 says; unknown ones are added. Knows nothing of twins.

use serde_json::{Map, Value};

use super::{PlantError, PlantModel};

impl PlantModel {
    /// The model with a part changed: `{"machines":[{"id":"cnc-07","ideal_cycle":"50s"}]}`.
    pub fn changed_by(&self, part: &Value) -> Result<Self, PlantError> {
        let mut whole: Value = serde_json::from_str(&self.text()).unwrap_or_default();
        if let (Value::Object(whole), Value::Object(part)) = (&mut whole, part) {
            for (key, value) in part {
                match (whole.get_mut(key), value) {
                    (Some(Value::Array(known)), Value::Array(entries)) => change_list(known, entries),
                    (Some(known), _) => patch(known, value),
                    (None, _) => {
                        whole.insert(key.clone(), value.clone());
                    }
                }
            }
        } else {
            // Not an object: reading it says so.
            whole = part.clone();
        }
        Self::parse(&whole.to_string())
    }
}

fn change_list(known: &mut Vec<Value>, entries: &[Value]) {
    let name_of = |entry: &Value| entry.get("id").or_else(|| entry.get("name")).cloned();
    for entry in entries {
        let name = name_of(entry);
        let same = known
            .iter_mut()
            .find(|known| name.is_some() && name_of(known) == name);
        match same {
            Some(known) => patch(known, entry),
            None => known.push(entry.clone()),
        }
    }
}

/// A merge patch (RFC 7396).
fn patch(value: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *value = change.clone();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    if let Value::Object(members) = value {
        for (name, change) in change {
            if change.is_null() {
                members.remove(name);
            } else {
                patch(members.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
    }
}
