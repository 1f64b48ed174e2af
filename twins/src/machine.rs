//! What a machine does: its execution state, and the times and quantities of its day, its shift and its job.
//!
//! Promises: time is accounted by the events' own times; time without data beyond staleness counts as unknown. Where
//! the plant has shifts, what is not work (idle, stopped, down) counts as planned downtime in breaks and between
//! shifts, while production and setup count as what they are. A period is cut at its edge to the millisecond; a
//! quantity belongs to the period in which it was read. "Today" is the UTC day of the newest event.

pub(crate) mod energy;
pub(crate) mod figures;
mod periods;
pub(crate) mod runs;
mod said;
pub(crate) mod stops;
pub(crate) mod view;
pub(crate) mod wire;

use self::{
    energy::{Energy, QUARTER_MS},
    figures::{Quantity, over},
    runs::{Done, Run},
    stops::{Failures, Stop, is_stop},
};
pub(crate) use self::{
    figures::{Figures, Kpi, StateTimes},
    said::Said,
};
use crate::{
    config::{Execution, Operation},
    line::MachineReport,
    time::Timestamp,
};

const DAY_MS: i64 = 86_400_000;
/// A stop that was shorter is a micro-stop, where the plant model says nothing.
const MICRO_STOP_MS: i64 = 5 * 60_000;
/// How often the locations around a machine are told of it, and how soon of a new state.
const REPORT_MS: i64 = 60_000;
const REPORT_LEAST_MS: i64 = 5_000;
/// After a longer gap only its ends are looked at shift by shift.
const GAP_MAX_MS: i64 = 3 * DAY_MS;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Machine {
    pub(crate) execution: Execution,
    /// When this state began; `None` until one was said.
    pub(crate) since: Option<Timestamp>,
    /// When a state was last said.
    pub(crate) said_at: Option<Timestamp>,
    /// Up to when time is accounted.
    pub(crate) accounted_to: Option<Timestamp>,
    pub(crate) total: StateTimes,
    pub(crate) day: Figures,
    pub(crate) shift: Option<Box<Run>>,
    pub(crate) job: Option<Box<Run>>,
    /// Shifts and jobs that are over, the newest last.
    pub(crate) shifts_done: Vec<Done>,
    pub(crate) jobs_done: Vec<Done>,
    pub(crate) energy: Energy,
    /// Shifts that ended in this fold and are not told yet.
    pub(crate) untold: Vec<Run>,
    /// When the locations around it were last told of it, and what it did.
    pub(crate) told_at: Timestamp,
    pub(crate) told: Execution,
    pub(crate) stop: Option<Box<Stop>>,
    pub(crate) failures: Failures,
    pub(crate) day_began: Timestamp,
    /// Work is planned now; always where the plant has no shifts.
    pub(crate) planned: bool,
    /// Since when neither day nor shift nor `planned` changed.
    pub(crate) stretch_since: Timestamp,
    /// Until when the calendar says the same.
    pub(crate) stretch_until: Timestamp,
    /// When something is to be done next: a stretch, a day or a quarter of an hour ends.
    pub(crate) boundary: Timestamp,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            execution: Execution::Unknown,
            since: None,
            said_at: None,
            accounted_to: None,
            total: [0; 7],
            day: Figures::default(),
            shift: None,
            job: None,
            shifts_done: Vec::new(),
            jobs_done: Vec::new(),
            energy: Energy::default(),
            untold: Vec::new(),
            told_at: Timestamp::default(),
            told: Execution::Unknown,
            stop: None,
            failures: Failures::default(),
            day_began: Timestamp::default(),
            planned: true,
            stretch_since: Timestamp::default(),
            stretch_until: Timestamp::default(),
            boundary: Timestamp::default(),
        }
    }
}

/// What a machine is accounted by beside what it says.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) operation: Option<&'a Operation>,
    pub(crate) ideal_cycle_s: Option<f64>,
}

