//! What shards hand over: twins that changed, each once, and single revisions for those who want every one.
//!
//! Promises: handing over takes no longer than a short lock; what waits is bounded by the number of twins, and for
//! revisions by their own limits, past which they are counted instead of kept.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use super::{HubSettings, revision::Revision};
use crate::table::TwinSlot;

/// What waits for the hub.
#[derive(Default)]
pub(super) struct Inbox {
    changed: Vec<Arc<TwinSlot>>,
    /// The addresses of `changed`; they are its own as long as it holds the slots.
    known: HashSet<usize>,
    revisions: VecDeque<Revision>,
    revision_bytes: usize,
    missed: u64,
}

/// What was taken out at once.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) changed: Vec<Arc<TwinSlot>>,
    pub(super) revisions: VecDeque<Revision>,
    /// Revisions after those that were not kept.
    pub(super) missed: u64,
}

impl Taken {
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.revisions.is_empty() && self.missed == 0
    }

    pub(super) fn len(&self) -> usize {
        self.changed.len() + self.revisions.len()
    }
}

impl Inbox {
    /// Takes in twins that changed. True where nothing waited before.
    pub(super) fn put_changed(&mut self, changed: &[Arc<TwinSlot>]) -> bool {
        let was_empty = self.is_empty();
        for slot in changed {
            if self.known.insert(Arc::as_ptr(slot).addr()) {
                self.changed.push(slot.clone());
            }
        }
        was_empty
    }

    /// Takes in a revision. True where nothing waited before.
    pub(super) fn put_revision(&mut self, revision: Revision, settings: &HubSettings) -> bool {
        let was_empty = self.is_empty();
        let bytes = revision.bytes();
        let fits = self.revisions.len() < settings.revisions_waiting
            && self.revision_bytes + bytes <= settings.revisions_waiting_bytes;
        // After a gap nothing is kept until it was noticed: the groups are filled anew and see what came after.
        if fits && self.missed == 0 {
            self.revision_bytes += bytes;
            self.revisions.push_back(revision);
        } else {
            self.missed += 1;
        }
        was_empty
    }

    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.revisions.is_empty() && self.missed == 0
    }

    pub(super) fn take(&mut self) -> Taken {
        self.known.clear();
        self.revision_bytes = 0;
        Taken {
            changed: std::mem::take(&mut self.changed),
            revisions: std::mem::take(&mut self.revisions),
            missed: std::mem::take(&mut self.missed),
        }
    }
}
