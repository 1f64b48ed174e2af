//! How a group reaches its other replicas: raft's requests as bytes, carried by a [`Courier`].
//!
//! Promises: each request ends within its time, with an answer or with an error. Knows no address and no connection:
//! the cluster's port carries bytes between nodes (`net`), a simulation carries them between tasks.

use std::{future::Future, io, sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    EmptyNode, OptionalSend, RPCTypes, RaftNetworkFactory,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{Backoff, RPCOption, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use thiserror::Error;

use super::{
    Kind, Vote,
    apply::{Boxed, Cut},
    clockwork::throw,
    machine::Snapshot,
    wire::{self, PieceReply, PieceWire, Unreadable},
};
use crate::ShardId;

/// What a message between nodes is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Errand {
    /// Entries of a log, or a heartbeat.
    Append,
    /// A vote for an owner.
    Vote,
    /// Whether a vote would be given.
    PreVote,
    /// A piece of a snapshot.
    Piece,
    /// An owner hands over.
    Transfer,
    /// Who a node is, and what it knows of the cluster.
    Hello,
    /// A batch for the owner of a shard, on behalf of another node's clients.
    Batch,
    /// A short question about a shard, on behalf of another node's clients.
    Ask,
}

/// Why a message was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Undelivered {
    /// The node cannot be reached.
    #[error("node {to} cannot be reached: {detail}")]
    Unreachable {
        /// The node.
        to: u64,
        /// What failed.
        detail: String,
        /// There was no connection, so the message has not arrived. Else it may have.
        is_unsent: bool,
    },
    /// No answer within the time.
    #[error("node {to} did not answer within {within:?}")]
    Late {
        /// The node.
        to: u64,
        /// The time.
        within: Duration,
    },
    /// The node answered that it will not do it.
    #[error("node {to} refused: {reason}")]
    Refused {
        /// The node.
        to: u64,
        /// Its reason.
        reason: String,
    },
}

/// Carries messages to other nodes.
///
/// 1. An answer is the one of this message, or an error; an error says nothing about whether the message arrived.
/// 2. It comes within the time, give or take a little.
/// 3. A long message does not hold up short ones for long: heartbeats and votes go their own way.
pub trait Courier: Send + Sync + 'static {
    /// Carries a message and its answer.
    fn send(
        &self,
        to: u64,
        errand: Errand,
        shard: ShardId,
        body: Bytes,
        within: Duration,
    ) -> Boxed<'static, Result<Bytes, Undelivered>>;
}

/// The lines of a group to its other replicas.
pub(crate) struct Lines {
    pub(crate) courier: Arc<dyn Courier>,
    pub(crate) shard: ShardId,
    pub(crate) node: u64,
    /// First wait after a node could not be reached.
    pub(crate) heartbeat: Duration,
    /// Most time that the installing of a snapshot may take.
    pub(crate) install: Duration,
}

impl RaftNetworkFactory<Kind> for Lines {
    type Network = Line;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Line {
        Line {
            courier: self.courier.clone(),
            shard: self.shard,
            node: self.node,
            target,
            heartbeat: self.heartbeat,
            install: self.install,
        }
    }
}

/// The line to one replica.
pub(crate) struct Line {
    courier: Arc<dyn Courier>,
    shard: ShardId,
    node: u64,
    target: u64,
    heartbeat: Duration,
    install: Duration,
}

impl Line {
    async fn ask<A>(
        &self,
        errand: Errand,
        body: Bytes,
        within: Duration,
        read: impl FnOnce(Bytes) -> Result<A, Unreadable>,
    ) -> Result<A, RPCError<Kind>> {
        let sent = self.courier.send(self.target, errand, self.shard, body, within);
        match sent.await {
            Ok(answer) => read(answer).map_err(|error| NetworkError::new(&error).into()),
            Err(Undelivered::Late { within, .. }) => Err(RPCError::Timeout(Timeout {
                action: match errand {
                    Errand::Vote | Errand::PreVote => RPCTypes::Vote,
                    Errand::Transfer => RPCTypes::TransferLeader,
                    Errand::Piece => RPCTypes::InstallSnapshot,
                    Errand::Append | Errand::Hello | Errand::Batch | Errand::Ask => RPCTypes::AppendEntries,
                },
                id: self.node,
                target: self.target,
                timeout: within,
            })),
            Err(error) => Err(RPCError::Unreachable(Unreachable::new(&error))),
        }
    }

    async fn send_pieces(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Kind>, StreamingError<Kind>> {
        let Snapshot {
            meta,
            snapshot: Cut { seq, mut bytes },
        } = snapshot;
        let stored = &meta.last_membership;
        let mut piece = PieceWire {
            sending: throw(),
            vote: Some((&vote).into()),
            last: meta.last_log_id.map(Into::into),
            members: wire::write_members(stored.membership()),
            members_place: (*stored.log_id()).map(Into::into),
            seq: seq.get(),
            offset: 0,
            bytes: Bytes::new(),
            is_last: false,
        };
        let broken = |error: io::Error| StreamingError::Network(NetworkError::new(&error));
        let mut next = bytes.next().await.map_err(broken)?;
        loop {
            piece.bytes = next.take().unwrap_or_default();
            next = bytes.next().await.map_err(broken)?;
            piece.is_last = next.is_none();
            let reply = self
                .ask(Errand::Piece, wire::write(&piece), self.install, |answer| {
                    wire::read::<PieceReply>(&answer)
                })
                .await?;
            if let Some(vote) = reply.vote {
                return Ok(SnapshotResponse::new(vote.into()));
            }
            if piece.is_last {
                let error = io::Error::other("the replica took the last piece and did not install it");
                return Err(broken(error));
            }
            piece.offset += piece.bytes.len() as u64;
        }
    }
}

impl RaftNetworkV2<Kind> for Line {
    type SnapshotData = Cut;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Kind>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Kind>, RPCError<Kind>> {
        // A heartbeat that is late is of no use; entries may wait for a disk.
        let within = if request.entries.is_empty() {
            option.soft_ttl()
        } else {
            option.soft_ttl().max(self.heartbeat * 20)
        };
        self.ask(Errand::Append, wire::write_append(&request), within, |answer| {
            wire::read_append_reply(&answer)
        })
        .await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Kind>,
        option: RPCOption,
    ) -> Result<VoteResponse<Kind>, RPCError<Kind>> {
        self.ask(
            Errand::Vote,
            wire::write_vote(&request),
            option.soft_ttl(),
            |answer| wire::read_vote_reply(&answer),
        )
        .await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Kind>,
        option: RPCOption,
    ) -> Result<VoteResponse<Kind>, RPCError<Kind>> {
        self.ask(
            Errand::PreVote,
            wire::write_vote(&request),
            option.soft_ttl(),
            |answer| wire::read_vote_reply(&answer),
        )
        .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Kind>, StreamingError<Kind>> {
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = self.send_pieces(vote, snapshot) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Kind>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Kind>, RPCError<Kind>> {
        // Until the other one has taken over nobody takes anything: better late than not at all.
        self.ask(
            Errand::Transfer,
            wire::write_transfer(&request),
            option.soft_ttl().max(self.heartbeat * 10),
            |answer| wire::read_transfer_reply(&answer),
        )
        .await
    }

    fn backoff(&self) -> Option<Backoff> {
        let (first, most) = (self.heartbeat, self.heartbeat * 10);
        let waits = (0_u32..).map(move |times| (first * 2_u32.pow(times.min(4))).min(most));
        Some(Backoff::new(waits))
    }
}
