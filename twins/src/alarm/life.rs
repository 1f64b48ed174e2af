//! The life cycle of one alarm: states and transitions of ISA-18.2 (IEC 62682), with delays and latching.
//!
//! Promises: bounded; an occurrence is announced once and acknowledged once; a shelved, suppressed or out-of-service
//! alarm goes on being judged, and what is still active when it comes back is announced then. An on-delay counts from
//! when the condition came, a refractory time from when the alarm was raised last. Knows nothing of conditions.

use super::{
    rule::{AlarmRule, Priority},
    said::{AlarmAction, AlarmChange, AlarmRefused},
    words::{AlarmState, AlarmWhat},
};
use crate::{attributes::block, event::Value, time::Timestamp};

/// Changes remembered of an alarm; all are in the journal.
const HISTORY_MAX: usize = 8;
/// Times of raising remembered: one more than makes a flood.
const RAISED_MAX: usize = 11;
/// Longest time on the shelf.
const SHELVED_MAX_MS: i64 = 31 * 86_400_000;
/// An alarm that is raised so often within a minute chatters (ISA-18.2).
const CHATTER_COUNT: usize = 3;
const CHATTER_MS: i64 = 60_000;
/// The time that a flood is counted over.
const FLOOD_MS: i64 = 10 * 60_000;
/// An alarm that stands longer than this is stale (ISA-18.2).
const STANDING_MS: i64 = 24 * 3_600_000;

/// Who said what.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Note {
    pub(crate) by: Box<str>,
    pub(crate) comment: Option<Box<str>>,
}

/// A change that is remembered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Past {
    pub(crate) at: Timestamp,
    pub(crate) what: AlarmWhat,
    pub(crate) note: Option<Box<Note>>,
}

/// What an alarm needs once something happened to it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Story {
    /// When the state that is shown began.
    pub(crate) since: Option<Timestamp>,
    /// When it became active last, announced or not.
    pub(crate) raised_at: Option<Timestamp>,
    pub(crate) returned_at: Option<Timestamp>,
    pub(crate) acknowledged_at: Option<Timestamp>,
    pub(crate) acknowledged: Option<Box<Note>>,
    /// What was said last.
    pub(crate) comment: Option<Box<str>>,
    pub(crate) shelved_until: Option<Timestamp>,
    /// Occurrences that were announced.
    pub(crate) count: u32,
    /// When the newest of them were, oldest first.
    pub(crate) announced: Vec<Timestamp>,
    /// The newest changes, oldest first.
    pub(crate) past: Vec<Past>,
}

/// One alarm of a twin.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Alarm {
    /// What the condition said last.
    pub(crate) condition: bool,
    /// The condition held for the on-delay, and since then did not fail for the off-delay.
    pub(crate) active: bool,
    /// The occurrence that is active was announced.
    pub(crate) announced: bool,
    pub(crate) unacknowledged: bool,
    pub(crate) latched: bool,
    pub(crate) suppressed: bool,
    pub(crate) out_of_service: bool,
    /// When the condition last turned.
    pub(crate) turned_at: Timestamp,
    /// When something happens to it without another event; without the shelf.
    pub(crate) due: Option<Timestamp>,
    pub(crate) story: Option<Box<Story>>,
}

/// Where changes of an alarm go.
pub(crate) struct Telling<'a> {
    pub(crate) rule: &'a AlarmRule,
    pub(crate) value: Option<&'a Value>,
    pub(crate) changes: &'a mut Vec<AlarmChange>,
}

impl Alarm {
    /// The state that is shown.
    pub(crate) fn state(&self) -> AlarmState {
        if self.out_of_service {
            return AlarmState::OutOfService;
        }
        if self.is_shelved() {
            return AlarmState::Shelved;
        }
        if self.suppressed {
            return AlarmState::Suppressed;
        }
        match (self.active, self.unacknowledged, self.latched) {
            (true, true, _) => AlarmState::UnacknowledgedActive,
            (true, false, _) => AlarmState::AcknowledgedActive,
            (false, true, false) => AlarmState::RtnUnacknowledged,
            (false, true, true) => AlarmState::LatchedUnacknowledged,
            (false, false, true) => AlarmState::LatchedAcknowledged,
            (false, false, false) => AlarmState::Normal,
        }
    }

    fn is_shelved(&self) -> bool {
        self.shelved_until().is_some()
    }

    pub(crate) fn shelved_until(&self) -> Option<Timestamp> {
        self.story.as_ref()?.shelved_until
    }

    fn is_hidden(&self) -> bool {
        self.out_of_service || self.suppressed || self.is_shelved()
    }

