//! What a plant model has its twins work out, seen from outside: contracts that mark and that reject, a forecast from
//! days of readings, a what-if, and a back-fill from the command line.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use serde_json::{Value, json};
use support::{
    Node,
    command::{Said, command, run},
    example::now_ms,
    http::Request,
};

const QUARTER_MS: u64 = 900_000;
const DAY_MS: u64 = 86_400_000;

fn plant(most_kw: u32) -> String {
    json!({
        "locations": [{"id": "cell-1"}],
        "machines": [{
            "id": "cnc-1",
            "location": "cell-1",
            "stale_after": "20m",
            "metrics": [{"name": "flow", "kind": "gauge"}],
            "computed": [{"name": "kw_per_flow", "value": "power_kw / flow", "unit": "kW"}],
            "forecast": ["power_kw"],
            "contract": {"metrics": {"power_kw": {"max": most_kw}}}
        }],
        "sensors": [{
            "id": "air-1",
            "feeds": "location/cell-1",
            "contract": {
                "period": "60s",
                "on_violation": "reject",
                "metrics": {"co2_ppm": {"type": "number", "min": 300, "max": 5000}}
            }
        }]
    })
    .to_string()
}

fn node() -> (tempfile::TempDir, Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), &[]);
    apply(&node, 60);
    (folder, node)
}

fn apply(node: &Node, most_kw: u32) {
    let applied = node.call(&Request::new("PUT", "/v1/plant").body(plant(most_kw)));
    assert_eq!(applied.status, 200, "{}", applied.text());
}

fn ask(node: &Node, arguments: &[&str]) -> Said {
    run(command(arguments).env("GEMBA_URL", format!("http://127.0.0.1:{}", node.http)))
}

