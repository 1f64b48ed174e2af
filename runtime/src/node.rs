//! One node: opens the data folder, recovers the shards in the background, runs their actors, answers callers.
//!
//! Promises: `start` returns before the shards have recovered, and a caller waits only for the shard it asks for,
//! which is then recovered next; `stop` loses nothing. Knows nothing of HTTP or of who may ask what.

mod alarms;
mod backup;
mod checkpoint;
mod command;
mod commands;
mod copies;
mod dashboards;
pub mod flow;
mod folder;
pub mod fork;
mod health;
mod history;
mod limits;
mod membership;
mod read;
mod recovered;
pub mod refold;
mod room;
mod uploads;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use gemba_cluster::Journal;
use gemba_twins::{id::TenantId, time::Timestamp};
use ractor::Actor;
use thiserror::Error;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};
use tracing::error;

pub use self::alarms::{AlarmFigures, AlarmQuery, AlarmsPage, PastChange};
pub use self::backup::{BackupError, BackupPiece};
pub use self::command::CommandError;
pub use self::folder::{FolderReport, shards_of, verify};
pub(crate) use self::health::Health;
pub use self::membership::{
    Calls, ClusterView, DrainError, Draining, Following, NodeView, PassedCall, PassedReply, ShardView, Wanted,
};
pub use self::read::{EventsPage, HistoryPoint, ReadError, RejectedItem, Step};
use crate::{
    accounts::Accounts,
    changes::Hub,
    checkpoint::Checkpoint,
    clock,
    cluster::Membership,
    gate::Gate,
    history::Copier,
    ingest::Ingest,
    metric_definitions,
    notify::Notifier,
    plants::PlantDirectory,
    settings::NodeSettings,
    shard::{Router, ShardActor, ShardArguments, ShardMsg, Shared, recover, router::control_number},
    store::Store,
    table::{Recovery, TwinTable, Twins},
    uploads::Uploads,
};
pub use crate::{accounts::SourceCounts, plants::AppliedPlant, store::StoreError};

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The folder cannot be made or read.
    #[error(
        "failed to open the data folder {folder}: {detail} (does it exist, is it writable, does another node use it?)"
    )]
    Folder {
        /// The folder.
        folder: String,
        /// What went wrong.
        detail: String,
    },
    /// The journal cannot be opened.
    #[error("failed to open the journal: {0}")]
    Journal(String),
    /// The state store cannot be opened.
    #[error("failed to open the state store: {0}")]
    Store(#[from] StoreError),
    /// A shard did not come back.
    #[error(transparent)]
    NotRecovered(StoreError),
    /// The node cannot be a member of its cluster.
    #[error("failed to take part in the cluster: {0}")]
    Cluster(String),
    /// The history's files cannot be copied to where the settings say.
    #[error("history.copy_to: {0}")]
    Copies(String),
    /// The checkpoint's settings cannot work.
    #[error("snowflake: {0}")]
    Checkpoint(String),
}

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Arc<NodeSettings>,
    journal: Journal,
    store: Arc<Store>,
    twins: Arc<Twins>,
    control: Arc<TwinTable>,
    hub: Hub,
    plants: Arc<PlantDirectory>,
    notifier: Arc<Notifier>,
    gate: Arc<Gate>,
    accounts: Arc<Accounts>,
    router: Arc<Router>,
    ingest: Ingest,
    health: Arc<Health>,
    /// Shards still to recover; the control shard is first, then those that somebody waits for.
    to_recover: Mutex<VecDeque<u16>>,
    /// The shard actors' tasks: when they have ended, their files are let go.
    actors: Mutex<Vec<JoinHandle<()>>>,
    started_at: Timestamp,
    stopping: AtomicBool,
    history: Arc<Mutex<history::HistoryState>>,
    /// Where the node's shards are replicated.
    cluster: Membership,
    checkpoint: Option<Arc<Checkpoint>>,
    copier: Option<Arc<Copier>>,
    uploads: Uploads,
    backups: backup::Backups,
}

