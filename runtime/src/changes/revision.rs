//! A revision for `every` subscriptions: judged and rendered while its shard holds the twin.
//!
//! Promises: says what the twin was at exactly this revision, and for which groups it was judged; a group that came
//! later takes no notice of it, because its own walk sees the twin at this revision or a newer one.

use std::{collections::HashMap, sync::Arc};

use gemba_twins::{event::Position, id::TwinId, time::Timestamp, twin::Twin};

use super::{
    group::{matches, shown_at, whole_text},
    index::Index,
};
use crate::filter::Filter;

/// The `every` groups that a shard judges each revision for.
#[derive(Debug, Clone, Default)]
pub(super) struct Targets {
    pub(super) generation: u64,
    index: Index,
    filters: HashMap<u64, Option<Arc<Filter>>>,
}

impl Targets {
    pub(super) fn add(&mut self, group: u64, filter: Option<Arc<Filter>>) {
        self.generation += 1;
        self.index.add(group, filter.as_ref());
        self.filters.insert(group, filter);
    }

    pub(super) fn remove(&mut self, group: u64) {
        self.generation += 1;
        self.index.remove(group);
        self.filters.remove(&group);
    }
}

/// One revision as its shard saw it.
#[derive(Debug)]
pub(super) struct Revision {
    pub(super) twin: TwinId,
    pub(super) rev: u64,
    pub(super) position: Position,
    pub(super) at: Option<Timestamp>,
    pub(super) generation: u64,
    pub(super) groups: Vec<u64>,
    /// The twin's JSON, if any group matches.
    pub(super) whole: Option<String>,
}

impl Revision {
    /// A twin's newest revision, judged while its shard holds it.
    pub(super) fn of(twin: &Twin, targets: &Targets) -> Self {
        let mut groups = Vec::new();
        targets.index.candidates(twin, shown_at(twin), &mut groups);
        groups.sort_unstable();
        groups.dedup();
        groups.retain(|group| {
            targets
                .filters
                .get(group)
                .is_some_and(|filter| matches(filter.as_ref(), twin))
        });
        Self {
            twin: twin.id().clone(),
            rev: twin.rev(),
            position: twin.position(),
            at: twin.updated_at(),
            generation: targets.generation,
            whole: (!groups.is_empty()).then(|| whole_text(twin)),
            groups,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        128 + self.whole.as_ref().map_or(0, String::len)
    }
}
