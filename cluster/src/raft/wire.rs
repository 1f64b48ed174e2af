//! What replicas say to one another and what stands in `raft.redb`, as prost messages.
//!
//! Promises: what cannot be read is an error, never a guess; a frame is checked with its checksum before it is taken for
//! one. Fields are added, never renumbered.

use std::collections::BTreeSet;

use bytes::Bytes;
use openraft::{
    EntryPayload,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
    vote::RaftVote,
};
use prost::Message;
use thiserror::Error;

use super::{Batch, Kind, LeaderId, LogId, Membership, RaftEntry, StoredMembership, Vote};
use crate::{Entry, Frame, LogPlace, Said};

/// A message that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a message of this protocol: {0}")]
pub(crate) struct Unreadable(pub(crate) String);

impl Unreadable {
    pub(crate) fn new(what: impl ToString) -> Self {
        Self(what.to_string())
    }
}

/// Reads a message.
pub(crate) fn read<M: Message + Default>(bytes: &[u8]) -> Result<M, Unreadable> {
    M::decode(bytes).map_err(Unreadable::new)
}

/// Writes a message.
pub(crate) fn write(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// A log id.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct PlaceWire {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
}

impl From<LogId> for PlaceWire {
    fn from(id: LogId) -> Self {
        place(&id).into()
    }
}

impl From<LogPlace> for PlaceWire {
    fn from(LogPlace { term, index }: LogPlace) -> Self {
        Self { term, index }
    }
}

impl From<PlaceWire> for LogId {
    fn from(wire: PlaceWire) -> Self {
        log_id(wire.into())
    }
}

impl From<PlaceWire> for LogPlace {
    fn from(PlaceWire { term, index }: PlaceWire) -> Self {
        Self { term, index }
    }
}

/// The journal's word for a log id.
pub(crate) fn place(id: &LogId) -> LogPlace {
    LogPlace {
        term: **id.committed_leader_id(),
        index: id.index(),
    }
}

/// Raft's word for a place.
pub(crate) fn log_id(place: LogPlace) -> LogId {
    LogId::new_term_index(place.term, place.index)
}

/// A vote.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct VoteWire {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) node: u64,
    #[prost(bool, tag = "3")]
    pub(crate) committed: bool,
}

impl From<&Vote> for VoteWire {
    fn from(vote: &Vote) -> Self {
        let leader = vote.leader_id();
        Self {
            term: leader.term,
            node: leader.voted_for,
            committed: vote.is_committed(),
        }
    }
}

impl From<VoteWire> for Vote {
    fn from(wire: VoteWire) -> Self {
        let leader = LeaderId {
            term: wire.term,
            voted_for: wire.node,
        };
        Self::from_leader_id(leader, wire.committed)
    }
}

fn vote(wire: Option<VoteWire>) -> Result<Vote, Unreadable> {
    wire.map(Vote::from).ok_or_else(|| Unreadable::new("no vote"))
}

#[derive(Clone, PartialEq, Message)]
struct NodesWire {
    #[prost(uint64, repeated, tag = "1")]
    ids: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct MembersWire {
    /// One set of voters, or two while they change.
    #[prost(message, repeated, tag = "1")]
    voters: Vec<NodesWire>,
    /// Voters and learners.
    #[prost(uint64, repeated, tag = "2")]
    nodes: Vec<u64>,
}

/// Members as bytes.
pub(crate) fn write_members(members: &Membership) -> Bytes {
    let voters = members.get_joint_config().iter().map(|set| NodesWire {
        ids: set.iter().copied().collect(),
    });
    write(&MembersWire {
        voters: voters.collect(),
        nodes: members.nodes().map(|(id, _)| *id).collect(),
    })
}

/// Members from bytes.
pub(crate) fn read_members(bytes: &[u8]) -> Result<Membership, Unreadable> {
    let wire: MembersWire = read(bytes)?;
    let voters: Vec<BTreeSet<u64>> = wire
        .voters
        .into_iter()
        .map(|set| set.ids.into_iter().collect())
        .collect();
    let nodes: BTreeSet<u64> = wire.nodes.into_iter().collect();
    Ok(Membership::new_with_defaults(voters, nodes))
}

/// Members with their place; without bytes nobody has set them yet.
pub(crate) fn stored_members(place: LogPlace, bytes: &[u8]) -> Result<StoredMembership, Unreadable> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    Ok(StoredMembership::new(Some(log_id(place)), read_members(bytes)?))
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EntryWire {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    /// 1 blank, 2 members, 3 a frame.
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(bytes = "bytes", tag = "4")]
    bytes: Bytes,
}

