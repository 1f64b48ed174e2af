//! The life of an alarm as a person sees it: raised by readings, listed, acknowledged and cleared, over HTTP and from
//! the command line, with the node killed in between.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use serde_json::{Value, json};
use support::{Node, command::gemba, http::Request, wait_until};

const PLANT: &str = r#"
machines:
  - {id: cnc-07, metrics: [{name: spindle_temp_c, unit: "°C"}]}
  - {id: cnc-08, metrics: [{name: door}]}
alarms:
  - id: spindle_hot
    applies_to: {kind: machine, ids: [cnc-07]}
    condition: metrics.spindle_temp_c > 80 && state.execution == "producing"
    priority: high
    text: Spindle too hot
    deadband: 2
  - {id: door, applies_to: machine, condition: metrics.door == true, latching: true, priority: low, on_delay: 1s}
  - {id: silent, applies_to: machine, stale: 1s, priority: urgent, suppressed_by: 'state.execution == "idle"'}
"#;
const HOT: &str = "machine:cnc-07:spindle_hot";

fn send(node: &Node, sensor: &str, metrics: &Value) {
    let reading = json!({"sensor_id": sensor, "metrics": metrics});
    let answer = node.call(&Request::post("/v1/readings", reading.to_string()));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn plant(node: &Node) {
    let answer = node.call(&Request::new("PUT", "/v1/plant").body(PLANT));
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_until("the machines know their rules", || {
        (node.list("/v1/alarms?state=all").len() == 5).then_some(())
    });
}

fn state(node: &Node, id: &str) -> String {
    let alarm = node.get(&format!("/v1/alarms/{id}"));
    alarm["state"].as_str().expect("a state").to_owned()
}

fn becomes(node: &Node, id: &str, wanted: &str) {
    wait_until(&format!("{id} becomes {wanted}"), || {
        (state(node, id) == wanted).then_some(())
    });
}

fn say(node: &Node, id: &str, what: &str, body: &str) -> support::http::Answer {
    node.call(&Request::post(&format!("/v1/alarms/{id}/{what}"), body))
}

fn ids(node: &Node, query: &str) -> Vec<String> {
    let items = node.list(&format!("/v1/alarms{query}"));
    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[test]
fn an_alarm_is_raised_acknowledged_and_cleared_and_survives_a_crash_on_its_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), &[]);
    plant(&node);
    send(
        &node,
        "cnc-07",
        &json!({"execution": "idle", "spindle_temp_c": 85}),
    );
    assert_eq!(state(&node, HOT), "normal", "it is hot, and idle");
    send(
        &node,
        "cnc-07",
        &json!({"execution": "producing", "spindle_temp_c": 85.5}),
    );
    assert_eq!(state(&node, HOT), "unacknowledged_active");
    let twin = node.get("/v1/twins/machine/cnc-07");
    assert_eq!(
        (&twin["alarms"]["active"], &twin["alarms"]["highest_severity"]),
        (&json!(1), &json!("high"))
    );
    assert_eq!(
        node.list("/v1/twins?filter=alarms.unacknowledged%20%3E%200")
            .len(),
        1
    );
    assert_eq!(ids(&node, "?priority=high,urgent&state=active"), [HOT]);

    // A crash forgets nothing of it.
    let (http, mqtt) = (node.http, node.mqtt);
    node.kill();
    let node = Node::start_on(folder.path(), http, mqtt, &[]);
    assert_eq!(state(&node, HOT), "unacknowledged_active");

    let mismatch = Request::post(&format!("/v1/alarms/{HOT}/ack"), "").header("if-match", "\"normal\"");
    node.call(&mismatch).problem(412, "alarm.state_mismatch");
    let acknowledged = say(&node, HOT, "ack", r#"{"comment":"on my way"}"#);
    assert_eq!(acknowledged.status, 200, "{}", acknowledged.text());
    assert_eq!(acknowledged.json()["comment"], "on my way");
    assert_eq!(acknowledged.json()["state"], "acknowledged_active");
    let detail = say(&node, HOT, "ack", "").problem(409, "alarm.not_unacknowledged");
    assert!(detail.contains("acknowledged_active"), "{detail}");
    send(
        &node,
        "cnc-07",
        &json!({"execution": "producing", "spindle_temp_c": 79}),
    );
    assert_eq!(state(&node, HOT), "acknowledged_active", "within the deadband");
    send(
        &node,
        "cnc-07",
        &json!({"execution": "producing", "spindle_temp_c": 77}),
    );
    assert_eq!(state(&node, HOT), "normal");

    let words = |path: &str| -> Vec<String> {
        let items = node.list(path);
        items
            .iter()
            .map(|item| item["what"].as_str().expect("a word").to_owned())
            .collect()
    };
    let known = words(&format!("/v1/alarms/{HOT}/history"));
    assert_eq!(known, ["returned", "acknowledged", "raised"]);
    assert_eq!(
        words(&format!("/v1/alarms/{HOT}/history?from=2020-01-01T00:00:00Z")),
        known,
        "from the journal"
    );
    let events = node.list("/v1/twins/machine/cnc-07/events");
    assert!(
        events
            .iter()
            .any(|event| event["type"] == "alarm" && event["alarm"]["action"] == "acknowledged")
    );
    assert!(node.stop());
}

