//! `GET /v1/stream` of a running node: whoever merges what they are told has what the twins are, also after the
//! connection or the node was gone, and nobody suffers from one who does not read.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};
use support::{
    Node,
    command::keys,
    http::{Request, connect, encoded},
    socket::{Follower, Socket, without_nulls},
    wait_until,
};

fn node() -> (tempfile::TempDir, Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), &[]);
    (folder, node)
}

fn send(node: &Node, sensor: &str, metrics: &Value) {
    let reading = json!({"sensor_id": sensor, "metrics": metrics});
    let answer = node.call(&Request::post("/v1/readings", reading.to_string()));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn twin_of(node: &Node, machine: &str) -> Value {
    without_nulls(&node.get(&format!("/v1/twins/{machine}")))
}

fn all_machines() -> Value {
    json!({"type": "subscribe", "id": "s1", "filter": "kind == 'machine'"})
}

/// Takes frames until the follower has every machine's newest revision, and asserts that it has what the node shows.
fn assert_up_to_date(node: &Node, follower: &mut Follower) {
    let twins = node.list("/v1/twins?kind=machine");
    let newest = |follower: &Follower| {
        twins.iter().all(|twin| {
            let name = twin["twin"].as_str().expect("an address");
            follower.revisions.get(name) == twin["rev"].as_u64().as_ref()
        })
    };
    follower.until("the newest revisions", newest);
    let has: Vec<&Value> = follower.has.values().collect();
    let mut shown: Vec<Value> = twins.iter().map(without_nulls).collect();
    shown.sort_by(|a, b| a["twin"].as_str().cmp(&b["twin"].as_str()));
    assert_eq!(has, shown.iter().collect::<Vec<_>>());
}

#[test]
fn whoever_merges_what_they_are_told_has_what_the_twins_are() {
    let (_folder, node) = node();
    for machine in ["cnc-01", "cnc-02"] {
        send(&node, machine, &json!({"rpm": 1, "tool": "T1"}));
    }
    let mut follower = Socket::open(node.http).follow(&all_machines());
    assert_eq!(follower.socket.protocol.as_deref(), Some("gemba.v1"));
    let kinds: Vec<&str> = follower.told.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["subscribed", "snapshot", "snapshot", "live"]);
    for number in 0..40 {
        let execution = if number % 3 == 0 { "producing" } else { "idle" };
        send(
            &node,
            &format!("cnc-0{}", 1 + number % 3),
            &json!({"rpm": number, "execution": execution, "cycle_count": number}),
        );
        let attributes = json!({"note": if number % 2 == 0 { json!(number) } else { json!(null) }});
        let patch = Request::new("PATCH", "/v1/twins/machine/cnc-01/attributes");
        assert_eq!(node.call(&patch.body(attributes.to_string())).status, 200);
    }
    assert_up_to_date(&node, &mut follower);
    assert!(follower.count("change") > 0 && follower.count("lost") == 0);
    // The third machine came while the client followed: it entered, and was then changed.
    assert_eq!(
        follower
            .told
            .iter()
            .filter(|(kind, _)| kind == "enter")
            .collect::<Vec<_>>(),
        [&("enter".to_owned(), "machine/cnc-03".to_owned())]
    );
}

#[test]
fn a_client_is_told_the_fields_it_asked_for() {
    let (_folder, node) = node();
    send(&node, "cnc-01", &json!({"rpm": 1, "execution": "idle"}));
    let mut follower = Socket::open(node.http).follow(&json!({
        "type": "subscribe", "id": "s1", "fields": ["state.execution"], "max_rate_hz": 50
    }));
    assert_eq!(
        follower.has["machine/cnc-01"],
        json!({"state": {"execution": "idle"}})
    );
    send(&node, "cnc-01", &json!({"rpm": 2, "execution": "producing"}));
    follower.until("the change", |follower| follower.count("change") > 0);
    assert_eq!(
        follower.has["machine/cnc-01"],
        json!({"state": {"execution": "producing"}})
    );
}

