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
    /// When this state began; `None` until one was said.
    pub(crate) since: Option<Timestamp>,
    /// When a state was last said.
    pub(crate) said_at: Option<Timestamp>,
    /// Up to when time is accounted.
    pub(crate) accounted_to: Option<Timestamp>,
    pub(crate) today: StateTimes,
    pub(crate) total: StateTimes,
    pub(crate) transitions_today: u32,
    /// Counters' growth today; `None` where the counter was never received.
    pub(crate) cycles: Option<f64>,
    pub(crate) good: Option<f64>,
    pub(crate) scrap: Option<f64>,
    pub(crate) energy_kwh: Option<f64>,
    /// The energy that was used while producing, and while in another state that is known.
    pub(crate) producing_energy_kwh: f64,
    pub(crate) idle_energy_kwh: f64,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            execution: Execution::Unknown,
            since: None,
            said_at: None,
            accounted_to: None,
            today: [0; 7],
            total: [0; 7],
            transitions_today: 0,
            cycles: None,
            good: None,
            scrap: None,
            energy_kwh: None,
            producing_energy_kwh: 0.0,
            idle_energy_kwh: 0.0,
        }
    }
}

/// A KPI, or why there is none.
pub(crate) type Kpi = Result<f64, &'static str>;

impl Machine {
    /// The day that "today" is.
    pub(crate) fn day(&self) -> Option<Timestamp> {
        self.accounted_to.map(|to| to.floor_to(DAY_MS))
    }

    /// Accounts the time up to `at` to the state that held. Beyond `known_until` nothing is known, and the state is
    /// unknown until it is said again.
    pub(crate) fn account(&mut self, at: Timestamp, known_until: Timestamp) {
        let Some(mut from) = self.accounted_to else {
            self.accounted_to = Some(at);
            return;
        };
        let unknown_since = known_until.max(from);
        while from < at {
            let midnight = from.floor_to(DAY_MS).plus_ms(DAY_MS);
            let to = at.min(midnight);
            let known_ms = to.min(known_until).ms_since(from).max(0);
            self.add(self.execution, known_ms);
            self.add(Execution::Unknown, to.ms_since(from) - known_ms);
            if to == midnight {
                self.begin_day();
            }
            from = to;
        }
        self.accounted_to = Some(from);
        if at > known_until && self.execution != Execution::Unknown {
            self.execution = Execution::Unknown;
            self.since = Some(unknown_since);
        }
    }

    fn add(&mut self, execution: Execution, ms: i64) {
        let index = execution as usize - 1;
        self.today[index] = self.today[index].saturating_add(ms);
        self.total[index] = self.total[index].saturating_add(ms);
    }

    fn begin_day(&mut self) {
        self.today = [0; 7];
        self.transitions_today = 0;
        for growth in [
            &mut self.cycles,
            &mut self.good,
            &mut self.scrap,
            &mut self.energy_kwh,
        ] {
            *growth = growth.map(|_| 0.0);
        }
        (self.producing_energy_kwh, self.idle_energy_kwh) = (0.0, 0.0);
    }

    /// A state was said. One that is newer than what was said before but older than the time accounted to (another
    /// sensor of the machine was faster) takes that time over. What was said before the data had a gap, which it has
    /// not since `steady_since`, does not hold after it.
    pub(crate) fn say(&mut self, execution: Execution, at: Timestamp, steady_since: Timestamp) {
        if at < steady_since || self.said_at.is_some_and(|said_at| at < said_at) {
            return;
        }
        self.said_at = Some(at);
        if execution == self.execution && self.since.is_some() {
            return;
        }
        // Not more than the state so far has: a machine that fell silent became unknown later than `at`.
        let since = self.since.map_or(at, |since| at.max(since));
        if let Some(accounted_to) = self.accounted_to {
            let ms = accounted_to.ms_since(since).max(0);
            let today_ms = accounted_to
                .ms_since(since.max(accounted_to.floor_to(DAY_MS)))
                .max(0);
            let (from, to) = (self.execution as usize - 1, execution as usize - 1);
            for (times, ms) in [(&mut self.total, ms), (&mut self.today, today_ms)] {
                times[from] = times[from].saturating_sub(ms);
                times[to] = times[to].saturating_add(ms);
            }
        }
        self.transitions_today = self
            .transitions_today
            .saturating_add(u32::from(self.execution != Execution::Unknown));
        self.execution = execution;
        self.since = Some(since);
    }

