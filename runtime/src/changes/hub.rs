//! The hub: from the shards' lists of changed twins to the subscriptions.
//!
//! Promises: a shard only hands over and goes on; one task per tenant looks at what came in, a few twins at a time,
//! so that subscribers get their turns; a tenant without subscriptions costs one atomic read per batch.
//!
//! Locks, in this order: a tenant's state, a twin, the inbox. A shard hands over while it holds a twin.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use gemba_twins::{id::TenantId, twin::Twin};
use tokio::sync::Notify;
use tracing::warn;

use super::{
    HubSettings, Mode, Spec, SubscribeError, Subscription, Wants,
    frame::quoted,
    group::GroupKey,
    inbox::{Inbox, Taken},
    metrics as names,
    projection::Projection,
    resume,
    revision::{Revision, Targets},
    state::{State, Wake},
    subscriber::Resume,
    walk::{prepare, refill},
};
use crate::{
    clock,
    table::{TwinSlot, Twins},
};

/// Changed twins looked at while the tenant's state is held.
const AT_A_TIME: usize = 32;
/// How often abandoned groups are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Longest id of a subscription, in bytes.
const ID_MAX: usize = 128;
/// Flushes per second are held to these.
const RATE_HZ: (f64, f64) = (0.001, 1_000.0);

/// One tenant's subscriptions.
pub(super) struct TenantHub {
    pub(super) tenant: TenantId,
    settings: HubSettings,
    pub(super) origin: AtomicU64,
    pub(super) twins: Arc<Twins>,
    wants: AtomicU8,
    demand: Arc<Demand>,
    targets: ArcSwap<Targets>,
    inbox: Mutex<Inbox>,
    arrived: Notify,
    state: Mutex<State>,
}

/// How many tenants want what, so that the common answer costs one read.
#[derive(Default)]
struct Demand {
    tenants: Mutex<[usize; 3]>,
    most: AtomicU8,
}

impl Demand {
    fn change(&self, from: u8, to: u8) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants[usize::from(from)] = tenants[usize::from(from)].saturating_sub(1);
        tenants[usize::from(to)] += 1;
        let most = if tenants[2] > 0 {
            2
        } else {
            u8::from(tenants[1] > 0)
        };
        self.most.store(most, Ordering::SeqCst);
    }
}

struct Inner {
    settings: HubSettings,
    origin: AtomicU64,
    twins: OnceLock<Arc<Twins>>,
    tenants: RwLock<HashMap<TenantId, Arc<TenantHub>>>,
    demand: Arc<Demand>,
    open: Arc<AtomicUsize>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn close(&self) {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        for tenant in tenants.values() {
            tenant.lock().close();
            tenant.arrived.notify_one();
        }
    }
}

/// All subscriptions of a node. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

