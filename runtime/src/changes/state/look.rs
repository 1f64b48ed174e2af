//! How what came in reaches the groups, and the subscriptions that have to be woken for it.
//!
//! Promises: only groups that a twin may concern are asked; a twin is rendered once, cut once for each set of
//! fields, and no subscription is woken twice for the same handful of twins.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use gemba_twins::{event::Position, time::Timestamp};
use tokio::sync::Notify;

use super::State;
use crate::{
    changes::{
        Mode,
        group::{Group, Rendered, Update, cut, matches, shown_at, whole_text},
        metrics as names,
        projection::Projection,
        revision::Revision,
    },
    table::TwinSlot,
};

impl State {
    /// Takes in twins that changed: each as it is now.
    pub(in crate::changes) fn take_changed(&mut self, changed: &[Arc<TwinSlot>], wake: &mut Wake) {
        if !self.has(Mode::Latest) {
            return;
        }
        let mut asked = Vec::new();
        for slot in changed {
            for group in self
                .groups
                .values_mut()
                .filter(|group| !group.ready && group.key.mode == Mode::Latest)
            {
                group.seen.insert(slot.id().clone());
            }
            let known = self.roster.numbers.get(slot.id()).copied();
            asked.clear();
            if let Some(number) = known {
                let groups = &self.groups;
                let latest = |name: &&u64| {
                    groups
                        .get(name)
                        .is_some_and(|group| group.key.mode == Mode::Latest)
                };
                asked.extend(self.roster.member_of[number as usize].iter().filter(latest));
            }
            let (mut matching, mut whole) = (Vec::new(), None);
            let (rev, position, at) = slot.with(|twin| {
                self.index.candidates(twin, shown_at(twin), &mut asked);
                asked.sort_unstable();
                asked.dedup();
                let holds = |name: &u64| {
                    self.groups
                        .get(name)
                        .is_some_and(|group| matches(group.filter.as_ref(), twin))
                };
                matching.extend(asked.iter().copied().filter(holds));
                whole = (!matching.is_empty()).then(|| whole_text(twin));
                (twin.rev(), twin.position(), twin.updated_at())
            });
            let number = match known {
                Some(number) => number,
                None if matching.is_empty() => continue,
                None => self.roster.number(slot.id()),
            };
            let mut cuts = Cuts::new(rev, position, at, whole);
            for name in &asked {
                let Some(group) = self.groups.get_mut(name) else {
                    continue;
                };
                if group
                    .members
                    .get(&number)
                    .is_some_and(|member| member.now.rev >= rev)
                {
                    continue;
                }
                let found = if matching.contains(name) {
                    cuts.cut(group.key.fields.as_ref())
                } else {
                    None
                };
                let update = group.update(number, found);
                self.roster.track(number, *name, &update);
                if !group.ready {
                    continue;
                }
                let before = match &update {
                    Update::Nothing => continue,
                    Update::Entered => None,
                    Update::Changed(before) => {
                        if group
                            .members
                            .get(&number)
                            .is_some_and(|member| member.now.text == before.text)
                        {
                            continue;
                        }
                        Some(before)
                    }
                    Update::Left(before) => Some(before),
                };
                for subscriber in &group.subscriptions {
                    if let Some(told) = self.subscribers.get_mut(subscriber) {
                        wake.conflated += u64::from(told.mark(number, before, &self.settings));
                        wake.add(*subscriber, &told.notify);
                    }
                }
            }
        }
    }

