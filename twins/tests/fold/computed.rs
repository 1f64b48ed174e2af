//! Computed metrics: what follows from others is there when they are, and is not when they are not.

use std::sync::Arc;

use gemba_twins::{
    analysis::{Analysis, Computed},
    expr::Expr,
};
use serde_json::{Value as Json, json};

use super::*;

pub(crate) fn analysis(computed: &[(&str, &str)]) -> Arc<Analysis> {
    let computed = computed.iter().map(|(name, value)| Computed {
        name: (*name).into(),
        value: Expr::parse(value).expect("an expression"),
    });
    Arc::new(Analysis {
        computed: computed.collect(),
        ..Analysis::default()
    })
}

fn computing(computed: &[(&str, &str)]) -> Event {
    let config = TwinConfig {
        model_version: 1,
        metrics: vec![MetricConfig {
            name: "kw_per_part".into(),
            kind: MetricKind::Gauge,
            unit: "kW".into(),
            rollover_at: None,
        }],
        analysis: Some(analysis(computed)),
        ..TwinConfig::default()
    };
    event(Kind::Machine, 0, Body::Configured(Box::new(config)))
}

fn number(number: f64) -> Value {
    Value::Number(number)
}

/// The metric as it is shown after these events.
fn shown(events: &[Event], name: &str) -> Json {
    let (twin, _) = folded(events, |index| index % 2 == 0);
    let now = events.last().expect("events").at;
    serde_json::to_value(twin.view(now)).expect("JSON")["state"]["metrics"][name].clone()
}

#[test]
fn it_follows_its_inputs_and_says_why_it_has_no_value() {
    let rate = [("kw_per_part", "power_kw / throughput_rate")];
    let mut events = vec![computing(&rate)];
    let mut expect = |event: Event, wanted: Json| {
        events.push(event);
        assert_eq!(shown(&events, "kw_per_part"), wanted);
    };
    let absent = |reason: &str| json!({"value": null, "reason": reason, "unit": "kW"});
    let value = |value: f64, ms: i64| json!({"value": value, "at": at(ms), "unit": "kW"});
    expect(
        reading(1_000, &[("power_kw", number(12.0))]),
        absent("throughput_rate has no value"),
    );
    expect(
        reading(2_000, &[("throughput_rate", number(4.0))]),
        value(3.0, 2_000),
    );
    expect(reading(3_000, &[("door", Value::Bool(true))]), value(3.0, 2_000));
    expect(
        reading(
            4_000,
            &[("power_kw", number(10.0)), ("throughput_rate", number(5.0))],
        ),
        value(2.0, 4_000),
    );
    expect(
        reading(5_000, &[("throughput_rate", number(0.0))]),
        absent("division by zero"),
    );
    expect(
        reading(6_000, &[("throughput_rate", number(2.0))]),
        value(5.0, 6_000),
    );
    // The power is older than the machine may be without data: it is not gone by.
    expect(
        reading(200_000, &[("throughput_rate", number(2.0))]),
        absent("power_kw is stale"),
    );
    // What a sensor says of it is not taken.
    expect(
        reading(201_000, &[("kw_per_part", number(99.0))]),
        absent("power_kw is stale"),
    );
}

#[test]
fn what_has_no_value_is_not_held_on_in_history() {
    let events = [
        computing(&[("kw_per_part", "power_kw / throughput_rate")]),
        reading(0, &[("power_kw", number(12.0)), ("throughput_rate", number(4.0))]),
        reading(10_000, &[("throughput_rate", number(0.0))]),
        reading(40_000, &[("throughput_rate", number(6.0))]),
        reading(60_000, &[("door", Value::Bool(true))]),
    ];
    let (twin, effects) = folded(&events, |_| true);
    let minute = history(&twin, &effects.rollups)[&(Level::M1, at(0), "kw_per_part".into())];
    // 3 kW for 10 s, nothing for 30 s, 2 kW for 20 s.
    assert_eq!((minute.count, minute.covered_ms), (2, 30_000));
    assert_eq!(minute.integral, 3.0 * 10_000.0 + 2.0 * 20_000.0);
}

#[test]
fn what_is_computed_from_the_computed_and_from_kpis_comes_in_one_go() {
    let events = [
        computing(&[
            ("kw_per_part", "power_kw / throughput_rate"),
            ("is_dear", "kw_per_part > 2.5 && execution == \"producing\""),
            ("share_of_time", "kpis.utilization * 100"),
        ]),
        reading(0, &[("execution", Value::Text("producing".into()))]),
        reading(30_000, &[("execution", Value::Text("idle".into()))]),
        reading(
            60_000,
            &[
                ("power_kw", number(12.0)),
                ("throughput_rate", number(4.0)),
                ("execution", Value::Text("producing".into())),
            ],
        ),
    ];
    assert_eq!(shown(&events, "kw_per_part")["value"], json!(3.0));
    assert_eq!(shown(&events, "is_dear")["value"], json!(true));
    assert_eq!(shown(&events, "share_of_time")["value"], json!(50.0));
}

#[test]
fn a_late_input_changes_what_is_computed_from_then_on_and_nothing_before() {
    let events = [
        computing(&[("kw_per_part", "power_kw / throughput_rate")]),
        reading(0, &[("power_kw", number(12.0)), ("throughput_rate", number(4.0))]),
        reading(90_000, &[("door", Value::Bool(true))]),
        // Of a minute that is closed, but newer than the rate that was known.
        reading(30_000, &[("throughput_rate", number(6.0))]),
        // Older than what is known: nothing follows from it.
        reading(10_000, &[("throughput_rate", number(1.0))]),
    ];
    assert_eq!(
        shown(&events, "kw_per_part"),
        json!({"value": 2.0, "at": at(90_000), "unit": "kW"})
    );
}
