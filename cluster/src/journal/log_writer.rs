//! The log's side of the journal's thread: what it admits, writes, cuts and begins anew.
//!
//! Promises: what a crash leaves half done over several segments is finished when the journal opens. Knows nothing of
//! who asks.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use redb::{ReadableDatabase, WriteTransaction};

use super::{
    AppendError, Extent,
    committer::Writer,
    entries::{self, Entry, LogBase, LogPlace, Row, Said},
    log::Answered,
    segment::{Segment, begin},
};
use crate::{Epoch, Seq, ShardId, metrics as names};

/// Entries to append.
pub(super) struct LogAppend {
    pub(super) shard: ShardId,
    pub(super) entries: Vec<Entry>,
    pub(super) done: Answered,
}

/// A change of a log.
pub(super) enum LogJob {
    Append(LogAppend),
    /// Removes the entries from an index on, with their frames.
    Truncate {
        shard: ShardId,
        from: u64,
        done: Answered,
    },
    /// Begins the log: over the frames that are there, or anew without them.
    Begin {
        shard: ShardId,
        base: LogBase,
        anew: bool,
        done: Answered,
    },
    /// Nobody needs the entries up to an index, nor the records up to a seq.
    Purge {
        shard: ShardId,
        index: u64,
        seq: u64,
        done: Answered,
    },
}

impl LogJob {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.entries.iter().map(Entry::length).sum(),
            _ => 0,
        }
    }
}

/// Entries that are in the transaction under way.
pub(super) struct Logged {
    pub(super) shard: ShardId,
    pub(super) rows: Vec<Row>,
    /// Set for the first entries of a log that has no base yet.
    base: Option<LogBase>,
    last: LogPlace,
    extent: Extent,
    first_frame: Option<u64>,
    done: Answered,
}

impl Logged {
    /// Writes the base of a log that begins with these entries.
    pub(super) fn begin(&self, write: &WriteTransaction) -> Result<(), redb::Error> {
        match &self.base {
            Some(base) => entries::write_base(write, u32::from(self.shard.get()), base, false),
            None => Ok(()),
        }
    }
}

impl LogJob {
    pub(super) fn answer(self, result: Result<(), AppendError>) {
        match self {
            Self::Append(LogAppend { done, .. })
            | Self::Truncate { done, .. }
            | Self::Begin { done, .. }
            | Self::Purge { done, .. } => done(result),
        }
    }
}

impl Writer {
    /// Checks that entries follow their logs and what this commit adds; answers those that do not.
    pub(super) fn admit_entries(&self, appends: Vec<LogAppend>) -> Vec<Logged> {
        let mut ends: BTreeMap<u16, (Option<LogPlace>, Extent)> = BTreeMap::new();
        let mut logged = Vec::with_capacity(appends.len());
        for LogAppend { shard, entries, done } in appends {
            let (number, known) = (shard.get(), self.journal.log(shard));
            let begins = known.is_none() && !ends.contains_key(&number);
            let (last, extent) = *ends
                .entry(number)
                .or_insert_with(|| (known.and_then(|log| log.last), self.journal.extent(shard)));
            match follow(shard, last, extent, &entries) {
                Ok(follows) => {
                    ends.insert(number, (Some(follows.last), follows.extent));
                    let base = begins.then(|| LogBase {
                        seq: extent.last,
                        epoch: extent.epoch,
                        ..LogBase::default()
                    });
                    let Follows {
                        rows,
                        last,
                        extent,
                        first_frame,
                    } = follows;
                    logged.push(Logged {
                        shard,
                        rows,
                        base,
                        last,
                        extent,
                        first_frame,
                        done,
                    });
                }
                Err(detail) => {
                    let detail = detail.into();
                    done(Err(AppendError::Misplaced { shard, detail }));
                }
            }
        }
        logged
    }

