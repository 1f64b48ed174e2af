//! Snapshots of a shard: a consistent cut at one seq, collected in steps between the batches.
//!
//! Promises: what is written is each twin exactly as it was at the cut, because a twin that is folded before its
//! turn is encoded first; a failed write changes nothing and the twins stay dirty. Also passivation: only a twin
//! whose newest state is in the store leaves memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use gemba_twins::{
    id::{TenantId, TwinId},
    time::Timestamp,
};

use super::{
    core::Core,
    record::{
        DeadlineWire, OriginWire, OutboxWire, RejectedCountWire, RejectedRecord, ShardMeta, encode_plant_body,
    },
    router::control_number,
};
use crate::{
    metric_definitions as names,
    notify::Notice,
    store::{Restored, Snapshot, Store, StoreError},
    table::{Entry, FreshHistory, SlotState, TwinSlot, TwinTable},
};

/// Twins encoded in one step: about half a millisecond.
const STEP: usize = 128;

/// A snapshot on its way.
pub(crate) struct Collecting {
    snapshot: Snapshot,
    slots: Vec<Arc<TwinSlot>>,
    next: usize,
}

impl Collecting {
    /// Encodes a twin as it is at the cut.
    pub(crate) fn encode(&mut self, state: &mut SlotState) {
        let mut bytes = Vec::with_capacity(1_024);
        state.twin.encode(&mut bytes);
        self.snapshot.twins.push((state.twin.id().clone(), bytes));
        state.in_snapshot = false;
    }
}

/// A snapshot that is collected and waits to be written.
pub(crate) struct Collected {
    pub(crate) snapshot: Snapshot,
    slots: Vec<Arc<TwinSlot>>,
}

impl Collected {
    /// Writes the snapshot; afterwards its rollups are read from the store. Blocks for the disk.
    pub(crate) fn write(&self, store: &Store, history: &FreshHistory) -> Result<(), StoreError> {
        let mut writing = history.writing.write().unwrap_or_else(PoisonError::into_inner);
        let written = store.write(&self.snapshot);
        let rows = std::mem::take(&mut *writing);
        if written.is_err() {
            let mut pending = history.pending.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, row) in rows.iter() {
                pending
                    .entry(key.clone())
                    .and_modify(|newer| newer.merge(row))
                    .or_insert_with(|| row.clone());
            }
        }
        written
    }
}

impl Core {
    /// Begins a snapshot at the seq folded last.
    pub(crate) fn begin_snapshot(&mut self) {
        let slots = std::mem::take(&mut self.dirty);
        for slot in &slots {
            let mut state = slot.lock();
            state.dirty = false;
            state.in_snapshot = !state.set_aside;
        }
        let rollups = {
            let mut writing = self
                .table
                .history
                .writing
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let pending = std::mem::take(
                &mut *self
                    .table
                    .history
                    .pending
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            );
            *writing = Arc::new(pending);
            writing.clone()
        };
        let rejected = self.table.rejected.read().unwrap_or_else(PoisonError::into_inner);
        let rejected: Vec<_> = rejected
            .iter()
            .map(|(key, item)| (key.clone(), item.clone()))
            .collect();
        let snapshot = Snapshot {
            shard: self.number,
            meta: self.meta(),
            twins: Vec::with_capacity(slots.len()),
            rollups,
            dedupe: self.dedupe.range(self.dedupe_written, self.dedupe_folded),
            dedupe_drop_below: self
                .dedupe
                .oldest()
                .saturating_sub(self.shared.settings.dedupe_window as u64),
            rejected,
            set_aside: std::mem::take(&mut self.newly_set_aside),
            plants: self
                .new_plants
                .iter()
                .map(|(tenant, plant)| (tenant.clone(), encode_plant_body(plant)))
                .collect(),
            dashboards: if self.number == control_number() {
                self.shared.plants.dashboards.unsaved()
            } else {
                Vec::new()
            },
        };
        self.folded_since_snapshot = 0;
        self.collecting = Some(Collecting {
            snapshot,
            slots,
            next: 0,
        });
    }