impl Plan<'_> {
    fn micro_stop_ms(&self) -> i64 {
        let said = self.operation.and_then(|operation| operation.micro_stop_ms);
        said.unwrap_or(MICRO_STOP_MS)
    }
}

impl Machine {
    /// The day that "today" is.
    pub(crate) fn day_start(&self) -> Option<Timestamp> {
        self.accounted_to.map(|to| to.floor_to(DAY_MS))
    }

    /// The figures that the KPIs are over: of the shift that is on, else of the day.
    pub(crate) fn figures(&self) -> &Figures {
        self.shift.as_ref().map_or(&self.day, |shift| &shift.figures)
    }

    fn figures_mut(&mut self) -> &mut Figures {
        match &mut self.shift {
            Some(shift) => &mut shift.figures,
            None => &mut self.day,
        }
    }

    fn each(&mut self, mut call: impl FnMut(&mut Figures)) {
        call(&mut self.day);
        for run in [&mut self.shift, &mut self.job].into_iter().flatten() {
            call(&mut run.figures);
        }
    }

    /// The state as it counts: what is not work is planned where no work is planned.
    fn counted_as(&self, execution: Execution) -> Execution {
        use Execution::{Down, Idle, PlannedDown, Stopped};
        match execution {
            Idle | Stopped | Down if !self.planned => PlannedDown,
            other => other,
        }
    }

    /// Accounts the time up to `at` to the state that held. Beyond `known_until` nothing is known, and the state is
    /// unknown until it is said again.
    pub(crate) fn account(&mut self, at: Timestamp, known_until: Timestamp, plan: Plan<'_>) {
        let Some(mut from) = self.accounted_to else {
            self.accounted_to = Some(at);
            self.cross(at, plan);
            return;
        };
        if at < from {
            return;
        }
        let unknown_since = known_until.max(from);
        loop {
            if from >= self.boundary {
                self.accounted_to = Some(from);
                self.cross(from, plan);
            }
            if from >= at {
                break;
            }
            if from >= known_until && at.ms_since(from) > GAP_MAX_MS {
                from = self.skip(from, at, plan);
                continue;
            }
            let to = at.min(self.boundary.max(from.plus_ms(1)));
            let known_ms = to.min(known_until).ms_since(from).max(0);
            self.add(self.execution, known_ms);
            self.add(Execution::Unknown, to.ms_since(from) - known_ms);
            let kwh = self.energy.hold(from, to);
            if kwh > 0.0 {
                self.used(kwh, from);
            }
            from = to;
        }
        self.accounted_to = Some(from);
        if at > known_until && self.execution != Execution::Unknown {
            self.execution = Execution::Unknown;
            self.since = Some(unknown_since);
            self.end_stop(plan);
        }
    }

    fn add(&mut self, execution: Execution, ms: i64) {
        if ms <= 0 {
            return;
        }
        let execution = self.counted_as(execution);
        let total = &mut self.total[execution as usize - 1];
        *total = total.saturating_add(ms);
        self.each(|figures| figures.add_time(execution, ms));
        if let (Some(stop), true) = (&mut self.stop, is_stop(execution)) {
            stop.add(ms);
        }
    }