impl Hub {
    /// A hub without subscriptions.
    #[must_use]
    pub fn new(settings: HubSettings) -> Self {
        names::describe();
        let inner = Inner {
            settings,
            origin: AtomicU64::new(0),
            twins: OnceLock::new(),
            tenants: RwLock::default(),
            demand: Arc::default(),
            open: Arc::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The twins that snapshots are taken from; called once at the start.
    pub fn attach(&self, twins: Arc<Twins>) {
        // A second call would be a second node; the first one stays.
        let _ = self.inner.twins.set(twins);
    }

    /// Names the data folder, so that a resume token of another one is recognised; called before subscriptions.
    pub fn set_origin(&self, origin: u64) {
        self.inner.origin.store(origin, Ordering::Release);
    }

    /// Ends all subscriptions.
    pub fn close(&self) {
        self.inner.close();
    }

    fn tenant(&self, tenant: &TenantId) -> Option<Arc<TenantHub>> {
        self.inner
            .tenants
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(tenant)
            .cloned()
    }

    /// Whether a tenant's subscribers want to hear of changes.
    ///
    /// Asked after a fold: either the answer knows of a new subscription, or that one's walk sees the fold.
    #[must_use]
    pub fn wants(&self, tenant: &TenantId) -> Wants {
        fence(Ordering::SeqCst);
        match self.inner.demand.most.load(Ordering::SeqCst) {
            0 => Wants::None,
            // Which of the tenants it is does not matter: `publish` finds out once per batch.
            1 => Wants::Latest,
            _ => match self.tenant(tenant).map(|hub| hub.wants.load(Ordering::SeqCst)) {
                None | Some(0) => Wants::None,
                Some(1) => Wants::Latest,
                Some(_) => Wants::Every,
            },
        }
    }

    /// Takes the list of twins that a shard's batch changed. Only puts it aside.
    pub fn publish(&self, tenant: &TenantId, changed: &[Arc<TwinSlot>]) {
        let Some(hub) = self.tenant(tenant) else { return };
        if hub.wants.load(Ordering::SeqCst) == 0 {
            return;
        }
        let first = hub
            .inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put_changed(changed);
        if first {
            hub.arrived.notify_one();
        }
    }

    /// Takes one revision for the `every` subscriptions, while its shard holds the twin.
    pub fn publish_revision(&self, twin: &Twin) {
        let Some(hub) = self.tenant(twin.id().tenant()) else {
            return;
        };
        let revision = Revision::of(twin, &hub.targets.load());
        let first = hub
            .inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put_revision(revision, &hub.settings);
        if first {
            hub.arrived.notify_one();
        }
    }

    /// Opens a subscription to a tenant's twins. Wait for the shards to have recovered before.
    pub fn subscribe(&self, tenant: &TenantId, spec: Spec) -> Result<Subscription, SubscribeError> {
        let refuse = |code, detail| Err(SubscribeError { code, detail });
        let Some(twins) = self.inner.twins.get() else {
            return refuse(
                "stream.unavailable",
                "the node is starting (try again in a second)".into(),
            );
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return refuse("stream.unavailable", "the node is stopping".into());
        };
        if spec.id.is_empty() || spec.id.len() > ID_MAX {
            return refuse(
                "subscription.invalid",
                format!("the id of a subscription has 1 to {ID_MAX} bytes"),
            );
        }
        let rate = spec.max_rate_hz.unwrap_or(self.inner.settings.max_rate_hz);
        if !rate.is_finite() || rate <= 0.0 {
            return refuse(
                "rate.invalid",
                "max_rate_hz has to be a number above 0 (leave it out for the default)".into(),
            );
        }
        let interval = Duration::from_secs_f64(1.0 / rate.clamp(RATE_HZ.0, RATE_HZ.1));
        let fields = Projection::of(spec.fields.as_deref());
        let fields = fields
            .map_err(|detail| SubscribeError {
                code: "fields.invalid",
                detail,
            })?
            .map(Arc::new);
        let filter_text = spec.filter.as_ref().map(|filter| filter.text().into());
        let key = GroupKey {
            filter: filter_text,
            fields,
            mode: spec.mode,
        };
        let scope = resume::scope(tenant, &key);
        let origin = self.inner.origin.load(Ordering::Acquire);
        let from = spec
            .resume
            .as_deref()
            .map(|token| resume::decode(token, origin, scope))
            .transpose()?;

        let open = self.inner.open.fetch_add(1, Ordering::AcqRel);
        // Counts it out again, also where it is refused below.
        let ticket = Open(self.inner.open.clone());
        if open >= self.inner.settings.subscriptions_max {
            metrics::counter!(names::REFUSED).increment(1);
            return refuse(
                "stream.too_many",
                format!("the node has {open} subscriptions (close some)"),
            );
        }
        metrics::gauge!(names::SUBSCRIPTIONS).set((open + 1) as f64);
        let hub = self.tenant_or_new(tenant, twins);
        let id = quoted(&spec.id);
        let mut state = hub.lock();
        if state.is_empty() {
            // Nothing was handed over until now, so the groups to come see all of this by walking.
            state.set_processed(hub.folded());
        }
        let group = state.join(key, spec.filter);
        let subscriber = state.subscribe(group, id, scope, interval, clock::instant());
        hub.update_demand(&state);
        if !state.working {
            state.working = true;
            runtime.spawn(work(hub.clone()));
        }
        let notify = state.notify(subscriber).unwrap_or_default();
        if state.filling(group).is_none() && from.is_none() {
            state.start(subscriber, Resume::default(), &[]);
        } else {
            runtime.spawn(prepare(hub.clone(), group, subscriber, from));
        }
        drop(state);
        Ok(Subscription::new(hub, subscriber, notify, ticket))
    }

    fn tenant_or_new(&self, tenant: &TenantId, twins: &Arc<Twins>) -> Arc<TenantHub> {
        if let Some(hub) = self.tenant(tenant) {
            return hub;
        }
        let mut tenants = self.inner.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            self.inner.demand.change(0, 0);
            // Rings of an earlier run have names before this moment: a million a second are never given.
            let names_from = u64::try_from(clock::now().ms()).unwrap_or_default() * 1_000;
            Arc::new(TenantHub {
                tenant: tenant.clone(),
                settings: self.inner.settings.clone(),
                origin: AtomicU64::new(self.inner.origin.load(Ordering::Acquire)),
                twins: twins.clone(),
                wants: AtomicU8::new(0),
                demand: self.inner.demand.clone(),
                targets: ArcSwap::default(),
                inbox: Mutex::default(),
                arrived: Notify::new(),
                state: Mutex::new(State::new(self.inner.settings.clone(), names_from)),
            })
        };
        tenants.entry(tenant.clone()).or_insert_with(make).clone()
    }
}

/// One open subscription, counted until it ends.
pub(super) struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        let open = self.0.fetch_sub(1, Ordering::AcqRel) - 1;
        metrics::gauge!(names::SUBSCRIPTIONS).set(open as f64);
    }
}

