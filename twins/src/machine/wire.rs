//! A machine's part of a snapshot, drawn in FORMAT.md.
//!
//! Promises: lossless; what an older release wrote is read as the day's figures that it was.

use prost::Message;

use super::{
    Machine,
    energy::Energy,
    figures::{Figures, Quantity, StateTimes, StopTime},
    runs::{Done, Run},
    stops::{Failures, Stop},
};
use crate::{
    config::Execution,
    time::Timestamp,
    wire::{DecodeError, undecodable},
};

const DAY_MS: i64 = 86_400_000;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MachineWire {
    #[prost(uint32, tag = "1")]
    execution: u32,
    #[prost(sint64, optional, tag = "2")]
    since_ms: Option<i64>,
    #[prost(sint64, optional, tag = "3")]
    accounted_to_ms: Option<i64>,
    #[prost(sint64, repeated, tag = "4")]
    today: Vec<i64>,
    #[prost(sint64, repeated, tag = "5")]
    total: Vec<i64>,
    #[prost(uint32, tag = "6")]
    transitions_today: u32,
    #[prost(double, optional, tag = "7")]
    cycles: Option<f64>,
    #[prost(double, optional, tag = "8")]
    good: Option<f64>,
    #[prost(double, optional, tag = "9")]
    scrap: Option<f64>,
    #[prost(double, optional, tag = "10")]
    energy_kwh: Option<f64>,
    #[prost(double, tag = "11")]
    idle_energy_kwh: f64,
    #[prost(double, tag = "12")]
    producing_energy_kwh: f64,
    #[prost(sint64, optional, tag = "13")]
    said_at_ms: Option<i64>,
    /// What the day has beside the fields above.
    #[prost(message, optional, tag = "101")]
    day: Option<FiguresWire>,
    #[prost(message, optional, tag = "102")]
    shift: Option<RunWire>,
    #[prost(message, optional, tag = "103")]
    job: Option<RunWire>,
    #[prost(bytes = "vec", repeated, tag = "104")]
    shifts_done: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "105")]
    jobs_done: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "106")]
    energy: Option<EnergyWire>,
    #[prost(message, optional, tag = "107")]
    stop: Option<StopWire>,
    #[prost(message, optional, tag = "108")]
    failures: Option<FailuresWire>,
    #[prost(message, optional, tag = "109")]
    stretch: Option<StretchWire>,
    #[prost(message, optional, tag = "110")]
    told: Option<ToldWire>,
}

/// Times and quantities of a period. Fields 1 to 8 are those that the machine itself has for its day.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FiguresWire {
    #[prost(sint64, repeated, tag = "1")]
    times: Vec<i64>,
    #[prost(uint32, tag = "2")]
    transitions: u32,
    #[prost(double, optional, tag = "3")]
    cycles: Option<f64>,
    #[prost(double, optional, tag = "4")]
    good: Option<f64>,
    #[prost(double, optional, tag = "5")]
    scrap: Option<f64>,
    #[prost(double, optional, tag = "6")]
    energy_kwh: Option<f64>,
    #[prost(double, tag = "7")]
    idle_energy_kwh: f64,
    #[prost(double, tag = "8")]
    producing_energy_kwh: f64,
    #[prost(double, optional, tag = "9")]
    reactive_kvarh: Option<f64>,
    #[prost(double, optional, tag = "10")]
    peak_kw: Option<f64>,
    #[prost(double, optional, tag = "11")]
    ideal_ms: Option<f64>,
    #[prost(double, tag = "12")]
    power_factor_sum: f64,
    #[prost(uint32, tag = "13")]
    power_factors: u32,
    #[prost(uint32, tag = "14")]
    micro_stops: u32,
    #[prost(int64, tag = "15")]
    micro_stop_ms: i64,
    #[prost(message, repeated, tag = "16")]
    stops: Vec<StopTimeWire>,
}

