//! The fields of one mapping of a plant model: typed, with the path of everything that is wrong.
//!
//! Promises: an unknown or repeated key is a problem as soon as a mapping is opened; a field that is wrong is told and
//! taken as absent, so that the rest is read too. Knows nothing of which fields a plant has.

use gemba_twins::id;

use super::{
    Span,
    written::{Problems, Tree},
};
use crate::decode::METRICS_MAX;

/// Most entries of one list of the model.
const ITEMS_MAX: usize = 100_000;
/// Most characters of a name, a unit or a word.
pub(super) const WORDS_MAX: usize = 200;

/// The fields of one mapping, at its path.
pub(super) struct Fields<'t, 'p> {
    path: String,
    entries: &'t [(String, Tree)],
    pub(super) problems: &'p mut Problems,
}

impl<'t, 'p> Fields<'t, 'p> {
    pub(super) fn of(
        tree: &'t Tree,
        path: String,
        known: &[&'static str],
        problems: &'p mut Problems,
    ) -> Option<Self> {
        let Tree::Map(entries) = tree else {
            let place = if path.is_empty() { "the model".into() } else { path };
            problems.add(
                place,
                format!(
                    "is {} (a mapping of {} is needed)",
                    tree.type_name(),
                    known.join(", ")
                ),
            );
            return None;
        };
        let fields = Self {
            path,
            entries,
            problems,
        };
        for (at, (key, _)) in entries.iter().enumerate() {
            let place = fields.at(&shortened(key));
            if !known.contains(&key.as_str()) {
                let mut hint = fields.problems.nearest(key, known.iter().copied());
                if hint.is_empty() {
                    hint = format!(" (known are {})", known.join(", "));
                }
                fields.problems.add(place, format!("unknown key{hint}"));
            } else if entries[..at].iter().any(|(before, _)| before == key) {
                fields.problems.add(place, "is given twice");
            }
        }
        Some(fields)
    }

    pub(super) fn at(&self, field: &str) -> String {
        if self.path.is_empty() {
            field.into()
        } else {
            format!("{}.{field}", self.path)
        }
    }

    pub(super) fn problem(&mut self, field: &str, detail: &str) {
        let path = self.at(field);
        self.problems.add(path, detail);
    }

    /// A field that is there and holds something.
    pub(super) fn get(&self, field: &str) -> Option<&'t Tree> {
        self.entries
            .iter()
            .find(|(key, _)| key == field)
            .map(|(_, value)| value)
            .filter(|value| **value != Tree::Null)
    }

    pub(super) fn text(&mut self, field: &str) -> Option<&'t str> {
        match self.get(field)? {
            Tree::Text(text) => Some(text),
            other => {
                let detail = format!("is {} (text is needed; put it in quotes)", other.type_name());
                self.problem(field, &detail);
                None
            }
        }
    }

    pub(super) fn words(&mut self, field: &str) -> Option<Box<str>> {
        let text = self.text(field)?;
        if text.is_empty() || text.chars().count() > WORDS_MAX || text.chars().any(char::is_control) {
            self.problem(
                field,
                &format!("1 to {WORDS_MAX} characters without control characters are allowed"),
            );
            return None;
        }
        Some(text.into())
    }

    pub(super) fn optional_id(&mut self, field: &str) -> Option<Box<str>> {
        let text = self.text(field)?;
        match id::check_id("the id", text, id::ID_MAX) {
            Ok(()) => Some(text.into()),
            Err(error) => {
                self.problem(field, &error.to_string());
                None
            }
        }
    }

    pub(super) fn id(&mut self, field: &str) -> Option<Box<str>> {
        if self.get(field).is_none() {
            self.problem(field, "is missing (it is required)");
        }
        self.optional_id(field)
    }

    pub(super) fn truth(&mut self, field: &str) -> bool {
        match self.get(field) {
            None => false,
            Some(Tree::Bool(truth)) => *truth,
            Some(_) => {
                self.problem(field, "true or false is needed");
                false
            }
        }
    }

    pub(super) fn span(&mut self, field: &str) -> Option<Span> {
        let refused = match self.get(field)? {
            Tree::Text(text) => match text.parse::<Span>() {
                Ok(span) => return Some(span),
                Err(error) => error.to_string(),
            },
            Tree::Number(number) => format!("{number} has no unit (write {number}s for seconds)"),
            other => format!("is {} (a duration such as 45s is needed)", other.type_name()),
        };
        self.problem(field, &refused);
        None
    }

    pub(super) fn one_of<T: Copy>(&mut self, field: &str, table: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(field)?;
        let found = table
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<_> = table.iter().map(|(word, _)| *word).collect();
            self.problem(
                field,
                &format!("{:?} is unknown (one of {})", shortened(text), words.join(", ")),
            );
        }
        found
    }

    pub(super) fn list<T>(
        &mut self,
        field: &str,
        read: impl Fn(&Tree, String, &mut Problems) -> Option<T>,
    ) -> Vec<T> {
        let path = self.at(field);
        match self.get(field) {
            None => Vec::new(),
            Some(Tree::List(items)) if items.len() <= ITEMS_MAX => {
                let item = |(at, item)| read(item, format!("{path}[{at}]"), self.problems);
                items.iter().enumerate().filter_map(item).collect()
            }
            Some(Tree::List(items)) => {
                self.problem(
                    field,
                    &format!("has {} entries (at most {ITEMS_MAX})", items.len()),
                );
                Vec::new()
            }
            Some(other) => {
                self.problem(field, &format!("is {} (a list is needed)", other.type_name()));
                Vec::new()
            }
        }
    }

    pub(super) fn map(&mut self, field: &str) -> &'t [(String, Tree)] {
        match self.get(field) {
            None => &[],
            Some(Tree::Map(entries)) => {
                for (at, (key, _)) in entries.iter().enumerate() {
                    if entries[..at].iter().any(|(before, _)| before == key) {
                        self.problem(&format!("{field}.{}", shortened(key)), "is given twice");
                    }
                    // Looking for repetitions takes the square of the number.
                    if at == METRICS_MAX {
                        self.problem(field, &format!("has more than {METRICS_MAX} entries"));
                        return &entries[..METRICS_MAX];
                    }
                }
                entries
            }
            Some(other) => {
                self.problem(field, &format!("is {} (a mapping is needed)", other.type_name()));
                &[]
            }
        }
    }
}

/// A foreign text as shown in a path or a detail.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}
