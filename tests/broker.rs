//! gemba behind a real broker: mosquitto between the devices and the node.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{fmt::Write as _, fs, path::Path};

use support::{Broker, Node, free_port, wait_until};

/// A configuration with one broker and the three decoders.
fn config(folder: &Path, port: u16) -> String {
    let path = folder.join("gemba.toml");
    let mut text = format!(
        "[[broker]]\nname = \"plant\"\nurl = \"mqtt://127.0.0.1:{port}\"\nclient_id = \"gemba-test\"\ntenant = \"default\"\n"
    );
    for (topic, decoder) in [
        ("gemba/v1/default/#", "native"),
        ("application/+/device/+/event/+", "chirpstack"),
        ("v3/+/devices/+/up", "things_stack"),
    ] {
        write!(
            text,
            "[[broker.subscriptions]]\ntopic = \"{topic}\"\nqos = 1\ndecoder = \"{decoder}\"\n"
        )
        .expect("written");
    }
    fs::write(&path, text).expect("a configuration");
    path.display().to_string()
}

/// The twin, as soon as it is there.
fn twin(node: &Node, path: &str) -> serde_json::Value {
    let url = format!("/v1/twins/{path}");
    wait_until(path, || {
        let (status, body) = support::request(node.http, "GET", &url, &[], b"");
        (status == 200).then(|| serde_json::from_slice(&body).expect("JSON"))
    })
}

#[test]
fn messages_of_three_formats_reach_the_right_twins() {
    let (folder, broker_folder) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let broker = Broker::start(broker_folder.path());
    let config = config(folder.path(), broker.port);
    let node = Node::start(&folder.path().join("data"), &["--config", &config]);
    // The broker keeps what comes before the node has subscribed only for sessions it knows, so wait for ours.
    wait_until("the subscription", || {
        broker.publish(
            "gemba/v1/default/readings/probe",
            br#"{"sensor_id":"probe","metrics":{"probe":1}}"#,
        );
        let (status, _) = support::request(node.http, "GET", "/v1/twins/machine/probe", &[], b"");
        (status == 200).then_some(())
    });

    broker.publish(
        "gemba/v1/default/readings/cnc-07",
        br#"{"sensor_id":"cnc-07","sensor_type":"MACHINE","message_id":"n-1","metrics":{"execution":"producing","cycle_count":7}}"#,
    );
    broker.publish(
        "gemba/v1/default/scans/gate-1",
        br#"{"job_id":"job-4711","location":"cell-2","message_id":"s-1","operator_id":"op-3"}"#,
    );
    broker.publish(
        "application/17c82e96-be03-4f38-aef3-f83d48582d97/device/24e124710b141234/event/up",
        include_bytes!("../runtime/tests/samples/chirpstack_v4_up.json"),
    );
    broker.publish(
        "v3/app1@tenant1/devices/dev1/up",
        include_bytes!("../runtime/tests/samples/tts_v3_uplink.json"),
    );

    let machine = twin(&node, "machine/cnc-07");
    assert_eq!(machine["state"]["execution"], "producing");
    assert_eq!(machine["state"]["metrics"]["cycle_count"]["value"], 7.0);
    let job = twin(&node, "job/job-4711");
    assert_eq!(job["state"]["location"], "cell-2");
    wait_until("the job's location", || {
        let (status, body) = support::request(node.http, "GET", "/v1/twins/location/cell-2", &[], b"");
        let location: serde_json::Value = serde_json::from_slice(&body).ok()?;
        (status == 200 && location["kpis"]["wip"] == 1.0).then_some(())
    });
    let air = wait_until("the air of the location", || {
        let location = twin(&node, "location/cell-2");
        location["state"]["metrics"]["co2_ppm"]["value"]
            .as_f64()
            .or(location["state"]["metrics"]["co2"]["value"].as_f64())
    });
    assert!(air > 0.0);
    let things_stack = twin(&node, "machine/0004a30b001c0530");
    assert_eq!(things_stack["state"]["metrics"]["temperature"]["value"], 1.0);
    wait_until("all four messages", || {
        let counts = node.counts_that_add_up();
        (counts.applied + counts.late >= 5 && counts.rejected == 0).then_some(())
    });
    assert!(node.stop());
}

#[test]
fn what_the_broker_keeps_while_the_node_is_down_arrives_once() {
    let (folder, broker_folder) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let broker = Broker::start(broker_folder.path());
    let config = config(folder.path(), broker.port);
    let (data, http, mqtt) = (folder.path().join("data"), free_port(), free_port());
    let message = |number: u32| {
        format!(
            r#"{{"sensor_id":"press-1","message_id":"m-{number}","metrics":{{"execution":"producing","stroke":{number}}}}}"#
        )
    };
    let mut node = Node::start_on(&data, http, mqtt, &["--config", &config]);
    broker.publish("gemba/v1/default/readings/press-1", message(0).as_bytes());
    twin(&node, "machine/press-1");
    for number in 1..=30 {
        if number % 10 == 0 {
            node.kill();
            broker.publish("gemba/v1/default/readings/press-1", message(number).as_bytes());
            node = Node::start_on(&data, http, mqtt, &["--config", &config]);
        } else {
            broker.publish("gemba/v1/default/readings/press-1", message(number).as_bytes());
        }
    }
    wait_until("31 messages", || {
        let history = node.get("/v1/twins/machine/press-1/history?metric=stroke&step=1d");
        let count: u64 = history
            .as_array()?
            .iter()
            .filter_map(|point| point["count"].as_u64())
            .sum();
        assert!(count <= 31, "{count} values of 31 messages");
        (count == 31).then_some(())
    });
    assert!(node.stop());
}