impl TenantHub {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn folded(&self) -> Arc<[u64]> {
        (0..self.twins.shards())
            .map(|shard| self.twins.folded_seq(shard))
            .collect()
    }

    fn take(&self) -> Taken {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Tells the shards what is wanted; called with the state held, whenever groups come or go.
    pub(super) fn update_demand(&self, state: &State) {
        if self.targets.load().generation != state.targets().generation {
            self.targets.store(Arc::new(state.targets().clone()));
        }
        let wants = if state.has(Mode::Every) {
            2
        } else {
            u8::from(state.has(Mode::Latest))
        };
        let before = self.wants.swap(wants, Ordering::SeqCst);
        if before != wants {
            self.demand.change(before, wants);
        }
        fence(Ordering::SeqCst);
    }

    /// Ends a subscription.
    pub(super) fn unsubscribe(&self, subscriber: u64) {
        let mut state = self.lock();
        state.unsubscribe(subscriber, clock::instant());
        self.update_demand(&state);
        if state.is_empty() {
            self.arrived.notify_one();
        }
    }
}

/// Looks at what comes in, as long as there are groups.
async fn work(hub: Arc<TenantHub>) {
    let mut wake = Wake::default();
    loop {
        // Nothing to do when nothing came: the time is for the sweep.
        let _ = tokio::time::timeout(SWEEP_EVERY, hub.arrived.notified()).await;
        loop {
            // What is visible now was handed over before, so it is in what is taken.
            let folded = hub.folded();
            let taken = hub.take();
            let idle = taken.is_empty();
            if !idle {
                look_at(&hub, taken, &mut wake).await;
            }
            hub.lock().set_processed(folded);
            if idle {
                break;
            }
        }
        let mut state = hub.lock();
        state.sweep(clock::instant());
        hub.update_demand(&state);
        if state.closed || state.is_empty() {
            state.working = false;
            // What is still handed over is for nobody.
            drop(hub.take());
            return;
        }
    }
}

async fn look_at(hub: &Arc<TenantHub>, mut taken: Taken, wake: &mut Wake) {
    metrics::gauge!(names::WAITING).set(taken.len() as f64);
    for changed in taken.changed.chunks(AT_A_TIME) {
        hub.lock().take_changed(changed, wake);
        wake.up();
        tokio::task::yield_now().await;
    }
    while !taken.revisions.is_empty() {
        hub.lock().take_revisions(&mut taken.revisions, AT_A_TIME, wake);
        wake.up();
        tokio::task::yield_now().await;
    }
    if taken.missed > 0 {
        warn!(tenant = %hub.tenant, missed = taken.missed, "revisions came faster than subscriptions to each of them take");
        for group in hub.lock().missed(taken.missed) {
            tokio::spawn(refill(hub.clone(), group));
        }
    }
    metrics::gauge!(names::WAITING).set(0.0);
}
