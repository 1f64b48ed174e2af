//! The log of a replicated shard: appended to, cut at its end, dropped at its start, begun anew after a snapshot.
//!
//! Promises: entries are answered when they are on disk, in the order they were given; indexes and seqs are without a
//! gap, terms never fall; what a crash leaves half done over several segments is finished when the journal opens.

use std::{collections::BTreeMap, sync::PoisonError};

use redb::ReadableDatabase;

use super::{
    AppendError, Journal, ReadError, Shared,
    committer::Job,
    entries::{self, Entry, LogBase, LogPlace},
    log_writer::{LogAppend, LogJob},
};
use crate::{Seq, ShardId};

/// Bytes of entries that a check reads at a time.
const CHECK_BYTES: usize = 4 << 20;

/// Called once, on the journal's thread, when the end of a change is known. Keep it short.
pub type Answered = Box<dyn FnOnce(Result<(), AppendError>) + Send>;

/// What a shard's log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogExtent {
    /// What stands before its first entry.
    pub base: LogBase,
    /// Its last entry, or the base's.
    pub last: Option<LogPlace>,
    /// Its end cannot be read: nothing may be built on it.
    pub is_damaged: bool,
}

impl LogExtent {
    /// The index of the first entry that can be there.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.base.place.map_or(0, |place| place.index + 1)
    }

    /// The index that the next entry has.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }
}

impl Journal {
    /// What the shard's log holds; `None` where the shard is not replicated.
    #[must_use]
    pub fn log(&self, shard: ShardId) -> Option<LogExtent> {
        self.shared.log(shard)
    }

    /// Appends entries to a shard's log.
    pub fn append_entries(&self, shard: ShardId, entries: Vec<Entry>, done: Answered) {
        self.change(LogJob::Append(LogAppend { shard, entries, done }));
    }

    /// Removes the entries of a shard's log from an index on, with their frames.
    pub fn truncate_entries(&self, shard: ShardId, from: u64, done: Answered) {
        self.change(LogJob::Truncate { shard, from, done });
    }

    /// Begins the log of a shard that has frames only; they stay, and the base stands for them.
    pub fn begin_log(&self, shard: ShardId, base: LogBase, done: Answered) {
        let anew = false;
        self.change(LogJob::Begin {
            shard,
            base,
            anew,
            done,
        });
    }

    /// Drops a shard's entries and frames and goes on after the base, which a snapshot stands for.
    pub fn reset_log(&self, shard: ShardId, base: LogBase, done: Answered) {
        let anew = true;
        self.change(LogJob::Begin {
            shard,
            base,
            anew,
            done,
        });
    }

    /// Says that nobody needs a shard's entries up to an index and its records up to a seq; segments that nobody needs
    /// are deleted.
    pub fn purge_log(&self, shard: ShardId, index: u64, seq: Seq, done: Answered) {
        let seq = seq.get();
        self.change(LogJob::Purge {
            shard,
            index,
            seq,
            done,
        });
    }

    fn change(&self, job: LogJob) {
        if let Err((refused, Job::Log(job))) = self.committer.offer(Job::Log(job)) {
            job.answer(Err(AppendError::Refused(refused)));
        }
    }

    /// The entries from an index on, up to `until` (exclusive) or until `bytes` are passed, at least one if it is
    /// there.
    pub fn read_entries(
        &self,
        shard: ShardId,
        from: u64,
        until: u64,
        bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let (mut left, mut found) = (bytes.max(1), Vec::new());
        for segment in self.shared.segments() {
            let next = found.last().map_or(from, |entry: &Entry| entry.place.index + 1);
            if next >= until || left == 0 {
                break;
            }
            let read = segment.with(|database| {
                let read = database.begin_read()?;
                entries::read_from(&read, u32::from(shard.get()), next, until, &mut left, &mut found)
            });
            read.map_err(|error| self.unreadable(shard, &error))?;
        }
        for pair in found.windows(2) {
            if pair[0].place.index + 1 != pair[1].place.index {
                let missing = format!("index {} is missing", pair[0].place.index + 1);
                return Err(self.unreadable(shard, &redb::Error::Corrupted(missing)));
            }
        }
        Ok(found)
    }

