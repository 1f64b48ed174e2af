//! The state of one shard and the fold of its journal: the same code for live events and for a replay.
//!
//! Promises: folds records in the order of their seqs and nothing else; a twin whose fold panics is set aside and
//! the shard goes on; effects become rollups, messages to other twins, and the list of what changed. Does no
//! awaiting; reads the state store only to activate a passive twin.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
};

use gemba_twins::{
    event::{Body, Event, Origin, Position},
    id::{TenantId, TwinId},
    time::Timestamp,
    twin::{Effects, Outcome as Folded, Twin},
};
use tracing::error;

use super::{
    dedupe::Dedupe,
    outbox::Outbox,
    record::{PlantRecord, Record, RejectedRecord},
    router::shard_of,
    snapshot::Collecting,
};
use crate::{
    accounts::End,
    changes::{Hub, Wants},
    metric_definitions as names,
    notify::{Notice, Notifier},
    plant::{PlantModel, twin_configs},
    plants::{AppliedPlant, PlantDirectory},
    settings::NodeSettings,
    store::{Store, StoreError},
    table::{Entry, SlotState, TwinSlot, TwinTable},
};

/// When twins have to be told that time has passed, and whether they have alarms: those are told even when they are
/// passive. A twin in memory has one entry at most.
pub(crate) type Deadlines = BTreeMap<(Timestamp, TwinId), bool>;

/// What the shards of a node share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) settings: Arc<NodeSettings>,
    pub(crate) store: Arc<Store>,
    pub(crate) hub: Hub,
    pub(crate) plants: Arc<PlantDirectory>,
    pub(crate) notifier: Arc<Notifier>,
}

/// A shard's state: its twins by way of the table, and what stands beside them.
pub(crate) struct Core {
    pub(crate) number: u16,
    pub(crate) shared: Shared,
    pub(crate) table: Arc<TwinTable>,
    /// The seq folded last.
    pub(crate) seq: u64,
    pub(crate) dedupe: Dedupe,
    /// Keys of the window that belong to folded records, and those of them that are in the store.
    pub(crate) dedupe_folded: u64,
    pub(crate) dedupe_written: u64,
    /// The highest message folded from each shard.
    pub(crate) heard: BTreeMap<u16, Origin>,
    pub(crate) outbox: Outbox,
    pub(crate) dirty: Vec<Arc<TwinSlot>>,
    pub(crate) changed: Vec<Arc<TwinSlot>>,
    pub(crate) deadlines: Deadlines,
    pub(crate) collecting: Option<Collecting>,
    pub(crate) resident: usize,
    pub(crate) folded_since_snapshot: u64,
    pub(crate) rejected_counts: BTreeMap<TenantId, u64>,
    rejected_floor: BTreeMap<TenantId, u64>,
    pub(crate) newly_set_aside: Vec<(TwinId, String)>,
    pub(crate) new_plants: BTreeMap<TenantId, PlantRecord>,
    effects: Effects,
    batch: u64,
    pub(crate) now_s: u32,
}

impl Core {
    pub(crate) fn new(number: u16, shared: Shared, table: Arc<TwinTable>) -> Self {
        Self {
            number,
            table,
            seq: 0,
            dedupe: Dedupe::new(shared.settings.dedupe_window),
            dedupe_folded: 0,
            dedupe_written: 0,
            heard: BTreeMap::new(),
            outbox: Outbox::new(number),
            dirty: Vec::new(),
            changed: Vec::new(),
            deadlines: Deadlines::new(),
            collecting: None,
            resident: 0,
            folded_since_snapshot: 0,
            rejected_counts: BTreeMap::new(),
            rejected_floor: BTreeMap::new(),
            newly_set_aside: Vec::new(),
            new_plants: BTreeMap::new(),
            effects: Effects::default(),
            batch: 0,
            now_s: 0,
            shared,
        }
    }

    /// Begins a batch of folds, at whose end [`Core::publish`] says once what changed.
    pub(crate) fn begin_batch(&mut self, now_s: u32) {
        self.batch += 1;
        self.now_s = now_s;
    }

    /// Folds the record at `seq`.
    pub(crate) fn fold(&mut self, seq: u64, record: &Record) -> Result<End, StoreError> {
        debug_assert_eq!(seq, self.seq + 1, "records are folded in the order of their seqs");
        let end = match record {
            Record::Event(event) => self.fold_event(seq, event)?,
            Record::Rejected(rejected) => {
                self.keep_rejected(seq, rejected);
                End::Rejected
            }
            Record::Resolved { tenant, seq } => {
                self.drop_rejected(tenant, *seq);
                End::Applied
            }
            Record::Plant(plant) => {
                self.fold_plant(seq, plant);
                End::Applied
            }
            Record::Dashboard(dashboard) => {
                self.shared.plants.dashboards.set(dashboard);
                End::Applied
            }
        };
        self.seq = seq;
        self.folded_since_snapshot += 1;
        Ok(end)
    }

