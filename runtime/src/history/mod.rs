//! History as Parquet files: `tenant=…/kind=…/date=…/` in one folder, readable with DuckDB, Polars and Spark.
//!
//! Promises: each journaled reading and scan and each change of an alarm stands in exactly one file, also after
//! `kill -9`: what a file is to hold is noted before it is written, and its name follows from that. Reads the journal behind the shards, off the hot
//! path; the journal is trimmed only past what is written. Knows nothing of warehouses.

mod alarms;
mod columns;
mod compaction;
mod copies;
mod events;
mod export;
mod file;
mod reading;
mod rows;
mod sheet;
mod writer;

use std::{path::PathBuf, time::Duration};

pub(crate) use self::{
    alarms::{ALARMS_DUE, UnfiledAlarms},
    compaction::{compact, delete_older},
    copies::Copier,
    events::{Chunk, FiledEvents, tenants_in},
    file::{folder_of, name_of, replace, write as write_sheet},
    rows::{KINDS_OF_EVENTS, KPIS, ROLLUPS, STATES, address, day_of, is_filed, push_rollup, step_of},
    sheet::{Cell, Sheet},
    writer::{Filed, FlushError, Held, ShardWriter, filed_to},
};
pub use self::{
    copies::CopySettings,
    file::FileError,
    reading::{FiledRow, FiledRows, kinds},
};

/// How history is kept.
#[derive(Debug, Clone)]
pub struct HistorySettings {
    /// The folder; `None` keeps no files.
    pub folder: Option<PathBuf>,
    /// Events of a shard after which files are written.
    pub events: u64,
    /// Time after which files are written even if little happened.
    pub every: Duration,
    /// Period of rollups, KPIs and states.
    pub states_every: Duration,
    /// Days after which files are deleted; `None` keeps all.
    pub keep_days: Option<u32>,
    /// Where files are copied to, if anywhere.
    pub copies: Option<CopySettings>,
}

impl Default for HistorySettings {
    fn default() -> Self {
        Self {
            folder: None,
            // About 800,000 rows of machines with 8 metrics: some 8 MB in a file.
            events: 100_000,
            // With 16 shards 96 files an hour at most for a tenant; days that are over are compacted.
            every: Duration::from_secs(600),
            states_every: Duration::from_secs(3_600),
            keep_days: None,
            copies: None,
        }
    }
}