    /// A counter of this name grew; what happened on a day that is over is not today's.
    pub(crate) fn count(&mut self, name: &str, grown: f64, at: Timestamp) {
        let is_today = self.day().is_none_or(|day| at >= day);
        let place = match name {
            "cycle_count" | "part_count" => &mut self.cycles,
            "good_count" => &mut self.good,
            "scrap_count" | "reject_count" => &mut self.scrap,
            "energy_kwh" => return self.used(grown, at),
            _ => return,
        };
        *place = Some(place.unwrap_or(0.0) + if is_today { grown } else { 0.0 });
    }

    /// Energy was used, in the state that held until now.
    pub(crate) fn used(&mut self, kwh: f64, at: Timestamp) {
        let is_today = self.day().is_none_or(|day| at >= day);
        let kwh = if is_today { kwh } else { 0.0 };
        self.energy_kwh = Some(self.energy_kwh.unwrap_or(0.0) + kwh);
        match self.execution {
            Execution::Producing => self.producing_energy_kwh += kwh,
            Execution::Unknown => {}
            _ => self.idle_energy_kwh += kwh,
        }
    }

    fn ms(&self, execution: Execution) -> f64 {
        self.today[execution as usize - 1] as f64
    }

    /// Planned busy time so far: all time whose state is known, less planned downtime.
    fn planned_ms(&self) -> f64 {
        use Execution::{Down, Idle, Producing, Setup, Stopped};
        [Producing, Setup, Idle, Stopped, Down]
            .into_iter()
            .map(|execution| self.ms(execution))
            .sum()
    }

    /// Producing time over all time whose state is known.
    pub(crate) fn utilization(&self) -> Kpi {
        let known = self.planned_ms() + self.ms(Execution::PlannedDown);
        over(
            self.ms(Execution::Producing),
            known,
            "no execution state received today",
        )
    }

    pub(crate) fn availability(&self) -> Kpi {
        over(
            self.ms(Execution::Producing),
            self.planned_ms(),
            "no planned busy time today",
        )
    }

    /// Parts produced today: good and scrap where both are counted, else cycles.
    pub(crate) fn produced(&self) -> Kpi {
        match (self.good, self.scrap) {
            (Some(good), Some(scrap)) => Ok(good + scrap),
            _ => self.cycles.or(self.good).ok_or("no part counter received"),
        }
    }

    pub(crate) fn effectiveness(&self, ideal_cycle_s: Option<f64>) -> Kpi {
        let ideal = ideal_cycle_s.ok_or("no ideal_cycle in the plant model")?;
        over(
            ideal * self.produced()?,
            self.ms(Execution::Producing) / 1_000.0,
            "no production time today",
        )
    }

    pub(crate) fn quality_ratio(&self) -> Kpi {
        let (good, produced) = match (self.good, self.scrap, self.cycles) {
            (None, None, _) => return Err("neither good_count nor scrap_count received"),
            (Some(good), Some(scrap), _) => (good, good + scrap),
            (Some(good), None, Some(cycles)) => (good, cycles),
            (None, Some(scrap), Some(cycles)) => (cycles - scrap, cycles),
            (Some(_), None, None) => return Err("neither scrap_count nor cycle_count received"),
            (None, Some(_), None) => return Err("neither good_count nor cycle_count received"),
        };
        // Counters of two sensors need not be in step: a ratio beyond its bounds would be their skew.
        over(
            good.clamp(0.0, produced.max(0.0)),
            produced,
            "no part produced today",
        )
    }

    pub(crate) fn oee(&self, ideal_cycle_s: Option<f64>) -> Kpi {
        Ok(self.availability()? * self.effectiveness(ideal_cycle_s)? * self.quality_ratio()?)
    }

    pub(crate) fn good_parts(&self) -> Kpi {
        self.good.ok_or("no good_count received")
    }

    pub(crate) fn scrap_parts(&self) -> Kpi {
        self.scrap.ok_or("no scrap_count received")
    }

    pub(crate) fn energy(&self) -> Kpi {
        self.energy_kwh.ok_or("neither energy_kwh nor power_kw received")
    }

    pub(crate) fn energy_per_good_part(&self) -> Kpi {
        over(self.energy()?, self.good_parts()?, "no good part today")
    }

    pub(crate) fn idle_energy_share(&self) -> Kpi {
        self.energy()?;
        let known = self.idle_energy_kwh + self.producing_energy_kwh;
        over(
            self.idle_energy_kwh,
            known,
            "no energy used today while the execution state was known",
        )
    }
}

