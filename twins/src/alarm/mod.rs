//! Alarms of a twin by ISA-18.2: rules of the plant model, judged on each event, with their whole life cycle.
//!
//! Promises: pure and in event time; a rule is compiled once and shared by all twins that have it (`rule.rs`); a
//! condition of comparisons is evaluated over the twin in nanoseconds, without its JSON (`evaluate.rs`); a twin without
//! rules pays one comparison. Rules look at the newest value of each metric, so a reading that comes out of order and
//! is older than what the twin has changes no alarm. A condition that cannot be decided, because a value is absent,
//! leaves its alarm as it is. Knows nothing of who may acknowledge, and delivers nothing.

mod check;
mod condition;
mod evaluate;
mod foreign;
mod judge;
mod life;
mod read;
mod rule;
mod said;
mod shape;
mod view;
mod wire;
mod words;

#[cfg(test)]
mod tests;

pub use self::{
    check::{AttributeCondition, ConditionError, Kinds, Known},
    rule::{AlarmRule, AlarmRules, Priority, StaleRule},
    said::{AlarmAction, AlarmChange, AlarmRefused, AlarmSaid},
    shape::shape,
    view::{AlarmView, Summary},
    words::{AlarmState, AlarmWhat},
};
pub(crate) use self::{
    judge::Alarms,
    wire::{AlarmSaidWire, AlarmsWire},
};
