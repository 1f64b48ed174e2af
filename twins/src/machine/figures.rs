//! What a machine did within a period: a day, a shift, a job; the times and quantities, and the KPIs over them.
//!
//! Promises: figures of several machines, or of several periods, are put together by adding them, never by averaging
//! ratios. A KPI over no data is an error that says what is missing. Formulas of ISO 22400-2; its times are read off
//! the execution states: APT = producing, AUST = setup, AUPT = APT + AUST, ADET = stopped + down, ADOT = idle,
//! AUBT = AUPT + ADET, PBT = AUBT + ADOT. Time of which nothing is known belongs to none of them.

use crate::config::Execution;

/// Milliseconds in each state, by its number less one.
pub(crate) type StateTimes = [i64; 7];

/// A KPI, or why there is none.
pub(crate) type Kpi = Result<f64, &'static str>;

const MS_PER_HOUR: f64 = 3_600_000.0;

/// A quantity that may never have been received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Quantity {
    Cycles = 1,
    Good = 2,
    Scrap = 4,
    Energy = 8,
    Reactive = 16,
    Peak = 32,
    Ideal = 64,
}

/// The sums of a period. Small, for each machine has some of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Figures {
    pub(crate) times: StateTimes,
    /// Which of the quantities were received.
    pub(crate) has: u8,
    pub(crate) cycles: f64,
    pub(crate) good: f64,
    pub(crate) scrap: f64,
    pub(crate) energy_kwh: f64,
    /// The energy that was used while producing, and while in another state that is known.
    pub(crate) producing_energy_kwh: f64,
    pub(crate) idle_energy_kwh: f64,
    pub(crate) reactive_kvarh: f64,
    /// The highest mean of a quarter of an hour.
    pub(crate) peak_kw: f64,
    /// Readings of a power factor, and their sum.
    pub(crate) power_factor_sum: f64,
    pub(crate) power_factors: u32,
    pub(crate) transitions: u32,
    pub(crate) micro_stops: u32,
    pub(crate) micro_stop_ms: i64,
    /// Where machines of different ideal cycles are added: ideal milliseconds of what they made.
    pub(crate) ideal_ms: f64,
    pub(crate) stops: Vec<StopTime>,
}

/// What a reason for standing still took.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StopTime {
    pub(crate) reason: Box<str>,
    pub(crate) ms: i64,
    pub(crate) count: u32,
}

/// Reasons told apart within a period; more are added up as `other`.
const REASONS_MAX: usize = 16;

impl Figures {
    pub(crate) fn received(&self, quantity: Quantity) -> bool {
        self.has & quantity as u8 != 0
    }

    pub(crate) fn mark(&mut self, quantity: Quantity) {
        self.has |= quantity as u8;
    }

    fn get(&self, quantity: Quantity, value: f64) -> Option<f64> {
        self.received(quantity).then_some(value)
    }

    pub(crate) fn add_time(&mut self, execution: Execution, ms: i64) {
        let place = &mut self.times[execution as usize - 1];
        *place = place.saturating_add(ms);
    }

    pub(crate) fn count(&mut self, quantity: Quantity, grown: f64) {
        self.mark(quantity);
        match quantity {
            Quantity::Cycles => self.cycles += grown,
            Quantity::Good => self.good += grown,
            Quantity::Scrap => self.scrap += grown,
            Quantity::Energy => self.energy_kwh += grown,
            Quantity::Reactive => self.reactive_kvarh += grown,
            Quantity::Peak => self.peak_kw = self.peak_kw.max(grown),
            Quantity::Ideal => self.ideal_ms += grown,
        }
    }

    /// Sets a quantity that was read back.
    pub(super) fn put(&mut self, quantity: Quantity, value: f64) {
        self.mark(quantity);
        match quantity {
            Quantity::Cycles => self.cycles = value,
            Quantity::Good => self.good = value,
            Quantity::Scrap => self.scrap = value,
            Quantity::Energy => self.energy_kwh = value,
            Quantity::Reactive => self.reactive_kvarh = value,
            Quantity::Peak => self.peak_kw = value,
            Quantity::Ideal => self.ideal_ms = value,
        }
    }

    /// Energy that was used in a state.
    pub(crate) fn used(&mut self, execution: Execution, kwh: f64) {
        self.count(Quantity::Energy, kwh);
        match execution {
            Execution::Producing => self.producing_energy_kwh += kwh,
            Execution::Unknown => {}
            _ => self.idle_energy_kwh += kwh,
        }
    }

