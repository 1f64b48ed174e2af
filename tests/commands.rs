//! The commands as a user types them: help with examples, exit statuses, configuration, the plant, twins in the
//! terminal, the simulator, the check of a data folder, and the demo.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::Path,
    process::Stdio,
};

use serde_json::{Value, json};
use support::{
    Node,
    command::{Said, command, gemba, run},
    free_port,
    http::Request,
    wait_until,
};

const COMMANDS: &str = "demo serve get apply plan refold simulate verify config bench key alarms export snowflake certs nodes shards drain import ready backup restore";

fn node() -> (tempfile::TempDir, Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(&folder.path().join("data"), &[]);
    (folder, node)
}

/// Runs a command against a node.
fn ask(node: &Node, arguments: &[&str]) -> Said {
    run(command(arguments).env("GEMBA_URL", format!("http://127.0.0.1:{}", node.http)))
}

/// Sends one reading or scan.
fn post(node: &Node, path: &str, message: &Value) {
    let answer = node.call(&Request::post(path, message.to_string()));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn every_command_has_help_with_an_example() {
    let help = gemba(&["--help"]);
    assert_eq!(help.status, 0);
    for name in COMMANDS.split(' ') {
        assert!(help.out.contains(&format!("\n  {name} ")), "{name} is not listed");
        let help = gemba(&[name, "--help"]);
        assert_eq!(help.status, 0, "{}", help.err);
        let example = help.out.split("Example").nth(1);
        let example = example.unwrap_or_else(|| panic!("{name} --help has no example"));
        assert!(example.contains(&format!("gemba {name}")), "{name}: {example}");
    }
    // Every command that the help lists is looked at here.
    let listed = help
        .out
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let listed = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let unknown: Vec<&str> = listed
        .filter(|name| !name.is_empty() && *name != "help" && COMMANDS.split(' ').all(|known| known != *name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?} are not looked at here");
}

#[test]
fn the_exit_status_says_whether_it_was_done_failed_or_misused() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("nowhere");
    let nowhere = nowhere.to_str().expect("UTF-8");
    let closed = format!("http://127.0.0.1:{}", free_port());
    for (arguments, status, named) in [
        (&["--version"][..], 0, ""),
        (&["config", "--print"], 0, ""),
        (&["get", "--url", &closed], 1, &*closed),
        (&["get", "robot"], 1, "robot"),
        (&["get", "machine", "--watch", "--url", &closed], 1, "stream"),
        (&["apply", "-f", nowhere], 1, nowhere),
        (&["refold", "--url", &closed], 1, &*closed),
        (&["serve", "--config", nowhere], 1, nowhere),
        (&["verify", "--data-dir", nowhere], 1, nowhere),
        (
            &["key", "new", "--tenant", "a", "--role", "king", "--name", "n"],
            1,
            "king",
        ),
        (
            &["key", "new", "--tenant", "a b", "--role", "viewer", "--name", "n"],
            1,
            "tenant",
        ),
        (&["simulate", "--mqtt", "http://x"], 1, "mqtt://"),
        (&["dance"], 2, "dance"),
        (&["get", "--loudly"], 2, "--loudly"),
        (&["apply"], 2, "--file"),
        (&[], 2, "Usage"),
    ] {
        let said = gemba(arguments);
        assert_eq!(said.status, status, "{arguments:?}: {said:?}");
        assert!(said.err.contains(named), "{arguments:?}: {}", said.err);
        if status == 1 {
            let line = said.err.strip_prefix("gemba: ").expect("who says it");
            assert_eq!(line.trim_end().lines().count(), 1, "{line}");
        }
    }
}

#[test]
fn an_unknown_setting_is_refused_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gemba.toml");
    std::fs::write(&file, "[http]\nadress = \"127.0.0.1:1\"\n").expect("written");
    let path = file.to_str().expect("UTF-8");
    for command_name in [&["serve"][..], &["config", "--print"]] {
        let said = gemba(&[command_name, &["--config", path]].concat());
        assert_eq!(said.status, 1, "{said:?}");
        assert!(
            said.err.contains("adress") && said.err.contains(path),
            "{}",
            said.err
        );
        let said = run(command(command_name).env("GEMBA_HTTP__ADRESS", "127.0.0.1:1"));
        assert_eq!(said.status, 1, "{said:?}");
        assert!(
            said.err.contains("adress") && said.err.contains("GEMBA_HTTP__ADRESS"),
            "{}",
            said.err
        );
    }
}