impl Node {
    /// Opens the data folder and starts the node; the shards recover in the background.
    pub async fn start(settings: NodeSettings) -> Result<Self, StartError> {
        metric_definitions::describe();
        let opened = tokio::task::spawn_blocking(move || folder::open(settings)).await;
        let (settings, journal, store, uploads) = opened.map_err(|error| {
            StartError::Journal(format!("opening it panicked: {error} (restore from a backup)"))
        })??;
        let store = Arc::new(store);
        let twins = Arc::new(Twins::new(settings.shards, store.clone()));
        let hub = Hub::new(settings.hub.clone());
        hub.attach(twins.clone());
        let plants = Arc::new(PlantDirectory::new());
        let notifier = Arc::new(Notifier::new(settings.notify.clone(), &store)?);
        let gate = Gate::new(settings.admission);
        let accounts = Arc::new(Accounts::new(clock::now()));
        let router = Arc::new(Router::new(settings.shards));
        let ingest = Ingest::new(gate.clone(), accounts.clone(), plants.clone(), router.clone());
        let checkpoint = checkpoint::of(&settings, &journal)?;
        let to_recover = std::iter::once(control_number())
            .chain(0..settings.shards)
            .collect();
        let (settings, control) = (Arc::new(settings), TwinTable::new(control_number()));
        let health = Arc::<Health>::default();
        let shared = Shared {
            settings: settings.clone(),
            store: store.clone(),
            hub: hub.clone(),
            plants: plants.clone(),
            notifier: notifier.clone(),
        };
        let tables = (twins.clone(), control.clone());
        let cluster = membership::of(shared, &journal, router.clone(), tables, &health).await?;
        let copier = copies::of(&settings, cluster.as_ref().map(|cluster| cluster.node))?;
        let node = Self {
            inner: Arc::new(Inner {
                settings,
                journal,
                store,
                twins,
                control,
                hub,
                plants,
                notifier,
                gate,
                accounts,
                router,
                ingest,
                health,
                to_recover: Mutex::new(to_recover),
                actors: Mutex::default(),
                started_at: clock::now(),
                stopping: AtomicBool::new(false),
                history: Arc::default(),
                cluster,
                checkpoint,
                copier,
                uploads,
                backups: backup::Backups::default(),
            }),
        };
        match node.inner.cluster.clone() {
            None => node.recover_in_background(),
            Some(cluster) => node.open_when_caught_up(cluster),
        }
        tokio::spawn(turn(Arc::downgrade(&node.inner)));
        let state = node.inner.history.clone();
        tokio::spawn(history::run(Arc::downgrade(&node.inner), state));
        if let Some(checkpoint) = &node.inner.checkpoint {
            if let Some(cluster) = &node.inner.cluster {
                let of = checkpoint.clone();
                cluster.set_floors(Box::new(move |shard| of.floor(shard)));
            }
            tokio::spawn(checkpoint::run(Arc::downgrade(&node.inner), checkpoint.clone()));
        }
        if node.inner.copier.is_some() {
            tokio::spawn(copies::run(Arc::downgrade(&node.inner)));
        }
        node.load_uploads();
        Ok(node)
    }

    fn recover_in_background(&self) {
        let snapshots = Arc::new(Semaphore::new(1));
        let workers = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        for _ in 0..workers {
            let (node, snapshots) = (self.clone(), snapshots.clone());
            tokio::spawn(async move {
                while let Some(number) = node.next_to_recover() {
                    node.recover_shard(number, snapshots.clone()).await;
                }
            });
        }
    }