/// Readings of five minutes, three days up to now: 40 kW in one half of the day, 5 in the other.
fn feed_days(node: &Node) {
    let end = now_ms() / QUARTER_MS * QUARTER_MS;
    let readings: Vec<Value> = (end - 3 * DAY_MS..end)
        .step_by(300_000)
        .map(|at| {
            let power = if at % DAY_MS < DAY_MS / 2 { 40 } else { 5 };
            json!({"sensor_id": "cnc-1", "timestamp": at, "metrics": {"power_kw": power, "flow": 2}})
        })
        .collect();
    for part in readings.chunks(200) {
        let answer = node.call(&Request::post("/v1/readings", Value::from(part).to_string()));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn a_contract_that_rejects_keeps_a_reading_aside_and_one_that_accepts_marks_it() {
    let (_folder, node) = node();
    let send = |reading: Value| node.call(&Request::post("/v1/readings", reading.to_string()));
    let refused = send(json!({"sensor_id": "air-1", "metrics": {"co2_ppm": 12}}));
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["rejected"][0]["code"], json!("contract.range"));
    assert_eq!(node.list("/v1/rejected")[0]["code"], json!("contract.range"));
    assert_eq!(
        send(json!({"sensor_id": "air-1", "metrics": {"co2_ppm": 420}})).status,
        200
    );
    assert_eq!(
        send(json!({"sensor_id": "cnc-1", "metrics": {"power_kw": 90}})).status,
        200
    );

    let sensors = node.list("/v1/quality");
    let of = |sensor: &str| {
        let found = sensors.iter().find(|item| item["sensor"] == sensor);
        found.unwrap_or_else(|| panic!("{sensor} is not among {sensors:?}"))
    };
    assert_eq!(of("cnc-1")["violations"], json!({"range": 1}));
    assert_eq!(of("cnc-1")["score"], json!(0.0));
    assert_eq!(
        (&of("air-1")["violations"], &of("air-1")["completeness"]),
        (&json!({}), &json!(1.0))
    );
    assert_eq!(of("air-1")["twin"], json!("location/cell-1"));
    assert_eq!(node.list("/v1/quality?twin=location/cell-1").len(), 1);
    let machine = node.get("/v1/twins/machine/cnc-1");
    assert_eq!(machine["state"]["quality"], json!("suspect"));
    assert_eq!(machine["state"]["metrics"]["power_kw"]["value"], json!(90.0));
    assert_eq!(
        node.list("/v1/twins?filter=state.metrics.power_kw.quality%3D%3D'suspect'")
            .len(),
        1
    );
}

#[test]
fn days_of_readings_lead_to_a_forecast_and_a_what_if_tells_what_an_outlier_would_do() {
    let (_folder, node) = node();
    let path = "/v1/twins/machine/cnc-1/forecast?metric=power_kw&horizon=6h";
    feed_days(&node);
    let forecast = node.get(path);
    assert_eq!(forecast["reason"], Value::Null);
    let points = forecast["points"].as_array().expect("points");
    assert_eq!(points.len(), 24);
    for point in points {
        let value = point["value"].as_f64().expect("a value");
        assert!((value - 40.0).abs() < 3.0 || (value - 5.0).abs() < 3.0, "{point}");
        assert!(point["low"].as_f64() <= Some(value) && point["high"].as_f64() >= Some(value));
    }
    for (query, status) in [
        ("metric=flow", 200),
        ("horizon=4h", 400),
        ("metric=power_kw&horizon=9d", 400),
    ] {
        let answer = node.call(&Request::new(
            "GET",
            &format!("/v1/twins/machine/cnc-1/forecast?{query}"),
        ));
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
    }

    // What if it drew 55 kW for half an hour from now on, at twice the flow?
    let now = now_ms();
    let events: Vec<Value> = (0..7)
        .map(|number| {
            let at = now + number * 300_000;
            json!({"sensor_id": "cnc-1", "timestamp": at, "metrics": {"power_kw": 55, "flow": 4}})
        })
        .collect();
    let asked = json!({"events": events, "model": {"machines": [{"id": "cnc-1", "name": "Mazak"}]}});
    let answer = node.call(&Request::post("/v1/twins/machine/cnc-1/fork", asked.to_string()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let forked = answer.json();
    assert_eq!(forked["events"]["applied"], json!(7));
    let changed = |path: &str| {
        let difference = forked["difference"].as_array().expect("a list");
        difference
            .iter()
            .find(|difference| difference["path"] == path)
            .cloned()
    };
    let per_flow = changed("state.metrics.kw_per_flow.value").expect("it follows");
    assert_eq!(per_flow["after"], json!(13.75));
    assert_eq!(
        changed("attributes.name").expect("changed")["after"],
        json!("Mazak")
    );
    let anomalies = &forked["after"]["state"]["anomalies"];
    assert_eq!(anomalies[0]["metric"], json!("power_kw"), "{forked}");
    assert_eq!(forked["before"]["state"]["anomalies"], json!([]));
    assert_eq!(
        node.get("/v1/twins/machine/cnc-1")["state"]["anomalies"],
        json!([])
    );
}

#[test]
fn a_back_fill_is_shown_first_and_taken_over_when_asked() {
    let (_folder, node) = node();
    feed_days(&node);
    apply(&node, 30);
    let shown = ask(&node, &["refold", "--twin", "machine/cnc-1"]);
    assert_eq!(shown.status, 0, "{}", shown.err);
    assert!(shown.out.contains("state.data_quality"), "{}", shown.out);
    assert!(
        shown
            .out
            .contains("1 twins folded again, 1 differ, nothing was changed"),
        "{}",
        shown.out
    );
    let violations = || node.get("/v1/twins/machine/cnc-1")["state"]["data_quality"]["violations"].clone();
    assert_eq!(violations(), Value::Null);
    let taken = ask(&node, &["refold", "--kind", "machine", "--apply"]);
    assert!(
        taken.out.contains("1 differ, 1 taken over"),
        "{} {}",
        taken.out,
        taken.err
    );
    // 40 kW in half of the 864 readings.
    assert_eq!(violations(), json!(432));
    let again = ask(&node, &["refold", "--apply"]);
    assert!(
        again.out.contains("0 differ, 0 taken over"),
        "{} {}",
        again.out,
        again.err
    );
    let events = node.list("/v1/twins/machine/cnc-1/events?limit=1000");
    let last = events.last().expect("events");
    assert_eq!(
        (&last["type"], &last["refolded"]["model_version"]),
        (&json!("refolded"), &json!(2))
    );
}
