//! A journal with a limit, while the warehouse does not take what it holds: new data is refused, or what the files hold is
//! given up and loaded from them later.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

#[path = "support/snowpipe/mod.rs"]
mod snowpipe;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use snowpipe::{
    Snowpipe,
    plant::{MACHINES, Plant, calm, caught_up, channels, feed, wait_for_all},
};
use support::{Node, http::Request, wait_until};

/// Sends ten readings of about 8 KB each; answers whether they were taken.
fn feed_large(node: &Node, from: u64) -> bool {
    let firmware = "x".repeat(8_000);
    let mut lines = String::new();
    for number in from..from + 10 {
        let reading = json!({"sensor_id": format!("cnc-{}", number % MACHINES), "message_id": format!("r-{number}"),
            "metrics": {"load_pct": 1}, "device_metadata": {"firmware": firmware}});
        lines.push_str(&format!("{reading}\n"));
    }
    let request = Request::post("/v1/readings", lines).header("content-type", "application/x-ndjson");
    let answer = node.call(&request);
    if answer.status != 200 {
        answer.problem(429, "ingest.busy");
    }
    answer.status == 200
}

/// Sends such readings until they are not taken any more; answers how many were.
fn feed_until_refused(node: &Node, from: u64) -> u64 {
    let mut number = from;
    wait_until("the journal is full", || {
        let taken = feed_large(node, number);
        number += if taken { 10 } else { 0 };
        (!taken).then_some(())
    });
    number
}

