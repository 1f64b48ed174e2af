//! Filters over twins in CEL, the language of searches and subscriptions.
//!
//! Promises: compiled once, bounded in size and in work; a name that no twin has is refused and the nearest one
//! named. A field that this twin does not have makes its comparison an error, and an error does not match (`||` and
//! `&&` absorb errors as CEL says). Numbers are doubles, as CEL has it for JSON. The common comparisons are evaluated
//! over the twin itself (`native.rs`), everything else by the `cel` crate over the named parts of its JSON.

mod by_cel;
mod check;
mod native;
mod search;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use cel::{Program, common::ast::SourceInfo};
use gemba_twins::{id::Kind, time::Timestamp, twin::Twin};
use thiserror::Error;

pub use self::search::{LIMIT_MAX, Page, Query, SearchError, search, wanted};
use self::{by_cel::ByCel, native::Predicate};

/// Longest filter, in bytes.
const FILTER_MAX: usize = 4_096;
/// Compiled filters kept, the oldest goes first; parsing takes up to milliseconds.
const CACHE_MAX: usize = 256;

/// Why a text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct FilterError {
    /// For programs: `filter.invalid`.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// The character it is about, from 0, where that is known.
    pub position: Option<usize>,
}

impl FilterError {
    fn new(detail: String, position: Option<usize>) -> Self {
        Self {
            code: "filter.invalid",
            detail,
            position,
        }
    }
}

/// A compiled filter.
pub struct Filter {
    text: Box<str>,
    predicate: Predicate,
    by_cel: ByCel,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({:?}, native: {})", self.text, self.is_native())
    }
}

#[derive(Default)]
struct Cache {
    filters: HashMap<Box<str>, Arc<Filter>>,
    order: VecDeque<Box<str>>,
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

impl Filter {
    /// Most parts of a path that is looked at without making the twin's JSON.
    pub(crate) const PATH_MAX: usize = 8;

    /// Compiles a filter, or takes it from the cache.
    pub fn compile(text: &str) -> Result<Arc<Self>, FilterError> {
        let text = text.trim();
        let cached = CACHE
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .filters
            .get(text)
            .cloned();
        if let Some(filter) = cached {
            return Ok(filter);
        }
        let filter = Arc::new(Self::parse(text)?);
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.filters.insert(text.into(), filter.clone()).is_none() {
            cache.order.push_back(text.into());
        }
        while cache.order.len() > CACHE_MAX {
            let oldest = cache.order.pop_front();
            oldest.and_then(|oldest| cache.filters.remove(&oldest));
        }
        Ok(filter)
    }

    fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > FILTER_MAX {
            let detail = format!(
                "the filter has {} bytes (at most {FILTER_MAX} are allowed)",
                text.len()
            );
            return Err(FilterError::new(detail, None));
        }
        if let Some(detail) = gemba_twins::alarm::shape("filter", text) {
            return Err(FilterError::new(detail, None));
        }
        // The parser is generated code over foreign text; should it panic, the text is to blame.
        let program = match catch_unwind(AssertUnwindSafe(|| Program::compile(text))) {
            Ok(Ok(program)) => program,
            Ok(Err(problems)) => return Err(syntax(text, &problems)),
            Err(_) => return Err(FilterError::new("the filter cannot be parsed".into(), None)),
        };
        let names = check::expression(program.expression()).map_err(|refused| {
            let position = offset(program.source_info(), refused.node);
            FilterError::new(refused.detail, position)
        })?;
        let predicate = Predicate::of(program.expression());
        Ok(Self {
            text: text.into(),
            predicate,
            by_cel: ByCel::new(names),
        })
    }

    /// The filter as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is evaluated without making the twin's JSON.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.predicate.is_native()
    }

    /// Texts that a twin must have at a path to match: by path, any of the texts. For an index of filters.
    #[must_use]
    pub(crate) fn required_texts(&self) -> Vec<(&[Box<str>], Vec<&str>)> {
        let mut required = Vec::new();
        self.predicate.required_texts(&mut required);
        required
    }

    /// The one kind of twins that it can match, if it says so.
    pub(crate) fn required_kind(&self) -> Option<Kind> {
        let required = self.required_texts();
        let kinds = required
            .iter()
            .find(|(path, _)| path.len() == 1 && *path[0] == *"kind");
        kinds.and_then(|(_, texts)| {
            if let [kind] = texts[..] {
                Kind::parse(kind).ok()
            } else {
                None
            }
        })
    }

    /// Whether a twin matches as it is shown at `now`.
    #[must_use]
    pub fn matches(&self, twin: &Twin, now: Timestamp) -> bool {
        self.predicate.evaluate(&self.by_cel.over(twin, now)) == Some(true)
    }
}

fn syntax(text: &str, problems: &cel::parser::ParseErrors) -> FilterError {
    let example = "(example: kpis.oee < 0.6 && attributes.location == \"cell-2\")";
    let Some(first) = problems.errors.first() else {
        return FilterError::new(format!("the filter cannot be parsed {example}"), None);
    };
    // Lines and columns count from 1; (0, 0) is nowhere.
    let (line, column) = (
        usize::try_from(first.pos.0).unwrap_or(0),
        usize::try_from(first.pos.1).unwrap_or(0),
    );
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(|line| line.chars().count())
        .sum();
    let position = (line > 0).then(|| (before + column.saturating_sub(1)).min(text.chars().count()));
    let message: String = first.msg.chars().take(200).collect();
    let at = position
        .map(|position| format!(" at character {}", position + 1))
        .unwrap_or_default();
    FilterError::new(format!("{message}{at} {example}"), position)
}

fn offset(source: &SourceInfo, node: u64) -> Option<usize> {
    source.offset_for(node).map(|(start, _)| start as usize)
}

#[cfg(test)]
mod tests;
