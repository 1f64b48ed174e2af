//! Three real nodes that are one: what comes in at any of them is read at every other one, and a node that was alone
//! takes its data with it.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use support::{
    Node,
    cluster::{hashes, seats, wait_until_settled},
    command::{command, run},
    device::{Pace, publish_until},
    http::Request,
    socket::Socket,
    wait_until,
};

const PLANT: &str = "site: {id: plant-1}\nlocations: [{id: cell-1}, {id: cell-2}]\n\
                     machines: [{id: cnc-1, name: Mazak 01, location: cell-1, metrics: [{name: temp_c, unit: Cel}]},\n\
                                {id: cnc-2, location: cell-2}]\n\
                     alarms: [{id: hot, applies_to: machine, condition: metrics.temp_c > 90}]\n";

fn post(node: &Node, path: &str, message: &Value) {
    let answer = node.call(&Request::post(path, message.to_string()));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn temp(node: &Node, machine: &str) -> Value {
    node.get(&format!("/v1/twins/machine/{machine}"))["state"]["metrics"]["temp_c"]["value"].clone()
}

#[test]
fn what_comes_in_at_any_node_is_read_at_every_other_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let seats = seats(folder.path(), 3);
    // The first node has been alone for a while.
    let alone = Node::start_on(seats[0].data(), seats[0].http, seats[0].mqtt, &[]);
    for number in 0..40 {
        let reading = json!({"sensor_id": format!("old-{number}"), "metrics": {"temp_c": number}});
        post(&alone, "/v1/readings", &reading);
    }
    assert_eq!(alone.get("/v1/cluster")["cluster"], Value::Null);
    alone.kill();

    let nodes: Vec<Node> = seats.iter().map(|seat| seat.start()).collect();
    let view = wait_until_settled(&nodes[2], 3);
    assert_eq!(view["cluster"], "plant");
    assert_eq!(view["nodes"].as_array().expect("nodes").len(), 3);
    for node in &nodes {
        for number in 0..40 {
            assert_eq!(
                temp(node, &format!("old-{number}")),
                json!(f64::from(number)),
                "what it had before"
            );
        }
    }

    // Each write at one node is seen by the very next read at another one.
    for round in 0..30 {
        let (at, then) = (&nodes[round % 3], &nodes[(round + 1) % 3]);
        let machine = format!("m-{}", round % 7);
        post(
            at,
            "/v1/readings",
            &json!({"sensor_id": machine, "metrics": {"temp_c": round}}),
        );
        assert_eq!(temp(then, &machine), json!(round as f64), "round {round}");
        let found = then.list(&format!(
            "/v1/twins?filter=state.metrics.temp_c.value%3D%3D{round}.0"
        ));
        assert!(
            found
                .iter()
                .any(|twin| twin["twin"] == format!("machine/{machine}")),
            "round {round}: {found:?}"
        );
    }
    let applied = nodes[1].call(&Request::new("PUT", "/v1/plant").body(PLANT));
    assert_eq!(applied.status, 200, "{}", applied.text());
    for node in &nodes {
        assert_eq!(node.get("/v1/plant")["version"], 1);
    }
    // Its alarms cross shards, its twins too.
    post(
        &nodes[2],
        "/v1/readings",
        &json!({"sensor_id": "cnc-1", "metrics": {"temp_c": 95}}),
    );
    for node in &nodes {
        wait_until("the alarm", || (node.list("/v1/alarms").len() == 1).then_some(()));
    }
    let acked = nodes[0].call(&Request::post(
        "/v1/alarms/machine:cnc-1:hot/ack",
        r#"{"comment":"seen"}"#,
    ));
    assert_eq!(acked.status, 200, "{}", acked.text());
    assert_eq!(
        nodes[1].get("/v1/alarms/machine:cnc-1:hot")["state"],
        "acknowledged_active"
    );
    let patched = nodes[2].call(
        &Request::new("PATCH", "/v1/twins/machine/cnc-2/attributes")
            .header("content-type", "application/merge-patch+json")
            .body(r#"{"note":"by the third"}"#),
    );
    assert_eq!(patched.status, 200, "{}", patched.text());
    let seen = nodes[0].get("/v1/twins/machine/cnc-2");
    assert_eq!(seen["attributes"]["note"], "by the third");

    // A subscription at one node hears of what comes in at another.
    let mut socket = Socket::open(seats[0].http);
    socket.say(&json!({"type": "subscribe", "id": "s1", "filter": "id == 'm-1'"}));
    socket.wait_for("live");
    post(
        &nodes[1],
        "/v1/readings",
        &json!({"sensor_id": "m-1", "metrics": {"temp_c": 777}}),
    );
    let change = socket.wait_for("change");
    assert_eq!(
        change["patch"]["state"]["metrics"]["temp_c"]["value"],
        json!(777.0)
    );

    // Jobs tell locations of other shards.
    for (at, location) in ["cell-1", "cell-2", "cell-1"].into_iter().enumerate() {
        let scan = json!({"job_id": "job-1", "location": location, "message_id": format!("scan-{at}")});
        post(&nodes[at], "/v1/scans", &scan);
    }
    for node in &nodes {
        assert_eq!(node.get("/v1/twins/job/job-1")["state"]["location"], "cell-1");
        wait_until("the cell knows of the job", || {
            let cell = node.get("/v1/twins/location/cell-1");
            (cell["kpis"]["wip"] == json!(1.0) || cell["kpis"]["wip"] == 1).then_some(())
        });
    }

    // Devices speak MQTT to all nodes.
    let pace = Pace::default();
    pace.allowed.store(600, Ordering::Release);
    let diaries: Vec<_> = std::thread::scope(|scope| {
        let pace = &pace;
        let devices: Vec<_> = seats
            .iter()
            .map(|seat| {
                scope.spawn(move || publish_until(pace, seat.mqtt, &format!("device-{}", seat.number)))
            })
            .collect();
        wait_until("600 messages", || {
            (pace.acknowledged.load(Ordering::Acquire) >= 600).then_some(())
        });
        pace.stop.store(true, Ordering::Release);
        devices
            .into_iter()
            .map(|device| device.join().expect("a device"))
            .collect()
    });
    for (node, diary) in nodes.iter().rev().zip(&diaries) {
        let events = node.list(&format!("/v1/twins/machine/{}/events?limit=1000", diary.sensor));
        assert_eq!(events.len(), diary.acknowledged.len());
    }
    for node in &nodes {
        node.counts_that_add_up();
    }

    // All replicas came to the same.
    let all = wait_until("all replicas are alike", || {
        let all: Vec<_> = nodes.iter().map(hashes).collect();
        (all[0] == all[1] && all[1] == all[2]).then_some(all)
    });
    assert_eq!(all[0].len(), 16);

    let said =
        run(command(&["nodes", "--url", &format!("http://127.0.0.1:{}", seats[1].http)]).env("GEMBA_X", ""));
    assert_eq!(said.status, 0, "{}", said.err);
    assert_eq!(said.out.lines().count(), 4, "{}", said.out);

    // A node that is stopped and started again goes on where it was, and hands over what it owned.
    let mut nodes = nodes;
    assert!(nodes.remove(0).stop());
    post(
        &nodes[0],
        "/v1/readings",
        &json!({"sensor_id": "m-2", "metrics": {"temp_c": 888}}),
    );
    let back = seats[0].start();
    assert_eq!(temp(&back, "m-2"), json!(888.0));
}
