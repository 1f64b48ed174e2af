//! What waits for each destination, and how far each was told of each shard.
//!
//! Promises: a shard's notices wait in the order of their seqs; what a destination was told already is not put in its
//! queue again; a destination that is new begins with what happens from now on. Bounded: beyond its limit a queue drops
//! its oldest, counted. Does no I/O but for the state store, where what was told is kept.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    Destination, metric_names as names,
    notice::{Notice, Told},
};
use crate::store::{Store, StoreError};

/// All destinations of a node.
#[derive(Default)]
pub(crate) struct Notifier {
    pub(super) lanes: Vec<Arc<Lane>>,
}

/// One destination, and what waits for it.
pub(super) struct Lane {
    pub(super) destination: Destination,
    state: Mutex<LaneState>,
    /// Something waits, or was told.
    pub(super) woken: Notify,
}

#[derive(Default)]
struct LaneState {
    waiting: VecDeque<Arc<Notice>>,
    /// By shard; a shard that is not there has not come back yet, or the destination is new to it.
    told: BTreeMap<u16, Told>,
    /// Shards of which more was told than the store knows.
    unsaved: BTreeMap<u16, Told>,
}

impl Notifier {
    /// Destinations, and how far each was told when the node ran last.
    pub(crate) fn new(destinations: Vec<Destination>, store: &Store) -> Result<Self, StoreError> {
        let mut lanes = Vec::new();
        for destination in destinations {
            let told = store.told(&destination.name)?;
            let state = LaneState {
                told: told.into_iter().collect(),
                ..LaneState::default()
            };
            lanes.push(Arc::new(Lane {
                destination,
                state: Mutex::new(state),
                woken: Notify::new(),
            }));
        }
        Ok(Self { lanes })
    }

    /// Whether nobody is told anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Something became of an alarm, live or in a replay. A shard hands its notices over in order.
    pub(crate) fn push(&self, notice: Notice) {
        let notice = Arc::new(notice);
        for lane in &self.lanes {
            lane.push(&notice);
        }
    }

    /// A shard has come back at `seq`: to destinations that are new to it, what happened so far is not told.
    pub(crate) fn begin(&self, shard: u16, seq: u64, store: &Store) -> Result<(), StoreError> {
        let so_far = Told { seq, index: u32::MAX };
        for lane in &self.lanes {
            let is_new = !lane.lock().told.contains_key(&shard);
            if is_new {
                store.put_told(&lane.destination.name, &[(shard, so_far)])?;
                lane.lock().told.insert(shard, so_far);
            }
            lane.woken.notify_one();
        }
        Ok(())
    }

    /// What of a shard waits for any destination, in order: a snapshot keeps it.
    pub(crate) fn undelivered(&self, shard: u16) -> Vec<Arc<Notice>> {
        let mut all: BTreeMap<Told, Arc<Notice>> = BTreeMap::new();
        for lane in &self.lanes {
            let state = lane.lock();
            let of_shard = state.waiting.iter().filter(|notice| notice.shard == shard);
            all.extend(of_shard.map(|notice| (notice.told(), notice.clone())));
        }
        all.into_values().collect()
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, notice: &Arc<Notice>) {
        if !self.destination.takes(notice) {
            return;
        }
        let mut state = self.lock();
        // A destination that is new to a shard is told from when the shard has come back.
        if state
            .told
            .get(&notice.shard)
            .is_none_or(|told| *told >= notice.told())
        {
            return;
        }
        if state.waiting.len() >= self.destination.queue_max {
            state.waiting.pop_front();
            metrics::counter!(names::DROPPED, "destination" => self.destination.name.clone()).increment(1);
        }
        state.waiting.push_back(notice.clone());
        let waiting = state.waiting.len();
        drop(state);
        metrics::gauge!(names::WAITING, "destination" => self.destination.name.clone()).set(waiting as f64);
        self.woken.notify_one();
    }

    /// What is to be told next.
    pub(super) fn next(&self) -> Option<Arc<Notice>> {
        self.lock().waiting.front().cloned()
    }

    /// It was told, or refused for good.
    pub(super) fn done(&self, notice: &Notice) {
        let mut state = self.lock();
        // It may have been dropped meanwhile, for a newer one.
        if state
            .waiting
            .front()
            .is_some_and(|first| first.shard == notice.shard && first.told() == notice.told())
        {
            state.waiting.pop_front();
        }
        state.told.insert(notice.shard, notice.told());
        state.unsaved.insert(notice.shard, notice.told());
        let waiting = state.waiting.len();
        drop(state);
        metrics::gauge!(names::WAITING, "destination" => self.destination.name.clone()).set(waiting as f64);
    }

    /// How far it was told beyond what the store knows.
    pub(super) fn take_unsaved(&self) -> Vec<(u16, Told)> {
        std::mem::take(&mut self.lock().unsaved).into_iter().collect()
    }
}