/// A variable of digits was taken for a number where a text is meant.
#[test]
fn the_configuration_says_what_is_in_force_and_where_it_came_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gemba.toml");
    let (token, entry) = support::command::new_key("acme", "viewer");
    let broker =
        "[[broker]]\nname = \"site\"\nurl = \"mqtt://user:hunter2@broker.plant:1883\"\nsubscriptions = []\n";
    let text = format!("[http]\nbody_max = 1000000\n[log]\nlevel = \"warn\"\n{entry}\n{broker}");
    std::fs::write(&file, text).expect("written");
    let path = file.to_str().expect("UTF-8");
    let print = |more: &[&str]| {
        let mut arguments = vec!["config", "--print", "--config", path, "--http", "127.0.0.1:7000"];
        arguments.extend(more);
        let said = run(command(&arguments)
            .env("GEMBA_LOG__LEVEL", "error")
            .env("GEMBA_NODE__TENANT", "4711"));
        assert_eq!(said.status, 0, "{}", said.err);
        said.out
    };
    let shown: Value = serde_json::from_str(&print(&["--json"])).expect("JSON");
    let of = |key: &str| {
        let setting = shown
            .as_array()
            .expect("a list")
            .iter()
            .find(|setting| setting["key"] == key);
        let setting = setting.unwrap_or_else(|| panic!("{key} is not shown"));
        (
            setting["value"].as_str().expect("a value").to_owned(),
            setting["source"].as_str().expect("a source").to_owned(),
        )
    };
    let pair = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(of("http.address"), pair("\"127.0.0.1:7000\"", "flag"));
    assert_eq!(of("http.body_max"), pair("1000000", path));
    assert_eq!(of("log.level"), pair("\"error\"", "GEMBA_LOG__LEVEL"));
    assert_eq!(of("node.tenant"), pair("\"4711\"", "GEMBA_NODE__TENANT"));
    assert_eq!(of("node.shards"), pair("16", "default"));
    let text = print(&[]);
    assert!(
        text.contains("log.level") && text.contains("(GEMBA_LOG__LEVEL)"),
        "{text}"
    );
    let hash = entry
        .split("sha256:")
        .nth(1)
        .expect("a hash")
        .trim_end_matches(['"', '\n']);
    for secret in [&*token, hash, "hunter2"] {
        assert!(
            !text.contains(secret) && !shown.to_string().contains(secret),
            "{text}"
        );
    }
}

#[test]
fn a_plant_is_planned_applied_and_seen() {
    let (folder, node) = node();
    let file = folder.path().join("plant.yaml");
    let path = file.to_str().expect("UTF-8");
    let plant = "site: {id: plant-1}\nlocations: [{id: cell-1, name: Cell one}]\n\
                 machines: [{id: cnc-01, name: Mazak 01, location: cell-1}]\n";
    std::fs::write(&file, plant).expect("written");
    let planned = ask(&node, &["plan", "-f", path]);
    assert_eq!(planned.status, 0, "{}", planned.err);
    assert!(planned.out.contains("+ machine/cnc-01"), "{}", planned.out);
    assert_eq!(ask(&node, &["get", "--json"]).out.trim(), "[]");
    let applied = ask(&node, &["apply", "-f", path]);
    assert_eq!(applied.status, 0, "{}", applied.err);
    assert!(applied.out.contains("version 1 is in force"), "{}", applied.out);
    std::fs::write(&file, plant.replace("Mazak 01", "Mazak one")).expect("written");
    let planned = ask(&node, &["plan", "-f", path]).out;
    assert!(
        planned.contains("~ machine/cnc-01") && planned.contains("unchanged"),
        "{planned}"
    );
    std::fs::write(&file, "machines: [{id: cnc-01, nmae: x}]\n").expect("written");
    for name in ["plan", "apply"] {
        let refused = ask(&node, &[name, "-f", path]);
        assert_eq!(refused.status, 1);
        assert!(refused.err.contains("nmae"), "{}", refused.err);
    }
    let twin = ask(&node, &["get", "machine/cnc-01"]).out;
    assert!(twin.contains("attributes.name: Mazak 01"), "{twin}");
}

