//! Notifications to real servers: one that fails first, one that is away while the node is killed, a broker.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use support::{Broker, Node, free_port, http::Request, wait_until};

const PLANT: &str = r#"
machines: [{id: cnc-07}, {id: cnc-08}]
alarms:
  - {id: hot, applies_to: machine, condition: metrics.temperature_c > 80, priority: high, text: Too hot}
  - {id: warm, applies_to: machine, condition: metrics.temperature_c > 60, priority: low, text: Warm}
"#;

/// A request that a webhook received.
#[derive(Debug, Clone)]
struct Received {
    headers: BTreeMap<String, String>,
    event: Value,
}

/// A server that answers each request with the next status, and remembers those that it took.
struct Hook {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Hook {
    /// Listens on a port; the first requests are answered with these statuses and not taken.
    fn listen(port: u16, mut refusals: Vec<u16>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = received.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let status = if refusals.is_empty() {
                    204
                } else {
                    refusals.remove(0)
                };
                if let Some(request) = serve(stream, status)
                    && status < 300
                {
                    kept.lock().expect("not poisoned").push(request);
                }
            }
        });
        Self { port, received }
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().expect("not poisoned").clone()
    }

    fn whats(&self) -> Vec<String> {
        let what = |received: &Received| {
            let data = &received.event["data"];
            format!(
                "{} {}",
                data["id"].as_str().expect("an id"),
                data["what"].as_str().expect("a word")
            )
        };
        self.received().iter().map(what).collect()
    }
}

/// Reads one request and answers it.
fn serve(stream: TcpStream, status: u16) -> Option<Received> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut stream = stream;
    let answer = format!(
        "HTTP/1.1 {status} x\r\nlocation: http://127.0.0.1:1/elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).ok()?;
    Some(Received {
        headers,
        event: serde_json::from_slice(&body).ok()?,
    })
}

fn node(folder: &Path, config: &str) -> Node {
    let file = folder.join("gemba.toml");
    std::fs::write(&file, config).expect("written");
    Node::start(&folder.join("data"), &["--config", file.to_str().expect("UTF-8")])
}

fn plant(node: &Node) {
    let answer = node.call(&Request::new("PUT", "/v1/plant").body(PLANT));
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_until("the machines know their rules", || {
        (node.list("/v1/alarms?state=all").len() == 4).then_some(())
    });
}

fn temperature(node: &Node, machine: &str, value: f64) {
    let reading = json!({"sensor_id": machine, "metrics": {"temperature_c": value}});
    let answer = node.call(&Request::post("/v1/readings", reading.to_string()));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_webhook_that_fails_first_is_told_everything_in_order_signed_and_with_an_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let hook = Hook::listen(free_port(), vec![503, 429]);
    let config = format!(
        "[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{}/alarms\"\nsecret = \"s3cret\"\npriorities = [\"high\"]\n",
        hook.port
    );
    let node = node(folder.path(), &config);
    plant(&node);
    temperature(&node, "cnc-07", 85.0);
    let acknowledge = Request::post("/v1/alarms/machine:cnc-07:hot/ack", r#"{"comment":"on my way"}"#);
    assert_eq!(node.call(&acknowledge).status, 200);
    temperature(&node, "cnc-07", 20.0);
    wait_until("three notifications", || {
        (hook.received().len() >= 3).then_some(())
    });
    assert_eq!(
        hook.whats(),
        [
            "machine:cnc-07:hot raised",
            "machine:cnc-07:hot acknowledged",
            "machine:cnc-07:hot returned"
        ],
        "of low priority nothing is told"
    );
    let [raised, acknowledged, _] = &hook.received()[..] else {
        panic!("three")
    };
    let event = &raised.event;
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "gemba.alarm.raised");
    assert_eq!(event["source"], "/v1/twins/machine/cnc-07");
    assert_eq!(
        event["data"],
        json!({"id": "machine:cnc-07:hot", "twin": "machine/cnc-07", "rule": "hot", "what": "raised",
            "state": "unacknowledged_active", "priority": "high", "text": "Too hot", "value": 85.0, "by": null, "comment": null})
    );
    assert_eq!(acknowledged.event["data"]["comment"], "on my way");
    assert_eq!(
        raised.headers["content-type"],
        "application/cloudevents+json; charset=utf-8"
    );
    assert_eq!(raised.headers["webhook-id"], event["id"].as_str().expect("an id"));
    assert!(raised.headers["webhook-signature"].starts_with("v1,"));
    assert_ne!(acknowledged.event["id"], event["id"]);
    assert!(node.stop());
}