#[derive(Clone, PartialEq, Message)]
struct StopTimeWire {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(int64, tag = "2")]
    ms: i64,
    #[prost(uint32, tag = "3")]
    count: u32,
}

/// A shift or a job.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RunWire {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(sint64, tag = "2")]
    began_at_ms: i64,
    #[prost(sint64, optional, tag = "3")]
    ends_at_ms: Option<i64>,
    #[prost(message, optional, tag = "4")]
    figures: Option<FiguresWire>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct EnergyWire {
    #[prost(bool, tag = "1")]
    has_register: bool,
    #[prost(double, optional, tag = "2")]
    power_kw: Option<f64>,
    #[prost(sint64, tag = "3")]
    power_until_ms: i64,
    #[prost(double, optional, tag = "4")]
    quarter_kwh: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct StopWire {
    #[prost(int64, tag = "1")]
    total_ms: i64,
    #[prost(int64, tag = "2")]
    ms: i64,
    #[prost(bool, tag = "3")]
    counted: bool,
    #[prost(uint32, tag = "4")]
    worst: u32,
    #[prost(string, optional, tag = "5")]
    reason: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct FailuresWire {
    #[prost(uint32, tag = "1")]
    count: u32,
    #[prost(uint32, tag = "2")]
    repairs: u32,
    #[prost(bool, tag = "3")]
    is_failed: bool,
    #[prost(int64, tag = "4")]
    operating_ms: i64,
    #[prost(int64, tag = "5")]
    repaired_ms: i64,
}

/// What the locations around the machine know.
#[derive(Clone, Copy, PartialEq, Message)]
struct ToldWire {
    #[prost(sint64, tag = "1")]
    at_ms: i64,
    #[prost(uint32, tag = "2")]
    execution: u32,
}

/// Where the machine stands in its calendar.
#[derive(Clone, Copy, PartialEq, Message)]
struct StretchWire {
    #[prost(bool, tag = "1")]
    unplanned: bool,
    #[prost(sint64, tag = "2")]
    since_ms: i64,
    #[prost(sint64, tag = "3")]
    until_ms: i64,
    #[prost(sint64, tag = "4")]
    boundary_ms: i64,
}

fn quantity(figures: &Figures, quantity: Quantity, value: f64) -> Option<f64> {
    figures.received(quantity).then_some(value)
}

fn times(times: &[i64]) -> Result<StateTimes, DecodeError> {
    times
        .try_into()
        .map_err(|_| undecodable("a wrong number of states"))
}

pub(crate) fn figures_to_wire(figures: &Figures) -> FiguresWire {
    let stop = |stop: &StopTime| StopTimeWire {
        reason: stop.reason.to_string(),
        ms: stop.ms,
        count: stop.count,
    };
    FiguresWire {
        times: figures.times.to_vec(),
        transitions: figures.transitions,
        cycles: quantity(figures, Quantity::Cycles, figures.cycles),
        good: quantity(figures, Quantity::Good, figures.good),
        scrap: quantity(figures, Quantity::Scrap, figures.scrap),
        energy_kwh: quantity(figures, Quantity::Energy, figures.energy_kwh),
        idle_energy_kwh: figures.idle_energy_kwh,
        producing_energy_kwh: figures.producing_energy_kwh,
        reactive_kvarh: quantity(figures, Quantity::Reactive, figures.reactive_kvarh),
        peak_kw: quantity(figures, Quantity::Peak, figures.peak_kw),
        ideal_ms: quantity(figures, Quantity::Ideal, figures.ideal_ms),
        power_factor_sum: figures.power_factor_sum,
        power_factors: figures.power_factors,
        micro_stops: figures.micro_stops,
        micro_stop_ms: figures.micro_stop_ms,
        stops: figures.stops.iter().map(stop).collect(),
    }
}

pub(crate) fn figures_from_wire(wire: FiguresWire) -> Figures {
    let mut figures = Figures {
        times: times(&wire.times).unwrap_or_default(),
        idle_energy_kwh: wire.idle_energy_kwh,
        producing_energy_kwh: wire.producing_energy_kwh,
        transitions: wire.transitions,
        power_factor_sum: wire.power_factor_sum,
        power_factors: wire.power_factors,
        micro_stops: wire.micro_stops,
        micro_stop_ms: wire.micro_stop_ms,
        stops: wire
            .stops
            .into_iter()
            .map(|stop| StopTime {
                reason: stop.reason.into(),
                ms: stop.ms,
                count: stop.count,
            })
            .collect(),
        ..Figures::default()
    };
    for (quantity, value) in [
        (Quantity::Cycles, wire.cycles),
        (Quantity::Good, wire.good),
        (Quantity::Scrap, wire.scrap),
        (Quantity::Energy, wire.energy_kwh),
        (Quantity::Reactive, wire.reactive_kvarh),
        (Quantity::Peak, wire.peak_kw),
        (Quantity::Ideal, wire.ideal_ms),
    ] {
        if let Some(value) = value {
            figures.put(quantity, value);
        }
    }
    figures
}

pub(crate) fn run_to_wire(run: &Run) -> RunWire {
    RunWire {
        name: run.name.to_string(),
        began_at_ms: run.began_at.ms(),
        ends_at_ms: run.ends_at.map(Timestamp::ms),
        figures: Some(figures_to_wire(&run.figures)),
    }
}

pub(crate) fn run_from_wire(wire: RunWire) -> Run {
    Run {
        name: wire.name.into(),
        began_at: Timestamp::from_ms(wire.began_at_ms),
        ends_at: wire.ends_at_ms.map(Timestamp::from_ms),
        figures: wire.figures.map(figures_from_wire).unwrap_or_default(),
    }
}

fn done(runs: &[Done]) -> Vec<Vec<u8>> {
    runs.iter().map(|Done(bytes)| bytes.to_vec()).collect()
}

fn done_from_wire(runs: Vec<Vec<u8>>) -> Vec<Done> {
    runs.into_iter().map(|bytes| Done(bytes.into())).collect()
}

/// Where it differs from nothing: so a machine without it takes no bytes for it.
fn some<T: Default + PartialEq>(wire: T) -> Option<T> {
    (wire != T::default()).then_some(wire)
}

pub(crate) fn machine_to_wire(machine: &Machine) -> MachineWire {
    let day = figures_to_wire(&machine.day);
    let more = FiguresWire {
        times: Vec::new(),
        transitions: 0,
        cycles: None,
        good: None,
        scrap: None,
        energy_kwh: None,
        idle_energy_kwh: 0.0,
        producing_energy_kwh: 0.0,
        ..day.clone()
    };
    let (energy, failures) = (&machine.energy, &machine.failures);
    let ms = |time: Option<Timestamp>| time.map(Timestamp::ms);
    MachineWire {
        execution: machine.execution as u32,
        since_ms: ms(machine.since),
        accounted_to_ms: ms(machine.accounted_to),
        today: day.times,
        total: machine.total.to_vec(),
        transitions_today: day.transitions,
        cycles: day.cycles,
        good: day.good,
        scrap: day.scrap,
        energy_kwh: day.energy_kwh,
        idle_energy_kwh: day.idle_energy_kwh,
        producing_energy_kwh: day.producing_energy_kwh,
        said_at_ms: ms(machine.said_at),
        day: some(more),
        shift: machine.shift.as_deref().map(run_to_wire),
        job: machine.job.as_deref().map(run_to_wire),
        shifts_done: done(&machine.shifts_done),
        jobs_done: done(&machine.jobs_done),
        energy: some(EnergyWire {
            has_register: energy.has_register,
            power_kw: energy.power.map(|(kw, _)| kw),
            power_until_ms: energy.power.map_or(0, |(_, until)| until.ms()),
            quarter_kwh: energy.quarter_kwh,
        }),
        stop: machine.stop.as_deref().map(|stop| StopWire {
            total_ms: stop.total_ms,
            ms: stop.ms,
            counted: stop.counted,
            worst: stop.worst as u32,
            reason: stop.reason.as_deref().map(str::to_owned),
        }),
        failures: some(FailuresWire {
            count: failures.count,
            repairs: failures.repairs,
            is_failed: failures.is_failed,
            operating_ms: failures.operating_ms,
            repaired_ms: failures.repaired_ms,
        }),
        stretch: some(StretchWire {
            unplanned: !machine.planned,
            since_ms: machine.stretch_since.ms(),
            until_ms: machine.stretch_until.ms(),
            boundary_ms: machine.boundary.ms(),
        }),
        told: (machine.told_at != Timestamp::default()).then(|| ToldWire {
            at_ms: machine.told_at.ms(),
            execution: machine.told as u32,
        }),
    }
}

pub(crate) fn machine_from_wire(wire: MachineWire) -> Result<Machine, DecodeError> {
    let time = |ms: Option<i64>| ms.map(Timestamp::from_ms);
    // Where nothing is known of a time it is the default, which lies before all times that can be given.
    let point = |ms: i64| {
        if ms == 0 {
            Timestamp::default()
        } else {
            Timestamp::from_ms(ms)
        }
    };
    let mut day = figures_from_wire(FiguresWire {
        transitions: wire.transitions_today,
        cycles: wire.cycles,
        good: wire.good,
        scrap: wire.scrap,
        energy_kwh: wire.energy_kwh,
        idle_energy_kwh: wire.idle_energy_kwh,
        producing_energy_kwh: wire.producing_energy_kwh,
        ..wire.day.unwrap_or_default()
    });
    day.times = times(&wire.today)?;
    let energy = wire.energy.unwrap_or_default();
    let failures = wire.failures.unwrap_or_default();
    let accounted_to = time(wire.accounted_to_ms);
    let stretch = wire.stretch.unwrap_or_default();
    Ok(Machine {
        execution: Execution::from_number(wire.execution).unwrap_or(Execution::Unknown),
        since: time(wire.since_ms),
        said_at: time(wire.said_at_ms),
        accounted_to,
        total: times(&wire.total)?,
        day,
        shift: wire.shift.map(run_from_wire).map(Box::new),
        job: wire.job.map(run_from_wire).map(Box::new),
        shifts_done: done_from_wire(wire.shifts_done),
        jobs_done: done_from_wire(wire.jobs_done),
        energy: Energy {
            has_register: energy.has_register,
            power: energy
                .power_kw
                .map(|kw| (kw, Timestamp::from_ms(energy.power_until_ms))),
            quarter_kwh: energy.quarter_kwh,
        },
        untold: Vec::new(),
        told_at: wire
            .told
            .map_or_else(Timestamp::default, |told| point(told.at_ms)),
        told: wire
            .told
            .and_then(|told| Execution::from_number(told.execution))
            .unwrap_or(Execution::Unknown),
        stop: wire.stop.map(|stop| {
            Box::new(Stop {
                total_ms: stop.total_ms,
                ms: stop.ms,
                counted: stop.counted,
                worst: Execution::from_number(stop.worst).unwrap_or(Execution::Stopped),
                reason: stop.reason.map(String::into_boxed_str),
            })
        }),
        failures: Failures {
            count: failures.count,
            repairs: failures.repairs,
            is_failed: failures.is_failed,
            operating_ms: failures.operating_ms,
            repaired_ms: failures.repaired_ms,
        },
        day_began: accounted_to.map_or_else(Timestamp::default, |to| to.floor_to(DAY_MS)),
        planned: !stretch.unplanned,
        stretch_since: point(stretch.since_ms),
        stretch_until: point(stretch.until_ms),
        boundary: point(stretch.boundary_ms),
    })
}