    fn fold_event(&mut self, seq: u64, event: &Event) -> Result<End, StoreError> {
        if let Some(origin) = event.origin {
            self.heard.insert(origin.shard, origin);
        }
        if self.shared.settings.bench_skip_fold {
            return Ok(End::Applied);
        }
        let slot = self.activate(&event.twin)?;
        let mut state = slot.lock();
        if state.set_aside {
            return Ok(End::Applied);
        }
        if state.in_snapshot
            && let Some(collecting) = &mut self.collecting
        {
            collecting.encode(&mut state);
        }
        let position = Position {
            shard: self.number,
            seq,
        };
        let effects = &mut self.effects;
        let folded = catch_unwind(AssertUnwindSafe(|| state.twin.fold(position, event, effects)));
        let Ok(folded) = folded else {
            state.set_aside = true;
            drop(state);
            self.set_aside(seq, event);
            return Ok(End::Applied);
        };
        if folded != Folded::Ignored {
            if !state.dirty {
                state.dirty = true;
                self.dirty.push(slot.clone());
            }
            if state.batch != self.batch {
                state.batch = self.batch;
                self.changed.push(slot.clone());
            }
            state.touched_s = self.now_s;
            watch_deadline(&mut self.deadlines, &mut state);
            if self.shared.hub.wants(event.twin.tenant()) == Wants::Every {
                self.shared.hub.publish_revision(&state.twin);
            }
        }
        drop(state);
        self.take_effects(seq, event);
        Ok(if folded == Folded::Late {
            End::Late
        } else {
            End::Applied
        })
    }

    fn take_effects(&mut self, seq: u64, event: &Event) {
        let violations = std::mem::take(&mut self.effects.violations);
        // A replay, which has no time, counted them before the node was restarted.
        if violations > 0 && self.now_s > 0 {
            let tenant = event.twin.tenant().as_str().to_owned();
            metrics::counter!(names::CONTRACT_VIOLATIONS, "tenant" => tenant)
                .increment(u64::from(violations));
        }
        if !self.effects.rollups.is_empty() {
            let mut pending = self
                .table
                .history
                .pending
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for row in self.effects.rollups.drain(..) {
                let key = (event.twin.clone(), row.level as u8, row.start.ms());
                match pending.entry(key) {
                    std::collections::btree_map::Entry::Vacant(place) => {
                        place.insert(row);
                    }
                    std::collections::btree_map::Entry::Occupied(mut before) => before.get_mut().merge(&row),
                }
            }
        }
        let is_filed = self.shared.settings.history.folder.is_some();
        let changes = self.effects.alarms.drain(..);
        if self.shared.notifier.is_idle() && !is_filed {
            drop(changes);
        } else {
            for (index, change) in (0_u32..).zip(changes) {
                let notice = Arc::new(Notice {
                    shard: self.number,
                    seq,
                    index,
                    twin: event.twin.clone(),
                    change,
                });
                self.shared.notifier.push(&notice);
                if is_filed {
                    self.table.alarms.push(notice);
                }
            }
        }
        let messages = std::mem::take(&mut self.effects.messages);
        for (index, (to, message)) in (0_u32..).zip(messages) {
            self.send(seq, index, to, event.at, event.received_at, Body::Told(message));
        }
    }

    fn send(&mut self, seq: u64, index: u32, to: TwinId, at: Timestamp, received_at: Timestamp, body: Body) {
        let origin = Some(Origin {
            shard: self.number,
            seq,
            index,
        });
        let shard = shard_of(&to, self.shared.settings.shards);
        let event = Event {
            twin: to,
            at,
            received_at,
            source: "".into(),
            message_id: "".into(),
            origin,
            body,
        };
        self.outbox.push(shard, event);
    }

    /// A twin in memory: there already, read from the store, or new.
    pub(crate) fn activate(&mut self, id: &TwinId) -> Result<Arc<TwinSlot>, StoreError> {
        let twin = match self.table.entry(id) {
            Some(Entry::Resident(slot)) => return Ok(slot),
            Some(Entry::Passive) => self.shared.store.twin(self.number, id)?,
            None => None,
        };
        let slot = TwinSlot::new(twin.unwrap_or_else(|| Twin::new(id.clone())), self.now_s);
        self.table.put(id.clone(), Entry::Resident(slot.clone()));
        self.resident += 1;
        Ok(slot)
    }

    fn set_aside(&mut self, seq: u64, event: &Event) {
        self.effects = Effects::default();
        let reason = format!("folding seq {seq} of shard {} failed", self.number);
        error!(twin = ?event.twin, seq, shard = self.number, "twin set aside: its fold panicked");
        metrics::counter!(names::TWINS_SET_ASIDE).increment(1);
        self.newly_set_aside.push((event.twin.clone(), reason));
    }

