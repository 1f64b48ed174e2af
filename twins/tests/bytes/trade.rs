//! What came with "twins that know their trade": shifts, alarms, air, contracts, forecasts, computed metrics, job flow.

use std::sync::Arc;

use gemba_twins::{
    alarm::{AlarmAction, AlarmRule, AlarmRules, AlarmSaid, Priority, StaleRule},
    analysis::{Analysis, Computed},
    calendar::{Calendar, Offset, Shift},
    config::{AirProfile, LocationConfig, Operation, TwinConfig},
    event::{Body, Event, JobFlow, Scan, TwinMessage, Value, VisitChange},
    expr::{Expr, ValueKind},
    forecast::ForecastRule,
    id::Kind,
    quality::{Contract, MetricContract},
    refolded::Refolded,
};

use super::{
    encoded, folded,
    stories::{at, event, id, reading, told},
};

fn operation() -> Operation {
    Operation {
        calendar: Calendar {
            shifts: [Shift {
                name: "early".into(),
                days: 0b0101_1111,
                start_min: 360,
                end_min: 840,
                breaks: [(540, 555), (720, 750)].into(),
            }]
            .into(),
            offsets: [Offset::new(at(-9_000_000), 60), Offset::new(at(5_000_000), 120)].into(),
        },
        micro_stop_ms: Some(120_000),
        lateness_ms: Some(2_000),
        reports_to: ["line-1".into(), "plant".into()].into(),
    }
}

fn rules() -> AlarmRules {
    AlarmRules::of(vec![
        AlarmRule {
            id: "hot".into(),
            condition: "metrics.spindle_c > 80".into(),
            stale: None,
            priority: Priority::Urgent,
            text: "Spindle too hot".into(),
            deadband: 2.5,
            on_delay_ms: 0,
            off_delay_ms: 4_000,
            refractory_ms: 60_000,
            latching: true,
            suppressed_by: Some("state.execution == 'down'".into()),
        },
        AlarmRule {
            id: "silent".into(),
            condition: "".into(),
            stale: Some(StaleRule::default()),
            priority: Priority::Low,
            text: "".into(),
            deadband: 0.0,
            on_delay_ms: 1_000,
            off_delay_ms: 0,
            refractory_ms: 0,
            latching: false,
            suppressed_by: None,
        },
    ])
}

fn analysis() -> Analysis {
    let computed = |name: &str, value: &str| Computed {
        name: name.into(),
        value: Expr::parse(value).expect("an expression"),
    };
    Analysis {
        contracts: vec![Contract {
            sensor: "plc".into(),
            period_ms: Some(1_000),
            required: vec!["spindle_c".into()],
            rejects: false,
            metrics: vec![MetricContract {
                name: "spindle_c".into(),
                kind: Some(ValueKind::Number),
                min: Some(-20.0),
                max: Some(90.0),
                max_rate_per_s: Some(10.0),
                ..MetricContract::default()
            }],
        }],
        forecasts: vec![
            ForecastRule {
                metric: "utilization".into(),
                deviation: Some(0.2),
            },
            ForecastRule {
                metric: "power_kw".into(),
                deviation: None,
            },
        ],
        computed: vec![
            computed("kw_per_part", "power_kw / max(throughput_rate, 1.0)"),
            computed("hot", "spindle_c > 60 ? true : false"),
        ],
    }
}

fn config(kind: Kind) -> TwinConfig {
    TwinConfig {
        model_version: 3,
        attributes: r#"{"name":"of the model"}"#.into(),
        ideal_cycle_s: Some(2.0),
        operation: (kind == Kind::Machine).then(|| Box::new(operation())),
        alarms: rules(),
        analysis: Some(Arc::new(analysis())),
        location: (kind == Kind::Location).then(|| {
            Box::new(LocationConfig {
                air_profiles: AirProfile::ALL.to_vec(),
                takt_s: Some(90.0),
            })
        }),
        ..TwinConfig::default()
    }
}

fn configured(kind: Kind, name: &str) -> Event {
    event(id(kind, name), 0, Body::Configured(Box::new(config(kind))))
}

fn alarm(seconds: i64, action: AlarmAction) -> Event {
    let said = AlarmSaid {
        rule: "hot".into(),
        action,
        by: "kim".into(),
        comment: Some("on my way".into()),
    };
    event(id(Kind::Machine, "cnc-07"), seconds, Body::Alarm(said))
}

