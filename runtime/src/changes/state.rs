//! All groups and subscriptions of one tenant, and how a changed twin reaches them.
//!
//! Promises: a twin is judged in the state it has when it is looked at, so what a group holds only moves forward;
//! a group that is being filled takes in changes meanwhile, so nothing falls between the walk and the changes.
//! Decides only: no task, no clock, no lock.

mod look;
mod roster;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use gemba_twins::id::TwinId;
use tokio::sync::Notify;

pub(super) use self::look::Wake;
use self::roster::Roster;
use super::{
    Frame, HubSettings, Mode,
    group::{Found, Group, GroupKey},
    index::Index,
    revision::Targets,
    subscriber::{Resume, Subscriber, Telling},
};
use crate::filter::Filter;

/// A tenant's groups and subscriptions.
pub(super) struct State {
    settings: HubSettings,
    groups: HashMap<u64, Group>,
    by_key: HashMap<GroupKey, u64>,
    subscribers: HashMap<u64, Subscriber>,
    index: Index,
    targets: Targets,
    roster: Roster,
    last_name: u64,
    /// Every change up to these seqs, by shard, is in the groups.
    processed: Arc<[u64]>,
    /// A task looks at what comes in.
    pub(super) working: bool,
    pub(super) closed: bool,
}

impl State {
    /// `names_from` must be beyond all names that an earlier state of the tenant gave.
    pub(super) fn new(settings: HubSettings, names_from: u64) -> Self {
        Self {
            settings,
            groups: HashMap::new(),
            by_key: HashMap::new(),
            subscribers: HashMap::new(),
            index: Index::default(),
            targets: Targets::default(),
            roster: Roster::default(),
            last_name: names_from,
            processed: [].into(),
            working: false,
            closed: false,
        }
    }

    fn name(&mut self) -> u64 {
        self.last_name += 1;
        self.last_name
    }

    pub(super) fn group(&self, group: u64) -> Option<&Group> {
        self.groups.get(&group)
    }

    pub(super) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Whether there is a group of this mode.
    pub(super) fn has(&self, mode: Mode) -> bool {
        self.groups.values().any(|group| group.key.mode == mode)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Finds the group of a key or makes it. One more subscription is about to join it.
    pub(super) fn join(&mut self, key: GroupKey, filter: Option<Arc<Filter>>) -> u64 {
        if let Some(group) = self.by_key.get(&key) {
            if let Some(known) = self.groups.get_mut(group) {
                known.joining += 1;
                known.abandoned = None;
            }
            return *group;
        }
        let name = self.name();
        match key.mode {
            Mode::Latest => self.index.add(name, filter.as_ref()),
            Mode::Every => self.targets.add(name, filter.clone()),
        }
        self.by_key.insert(key.clone(), name);
        let mut group = Group::new(key, filter, name, self.targets.generation);
        group.joining = 1;
        self.groups.insert(name, group);
        name
    }

    /// Puts a subscription on the books; it is told nothing before [`State::start`].
    pub(super) fn subscribe(
        &mut self,
        group: u64,
        id: Arc<str>,
        scope: u64,
        interval: Duration,
        now: Instant,
    ) -> u64 {
        let name = self.name();
        self.subscribers
            .insert(name, Subscriber::new(group, id, scope, interval, now));
        name
    }

    pub(super) fn notify(&self, subscriber: u64) -> Option<Arc<Notify>> {
        self.subscribers
            .get(&subscriber)
            .map(|subscriber| subscriber.notify.clone())
    }

    /// Which filling of a group is under way; none where it is filled, or gone.
    pub(super) fn filling(&self, group: u64) -> Option<u64> {
        self.groups
            .get(&group)
            .filter(|group| !group.ready)
            .map(|group| group.filling)
    }

    /// Takes twins into a group that is being filled, unless a change overtook them.
    pub(super) fn fill(&mut self, group: u64, filling: u64, found: Vec<Found>) {
        let unready = |group: &&mut Group| !group.ready && group.filling == filling;
        let Some(filled) = self.groups.get_mut(&group).filter(unready) else {
            return;
        };
        for Found { twin, now } in found {
            if !filled.seen.contains(&twin) {
                let number = self.roster.number(&twin);
                let update = filled.update(number, Some(Arc::new(now)));
                self.roster.track(number, group, &update);
            }
        }
    }

    /// A group holds all that match, unless it had to be emptied meanwhile.
    pub(super) fn filled(&mut self, group: u64, filling: u64, wake: &mut Wake) {
        let Some(filled) = self
            .groups
            .get_mut(&group)
            .filter(|group| group.filling == filling)
        else {
            return;
        };
        filled.ready = true;
        filled.seen = HashSet::new();
        for name in &filled.subscriptions {
            if let Some(subscriber) = self.subscribers.get(name) {
                wake.add(*name, &subscriber.notify);
            }
        }
    }

    /// Begins to tell a subscription, whose group is filled. `gone` are twins that changed since its token and did
    /// not match when they were looked at.
    pub(super) fn start(&mut self, subscriber: u64, mut resume: Resume, gone: &[TwinId]) {
        let Some(starting) = self.subscribers.get_mut(&subscriber) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&starting.group) else {
            return;
        };
        let gone = gone.iter().map(|twin| self.roster.number(twin));
        resume.gone = gone
            .filter(|number| !group.members.contains_key(number))
            .collect();
        group.joining -= 1;
        group.subscriptions.push(subscriber);
        starting.start(group, &self.processed, resume);
        starting.notify.notify_one();
    }

