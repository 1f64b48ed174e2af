//! The twins of a node, as readers see them: resident ones in memory, passive ones in the state store.
//!
//! Promises: a reader takes a twin's own short lock and never waits for a shard; a walk holds no lock between its
//! slices; no read is possible without a tenant. Knows nothing of how a twin comes to be folded.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use gemba_twins::{
    id::{Kind, TenantId, TwinId},
    rollup::RollupRow,
    time::Timestamp,
    twin::Twin,
};
use tokio::sync::{Notify, watch};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    history::UnfiledAlarms,
    shard::{RejectedRecord, router::shard_of},
    store::{Store, StoreError},
};

/// A twin in memory.
pub struct TwinSlot {
    id: TwinId,
    /// Many readers may look at a twin at a time; its shard is the only writer.
    state: RwLock<SlotState>,
}

/// What a shard keeps of a resident twin beside the twin itself.
pub(crate) struct SlotState {
    pub(crate) twin: Twin,
    /// Changed since the last snapshot.
    pub(crate) dirty: bool,
    /// Belongs to the snapshot that is being written and is not encoded yet.
    pub(crate) in_snapshot: bool,
    /// Its entry among the shard's deadlines.
    pub(crate) deadline: Option<Timestamp>,
    /// Its fold failed; it folds no more.
    pub(crate) set_aside: bool,
    /// The shard's batch that touched it last.
    pub(crate) batch: u64,
    /// Seconds since the node started when it was last touched.
    pub(crate) touched_s: u32,
}

impl TwinSlot {
    pub(crate) fn new(twin: Twin, touched_s: u32) -> Arc<Self> {
        let id = twin.id().clone();
        let state = SlotState {
            twin,
            dirty: false,
            in_snapshot: false,
            deadline: None,
            set_aside: false,
            batch: 0,
            touched_s,
        };
        Arc::new(Self {
            id,
            state: RwLock::new(state),
        })
    }

    /// The twin's address.
    pub fn id(&self) -> &TwinId {
        &self.id
    }

    /// Reads the twin under its own lock; keep it short.
    pub fn with<R>(&self, read: impl FnOnce(&Twin) -> R) -> R {
        read(&self.look().twin)
    }

    pub(crate) fn lock(&self) -> RwLockWriteGuard<'_, SlotState> {
        // A fold that panics is caught inside the lock.
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> RwLockReadGuard<'_, SlotState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a known twin is.
#[derive(Clone)]
pub(crate) enum Entry {
    Resident(Arc<TwinSlot>),
    /// Its state in the store is its newest.
    Passive,
}

/// A closed bucket that is not in the store yet: twin, level, start in milliseconds.
pub(crate) type RollupKey = (TwinId, u8, i64);

/// A rejected message; `None` once it is gone.
pub(crate) type RejectedMessage = Option<Arc<RejectedRecord>>;

/// By tenant and seq.
type RejectedMessages = BTreeMap<(TenantId, u64), RejectedMessage>;

/// How a shard's coming back stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    UnderWay,
    Done,
    Failed,
    /// Other nodes keep it.
    Elsewhere,
}

/// The twins of one shard.
pub(crate) struct TwinTable {
    number: u16,
    pub(crate) map: RwLock<BTreeMap<TwinId, Entry>>,
    folded: AtomicU64,
    /// For whoever waits for a seq.
    folded_on: Notify,
    recovery: watch::Sender<Recovery>,
    pub(crate) history: FreshHistory,
    /// What became of alarms and stands in no file of the history yet.
    pub(crate) alarms: UnfiledAlarms,
    /// Rejected messages that are not in the store yet, by seq.
    pub(crate) rejected: RwLock<RejectedMessages>,
}

/// Rollups on their way to the store.
///
/// A reader holds `writing` for reading while it reads the store and `pending`; the writer holds it for writing from
/// before its transaction until the rows are taken out, so a row is never seen twice or not at all.
#[derive(Default)]
pub(crate) struct FreshHistory {
    pub(crate) writing: RwLock<Arc<BTreeMap<RollupKey, RollupRow>>>,
    pub(crate) pending: Mutex<BTreeMap<RollupKey, RollupRow>>,
}

impl TwinTable {
    pub(crate) fn new(number: u16) -> Arc<Self> {
        Arc::new(Self {
            number,
            map: RwLock::default(),
            folded: AtomicU64::new(0),
            folded_on: Notify::new(),
            recovery: watch::Sender::new(Recovery::UnderWay),
            history: FreshHistory::default(),
            alarms: UnfiledAlarms::default(),
            rejected: RwLock::default(),
        })
    }

