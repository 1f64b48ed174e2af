//! A cluster with more nodes than copies: every node answers for every twin, also for those that only others keep; and a
//! backup of it while messages come in becomes a new cluster.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use support::{
    Node,
    cluster::{seats_set, wait_until_settled},
    command::gemba,
    http::{Request, encoded},
    request,
    socket::Socket,
    wait_until,
};

const MACHINES: usize = 40;
const PLANT: &str = "site: {id: plant-1}\nlocations: [{id: cell-1}]\n\
                     alarms: [{id: hot, applies_to: machine, condition: metrics.temp_c > 90}]\n\
                     machines: [{id: m-0, location: cell-1, metrics: [{name: temp_c, unit: Cel}]}]\n";

fn post(node: &Node, message: &Value) {
    wait_until("a reading is taken", || {
        let (status, answer) = node.post("/v1/readings", "application/json", message.to_string().as_bytes());
        assert!([200, 503].contains(&status), "{status}: {answer}");
        (status == 200).then_some(())
    });
}

/// Asks until the shards have owners to answer: on a busy machine they change.
fn ask(node: &Node, path: &str) -> Value {
    wait_until("an answer", || {
        let (status, body) = request(node.http, "GET", path, &[], b"");
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!([200, 503].contains(&status), "{path}: {text}");
        (status == 200).then(|| serde_json::from_str(&text).expect("JSON"))
    })
}

