//! A shard's journal, and what became of its alarms, into files, from a saved offset on.
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
    alarms::UnfiledAlarms,
    file::{self, FileError},
    rows::{ALARMS, day_of, push_alarm, push_event, schema_of},
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
    /// Ranges of seqs that are in no file, because the journal had given them up before.
    #[serde(default)]
    gaps: Vec<(u64, u64)>,
}

impl Default for Offset {
    fn default() -> Self {
        Self {
            next: 1,
            writing: None,
            changed_days: BTreeSet::new(),
            states_to: 0,
            gaps: Vec::new(),
        }
    }
}

impl Offset {
    /// As it was saved; from the beginning where it never was.
    fn load(root: &Path, shard: u16) -> Result<Self, FlushError> {
        let path = offset_path(root, shard);
        let unreadable = |detail: String| FlushError::Offset {
            path: path.display().to_string(),
            detail,
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| unreadable(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }
}

/// Up to which seq a shard's history stands in files.
pub(crate) fn filed_to(root: &Path, shard: u16) -> Result<u64, FlushError> {
    Ok(Offset::load(root, shard)?.next.saturating_sub(1))
}

/// What a shard's files hold.
pub(crate) struct Filed {
    offset: Offset,
}

impl Filed {
    /// As it was saved last.
    pub(crate) fn load(root: &Path, shard: u16) -> Result<Self, FlushError> {
        Ok(Self {
            offset: Offset::load(root, shard)?,
        })
    }

    /// From `first` on, up to which seq the files hold all, or nothing; and which of both.
    pub(crate) fn held(&self, first: u64, last: u64) -> (u64, bool) {
        if first >= self.offset.next {
            return (last, false);
        }
        let mut held_to = last.min(self.offset.next - 1);
        for (from, to) in &self.offset.gaps {
            if (*from..=*to).contains(&first) {
                return (last.min(*to), false);
            }
            if *from > first {
                held_to = held_to.min(*from - 1);
            }
        }
        (held_to, true)
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
        Ok(Self {
            root: root.to_owned(),
            shard,
            offset: Offset::load(root, shard)?,
        })
    }

    /// Saves where it stands.
    pub(crate) fn save(&self) -> Result<(), FlushError> {
        let text = serde_json::to_string(&self.offset).unwrap_or_default();
        Ok(file::replace(&offset_path(&self.root, self.shard), &text)?)
    }

    /// Writes all up to `until`, which was folded, into files.
    pub(crate) fn flush(
        &mut self,
        journal: &Journal,
        alarms: &UnfiledAlarms,
        until: u64,
    ) -> Result<(), FlushError> {
        if self.offset.writing.is_some_and(|(_, last)| last > until) {
            // What was planned before a restart is not folded again yet, so its alarms are not known.
            return Ok(());
        }
        let oldest = journal.first_seq(ShardId::new(self.shard)).get();
        if self.offset.next < oldest && self.offset.writing.is_none() {
            self.note_gap((self.offset.next, oldest - 1));
            self.offset.next = oldest;
        }
        while self.offset.next <= until {
            let last = self.offset.writing.map_or(until, |(_, last)| last);
            let (mut sheets, last, events) = self.collect(journal, last)?;
            self.push_alarms(&mut sheets, alarms, last);
            if self.offset.writing.is_none() {
                self.offset.writing = Some((self.offset.next, last));
                self.save()?;
            }
            self.write(&sheets, last)?;
            metrics::counter!(names::HISTORY_EVENTS).increment(events);
            self.offset.next = last + 1;
            self.offset.writing = None;
            self.save()?;
            alarms.filed(last);
        }
        Ok(())
    }

    /// Names seqs that no file will hold.
    fn note_gap(&mut self, (from, to): (u64, u64)) {
        if !self.offset.gaps.contains(&(from, to)) {
            let shard = self.shard;
            tracing::warn!(
                shard,
                from,
                to,
                "these events were trimmed before the history had them"
            );
            self.offset.gaps.push((from, to));
        }
    }

    /// The rows from where it stands to `last`, or to where there are enough.
    fn collect(
        &mut self,
        journal: &Journal,
        last: u64,
    ) -> Result<(BTreeMap<Place, Sheet>, u64, u64), FlushError> {
        let failed = |error: &dyn std::fmt::Display| FlushError::Journal(error.to_string());
        let planned = self.offset.writing.is_some();
        let first = self.offset.next;
        let (mut sheets, mut rows, mut events) = (BTreeMap::new(), 0, 0);
        let mut expected = first;
        for frame in journal.read(ShardId::new(self.shard), Seq::new(first)) {
            let frame = frame.map_err(|error| failed(&error))?;
            if frame.first().get() > expected && expected <= last {
                self.note_gap((expected, last.min(frame.first().get() - 1)));
            }
            expected = frame.last().get() + 1;
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

    fn push_alarms(&self, sheets: &mut BTreeMap<Place, Sheet>, alarms: &UnfiledAlarms, last: u64) {
        for notice in alarms.of(self.offset.next..=last) {
            let place = (
                notice.twin.tenant().clone(),
                ALARMS.kind,
                day_of(notice.change.at),
            );
            push_alarm(
                sheets.entry(place).or_insert_with(|| Sheet::new(&ALARMS)),
                &notice,
            );
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_hold_is_told_range_by_range() {
        let filed = Filed {
            offset: Offset {
                next: 100,
                gaps: vec![(10, 19), (50, 59)],
                ..Offset::default()
            },
        };
        for (first, last, expected) in [
            (1, 5, (5, true)),
            (1, 30, (9, true)),
            (10, 30, (19, false)),
            (12, 15, (15, false)),
            (20, 200, (49, true)),
            (60, 200, (99, true)),
            (100, 200, (200, false)),
        ] {
            assert_eq!(filed.held(first, last), expected, "{first} to {last}");
        }
    }
}
