//! What the first release wrote: an event of each kind of body, and a story for each kind of twin.

use gemba_twins::{
    config::{Execution, MetricConfig, MetricKind, TwinConfig},
    event::{AttributesSet, Body, Event, Origin, Reading, Scan, SensorType, TwinMessage, Value},
    id::{Kind, TenantId, TwinId},
    rollup::{Level, RollupRow},
    time::Timestamp,
};

use super::folded;

/// 2026-02-02T06:00:00Z.
const START_MS: i64 = 1_770_012_000_000;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_ms(START_MS + seconds * 1_000)
}

pub(crate) fn id(kind: Kind, id: &str) -> TwinId {
    TwinId::new(TenantId::parse("acme").expect("a tenant"), kind, id).expect("an id")
}

pub(crate) fn event(twin: TwinId, seconds: i64, body: Body) -> Event {
    Event {
        twin,
        at: at(seconds),
        received_at: at(seconds).plus_ms(37),
        source: "mqtt".into(),
        message_id: format!("m-{seconds}").into(),
        origin: None,
        body,
    }
}

pub(crate) fn told(seconds: i64, message: TwinMessage) -> Event {
    Event {
        received_at: at(seconds),
        source: "".into(),
        message_id: "".into(),
        origin: Some(Origin {
            shard: 65_534,
            seq: 1 << 40,
            index: 3,
        }),
        ..event(id(Kind::Location, "cell-2"), seconds, Body::Told(message))
    }
}

fn full_config() -> TwinConfig {
    let metric = |name: &str, kind, unit: &str, rollover_at| MetricConfig {
        name: name.into(),
        kind,
        unit: unit.into(),
        rollover_at,
    };
    TwinConfig {
        model_version: 7,
        attributes: r#"{"line":"l-1","name":"Mazak 07"}"#.into(),
        metrics: vec![
            metric("energy_kwh", MetricKind::Counter, "kWh", Some(4_294_967_296.0)),
            metric("door", MetricKind::State, "", None),
            metric("flow", MetricKind::Gauge, "l/min", None),
        ],
        ideal_cycle_s: Some(2.5),
        stale_after_ms: Some(90_000),
        execution_map: Execution::ALL
            .into_iter()
            .map(|execution| (format!("W-{}", execution as u8).into(), execution))
            .collect(),
        removed: true,
        ..TwinConfig::default()
    }
}

