//! Rules, alarms and what is said about them as bytes. Drawn in FORMAT.md.
//!
//! Promises: lossless, so that a twin read back goes on as if it had not left memory; numbers of fields are never used
//! again for another.

use prost::Message;

use super::{
    judge::Alarms,
    life::{Alarm, Note, Past, Story},
    rule::{AlarmRule, AlarmRules, Priority, StaleRule},
    said::{AlarmAction, AlarmSaid},
    words::AlarmWhat,
};
use crate::{
    time::Timestamp,
    wire::{DecodeError, undecodable},
};

#[derive(Clone, PartialEq, Message)]
pub(super) struct RulesWire {
    #[prost(message, repeated, tag = "1")]
    rules: Vec<RuleWire>,
}

#[derive(Clone, PartialEq, Message)]
struct RuleWire {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    condition: String,
    #[prost(message, optional, tag = "3")]
    stale: Option<StaleWire>,
    #[prost(uint32, tag = "4")]
    priority: u32,
    #[prost(string, tag = "5")]
    text: String,
    #[prost(double, tag = "6")]
    deadband: f64,
    #[prost(int64, tag = "7")]
    on_delay_ms: i64,
    #[prost(int64, tag = "8")]
    off_delay_ms: i64,
    #[prost(int64, tag = "9")]
    refractory_ms: i64,
    #[prost(bool, tag = "10")]
    latching: bool,
    #[prost(string, optional, tag = "11")]
    suppressed_by: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StaleWire {
    #[prost(string, optional, tag = "1")]
    metric: Option<String>,
    #[prost(int64, optional, tag = "2")]
    after_ms: Option<i64>,
}

/// The alarms of a twin.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AlarmsWire {
    /// The rules as their configuration brought them.
    #[prost(bytes = "vec", tag = "1")]
    rules: Vec<u8>,
    #[prost(sint64, tag = "2")]
    clock_ms: i64,
    #[prost(message, repeated, tag = "3")]
    alarms: Vec<AlarmWire>,
}

#[derive(Clone, PartialEq, Message)]
struct AlarmWire {
    /// Bits: 1 condition, 2 active, 4 announced, 8 unacknowledged, 16 latched, 32 suppressed, 64 out of service.
    #[prost(uint32, tag = "1")]
    flags: u32,
    #[prost(sint64, tag = "2")]
    turned_at_ms: i64,
    #[prost(sint64, optional, tag = "3")]
    due_ms: Option<i64>,
    #[prost(message, optional, tag = "4")]
    story: Option<StoryWire>,
}

#[derive(Clone, PartialEq, Message)]
struct StoryWire {
    #[prost(sint64, optional, tag = "1")]
    since_ms: Option<i64>,
    #[prost(sint64, optional, tag = "2")]
    raised_at_ms: Option<i64>,
    #[prost(sint64, optional, tag = "3")]
    returned_at_ms: Option<i64>,
    #[prost(sint64, optional, tag = "4")]
    acknowledged_at_ms: Option<i64>,
    #[prost(message, optional, tag = "5")]
    acknowledged: Option<NoteWire>,
    #[prost(string, optional, tag = "6")]
    comment: Option<String>,
    #[prost(sint64, optional, tag = "7")]
    shelved_until_ms: Option<i64>,
    #[prost(uint32, tag = "8")]
    count: u32,
    #[prost(sint64, repeated, tag = "9")]
    announced_ms: Vec<i64>,
    #[prost(message, repeated, tag = "10")]
    past: Vec<PastWire>,
}

#[derive(Clone, PartialEq, Message)]
struct NoteWire {
    #[prost(string, tag = "1")]
    by: String,
    #[prost(string, optional, tag = "2")]
    comment: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct PastWire {
    #[prost(sint64, tag = "1")]
    at_ms: i64,
    #[prost(uint32, tag = "2")]
    what: u32,
    #[prost(message, optional, tag = "3")]
    note: Option<NoteWire>,
}

/// What somebody did about an alarm.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AlarmSaidWire {
    #[prost(string, tag = "1")]
    rule: String,
    /// 1 acknowledged, 2 shelved, 3 unshelved, 4 commented, 5 taken out of service, 6 put back, 7 reset.
    #[prost(uint32, tag = "2")]
    action: u32,
    #[prost(sint64, optional, tag = "3")]
    until_ms: Option<i64>,
    #[prost(string, tag = "4")]
    by: String,
    #[prost(string, optional, tag = "5")]
    comment: Option<String>,
}

