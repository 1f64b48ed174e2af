//! Streams of events to try the fold with: everything that may reach a twin, in order and out of it.

use std::sync::Arc;

use gemba_twins::{
    alarm::{AlarmRule, AlarmRules, Priority, StaleRule},
    analysis::Analysis,
    calendar::{Calendar, Offset, Shift},
    config::{AirProfile, Execution, LocationConfig, MetricConfig, MetricKind, Operation, TwinConfig},
    event::{AttributesSet, Body, Event, JobFlow, Reading, Scan, TwinMessage, Value, VisitChange},
    forecast::ForecastRule,
    id::Kind,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{at, computed::analysis, event, quality::contract};

/// Times that mostly go on, sometimes after a gap of hours, and now and then come late.
pub(crate) fn moments(most: usize) -> impl Strategy<Value = Vec<i64>> {
    let ahead = prop_oneof![20 => 0..90_000_i64, 4 => 0..900_000_i64, 1 => 0..100_000_000_i64];
    let late = prop_oneof![6 => Just(0_i64), 2 => 0..90_000_i64, 1 => 0..9_000_000_i64];
    vec((ahead, late), 1..most).prop_map(|steps| {
        let mut now = 0;
        let mut moment = |(ahead, late): (i64, i64)| {
            now += ahead;
            now - late
        };
        steps.into_iter().map(&mut moment).collect()
    })
}

pub(crate) fn in_order(mut moments: Vec<i64>) -> Vec<i64> {
    moments.sort_unstable();
    moments
}

fn any_value() -> impl Strategy<Value = Value> {
    let words = ["producing", "IDLE", "down", "a word", "", "W-1", "µ"];
    prop_oneof![
        4 => (-400_i32..400).prop_map(|quarters| Value::Number(f64::from(quarters) / 4.0)),
        1 => any::<f64>().prop_map(Value::Number),
        2 => select(words.to_vec()).prop_map(|word| Value::Text(word.into())),
        1 => any::<bool>().prop_map(Value::Bool),
    ]
}

fn any_config() -> impl Strategy<Value = TwinConfig> {
    let kinds = [MetricKind::Gauge, MetricKind::Counter, MetricKind::State];
    let stale = option::of(prop_oneof![Just(1_i64), 1..1_000_000_i64, any::<i64>()]);
    let metric = (select(&NAMES[..]), select(kinds.to_vec()), option::of(1.0..500.0)).prop_map(
        |(name, kind, rollover_at)| MetricConfig {
            name: name.into(),
            kind,
            unit: "u".into(),
            rollover_at,
        },
    );
    (
        0..9_u64,
        stale,
        vec(metric, 0..4),
        select(&Execution::ALL[..]),
        any::<bool>(),
        option::of(select(&COMPUTED[..])),
        option::of(any_operation()),
    )
        .prop_map(
            |(model_version, stale_after_ms, metrics, execution, removed, computed, operation)| TwinConfig {
                model_version,
                attributes: r#"{"name":"of the model","n":1.25e-7}"#.into(),
                metrics,
                ideal_cycle_s: Some(0.1),
                stale_after_ms,
                execution_map: vec![("W-1".into(), execution)],
                removed,
                operation: operation.map(Box::new),
                alarms: rules(removed),
                analysis: computed.map(|computed| {
                    Arc::new(Analysis {
                        contracts: vec![contract(removed)],
                        forecasts: vec![ForecastRule {
                            metric: "power_kw".into(),
                            deviation: removed.then_some(1.0),
                        }],
                        ..Analysis::clone(&analysis(computed))
                    })
                }),
                location: removed.then(|| {
                    Box::new(LocationConfig {
                        air_profiles: AirProfile::ALL.to_vec(),
                        takt_s: Some(90.0),
                    })
                }),
            },
        )
}

/// Shifts of any days and times, in a zone whose clocks change.
pub(crate) fn any_operation() -> impl Strategy<Value = Operation> {
    let shift =
        (0..128_u8, 0..1_440_u16, 1..1_440_u16, 0..1_440_u16).prop_map(|(days, start_min, length, pause)| {
            Shift {
                name: format!("from {start_min}").into(),
                days,
                start_min,
                end_min: start_min + length,
                breaks: [(start_min + pause.min(length), start_min + length)].into(),
            }
        });
    let offsets = [(-1_000_000_000, 120), (9_000_000, 180), (2_000_000_000, -210)];
    let offsets = offsets.map(|(from, minutes)| Offset::new(at(from), minutes));
    let micro_stop_ms = option::of(0..1_000_000_i64);
    let lateness_ms = option::of(prop_oneof![Just(0_i64), 0..100_000_i64, any::<i64>()]);
    (vec(shift, 0..4), micro_stop_ms, lateness_ms).prop_map(move |(shifts, micro_stop_ms, lateness_ms)| {
        Operation {
            calendar: Calendar {
                shifts: shifts.into(),
                offsets: offsets.into(),
            },
            micro_stop_ms,
            lateness_ms,
            reports_to: ["line-1".into(), "plant".into()].into(),
        }
    })
}

/// Two rules of alarms, or none.
fn rules(none: bool) -> AlarmRules {
    let rule = |id: &str, condition: &str, stale| AlarmRule {
        id: id.into(),
        condition: condition.into(),
        stale,
        priority: Priority::Low,
        text: "".into(),
        deadband: 0.5,
        on_delay_ms: 30_000,
        off_delay_ms: 0,
        refractory_ms: 0,
        latching: false,
        suppressed_by: Some("state.execution == 'down'".into()),
    };
    if none {
        return AlarmRules::default();
    }
    AlarmRules::of(vec![
        rule("power", "metrics.power_kw > 1.0 || metrics.door", None),
        rule("silent", "", Some(StaleRule::default())),
    ])
}

const COMPUTED: [&[(&str, &str)]; 3] = [
    &[
        ("ratio", "power_kw / (co2_ppm - temperature_c)"),
        ("twice", "ratio * 2"),
    ],
    &[("door", "power_kw > 1 || execution == \"a word\"")],
    &[("share", "coalesce(kpis.utilization, energy_kwh) * 1e300")],
];

const NAMES: [&str; 14] = [
    "job_id",
    "downtime_reason",
    "energy_kvarh",
    "good_count",
    "execution",
    "state",
    "power_kw",
    "energy_kwh",
    "cycle_count",
    "co2_ppm",
    "door",
    "temperature_c",
    "pm25_ugm3",
    "pm10_ugm3",
];
const PATCHES: [&str; 5] = [
    r#"{"a":1}"#,
    r#"{"a":null,"b":{"c":[1,2.5e300,-0.0]}}"#,
    r#"{"location":"cell-1"}"#,
    "[1]",
    "no JSON",
];

fn any_message() -> impl Strategy<Value = TwinMessage> {
    let job = || select(&["a", "b", "c"][..]);
    let times = || (0..9_000_000_i64, 0..9_000_000_i64);
    prop_oneof![
        (job(), times()).prop_map(|(job, (ms, _))| TwinMessage::JobEntered {
            job: job.into(),
            entered_at: at(ms),
            operator_id: (ms % 2 == 0).then(|| "op".into()),
        }),
        (job(), times()).prop_map(|(job, (from, to))| TwinMessage::JobLeft {
            job: job.into(),
            entered_at: at(from),
            left_at: at(to),
        }),
        (job(), any::<i64>()).prop_map(|(job, by_ms)| TwinMessage::JobDwellCorrected {
            job: job.into(),
            by_ms,
        }),
        (job(), times(), any::<bool>()).prop_map(|(job, (from, to), added)| {
            TwinMessage::JobFlow(JobFlow {
                job: job.into(),
                changes: vec![VisitChange {
                    from: if to % 2 == 0 { "saw".into() } else { "".into() },
                    entered_at: at(from),
                    left_at: (to % 3 > 0).then(|| at(to)),
                    added,
                }],
                retraction: to % 5 == 0,
            })
        }),
        (job(), any::<i64>(), 0..4_u32).prop_map(|(job, remaining_ms, visits)| TwinMessage::JobFinished {
            job: job.into(),
            remaining_ms,
            visits,
        }),
        (times(), 0..4_u32).prop_map(|((entered, remaining_ms), visits)| TwinMessage::Estimated {
            location: "saw".into(),
            entered_at: at(entered),
            remaining_ms,
            visits,
        }),
    ]
}

pub(crate) fn any_scan() -> impl Strategy<Value = Scan> {
    let operator = option::of(select(&["op-1", "op-2"][..]));
    (0..5_usize, operator, any::<bool>()).prop_map(|(place, operator, says)| Scan {
        location: ["saw", "mill", "wash", "pack", "exit"][place].into(),
        operator_id: operator.map(Into::into),
        product_id: says.then(|| "p-1".into()),
        completes: place == 4,
        ..Scan::default()
    })
}

fn any_body() -> impl Strategy<Value = Body> {
    let metrics = proptest::sample::subsequence(NAMES.to_vec(), 0..4).prop_flat_map(|names| {
        names
            .into_iter()
            .map(|name| (Just(name.into()), any_value()))
            .collect::<Vec<_>>()
    });
    let reading = (metrics, option::of(0.0..1.0), option::of(Just("cell-9"))).prop_map(
        |(metrics, quality_score, location)| Reading {
            metrics,
            quality_score,
            location_id: location.map(Into::into),
            sensor_id: if quality_score.is_some() { "air-1" } else { "plc" }.into(),
            ..Reading::default()
        },
    );
    let set = select(&PATCHES[..]).prop_map(|patch| AttributesSet {
        patch: patch.into(),
        by: "kim".into(),
    });
    prop_oneof![
        8 => reading.prop_map(Body::Reading),
        3 => (any_scan(), 0..6_u8).prop_map(|(scan, what)| Body::Scan(Scan {
            retracts: what == 0,
            ..scan
        })),
        1 => set.prop_map(Body::AttributesSet),
        1 => any_config().prop_map(|config| Body::Configured(Box::new(config))),
        1 => Just(Body::Ticked),
        3 => any_message().prop_map(Body::Told),
    ]
}

/// A stream of events of one twin of any kind, with everything in it that may reach a twin.
pub(crate) fn any_stream() -> impl Strategy<Value = Vec<Event>> {
    (select(&Kind::ALL[..]), moments(50)).prop_flat_map(|(kind, moments)| {
        let bodies = vec(any_body(), moments.len());
        bodies.prop_map(move |bodies| {
            let moments = moments.iter();
            moments
                .zip(bodies)
                .map(|(ms, body)| event(kind, *ms, body))
                .collect()
        })
    })
}
