//! The journal of one node: frames of all shards in segment files, one commit for whatever is queued.
//!
//! Promises: an append is answered after its commit is on disk, or with an error and then it is not there; a read
//! sees only what is durable, checks each frame, and goes on while the disk is full. A shard that is replicated has a
//! log of entries beside its frames (`log.rs`); a shard that is not has frames only, and becomes a replicated one in place.

mod committer;
mod cut;
mod entries;
mod log;
mod log_writer;
mod read;
mod segment;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use thiserror::Error;

pub(crate) use self::segment::Backend;
use self::{
    committer::{Committer, Job},
    segment::{Segment, open_all},
};
pub use self::{
    entries::{Entry, LogBase, LogPlace, Said},
    log::{Answered, LogExtent},
    read::{DamageReport, FrameIter, ReadError},
    segment::{Folder, SegmentFiles},
};
use crate::{Epoch, FrameBody, Seq, ShardId, metrics as names};

/// How a journal is opened.
#[derive(Clone)]
pub struct JournalOptions {
    /// Where the segments are.
    pub files: Arc<dyn SegmentFiles>,
    /// Bytes of frames after which a new segment begins. redb doubles a file as it grows, so 448 MiB of frames stay
    /// below 1 GiB.
    pub segment_bytes: u64,
    /// Most bytes that wait for a commit; beyond it appends are refused.
    pub queue_bytes: usize,
    /// Cache of the segment that is appended to, in bytes; the others have a sixteenth, as there may be many.
    pub cache_bytes: usize,
    /// Who does the work.
    pub turns: Turns,
}

/// Who does a journal's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turns {
    /// A thread of its own.
    Thread,
    /// Whoever calls [`Journal::turn`]: a simulation, whose disk takes as long as it says.
    ByHand,
}

impl JournalOptions {
    /// The defaults over a folder.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self {
            files: Arc::new(Folder::new(folder)),
            segment_bytes: 448 << 20,
            queue_bytes: 256 << 20,
            cache_bytes: 32 << 20,
            turns: Turns::Thread,
        }
    }

    /// As they are, for a segment that is not appended to.
    fn full(&self) -> Self {
        Self {
            cache_bytes: self.cache_bytes / 16,
            ..self.clone()
        }
    }
}

/// Why a journal does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A segment cannot be read.
    #[error("segment {segment}: {detail} (restore the data folder from a backup)")]
    Damaged {
        /// The segment's number.
        segment: u64,
        /// What is wrong.
        detail: String,
    },
    /// The folder or a file cannot be used.
    #[error("{0} (does another node use the folder?)")]
    Io(String),
}

/// Why an append was not taken at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AppendRefused {
    /// Too much waits already.
    #[error("the journal's queue is full")]
    Full,
    /// The journal is closed.
    #[error("the journal is closed")]
    Closed,
}

/// Why an append is not there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AppendError {
    /// The disk did not take it.
    #[error("failed to append to shard {shard}: {detail} (disk full?)")]
    Storage {
        /// The shard.
        shard: ShardId,
        /// What the disk said.
        detail: Arc<str>,
    },
    /// It does not begin where the shard ends.
    #[error("failed to append to shard {shard}: seq {first} does not follow {last}")]
    Gap {
        /// The shard.
        shard: ShardId,
        /// Where the append begins.
        first: Seq,
        /// Where the shard ends.
        last: Seq,
    },
    /// A newer owner has appended.
    #[error("failed to append to shard {shard}: epoch {epoch} is over, {current} has begun")]
    StaleEpoch {
        /// The shard.
        shard: ShardId,
        /// The append's epoch.
        epoch: u64,
        /// The shard's.
        current: u64,
    },
    /// An entry that does not follow its log's last one, or says of its frame what is not so.
    #[error("failed to append to the log of shard {shard}: {detail}")]
    Misplaced {
        /// The shard.
        shard: ShardId,
        /// What does not fit.
        detail: Arc<str>,
    },
    /// It was not taken.
    #[error(transparent)]
    Refused(#[from] AppendRefused),
}

/// What is known of a durable append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The seq of its last record.
    pub last: Seq,
}

/// Called once, on the journal's thread, when the end of an append is known. Keep it short.
pub type Done = Box<dyn FnOnce(Result<Committed, AppendError>) + Send>;

/// One frame to append.
pub struct Append {
    /// The shard.
    pub shard: ShardId,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The seq of the first record; follows the shard's last.
    pub first: Seq,
    /// The records, at least one.
    pub body: FrameBody,
    /// Where the answer goes.
    pub done: Done,
}

/// Where a shard begins and ends.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extent {
    first: u64,
    last: u64,
    epoch: u64,
}

/// What the committer and the readers share.
pub(crate) struct Shared {
    options: JournalOptions,
    /// In order; the last one is appended to.
    segments: RwLock<Vec<Arc<Segment>>>,
    extents: RwLock<BTreeMap<u16, Extent>>,
    /// Of the shards that are replicated.
    logs: RwLock<BTreeMap<u16, LogExtent>>,
}

impl Shared {
    fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn extent(&self, shard: ShardId) -> Extent {
        let extents = self.extents.read().unwrap_or_else(PoisonError::into_inner);
        extents.get(&shard.get()).copied().unwrap_or_default()
    }

