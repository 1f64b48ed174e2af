//! A plant model as it was written: YAML or JSON as a tree, and the problems found in it.
//!
//! Promises: keeps keys that occur twice, so that they can be told; reads the same tree from JSON whichever version of
//! the YAML library is used, since the journal holds models as JSON. Text, depth and aliases are bounded. Knows
//! nothing of what a plant has.

use std::fmt;

use serde::{
    Deserialize, Serialize,
    de::{Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_json::Number;
use thiserror::Error;

/// Most bytes of a plant model's text.
pub const PLANT_TEXT_MAX: usize = 4 * 1_024 * 1_024;
/// Most problems that are told of one text.
const PROBLEMS_MAX: usize = 100;
/// Most problems that come with a suggestion: finding the nearest of many names takes time.
const SUGGESTIONS_MAX: usize = 20;

/// One thing wrong in a plant model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where, e.g. `machines[3].location`; a line and column where the text is not YAML at all.
    pub path: String,
    /// What, with a hint in parentheses.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.detail)
    }
}

/// A text that is not a valid plant model: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the plant model has {}: {}", counted(.problems.len()), listed(.problems))]
pub struct PlantError {
    /// What is wrong, in the order of the text; at least one, at most 100.
    pub problems: Vec<Problem>,
}

fn counted(problems: usize) -> String {
    if problems == 1 {
        "a problem".into()
    } else {
        format!("{problems} problems")
    }
}

fn listed(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    suggestions: usize,
}

impl Problems {
    pub(super) fn add(&mut self, path: impl Into<String>, detail: impl Into<String>) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(Problem {
                path: path.into(),
                detail: detail.into(),
            });
        }
    }

    /// A hint that names the nearest of the known names.
    pub(super) fn nearest<'a>(&mut self, name: &str, known: impl Iterator<Item = &'a str>) -> String {
        self.suggestions += 1;
        if self.suggestions > SUGGESTIONS_MAX || name.len() > 256 {
            return String::new();
        }
        let tolerated = (name.len() / 3).clamp(1, 4);
        known
            .filter(|candidate| candidate.len().abs_diff(name.len()) <= tolerated)
            .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
            .filter(|(distance, _)| *distance <= tolerated)
            .min()
            .map(|(_, candidate)| format!(" (did you mean {candidate}?)"))
            .unwrap_or_default()
    }

    pub(super) fn none(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn into_error(self) -> PlantError {
        PlantError { problems: self.found }
    }
}

/// A tree of what was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// Reads YAML or JSON.
    pub(super) fn read(text: &str) -> Result<Self, Problem> {
        if text.len() > PLANT_TEXT_MAX {
            let detail = format!("has {} bytes (at most {PLANT_TEXT_MAX} are allowed)", text.len());
            return Err(Problem {
                path: "the text".into(),
                detail,
            });
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if !text.trim_start().starts_with('{') {
            return yaml(text);
        }
        serde_json::from_str(text).or_else(|error| {
            // A YAML mapping may begin with a brace too, without quotes. The JSON error is the better one for JSON.
            yaml(text).map_err(|_| Problem {
                path: format!("line {}, column {}", error.line(), error.column()),
                detail: error.to_string().chars().take(300).collect(),
            })
        })
    }

    /// The type as shown in a detail.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

fn yaml(text: &str) -> Result<Tree, Problem> {
    let options = serde_saphyr::options! {
        emit_comments: false,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        // `007` and `1_000` are ids here, and `on` is a word of a machine's control.
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error
            .location()
            .map(|place| format!("line {}, column {}", place.line(), place.column()));
        Problem {
            path: place.unwrap_or_else(|| "the text".into()),
            detail: error.without_snippet().to_string().chars().take(300).collect(),
        }
    })
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Number::from_f64(value).map_or(Tree::Null, Tree::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}