#[test]
fn what_was_not_delivered_survives_kill_9_and_comes_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    // A snapshot each second: some of what waits stands in one, some is derived again from the journal's tail.
    let config = format!(
        "[snapshot]\nevery_s = 1\n[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\non = [\"raised\"]\n"
    );
    let first = node(folder.path(), &config);
    plant(&first);
    temperature(&first, "cnc-07", 70.0);
    let state = folder.path().join("data/state.redb");
    let written = || {
        std::fs::metadata(&state)
            .and_then(|file| file.modified())
            .expect("a time")
    };
    let before = written();
    temperature(&first, "cnc-08", 70.0);
    wait_until("a snapshot", || (written() > before).then_some(()));
    temperature(&first, "cnc-07", 85.0);
    temperature(&first, "cnc-08", 85.0);
    first.kill();
    // Killed once more, before anybody listens.
    let second = node(folder.path(), &config);
    temperature(&second, "cnc-07", 20.0);
    temperature(&second, "cnc-07", 70.0);
    second.kill();
    let hook = Hook::listen(port, Vec::new());
    let third = node(folder.path(), &config);
    wait_until("all five", || (hook.received().len() >= 5).then_some(()));
    let of = |machine: &str| -> Vec<String> {
        hook.whats()
            .into_iter()
            .filter(|what| what.contains(machine))
            .collect()
    };
    assert_eq!(
        of("cnc-07"),
        [
            "machine:cnc-07:warm raised",
            "machine:cnc-07:hot raised",
            "machine:cnc-07:warm raised"
        ]
    );
    assert_eq!(
        of("cnc-08"),
        ["machine:cnc-08:warm raised", "machine:cnc-08:hot raised"]
    );
    // What was told is not told again after a clean stop.
    assert!(third.stop());
    let fourth = node(folder.path(), &config);
    temperature(&fourth, "cnc-07", 20.0);
    temperature(&fourth, "cnc-07", 90.0);
    wait_until("two more", || (hook.received().len() >= 7).then_some(()));
    let ids: std::collections::BTreeSet<String> = hook
        .received()
        .iter()
        .map(|received| received.headers["webhook-id"].clone())
        .collect();
    assert_eq!((ids.len(), hook.received().len()), (7, 7));
    assert!(fourth.stop());
}

#[test]
fn no_redirect_is_followed_and_a_refusal_holds_up_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let hook = Hook::listen(free_port(), vec![302, 400]);
    let config = format!(
        "[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{}/\"\non = [\"raised\"]\npriorities = [\"low\"]\n",
        hook.port
    );
    let node = node(folder.path(), &config);
    plant(&node);
    for _ in 0..3 {
        temperature(&node, "cnc-07", 70.0);
        temperature(&node, "cnc-07", 20.0);
    }
    wait_until("the third", || (hook.received().len() == 1).then_some(()));
    let metrics =
        String::from_utf8(support::request(node.http, "GET", "/metrics", &[], b"").1).expect("text");
    assert!(
        metrics.contains("notify_refused_total{destination=\"hook\"} 2"),
        "{metrics}"
    );
}

#[test]
fn a_broker_is_told_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker_folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(broker_folder.path());
    let mut subscriber = std::process::Command::new("mosquitto_sub")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &broker.port.to_string(),
            "-q",
            "1",
            "-C",
            "1",
            "-v",
            "-t",
            "plant/#",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("mosquitto_sub starts");
    let config = format!(
        "[[notify]]\nname = \"scada\"\nkind = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\ntopic = \"plant/{{tenant}}/{{kind}}/{{twin}}/{{rule}}\"\n",
        broker.port
    );
    let node = node(folder.path(), &config);
    plant(&node);
    // A subscription that is not there yet misses a message; so there is one more until it is.
    let mut value = 70.0;
    wait_until("a message", || {
        value = if value > 60.0 { 20.0 } else { 70.0 };
        temperature(&node, "cnc-07", value);
        subscriber.try_wait().expect("asked").map(drop)
    });
    let mut line = String::new();
    let mut out = subscriber.stdout.take().expect("its output");
    out.read_to_string(&mut line).expect("text");
    let (topic, event) = line.split_once(' ').expect("topic and message");
    assert_eq!(topic, "plant/default/machine/cnc-07/warm");
    let event: Value = serde_json::from_str(event).expect("JSON");
    assert_eq!(event["subject"], "machine:cnc-07:warm");

    assert!(node.stop());
}
