//! What a machine does: its execution state, the time in each state, what it made and used today.
//!
//! Promises: time is accounted by the events' own times; time without data beyond staleness counts as unknown.
//! KPIs after ISO 22400-2: availability = APT/PBT, effectiveness = PRI·PQ/APT, quality ratio = GQ/PQ, OEE = their
//! product. "Today" is the UTC day of the newest event; shift calendars are not known here.

use crate::{config::Execution, time::Timestamp};

const DAY_MS: i64 = 86_400_000;

/// Milliseconds in each state, by its number less one.
pub(crate) type StateTimes = [i64; 7];

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Machine {
    pub(crate) execution: Execution,
    /// When this state began.
    pub(crate) since: Option<Timestamp>,
    /// Up to when time is accounted.
    pub(crate) accounted_to: Option<Timestamp>,
    pub(crate) today: StateTimes,
    pub(crate) total: StateTimes,
    pub(crate) transitions_today: u32,
    /// Counters' growth today: cycles, good, scrap, energy, energy while not producing.
    pub(crate) cycles: f64,
    pub(crate) good: Option<f64>,
    pub(crate) scrap: Option<f64>,
    pub(crate) energy_kwh: Option<f64>,
    pub(crate) idle_energy_kwh: f64,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            execution: Execution::Unknown,
            since: None,
            accounted_to: None,
            today: [0; 7],
            total: [0; 7],
            transitions_today: 0,
            cycles: 0.0,
            good: None,
            scrap: None,
            energy_kwh: None,
            idle_energy_kwh: 0.0,
        }
    }
}

/// A KPI, or why there is none.
pub(crate) type Kpi = Result<f64, &'static str>;

impl Machine {
    /// Accounts the time up to `at` to the state that held; beyond `known_until` nothing is known.
    pub(crate) fn account(&mut self, at: Timestamp, known_until: Timestamp) {
        let Some(mut from) = self.accounted_to else {
            self.accounted_to = Some(at);
            return;
        };
        while from < at {
            let midnight = from.floor_to(DAY_MS).plus_ms(DAY_MS);
            let to = at.min(midnight);
            let known_ms = to.min(known_until).ms_since(from).max(0);
            let unknown_ms = to.ms_since(from) - known_ms;
            self.add(self.execution, known_ms);
            self.add(Execution::Unknown, unknown_ms);
            if to == midnight {
                self.begin_day();
            }
            from = to;
        }
        self.accounted_to = Some(from);
    }

    fn add(&mut self, execution: Execution, ms: i64) {
        let index = execution as usize - 1;
        self.today[index] += ms;
        self.total[index] += ms;
    }

    fn begin_day(&mut self) {
        self.today = [0; 7];
        self.transitions_today = 0;
        self.cycles = 0.0;
        self.good = self.good.map(|_| 0.0);
        self.scrap = self.scrap.map(|_| 0.0);
        self.energy_kwh = self.energy_kwh.map(|_| 0.0);
        self.idle_energy_kwh = 0.0;
    }

    pub(crate) fn set_execution(&mut self, execution: Execution, at: Timestamp) {
        if self.since.is_none() || execution != self.execution {
            self.transitions_today += u32::from(self.since.is_some());
            self.execution = execution;
            self.since = Some(at);
        }
    }

    /// A counter of this name grew.
    pub(crate) fn count(&mut self, name: &str, grown: f64) {
        let add = |place: &mut Option<f64>| *place = Some(place.unwrap_or(0.0) + grown);
        match name {
            "cycle_count" | "part_count" => self.cycles += grown,
            "good_count" => add(&mut self.good),
            "scrap_count" | "reject_count" => add(&mut self.scrap),
            "energy_kwh" => {
                add(&mut self.energy_kwh);
                if self.execution != Execution::Producing {
                    self.idle_energy_kwh += grown;
                }
            }
            _ => {}
        }
    }

    fn ms(&self, execution: Execution) -> f64 {
        self.today[execution as usize - 1] as f64
    }