    /// Standing still for a reason took so long.
    pub(crate) fn stood(&mut self, reason: &str, ms: i64, count: u32) {
        let place = self.stops.iter().position(|stop| *stop.reason == *reason);
        let place = place.or_else(|| {
            let full = self.stops.len() >= REASONS_MAX;
            let other = self
                .stops
                .iter()
                .position(|stop| full && *stop.reason == *"other");
            other.or_else(|| {
                self.stops.reserve_exact(1);
                self.stops.push(StopTime {
                    reason: if full { "other".into() } else { reason.into() },
                    ms: 0,
                    count: 0,
                });
                Some(self.stops.len() - 1)
            })
        });
        if let Some(stop) = place.and_then(|place| self.stops.get_mut(place)) {
            stop.ms = stop.ms.saturating_add(ms);
            stop.count = stop.count.saturating_add(count);
        }
    }

    /// The same quantities, none of them grown: a period that begins.
    pub(crate) fn begun(&self) -> Self {
        let kept = !(Quantity::Peak as u8 | Quantity::Ideal as u8);
        Self {
            has: self.has & kept,
            ..Self::default()
        }
    }

    /// Adds another machine's figures, or another period's.
    ///
    /// The ideal time is known only where it is known of all that produced.
    pub(crate) fn add(&mut self, other: &Self) {
        let lacks =
            |figures: &Self| !figures.received(Quantity::Ideal) && figures.ms(Execution::Producing) > 0.0;
        let lacking = lacks(self) || lacks(other);
        for (time, more) in self.times.iter_mut().zip(other.times) {
            *time = time.saturating_add(more);
        }
        for (sum, more) in [
            (&mut self.cycles, other.cycles),
            (&mut self.good, other.good),
            (&mut self.scrap, other.scrap),
            (&mut self.energy_kwh, other.energy_kwh),
            (&mut self.producing_energy_kwh, other.producing_energy_kwh),
            (&mut self.idle_energy_kwh, other.idle_energy_kwh),
            (&mut self.reactive_kvarh, other.reactive_kvarh),
            (&mut self.power_factor_sum, other.power_factor_sum),
            (&mut self.ideal_ms, other.ideal_ms),
        ] {
            *sum += more;
        }
        self.has |= other.has;
        if lacking {
            self.has &= !(Quantity::Ideal as u8);
        }
        // The peaks of machines need not have been at the same time: their sum is what they took at most.
        self.peak_kw += other.peak_kw;
        self.power_factors = self.power_factors.saturating_add(other.power_factors);
        self.transitions = self.transitions.saturating_add(other.transitions);
        self.micro_stops = self.micro_stops.saturating_add(other.micro_stops);
        self.micro_stop_ms = self.micro_stop_ms.saturating_add(other.micro_stop_ms);
        for stop in &other.stops {
            self.stood(&stop.reason, stop.ms, stop.count);
        }
    }

    fn ms(&self, execution: Execution) -> f64 {
        self.times[execution as usize - 1] as f64
    }

    fn processing_ms(&self) -> f64 {
        self.ms(Execution::Producing) + self.ms(Execution::Setup)
    }

    fn delay_ms(&self) -> f64 {
        self.ms(Execution::Stopped) + self.ms(Execution::Down)
    }

    fn busy_ms(&self) -> f64 {
        self.processing_ms() + self.delay_ms()
    }

    /// Planned busy time so far: all time whose state is known, less planned downtime.
    fn planned_ms(&self) -> f64 {
        self.busy_ms() + self.ms(Execution::Idle)
    }

    /// Parts produced: good and scrap where both are counted, else cycles.
    fn produced(&self) -> Kpi {
        let (good, scrap, cycles) = self.parts();
        match (good, scrap) {
            (Some(good), Some(scrap)) => Ok(good + scrap),
            _ => cycles.or(good).ok_or("no part counter received"),
        }
    }

    fn parts(&self) -> (Option<f64>, Option<f64>, Option<f64>) {
        (
            self.get(Quantity::Good, self.good),
            self.get(Quantity::Scrap, self.scrap),
            self.get(Quantity::Cycles, self.cycles),
        )
    }

    /// The ideal time for what was produced, put where figures of several machines are added.
    pub(crate) fn with_ideal(mut self, ideal_cycle_s: Option<f64>) -> Self {
        if let (Some(ideal_s), Ok(produced)) = (ideal_cycle_s, self.produced()) {
            self.count(Quantity::Ideal, 1_000.0 * ideal_s * produced);
        }
        self
    }

    fn effectiveness(&self, ideal_cycle_s: Option<f64>) -> Kpi {
        let ideal_ms = match (self.get(Quantity::Ideal, self.ideal_ms), ideal_cycle_s) {
            (Some(ideal_ms), _) => ideal_ms,
            (None, Some(ideal_s)) => 1_000.0 * ideal_s * self.produced()?,
            (None, None) => return Err("no ideal_cycle in the plant model"),
        };
        over(ideal_ms, self.ms(Execution::Producing), "no production time yet")
    }

