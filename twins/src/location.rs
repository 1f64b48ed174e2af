//! Who is at a location: jobs, how long they stayed, which operators were seen.
//!
//! Promises: bounded; jobs tell a location when they come and go, in their own order, and each message counts once.
//! "Today" is the UTC day in which a job left last. Knows only what jobs tell: the longest and the last stay are as
//! they were told first, the sum follows corrections.

mod config;
mod flow;

use std::collections::BTreeMap;

pub use self::{config::LocationConfig, flow::LocationFlow};
pub(crate) use self::{
    config::LocationConfigWire,
    flow::{Flow, FlowWire},
};
use crate::{
    air::Air,
    event::{JobFlow, TwinMessage},
    id::{Kind, TwinId},
    job::Remaining,
    time::Timestamp,
};

/// Most jobs listed by name; more are counted.
const JOBS_MAX: usize = 10_000;
/// Most operators remembered: those seen last.
const OPERATORS_MAX: usize = 32;
const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Location {
    /// Jobs that are here, and since when.
    pub(crate) jobs: BTreeMap<Box<str>, Timestamp>,
    /// Jobs that are here and found no place in the list.
    pub(crate) unlisted: u64,
    /// Finished visits.
    pub(crate) visits: u64,
    pub(crate) dwell_ms_sum: i64,
    pub(crate) dwell_ms_max: i64,
    pub(crate) dwell_ms_last: i64,
    pub(crate) last_left: Option<Timestamp>,
    /// Visits that ended on the day of `last_left`.
    pub(crate) left_today: u64,
    pub(crate) operators: BTreeMap<Box<str>, Timestamp>,
    pub(crate) air: Air,
    pub(crate) flow: Option<Box<Flow>>,
    /// From here to the end of a job.
    pub(crate) remaining: Remaining,
}

impl Location {
    /// Takes what a job told; what the job is told in turn goes to `answers`.
    pub(crate) fn listen(
        &mut self,
        own: &TwinId,
        message: &TwinMessage,
        answers: &mut Vec<(TwinId, TwinMessage)>,
    ) {
        self.hear(message);
        if let TwinMessage::JobFlow(flow) = message
            && self.remaining.visits > 0
            && let Some(open) = flow
                .changes
                .iter()
                .find(|change| change.added && change.left_at.is_none())
            && let Ok(job) = TwinId::new(own.tenant().clone(), Kind::Job, &flow.job)
        {
            let estimated = TwinMessage::Estimated {
                location: own.id().into(),
                entered_at: open.entered_at,
                remaining_ms: self.remaining.mean_ms as i64,
                visits: self.remaining.visits,
            };
            answers.push((job, estimated));
        }
    }

    pub(crate) fn hear(&mut self, message: &TwinMessage) {
        match message {
            TwinMessage::JobEntered {
                job,
                entered_at,
                operator_id,
            } => {
                if self.jobs.len() < JOBS_MAX || self.jobs.contains_key(job) {
                    self.jobs.insert(job.clone(), *entered_at);
                } else {
                    self.unlisted = self.unlisted.saturating_add(1);
                }
                if let Some(operator) = operator_id {
                    self.saw(operator, *entered_at);
                }
            }
            TwinMessage::JobLeft {
                job,
                entered_at,
                left_at,
            } => {
                if self.jobs.remove(job).is_none() {
                    self.unlisted = self.unlisted.saturating_sub(1);
                }
                self.count_visit(left_at.ms_since(*entered_at).max(0), *left_at);
            }
            TwinMessage::JobDwellCorrected { by_ms, .. } => {
                self.dwell_ms_sum = self.dwell_ms_sum.saturating_add(*by_ms);
            }
            TwinMessage::JobFlow(flow) => {
                self.flow.get_or_insert_default().take(flow);
                if flow.retraction {
                    self.recount(flow);
                }
            }
            TwinMessage::JobFinished {
                remaining_ms, visits, ..
            } => self.remaining.add(*remaining_ms, *visits),
            TwinMessage::Estimated { .. } => {}
        }
    }

    /// Visits changed because a scan was taken back.
    fn recount(&mut self, flow: &JobFlow) {
        for change in &flow.changes {
            match (change.left_at, change.added) {
                (None, false) => {
                    if self.jobs.remove(&flow.job).is_none() {
                        self.unlisted = self.unlisted.saturating_sub(1);
                    }
                }
                (None, true) if self.jobs.len() < JOBS_MAX => {
                    self.jobs.insert(flow.job.clone(), change.entered_at);
                }
                (None, true) => self.unlisted = self.unlisted.saturating_add(1),
                (Some(left_at), added) => {
                    let dwell_ms = left_at.ms_since(change.entered_at).max(0);
                    let today = self.day() == Some(left_at.floor_to(DAY_MS));
                    if added {
                        self.visits = self.visits.saturating_add(1);
                        self.dwell_ms_sum = self.dwell_ms_sum.saturating_add(dwell_ms);
                        self.left_today = self.left_today.saturating_add(u64::from(today));
                    } else {
                        self.visits = self.visits.saturating_sub(1);
                        self.dwell_ms_sum = self.dwell_ms_sum.saturating_sub(dwell_ms);
                        self.left_today = self.left_today.saturating_sub(u64::from(today));
                    }
                }
            }
        }
    }

