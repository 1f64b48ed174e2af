//! The checkpoint by SQL against fakesnow: nodes killed with `kill -9` in the middle of transactions, answers lost,
//! sessions that end; migrations; the comparison of both sides; and a warehouse that lies, so that it is seen that these
//! checks see.
//!
//! `GEMBA_CRASH_CYCLES` sets the number of kills (12 by default).

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;
#[path = "support/warehouse/mod.rs"]
mod warehouse;

use serde_json::{Value, json};
use support::wait_until;
use warehouse::{Found, IN_A_REQUEST, JOBS, MACHINES, Plant, Warehouse, feed, look, streams, wait_for_all};

fn kills() -> u64 {
    std::env::var("GEMBA_CRASH_CYCLES")
        .ok()
        .and_then(|cycles| cycles.parse().ok())
        .unwrap_or(12)
}

fn rows_of(to: u64) -> u64 {
    to + to.div_ceil(4)
}

/// What has to have happened, or the test shows nothing.
const FAULTS: [&str; 6] = [
    "busy",
    "error_before",
    "lost_answer",
    "expired",
    "in_progress",
    "aborted",
];

#[test]
fn nothing_is_lost_or_doubled_when_the_node_is_killed_and_the_warehouse_fails() {
    let warehouse = Warehouse::start();
    let plant = Plant::with_tables(&warehouse, "");
    let faults = json!({"busy": 0.04, "error_before": 0.04, "lost_answer": 0.05, "expired": 0.08, "in_progress": 0.08,
        "slow_ms": 15});
    warehouse.set_faults(&faults);
    let mut node = plant.start();
    let (mut sent, between) = (0, IN_A_REQUEST * 2);
    for _ in 0..kills() {
        let before = warehouse.count("BEGIN");
        feed(&node, sent, sent + between);
        sent += between;
        // Killed while transactions are open.
        wait_until("transactions are open", || {
            (warehouse.count("BEGIN") >= before + 3).then_some(())
        });
        node.kill();
        node = plant.start();
    }
    warehouse.set_faults(&json!({}));
    wait_for_all(&node);
    let expected = Found {
        rows: rows_of(sent),
        ..Found::default()
    };
    assert_eq!(look(&warehouse, sent), expected);
    let counted = FAULTS.map(|what| (what, warehouse.count(what)));
    println!(
        "{} kills, {} transactions, {counted:?}",
        kills(),
        warehouse.count("BEGIN")
    );
    if kills() >= 12 {
        assert!(counted.iter().all(|(_, count)| *count > 0), "{counted:?}");
    }
    assert_eq!(warehouse.count("untagged"), 0, "statements without a query tag");
    // What twins compute is there as well: each reading in one bucket of an hour, each twin once.
    let readings = warehouse
        .number("SELECT SUM(READING_COUNT) FROM METRIC_ROLLUPS WHERE METRIC = 'load_pct' AND STEP = '1h'");
    assert_eq!(readings, sent as f64);
    for (table, key) in [
        (
            "METRIC_ROLLUPS",
            "TENANT_ID, TWIN_KIND, TWIN_ID, METRIC, STEP, BUCKET_TS",
        ),
        ("TWIN_KPIS", "TENANT_ID, TWIN_KIND, TWIN_ID, KPI, KPI_TS"),
        ("TWIN_STATES", "TENANT_ID, TWIN_KIND, TWIN_ID"),
    ] {
        let rows = warehouse.number(&format!("SELECT COUNT(*) FROM {table}"));
        let keys = warehouse.number(&format!(
            "SELECT COUNT(*) FROM (SELECT DISTINCT {key} FROM {table})"
        ));
        assert!(rows > 0.0 && rows == keys, "{table}: {rows} rows of {keys} keys");
    }
    let twins = "SELECT COUNT(*) FROM TWIN_STATES WHERE TWIN_KIND = ";
    assert_eq!(warehouse.number(&format!("{twins}'machine'")), MACHINES as f64);
    assert_eq!(warehouse.number(&format!("{twins}'job'")), JOBS as f64);
    wait_until("states are those of the node", || {
        let states =
            "SELECT TWIN_ID, REV::VARCHAR, STATE::VARCHAR FROM TWIN_STATES WHERE TWIN_KIND = 'machine'";
        let same = warehouse.rows(states).iter().all(|row| {
            let twin = node.get(&format!("/v1/twins/machine/{}", row[0]));
            let there: Value = serde_json::from_str(&row[2]).expect("JSON");
            twin["rev"].as_u64() == row[1].parse().ok()
                && twin["state"]["metrics"] == there["state"]["metrics"]
        });
        same.then_some(())
    });
    // And so says the comparison, beside the running node.
    let url = format!("http://127.0.0.1:{}", node.http);
    let said = plant.snowflake(&["reconcile", "--fresh", "--url", &url]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert!(
        said.out.contains(&format!("each of {} rows once", rows_of(sent))),
        "{}",
        said.out
    );
    assert!(node.stop());
}

/// What is found when a node is killed beside a warehouse that lies, each time when it thinks that all is there.
fn found_beside(lie: &str) -> Found {
    let warehouse = Warehouse::start();
    let plant = Plant::with_tables(&warehouse, "");
    warehouse.set_faults(&json!({"lie": lie}));
    let mut node = plant.start();
    let mut sent = 0;
    for _ in 0..2 {
        feed(&node, sent, sent + IN_A_REQUEST);
        sent += IN_A_REQUEST;
        wait_for_all(&node);
        node.kill();
        node = plant.start();
    }
    wait_for_all(&node);
    look(&warehouse, sent)
}

#[test]
fn a_warehouse_that_forgets_offsets_is_seen_to_double_rows() {
    let found = found_beside("offset_forgotten");
    assert!(found.doubled > 0, "{found:?}");
}

#[test]
fn a_warehouse_that_loses_rows_is_seen_to() {
    let found = found_beside("row_lost");
    assert!(found.missing > 0, "{found:?}");
}

#[test]
fn a_row_that_is_refused_is_set_aside_and_holds_up_nothing() {
    let warehouse = Warehouse::start();
    let plant = Plant::with_tables(&warehouse, "");
    warehouse.set_faults(&json!({"poison": "\"r-13\""}));
    let node = plant.start();
    feed(&node, 0, IN_A_REQUEST);
    wait_for_all(&node);
    let expected = Found {
        rows: rows_of(IN_A_REQUEST) - 1,
        missing: 1,
        doubled: 0,
    };
    assert_eq!(look(&warehouse, IN_A_REQUEST), expected);
    let letters = warehouse.rows("SELECT CONTENT:MESSAGE_ID::VARCHAR, REASON FROM DEAD_LETTERS");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0][0], "r-13");
    assert!(letters[0][1].contains("100078"), "{letters:?}");
    let told: u64 = streams(&node)
        .iter()
        .filter_map(|stream| stream["dead_letters"].as_u64())
        .sum();
    assert_eq!(told, 1);
    let written = std::fs::read_dir(plant.data().join("checkpoint/dead-letters")).expect("a folder");
    assert_eq!(written.count(), 1);
    // The fault is there still: nothing changes, and that is said.
    let said = plant.snowflake(&["resend"]);
    assert_eq!(said.status, 1, "{}{}", said.out, said.err);
    assert!(
        said.out
            .contains("of 1 rows 0 there already, 0 sent, 1 refused again")
            && said.err.contains("1 rows were refused again"),
        "{}{}",
        said.out,
        said.err
    );
    warehouse.set_faults(&json!({}));
    let dry = plant.snowflake(&["resend", "--dry-run"]);
    assert!(dry.out.contains("1 would be sent"), "{}{}", dry.out, dry.err);
    assert_eq!(look(&warehouse, IN_A_REQUEST), expected);
    // It is mended, and an answer that is lost doubles nothing.
    warehouse.set_faults(&json!({"lost_answer": 0.5}));
    plant.snowflake(&["resend"]);
    warehouse.set_faults(&json!({}));
    let said = plant.snowflake(&["resend"]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert_eq!(
        look(&warehouse, IN_A_REQUEST),
        Found {
            rows: rows_of(IN_A_REQUEST),
            missing: 0,
            doubled: 0,
        }
    );
    let said = plant.snowflake(&["resend"]);
    assert!(
        said.status == 0 && said.out.contains("no refused rows are kept"),
        "{}",
        said.out
    );
    // Nor does it double what is sent again by mistake.
    let letters = plant.data().join("checkpoint/dead-letters");
    for entry in std::fs::read_dir(letters.join("resent")).expect("a folder") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, letters.join(path.file_name().expect("a name"))).expect("copied");
    }
    let said = plant.snowflake(&["resend"]);
    assert!(
        said.out.contains("of 1 rows 1 there already, 0 sent"),
        "{}{}",
        said.out,
        said.err
    );
    let url = format!("http://127.0.0.1:{}", node.http);
    let said = plant.snowflake(&["reconcile", "--fresh", "--url", &url]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
}

