//! Shifts and jobs of a machine: the one that is on, and the last ones that are over.
//!
//! Promises: bounded; what is over is kept as bytes, some hundred each, and read only when somebody asks. Its figures
//! hold the ideal time of what was made, by the ideal cycle of then.

use std::sync::Arc;

use prost::Message;

use super::{
    figures::Figures,
    wire::{RunWire, run_from_wire, run_to_wire},
};
use crate::time::Timestamp;

/// Shifts kept: two days of three, and one more.
pub(super) const SHIFTS_MAX: usize = 7;
/// Jobs kept.
pub(super) const JOBS_MAX: usize = 4;
/// Longest name kept, in bytes.
const NAME_MAX: usize = 128;

/// A shift or a job on a machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    pub(crate) name: Box<str>,
    pub(crate) began_at: Timestamp,
    /// When a shift ends by the plan, or when it ended; a job has no end until it is over.
    pub(crate) ends_at: Option<Timestamp>,
    pub(crate) figures: Figures,
}

/// One that is over, as `RunWire`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done(pub(crate) Arc<[u8]>);

impl Done {
    /// What it was; `None` for bytes of a later release that cannot be read.
    pub(crate) fn run(&self) -> Option<Run> {
        RunWire::decode(&*self.0).ok().map(run_from_wire)
    }
}

impl Run {
    /// What it was, now that it is over.
    pub(super) fn over(self, at: Timestamp, ideal_cycle_s: Option<f64>) -> Self {
        Self {
            name: self.name[..self.name.floor_char_boundary(NAME_MAX)].into(),
            began_at: self.began_at,
            ends_at: Some(self.ends_at.map_or(at, |ends_at| ends_at.min(at))),
            figures: self.figures.with_ideal(ideal_cycle_s),
        }
    }
}

pub(super) fn keep(done: &mut Vec<Done>, most: usize, over: &Run) {
    if done.len() >= most {
        done.remove(0);
    }
    done.reserve_exact(1);
    done.push(Done(run_to_wire(over).encode_to_vec().into()));
}
