//! A node that comes back with a snapshot, whose journal begins where that ends: what came before is in its history all the
//! same, and the warehouse gets it, each row once, whoever owns the shards.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

#[path = "support/snowpipe/mod.rs"]
mod snowpipe;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::{Value, json};
use snowpipe::{
    Snowpipe,
    plant::{IN_A_REQUEST, MACHINES, Plant, SHARDS, calm, channels, feed, rows_of},
};
use support::{
    Node,
    cluster::{Seat, seats, wait_until_settled},
    command::gemba,
    http::Request,
    wait_until,
};

/// Three nodes that write to the fake; the plant has their configuration and their folders, and no node of its own.
fn start(fake: &Snowpipe, more: &str) -> (Plant, Vec<Seat>, BTreeMap<usize, Node>) {
    fake.set_faults(calm());
    let plant = Plant::new(fake, more);
    let mut seats = seats(plant.folder.path(), 3);
    for seat in &mut seats {
        seat.config = Some(plant.folder.path().join("gemba.toml").display().to_string());
    }
    let nodes: BTreeMap<usize, Node> = seats.iter().map(|seat| (seat.number, seat.start())).collect();
    wait_until_settled(&nodes[&1], 3);
    (plant, seats, nodes)
}

/// Values of a machine's counter, as one node's history has them.
fn counted(node: &Node, machine: u64) -> usize {
    let path = format!("/v1/twins/machine/cnc-{machine}/history?metric=good_count&step=raw");
    node.get(&path).as_array().expect("points").len()
}

/// Whether the journal of any machine's shard begins later than its first event.
fn begins_later(node: &Node) -> bool {
    (0..MACHINES).any(|machine| {
        let page = node.get(&format!("/v1/twins/machine/cnc-{machine}/events?limit=1"));
        page["begins_seq"].as_u64().expect("a seq") > 1
    })
}

/// The message ids that the warehouse has, and how many rows.
fn in_warehouse(fake: &Snowpipe) -> (BTreeSet<String>, usize) {
    let mut rows: Vec<Value> = fake.rows("SENSOR_READINGS_RAW");
    rows.extend(fake.rows("JOB_TRACKING"));
    let ids = rows
        .iter()
        .map(|row| row["MESSAGE_ID"].as_str().expect("an id").to_owned());
    (ids.collect(), rows.len())
}

/// How many shards a node owns.
fn owned(by: &Node, number: u64) -> u64 {
    let view = by.get("/v1/cluster");
    let nodes = view["nodes"].as_array().expect("nodes").iter();
    nodes
        .filter(|node| node["node"] == number)
        .filter_map(|node| node["owns"].as_u64())
        .sum()
}

/// Has a node leave, asked of another one.
fn drained(by: &Seat, node: usize) {
    let url = format!("http://127.0.0.1:{}", by.http);
    let said = gemba(&["drain", &node.to_string(), "--url", &url]);
    assert_eq!(said.status, 0, "{} {}", said.out, said.err);
}

#[test]
fn a_node_that_came_with_a_snapshot_lacks_nothing() {
    let fake = Snowpipe::start(11);
    let (_plant, seats, mut nodes) = start(&fake, "[history]\nevery_s = 1\n");
    let part = IN_A_REQUEST * 6;
    feed(&nodes[&1], 0, part);
    wait_until("the warehouse has the first part", || {
        (in_warehouse(&fake).1 == rows_of(part)).then_some(())
    });

    // The warehouse is away while node 3 goes and comes back.
    fake.set_down(true);
    feed(&nodes[&2], part, 2 * part);
    drained(&seats[0], 3);
    assert!(nodes.remove(&3).expect("it runs").stop());
    feed(&nodes[&1], 2 * part, 3 * part);
    // As `gemba drain` asks for. Where its history stands cannot be saved, so that what it lacks does not come at first.
    std::fs::remove_dir_all(seats[2].data()).expect("removed");
    let blocked: Vec<PathBuf> = (0..SHARDS)
        .map(|shard| seats[2].data().join(format!("history/_state/{shard:05}.part")))
        .collect();
    for path in &blocked {
        std::fs::create_dir_all(path).expect("a folder");
    }
    nodes.insert(3, seats[2].start());
    wait_until_settled(&nodes[&3], 3);
    wait_until("node 3 owns a shard", || (owned(&nodes[&3], 3) > 0).then_some(()));
    assert!(begins_later(&nodes[&3]), "the test shows nothing");
    feed(&nodes[&3], 3 * part, 4 * part);

    // It owns shards now, and waits with what it cannot send yet, and with all that comes after it.
    fake.set_down(false);
    let over = support::example::now_ms() + 6_000;
    wait_until("some time passes", || {
        (support::example::now_ms() > over).then_some(())
    });
    assert!(
        in_warehouse(&fake).1 < rows_of(4 * part),
        "the test shows nothing"
    );
    for channel in channels(&nodes[&3]) {
        assert_eq!(channel["missing"], json!([]), "{channel}");
    }
    for path in &blocked {
        std::fs::remove_dir(path).expect("removed");
    }
    wait_until("the warehouse has all", || {
        let (ids, rows) = in_warehouse(&fake);
        assert!(rows <= rows_of(4 * part), "{rows} rows");
        (ids.len() == rows_of(4 * part)).then_some(())
    });
    assert_eq!(in_warehouse(&fake).1, rows_of(4 * part));
    assert_eq!(fake.violations(), Vec::<String>::new());

    for node in nodes.values() {
        assert_eq!(node.call(&Request::post("/v1/history/write", "{}")).status, 200);
        for machine in 0..MACHINES {
            wait_until("the history has all", || {
                let counted = counted(node, machine);
                let wanted = (4 * part / MACHINES) as usize;
                assert!(counted <= wanted, "{counted} values of {wanted}");
                (counted == wanted).then_some(())
            });
        }
    }
}

#[test]
fn the_owner_sends_and_the_next_one_goes_on() {
    let fake = Snowpipe::start(12);
    let (_plant, seats, mut nodes) = start(&fake, "takeover_after_s = 3600\n");
    let part = IN_A_REQUEST * 4;
    let mut sent = 0;
    for victim in [1, 2, 3, 1] {
        let through = &nodes[&(victim % 3 + 1)];
        feed(through, sent, sent + part);
        sent += part;
        wait_until("the warehouse has it", || {
            let (_, rows) = in_warehouse(&fake);
            assert!(rows <= rows_of(sent), "{rows} rows");
            (rows == rows_of(sent)).then_some(())
        });
        nodes.remove(&victim).expect("it runs").kill();
        nodes.insert(victim, seats[victim - 1].start());
        wait_until_settled(&nodes[&victim], 3);
    }
    let (ids, rows) = in_warehouse(&fake);
    assert_eq!((ids.len(), rows), (rows_of(sent), rows_of(sent)));
    assert_eq!(fake.violations(), Vec::<String>::new());
    // One node of three sends a shard's rows; nobody has taken a channel from its owner.
    for node in nodes.values() {
        for channel in node.list("/v1/checkpoints") {
            assert_ne!(channel["state"], "fenced", "{channel}");
        }
    }
}
