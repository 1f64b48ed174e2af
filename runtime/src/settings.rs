//! What a node can be told: folders, limits, periods. Valid values only; reading files and flags is the api's task.
//!
//! Every queue, cache and batch of the runtime has its limit here, with the reason for its default.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    changes::HubSettings, checkpoint::SnowflakeSettings, history::HistorySettings, notify::Destination,
    uploads::UploadLimits,
};

/// The settings of one node.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Holds `journal/` and `state.redb`; made when absent.
    pub data_dir: PathBuf,
    /// Number of shards; fixed when the data folder is made.
    pub shards: u16,
    /// What may be under way between a connector and the journal.
    pub admission: AdmissionLimits,
    /// Messages whose repetition is recognised, per shard.
    pub dedupe_window: usize,
    /// Largest logical size of a journal segment, in bytes.
    pub segment_bytes: u64,
    /// Age after which the journal's events may be deleted, segment by segment; `None` keeps all.
    pub journal_retention: Option<Duration>,
    /// How large the journal may get, and how far a destination may lag.
    pub journal_limits: JournalLimits,
    /// Events folded by a shard after which it writes a snapshot.
    pub snapshot_events: u64,
    /// Time after which a shard that changed writes a snapshot even if little happened.
    pub snapshot_every: Duration,
    /// Most twins kept in memory on this node; beyond it, the ones touched longest ago are passivated.
    pub resident_twins: usize,
    /// Time without a touch after which a twin is passivated.
    pub passivate_after: Duration,
    /// Most rejected messages kept per tenant; beyond it the oldest goes, counted.
    pub rejected_kept: usize,
    /// Cache of `state.redb`, in bytes.
    pub state_cache_bytes: usize,
    /// History into Snowflake, if there is to be any.
    pub snowflake: Option<Arc<SnowflakeSettings>>,
    /// History as files.
    pub history: HistorySettings,
    /// What uploads may take.
    pub uploads: UploadLimits,
    /// Subscriptions' limits.
    pub hub: HubSettings,
    /// Who is told what becomes of alarms.
    pub notify: Vec<Destination>,
    /// The cluster that the node is a member of; `None` where it is alone.
    pub cluster: Option<ClusterSettings>,
    /// Journal everything but fold nothing: the limit that `gemba bench ingest` measures against.
    pub bench_skip_fold: bool,
}

impl NodeSettings {
    /// The defaults over a data folder.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            shards: 16,
            admission: AdmissionLimits::default(),
            // 16 shards of it: 2 million messages, half an hour at 1,000 messages/s, at 32 bytes each.
            dedupe_window: 131_072,
            // redb doubles a file as it grows, so 448 MiB of frames stay within a file of 1 GiB.
            segment_bytes: 448 << 20,
            journal_retention: None,
            journal_limits: JournalLimits::default(),
            // Replay folds about a million events a second and shards recover two at a time, so that the shard
            // which a query asks for is there within a second.
            snapshot_events: 100_000,
            snapshot_every: Duration::from_secs(60),
            // About 3 KB each: below 1 GB.
            resident_twins: 250_000,
            passivate_after: Duration::from_secs(15 * 60),
            rejected_kept: 10_000,
            state_cache_bytes: 128 << 20,
            snowflake: None,
            history: HistorySettings::default(),
            uploads: UploadLimits::default(),
            hub: HubSettings::default(),
            notify: Vec::new(),
            cluster: None,
            bench_skip_fold: false,
        }
    }
}

/// How a node is a member of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// Where the cluster's port listens.
    pub listen: SocketAddr,
    /// Where the others reach it: `HOST:PORT`.
    pub advertise: String,
    /// The certificates of the authorities to trust, as PEM.
    pub authorities: String,
    /// The node's certificate as PEM; it names the cluster and the node's number.
    pub certificate: String,
    /// Its key as PEM.
    pub key: String,
    /// Members to ask when the data folder is of no cluster yet: `HOST:PORT`.
    pub join: Vec<String>,
    /// Whether the node may make the cluster when nobody of `join` answers.
    pub founds: bool,
    /// What fails together with the node.
    pub zone: String,
    /// Copies of each shard, when the cluster is made.
    pub copies: usize,
    /// Silence after which a node's shards are copied elsewhere; zero never.
    pub gone_after: Duration,
    /// Whether owners are moved to where the map wants them.
    pub rebalances: bool,
    /// Between two heartbeats of an owner; one that is silent for five to ten of them is replaced.
    pub heartbeat: Duration,
}

/// How large the journal may get while a destination does not take what it holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct JournalLimits {
    /// Bytes of frames; `None` sets no limit.
    pub bytes: Option<u64>,
    /// Age of the oldest event that a destination has not committed; `None` sets no limit.
    pub lag: Option<Duration>,
    /// What happens at a limit.
    pub when_full: WhenFull,
}

/// What happens when the journal is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// New data is refused (HTTP 429, MQTT unacknowledged) until there is room.
    #[default]
    Refuse,
    /// What stands in the history's files goes although the warehouse does not have it: it gets it from them later.
    Spill,
}

/// What may be under way between a connector and the journal, before anything else is refused.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// Messages of all tenants.
    pub node_messages: usize,
    /// Bytes of all tenants.
    pub node_bytes: usize,
    /// Messages of one tenant.
    pub tenant_messages: usize,
    /// Bytes of one tenant.
    pub tenant_bytes: usize,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        // A decoded reading takes about 1 KB until it is folded: 200,000 messages are 200 MB at most. One tenant
        // may take three quarters, so that the others are never shut out.
        Self {
            node_messages: 200_000,
            node_bytes: 64 << 20,
            tenant_messages: 150_000,
            tenant_bytes: 48 << 20,
        }
    }
}
