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
    events::Chunk,
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
    #[error("what the journal here does not go back to is asked of the other nodes: {0}")]
    Elsewhere(String),
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

    /// What the files hold from `first` on.
    pub(crate) fn held(&self, first: u64, last: u64) -> Held {
        if first >= self.offset.next {
            return Held::NotYet;
        }
        let mut held_to = last.min(self.offset.next - 1);
        for (from, to) in &self.offset.gaps {
            if (*from..=*to).contains(&first) {
                return Held::Never(last.min(*to));
            }
            if *from > first {
                held_to = held_to.min(*from - 1);
            }
        }
        Held::Here(held_to)
    }
}

/// What files hold from a seq on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// All up to this seq.
    Here(u64),
    /// Nothing up to this seq, and they never will.
    Never(u64),
    /// Nothing so far.
    NotYet,
}

/// Who may have what a journal here does not go back to: a shard's events from a seq to another one, or the first of them;
/// `None` where nobody has any.
pub(crate) type Past<'a> = &'a dyn Fn(u16, u64, u64) -> Result<Option<Chunk>, String>;

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
        if self.lacks(journal).is_some() {
            return Ok(());
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

    /// The last seq that is neither in files nor in the journal here, if there are any.
    pub(crate) fn lacks(&self, journal: &Journal) -> Option<u64> {
        let oldest = journal.first_seq(ShardId::new(self.shard)).get();
        (self.offset.next < oldest).then_some(oldest - 1)
    }

    /// Writes what is elsewhere of the seqs up to `to`, or the first of them, as one range: there may be much of it, and
    /// other shards wait for their turn.
    pub(crate) fn fill(&mut self, to: u64, past: Past<'_>) -> Result<(), FlushError> {
        let planned = self.offset.writing.map(|(_, last)| last);
        let (first, until) = (self.offset.next, planned.unwrap_or(to));
        let (mut sheets, mut rows, mut next) = (BTreeMap::new(), 0, first);
        while next <= until && (planned.is_some() || rows < ROWS_MAX) {
            let chunk = past(self.shard, next, until).map_err(FlushError::Elsewhere)?;
            let Some(Chunk { first, last, events }) = chunk else {
                self.note_gap((next, until));
                next = until + 1;
                break;
            };
            if first > next {
                self.note_gap((next, first - 1));
            }
            for (seq, event) in events.range(next..=until) {
                rows += self.push(&mut sheets, *seq, event);
            }
            metrics::counter!(names::HISTORY_EVENTS).increment(events.len() as u64);
            next = last.min(until).max(next) + 1;
        }
        self.offset.writing = Some((first, next - 1));
        self.save()?;
        self.write(&sheets, next - 1)?;
        self.offset.next = next;
        self.offset.writing = None;
        self.save()
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
            (1, 5, Held::Here(5)),
            (1, 30, Held::Here(9)),
            (10, 30, Held::Never(19)),
            (12, 15, Held::Never(15)),
            (20, 200, Held::Here(49)),
            (60, 200, Held::Here(99)),
            (100, 200, Held::NotYet),
        ] {
            assert_eq!(filed.held(first, last), expected, "{first} to {last}");
        }
    }
}
