//! The journal: a durable, ordered log per shard, with one commit for all shards of a node; and its replication.
//!
//! Invariant: moves bytes and knows no twin. What it reported as appended survives a crash; what it reads back is
//! what was appended or an error that names shard and seq. What a [`Group`] reported as applied is on the disks of a
//! majority, and every replica applies the same records at the same seqs.

mod frame;
mod journal;
pub mod keeper;
pub mod map;
mod metrics;
pub mod net;
mod place;
pub mod placement;
mod raft;

pub use frame::{Frame, FrameBody, FrameBuilder, FrameError, FrameFull, RECORD_MAX};
pub use journal::{
    Answered, Append, AppendError, AppendRefused, Committed, DamageReport, Done, Entry, Folder, FrameIter,
    Journal, JournalOptions, LogBase, LogExtent, LogPlace, OpenError, ReadError, Said, SegmentFiles, Stats,
    Turns,
};
pub use place::{Epoch, Seq, ShardId, shard_of};
pub use raft::{
    Applied, Batch,
    apply::{Apply, Boxed, Cut, CutBytes},
    ballots::{Ballots, Identity},
    clockwork::seed_this_thread,
    founding::{Timing, found},
    group::{Group, GroupOptions, OpenGroupError},
    network::{Courier, Errand, Undelivered},
    role::{ChangeError, ProposeError, Role, Standing},
};