#[test]
fn twins_enter_and_leave_as_the_filter_matches() {
    let (_folder, node) = node();
    send(&node, "cnc-01", &json!({"rpm": 50}));
    let filter = "kind == 'machine' && state.metrics.rpm.value > 100";
    let mut follower = Socket::open(node.http).follow(&json!({
        "type": "subscribe", "id": "s1", "filter": filter
    }));
    assert_eq!(follower.told[0].0, "subscribed");
    assert!(follower.has.is_empty());
    send(&node, "cnc-01", &json!({"rpm": 150}));
    follower.until("it enters", |follower| !follower.has.is_empty());
    assert_eq!(follower.has["machine/cnc-01"], twin_of(&node, "machine/cnc-01"));
    send(&node, "cnc-01", &json!({"rpm": 60}));
    follower.until("it leaves", |follower| follower.has.is_empty());
    let kinds: Vec<&str> = follower
        .told
        .iter()
        .map(|(kind, _)| kind.as_str())
        .filter(|kind| *kind != "live")
        .collect();
    assert_eq!(kinds, ["subscribed", "enter", "snapshot", "leave"]);
}

#[test]
fn a_subscription_ends_and_its_name_can_be_used_again() {
    let (_folder, node) = node();
    send(&node, "cnc-01", &json!({"rpm": 1}));
    let mut socket = Socket::open(node.http);
    socket.say(&all_machines());
    socket.wait_for("live");
    socket.say(&json!({"type": "unsubscribe", "id": "s1"}));
    socket.say(&json!({"type": "ping"}));
    socket.wait_for("pong");
    socket.say(&json!({"type": "subscribe", "id": "s2", "filter": "kind == 'machine'"}));
    let mut told = Vec::new();
    while told.last() != Some(&json!("live")) {
        let frame = socket.frame();
        assert_eq!(frame["id"], "s2", "{frame}");
        told.push(frame["type"].clone());
    }
    send(&node, "cnc-01", &json!({"rpm": 2}));
    let change = socket.frame();
    assert_eq!((&change["type"], &change["id"]), (&json!("change"), &json!("s2")));
    socket.say(&all_machines());
    assert_eq!(socket.wait_for("subscribed")["id"], "s1");
}