/// Raft's word for an entry.
pub(crate) fn raft_entry(entry: &Entry) -> Result<RaftEntry, Unreadable> {
    let payload = match &entry.said {
        Said::Blank => EntryPayload::Blank,
        Said::Members(bytes) => EntryPayload::Membership(read_members(bytes)?),
        Said::Frame(frame) => EntryPayload::Normal(Batch::Placed(frame.clone())),
    };
    Ok(RaftEntry {
        log_id: log_id(entry.place),
        payload,
    })
}

fn write_entry(entry: &RaftEntry) -> EntryWire {
    let (kind, bytes) = match &entry.payload {
        EntryPayload::Blank => (1, Bytes::new()),
        EntryPayload::Membership(members) => (2, write_members(members)),
        EntryPayload::Normal(Batch::Placed(frame)) => (3, frame.bytes().clone()),
        // What is read from the log has its place.
        EntryPayload::Normal(Batch::Proposed(_)) => (0, Bytes::new()),
    };
    let LogPlace { term, index } = place(&entry.log_id);
    EntryWire {
        term,
        index,
        kind,
        bytes,
    }
}

fn read_entry(wire: EntryWire) -> Result<RaftEntry, Unreadable> {
    let payload = match wire.kind {
        1 => EntryPayload::Blank,
        2 => EntryPayload::Membership(read_members(&wire.bytes)?),
        3 => EntryPayload::Normal(Batch::Placed(Frame::decode(wire.bytes).map_err(Unreadable::new)?)),
        kind => return Err(Unreadable::new(format!("entry of kind {kind}"))),
    };
    let place = LogPlace {
        term: wire.term,
        index: wire.index,
    };
    Ok(RaftEntry {
        log_id: log_id(place),
        payload,
    })
}

#[derive(Clone, PartialEq, Message)]
struct AppendWire {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteWire>,
    #[prost(message, optional, tag = "2")]
    previous: Option<PlaceWire>,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<EntryWire>,
    #[prost(message, optional, tag = "4")]
    commit: Option<PlaceWire>,
}

pub(crate) fn write_append(request: &AppendEntriesRequest<Kind>) -> Bytes {
    write(&AppendWire {
        vote: Some((&request.vote).into()),
        previous: request.prev_log_id.map(Into::into),
        entries: request.entries.iter().map(write_entry).collect(),
        commit: request.leader_commit.map(Into::into),
    })
}

pub(crate) fn read_append(bytes: Bytes) -> Result<AppendEntriesRequest<Kind>, Unreadable> {
    let wire = AppendWire::decode(bytes).map_err(Unreadable::new)?;
    let entries: Result<Vec<_>, _> = wire.entries.into_iter().map(read_entry).collect();
    Ok(AppendEntriesRequest {
        vote: vote(wire.vote)?,
        prev_log_id: wire.previous.map(Into::into),
        entries: entries?,
        leader_commit: wire.commit.map(Into::into),
    })
}

#[derive(Clone, PartialEq, Message)]
struct AppendReply {
    /// 1 all, 2 up to a place, 3 conflict, 4 a higher vote is known.
    #[prost(uint32, tag = "1")]
    outcome: u32,
    #[prost(message, optional, tag = "2")]
    up_to: Option<PlaceWire>,
    #[prost(message, optional, tag = "3")]
    vote: Option<VoteWire>,
}

pub(crate) fn write_append_reply(reply: &AppendEntriesResponse<Kind>) -> Bytes {
    let (outcome, up_to, vote) = match reply {
        AppendEntriesResponse::Success => (1, None, None),
        AppendEntriesResponse::PartialSuccess(up_to) => (2, *up_to, None),
        AppendEntriesResponse::Conflict => (3, None, None),
        AppendEntriesResponse::HigherVote(vote) => (4, None, Some(vote.into())),
    };
    let up_to = up_to.map(Into::into);
    write(&AppendReply { outcome, up_to, vote })
}

pub(crate) fn read_append_reply(bytes: &[u8]) -> Result<AppendEntriesResponse<Kind>, Unreadable> {
    let wire: AppendReply = read(bytes)?;
    Ok(match wire.outcome {
        1 => AppendEntriesResponse::Success,
        2 => AppendEntriesResponse::PartialSuccess(wire.up_to.map(Into::into)),
        3 => AppendEntriesResponse::Conflict,
        4 => AppendEntriesResponse::HigherVote(vote(wire.vote)?),
        outcome => return Err(Unreadable::new(format!("outcome {outcome}"))),
    })
}

#[derive(Clone, PartialEq, Message)]
struct BallotWire {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteWire>,
    #[prost(message, optional, tag = "2")]
    last: Option<PlaceWire>,
    /// Of a request: the leader has asked for it. Of a reply: granted.
    #[prost(bool, tag = "3")]
    flag: bool,
}