    /// A state was said. One that is newer than what was said before but older than the time accounted to (another
    /// sensor of the machine was faster) takes that time over, as far as day and shift are the same. What was said
    /// before the data had a gap, which it has not since `steady_since`, does not hold after it.
    pub(crate) fn say(
        &mut self,
        execution: Execution,
        at: Timestamp,
        steady_since: Timestamp,
        plan: Plan<'_>,
    ) {
        if at < steady_since || self.said_at.is_some_and(|said_at| at < said_at) {
            return;
        }
        self.said_at = Some(at);
        if execution == self.execution && self.since.is_some() {
            return;
        }
        // Not more than the state so far has: a machine that fell silent became unknown later than `at`.
        let since = self.since.map_or(at, |since| at.max(since));
        let moved_ms = self.accounted_to.map_or(0, |accounted_to| {
            accounted_to.ms_since(since.max(self.stretch_since)).max(0)
        });
        let before = self.counted_as(self.execution);
        if moved_ms > 0 {
            let after = self.counted_as(execution);
            let shift = |times: &mut StateTimes| {
                times[before as usize - 1] = times[before as usize - 1].saturating_sub(moved_ms);
                times[after as usize - 1] = times[after as usize - 1].saturating_add(moved_ms);
            };
            shift(&mut self.total);
            self.each(|figures| shift(&mut figures.times));
            if let (Some(stop), true) = (&mut self.stop, is_stop(before)) {
                stop.add(-moved_ms);
            }
        }
        if is_stop(execution) {
            let stop = self.stop.get_or_insert_default();
            stop.worst = stop.worst.max(execution);
            if is_stop(self.counted_as(execution))
                && let Some(stop) = &mut self.stop
            {
                stop.add(moved_ms);
            }
        } else {
            self.end_stop(plan);
        }
        let operating_ms = self.total[Execution::Producing as usize - 1]
            .saturating_add(self.total[Execution::Setup as usize - 1]);
        self.failures
            .say(execution, operating_ms, self.total[Execution::Down as usize - 1]);
        let left = u32::from(self.execution != Execution::Unknown);
        self.each(|figures| figures.transitions = figures.transitions.saturating_add(left));
        self.execution = execution;
        self.since = Some(since);
    }

    /// Why it stands still was said; it holds for the whole stop.
    pub(crate) fn say_reason(&mut self, reason: &str) {
        if let Some(stop) = &mut self.stop {
            stop.say(reason);
        }
    }

    /// What was stood still so far goes to the period that ends.
    fn flush_stop(&mut self) {
        if let Some(mut stop) = self.stop.take() {
            stop.flush(self.figures_mut());
            self.stop = Some(stop);
        }
    }

    fn end_stop(&mut self, plan: Plan<'_>) {
        if let Some(mut stop) = self.stop.take() {
            stop.flush(self.figures_mut());
            let micro = stop.total_ms > 0 && stop.total_ms < plan.micro_stop_ms();
            if micro {
                self.each(|figures| {
                    figures.micro_stops = figures.micro_stops.saturating_add(1);
                    figures.micro_stop_ms = figures.micro_stop_ms.saturating_add(stop.total_ms);
                });
            }
        }
    }

    /// The job on the machine is this one; an empty name means none.
    pub(crate) fn say_job(&mut self, job: &str, at: Timestamp, plan: Plan<'_>) {
        if self
            .job
            .as_ref()
            .is_some_and(|run| *run.name == *job || at < run.began_at)
        {
            return;
        }
        if let Some(run) = self.job.take() {
            runs::keep(
                &mut self.jobs_done,
                runs::JOBS_MAX,
                &run.over(at, plan.ideal_cycle_s),
            );
        }
        if !job.is_empty() {
            self.job = Some(Box::new(Run {
                name: job.into(),
                began_at: at,
                ends_at: None,
                figures: self.day.begun(),
            }));
        }
    }

    /// A counter grew; what happened in a period that is over is not this one's.
    pub(crate) fn count(&mut self, quantity: Quantity, grown: f64, at: Timestamp) {
        let day_start = self.day_start();
        let part = |began: Option<Timestamp>| {
            if began.is_none_or(|began| at >= began) {
                grown
            } else {
                0.0
            }
        };
        self.day.count(quantity, part(day_start));
        for run in [&mut self.shift, &mut self.job].into_iter().flatten() {
            run.figures.count(quantity, part(Some(run.began_at)));
        }
    }

    /// A register of energy grew since it was read before, at `from`; the state that held is the one at `at`.
    pub(crate) fn metered(&mut self, grown_kwh: f64, from: Option<Timestamp>, at: Timestamp) {
        self.energy.begin_register();
        if let Some(demand) = self.energy.spread(grown_kwh, from, at) {
            let put = |figures: &mut Figures, began: Timestamp| {
                if let Some(mean_kw) = demand.since(began) {
                    figures.count(Quantity::Peak, mean_kw);
                }
            };
            put(&mut self.day, self.day_began);
            for run in [&mut self.shift, &mut self.job].into_iter().flatten() {
                put(&mut run.figures, run.began_at);
            }
        }
        self.used(grown_kwh, at);
    }