/// All items of a list, page by page.
fn list(node: &Node, path: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ask(node, &format!("{path}{cursor}"));
        items.extend(page["items"].as_array().expect("items").iter().cloned());
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

fn names(twins: &[Value]) -> BTreeSet<String> {
    twins
        .iter()
        .map(|twin| twin["twin"].as_str().expect("a name").to_owned())
        .collect()
}

/// Follows all machines, and tells what it has of each.
struct Follower {
    socket: Socket,
    has: BTreeMap<String, Value>,
    lost: usize,
    counted: u64,
}

impl Follower {
    fn open(http: u16) -> Self {
        let mut socket = Socket::open(http);
        let filter = "kind == 'machine' && id.startsWith('m-')";
        socket.say(&json!({"type": "subscribe", "id": "s1", "filter": filter, "fields": ["state.metrics"]}));
        let counted = socket.wait_for("subscribed")["twins"].as_u64().expect("a count");
        let mut follower = Self {
            socket,
            has: BTreeMap::new(),
            lost: 0,
            counted,
        };
        follower.until(|follower, kind| kind == "live" && follower.has.len() == MACHINES);
        follower
    }

    /// Takes frames until it is so.
    fn until(&mut self, so: impl Fn(&Self, &str) -> bool) {
        loop {
            let frame = self.socket.frame();
            let kind = frame["type"].as_str().expect("a type").to_owned();
            let value = |value: &Value| value["state"]["metrics"]["temp_c"]["value"].clone();
            let twin = frame["twin"].as_str().unwrap_or_default().to_owned();
            match kind.as_str() {
                "snapshot" => drop(self.has.insert(twin, value(&frame["value"]))),
                "change" if !value(&frame["patch"]).is_null() => {
                    let known = self.has.insert(twin, value(&frame["patch"]));
                    assert!(known.is_some(), "a change of what was not told: {frame}");
                }
                "lost" => {
                    self.has.clear();
                    self.lost += 1;
                }
                "error" => panic!("{frame}"),
                _ => {}
            }
            if so(self, &kind) {
                return;
            }
        }
    }
}

#[test]
fn every_node_answers_for_twins_that_only_others_keep() {
    let folder = tempfile::tempdir().expect("a folder");
    let seats = seats_set(folder.path(), 5, &[("GEMBA_CLUSTER__COPIES", "3")]);
    let mut nodes: Vec<Node> = seats.iter().map(|seat| seat.start()).collect();
    wait_until_settled(&nodes[0], 3);
    let applied = nodes[4].call(
        &Request::new("PUT", "/v1/plant")
            .header("content-type", "application/yaml")
            .body(PLANT),
    );
    assert_eq!(applied.status, 200, "{}", applied.text());
    for number in 0..MACHINES {
        let reading = json!({"sensor_id": format!("m-{number}"), "metrics": {"temp_c": number}, "message_id": format!("first-{number}")});
        post(&nodes[number % 5], &reading);
    }
    let all: BTreeSet<String> = (0..MACHINES)
        .map(|number| format!("machine/m-{number}"))
        .collect();
    let filter = encoded("kind == 'machine' && id.startsWith('m-')");
    for node in &nodes {
        // Each keeps nine or ten of the sixteen shards.
        let kept = ask(node, "/v1/cluster?hashes=true")["shards"]
            .as_array()
            .expect("shards")
            .iter()
            .filter(|shard| shard["hash"].is_string())
            .count();
        assert!((9..=10).contains(&kept), "{kept} shards");
        assert_eq!(
            names(&list(node, &format!("/v1/twins?filter={filter}&limit=7"))),
            all
        );
        let sorted = list(
            node,
            &format!("/v1/twins?filter={filter}&sort=-state.metrics.temp_c.value&limit=9"),
        );
        let temps: Vec<f64> = sorted
            .iter()
            .map(|twin| {
                twin["state"]["metrics"]["temp_c"]["value"]
                    .as_f64()
                    .expect("a number")
            })
            .collect();
        assert!(
            temps.is_sorted_by(|one, other| one >= other) && temps.len() == MACHINES,
            "{temps:?}"
        );
        for number in 0..MACHINES {
            let path = format!("/v1/twins/machine/m-{number}");
            assert_eq!(
                ask(node, &path)["state"]["metrics"]["temp_c"]["value"],
                json!(number as f64)
            );
            let events = list(node, &format!("{path}/events?limit=1000"));
            let is_first = |event: &Value| event["message_id"] == format!("first-{number}");
            assert!(events.iter().any(is_first), "{events:?}");
        }
        let (status, _) = request(node.http, "GET", "/v1/twins/machine/nobody", &[], b"");
        assert_eq!(status, 404);
    }
    // Changes go to whoever keeps the twin, and are seen at once where they were asked for.
    for (at, node) in nodes.iter().enumerate() {
        for number in 0..MACHINES / 2 {
            let path = format!("/v1/twins/machine/m-{number}/attributes");
            let patch = Request::new("PATCH", &path).header("content-type", "application/merge-patch+json");
            let patch = patch.body(json!({"seen_by": at}).to_string());
            let patched = wait_until("it is patched", || {
                let patched = node.call(&patch);
                assert!([200, 503].contains(&patched.status), "{}", patched.text());
                (patched.status == 200).then_some(patched)
            });
            assert_eq!(patched.json()["attributes"]["seen_by"], at);
        }
    }
    post(&nodes[1], &json!({"sensor_id": "m-0", "metrics": {"temp_c": 99}}));
    for node in &nodes {
        let alarms = ask(node, "/v1/alarms")["items"].as_array().expect("alarms").len();
        assert_eq!(alarms, 1);
        assert_eq!(ask(node, "/v1/alarms/figures")["active"], 1);
    }
    let acknowledged = nodes[2].call(&Request::post("/v1/alarms/machine:m-0:hot/ack", "{}"));
    assert_eq!(acknowledged.status, 200, "{}", acknowledged.text());

    // A subscription at any node hears of all machines.
    let mut followers: Vec<Follower> = nodes.iter().map(|node| Follower::open(node.http)).collect();
    for follower in &followers {
        assert_eq!(follower.counted, MACHINES as u64);
    }
    for number in 0..MACHINES {
        post(
            &nodes[(number + 2) % 5],
            &json!({"sensor_id": format!("m-{number}"), "metrics": {"temp_c": 1_000 + number}}),
        );
    }
    let is_new = |follower: &Follower, from: f64| {
        follower.has.len() == MACHINES
            && follower
                .has
                .values()
                .all(|value| value.as_f64().is_some_and(|value| value >= from))
    };
    for follower in &mut followers {
        follower.until(|follower, _| is_new(follower, 1_000.0));
        assert_eq!(follower.lost, 0);
    }
    // A node that was followed dies: what it told is told anew by another one, and said to be.
    nodes.pop().expect("the fifth").kill();
    followers.pop();
    for number in 0..MACHINES {
        post(
            &nodes[number % 4],
            &json!({"sensor_id": format!("m-{number}"), "metrics": {"temp_c": 2_000 + number}}),
        );
    }
    for follower in &mut followers {
        follower.until(|follower, _| is_new(follower, 2_000.0));
    }
    assert_eq!(
        names(&list(&nodes[0], &format!("/v1/twins?filter={filter}"))),
        all
    );
}

/// Sends readings with numbers to one node after the other; answers which were acknowledged.
fn feed(http: Vec<u16>, over: Arc<AtomicBool>, so_far: Arc<AtomicU64>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut sent = 0;
        while !over.load(Ordering::Acquire) {
            let body = json!({"sensor_id": format!("m-{}", sent % 32), "message_id": format!("id-{sent}"), "metrics": {"number": sent}});
            let body = body.to_string();
            let (status, _) = request(
                http[sent as usize % http.len()],
                "POST",
                "/v1/readings",
                &[],
                body.as_bytes(),
            );
            assert!([200, 503, 429].contains(&status), "{status}");
            if status == 200 {
                sent += 1;
                so_far.store(sent, Ordering::Release);
            }
        }
        sent
    })
}

/// How often each message was journaled.
fn journaled(node: &Node) -> BTreeMap<String, u64> {
    let mut times = BTreeMap::new();
    for machine in 0..32 {
        for event in node.list(&format!("/v1/twins/machine/m-{machine}/events?limit=1000")) {
            if let Some(id) = event["message_id"].as_str().filter(|id| id.starts_with("id-")) {
                *times.entry(id.to_owned()).or_default() += 1;
            }
        }
    }
    times
}

