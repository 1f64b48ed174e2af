//! Golden files: a data folder of a released version starts under every later one and shows the same twins.
//!
//! `tests/golden/<version>/` holds `data/` (the journal, and a `state.redb` that is older than the journal's end) and
//! `expected.json`, what a node over it shows. A folder of a released version is never rewritten. When something on
//! disk changes on purpose, `GEMBA_GOLDEN_WRITE=<version>` with `cargo test -p gemba-runtime --test golden` writes the
//! folder of a new version; a folder that is there already stays as it is.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use gemba_runtime::{
    ingest::{Message, Outcome},
    node::{Node, Step, verify},
    plant::PlantModel,
    settings::NodeSettings,
};
use gemba_twins::{
    id::{TenantId, TwinId},
    rollup::Level,
    time::Timestamp,
    twin::Twin,
};
use redb::{Database, DatabaseError};
use serde_json::{Map, Value as Json, json};

/// Two shards, so that twins tell those of the other one.
const SHARDS: u16 = 2;
/// 2026-02-02T06:00:00Z.
const START_MS: i64 = 1_770_012_000_000;
/// All twins of all versions; a later version may have more of its own.
const TWINS: [&str; 7] = [
    "machine/cnc-07",
    "machine/press-1",
    "location/cell-1",
    "location/cell-2",
    "location/exit",
    "job/job-1",
    "job/job-2",
];

const ASIDE: &str = "version: 1
site: {id: works}
unknown_sensors: keep_aside
machines:
  - {id: cnc-07, name: Mazak 07, location: cell-1, ideal_cycle: 2s}
locations:
  - {id: cell-1}
  - {id: cell-2}
  - {id: exit, exit: true}
";
const KNOWN: &str = "version: 1
site: {id: works}
unknown_sensors: keep_aside
machines:
  - {id: cnc-07, name: Mazak 07 again, location: cell-1, ideal_cycle: 2s}
  - {id: press-1}
locations:
  - {id: cell-1}
  - {id: cell-2}
  - {id: exit, exit: true}
";

fn acme() -> TenantId {
    TenantId::parse("acme").expect("a tenant")
}

fn id(path: &str) -> TwinId {
    TwinId::parse(acme(), path).expect("an address")
}

fn reading(second: i64, sensor: &str, metrics: &str) -> (bool, String) {
    let at = START_MS + second * 1_000;
    let json = format!(
        r#"{{"sensor_id":"{sensor}","timestamp":{at},"message_id":"m-{second}","metrics":{{{metrics}}}}}"#
    );
    (false, json)
}

fn scan(second: i64, job: &str, location: &str) -> (bool, String) {
    let at = START_MS + second * 1_000;
    let json = format!(
        r#"{{"job_id":"{job}","location":"{location}","scan_timestamp":{at},"message_id":"s-{second}","operator_id":"op-1"}}"#
    );
    (true, json)
}

