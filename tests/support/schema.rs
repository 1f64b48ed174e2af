//! The part of JSON Schema that the OpenAPI document uses: `$ref`, `type`, `required`, `properties`, `items`,
//! `additionalProperties`, `enum`, `minimum`, `maximum`. A word that is not known here fails, so that nothing passes
//! unread.

use serde_json::Value;

/// What a value lacks to be as a schema of `document` says; empty where it is.
pub(crate) fn violations(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, "$", &mut found);
    found
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (word, wanted) in schema.as_object().expect("a schema is an object") {
        match word.as_str() {
            "$ref" => {
                let pointer = wanted
                    .as_str()
                    .and_then(|text| text.strip_prefix('#'))
                    .expect("a reference within");
                let schema = document
                    .pointer(pointer)
                    .unwrap_or_else(|| panic!("nothing is at {pointer}"));
                check(document, schema, value, at, found);
            }
            "type" => {
                let types: Vec<&str> = match wanted {
                    Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
                    one => one.as_str().into_iter().collect(),
                };
                if !types.iter().any(|name| is(name, value)) {
                    found.push(format!("{at} is {value}, not {types:?}"));
                }
            }
            "required" => {
                for name in wanted.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if value.is_object() && value.get(name).is_none() {
                        found.push(format!("{at}.{name} is missing"));
                    }
                }
            }
            "properties" => {
                for (name, schema) in wanted.as_object().into_iter().flatten() {
                    if let Some(value) = value.get(name) {
                        check(document, schema, value, &format!("{at}.{name}"), found);
                    }
                }
            }
            "additionalProperties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if schema["properties"].get(name).is_none() {
                        check(document, wanted, value, &format!("{at}.{name}"), found);
                    }
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(document, wanted, item, &format!("{at}[{index}]"), found);
                }
            }
            "enum" => {
                if !wanted.as_array().expect("a list").contains(value) {
                    found.push(format!("{at} is {value}, none of {wanted}"));
                }
            }
            "minimum" if value.as_f64() < wanted.as_f64() => {
                found.push(format!("{at} is {value}, below {wanted}"))
            }
            "maximum" if value.as_f64() > wanted.as_f64() => {
                found.push(format!("{at} is {value}, above {wanted}"))
            }
            "minimum" | "maximum" | "description" | "format" | "default" => {}
            other => panic!("{other} is not read by this checker"),
        }
    }
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other} is no type"),
    }
}