    fn count_visit(&mut self, dwell_ms: i64, left_at: Timestamp) {
        self.visits = self.visits.saturating_add(1);
        self.dwell_ms_sum = self.dwell_ms_sum.saturating_add(dwell_ms);
        self.dwell_ms_max = self.dwell_ms_max.max(dwell_ms);
        let (day, today) = (left_at.floor_to(DAY_MS), self.day());
        if today.is_none_or(|today| day > today) {
            self.left_today = 1;
        } else if today == Some(day) {
            self.left_today = self.left_today.saturating_add(1);
        }
        if self.last_left.is_none_or(|last| left_at >= last) {
            (self.last_left, self.dwell_ms_last) = (Some(left_at), dwell_ms);
        }
    }

    fn saw(&mut self, operator: &str, at: Timestamp) {
        let seen = self.operators.entry(operator.into()).or_insert(at);
        *seen = at.max(*seen);
        if self.operators.len() > OPERATORS_MAX {
            let oldest = self
                .operators
                .iter()
                .min_by_key(|(_, at)| **at)
                .map(|(operator, _)| operator.clone());
            oldest.and_then(|operator| self.operators.remove(&operator));
        }
    }

    /// The day that "today" is.
    pub(crate) fn day(&self) -> Option<Timestamp> {
        self.last_left.map(|left| left.floor_to(DAY_MS))
    }

    pub(crate) fn throughput_per_h(&self) -> Result<f64, &'static str> {
        let flow = self.flow.as_deref().ok_or("no job has been here yet")?;
        flow.throughput_per_h()
    }

    /// Mean seconds between two jobs that leave.
    pub(crate) fn cycle_time_s(&self) -> Result<f64, &'static str> {
        match self.throughput_per_h()? {
            per_h if per_h > 0.0 => Ok(3_600.0 / per_h),
            _ => Err("no job has left lately"),
        }
    }

    pub(crate) fn wip(&self) -> u64 {
        self.unlisted.saturating_add(self.jobs.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_ms(1_764_115_200_000 + minute * 60_000)
    }

    fn enter(location: &mut Location, job: &str, minute: i64, operator: Option<&str>) {
        let operator_id = operator.map(Into::into);
        location.hear(&TwinMessage::JobEntered {
            job: job.into(),
            entered_at: at(minute),
            operator_id,
        });
    }

    fn leave(location: &mut Location, job: &str, entered: i64, left: i64) {
        location.hear(&TwinMessage::JobLeft {
            job: job.into(),
            entered_at: at(entered),
            left_at: at(left),
        });
    }

    #[test]
    fn jobs_beyond_the_list_are_still_counted() {
        let mut location = Location::default();
        for number in 0..JOBS_MAX + 3 {
            enter(&mut location, &format!("job-{number}"), 0, None);
        }
        assert_eq!(
            (location.jobs.len(), location.wip()),
            (JOBS_MAX, JOBS_MAX as u64 + 3)
        );
        for number in 0..JOBS_MAX + 3 {
            leave(&mut location, &format!("job-{number}"), 0, 1);
        }
        assert_eq!((location.wip(), location.visits), (0, JOBS_MAX as u64 + 3));
    }

    #[test]
    fn the_operators_seen_last_are_remembered() {
        let mut location = Location::default();
        for number in 0..40 {
            enter(&mut location, "job-1", number, Some(&format!("op-{number:02}")));
        }
        assert_eq!(location.operators.len(), OPERATORS_MAX);
        assert_eq!(
            location.operators.keys().next().map(|operator| &**operator),
            Some("op-08")
        );
    }

    #[test]
    fn throughput_counts_the_jobs_that_left_today() {
        let mut location = Location::default();
        let tomorrow = 24 * 60;
        leave(&mut location, "a", 0, 10);
        leave(&mut location, "b", 0, 20);
        assert_eq!(location.left_today, 2);
        leave(&mut location, "c", 0, tomorrow + 5);
        leave(&mut location, "late", 0, 30);
        assert_eq!((location.left_today, location.visits), (1, 4));
        assert_eq!(location.dwell_ms_last, (tomorrow + 5) * 60_000);
    }
}