    fn keep_rejected(&mut self, seq: u64, rejected: &RejectedRecord) {
        let key = (rejected.tenant.clone(), seq);
        self.table
            .rejected
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, Some(Arc::new(rejected.clone())));
        let kept = self.rejected_counts.entry(rejected.tenant.clone()).or_default();
        *kept += 1;
        if *kept > self.shared.settings.rejected_kept as u64 {
            self.drop_oldest_rejected(&rejected.tenant);
        }
    }

    fn drop_oldest_rejected(&mut self, tenant: &TenantId) {
        let floor = self.rejected_floor.get(tenant).copied().unwrap_or_default();
        // An error here is met again when the snapshot is written; keeping one more meanwhile harms nobody.
        let stored = self
            .shared
            .store
            .rejected(tenant, floor, 1)
            .unwrap_or_default()
            .first()
            .map(|(seq, _)| *seq);
        let fresh = {
            let fresh = self.table.rejected.read().unwrap_or_else(PoisonError::into_inner);
            let from = (tenant.clone(), floor + 1);
            fresh
                .range(from..)
                .find(|((of, _), item)| of == tenant && item.is_some())
                .map(|((_, seq), _)| *seq)
        };
        if let Some(oldest) = stored.into_iter().chain(fresh).min() {
            self.rejected_floor.insert(tenant.clone(), oldest);
            self.drop_rejected(tenant, oldest);
            metrics::counter!(names::REJECTED_DROPPED, "tenant" => tenant.as_str().to_owned()).increment(1);
        }
    }

    fn drop_rejected(&mut self, tenant: &TenantId, seq: u64) {
        self.table
            .rejected
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((tenant.clone(), seq), None);
        if let Some(kept) = self.rejected_counts.get_mut(tenant) {
            *kept = kept.saturating_sub(1);
        }
    }

    fn fold_plant(&mut self, seq: u64, plant: &PlantRecord) {
        let model = match PlantModel::parse(&plant.text) {
            Ok(model) => model,
            Err(problem) => {
                // It was checked before it was journaled, so only an older release can get here.
                error!(tenant = %plant.tenant, version = plant.version, %problem, "plant model cannot be read");
                return;
            }
        };
        let before = self.shared.plants.plant(&plant.tenant);
        let configs = twin_configs(before.as_deref().map(|plant| &plant.model), &model, plant.version);
        for (index, (kind, id, config)) in (0_u32..).zip(configs) {
            if let Ok(twin) = TwinId::new(plant.tenant.clone(), kind, &id) {
                self.send(
                    seq,
                    index,
                    twin,
                    plant.at,
                    plant.at,
                    Body::Configured(Box::new(config)),
                );
            }
        }
        self.put_plant(plant, model);
        self.new_plants.insert(plant.tenant.clone(), plant.clone());
    }

    /// Puts a plant model in force without telling the twins.
    pub(crate) fn put_plant(&self, plant: &PlantRecord, model: PlantModel) {
        let applied = AppliedPlant {
            version: plant.version,
            applied_at: plant.at,
            by: plant.by.clone(),
            model,
        };
        self.shared.plants.set(plant.tenant.clone(), applied);
    }

    /// Tells the subscribers what the batch changed, then makes its seq visible.
    pub(crate) fn publish(&mut self) {
        while let Some(first) = self.changed.first() {
            let tenant = first.id().tenant().clone();
            // Batches of several tenants are rare, so this mostly runs once and moves nothing.
            let split = self
                .changed
                .iter()
                .position(|slot| *slot.id().tenant() != tenant)
                .unwrap_or(self.changed.len());
            if self.shared.hub.wants(&tenant) != Wants::None {
                self.shared.hub.publish(&tenant, &self.changed[..split]);
            }
            self.changed.drain(..split);
        }
        self.table.set_folded(self.seq);
    }

    /// Tells the subscribers of every twin: another node's state took the place of this one's.
    pub(crate) fn publish_all(&mut self) -> Result<(), StoreError> {
        let known: Vec<TwinId> = {
            let map = self.table.map.read().unwrap_or_else(PoisonError::into_inner);
            map.keys()
                .filter(|id| self.shared.hub.wants(id.tenant()) != Wants::None)
                .cloned()
                .collect()
        };
        for id in known {
            let slot = self.activate(&id)?;
            self.changed.push(slot);
        }
        self.publish();
        Ok(())
    }

    /// Enters every twin in memory that waits for time to pass among the deadlines.
    pub(crate) fn watch_deadlines(&mut self) {
        let map = self.table.map.read().unwrap_or_else(PoisonError::into_inner);
        for entry in map.values() {
            let Entry::Resident(slot) = entry else { continue };
            let mut state = slot.lock();
            watch_deadline(&mut self.deadlines, &mut state);
        }
    }
}

/// Enters a twin among the deadlines, if none of its entries comes in time.
pub(crate) fn watch_deadline(deadlines: &mut Deadlines, state: &mut SlotState) {
    let Some(next) = state.twin.next_deadline() else {
        return;
    };
    // Data moves deadlines on with each event; an entry that is early is looked at and put back.
    if state.deadline.is_some_and(|entered| entered <= next) {
        return;
    }
    if let Some(late) = state.deadline.replace(next) {
        deadlines.remove(&(late, state.twin.id().clone()));
    }
    deadlines.insert((next, state.twin.id().clone()), state.twin.has_alarms());
}
