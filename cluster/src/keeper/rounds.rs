//! The keeper's rounds: each second, and whenever the map changes, what is differs from what should be is mended.
//!
//! Promises: a round never waits for a group; a group has one change under way at a time. Nothing here decides what
//! should be: the map does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::time::MissedTickBehavior;

use super::Keeper;
use crate::{
    ShardId, Standing,
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
/// Hand-overs that may be under way on this node: one by one each shard waits for a few round trips only, and not for the
/// votes of all the others.
const HANDING_OVER: usize = 1;
/// Rounds between two attempts to open a group again, at most.
const PATIENCE: u32 = 32;

/// What the rounds remember.
#[derive(Default)]
struct Notes {
    /// Rounds to wait until a group is opened again, and how many it was last time.
    failed: BTreeMap<u16, (u32, u32)>,
    /// Rounds since a node has answered.
    silent: BTreeMap<u64, u32>,
    /// To whom a shard could be handed over for balance, and since which round.
    near: BTreeMap<u16, (u64, u64)>,
    round: u64,
}

impl Notes {
    /// Whether a node answered when it was greeted last.
    fn lives(&self, node: u64) -> bool {
        self.silent.get(&node) == Some(&0)
    }

    /// Whether a shard could be handed over for balance to this node in an earlier round already: how far a replica is that
    /// has just been taken in, is known for certain only when it has answered since.
    fn was_near(&mut self, shard: ShardId, to: u64) -> bool {
        let (known, since) = self.near.entry(shard.get()).or_insert((to, self.round));
        if *known != to {
            (*known, *since) = (to, self.round);
        }
        *since < self.round
    }

    /// A group is tried again later than last time.
    fn wait_longer(&mut self, shard: ShardId) {
        let (wait, last) = self.failed.entry(shard.get()).or_insert((0, 0));
        *last = (*last * 2).clamp(1, PATIENCE);
        *wait = *last;
    }
}

/// What a group is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Copies,
    HandsOver,
    /// Its last change failed.
    Rests,
}

impl Work {
    /// How many groups may be busy with it at a time.
    const fn most(self) -> usize {
        match self {
            Self::Copies => COPYING,
            Self::HandsOver => HANDING_OVER,
            Self::Rests => usize::MAX,
        }
    }
}

/// Groups with a change under way.
type UnderWay = Arc<Mutex<BTreeMap<u16, Work>>>;

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
            self.bring_to(&map, &mut notes, &under_way);
            if is_tick {
                self.watch_over(&map, &mut notes).await;
            }
        }
    }

    /// Opens the groups that the map gives to this node, again those that have stopped, and leaves the others.
    async fn open_and_leave(&self, map: &ClusterMap, notes: &mut Notes, is_tick: bool) {
        let (node, has_place) = (self.0.member.node, self.0.has_place.load(Ordering::Acquire));
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
                Some(group) if !keeps && map.seq.get() > 0 && has_place => self.leave(&group).await,
                _ => {}
            }
        }
    }

    /// Brings the groups that this node owns to what the map says.
    fn bring_to(&self, map: &Arc<ClusterMap>, notes: &mut Notes, under_way: &UnderWay) {
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
            match &step {
                Some(Step::HandOver(to)) if keepers.contains(&self.0.member.node) => {
                    if !self.0.rebalances || !notes.was_near(group.shard(), *to) {
                        continue;
                    }
                }
                _ => drop(notes.near.remove(&group.shard().get())),
            }
            let Some(step) = step else { continue };
            let work = match step {
                Step::Members(..) => Work::Copies,
                Step::HandOver(_) => Work::HandsOver,
            };
            if busy.values().filter(|other| **other == work).count() >= work.most() {
                continue;
            }
            busy.insert(group.shard().get(), work);
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
                        .insert(shard.get(), Work::Rests);
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
    use super::{super::Heard, *};
    use crate::Epoch;

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
    fn balance_waits_until_a_replica_has_been_near_for_a_round() {
        let (mut notes, shard) = (Notes::default(), ShardId::new(3));
        assert!(!notes.was_near(shard, 2) && !notes.was_near(shard, 2));
        notes.round += 1;
        assert!(notes.was_near(shard, 2));
        assert!(!notes.was_near(shard, 1), "that is another one");
    }

    #[test]
    fn nothing_is_handed_over_to_a_node_that_is_silent() {
        // Its log stands where it did when it died: that alone looks near.
        let standing = standing(&[1, 2], &[(2, 0)]);
        let step = |lives: bool| next_step(1, &standing, &[2, 1], usize::MAX, |_| lives);
        assert_eq!((step(false), step(true)), (None, Some(Step::HandOver(2))));
    }

    #[test]
    fn a_node_that_was_taken_in_again_is_not_let_go() {
        let said = |epoch, index, members: &[u64]| Heard {
            epoch: Epoch::new(epoch),
            index,
            members: members.iter().copied().collect(),
        };
        let let_go = |said: Heard, index| said.has_let_go(1, Epoch::new(4), index);
        assert!(let_go(said(4, 9, &[2, 3]), 9));
        assert!(let_go(said(5, 12, &[2, 3]), 9));
        // The node knows of members since index 11, and it may be one of them.
        assert!(!let_go(said(4, 9, &[2, 3]), 11));
        // An owner of old, and one of whom nothing was heard.
        assert!(!let_go(said(3, 9, &[2, 3]), 9));
        assert!(!let_go(said(4, 9, &[1, 2, 3]), 9));
        assert!(!let_go(Heard::default(), 0));
        // A release that does not say since when.
        assert!(let_go(said(4, 0, &[2, 3]), 11));
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
