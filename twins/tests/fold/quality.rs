//! Data quality: what each sensor sends is known, and what breaks its contract is taken, marked and counted.

use std::sync::Arc;

use gemba_twins::{
    analysis::Analysis,
    expr::ValueKind,
    quality::{Contract, MetricContract},
};
use serde_json::{Value as Json, json};

use super::*;

fn from(sensor: &str, ms: i64, metrics: &[(&str, Value)]) -> Event {
    let mut event = reading(ms, metrics);
    if let Body::Reading(reading) = &mut event.body {
        reading.sensor_id = sensor.into();
    }
    event
}

pub(crate) fn contract(rejects: bool) -> Contract {
    Contract {
        sensor: "air-1".into(),
        period_ms: Some(MINUTE_MS),
        required: vec!["co2_ppm".into()],
        rejects,
        metrics: vec![
            MetricContract {
                name: "co2_ppm".into(),
                kind: Some(ValueKind::Number),
                min: Some(300.0),
                max: Some(5_000.0),
                max_rate_per_s: Some(10.0),
                ..MetricContract::default()
            },
            MetricContract {
                name: "door".into(),
                one_of: vec!["open".into(), "shut".into()],
                ..MetricContract::default()
            },
        ],
    }
}

fn agreed(contract: Contract) -> Event {
    let config = TwinConfig {
        model_version: 1,
        analysis: Some(Arc::new(Analysis {
            contracts: vec![contract],
            ..Analysis::default()
        })),
        ..TwinConfig::default()
    };
    event(Kind::Machine, 0, Body::Configured(Box::new(config)))
}

fn co2(ppm: f64) -> (&'static str, Value) {
    ("co2_ppm", Value::Number(ppm))
}

fn sensors(events: &[Event]) -> (Twin, Effects, Json) {
    let (twin, effects) = folded(events, |index| index % 3 == 0);
    let now = events.last().expect("events").at;
    let shown = twin
        .sensors(now)
        .map(|sensor| serde_json::to_value(sensor).expect("JSON"))
        .collect();
    (twin, effects, shown)
}

#[test]
fn a_schema_is_read_off_what_comes_and_its_changes_are_kept() {
    let text = |text: &str| Value::Text(text.into());
    let (.., shown) = sensors(&[
        from(
            "plc",
            0,
            &[("power_kw", Value::Number(3.0)), ("recipe", text("A"))],
        ),
        from(
            "plc",
            1_000,
            &[("recipe", text("A")), ("power_kw", Value::Number(3.0))],
        ),
        from(
            "plc",
            2_000,
            &[("recipe", Value::Number(7.0)), ("door", Value::Bool(true))],
        ),
        from("meter", 3_000, &[("energy_kwh", Value::Number(1.0))]),
    ]);
    assert_eq!(
        shown[0]["schema"],
        json!([
            {"metric": "power_kw", "types": ["number"], "unit": "kW"},
            {"metric": "recipe", "types": ["number", "text"]},
            {"metric": "door", "types": ["bool"]},
        ])
    );
    assert_eq!(
        shown[0]["schema_changes"],
        json!([
            {"at": at(2_000), "metric": "recipe", "change": "type", "types_before": ["text"], "type": "number"},
            {"at": at(2_000), "metric": "door", "change": "added", "type": "bool"},
        ])
    );
    assert_eq!(
        (&shown[0]["readings"], &shown[0]["score"]),
        (&json!(3), &json!(1.0))
    );
    assert_eq!(shown[0]["completeness"], Json::Null);
    assert_eq!(
        (&shown[1]["sensor"], &shown[1]["freshness_s"]),
        (&json!("meter"), &json!(0.0))
    );
    assert_eq!(shown[0]["freshness_s"], json!(1.0));
}

