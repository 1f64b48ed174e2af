//! What happened: the facts that the journal holds and a twin folds.
//!
//! Promises: an event is complete in itself; whoever folds it asks neither a clock nor a configuration. Its bytes
//! (`wire.rs`) are drawn in FORMAT.md and readable for ever. Knows nothing of shards beyond a position's numbers.

use std::sync::Arc;

use crate::{
    alarm::AlarmSaid, config::TwinConfig, id::TwinId, line::MachineReport, refolded::Refolded,
    time::Timestamp,
};

/// A fact about one twin, in the past tense.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The twin that folds it.
    pub twin: TwinId,
    /// When it happened, by the device's clock.
    pub at: Timestamp,
    /// When it was received, by the node's clock; equal to `at` where the device gave no time.
    pub received_at: Timestamp,
    /// The connector it came through, e.g. `mqtt`, `http`, `broker.plant`; empty for the runtime's own.
    pub source: Arc<str>,
    /// The sender's idempotency key, empty if it gave none.
    pub message_id: Box<str>,
    /// Where the message of another twin came from; `None` for everything else.
    pub origin: Option<Origin>,
    /// What happened.
    pub body: Body,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A sensor measured.
    Reading(Reading),
    /// A job was seen at a place; folded by the job.
    Scan(Scan),
    /// Somebody set attributes: a JSON merge patch (RFC 7396) as text.
    AttributesSet(AttributesSet),
    /// The plant model says something new about this twin.
    Configured(Box<TwinConfig>),
    /// Time passed without data; `at` is the moment.
    Ticked,
    /// Somebody did something about an alarm.
    Alarm(AlarmSaid),
    /// Another twin told this one something.
    Told(TwinMessage),
    /// The past was folded again by a newer plant model, and taken over.
    Refolded(Box<Refolded>),
}

/// What a sensor measured, bound to a twin and its metric names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// The sensor.
    pub sensor_id: Box<str>,
    /// `MACHINE`, `ENERGY`, `AIR_QUALITY` or `RFID`, where it was said.
    pub sensor_type: Option<SensorType>,
    /// The location the sensor said it stands at.
    pub location_id: Option<Box<str>>,
    /// Values by metric name, in the order given; a name occurs once.
    pub metrics: Vec<(Box<str>, Value)>,
    /// 0 to 1, as the sender judged it.
    pub quality_score: Option<f64>,
    /// The system that sent it, where it was said.
    pub source_system: Option<Box<str>>,
    /// JSON text of the sender's `device_metadata`.
    pub device_metadata: Option<Box<str>>,
}

/// What a sensor is, in the words of the native format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SensorType {
    /// A machine's own signals.
    Machine = 1,
    /// An energy meter.
    Energy = 2,
    /// An air sensor.
    AirQuality = 3,
    /// An RFID or barcode reader.
    Rfid = 4,
}

impl SensorType {
    /// The type of an on-disk number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Machine, Self::Energy, Self::AirQuality, Self::Rfid]
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }
}

/// A measured value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A finite number.
    Number(f64),
    /// A word, such as an execution state.
    Text(Box<str>),
    /// Yes or no.
    Bool(bool),
}

/// A job was seen at a place.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scan {
    /// The location's id.
    pub location: Box<str>,
    /// The reader, where it was said.
    pub reader_id: Option<Box<str>>,
    /// What is made.
    pub product_id: Option<Box<str>>,
    /// In which variant.
    pub product_variant: Option<Box<str>>,
    /// Who handled it.
    pub operator_id: Option<Box<str>>,
    /// The job leaves the plant here (the plant model marks the location as an exit).
    pub completes: bool,
    /// Takes an earlier scan at this time and place back: it was declared an error.
    pub retracts: bool,
    /// JSON text of the sender's `metadata`.
    pub metadata: Option<Box<str>>,
}

/// Attributes set by a person or a program.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributesSet {
    /// JSON merge patch (RFC 7396), an object, as text.
    pub patch: Box<str>,
    /// Who set them.
    pub by: Box<str>,
}

/// What one twin tells another.
#[derive(Debug, Clone, PartialEq)]
pub enum TwinMessage {
    /// To a location: this job came in.
    JobEntered {
        /// The job's id.
        job: Box<str>,
        /// When it came.
        entered_at: Timestamp,
        /// Who brought it, where known.
        operator_id: Option<Box<str>>,
    },
    /// To a location: this job went out.
    JobLeft {
        /// The job's id.
        job: Box<str>,
        /// When it had come.
        entered_at: Timestamp,
        /// When it went.
        left_at: Timestamp,
    },
    /// To the locations around it: what a machine did so far.
    MachineReported(Box<MachineReport>),
    /// To a location: an earlier `JobLeft` was wrong by this much, because a scan came late.
    JobDwellCorrected {
        /// The job's id.
        job: Box<str>,
        /// Milliseconds to add to the dwell time told before; negative shortens it.
        by_ms: i64,
    },
    /// To a location: how a job's path through it changed.
    JobFlow(JobFlow),
    /// To a location: a job that was here is done.
    JobFinished {
        /// The job's id.
        job: Box<str>,
        /// From the beginning of each of its visits here until it was done, together.
        remaining_ms: i64,
        /// How many visits that were.
        visits: u32,
    },
    /// To a job, by the location it came to: how long jobs took from here until they were done.
    Estimated {
        /// The location's id.
        location: Box<str>,
        /// When the job came there.
        entered_at: Timestamp,
        /// Mean milliseconds from there until a job is done.
        remaining_ms: i64,
        /// Visits that the mean is over.
        visits: u32,
    },
}

/// How a job's path through one location changed by one scan.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobFlow {
    /// The job's id.
    pub job: Box<str>,
    /// Visits that are not what they were, and those that stand in their place.
    pub changes: Vec<VisitChange>,
    /// A scan was taken back: no other message tells the location of it.
    pub retraction: bool,
}

/// A visit that is put into a job's path or taken out of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VisitChange {
    /// The location before; empty where the path began.
    pub from: Box<str>,
    /// When the job came.
    pub entered_at: Timestamp,
    /// When it left; `None` while it is there.
    pub left_at: Option<Timestamp>,
    /// Put in, else taken out.
    pub added: bool,
}

/// Where a message between twins came from: the event that caused it, and which of its effects it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Origin {
    /// The shard of the sending twin.
    pub shard: u16,
    /// The seq of the event that caused the message.
    pub seq: u64,
    /// Its number among that event's effects, from 0.
    pub index: u32,
}

/// Where an event stands in its shard's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// The shard.
    pub shard: u16,
    /// The seq in that shard, from 1.
    pub seq: u64,
}
