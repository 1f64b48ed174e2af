//! The history that a node leaves behind, read by others: DuckDB and Polars count what the twins count.
//!
//! `GEMBA_PYTHON` names a Python that has both packages; `./dev test` makes one in `target/python`.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use support::{Node, http::Request, python::python, wait_until};

const MACHINES: u64 = 5;
const READINGS: u64 = 400;
const SCANS: u64 = 30;

/// What both packages say of a tenant's history.
fn read_by_others(history: &Path) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/history.py");
    let output = python()
        .arg(script)
        .arg(history)
        .arg("default")
        .output()
        .expect("a Python with duckdb and polars (./dev test makes one in target/python)");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Sends readings of all machines, some of them twice; counters grow by one with each.
fn feed(node: &Node, from: u64, to: u64) {
    let start_ms = support::example::now_ms() - 3_600_000;
    let mut lines = String::new();
    for number in from..to {
        let machine = number % MACHINES;
        let reading = json!({"sensor_id": format!("cnc-{machine}"), "message_id": format!("m-{number}"),
            "timestamp": start_ms + number * 1_000,
            "metrics": {"execution": "producing", "good_count": number / MACHINES, "load_pct": 50.5}});
        lines.push_str(&format!("{reading}\n"));
        if number % 7 == 0 {
            lines.push_str(&format!("{reading}\n"));
        }
    }
    let request = Request::post("/v1/readings", lines).header("content-type", "application/x-ndjson");
    let answer = node.call(&request);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn duckdb_and_polars_count_what_the_twins_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let node = Node::start(&data, &[]);
    feed(&node, 0, READINGS / 2);
    for number in 0..SCANS {
        let scan = json!({"job_id": format!("job-{}", number % 10), "location": format!("cell-{}", number / 10), "message_id": format!("s-{number}")});
        assert_eq!(
            node.call(&Request::post("/v1/scans", scan.to_string())).status,
            200
        );
    }
    // Files of this half are there; then the node dies and the rest comes after its restart.
    assert_eq!(node.call(&Request::post("/v1/history/write", "{}")).status, 200);
    node.kill();
    let node = Node::start(&data, &[]);
    feed(&node, READINGS / 2, READINGS);
    let twins = wait_until("the cells know of the jobs", || {
        let twins = node.list("/v1/twins?limit=1000");
        (twins.len() as u64 == MACHINES + 10 + 3).then_some(twins)
    });
    // The newest value of each counter, which began at zero: its sum over the machines is what was made.
    let made: f64 = twins
        .iter()
        .filter_map(|twin| twin["state"]["metrics"]["good_count"]["value"].as_f64())
        .sum();
    assert!(node.stop(), "a clean stop");

    let history = data.join("history");
    let said = read_by_others(&history);
    let sum: u64 = (0..READINGS).map(|number| number / MACHINES).sum();
    for package in ["duckdb", "polars"] {
        let found = &said[package];
        assert_eq!(found["rows"], READINGS, "{package}: {said}");
        assert_eq!(found["messages"], READINGS, "{package}: {said}");
        assert_eq!(found["sum"].as_f64(), Some(sum as f64), "{package}: {said}");
        assert_eq!(found["scans"], SCANS, "{package}: {said}");
        assert_eq!(found["rollup_count"], READINGS, "{package}: {said}");
        assert_eq!(found["rollup_increase"].as_f64(), Some(made), "{package}: {said}");
        assert_eq!(found["twins"], twins.len(), "{package}: {said}");
    }

    let exported = Command::new(env!("CARGO_BIN_EXE_gemba"))
        .args([
            "export",
            "--kind",
            "readings",
            "--twin",
            "machine/cnc-3",
            "--data-dir",
        ])
        .arg(&data)
        .output()
        .expect("gemba export");
    let text = String::from_utf8_lossy(&exported.stdout);
    // A head and a line for each of three metrics.
    assert_eq!(text.lines().count() as u64, 1 + READINGS / MACHINES * 3, "{text}");
    assert!(text.starts_with("twin,metric,time,seq,"), "{text}");
}
