//! Golden files: events, snapshots and rollups of a released version are read for ever.
//!
//! `tests/golden/<version>/` holds one encoded value per file, and beside each snapshot and rollup what it says as
//! JSON. A folder of a released version is never rewritten. When the encoding changes on purpose,
//! `GEMBA_GOLDEN_WRITE=<version>` with `cargo test -p gemba-twins --test bytes` writes the folder of a new version; a
//! folder that is there already stays as it is. The newest folder holds what today's encoder has to give, byte for byte.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod stories;
mod trade;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use gemba_twins::{
    event::{Event, Position},
    rollup::{Level, RollupRow},
    twin::{Effects, Twin},
};
use serde_json::{Value as Json, json};

use self::stories::{ROWS, at, machine_story, rows};

/// An event of each kind of body, and of what machines, locations and jobs know of their trade.
fn events() -> Vec<(&'static str, Event)> {
    [stories::events(), trade::events()].concat()
}

/// The stories of the snapshots, by name.
fn snapshots() -> Vec<(&'static str, Vec<Event>)> {
    [stories::snapshots().to_vec(), trade::snapshots()].concat()
}

/// Those of a list that a version has; the oldest has what it was released with.
fn of<T>(version: &Path, prefix: &str, all: Vec<(&'static str, T)>) -> Vec<(&'static str, T)> {
    let has = |name: &str| version.join(format!("{prefix}-{name}.bin")).exists();
    let there: Vec<_> = all.into_iter().filter(|(name, _)| has(name)).collect();
    let least = if prefix == "event" { 11 } else { 4 };
    assert!(there.len() >= least, "{version:?} has lost some of its files");
    there
}

fn folded(story: &[Event]) -> (Twin, Vec<RollupRow>) {
    let (mut twin, mut effects) = (Twin::new(story[0].twin.clone()), Effects::default());
    for (seq, event) in (1..).zip(story) {
        twin.fold(Position { shard: 5, seq }, event, &mut effects);
    }
    (twin, effects.rollups)
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
        // The words of a reason may become better, as long as there is one.
        _ if place.contains("/reasons/") => assert!(found.is_string(), "{place}"),
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
        for (name, event) in of(version, "event", events()) {
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
        for (name, story) in of(version, "snapshot", snapshots()) {
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
