//! Filters over twins in CEL, the language of searches and subscriptions.
//!
//! Promises: compiled once, bounded in size; a field that a twin does not have makes its comparison an error, and an
//! error does not match (`||` and `&&` absorb errors as CEL says). The common comparisons are evaluated over the twin
//! itself (`native.rs`), everything else by the `cel` crate over the parts of its JSON that are named.

mod native;
mod search;

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use cel::{Context, Program, Value};
use gemba_twins::{time::Timestamp, twin::Twin};
use thiserror::Error;

use self::native::Predicate;
pub use self::search::{Page, Query, SearchError, search};

/// Longest filter, in bytes.
const FILTER_MAX: usize = 4_096;
/// Deepest nesting of brackets: the parser recurses.
const NESTING_MAX: usize = 32;
/// Compiled filters kept; parsing takes milliseconds.
const CACHE_MAX: usize = 256;
/// What a twin's JSON has at its top.
const NAMES: [&str; 10] = ["twin", "kind", "id", "rev", "seq", "updated_at", "attributes", "state", "kpis", "links"];

/// Why a text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct FilterError {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

/// A compiled filter.
pub struct Filter {
    text: Box<str>,
    native: Option<Predicate>,
    program: Program,
    names: Vec<&'static str>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({:?}, native: {})", self.text, self.native.is_some())
    }
}

static CACHE: LazyLock<Mutex<HashMap<Box<str>, Arc<Filter>>>> = LazyLock::new(Mutex::default);

impl Filter {
    /// Compiles a filter, or takes it from the cache.
    pub fn compile(text: &str) -> Result<Arc<Self>, FilterError> {
        let cached = CACHE.lock().unwrap_or_else(PoisonError::into_inner).get(text).cloned();
        if let Some(filter) = cached {
            return Ok(filter);
        }
        let filter = Arc::new(Self::parse(text)?);
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_MAX {
            cache.clear();
        }
        cache.insert(text.into(), filter.clone());
        Ok(filter)
    }

    fn parse(text: &str) -> Result<Self, FilterError> {
        let invalid = |detail: String| FilterError { code: "filter.invalid", detail };
        if text.len() > FILTER_MAX {
            return Err(invalid(format!("the filter has {} bytes (at most {FILTER_MAX} are allowed)", text.len())));
        }
        if nesting(text) > NESTING_MAX {
            return Err(invalid(format!("the filter nests deeper than {NESTING_MAX} brackets")));
        }
        let compiled = catch_unwind(AssertUnwindSafe(|| Program::compile(text)));
        let program = match compiled {
            Ok(Ok(program)) => program,
            Ok(Err(problem)) => {
                let detail = problem.to_string().lines().next().unwrap_or_default().to_owned();
                return Err(invalid(format!("{detail} (example: kpis.oee < 0.6 && attributes.location == \"cell-2\")")));
            }
            Err(_) => return Err(invalid("the filter cannot be parsed".into())),
        };
        let references = program.references();
        let mut names = Vec::new();
        for variable in references.variables() {
            match NAMES.into_iter().find(|name| *name == variable) {
                Some(name) => names.push(name),
                None if variable.starts_with('@') || text.contains(&format!("({variable},")) => {}
                None => return Err(invalid(unknown_name(variable))),
            }
        }
        let native = Predicate::of(program.expression());
        Ok(Self { text: text.into(), native, program, names })
    }

    /// The filter as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is evaluated without making the twin's JSON.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.native.is_some()
    }

    /// Whether a twin matches as it is shown at `now`.
    #[must_use]
    pub fn matches(&self, twin: &Twin, now: Timestamp) -> bool {
        match &self.native {
            Some(predicate) => predicate.holds(twin, now),
            None => self.matches_by_cel(twin, now),
        }
    }

    fn matches_by_cel(&self, twin: &Twin, now: Timestamp) -> bool {
        let Ok(serde_json::Value::Object(mut json)) = serde_json::to_value(twin.view(now)) else { return false };
        let mut context = Context::default();
        for name in &self.names {
            if let Some(value) = json.remove(*name)
                && let Ok(value) = cel::to_value(value)
            {
                context.add_variable_from_value(*name, value);
            }
        }
        let result = catch_unwind(AssertUnwindSafe(|| self.program.execute(&context)));
        matches!(result, Ok(Ok(Value::Bool(true))))
    }
}

fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    // Operators without brackets nest too: `!!!!x`, `- - -x`.
    deepest.max(text.split(|c| c != '!' && c != '-').map(str::len).max().unwrap_or(0))
}

fn unknown_name(name: &str) -> String {
    let nearest = NAMES.into_iter().min_by_key(|known| strsim::levenshtein(known, name)).unwrap_or("kind");
    let shown: String = name.chars().take(40).collect();
    format!("{shown:?} is not a field of a twin (did you mean {nearest:?}?)")
}

#[cfg(test)]
mod tests {
    use gemba_twins::{
        event::{Body, Event, Position, Reading, Value},
        id::{Kind, TenantId, TwinId},
        twin::Effects,
    };

    use super::*;

    fn at() -> Timestamp {
        "2026-11-23T08:00:00Z".parse().expect("a time")
    }

    fn machine() -> Twin {
        let id = TwinId::new(TenantId::parse("acme").expect("a tenant"), Kind::Machine, "cnc-07").expect("an id");
        let mut twin = Twin::new(id.clone());
        let reading = Reading {
            sensor_id: "cnc-07".into(),
            location_id: Some("cell-2".into()),
            metrics: vec![
                ("execution".into(), Value::Text("producing".into())),
                ("spindle_rpm".into(), Value::Number(8_120.0)),
                ("door_open".into(), Value::Bool(false)),
            ],
            ..Reading::default()
        };
        let event = Event {
            twin: id,
            at: at(),
            received_at: at(),
            source: "test".into(),
            message_id: "".into(),
            origin: None,
            body: Body::Reading(reading),
        };
        twin.fold(Position { shard: 1, seq: 1 }, &event, &mut Effects::default());
        twin
    }

    #[test]
    fn both_evaluators_agree() {
        let twin = machine();
        for (text, wanted) in [
            ("kind == 'machine'", true),
            ("kind == \"machine\" && attributes.location == 'cell-2'", true),
            ("kpis.oee < 0.6", false),
            ("!(kind == 'machine')", false),
            ("state.metrics.spindle_rpm.value > 8000", true),
            ("8000.0 < state.metrics.spindle_rpm.value", true),
            ("state.metrics.door_open.value", false),
            ("!state.metrics.door_open.value", true),
            ("has(state.metrics.spindle_rpm)", true),
            ("has(state.metrics.absent)", false),
            ("state.metrics.absent.value > 1.0 || kind == 'machine'", true),
            ("state.metrics.absent.value > 1.0 && kind == 'machine'", false),
            ("kind in ['job', 'machine']", true),
            ("id.startsWith('cnc') && id.endsWith('07') && id.contains('-')", true),
            ("state.execution != 'down'", true),
            ("kpis.oee == null", true),
            ("kind == 5", false),
            ("rev == 1", true),
        ] {
            let filter = Filter::compile(text).expect(text);
            assert_eq!(filter.matches(&twin, at()), wanted, "{text}");
            assert_eq!(filter.matches_by_cel(&twin, at()), wanted, "{text} by cel");
        }
    }

    #[test]
    fn what_the_native_evaluator_does_not_know_goes_to_cel() {
        let twin = machine();
        for (text, wanted) in [
            ("size(id) == 6", true),
            ("state.metrics.exists(m, m == 'spindle_rpm')", true),
            ("state.metrics.spindle_rpm.value / 2.0 > 4000.0", true),
        ] {
            let filter = Filter::compile(text).expect(text);
            assert!(!filter.is_native(), "{text}");
            assert_eq!(filter.matches(&twin, at()), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_says_why() {
        let refused = |text: &str| Filter::compile(text).expect_err(text).detail;
        assert!(refused("kpi.oee < 1.0").contains("did you mean \"kpis\""), "{}", refused("kpi.oee < 1.0"));
        assert!(refused(&"(".repeat(100)).contains("nests deeper"));
        assert!(refused(&"x".repeat(5_000)).contains("5000 bytes"));
        assert!(!refused("kind ==").is_empty());
    }
}