#[test]
fn twins_are_shown_in_the_terminal() {
    let (_folder, node) = node();
    post(
        &node,
        "/v1/readings",
        &json!({"sensor_id": "cnc-01", "metrics": {"execution": "producing", "rpm": 8120}}),
    );
    post(
        &node,
        "/v1/readings",
        &json!({"sensor_id": "cnc-02", "metrics": {"execution": "idle"}}),
    );
    for (location, second) in [("cell-1", 0), ("cell-2", 90)] {
        let at = format!("2026-01-01T08:0{}:{:02}Z", second / 60, second % 60);
        post(
            &node,
            "/v1/scans",
            &json!({"job_id": "job-1", "location": location, "scan_timestamp": at}),
        );
    }
    let table = ask(&node, &["get", "machine"]).out;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[0].starts_with("machine/cnc-01") && lines[0].contains("producing"));
    assert!(lines[1].starts_with("machine/cnc-02") && lines[1].contains("idle"));
    let json: Value = serde_json::from_str(&ask(&node, &["get", "machine", "--json"]).out).expect("JSON");
    assert_eq!(json[0]["state"]["metrics"]["rpm"]["value"], 8120.0);
    let found = ask(&node, &["get", "--filter", "state.execution == 'idle'"]).out;
    assert!(
        found.starts_with("machine/cnc-02") && found.lines().count() == 1,
        "{found}"
    );
    let one = ask(&node, &["get", "machine/cnc-01"]).out;
    assert!(one.contains("rpm: 8120"), "{one}");
    let job = ask(&node, &["get", "job/job-1"]).out;
    assert!(job.contains("flow path: cell-1 (90 s) → cell-2"), "{job}");
    let nobody = ask(&node, &["get", "machine/nobody"]);
    assert_eq!(nobody.status, 1);
    assert!(nobody.err.contains("machine/nobody") && nobody.err.contains("twin.not_found"));
    let refused = ask(&node, &["get", "--filter", "kpis.oee <"]);
    assert_eq!(refused.status, 1);
    assert!(refused.err.contains("character 11"), "{}", refused.err);
}

