//! What a machine accounts for, in the words of the shop floor.

use super::*;
use crate::{
    calendar::{Calendar, Offset, Shift},
    config::Execution::{Down, Idle, PlannedDown, Producing, Setup, Stopped, Unknown},
};

const NO_PLAN: Plan<'_> = Plan {
    operation: None,
    ideal_cycle_s: None,
};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(1_764_115_200_000 + ms)
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// A state holds until a time.
fn holds(machine: &mut Machine, execution: Execution, until: Timestamp, plan: Plan<'_>) {
    let from = machine.accounted_to.expect("accounted");
    machine.say(execution, from, from, plan);
    machine.account(until, until, plan);
}

#[test]
fn time_without_data_counts_as_unknown_and_a_day_begins_at_midnight() {
    let mut machine = Machine::default();
    machine.account(at(0), at(0), NO_PLAN);
    machine.say(Producing, at(0), at(0), NO_PLAN);
    machine.account(at(100_000), at(60_000), NO_PLAN);
    assert_eq!((machine.day.times[0], machine.day.times[6]), (60_000, 40_000));
    machine.account(at(DAY_MS + 5_000), at(DAY_MS + 5_000), NO_PLAN);
    assert_eq!(machine.day.times.iter().sum::<i64>(), 5_000);
    assert_eq!(machine.total.iter().sum::<i64>(), DAY_MS + 5_000);
}

#[test]
fn a_gap_of_years_is_accounted_for_at_once() {
    let mut machine = Machine::default();
    machine.account(at(0), at(0), NO_PLAN);
    machine.say(Producing, at(0), at(0), NO_PLAN);
    let later = at(3_000 * DAY_MS + 5_000);
    machine.account(later, at(60_000), NO_PLAN);
    assert_eq!(machine.total.iter().sum::<i64>(), 3_000 * DAY_MS + 5_000);
    assert_eq!((machine.total[0], machine.day.times[6]), (60_000, 5_000));
}

#[test]
fn a_state_said_by_a_slower_sensor_takes_its_time_over() {
    let mut machine = Machine::default();
    machine.account(at(0), at(0), NO_PLAN);
    machine.say(Producing, at(0), at(0), NO_PLAN);
    machine.account(at(10_000), at(10_000), NO_PLAN);
    machine.say(Idle, at(7_000), at(0), NO_PLAN);
    assert_eq!((machine.day.times[0], machine.day.times[2]), (7_000, 3_000));
    assert_eq!((machine.execution, machine.since), (Idle, Some(at(7_000))));
    // Older than what was said last: too late to say anything.
    machine.say(Down, at(5_000), at(0), NO_PLAN);
    assert_eq!(machine.execution, Idle);
}

#[test]
fn a_state_said_for_a_time_before_the_silence_takes_no_more_than_there_is() {
    // The tick came first, then the delayed reading: "unknown" was left with less than no time.
    let mut machine = Machine::default();
    machine.account(at(0), at(0), NO_PLAN);
    machine.say(Producing, at(0), at(0), NO_PLAN);
    machine.account(at(180_000), at(120_000), NO_PLAN);
    machine.say(Setup, at(60_000), at(0), NO_PLAN);
    machine.say(Idle, at(60_000), at(0), NO_PLAN);
    assert_eq!(
        (machine.total[0], machine.total[2], machine.total[6]),
        (120_000, 60_000, 0)
    );
}

#[test]
fn energy_is_told_apart_by_the_state_it_was_used_in() {
    let mut machine = Machine::default();
    machine.metered(1.0, None, at(0));
    assert_eq!(
        machine.kpi("idle_energy_share", None),
        Some(Err("no energy used yet while the execution state was known"))
    );
    machine.say(Producing, at(0), at(0), NO_PLAN);
    machine.metered(6.0, Some(at(0)), at(1));
    machine.say(Idle, at(1), at(0), NO_PLAN);
    machine.metered(2.0, Some(at(1)), at(2));
    assert_eq!(machine.kpi("idle_energy_share", None), Some(Ok(0.25)));
    assert_eq!(machine.kpi("energy_kwh", None), Some(Ok(9.0)));
}