#[test]
fn of_two_writers_of_one_place_the_older_one_stops() {
    let warehouse = Warehouse::start();
    let plant = Plant::with_tables(&warehouse, "");
    let older = plant.start();
    feed(&older, 0, IN_A_REQUEST);
    wait_for_all(&older);
    // The epoch of one that came later.
    warehouse.rows("UPDATE CHECKPOINT_OFFSETS SET EPOCH = EPOCH + 1");
    feed(&older, IN_A_REQUEST, IN_A_REQUEST * 2);
    wait_until("all are fenced", || {
        let streams = streams(&older);
        streams
            .iter()
            .all(|stream| stream["state"] == "fenced")
            .then_some(())
    });
    assert_eq!(
        look(&warehouse, IN_A_REQUEST).rows,
        rows_of(IN_A_REQUEST),
        "it writes nothing more"
    );
}

#[test]
fn what_is_deleted_doubled_or_changed_there_is_named() {
    let warehouse = Warehouse::start();
    let plant = Plant::with_tables(&warehouse, "");
    let node = plant.start();
    feed(&node, 0, IN_A_REQUEST * 5);
    wait_for_all(&node);
    assert!(node.stop());
    let reconcile = || {
        let said = plant.snowflake(&["reconcile", "--json"]);
        let json: Value =
            serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
        (said.status, json)
    };
    let (status, whole) = reconcile();
    assert_eq!((status, &whole["agrees"]), (0, &json!(true)), "{whole}");
    let sums = |json: &Value, name: &str| -> u64 {
        let items = json["items"].as_array().expect("items").iter();
        items.map(|item| item[name].as_u64().expect("a number")).sum()
    };
    assert_eq!(sums(&whole, "rows_there"), rows_of(IN_A_REQUEST * 5), "{whole}");
    let victim = warehouse
        .rows("SELECT SHARD::VARCHAR, SEQ::VARCHAR FROM SENSOR_READINGS_RAW WHERE MESSAGE_ID = 'r-77'");
    let of = |json: &Value, stream: &str, name: &str| -> Vec<String> {
        let items = json["items"].as_array().expect("items").iter();
        let items = items.filter(|item| item["stream"] == stream);
        items
            .flat_map(|item| item[name].as_array().expect("seqs").iter())
            .map(ToString::to_string)
            .collect()
    };
    let seq = vec![victim[0][1].clone()];
    warehouse.rows("DELETE FROM SENSOR_READINGS_RAW WHERE MESSAGE_ID = 'r-77'");
    let (status, without) = reconcile();
    assert_eq!(
        (status, of(&without, "readings", "missing")),
        (1, seq.clone()),
        "{without}"
    );
    let wrong = without["items"].as_array().expect("items").iter();
    let wrong: Vec<&Value> = wrong
        .filter(|item| item["checksum_here"] != item["checksum_there"])
        .collect();
    assert_eq!(wrong.len(), 1, "{without}");
    assert_eq!(wrong[0]["shard"].to_string(), victim[0][0]);

    warehouse.rows("INSERT INTO JOB_TRACKING SELECT * FROM JOB_TRACKING WHERE MESSAGE_ID = 's-8'");
    let (status, doubled) = reconcile();
    assert_eq!(status, 1);
    assert_eq!(of(&doubled, "scans", "doubled").len(), 1, "{doubled}");
    assert_eq!(of(&doubled, "readings", "missing"), seq);

    warehouse.rows("UPDATE SENSOR_READINGS_RAW SET TWIN_ID = 'cnc-other' WHERE MESSAGE_ID = 'r-3'");
    warehouse.rows("UPDATE SENSOR_READINGS_RAW SET SEQ = 0 WHERE MESSAGE_ID = 'r-5'");
    let (_, changed) = reconcile();
    assert_eq!(of(&changed, "readings", "changed").len(), 1, "{changed}");
    assert_eq!(of(&changed, "readings", "foreign"), ["0"], "{changed}");
    let said = plant.snowflake(&["reconcile"]);
    assert_eq!(said.status, 1);
    assert!(
        said.out.contains("DIFFERS") && said.out.contains("there more than once: seq"),
        "{}",
        said.out
    );
    assert!(
        said.err.contains("differs from what was accepted in 5 rows"),
        "{}",
        said.err
    );
}