    pub(super) fn answer_entries(&self, active: &Segment, logged: Vec<Logged>) {
        if logged.is_empty() {
            return;
        }
        let (mut bytes, mut records, mut frames) = (0, 0, 0);
        for item in &logged {
            bytes += item.rows.iter().map(Row::length).sum::<u64>();
            frames += item.rows.iter().filter(|row| row.frame.is_some()).count() as u64;
            let number = item.shard.get();
            records += item
                .extent
                .last
                .saturating_sub(self.journal.extent(item.shard).last);
            self.journal.set_extents([(number, item.extent)]);
            if let Some(first) = item.first_frame {
                active.set_extent(number, first, item.extent.last, item.extent.epoch);
            }
            let mut logs = self.journal.logs.write().unwrap_or_else(PoisonError::into_inner);
            let log = logs.entry(number).or_default();
            if let Some(base) = &item.base {
                log.base = base.clone();
                active.set_log_base(number, base.clone());
            }
            log.last = Some(item.last);
            active.set_log_end(number, item.last, item.extent.last);
        }
        active.add_bytes(bytes);
        metrics::counter!(names::FRAMES).increment(frames);
        metrics::counter!(names::APPENDED_BYTES).increment(bytes);
        metrics::counter!(names::APPENDED_RECORDS).increment(records);
        for item in logged {
            (item.done)(Ok(()));
        }
    }

    pub(super) fn change_log(&mut self, job: LogJob) {
        match job {
            // Appends are taken together by the caller.
            LogJob::Append(append) => self.commit(Vec::new(), vec![append]),
            LogJob::Truncate { shard, from, done } => {
                let result = self.truncate_log(shard, from);
                done(self.after_change(shard, result));
            }
            LogJob::Begin {
                shard,
                base,
                anew,
                done,
            } => {
                let result = self.begin_log(shard, &base, anew);
                done(self.after_change(shard, result));
            }
            LogJob::Purge {
                shard,
                index,
                seq,
                done,
            } => {
                let purged = self.purged_logs.entry(shard.get()).or_default();
                *purged = index.max(*purged);
                done(self.purge(shard, Seq::new(seq)));
            }
        }
    }

    fn after_change(&self, shard: ShardId, result: Result<(), redb::Error>) -> Result<(), AppendError> {
        let mut failed = result.err().map(|error| error.to_string());
        for segment in self.journal.segments() {
            let seen = if failed.is_some() {
                segment
                    .reopen(&self.journal.options)
                    .map_err(|error| error.to_string())
            } else {
                segment.refresh().map_err(|error| error.to_string())
            };
            failed = failed.or(seen.err());
        }
        self.journal.read_extents();
        match failed {
            None => Ok(()),
            Some(detail) => Err(AppendError::Storage {
                shard,
                detail: detail.into(),
            }),
        }
    }

    fn truncate_log(&self, shard: ShardId, from: u64) -> Result<(), redb::Error> {
        let number = u32::from(shard.get());
        let Some(log) = self.journal.log(shard) else {
            return Ok(());
        };
        if from >= log.next_index() {
            return Ok(());
        }
        let segments = self.journal.segments();
        // What the log ends with afterwards; segments that began later begin there from now on.
        let mut end = log.base.clone();
        if from > log.first_index() {
            for segment in segments.iter().rev() {
                let found = segment.with(|database| {
                    let read = database.begin_read()?;
                    let Some(row) = entries::row_at(&read, number, from - 1)? else {
                        return Ok(None);
                    };
                    Ok(Some((row, entries::members_up_to(&read, number, from - 1)?)))
                })?;
                let Some((row, members)) = found else { continue };
                let own = segment.logs().remove(&shard.get()).unwrap_or_default().base;
                let (members_place, members) = members.unwrap_or((own.members_place, own.members));
                let epoch = if row.last == log.base.seq {
                    log.base.epoch
                } else {
                    row.term
                };
                end = LogBase {
                    place: Some(LogPlace {
                        term: row.term,
                        index: from - 1,
                    }),
                    seq: row.last,
                    epoch,
                    members,
                    members_place,
                };
                break;
            }
        }
        for segment in segments.iter().rev() {
            let Some(own) = segment.logs().remove(&shard.get()) else {
                continue;
            };
            let begins_later = own.base.place.map_or(0, |place| place.index + 1) > from;
            segment.with(|database| {
                let write = begin(database)?;
                entries::remove_from(&write, number, from, end.seq)?;
                if begins_later {
                    entries::write_base(&write, number, &end, own.anew)?;
                }
                write.commit()?;
                Ok(())
            })?;
        }
        Ok(())
    }

