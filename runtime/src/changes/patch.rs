//! Projections and merge patches (RFC 7396) over a twin's JSON.
//!
//! Promises: applying the patch of (old, new) to old gives new, as long as no value in new is null; a null KPI is
//! therefore told as absent, which reads the same.

use serde_json::{Map, Value};

/// The merge patch that makes `new` of `old`; `None` where they are equal.
pub(super) fn diff(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for name in old.keys().filter(|name| !new.contains_key(*name)) {
                patch.insert(name.clone(), Value::Null);
            }
            for (name, value) in new {
                match old.get(name) {
                    Some(before) => {
                        if let Some(change) = diff(before, value) {
                            patch.insert(name.clone(), change);
                        }
                    }
                    None => {
                        patch.insert(name.clone(), value.clone());
                    }
                }
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (old, new) => (old != new).then(|| new.clone()),
    }
}

/// Only the fields at dotted paths, e.g. `state.execution`.
#[must_use]
pub fn project(value: &Value, fields: &[String]) -> Value {
    let mut projected = Value::Object(Map::new());
    for field in fields {
        let parts: Vec<&str> = field.split('.').collect();
        let found = parts.iter().try_fold(value, |value, part| value.get(part));
        if let Some(found) = found {
            put(&mut projected, &parts, found.clone());
        }
    }
    projected
}

fn put(into: &mut Value, path: &[&str], value: Value) {
    let Some((name, rest)) = path.split_first() else {
        *into = value;
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    if let Value::Object(object) = into {
        put(object.entry((*name).to_owned()).or_insert(Value::Null), rest, value);
    }
}

/// Takes out nulls: in a patch they would mean "remove".
pub(super) fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply(target: &mut Value, patch: &Value) {
        match patch {
            Value::Object(patch) => {
                if !target.is_object() {
                    *target = json!({});
                }
                for (name, value) in patch {
                    if value.is_null() {
                        target.as_object_mut().expect("an object").remove(name);
                    } else {
                        apply(target.as_object_mut().expect("an object").entry(name).or_insert(Value::Null), value);
                    }
                }
            }
            other => *target = other.clone(),
        }
    }

    #[test]
    fn a_patch_leads_from_the_old_to_the_new() {
        let old = json!({"state":{"execution":"idle","metrics":{"a":{"value":1},"b":{"value":2}}},"kpis":{"oee":0.5}});
        let new = json!({"state":{"execution":"down","metrics":{"a":{"value":1},"c":{"value":[1,2]}}},"kpis":{"oee":0.5}});
        let patch = diff(&old, &new).expect("a change");
        assert_eq!(patch, json!({"state":{"execution":"down","metrics":{"b":null,"c":{"value":[1,2]}}}}));
        let mut patched = old.clone();
        apply(&mut patched, &patch);
        assert_eq!(patched, new);
        assert_eq!(diff(&new, &new), None);
    }

    #[test]
    fn a_projection_keeps_the_paths_asked_for() {
        let value = json!({"state":{"execution":"idle","quality":"good"},"kpis":{"oee":0.5},"rev":3});
        let fields = ["state.execution".to_owned(), "kpis".to_owned(), "absent.path".to_owned()];
        assert_eq!(project(&value, &fields), json!({"state":{"execution":"idle"},"kpis":{"oee":0.5}}));
    }
}
