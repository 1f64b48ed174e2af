//! The checkpoint against a strict fake of Snowpipe Streaming: nodes killed with `kill -9`, answers lost, a service that
//! refuses, moves and forgets; and a service that lies, so that it is seen that these checks see.
//!
//! `GEMBA_CRASH_CYCLES` sets the number of kills (24 by default).

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

#[path = "support/snowpipe/mod.rs"]
mod snowpipe;
mod support;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use snowpipe::{
    Faults, Lie, Snowpipe,
    plant::{IN_A_REQUEST, Plant, SHARDS, calm, caught_up, channels, feed, rows_of, wait_for_all},
};
use support::{Node, http::Request, wait_until};

/// What has to have happened, or the test shows nothing.
const FAULTS: [&str; 7] = [
    "lost_answer",
    "busy",
    "error_after",
    "dropped",
    "TOKEN_EXPIRED",
    "ERR_CHANNEL_MUST_BE_REOPENED",
    "ERR_CHANNEL_HAS_UNCOMMITTED_DATA",
];

/// Faults of every kind, often.
fn storm() -> Faults {
    Faults {
        lost_answer: 0.06,
        busy: 0.05,
        error_after: 0.03,
        dropped: 0.04,
        unauthorized: 0.02,
        reopen: 0.25,
        commit_ms: 3_000,
    }
}

/// What the warehouse has against what was acknowledged.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    rows: usize,
    missing: usize,
    doubled: usize,
    out_of_order: usize,
}

/// Looks for messages `0..to` in both tables; others are not counted.
fn look(fake: &Snowpipe, to: u64) -> Found {
    let mut found = Found::default();
    for (table, prefix, step) in [("SENSOR_READINGS_RAW", "r-", 1), ("JOB_TRACKING", "s-", 4)] {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for row in fake.rows(table) {
            let id = row["MESSAGE_ID"].as_str().expect("an id").to_owned();
            *times.entry(id).or_default() += 1;
            let (shard, seq) = (
                row["SHARD"].as_u64().expect("a shard"),
                row["SEQ"].as_u64().expect("a seq"),
            );
            let before = newest.insert(shard, seq).unwrap_or_default();
            found.out_of_order += usize::from(seq <= before);
            found.rows += 1;
        }
        let wanted = (0..to).step_by(step).map(|number| format!("{prefix}{number}"));
        found.missing += wanted.filter(|id| !times.contains_key(id)).count();
        found.doubled += times.values().filter(|times| **times > 1).count();
    }
    found
}

fn kills() -> u64 {
    std::env::var("GEMBA_CRASH_CYCLES")
        .ok()
        .and_then(|cycles| cycles.parse().ok())
        .unwrap_or(24)
}

#[test]
fn nothing_is_lost_or_doubled_when_the_node_is_killed_and_the_warehouse_fails() {
    let fake = Snowpipe::start(7);
    fake.set_faults(storm());
    let plant = Plant::new(&fake, "uncommitted_wait_s = 1\n");
    let mut node = plant.start();
    let (mut sent, between) = (0, IN_A_REQUEST * 3);
    for _ in 0..kills() {
        let before = fake.count("append");
        feed(&node, sent, sent + between);
        sent += between;
        // Killed while rows are on their way: some are sent, most are not.
        wait_until("rows are on their way", || {
            (fake.count("append") > before).then_some(())
        });
        node.kill();
        node = plant.start();
    }
    fake.set_faults(calm());
    wait_for_all(&fake, &node, sent);
    let found = look(&fake, sent);
    let expected = Found {
        rows: rows_of(sent),
        ..Found::default()
    };
    assert_eq!(found, expected);
    assert_eq!(fake.violations(), Vec::<String>::new());
    let counted: Vec<String> = ["open", "append"]
        .iter()
        .chain(&FAULTS)
        .map(|what| format!("{what} {}", fake.count(what)))
        .collect();
    println!(
        "{} kills, {} rows, none missing, doubled or out of order; {}",
        kills(),
        found.rows,
        counted.join(", ")
    );
    for what in FAULTS {
        assert!(
            fake.count(what) > 0,
            "no fault of the kind {what}: the test shows nothing"
        );
    }
    assert!(node.stop(), "the node stops well");
}

/// The control: a warehouse that lies is found out, so the test above would see a row that is lost or doubled.
#[test]
fn what_is_lost_and_what_is_doubled_is_seen() {
    for (lie, lost, doubled) in [(Lie::DropsRows, true, false), (Lie::ForgetsOffset, false, true)] {
        let fake = Snowpipe::start(11);
        fake.set_faults(calm());
        let plant = Plant::new(&fake, "");
        let node = plant.start();
        feed(&node, 0, 200);
        wait_for_all(&fake, &node, 200);
        fake.set_lie(lie);
        node.kill();
        let node = plant.start();
        feed(&node, 200, 240);
        wait_until("the offsets move", || caught_up(&node).then_some(()));
        let found = look(&fake, 240);
        assert_eq!(
            (found.missing > 0, found.doubled > 0),
            (lost, doubled),
            "{lie:?}: {found:?}"
        );
    }
}