    /// Planned busy time so far: all time whose state is known, less planned downtime.
    fn planned_ms(&self) -> f64 {
        use Execution::{Down, Idle, Producing, Setup, Stopped};
        [Producing, Setup, Idle, Stopped, Down].into_iter().map(|execution| self.ms(execution)).sum()
    }

    /// Producing time over all time whose state is known.
    pub(crate) fn utilization(&self) -> Kpi {
        let known = self.planned_ms() + self.ms(Execution::PlannedDown);
        over(self.ms(Execution::Producing), known, "no execution state received today")
    }

    pub(crate) fn availability(&self) -> Kpi {
        over(self.ms(Execution::Producing), self.planned_ms(), "no planned busy time today")
    }

    /// Parts produced: good and scrap where both are counted, else cycles.
    fn produced(&self) -> f64 {
        match (self.good, self.scrap) {
            (Some(good), Some(scrap)) => good + scrap,
            _ => self.cycles,
        }
    }

    pub(crate) fn effectiveness(&self, ideal_cycle_s: Option<f64>) -> Kpi {
        let ideal = ideal_cycle_s.ok_or("no ideal_cycle in the plant model")?;
        over(ideal * self.produced(), self.ms(Execution::Producing) / 1_000.0, "no production time today")
    }

    pub(crate) fn quality_ratio(&self) -> Kpi {
        let produced = self.produced();
        let good = match (self.good, self.scrap) {
            (Some(good), _) => good,
            (None, Some(scrap)) => produced - scrap,
            (None, None) => return Err("neither good_count nor scrap_count received"),
        };
        over(good, produced, "no part produced today")
    }

    pub(crate) fn oee(&self, ideal_cycle_s: Option<f64>) -> Kpi {
        Ok(self.availability()? * self.effectiveness(ideal_cycle_s)? * self.quality_ratio()?)
    }

    pub(crate) fn energy(&self) -> Kpi {
        self.energy_kwh.ok_or("no energy_kwh received")
    }

    pub(crate) fn energy_per_good_part(&self) -> Kpi {
        over(self.energy()?, self.good.ok_or("no good_count received")?, "no good part today")
    }

    pub(crate) fn idle_energy_share(&self) -> Kpi {
        over(self.idle_energy_kwh, self.energy()?, "no energy used today")
    }
}

fn over(part: f64, whole: f64, otherwise: &'static str) -> Kpi {
    if whole > 0.0 { Ok(part / whole) } else { Err(otherwise) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(1_764_115_200_000 + ms)
    }

    #[test]
    fn oee_agrees_with_a_worked_shift() {
        // Shift 480 min, breaks 60, down 47, ideal 1.0 s, 19,271 parts, 423 rejected: 88.81 %, 86.11 %, 97.80 %, 74.79 %
        // (the OEE example of Vorne's oee.com).
        let mut machine = Machine { good: Some(18_848.0), scrap: Some(423.0), ..Machine::default() };
        machine.account(at(0), at(0));
        for (execution, minutes) in [(Execution::PlannedDown, 60), (Execution::Down, 47), (Execution::Producing, 373)] {
            let begin = machine.accounted_to.expect("accounted");
            machine.set_execution(execution, begin);
            let end = begin.plus_ms(minutes * 60_000);
            machine.account(end, end);
        }
        let shown = [machine.availability(), machine.effectiveness(Some(1.0)), machine.quality_ratio(), machine.oee(Some(1.0))]
            .map(|kpi| format!("{:.2}", 100.0 * kpi.expect("a value")));
        assert_eq!(shown, ["88.81", "86.11", "97.80", "74.79"]);
    }

    #[test]
    fn time_without_data_counts_as_unknown_and_a_day_begins_at_midnight() {
        let mut machine = Machine::default();
        machine.account(at(0), at(0));
        machine.set_execution(Execution::Producing, at(0));
        machine.account(at(100_000), at(60_000));
        assert_eq!((machine.today[0], machine.today[6]), (60_000, 40_000));
        machine.account(at(DAY_MS + 5_000), at(DAY_MS + 5_000));
        assert_eq!(machine.today.iter().sum::<i64>(), 5_000);
        assert_eq!(machine.total.iter().sum::<i64>(), DAY_MS + 5_000);
    }
}