#[test]
fn what_cannot_be_understood_is_said_and_the_connection_goes_on() {
    let (_folder, node) = node();
    let mut socket = Socket::open(node.http);
    for (said, code) in [
        (
            r#"{"type":"subscribe","id":"s1","filter":"kpis.oee <"}"#,
            "filter.invalid",
        ),
        (
            r#"{"type":"subscribe","id":"s1","mode":"some"}"#,
            "stream.mode_invalid",
        ),
        (
            r#"{"type":"subscribe","id":"s1","resume":"nonsense"}"#,
            "resume.invalid",
        ),
        (
            r#"{"type":"subscribe","id":"s1","fields":["..x"]}"#,
            "fields.invalid",
        ),
        (
            r#"{"type":"subscribe","id":"s1","max_rate_hz":0}"#,
            "rate.invalid",
        ),
        (r#"{"type":"subscribe","id":""}"#, "stream.id_invalid"),
        (r#"{"type":"unsubscribe","id":"s9"}"#, "stream.not_subscribed"),
        (r#"{"type":"dance"}"#, "stream.invalid"),
        (r#"{"type":"subscribe"}"#, "stream.invalid"),
        ("not JSON", "stream.invalid"),
        ("[[[[", "stream.invalid"),
    ] {
        socket.say_text(said.to_owned());
        let frame = socket.frame();
        assert_eq!(
            (&frame["type"], &frame["code"]),
            (&json!("error"), &json!(code)),
            "{said}"
        );
        let detail = frame["detail"].as_str().expect("a detail");
        if code == "filter.invalid" {
            assert!(detail.contains("character 11"), "{detail}");
            assert_eq!(frame["id"], "s1");
        }
    }
    socket.say(&json!({"type": "subscribe", "id": "s1"}));
    socket.wait_for("live");
    socket.say(&json!({"type": "subscribe", "id": "s1"}));
    assert_eq!(socket.wait_for("error")["code"], "stream.id_taken");
    socket.say(&json!({"type": "ping"}));
    socket.wait_for("pong");
}

#[test]
fn a_connection_has_at_most_64_subscriptions() {
    let (_folder, node) = node();
    let mut socket = Socket::open(node.http);
    let mut subscribe = |number: usize| {
        socket.say(&json!({"type": "subscribe", "id": format!("s{number}")}));
        loop {
            let frame = socket.frame();
            if frame["id"] == format!("s{number}") && frame["type"] != "subscribed" {
                return frame;
            }
        }
    };
    for number in 0..64 {
        assert_eq!(subscribe(number)["type"], "live");
    }
    assert_eq!(subscribe(64)["code"], "stream.too_many");
    socket.say(&json!({"type": "unsubscribe", "id": "s7"}));
    socket.say(&json!({"type": "subscribe", "id": "s65"}));
    assert_eq!(socket.wait_for("subscribed")["id"], "s65");
}

#[test]
fn a_frame_of_more_than_64_kib_ends_its_connection_only() {
    let (_folder, node) = node();
    let (mut small, mut large) = (Socket::open(node.http), Socket::open(node.http));
    let ping = |bytes: usize| json!({"type": "ping", "padding": "x".repeat(bytes)});
    large.say(&ping(60 << 10));
    large.wait_for("pong");
    large.say(&ping(64 << 10));
    assert_eq!(large.next(), None, "the connection is closed");
    assert_eq!(large.closed_with, Some(1009), "and it is said why");
    small.say(&ping(0));
    small.wait_for("pong");
}

#[test]
fn every_revision_comes_once_and_in_order() {
    let (_folder, node) = node();
    send(&node, "cnc-01", &json!({"rpm": 0}));
    let every = json!({"type": "subscribe", "id": "s1", "filter": "id == 'cnc-01'", "mode": "every"});
    let mut socket = Socket::open(node.http);
    socket.say(&every);
    let mut resume = socket.wait_for("live")["resume"].clone();
    for half in 0..2 {
        let lines: String = (1..=100)
            .map(|number| {
                format!(
                    "{{\"sensor_id\":\"cnc-01\",\"metrics\":{{\"rpm\":{}}}}}\n",
                    half * 100 + number
                )
            })
            .collect();
        let batch = Request::post("/v1/readings", lines).header("content-type", "application/x-ndjson");
        assert_eq!(node.call(&batch).json()["accepted"], 100);
        if half == 1 {
            // What came while nobody was connected is told, too.
            socket = Socket::open(node.http);
            let mut again = every.clone();
            again["resume"] = resume.clone();
            socket.say(&again);
        }
        for number in 1..=100 {
            let change = loop {
                let frame = socket.frame();
                match frame["type"].as_str() {
                    Some("change") => break frame,
                    Some("subscribed" | "live") => {}
                    _ => panic!("{frame}"),
                }
            };
            assert_eq!(change["rev"], half * 100 + number + 1);
            let value = &change["patch"]["state"]["metrics"]["rpm"]["value"];
            assert_eq!(value.as_f64(), Some(f64::from(half * 100 + number)));
        }
        if half == 0 {
            resume = socket.wait_for("live")["resume"].clone();
        }
    }
}

#[test]
fn a_client_that_comes_back_goes_on_without_a_gap() {
    let (folder, node) = node();
    for machine in ["cnc-01", "cnc-02", "cnc-03"] {
        send(&node, machine, &json!({"rpm": 1}));
    }
    let mut follower = Socket::open(node.http).follow(&all_machines());
    for kills in 0..=1 {
        send(&node, "cnc-01", &json!({"rpm": 10 + kills}));
        send(&node, &format!("new-{kills}"), &json!({"rpm": 5}));
        follower = follower.resumed(node.http, &all_machines());
        assert_eq!(follower.count("lost"), 0);
        // It is told what changed, and of the others nothing.
        assert!(
            !follower.told.iter().any(|(_, twin)| twin == "machine/cnc-03"),
            "{:?}",
            follower.told
        );
        assert_up_to_date(&node, &mut follower);
    }
    let (http, mqtt) = (node.http, node.mqtt);
    send(&node, "cnc-02", &json!({"rpm": 20}));
    node.kill();
    let node = Node::start_on(folder.path(), http, mqtt, &[]);
    send(&node, "cnc-01", &json!({"rpm": 30}));
    let mut follower = follower.resumed(node.http, &all_machines());
    assert_eq!(follower.count("lost"), 0, "{:?}", follower.told);
    assert_up_to_date(&node, &mut follower);
}

#[test]
fn revisions_that_a_restart_forgot_are_said_to_be_lost() {
    let (folder, node) = node();
    send(&node, "cnc-01", &json!({"rpm": 1}));
    let mut every = all_machines();
    every["mode"] = json!("every");
    let follower = Socket::open(node.http).follow(&every);
    let (http, mqtt) = (node.http, node.mqtt);
    send(&node, "cnc-01", &json!({"rpm": 2}));
    node.kill();
    let node = Node::start_on(folder.path(), http, mqtt, &[]);
    let mut follower = follower.resumed(node.http, &every);
    assert_eq!(follower.count("lost"), 1);
    assert_up_to_date(&node, &mut follower);
}

/// Reads events until one of this kind and about this twin comes; answers what they said.
fn events_until(reader: &mut impl BufRead, kind: &str, twin: &Value) -> Vec<(String, Value, Option<String>)> {
    let (mut events, mut event, mut data, mut id) = (Vec::new(), String::new(), Value::Null, None);
    for line in reader.lines() {
        let line = line.expect("the events go on");
        match line.split_once(':') {
            Some(("event", name)) => event = name.trim().to_owned(),
            Some(("data", text)) => data = serde_json::from_str(text).expect("JSON"),
            Some(("id", token)) => id = Some(token.trim().to_owned()),
            _ if line.is_empty() && !event.is_empty() => {
                let ends = event == kind && data["twin"] == *twin;
                events.push((std::mem::take(&mut event), data.take(), id.take()));
                if ends {
                    return events;
                }
            }
            _ => {}
        }
    }
    panic!("the events ended after {events:?}");
}

#[test]
fn events_over_plain_http_say_the_same_and_resume() {
    let (_folder, node) = node();
    send(&node, "cnc-03", &json!({"rpm": 4}));
    send(&node, "cnc-01", &json!({"rpm": 1}));
    let open = |last: Option<&str>| {
        let mut stream = connect(node.http);
        let last = last.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        let filter = encoded("kind == 'machine'");
        let head = format!(
            "GET /v1/stream?filter={filter}&fields=state HTTP/1.0\r\naccept: text/event-stream\r\n{last}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        BufReader::new(stream)
    };
    let names = |events: &[(String, Value, Option<String>)]| -> Vec<String> {
        events.iter().map(|(name, ..)| name.clone()).collect()
    };
    let mut first = open(None);
    let events = events_until(&mut first, "live", &Value::Null);
    assert_eq!(names(&events), ["subscribed", "snapshot", "snapshot", "live"]);
    let cnc_01 = json!("machine/cnc-01");
    let shown = events.iter().find(|(_, data, _)| data["twin"] == cnc_01);
    let (_, shown, _) = shown.expect("a snapshot");
    assert_eq!(shown["value"]["state"]["metrics"]["rpm"]["value"], 1.0);
    let token = events[3].2.as_deref().expect("an id");
    send(&node, "cnc-01", &json!({"rpm": 2}));
    let changes = events_until(&mut first, "change", &cnc_01);
    let (_, change, _) = changes.last().expect("a change");
    assert_eq!(change["patch"]["state"]["metrics"]["rpm"]["value"], 2.0);
    drop(first);
    send(&node, "cnc-02", &json!({"rpm": 3}));
    // What changed since is told, what did not is not.
    let told = events_until(&mut open(Some(token)), "snapshot", &json!("machine/cnc-02"));
    let twins: Vec<&Value> = told.iter().map(|(_, data, _)| &data["twin"]).collect();
    assert!(
        !twins.contains(&&json!("machine/cnc-03")) && !names(&told).contains(&"lost".to_owned()),
        "{told:?}"
    );
    let refused = Request::get("/v1/stream?filter=kpis.").header("accept", "text/event-stream");
    node.call(&refused).problem(400, "filter.invalid");
}

/// A client that stalled held its subscriptions and its connection for ever: the node waited for it while closing.
#[test]
fn a_client_that_never_reads_harms_nobody_and_is_closed() {
    let (_folder, node) = node();
    let load = |number: usize| {
        let metrics: serde_json::Map<String, Value> = (0..40)
            .map(|metric| (format!("m{metric}"), json!(format!("{number:0200}"))))
            .collect();
        json!({"sensor_id": "cnc-01", "metrics": metrics}).to_string()
    };
    let mut follower = Socket::open(node.http).follow(&json!({
        "type": "subscribe", "id": "s1", "fields": ["state.metrics.m0.value"]
    }));
    let before = node.memory_mib();
    let mut stalled: Vec<Socket> = (0..4).map(|_| Socket::open(node.http)).collect();
    for socket in &mut stalled {
        socket.say(&json!({"type": "subscribe", "id": "s1", "mode": "every"}));
        socket.say(&json!({"type": "subscribe", "id": "s2"}));
    }
    let open = || {
        let metrics = node.call(&Request::get("/metrics")).text();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("changes_subscriptions "));
        line.and_then(|count| count.parse::<f64>().ok())
    };
    wait_until("all are subscribed", || (open() == Some(9.0)).then_some(()));
    // Far more than the system takes in for clients that do not read.
    for round in 0..40 {
        let lines: Vec<String> = (0..50).map(|number| load(round * 50 + number)).collect();
        let batch =
            Request::post("/v1/readings", lines.join("\n")).header("content-type", "application/x-ndjson");
        assert_eq!(node.call(&batch).json()["accepted"], 50);
        let newest = json!(format!("{:0200}", round * 50 + 49));
        follower.until("the newest value", |follower| {
            let twin = follower.has.get("machine/cnc-01");
            twin.is_some_and(|twin| twin["state"]["metrics"]["m0"]["value"] == newest)
        });
    }
    let grown = node.memory_mib().saturating_sub(before);
    assert!(grown < 160, "the node grew by {grown} MiB");
    wait_until("those who do not read are closed", || {
        (open() == Some(1.0)).then_some(())
    });
    drop(stalled);
}

#[test]
fn a_browser_shows_its_token_as_a_subprotocol() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("gemba.toml");
    let tokens = keys(&config, &[("acme", "viewer")]);
    let data = folder.path().join("data");
    let node = Node::start(&data, &["--config", config.to_str().expect("UTF-8")]);
    let protocols = format!("gemba.v1, bearer.{}", tokens[0]);
    let mut socket =
        Socket::open_with(node.http, &[("sec-websocket-protocol", &*protocols)]).expect("opened");
    // The token is never sent back.
    assert_eq!(socket.protocol.as_deref(), Some("gemba.v1"));
    socket.say(&json!({"type": "subscribe", "id": "s1"}));
    socket.wait_for("live");
    let foreign = Socket::open_with(
        node.http,
        &[
            ("sec-websocket-protocol", &*protocols),
            ("origin", "https://elsewhere.example"),
        ],
    );
    assert_eq!(foreign.err().map(|status| status.as_u16()), Some(403));
}