#[test]
fn of_two_writers_the_one_whose_channel_was_taken_stops() {
    let fake = Snowpipe::start(13);
    fake.set_faults(calm());
    let (first, second) = (Plant::new(&fake, ""), Plant::new(&fake, ""));
    let old = first.start();
    feed(&old, 0, 100);
    wait_for_all(&fake, &old, 100);
    // Another installation by mistake under the same name, with a longer journal.
    let new = second.start();
    feed(&new, 0, 400);
    wait_until("the second has the channels", || caught_up(&new).then_some(()));
    feed(&old, 100, 140);
    let written = |node: &Node| {
        let mut channels = channels(node);
        channels.retain(|channel| channel["committed_seq"] != 0);
        channels
    };
    let fenced = wait_until("the first says so", || {
        let fenced = written(&old);
        fenced
            .iter()
            .all(|channel| channel["state"] == "fenced")
            .then_some(fenced)
    });
    assert!(
        fenced[0]["last_error"]
            .as_str()
            .is_some_and(|says| says.contains("another writer")),
        "{fenced:?}"
    );
    let opens = fake.count("open");
    feed(&old, 140, 200);
    feed(&new, 400, 500);
    wait_until("the second goes on", || caught_up(&new).then_some(()));
    assert_eq!(fake.count("open"), opens, "nobody steals a channel back");
    assert!(written(&old).iter().all(|channel| channel["state"] == "fenced"));
    assert!(channels(&new).iter().all(|channel| channel["state"] == "running"));
    assert_eq!(look(&fake, 0).out_of_order, 0);
    // A third one whose journal is shorter than what is there touches nothing.
    let third = Plant::new(&fake, "");
    let third = third.start();
    feed(&third, 0, 20);
    wait_until("the third sees that it is not meant", || {
        let channels = channels(&third);
        let meant = |channel: &&Value| channel["state"] == "ahead" || channel["committed_seq"] == 0;
        (channels.len() == SHARDS * 2
            && channels.iter().all(|channel| meant(&channel))
            && channels.iter().any(|channel| channel["state"] == "ahead"))
        .then_some(())
    });
    assert_eq!(fake.count("open"), opens);
}

#[test]
fn rows_that_the_warehouse_refuses_are_written_down_once() {
    let fake = Snowpipe::start(17);
    fake.set_faults(calm());
    let plant = Plant::new(&fake, "");
    let node = plant.start();
    feed(&node, 0, 40);
    wait_for_all(&fake, &node, 40);
    let poison = json!({"sensor_id": "cnc-1", "message_id": "poison-1", "metrics": {"rpm": 1}});
    assert_eq!(
        node.call(&Request::post("/v1/readings", poison.to_string()))
            .status,
        200
    );
    let refused = wait_until("it is counted", || {
        let channels = channels(&node);
        channels
            .iter()
            .find(|channel| channel["dead_letters"] == 1)
            .cloned()
    });
    assert_eq!(refused["state"], "running", "{refused}");
    node.kill();
    let node = plant.start();
    feed(&node, 40, 80);
    wait_until("the others go on", || {
        (look(&fake, 80).missing == 0).then_some(())
    });
    let folder = plant.data().join("checkpoint/dead-letters");
    let files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let text = std::fs::read_to_string(&files[0]).expect("a file");
    let letter: Value = serde_json::from_str(text.trim()).expect("one line");
    assert_eq!(
        (&letter["row"]["MESSAGE_ID"], &letter["certain"]),
        (&json!("poison-1"), &json!(true)),
        "{letter}"
    );
    assert!(
        letter["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("refused")),
        "{letter}"
    );
    wait_until("the metrics are set", || {
        let metrics = node.call(&Request::get("/metrics")).text();
        metrics
            .contains("checkpoint_lag_events{tenant=\"default\",table=\"readings\"}")
            .then_some(())
    });
}

#[test]
fn a_rotated_key_is_taken_up_and_an_outage_costs_only_time() {
    let fake = Snowpipe::start(19);
    fake.set_faults(calm());
    let plant = Plant::new(&fake, "");
    let node = plant.start();
    feed(&node, 0, 40);
    wait_for_all(&fake, &node, 40);
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/keys");
    fake.rotate_key(include_str!("support/keys/second.txt"));
    feed(&node, 40, 80);
    wait_until("it is refused", || {
        let channels = channels(&node);
        let refused = channels.iter().find(|channel| channel["state"] == "refused")?;
        refused["last_error"]
            .as_str()?
            .contains("RSA_PUBLIC_KEY")
            .then_some(())
    });
    std::fs::copy(keys.join("second.p8"), plant.folder.path().join("key.p8")).expect("the new key");
    wait_for_all(&fake, &node, 80);
    fake.set_down(true);
    feed(&node, 80, 120);
    wait_until("it waits", || {
        channels(&node)
            .iter()
            .any(|channel| channel["state"] == "waiting")
            .then_some(())
    });
    assert!(
        channels(&node)
            .iter()
            .any(|channel| channel["lag_s"].as_f64().is_some_and(|age| age > 0.0))
    );
    fake.set_down(false);
    wait_for_all(&fake, &node, 120);
    assert_eq!(
        look(&fake, 120),
        Found {
            rows: rows_of(120),
            ..Found::default()
        }
    );
    assert_eq!(fake.violations(), Vec::<String>::new());
}