fn ms(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::ms)
}

fn time(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(Timestamp::from_ms)
}

/// Zero is a time that never was.
fn or_never(ms: i64) -> Timestamp {
    if ms == 0 {
        Timestamp::default()
    } else {
        Timestamp::from_ms(ms)
    }
}

fn text(boxed: &Option<Box<str>>) -> Option<String> {
    boxed.as_deref().map(str::to_owned)
}

fn boxed(text: Option<String>) -> Option<Box<str>> {
    text.map(String::into_boxed_str)
}

impl RulesWire {
    pub(super) fn of(rules: &[AlarmRule]) -> Self {
        let rule = |rule: &AlarmRule| RuleWire {
            id: rule.id.to_string(),
            condition: rule.condition.to_string(),
            stale: rule.stale.as_ref().map(|stale| StaleWire {
                metric: text(&stale.metric),
                after_ms: stale.after_ms,
            }),
            priority: rule.priority as u32,
            text: rule.text.to_string(),
            deadband: rule.deadband,
            on_delay_ms: rule.on_delay_ms,
            off_delay_ms: rule.off_delay_ms,
            refractory_ms: rule.refractory_ms,
            latching: rule.latching,
            suppressed_by: text(&rule.suppressed_by),
        };
        Self {
            rules: rules.iter().map(rule).collect(),
        }
    }

    pub(super) fn rules(self) -> Result<Vec<AlarmRule>, DecodeError> {
        let rule = |wire: RuleWire| {
            Ok(AlarmRule {
                id: wire.id.into(),
                condition: wire.condition.into(),
                stale: wire.stale.map(|stale| StaleRule {
                    metric: boxed(stale.metric),
                    after_ms: stale.after_ms,
                }),
                priority: Priority::from_number(wire.priority)
                    .ok_or_else(|| undecodable("unknown priority of an alarm"))?,
                text: wire.text.into(),
                deadband: wire.deadband,
                on_delay_ms: wire.on_delay_ms,
                off_delay_ms: wire.off_delay_ms,
                refractory_ms: wire.refractory_ms,
                latching: wire.latching,
                suppressed_by: boxed(wire.suppressed_by),
            })
        };
        self.rules.into_iter().map(rule).collect()
    }
}

fn note_to_wire(note: &Note) -> NoteWire {
    NoteWire {
        by: note.by.to_string(),
        comment: text(&note.comment),
    }
}

fn note_from_wire(wire: NoteWire) -> Box<Note> {
    Box::new(Note {
        by: wire.by.into(),
        comment: boxed(wire.comment),
    })
}

impl AlarmsWire {
    pub(crate) fn of(alarms: &Alarms) -> Self {
        Self {
            rules: alarms.rules.bytes(),
            clock_ms: alarms.bench.clock.ms(),
            alarms: alarms.bench.items.iter().map(AlarmWire::of).collect(),
        }
    }

    pub(crate) fn alarms(self) -> Result<Option<Box<Alarms>>, DecodeError> {
        let rules = AlarmRules::from_bytes(self.rules)?;
        if rules.iter().count() != self.alarms.len() {
            return Err(undecodable("a wrong number of alarms"));
        }
        let items = self.alarms.into_iter().map(AlarmWire::alarm);
        let items = items.collect::<Result<_, _>>()?;
        Ok(Alarms::new(rules, items, or_never(self.clock_ms)).map(Box::new))
    }
}

