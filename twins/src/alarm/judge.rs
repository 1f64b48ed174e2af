//! The alarms of one twin: its rules are judged on each event, and what is due is settled in the order of time.
//!
//! Promises: the same events lead to the same alarms, whether ticks came in time or late: what was due before an event
//! is settled as of when it was due. Where nothing changes, judging allocates nothing. The time of the alarms never
//! goes back: what comes out of order is judged at the newest time seen.

use std::cell::OnceCell;

use super::{
    evaluate::Scope,
    life::{Alarm, Note, Telling},
    rule::{AlarmRules, CompiledRule, RuleSet},
    said::{AlarmChange, AlarmRefused, AlarmSaid},
    words::AlarmWhat,
};
use crate::{
    attributes::block, config::Execution, event::Value, metric::Metrics, time::Timestamp, twin::Twin,
};

/// What a machine does, once it was asked for.
type Said = OnceCell<Option<Execution>>;
/// A twin as all its rules see it after one event.
type Seen<'a> = (&'a Twin, &'a Said);

/// A metric that the twin does not have yet.
const ABSENT: u16 = u16::MAX;

/// The alarms of a twin that has rules.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alarms {
    pub(crate) rules: AlarmRules,
    pub(crate) bench: Bench,
}

/// The state of a twin's alarms. Its rules are handed in, because they are shared by many twins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bench {
    /// One for each rule.
    pub(crate) items: Vec<Alarm>,
    /// The newest time that they were judged at; zero before the first.
    pub(crate) clock: Timestamp,
    /// When something happens to one of them without another event.
    pub(crate) deadline: Option<Timestamp>,
    /// Where the rules' metrics stand among the twin's.
    slots: Vec<u16>,
    /// How many metrics the twin had when `slots` was made.
    metrics_known: usize,
}

impl Alarms {
    /// Alarms as they were written down; `None` without rules.
    pub(crate) fn new(rules: AlarmRules, items: Vec<Alarm>, clock: Timestamp) -> Option<Self> {
        let mut bench = Bench {
            items,
            clock,
            deadline: None,
            slots: vec![ABSENT; rules.set()?.metrics.len()],
            metrics_known: 0,
        };
        bench.deadline = bench.next();
        Some(Self { rules, bench })
    }

    /// The alarms of a twin whose rules are others now: those of the same names go on.
    pub(crate) fn configured(
        before: Option<Self>,
        rules: AlarmRules,
        at: Timestamp,
        changes: &mut Vec<AlarmChange>,
    ) -> Option<Self> {
        let mut clock = at;
        let mut known: Vec<(Box<str>, Alarm)> = Vec::new();
        if let Some(before) = before {
            clock = clock.max(before.bench.clock);
            for (rule, mut alarm) in before.rules.iter().zip(before.bench.items) {
                if rules.iter().any(|now| now.id == rule.id) {
                    known.push((rule.id.clone(), alarm));
                } else if alarm.active || alarm.unacknowledged || alarm.latched {
                    let state = alarm.state();
                    let mut telling = Telling {
                        rule,
                        value: None,
                        changes,
                    };
                    (alarm.active, alarm.unacknowledged, alarm.latched) = (false, false, false);
                    alarm.tell(state, AlarmWhat::Removed, clock, None, &mut telling);
                }
            }
        }
        let items = rules.iter().map(|rule| {
            let place = known.iter().position(|(id, _)| *id == rule.id);
            let mut alarm = place.map(|place| known.swap_remove(place).1).unwrap_or_default();
            alarm.follow(rule);
            alarm
        });
        let items = items.collect();
        Self::new(rules, items, clock)
    }

