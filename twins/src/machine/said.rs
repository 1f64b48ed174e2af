//! What a reading says to a machine: quantities that grew, and the words that hold from then on.
//!
//! Promises: quantities count in the state that held until the reading, words hold from it on, so the order of the
//! metrics within a reading does not matter. Knows metrics by the names that the plant model maps to.

use super::{Machine, Plan, figures::Quantity};
use crate::{
    config::Execution,
    metric::{Rules, Taken, execution, execution_of_number, is_execution},
    pending::Seen,
    time::Timestamp,
};

/// The words of a reading.
#[derive(Default)]
pub(crate) struct Said<'a> {
    execution: Option<Execution>,
    reason: Option<&'a str>,
    job: Option<&'a str>,
}

impl Machine {
    /// Takes one value of a reading of `at`, and what `taken` says of it.
    pub(crate) fn take<'a>(
        &mut self,
        name: &str,
        seen: Seen<'a>,
        at: Timestamp,
        taken: &Taken,
        rules: &Rules<'_>,
        said: &mut Said<'a>,
    ) {
        let config = rules.config;
        match seen {
            Seen::Number(number) => match name {
                "cycle_count" | "part_count" => self.count(Quantity::Cycles, taken.grown, at),
                "good_count" => self.count(Quantity::Good, taken.grown, at),
                "scrap_count" | "reject_count" => self.count(Quantity::Scrap, taken.grown, at),
                "energy_kwh" => self.metered(taken.grown, taken.since, at),
                "energy_kvarh" => self.count(Quantity::Reactive, taken.grown, at),
                "power_kw" if taken.newest => self.powered(number, at, at.plus_ms(rules.hold_ms())),
                "power_factor" => self.power_factor(number),
                _ if is_execution(name) => said.execution = Some(execution_of_number(name, number, config)),
                _ => {}
            },
            Seen::Text(word) => match name {
                "downtime_reason" | "stop_reason" => said.reason = Some(word),
                "job_id" => said.job = Some(word),
                _ if is_execution(name) => said.execution = Some(execution(word, config)),
                _ => {}
            },
            Seen::Bool(yes) if is_execution(name) => {
                said.execution = Some(execution(if yes { "true" } else { "false" }, config));
            }
            Seen::Bool(_) | Seen::Lapsed => {}
        }
    }

    /// What a reading said holds from `at` on.
    pub(crate) fn hear(&mut self, said: &Said<'_>, at: Timestamp, steady_since: Timestamp, plan: Plan<'_>) {
        if let Some(execution) = said.execution {
            self.say(execution, at, steady_since, plan);
        }
        if let Some(reason) = said.reason {
            self.say_reason(reason);
        }
        if let Some(job) = said.job {
            self.say_job(job, at, plan);
        }
    }
}
