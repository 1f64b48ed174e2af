//! A group: all subscriptions of a tenant to the same filter, fields and mode share one view of the twins.
//!
//! Promises: a changed twin is judged, rendered and diffed once per group, however many subscribe; what is shown of
//! a twin depends on its revision alone, so that two subscribers at the same revision have the same text. A ring
//! keeps the newest revisions for `every`, bounded by number and bytes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use gemba_twins::{event::Position, id::TwinId, time::Timestamp, twin::Twin};

use super::{HubSettings, Mode, frame, patch, projection::Projection};
use crate::filter::Filter;

/// What the subscriptions of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub(super) filter: Option<Box<str>>,
    pub(super) fields: Option<Arc<Projection>>,
    pub(super) mode: Mode,
}

/// A twin as a group shows it at one revision.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) rev: u64,
    pub(super) position: Position,
    pub(super) at: Option<Timestamp>,
    pub(super) text: Arc<str>,
}

/// The moment as of which a twin is shown to subscribers: that of its newest event. Whether it is stale is thus a
/// matter of its revision too: the tick that makes it stale is an event.
pub(super) fn shown_at(twin: &Twin) -> Timestamp {
    twin.updated_at().unwrap_or_default()
}

/// A twin's whole JSON as subscribers see it.
pub(super) fn whole_text(twin: &Twin) -> String {
    // The view holds nothing that cannot be written as JSON.
    serde_json::to_string(&twin.view(shown_at(twin))).unwrap_or_else(|_| "{}".into())
}

/// Whether a twin is shown to subscribers with this filter.
pub(super) fn matches(filter: Option<&Arc<Filter>>, twin: &Twin) -> bool {
    filter.is_none_or(|filter| filter.matches(twin, shown_at(twin)))
}

/// The twin's text cut to a group's fields.
pub(super) fn cut(whole: &str, fields: Option<&Projection>) -> Arc<str> {
    match fields {
        Some(fields) => patch::without_nulls(&fields.apply(whole)).into(),
        None => patch::without_nulls(whole).into(),
    }
}

/// A twin found while a group is filled.
pub(super) struct Found {
    pub(super) twin: TwinId,
    pub(super) now: Rendered,
}

impl Found {
    /// A twin that matches, as a group with these fields shows it.
    pub(super) fn of(twin: &Twin, fields: Option<&Projection>) -> Self {
        let text = cut(&whole_text(twin), fields);
        let now = Rendered {
            rev: twin.rev(),
            position: twin.position(),
            at: twin.updated_at(),
            text,
        };
        Self {
            twin: twin.id().clone(),
            now,
        }
    }
}

/// A twin that matches, at its newest revision.
pub(super) struct Member {
    pub(super) now: Arc<Rendered>,
    /// The last `change` body made, and the revision it starts from: most subscribers need the same.
    change: Option<(u64, Arc<str>)>,
}

impl Member {
    fn new(now: Arc<Rendered>) -> Self {
        Self { now, change: None }
    }

    /// The body of the `change` from what a subscriber has to the newest.
    pub(super) fn change_from(&mut self, twin: &str, before: &Rendered) -> Arc<str> {
        if let Some((base, body)) = &self.change
            && *base == before.rev
        {
            return body.clone();
        }
        let body = frame::change(twin, before, &self.now);
        self.change = Some((before.rev, body.clone()));
        body
    }
}

/// What a revision was to a group.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Changed(Arc<str>),
    Entered { named: Arc<str>, snapshot: Arc<str> },
    Left(Arc<str>),
}

/// The newest revisions of an `every` group, numbered.
pub(super) struct Ring {
    /// Names this ring in resume tokens; never used twice.
    pub(super) name: u64,
    first: u64,
    steps: VecDeque<(u32, Step)>,
    bytes: usize,
}

impl Ring {
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next revision will have.
    pub(super) fn next(&self) -> u64 {
        self.first + self.steps.len() as u64
    }