#[test]
fn power_is_told_apart_by_state_and_shift_to_the_millisecond() {
    let operation = helsinki_nights();
    let plan = plan(&operation);
    let mut machine = Machine::default();
    let (before, midway) = (time("2026-10-24T18:50:00Z"), time("2026-10-24T19:05:00Z"));
    machine.account(before, before, plan);
    machine.powered(6.0, before, before.plus_ms(DAY_MS));
    machine.say(Producing, before, before, plan);
    machine.account(midway, midway, plan);
    machine.say(Idle, midway, before, plan);
    machine.account(midway.plus_ms(600_000), midway.plus_ms(600_000), plan);
    let shift = machine.shift.as_ref().expect("the night");
    assert!((shift.figures.producing_energy_kwh - 0.5).abs() < 1e-12);
    assert!((shift.figures.idle_energy_kwh - 1.0).abs() < 1e-12);
    assert!((machine.day.energy_kwh - 2.5).abs() < 1e-12);
    // The quarter from 18:45 began before there was data, that from 19:00 was full: 6 kW.
    assert_eq!(machine.kpi("peak_demand_kw", None), Some(Ok(6.0)));
}

fn plan(operation: &Operation) -> Plan<'_> {
    Plan {
        operation: Some(operation),
        ideal_cycle_s: Some(60.0),
    }
}

/// Nights from 22:00 to 06:00 with half an hour's break at 00:00, in Helsinki, whose clocks change on 29 March and
/// on 25 October 2026 at 01:00 UTC.
fn helsinki_nights() -> Operation {
    let offsets = [
        ("2025-10-26T01:00:00Z", 120),
        ("2026-03-29T01:00:00Z", 180),
        ("2026-10-25T01:00:00Z", 120),
    ];
    Operation {
        calendar: Calendar {
            shifts: [Shift {
                name: "night".into(),
                days: 0x7f,
                start_min: 22 * 60,
                end_min: 30 * 60,
                breaks: [(24 * 60, 24 * 60 + 30)].into(),
            }]
            .into(),
            offsets: offsets
                .map(|(from, minutes)| Offset::new(time(from), minutes))
                .into(),
        },
        ..Operation::default()
    }
}

#[test]
fn a_shift_over_a_change_of_the_clocks_has_the_hours_it_has() {
    // IANA time-zone database: Europe/Helsinki skips 03:00 to 04:00 on 29 March 2026 and repeats it on 25 October.
    for (first, last, hours) in [
        ("2026-01-10T19:00:00Z", "2026-01-11T07:00:00Z", 8.0),
        ("2026-03-28T19:00:00Z", "2026-03-29T07:00:00Z", 7.0),
        ("2026-10-24T18:00:00Z", "2026-10-25T07:00:00Z", 9.0),
    ] {
        let operation = helsinki_nights();
        let plan = plan(&operation);
        let mut machine = Machine::default();
        machine.account(time(first), time(first), plan);
        // It stands all night but for an hour at the end, and the break is not its fault.
        let mut now = time(first);
        holds(&mut machine, Down, now.plus_ms(60_000), plan);
        while now < time(last) {
            now = now.plus_ms(60_000);
            machine.account(now, now, plan);
        }
        assert_eq!(machine.shift, None, "the night is over");
        let night = machine.shifts_done[0].run().expect("a shift");
        let length_ms = night.ends_at.expect("an end").ms_since(night.began_at);
        assert_eq!((&*night.name, length_ms as f64), ("night", hours * 3_600_000.0));
        let ms = |execution: Execution| night.figures.times[execution as usize - 1] as f64;
        assert_eq!(
            (ms(Down), ms(PlannedDown)),
            ((hours - 0.5) * 3_600_000.0, 1_800_000.0)
        );
        assert_eq!(night.figures.kpi("availability", None), Some(Ok(0.0)));
    }
}