    /// A subscription cannot be told anything any more.
    pub(super) fn fail(&mut self, subscriber: u64, code: &'static str, detail: String) {
        if let Some(failed) = self.subscribers.get_mut(&subscriber) {
            failed.failed = Some((code, detail));
            failed.notify.notify_one();
        }
    }

    /// A group cannot be filled.
    pub(super) fn fail_group(&mut self, group: u64, code: &'static str, detail: &str) {
        let failed = self
            .groups
            .get(&group)
            .map(|group| group.subscriptions.clone())
            .unwrap_or_default();
        failed
            .into_iter()
            .for_each(|subscriber| self.fail(subscriber, code, detail.to_owned()));
    }

    /// A subscription ended. An `every` group is kept for a while, so that its subscriber can come back.
    pub(super) fn unsubscribe(&mut self, subscriber: u64, now: Instant) {
        let Some(ended) = self.subscribers.remove(&subscriber) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&ended.group) else {
            return;
        };
        match group.subscriptions.iter().position(|name| *name == subscriber) {
            Some(at) => {
                group.subscriptions.swap_remove(at);
            }
            None => group.joining -= 1,
        }
        if group.subscriptions.is_empty() && group.joining == 0 {
            group.abandoned = Some(now);
            if group.key.mode == Mode::Latest || !group.ready {
                self.drop_group(ended.group);
            }
        }
    }

    /// Drops groups that were abandoned long enough ago.
    pub(super) fn sweep(&mut self, now: Instant) {
        let linger = self.settings.linger;
        let over = |group: &Group| {
            group
                .abandoned
                .is_some_and(|since| now.saturating_duration_since(since) >= linger)
        };
        let over: Vec<u64> = self
            .groups
            .iter()
            .filter(|(_, group)| over(group))
            .map(|(name, _)| *name)
            .collect();
        over.into_iter().for_each(|group| self.drop_group(group));
    }

    fn drop_group(&mut self, name: u64) {
        let Some(group) = self.groups.remove(&name) else {
            return;
        };
        self.by_key.remove(&group.key);
        match group.key.mode {
            Mode::Latest => self.index.remove(name),
            Mode::Every => self.targets.remove(name),
        }
        if self.groups.is_empty() {
            // Nobody knows a number any more.
            self.roster = Roster::default();
        } else {
            for number in group.members.keys() {
                self.roster.member_of[*number as usize].retain(|other| *other != name);
            }
        }
    }

    /// Everything up to these seqs is in the groups.
    pub(super) fn set_processed(&mut self, seqs: Arc<[u64]>) {
        self.processed = seqs;
    }

    /// Makes a subscription's next frames. Where there are none: how long to wait, `None` until it is woken.
    pub(super) fn tell(
        &mut self,
        subscriber: u64,
        origin: u64,
        now: Instant,
        out: &mut VecDeque<Frame>,
    ) -> Result<Option<Duration>, Ended> {
        let Some(told) = self.subscribers.get_mut(&subscriber).filter(|_| !self.closed) else {
            return Err(Ended);
        };
        if let Some((code, detail)) = told.failed.take() {
            out.push_back(Frame::error(told.id(), code, &detail));
            self.unsubscribe(subscriber, now);
            return Ok(None);
        }
        let Some(group) = self.groups.get_mut(&told.group) else {
            return Err(Ended);
        };
        let (names, processed, settings) = (&self.roster.names[..], &self.processed, &self.settings);
        Ok(told.tell(&mut Telling {
            group,
            names,
            processed,
            origin,
            settings,
            now,
            out,
        }))
    }

    /// Ends all subscriptions.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.subscribers
            .values()
            .for_each(|subscriber| subscriber.notify.notify_one());
    }

    #[cfg(test)]
    pub(super) fn waits(&self, subscriber: u64) -> usize {
        self.subscribers.get(&subscriber).map_or(0, Subscriber::waits)
    }
}

/// The subscription is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended;