    fn begin_log(&self, shard: ShardId, base: &LogBase, anew: bool) -> Result<(), redb::Error> {
        let number = u32::from(shard.get());
        if !anew && (self.journal.log(shard).is_some() || self.journal.extent(shard).last != base.seq) {
            let detail = format!("the log of shard {shard} cannot begin at seq {}", base.seq);
            return Err(redb::Error::Corrupted(detail));
        }
        let segments = self.journal.segments();
        let Some((active, older)) = segments.split_last() else {
            return Ok(());
        };
        active.with(|database| {
            let write = begin(database)?;
            if anew {
                entries::remove_shard(&write, number)?;
            }
            entries::write_base(&write, number, base, anew)?;
            write.commit()?;
            Ok(())
        })?;
        active.refresh()?;
        finish(older, active)
    }
}

struct Follows {
    rows: Vec<Row>,
    last: LogPlace,
    extent: Extent,
    first_frame: Option<u64>,
}

/// Checks that entries follow one another and what is there.
fn follow(
    shard: ShardId,
    last: Option<LogPlace>,
    mut extent: Extent,
    entries: &[Entry],
) -> Result<Follows, String> {
    let (mut before, mut rows, mut first_frame) = (last, Vec::with_capacity(entries.len()), None);
    for entry in entries {
        let place = entry.place;
        if place.index != before.map_or(place.index, |before| before.index + 1) {
            return Err(format!("index {} does not follow {before:?}", place.index));
        }
        if before.is_some_and(|before| place.term < before.term) {
            return Err(format!("term {} at index {} is over", place.term, place.index));
        }
        if let Said::Frame(frame) = &entry.said {
            let fits = frame.shard() == shard
                && frame.epoch() == Epoch::new(place.term)
                && frame.first().get() == extent.last + 1;
            if !fits {
                let (first, epoch) = (frame.first(), frame.epoch().get());
                return Err(format!(
                    "the frame of seq {first} and epoch {epoch} at index {} of term {} does not follow seq {}",
                    place.index, place.term, extent.last
                ));
            }
            first_frame = first_frame.or(Some(frame.first().get()));
            extent.last = frame.last().get();
            extent.epoch = place.term;
            if extent.first == 0 {
                extent.first = frame.first().get();
            }
        }
        rows.push(Row::new(u32::from(shard.get()), entry, extent.last));
        before = Some(place);
    }
    let last = before.ok_or("no entries")?;
    Ok(Follows {
        rows,
        last,
        extent,
        first_frame,
    })
}

/// Answers the entries of a commit that failed by what is found on disk.
pub(super) fn answer_failed(active: &Segment, logged: Vec<Logged>, detail: &Arc<str>) {
    for item in logged {
        let last = item.rows.last();
        let found = active.with(|database| {
            let read = database.begin_read()?;
            last.map_or(Ok(false), |row| {
                entries::is_there(&read, u32::from(item.shard.get()), row)
            })
        });
        (item.done)(match found {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(AppendError::Storage {
                shard: item.shard,
                detail: detail.clone(),
            }),
        });
    }
}

/// Finishes in older segments what a newer one says of each log: it begins anew there, or below where they end.
pub(super) fn finish(older: &[Arc<Segment>], newer: &Arc<Segment>) -> Result<(), redb::Error> {
    for (shard, log) in newer.logs() {
        let next = log.base.place.map_or(0, |place| place.index + 1);
        for segment in older.iter().rev() {
            let number = u32::from(shard);
            let own = segment.logs().remove(&shard);
            let ends_later = own.is_some_and(|own| own.last.is_some_and(|last| last.index >= next));
            let holds = segment.extents().contains_key(&shard) || segment.logs().contains_key(&shard);
            if (log.anew && holds) || ends_later {
                segment.with(|database| {
                    let write = begin(database)?;
                    if log.anew {
                        entries::remove_shard(&write, number)?;
                    } else {
                        entries::remove_from(&write, number, next, log.base.seq)?;
                    }
                    write.commit()?;
                    Ok(())
                })?;
                segment.refresh()?;
            }
        }
    }
    Ok(())
}
