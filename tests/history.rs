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

    // A range as one Parquet file: what one package reads of it is what the other one does.
    let file = folder.path().join("cnc-3.parquet");
    let whole = support::command::gemba(&[
        "export",
        "--format",
        "parquet",
        "--twin",
        "machine/cnc-3",
        "--out",
        file.to_str().expect("UTF-8"),
        "--data-dir",
        data.to_str().expect("UTF-8"),
    ]);
    assert_eq!((whole.status, whole.err.as_str()), (0, "240 rows\n"));
    let output = python()
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/history.py"), "--file"])
        .arg(&file)
        .output()
        .expect("a Python");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let sum: u64 = (0..READINGS)
        .filter(|number| number % MACHINES == 3)
        .map(|number| number / MACHINES)
        .sum();
    for package in ["duckdb", "polars"] {
        let expected = json!({"rows": 240, "twins": ["machine/cnc-3"], "sum": sum as f64});
        assert_eq!(said[package], expected, "{package}: {said}");
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

const RULE: &str = r#"
machines:
  - {id: cnc-07, metrics: [{name: spindle_temp_c, unit: "°C"}]}
alarms:
  - id: spindle_hot
    applies_to: {kind: machine}
    condition: metrics.spindle_temp_c > 80
    priority: high
    text: Spindle too hot
"#;
const HOT: &str = "machine:cnc-07:spindle_hot";

/// Lets an alarm come, be acknowledged, and go; each reading is sent twice.
fn alarm(node: &Node, number: u64) {
    let heat = |value: f64, id: String| {
        let reading = json!({"sensor_id": "cnc-07", "message_id": id, "metrics": {"spindle_temp_c": value}})
            .to_string();
        for _ in 0..2 {
            let answer = node.call(&Request::post("/v1/readings", reading.clone()));
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    };
    heat(81.5 + number as f64, format!("hot-{number}"));
    let comment = json!({"comment": format!("seen {number}")}).to_string();
    let answer = node.call(&Request::post(&format!("/v1/alarms/{HOT}/ack"), comment));
    assert_eq!(answer.status, 200, "{}", answer.text());
    heat(20.0, format!("cool-{number}"));
}

#[test]
fn every_change_of_an_alarm_is_in_the_files_once_over_crashes() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let config = folder.path().join("gemba.toml");
    // Snapshots pass what the files hold, so that what waits for a file has to be in them.
    std::fs::write(&config, "[snapshot]\nevents = 2\nevery_s = 1\n").expect("written");
    let arguments = ["--config", config.to_str().expect("UTF-8")];
    let mut node = Node::start(&data, &arguments);
    assert_eq!(
        node.call(&Request::new("PUT", "/v1/plant").body(RULE)).status,
        200
    );
    wait_until("the machine knows its rule", || {
        (node.list("/v1/alarms?state=all").len() == 1).then_some(())
    });
    const TIMES: u64 = 9;
    for number in 0..TIMES {
        alarm(&node, number);
        if number % 3 == 1 {
            assert_eq!(node.call(&Request::post("/v1/history/write", "{}")).status, 200);
        }
        if number % 3 == 2 {
            snapshot_follows(&node);
            node.kill();
            node = Node::start(&data, &arguments);
        }
    }
    let alarm = wait_until("the shard is back", || {
        let alarm = node.call(&Request::get(&format!("/v1/alarms/{HOT}")));
        (alarm.status == 200).then(|| alarm.json())
    });
    assert_eq!(alarm["count"], TIMES, "{alarm}");
    let mut told = node.list(&format!(
        "/v1/alarms/{HOT}/history?from=2020-01-01T00:00:00Z&limit=1000"
    ));
    told.reverse();
    assert_eq!(told.len() as u64, 3 * TIMES);
    assert!(node.stop(), "a clean stop");
    let said = read_by_others(&data.join("history"));
    for package in ["duckdb", "polars"] {
        let rows = said[package].as_array().expect("rows");
        assert_eq!(rows.len(), told.len(), "{package}: {said}");
        for (number, (row, told)) in rows.iter().zip(&told).enumerate() {
            assert_eq!(
                (&row[2], &row[7], &row[8]),
                (&told["what"], &told["by"], &told["comment"]),
                "{package} {number}: {said}"
            );
            assert_eq!(row[0], "machine/cnc-07");
            assert_eq!(
                (&row[1], &row[4], &row[5]),
                (&json!("spindle_hot"), &json!("high"), &json!("Spindle too hot"))
            );
        }
        assert_eq!(rows[3][6], 82.5, "{package}: the value it was raised by: {said}");
    }
    let exported = support::command::gemba(&[
        "export",
        "--kind",
        "alarms",
        "--format",
        "ndjson",
        "--data-dir",
        data.to_str().expect("UTF-8"),
    ]);
    assert_eq!(exported.out.lines().count() as u64, 3 * TIMES, "{}", exported.out);
}

/// Waits until a snapshot was written after now.
fn snapshot_follows(node: &Node) {
    let written = || {
        let metrics = node.call(&Request::get("/metrics")).text();
        let counts = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("shard_snapshot_seconds_count"));
        counts
            .filter_map(|rest| rest.split(' ').next_back()?.parse::<f64>().ok())
            .sum::<f64>()
    };
    let before = written();
    let reading = json!({"sensor_id": "cnc-07", "metrics": {"spindle_temp_c": 20}}).to_string();
    assert_eq!(node.call(&Request::post("/v1/readings", reading)).status, 200);
    wait_until("a snapshot is written", || (written() > before).then_some(()));
}
