//! The hub: from the shards' lists of changed twins to each subscription's own set of what it has not been told.
//!
//! Promises: a shard only hands over a list and goes on; each distinct filter is evaluated once per changed twin;
//! what waits for a subscription is a set of ids (`latest`) or a bounded ring of revisions (`every`).

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use gemba_twins::{
    id::{TenantId, TwinId},
    twin::Twin,
};
use serde_json::Value;
use tokio::sync::Notify;

use super::{HubSettings, Mode, Spec, SubscribeError, Subscription, Wants, patch};
use crate::{
    clock,
    filter::Filter,
    table::{TwinSlot, Twins},
};

/// One revision for an `every` subscription; `None` where the twin no longer matches.
pub(super) struct Revision {
    pub(super) twin: TwinId,
    pub(super) rev: u64,
    pub(super) at: Option<gemba_twins::time::Timestamp>,
    pub(super) value: Option<Arc<Value>>,
}

/// What waits for a subscription.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) dirty: HashSet<TwinId>,
    /// When the oldest of `dirty` came.
    pub(super) revisions: VecDeque<Revision>,
    pub(super) lost: u64,
}

/// The hub's side of a subscription.
pub(super) struct Mailbox {
    pub(super) filter: Option<Arc<Filter>>,
    pub(super) fields: Option<Vec<String>>,
    pub(super) mode: Mode,
    pub(super) waiting: Mutex<Waiting>,
    pub(super) notify: Notify,
    /// Twins it was told of and that matched then; a change of them is told even if they no longer match.
    pub(super) told: Mutex<HashSet<TwinId>>,
}

#[derive(Default)]
struct TenantHub {
    mailboxes: RwLock<Vec<Weak<Mailbox>>>,
    inbox: Mutex<HashMap<TwinId, Arc<TwinSlot>>>,
    arrived: Notify,
    latest: AtomicUsize,
    every: AtomicUsize,
}

struct Inner {
    settings: HubSettings,
    twins: OnceLock<Arc<Twins>>,
    tenants: RwLock<BTreeMap<TenantId, Arc<TenantHub>>>,
    count: AtomicUsize,
}

/// All subscriptions of a node. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

/// Takes a subscription off the books when it ends.
pub(super) struct Registration {
    hub: Hub,
    tenant: Arc<TenantHub>,
    mode: Mode,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.hub.inner.count.fetch_sub(1, Ordering::AcqRel);
        self.tenant.counter(self.mode).fetch_sub(1, Ordering::AcqRel);
        metrics::gauge!("changes_subscriptions").decrement(1.0);
    }
}

impl TenantHub {
    fn counter(&self, mode: Mode) -> &AtomicUsize {
        match mode {
            Mode::Latest => &self.latest,
            Mode::Every => &self.every,
        }
    }

    fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        let mailboxes = self.mailboxes.read().unwrap_or_else(PoisonError::into_inner);
        mailboxes.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Hub {
    /// A hub without subscriptions.
    #[must_use]
    pub fn new(settings: HubSettings) -> Self {
        metrics::describe_gauge!("changes_subscriptions", "Subscriptions that are open");
        metrics::describe_counter!("changes_revisions_lost_total", "Revisions that a slow `every` subscription lost");
        let inner = Inner { settings, twins: OnceLock::new(), tenants: RwLock::default(), count: AtomicUsize::new(0) };
        Self { inner: Arc::new(inner) }
    }

    /// The twins that snapshots are taken from; called once at the start.
    pub fn attach(&self, twins: Arc<Twins>) {
        // A second call would be a second node; the first one stays.
        let _ = self.inner.twins.set(twins);
    }

    fn tenant(&self, tenant: &TenantId) -> Option<Arc<TenantHub>> {
        self.inner.tenants.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    /// Whether a tenant's subscribers want to hear of changes.
    #[must_use]
    pub fn wants(&self, tenant: &TenantId) -> Wants {
        if self.inner.count.load(Ordering::Acquire) == 0 {
            return Wants::None;
        }
        match self.tenant(tenant) {
            Some(hub) if hub.every.load(Ordering::Acquire) > 0 => Wants::Every,
            Some(hub) if hub.latest.load(Ordering::Acquire) > 0 => Wants::Latest,
            _ => Wants::None,
        }
    }

    /// Takes the list of twins that a shard's batch changed. Only puts it aside.
    pub fn publish(&self, tenant: &TenantId, changed: &[Arc<TwinSlot>]) {
        let Some(hub) = self.tenant(tenant) else { return };
        {
            let mut inbox = hub.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            inbox.extend(changed.iter().map(|slot| (slot.id().clone(), slot.clone())));
        }
        hub.arrived.notify_one();
    }

    /// Takes one revision for the `every` subscriptions, while its shard holds the twin.
    pub fn publish_revision(&self, twin: &Twin) {
        let Some(hub) = self.tenant(twin.id().tenant()) else { return };
        let now = clock::now();
        let mut whole: Option<Value> = None;
        for mailbox in hub.mailboxes().into_iter().filter(|mailbox| mailbox.mode == Mode::Every) {
            let matches = mailbox.filter.as_ref().is_none_or(|filter| filter.matches(twin, now));
            if !matches && !mailbox.told.lock().unwrap_or_else(PoisonError::into_inner).contains(twin.id()) {
                continue;
            }
            let value = matches.then(|| {
                let whole = whole.get_or_insert_with(|| render(twin, now));
                Arc::new(mailbox.fields.as_ref().map_or_else(|| whole.clone(), |fields| patch::project(whole, fields)))
            });
            let mut waiting = mailbox.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.revisions.len() >= self.inner.settings.revisions_waiting {
                waiting.lost += waiting.revisions.len() as u64 + 1;
                metrics::counter!("changes_revisions_lost_total").increment(waiting.revisions.len() as u64 + 1);
                waiting.revisions.clear();
            } else if waiting.lost > 0 {
                // Until the subscriber was told, everything after the loss is part of it: snapshots follow.
                waiting.lost += 1;
            } else {
                let revision = Revision { twin: twin.id().clone(), rev: twin.rev(), at: twin.updated_at(), value };
                waiting.revisions.push_back(revision);
            }
            drop(waiting);
            mailbox.notify.notify_one();
        }
    }

    /// Opens a subscription to a tenant's twins.
    pub fn subscribe(&self, tenant: &TenantId, spec: Spec) -> Result<Subscription, SubscribeError> {
        let Some(twins) = self.inner.twins.get().cloned() else {
            return Err(SubscribeError { code: "stream.unavailable", detail: "the node is starting (try again)".into() });
        };
        if self.inner.count.fetch_add(1, Ordering::AcqRel) >= self.inner.settings.subscriptions_max {
            self.inner.count.fetch_sub(1, Ordering::AcqRel);
            let detail = format!("the node has {} subscriptions (close some)", self.inner.settings.subscriptions_max);
            return Err(SubscribeError { code: "stream.too_many", detail });
        }
        let hub = self.tenant_or_new(tenant);
        hub.counter(spec.mode).fetch_add(1, Ordering::AcqRel);
        metrics::gauge!("changes_subscriptions").increment(1.0);
        let registration = Registration { hub: self.clone(), tenant: hub.clone(), mode: spec.mode };
        let mailbox = Arc::new(Mailbox {
            filter: spec.filter,
            fields: spec.fields,
            mode: spec.mode,
            waiting: Mutex::default(),
            notify: Notify::new(),
            told: Mutex::default(),
        });
        {
            let mut mailboxes = hub.mailboxes.write().unwrap_or_else(PoisonError::into_inner);
            mailboxes.retain(|mailbox| mailbox.strong_count() > 0);
            mailboxes.push(Arc::downgrade(&mailbox));
        }
        Subscription::new(tenant.clone(), twins, mailbox, registration, spec.max_rate_hz, spec.resume.as_deref())
    }

    fn tenant_or_new(&self, tenant: &TenantId) -> Arc<TenantHub> {
        if let Some(hub) = self.tenant(tenant) {
            return hub;
        }
        let mut tenants = self.inner.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let hub = tenants.entry(tenant.clone()).or_insert_with(|| {
            let hub = Arc::new(TenantHub::default());
            tokio::spawn(distribute(Arc::downgrade(&hub)));
            hub
        });
        hub.clone()
    }
}

pub(super) fn render(twin: &Twin, now: gemba_twins::time::Timestamp) -> Value {
    let mut value = serde_json::to_value(twin.view(now)).unwrap_or_default();
    patch::without_nulls(&mut value);
    value
}

/// Hands what changed to the subscriptions it concerns, as long as the tenant's hub lives.
async fn distribute(hub: Weak<TenantHub>) {
    loop {
        let Some(strong) = hub.upgrade() else { return };
        strong.arrived.notified().await;
        let changed = std::mem::take(&mut *strong.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        let mailboxes: Vec<_> =
            strong.mailboxes().into_iter().filter(|mailbox| mailbox.mode == Mode::Latest).collect();
        // Subscriptions with the same filter are asked about once.
        let mut by_filter: Vec<(Option<Arc<Filter>>, Vec<Arc<Mailbox>>)> = Vec::new();
        for mailbox in mailboxes {
            let same = by_filter.iter().position(|(filter, _)| match (filter, &mailbox.filter) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.text() == b.text(),
                (None, None) => true,
                _ => false,
            });
            match same {
                Some(at) => by_filter[at].1.push(mailbox),
                None => by_filter.push((mailbox.filter.clone(), vec![mailbox])),
            }
        }
        let now = clock::now();
        for (number, (id, slot)) in changed.into_iter().enumerate() {
            let matching = slot.with(|twin| {
                let holds = |filter: &Option<Arc<Filter>>| filter.as_ref().is_none_or(|filter| filter.matches(twin, now));
                by_filter.iter().map(|(filter, _)| holds(filter)).collect::<Vec<_>>()
            });
            for (matches, (_, mailboxes)) in matching.into_iter().zip(&by_filter) {
                for mailbox in mailboxes {
                    if matches || mailbox.told.lock().unwrap_or_else(PoisonError::into_inner).contains(&id) {
                        let mut waiting = mailbox.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                        let was_empty = waiting.dirty.is_empty();
                        waiting.dirty.insert(id.clone());
                        drop(waiting);
                        if was_empty {
                            mailbox.notify.notify_one();
                        }
                    }
                }
            }
            if number % 256 == 255 {
                tokio::task::yield_now().await;
            }
        }
    }
}