    /// Forgets all twins, before others take their place.
    pub(crate) fn clear(&self) {
        self.folded.store(0, Ordering::Release);
        self.map.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.rejected
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        let mut writing = self
            .history
            .writing
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *writing = Arc::default();
        self.history
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    pub(crate) fn entry(&self, id: &TwinId) -> Option<Entry> {
        self.map
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    pub(crate) fn put(&self, id: TwinId, entry: Entry) {
        self.map
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, entry);
    }

    pub(crate) fn set_folded(&self, seq: u64) {
        self.folded.store(seq, Ordering::Release);
        self.folded_on.notify_waiters();
    }

    /// Waits until a seq is folded.
    pub(crate) async fn folded_up_to(&self, seq: u64) {
        loop {
            let mut more = std::pin::pin!(self.folded_on.notified());
            more.as_mut().enable();
            if self.folded() >= seq {
                return;
            }
            more.await;
        }
    }

    pub(crate) fn folded(&self) -> u64 {
        self.folded.load(Ordering::Acquire)
    }

    pub(crate) fn set_recovery(&self, recovery: Recovery) {
        self.recovery.send_replace(recovery);
    }

    pub(crate) fn is_elsewhere(&self) -> bool {
        *self.recovery.borrow() == Recovery::Elsewhere
    }

    pub(crate) fn is_ready(&self) -> bool {
        *self.recovery.borrow() == Recovery::Done
    }

    /// Waits until its shard has recovered; an error where it cannot.
    pub(crate) async fn recovered(&self) -> Result<(), StoreError> {
        let mut recovery = self.recovery.subscribe();
        // The sender lives as long as the table, so waiting cannot fail.
        let _ = recovery
            .wait_for(|recovery| *recovery != Recovery::UnderWay)
            .await;
        match *self.recovery.borrow() {
            Recovery::Done => Ok(()),
            Recovery::Elsewhere => Err(StoreError::Elsewhere { shard: self.number }),
            Recovery::UnderWay | Recovery::Failed => Err(StoreError::NotRecovered),
        }
    }

    /// Up to `limit` entries of a tenant after `after`, in id order.
    fn after(
        &self,
        tenant: &TenantId,
        kind: Option<Kind>,
        after: Option<&TwinId>,
        limit: usize,
    ) -> Vec<(TwinId, Entry)> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let from = match after {
            Some(id) => Bound::Excluded(id.clone()),
            // The smallest id of the tenant and kind: '-' is the lowest character of the alphabet.
            None => match TwinId::new(tenant.clone(), kind.unwrap_or(Kind::Machine), "-") {
                Ok(first) => Bound::Included(first),
                Err(_) => return Vec::new(),
            },
        };
        map.range((from, Bound::Unbounded))
            .take_while(|(id, _)| id.tenant() == tenant && kind.is_none_or(|kind| id.kind() == kind))
            .take(limit)
            .map(|(id, entry)| (id.clone(), entry.clone()))
            .collect()
    }
}

/// All twins of a node.
pub struct Twins {
    pub(crate) tables: Vec<Arc<TwinTable>>,
    pub(crate) store: Arc<Store>,
}

impl Twins {
    pub(crate) fn new(shards: u16, store: Arc<Store>) -> Self {
        Self {
            tables: (0..shards).map(TwinTable::new).collect(),
            store,
        }
    }

