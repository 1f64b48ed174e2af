//! The entries of a replicated shard: which frame, or which word of control, stands at which index of the raft log.
//!
//! Promises: an entry and its frame are written in one transaction, so that neither is ever there alone; each row has
//! a checksum over its key and its bytes. Knows the tables of one segment; nothing of raft beyond term and index.

use bytes::Bytes;
use prost::Message;
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::segment::{BASES, FRAMES, Key};
use crate::Frame;

/// The log's rows, by shard and index.
pub(super) const ENTRIES: TableDefinition<'static, Key, &[u8]> = TableDefinition::new("entries");
/// The rows of `entries` that say who the members are, once more: found without a walk through the log.
pub(super) const MEMBERS: TableDefinition<'static, Key, &[u8]> = TableDefinition::new("members");
/// Where the log of each replicated shard stood when the segment began, or was begun anew in it.
const LOG_BASES: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("log_bases");

/// Where an entry stands in its shard's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogPlace {
    /// The raft term: the epoch of the entry's frame.
    pub term: u64,
    /// The index in the log.
    pub index: u64,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Nothing: the first word of a new owner.
    Blank,
    /// Who the members are from here on; the bytes belong to raft.
    Members(Bytes),
    /// Records of the shard.
    Frame(Frame),
}

/// An entry of a shard's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub place: LogPlace,
    /// What it says.
    pub said: Said,
}

impl Entry {
    /// Bytes that it takes, about.
    #[must_use]
    pub fn length(&self) -> usize {
        match &self.said {
            Said::Blank => 32,
            Said::Members(bytes) => 32 + bytes.len(),
            Said::Frame(frame) => 32 + frame.length(),
        }
    }
}

/// What stands before a log's first entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogBase {
    /// The last entry that is no longer here; none where the log is whole.
    pub place: Option<LogPlace>,
    /// The last seq before the log's first entry.
    pub seq: u64,
    /// The epoch of that seq's frame.
    pub epoch: u64,
    /// Who the members are there; the bytes belong to raft.
    pub members: Bytes,
    /// Where they were set.
    pub members_place: LogPlace,
}

/// A row of `entries`, without what its frame says itself.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EntryRow {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    /// 1 blank, 2 members, 3 a frame.
    #[prost(uint32, tag = "2")]
    pub(super) kind: u32,
    /// The shard's last seq once the entry is applied.
    #[prost(uint64, tag = "3")]
    pub(super) last: u64,
    /// Records in its frame.
    #[prost(uint32, tag = "4")]
    pub(super) count: u32,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) members: Bytes,
}

/// A row of `log_bases`.
#[derive(Clone, PartialEq, Message)]
struct BaseRow {
    #[prost(uint64, tag = "1")]
    term: u64,
    /// Absent where nothing was before the log.
    #[prost(uint64, optional, tag = "2")]
    index: Option<u64>,
    #[prost(uint64, tag = "3")]
    seq: u64,
    #[prost(uint64, tag = "4")]
    epoch: u64,
    #[prost(bytes = "bytes", tag = "5")]
    members: Bytes,
    #[prost(uint64, tag = "6")]
    members_term: u64,
    #[prost(uint64, tag = "7")]
    members_index: u64,
    /// Nothing of the shard in older segments counts any more.
    #[prost(bool, tag = "8")]
    anew: bool,
}

/// What a segment knows of a shard's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SegmentLog {
    pub(super) base: LogBase,
    pub(super) anew: bool,
    /// Its last entry here, or the base.
    pub(super) last: Option<LogPlace>,
    /// The seq with which that entry ends.
    pub(super) last_seq: u64,
    /// Its last entry here cannot be read: the replica has to be replaced.
    pub(super) is_damaged: bool,
}

/// Stands for an index in the checksum of a row that has none.
const NO_INDEX: u64 = u64::MAX;

/// A row cannot be read.
pub(super) fn damaged(shard: u32, index: u64, what: &str) -> redb::Error {
    redb::Error::Corrupted(format!("log of shard {shard}, index {index}: {what}"))
}

fn seal(shard: u32, index: u64, row: &impl Message) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    // A vector takes whatever is written.
    let _ = row.encode(&mut bytes);
    let sum = checksum(shard, index, &bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn unseal<M: Message + Default>(shard: u32, index: u64, bytes: &[u8]) -> Result<M, redb::Error> {
    let (sum, rest) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| damaged(shard, index, "too short"))?;
    if u32::from_le_bytes(*sum) != checksum(shard, index, rest) {
        return Err(damaged(shard, index, "checksum does not fit"));
    }
    M::decode(rest).map_err(|error| damaged(shard, index, &error.to_string()))
}

