//! The simulated plant against the KPIs that it says its messages must lead to, also when all of them come again.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use support::{Node, free_port, wait_until};

/// From an hour before a midnight to half an hour after it: a day begins on the way.
fn start() -> String {
    let date = Command::new("date")
        .args(["-u", "-d", "2 days ago", "+%FT23:00:00Z"])
        .output();
    let date = String::from_utf8(date.expect("date runs").stdout).expect("text");
    date.trim().to_owned()
}

const SECONDS: &str = "5400";
const MACHINES: &str = "4";

fn gemba(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_gemba"))
        .args(arguments)
        .output()
        .expect("gemba runs");
    assert!(
        output.status.success(),
        "gemba {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Publishes the plant's stream to a node; answers the figures it must lead to.
fn simulate(node: &Node, folder: &Path, start: &str) -> Value {
    let file = folder.join("expected.json");
    let (broker, file_name) = (
        format!("mqtt://127.0.0.1:{}", node.mqtt),
        file.display().to_string(),
    );
    let output = gemba(&[
        "simulate",
        "--mqtt",
        &broker,
        "--machines",
        MACHINES,
        "--start",
        start,
        "--duration",
        SECONDS,
        "--speed",
        "100000",
        "--expect",
        &file_name,
    ]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<u64> = said
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!(
        numbers.first(),
        numbers.get(1),
        "published and acknowledged: {said}"
    );
    serde_json::from_slice(&std::fs::read(&file).expect("the expected figures")).expect("JSON")
}

/// Compares each KPI of each twin; answers how many were compared.
fn assert_as_expected(node: &Node, expected: &Value) -> usize {
    let mut compared = 0;
    for (twin, kpis) in expected["twins"].as_object().expect("twins") {
        // What a machine tells its line arrives a little later.
        wait_until(&format!("{twin} is as expected"), || {
            let shown = node.get(&format!("/v1/twins/{twin}"));
            let wrong = kpis.as_object().expect("KPIs").iter().find(|(name, wanted)| {
                let got = &shown["kpis"][name];
                !match (wanted.as_f64(), got.as_f64()) {
                    (Some(wanted), Some(got)) => (wanted - got).abs() <= 1e-9 * wanted.abs().max(1.0),
                    _ => wanted.is_null() && got.is_null(),
                }
            });
            let (name, wanted) = match wrong {
                None => return Some(()),
                Some(wrong) => wrong,
            };
            let got = &shown["kpis"][name];
            assert!(
                twin.starts_with("location/"),
                "{twin} {name}: expected {wanted}, shown {got}"
            );
            None
        });
        compared += kpis.as_object().map_or(0, |kpis| kpis.len());
    }
    compared
}

#[test]
fn the_kpis_are_those_of_the_plant_and_count_once_when_everything_is_sent_again() {
    let (folder, start) = (tempfile::tempdir().expect("a folder"), start());
    let (data, http, mqtt) = (folder.path().join("data"), free_port(), free_port());
    let node = Node::start_on(&data, http, mqtt, &[]);
    let model = folder.path().join("plant.yaml");
    let printed = gemba(&[
        "simulate",
        "--mqtt",
        "mqtt://127.0.0.1",
        "--machines",
        MACHINES,
        "--print-plant",
    ]);
    // The messages are old. A machine that has been silent for its time adds what it last said until then; none may.
    let text = String::from_utf8(printed.stdout)
        .expect("text")
        .replace("30s", "6d");
    std::fs::write(&model, text).expect("a plant model");
    let url = format!("http://127.0.0.1:{http}");
    gemba(&["apply", "-f", &model.display().to_string(), "--url", &url]);

    let expected = simulate(&node, folder.path(), &start);
    let sent = expected["messages"].as_u64().expect("a count");
    let compared = assert_as_expected(&node, &expected);
    assert!(compared > 500, "only {compared} KPIs were compared");
    let counts = node.counts_that_add_up();
    assert_eq!((counts.applied, counts.received), (sent, sent));

    assert_eq!(
        simulate(&node, folder.path(), &start),
        expected,
        "the same seed, start and duration"
    );
    let counts = node.counts_that_add_up();
    assert_eq!((counts.applied, counts.duplicate), (sent, sent));
    assert_as_expected(&node, &expected);

    node.kill();
    let node = Node::start_on(&data, http, mqtt, &[]);
    assert_as_expected(&node, &expected);
    println!("{sent} messages, {compared} KPIs as expected");
    assert!(node.stop());
}