    fn meta(&self) -> ShardMeta {
        let heard = self.heard.values();
        let outbox = self.outbox.unconfirmed().map(|(to, event)| {
            let mut bytes = Vec::new();
            event.encode(&mut bytes);
            OutboxWire {
                to_shard: u32::from(to),
                event: bytes,
            }
        });
        let rejected = self.rejected_counts.iter();
        let notices = self.shared.notifier.undelivered(self.number);
        let unfiled_alarms = self.table.alarms.of(0..=self.seq);
        let deadlines = self.deadlines.iter().filter(|(_, has_alarms)| **has_alarms);
        let deadlines = deadlines.map(|((at, twin), _)| DeadlineWire {
            at_ms: at.ms(),
            tenant: twin.tenant().as_str().to_owned(),
            twin: twin.to_string(),
        });
        ShardMeta {
            seq: self.seq,
            dedupe_count: self.dedupe_folded,
            heard: heard
                .map(|origin| OriginWire {
                    shard: u32::from(origin.shard),
                    seq: origin.seq,
                    index: origin.index,
                })
                .collect(),
            outbox: outbox.collect(),
            rejected: rejected
                .map(|(tenant, count)| RejectedCountWire {
                    tenant: tenant.as_str().to_owned(),
                    count: *count,
                })
                .collect(),
            deadlines: deadlines.collect(),
            notices: notices.iter().map(|notice| notice.encode()).collect(),
            unfiled_alarms: unfiled_alarms.iter().map(|notice| notice.encode()).collect(),
        }
    }

    /// Encodes some of the snapshot's twins; returns the snapshot when it is whole.
    pub(crate) fn step_snapshot(&mut self) -> Option<Collected> {
        let mut collecting = self.collecting.take()?;
        let end = (collecting.next + STEP).min(collecting.slots.len());
        for at in collecting.next..end {
            let slot = collecting.slots[at].clone();
            let mut state = slot.lock();
            if state.in_snapshot {
                collecting.encode(&mut state);
            }
        }
        collecting.next = end;
        if end < collecting.slots.len() {
            self.collecting = Some(collecting);
            return None;
        }
        // The store takes sorted keys several times faster.
        collecting.snapshot.twins.sort_by(|a, b| a.0.cmp(&b.0));
        Some(Collected {
            snapshot: collecting.snapshot,
            slots: collecting.slots,
        })
    }

    /// The snapshot is written, or was not.
    pub(crate) fn finish_snapshot(&mut self, collected: Collected, written: bool) {
        let Collected { snapshot, slots } = collected;
        if written {
            self.dedupe_written = snapshot.meta.dedupe_count;
            if self.number == control_number() {
                self.shared.plants.dashboards.saved(&snapshot.dashboards);
            }
            for (tenant, plant) in &snapshot.plants {
                if self
                    .new_plants
                    .get(tenant)
                    .is_some_and(|newer| encode_plant_body(newer) == *plant)
                {
                    self.new_plants.remove(tenant);
                }
            }
            let mut rejected = self
                .table
                .rejected
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            for (key, item) in snapshot.rejected {
                if rejected
                    .get(&key)
                    .is_some_and(|newer| newer.is_some() == item.is_some())
                {
                    rejected.remove(&key);
                }
            }
            return;
        }
        metrics::counter!(names::SNAPSHOT_FAILED).increment(1);
        self.newly_set_aside.extend(snapshot.set_aside);
        for slot in slots {
            let mut state = slot.lock();
            if !state.dirty && !state.set_aside {
                state.dirty = true;
                drop(state);
                self.dirty.push(slot);
            }
        }
    }

    /// Whether the twins in memory are more than this shard's share.
    pub(crate) fn is_crowded(&self) -> bool {
        self.resident > self.share()
    }

    fn share(&self) -> usize {
        (self.shared.settings.resident_twins / usize::from(self.shared.settings.shards)).max(1)
    }

    /// Takes twins out of memory whose newest state is in the store: those idle for long, and more of them while
    /// the shard is crowded, the ones touched longest ago first. Only between snapshots.
    pub(crate) fn passivate(&mut self, now_s: u32) {
        if self.collecting.is_some() {
            return;
        }
        let idle_s = u32::try_from(self.shared.settings.passivate_after.as_secs()).unwrap_or(u32::MAX);
        let mut map = self.table.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut clean: Vec<(u32, TwinId)> = map
            .iter()
            .filter_map(|(id, entry)| match entry {
                Entry::Resident(slot) => {
                    let state = slot.lock();
                    (!state.dirty && !state.set_aside).then(|| (state.touched_s, id.clone()))
                }
                Entry::Passive => None,
            })
            .collect();
        let surplus = if self.resident > self.share() {
            self.resident - self.share() * 4 / 5
        } else {
            0
        };
        clean.sort_unstable_by_key(|(touched_s, _)| *touched_s);
        let mut passivated = 0;
        for (number, (touched_s, id)) in clean.into_iter().enumerate() {
            if number >= surplus && now_s.saturating_sub(touched_s) < idle_s {
                break;
            }
            map.insert(id, Entry::Passive);
            passivated += 1;
        }
        drop(map);
        self.resident -= passivated;
        metrics::counter!(names::TWINS_PASSIVATED).increment(passivated as u64);
    }