    /// The alarms with their rules, in the model's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&CompiledRule, &Alarm)> {
        let set = self.rules.set().into_iter();
        set.flat_map(|set| set.rules.iter().zip(&self.bench.items))
    }

    /// An event of this time was folded: settles what was due before it, then looks at all rules.
    pub(crate) fn judge(&mut self, twin: &Twin, at: Timestamp, changes: &mut Vec<AlarmChange>) {
        if let Some(set) = self.rules.set() {
            self.bench.judge(set, twin, at, changes);
        }
    }

    /// Whether something can be done about an alarm.
    pub(crate) fn allows(&self, said: &AlarmSaid) -> Result<(), AlarmRefused> {
        let mut alarms = self.iter();
        let found = alarms.find(|(compiled, _)| compiled.rule.id == said.rule);
        found.map_or(Err(AlarmRefused::Unknown), |(_, alarm)| alarm.allows(said.action))
    }

    /// Somebody did something about an alarm; whether there is such an alarm.
    pub(crate) fn act(
        &mut self,
        twin: &Twin,
        said: &AlarmSaid,
        at: Timestamp,
        changes: &mut Vec<AlarmChange>,
    ) -> bool {
        let Some(set) = self.rules.set() else { return false };
        let found = set
            .rules
            .iter()
            .position(|compiled| compiled.rule.id == said.rule);
        let Some(index) = found else { return false };
        let bench = &mut self.bench;
        bench.resolve(set, &twin.metrics);
        let now = bench.clock.max(at);
        bench.settle(set, (twin, &Said::new()), now, changes);
        bench.clock = now;
        let mut telling = Telling {
            rule: &set.rules[index].rule,
            value: shown(&bench.slots, twin, &set.rules[index]),
            changes,
        };
        let note = Note {
            by: said.by.clone(),
            comment: said.comment.clone(),
        };
        bench.items[index].act(said.action, note, now, &mut telling);
        true
    }
}

impl Bench {
    fn next(&self) -> Option<Timestamp> {
        let dues = self
            .items
            .iter()
            .flat_map(|alarm| [alarm.due, alarm.shelved_until()]);
        dues.flatten().min()
    }

    fn resolve(&mut self, set: &RuleSet, metrics: &Metrics) {
        if self.metrics_known == metrics.items.len() {
            return;
        }
        self.metrics_known = metrics.items.len();
        for (slot, name) in self.slots.iter_mut().zip(&set.metrics) {
            let place = metrics.items.iter().position(|metric| metric.name == *name);
            *slot = place
                .and_then(|place| u16::try_from(place).ok())
                .unwrap_or(ABSENT);
        }
    }

    fn judge(&mut self, set: &RuleSet, twin: &Twin, at: Timestamp, changes: &mut Vec<AlarmChange>) {
        let said = &Said::new();
        self.resolve(set, &twin.metrics);
        let now = self.clock.max(at);
        if now == Timestamp::default() {
            // Nothing came yet that has a time.
            return;
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.settle(set, (twin, said), now, changes);
        }
        self.clock = now;
        let mut deadline = None;
        for (index, compiled) in set.rules.iter().enumerate() {
            let (condition, due) = self.look(index, compiled, (twin, said), now);
            let alarm = &mut self.items[index];
            if let Some(condition) = condition
                && (condition != alarm.condition || condition != alarm.active)
            {
                let mut telling = Telling {
                    rule: &compiled.rule,
                    value: shown(&self.slots, twin, compiled),
                    changes,
                };
                alarm.sense(condition, now, &mut telling);
            }
            alarm.due = alarm.turns_at(&compiled.rule).or(due.filter(|due| *due > now));
            for due in [alarm.due, alarm.shelved_until()].into_iter().flatten() {
                deadline = Some(deadline.map_or(due, |deadline: Timestamp| deadline.min(due)));
            }
        }
        self.deadline = deadline;
        if set.suppresses {
            self.suppress(set, (twin, said), now, changes);
        }
    }

