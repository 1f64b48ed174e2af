//! What people say about an alarm, and what becomes of it: commands as events, and changes as effects.
//!
//! Promises: a change names everything that a person who gets only this message needs. Knows nothing of delivery.

use thiserror::Error;

use super::{
    rule::Priority,
    words::{AlarmState, AlarmWhat},
};
use crate::{event::Value, time::Timestamp};

/// Somebody did something about an alarm: a body of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmSaid {
    /// The rule whose alarm it is.
    pub rule: Box<str>,
    /// What was done.
    pub action: AlarmAction,
    /// Who did it.
    pub by: Box<str>,
    /// Why, in a sentence.
    pub comment: Option<Box<str>>,
}

/// What can be done about an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmAction {
    /// Somebody has seen it and takes care.
    Acknowledged,
    /// It is put away until a time.
    Shelved {
        /// Until when.
        until: Timestamp,
    },
    /// It is taken back from the shelf.
    Unshelved,
    /// A remark.
    Commented,
    /// It is taken out of service, e.g. for maintenance of its sensor.
    TakenOut,
    /// It is put back into service.
    PutBack,
    /// A latched alarm is let go.
    Reset,
}

impl AlarmAction {
    /// What was done, as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Shelved { .. } => "shelved",
            Self::Unshelved => "unshelved",
            Self::Commented => "commented",
            Self::TakenOut => "taken_out_of_service",
            Self::PutBack => "returned_to_service",
            Self::Reset => "reset",
        }
    }
}

/// Why something cannot be done about an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AlarmRefused {
    /// The twin has no such rule.
    #[error("there is no such alarm")]
    Unknown,
    /// Nothing waits for an acknowledgement.
    #[error("it is not unacknowledged (its state is {})", .0.as_str())]
    Acknowledged(AlarmState),
    /// It is not on the shelf.
    #[error("it is not shelved (its state is {})", .0.as_str())]
    NotShelved(AlarmState),
    /// It is out of service.
    #[error("it is out of service (put it back into service first)")]
    OutOfService,
    /// It is in service.
    #[error("it is in service")]
    InService,
    /// Only a latched alarm that is acknowledged and whose cause is gone is reset.
    #[error("it is not latched and acknowledged (its state is {})", .0.as_str())]
    NotLatched(AlarmState),
}

impl AlarmRefused {
    /// For programs, stable.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "alarm.not_found",
            Self::Acknowledged(_) => "alarm.not_unacknowledged",
            Self::NotShelved(_) => "alarm.not_shelved",
            Self::OutOfService => "alarm.out_of_service",
            Self::InService => "alarm.in_service",
            Self::NotLatched(_) => "alarm.not_latched",
        }
    }
}

/// What became of an alarm: an effect of a fold.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmChange {
    /// The rule.
    pub rule: Box<str>,
    /// The rule's text.
    pub text: Box<str>,
    /// What happened.
    pub what: AlarmWhat,
    /// When, in event time.
    pub at: Timestamp,
    /// The state it is in now.
    pub state: AlarmState,
    /// How urgent it is.
    pub priority: Priority,
    /// The value of the first metric that the rule names.
    pub value: Option<Value>,
    /// Who did it, where it was a person.
    pub by: Option<Box<str>>,
    /// What the person said.
    pub comment: Option<Box<str>>,
}
