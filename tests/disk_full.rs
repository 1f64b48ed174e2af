//! A disk that is full: what cannot be kept is refused, reads go on, and the node resumes without a restart.
//!
//! The process's limit on the size of its files stands for the disk: writes past it fail, and it can be raised again.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{collections::BTreeSet, fmt::Write as _, process::Command};

use support::{Node, request, wait_until};

const BATCH: u64 = 500;

fn limit_files(node: &Node, limit: &str) {
    let status = Command::new("prlimit")
        .args([
            "--pid",
            &node.pid().to_string(),
            &format!("--fsize={limit}:unlimited"),
        ])
        .status()
        .expect("prlimit runs");
    assert!(status.success());
}

fn batch(number: u64) -> String {
    let mut text = String::new();
    let filler = "x".repeat(200);
    for index in 0..BATCH {
        let id = number * BATCH + index;
        writeln!(
            text,
            r#"{{"sensor_id":"press-{}","sensor_type":"MACHINE","message_id":"m-{id}","metrics":{{"stroke":{id},"note":"{filler}"}}}}"#,
            id % 20
        )
        .expect("written");
    }
    text
}

/// Sends a batch; answers whether it was acknowledged.
fn send(node: &Node, number: u64) -> bool {
    let (status, answer) = node.post("/v1/readings", "application/x-ndjson", batch(number).as_bytes());
    match status {
        200 => {
            let taken = answer["accepted"].as_u64().expect("a count")
                + answer["duplicates"].as_u64().expect("a count");
            assert_eq!(taken, BATCH, "{answer}");
            true
        }
        503 => {
            assert_eq!(answer["code"], "storage.unavailable", "{answer}");
            false
        }
        _ => panic!("{status}: {answer}"),
    }
}

fn held(node: &Node) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for press in 0..20 {
        for event in node.list(&format!("/v1/twins/machine/press-{press}/events?limit=1000")) {
            let id = event["message_id"].as_str().expect("an id").to_owned();
            assert!(ids.insert(id), "counted twice: {event}");
        }
    }
    ids
}

#[test]
fn a_full_disk_is_refused_and_the_node_resumes() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), &[]);
    let mut acknowledged = BTreeSet::new();
    for number in 0..4 {
        assert!(send(&node, number));
        acknowledged.insert(number);
    }
    limit_files(&node, "6000000");
    let mut number = 4;
    while send(&node, number) {
        acknowledged.insert(number);
        number += 1;
        assert!(number < 1_000, "the disk never filled up");
    }
    // Refused; what was there can be read, and the probes say how it is.
    for _ in 0..20 {
        assert!(!send(&node, number));
        assert_eq!(node.list("/v1/twins?kind=machine").len(), 20);
    }
    assert_eq!(request(node.http, "GET", "/readyz", &[], b"").0, 503);
    assert_eq!(request(node.http, "GET", "/livez", &[], b"").0, 200);
    node.counts_that_add_up();

    limit_files(&node, "unlimited");
    wait_until("the node to resume", || send(&node, number).then_some(()));
    acknowledged.insert(number);
    for number in number + 1..number + 5 {
        assert!(send(&node, number));
        acknowledged.insert(number);
    }
    wait_until("readiness", || {
        (request(node.http, "GET", "/readyz", &[], b"").0 == 200).then_some(())
    });
    let wanted: BTreeSet<String> = acknowledged
        .iter()
        .flat_map(|number| number * BATCH..(number + 1) * BATCH)
        .map(|id| format!("m-{id}"))
        .collect();
    assert_eq!(held(&node), wanted);
    node.counts_that_add_up();
    node.kill();
    let node = Node::start(folder.path(), &[]);
    assert_eq!(held(&node), wanted);
    assert!(node.stop());
}
