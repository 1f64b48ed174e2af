//! Parts of a condition that only the `cel` crate can evaluate, over the named parts of the twin.
//!
//! Promises: deterministic, since loops over maps are refused and no function asks a clock; an error or a panic of an
//! evaluation decides nothing. Numbers are doubles, whether they have a fraction or not. Costs microseconds, where a
//! native comparison costs nanoseconds.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use cel::{Context, Env, IdedExpr, Value as CelValue, objects::Key};
use serde_json::Value as Json;

use super::evaluate::Scope;
use crate::{event::Value, field::Field};

/// Functions that a condition may call.
pub(super) const FUNCTIONS: [&str; 8] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "string",
    "double",
    "int",
    "bool",
];
/// The functions, made once.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A part for `cel`, and what it names.
pub(crate) struct Foreign {
    expression: IdedExpr,
    names: Vec<&'static str>,
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Foreign({:?})", self.names)
    }
}

impl Foreign {
    pub(super) fn new(expression: IdedExpr, names: Vec<&'static str>) -> Self {
        Self { expression, names }
    }

    pub(super) fn evaluate<'a>(&self, scope: &Scope<'a>) -> Option<Field<'a>> {
        let mut context = Context::with_env(ENVIRONMENT.clone());
        let needs_json = self.names.iter().any(|name| *name != "metrics");
        let view = if needs_json {
            serde_json::to_value(scope.twin.view(scope.now)).ok()?
        } else {
            Json::Null
        };
        for name in &self.names {
            if *name == "metrics" {
                let metrics = scope.twin.metrics.items.iter();
                let members = metrics.map(|metric| (key(&metric.name), of_value(&metric.value)));
                context.add_variable_from_value(*name, map(members));
            } else if let Some(value) = view.get(*name) {
                context.add_variable_from_value(*name, of_json(value));
            }
        }
        match catch_unwind(AssertUnwindSafe(|| CelValue::resolve(&self.expression, &context))) {
            Ok(Ok(value)) => field(value),
            _ => None,
        }
    }
}

fn field<'a>(value: CelValue) -> Option<Field<'a>> {
    Some(match value {
        CelValue::Null => Field::Null,
        CelValue::Bool(yes) => Field::Bool(yes),
        CelValue::Int(number) => Field::Number(number as f64),
        CelValue::UInt(number) => Field::Number(number as f64),
        CelValue::Float(number) => Field::Number(number),
        CelValue::String(text) => Field::Text(text.to_string().into()),
        _ => return None,
    })
}

fn key(name: &str) -> Key {
    Key::String(Arc::new(name.to_owned()))
}

fn map(members: impl Iterator<Item = (Key, CelValue)>) -> CelValue {
    CelValue::Map(cel::objects::Map {
        map: Arc::new(members.collect::<HashMap<_, _>>()),
    })
}

fn of_value(value: &Value) -> CelValue {
    match value {
        Value::Number(number) => CelValue::Float(*number),
        Value::Bool(yes) => CelValue::Bool(*yes),
        Value::Text(text) => CelValue::String(Arc::new(text.to_string())),
    }
}

fn of_json(json: &Json) -> CelValue {
    match json {
        Json::Null => CelValue::Null,
        Json::Bool(yes) => CelValue::Bool(*yes),
        Json::Number(number) => CelValue::Float(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => CelValue::String(Arc::new(text.clone())),
        Json::Array(items) => CelValue::List(Arc::new(items.iter().map(of_json).collect())),
        Json::Object(members) => map(members.iter().map(|(name, value)| (key(name), of_json(value)))),
    }
}
