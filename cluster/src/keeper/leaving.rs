//! How replicas go from this node: those that the map gives to others, and those that are damaged and begin anew.
//!
//! Promises: nothing is deleted before the group's owner has let this node go, and nothing that a later membership may count
//! on.

use std::sync::PoisonError;

use super::Keeper;
use crate::{Epoch, Group, LogBase, ShardId};

impl Keeper {
    /// Leaves a group that has let this node go.
    pub(super) async fn leave(&self, group: &Group) {
        let shard = group.shard();
        let standing = group.standing();
        let (epoch, index) = (standing.role.epoch, standing.members_index);
        // The map's group is followed as long as there is one: it says where everything is.
        if shard == ShardId::MAP || !self.is_let_go(shard, epoch, index) {
            return;
        }
        self.remove_group(shard);
        group.close().await;
        let standing = group.standing();
        if !self.is_let_go(shard, standing.role.epoch, standing.members_index) {
            // It was taken in again before it was closed: what it has is counted on.
            return;
        }
        if self.delete(shard).await {
            tracing::info!(%shard, "a replica has left this node");
        }
        self.0.shards.left(shard);
    }

    /// Whether a shard's owner says that this node is not a member. A node that is let go need not hear of it in the
    /// log: it is no longer sent to.
    fn is_let_go(&self, shard: ShardId, epoch: Epoch, index: u64) -> bool {
        let heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let said = heard.get(&shard.get());
        said.is_some_and(|said| said.has_let_go(self.0.member.node, epoch, index))
    }

    /// Deletes what this node has of a shard.
    async fn delete(&self, shard: ShardId) -> bool {
        {
            let mut heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.remove(&shard.get());
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.0.journal.reset_log(
            shard,
            LogBase::default(),
            Box::new(move |result| drop(answer.send(result))),
        );
        let is_reset = matches!(answered.await, Ok(Ok(())));
        let is_deleted = is_reset && self.0.ballots.forget(shard).is_ok();
        if !is_deleted {
            tracing::warn!(%shard, "what this node has of a shard cannot be deleted");
        }
        is_deleted
    }

    pub(super) fn is_damaged(&self, shard: ShardId) -> bool {
        let damaged = self.0.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.contains(&shard.get())
    }

    /// Reads the log of a replica that has stopped: what is damaged cannot be opened again.
    pub(super) async fn look_for_damage(&self, shard: ShardId) {
        let journal = self.0.journal.clone();
        let checked = tokio::task::spawn_blocking(move || journal.check_log(shard)).await;
        if let Ok(Err(error)) = checked {
            tracing::error!(%shard, %error, "a replica is damaged; it is replaced from the others");
            let mut damaged = self.0.damaged.lock().unwrap_or_else(PoisonError::into_inner);
            damaged.insert(shard.get());
        }
    }

    /// Replaces a damaged replica: once its owner has let it go it begins anew, as a new node does. Until then its vote
    /// may count on entries that are damaged here, so it must not take part without them.
    pub(super) async fn replace(&self, shard: ShardId) {
        let epoch = self.0.ballots.voted(shard).ok().flatten().unwrap_or_default();
        // It takes no part, so nobody has taken it in again.
        if !self.is_let_go(shard, Epoch::new(epoch), 0) {
            return;
        }
        if self.delete(shard).await {
            let mut damaged = self.0.damaged.lock().unwrap_or_else(PoisonError::into_inner);
            damaged.remove(&shard.get());
            drop(damaged);
            self.0.shards.left(shard);
            tracing::info!(%shard, "a damaged replica begins anew");
            self.0.wake.notify_one();
        }
    }
}