    /// Number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.tables.len()
    }

    /// The shard of a twin.
    #[must_use]
    pub fn shard_of(&self, id: &TwinId) -> usize {
        // The number of shards came from a u16.
        usize::from(shard_of(id, u16::try_from(self.tables.len()).unwrap_or(u16::MAX)))
    }

    /// The seq up to which a shard's events are folded and visible.
    #[must_use]
    pub fn folded_seq(&self, shard: usize) -> u64 {
        self.tables.get(shard).map_or(0, |table| table.folded())
    }

    /// Twins known to this node, resident and passive, of all tenants.
    #[must_use]
    pub fn known(&self) -> usize {
        let count = |table: &Arc<TwinTable>| table.map.read().unwrap_or_else(PoisonError::into_inner).len();
        self.tables.iter().map(count).sum()
    }

    /// Reads one twin; a passive one is read from disk and stays passive. `None` when it is not known.
    pub fn with<R>(&self, id: &TwinId, read: impl FnOnce(&Twin) -> R) -> Result<Option<R>, StoreError> {
        let shard = self.shard_of(id);
        match self.tables[shard].entry(id) {
            None => Ok(None),
            Some(entry) => self.read(shard, id, &entry, read),
        }
    }

    fn read<R>(
        &self,
        shard: usize,
        id: &TwinId,
        entry: &Entry,
        read: impl FnOnce(&Twin) -> R,
    ) -> Result<Option<R>, StoreError> {
        if let Entry::Resident(slot) = entry {
            let state = slot.look();
            if state.set_aside {
                return Err(StoreError::SetAside { twin: id.to_string() });
            }
            return Ok(Some(read(&state.twin)));
        }
        let shard = u16::try_from(shard).unwrap_or(u16::MAX);
        if self.store.is_set_aside(shard, id)? {
            return Err(StoreError::SetAside { twin: id.to_string() });
        }
        Ok(self.store.twin(shard, id)?.map(|twin| read(&twin)))
    }

    /// A hash of the state of all twins of all tenants: nodes that folded the same events answer the same.
    pub fn hash(&self) -> Result<u64, StoreError> {
        let mut hasher = Xxh3::new();
        for shard in 0..self.tables.len() {
            self.hash_into(shard, &mut hasher)?;
        }
        Ok(hasher.digest())
    }

    /// A hash of the state of all twins of a shard.
    pub fn hash_of(&self, shard: usize) -> Result<u64, StoreError> {
        let mut hasher = Xxh3::new();
        self.hash_into(shard, &mut hasher)?;
        Ok(hasher.digest())
    }

    fn hash_into(&self, shard: usize, hasher: &mut Xxh3) -> Result<(), StoreError> {
        let Some(table) = self.tables.get(shard) else {
            return Ok(());
        };
        let mut encoded = Vec::new();
        let entries: Vec<_> = {
            let map = table.map.read().unwrap_or_else(PoisonError::into_inner);
            map.iter()
                .map(|(id, entry)| (id.clone(), entry.clone()))
                .collect()
        };
        self.visit(shard, &entries, &mut |twin| {
            encoded.clear();
            twin.encode(&mut encoded);
            hasher.update(twin.id().to_string().as_bytes());
            hasher.update(&encoded);
        })
    }

    /// Ids of a tenant's twins of one shard after `after`, in order, at most `limit`.
    pub(crate) fn ids_after(
        &self,
        shard: usize,
        tenant: &TenantId,
        after: Option<&TwinId>,
        limit: usize,
    ) -> Vec<TwinId> {
        let entries = self.tables[shard].after(tenant, None, after, limit);
        entries.into_iter().map(|(id, _)| id).collect()
    }

    /// Visits a tenant's twins of one shard in id order, up to `limit` of them, without holding the shard. Returns
    /// the id to go on after, `None` at the end.
    pub fn slice(
        &self,
        shard: usize,
        tenant: &TenantId,
        kind: Option<Kind>,
        after: Option<&TwinId>,
        limit: usize,
        visit: &mut dyn FnMut(&Twin),
    ) -> Result<Option<TwinId>, StoreError> {
        let Some(table) = self.tables.get(shard) else {
            return Ok(None);
        };
        let entries = table.after(tenant, kind, after, limit);
        self.visit(shard, &entries, visit)?;
        Ok(if entries.len() < limit {
            None
        } else {
            entries.into_iter().next_back().map(|(id, _)| id)
        })
    }

    /// Visits a tenant's twins of all shards in id order, up to `limit` of them. Returns the id to go on after.
    pub fn page(
        &self,
        tenant: &TenantId,
        kind: Option<Kind>,
        after: Option<&TwinId>,
        limit: usize,
        visit: &mut dyn FnMut(&Twin),
    ) -> Result<Option<TwinId>, StoreError> {
        let mut merged: Vec<(TwinId, usize, Entry)> = Vec::new();
        for (shard, table) in self.tables.iter().enumerate() {
            let entries = table.after(tenant, kind, after, limit);
            merged.extend(entries.into_iter().map(|(id, entry)| (id, shard, entry)));
        }
        merged.sort_by(|a, b| a.0.cmp(&b.0));
        let more = merged.len() > limit;
        merged.truncate(limit);
        for (id, shard, entry) in &merged {
            self.visit(*shard, &[(id.clone(), entry.clone())], visit)?;
        }
        let at_limit = merged.len() == limit;
        Ok(if more || at_limit {
            merged.pop().map(|(id, ..)| id)
        } else {
            None
        })
    }

    fn visit(
        &self,
        shard: usize,
        entries: &[(TwinId, Entry)],
        visit: &mut dyn FnMut(&Twin),
    ) -> Result<(), StoreError> {
        for (id, entry) in entries {
            match self.read(shard, id, entry, |twin| visit(twin)) {
                // A twin that was set aside is shown when asked for by name and counted; a list goes on without it.
                Ok(_) | Err(StoreError::SetAside { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
