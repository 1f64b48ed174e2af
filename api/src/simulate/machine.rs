//! One simulated machine: what it does, what it makes, what it draws.

use gemba_twins::time::Timestamp;
use serde_json::{Value, json};

use super::{random::Random, round, truth::Said};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Producing,
    Setup,
    Idle,
    Stopped,
    Down,
    PlannedDown,
}

pub(super) struct SimulatedMachine {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) cell: usize,
    pub(super) ideal_cycle_ms: i64,
    state: State,
    until: Option<Timestamp>,
    cycle_left_ms: i64,
    cycles: u64,
    good: u64,
    energy_kwh: f64,
    power_kw: f64,
    full_kw: f64,
    /// Of machines with a spindle.
    spindle_c: Option<f64>,
    last: Option<Timestamp>,
}

const KINDS: [(&str, &str, i64, f64); 4] = [
    ("cnc", "CNC", 18_000, 11.0),
    ("press", "Press", 4_000, 22.0),
    ("washer", "Washer", 9_000, 7.0),
    ("pack", "Packer", 3_000, 3.5),
];

impl SimulatedMachine {
    pub(super) fn new(number: usize, cell: usize, random: &mut Random) -> Self {
        let (prefix, name, ideal_cycle_ms, full_kw) = KINDS[number % KINDS.len()];
        Self {
            id: format!("{prefix}-{:02}", number + 1),
            name: format!("{name} {:02}", number + 1),
            cell,
            ideal_cycle_ms,
            state: if random.chance(0.8) {
                State::Producing
            } else {
                State::Idle
            },
            until: None,
            cycle_left_ms: 0,
            cycles: 0,
            good: 0,
            energy_kwh: round(random.between(2_000.0, 90_000.0), 2),
            power_kw: 0.0,
            full_kw,
            spindle_c: (prefix == "cnc").then_some(24.0),
            last: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.state == State::Producing
    }

    pub(super) fn step(&mut self, now: Timestamp, random: &mut Random) {
        let ms = self
            .last
            .map_or(1_000, |last| now.ms_since(last))
            .clamp(0, 60_000);
        self.last = Some(now);
        if self.until.is_none_or(|until| now >= until) {
            self.change(now, random);
        }
        let load = match self.state {
            State::Producing => random.between(0.85, 1.0),
            State::Setup => 0.35,
            State::Idle | State::Stopped => 0.2,
            State::Down | State::PlannedDown => 0.05,
        };
        if let Some(spindle_c) = self.spindle_c {
            // Warm while it cuts; each third of an hour its coolant fails for a minute and a half.
            let fails = now.ms().rem_euclid(1_200_000) < 90_000;
            let aim = match (self.state, fails) {
                (State::Producing, true) => 110.0,
                (State::Producing, false) => 58.0,
                _ => 24.0,
            };
            self.spindle_c = Some(spindle_c + (aim - spindle_c) * (ms as f64 / 45_000.0).min(1.0));
        }
        self.power_kw = round(self.full_kw * load, 2);
        self.energy_kwh += self.power_kw * ms as f64 / 3_600_000.0;
        if self.state == State::Producing {
            self.cycle_left_ms -= ms;
            while self.cycle_left_ms <= 0 {
                self.cycles += 1;
                self.good += u64::from(!random.chance(0.025));
                self.cycle_left_ms += (self.ideal_cycle_ms as f64 * random.between(1.0, 1.25)) as i64;
            }
        }
    }

    /// What comes next, and for how long: mostly production with micro-stops, sometimes a set-up, rarely a fault. The
    /// first ten minutes of each hour of the night are a planned break.
    fn change(&mut self, now: Timestamp, random: &mut Random) {
        let hour = now.ms().rem_euclid(86_400_000) / 3_600_000;
        let in_break = hour >= 22 && now.ms().rem_euclid(3_600_000) < 600_000;
        let (state, low_s, high_s) = match (self.state, random.share()) {
            _ if in_break => (State::PlannedDown, 300.0, 600.0),
            (State::Producing, share) if share < 0.55 => (State::Stopped, 5.0, 40.0),
            (State::Producing, share) if share < 0.75 => (State::Idle, 15.0, 90.0),
            (State::Producing, share) if share < 0.93 => (State::Setup, 60.0, 240.0),
            (State::Producing, _) => (State::Down, 60.0, 400.0),
            _ => (State::Producing, 60.0, 420.0),
        };
        self.state = state;
        self.until = Some(now.plus_ms((random.between(low_s, high_s) * 1_000.0) as i64));
    }

    /// What it says of itself now.
    pub(super) fn said(&self) -> Said {
        let state = match self.state {
            State::Producing => "producing",
            State::Setup => "setup",
            State::Idle => "idle",
            State::Stopped => "stopped",
            State::Down => "down",
            State::PlannedDown => "planned_down",
        };
        Said {
            state,
            cycles: self.cycles,
            good: self.good,
            power_kw: self.power_kw,
        }
    }

    /// The temperature of its spindle, if it has one.
    pub(super) fn spindle_temp_c(&self) -> Option<f64> {
        self.spindle_c.map(|celsius| round(celsius, 1))
    }

    /// The register of its energy meter.
    pub(super) fn register_kwh(&self) -> f64 {
        round(self.energy_kwh, 4)
    }

    pub(super) fn meter(&self) -> Value {
        let current = 1_000.0 * self.power_kw / (3.0_f64.sqrt() * 400.0 * 0.9);
        json!({
            "energy_kwh": self.register_kwh(),
            "voltage_v": 400,
            "current_a": round(current, 2),
            "power_factor": 0.9,
        })
    }
}
