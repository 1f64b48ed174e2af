//! A frame: some records of one shard that stand one after the other, with a checksum over all of it.
//!
//! Promises: any flipped bit is noticed; a frame can be cut between two of its records. The bytes are drawn in
//! FORMAT.md. Knows nothing of where a frame is stored.

use bytes::Bytes;
use thiserror::Error;

use crate::{Epoch, Seq, ShardId};

const MAGIC: [u8; 4] = *b"GMBJ";
const FORMAT_VERSION: u8 = 1;
/// Records with a varint length each.
const CODEC_RECORDS: u8 = 1;
const HEADER: usize = 40;

/// Header and body together stay below this: redb's pages are powers of two, and a value just above 64 KiB takes 128.
const FRAME_MAX: usize = 65_400;
/// The longest record: one that does not fit into an ordinary frame gets one of its own. Only a plant model is long.
pub const RECORD_MAX: usize = (8 << 20) - HEADER - 5;

/// Bytes that are not a frame, or not the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Too short, or no frame at all.
    #[error("not a frame ({0})")]
    NotAFrame(&'static str),
    /// Written by a later release.
    #[error("frame has format {format} and codec {codec} (written by a newer release?)")]
    Newer {
        /// The frame's format version.
        format: u8,
        /// The frame's codec.
        codec: u8,
    },
    /// The checksum does not fit.
    #[error("checksum does not fit")]
    Checksum,
}

/// The frame takes no more records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the frame is full")]
pub struct FrameFull;

/// Collects records into the body of a frame.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    bytes: Vec<u8>,
    count: u32,
}

/// A body that is ready to be appended.
#[derive(Debug, Clone)]
pub struct FrameBody {
    /// Begins with room for the header.
    bytes: Vec<u8>,
    count: u32,
}

impl FrameBuilder {
    /// An empty frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes a record. An empty frame takes any record of up to [`RECORD_MAX`] bytes.
    pub fn push(&mut self, record: &[u8]) -> Result<(), FrameFull> {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER, 0);
        }
        let after = self.bytes.len() + record.len() + varint_length(record.len());
        if record.len() > RECORD_MAX || (self.count > 0 && after > FRAME_MAX) {
            return Err(FrameFull);
        }
        push_varint(&mut self.bytes, record.len());
        self.bytes.extend_from_slice(record);
        self.count += 1;
        Ok(())
    }

    /// The body.
    #[must_use]
    pub fn finish(mut self) -> FrameBody {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER, 0);
        }
        FrameBody {
            bytes: self.bytes,
            count: self.count,
        }
    }
}

impl FrameBody {
    /// Number of records.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The frame at its place in the journal.
    #[must_use]
    pub fn place(self, shard: ShardId, first: Seq, epoch: Epoch) -> Frame {
        let count = self.count;
        Frame {
            bytes: self.seal(shard, first, epoch).into(),
            count,
            shard,
            first,
            epoch,
        }
    }

    /// The frame's bytes at its place in the journal.
    pub(crate) fn seal(mut self, shard: ShardId, first: Seq, epoch: Epoch) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len() - HEADER).unwrap_or(u32::MAX);
        let header = &mut self.bytes[..HEADER];
        header[..4].copy_from_slice(&MAGIC);
        header[4] = FORMAT_VERSION;
        header[5] = CODEC_RECORDS;
        header[8..12].copy_from_slice(&length.to_le_bytes());
        header[12..16].copy_from_slice(&self.count.to_le_bytes());
        header[16..18].copy_from_slice(&shard.get().to_le_bytes());
        header[20..28].copy_from_slice(&first.get().to_le_bytes());
        header[28..36].copy_from_slice(&epoch.get().to_le_bytes());
        let sum = checksum(&self.bytes);
        self.bytes[36..HEADER].copy_from_slice(&sum.to_le_bytes());
        self.bytes
    }
}

/// A frame as it was read, its checksum found right. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    count: u32,
    shard: ShardId,
    first: Seq,
    epoch: Epoch,
}