    fn story(&mut self) -> &mut Story {
        self.story.get_or_insert_default()
    }

    /// The condition was looked at.
    pub(crate) fn sense(&mut self, condition: bool, at: Timestamp, telling: &mut Telling<'_>) {
        if condition != self.condition {
            self.condition = condition;
            self.turned_at = at;
        }
        self.settle(at, telling);
    }

    /// Becomes active, or returns, if its delay is over.
    pub(crate) fn settle(&mut self, at: Timestamp, telling: &mut Telling<'_>) {
        let Some(due) = self.turns_at(telling.rule).filter(|due| *due <= at) else {
            return;
        };
        let before = self.state();
        self.active = self.condition;
        if self.active {
            self.story().raised_at = Some(due);
            if !self.is_hidden() {
                self.announce(before, due, telling);
            }
            return;
        }
        let announced = std::mem::take(&mut self.announced);
        if !announced {
            return;
        }
        self.story().returned_at = Some(due);
        if self.is_hidden() {
            if !self.latched {
                // Whoever put it away has seen it.
                self.unacknowledged = false;
            }
            return;
        }
        self.tell(before, AlarmWhat::Returned, due, None, telling);
    }

    /// When it turns active or returns, if nothing else happens.
    pub(crate) fn turns_at(&self, rule: &AlarmRule) -> Option<Timestamp> {
        if self.condition == self.active {
            return None;
        }
        if self.active {
            return Some(self.turned_at.plus_ms(rule.off_delay_ms));
        }
        let after_delay = self.turned_at.plus_ms(rule.on_delay_ms);
        let raised_at = self.story.as_ref().and_then(|story| story.raised_at);
        Some(raised_at.map_or(after_delay, |raised_at| {
            after_delay.max(raised_at.plus_ms(rule.refractory_ms))
        }))
    }

    fn announce(&mut self, before: AlarmState, at: Timestamp, telling: &mut Telling<'_>) {
        self.announced = true;
        self.unacknowledged = true;
        self.latched |= telling.rule.latching;
        let story = self.story();
        story.count = story.count.saturating_add(1);
        if story.announced.len() == RAISED_MAX {
            story.announced.remove(0);
        }
        story.announced.push(at);
        self.tell(before, AlarmWhat::Raised, at, None, telling);
    }

    /// It is no longer hidden in one way: what is still active is announced.
    fn uncover(&mut self, at: Timestamp, telling: &mut Telling<'_>) {
        if self.active && !self.announced && !self.is_hidden() {
            let before = self.state();
            self.announce(before, at, telling);
        }
    }

    /// Its time on the shelf is over.
    pub(crate) fn expire(&mut self, at: Timestamp, telling: &mut Telling<'_>) {
        let before = self.state();
        self.story().shelved_until = None;
        self.tell(before, AlarmWhat::ShelfExpired, at, None, telling);
        self.uncover(at, telling);
    }

    /// Its rule suppresses it, or no longer does.
    pub(crate) fn suppress(&mut self, suppressed: bool, at: Timestamp, telling: &mut Telling<'_>) {
        if suppressed == self.suppressed {
            return;
        }
        let before = self.state();
        self.suppressed = suppressed;
        // A machine that goes into a break suppresses its alarms each time; only what stands is worth a word.
        if self.active || self.unacknowledged || self.latched {
            let what = if suppressed {
                AlarmWhat::Suppressed
            } else {
                AlarmWhat::Unsuppressed
            };
            self.tell(before, what, at, None, telling);
        } else if let Some(story) = &mut self.story {
            story.since = Some(at);
        }
        self.uncover(at, telling);
    }

    /// Whether something can be done about it.
    pub(crate) fn allows(&self, action: AlarmAction) -> Result<(), AlarmRefused> {
        let state = self.state();
        let refuse = |refused| Err(refused);
        match action {
            AlarmAction::Acknowledged if !self.unacknowledged => refuse(AlarmRefused::Acknowledged(state)),
            AlarmAction::Shelved { .. } if self.out_of_service => refuse(AlarmRefused::OutOfService),
            AlarmAction::Unshelved if !self.is_shelved() => refuse(AlarmRefused::NotShelved(state)),
            AlarmAction::TakenOut if self.out_of_service => refuse(AlarmRefused::OutOfService),
            AlarmAction::PutBack if !self.out_of_service => refuse(AlarmRefused::InService),
            AlarmAction::Reset if self.active || self.unacknowledged || !self.latched => {
                refuse(AlarmRefused::NotLatched(state))
            }
            _ => Ok(()),
        }
    }

