//! Reading frames back: from a seq on, or all of them to find damage.
//!
//! Promises: frames come in order and without a gap, each with its checksum found right, or as an error that names
//! the place; a read never holds up the writer and holds no transaction between two chunks.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use redb::{ReadableDatabase, ReadableTable};
use thiserror::Error;

use super::{
    Shared,
    segment::{FRAMES, Key, Segment},
};
use crate::{Frame, FrameError, Seq, ShardId};

/// Frames read within one transaction, unless fewer are wanted.
const CHUNK: usize = 32;

/// Why a shard cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The bytes are not what was written.
    #[error("journal of shard {shard} is damaged at seq {seq}: {source}")]
    Damaged {
        /// The shard.
        shard: ShardId,
        /// The seq that the damaged frame begins with.
        seq: Seq,
        /// What is wrong.
        source: FrameError,
    },
    /// Seqs are missing.
    #[error("journal of shard {shard} has no seq {seq}")]
    Missing {
        /// The shard.
        shard: ShardId,
        /// The first seq that is missing.
        seq: Seq,
    },
    /// The file cannot be read.
    #[error("journal of shard {shard} cannot be read at seq {seq}: {detail}")]
    Io {
        /// The shard.
        shard: ShardId,
        /// Where the read was to go on.
        seq: Seq,
        /// What the file said.
        detail: String,
    },
}

/// The durable frames of a shard in order.
pub struct FrameIter {
    shared: Arc<Shared>,
    shard: ShardId,
    next: Seq,
    /// What was durable when the reading began.
    until: Seq,
    chunk: VecDeque<Frame>,
    /// Frames read within one transaction.
    most: usize,
    failed: bool,
}

impl FrameIter {
    pub(super) fn new(shared: Arc<Shared>, shard: ShardId, from: Seq) -> Self {
        let extent = shared.extent(shard);
        // A shard whose last segment was deleted has an end and no beginning: nothing is left to read.
        let first = if extent.first == 0 {
            extent.last + 1
        } else {
            extent.first
        };
        let next = Seq::new(from.get().max(first));
        Self {
            shared,
            shard,
            next,
            until: Seq::new(extent.last),
            chunk: VecDeque::new(),
            most: CHUNK,
            failed: false,
        }
    }

    /// Reads no further ahead than to the next frame: for who wants the first one only.
    #[must_use]
    pub fn one_by_one(mut self) -> Self {
        self.most = 1;
        self
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        let (shard, next) = (self.shard, self.next);
        let io = |error: redb::Error| ReadError::Io {
            shard,
            seq: next,
            detail: error.to_string(),
        };
        for segment in self.shared.segments() {
            let holds = segment
                .extents()
                .get(&shard.get())
                .is_some_and(|extent| extent.first > 0 && extent.last >= next.get());
            if !holds {
                continue;
            }
            for (key, bytes) in read_chunk(&segment, shard, next, self.most).map_err(io)? {
                let damaged = |source| ReadError::Damaged {
                    shard,
                    seq: Seq::new(key.1),
                    source,
                };
                let frame = Frame::decode(bytes).map_err(damaged)?;
                if frame.shard() != shard || frame.first().get() != key.1 {
                    return Err(damaged(FrameError::NotAFrame("wrong place")));
                }
                self.chunk.push_back(frame);
            }
            return Ok(());
        }
        Ok(())
    }
}

/// Frames of a segment from the one that holds `from` on.
fn read_chunk(
    segment: &Segment,
    shard: ShardId,
    from: Seq,
    most: usize,
) -> Result<Vec<(Key, Vec<u8>)>, redb::Error> {
    let number = u32::from(shard.get());
    segment.with(|database| {
        let frames = database.begin_read()?.open_table(FRAMES)?;
        let holding = frames
            .range((number, 0)..=(number, from.get()))?
            .next_back()
            .transpose()?;
        let first = holding.map_or(from.get(), |(key, _)| key.value().1);
        let mut chunk = Vec::with_capacity(most);
        for row in frames.range((number, first)..=(number, u64::MAX))?.take(most) {
            let (key, value) = row?;
            chunk.push((key.value(), value.value().to_vec()));
        }
        Ok(chunk)
    })
}

impl Iterator for FrameIter {
    type Item = Result<Frame, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.next > self.until {
            return None;
        }
        if self.chunk.is_empty()
            && let Err(error) = self.fill()
        {
            self.failed = true;
            return Some(Err(error));
        }
        match self.chunk.pop_front() {
            Some(frame) if frame.first() <= self.next && frame.last() >= self.next => {
                self.next = frame.last().next();
                Some(Ok(frame))
            }
            _ => {
                self.failed = true;
                Some(Err(ReadError::Missing {
                    shard: self.shard,
                    seq: self.next,
                }))
            }
        }
    }
}

/// What a check of the whole journal found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DamageReport {
    /// Records whose frame is right.
    pub records: u64,
    /// Frames that are right.
    pub frames: u64,
    /// Shards that hold something.
    pub shards: usize,
    /// What is wrong, a line each.
    pub damage: Vec<String>,
}

pub(super) fn verify(shared: &Arc<Shared>, seen: &mut dyn FnMut(u64)) -> DamageReport {
    let mut report = DamageReport::default();
    let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
    for segment in shared.segments() {
        match segment.check_integrity() {
            Ok(true) => {}
            Ok(false) => report.damage.push(format!(
                "{segment:?}: its pages were repaired from a checksum that did not fit"
            )),
            Err(error) => report.damage.push(format!("{segment:?}: {error}")),
        }
        if let Err(error) = verify_segment(&segment, &mut ends, &mut report, seen) {
            report.damage.push(format!("{segment:?}: {error}"));
        }
    }
    report.shards = ends.len();
    seen(report.records);
    report
}

fn verify_segment(
    segment: &Segment,
    ends: &mut BTreeMap<u32, u64>,
    report: &mut DamageReport,
    seen: &mut dyn FnMut(u64),
) -> Result<(), redb::Error> {
    segment.with(|database| {
        let frames = database.begin_read()?.open_table(FRAMES)?;
        for row in frames.iter()? {
            let (key, value) = row?;
            let (shard, first) = key.value();
            match Frame::decode(value.value().to_vec()) {
                Ok(frame) if u32::from(frame.shard().get()) == shard && frame.first().get() == first => {
                    if let Some(end) = ends.get(&shard)
                        && end + 1 != first
                    {
                        report
                            .damage
                            .push(format!("shard {shard}: seq {first} follows {end}"));
                    }
                    ends.insert(shard, frame.last().get());
                    report.frames += 1;
                    report.records += frame.records().count() as u64;
                }
                Ok(_) => report
                    .damage
                    .push(format!("shard {shard}, seq {first}: a frame from another place")),
                Err(error) => report.damage.push(format!("shard {shard}, seq {first}: {error}")),
            }
            if report.frames.is_multiple_of(512) {
                seen(report.records);
            }
        }
        Ok(())
    })
}