/// Ten hours of a machine: shifts, jobs, stops with their reasons, an alarm that is acknowledged and shelved.
fn machine() -> Vec<Event> {
    let mut story = vec![configured(Kind::Machine, "cnc-07")];
    for step in 0..300_i32 {
        let word = ["producing", "producing", "down", "setup", "idle"][step as usize / 3 % 5];
        let metrics = [
            ("execution", Value::Text(word.into())),
            (
                "downtime_reason",
                Value::Text(["chips", "tool"][step as usize / 20 % 2].into()),
            ),
            ("job_id", Value::Text(format!("job-{}", step / 90).into())),
            ("good_count", Value::Number(f64::from(10 * step))),
            ("scrap_count", Value::Number(f64::from(step / 4))),
            ("energy_kwh", Value::Number(0.5 * f64::from(step))),
            ("power_kw", Value::Number(f64::from(step % 17))),
            ("throughput_rate", Value::Number(f64::from(step % 5))),
            (
                "spindle_c",
                Value::Number(if step % 50 == 49 { 95.0 } else { 55.0 }),
            ),
        ];
        story.push(reading(
            id(Kind::Machine, "cnc-07"),
            10 + i64::from(step) * 120,
            &metrics,
        ));
        match step {
            50 => story.push(alarm(6_100, AlarmAction::Acknowledged)),
            100 => story.push(alarm(12_100, AlarmAction::Shelved { until: at(14_000) })),
            120 => story.push(alarm(14_500, AlarmAction::Commented)),
            _ => {}
        }
    }
    story
}

/// What it told the line that it stands in, and what the line's air was.
fn line() -> Vec<Event> {
    let (mut twin, mut effects) = (
        gemba_twins::twin::Twin::new(id(Kind::Machine, "cnc-07")),
        gemba_twins::twin::Effects::default(),
    );
    for (seq, event) in (1..).zip(machine()) {
        let position = gemba_twins::event::Position { shard: 5, seq };
        twin.fold(position, &event, &mut effects);
    }
    let line = id(Kind::Location, "line-1");
    let mut story = vec![configured(Kind::Location, "line-1")];
    for (to, message) in effects.messages {
        if to == line {
            story.push(Event {
                twin: line.clone(),
                ..told(story.len() as i64, message)
            });
        }
    }
    for minute in 0..200_i32 {
        let air = [
            ("co2_ppm", Value::Number(f64::from(600 + 4 * minute))),
            ("pm25_ugm3", Value::Number(0.25 * f64::from(minute))),
            ("voc_ppb", Value::Number(110.0)),
            ("temperature_c", Value::Number(21.5)),
            ("humidity_pct", Value::Number(40.0)),
        ];
        story.push(reading(line.clone(), 60 * i64::from(minute), &air));
    }
    story
}

fn scan(seconds: i64, place: &str, retracts: bool) -> Event {
    let scan = Scan {
        location: place.into(),
        retracts,
        ..Scan::default()
    };
    event(id(Kind::Job, "job-9"), seconds, Body::Scan(scan))
}

fn flow() -> TwinMessage {
    TwinMessage::JobFlow(JobFlow {
        job: "job-9".into(),
        changes: vec![VisitChange {
            from: "saw".into(),
            entered_at: at(60),
            left_at: Some(at(120)),
            added: true,
        }],
        retraction: true,
    })
}

/// A job that comes back, one of whose scans is taken back, and that is told how long others took.
fn job() -> Vec<Event> {
    let estimated = TwinMessage::Estimated {
        location: "wash".into(),
        entered_at: at(240),
        remaining_ms: 90_000,
        visits: 7,
    };
    vec![
        scan(0, "saw", false),
        scan(60, "mill", false),
        scan(120, "saw", false),
        scan(180, "mill", false),
        scan(180, "mill", true),
        scan(240, "wash", false),
        Event {
            twin: id(Kind::Job, "job-9"),
            ..told(241, estimated)
        },
    ]
}

pub(crate) fn events() -> Vec<(&'static str, Event)> {
    let finished = TwinMessage::JobFinished {
        job: "job-9".into(),
        remaining_ms: 90_000,
        visits: 3,
    };
    let refolded = Refolded {
        state: encoded(|out| folded(&job()).0.encode(out)).into(),
        model_version: 4,
        from: Some(at(-3_600)),
        by: "kim".into(),
    };
    let reported = line().swap_remove(5);
    vec![
        ("configured-machine", configured(Kind::Machine, "cnc-07")),
        ("configured-location", configured(Kind::Location, "line-1")),
        ("alarm-acknowledged", alarm(1, AlarmAction::Acknowledged)),
        (
            "alarm-shelved",
            alarm(1, AlarmAction::Shelved { until: at(9_000) }),
        ),
        ("scan-retracted", scan(180, "mill", true)),
        ("job-flow", told(3, flow())),
        ("job-finished", told(4, finished)),
        ("machine-reported", reported),
        (
            "refolded",
            event(id(Kind::Job, "job-9"), 5, Body::Refolded(Box::new(refolded))),
        ),
    ]
}

pub(crate) fn snapshots() -> Vec<(&'static str, Vec<Event>)> {
    let mut cell = vec![configured(Kind::Location, "cell-2")];
    cell.push(told(3, flow()));
    vec![
        ("machine-trade", machine()),
        ("line", line()),
        ("cell", cell),
        ("job-corrected", job()),
    ]
}
