//! Three nodes behind one real broker: they share its messages where it can, and one node holds the session where it
//! cannot. Each message counts once, also when the node that holds it is killed.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{collections::BTreeMap, path::Path};

use support::{
    Broker, Node,
    cluster::{Seat, seats, wait_until_settled},
    request, wait_until,
};

/// Three nodes of one configuration: a broker, and a topic.
fn start(folder: &Path, broker: &Broker, topic: &str) -> (Vec<Seat>, BTreeMap<usize, Node>) {
    let config = folder.join("gemba.toml");
    let text = format!(
        "[[broker]]\nname = \"plant\"\nurl = \"mqtt://127.0.0.1:{}\"\ntenant = \"default\"\n\
         [[broker.subscriptions]]\ntopic = \"{topic}\"\nqos = 1\ndecoder = \"native\"\n",
        broker.port
    );
    std::fs::write(&config, text).expect("a configuration");
    let mut seats = seats(folder, 3);
    for seat in &mut seats {
        seat.config = Some(config.display().to_string());
    }
    let nodes: BTreeMap<usize, Node> = seats.iter().map(|seat| (seat.number, seat.start())).collect();
    wait_until_settled(&nodes[&1], 3);
    (seats, nodes)
}

/// The nodes that are connected to the broker.
fn connected(nodes: &BTreeMap<usize, Node>) -> Vec<usize> {
    let is_connected = |node: &Node| {
        let (status, body) = request(node.http, "GET", "/metrics", &[], b"");
        assert_eq!(status, 200);
        let text = String::from_utf8_lossy(&body).into_owned();
        text.lines()
            .any(|line| line.contains("broker_connected{") && line.ends_with(" 1"))
    };
    let there = nodes.iter().filter(|(_, node)| is_connected(node));
    there.map(|(number, _)| *number).collect()
}

/// Publishes strokes of a press. Without an id nothing but the broker's acknowledgement keeps one from counting twice.
fn publish(broker: &Broker, numbers: std::ops::Range<u32>, have_ids: bool) {
    for number in numbers {
        let id = if have_ids {
            format!(r#""message_id":"m-{number}","#)
        } else {
            String::new()
        };
        let message = format!(r#"{{"sensor_id":"press-1",{id}"metrics":{{"stroke":{number}}}}}"#);
        broker.publish("gemba/v1/default/readings/press-1", message.as_bytes());
    }
}

/// Values of the press that were counted, as one node tells; 0 while it does not know the press.
fn counted(node: &Node) -> u64 {
    let path = "/v1/twins/machine/press-1/history?metric=stroke&step=1d";
    let (status, body) = request(node.http, "GET", path, &[], b"");
    if status != 200 {
        return 0;
    }
    let history: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let points = history.as_array().expect("points").iter();
    points.filter_map(|point| point["count"].as_u64()).sum()
}

/// Waits until so many values are counted, and looks again a little later that it stays so.
fn wait_until_counted(nodes: &BTreeMap<usize, Node>, wanted: u64) {
    for node in nodes.values() {
        wait_until("the values are counted", || {
            let counted = counted(node);
            assert!(counted <= wanted, "{counted} values of {wanted} messages");
            (counted == wanted).then_some(())
        });
    }
    std::thread::park_timeout(std::time::Duration::from_millis(500));
    for node in nodes.values() {
        assert_eq!(counted(node), wanted);
    }
}

#[test]
fn one_node_holds_a_session_that_cannot_be_shared() {
    let (folder, broker_folder) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let broker = Broker::start(broker_folder.path());
    let (seats, mut nodes) = start(folder.path(), &broker, "gemba/v1/default/#");
    let holder = wait_until("one node holds the session", || match connected(&nodes)[..] {
        [holder] => Some(holder),
        _ => None,
    });
    publish(&broker, 0..60, false);
    wait_until_counted(&nodes, 60);

    nodes.remove(&holder).expect("it runs").kill();
    publish(&broker, 60..100, true);
    wait_until("another node holds it", || {
        let next = connected(&nodes);
        assert!(next.len() <= 1, "{next:?} hold one session");
        next.first().map(drop)
    });
    wait_until_counted(&nodes, 100);

    // It comes back, and does not take the session from whoever holds it.
    nodes.insert(holder, seats[holder - 1].start());
    publish(&broker, 100..120, true);
    wait_until_counted(&nodes, 120);
    wait_until("one holder", || (connected(&nodes).len() == 1).then_some(()));
}

#[test]
fn shared_messages_are_spread_over_the_nodes() {
    let (folder, broker_folder) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let broker = Broker::start(broker_folder.path());
    let (seats, mut nodes) = start(folder.path(), &broker, "$share/gemba/gemba/v1/default/#");
    wait_until("all nodes are subscribed", || {
        (connected(&nodes).len() == 3).then_some(())
    });
    publish(&broker, 0..90, false);
    wait_until_counted(&nodes, 90);
    let received: Vec<u64> = nodes
        .values()
        .map(|node| node.counts_that_add_up().received)
        .collect();
    assert!(
        received.iter().all(|received| *received >= 15),
        "the nodes took {received:?} of 90 messages"
    );

    // What the broker has given to one node waits for it, or goes to the others.
    nodes.remove(&2).expect("it runs").kill();
    publish(&broker, 90..150, true);
    nodes.insert(2, seats[1].start());
    publish(&broker, 150..180, true);
    wait_until_counted(&nodes, 180);
}
