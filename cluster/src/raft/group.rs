//! A replicated shard on one node: its raft, and what the node asks of it.
//!
//! Promises: a proposal is answered after it was applied here, or with what is known of its fate; it is taken only in
//! the epoch it was made for, so what an owner decided by its state holds. Knows no addresses and no other shard.

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use openraft::{
    ChangeMembers, EmptyNode, Raft,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, ForwardReason, RaftError},
    raft::ReadPolicy,
    vote::leader_id_std::CommittedLeaderId,
};
use thiserror::Error;
use tokio::{sync::watch, task::AbortHandle};

use super::{
    Applied, Batch, Callback, Kind,
    apply::Apply,
    ballots::Ballots,
    founding::{Timing, config},
    inbox::Inbox,
    log::{LogStore, Shared},
    machine::{Machine, find},
    network::{Courier, Errand, Lines},
    role::{ChangeError, ProposeError, Role, Standing, watch_role},
    wire::{self, PieceReply, PieceWire, Unreadable},
};
use crate::{Epoch, FrameBody, Journal, Seq, ShardId};

/// What a group is made of.
pub struct GroupOptions {
    /// The shard.
    pub shard: ShardId,
    /// This node.
    pub node: u64,
    /// The node's journal.
    pub journal: Journal,
    /// The node's ballots.
    pub ballots: Arc<Ballots>,
    /// The way to other nodes.
    pub courier: Arc<dyn Courier>,
    /// The shard's state here.
    pub apply: Box<dyn Apply>,
    /// How long to wait.
    pub timing: Timing,
    /// Where arriving snapshots are kept; in memory without it.
    pub spool: Option<PathBuf>,
}

/// Why a group does not open.
#[derive(Debug, Error)]
#[error("failed to open shard {shard}: {detail}")]
pub struct OpenGroupError {
    /// The shard.
    pub shard: ShardId,
    /// What failed.
    pub detail: String,
}

pub(crate) type RaftOf = Raft<Kind, Machine>;

/// A replicated shard on one node. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    raft: RaftOf,
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    role: watch::Receiver<Role>,
    watching: AbortHandle,
    node: u64,
}

impl Group {
    /// Opens a group: its state is brought up to what is known to be committed, and it takes part.
    pub async fn open(options: GroupOptions) -> Result<Self, OpenGroupError> {
        let shard = options.shard;
        Self::try_open(options).await.map_err(|error| OpenGroupError {
            shard,
            detail: error.to_string(),
        })
    }

    async fn try_open(options: GroupOptions) -> io::Result<Self> {
        let GroupOptions {
            shard,
            node,
            journal,
            ballots,
            courier,
            mut apply,
            timing,
            spool,
        } = options;
        if journal.log(shard).is_some_and(|log| log.is_damaged) {
            return Err(io::Error::other("the end of its log is damaged"));
        }
        let base = find(shard, &journal, &ballots, apply.holds())?;
        let shared = Shared::open(shard, journal, ballots, base)?;
        shared.mend().await?;
        let (began, began_seen) = watch::channel((Epoch::default(), false));
        let machine = Machine {
            shared: shared.clone(),
            apply,
            node,
            began,
        };
        let lines = Lines {
            courier,
            shard,
            node,
            heartbeat: timing.heartbeat,
            install: timing.install,
        };
        let config = config(timing).validate().map_err(io::Error::other)?;
        let raft = Raft::new(node, Arc::new(config), lines, LogStore(shared.clone()), machine)
            .await
            .map_err(io::Error::other)?;
        let (publish, role) = watch::channel(Role::default());
        let watching = tokio::spawn(watch_role(raft.clone(), began_seen, publish)).abort_handle();
        let voters: BTreeSet<u64> = raft.voter_ids().collect();
        if voters == BTreeSet::from([node]) {
            // Nobody else could win.
            raft.trigger().elect(false).await.map_err(io::Error::other)?;
        }
        Ok(Self {
            raft,
            shared,
            inbox: Arc::new(Inbox::new(spool)),
            role,
            watching,
            node,
        })
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shared.shard
    }

