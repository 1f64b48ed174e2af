//! How a group begins, and how long it waits for what.
//!
//! Promises: a shard that has frames and no log becomes a group of one node in place; nothing that is there is written
//! again.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use openraft::{Config, SnapshotPolicy};

use super::{
    ballots::Ballots,
    wire::{self, VoteWire},
};
use crate::{Journal, LogBase, LogPlace, ShardId};

/// How long a group waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats of an owner.
    pub heartbeat: Duration,
    /// A replica keeps to the owner that it has heard of within the second of these, the lease, and stands for election
    /// when it is over and a time between the two has passed as well.
    pub election: (Duration, Duration),
    /// Most time that the installing of a snapshot may take.
    pub install: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self::of_heartbeat(Duration::from_millis(100))
    }
}

impl Timing {
    /// All times by the time between two heartbeats: the lease is six of them, so that an owner is replaced when ten to
    /// twelve have been missed; 64 groups at 100 ms cost an eighth of a core.
    #[must_use]
    pub fn of_heartbeat(heartbeat: Duration) -> Self {
        Self {
            heartbeat,
            election: (heartbeat * 4, heartbeat * 6),
            install: Duration::from_secs(600),
        }
    }
}

/// Makes a shard that has no log a group of one: this node. Its frames stay where they are and count as applied.
pub async fn found(journal: &Journal, ballots: &Arc<Ballots>, shard: ShardId, node: u64) -> io::Result<()> {
    if journal.log(shard).is_some() {
        return Ok(());
    }
    let term = journal.epoch(shard).get().max(1);
    let place = LogPlace { term, index: 1 };
    let members = openraft::Membership::new_with_defaults(vec![BTreeSet::from([node])], []);
    let base = LogBase {
        place: Some(place),
        seq: journal.last_seq(shard).get(),
        epoch: journal.epoch(shard).get(),
        members: wire::write_members(&members),
        members_place: place,
    };
    // The term is used up before the log begins, so that a first owner has one of its own.
    let vote = VoteWire {
        term,
        node,
        committed: false,
    };
    ballots.save_vote(shard, vote)?;
    let (answer, answered) = tokio::sync::oneshot::channel();
    journal.begin_log(shard, base, Box::new(move |result| drop(answer.send(result))));
    if journal.turns() == crate::Turns::ByHand {
        journal.turn();
    }
    answered
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)
}

pub(crate) fn config(timing: Timing) -> Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "gemba".into(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election.0),
        election_timeout_max: millis(timing.election.1),
        install_snapshot_timeout: millis(timing.install),
        // The state's own snapshots stand for the log; it is purged when its keeper says so.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX / 4,
        api_channel_size: Some(1_024),
        max_payload_entries: 256,
        // Each start is an election, so that each run of an owner has an epoch of its own.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        // An owner that is heard and hears nobody would keep the others from electing: it falls silent for as long as an
        // election takes.
        quorum_loss_probe_interval: Some(2 * millis(timing.election.1)),
        ..Config::default()
    }
}