#[test]
fn what_breaks_a_contract_is_taken_marked_and_counted() {
    let door = |word: &str| ("door", Value::Text(word.into()));
    let events = [
        agreed(contract(false)),
        from("air-1", 0, &[co2(400.0), door("shut")]),
        from("air-1", MINUTE_MS, &[co2(9_000.0), door("ajar")]),
        from("air-1", 3 * MINUTE_MS, &[door("open")]),
        // Another sensor has no contract.
        from("air-2", 3 * MINUTE_MS, &[("temperature_c", Value::Number(21.0))]),
    ];
    let (twin, effects, shown) = sensors(&events);
    assert_eq!(
        shown[0]["violations"],
        json!({"range": 1, "enumeration": 1, "required": 1, "rate": 1})
    );
    assert_eq!(
        shown[0]["last_violation"],
        json!({"rule": "required", "metric": "co2_ppm", "at": at(3 * MINUTE_MS)})
    );
    assert_eq!(effects.violations, 4);
    // Three of the four minutes so far had a reading.
    assert_eq!(shown[0]["completeness"], json!(0.75));
    assert_eq!(shown[1]["violations"], json!({}));
    let state = &serde_json::to_value(twin.view(at(3 * MINUTE_MS))).expect("JSON")["state"];
    assert_eq!(state["quality"], json!("suspect"));
    assert_eq!(
        state["metrics"]["co2_ppm"]["value"],
        json!(9_000.0),
        "it is taken"
    );
    assert_eq!(state["metrics"]["co2_ppm"]["quality"], json!("suspect"));
    assert_eq!(
        state["metrics"]["door"].get("quality"),
        None,
        "it came right since"
    );
    assert_eq!(state["data_quality"]["marked"], json!(["co2_ppm"]));
    assert_eq!(state["data_quality"]["violations"], json!(4));
    assert!(state["data_quality"]["score"].as_f64().expect("a score") < 0.75);
}

#[test]
fn a_contract_that_rejects_does_not_take_what_changes_too_fast_until_enough_time_went_by() {
    let events = [
        agreed(contract(true)),
        from("air-1", 0, &[co2(400.0)]),
        from("air-1", MINUTE_MS, &[co2(1_600.0)]),
        from("air-1", 2 * MINUTE_MS, &[co2(1_600.0)]),
    ];
    let value = |events: &[Event]| {
        let (twin, _, shown) = sensors(events);
        let state = serde_json::to_value(twin.view(at(0))).expect("JSON");
        (
            state["state"]["metrics"]["co2_ppm"]["value"].clone(),
            shown[0]["violations"].clone(),
        )
    };
    // 1,200 ppm in a minute are 20 a second, in two minutes 10.
    assert_eq!(value(&events[..3]), (json!(400.0), json!({"rate": 1})));
    assert_eq!(value(&events), (json!(1_600.0), json!({"rate": 1})));
}

#[test]
fn the_memory_of_a_twin_fed_by_everybody_is_bounded() {
    let mut events = Vec::new();
    for sensor in 0..40 {
        for field in 0..80 {
            let name = format!("metric-{}", (sensor * 80 + field) % 120);
            events.push(from(
                &format!("sensor-{sensor}"),
                field * 1_000,
                &[(&name, Value::Number(1.0))],
            ));
        }
    }
    let (.., shown) = sensors(&events);
    let shown = shown.as_array().expect("sensors");
    assert_eq!(shown.len(), 8);
    assert!(
        shown
            .iter()
            .all(|sensor| sensor["schema"].as_array().expect("fields").len() == 32)
    );
    assert!(
        shown
            .iter()
            .all(|sensor| sensor["schema_changes"].as_array().expect("changes").len() == 8)
    );
}

#[test]
fn a_machine_with_eight_metrics_takes_little_more_memory_for_it() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let metrics: Vec<_> = names.iter().map(|name| (*name, Value::Number(1.0))).collect();
    let (twin, ..) = sensors(&[from("m-1", 0, &metrics), from("m-1", 1_000, &metrics)]);
    let quality = twin.data_quality_bytes();
    assert!(quality < 300, "{quality} bytes");
}