#[test]
fn a_shift_has_its_own_kpis_and_is_kept_when_it_is_over() {
    // 22:00 to 06:00 with a break of 30 min: 450 min planned. 60 down, 390 producing, 312 good of 325 at 60 s.
    let operation = helsinki_nights();
    let plan = plan(&operation);
    let mut machine = Machine::default();
    let begin = time("2026-01-10T20:00:00Z");
    machine.account(begin, begin, plan);
    let minute = |minutes: i64| begin.plus_ms(minutes * 60_000);
    holds(&mut machine, Producing, minute(120), plan);
    holds(&mut machine, Idle, minute(150), plan);
    holds(&mut machine, Down, minute(210), plan);
    machine.say_reason("tool broken");
    holds(&mut machine, Producing, minute(479), plan);
    machine.count(Quantity::Good, 312.0, minute(479));
    machine.count(Quantity::Scrap, 13.0, minute(479));
    machine.account(minute(500), minute(480), plan);
    let night = machine.shifts_done[0].run().expect("a shift");
    let shown = ["availability", "effectiveness", "quality_ratio", "oee"]
        .map(|name| night.figures.kpi(name, None).expect("a KPI").expect("a value"));
    let wanted = [390.0 / 450.0, 325.0 / 390.0, 312.0 / 325.0, 312.0 / 450.0];
    for (found, wanted) in shown.into_iter().zip(wanted) {
        assert!((found - wanted).abs() < 1e-12, "{shown:?}");
    }
    assert_eq!(night.figures.stops.len(), 1);
    assert_eq!(
        (
            &*night.figures.stops[0].reason,
            night.figures.stops[0].ms,
            night.figures.stops[0].count
        ),
        ("tool broken", 3_600_000, 1)
    );
    // The twenty minutes after it are the day's, and nothing is known of them.
    assert_eq!(machine.day.times[Unknown as usize - 1], 1_200_000);
}

#[test]
fn stops_are_told_apart_by_reason_and_length() {
    let mut machine = Machine::default();
    machine.account(at(0), at(0), NO_PLAN);
    for (execution, seconds, reason) in [
        (Producing, 100, ""),
        (Stopped, 20, ""),
        (Producing, 100, "too late to say why"),
        (Stopped, 30, ""),
        (Down, 600, "spindle"),
        (Producing, 100, ""),
        (Down, 300, "none"),
        (Setup, 10, ""),
        (Down, 40, "spindle"),
    ] {
        let until = machine.accounted_to.expect("a time").plus_ms(seconds * 1_000);
        holds(&mut machine, execution, until, NO_PLAN);
        machine.say_reason(reason);
    }
    let stops: Vec<_> = machine
        .downtime()
        .into_iter()
        .map(|stop| (stop.reason.to_string(), stop.ms / 1_000, stop.count))
        .collect();
    let wanted = [("spindle", 670, 2), ("down", 300, 1), ("stopped", 20, 1)];
    assert_eq!(
        stops,
        wanted.map(|(reason, s, count)| (reason.to_owned(), s, count))
    );
    // Only the stop of 20 s was shorter than five minutes; the one that is on is not over.
    assert_eq!((machine.day.micro_stops, machine.day.micro_stop_ms), (1, 20_000));
}

#[test]
fn failures_are_counted_against_the_time_of_operation() {
    let mut machine = Machine::default();
    machine.account(at(0), at(0), NO_PLAN);
    assert_eq!(machine.kpi("mtbf_s", None), Some(Err("no failure yet")));
    for (execution, seconds) in [
        (Producing, 1_000),
        (Idle, 500),
        (Setup, 200),
        (Down, 60),
        (Stopped, 5),
        (Producing, 800),
        (Down, 100),
    ] {
        let until = machine.accounted_to.expect("a time").plus_ms(seconds * 1_000);
        holds(&mut machine, execution, until, NO_PLAN);
    }
    // Two failures after 1,200 s and 800 s of operation; the first took a minute, the second is not repaired.
    assert_eq!(machine.kpi("mtbf_s", None), Some(Ok(1_000.0)));
    assert_eq!(machine.kpi("mttr_s", None), Some(Ok(60.0)));
}

#[test]
fn a_job_on_the_machine_has_its_own_figures() {
    let mut machine = Machine::default();
    machine.account(at(0), at(0), NO_PLAN);
    machine.say_job("4711", at(0), NO_PLAN);
    holds(&mut machine, Producing, at(60_000), NO_PLAN);
    machine.count(Quantity::Good, 5.0, at(60_000));
    machine.metered(2.0, Some(at(0)), at(60_000));
    machine.say_job("4712", at(60_000), NO_PLAN);
    holds(&mut machine, Idle, at(90_000), NO_PLAN);
    machine.metered(1.0, Some(at(60_000)), at(90_000));
    machine.say_job("", at(90_000), NO_PLAN);
    assert_eq!(machine.job, None);
    let jobs: Vec<_> = machine.jobs_done.iter().filter_map(|done| done.run()).collect();
    let shown: Vec<_> = jobs
        .iter()
        .map(|job| {
            (
                &*job.name,
                job.figures.good,
                job.figures.energy_kwh,
                job.figures.times[0],
            )
        })
        .collect();
    assert_eq!(shown, [("4711", 5.0, 2.0, 60_000), ("4712", 0.0, 1.0, 0)]);
}
