//! The keeper's rounds: each second, and whenever the map changes, what is differs from what should be is mended.
//!
//! Promises: a round never waits for a group; a group has one change under way at a time. Nothing here decides what
//! should be: the map does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::MissedTickBehavior;

use super::Keeper;
use crate::{
    Epoch, Group, LogBase, ShardId, Standing,
    map::{Change, ClusterMap, MemberState, Standing as MemberStanding, VOTERS},
};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Most time that a hand-over may take until it is given up.
const HAND_OVER: Duration = Duration::from_secs(2);
/// After a change that failed, until the group's next one.
const REST: Duration = Duration::from_secs(3);
/// Entries by which a replica may be behind to be handed over to.
const NEARLY: u64 = 64;
/// Changes of voters that may be under way on this node: each copies a shard.
const COPYING: usize = 2;
/// Rounds between two attempts to open a group again, at most.
const PATIENCE: u32 = 32;

/// What the rounds remember.
#[derive(Default)]
struct Notes {
    /// Rounds to wait until a group is opened again, and how many it was last time.
    failed: BTreeMap<u16, (u32, u32)>,
    /// Rounds since a node has answered.
    silent: BTreeMap<u64, u32>,
    round: u64,
}

impl Notes {
    /// Whether a node answered when it was greeted last.
    fn lives(&self, node: u64) -> bool {
        self.silent.get(&node) == Some(&0)
    }

    /// A group is tried again later than last time.
    fn wait_longer(&mut self, shard: ShardId) {
        let (wait, last) = self.failed.entry(shard.get()).or_insert((0, 0));
        *last = (*last * 2).clamp(1, PATIENCE);
        *wait = *last;
    }
}

/// Groups with a change under way; the value says whether it copies.
type UnderWay = Arc<Mutex<BTreeMap<u16, bool>>>;

impl Keeper {
    pub(super) async fn go_rounds(self) {
        let mut ticks = tokio::time::interval(ROUND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut notes, under_way) = (Notes::default(), UnderWay::default());
        loop {
            let is_tick = tokio::select! {
                biased;
                _ = ticks.tick() => true,
                () = self.0.wake.notified() => false,
            };
            let map = self.map().borrow().clone();
            notes.round += u64::from(is_tick);
            self.open_and_leave(&map, &mut notes, is_tick).await;
            self.bring_to(&map, &notes, &under_way);
            if is_tick {
                self.watch_over(&map, &mut notes).await;
            }
        }
    }

    /// Opens the groups that the map gives to this node, again those that have stopped, and leaves the others.
    async fn open_and_leave(&self, map: &ClusterMap, notes: &mut Notes, is_tick: bool) {
        let node = self.0.member.node;
        for group in self.groups() {
            let (shard, failed) = (group.shard(), group.role().borrow().failed.clone());
            if let Some(reason) = failed {
                tracing::error!(%shard, %reason, "a replica has stopped; it is opened again");
                self.remove_group(shard);
                group.close().await;
                self.look_for_damage(shard).await;
                notes.wait_longer(shard);
            }
        }
        for shard in map.all_shards() {
            let keeps = map.keepers(shard).contains(&node);
            match self.group(shard) {
                None if keeps => {
                    if let Some((wait, _)) = notes.failed.get_mut(&shard.get())
                        && *wait > 0
                    {
                        *wait -= u32::from(is_tick);
                        continue;
                    }
                    if self.is_damaged(shard) {
                        self.replace(shard).await;
                        continue;
                    }
                    if let Err(error) = self.open_group(shard).await {
                        tracing::error!(%shard, %error, "a replica does not open");
                        self.look_for_damage(shard).await;
                        notes.wait_longer(shard);
                    }
                }
                Some(group) if !keeps && map.seq.get() > 0 => self.leave(&group).await,
                _ => {}
            }
        }
    }

    /// Leaves a group that has let this node go.
    async fn leave(&self, group: &Group) {
        let shard = group.shard();
        let epoch = group.role().borrow().epoch;
        // The map's group is followed as long as there is one: it says where everything is.
        if shard == ShardId::MAP || !self.is_let_go(shard, epoch) {
            return;
        }
        self.remove_group(shard);
        group.close().await;
        if self.delete(shard).await {
            tracing::info!(%shard, "a replica has left this node");
        }
        self.0.shards.left(shard);
    }

