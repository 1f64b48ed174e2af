//! Lists of twins: filtered, sorted, page by page.
//!
//! Promises: reads what was folded last; walks in slices and gives way between them, so that a search over many
//! twins holds up neither their shards nor other requests; memory is bounded by the page.

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

use super::Filter;
use crate::{store::StoreError, table::Twins};

/// Twins visited before giving way.
const SLICE: usize = 512;

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
    /// Most twins of the page.
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
    /// The cursor is not one of ours.
    #[error("the cursor is not one that a page of this list ended with (start without a cursor)")]
    Cursor,
    /// Nothing can be sorted by this.
    #[error("cannot sort by {0:?} (use a field's path, e.g. -kpis.oee)")]
    Sort(String),
    /// A twin cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
enum Key {
    Absent,
    Number(f64),
    Text(String),
}

#[derive(Serialize, Deserialize)]
struct Cursor {
    key: Option<Key>,
    twin: String,
}

/// Finds twins; `render` makes of each twin of the page what the caller wants.
pub async fn search<T: Send>(
    twins: &Arc<Twins>,
    query: &Query,
    mut render: impl FnMut(&Twin) -> T + Send,
) -> Result<Page<T>, SearchError> {
    let after = query.cursor.as_deref().map(|cursor| decode_cursor(&query.tenant, cursor)).transpose()?;
    if query.sort.is_none() && query.filter.is_none() {
        let mut items = Vec::new();
        let after = after.map(|(_, id)| id);
        let next = twins.page(&query.tenant, query.kind, after.as_ref(), query.limit, &mut |twin| items.push(render(twin)))?;
        return Ok(Page { items, cursor: next.map(|id| encode_cursor(None, &id)) });
    }
    let sort = query.sort.as_deref().unwrap_or_default();
    let (descending, path) = sort.strip_prefix('-').map_or((false, sort), |path| (true, path));
    // Without a sort all keys are absent, and what is left is the order of the ids.
    let path: Vec<&str> = if query.sort.is_none() { Vec::new() } else { path.split('.').collect() };
    if path.iter().any(|part| part.is_empty()) || path.len() > 8 {
        return Err(SearchError::Sort(sort.chars().take(60).collect()));
    }
    let order = |a: &(Key, TwinId), b: &(Key, TwinId)| {
        let keys = if descending { compare(&b.0, &a.0) } else { compare(&a.0, &b.0) };
        // What has no such field comes last either way.
        let absent = (a.0 == Key::Absent).cmp(&(b.0 == Key::Absent));
        absent.then(keys).then_with(|| a.1.cmp(&b.1))
    };
    let after = after.map(|(key, id)| (key.unwrap_or(Key::Absent), id));
    let mut found: Vec<(Key, TwinId)> = Vec::new();
    for shard in 0..twins.shards() {
        let mut cursor: Option<TwinId> = None;
        loop {
            cursor = twins.slice(shard, &query.tenant, query.kind, cursor.as_ref(), SLICE, &mut |twin| {
                if query.filter.as_ref().is_some_and(|filter| !filter.matches(twin, query.now)) {
                    return;
                }
                let entry = (key(twin, &path, query.now), twin.id().clone());
                if after.as_ref().is_none_or(|after| order(&entry, after).is_gt()) {
                    found.push(entry);
                }
            })?;
            if found.len() > 4 * (query.limit + 1) {
                found.sort_by(order);
                found.truncate(query.limit + 1);
            }
            if cursor.is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    found.sort_by(order);
    let more = found.len() > query.limit;
    found.truncate(query.limit);
    let cursor = if more { found.last().map(|(key, id)| encode_cursor(Some(key.clone()), id)) } else { None };
    let mut items = Vec::with_capacity(found.len());
    for (_, id) in found {
        items.extend(twins.with(&id, &mut render)?);
    }
    Ok(Page { items, cursor })
}

fn key(twin: &Twin, path: &[&str], now: Timestamp) -> Key {
    match twin.field(path, now) {
        Some(Field::Number(number)) if number.is_finite() => Key::Number(number),
        Some(Field::Bool(yes)) => Key::Number(f64::from(u8::from(yes))),
        Some(Field::Text(text)) => Key::Text(text.into_owned()),
        _ => Key::Absent,
    }
}

fn compare(a: &Key, b: &Key) -> Ordering {
    match (a, b) {
        (Key::Number(a), Key::Number(b)) => a.total_cmp(b),
        (Key::Text(a), Key::Text(b)) => a.cmp(b),
        (Key::Number(_), Key::Text(_)) => Ordering::Less,
        (Key::Text(_), Key::Number(_)) => Ordering::Greater,
        _ => Ordering::Equal,
    }
}

fn encode_cursor(key: Option<Key>, id: &TwinId) -> String {
    let cursor = Cursor { key, twin: id.to_string() };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).unwrap_or_default())
}

fn decode_cursor(tenant: &TenantId, text: &str) -> Result<(Option<Key>, TwinId), SearchError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SearchError::Cursor)?;
    let cursor: Cursor = serde_json::from_slice(&bytes).map_err(|_| SearchError::Cursor)?;
    let id = TwinId::parse(tenant.clone(), &cursor.twin).map_err(|_| SearchError::Cursor)?;
    Ok((cursor.key, id))
}
