//! A journal with a limit, while the warehouse does not take what it holds: new data is refused, or what the files hold is
//! given up with its seqs named.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

#[path = "support/snowpipe/mod.rs"]
mod snowpipe;
mod support;

use std::collections::BTreeSet;

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

#[test]
fn what_a_full_journal_spills_is_named_and_stands_in_the_files() {
    let fake = Snowpipe::start(31);
    fake.set_faults(calm());
    let plant = Plant::with_batches_of(1_000_000, &fake, &format!("{LIMITS}when_full = \"spill\"\n"));
    let node = plant.start();
    feed(&node, 0, 40);
    wait_for_all(&fake, &node, 40);
    fake.set_down(true);
    let (from, to) = (1_000, 2_000);
    let mut number = from;
    wait_until("twice the limit is taken", || {
        number += if feed_large(&node, number) { 10 } else { 0 };
        (number >= to).then_some(())
    });
    wait_until("the journal gave up what is above its limit", || {
        (journal_bytes(&plant) < 4 << 20).then_some(())
    });
    fake.set_down(false);
    wait_through_an_outage("the channels have what is left", || {
        caught_up(&node).then_some(())
    });
    let channels = channels(&node);
    let named = |shard: &Value, seq: u64| {
        let of_shard = channels
            .iter()
            .filter(|channel| channel["stream"] == "readings" && channel["shard"] == *shard);
        let mut ranges = of_shard.flat_map(|channel| channel["missing"].as_array().into_iter().flatten());
        ranges.any(|range| range[0].as_u64() <= Some(seq) && Some(seq) <= range[1].as_u64())
    };
    let rows = fake.rows("SENSOR_READINGS_RAW");
    let sent = 40 + (to - from) as usize;
    assert!(rows.len() < sent, "nothing was spilled: the test shows nothing");
    assert!(
        rows.iter()
            .all(|row| !named(&row["SHARD"], row["SEQ"].as_u64().expect("a seq")))
    );
    assert!(node.stop(), "a clean stop");
    let exported = support::command::gemba(&[
        "export",
        "--format",
        "ndjson",
        "--data-dir",
        plant.data().to_str().expect("UTF-8"),
    ]);
    let lines = exported
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let filed: Vec<Value> = lines.filter(|row| row["metric"] == "load_pct").collect();
    assert_eq!(filed.len(), sent, "the files hold each of them once");
    let there: BTreeSet<&str> = rows.iter().filter_map(|row| row["MESSAGE_ID"].as_str()).collect();
    for row in &filed {
        let id = row["message_id"].as_str().expect("an id");
        assert!(
            there.contains(id) || named(&row["shard"], row["seq"].as_u64().expect("a seq")),
            "{row} is neither there nor named"
        );
    }
}