    /// Takes in revisions, in their order.
    pub(in crate::changes) fn take_revisions(
        &mut self,
        revisions: &mut VecDeque<Revision>,
        most: usize,
        wake: &mut Wake,
    ) {
        for _ in 0..most {
            let Some(revision) = revisions.pop_front() else {
                return;
            };
            let Revision {
                twin,
                rev,
                position,
                at,
                generation,
                groups,
                whole,
            } = revision;
            // A group that came after the revision was judged sees it, or a newer one, by walking.
            let filling = |group: &&mut Group| {
                !group.ready && group.key.mode == Mode::Every && group.since <= generation
            };
            for group in self.groups.values_mut().filter(filling) {
                group.seen.insert(twin.clone());
            }
            let known = self.roster.numbers.get(&twin).copied();
            let number = match known {
                Some(number) => number,
                None if groups.is_empty() => continue,
                None => self.roster.number(&twin),
            };
            let mut asked = groups.clone();
            asked.extend_from_slice(&self.roster.member_of[number as usize]);
            asked.sort_unstable();
            asked.dedup();
            let mut cuts = Cuts::new(rev, position, at, whole);
            let shown = twin.to_string();
            for name in asked {
                let Some(group) = self.groups.get_mut(&name) else {
                    continue;
                };
                let older = group
                    .members
                    .get(&number)
                    .is_some_and(|member| member.now.rev >= rev);
                if group.key.mode == Mode::Latest || group.since > generation || older {
                    continue;
                }
                let found = if groups.contains(&name) {
                    cuts.cut(group.key.fields.as_ref())
                } else {
                    None
                };
                let (update, told) = group.step(number, &shown, found, &self.settings);
                self.roster.track(number, name, &update);
                if told {
                    for subscriber in &group.subscriptions {
                        if let Some(told) = self.subscribers.get(subscriber) {
                            wake.add(*subscriber, &told.notify);
                        }
                    }
                }
            }
        }
    }

    /// So many revisions could not be taken in: every `every` group has to be filled again. Returns their names.
    pub(in crate::changes) fn missed(&mut self, missed: u64) -> Vec<u64> {
        let mut refill = Vec::new();
        for (name, group) in self
            .groups
            .iter_mut()
            .filter(|(_, group)| group.key.mode == Mode::Every)
        {
            for number in group.members.keys() {
                self.roster.member_of[*number as usize].retain(|other| other != name);
            }
            group.members.clear();
            group.ring.skip(missed);
            group.ready = false;
            group.filling += 1;
            group.seen = HashSet::new();
            refill.push(*name);
        }
        refill
    }
}

/// Subscriptions to wake, each once.
#[derive(Default)]
pub(in crate::changes) struct Wake {
    names: HashSet<u64>,
    notifies: Vec<Arc<Notify>>,
    /// Changes merged into one that waited.
    pub(in crate::changes) conflated: u64,
}

impl Wake {
    pub(super) fn add(&mut self, subscriber: u64, notify: &Arc<Notify>) {
        if self.names.insert(subscriber) {
            self.notifies.push(notify.clone());
        }
    }

    /// Wakes them; to be called without the tenant's lock.
    pub(in crate::changes) fn up(&mut self) {
        self.names.clear();
        self.notifies.drain(..).for_each(|notify| notify.notify_one());
        if self.conflated > 0 {
            metrics::counter!(names::CONFLATED).increment(std::mem::take(&mut self.conflated));
        }
    }
}

/// A twin at one revision, cut once for each projection.
struct Cuts {
    rev: u64,
    position: Position,
    at: Option<Timestamp>,
    whole: Option<String>,
    made: Vec<(Option<Arc<Projection>>, Arc<Rendered>)>,
}

impl Cuts {
    fn new(rev: u64, position: Position, at: Option<Timestamp>, whole: Option<String>) -> Self {
        Self {
            rev,
            position,
            at,
            whole,
            made: Vec::new(),
        }
    }

    fn cut(&mut self, fields: Option<&Arc<Projection>>) -> Option<Arc<Rendered>> {
        let whole = self.whole.as_deref()?;
        if let Some((_, made)) = self.made.iter().find(|(known, _)| known.as_ref() == fields) {
            return Some(made.clone());
        }
        let text = cut(whole, fields.map(|fields| &**fields));
        let made = Arc::new(Rendered {
            rev: self.rev,
            position: self.position,
            at: self.at,
            text,
        });
        self.made.push((fields.cloned(), made.clone()));
        Some(made)
    }
}