impl Frame {
    /// Checks and reads a frame.
    pub fn decode(bytes: impl Into<Bytes>) -> Result<Self, FrameError> {
        let bytes = bytes.into();
        if bytes.len() < HEADER {
            return Err(FrameError::NotAFrame("too short"));
        }
        if bytes[..4] != MAGIC {
            return Err(FrameError::NotAFrame("no magic"));
        }
        if checksum(&bytes) != u32_at(&bytes, 36) {
            return Err(FrameError::Checksum);
        }
        let (format, codec) = (bytes[4], bytes[5]);
        if (format, codec) != (FORMAT_VERSION, CODEC_RECORDS) {
            return Err(FrameError::Newer { format, codec });
        }
        let (length, count) = (u32_at(&bytes, 8) as usize, u32_at(&bytes, 12));
        if length != bytes.len() - HEADER {
            return Err(FrameError::NotAFrame("wrong length"));
        }
        let frame = Self {
            count,
            shard: ShardId::new(u16::from_le_bytes([bytes[16], bytes[17]])),
            first: Seq::new(u64_at(&bytes, 20)),
            epoch: Epoch::new(u64_at(&bytes, 28)),
            bytes,
        };
        if frame.records().count() != count as usize {
            return Err(FrameError::NotAFrame("wrong number of records"));
        }
        let last = frame.first.get().checked_add(u64::from(count));
        if count == 0 || frame.first.get() == 0 || last.is_none() {
            return Err(FrameError::NotAFrame("no seqs"));
        }
        Ok(frame)
    }

    /// The seq of its first record.
    #[must_use]
    pub fn first(&self) -> Seq {
        self.first
    }

    /// The seq of its last record.
    #[must_use]
    pub fn last(&self) -> Seq {
        Seq::new(self.first.get() + u64::from(self.count) - 1)
    }

    /// Its shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The epoch it was appended in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// How many records it holds.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The frame as it stands in the journal.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its records in order.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[HEADER..];
        std::iter::from_fn(move || {
            let (length, after) = take_varint(rest)?;
            let (record, after) = after.split_at_checked(length)?;
            rest = after;
            Some(record)
        })
    }

    /// Its records up to `last`, as a body of their own.
    pub(crate) fn cut_after(&self, last: Seq) -> FrameBody {
        let mut builder = FrameBuilder::new();
        for (seq, record) in (self.first.get()..=last.get()).zip(self.records()) {
            debug_assert!(seq <= last.get());
            // What fitted into a frame fits into a shorter one.
            let _ = builder.push(record);
        }
        builder.finish()
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..36]), &bytes[HEADER..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .try_into()
        .map(u32::from_le_bytes)
        .unwrap_or_default()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8]
        .try_into()
        .map(u64::from_le_bytes)
        .unwrap_or_default()
}

fn varint_length(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn push_varint(into: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn take_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(records: &[&[u8]]) -> Vec<u8> {
        let mut builder = FrameBuilder::new();
        records
            .iter()
            .for_each(|record| builder.push(record).expect("room"));
        builder
            .finish()
            .seal(ShardId::new(7), Seq::new(90_211), Epoch::new(3))
    }

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let long = vec![9; 300];
        let frame = Frame::decode(frame(&[b"one", b"", &long])).expect("a frame");
        assert_eq!(frame.records().collect::<Vec<_>>(), [&b"one"[..], b"", &long]);
        assert_eq!((frame.first().get(), frame.last().get()), (90_211, 90_213));
        assert_eq!((frame.shard().get(), frame.epoch().get()), (7, 3));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let whole = frame(&[b"acknowledged means durable", b"counted once", &[0; 40]]);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                // Bytes 6, 7, 18 and 19 are reserved and under the checksum like the rest.
                assert!(Frame::decode(damaged).is_err(), "bit {bit} of byte {at}");
            }
        }
        for length in 0..whole.len() {
            assert!(
                Frame::decode(whole[..length].to_vec()).is_err(),
                "cut at {length}"
            );
        }
    }

    #[test]
    fn a_frame_without_seqs_is_refused_before_anybody_asks_for_its_last_one() {
        let sealed = |records: &[&[u8]], first: u64| {
            let mut builder = FrameBuilder::new();
            records
                .iter()
                .for_each(|record| builder.push(record).expect("room"));
            builder
                .finish()
                .seal(ShardId::new(1), Seq::new(first), Epoch::new(1))
        };
        for (records, first) in [(&[][..], 1), (&[&b"a"[..]][..], 0), (&[b"a"], u64::MAX)] {
            let refused = Frame::decode(sealed(records, first));
            assert_eq!(refused, Err(FrameError::NotAFrame("no seqs")), "seq {first}");
        }
        assert!(Frame::decode(sealed(&[b"a"], u64::MAX - 1)).is_ok());
    }

    #[test]
    fn a_full_frame_takes_no_more_and_a_long_record_has_one_of_its_own() {
        let mut builder = FrameBuilder::new();
        while builder.push(&[1; 1_000]).is_ok() {}
        assert!(builder.finish().length() <= FRAME_MAX);
        let mut lone = FrameBuilder::new();
        lone.push(&vec![1; RECORD_MAX]).expect("alone it fits");
        assert_eq!(lone.push(b"x"), Err(FrameFull));
        assert_eq!(FrameBuilder::new().push(&vec![1; RECORD_MAX + 1]), Err(FrameFull));
    }
}