/// An event of each kind of body, with all its fields and with as few as it may have.
pub(crate) fn events() -> Vec<(&'static str, Event)> {
    let machine = || id(Kind::Machine, "cnc-07");
    let full_reading = Reading {
        sensor_id: "sensor:cnc-07".into(),
        sensor_type: Some(SensorType::Energy),
        location_id: Some("cell-2".into()),
        metrics: vec![
            ("power_kw".into(), Value::Number(-12.25)),
            ("execution".into(), Value::Text("ACTIVE".into())),
            ("door".into(), Value::Bool(false)),
            ("zero".into(), Value::Number(0.0)),
        ],
        quality_score: Some(0.0),
        source_system: Some("PLC µ".into()),
        device_metadata: Some(r#"{"firmware":"1.2"}"#.into()),
    };
    let full_scan = Scan {
        location: "cell-2".into(),
        reader_id: Some("reader-1".into()),
        product_id: Some("p-100".into()),
        product_variant: Some("blue".into()),
        operator_id: Some("op-4".into()),
        completes: true,
        metadata: Some("{}".into()),
        retracts: false,
    };
    let least_reading = Event {
        at: at(0),
        received_at: at(-9),
        source: "".into(),
        message_id: "".into(),
        ..event(machine(), 0, Body::Reading(Reading::default()))
    };
    let least_scan = Scan {
        location: "saw".into(),
        ..Scan::default()
    };
    let attributes = AttributesSet {
        patch: r#"{"owner":"Kim","old":null}"#.into(),
        by: "kim@acme".into(),
    };
    let entered = TwinMessage::JobEntered {
        job: "job-9".into(),
        entered_at: at(8),
        operator_id: Some("op-4".into()),
    };
    let left = TwinMessage::JobLeft {
        job: "job-9".into(),
        entered_at: at(8),
        left_at: at(60),
    };
    let corrected = TwinMessage::JobDwellCorrected {
        job: "job-9".into(),
        by_ms: -4_000,
    };
    let longest_id = "x".repeat(128);
    vec![
        ("reading", event(machine(), 1, Body::Reading(full_reading))),
        ("reading-least", least_reading),
        ("scan", event(id(Kind::Job, "job-9"), 2, Body::Scan(full_scan))),
        (
            "scan-least",
            event(id(Kind::Job, &longest_id), 3, Body::Scan(least_scan)),
        ),
        ("attributes", event(machine(), 4, Body::AttributesSet(attributes))),
        (
            "configured",
            event(machine(), 5, Body::Configured(Box::new(full_config()))),
        ),
        (
            "configured-least",
            event(machine(), 6, Body::Configured(Box::default())),
        ),
        ("ticked", event(id(Kind::Location, "cell-2"), 7, Body::Ticked)),
        ("job-entered", told(8, entered)),
        ("job-left", told(9, left)),
        ("job-dwell-corrected", told(10, corrected)),
    ]
}

pub(crate) fn reading(twin: TwinId, seconds: i64, metrics: &[(&str, Value)]) -> Event {
    let metrics = metrics
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect();
    let reading = Reading {
        sensor_id: "s".into(),
        location_id: Some("cell-9".into()),
        metrics,
        quality_score: Some(0.75),
        ..Reading::default()
    };
    event(twin, seconds, Body::Reading(reading))
}

pub(crate) fn machine_story() -> Vec<Event> {
    let machine = || id(Kind::Machine, "cnc-07");
    let config = TwinConfig {
        removed: false,
        ..full_config()
    };
    let patch = AttributesSet {
        patch: r#"{"owner":"Kim","limits":{"rpm":[0,1.5e300]}}"#.into(),
        by: "kim".into(),
    };
    let mut story = vec![
        event(machine(), 0, Body::Configured(Box::new(config))),
        event(machine(), 1, Body::AttributesSet(patch)),
    ];
    for step in 0..40_i32 {
        let word = ["W-1", "W-3", "ACTIVE", "W-5"][step as usize / 10];
        let metrics = [
            ("execution", Value::Text(word.into())),
            ("good_count", Value::Number(f64::from(step / 3))),
            ("scrap_count", Value::Number(f64::from(step / 20))),
            (
                "energy_kwh",
                Value::Number(4_294_967_290.0 + f64::from(step % 12)),
            ),
            ("flow", Value::Number(0.1 * f64::from(step))),
            ("door", Value::Bool(step % 7 == 0)),
        ];
        // 06:00 to 07:05 with a gap of ten minutes, so that every width has something open and something closed.
        let gap = if step > 30 { 600 } else { 0 };
        story.push(reading(machine(), 10 + i64::from(step) * 85 + gap, &metrics));
    }
    story.push(reading(machine(), 700, &[("flow", Value::Number(99.0))]));
    story.push(reading(
        machine(),
        3_930,
        &[("good_count", Value::Text("no number".into()))],
    ));
    story
}

pub(crate) fn location_story() -> Vec<Event> {
    let location = || id(Kind::Location, "cell-2");
    let entered = |job: &str, seconds| TwinMessage::JobEntered {
        job: job.into(),
        entered_at: at(seconds),
        operator_id: Some(format!("op-{job}").into()),
    };
    let left = TwinMessage::JobLeft {
        job: "a".into(),
        entered_at: at(10),
        left_at: at(400),
    };
    let corrected = TwinMessage::JobDwellCorrected {
        job: "a".into(),
        by_ms: -90_500,
    };
    vec![
        reading(location(), 0, &[("co2_ppm", Value::Number(812.5))]),
        told(10, entered("a", 10)),
        told(20, entered("b", 20)),
        reading(
            location(),
            130,
            &[
                ("co2_ppm", Value::Number(1_204.0)),
                ("pm25_ugm3", Value::Number(8.0)),
            ],
        ),
        told(400, left),
        told(401, corrected),
        event(location(), 430, Body::Ticked),
    ]
}

fn job_story() -> Vec<Event> {
    // 140 visits, of which the last 128 are kept one by one; a late scan; then the way out.
    let places = ["saw", "mill", "wash"];
    let scan = |seconds, place: &str, completes| {
        let scan = Scan {
            location: place.into(),
            product_id: Some("p-100".into()),
            product_variant: Some("blue".into()),
            operator_id: Some("op-4".into()),
            completes,
            ..Scan::default()
        };
        event(id(Kind::Job, "job-9"), seconds, Body::Scan(scan))
    };
    let mut story: Vec<Event> = (0..140)
        .map(|step| scan(step * 60, places[step as usize % 3], false))
        .collect();
    story.push(scan(139 * 60 + 20, "saw", false));
    story.push(scan(130 * 60 + 30, "late", false));
    story.push(scan(150 * 60, "exit", true));
    story
}

/// The snapshots that every version wrote: name and address.
pub(crate) fn snapshots() -> [(&'static str, Vec<Event>); 4] {
    [
        ("machine", machine_story()),
        ("location", location_story()),
        ("job", job_story()),
        (
            "machine-untouched",
            vec![event(id(Kind::Machine, "new"), 0, Body::Ticked)],
        ),
    ]
}

pub(crate) const ROWS: [&str; 5] = ["M1", "M5", "H1", "D1", "corrected"];

/// Rows of every width, one of them corrected, as `ROWS` names them.
pub(crate) fn rows() -> Vec<RollupRow> {
    let (_, rows) = folded(&machine_story());
    let first = |level| rows.iter().find(|row| row.level == level && !row.corrected);
    let mut wanted: Vec<_> = Level::ALL.into_iter().map(first).collect();
    wanted.push(rows.iter().find(|row| row.corrected));
    wanted
        .into_iter()
        .map(|row| row.expect("a row").clone())
        .collect()
}
