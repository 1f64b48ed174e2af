//! The data folder: opened with its journal and state store, or checked record by record.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use gemba_cluster::{Journal, JournalOptions};

use super::StartError;
use crate::{
    settings::NodeSettings,
    store::{Store, StoreError},
    uploads::Uploads,
};

pub(super) fn open(settings: NodeSettings) -> Result<(NodeSettings, Journal, Store, Uploads), StartError> {
    let folder_error = |error: std::io::Error| StartError::Folder {
        folder: settings.data_dir.display().to_string(),
        detail: error.to_string(),
    };
    std::fs::create_dir_all(settings.data_dir.join("journal")).map_err(folder_error)?;
    let state = settings.data_dir.join("state.redb");
    let opened = catch_unwind(AssertUnwindSafe(|| {
        Store::open(&state, settings.shards, settings.state_cache_bytes)
    }));
    let store = opened.unwrap_or_else(|_| {
        Err(StoreError::Io(
            "opening it panicked; remove state.redb, it is made again from the journal".into(),
        ))
    })?;
    let mut options = JournalOptions::new(settings.data_dir.join("journal"));
    options.segment_bytes = settings.segment_bytes;
    let journal = Journal::open(options).map_err(|error| StartError::Journal(error.to_string()))?;
    let uploads = Uploads::open(settings.data_dir.clone(), settings.uploads).map_err(folder_error)?;
    Ok((settings, journal, store, uploads))
}

/// What a check of a data folder found.
#[derive(Debug, Clone, Default)]
pub struct FolderReport {
    /// Records of the journal that are right.
    pub records: u64,
    /// Values of the state store that were looked at.
    pub values: u64,
    /// What is wrong, a line each.
    pub damage: Vec<String>,
}

/// Checks every record of the journal and every value of the state store of a folder that no node uses; `seen` hears
/// of the number checked so far. Blocks for as long as it takes.
pub fn verify(data_dir: &Path, seen: &mut dyn FnMut(u64)) -> Result<FolderReport, StartError> {
    let Some(shards) = shards_of(data_dir)? else {
        let detail = "it holds no state.redb".to_owned();
        return Err(StartError::Folder {
            folder: data_dir.display().to_string(),
            detail,
        });
    };
    let mut settings = NodeSettings::new(data_dir.to_owned());
    settings.shards = shards;
    let (_, journal, store, _) = open(settings)?;
    let found = journal.verify(seen);
    let mut report = FolderReport {
        records: found.records,
        values: 0,
        damage: found.damage,
    };
    let mut values = 0;
    report.damage.extend(store.verify(&mut |count| {
        values = count;
        seen(found.records + count);
    })?);
    report.values = values;
    journal.close();
    Ok(report)
}

/// The number of shards that a data folder was made with; `None` where there is no folder yet.
pub fn shards_of(data_dir: &Path) -> Result<Option<u16>, StartError> {
    Ok(Store::shards_of(&data_dir.join("state.redb"))?)
}
