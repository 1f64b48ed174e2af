//! Lists of twins: filtered, sorted, page by page.
//!
//! Promises: reads what was folded last; walks in slices and gives way between them, so that a search over many
//! twins holds up neither their shards nor other requests; memory is bounded by the page. A twin that changes its
//! place in a sorted list between two pages may be missed or come twice.

use std::{cmp::Ordering, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gemba_twins::{
    Field,
    id::{Kind, TenantId, TwinId},
    time::Timestamp,
    twin::Twin,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::Filter;
use crate::{node::Wanted, store::StoreError, table::Twins};

/// Most twins of a page.
pub const LIMIT_MAX: usize = 1_000;
/// Twins visited before giving way.
const SLICE: usize = 512;
/// Longest cursor, in bytes.
const CURSOR_MAX: usize = 4_096;
/// Texts are sorted by so many of their characters: a cursor has to hold them.
const SORTED_BY_MAX: usize = 128;

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Query {
    /// Whose twins.
    pub tenant: TenantId,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only those that match.
    pub filter: Option<Arc<Filter>>,
    /// By a field's path such as `kpis.oee`, with `-` before it for the largest first; by id where absent.
    pub sort: Option<String>,
    /// Most twins of the page; held to 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// The time it is, for what is stale.
    pub now: Timestamp,
}

/// A page of what was found, each twin as the caller's closure made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// In order.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub cursor: Option<String>,
}

/// Why nothing was looked for.
#[derive(Debug, Error)]
pub enum SearchError {
    /// The cursor is not one of this list.
    #[error("the cursor is not one that a page of this list ended with (start without a cursor)")]
    Cursor,
    /// Nothing can be sorted by this.
    #[error("cannot sort by {0:?} (use a field's path, e.g. -kpis.oee)")]
    Sort(String),
    /// A twin cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a twin is sorted by. Numbers come before texts; what has no such field comes last, whichever way.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
enum Key {
    #[serde(rename = "n")]
    Number(f64),
    #[serde(rename = "t")]
    Text(String),
    #[serde(rename = "-")]
    Absent,
}

/// A cursor: base64url of JSON. `list` is what it is a cursor of.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    v: u8,
    list: u64,
    key: Key,
    twin: String,
}

/// The order of a list.
struct Sorting<'a> {
    path: Vec<&'a str>,
    descending: bool,
}

impl<'a> Sorting<'a> {
    fn of(sort: Option<&'a str>) -> Result<Self, SearchError> {
        let Some(sort) = sort else {
            return Ok(Self {
                path: Vec::new(),
                descending: false,
            });
        };
        let (descending, path) = sort.strip_prefix('-').map_or((false, sort), |path| (true, path));
        let path: Vec<&str> = path.split('.').collect();
        if path.iter().any(|part| part.is_empty()) || path.len() > Filter::PATH_MAX {
            return Err(SearchError::Sort(sort.chars().take(60).collect()));
        }
        Ok(Self { path, descending })
    }

    fn key(&self, twin: &Twin, now: Timestamp) -> Key {
        if self.path.is_empty() {
            return Key::Absent;
        }
        match twin.field(&self.path, now) {
            Some(Field::Number(number)) if number.is_finite() => Key::Number(number),
            Some(Field::Bool(yes)) => Key::Number(f64::from(u8::from(yes))),
            Some(Field::Text(text)) => Key::Text(text.chars().take(SORTED_BY_MAX).collect()),
            _ => Key::Absent,
        }
    }

    fn order(&self, a: &(Key, TwinId), b: &(Key, TwinId)) -> Ordering {
        let keys = match (&a.0, &b.0) {
            (Key::Absent, Key::Absent) => Ordering::Equal,
            (Key::Absent, _) => return Ordering::Greater,
            (_, Key::Absent) => return Ordering::Less,
            (Key::Number(a), Key::Number(b)) => a.total_cmp(b),
            (Key::Text(a), Key::Text(b)) => a.cmp(b),
            (Key::Number(_), Key::Text(_)) => Ordering::Less,
            (Key::Text(_), Key::Number(_)) => Ordering::Greater,
        };
        let keys = if self.descending { keys.reverse() } else { keys };
        keys.then_with(|| a.1.cmp(&b.1))
    }
}