    /// Whether a shard's owner says that this node is not a member. A node that is let go need not hear of it in the
    /// log: it is no longer sent to.
    fn is_let_go(&self, shard: ShardId, epoch: Epoch) -> bool {
        let heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&shard.get()).is_some_and(|(known, members)| {
            *known >= epoch && !members.is_empty() && !members.contains(&self.0.member.node)
        })
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

    fn is_damaged(&self, shard: ShardId) -> bool {
        let damaged = self.0.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.contains(&shard.get())
    }

    /// Reads the log of a replica that has stopped: what is damaged cannot be opened again.
    async fn look_for_damage(&self, shard: ShardId) {
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
    async fn replace(&self, shard: ShardId) {
        let epoch = self.0.ballots.voted(shard).ok().flatten().unwrap_or_default();
        if !self.is_let_go(shard, Epoch::new(epoch)) {
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

    /// Brings the groups that this node owns to what the map says.
    fn bring_to(&self, map: &Arc<ClusterMap>, notes: &Notes, under_way: &UnderWay) {
        for group in self.groups() {
            let standing = group.standing();
            let mut busy = under_way.lock().unwrap_or_else(PoisonError::into_inner);
            if !standing.role.serves || busy.contains_key(&group.shard().get()) {
                continue;
            }
            let mut keepers = map.keepers(group.shard());
            let there = self
                .0
                .damaged_there
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let is_damaged = |node: &u64| {
                there
                    .get(node)
                    .is_some_and(|shards| shards.contains(&group.shard().get()))
            };
            keepers.retain(|node| !is_damaged(node));
            drop(there);
            let step = next_step(
                self.0.member.node,
                &standing,
                &keepers,
                voters_of(group.shard()),
                |node| notes.lives(node),
            );
            let Some(step) = step else { continue };
            let only_balances = keepers.contains(&self.0.member.node) && matches!(step, Step::HandOver(_));
            if only_balances && !self.0.rebalances {
                continue;
            }
            let copies = matches!(step, Step::Members(..));
            if copies && busy.values().filter(|copies| **copies).count() >= COPYING {
                continue;
            }
            busy.insert(group.shard().get(), copies);
            drop(busy);
            let (keeper, under_way) = (self.clone(), under_way.clone());
            let working = tokio::spawn(async move {
                let shard = group.shard();
                let changed = match step {
                    Step::Members(voters, followers) => group.set_members(voters, followers).await,
                    Step::HandOver(to) => group.hand_over(to, HAND_OVER).await,
                };
                if let Err(error) = changed {
                    tracing::warn!(%shard, %error, "a group is not as the map says yet");
                    // It makes room for others, and what has failed would fail again at once.
                    under_way
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(shard.get(), false);
                    tokio::time::sleep(REST).await;
                }
                let mut busy = under_way.lock().unwrap_or_else(PoisonError::into_inner);
                busy.remove(&shard.get());
                drop(busy);
                keeper.0.wake.notify_one();
            });
            self.work(working.abort_handle());
        }
    }

    /// Listens whether the others live; the map's owner says so when one does not.
    async fn watch_over(&self, map: &Arc<ClusterMap>, notes: &mut Notes) {
        let others = map
            .members
            .keys()
            .copied()
            .filter(|node| *node != self.0.member.node);
        let asked: Vec<_> = others
            .map(|node| {
                let keeper = self.clone();
                async move { (node, keeper.greet(node).await) }
            })
            .collect();
        for (node, lives) in futures_util::future::join_all(asked).await {
            let silent = notes.silent.entry(node).or_default();
            *silent = if lives { 0 } else { *silent + 1 };
        }
        let owns = self
            .group(ShardId::MAP)
            .is_some_and(|group| group.role().borrow().serves);
        if !owns || self.0.gone_after == 0 {
            return;
        }
        for member in map.members.values() {
            let silent = notes.silent.get(&member.node).copied().unwrap_or_default();
            if silent >= self.0.gone_after && member.state() == MemberState::Up {
                tracing::warn!(
                    node = member.node,
                    silent,
                    "a node is gone; its shards are copied elsewhere"
                );
                let gone = Change::Stand(MemberStanding {
                    node: member.node,
                    state: MemberState::Gone as i32,
                });
                if let Err(reason) = self.change_map(gone).await {
                    tracing::warn!(node = member.node, %reason, "a node that is gone stays on the map");
                }
            }
        }
    }
}

/// How many of a shard's keepers vote, the first ones; the others only follow.
fn voters_of(shard: ShardId) -> usize {
    if shard == ShardId::CONTROL {
        VOTERS
    } else {
        usize::MAX
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Those that vote, and those that only follow.
    Members(BTreeSet<u64>, BTreeSet<u64>),
    HandOver(u64),
}

/// The next step of an owner towards what the map says: the first `vote` keepers vote, the others follow. Only who lives
/// is handed over to: a hand-over to a node that has died leaves the shard without an owner until there is an election.
fn next_step(
    node: u64,
    standing: &Standing,
    keepers: &[u64],
    vote: usize,
    lives: impl Fn(u64) -> bool,
) -> Option<Step> {
    let wanted: BTreeSet<u64> = keepers.iter().copied().take(vote).collect();
    let followers: BTreeSet<u64> = keepers.iter().copied().skip(vote).collect();
    let preferred = *keepers.first()?;
    let is_near = |other: u64| {
        let mut behind = standing.behind.iter();
        behind.any(|(known, behind)| *known == other && *behind <= NEARLY) && lives(other)
    };
    if standing.voters != wanted || standing.learners != followers || standing.is_changing {
        // An owner does not vote itself out: it lets the new ones in first, and hands over to one of them.
        if wanted.contains(&node) {
            return Some(Step::Members(wanted, followers));
        }
        let with_me: BTreeSet<u64> = wanted.iter().copied().chain([node]).collect();
        if standing.voters != with_me || standing.is_changing {
            return Some(Step::Members(with_me, standing.learners.clone()));
        }
        return wanted
            .iter()
            .copied()
            .find(|other| is_near(*other))
            .map(Step::HandOver);
    }
    (preferred != node && is_near(preferred)).then_some(Step::HandOver(preferred))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(voters: &[u64], behind: &[(u64, u64)]) -> Standing {
        Standing {
            voters: voters.iter().copied().collect(),
            behind: behind.to_vec(),
            ..Standing::default()
        }
    }

    fn voters(nodes: &[u64]) -> Option<Step> {
        Some(Step::Members(nodes.iter().copied().collect(), BTreeSet::new()))
    }

    #[test]
    fn an_owner_goes_one_step_at_a_time() {
        let table = [
            ("alone and so it should be", standing(&[1], &[]), &[1][..], None),
            (
                "two more are wanted",
                standing(&[1], &[]),
                &[1, 2, 3],
                voters(&[1, 2, 3]),
            ),
            (
                "it should not be there: the others first",
                standing(&[1], &[]),
                &[2, 3],
                voters(&[1, 2, 3]),
            ),
            (
                "and then it hands over",
                standing(&[1, 2, 3], &[(2, 900), (3, 5)]),
                &[2, 3],
                Some(Step::HandOver(3)),
            ),
            (
                "but not to one that is behind",
                standing(&[1, 2, 3], &[(2, 900), (3, 500)]),
                &[2, 3],
                None,
            ),
            (
                "another one should own it",
                standing(&[1, 2], &[(2, 0)]),
                &[2, 1],
                Some(Step::HandOver(2)),
            ),
            (
                "when it has the log",
                standing(&[1, 2], &[(2, 70)]),
                &[2, 1],
                None,
            ),
            (
                "nobody is wanted: the map is not known",
                standing(&[1, 2], &[(2, 0)]),
                &[],
                None,
            ),
        ];
        for (story, standing, keepers, step) in table {
            assert_eq!(
                next_step(1, &standing, keepers, usize::MAX, |_| true),
                step,
                "{story}"
            );
        }
    }

    #[test]
    fn nothing_is_handed_over_to_a_node_that_is_silent() {
        // Its log stands where it did when it died: that alone looks near.
        let standing = standing(&[1, 2], &[(2, 0)]);
        let step = |lives: bool| next_step(1, &standing, &[2, 1], usize::MAX, |_| lives);
        assert_eq!((step(false), step(true)), (None, Some(Step::HandOver(2))));
    }

    #[test]
    fn those_beyond_the_voters_follow() {
        let set = |nodes: &[u64]| nodes.iter().copied().collect::<BTreeSet<u64>>();
        let mut standing = standing(&[1, 2], &[(2, 0)]);
        let step = Some(Step::Members(set(&[1, 2]), set(&[3])));
        assert_eq!(next_step(1, &standing, &[1, 2, 3], 2, |_| true), step);
        standing.learners = set(&[3]);
        assert_eq!(next_step(1, &standing, &[1, 2, 3], 2, |_| true), None);
        let gone = Some(Step::Members(set(&[1, 2]), set(&[])));
        assert_eq!(next_step(1, &standing, &[1, 2], 2, |_| true), gone);
    }
}
