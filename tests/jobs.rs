//! Jobs on their way through a plant, by every way in: scans, reads of tags, EPCIS events; where they are held up, and
//! the air where they wait.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use serde_json::{Value, json};
use support::{Node, example::now_ms, http::Request, wait_until};

const PLANT: &str = r#"
site: {id: works}
locations:
  - {id: goods-in}
  - {id: mill, air_profiles: [uba_co2, reset_air_ci], demand: 40/h}
  - {id: wash}
  - {id: shipping, exit: true}
readers:
  - {id: gate-1, location: goods-in}
epcs:
  - {match: "urn:epc:id:sgtin:0614141.812345.*", job: "J-{serial}"}
"#;

fn node() -> (tempfile::TempDir, Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), &[]);
    let put = Request::new("PUT", "/v1/plant").header("content-type", "application/yaml");
    assert_eq!(node.call(&put.body(PLANT)).status, 200);
    (folder, node)
}

fn post(node: &Node, path: &str, body: &Value) -> Value {
    let answer = node.call(&Request::post(path, body.to_string()));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

fn scan(node: &Node, job: &str, location: &str, minutes_ago: u64) {
    let at = now_ms() - minutes_ago * 60_000;
    post(
        node,
        "/v1/scans",
        &json!({"job_id": job, "location": location, "scan_timestamp": at}),
    );
}

#[test]
fn the_flow_of_jobs_shows_where_they_are_held_up() {
    let (_folder, node) = node();
    for (job, ago) in [("a", 170), ("b", 150)] {
        scan(&node, job, "goods-in", ago);
        scan(&node, job, "mill", ago - 5);
        scan(&node, job, "wash", ago - 45);
        // Back to the mill: rework.
        scan(&node, job, "mill", ago - 50);
        scan(&node, job, "shipping", ago - 90);
    }
    let flow = wait_until("the locations know of the jobs", || {
        let flow = node.get("/v1/flow");
        let left = |place: &Value| place["location"] == "mill" && place["left"] == 4;
        flow["locations"].as_array()?.iter().any(left).then_some(flow)
    });
    assert_eq!(flow["bottleneck"]["location"], "mill", "{flow}");
    // Forty minutes each time.
    assert_eq!(flow["bottleneck"]["dwell_s_mean"], 2_400.0, "{flow}");
    let ways = flow["flows"].as_array().expect("a list");
    for way in [
        json!({"from": null, "to": "goods-in", "count": 2}),
        json!({"from": "goods-in", "to": "mill", "count": 2}),
        json!({"from": "mill", "to": "wash", "count": 2}),
        json!({"from": "wash", "to": "mill", "count": 2}),
        json!({"from": "mill", "to": "shipping", "count": 2}),
    ] {
        assert!(ways.contains(&way), "{way} is missing in {flow}");
    }
    let nothing = node.get(&format!("/v1/flow?from={0}&to={0}", now_ms() - 20 * 86_400_000));
    assert_eq!(nothing["bottleneck"], Value::Null);
    assert!(
        nothing["bottleneck_reason"].is_string() && nothing["kept_from"].is_string(),
        "{nothing}"
    );

    let done = node.get("/v1/twins/job/a");
    assert_eq!(done["kpis"]["lead_time_s"], 5_400.0);
    assert_eq!(done["kpis"]["rework_loops"], 1.0);
    let mill = node.get("/v1/twins/location/mill");
    assert_eq!(mill["kpis"]["takt_s"], 90.0);

    // A job that came to the mill an hour ago and waits.
    scan(&node, "c", "goods-in", 65);
    scan(&node, "c", "mill", 60);
    let waiting = wait_until("an estimate", || {
        let job = node.get("/v1/twins/job/c");
        job["state"]["estimated_completion"].is_string().then_some(job)
    });
    let state = &waiting["state"];
    assert_eq!(state["bottleneck"]["location"], "mill");
    assert!(state["path"][1]["dwell_s"].as_f64() >= Some(3_600.0), "{state}");
    assert_eq!(
        (&state["path"][1]["open"], &state["path"][1]["left_at"]),
        (&json!(true), &Value::Null)
    );
    assert!(
        waiting["kpis"]["lead_time_s"].is_null() && waiting["kpis"]["reasons"]["lead_time_s"].is_string()
    );
    // From the mill it took 85 minutes the first time and 40 the second: done in about two and a half.
    assert!(state["late_by_s"].is_null(), "{state}");
    node.counts_that_add_up();
}

#[test]
fn tags_and_epcis_events_lead_to_the_same_jobs() {
    let (_folder, node) = node();
    // 2025-01-15T10:00:00Z.
    let at: u64 = 1_736_935_200_000;
    let read = |ms: u64| {
        json!({"eventType": "tagInventory", "hostname": "gate-1", "tagInventoryEvent": {
            "epcHex": "3074257BF7194E4000001A85", "antennaPort": 1, "peakRssiCdbm": -5_000,
            "lastSeenTime": at + ms}})
    };
    let reads: Vec<Value> = (0..100).map(|number| read(number * 20)).collect();
    let answer = post(&node, "/v1/rfid/impinj", &Value::from(reads));
    assert_eq!(answer, json!({"accepted": 100, "duplicates": 0, "rejected": []}));
    let generic =
        json!({"reads": [{"epc": "urn:epc:id:sgtin:0614141.812345.6789", "timestamp": at + 3_000}]});
    post(&node, "/v1/rfid/generic?reader=gate-1", &generic);
    let job = node.get("/v1/twins/job/J-6789");
    assert_eq!(
        (&job["state"]["location"], &job["kpis"]["scans"]),
        (&json!("goods-in"), &json!(1.0)),
        "{job}"
    );

    let event = json!({"type": "ObjectEvent", "action": "OBSERVE", "eventID": "urn:uuid:7", "eventTime": "2025-01-15T10:01:00Z",
        "eventTimeZoneOffset": "+00:00", "epcList": ["urn:epc:id:sgtin:0614141.812345.6789"],
        "readPoint": {"id": "mill"}});
    let document = json!({"type": "EPCISDocument", "epcisBody": {"eventList": [event]}});
    let capture = Request::post("/v1/epcis/capture", document.to_string());
    assert_eq!(node.call(&capture).json()["accepted"], 1);
    assert_eq!(node.call(&capture).json()["duplicates"], 1);
    assert_eq!(node.get("/v1/twins/job/J-6789")["state"]["location"], "mill");
    let mut wrong = event;
    wrong["errorDeclaration"] = json!({"reason": "incorrect_data"});
    assert_eq!(post(&node, "/v1/epcis/capture", &wrong)["accepted"], 1);
    assert_eq!(node.get("/v1/twins/job/J-6789")["state"]["location"], "goods-in");
    let goods_in = wait_until("the location knows that the job is back", || {
        let twin = node.get("/v1/twins/location/goods-in");
        (twin["kpis"]["wip"] == 1.0).then_some(twin)
    });
    assert_eq!(goods_in["kpis"]["visits"], 0.0);
    let unknown = Request::post("/v1/rfid/zebra", r#"{"type":"SIMPLE","data":{"idHex":"E280"}}"#);
    let answer = node.call(&unknown);
    assert_eq!(
        (answer.status, &answer.json()["rejected"][0]["code"]),
        (400, &json!("rfid.reader_missing"))
    );
    node.counts_that_add_up();
}

#[test]
fn the_air_of_a_location_is_judged_by_the_profiles_of_its_plant_model() {
    let (_folder, node) = node();
    let hour = now_ms() / 3_600_000 * 3_600_000;
    // Three full hours, a value each ten minutes.
    let past: Vec<Value> = (1..=18)
        .map(|ten| {
            json!({"sensor_id": "air-1", "sensor_type": "AIR_QUALITY", "location_id": "mill",
                "timestamp": hour - ten * 600_000 + 1_000, "metrics": {"pm25_ugm3": 10.0}})
        })
        .collect();
    post(&node, "/v1/readings", &Value::from(past));
    let now = json!({"sensor_id": "air-1", "sensor_type": "AIR_QUALITY", "location_id": "mill",
        "metrics": {"pm25_ugm3": 12.5, "co2_ppm": 1_250, "voc_index": 110}});
    post(&node, "/v1/readings", &now);
    let air = node.get("/v1/twins/location/mill")["state"]["air"].clone();
    assert_eq!(
        (&air["category"], &air["why"]),
        (&json!("moderate"), &json!("CO2 above 1000 ppm")),
        "{air}"
    );
    // 10.0 µg/m³ is 53 by the EPA's table of 2024.
    assert_eq!(
        (&air["aqi"], &air["nowcast_pm25_ugm3"]),
        (&json!(53), &json!(10.0)),
        "{air}"
    );
    assert_eq!(air["nowcast_why"]["pm10"], "not measured");
    assert_eq!(
        air["tvoc"],
        json!({"metric": "voc_index", "value": 110.0, "unit": "index"})
    );
    let levels: Vec<_> = air["profiles"].as_array().expect("a list").iter().collect();
    let level = |profile: &str, metric: &str| {
        let found = levels
            .iter()
            .find(|level| level["profile"] == profile && level["metric"] == metric);
        found.map(|level| level["level"].clone()).unwrap_or_default()
    };
    assert_eq!(level("uba_co2", "co2_ppm"), "elevated");
    assert_eq!(level("reset_air_ci", "pm25_ugm3"), "acceptable");
    // An index is no concentration.
    assert_eq!(level("reset_air_ci", "tvoc_ugm3"), "unknown");
    let silent = node.get("/v1/twins/location/wash")["state"]["air"].clone();
    assert_eq!(
        (&silent["category"], &silent["aqi"]),
        (&json!("unknown"), &Value::Null)
    );
}