    fn quality_ratio(&self) -> Kpi {
        let (good, produced) = match self.parts() {
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
            "no part produced yet",
        )
    }

    fn availability(&self) -> Kpi {
        over(
            self.ms(Execution::Producing),
            self.planned_ms(),
            "no planned busy time yet",
        )
    }

    fn energy(&self) -> Kpi {
        self.get(Quantity::Energy, self.energy_kwh)
            .ok_or("neither energy_kwh nor power_kw received")
    }

    fn energy_per_good_part(&self) -> Kpi {
        over(self.energy()?, self.good_parts()?, "no good part yet")
    }

    fn good_parts(&self) -> Kpi {
        self.get(Quantity::Good, self.good)
            .ok_or("no good_count received")
    }

    fn power_factor(&self) -> Kpi {
        if self.received(Quantity::Energy) && self.received(Quantity::Reactive) {
            let apparent = self.energy_kwh.hypot(self.reactive_kvarh);
            return over(self.energy_kwh, apparent, "no energy used yet");
        }
        over(
            self.power_factor_sum,
            f64::from(self.power_factors),
            "neither energy_kvarh nor power_factor received",
        )
    }

    /// A KPI by its name in the JSON; `None` for a name that is none of these.
    pub(crate) fn kpi(&self, name: &str, ideal_cycle_s: Option<f64>) -> Option<Kpi> {
        let producing = self.ms(Execution::Producing);
        Some(match name {
            "utilization" => over(
                producing,
                self.planned_ms() + self.ms(Execution::PlannedDown),
                "no execution state received yet",
            ),
            "availability" => self.availability(),
            "effectiveness" => self.effectiveness(ideal_cycle_s),
            "quality_ratio" => self.quality_ratio(),
            "oee" => self.product(self.availability(), ideal_cycle_s),
            "nee" => {
                let processing = over(
                    self.processing_ms(),
                    self.planned_ms(),
                    "no planned busy time yet",
                );
                self.product(processing, ideal_cycle_s)
            }
            "utilization_efficiency" => over(producing, self.busy_ms(), "no busy time yet"),
            "allocation_efficiency" => over(self.busy_ms(), self.planned_ms(), "no planned busy time yet"),
            "technical_efficiency" => over(
                producing,
                producing + self.delay_ms(),
                "neither production nor delay yet",
            ),
            "setup_rate" => over(
                self.ms(Execution::Setup),
                self.processing_ms(),
                "no processing time yet",
            ),
            "cycle_time_s" => self
                .produced()
                .and_then(|produced| over(producing / 1_000.0, produced, "no part produced yet")),
            "throughput_per_h" => self.produced().and_then(|produced| {
                over(
                    produced,
                    self.planned_ms() / MS_PER_HOUR,
                    "no planned busy time yet",
                )
            }),
            "parts" => self.produced(),
            "good_parts" => self.good_parts(),
            "scrap_parts" => self
                .get(Quantity::Scrap, self.scrap)
                .ok_or("no scrap_count received"),
            "energy_kwh" => self.energy(),
            "energy_kwh_per_good_part" | "energy_per_good_part_kwh" => self.energy_per_good_part(),
            "idle_energy_share" => self.energy().and_then(|_| {
                over(
                    self.idle_energy_kwh,
                    self.idle_energy_kwh + self.producing_energy_kwh,
                    "no energy used yet while the execution state was known",
                )
            }),
            "peak_demand_kw" => self
                .get(Quantity::Peak, self.peak_kw)
                .ok_or("no quarter of an hour with energy is over yet"),
            "power_factor" => self.power_factor(),
            _ => return None,
        })
    }

    /// What was stood still for, the longest first.
    pub(crate) fn longest_stops(&self) -> Vec<StopTime> {
        let mut stops = self.stops.clone();
        stops.retain(|stop| stop.ms > 0 || stop.count > 0);
        stops.sort_by(|one, other| other.ms.cmp(&one.ms).then_with(|| one.reason.cmp(&other.reason)));
        stops
    }

    fn product(&self, of_time: Kpi, ideal_cycle_s: Option<f64>) -> Kpi {
        Ok(of_time? * self.effectiveness(ideal_cycle_s)? * self.quality_ratio()?)
    }
}

pub(crate) fn over(part: f64, whole: f64, otherwise: &'static str) -> Kpi {
    if whole > 0.0 {
        Ok(part / whole)
    } else {
        Err(otherwise)
    }
}

#[cfg(test)]
mod tests;