/// Which twins a search has to look at.
pub fn wanted(query: &Query) -> Result<Wanted, SearchError> {
    let sorting = Sorting::of(query.sort.as_deref())?;
    let after = query
        .cursor
        .as_deref()
        .map(|cursor| decode_cursor(&query.tenant, list_of(query), cursor))
        .transpose()?;
    let by_id = sorting.path.is_empty();
    Ok(Wanted {
        tenant: query.tenant.clone(),
        kind: query.kind,
        filter: query.filter.clone(),
        after: after.filter(|_| by_id).map(|(_, id)| id),
        limit: by_id.then(|| query.limit.clamp(1, LIMIT_MAX) + 1),
        now: query.now,
    })
}

/// Finds twins; `render` makes of each twin of the page what the caller wants.
pub async fn search<T: Send>(
    twins: &Arc<Twins>,
    query: &Query,
    mut render: impl FnMut(&Twin) -> T + Send,
) -> Result<Page<T>, SearchError> {
    let sorting = Sorting::of(query.sort.as_deref())?;
    let limit = query.limit.clamp(1, LIMIT_MAX);
    let list = list_of(query);
    let after = query
        .cursor
        .as_deref()
        .map(|cursor| decode_cursor(&query.tenant, list, cursor))
        .transpose()?;
    let cursor = |(key, id): &(Key, TwinId)| encode_cursor(list, key.clone(), id);
    let kind = query
        .kind
        .or_else(|| query.filter.as_ref().and_then(|filter| filter.required_kind()));
    let mut found: Vec<(Key, TwinId)> = Vec::new();
    for shard in 0..twins.shards() {
        // Sorted by id, a shard's walk goes the list's way: it begins at the cursor and ends with a page.
        let by_id = sorting.path.is_empty();
        let mut at: Option<TwinId> = if by_id {
            after.as_ref().map(|(_, id)| id.clone())
        } else {
            None
        };
        let mut of_shard = 0;
        loop {
            let slice = if by_id && query.filter.is_none() {
                limit + 1
            } else {
                SLICE
            };
            at = twins.slice(shard, &query.tenant, kind, at.as_ref(), slice, &mut |twin| {
                if query
                    .filter
                    .as_ref()
                    .is_some_and(|filter| !filter.matches(twin, query.now))
                {
                    return;
                }
                let entry = (sorting.key(twin, query.now), twin.id().clone());
                if after
                    .as_ref()
                    .is_none_or(|after| sorting.order(&entry, after).is_gt())
                {
                    found.push(entry);
                    of_shard += 1;
                }
            })?;
            if found.len() > 4 * (limit + 1) {
                found.sort_unstable_by(|a, b| sorting.order(a, b));
                found.truncate(limit + 1);
            }
            tokio::task::yield_now().await;
            if at.is_none() || by_id && of_shard > limit {
                break;
            }
        }
    }
    found.sort_unstable_by(|a, b| sorting.order(a, b));
    let more = found.len() > limit;
    found.truncate(limit);
    let cursor = if more { found.last().map(cursor) } else { None };
    let mut items = Vec::with_capacity(found.len());
    for (_, id) in found {
        match twins.with(&id, &mut render) {
            Ok(item) => items.extend(item),
            // Set aside a moment ago: lists go on without it.
            Err(StoreError::SetAside { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Page { items, cursor })
}

fn list_of(query: &Query) -> u64 {
    let filter = query.filter.as_ref().map_or("", |filter| filter.text());
    let sort = query.sort.as_deref().unwrap_or_default();
    xxh3_64(format!("{:?}\0{sort}\0{filter}", query.kind).as_bytes())
}

fn encode_cursor(list: u64, key: Key, id: &TwinId) -> String {
    let cursor = Cursor {
        v: 1,
        list,
        key,
        twin: id.to_string(),
    };
    // Numbers are finite, so this is JSON.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).unwrap_or_default())
}

fn decode_cursor(tenant: &TenantId, list: u64, text: &str) -> Result<(Key, TwinId), SearchError> {
    if text.len() > CURSOR_MAX {
        return Err(SearchError::Cursor);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SearchError::Cursor)?;
    let cursor: Cursor = serde_json::from_slice(&bytes).map_err(|_| SearchError::Cursor)?;
    let id = TwinId::parse(tenant.clone(), &cursor.twin).map_err(|_| SearchError::Cursor)?;
    if cursor.v != 1 || cursor.list != list {
        return Err(SearchError::Cursor);
    }
    Ok((cursor.key, id))
}

#[cfg(test)]
mod tests;
