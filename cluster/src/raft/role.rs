//! What a replica is at the moment, how its group stands, and what became of a proposal.
//!
//! Promises: a replica says that it serves only once it has applied what all older owners wrote, and stops saying so
//! when it hears of another owner.

use std::{collections::BTreeSet, sync::Arc};

use openraft::{ServerState, async_runtime::WatchReceiver};
use thiserror::Error;
use tokio::sync::watch;

use super::group::RaftOf;
use crate::{Epoch, Seq, ShardId};

/// What a replica is at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// The newest epoch that it knows of.
    pub epoch: Epoch,
    /// The owner, if it knows one.
    pub owner: Option<u64>,
    /// Whether it is the owner itself, and has applied all that older owners wrote: it may serve and propose.
    pub serves: bool,
    /// Why it has stopped; it has to be opened again.
    pub failed: Option<Arc<str>>,
}

/// Why a proposal was not answered as applied.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Not taken: this node does not own the shard, or not in that epoch.
    #[error("not the owner of shard {shard} (node {owner:?} may be)")]
    NotOwner {
        /// The shard.
        shard: ShardId,
        /// Who may be.
        owner: Option<u64>,
    },
    /// Not taken: this owner has not heard of a majority for a while, or is handing over. It may be tried again.
    #[error("shard {shard} takes nothing at the moment")]
    NotNow {
        /// The shard.
        shard: ShardId,
    },
    /// Taken, and then another owner's log took its place here: it may or may not be applied elsewhere. Whoever
    /// tries again has to be recognised.
    #[error("shard {shard} has changed its owner (the outcome is not known)")]
    Unknown {
        /// The shard.
        shard: ShardId,
    },
    /// The replica has stopped.
    #[error("shard {shard} has stopped: {detail}")]
    Stopped {
        /// The shard.
        shard: ShardId,
        /// Why.
        detail: String,
    },
    /// There is nothing in it.
    #[error("a batch without records")]
    Empty,
}

/// Why a change of a group was not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("shard {shard}: {detail}")]
pub struct ChangeError {
    /// The shard.
    pub shard: ShardId,
    /// What failed.
    pub detail: String,
}

/// How a group stands, for whoever looks after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// What this replica is.
    pub role: Role,
    /// Those that vote.
    pub voters: BTreeSet<u64>,
    /// Those that follow without a vote.
    pub learners: BTreeSet<u64>,
    /// The index of the log at which these became the members.
    pub members_index: u64,
    /// Whether a majority has taken these members in.
    pub is_settled: bool,
    /// Whether a change of voters has been begun and not been ended.
    pub is_changing: bool,
    /// The index of the last entry here.
    pub last_index: u64,
    /// The index of the last entry that is applied here.
    pub applied_index: u64,
    /// The last seq that is applied here.
    pub applied: Seq,
    /// How far each other replica is behind, in entries; known to the owner only.
    pub behind: Vec<(u64, u64)>,
}

/// Tells what the replica is, from what raft says and from what the state machine has announced.
pub(crate) async fn watch_role(
    raft: RaftOf,
    mut began: watch::Receiver<(Epoch, bool)>,
    publish: watch::Sender<Role>,
) {
    let mut metrics = raft.metrics();
    loop {
        let (role, ended) = {
            let seen = metrics.borrow_and_update();
            let (epoch, mine) = *began.borrow_and_update();
            let term = Epoch::new(seen.current_term);
            let leads = seen.state == ServerState::Leader && seen.current_leader == Some(seen.id);
            let failed = seen
                .running_state
                .as_ref()
                .err()
                .map(|fatal| fatal.to_string().into());
            let role = Role {
                epoch: term,
                owner: seen.current_leader,
                serves: leads && mine && epoch == term && failed.is_none(),
                failed,
            };
            (role.clone(), role.failed.is_some())
        };
        publish.send_if_modified(|known| {
            let is_new = *known != role;
            *known = role;
            is_new
        });
        if ended {
            return;
        }
        let changed = tokio::select! {
            biased;
            changed = metrics.changed() => changed.is_ok(),
            changed = began.changed() => changed.is_ok(),
        };
        if !changed {
            publish.send_modify(|role| {
                role.serves = false;
                role.failed.get_or_insert_with(|| "it was closed".into());
            });
            return;
        }
    }
}