    /// The last entry that ends with `seq` or before it, and the seq it ends with; the base where it is the last one.
    pub fn place_up_to(&self, shard: ShardId, seq: Seq) -> Result<Option<(LogPlace, Seq)>, ReadError> {
        let Some(log) = self.log(shard) else {
            return Ok(None);
        };
        let mut best = match log.base.place {
            Some(place) if log.base.seq <= seq.get() => Some((place, Seq::new(log.base.seq))),
            Some(_) => return Ok(None),
            None => None,
        };
        let (mut low, mut high) = (log.first_index(), log.next_index());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.row_at(shard, middle)? {
                Some(row) if row.1 > seq => high = middle,
                found => {
                    // A log without a base may begin anywhere.
                    best = found.or(best);
                    low = middle + 1;
                }
            }
        }
        Ok(best)
    }

    /// The place of the entry at an index, and the seq with which it ends.
    pub fn row_at(&self, shard: ShardId, index: u64) -> Result<Option<(LogPlace, Seq)>, ReadError> {
        for segment in self.shared.segments().iter().rev() {
            let row = segment
                .with(|database| entries::row_at(&database.begin_read()?, u32::from(shard.get()), index))
                .map_err(|error| self.unreadable(shard, &error))?;
            if let Some(row) = row {
                let term = row.term;
                return Ok(Some((LogPlace { term, index }, Seq::new(row.last))));
            }
        }
        Ok(None)
    }

    /// Reads a shard's log from end to end; the first thing that is damaged is the error.
    pub fn check_log(&self, shard: ShardId) -> Result<(), ReadError> {
        let Some(log) = self.log(shard) else { return Ok(()) };
        if log.is_damaged {
            let what = redb::Error::Corrupted("the log's end is damaged".into());
            return Err(self.unreadable(shard, &what));
        }
        let (mut next, end) = (log.first_index(), log.next_index());
        while next < end {
            let read = self.read_entries(shard, next, end, CHECK_BYTES)?;
            match read.last() {
                Some(last) => next = last.place.index + 1,
                // A log without a base may begin anywhere.
                None if log.base.place.is_none() => return Ok(()),
                None => {
                    let what = redb::Error::Corrupted(format!("index {next} is missing"));
                    return Err(self.unreadable(shard, &what));
                }
            }
        }
        Ok(())
    }

    /// Who the members are after the entry at an index, and where they were set.
    pub fn members_at(&self, shard: ShardId, index: u64) -> Result<(LogPlace, bytes::Bytes), ReadError> {
        for segment in self.shared.segments().iter().rev() {
            let found = segment
                .with(|database| {
                    entries::members_up_to(&database.begin_read()?, u32::from(shard.get()), index)
                })
                .map_err(|error| self.unreadable(shard, &error))?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
        let base = self.log(shard).unwrap_or_default().base;
        Ok((base.members_place, base.members))
    }

    fn unreadable(&self, shard: ShardId, error: &redb::Error) -> ReadError {
        ReadError::Io {
            shard,
            seq: self.last_seq(shard),
            detail: error.to_string(),
        }
    }
}

impl Shared {
    pub(super) fn log(&self, shard: ShardId) -> Option<LogExtent> {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        logs.get(&shard.get()).cloned()
    }

    /// Reads from the segments what each log holds.
    pub(super) fn read_logs(&self) {
        let mut logs: BTreeMap<u16, LogExtent> = BTreeMap::new();
        for segment in self.segments() {
            for (shard, of) in segment.logs() {
                let log = logs.entry(shard).or_insert_with(|| LogExtent {
                    base: of.base.clone(),
                    ..LogExtent::default()
                });
                log.last = of.last;
                log.is_damaged |= of.is_damaged;
            }
        }
        *self.logs.write().unwrap_or_else(PoisonError::into_inner) = logs;
    }
}