fn over(part: f64, whole: f64, otherwise: &'static str) -> Kpi {
    if whole > 0.0 {
        Ok(part / whole)
    } else {
        Err(otherwise)
    }
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
        let mut machine = Machine {
            good: Some(18_848.0),
            scrap: Some(423.0),
            ..Machine::default()
        };
        machine.account(at(0), at(0));
        for (execution, minutes) in [
            (Execution::PlannedDown, 60),
            (Execution::Down, 47),
            (Execution::Producing, 373),
        ] {
            let begin = machine.accounted_to.expect("accounted");
            machine.say(execution, begin, begin);
            let end = begin.plus_ms(minutes * 60_000);
            machine.account(end, end);
        }
        let shown = [
            machine.availability(),
            machine.effectiveness(Some(1.0)),
            machine.quality_ratio(),
            machine.oee(Some(1.0)),
        ]
        .map(|kpi| format!("{:.2}", 100.0 * kpi.expect("a value")));
        assert_eq!(shown, ["88.81", "86.11", "97.80", "74.79"]);
    }

    #[test]
    fn time_without_data_counts_as_unknown_and_a_day_begins_at_midnight() {
        let mut machine = Machine::default();
        machine.account(at(0), at(0));
        machine.say(Execution::Producing, at(0), at(0));
        machine.account(at(100_000), at(60_000));
        assert_eq!((machine.today[0], machine.today[6]), (60_000, 40_000));
        machine.account(at(DAY_MS + 5_000), at(DAY_MS + 5_000));
        assert_eq!(machine.today.iter().sum::<i64>(), 5_000);
        assert_eq!(machine.total.iter().sum::<i64>(), DAY_MS + 5_000);
    }

    #[test]
    fn a_state_said_by_a_slower_sensor_takes_its_time_over() {
        let mut machine = Machine::default();
        machine.account(at(0), at(0));
        machine.say(Execution::Producing, at(0), at(0));
        machine.account(at(10_000), at(10_000));
        machine.say(Execution::Idle, at(7_000), at(0));
        assert_eq!((machine.today[0], machine.today[2]), (7_000, 3_000));
        assert_eq!(
            (machine.execution, machine.since),
            (Execution::Idle, Some(at(7_000)))
        );
        // Older than what was said last: too late to say anything.
        machine.say(Execution::Down, at(5_000), at(0));
        assert_eq!(machine.execution, Execution::Idle);
    }

    #[test]
    fn a_state_said_for_a_time_before_the_silence_takes_no_more_than_there_is() {
        // The tick came first, then the delayed reading: "unknown" was left with less than no time.
        let mut machine = Machine::default();
        machine.account(at(0), at(0));
        machine.say(Execution::Producing, at(0), at(0));
        machine.account(at(180_000), at(120_000));
        machine.say(Execution::Setup, at(60_000), at(0));
        machine.say(Execution::Idle, at(60_000), at(0));
        assert_eq!(
            (machine.total[0], machine.total[2], machine.total[6]),
            (120_000, 60_000, 0)
        );
    }

    #[test]
    fn kpis_without_their_data_say_what_is_missing() {
        let mut machine = Machine::default();
        assert_eq!(machine.oee(Some(1.0)), Err("no planned busy time today"));
        assert_eq!(
            machine.quality_ratio(),
            Err("neither good_count nor scrap_count received")
        );
        assert_eq!(machine.energy(), Err("neither energy_kwh nor power_kw received"));
        machine.count("good_count", 0.0, at(0));
        assert_eq!(
            machine.quality_ratio(),
            Err("neither scrap_count nor cycle_count received")
        );
        assert_eq!(
            machine.effectiveness(None),
            Err("no ideal_cycle in the plant model")
        );
        machine.count("cycle_count", 4.0, at(0));
        machine.count("good_count", 3.0, at(0));
        assert_eq!(machine.quality_ratio(), Ok(0.75));
    }

    #[test]
    fn energy_is_told_apart_by_the_state_it_was_used_in() {
        let mut machine = Machine::default();
        machine.used(1.0, at(0));
        assert_eq!(
            machine.idle_energy_share(),
            Err("no energy used today while the execution state was known")
        );
        machine.say(Execution::Producing, at(0), at(0));
        machine.used(6.0, at(1));
        machine.say(Execution::Idle, at(1), at(0));
        machine.used(2.0, at(2));
        assert_eq!(machine.idle_energy_share(), Ok(0.25));
        assert_eq!(machine.energy(), Ok(9.0));
    }
}