fn checksum(shard: u32, index: u64, bytes: &[u8]) -> u32 {
    let key = crc32c::crc32c_append(crc32c::crc32c(&shard.to_le_bytes()), &index.to_le_bytes());
    crc32c::crc32c_append(key, bytes)
}

/// An entry that is ready to be written: its row, and its frame.
pub(super) struct Row {
    pub(super) index: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) is_members: bool,
    pub(super) frame: Option<(Key, Bytes)>,
}

impl Row {
    /// The row of an entry after which the shard ends with `last`.
    pub(super) fn new(shard: u32, entry: &Entry, last: u64) -> Self {
        let (kind, count, members) = match &entry.said {
            Said::Blank => (1, 0, Bytes::new()),
            Said::Members(members) => (2, 0, members.clone()),
            Said::Frame(frame) => (3, frame.count(), Bytes::new()),
        };
        let row = EntryRow {
            term: entry.place.term,
            kind,
            last,
            count,
            members,
        };
        let frame = match &entry.said {
            Said::Frame(frame) => Some(((shard, frame.first().get()), frame.bytes().clone())),
            _ => None,
        };
        Self {
            index: entry.place.index,
            bytes: seal(shard, entry.place.index, &row),
            is_members: kind == 2,
            frame,
        }
    }

    pub(super) fn length(&self) -> u64 {
        (self.bytes.len() + self.frame.as_ref().map_or(0, |(_, frame)| frame.len())) as u64
    }
}

/// Writes rows of a shard's log and their frames.
pub(super) fn write_rows(write: &WriteTransaction, shard: u32, rows: &[Row]) -> Result<(), redb::Error> {
    let mut entries = write.open_table(ENTRIES)?;
    let mut frames = write.open_table(FRAMES)?;
    for row in rows {
        entries.insert((shard, row.index), row.bytes.as_slice())?;
        if let Some((key, frame)) = &row.frame {
            frames.insert(*key, frame.as_ref())?;
        }
        if row.is_members {
            write
                .open_table(MEMBERS)?
                .insert((shard, row.index), row.bytes.as_slice())?;
        }
    }
    Ok(())
}

/// Writes where a shard's log, and with it its seqs, go on in this segment; `anew` says that nothing older counts.
pub(super) fn write_base(
    write: &WriteTransaction,
    shard: u32,
    base: &LogBase,
    anew: bool,
) -> Result<(), redb::Error> {
    let row = BaseRow {
        term: base.place.map_or(0, |place| place.term),
        index: base.place.map(|place| place.index),
        seq: base.seq,
        epoch: base.epoch,
        members: base.members.clone(),
        members_term: base.members_place.term,
        members_index: base.members_place.index,
        anew,
    };
    let bytes = seal(shard, NO_INDEX, &row);
    write.open_table(LOG_BASES)?.insert(shard, bytes.as_slice())?;
    write.open_table(BASES)?.insert(shard, (base.seq, base.epoch))?;
    Ok(())
}

/// Removes what a segment holds of a shard from an index on, and its frames above a seq.
pub(super) fn remove_from(
    write: &WriteTransaction,
    shard: u32,
    index: u64,
    seq: u64,
) -> Result<(), redb::Error> {
    let gone = (shard, index)..=(shard, u64::MAX);
    write.open_table(ENTRIES)?.retain_in(gone.clone(), |_, _| false)?;
    write.open_table(MEMBERS)?.retain_in(gone, |_, _| false)?;
    write
        .open_table(FRAMES)?
        .retain_in((shard, seq + 1)..=(shard, u64::MAX), |_, _| false)?;
    Ok(())
}

/// Forgets that the shard was ever here.
pub(super) fn remove_shard(write: &WriteTransaction, shard: u32) -> Result<(), redb::Error> {
    remove_from(write, shard, 0, 0)?;
    write.open_table(LOG_BASES)?.remove(shard)?;
    write.open_table(BASES)?.remove(shard)?;
    Ok(())
}

/// The table, or `None` in a segment that has no log.
fn open<K: redb::Key + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<'static, K, &'static [u8]>,
) -> Result<Option<redb::ReadOnlyTable<K, &'static [u8]>>, redb::Error> {
    match read.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a segment knows of each shard's log.
