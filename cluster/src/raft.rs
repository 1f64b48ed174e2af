//! Replication: each shard's journal is the log of a raft group, and openraft decides who may write to it.
//!
//! Promises: a batch that was answered as applied is on the disks of a majority and is applied once, in the same order,
//! with the same seqs, on every replica; the epoch of a frame is the raft term of its owner, of which there is one per
//! term. openraft decides elections, log matching, membership and when a snapshot goes out; ours are the store, the
//! transport and the placement. Knows no twin: what a shard's records do is behind [`Apply`].

pub(crate) mod apply;
pub(crate) mod ballots;
pub(crate) mod clockwork;
pub(crate) mod founding;
pub(crate) mod group;
pub(crate) mod inbox;
pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod role;
#[cfg(test)]
mod suite;
pub(crate) mod watched;
pub(crate) mod wire;

use std::fmt;

use openraft::{
    EmptyNode, EntryPayload, RaftTypeConfig,
    impls::{InlineBatch, leader_id_std},
    raft::responder::Responder,
    vote::RaftLeaderId,
};

use crate::{Frame, FrameBody, Seq};

/// The types of a group. The standard leader id: one leader per term, so that a term is an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind;

impl RaftTypeConfig for Kind {
    type D = Batch;
    type R = Applied;
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::impls::Vote<LeaderId>;
    type Payload = EntryPayload<Batch, u64, EmptyNode>;
    type Entry = openraft::impls::Entry<<LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = clockwork::Clockwork;
    type Responder<T>
        = Callback<T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LeaderId = leader_id_std::LeaderId<u64, u64>;
pub(crate) type LogId = openraft::alias::LogIdOf<Kind>;
/// Written out: a conversion into a projection of a trait would stand in the way of other crates' conversions.
pub(crate) type Vote = openraft::impls::Vote<LeaderId>;
pub(crate) type RaftEntry = openraft::alias::EntryOf<Kind>;
pub(crate) type Membership = openraft::Membership<u64, EmptyNode>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Kind>;

/// Records of a shard: on their way to a place in the log, or there.
#[derive(Debug, Clone)]
pub enum Batch {
    /// As the owner gives them; the log decides about their seqs.
    Proposed(FrameBody),
    /// At their place.
    Placed(Frame),
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proposed(body) => write!(f, "{} records", body.count()),
            Self::Placed(frame) => write!(f, "seqs {} to {}", frame.first(), frame.last()),
        }
    }
}

/// Where records were applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// The seq of the first; 0 of a word of control.
    pub first: Seq,
    /// The seq of the last.
    pub last: Seq,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}

/// Takes an answer of raft's where it comes.
pub struct Callback<T>(pub(crate) Box<dyn FnOnce(T) + Send>);

impl<T: Send + 'static> Responder<Kind, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}
