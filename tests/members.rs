//! Who may be a member of a cluster, and how nodes come and go.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use support::{
    Node,
    cluster::{hashes, seats, wait_until_settled},
    command::{Said, command, gemba, run},
    free_port, request, wait_until,
};

/// Runs a node that should not become a member, to its end.
fn refused(data: &Path, certs: &str, number: usize, more: &[&str]) -> Said {
    let (http, listen) = (
        format!("127.0.0.1:{}", free_port()),
        format!("127.0.0.1:{}", free_port()),
    );
    let (data, number) = (data.display().to_string(), number.to_string());
    let mut arguments = vec!["serve", "--data-dir", &data, "--http", &http, "--mqtt", "off"];
    arguments.extend([
        "--cluster-listen",
        &listen,
        "--cluster-certs",
        certs,
        "--cluster-node",
        &number,
    ]);
    arguments.extend(more);
    run(&mut command(&arguments))
}

#[test]
fn who_does_not_belong_to_the_cluster_is_told_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let seats = seats(folder.path(), 2);
    let nodes: Vec<Node> = seats.iter().map(|seat| seat.start()).collect();
    wait_until_settled(&nodes[0], 2);
    let certs = folder.path().join("certs").display().to_string();
    let member = format!("127.0.0.1:{}", seats[0].port);
    let at = |name: &str| folder.path().join(name);

    let said = refused(&at("twin-of-2"), &certs, 2, &["--join", &member]);
    assert_eq!(said.status, 1);
    assert!(said.err.contains("node 2 is a member already"), "{}", said.err);

    let said = refused(&at("nobody"), &certs, 1, &[]);
    assert_eq!(said.status, 1);
    assert!(said.err.contains("is of no cluster"), "{}", said.err);

    // A node that has been alone has data of its own.
    let alone = Node::start(&at("alone"), &[]);
    assert_eq!(
        alone
            .post(
                "/v1/readings",
                "application/json",
                br#"{"sensor_id":"m","metrics":{"a":1}}"#
            )
            .0,
        200
    );
    assert!(alone.stop());
    let made = gemba(&["certs", "--cluster", "plant", "--node", "9", "--out", &certs]);
    assert_eq!(made.status, 0, "{}", made.err);
    let said = refused(&at("alone"), &certs, 9, &["--join", &member]);
    assert_eq!(said.status, 1);
    assert!(
        said.err.contains("records of a node that was alone"),
        "{}",
        said.err
    );

    let other = at("other-certs").display().to_string();
    assert_eq!(
        gemba(&["certs", "--cluster", "other", "--nodes", "3", "--out", &other]).status,
        0
    );
    let said = refused(seats[1].data(), &other, 2, &[]);
    assert_eq!(said.status, 1, "a folder of another cluster, or in use");
    assert!(!said.err.is_empty());

    // A member's folder is not started as if it were alone.
    let mut nodes = nodes;
    assert!(nodes.pop().expect("the second").stop());
    let data = seats[1].data().display().to_string();
    let said = gemba(&[
        "serve",
        "--data-dir",
        &data,
        "--http",
        &format!("127.0.0.1:{}", free_port()),
        "--mqtt",
        "off",
    ]);
    assert_eq!(said.status, 1);
    assert!(said.err.contains("of a member of a cluster"), "{}", said.err);
    let said = refused(seats[1].data(), &other, 2, &[]);
    assert_eq!(said.status, 1);
    assert!(said.err.contains("cluster \"plant\""), "{}", said.err);
}

/// Bytes that a node has received from others.
fn received(node: &Node) -> u64 {
    let (_, metrics) = request(node.http, "GET", "/metrics", &[], b"");
    let text = String::from_utf8_lossy(&metrics).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("cluster_received_bytes_total "));
    line.and_then(|value| value.parse().ok())
        .expect("the node counts what it receives")
}