pub(super) fn survey(read: &ReadTransaction) -> Result<Vec<(u32, SegmentLog)>, redb::Error> {
    let (Some(bases), entries) = (open(read, LOG_BASES)?, open(read, ENTRIES)?) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for row in bases.iter()? {
        let (shard, value) = row?;
        let shard = shard.value();
        let row: BaseRow = unseal(shard, NO_INDEX, value.value())?;
        let base = LogBase {
            place: row.index.map(|index| LogPlace {
                term: row.term,
                index,
            }),
            seq: row.seq,
            epoch: row.epoch,
            members: row.members,
            members_place: LogPlace {
                term: row.members_term,
                index: row.members_index,
            },
        };
        let mut log = SegmentLog {
            last: base.place,
            last_seq: base.seq,
            base,
            anew: row.anew,
            is_damaged: false,
        };
        if let Some(entries) = &entries
            && let Some(found) = entries.range((shard, 0)..=(shard, u64::MAX))?.next_back()
        {
            let (key, value) = found?;
            let index = key.value().1;
            match unseal::<EntryRow>(shard, index, value.value()) {
                Ok(row) => {
                    let term = row.term;
                    log.last = Some(LogPlace { term, index });
                    log.last_seq = row.last;
                }
                Err(_) => log.is_damaged = true,
            }
        }
        found.push((shard, log));
    }
    Ok(found)
}

/// The row at an index.
pub(super) fn row_at(
    read: &ReadTransaction,
    shard: u32,
    index: u64,
) -> Result<Option<EntryRow>, redb::Error> {
    let Some(entries) = open(read, ENTRIES)? else {
        return Ok(None);
    };
    match entries.get((shard, index))? {
        Some(value) => unseal(shard, index, value.value()).map(Some),
        None => Ok(None),
    }
}

/// Whether the row at an index has these bytes.
pub(super) fn is_there(read: &ReadTransaction, shard: u32, row: &Row) -> Result<bool, redb::Error> {
    let Some(entries) = open(read, ENTRIES)? else {
        return Ok(false);
    };
    let found = entries.get((shard, row.index))?;
    Ok(found.is_some_and(|value| value.value() == row.bytes.as_slice()))
}

/// The last row up to an index that says who the members are.
pub(super) fn members_up_to(
    read: &ReadTransaction,
    shard: u32,
    index: u64,
) -> Result<Option<(LogPlace, Bytes)>, redb::Error> {
    let Some(members) = open(read, MEMBERS)? else {
        return Ok(None);
    };
    let Some(row) = members.range((shard, 0)..=(shard, index))?.next_back() else {
        return Ok(None);
    };
    let (key, value) = row?;
    let index = key.value().1;
    let row: EntryRow = unseal(shard, index, value.value())?;
    let place = LogPlace {
        term: row.term,
        index,
    };
    Ok(Some((place, row.members)))
}

/// The entries of a segment from an index on, until `until` (exclusive) or until `bytes` are passed.
pub(super) fn read_from(
    read: &ReadTransaction,
    shard: u32,
    from: u64,
    until: u64,
    bytes: &mut usize,
    into: &mut Vec<Entry>,
) -> Result<(), redb::Error> {
    let Some(entries) = open(read, ENTRIES)? else {
        return Ok(());
    };
    let frames = read.open_table(FRAMES)?;
    for row in entries.range((shard, from)..(shard, until))? {
        if *bytes == 0 {
            break;
        }
        let (key, value) = row?;
        let index = key.value().1;
        let row: EntryRow = unseal(shard, index, value.value())?;
        let said = match row.kind {
            1 => Said::Blank,
            2 => Said::Members(row.members.clone()),
            3 => Said::Frame(frame_of(&frames, shard, index, &row)?),
            kind => {
                return Err(damaged(
                    shard,
                    index,
                    &format!("kind {kind} (written by a newer release?)"),
                ));
            }
        };
        let place = LogPlace {
            term: row.term,
            index,
        };
        let entry = Entry { place, said };
        *bytes = bytes.saturating_sub(entry.length());
        into.push(entry);
    }
    Ok(())
}

fn frame_of(
    frames: &impl ReadableTable<Key, &'static [u8]>,
    shard: u32,
    index: u64,
    row: &EntryRow,
) -> Result<Frame, redb::Error> {
    let first = (row.last + 1).saturating_sub(u64::from(row.count));
    let at = |what: String| damaged(shard, index, &format!("frame at seq {first}: {what}"));
    let value = frames
        .get((shard, first))?
        .ok_or_else(|| at("is not there".into()))?;
    let frame = Frame::decode(value.value().to_vec()).map_err(|error| at(error.to_string()))?;
    let fits = u32::from(frame.shard().get()) == shard
        && frame.first().get() == first
        && frame.last().get() == row.last
        && frame.epoch().get() == row.term;
    if fits {
        Ok(frame)
    } else {
        Err(at("belongs elsewhere".into()))
    }
}
