//! Which groups of subscriptions a changed twin may concern, without asking every filter.
//!
//! Promises: a group whose filter matches a twin is among the candidates, always; that a candidate matches is for
//! its filter to say. Most filters name an id, a location or a kind, so with hundreds of them few are asked.

use std::{collections::HashMap, sync::Arc};

use gemba_twins::{Field, time::Timestamp, twin::Twin};

use crate::filter::Filter;

/// Most fields looked up per twin; filters on further ones are asked each time.
const FIELDS_MAX: usize = 8;

/// Names of groups by what their filters ask for.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    fields: Vec<ByField>,
    /// Filters that name no text that a field must have.
    others: Vec<u64>,
}

#[derive(Debug, Clone)]
struct ByField {
    path: Box<[Box<str>]>,
    groups: HashMap<Box<str>, Vec<u64>>,
}

impl Index {
    pub(super) fn add(&mut self, group: u64, filter: Option<&Arc<Filter>>) {
        let Some((path, texts)) = filter.and_then(|filter| choice(filter)) else {
            self.others.push(group);
            return;
        };
        let at = self
            .fields
            .iter()
            .position(|field| *field.path == *path)
            .or_else(|| {
                (self.fields.len() < FIELDS_MAX).then(|| {
                    self.fields.push(ByField {
                        path: path.into(),
                        groups: HashMap::new(),
                    });
                    self.fields.len() - 1
                })
            });
        match at {
            None => self.others.push(group),
            Some(at) => {
                for text in texts {
                    let groups = self.fields[at].groups.entry(text.into()).or_default();
                    if groups.last() != Some(&group) {
                        groups.push(group);
                    }
                }
            }
        }
    }

    pub(super) fn remove(&mut self, group: u64) {
        self.others.retain(|other| *other != group);
        for field in &mut self.fields {
            field.groups.retain(|_, groups| {
                groups.retain(|other| *other != group);
                !groups.is_empty()
            });
        }
        self.fields.retain(|field| !field.groups.is_empty());
    }

    /// Appends the groups whose filter may match; one may come twice.
    pub(super) fn candidates(&self, twin: &Twin, at: Timestamp, into: &mut Vec<u64>) {
        into.extend_from_slice(&self.others);
        for field in &self.fields {
            let mut path = [""; Filter::PATH_MAX];
            for (place, part) in path.iter_mut().zip(&field.path) {
                *place = part;
            }
            let path = path.get(..field.path.len()).unwrap_or_default();
            if let Some(Field::Text(text)) = twin.field(path, at)
                && let Some(groups) = field.groups.get(&*text)
            {
                into.extend_from_slice(groups);
            }
        }
    }
}

/// The most telling of the texts that a filter asks for: an id before a location before a kind.
fn choice(filter: &Filter) -> Option<(&[Box<str>], Vec<&str>)> {
    let telling = |path: &[Box<str>]| match path {
        [name] if matches!(&**name, "twin" | "id") => 0,
        [name] if **name == *"kind" => 2,
        _ => 1,
    };
    filter
        .required_texts()
        .into_iter()
        .min_by_key(|(path, _)| telling(path))
}