/// Waits longer than a channel does between two tries after an outage, which is minutes.
fn wait_through_an_outage(what: &str, mut is_over: impl FnMut() -> Option<()>) {
    for _ in 0..40_000 {
        if is_over().is_some() {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    panic!("{what} did not come about");
}

/// What the journal's segments take on the disk.
fn journal_bytes(plant: &Plant) -> u64 {
    let segments = std::fs::read_dir(plant.data().join("journal")).expect("a journal");
    // A segment that has just been trimmed takes nothing.
    let lengths = segments.filter_map(|segment| segment.ok()?.metadata().ok());
    lengths.map(|segment| segment.len()).sum()
}

/// A limit that 500 such readings reach.
const LIMITS: &str = "[history]\nevery_s = 1\n[snapshot]\nevents = 10\nevery_s = 1\n\
                      [journal]\nsegment_bytes = 1048576\nmax_bytes = 4194304\n";

#[test]
fn a_full_journal_refuses_new_data_until_the_warehouse_has_what_it_holds() {
    let fake = Snowpipe::start(23);
    fake.set_faults(calm());
    let plant = Plant::with_batches_of(1_000_000, &fake, LIMITS);
    let node = plant.start();
    feed(&node, 0, 40);
    wait_for_all(&fake, &node, 40);
    fake.set_down(true);
    let sent = feed_until_refused(&node, 1_000);
    assert!((sent - 1_000) * 8_000 > 3 << 20, "{sent}: refused too early");
    let full = |name: &str| {
        node.call(&Request::get("/metrics"))
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
    };
    assert_eq!(full("journal_refusing "), Some(1.0));
    fake.set_down(false);
    wait_through_an_outage("there is room again", || {
        (full("journal_refusing ") == Some(0.0)).then_some(())
    });
    let wanted = 40 + (sent - 1_000) as usize;
    wait_through_an_outage("everything is committed", || {
        (fake.rows("SENSOR_READINGS_RAW").len() >= wanted).then_some(())
    });
    assert_eq!(fake.rows("SENSOR_READINGS_RAW").len(), wanted);
    let ids: BTreeSet<String> = fake
        .rows("SENSOR_READINGS_RAW")
        .iter()
        .filter_map(|row| row["MESSAGE_ID"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(ids.len(), wanted, "each once");
    assert_eq!(fake.violations(), Vec::<String>::new());
}

/// A node whose journal has given up readings that the warehouse does not have, and how many messages it took.
fn spilled(fake: &Snowpipe, plant: &Plant) -> (Node, u64) {
    fake.set_faults(calm());
    let node = plant.start();
    feed(&node, 0, 40);
    wait_for_all(fake, &node, 40);
    fake.set_down(true);
    let (from, to) = (1_000, 2_000);
    let mut number = from;
    wait_until("twice the limit is taken", || {
        number += if feed_large(&node, number) { 10 } else { 0 };
        (number >= to).then_some(())
    });
    wait_until("the journal gave up what is above its limit", || {
        (journal_bytes(plant) < 4 << 20).then_some(())
    });
    (node, 40 + (to - from))
}

/// Each seq of a shard at most once, and in order.
fn in_order_and_once(rows: &[Value]) {
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    for row in rows {
        let number = |name: &str| row[name].as_u64().expect("a number");
        let before = newest.insert(number("SHARD"), number("SEQ"));
        assert!(before < Some(number("SEQ")), "{row} comes after {before:?}");
    }
}

#[test]
fn what_a_full_journal_spills_is_loaded_from_the_files_when_the_warehouse_is_back() {
    let fake = Snowpipe::start(31);
    let plant = Plant::with_batches_of(1_000_000, &fake, &format!("{LIMITS}when_full = \"spill\"\n"));
    let (node, sent) = spilled(&fake, &plant);
    // What is read from the files survives a crash as what is read from the journal does.
    node.kill();
    let node = plant.start();
    fake.set_down(false);
    wait_through_an_outage("the channels have all of it", || caught_up(&node).then_some(()));
    let metrics = node.call(&Request::get("/metrics")).text();
    let filed = metrics
        .lines()
        .filter(|line| line.starts_with("checkpoint_rows_filed_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    assert!(
        filed.sum::<f64>() > 0.0,
        "nothing was spilled: the test shows nothing"
    );
    let missing = |channel: &Value| channel["missing"] != json!([]);
    assert!(!channels(&node).iter().any(missing), "{:?}", channels(&node));
    let rows = fake.rows("SENSOR_READINGS_RAW");
    in_order_and_once(&rows);
    let ids: BTreeSet<&str> = rows.iter().filter_map(|row| row["MESSAGE_ID"].as_str()).collect();
    assert_eq!((rows.len() as u64, ids.len() as u64), (sent, sent));
    let firmware = json!("x".repeat(8_000));
    let large = rows
        .iter()
        .filter(|row| row["DEVICE_METADATA"]["firmware"] == firmware);
    assert_eq!(large.count() as u64, sent - 40, "rows are whole");
    assert_eq!(fake.violations(), Vec::<String>::new());
}

#[test]
fn what_neither_the_journal_nor_the_files_hold_is_named() {
    let fake = Snowpipe::start(37);
    let plant = Plant::with_batches_of(1_000_000, &fake, &format!("{LIMITS}when_full = \"spill\"\n"));
    let (node, sent) = spilled(&fake, &plant);
    assert!(node.stop(), "a clean stop");
    std::fs::remove_dir_all(plant.data().join("history")).expect("the files are lost");
    let node = plant.start();
    fake.set_down(false);
    wait_through_an_outage("the channels have what is left", || {
        caught_up(&node).then_some(())
    });
    let rows = fake.rows("SENSOR_READINGS_RAW");
    in_order_and_once(&rows);
    assert!(
        (rows.len() as u64) < sent,
        "nothing was lost: the test shows nothing"
    );
    // Each seq of each shard is there, is no reading, or is named.
    let mut named = 0;
    for channel in channels(&node)
        .iter()
        .filter(|channel| channel["stream"] == "readings")
    {
        let ranges = channel["missing"].as_array().expect("ranges");
        let holds = |seq: u64| {
            ranges
                .iter()
                .any(|range| range[0].as_u64() <= Some(seq) && Some(seq) <= range[1].as_u64())
        };
        let of_shard = rows.iter().filter(|row| row["SHARD"] == channel["shard"]);
        assert!(
            of_shard
                .clone()
                .all(|row| !holds(row["SEQ"].as_u64().expect("a seq")))
        );
        let span = |range: &Value| range[1].as_u64().expect("a seq") - range[0].as_u64().expect("a seq") + 1;
        named += ranges.iter().map(span).sum::<u64>();
    }
    assert!(
        named >= sent - rows.len() as u64,
        "{named} seqs are named, {} rows lack",
        sent - rows.len() as u64
    );
    assert_eq!(fake.violations(), Vec::<String>::new());
}

/// Who reads the journal and has to have committed what it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Snapshot,
    Files,
    Warehouse,
}

/// Whether the journal of any machine's shard has given something up, after the node was asked to write its history.
fn is_trimmed(node: &Node) -> bool {
    assert_eq!(node.call(&Request::post("/v1/history/write", "{}")).status, 200);
    let at = |machine: u64| format!("/v1/twins/machine/cnc-{machine}?at=2100-01-01T00:00:00Z");
    (0..6).any(|machine| node.call(&Request::get(&at(machine))).status == 410)
}

/// Whether the events of any machine say that earlier ones are not there.
fn begins_later(node: &Node) -> bool {
    (0..6).any(|machine| {
        let page = node.get(&format!("/v1/twins/machine/cnc-{machine}/events?limit=1"));
        page["begins_seq"].as_u64().expect("a seq") > 1
    })
}

#[test]
fn the_journal_is_trimmed_only_past_what_every_reader_has_committed() {
    for held in [Reader::Snapshot, Reader::Files, Reader::Warehouse] {
        let fake = Snowpipe::start(41);
        fake.set_faults(calm());
        let snapshots = if held == Reader::Snapshot {
            "events = 1000000\nevery_s = 86400"
        } else {
            "events = 10\nevery_s = 1"
        };
        let config = format!(
            "[history]\nevery_s = 1\n[snapshot]\n{snapshots}\n[journal]\nsegment_bytes = 1048576\nretention_s = 1\n"
        );
        let plant = Plant::with_batches_of(1_000_000, &fake, &config);
        let blocked = plant.data().join("history/tenant=default");
        if held == Reader::Files {
            std::fs::create_dir_all(plant.data().join("history")).expect("a folder");
            std::fs::write(&blocked, "no folder can be here").expect("written");
        }
        let mut node = plant.start();
        feed(&node, 0, 40);
        wait_for_all(&fake, &node, 40);
        fake.set_down(held == Reader::Warehouse);
        let mut number = 1_000;
        wait_until("some segments are full", || {
            number += if feed_large(&node, number) { 10 } else { 0 };
            (number >= 1_400).then_some(())
        });
        let over = support::example::now_ms() + 2_500;
        wait_until("the retention is over, and the other readers have all", || {
            let others = held == Reader::Warehouse || caught_up(&node);
            assert!(!is_trimmed(&node), "{held:?} still needs it");
            assert!(!begins_later(&node), "{held:?} still needs it");
            (others && support::example::now_ms() > over).then_some(())
        });
        match held {
            Reader::Snapshot => {
                // A clean stop writes one.
                assert!(node.stop(), "a clean stop");
                node = plant.start();
            }
            Reader::Files => std::fs::remove_file(&blocked).expect("removed"),
            Reader::Warehouse => fake.set_down(false),
        }
        wait_through_an_outage(&format!("{held:?} has all, and the journal is trimmed"), || {
            is_trimmed(&node).then_some(())
        });
        assert!(begins_later(&node));
    }
}
