//! What waits for each destination, and how far each was told of each shard.
//!
//! Promises: a shard's notices wait in the order of their seqs; what a destination was told already is not put in its
//! queue again; a destination that is new begins with what happens from now on. Bounded: beyond its limit a queue drops
//! its oldest, counted. Does no I/O but for the state store, where what was told is kept.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
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
    owned: Owned,
}

/// One destination, and what waits for it.
pub(super) struct Lane {
    pub(super) destination: Destination,
    state: Mutex<LaneState>,
    /// Something waits, or was told.
    pub(super) woken: Notify,
    /// Which shards are this node's to tell of; all, where it is alone.
    owned: Owned,
}

/// Says which shards a node owns.
pub(crate) type Owns = Arc<dyn Fn(u16) -> bool + Send + Sync>;

type Owned = Arc<OnceLock<Owns>>;

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
        let (mut lanes, owned) = (Vec::new(), Owned::default());
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
                owned: owned.clone(),
            }));
        }
        Ok(Self { lanes, owned })
    }

    /// Only the owner of a shard tells of it; the other replicas keep what it may not have told.
    pub(crate) fn set_owned(&self, owns: Owns) {
        // Set once, before the first shard comes back.
        let _ = self.owned.set(owns);
    }

    /// Shards have come to this node.
    pub(crate) fn wake(&self) {
        self.lanes.iter().for_each(|lane| lane.woken.notify_one());
    }

    /// How far each destination was told of the shards that are owned here.
    pub(crate) fn told(&self) -> Vec<(String, Vec<(u16, Told)>)> {
        let lanes = self.lanes.iter();
        let told = lanes.map(|lane| {
            let state = lane.lock();
            let own = state.told.iter().filter(|(shard, _)| lane.owns(**shard));
            (
                lane.destination.name.clone(),
                own.map(|(shard, told)| (*shard, *told)).collect(),
            )
        });
        told.collect()
    }

    /// The owner of a shard has told a destination so far.
    pub(crate) fn hear_told(&self, destination: &str, shard: u16, told: Told) {
        for lane in self
            .lanes
            .iter()
            .filter(|lane| lane.destination.name == destination)
        {
            let mut state = lane.lock();
            let known = state.told.entry(shard).or_default();
            if *known < told {
                *known = told;
                state.unsaved.insert(shard, told);
                state
                    .waiting
                    .retain(|notice| notice.shard != shard || notice.told() > told);
                drop(state);
                lane.woken.notify_one();
            }
        }
    }

    /// Whether nobody is told anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Another node's state of a shard, with how far it had told each destination, took the place of this node's.
    pub(crate) fn taken_over(&self, shard: u16, store: &Store) -> Result<(), StoreError> {
        for lane in &self.lanes {
            let told = store.told(&lane.destination.name)?;
            let told = told.into_iter().find(|(known, _)| *known == shard);
            let mut state = lane.lock();
            state.waiting.retain(|notice| notice.shard != shard);
            match told {
                Some((_, told)) => state.told.insert(shard, told),
                None => state.told.remove(&shard),
            };
        }
        Ok(())
    }

    /// Something became of an alarm, live or in a replay. A shard hands its notices over in order.
    pub(crate) fn push(&self, notice: &Arc<Notice>) {
        for lane in &self.lanes {
            lane.push(notice);
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
        let state = self.lock();
        state
            .waiting
            .iter()
            .find(|notice| self.owns(notice.shard))
            .cloned()
    }

    fn owns(&self, shard: u16) -> bool {
        self.owned.get().is_none_or(|owns| owns(shard))
    }

    /// It was told, or refused for good.
    pub(super) fn done(&self, notice: &Notice) {
        let mut state = self.lock();
        // It may have been dropped meanwhile, for a newer one.
        let is_it = |other: &Arc<Notice>| other.shard == notice.shard && other.told() == notice.told();
        if let Some(at) = state.waiting.iter().position(is_it) {
            state.waiting.remove(at);
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
