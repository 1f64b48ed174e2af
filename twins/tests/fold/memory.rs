//! A machine of the usual size stays small, also with shifts, reasons for stops, and a full lateness window.

use gemba_twins::{
    calendar::{Calendar, Shift},
    config::{Operation, TwinConfig},
    event::{Body, Event, Value},
    id::Kind,
};

use super::{event, folded, reading};

/// What a machine with eight metrics may take.
const MOST: usize = 6 * 1_024;

/// Eight metrics each second.
fn second(second: i64) -> Event {
    let number = |value: i64| Value::Number(value as f64 + 0.25);
    let word = if second % 90 < 80 { "producing" } else { "stopped" };
    let metrics = [
        ("execution", Value::Text(word.into())),
        (
            "downtime_reason",
            Value::Text(["chips", "tool", "no operator"][(second / 90 % 3) as usize].into()),
        ),
        ("cycle_count", number(second / 10)),
        ("good_count", number(second / 11)),
        ("scrap_count", number(second / 400)),
        ("power_kw", number(second % 7)),
        ("spindle_rpm", number(second % 1_000)),
        ("temperature_c", number(second % 30)),
    ];
    reading(1_000 * second, &metrics)
}

fn configured() -> Event {
    let shift = |name: &str, start_min| Shift {
        name: name.into(),
        days: 0x7f,
        start_min,
        end_min: start_min + 480,
        breaks: [(start_min + 180, start_min + 195)].into(),
    };
    let config = TwinConfig {
        model_version: 1,
        operation: Some(Box::new(Operation {
            calendar: Calendar {
                shifts: [shift("early", 360), shift("late", 840), shift("night", 1_320)].into(),
                offsets: Box::default(),
            },
            reports_to: ["cell-2".into(), "line-1".into(), "works".into()].into(),
            ..Operation::default()
        })),
        ..TwinConfig::default()
    };
    event(Kind::Machine, 0, Body::Configured(Box::new(config)))
}

#[test]
fn a_machine_with_eight_metrics_takes_a_few_kilobytes() {
    let hour: Vec<_> = (0..3_600).map(second).collect();
    let (plain, _) = folded(&hour, |_| false);
    let mut day = vec![configured()];
    // Over all shifts of a day, a minute of each quarter of an hour.
    day.extend((0..96).flat_map(|quarter| (0..60).map(move |s| second(900 * quarter + s))));
    let (with_shifts, _) = folded(&day, |_| false);
    println!("{} and {} bytes", plain.heap_bytes(), with_shifts.heap_bytes());
    assert!(plain.heap_bytes() < MOST, "{} bytes", plain.heap_bytes());
    assert!(
        with_shifts.heap_bytes() < MOST + 2_048,
        "{} bytes with shifts",
        with_shifts.heap_bytes()
    );
}
