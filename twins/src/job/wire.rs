//! Jobs as bytes, and what they and locations tell each other. Drawn in FORMAT.md.

use prost::Message;

use super::{
    Dwell, Job, Visit,
    estimate::{Estimate, Remaining},
};
use crate::{
    event::{JobFlow, TwinMessage, VisitChange},
    time::Timestamp,
};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct JobFlowWire {
    #[prost(string, tag = "1")]
    job: String,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<VisitChangeWire>,
    #[prost(bool, tag = "3")]
    retraction: bool,
}

#[derive(Clone, PartialEq, Message)]
struct VisitChangeWire {
    #[prost(string, tag = "1")]
    from: String,
    #[prost(sint64, tag = "2")]
    entered_at_ms: i64,
    #[prost(sint64, optional, tag = "3")]
    left_at_ms: Option<i64>,
    #[prost(bool, tag = "4")]
    added: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FinishedWire {
    #[prost(string, tag = "1")]
    job: String,
    #[prost(sint64, tag = "2")]
    remaining_ms: i64,
    #[prost(uint32, tag = "3")]
    visits: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EstimatedWire {
    #[prost(string, tag = "1")]
    location: String,
    #[prost(sint64, tag = "2")]
    entered_at_ms: i64,
    #[prost(sint64, tag = "3")]
    remaining_ms: i64,
    #[prost(uint32, tag = "4")]
    visits: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct RemainingWire {
    #[prost(double, tag = "1")]
    mean_ms: f64,
    #[prost(uint32, tag = "2")]
    visits: u32,
}

impl JobFlowWire {
    pub(crate) fn of(flow: &JobFlow) -> Self {
        let change = |change: &VisitChange| VisitChangeWire {
            from: change.from.to_string(),
            entered_at_ms: change.entered_at.ms(),
            left_at_ms: change.left_at.map(Timestamp::ms),
            added: change.added,
        };
        Self {
            job: flow.job.to_string(),
            changes: flow.changes.iter().map(change).collect(),
            retraction: flow.retraction,
        }
    }

    pub(crate) fn flow(self) -> JobFlow {
        let change = |wire: VisitChangeWire| VisitChange {
            from: wire.from.into(),
            entered_at: Timestamp::from_ms(wire.entered_at_ms),
            left_at: wire.left_at_ms.map(Timestamp::from_ms),
            added: wire.added,
        };
        JobFlow {
            job: self.job.into(),
            changes: self.changes.into_iter().map(change).collect(),
            retraction: self.retraction,
        }
    }
}

impl FinishedWire {
    pub(crate) fn of(message: &TwinMessage) -> Self {
        let TwinMessage::JobFinished {
            job,
            remaining_ms,
            visits,
        } = message
        else {
            return Self::default();
        };
        Self {
            job: job.to_string(),
            remaining_ms: *remaining_ms,
            visits: *visits,
        }
    }

    pub(crate) fn message(self) -> TwinMessage {
        TwinMessage::JobFinished {
            job: self.job.into(),
            remaining_ms: self.remaining_ms,
            visits: self.visits,
        }
    }
}

impl EstimatedWire {
    pub(crate) fn told(message: &TwinMessage) -> Self {
        let TwinMessage::Estimated {
            location,
            entered_at,
            remaining_ms,
            visits,
        } = message
        else {
            return Self::default();
        };
        Self {
            location: location.to_string(),
            entered_at_ms: entered_at.ms(),
            remaining_ms: *remaining_ms,
            visits: *visits,
        }
    }

    pub(crate) fn message(self) -> TwinMessage {
        let estimate = self.estimate();
        TwinMessage::Estimated {
            location: estimate.location,
            entered_at: estimate.entered_at,
            remaining_ms: estimate.remaining_ms,
            visits: estimate.visits,
        }
    }

    fn of(estimate: &Estimate) -> Self {
        Self {
            location: estimate.location.to_string(),
            entered_at_ms: estimate.entered_at.ms(),
            remaining_ms: estimate.remaining_ms,
            visits: estimate.visits,
        }
    }

    fn estimate(self) -> Estimate {
        Estimate {
            location: self.location.into(),
            entered_at: Timestamp::from_ms(self.entered_at_ms),
            remaining_ms: self.remaining_ms,
            visits: self.visits,
        }
    }
}

impl RemainingWire {
    pub(crate) fn of(remaining: &Remaining) -> Self {
        Self {
            mean_ms: remaining.mean_ms,
            visits: remaining.visits,
        }
    }

    pub(crate) fn remaining(self) -> Remaining {
        Remaining {
            mean_ms: if self.mean_ms.is_finite() {
                self.mean_ms
            } else {
                0.0
            },
            visits: self.visits,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct VisitWire {
    #[prost(string, tag = "1")]
    location: String,
    #[prost(sint64, tag = "2")]
    entered_at_ms: i64,
    /// The newest scan, after the first.
    #[prost(sint64, tag = "3")]
    seen_after_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct DwellWire {
    #[prost(string, tag = "1")]
    location: String,
    #[prost(sint64, tag = "2")]
    ms: i64,
    #[prost(uint32, tag = "3")]
    visits: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct JobWire {
    #[prost(message, repeated, tag = "1")]
    visits: Vec<VisitWire>,
    #[prost(message, repeated, tag = "2")]
    older: Vec<DwellWire>,
    #[prost(sint64, optional, tag = "3")]
    started_at_ms: Option<i64>,
    #[prost(sint64, optional, tag = "4")]
    completed_at_ms: Option<i64>,
    #[prost(uint64, tag = "5")]
    scans: u64,
    #[prost(string, optional, tag = "6")]
    product_id: Option<String>,
    #[prost(string, optional, tag = "7")]
    product_variant: Option<String>,
    #[prost(string, optional, tag = "8")]
    operator_id: Option<String>,
    #[prost(message, optional, tag = "140")]
    estimate: Option<EstimatedWire>,
    #[prost(sint64, optional, tag = "141")]
    exit_at_ms: Option<i64>,
    #[prost(string, tag = "142")]
    exit_location: String,
}

impl JobWire {
    pub(crate) fn of(job: &Job) -> Self {
        let visit = |visit: &Visit| VisitWire {
            location: visit.location.to_string(),
            entered_at_ms: visit.entered_at.ms(),
            seen_after_ms: visit.seen_at.ms_since(visit.entered_at),
        };
        let dwell = |dwell: &Dwell| DwellWire {
            location: dwell.location.to_string(),
            ms: dwell.ms,
            visits: dwell.visits,
        };
        let text = |boxed: &Option<Box<str>>| boxed.as_deref().map(str::to_owned);
        Self {
            visits: job.visits.iter().map(visit).collect(),
            older: job.older.iter().map(dwell).collect(),
            started_at_ms: job.started_at.map(Timestamp::ms),
            completed_at_ms: job.completed_at.map(Timestamp::ms),
            scans: job.scans,
            product_id: text(&job.product_id),
            product_variant: text(&job.product_variant),
            operator_id: text(&job.operator_id),
            estimate: job.estimate.as_deref().map(EstimatedWire::of),
            exit_at_ms: job.exit.as_ref().map(|(_, at)| at.ms()),
            exit_location: job
                .exit
                .as_ref()
                .map_or_else(String::new, |(location, _)| location.to_string()),
        }
    }

    pub(crate) fn job(self) -> Job {
        let visit = |wire: VisitWire| {
            let entered_at = Timestamp::from_ms(wire.entered_at_ms);
            Visit {
                location: wire.location.into(),
                entered_at,
                seen_at: entered_at.plus_ms(wire.seen_after_ms),
            }
        };
        let dwell = |wire: DwellWire| Dwell {
            location: wire.location.into(),
            ms: wire.ms,
            visits: wire.visits,
        };
        let boxed = |text: Option<String>| text.map(String::into_boxed_str);
        Job {
            visits: self.visits.into_iter().map(visit).collect(),
            older: self.older.into_iter().map(dwell).collect(),
            started_at: self.started_at_ms.map(Timestamp::from_ms),
            completed_at: self.completed_at_ms.map(Timestamp::from_ms),
            scans: self.scans,
            product_id: boxed(self.product_id),
            product_variant: boxed(self.product_variant),
            operator_id: boxed(self.operator_id),
            estimate: self.estimate.map(|wire| Box::new(wire.estimate())),
            exit: self
                .exit_at_ms
                .map(|ms| (self.exit_location.into(), Timestamp::from_ms(ms))),
        }
    }
}