#[test]
fn twins_are_followed_in_the_terminal() {
    let (_folder, node) = node();
    post(
        &node,
        "/v1/readings",
        &json!({"sensor_id": "cnc-01", "metrics": {"execution": "idle"}}),
    );
    let mut watch = command(&["get", "machine/cnc-01", "--watch"])
        .env("GEMBA_URL", format!("http://127.0.0.1:{}", node.http))
        .stdout(Stdio::piped())
        .spawn()
        .expect("gemba starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert!(next().contains("idle"));
    post(
        &node,
        "/v1/readings",
        &json!({"sensor_id": "cnc-01", "metrics": {"execution": "down"}}),
    );
    wait_until("the change is printed", || next().contains("down").then_some(()));
    watch.kill().expect("killed");
    watch.wait().expect("reaped");
}

/// Lets the simulated plant publish to a node of its own; answers the node and the figures that it expects.
fn simulated(folder: &Path, seed: &str) -> (Node, Value) {
    let node = Node::start(&folder.join("data"), &[]);
    let broker = format!("mqtt://127.0.0.1:{}", node.mqtt);
    let plant = folder.join("plant.yaml");
    let (plant, figures) = (plant.to_str().expect("UTF-8"), folder.join("expect.json"));
    let simulate = ["simulate", "--mqtt", &broker, "--machines", "3", "--seed", seed];
    let model = gemba(&[&simulate[..], &["--print-plant"]].concat());
    std::fs::write(plant, model.out).expect("written");
    assert_eq!(ask(&node, &["apply", "-f", plant]).status, 0);
    let more = [
        "--start",
        "2026-01-05T08:00:00Z",
        "--duration",
        "400",
        "--speed",
        "100000",
    ];
    let said = gemba(
        &[
            &simulate[..],
            &more[..],
            &["--expect", figures.to_str().expect("UTF-8")],
        ]
        .concat(),
    );
    assert_eq!(said.status, 0, "{}", said.err);
    let figures = std::fs::read(figures).expect("the figures");
    (node, serde_json::from_slice(&figures).expect("JSON"))
}

/// All messages that a node took of the plant, without the times at which they came.
fn journaled(node: &Node) -> Vec<Value> {
    let mut all = Vec::new();
    for twin in node.list("/v1/twins") {
        let twin = twin["twin"].as_str().expect("an address").to_owned();
        let mut after = 0;
        loop {
            let page = node.get(&format!("/v1/twins/{twin}/events?after={after}&limit=1000"));
            for event in page["items"].as_array().expect("events") {
                after = event["seq"].as_u64().expect("a seq");
                if event["type"] == "reading" || event["type"] == "scan" {
                    let kind = event["type"].as_str().expect("a type");
                    all.push(json!([twin, event["at"], event["message_id"], event[kind]]));
                }
            }
            if page["cursor"].is_null() {
                break;
            }
        }
    }
    all.sort_by_cached_key(Value::to_string);
    all
}

#[test]
fn the_same_seed_gives_the_same_stream_and_the_same_figures() {
    let folders = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let (first, figures) = simulated(folders[0].path(), "11");
    let (second, again) = simulated(folders[1].path(), "11");
    let (other, _) = simulated(folders[2].path(), "12");
    let messages = journaled(&first);
    assert!(messages.len() > 1_000, "{} messages", messages.len());
    assert_eq!(figures["messages"], messages.len());
    assert_eq!(messages, journaled(&second));
    assert_eq!(figures, again);
    assert_ne!(messages, journaled(&other));
}

#[test]
fn a_flipped_byte_in_the_journal_is_found_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let verify = |more: &[&str]| {
        let mut arguments = vec!["verify", "--data-dir", data.to_str().expect("UTF-8")];
        arguments.extend(more);
        gemba(&arguments)
    };
    let node = Node::start(&data, &[]);
    for number in 0..20 {
        post(
            &node,
            "/v1/readings",
            &json!({"sensor_id": "cnc-01", "message_id": format!("flipped-{number}"), "metrics": {"a": number}}),
        );
    }
    let twin = node.get("/v1/twins/machine/cnc-01");
    assert!(node.stop());
    let whole = verify(&["--json"]);
    let report: Value = serde_json::from_str(&whole.out).expect("JSON");
    assert_eq!(
        (whole.status, &report["damage"]),
        (0, &json!([])),
        "{}",
        whole.out
    );
    assert!(report["records"].as_u64() >= Some(20), "{report}");
    let journal = data.join("journal");
    let segment = std::fs::read_dir(&journal).expect("a journal").next();
    let segment = segment.expect("a segment").expect("an entry").path();
    let mut bytes = std::fs::read(&segment).expect("read");
    let places: Vec<usize> = (0..bytes.len() - 10)
        .filter(|at| bytes[*at..].starts_with(b"flipped-7"))
        .collect();
    assert!(!places.is_empty());
    // The database underneath keeps old pages: each copy is damaged in the same place.
    for at in &places {
        bytes[at + 8] ^= 1;
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .expect("opened");
    for at in places {
        file.seek(SeekFrom::Start(at as u64)).expect("there");
        file.write_all(&bytes[at..at + 9]).expect("written");
    }
    drop(file);
    let damaged = verify(&[]);
    assert_eq!(damaged.status, 1, "{damaged:?}");
    let named = format!("shard {}", twin["seq"]["shard"]);
    assert!(
        damaged.out.contains(&named) && damaged.out.contains("seq 8"),
        "{}",
        damaged.out
    );
}

#[test]
fn the_demo_shows_a_plant_that_lives_and_its_data_can_be_served_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (http, mqtt) = (free_port(), free_port());
    let (at, broker) = (format!("127.0.0.1:{http}"), format!("127.0.0.1:{mqtt}"));
    let mut demo = command(&[
        "demo",
        "--machines",
        "3",
        "--speed",
        "60",
        "--http",
        &at,
        "--mqtt",
        &broker,
    ]);
    demo.arg("--data-dir").arg(&data);
    let node = Node::run(demo, http, mqtt);
    let machines = || node.list("/v1/twins?kind=machine");
    let fresh = wait_until("three machines with fresh values", || {
        let machines = machines();
        let fresh = machines
            .iter()
            .filter(|machine| machine["rev"].as_u64() > Some(3))
            .count();
        (fresh == 3).then_some(machines)
    });
    for machine in &fresh {
        assert!(
            machine["state"]["metrics"]["cycle_count"]["value"].is_number(),
            "{machine}"
        );
        assert!(machine["attributes"]["name"].is_string(), "{machine}");
    }
    let job = wait_until("a job that went on", || {
        node.list("/v1/twins?kind=job").into_iter().find(|job| {
            let path = job["state"]["flow_path"].as_array();
            path.is_some_and(|path| path.len() > 1)
        })
    });
    let name = job["twin"].as_str().expect("an address");
    let shown = ask(&node, &["get", name]).out;
    assert!(shown.contains("flow path: goods-in ("), "{shown}");
    node.counts_that_add_up();
    assert!(node.stop_by("INT"), "Ctrl-C ends it well");
    let node = Node::start(&data, &[]);
    let served = node.list("/v1/twins?kind=machine");
    assert_eq!(served.len(), 3);
    for (before, after) in fresh.iter().zip(&served) {
        assert!(after["rev"].as_u64() >= before["rev"].as_u64());
    }
    let path = node.get(&format!("/v1/twins/{name}"));
    assert!(path["state"]["flow_path"][1].is_object(), "{path}");
}