pub(crate) fn write_vote(request: &VoteRequest<Kind>) -> Bytes {
    write(&BallotWire {
        vote: Some((&request.vote).into()),
        last: request.last_log_id.map(Into::into),
        flag: request.leadership_transfer,
    })
}

pub(crate) fn read_vote(bytes: &[u8]) -> Result<VoteRequest<Kind>, Unreadable> {
    let wire: BallotWire = read(bytes)?;
    let mut request = VoteRequest::new(vote(wire.vote)?, wire.last.map(Into::into));
    request.leadership_transfer = wire.flag;
    Ok(request)
}

pub(crate) fn write_vote_reply(reply: &VoteResponse<Kind>) -> Bytes {
    write(&BallotWire {
        vote: Some((&reply.vote).into()),
        last: reply.last_log_id.map(Into::into),
        flag: reply.vote_granted,
    })
}

pub(crate) fn read_vote_reply(bytes: &[u8]) -> Result<VoteResponse<Kind>, Unreadable> {
    let wire: BallotWire = read(bytes)?;
    Ok(VoteResponse::new(
        vote(wire.vote)?,
        wire.last.map(Into::into),
        wire.flag,
    ))
}

#[derive(Clone, PartialEq, Message)]
struct TransferWire {
    #[prost(message, optional, tag = "1")]
    from: Option<VoteWire>,
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(message, optional, tag = "3")]
    last: Option<PlaceWire>,
}

pub(crate) fn write_transfer(request: &TransferLeaderRequest<Kind>) -> Bytes {
    write(&TransferWire {
        from: Some(request.from_leader().into()),
        to: *request.to_node_id(),
        last: request.last_log_id().copied().map(Into::into),
    })
}

pub(crate) fn read_transfer(bytes: &[u8]) -> Result<TransferLeaderRequest<Kind>, Unreadable> {
    let wire: TransferWire = read(bytes)?;
    let last = wire.last.map(Into::into);
    Ok(TransferLeaderRequest::new(vote(wire.from)?, wire.to, last))
}

#[derive(Clone, PartialEq, Message)]
struct TransferReply {
    /// 1 taken, 2 another vote, 3 the log is not there yet.
    #[prost(uint32, tag = "1")]
    outcome: u32,
    #[prost(message, repeated, tag = "2")]
    votes: Vec<VoteWire>,
    #[prost(message, optional, tag = "3")]
    expected: Option<PlaceWire>,
    #[prost(message, optional, tag = "4")]
    actual: Option<PlaceWire>,
}

pub(crate) fn write_transfer_reply(reply: &TransferLeaderResponse<Kind>) -> Bytes {
    let mut wire = TransferReply {
        outcome: 1,
        ..TransferReply::default()
    };
    match reply {
        Ok(()) => {}
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            wire.outcome = 2;
            wire.votes = vec![expected.into(), actual.into()];
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            wire.outcome = 3;
            wire.expected = expected.map(Into::into);
            wire.actual = actual.map(Into::into);
        }
    }
    write(&wire)
}

pub(crate) fn read_transfer_reply(bytes: &[u8]) -> Result<TransferLeaderResponse<Kind>, Unreadable> {
    let wire: TransferReply = read(bytes)?;
    Ok(match (wire.outcome, &*wire.votes) {
        (1, _) => Ok(()),
        (2, [expected, actual]) => Err(TransferLeaderError::VoteChanged {
            expected: (*expected).into(),
            actual: (*actual).into(),
        }),
        (3, _) => Err(TransferLeaderError::LogNotFlushed {
            expected: wire.expected.map(Into::into),
            actual: wire.actual.map(Into::into),
        }),
        (outcome, _) => return Err(Unreadable::new(format!("outcome {outcome}"))),
    })
}

/// A piece of a snapshot.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PieceWire {
    /// Of this sending; another one begins again at offset 0.
    #[prost(uint64, tag = "1")]
    pub(crate) sending: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) vote: Option<VoteWire>,
    #[prost(message, optional, tag = "3")]
    pub(crate) last: Option<PlaceWire>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) members: Bytes,
    #[prost(message, optional, tag = "5")]
    pub(crate) members_place: Option<PlaceWire>,
    #[prost(uint64, tag = "6")]
    pub(crate) seq: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) offset: u64,
    #[prost(bytes = "bytes", tag = "8")]
    pub(crate) bytes: Bytes,
    #[prost(bool, tag = "9")]
    pub(crate) is_last: bool,
}

impl PieceWire {
    pub(crate) fn vote(&self) -> Result<Vote, Unreadable> {
        vote(self.vote)
    }
}

/// The answer to a piece.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct PieceReply {
    /// Set when the snapshot is installed, or when the receiver knows a higher vote.
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<VoteWire>,
}
