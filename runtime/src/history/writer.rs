//! A shard's journal into files, from a saved offset on.
//!
//! Promises: the range of seqs that a set of files holds is saved before they are written and the offset after, so a
//! crash in between writes the same files again under the same names. Damage of the journal stops the shard's history
//! where it is, never the shard. Knows nothing of when it is called.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use gemba_cluster::{Journal, Seq, ShardId};
use gemba_twins::{event::Event, id::TenantId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    file::{self, FileError},
    rows::{day_of, push_event, schema_of},
    sheet::Sheet,
};
use crate::{
    metric_definitions as names,
    shard::record::{self, Record},
};

/// Rows after which a range ends: bounds the memory, about 130 bytes each.
const ROWS_MAX: usize = 400_000;

/// Why a shard's history does not go on.
#[derive(Debug, Error)]
pub(crate) enum FlushError {
    #[error(transparent)]
    Write(#[from] FileError),
    #[error("the journal cannot be read for the history: {0}")]
    Journal(String),
    #[error(
        "{path} cannot be read: {detail} (remove it to write the shard's history again from the journal's beginning)"
    )]
    Offset { path: String, detail: String },
}

/// Where a shard's history stands; kept as JSON in `_state/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offset {
    /// The first seq that is in no file.
    pub(crate) next: u64,
    /// The range that was about to be written: it may be there in part.
    writing: Option<(u64, u64)>,
    /// Days, by tenant, whose rollups changed since they were written.
    pub(crate) changed_days: BTreeSet<(String, String)>,
    /// Up to which seq twins' states are written.
    pub(crate) states_to: u64,
}

impl Default for Offset {
    fn default() -> Self {
        Self {
            next: 1,
            writing: None,
            changed_days: BTreeSet::new(),
            states_to: 0,
        }
    }
}

/// Writes one shard's history.
pub(crate) struct ShardWriter {
    root: PathBuf,
    shard: u16,
    pub(crate) offset: Offset,
}

/// A file's place: tenant, kind, day.
type Place = (TenantId, &'static str, String);

impl ShardWriter {
    /// Goes on where the last one ended.
    pub(crate) fn open(root: &Path, shard: u16) -> Result<Self, FlushError> {
        let path = offset_path(root, shard);
        let unreadable = |detail: String| FlushError::Offset {
            path: path.display().to_string(),
            detail,
        };
        let offset = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Offset::default(),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        Ok(Self {
            root: root.to_owned(),
            shard,
            offset,
        })
    }

    /// Saves where it stands.
    pub(crate) fn save(&self) -> Result<(), FlushError> {
        let text = serde_json::to_string(&self.offset).unwrap_or_default();
        Ok(file::replace(&offset_path(&self.root, self.shard), &text)?)
    }

    /// Writes all up to `until` into files.
    pub(crate) fn flush(&mut self, journal: &Journal, until: u64) -> Result<(), FlushError> {
        let oldest = journal.first_seq(ShardId::new(self.shard)).get();
        if self.offset.next < oldest && self.offset.writing.is_none() {
            tracing::warn!(
                shard = self.shard,
                from = self.offset.next,
                to = oldest - 1,
                "these events were trimmed before the history had them"
            );
            self.offset.next = oldest;
        }
        while self.offset.next <= until {
            let last = self.offset.writing.map_or(until, |(_, last)| last);
            let (sheets, last, events) = self.collect(journal, last)?;
            if self.offset.writing.is_none() {
                self.offset.writing = Some((self.offset.next, last));
                self.save()?;
            }
            self.write(&sheets, last)?;
            metrics::counter!(names::HISTORY_EVENTS).increment(events);
            self.offset.next = last + 1;
            self.offset.writing = None;
            self.save()?;
        }
        Ok(())
    }

    /// The rows from where it stands to `last`, or to where there are enough.
    fn collect(
        &self,
        journal: &Journal,
        last: u64,
    ) -> Result<(BTreeMap<Place, Sheet>, u64, u64), FlushError> {
        let failed = |error: &dyn std::fmt::Display| FlushError::Journal(error.to_string());
        let planned = self.offset.writing.is_some();
        let first = self.offset.next;
        let (mut sheets, mut rows, mut events) = (BTreeMap::new(), 0, 0);
        for frame in journal.read(ShardId::new(self.shard), Seq::new(first)) {
            let frame = frame.map_err(|error| failed(&error))?;
            for (seq, bytes) in (frame.first().get()..).zip(frame.records()) {
                if seq < first {
                    continue;
                }
                if seq > last {
                    return Ok((sheets, last, events));
                }
                if let Record::Event(event) = record::decode(bytes).map_err(|error| failed(&error))? {
                    rows += self.push(&mut sheets, seq, &event);
                    events += 1;
                }
                if rows >= ROWS_MAX && !planned {
                    return Ok((sheets, seq, events));
                }
            }
        }
        Ok((sheets, last, events))
    }

    fn push(&self, sheets: &mut BTreeMap<Place, Sheet>, seq: u64, event: &Event) -> usize {
        let Some(schema) = schema_of(event) else { return 0 };
        let place = (event.twin.tenant().clone(), schema.kind, day_of(event.at));
        let sheet = sheets.entry(place).or_insert_with(|| Sheet::new(schema));
        let before = sheet.rows();
        push_event(sheet, self.shard, seq, event);
        sheet.rows() - before
    }

    fn write(&mut self, sheets: &BTreeMap<Place, Sheet>, last: u64) -> Result<(), FlushError> {
        let first = self.offset.next;
        let name = file::name_of(self.shard, first, last);
        let says = [
            ("gemba.shard", self.shard.to_string()),
            ("gemba.first_seq", first.to_string()),
            ("gemba.last_seq", last.to_string()),
        ];
        for ((tenant, kind, day), sheet) in sheets {
            let folder = file::folder_of(&self.root, tenant, sheet.schema(), day);
            let bytes = file::write(&folder, &name, sheet, &says)?;
            metrics::counter!(names::HISTORY_BYTES, "kind" => *kind).increment(bytes);
            metrics::counter!(names::HISTORY_ROWS, "kind" => *kind).increment(sheet.rows() as u64);
            if *kind == super::rows::READINGS.kind {
                self.offset
                    .changed_days
                    .insert((tenant.as_str().to_owned(), day.clone()));
            }
        }
        Ok(())
    }
}

fn offset_path(root: &Path, shard: u16) -> PathBuf {
    root.join("_state").join(format!("{shard:05}.json"))
}
