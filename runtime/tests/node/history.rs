//! History as files: every reading and scan once, also after a crash and beyond the journal.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use gemba_runtime::node::{Node, ReadError, Step};
use gemba_twins::{id::TwinId, rollup::Level, time::Timestamp};
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};

use super::{acme, clock, message, node, plant_day, submit};

const START_MS: i64 = 1_764_115_200_000 - 60_000;

/// All files of a kind below the history's folder.
fn files(root: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let of_kind = path.to_string_lossy().contains(&format!("kind={kind}/"));
            if path.is_dir() {
                folders.push(path);
            } else if of_kind && path.extension().is_some_and(|extension| extension == "parquet") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// How often each row stands in the files: by twin, metric and message id, or by twin and message id.
fn rows(root: &Path, kind: &str) -> BTreeMap<(String, String, String), u32> {
    let mut rows = BTreeMap::new();
    for path in files(root, kind) {
        let reader = SerializedFileReader::new(File::open(&path).expect("a file")).expect("a parquet file");
        for row in reader.get_row_iter(None).expect("rows") {
            let row = row.expect("a row");
            let field = |wanted: &str| match row.get_column_iter().find(|(name, _)| *name == wanted) {
                Some((_, Field::Str(text))) => text.clone(),
                _ => String::new(),
            };
            *rows
                .entry((field("twin"), field("metric"), field("message_id")))
                .or_default() += 1;
        }
    }
    rows
}

async fn feed(node: &Node, from: u64, count: u64) {
    let plant = plant_day(from, count, START_MS);
    submit(node, plant.iter().map(|(scan, json)| message(*scan, json))).await;
}

/// Of every ten messages one is a scan, one a reading with two metrics, eight with four.
fn expected(count: u64) -> (u64, u64) {
    (count / 10 * (8 * 4 + 2), count / 10)
}

fn assert_each_once(root: &Path, count: u64) {
    let (readings, scans) = expected(count);
    for (kind, expected) in [("readings", readings), ("scans", scans)] {
        let found = rows(root, kind);
        assert_eq!(found.len() as u64, expected, "{kind}");
        let doubled: Vec<_> = found.iter().filter(|(_, times)| **times != 1).collect();
        assert!(doubled.is_empty(), "{kind}: {doubled:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reading_and_scan_stands_in_the_files_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("history");
    for part in 0..3 {
        let node = node(folder.path(), |settings| {
            settings.history.folder = Some(root.clone())
        })
        .await;
        feed(&node, part * 2_000, 2_000).await;
        // Sent again: a duplicate is not a row.
        feed(&node, part * 2_000, 500).await;
        node.stop().await;
        assert_each_once(&root, (part + 1) * 2_000);
    }
    // Two days, since the stream passes midnight.
    let days: std::collections::BTreeSet<_> = files(&root, "readings")
        .iter()
        .map(|path| path.parent().map(Path::to_owned))
        .collect();
    assert_eq!(days.len(), 2, "{days:?}");
    for kind in ["rollups", "kpis", "states"] {
        assert!(!rows(&root, kind).is_empty(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_files_are_written_writes_the_same_files_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("history");
    let with_history =
        |settings: &mut gemba_runtime::settings::NodeSettings| settings.history.folder = Some(root.clone());
    let first = node(folder.path(), with_history).await;
    feed(&first, 0, 2_000).await;
    first.stop().await;
    drop(first);
    let before = files(&root, "readings");
    // As it is left when the process dies after some of the files: the range is noted, the offset is not.
    for shard in 0..4 {
        let path = root.join("_state").join(format!("{shard:05}.json"));
        let mut state: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&path).expect("a state")).expect("JSON");
        let next = state["next"].as_u64().expect("a seq");
        state["writing"] = serde_json::json!([1, next - 1]);
        state["next"] = 1.into();
        fs::write(&path, state.to_string()).expect("written");
    }
    fs::remove_file(&before[0]).expect("one file was not there yet");
    let again = node(folder.path(), with_history).await;
    feed(&again, 2_000, 2_000).await;
    again.stop().await;
    assert_each_once(&root, 4_000);
    let after = files(&root, "readings");
    assert!(
        before.iter().all(|path| after.contains(path)),
        "{before:?} {after:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_history_reaches_further_back_than_the_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("history");
    let id = TwinId::parse(acme(), "machine/cnc-0").expect("an address");
    let (from, to) = (
        Timestamp::from_ms(START_MS),
        Timestamp::from_ms(START_MS + 86_400_000),
    );
    let whole = {
        let node = node(folder.path(), |settings| {
            settings.history.folder = Some(root.clone());
            settings.segment_bytes = 1;
        })
        .await;
        for part in 0..8 {
            feed(&node, part * 500, 500).await;
        }
        let whole = node
            .history(&id, from, to, Step::Raw, None)
            .await
            .expect("a history");
        node.stop().await;
        whole
    };
    let node = node(folder.path(), |settings| {
        settings.history.folder = Some(root.clone());
        settings.journal_retention = Some(Duration::ZERO);
    })
    .await;
    // Its first turn opens what it wrote, its upkeep then trims.
    node.write_history().await;
    let trimmed = node.twin_at(&id, clock::now()).await;
    assert!(
        matches!(trimmed, Err(ReadError::Trimmed { .. })),
        "the journal was not trimmed"
    );
    let history = node
        .history(&id, from, to, Step::Raw, None)
        .await
        .expect("a history");
    assert_eq!(history, whole);
    assert!(whole.len() > 100);
    let minutes = node
        .history(&id, from, to, Step::Level(Level::M1), None)
        .await
        .expect("a history");
    assert!(!minutes.is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_that_are_over_are_compacted_and_old_ones_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("history");
    let node = node(folder.path(), |settings| {
        settings.history.folder = Some(root.clone())
    })
    .await;
    for part in 0..12 {
        feed(&node, part * 500, 500).await;
        node.write_history().await;
    }
    assert_each_once(&root, 6_000);
    // Four shards wrote at least six times for each of two days, which are long over: a day's shard has few files.
    let left = files(&root, "readings").len();
    assert!(left <= 4 * 2 * 4, "{left} files");
    node.stop().await;
    drop(node);
    let node = super::node(folder.path(), |settings| {
        settings.history.folder = Some(root.clone());
        settings.history.keep_days = Some(1);
    })
    .await;
    node.write_history().await;
    assert_eq!(files(&root, "readings").len(), 0);
    node.stop().await;
}
