//! Who is at a location: jobs, how long they stayed, which operators were seen.
//!
//! Promises: bounded; jobs tell a location when they come and go, each message counts once.

use std::collections::BTreeMap;

use crate::{event::TwinMessage, time::Timestamp};

/// Most jobs listed by name; more are counted.
const JOBS_MAX: usize = 10_000;
const OPERATORS_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Location {
    pub(crate) jobs: BTreeMap<Box<str>, Timestamp>,
    /// Jobs that are here and found no place in the list.
    pub(crate) unlisted: u64,
    /// Finished visits.
    pub(crate) visits: u64,
    pub(crate) dwell_ms_sum: i64,
    pub(crate) dwell_ms_max: i64,
    pub(crate) last_left: Option<Timestamp>,
    pub(crate) operators: BTreeMap<Box<str>, Timestamp>,
}

impl Location {
    pub(crate) fn hear(&mut self, message: &TwinMessage) {
        match message {
            TwinMessage::JobEntered { job, entered_at, operator_id } => {
                if self.jobs.len() < JOBS_MAX || self.jobs.contains_key(job) {
                    self.jobs.insert(job.clone(), *entered_at);
                } else {
                    self.unlisted += 1;
                }
                if let Some(operator) = operator_id {
                    self.saw(operator, *entered_at);
                }
            }
            TwinMessage::JobLeft { job, entered_at, left_at } => {
                if self.jobs.remove(job).is_none() {
                    self.unlisted = self.unlisted.saturating_sub(1);
                }
                let dwell_ms = left_at.ms_since(*entered_at).max(0);
                self.visits += 1;
                self.dwell_ms_sum += dwell_ms;
                self.dwell_ms_max = self.dwell_ms_max.max(dwell_ms);
                self.last_left = self.last_left.max(Some(*left_at));
            }
            TwinMessage::JobDwellCorrected { by_ms, .. } => self.dwell_ms_sum += by_ms,
        }
    }

    fn saw(&mut self, operator: &str, at: Timestamp) {
        self.operators.insert(operator.into(), at);
        if self.operators.len() > OPERATORS_MAX {
            let oldest = self.operators.iter().min_by_key(|(_, at)| **at).map(|(operator, _)| operator.clone());
            oldest.and_then(|operator| self.operators.remove(&operator));
        }
    }

    pub(crate) fn wip(&self) -> u64 {
        self.jobs.len() as u64 + self.unlisted
    }
}
