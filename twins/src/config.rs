//! What the plant model says about one twin, as the fold needs it.
//!
//! Promises: reaches the fold only as a `Configured` event, so that a replay sees the same configuration at the same
//! position. Knows nothing of YAML or of how a sensor is bound.

use std::sync::Arc;

pub use crate::{air::AirProfile, location::LocationConfig};
use crate::{alarm::AlarmRules, analysis::Analysis, calendar::Calendar};

/// The part of the plant model that one twin folds by. A new one replaces the old one whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TwinConfig {
    /// The version of the plant model it came from; an older version than the one in force is ignored.
    pub model_version: u64,
    /// Attributes by the model (name, location, line, …) as JSON text of an object; they lie under those set by hand.
    pub attributes: Box<str>,
    /// Metrics that the model declares.
    pub metrics: Vec<MetricConfig>,
    /// Ideal seconds per part (ISO 22400 planned runtime per item, PRI); `None` where the model says nothing.
    pub ideal_cycle_s: Option<f64>,
    /// Milliseconds without data after which the twin is stale; `None` takes the default of its kind.
    pub stale_after_ms: Option<i64>,
    /// Execution words of this machine's control, mapped to ours.
    pub execution_map: Vec<(Box<str>, Execution)>,
    /// The model no longer holds this twin.
    pub removed: bool,
    /// When the twin means to work, and how it is counted; `None` where the model says nothing of it.
    pub operation: Option<Box<Operation>>,
    /// The rules of its alarms.
    pub alarms: AlarmRules,
    /// What it works out beyond what is measured; `None` where that is nothing.
    pub analysis: Option<Arc<Analysis>>,
    /// What only locations have.
    pub location: Option<Box<LocationConfig>>,
}

/// When a twin means to work, and how its work is counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Operation {
    /// Its shifts; without any, the UTC day is its period.
    pub calendar: Calendar,
    /// Milliseconds below which a stop is a micro-stop; `None` takes five minutes.
    pub micro_stop_ms: Option<i64>,
    /// Milliseconds by which a message may come later than newer ones and still be folded in its place; `None` takes
    /// ten seconds.
    pub lateness_ms: Option<i64>,
    /// The locations around it that hear of a machine's figures.
    pub reports_to: Box<[Box<str>]>,
}

/// What the model says of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricConfig {
    /// The metric's name.
    pub name: Box<str>,
    /// How it is folded.
    pub kind: MetricKind,
    /// Its unit, e.g. `kWh`, `rpm`, `ppm`; empty where the model gives none.
    pub unit: Box<str>,
    /// Where a counter wraps round to zero (e.g. 4294967296 for 32 bits); `None` takes every fall as a reset.
    pub rollover_at: Option<f64>,
}

/// How a metric is folded. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MetricKind {
    /// A level that holds until the next reading: time-weighted.
    Gauge = 1,
    /// A register that only grows: differenced, with reset and rollover.
    Counter = 2,
    /// A word: integrated over time.
    State = 3,
}

impl MetricKind {
    /// The kind of an on-disk number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Gauge, Self::Counter, Self::State]
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }
}

/// What a machine does, after ISO 22400 and MTConnect. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Execution {
    /// Makes parts: actual production time.
    Producing = 1,
    /// Is being set up for a job: actual unit setup time.
    Setup = 2,
    /// Could make parts but has none to make, or waits: no order, starved, blocked.
    Idle = 3,
    /// Stands still for a short while inside a job: minor stop, feed hold.
    Stopped = 4,
    /// Stands still by a fault: unplanned downtime.
    Down = 5,
    /// Planned to stand still: break, maintenance, no shift.
    PlannedDown = 6,
    /// Not reachable, or its state is not known.
    Unknown = 7,
}

impl Execution {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Producing,
        Self::Setup,
        Self::Idle,
        Self::Stopped,
        Self::Down,
        Self::PlannedDown,
        Self::Unknown,
    ];

    /// The state of an on-disk number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|execution| *execution as u32 == number)
    }

    /// The state as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Producing => "producing",
            Self::Setup => "setup",
            Self::Idle => "idle",
            Self::Stopped => "stopped",
            Self::Down => "down",
            Self::PlannedDown => "planned_down",
            Self::Unknown => "unknown",
        }
    }

    /// The state of a native word, or one of MTConnect's or PackML's; `None` for a word that neither knows.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "producing" | "active" | "running" | "executing" | "execute" | "completing" => Self::Producing,
            "setup" | "set_up" | "teardown" | "starting" | "resetting" => Self::Setup,
            "idle" | "ready" | "wait" | "starved" | "blocked" | "program_completed" | "suspended"
            | "complete" => Self::Idle,
            "stopped" | "interrupted" | "feed_hold" | "optional_stop" | "program_stopped" | "held"
            | "holding" | "stopping" => Self::Stopped,
            "down" | "fault" | "failed" | "error" | "aborted" | "aborting" | "clearing" => Self::Down,
            "planned_down" | "maintenance" | "break" | "off" => Self::PlannedDown,
            "unknown" | "unavailable" => Self::Unknown,
            _ => return None,
        })
    }
}