    /// The power is `kw` from now on, at most until it is stale.
    pub(crate) fn powered(&mut self, kw: f64, at: Timestamp, until: Timestamp) {
        if self.energy.set_power(kw, until) {
            self.count(Quantity::Energy, 0.0, at);
            self.boundary = self.boundary.min(at.floor_to(QUARTER_MS).plus_ms(QUARTER_MS));
        }
    }

    /// A power factor was read.
    pub(crate) fn power_factor(&mut self, factor: f64) {
        self.each(|figures| {
            figures.power_factor_sum += factor.abs();
            figures.power_factors = figures.power_factors.saturating_add(1);
        });
    }

    fn used(&mut self, kwh: f64, at: Timestamp) {
        let (execution, day_start) = (self.execution, self.day_start());
        let part = |began: Option<Timestamp>| {
            if began.is_none_or(|began| at >= began) {
                kwh
            } else {
                0.0
            }
        };
        self.day.used(execution, part(day_start));
        for run in [&mut self.shift, &mut self.job].into_iter().flatten() {
            run.figures.used(execution, part(Some(run.began_at)));
        }
    }

    /// A KPI by its name in the JSON.
    pub(crate) fn kpi(&self, name: &str, ideal_cycle_s: Option<f64>) -> Option<Kpi> {
        let seconds = |ms: i64| ms as f64 / 1_000.0;
        Some(match name {
            "mtbf_s" => over(
                seconds(self.failures.operating_ms),
                f64::from(self.failures.count),
                "no failure yet",
            ),
            "mttr_s" => over(
                seconds(self.failures.repaired_ms),
                f64::from(self.failures.repairs),
                "no repair yet",
            ),
            other => return self.figures().kpi(other, ideal_cycle_s),
        })
    }

    /// What the locations around it are to be told: once a minute, when its state changed, and when a shift is over.
    pub(crate) fn reports(&mut self, id: &str, plan: Plan<'_>) -> Vec<MachineReport> {
        let Some(at) = self.accounted_to else {
            return Vec::new();
        };
        let minute = at.floor_to(REPORT_MS) > self.told_at.floor_to(REPORT_MS);
        let changed = self.execution != self.told && at.ms_since(self.told_at) >= REPORT_LEAST_MS;
        let over = std::mem::take(&mut self.untold);
        if !minute && !changed && over.is_empty() {
            return Vec::new();
        }
        (self.told_at, self.told) = (at, self.execution);
        let mut figures = self.figures().clone();
        if let Some(stop) = &self.stop {
            stop.as_ref().clone().flush(&mut figures);
        }
        let day_end = self.day_began.plus_ms(DAY_MS);
        let report = MachineReport {
            machine: id.into(),
            at,
            execution: self.execution,
            ends_at: self
                .shift
                .as_ref()
                .and_then(|shift| shift.ends_at)
                .unwrap_or(day_end),
            figures: figures.with_ideal(plan.ideal_cycle_s),
            over: None,
            left: false,
        };
        if over.is_empty() {
            return vec![report];
        }
        let with = |over: Run| MachineReport {
            over: Some(Box::new(over)),
            ..report.clone()
        };
        over.into_iter().map(with).collect()
    }

    /// What it stood still for in this period, the longest first; the stop that is on is among them.
    pub(crate) fn downtime(&self) -> Vec<figures::StopTime> {
        let mut figures = Figures {
            stops: self.figures().stops.clone(),
            ..Figures::default()
        };
        if let Some(stop) = &self.stop {
            stop.as_ref().clone().flush(&mut figures);
        }
        figures.longest_stops()
    }
}

#[cfg(test)]
mod tests;
