//! Reads and commands on any node: a read waits until this node has folded what the shards' owners had when it came.
//!
//! Promises: what was acknowledged by any node is seen by every read that begins afterwards on any other; where no owner
//! answers in time that is said instead of an old value. A command is carried out by the owner, once, and is visible on
//! the node that was asked when it returns.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use gemba_cluster::Errand;
use prost::Message as _;

use super::{
    Cluster,
    keeping::CONFIRM_WITHIN,
    sending::{pause, until},
    wire::{AwaitWire, CommandReply, CommandWire, Said, say},
};
use crate::{
    clock,
    node::CommandError,
    shard::{CommandKind, router::control_number},
    store::StoreError,
};

/// Most time that a read waits for an owner: longer than an election takes.
pub(super) const READ_WITHIN: Duration = Duration::from_secs(5);
/// Most time until another node answers a short question.
pub(super) const ASK_WITHIN: Duration = Duration::from_secs(1);
/// Most time until a command is answered.
pub(super) const COMMAND_WITHIN: Duration = Duration::from_secs(8);
/// Most time that a change of a plant model waits for the other nodes.
const EVERYWHERE_WITHIN: Duration = Duration::from_secs(2);

impl Cluster {
    /// Waits until these shards are folded here as far as they were at their owners when it was called.
    pub(crate) async fn catch_up(&self, shards: impl IntoIterator<Item = u16>) -> Result<(), StoreError> {
        self.catch_up_until(shards, clock::instant() + READ_WITHIN).await
    }

    pub(super) async fn catch_up_until(
        &self,
        shards: impl IntoIterator<Item = u16>,
        until: Instant,
    ) -> Result<(), StoreError> {
        let mut left: Vec<u16> = shards.into_iter().collect();
        for turn in 0.. {
            left = self.catch_up_once(left, turn, until).await;
            let Some(shard) = left.first().copied() else {
                return Ok(());
            };
            if clock::instant() >= until {
                return Err(StoreError::NoOwner { shard });
            }
            pause().await;
        }
        Ok(())
    }

    /// One round; answers the shards of which it is not known.
    async fn catch_up_once(&self, shards: Vec<u16>, turn: usize, until: Instant) -> Vec<u16> {
        let mut left = Vec::new();
        let mut by_owner: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
        for shard in shards {
            let here = self
                .keeping
                .group(shard)
                .filter(|group| group.role().borrow().serves);
            match here {
                Some(group) => {
                    let confirmed = tokio::time::timeout(CONFIRM_WITHIN, group.confirm_by_lease()).await;
                    if !matches!(confirmed, Ok(Ok(()))) {
                        left.push(shard);
                    }
                }
                None => match self.sending.other_owner(shard, turn) {
                    Some(owner) => by_owner.entry(owner).or_default().push(shard),
                    None => left.push(shard),
                },
            }
        }
        let asked = by_owner.into_iter().map(|(owner, shards)| async move {
            let asked = self
                .sending
                .ask_of_shards(owner, Said::Folded, &shards, ASK_WITHIN);
            let next = asked.await;
            let mut left = Vec::new();
            for (at, shard) in shards.into_iter().enumerate() {
                let next = next.get(at).copied().unwrap_or_default();
                let table = self.keeping.table(shard);
                let (Some(seq), Some(table)) = (next.checked_sub(1), table) else {
                    left.push(shard);
                    continue;
                };
                let within = until.saturating_duration_since(clock::instant());
                let folded = tokio::time::timeout(within, table.folded_up_to(seq)).await;
                if folded.is_err() {
                    left.push(shard);
                }
            }
            left
        });
        left.extend(futures_util::future::join_all(asked).await.into_iter().flatten());
        left
    }

    /// Has a command carried out by the shard's owner.
    pub(crate) async fn command(&self, shard: u16, kind: CommandKind) -> Result<u64, CommandError> {
        let until = until();
        for turn in 0.. {
            let result = self.try_command(shard, &kind, turn).await;
            let is_over = clock::instant() >= until;
            match result {
                Err(CommandError::Moved) if !is_over => pause().await,
                Ok(value) => {
                    // It is done; where this node has not heard of it in time, the next read waits.
                    let _ = self.catch_up([shard]).await;
                    if matches!(kind, CommandKind::ApplyPlant { .. }) {
                        self.tell_everywhere().await;
                    }
                    return Ok(value);
                }
                other => return other,
            }
        }
        Err(CommandError::Moved)
    }

    async fn try_command(&self, shard: u16, kind: &CommandKind, turn: usize) -> Result<u64, CommandError> {
        if self.keeping.router.serves(shard) {
            return self.keeping.command_here(shard, kind.clone()).await;
        }
        let owner = self.sending.other_owner(shard, turn).ok_or(CommandError::Moved)?;
        let body = say(Said::Command(CommandWire::of(kind)));
        let answer = self.sending.ask_owner(owner, shard, body, COMMAND_WITHIN).await;
        let unknown = |detail: String| {
            CommandError::Unavailable(format!("{detail}; whether it was carried out is not known"))
        };
        let answer = answer.map_err(|error| unknown(error.to_string()))?;
        let reply = CommandReply::decode(answer).map_err(|error| unknown(error.to_string()))?;
        reply.result()
    }

    /// Waits until the other nodes have the plant model that was applied, so that what comes in there is bound by it.
    async fn tell_everywhere(&self) {
        let seq = self.keeping.control.folded();
        let map = self.keeper.map().borrow().clone();
        let others = map.members.keys().copied().filter(|node| *node != self.node);
        let told = others.map(|node| {
            let body = say(Said::Await(AwaitWire { seq }));
            self.sending
                .ask(node, Errand::Ask, control_number(), body, EVERYWHERE_WITHIN)
        });
        // A node that does not answer learns of it when it is back.
        let _ = futures_util::future::join_all(told).await;
    }

    /// The shards of the cluster with twins, and the control shard.
    pub(crate) fn all_shards(&self) -> impl Iterator<Item = u16> + use<> {
        (0..self.keeping.shared.settings.shards).chain([control_number()])
    }
}

/// A cluster that a node may be a member of.
pub(crate) type Membership = Option<Arc<Cluster>>;