/// Which node keeps a copy of which shard of twins.
fn copies(view: &Value) -> BTreeSet<(String, u64)> {
    let shards = view["shards"].as_array().expect("shards").iter();
    shards
        .filter_map(|shard| Some((shard["shard"].as_str()?, shard["members"].as_array()?)))
        .filter(|(shard, _)| shard.parse::<u16>().is_ok())
        .flat_map(|(shard, members)| {
            members
                .iter()
                .map(move |node| (shard.to_owned(), node.as_u64().expect("a node")))
        })
        .collect()
}

#[test]
fn a_cluster_grows_and_shrinks_while_messages_come_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let seats = seats(folder.path(), 5);
    let mut nodes = vec![seats[0].start()];
    let (over, http) = (Arc::new(AtomicBool::new(false)), seats[0].http);
    let sender = {
        let over = over.clone();
        std::thread::spawn(move || {
            let (mut sent, mut again) = (0_u64, 0_u64);
            while !over.load(Ordering::Acquire) {
                sent += 1;
                let machine = format!("m-{}", sent % 32);
                let body = json!({"sensor_id": machine, "message_id": sent.to_string(), "metrics": {"sequence": sent}}).to_string();
                loop {
                    let (status, answer) = request(http, "POST", "/v1/readings", &[], body.as_bytes());
                    match status {
                        200 => break,
                        503 | 429 => {
                            again += 1;
                            std::thread::park_timeout(std::time::Duration::from_millis(50));
                        }
                        _ => panic!("{status}: {}", String::from_utf8_lossy(&answer)),
                    }
                }
            }
            (sent, again)
        })
    };
    for seat in &seats[1..3] {
        nodes.push(seat.start());
    }
    let three = copies(&wait_until_settled(&nodes[0], 3));
    for seat in &seats[3..] {
        nodes.push(seat.start());
    }
    let five = copies(&wait_until_settled(&nodes[0], 5));
    let came: Vec<u64> = nodes[3..].iter().map(received).collect();
    for number in [5, 4] {
        let url = format!("http://127.0.0.1:{http}");
        let drained = gemba(&["drain", &number.to_string(), "--url", &url]);
        assert_eq!(drained.status, 0, "{} {}", drained.out, drained.err);
        assert!(nodes.pop().expect("the last one").stop());
    }
    let again_three = copies(&wait_until_settled(&nodes[0], 3));
    // Five copies are wanted: every shard goes to both new nodes, and none moves when these leave.
    let out = five.difference(&three).count();
    let back = again_three.difference(&five).count();
    println!(
        "{out} copies moved from three nodes to five (32 at least), which received {came:?} bytes, with all that came in \
         meanwhile; {back} moved when they left (0 at least)"
    );
    assert_eq!((three.len(), out, back, again_three.len()), (48, 32, 0, 48));
    over.store(true, Ordering::Release);
    let (sent, again) = sender.join().expect("the sender");
    println!("{sent} messages, {again} sent again after a 503");
    for node in &nodes {
        let found = node.list("/v1/twins?filter=kind%3D%3D'machine'&limit=1000");
        assert_eq!(found.len(), usize::try_from(sent.min(32)).expect("few"));
        let revs = found.iter().map(|twin| {
            let path = format!(
                "/v1/{}/events?limit=1000",
                twin["twin"]
                    .as_str()
                    .map(|twin| format!("twins/{twin}"))
                    .expect("its name")
            );
            let events = node.list(&path);
            events
                .iter()
                .filter(|event| event["message_id"].as_str().is_some_and(|id| !id.is_empty()))
                .count() as u64
        });
        // A node that joined late has no events of before; the first one has all.
        let journaled: u64 = revs.sum();
        assert!(journaled <= sent);
        if node.http == http {
            assert_eq!(journaled, sent, "each once");
        }
    }
    wait_until("all replicas are alike", || {
        let all: Vec<_> = nodes.iter().map(hashes).collect();
        (all[0] == all[1] && all[1] == all[2]).then_some(())
    });
}
