//! The parts of a filter that only the `cel` crate can evaluate, over the named parts of the twin's JSON.
//!
//! Promises: makes the JSON only when it is needed, and once per twin; an error or a panic of an evaluation is no
//! match. Numbers are doubles, whether they have a fraction or not, so that a filter means the same for 8 and 8.5.

use std::{
    cell::OnceCell,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use cel::{Context, Env, IdedExpr, Value, objects::Key};
use gemba_twins::{time::Timestamp, twin::Twin};

/// The functions, made once.
static FUNCTIONS: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What a filter needs of a twin's JSON.
pub(super) struct ByCel {
    names: Vec<&'static str>,
}

/// A twin that a filter is evaluated over.
pub(super) struct Over<'a> {
    pub(super) twin: &'a Twin,
    pub(super) now: Timestamp,
    names: &'a [&'static str],
    context: OnceCell<Context<'static, 'static>>,
}

impl ByCel {
    pub(super) fn new(names: Vec<&'static str>) -> Self {
        Self { names }
    }

    pub(super) fn over<'a>(&'a self, twin: &'a Twin, now: Timestamp) -> Over<'a> {
        Over {
            twin,
            now,
            names: &self.names,
            context: OnceCell::new(),
        }
    }
}

impl Over<'_> {
    /// What an expression says, `None` for an error.
    pub(super) fn evaluate(&self, expression: &IdedExpr) -> Option<bool> {
        let context = self.context.get_or_init(|| self.make_context());
        match catch_unwind(AssertUnwindSafe(|| Value::resolve(expression, context))) {
            Ok(Ok(Value::Bool(holds))) => Some(holds),
            _ => None,
        }
    }

    fn make_context(&self) -> Context<'static, 'static> {
        let mut context = Context::with_env(FUNCTIONS.clone());
        // A twin is an object; were it not, no name would be there and nothing would match.
        if let Ok(serde_json::Value::Object(mut json)) = serde_json::to_value(self.twin.view(self.now)) {
            for name in self.names {
                if let Some(value) = json.remove(*name) {
                    context.add_variable_from_value(*name, to_cel(value));
                }
            }
        }
        context
    }
}

fn to_cel(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(yes) => Value::Bool(yes),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.into_iter().map(to_cel).collect())),
        serde_json::Value::Object(members) => {
            let members = members
                .into_iter()
                .map(|(name, value)| (Key::String(Arc::new(name)), to_cel(value)));
            Value::Map(cel::objects::Map {
                map: Arc::new(members.collect::<HashMap<_, _>>()),
            })
        }
    }
}
