//! A shard: a ractor actor that puts the messages of its twins in order, has them journaled, and folds them.
//!
//! Invariant: admit, dedupe, append, durable, fold, publish, acknowledge: in this order for every message. One shard
//! has one actor, and all its twins are folded there, one message at a time.

mod actor;
mod core;
mod dedupe;
mod outbox;
pub(crate) mod record;
mod recovery;
pub(crate) mod router;
mod snapshot;

pub(crate) use actor::{Command, CommandKind, ShardActor, ShardArguments, ShardMsg};
pub(crate) use core::{Core, Shared};
pub(crate) use outbox::Transfer;
pub(crate) use record::{RejectedRecord, ShardMeta, Way};
pub(crate) use recovery::recover;
pub(crate) use router::{Beyond, Router};
pub(crate) use snapshot::rejected_page;