    fn set_extents(&self, of: impl IntoIterator<Item = (u16, Extent)>) {
        self.extents
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(of);
    }

    /// Reads from the segments where each shard begins and ends.
    fn read_extents(&self) {
        let mut extents: BTreeMap<u16, Extent> = BTreeMap::new();
        for segment in self.segments() {
            for (shard, of) in segment.extents() {
                let extent = extents.entry(shard).or_default();
                if of.first > 0 && extent.first == 0 {
                    extent.first = of.first;
                }
                // Later segments know better: a log may have been begun anew at a lower seq.
                extent.last = of.last;
                extent.epoch = of.epoch;
            }
        }
        self.read_logs();
        *self.extents.write().unwrap_or_else(PoisonError::into_inner) = extents;
    }
}

/// Figures of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Segment files.
    pub segments: usize,
    /// Bytes of frames in them.
    pub bytes: u64,
}

/// The journal of one node. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    committer: Arc<Committer>,
}

impl Journal {
    /// Opens the journal, or makes it.
    pub fn open(options: JournalOptions) -> Result<Self, OpenError> {
        names::describe();
        let segments = open_all(&options)?;
        let shared = Arc::new(Shared {
            options,
            segments: RwLock::new(segments),
            extents: RwLock::default(),
            logs: RwLock::default(),
        });
        shared.read_extents();
        let committer = Committer::start(shared.clone()).map_err(|error| OpenError::Io(error.to_string()))?;
        Ok(Self {
            shared,
            committer: Arc::new(committer),
        })
    }

    /// Makes the first segment of a journal whose shards begin after these seqs; an error where there is a journal.
    pub fn begin_at(options: &JournalOptions, ends: &BTreeMap<ShardId, Seq>) -> Result<(), OpenError> {
        let io = |error: std::io::Error| OpenError::Io(error.to_string());
        if !options.files.list().map_err(io)?.is_empty() {
            return Err(OpenError::Io("there is a journal already".into()));
        }
        let extent = |seq: &Seq| Extent {
            last: seq.get(),
            ..Extent::default()
        };
        let ends = ends.iter().map(|(shard, seq)| (shard.get(), extent(seq)));
        Segment::open(options, 1, &segment::Ends::new(ends.collect())).map(drop)
    }

    /// Queues a frame. Returns at once; the answer comes through [`Append::done`] unless it is refused here.
    pub fn append(&self, append: Append) -> Result<(), AppendRefused> {
        self.committer.queue(Job::Append(append))
    }

    /// The shards that have ever been appended to.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardId> {
        let extents = self.shared.extents.read().unwrap_or_else(PoisonError::into_inner);
        let used = extents.iter().filter(|(_, extent)| extent.last > 0);
        used.map(|(shard, _)| ShardId::new(*shard)).collect()
    }

    /// The last durable seq of a shard; 0 where it has none.
    #[must_use]
    pub fn last_seq(&self, shard: ShardId) -> Seq {
        Seq::new(self.shared.extent(shard).last)
    }

    /// The oldest seq that a shard still holds; one past the last where it holds none.
    #[must_use]
    pub fn first_seq(&self, shard: ShardId) -> Seq {
        let extent = self.shared.extent(shard);
        Seq::new(if extent.first == 0 {
            extent.last + 1
        } else {
            extent.first
        })
    }

    /// The highest epoch a shard was appended to in.
    #[must_use]
    pub fn epoch(&self, shard: ShardId) -> Epoch {
        Epoch::new(self.shared.extent(shard).epoch)
    }

    /// The durable frames of a shard, from the one that holds `from` on.
    #[must_use]
    pub fn read(&self, shard: ShardId, from: Seq) -> FrameIter {
        FrameIter::new(self.shared.clone(), shard, from)
    }

    /// Removes what stands after `seq`, cutting a frame if need be; waits until that is durable.
    pub fn truncate_after(&self, shard: ShardId, seq: Seq) -> Result<(), AppendError> {
        self.committer.wait_for(|done| Job::Truncate {
            shard,
            after: seq,
            done,
        })
    }

    /// Says that nobody needs a shard's records up to `seq`; a segment of which that is true for every shard is
    /// deleted. The segment that is appended to stays.
    pub fn purge_up_to(&self, shard: ShardId, seq: Seq) -> Result<(), AppendError> {
        self.committer.wait_for(|done| Job::Purge {
            shard,
            up_to: seq,
            done,
        })
    }

    /// Who does its work.
    #[must_use]
    pub fn turns(&self) -> Turns {
        self.shared.options.turns
    }

    /// Does what is queued, of a journal that is worked by hand.
    pub fn turn(&self) {
        self.committer.turn();
    }

    /// Finishes what is queued and ends the journal's thread; later appends are refused.
    pub fn close(&self) {
        self.committer.close();
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let segments = self.shared.segments();
        Stats {
            segments: segments.len(),
            bytes: segments.iter().map(|segment| segment.bytes()).sum(),
        }
    }

    /// Checks every frame; `seen` hears of the number of records checked so far.
    pub fn verify(&self, seen: &mut dyn FnMut(u64)) -> DamageReport {
        read::verify(&self.shared, seen)
    }
}
