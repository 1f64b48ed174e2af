//! A plant with shifts on a running node: KPIs of the shift that is on and of the one that is over, their causes, and
//! the job on the machine.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::{Node, wait_until};

/// Early shift in Helsinki from 04:00 to 12:00 UTC, with a break from 07:00 to 07:15.
const PLANT: &str = "
version: 1
site: {id: works, timezone: Europe/Helsinki}
shifts:
  - {name: early, start: 06:00, end: 14:00, breaks: [09:00-09:15]}
  - {name: late, start: 14:00, end: 22:00}
machines:
  - {id: cnc-07, ideal_cycle: 30s, stale_after: 1h}
";

fn reading(minute: i64, execution: &str, good: u64, more: &Value) -> Value {
    let (hour, minute) = (4 + minute / 60, minute % 60);
    let mut metrics = json!({"execution": execution, "good_count": good, "scrap_count": 0});
    for (name, value) in more.as_object().into_iter().flatten() {
        metrics[name] = value.clone();
    }
    json!({"sensor_id": "cnc-07", "timestamp": format!("2026-01-15T{hour:02}:{minute:02}:00Z"), "metrics": metrics})
}

#[test]
fn a_shift_has_its_kpis_and_their_causes_while_it_is_on_and_after() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), &[]);
    let put = support::http::Request::new("PUT", "/v1/plant").body(PLANT);
    assert_eq!(node.call(&put).status, 200);
    wait_until("the machine knows the model", || {
        let twins = node.list("/v1/twins?kind=machine");
        (twins.len() == 1).then_some(())
    });
    // Two hours of work, a fault of an hour, its reason said late; then it works again, and stands for the break.
    let readings = json!([
        reading(0, "producing", 0, &json!({"job_id": "4711"})),
        reading(60, "producing", 100, &json!({})),
        reading(120, "down", 200, &json!({})),
        reading(150, "down", 200, &json!({"downtime_reason": "tool broken"})),
        reading(180, "idle", 200, &json!({})),
        reading(195, "producing", 200, &json!({"job_id": "4712"})),
        reading(240, "producing", 290, &json!({})),
    ]);
    let (status, answer) = node.post(
        "/v1/readings",
        "application/json",
        readings.to_string().as_bytes(),
    );
    assert_eq!((status, &answer["accepted"]), (200, &json!(7)), "{answer}");

    let twin = node.get("/v1/twins/machine/cnc-07");
    let state = &twin["state"];
    assert_eq!(
        state["shift"],
        json!({"name": "early", "began_at": "2026-01-15T04:00:00.000Z", "ends_at": "2026-01-15T12:00:00.000Z"})
    );
    assert_eq!(
        state["time_in_state_s"],
        json!({"producing": 9_900.0, "down": 3_600.0, "planned_down": 900.0})
    );
    assert_eq!(
        state["downtime"],
        json!([{"reason": "tool broken", "s": 3_600.0, "count": 1}])
    );
    // 290 parts at 30 s in 165 of 225 planned minutes.
    let kpi = |name: &str| twin["kpis"][name].as_f64().expect(name);
    for (name, wanted) in [
        ("availability", 165.0 / 225.0),
        ("effectiveness", 290.0 * 30.0 / (165.0 * 60.0)),
        ("oee", 290.0 * 30.0 / (225.0 * 60.0)),
        ("mttr_s", 3_600.0),
        ("cycle_time_s", 165.0 * 60.0 / 290.0),
    ] {
        assert!(
            (kpi(name) - wanted).abs() < 1e-9,
            "{name}: {}, not {wanted}",
            kpi(name)
        );
    }
    assert_eq!(
        (&state["job"]["id"], &state["job"]["kpis"]["parts"]),
        (&json!("4712"), &json!(90.0))
    );

    let printed = Command::new(env!("CARGO_BIN_EXE_gemba"))
        .args([
            "get",
            "machine/cnc-07",
            "--url",
            &format!("http://127.0.0.1:{}", node.http),
        ])
        .output()
        .expect("gemba runs");
    let printed = String::from_utf8(printed.stdout).expect("text");
    assert!(
        printed.contains("stood for tool broken: 3600 s, 1 times"),
        "{printed}"
    );

    // The late shift begins: the early one is over, and keeps what it was.
    let readings = json!([
        reading(480, "producing", 500, &json!({})),
        reading(481, "producing", 502, &json!({})),
    ]);
    node.post(
        "/v1/readings",
        "application/json",
        readings.to_string().as_bytes(),
    );
    let shifts = node.get("/v1/twins/machine/cnc-07/shifts?limit=5");
    let names: Vec<_> = shifts["items"]
        .as_array()
        .expect("shifts")
        .iter()
        .map(|shift| (&shift["name"], &shift["ended_at"]))
        .collect();
    let over = json!("2026-01-15T12:00:00.000Z");
    assert_eq!(names, [(&json!("late"), &Value::Null), (&json!("early"), &over)]);
    assert_eq!(
        shifts["items"][1]["kpis"]["parts"],
        json!(290.0),
        "what was read at its end is the next one's"
    );
    let jobs = node.get("/v1/twins/machine/cnc-07/jobs");
    assert_eq!(jobs["items"][1]["name"], json!("4711"));
    assert_eq!(jobs["items"][1]["kpis"]["parts"], json!(200.0));
    assert!(node.stop());
}