impl AlarmWire {
    fn of(alarm: &Alarm) -> Self {
        let flags = [
            alarm.condition,
            alarm.active,
            alarm.announced,
            alarm.unacknowledged,
            alarm.latched,
            alarm.suppressed,
            alarm.out_of_service,
        ];
        let flags = flags.into_iter().enumerate();
        Self {
            flags: flags.map(|(bit, set)| u32::from(set) << bit).sum(),
            turned_at_ms: alarm.turned_at.ms(),
            due_ms: ms(alarm.due),
            story: alarm.story.as_deref().map(StoryWire::of),
        }
    }

    fn alarm(self) -> Result<Alarm, DecodeError> {
        let flag = |bit: u32| self.flags & (1 << bit) != 0;
        Ok(Alarm {
            condition: flag(0),
            active: flag(1),
            announced: flag(2),
            unacknowledged: flag(3),
            latched: flag(4),
            suppressed: flag(5),
            out_of_service: flag(6),
            turned_at: or_never(self.turned_at_ms),
            due: time(self.due_ms),
            story: self.story.map(StoryWire::story).transpose()?.map(Box::new),
        })
    }
}

impl StoryWire {
    fn of(story: &Story) -> Self {
        let past = story.past.iter().map(|past| PastWire {
            at_ms: past.at.ms(),
            what: past.what as u32,
            note: past.note.as_deref().map(note_to_wire),
        });
        Self {
            since_ms: ms(story.since),
            raised_at_ms: ms(story.raised_at),
            returned_at_ms: ms(story.returned_at),
            acknowledged_at_ms: ms(story.acknowledged_at),
            acknowledged: story.acknowledged.as_deref().map(note_to_wire),
            comment: text(&story.comment),
            shelved_until_ms: ms(story.shelved_until),
            count: story.count,
            announced_ms: story.announced.iter().map(|at| at.ms()).collect(),
            past: past.collect(),
        }
    }

    fn story(self) -> Result<Story, DecodeError> {
        let past = |wire: PastWire| {
            Ok(Past {
                at: Timestamp::from_ms(wire.at_ms),
                what: AlarmWhat::from_number(wire.what)
                    .ok_or_else(|| undecodable("unknown change of an alarm"))?,
                note: wire.note.map(note_from_wire),
            })
        };
        Ok(Story {
            since: time(self.since_ms),
            raised_at: time(self.raised_at_ms),
            returned_at: time(self.returned_at_ms),
            acknowledged_at: time(self.acknowledged_at_ms),
            acknowledged: self.acknowledged.map(note_from_wire),
            comment: boxed(self.comment),
            shelved_until: time(self.shelved_until_ms),
            count: self.count,
            announced: self.announced_ms.into_iter().map(Timestamp::from_ms).collect(),
            past: self.past.into_iter().map(past).collect::<Result<_, _>>()?,
        })
    }
}

impl AlarmSaidWire {
    pub(crate) fn of(said: &AlarmSaid) -> Self {
        let (action, until) = match said.action {
            AlarmAction::Acknowledged => (1, None),
            AlarmAction::Shelved { until } => (2, Some(until)),
            AlarmAction::Unshelved => (3, None),
            AlarmAction::Commented => (4, None),
            AlarmAction::TakenOut => (5, None),
            AlarmAction::PutBack => (6, None),
            AlarmAction::Reset => (7, None),
        };
        Self {
            rule: said.rule.to_string(),
            action,
            until_ms: ms(until),
            by: said.by.to_string(),
            comment: text(&said.comment),
        }
    }

    pub(crate) fn said(self) -> Result<AlarmSaid, DecodeError> {
        let action = match (self.action, self.until_ms) {
            (1, _) => AlarmAction::Acknowledged,
            (2, Some(until)) => AlarmAction::Shelved {
                until: Timestamp::from_ms(until),
            },
            (3, _) => AlarmAction::Unshelved,
            (4, _) => AlarmAction::Commented,
            (5, _) => AlarmAction::TakenOut,
            (6, _) => AlarmAction::PutBack,
            (7, _) => AlarmAction::Reset,
            _ => return Err(undecodable("unknown action on an alarm")),
        };
        Ok(AlarmSaid {
            rule: self.rule.into(),
            action,
            by: self.by.into(),
            comment: boxed(self.comment),
        })
    }
}