#[test]
fn migrations_run_once_and_again_when_they_have_changed() {
    let warehouse = Warehouse::start();
    let plant = Plant::new(&warehouse, "");
    let dry = plant.snowflake(&["apply", "--dry-run"]);
    assert_eq!(
        (dry.status, dry.out.lines().count()),
        (0, 9),
        "{}{}",
        dry.out,
        dry.err
    );
    assert!(
        dry.out.contains("001_roles_and_warehouses.sql: not applied"),
        "{}",
        dry.out
    );
    assert_eq!(warehouse.count("CREATE"), 0, "a dry run runs nothing");
    let status = |more: &[&str]| {
        let mut arguments = vec!["status", "--json"];
        arguments.extend(more);
        let said = plant.snowflake(&arguments);
        let json: Value =
            serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
        let items = json["items"].as_array().expect("items").clone();
        let applied = items.iter().filter(|item| item["applied"] == true).count();
        let changed = items.iter().filter(|item| item["changed"] == true).count();
        (items.len(), applied, changed)
    };
    assert_eq!(status(&[]), (9, 0, 0));
    let applied = plant.snowflake(&["apply"]);
    assert_eq!(applied.status, 0, "{}", applied.err);
    assert!(applied.out.contains("003_tables.sql"), "{}", applied.out);
    assert_eq!(status(&[]), (9, 9, 0));
    let created = warehouse.count("CREATE");
    let again = plant.snowflake(&["apply"]);
    assert!(again.out.contains("all 9 files are applied"), "{}", again.out);
    assert_eq!(
        warehouse.count("CREATE"),
        created,
        "what is applied is not run again"
    );
    // A tenant that becomes a premium one is a file more; another quota is another text of one file.
    assert_eq!(status(&["--premium", "acme"]), (10, 9, 0));
    assert_eq!(status(&["--credit-quota", "7"]), (9, 8, 1));
    let changed = plant.snowflake(&["apply", "--credit-quota", "7", "--premium", "acme"]);
    assert_eq!(
        (changed.status, changed.out.lines().count()),
        (0, 2),
        "{}{}",
        changed.out,
        changed.err
    );
    assert_eq!(status(&["--credit-quota", "7", "--premium", "acme"]), (10, 10, 0));
    assert_eq!(warehouse.number("SELECT COUNT(*) FROM MIGRATIONS"), 10.0);
    let elsewhere = plant.snowflake(&["apply", "--schema", "OTHER"]);
    assert_eq!(elsewhere.status, 1);
    assert!(elsewhere.err.contains("snowflake.schema"), "{}", elsewhere.err);
}
