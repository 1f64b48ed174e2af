//! The journal: a durable, ordered log per shard, with one commit for all shards of a node.
//!
//! Invariant: moves bytes and knows no twin. What it reported as appended survives a crash; what it reads back is
//! what was appended or an error that names shard and seq.

mod frame;
mod journal;
mod metrics;
mod place;

pub use frame::{Frame, FrameBody, FrameBuilder, FrameError, FrameFull, RECORD_MAX};
pub use journal::{
    Append, AppendError, AppendRefused, Committed, DamageReport, Done, Folder, FrameIter, Journal,
    JournalOptions, OpenError, ReadError, SegmentFiles, Stats,
};
pub use place::{Epoch, Seq, ShardId, shard_of};