    pub(super) fn get(&self, number: u64) -> Option<&(u32, Step)> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.steps.get(at)
    }

    fn push(&mut self, twin: u32, step: Step, settings: &HubSettings) {
        self.bytes += step_bytes(&step);
        self.steps.push_back((twin, step));
        while self.steps.len() > settings.revisions_kept || self.bytes > settings.revisions_kept_bytes {
            let Some((_, oldest)) = self.steps.pop_front() else {
                break;
            };
            self.bytes -= step_bytes(&oldest);
            self.first += 1;
        }
    }

    /// Forgets all revisions after `missed` ones could not be taken in: all who stand before this point are told.
    pub(super) fn skip(&mut self, missed: u64) {
        self.first = self.next() + missed;
        self.steps.clear();
        self.bytes = 0;
    }
}

fn step_bytes(step: &Step) -> usize {
    64 + match step {
        Step::Changed(body) | Step::Left(body) => body.len(),
        Step::Entered { named, snapshot } => named.len() + snapshot.len(),
    }
}

/// One group.
pub(super) struct Group {
    pub(super) key: GroupKey,
    pub(super) filter: Option<Arc<Filter>>,
    pub(super) members: HashMap<u32, Member>,
    /// Subscriptions that are told changes.
    pub(super) subscriptions: Vec<u64>,
    /// Subscriptions that wait until it is filled.
    pub(super) joining: usize,
    /// Filled: `members` are all that match.
    pub(super) ready: bool,
    /// Counts how often it was begun to be filled.
    pub(super) filling: u64,
    /// While it is filled: twins that changed meanwhile, for which the walk's older look does not count.
    pub(super) seen: HashSet<TwinId>,
    pub(super) ring: Ring,
    /// Revisions judged before this generation of `every` groups do not know of this one.
    pub(super) since: u64,
    /// When its last subscription ended.
    pub(super) abandoned: Option<Instant>,
}

/// What an update did to a group that is told of it.
pub(super) enum Update {
    Nothing,
    Entered,
    Changed(Arc<Rendered>),
    Left(Arc<Rendered>),
}

impl Group {
    pub(super) fn new(key: GroupKey, filter: Option<Arc<Filter>>, ring: u64, since: u64) -> Self {
        Self {
            key,
            filter,
            members: HashMap::new(),
            subscriptions: Vec::new(),
            joining: 0,
            ready: false,
            filling: 0,
            seen: HashSet::new(),
            ring: Ring {
                name: ring,
                first: 0,
                steps: VecDeque::new(),
                bytes: 0,
            },
            since,
            abandoned: None,
        }
    }

    /// Takes in a twin's newer state; `None` where it does not match (any more).
    pub(super) fn update(&mut self, number: u32, found: Option<Arc<Rendered>>) -> Update {
        let Some(found) = found else {
            return self
                .members
                .remove(&number)
                .map_or(Update::Nothing, |member| Update::Left(member.now));
        };
        match self.members.get_mut(&number) {
            None => {
                self.members.insert(number, Member::new(found));
                Update::Entered
            }
            Some(member) if member.now.rev >= found.rev => Update::Nothing,
            Some(member) => {
                member.change = None;
                Update::Changed(std::mem::replace(&mut member.now, found))
            }
        }
    }

    /// The same for `every`: keeps the step in the ring. True where there is something to tell.
    pub(super) fn step(
        &mut self,
        number: u32,
        twin: &str,
        found: Option<Arc<Rendered>>,
        settings: &HubSettings,
    ) -> (Update, bool) {
        let update = self.update(number, found);
        let member = self.members.get(&number);
        let step = match (&update, member) {
            (Update::Left(_), _) => Step::Left(frame::named(twin)),
            (Update::Entered, Some(member)) => Step::Entered {
                named: frame::named(twin),
                snapshot: frame::snapshot(twin, &member.now),
            },
            (Update::Changed(before), Some(member)) => {
                Step::Changed(frame::change(twin, before, &member.now))
            }
            _ => return (update, false),
        };
        if self.ready {
            self.ring.push(number, step, settings);
        }
        (update, self.ready)
    }
}