    /// What a rule's condition says, and when its data would have stayed away for too long.
    fn look(
        &self,
        index: usize,
        compiled: &CompiledRule,
        (twin, said): Seen<'_>,
        now: Timestamp,
    ) -> (Option<bool>, Option<Timestamp>) {
        if compiled.rule.stale.is_some() {
            let due = self.goes_stale_at(twin, compiled);
            return (due.map(|due| due <= now), due);
        }
        let Some(condition) = &compiled.condition else {
            return (None, None);
        };
        let deadband = if self.items[index].condition {
            compiled.rule.deadband
        } else {
            0.0
        };
        (condition.holds(&self.scope((twin, said), now), deadband), None)
    }

    /// Settles what is due until `now`, the earliest first.
    fn settle(
        &mut self,
        set: &RuleSet,
        (twin, said): Seen<'_>,
        now: Timestamp,
        changes: &mut Vec<AlarmChange>,
    ) {
        while let Some(at) = self.next().filter(|at| *at <= now) {
            for (index, compiled) in set.rules.iter().enumerate() {
                let alarm = &mut self.items[index];
                let mut telling = Telling {
                    rule: &compiled.rule,
                    value: shown(&self.slots, twin, compiled),
                    changes,
                };
                if alarm.shelved_until() == Some(at) {
                    alarm.expire(at, &mut telling);
                }
                if alarm.due != Some(at) {
                    continue;
                }
                // Without a delay under way, what is due is that data has stayed away for too long.
                if compiled.rule.stale.is_some() && alarm.condition == alarm.active {
                    alarm.sense(true, at, &mut telling);
                } else {
                    alarm.settle(at, &mut telling);
                }
                alarm.due = alarm.turns_at(&compiled.rule);
            }
            self.clock = self.clock.max(at);
            if set.suppresses {
                self.suppress(set, (twin, said), at, changes);
            }
        }
    }

    fn suppress(
        &mut self,
        set: &RuleSet,
        (twin, said): Seen<'_>,
        at: Timestamp,
        changes: &mut Vec<AlarmChange>,
    ) {
        for (index, compiled) in set.rules.iter().enumerate() {
            let Some(condition) = &compiled.suppressed_by else {
                continue;
            };
            let Some(suppressed) = condition.holds(&self.scope((twin, said), at), 0.0) else {
                continue;
            };
            let mut telling = Telling {
                rule: &compiled.rule,
                value: shown(&self.slots, twin, compiled),
                changes,
            };
            self.items[index].suppress(suppressed, at, &mut telling);
        }
    }

    fn scope<'a>(&'a self, (twin, execution): Seen<'a>, now: Timestamp) -> Scope<'a> {
        Scope {
            twin,
            execution,
            now,
            slots: &self.slots,
            alarms: &self.items,
        }
    }

    /// When the data that a rule waits for has stayed away for too long; `None` where it never came.
    fn goes_stale_at(&self, twin: &Twin, compiled: &CompiledRule) -> Option<Timestamp> {
        let stale = compiled.rule.stale.as_ref()?;
        let last = match (&stale.metric, compiled.shown) {
            (Some(_), Some(place)) => {
                let slot = self.slots.get(usize::from(place))?;
                twin.metrics.items.get(usize::from(*slot))?.at
            }
            _ => twin.data_at?,
        };
        Some(last.plus_ms(stale.after_ms.unwrap_or_else(|| twin.stale_after_ms())))
    }
}

fn shown<'a>(slots: &[u16], twin: &'a Twin, compiled: &CompiledRule) -> Option<&'a Value> {
    let slot = slots.get(usize::from(compiled.shown?))?;
    twin.metrics
        .items
        .get(usize::from(*slot))
        .map(|metric| &metric.value)
}

impl Alarms {
    /// About how many bytes they take in memory; their rules are shared and do not count.
    pub(crate) fn heap_bytes(&self) -> usize {
        let bench = &self.bench;
        block(size_of::<Self>())
            + block(bench.items.capacity() * size_of::<Alarm>())
            + block(bench.slots.capacity() * size_of::<u16>())
            + bench.items.iter().map(Alarm::heap_bytes).sum::<usize>()
    }
}