    fn next_to_recover(&self) -> Option<u16> {
        self.inner
            .to_recover
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    async fn recover_shard(&self, number: u16, snapshots: Arc<Semaphore>) {
        let table = self.table(number);
        let recovery = match self.bring_back(number, table.clone(), snapshots).await {
            Ok(()) => Recovery::Done,
            Err(problem) => {
                error!(shard = number, %problem, "shard not recovered; its twins cannot be read");
                self.inner.health.broken.store(true, Ordering::Release);
                Recovery::Failed
            }
        };
        table.set_recovery(recovery);
    }

    /// Recovers a shard and starts its actor.
    async fn bring_back(
        &self,
        number: u16,
        table: Arc<TwinTable>,
        snapshots: Arc<Semaphore>,
    ) -> Result<(), String> {
        let inner = &self.inner;
        let shared = Shared {
            settings: inner.settings.clone(),
            store: inner.store.clone(),
            hub: inner.hub.clone(),
            plants: inner.plants.clone(),
            notifier: inner.notifier.clone(),
        };
        let journal = inner.journal.clone();
        let recovered =
            tokio::task::spawn_blocking(move || recover(number, shared, table, &journal, u64::MAX)).await;
        let core = recovered
            .map_err(|panicked| format!("its recovery panicked: {panicked}"))?
            .map_err(|problem| problem.to_string())?;
        let arguments = ShardArguments {
            core,
            journal: inner.journal.clone(),
            router: inner.router.clone(),
            snapshots,
            health: inner.health.clone(),
            is_replicated: false,
        };
        let (actor, task) = Actor::spawn(None, ShardActor, arguments)
            .await
            .map_err(|problem| format!("its actor did not start: {problem}"))?;
        inner.router.set_actor(number, actor);
        inner
            .actors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(task);
        Ok(())
    }

    fn table(&self, number: u16) -> Arc<TwinTable> {
        if number == control_number() {
            self.inner.control.clone()
        } else {
            self.inner.twins.tables[usize::from(number)].clone()
        }
    }

    /// Finishes what is under way, writes a snapshot of each shard, and closes the journal.
    pub async fn stop(&self) {
        if self.inner.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        // A shard that has not recovered has nothing to write, but its actor may be about to start.
        self.inner
            .to_recover
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        if let Some(cluster) = &self.inner.cluster {
            cluster.close().await;
        }
        for actor in self.inner.router.actors() {
            let (stopped, done) = oneshot::channel();
            if actor.cast(ShardMsg::Stop(stopped)).is_ok() {
                // An actor that ended without an answer has failed its callers already.
                let _ = done.await;
            }
        }
        let mut tasks =
            std::mem::take(&mut *self.inner.actors.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.extend(self.inner.cluster.iter().flat_map(|cluster| cluster.take_tasks()));
        for task in tasks {
            // A panic of an actor has been printed.
            let _ = task.await;
        }
        if let Some(checkpoint) = &self.inner.checkpoint {
            checkpoint.stop();
        }
        let inner = self.inner.clone();
        let end = move || {
            inner.history_turn(&inner.history, true);
            // The journal's last commit is behind us; closing only ends its thread.
            inner.journal.close();
        };
        // A history that panicked has said so, and goes on at the next start.
        let _ = tokio::task::spawn_blocking(end).await;
    }

    /// The way in.
    #[must_use]
    pub fn ingest(&self) -> &Ingest {
        &self.inner.ingest
    }

    /// Files that come in parts.
    #[must_use]
    pub fn uploads(&self) -> &Uploads {
        &self.inner.uploads
    }

    /// All twins, for reading.
    #[must_use]
    pub fn twins(&self) -> &Arc<Twins> {
        &self.inner.twins
    }

    /// Subscriptions.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// What the node was started with.
    #[must_use]
    pub fn settings(&self) -> &NodeSettings {
        &self.inner.settings
    }

    /// When the node was started.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.inner.started_at
    }

    /// Whether the last append failed, or a shard cannot go on.
    #[must_use]
    pub fn storage_failed(&self) -> bool {
        self.inner.health.storage_failed() || self.inner.health.broken.load(Ordering::Acquire)
    }

    /// The plant model in force.
    #[must_use]
    pub fn plant(&self, tenant: &TenantId) -> Option<Arc<AppliedPlant>> {
        self.inner.plants.plant(tenant)
    }

    /// All tenants with a plant model.
    #[must_use]
    pub fn plants(&self) -> Vec<(TenantId, Arc<AppliedPlant>)> {
        self.inner.plants.all()
    }

    /// How many messages of each source ended how.
    #[must_use]
    pub fn counts(&self, tenant: &TenantId) -> Vec<SourceCounts> {
        self.inner.accounts.counts(tenant)
    }
}

/// Tells the shards each second what time it is.
async fn turn(node: std::sync::Weak<Inner>) {
    let mut seconds = tokio::time::interval(std::time::Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        seconds.tick().await;
        let Some(inner) = node.upgrade() else { return };
        if inner.stopping.load(Ordering::Acquire) {
            return;
        }
        let now = clock::now();
        for actor in inner.router.actors() {
            // An actor that ended needs no time.
            let _ = actor.cast(ShardMsg::Turn(now));
        }
        let (messages, bytes) = inner.gate.under_way();
        metrics::gauge!(metric_definitions::UNDER_WAY_MESSAGES).set(messages as f64);
        metrics::gauge!(metric_definitions::UNDER_WAY_BYTES).set(bytes as f64);
    }
}