/// A shift of a machine and two jobs; its second half is not in the state store.
fn shift(half: i64) -> Vec<(bool, String)> {
    let start = half * 1_800;
    let mut messages: Vec<_> = (0..30)
        .map(|minute| {
            let state = ["producing", "idle", "down"][minute as usize / 10];
            let metrics = format!(
                r#""execution":"{state}","good_count":{},"power_kw":{}.5"#,
                start + minute * 7,
                minute % 5
            );
            reading(start + minute * 60, "cnc-07", &metrics)
        })
        .collect();
    // One reading late, and jobs that walk; the first one leaves in the second half.
    messages.push(reading(start + 601, "cnc-07", r#""power_kw":77"#));
    messages.push(scan(start + 5, "job-1", ["cell-1", "cell-2"][half as usize]));
    messages.push(scan(start + 605, "job-2", ["cell-2", "cell-1"][half as usize]));
    messages.push(scan(start + 1_205, "job-1", ["cell-2", "exit"][half as usize]));
    messages
}

async fn node(folder: &Path) -> Node {
    let mut settings = NodeSettings::new(folder.to_owned());
    settings.shards = SHARDS;
    let node = Node::start(settings).await.expect("a node");
    node.all_recovered().await.expect("every shard comes back");
    node
}

/// Stops a node and waits until its files are closed: the last actors let go of them a moment later.
async fn stop(node: Node) {
    let folder = node.settings().data_dir.clone();
    node.stop().await;
    drop(node);
    for file in [
        folder.join("state.redb"),
        folder.join("journal/segment-000000000001.redb"),
    ] {
        while matches!(Database::open(&file), Err(DatabaseError::DatabaseAlreadyOpen)) {
            tokio::task::yield_now().await;
        }
    }
}

async fn submit(node: &Node, messages: &[(bool, String)]) -> Vec<Outcome> {
    let mut batch = node.ingest().batch(&acme(), &"http".into());
    for (is_scan, json) in messages {
        let json = json.as_bytes();
        batch.push(if *is_scan {
            Message::Scan { reader: None, json }
        } else {
            Message::Reading { sensor: None, json }
        });
    }
    let permit = node.ingest().admit(&acme(), batch.len(), 10_000).await;
    batch.submit(permit).await.expect("durable")
}

/// What the node shows of everything the folder holds.
async fn shown(node: &Node) -> Json {
    // All its machines and locations are stale already, so that no tick changes them after a start.
    let now = Timestamp::from_ms(START_MS).plus_ms(30 * 86_400_000);
    let mut twins = Map::new();
    for path in TWINS {
        let view = node.twins().with(&id(path), |twin| {
            serde_json::to_value(twin.view(now)).expect("JSON")
        });
        twins.insert(path.into(), view.expect("the store").unwrap_or_default());
    }
    let (from, to) = (Timestamp::from_ms(START_MS), now);
    let history = node
        .history(&id("machine/cnc-07"), from, to, Step::Level(Level::H1), None)
        .await;
    let history: Vec<_> = history
        .expect("a history")
        .iter()
        .map(|point| {
            let stats = &point.stats;
            json!([
                point.time,
                *point.metric,
                point.corrected,
                stats.count,
                stats.sum,
                stats.covered_ms,
                stats.integral,
                stats.increase
            ])
        })
        .collect();
    let (rejected, _) = node.rejected(&acme(), None, 100).await.expect("a list");
    let rejected: Vec<_> = rejected
        .iter()
        .map(|item| {
            json!([
                item.id,
                item.at,
                *item.source,
                *item.topic,
                *item.code,
                *item.detail,
                String::from_utf8_lossy(&item.payload),
                item.truncated
            ])
        })
        .collect();
    let plant = node.plant(&acme()).expect("a plant model");
    let events = node.events(&id("machine/press-1"), 0, 100).await.expect("events");
    json!({
        "twins": twins,
        "history": history,
        "rejected": rejected,
        "plant": [plant.version, plant.applied_at, *plant.by, plant.model.text()],
        "press_events": events.items.len(),
        "folded": [node.twins().folded_seq(0), node.twins().folded_seq(1)],
    })
}

/// What is worked out otherwise since 0.1: a power counts until it is stale, also where no later one comes.
const OTHERWISE: [&str; 3] = [
    "/kpis/energy_kwh",
    "/kpis/energy_kwh_per_good_part",
    "/kpis/idle_energy_share",
];

/// Everything that `wanted` says is in `found`; a later release may show more.
fn assert_still_shows(found: &Json, wanted: &Json, place: &str) {
    match (found, wanted) {
        (Json::Object(found), Json::Object(wanted)) => {
            for (name, wanted) in wanted {
                let found = found.get(name).unwrap_or(&Json::Null);
                assert_still_shows(found, wanted, &format!("{place}/{name}"));
            }
        }
        // The words of a reason may become better, as long as there is one.
        _ if place.contains("/reasons/") => assert!(found.is_string(), "{place}"),
        _ if OTHERWISE.iter().any(|end| place.ends_with(end)) => {
            assert_eq!(found.is_number(), wanted.is_number(), "{place}");
        }
        // Messages between twins that a later release has, and that come when they come.
        (Json::Array(found), Json::Array(wanted)) if place.ends_with("/folded") => {
            let up_to = |seqs: &[Json]| seqs.iter().map(Json::as_u64).collect::<Vec<_>>();
            let (found, wanted) = (up_to(found), up_to(wanted));
            assert_eq!(found.len(), wanted.len(), "{place}");
            assert!(
                found.iter().zip(&wanted).all(|(found, wanted)| found >= wanted),
                "{place}: {found:?} for {wanted:?}"
            );
        }
        _ => assert_eq!(found, wanted, "{place}"),
    }
}

/// The folders of all versions, the oldest first; writes the one that is asked for before.
async fn versions() -> Vec<PathBuf> {
    static WRITING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let writing = WRITING.lock().await;
    if let Ok(version) = std::env::var("GEMBA_GOLDEN_WRITE") {
        let folder = goldens.join(version);
        if !folder.exists() {
            write(&folder).await;
        }
    }
    drop(writing);
    let number = |path: &PathBuf| -> Vec<u32> {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        name.split('.')
            .map(|part| part.parse().expect("a version"))
            .collect()
    };
    let mut folders: Vec<PathBuf> = fs::read_dir(goldens)
        .expect("the goldens")
        .map(|entry| entry.expect("a folder").path())
        .collect();
    folders.sort_by_key(number);
    assert!(folders[0].ends_with("0.1"), "{folders:?}");
    folders
}

async fn write(folder: &Path) {
    let (data, aside) = (folder.join("data"), folder.join("state.redb.aside"));
    let plant = |text: &str| PlantModel::parse(text).expect("a model");
    let running = node(&data).await;
    running
        .apply_plant(&acme(), plant(ASIDE), "kim")
        .await
        .expect("applied");
    submit(&running, &shift(0)).await;
    let stranger = [
        reading(1_801, "press-1", r#""stroke":7"#),
        (false, "no JSON".into()),
    ];
    submit(&running, &stranger).await;
    running
        .set_attributes(&id("machine/cnc-07"), r#"{"owner":"Kim"}"#, "kim", None)
        .await
        .expect("set");
    until(&running, "location/cell-2", |twin| twin["kpis"]["wip"] == 2.0).await;
    stop(running).await;
    fs::copy(data.join("state.redb"), &aside).expect("a copy");

    let running = node(&data).await;
    submit(&running, &shift(1)).await;
    running
        .apply_plant(&acme(), plant(KNOWN), "lee")
        .await
        .expect("applied");
    let (kept, _) = running.rejected(&acme(), None, 10).await.expect("a list");
    let retried = running
        .retry_rejected(&acme(), &kept[0].id)
        .await
        .expect("an answer");
    assert_eq!(retried, Some(Outcome::Applied));
    // What one twin tells another arrives by itself, and the ticks come within a second.
    until(&running, "machine/cnc-07", |twin| {
        twin["attributes"]["name"] == "Mazak 07 again"
    })
    .await;
    until(&running, "location/exit", |twin| twin["kpis"]["visits"] == 1.0).await;
    until(&running, "location/cell-2", |twin| twin["kpis"]["visits"] == 2.0).await;
    until(&running, "location/cell-1", |twin| twin["kpis"]["wip"] == 1.0).await;
    for machine in ["machine/cnc-07", "machine/press-1"] {
        while running
            .twins()
            .with(&id(machine), Twin::stale_deadline)
            .expect("the store")
            .flatten()
            .is_some()
        {
            tokio::task::yield_now().await;
        }
    }
    let expected = serde_json::to_string_pretty(&shown(&running).await).expect("JSON") + "\n";
    stop(running).await;
    fs::rename(aside, data.join("state.redb")).expect("the older state");
    fs::write(folder.join("expected.json"), expected).expect("written");
}

async fn until(node: &Node, path: &str, wanted: impl Fn(&Json) -> bool) {
    let view = |twin: &Twin| serde_json::to_value(twin.view(Timestamp::from_ms(START_MS))).expect("JSON");
    while !node
        .twins()
        .with(&id(path), view)
        .expect("the store")
        .is_some_and(|twin| wanted(&twin))
    {
        tokio::task::yield_now().await;
    }
}

/// A copy of a version's data folder and what it is to show: a node writes to its folder.
fn copy_of(version: &Path) -> (tempfile::TempDir, Json) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("journal")).expect("a folder");
    for part in ["", "journal"] {
        for entry in fs::read_dir(version.join("data").join(part)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let name = path.file_name().expect("a name");
                fs::copy(&path, folder.path().join(part).join(name)).expect("a copy");
            }
        }
    }
    let expected = fs::read(version.join("expected.json")).expect("what is expected");
    (folder, serde_json::from_slice(&expected).expect("JSON"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_of_every_version_shows_what_it_showed_then() {
    for version in versions().await {
        let (folder, expected) = copy_of(&version);
        let running = node(folder.path()).await;
        let place = version.display().to_string();
        assert_still_shows(&shown(&running).await, &expected, &place);
        // The window of repetitions is restored: half of it from the store, half from the journal.
        let again = [
            reading(0, "cnc-07", r#""power_kw":1"#),
            reading(1_800, "cnc-07", r#""power_kw":1"#),
        ];
        assert_eq!(
            submit(&running, &again).await,
            [Outcome::Duplicate, Outcome::Duplicate]
        );
        stop(running).await;
        // The state that this release wrote is read as well.
        assert_still_shows(&shown(&node(folder.path()).await).await, &expected, &place);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_of_every_version_leads_to_the_same_state() {
    for version in versions().await {
        let (folder, expected) = copy_of(&version);
        fs::remove_file(folder.path().join("state.redb")).expect("a state");
        let running = node(folder.path()).await;
        assert_still_shows(&shown(&running).await, &expected, &version.display().to_string());
        stop(running).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_of_every_version_has_its_checksum() {
    for version in versions().await {
        let (folder, _) = copy_of(&version);
        let report = verify(folder.path(), &mut |_| {}).expect("a report");
        assert_eq!(report.damage, Vec::<String>::new(), "{version:?}");
        assert!(report.records > 80 && report.values > 15, "{report:?}");
    }
}
