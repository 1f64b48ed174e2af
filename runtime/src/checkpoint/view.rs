//! How a channel stands, for people and metrics.

use std::collections::BTreeMap;

use gemba_twins::{id::TenantId, time::Timestamp};
use serde::Serialize;

use super::place::{Kept, Place};

/// What a channel is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    /// It has not been opened yet.
    #[default]
    Starting,
    /// Rows go as they come.
    Running,
    /// The last request failed; it is tried again.
    Retrying,
    /// The warehouse does not answer, and is asked now and then.
    Waiting,
    /// Another writer has taken it; this one sends nothing.
    Fenced,
    /// The warehouse has more than this journal: the data folder is not the one that wrote it.
    Ahead,
    /// The warehouse refuses what is asked.
    Refused,
    /// Another node of the cluster owns the shard, and sends.
    Standby,
}

/// A channel as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelView {
    /// `snowflake`, or `files` for the history's Parquet files.
    pub destination: &'static str,
    /// What it holds: `readings`, `scans`, `twins` for what twins compute, or `all` for files.
    pub stream: &'static str,
    /// Where rows go; absent for files.
    pub table: Option<&'static str>,
    /// The channel's name; absent for files, and for what goes by SQL.
    pub channel: Option<String>,
    /// The shard.
    pub shard: u16,
    /// What it is doing.
    pub state: ChannelState,
    /// The newest seq that the destination said is committed.
    pub committed_seq: u64,
    /// The newest seq that was looked at and sent where it is a row.
    pub sent_seq: u64,
    /// The newest seq of the shard.
    pub newest_seq: u64,
    /// Events of the shard's journal that are not known to be committed, of all kinds and tenants.
    pub lag_events: u64,
    /// What these come to as rows, in bytes, by the mean of the rows before.
    pub lag_bytes: u64,
    /// Age of the oldest of them in seconds; null where there is none.
    pub lag_s: Option<f64>,
    /// Rows sent since the start that were committed.
    pub rows_committed: u64,
    /// When the destination last said that it has committed more.
    pub committed_at: Option<Timestamp>,
    /// How often it was opened again, by reason.
    pub reopens: BTreeMap<&'static str, u64>,
    /// Rows that the warehouse refused and that are written down in `checkpoint/dead-letters`.
    pub dead_letters: u64,
    /// Ranges of seqs that the journal gave up before they were sent, and that no file of the history holds.
    pub missing: Vec<(u64, u64)>,
    /// What went wrong last.
    pub last_error: Option<String>,
    #[serde(skip)]
    pub(crate) tenant: Option<TenantId>,
    /// Up to this seq every row is committed, or there is none.
    #[serde(skip)]
    pub(crate) clear_to: u64,
    /// Mean bytes of a row.
    #[serde(skip)]
    pub(crate) row_bytes: f64,
}

impl ChannelView {
    pub(super) fn new(place: &Place, channel: Option<String>) -> Self {
        Self {
            destination: "snowflake",
            stream: place.table.word(),
            table: Some(place.table.name()),
            channel,
            tenant: Some(place.tenant.clone()),
            ..Self::of_files(place.shard)
        }
    }

    /// The history's files of a shard.
    pub(crate) fn of_files(shard: u16) -> Self {
        Self {
            destination: "files",
            stream: "all",
            table: None,
            channel: None,
            shard,
            state: ChannelState::default(),
            committed_seq: 0,
            sent_seq: 0,
            newest_seq: 0,
            lag_events: 0,
            lag_bytes: 0,
            lag_s: None,
            rows_committed: 0,
            committed_at: None,
            reopens: BTreeMap::new(),
            dead_letters: 0,
            missing: Vec::new(),
            last_error: None,
            tenant: None,
            clear_to: 0,
            row_bytes: 0.0,
        }
    }

    /// Takes over how its channel stands; what was said last stays until it runs again.
    pub(super) fn stand(&mut self, state: ChannelState, kept: &Kept, sent: u64, says: Option<String>) {
        self.state = state;
        self.committed_seq = kept.committed;
        self.clear_to = kept.clear_to;
        self.sent_seq = sent;
        self.dead_letters = kept.dead_letters;
        self.missing.clone_from(&kept.missing);
        if says.is_some() || state == ChannelState::Running {
            self.last_error = says;
        }
    }

    /// The view with what is known of the shard now.
    pub(crate) fn at(mut self, newest: u64, oldest: Option<Timestamp>, now: Timestamp) -> Self {
        self.newest_seq = newest;
        self.lag_events = newest.saturating_sub(self.clear_to);
        self.lag_bytes = (self.lag_events as f64 * self.row_bytes) as u64;
        self.lag_s = oldest
            .filter(|_| self.lag_events > 0)
            .map(|oldest| (now.ms() - oldest.ms()).max(0) as f64 / 1_000.0);
        self
    }
}