#[test]
fn time_alone_raises_and_shelves_end_even_if_the_node_was_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), &[]);
    plant(&node);
    let (door, silent) = ("machine:cnc-08:door", "machine:cnc-08:silent");
    send(&node, "cnc-08", &json!({"execution": "producing", "door": true}));
    assert_eq!(state(&node, door), "normal", "the delay is not over");
    becomes(&node, door, "unacknowledged_active");
    becomes(&node, silent, "unacknowledged_active");
    assert_eq!(
        say(&node, silent, "shelve", r#"{"for":"1s","comment":"known"}"#).status,
        200
    );
    assert_eq!(state(&node, silent), "shelved");
    // A stop writes the twin away; its time is up while nobody is there.
    let (http, mqtt) = (node.http, node.mqtt);
    assert!(node.stop());
    let node = Node::start_on(folder.path(), http, mqtt, &[]);
    becomes(&node, silent, "unacknowledged_active");
    send(&node, "cnc-08", &json!({"execution": "idle", "door": false}));
    assert_eq!(state(&node, silent), "suppressed");
    assert_eq!(state(&node, door), "latched_unacknowledged");
    say(&node, door, "reset", "").problem(409, "alarm.not_latched");
    assert_eq!(
        say(&node, door, "ack", "").json()["state"],
        "latched_acknowledged"
    );
    assert_eq!(say(&node, door, "reset", "").json()["state"], "normal");
    let figures = node.get("/v1/alarms/figures");
    assert_eq!(
        (&figures["active"], &figures["flood"]),
        (&json!(0), &json!(false))
    );
    for (id, body, status, code) in [
        ("nonsense", "", 400, "alarm.id_invalid"),
        ("machine:cnc-99:door", "", 404, "alarm.not_found"),
        ("machine:cnc-08:other", "", 404, "alarm.not_found"),
        (door, "{", 400, "json.malformed"),
        (door, r#"{"coment":"x"}"#, 400, "alarm.body_invalid"),
    ] {
        say(&node, id, "ack", body).problem(status, code);
    }
    say(&node, door, "shelve", "{}").problem(400, "alarm.body_invalid");
    node.call(&Request::get("/v1/alarms?state=hot"))
        .problem(400, "query.invalid");
}

#[test]
fn the_command_line_lists_acknowledges_and_tells_what_happened() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), &[]);
    plant(&node);
    let url = format!("http://127.0.0.1:{}", node.http);
    let run = |arguments: &[&str]| {
        let said = gemba(&[arguments, &["--url", &url]].concat());
        assert_eq!(said.status, 0, "{arguments:?}: {}", said.err);
        said.out
    };
    assert_eq!(run(&["alarms"]), "no alarm\n");
    send(
        &node,
        "cnc-07",
        &json!({"execution": "producing", "spindle_temp_c": 91.25}),
    );
    let list = run(&["alarms", "--state", "active"]);
    for part in [
        "high",
        "unacknowledged_active",
        HOT,
        "Spindle too hot",
        "spindle_temp_c 91.25",
    ] {
        assert!(list.contains(part), "{list}");
    }
    let said = run(&["alarms", "ack", HOT, "--comment", "on my way"]);
    assert!(said.contains("acknowledged_active"), "{said}");
    let said = run(&["alarms", "shelve", HOT, "--for", "30m"]);
    assert!(said.contains("shelved"), "{said}");
    run(&["alarms", "unshelve", HOT]);
    let history = run(&["alarms", "history", HOT]);
    assert!(
        history.contains("acknowledged by") && history.contains(": on my way"),
        "{history}"
    );
    let figures = run(&["alarms", "figures"]);
    assert!(
        figures.starts_with("1 active, 0 unacknowledged, 0 shelved, 1 in 10 minutes"),
        "{figures}"
    );
    let refused = gemba(&["alarms", "ack", HOT, "--url", &url]);
    assert_eq!(refused.status, 1);
    assert!(
        refused.err.contains("alarm.not_unacknowledged"),
        "{}",
        refused.err
    );
}