    /// Starts from what the last snapshot left.
    pub(crate) fn restore(&mut self, restored: Restored) -> Result<(), StoreError> {
        let damaged = || StoreError::Damaged {
            what: format!("shard {} (its messages to other twins)", self.number),
        };
        self.seq = restored.meta.seq;
        for heard in &restored.meta.heard {
            let shard = u16::try_from(heard.shard).map_err(|_| damaged())?;
            let origin = gemba_twins::event::Origin {
                shard,
                seq: heard.seq,
                index: heard.index,
            };
            self.heard.insert(shard, origin);
        }
        for waiting in &restored.meta.outbox {
            let event = gemba_twins::event::Event::decode(&waiting.event).map_err(|_| damaged())?;
            self.outbox
                .push(u16::try_from(waiting.to_shard).map_err(|_| damaged())?, event);
        }
        for count in &restored.meta.rejected {
            let tenant = TenantId::parse(&count.tenant).map_err(|_| damaged())?;
            self.rejected_counts.insert(tenant, count.count);
        }
        for bytes in &restored.meta.notices {
            let notice = Notice::decode(self.number, bytes).ok_or_else(damaged)?;
            self.shared.notifier.push(&Arc::new(notice));
        }
        for bytes in &restored.meta.unfiled_alarms {
            let notice = Notice::decode(self.number, bytes).ok_or_else(damaged)?;
            self.table.alarms.push(Arc::new(notice));
        }
        for deadline in &restored.meta.deadlines {
            let tenant = TenantId::parse(&deadline.tenant).map_err(|_| damaged())?;
            let twin = TwinId::parse(tenant, &deadline.twin).map_err(|_| damaged())?;
            self.deadlines
                .insert((Timestamp::from_ms(deadline.at_ms), twin), true);
        }
        for (first, keys) in restored.dedupe {
            self.dedupe.restore(first, keys);
        }
        self.dedupe_written = restored.meta.dedupe_count;
        self.dedupe_folded = restored.meta.dedupe_count;
        let mut map = BTreeMap::new();
        for id in restored.known {
            map.insert(id, Entry::Passive);
        }
        *self.table.map.write().unwrap_or_else(PoisonError::into_inner) = map;
        self.restore_set_aside(&restored.set_aside)
    }

    /// Twins set aside stay in memory as such, so that nobody folds them on from an older state.
    fn restore_set_aside(&mut self, ids: &[TwinId]) -> Result<(), StoreError> {
        for id in ids {
            let twin = self.shared.store.twin(self.number, id)?;
            let slot = TwinSlot::new(
                twin.unwrap_or_else(|| gemba_twins::twin::Twin::new(id.clone())),
                0,
            );
            slot.lock().set_aside = true;
            self.table.put(id.clone(), Entry::Resident(slot));
            self.resident += 1;
        }
        Ok(())
    }

    /// Writes a snapshot at once, for a recovery with a long tail and for a stop.
    pub(crate) fn snapshot_now(&mut self) -> Result<(), StoreError> {
        self.begin_snapshot();
        let collected = loop {
            if let Some(collected) = self.step_snapshot() {
                break collected;
            }
        };
        let written = collected.write(&self.shared.store, &self.table.history);
        self.finish_snapshot(collected, written.is_ok());
        written
    }
}

/// Rejected messages as a reader sees them: the stored ones, less those gone since, plus the fresh ones.
pub(crate) fn rejected_page(
    store: &Store,
    table: &TwinTable,
    tenant: &TenantId,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Arc<RejectedRecord>)>, StoreError> {
    let fresh: BTreeMap<u64, Option<Arc<RejectedRecord>>> = {
        let fresh = table.rejected.read().unwrap_or_else(PoisonError::into_inner);
        let from = (tenant.clone(), after.saturating_add(1));
        let of_tenant = fresh.range(from..).take_while(|((of, _), _)| of == tenant);
        of_tenant.map(|((_, seq), item)| (*seq, item.clone())).collect()
    };
    let stored = store.rejected(tenant, after, limit + fresh.len())?;
    let mut items: BTreeMap<u64, Arc<RejectedRecord>> = stored
        .into_iter()
        .map(|(seq, item)| (seq, Arc::new(item)))
        .collect();
    for (seq, item) in fresh {
        match item {
            Some(item) => items.insert(seq, item),
            None => items.remove(&seq),
        };
    }
    Ok(items.into_iter().take(limit).collect())
}