#[test]
fn a_backup_of_a_running_cluster_becomes_a_new_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let text = |path: &std::path::Path| path.display().to_string();
    let seats = seats_set(folder.path(), 3, &[("GEMBA_CLUSTER__COPIES", "2")]);
    let nodes: Vec<Node> = seats.iter().map(|seat| seat.start()).collect();
    wait_until_settled(&nodes[0], 2);
    let applied = nodes[0].call(
        &Request::new("PUT", "/v1/plant")
            .header("content-type", "application/yaml")
            .body(PLANT),
    );
    assert_eq!(applied.status, 200, "{}", applied.text());
    let (over, so_far) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let feeding = feed(
        seats.iter().map(|seat| seat.http).collect(),
        over.clone(),
        so_far.clone(),
    );
    wait_until("some messages", || {
        (so_far.load(Ordering::Acquire) >= 300).then_some(())
    });

    let url = format!("http://127.0.0.1:{}", seats[1].http);
    let acknowledged_before = so_far.load(Ordering::Acquire);
    let said = gemba(&["backup", &text(&at("backup")), "--url", &url, "--json"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let taken_until = so_far.load(Ordering::Acquire);
    let backed_up: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(backed_up["shards"].as_array().expect("shards").len(), 17);
    let again = gemba(&["backup", &text(&at("backup")), "--url", &url]);
    assert!(
        again.status == 1 && again.err.contains("is there already"),
        "{}",
        again.err
    );
    wait_until("more messages", || {
        (so_far.load(Ordering::Acquire) >= taken_until + 50).then_some(())
    });
    over.store(true, Ordering::Release);
    let sent = feeding.join().expect("the feeder");
    drop(nodes);

    // A backup that lacks something, or is damaged, is not restored.
    std::fs::create_dir(at("torn")).expect("a folder");
    for file in std::fs::read_dir(at("backup")).expect("a folder") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), at("torn").join(file.file_name())).expect("copied");
    }
    let restore = |from: &str, to: &str| gemba(&["restore", &text(&at(from)), "--data-dir", &text(&at(to))]);
    let shard = at("torn").join("shard-3.backup");
    let mut bytes = std::fs::read(&shard).expect("a file");
    let middle = bytes.len() - 40;
    bytes[middle] ^= 1;
    std::fs::write(&shard, &bytes).expect("written");
    let said = restore("torn", "never");
    assert!(
        said.status == 1 && said.err.contains("shard-3.backup"),
        "{}",
        said.err
    );
    std::fs::remove_file(&shard).expect("removed");
    let said = restore("torn", "never");
    assert!(
        said.status == 1 && said.err.contains("is missing"),
        "{}",
        said.err
    );
    assert!(!at("never").exists());

    let said = restore("backup", "new/node-1");
    assert_eq!(said.status, 0, "{}", said.err);
    let said = restore("backup", "new/node-1");
    assert!(
        said.status == 1 && said.err.contains("is there already"),
        "{}",
        said.err
    );
    let said = gemba(&["verify", "--data-dir", &text(&at("new/node-1"))]);
    assert_eq!(said.status, 0, "{} {}", said.out, said.err);

    // The folder is the first node of a new cluster.
    let new = support::cluster::seats(&at("new"), 2);
    let nodes: Vec<Node> = new.iter().map(|seat| seat.start()).collect();
    wait_until_settled(&nodes[0], 2);
    let times = journaled(&nodes[0]);
    assert!(
        times.values().all(|times| *times == 1),
        "counted twice: {times:?}"
    );
    for number in 0..acknowledged_before {
        assert!(
            times.contains_key(&format!("id-{number}")),
            "{number} was acknowledged before and is lost"
        );
    }
    let found = times.len() as u64;
    assert!((acknowledged_before..=sent).contains(&found), "{found}");
    println!("{acknowledged_before} acknowledged before the backup began, {found} in it, {sent} sent in all");
    // What comes again is recognised, what is new is taken, and the second node has all of it.
    let last = json!({"sensor_id": "m-0", "message_id": "id-0", "metrics": {"number": 0}}).to_string();
    let (_, answer) = nodes[1].post("/v1/readings", "application/json", last.as_bytes());
    assert_eq!(answer["duplicates"], 1, "{answer}");
    post(&nodes[1], &json!({"sensor_id": "m-0", "metrics": {"temp_c": 5}}));
    assert_eq!(
        nodes[0].get("/v1/twins/machine/m-0")["state"]["metrics"]["temp_c"]["value"],
        json!(5.0)
    );
    assert_eq!(
        nodes[1].get("/v1/plant")["version"],
        nodes[0].get("/v1/plant")["version"]
    );
    assert_eq!(names(&nodes[1].list("/v1/twins?kind=machine")).len(), 32);
}