    /// Does what is allowed.
    pub(crate) fn act(&mut self, action: AlarmAction, note: Note, at: Timestamp, telling: &mut Telling<'_>) {
        if self.allows(action).is_err() {
            return;
        }
        let before = self.state();
        if note.comment.is_some() {
            self.story().comment.clone_from(&note.comment);
        }
        let what = match action {
            AlarmAction::Acknowledged => {
                self.unacknowledged = false;
                let story = self.story();
                story.acknowledged_at = Some(at);
                story.acknowledged = Some(Box::new(note.clone()));
                AlarmWhat::Acknowledged
            }
            AlarmAction::Shelved { until } => {
                let until = until.min(at.plus_ms(SHELVED_MAX_MS));
                self.story().shelved_until = Some(until.max(at.plus_ms(1)));
                AlarmWhat::Shelved
            }
            AlarmAction::Unshelved => {
                self.story().shelved_until = None;
                AlarmWhat::Unshelved
            }
            AlarmAction::Commented => AlarmWhat::Commented,
            AlarmAction::TakenOut => {
                self.out_of_service = true;
                AlarmWhat::TakenOut
            }
            AlarmAction::PutBack => {
                self.out_of_service = false;
                AlarmWhat::PutBack
            }
            AlarmAction::Reset => {
                self.latched = false;
                AlarmWhat::Reset
            }
        };
        self.tell(before, what, at, Some(note), telling);
        self.uncover(at, telling);
    }

    /// Remembers a change, and tells it.
    pub(crate) fn tell(
        &mut self,
        before: AlarmState,
        what: AlarmWhat,
        at: Timestamp,
        note: Option<Note>,
        telling: &mut Telling<'_>,
    ) {
        let state = self.state();
        let story = self.story();
        if state != before {
            story.since = Some(at);
        }
        telling.changes.push(AlarmChange {
            rule: telling.rule.id.clone(),
            text: telling.rule.text.clone(),
            what,
            at,
            state,
            priority: telling.rule.priority,
            value: telling.value.cloned(),
            by: note.as_ref().map(|note| note.by.clone()),
            comment: note.as_ref().and_then(|note| note.comment.clone()),
        });
        if story.past.len() == HISTORY_MAX {
            story.past.remove(0);
        }
        story.past.reserve_exact(1);
        story.past.push(Past {
            at,
            what,
            note: note.map(Box::new),
        });
    }

    /// Its rule was changed, or is a new one.
    pub(crate) fn follow(&mut self, rule: &AlarmRule) {
        self.latched &= rule.latching;
        self.suppressed &= rule.suppressed_by.is_some();
    }

    /// How often it was announced in the ten minutes before `now`; at most 11.
    pub(crate) fn per_10_min(&self, now: Timestamp) -> usize {
        let recent = |at: &&Timestamp| now.ms_since(**at) < FLOOD_MS;
        self.story
            .as_ref()
            .map_or(0, |story| story.announced.iter().filter(recent).count())
    }

    /// Whether it was announced at least three times within a minute, in the ten minutes before `now`.
    pub(crate) fn chatters(&self, now: Timestamp) -> bool {
        let close = |times: &[Timestamp]| {
            let (first, last) = (times[0], times[CHATTER_COUNT - 1]);
            last.ms_since(first) <= CHATTER_MS && now.ms_since(last) < FLOOD_MS
        };
        self.story
            .as_ref()
            .is_some_and(|story| story.announced.windows(CHATTER_COUNT).any(close))
    }

    /// Whether it stands for more than a day.
    pub(crate) fn stands(&self, now: Timestamp) -> bool {
        let raised_at = self.story.as_ref().and_then(|story| story.raised_at);
        self.state().is_active() && raised_at.is_some_and(|at| now.ms_since(at) > STANDING_MS)
    }

    /// How urgent it is, if it stands.
    pub(crate) fn standing_priority(&self, rule: &AlarmRule) -> Option<Priority> {
        let state = self.state();
        (state.is_active() || state.is_unacknowledged()).then_some(rule.priority)
    }

    /// About how many bytes it takes beside its own struct.
    pub(crate) fn heap_bytes(&self) -> usize {
        let Some(story) = &self.story else { return 0 };
        let note = |note: &Note| {
            block(size_of_val(note))
                + block(note.by.len())
                + note.comment.as_ref().map_or(0, |comment| block(comment.len()))
        };
        let notes = story.past.iter().filter_map(|past| past.note.as_deref());
        block(size_of_val(&**story))
            + block(story.announced.capacity() * size_of::<Timestamp>())
            + block(story.past.capacity() * size_of::<Past>())
            + notes
                .chain(story.acknowledged.as_deref())
                .map(note)
                .sum::<usize>()
    }
}
