//! What a node can be told: folders, limits, periods. Valid values only; reading files and flags is the api's task.
//!
//! Every queue, cache and batch of the runtime has its limit here, with the reason for its default.

use std::{path::PathBuf, time::Duration};

use crate::{changes::HubSettings, history::HistorySettings, notify::Destination};

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
    /// History as files.
    pub history: HistorySettings,
    /// Subscriptions' limits.
    pub hub: HubSettings,
    /// Who is told what becomes of alarms.
    pub notify: Vec<Destination>,
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
            // Replay folds about a million events a second and shards recover two at a time, so that the shard
            // which a query asks for is there within a second.
            snapshot_events: 100_000,
            snapshot_every: Duration::from_secs(60),
            // About 3 KB each: below 1 GB.
            resident_twins: 250_000,
            passivate_after: Duration::from_secs(15 * 60),
            rejected_kept: 10_000,
            state_cache_bytes: 128 << 20,
            history: HistorySettings::default(),
            hub: HubSettings::default(),
            notify: Vec::new(),
            bench_skip_fold: false,
        }
    }
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