    /// What this replica is, and each change of it.
    #[must_use]
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// Hands over records for the log, in the order of the calls; `done` hears of their fate. Waits only while raft's
    /// queue is full.
    pub async fn propose(
        &self,
        epoch: Epoch,
        body: FrameBody,
        done: impl FnOnce(Result<Applied, ProposeError>) + Send + 'static,
    ) {
        let shard = self.shared.shard;
        if body.count() == 0 {
            return done(Err(ProposeError::Empty));
        }
        let done = Arc::new(std::sync::Mutex::new(Some(done)));
        let answer = done.clone();
        let responder = Callback(Box::new(
            move |result: openraft::raft::ClientWriteResult<Kind>| {
                let result = match result {
                    Ok(written) => Ok(written.data),
                    Err(ClientWriteError::LogEntryDiscarded(_)) => Err(ProposeError::Unknown { shard }),
                    Err(ClientWriteError::ForwardToLeader(forward))
                        if forward.reason != ForwardReason::NotLeader =>
                    {
                        Err(ProposeError::NotNow { shard })
                    }
                    Err(ClientWriteError::ForwardToLeader(forward)) => Err(ProposeError::NotOwner {
                        shard,
                        owner: forward.leader_id,
                    }),
                    Err(
                        ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_),
                    ) => Err(ProposeError::NotOwner { shard, owner: None }),
                };
                if let Some(done) = answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    done(result);
                }
            },
        ));
        let leader = CommittedLeaderId::new(epoch.get());
        let sent = self
            .raft
            .write(Batch::Proposed(body))
            .with_leader(leader)
            .responder(responder)
            .await;
        if let Err(fatal) = sent
            && let Some(done) = done.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            let detail = fatal.to_string();
            done(Err(ProposeError::Stopped { shard, detail }));
        }
    }

    /// Hands over records and waits for their fate.
    pub async fn append(&self, epoch: Epoch, body: FrameBody) -> Result<Applied, ProposeError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        // Whoever gave up does not need the answer.
        self.propose(epoch, body, move |result| drop(answer.send(result)))
            .await;
        let shard = self.shared.shard;
        answered.await.unwrap_or(Err(ProposeError::Unknown { shard }))
    }

    /// Waits until this owner knows that it still is one, and has applied all that was answered before the call: reads
    /// after it miss nothing. Asks a majority.
    pub async fn confirm(&self) -> Result<(), ProposeError> {
        self.ensure(ReadPolicy::ReadIndex).await
    }

    /// As [`Group::confirm`], and without asking anybody where a majority was heard of within the last heartbeats: no
    /// other owner can have been elected since. Takes it that clocks run at about the same speed.
    pub async fn confirm_by_lease(&self) -> Result<(), ProposeError> {
        match self.ensure(ReadPolicy::LeaseRead).await {
            Err(ProposeError::NotOwner { .. }) if self.role.borrow().serves => self.confirm().await,
            confirmed => confirmed,
        }
    }

    async fn ensure(&self, policy: ReadPolicy) -> Result<(), ProposeError> {
        let shard = self.shared.shard;
        let confirmed = self.raft.ensure_linearizable(policy).await;
        confirmed.map(drop).map_err(|error| match error {
            RaftError::Fatal(fatal) => ProposeError::Stopped {
                shard,
                detail: fatal.to_string(),
            },
            RaftError::APIError(_) => ProposeError::NotOwner {
                shard,
                owner: self.role.borrow().owner,
            },
        })
    }

    /// Hands the shard over to another replica; returns when this one knows of the new owner, or after `within`. It may
    /// come otherwise, and then there is an owner all the same: the replicas elect one.
    pub async fn hand_over(&self, to: u64, within: Duration) -> Result<(), ChangeError> {
        let mut role = self.role.clone();
        let epoch = role.borrow().epoch;
        self.raft
            .trigger()
            .transfer_leader(to)
            .await
            .map_err(|fatal| self.change_error(&fatal))?;
        let changed = role.wait_for(|role| {
            let is_another = role.epoch > epoch && role.owner.is_some();
            is_another || role.owner == Some(to) || role.failed.is_some()
        });
        match tokio::time::timeout(within, changed).await {
            Ok(Ok(role)) if role.owner == Some(to) => Ok(()),
            Ok(Ok(role)) if role.failed.is_none() => {
                Err(self.change_error(&format!("node {:?} took over instead of {to}", role.owner)))
            }
            Ok(_) => Err(self.change_error(&"the replica has stopped")),
            Err(_) => Err(self.change_error(&format!("node {to} did not take over within {within:?}"))),
        }
    }

    /// Makes these nodes the voters, without any that only follow.
    pub async fn set_voters(&self, voters: BTreeSet<u64>) -> Result<(), ChangeError> {
        self.set_members(voters, BTreeSet::new()).await
    }

    /// Makes these nodes the voters, and those the ones that follow without a vote: new ones follow first, until they
    /// have nearly all of the log. Only the owner can.
    pub async fn set_members(
        &self,
        voters: BTreeSet<u64>,
        followers: BTreeSet<u64>,
    ) -> Result<(), ChangeError> {
        let standing = self.standing();
        for node in voters.union(&followers) {
            let is_there = standing.voters.contains(node)
                || (followers.contains(node) && standing.learners.contains(node));
            if !is_there {
                self.raft
                    .add_learner(*node, EmptyNode {}, true)
                    .await
                    .map_err(|error| self.change_error(&error))?;
            }
        }
        if standing.voters != voters || standing.is_changing {
            // A voter that is to follow stays.
            let retains = standing.voters.intersection(&followers).next().is_some();
            let changed = self.raft.change_membership(voters.clone(), retains).await;
            changed.map_err(|error| self.change_error(&error))?;
        }
        let standing = self.standing();
        let strays = standing.learners.iter().copied();
        let strays: BTreeSet<u64> = strays
            .filter(|node| !voters.contains(node) && !followers.contains(node))
            .collect();
        if strays.is_empty() {
            return Ok(());
        }
        self.raft
            .change_membership(ChangeMembers::RemoveNodes(strays), false)
            .await
            .map(drop)
            .map_err(|error| self.change_error(&error))
    }

    /// Lets go of the log up to a seq that a durable snapshot of the state covers.
    pub async fn purge_up_to(&self, seq: Seq) -> Result<(), ChangeError> {
        let shared = self.shared.clone();
        let found = shared
            .blocking(move |shared| {
                shared
                    .journal
                    .place_up_to(shared.shard, seq)
                    .map_err(io::Error::other)
            })
            .await
            .map_err(|error| self.change_error(&error))?;
        let Some((place, _)) = found else { return Ok(()) };
        let trigger = self.raft.trigger();
        trigger
            .snapshot()
            .await
            .map_err(|fatal| self.change_error(&fatal))?;
        let wait = self.raft.wait(Some(Duration::from_secs(60)));
        let seen = wait.metrics(
            move |metrics| {
                metrics
                    .snapshot
                    .is_some_and(|snapshot| snapshot.index() >= place.index)
            },
            "a snapshot that covers what is purged",
        );
        seen.await.map_err(|error| self.change_error(&error))?;
        trigger
            .purge_log(place.index)
            .await
            .map_err(|fatal| self.change_error(&fatal))
    }

    /// How the group stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let last_index = metrics.last_log_index.unwrap_or_default();
        let members = metrics.membership_config.membership();
        let behind = metrics
            .replication
            .iter()
            .flatten()
            .filter(|(node, _)| **node != self.node);
        Standing {
            role: self.role.borrow().clone(),
            voters: members.voter_ids().collect(),
            learners: members.learner_ids().collect(),
            members_index: metrics.membership_config.log_id().map_or(0, |id| id.index()),
            is_settled: metrics.membership_config == metrics.committed_membership_config,
            is_changing: members.get_joint_config().len() > 1,
            last_index,
            applied_index: metrics.last_applied.map_or(0, |applied| applied.index()),
            applied: Seq::new(self.shared.applied().seq),
            behind: behind
                .map(|(node, matched)| {
                    let has = matched.as_ref().map_or(0, |id| id.index());
                    (*node, last_index.saturating_sub(has))
                })
                .collect(),
        }
    }

    /// Answers a message of another replica.
    pub async fn answer(&self, errand: Errand, body: Bytes) -> io::Result<Bytes> {
        let unreadable = |error: Unreadable| io::Error::other(error);
        match errand {
            Errand::Append => {
                let request = wire::read_append(body).map_err(unreadable)?;
                let reply = self
                    .raft
                    .append_entries(request)
                    .await
                    .map_err(io::Error::other)?;
                Ok(wire::write_append_reply(&reply))
            }
            Errand::Vote => {
                let request = wire::read_vote(&body).map_err(unreadable)?;
                let reply = self.raft.vote(request).await.map_err(io::Error::other)?;
                Ok(wire::write_vote_reply(&reply))
            }
            Errand::PreVote => {
                let request = wire::read_vote(&body).map_err(unreadable)?;
                let reply = self.raft.pre_vote(request).await.map_err(io::Error::other)?;
                Ok(wire::write_vote_reply(&reply))
            }
            Errand::Transfer => {
                let request = wire::read_transfer(&body).map_err(unreadable)?;
                let reply = self
                    .raft
                    .handle_transfer_leader(request)
                    .await
                    .map_err(io::Error::other)?;
                Ok(wire::write_transfer_reply(&reply))
            }
            Errand::Piece => {
                let piece: PieceWire = wire::read(&body).map_err(unreadable)?;
                let vote = piece.vote().map_err(unreadable)?;
                let mut reply = PieceReply { vote: None };
                if let Some(snapshot) = self.inbox.take(piece).await? {
                    let installed = self.raft.install_full_snapshot(vote, snapshot).await;
                    reply.vote = Some((&installed.map_err(io::Error::other)?.vote).into());
                }
                Ok(wire::write(&reply))
            }
            Errand::Hello | Errand::Batch | Errand::Ask => Err(io::Error::other("not a message to a group")),
        }
    }

    /// Ends this replica's part; what is in the log stays.
    pub async fn close(&self) {
        self.watching.abort();
        // A raft that has panicked has been reported.
        let _ = self.raft.shutdown().await;
    }

    fn change_error(&self, detail: &dyn std::fmt::Display) -> ChangeError {
        ChangeError {
            shard: self.shared.shard,
            detail: detail.to_string(),
        }
    }
}
