//! Forecasts and anomalies of a machine that runs by day and stands by night.

use std::sync::Arc;

use gemba_twins::{analysis::Analysis, forecast::ForecastRule};
use serde_json::{Value as Json, json};

use super::*;

const HOUR_MS: i64 = 3_600_000;

fn forecasting(rules: &[(&str, Option<f64>)]) -> Event {
    let forecasts = rules.iter().map(|(metric, deviation)| ForecastRule {
        metric: (*metric).into(),
        deviation: *deviation,
    });
    let config = TwinConfig {
        model_version: 1,
        stale_after_ms: Some(20 * MINUTE_MS),
        analysis: Some(Arc::new(Analysis {
            forecasts: forecasts.collect(),
            ..Analysis::default()
        })),
        ..TwinConfig::default()
    };
    event(Kind::Machine, -MINUTE_MS, Body::Configured(Box::new(config)))
}

/// Eight to eighteen o'clock from the start at 23:00Z, with some unrest.
fn power(ms: i64) -> f64 {
    let hour = (ms / HOUR_MS + 23) % 24;
    let unrest = (ms / MINUTE_MS * 7_919 % 13) as f64 / 13.0;
    if (8..18).contains(&hour) {
        40.0 + unrest
    } else {
        5.0 + unrest
    }
}

/// Five-minute readings; `power` may be spoilt.
fn days(days: i64, spoil: impl Fn(i64, f64) -> f64) -> Vec<Event> {
    let mut events = vec![forecasting(&[("power_kw", None), ("utilization", Some(0.2))])];
    for ms in (0..days * DAY_MS).step_by(5 * MINUTE_MS as usize) {
        let power = spoil(ms, power(ms));
        let execution = if power > 20.0 { "producing" } else { "idle" };
        events.push(reading(
            ms,
            &[
                ("power_kw", Value::Number(power)),
                ("execution", Value::Text(execution.into())),
            ],
        ));
    }
    events
}

fn calm(_: i64, power: f64) -> f64 {
    power
}

fn now(events: &[Event]) -> Timestamp {
    events.last().expect("events").at
}

fn forecast(twin: &Twin, metric: &str, horizon_ms: i64, now: Timestamp) -> Json {
    serde_json::to_value(twin.forecast(metric, horizon_ms, now)).expect("JSON")
}

#[test]
fn tomorrow_is_forecast_from_the_days_before_with_an_interval_that_holds() {
    let events = days(5, calm);
    let (twin, _) = folded(&events, |index| index % 500 == 0);
    let shown = forecast(&twin, "power_kw", DAY_MS, now(&events));
    assert_eq!((&shown["step_s"], &shown["reason"]), (&json!(900), &Json::Null));
    let points = shown["points"].as_array().expect("points");
    assert_eq!(points.len(), 96);
    assert_eq!(points[0]["time"], json!(at(5 * DAY_MS)));
    let mut within = 0;
    for point in points {
        let time: Timestamp = point["time"].as_str().expect("a time").parse().expect("a time");
        let actual = power(time.ms_since(at(0)));
        let [value, low, high] = ["value", "low", "high"].map(|name| point[name].as_f64().expect("a number"));
        assert!((value - actual).abs() < 1.5, "{time}: {value}, it is {actual}");
        within += usize::from(low <= actual + 1.0 && actual <= high + 1.0);
    }
    assert!(within > 90, "{within} of 96");
    let utilization = forecast(&twin, "utilization", 4 * HOUR_MS, now(&events));
    assert_eq!(utilization["points"].as_array().expect("points").len(), 16);
}

#[test]
fn too_little_data_is_said_and_not_guessed_over() {
    let few = days(1, calm);
    let reason = |events: &[Event], metric: &str, after_ms: i64| {
        let (twin, _) = folded(events, |_| false);
        let shown = forecast(&twin, metric, HOUR_MS, now(events).plus_ms(after_ms));
        assert_eq!((&shown["method"], &shown["points"]), (&Json::Null, &json!([])));
        shown["reason"].as_str().expect("a reason").to_owned()
    };
    assert_eq!(reason(&few[..1], "power_kw", 0), "no data yet");
    assert_eq!(reason(&few[..20], "power_kw", 0), "less than four hours of data");
    assert_eq!(
        reason(&few, "power_kw", 0),
        "less than a day and four hours of data"
    );
    assert_eq!(
        reason(&few, "voltage_v", 0),
        "this metric is not forecast (name it under forecast in the plant model)"
    );
    let many = days(3, calm);
    assert_eq!(
        reason(&many, "power_kw", 30 * HOUR_MS),
        "the newest data is more than a day old"
    );
}

#[test]
fn a_machine_that_stands_when_it_should_run_is_an_anomaly_until_it_runs_as_expected() {
    // On the fifth day it stands still from ten to twelve.
    let stands = 4 * DAY_MS + 11 * HOUR_MS;
    let spoilt = days(5, |ms, power| {
        if (stands..stands + 2 * HOUR_MS).contains(&ms) {
            5.0
        } else {
            power
        }
    });
    let upto = |ms: i64| {
        let events: Vec<_> = spoilt
            .iter()
            .filter(|event| event.at <= at(ms))
            .cloned()
            .collect();
        let (twin, _) = folded(&events, |_| false);
        serde_json::to_value(twin.view(now(&events))).expect("JSON")["state"]["anomalies"].clone()
    };
    assert_eq!(upto(stands - MINUTE_MS), json!([]));
    let on = upto(stands + HOUR_MS);
    let on = on.as_array().expect("anomalies");
    let metrics: Vec<_> = on.iter().map(|anomaly| &anomaly["metric"]).collect();
    assert_eq!(metrics, [&json!("power_kw"), &json!("utilization")]);
    for anomaly in on {
        // Known when the first quarter of an hour is over.
        assert_eq!(anomaly["since"], json!(at(stands + 15 * MINUTE_MS)));
        let score = anomaly["score"].as_f64().expect("a score");
        assert!((0.5..1.0).contains(&score), "{score}");
    }
    assert_eq!(upto(stands + 6 * HOUR_MS), json!([]));
}

#[test]
fn gaps_and_late_readings_leave_a_series_as_deterministic_as_everything_else() {
    let mut events = days(3, calm);
    // Half a day without data, a reading of long ago, and one of the far future.
    events.retain(|event| !(at(DAY_MS)..at(DAY_MS + 12 * HOUR_MS)).contains(&event.at));
    events.push(reading(HOUR_MS, &[("power_kw", Value::Number(1e9))]));
    events.push(reading(400 * DAY_MS, &[("power_kw", Value::Number(3.0))]));
    let (stayed, left) = (
        folded(&events, |_| false),
        folded(&events, |index| index % 7 == 0),
    );
    assert_eq!(bytes_of(&stayed.0), bytes_of(&left.0));
    let without: Vec<_> = events
        .iter()
        .filter(|event| event.at != at(HOUR_MS) || !late(event))
        .cloned()
        .collect();
    let calm = folded(&without, |_| false).0;
    let show = |twin: &Twin| forecast(twin, "power_kw", HOUR_MS, at(3 * DAY_MS));
    assert_eq!(show(&stayed.0), show(&calm));
}

fn late(event: &Event) -> bool {
    match &event.body {
        Body::Reading(reading) => reading
            .metrics
            .iter()
            .any(|(_, value)| *value == Value::Number(1e9)),
        _ => false,
    }
}
