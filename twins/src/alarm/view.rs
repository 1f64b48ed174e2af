//! Alarms as they are shown: one as JSON, and the summary that stands in the twin's JSON.
//!
//! Promises: written straight to the serializer; what never happened is null. The value shown is the newest of the
//! metric that the rule names first.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    judge::Alarms,
    life::{Alarm, Note},
    rule::{AlarmRule, CompiledRule, Priority},
    said::{AlarmRefused, AlarmSaid},
    words::AlarmState,
};
use crate::{event::Value, field::Field, id::TwinId, time::Timestamp, twin::Twin};

/// One alarm of a twin.
#[derive(Clone, Copy)]
pub struct AlarmView<'a> {
    twin: &'a Twin,
    compiled: &'a CompiledRule,
    alarm: &'a Alarm,
    metric: Option<&'a str>,
}

/// What a twin's JSON says of its alarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Alarms that are active; not those on the shelf, suppressed or out of service.
    pub active: usize,
    /// Alarms that wait for an acknowledgement.
    pub unacknowledged: usize,
    /// The most urgent of both.
    pub highest_severity: Option<Priority>,
    /// Alarms on the shelf.
    pub shelved: usize,
}

impl Twin {
    /// Its alarms, in the order of the rules; none where the plant model has no rule for it.
    pub fn alarms(&self) -> impl Iterator<Item = AlarmView<'_>> {
        let metrics = self.alarms.iter().filter_map(|alarms| alarms.rules.set());
        let metrics = metrics.flat_map(|set| set.metrics.iter()).collect::<Vec<_>>();
        let all = self.alarms.iter().flat_map(|alarms| alarms.iter());
        all.map(move |(compiled, alarm)| AlarmView {
            twin: self,
            compiled,
            alarm,
            metric: compiled
                .shown
                .and_then(|place| metrics.get(usize::from(place)).map(|name| &***name)),
        })
    }

    /// Its alarm of a rule.
    #[must_use]
    pub fn alarm(&self, rule: &str) -> Option<AlarmView<'_>> {
        self.alarms().find(|alarm| *alarm.rule().id == *rule)
    }

    /// Whether something can be done about one of its alarms.
    pub fn allows(&self, said: &AlarmSaid) -> Result<(), AlarmRefused> {
        self.alarms
            .as_ref()
            .map_or(Err(AlarmRefused::Unknown), |alarms| alarms.allows(said))
    }

    /// The summary of its alarms; `None` where it has no rules.
    #[must_use]
    pub fn alarm_summary(&self) -> Option<Summary> {
        self.alarms.as_deref().map(Alarms::summary)
    }

    /// A field of the summary.
    pub(crate) fn alarm_field(&self, name: &str) -> Option<Field<'_>> {
        let summary = self.alarm_summary()?;
        let count = |count: usize| Some(Field::Number(count as f64));
        match name {
            "active" => count(summary.active),
            "unacknowledged" => count(summary.unacknowledged),
            "shelved" => count(summary.shelved),
            "highest_severity" => Some(
                summary
                    .highest_severity
                    .map_or(Field::Null, |priority| Field::Text(priority.as_str().into())),
            ),
            _ => None,
        }
    }
}

impl Alarms {
    fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for (compiled, alarm) in self.iter() {
            let state = alarm.state();
            summary.active += usize::from(state.is_active());
            summary.unacknowledged += usize::from(state.is_unacknowledged());
            summary.shelved += usize::from(state == AlarmState::Shelved);
            summary.highest_severity = summary
                .highest_severity
                .max(alarm.standing_priority(&compiled.rule));
        }
        summary
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("active", &self.active)?;
        map.serialize_entry("unacknowledged", &self.unacknowledged)?;
        map.serialize_entry("highest_severity", &self.highest_severity.map(Priority::as_str))?;
        map.serialize_entry("shelved", &self.shelved)?;
        map.end()
    }
}

impl<'a> AlarmView<'a> {
    /// Its rule.
    #[must_use]
    pub fn rule(&self) -> &'a AlarmRule {
        &self.compiled.rule
    }

    /// Its name over all twins: `machine:cnc-07:spindle_hot`.
    #[must_use]
    pub fn id(&self) -> String {
        id_of(self.twin.id(), &self.rule().id)
    }

    /// The state it is in.
    #[must_use]
    pub fn state(&self) -> AlarmState {
        self.alarm.state()
    }

    /// How often it was announced in the ten minutes before `now`; at most 11.
    #[must_use]
    pub fn per_10_min(&self, now: Timestamp) -> usize {
        self.alarm.per_10_min(now)
    }

    /// Whether it comes and goes: three times within a minute, in the ten minutes before `now`.
    #[must_use]
    pub fn chatters(&self, now: Timestamp) -> bool {
        self.alarm.chatters(now)
    }

    /// Whether it stands for more than a day.
    #[must_use]
    pub fn stands(&self, now: Timestamp) -> bool {
        self.alarm.stands(now)
    }

    /// Its newest changes, the newest first: when, what, who, and what was said.
    pub fn past(&self) -> impl Iterator<Item = (Timestamp, &'static str, Option<&'a str>, Option<&'a str>)> {
        let past = self.alarm.story.iter().flat_map(|story| story.past.iter().rev());
        past.map(|past| {
            let note = past.note.as_deref();
            (
                past.at,
                past.what.as_str(),
                note.map(|note| &*note.by),
                note.and_then(|note| note.comment.as_deref()),
            )
        })
    }

    fn value(&self) -> Option<&'a Value> {
        self.twin.metrics.get(self.metric?).map(|metric| &metric.value)
    }
}

fn id_of(twin: &TwinId, rule: &str) -> String {
    format!("{}:{}:{rule}", twin.kind(), twin.id())
}

struct ShownValue<'a>(Option<&'a Value>);

impl Serialize for ShownValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_none(),
            Some(Value::Number(number)) => serializer.serialize_f64(*number),
            Some(Value::Text(text)) => serializer.serialize_str(text),
            Some(Value::Bool(yes)) => serializer.serialize_bool(*yes),
        }
    }
}

impl Serialize for AlarmView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (rule, alarm) = (self.rule(), self.alarm);
        let story = alarm.story.as_deref();
        let noted: Option<&Note> = story.and_then(|story| story.acknowledged.as_deref());
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id())?;
        map.serialize_entry("twin", &self.twin.id().to_string())?;
        map.serialize_entry("rule", &*rule.id)?;
        map.serialize_entry("text", &*rule.text)?;
        map.serialize_entry("state", self.state().as_str())?;
        map.serialize_entry("priority", rule.priority.as_str())?;
        map.serialize_entry("since", &story.and_then(|story| story.since))?;
        map.serialize_entry("raised_at", &story.and_then(|story| story.raised_at))?;
        map.serialize_entry("returned_at", &story.and_then(|story| story.returned_at))?;
        map.serialize_entry("acknowledged_at", &story.and_then(|story| story.acknowledged_at))?;
        map.serialize_entry("acknowledged_by", &noted.map(|note| &*note.by))?;
        map.serialize_entry("comment", &story.and_then(|story| story.comment.as_deref()))?;
        map.serialize_entry("shelved_until", &alarm.shelved_until())?;
        map.serialize_entry("metric", &self.metric)?;
        map.serialize_entry("value", &ShownValue(self.value()))?;
        map.serialize_entry("count", &story.map_or(0, |story| story.count))?;
        map.serialize_entry("latching", &rule.latching)?;
        map.end()
    }
}
