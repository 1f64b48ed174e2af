//! Golden files: events, snapshots and rollups of a released version are read for ever.
//!
//! `tests/golden/<version>/` holds one encoded value per file, and beside each snapshot and rollup what it says as
//! JSON. A folder of a released version is never rewritten. When the encoding changes on purpose,
//! `GEMBA_GOLDEN_WRITE=<version>` with `cargo test -p gemba-twins --test golden` writes the folder of a new version; a
//! folder that is there already stays as it is. The newest folder holds what today's encoder has to give, byte for byte.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use gemba_twins::{
    config::{Execution, MetricConfig, MetricKind, TwinConfig},
    event::{AttributesSet, Body, Event, Origin, Position, Reading, Scan, SensorType, TwinMessage, Value},
    id::{Kind, TenantId, TwinId},
    rollup::{Level, RollupRow},
    time::Timestamp,
    twin::{Effects, Twin},
};
use serde_json::{Value as Json, json};

/// 2026-02-02T06:00:00Z.
const START_MS: i64 = 1_770_012_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_ms(START_MS + seconds * 1_000)
}

fn id(kind: Kind, id: &str) -> TwinId {
    TwinId::new(TenantId::parse("acme").expect("a tenant"), kind, id).expect("an id")
}

fn event(twin: TwinId, seconds: i64, body: Body) -> Event {
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

fn told(seconds: i64, message: TwinMessage) -> Event {
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
fn events() -> Vec<(&'static str, Event)> {
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

fn reading(twin: TwinId, seconds: i64, metrics: &[(&str, Value)]) -> Event {
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

fn machine_story() -> Vec<Event> {
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

fn location_story() -> Vec<Event> {
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

fn folded(story: &[Event]) -> (Twin, Vec<RollupRow>) {
    let (mut twin, mut effects) = (Twin::new(story[0].twin.clone()), Effects::default());
    for (seq, event) in (1..).zip(story) {
        twin.fold(Position { shard: 5, seq }, event, &mut effects);
    }
    (twin, effects.rollups)
}

/// The snapshots that every version wrote: name and address.
fn snapshots() -> [(&'static str, Vec<Event>); 4] {
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

const ROWS: [&str; 5] = ["M1", "M5", "H1", "D1", "corrected"];

/// Rows of every width, one of them corrected, as `ROWS` names them.
fn rows() -> Vec<RollupRow> {
    let (_, rows) = folded(&machine_story());
    let first = |level| rows.iter().find(|row| row.level == level && !row.corrected);
    let mut wanted: Vec<_> = Level::ALL.into_iter().map(first).collect();
    wanted.push(rows.iter().find(|row| row.corrected));
    wanted
        .into_iter()
        .map(|row| row.expect("a row").clone())
        .collect()
}

fn row_json(row: &RollupRow) -> Json {
    let metrics = row.metrics.iter().map(|(name, stats)| {
        let some = |value: f64| (stats.count > 0).then_some(value);
        let stats = json!({
            "count": stats.count, "covered_ms": stats.covered_ms, "sum": stats.sum,
            "first_at_ms": stats.first_at_ms, "last_at_ms": stats.last_at_ms,
            "min": some(stats.min), "max": some(stats.max), "first": stats.first, "last": stats.last,
            "integral": stats.integral, "increase": stats.increase,
        });
        (name.to_string(), stats)
    });
    let metrics: Json = metrics.collect::<serde_json::Map<_, _>>().into();
    json!({"level": row.level as u8, "start": row.start, "corrected": row.corrected, "metrics": metrics})
}

/// What a twin shows, while fresh and when everything is stale, and what of it is not handed out yet.
fn twin_json(twin: &Twin) -> Json {
    let newest = twin.updated_at().unwrap_or(at(0));
    let open = Level::ALL.map(|level| twin.open_rollups(level).iter().map(row_json).collect::<Vec<_>>());
    json!({"fresh": twin.view(newest), "stale": twin.view(newest.plus_ms(86_400_000)), "open": open})
}

/// Everything that `wanted` says is in `found`; a later release may show more.
fn assert_still_shows(found: &Json, wanted: &Json, place: &str) {
    match (found, wanted) {
        (Json::Object(found), Json::Object(wanted)) => {
            for (name, wanted) in wanted {
                let found = found.get(name).unwrap_or(&Json::Null);
                assert_still_shows(found, wanted, &format!("{place}/{name}"));
            }
        }
        (Json::Array(found), Json::Array(wanted)) if found.len() == wanted.len() => {
            for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                assert_still_shows(found, wanted, &format!("{place}/{at}"));
            }
        }
        _ => assert_eq!(found, wanted, "{place}"),
    }
}

fn folder_of_goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The folders of all versions, the oldest first; writes the one that is asked for before.
fn versions() -> &'static [PathBuf] {
    static VERSIONS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    VERSIONS.get_or_init(|| {
        if let Ok(version) = std::env::var("GEMBA_GOLDEN_WRITE") {
            let folder = folder_of_goldens().join(version);
            if !folder.exists() {
                write(&folder);
            }
        }
        let number = |path: &PathBuf| -> Vec<u32> {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            name.split('.')
                .map(|part| part.parse().expect("a version"))
                .collect()
        };
        let mut folders: Vec<PathBuf> = fs::read_dir(folder_of_goldens())
            .expect("the goldens")
            .map(|entry| entry.expect("a folder").path())
            .collect();
        folders.sort_by_key(number);
        assert!(folders[0].ends_with("0.1"), "{folders:?}");
        folders
    })
}

fn write(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let put = |name: String, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("written");
    let put_json = |name: String, json: &Json| {
        put(
            name,
            (serde_json::to_string_pretty(json).expect("JSON") + "\n").as_bytes(),
        );
    };
    for (name, event) in events() {
        put(format!("event-{name}.bin"), &encoded(|out| event.encode(out)));
    }
    for (name, story) in snapshots() {
        let (twin, _) = folded(&story);
        put(format!("snapshot-{name}.bin"), &encoded(|out| twin.encode(out)));
        put_json(format!("snapshot-{name}.json"), &twin_json(&twin));
    }
    for (name, row) in ROWS.into_iter().zip(rows()) {
        put(format!("rollup-{name}.bin"), &encoded(|out| row.encode(out)));
        put_json(format!("rollup-{name}.json"), &row_json(&row));
    }
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    bytes
}

fn read(version: &Path, name: &str) -> Vec<u8> {
    fs::read(version.join(name)).expect("a golden file")
}

fn read_json(version: &Path, name: &str) -> Json {
    serde_json::from_slice(&read(version, name)).expect("JSON")
}

#[test]
fn events_of_every_version_are_read() {
    for version in versions() {
        for (name, event) in events() {
            let bytes = read(version, &format!("event-{name}.bin"));
            assert_eq!(Event::decode(&bytes), Ok(event.clone()), "{name} of {version:?}");
            let address = (event.twin.tenant().as_str(), event.twin.kind(), event.twin.id());
            assert_eq!(Event::peek_twin(&bytes), Ok(address), "{name} of {version:?}");
        }
    }
}

#[test]
fn todays_bytes_are_the_newest_golden_ones() {
    let newest = versions().last().expect("a version");
    for (name, event) in events() {
        let bytes = encoded(|out| event.encode(out));
        assert_eq!(bytes, read(newest, &format!("event-{name}.bin")), "{name}");
    }
    // What a fold leads to may change; how it is written may not.
    for (name, story) in snapshots() {
        let bytes = read(newest, &format!("snapshot-{name}.bin"));
        let twin = Twin::decode(story[0].twin.clone(), &bytes).expect("a twin");
        assert_eq!(encoded(|out| twin.encode(out)), bytes, "{name}");
    }
    for name in ROWS {
        let bytes = read(newest, &format!("rollup-{name}.bin"));
        let row = RollupRow::decode(&bytes).expect("a row");
        assert_eq!(encoded(|out| row.encode(out)), bytes, "{name}");
    }
}

#[test]
fn snapshots_of_every_version_show_what_they_showed_then() {
    for version in versions() {
        for (name, story) in snapshots() {
            let bytes = read(version, &format!("snapshot-{name}.bin"));
            let twin = Twin::decode(story[0].twin.clone(), &bytes).expect("a twin");
            let wanted = read_json(version, &format!("snapshot-{name}.json"));
            assert_still_shows(&twin_json(&twin), &wanted, &format!("{name} of {version:?}"));
            let again = Twin::decode(story[0].twin.clone(), &encoded(|out| twin.encode(out)));
            assert_eq!(again, Ok(twin), "{name} of {version:?}");
        }
    }
}

#[test]
fn rollups_of_every_version_are_read() {
    for version in versions() {
        for name in ROWS {
            let row = RollupRow::decode(&read(version, &format!("rollup-{name}.bin"))).expect("a row");
            let wanted = read_json(version, &format!("rollup-{name}.json"));
            assert_eq!(row_json(&row), wanted, "{name} of {version:?}");
        }
    }
}

#[test]
fn a_field_of_a_later_release_is_skipped_and_a_later_version_refused() {
    for (name, event) in events() {
        let mut bytes = encoded(|out| event.encode(out));
        // Field 100, four bytes.
        bytes.extend_from_slice(&[0xa2, 0x06, 4, 1, 2, 3, 4]);
        assert_eq!(Event::decode(&bytes), Ok(event), "{name}");
    }
    let (twin, rows) = folded(&machine_story());
    let mut bytes = encoded(|out| twin.encode(out));
    bytes.extend_from_slice(&[0xa2, 0x06, 0]);
    assert_eq!(Twin::decode(twin.id().clone(), &bytes), Ok(twin.clone()));
    bytes[0] = 2;
    assert!(Twin::decode(twin.id().clone(), &bytes).is_err());
    let mut bytes = encoded(|out| rows[0].encode(out));
    bytes[0] = 2;
    assert!(RollupRow::decode(&bytes).is_err());
}
