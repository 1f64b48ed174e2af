//! The HTTP API of a running node: the OpenAPI document and the node agree, and each call keeps what the public
//! contract promises of it.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use serde_json::{Value, json};
use support::{
    Node,
    example::{PLANT, example_request, now_ms},
    http::{Answer, Request, connect, encoded},
    schema::violations,
    wait_until,
};

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;
fn node() -> (tempfile::TempDir, Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), &[]);
    (folder, node)
}

/// Sends one reading and asserts that it counts.
fn reading(node: &Node, reading: &Value) {
    let answer = node.call(&Request::post("/v1/readings", reading.to_string()));
    assert_eq!(
        answer.json(),
        json!({"accepted": 1, "duplicates": 0, "rejected": []})
    );
}

/// Seven machines with rising speeds, a job that went through two cells, a message that was rejected.
fn fill(node: &Node) {
    for number in 1..=7 {
        let (id, execution) = (
            format!("cnc-0{number}"),
            if number % 2 == 0 { "producing" } else { "idle" },
        );
        reading(
            node,
            &json!({"sensor_id": id, "metrics": {"execution": execution, "rpm": number * 100}}),
        );
    }
    for (location, at) in [("cell-1", now_ms() - 60_000), ("cell-2", now_ms())] {
        let scan = json!({"job_id": "job-1", "location": location, "scan_timestamp": at});
        assert_eq!(
            node.call(&Request::post("/v1/scans", scan.to_string())).status,
            200
        );
    }
    // What a job tells its locations arrives a little later.
    wait_until("the cells know of the job", || {
        (node.list("/v1/twins?kind=location").len() == 2).then_some(())
    });
    let bad = node.call(&Request::post(
        "/v1/readings",
        r#"{"sensor_id":"x y","metrics":{"a":1}}"#,
    ));
    assert_eq!(bad.status, 400, "{}", bad.text());
    for id in ["cnc-01", "to-remove"] {
        let put = Request::new("PUT", &format!("/v1/dashboards/{id}")).body(r#"{"title":"Wall"}"#);
        assert_eq!(node.call(&put).status, 200);
    }
}

/// The head of an answer that goes on for ever.
fn head_of_events(node: &Node, path: &str) -> Answer {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = connect(node.http);
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut read = Vec::new();
    let mut reader = BufReader::new(stream);
    while !read.ends_with(b"\r\n\r\n") {
        reader.read_until(b'\n', &mut read).expect("answered");
    }
    Answer::parse(&read)
}

#[test]
fn every_operation_of_the_document_answers_as_the_document_says() {
    let (_folder, node) = node();
    fill(&node);
    assert_eq!(
        node.call(&Request::new("PUT", "/v1/plant").body(PLANT)).status,
        200
    );
    wait_until("the machine has its alarms", || {
        (node.list("/v1/alarms").len() == 2).then_some(())
    });
    let document = node.get("/openapi.json");
    let mut called = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let request = example_request(&node, path, method, operation);
            let answer = if path == "/v1/stream" {
                head_of_events(&node, "/v1/stream?filter=kind%3D%3D'machine'")
            } else {
                node.call(&request)
            };
            let said = format!("{method} {path}: {} {}", answer.status, answer.text());
            // What is rejected stays so as long as the plant is as it is; an alarm is neither latched nor out of service.
            let refused = ["/retry", "/in-service", "/reset", "/drain"]
                .iter()
                .any(|end| path.ends_with(end));
            let responses = &operation["responses"];
            let done = ["200", "201", "204"]
                .into_iter()
                .find(|status| responses[*status].is_object());
            let wanted = if refused { "409" } else { done.unwrap_or("101") };
            assert_eq!(answer.status.to_string(), wanted, "{said}");
            let response = match &responses[answer.status.to_string()] {
                Value::Null => &responses["default"],
                documented => documented,
            };
            assert!(
                response.is_object(),
                "a status that is not in the document: {said}"
            );
            if let Some(content) = response["content"].as_object() {
                let kind = answer
                    .header("content-type")
                    .unwrap_or_default()
                    .split(';')
                    .next();
                let written = content.get(kind.unwrap_or_default());
                let written = written.unwrap_or_else(|| panic!("{kind:?} is not in the document: {said}"));
                if written["schema"].is_object() {
                    let lacks = violations(&document, &written["schema"], &answer.json());
                    assert!(lacks.is_empty(), "{said}: {lacks:?}");
                }
            }
            called += 1;
        }
    }
    assert!(called >= 28, "only {called} operations");
}

#[test]
fn every_call_of_the_contract_is_in_the_document() {
    let (_folder, node) = node();
    let document = node.get("/openapi.json");
    for (method, path) in [
        ("get", "/v1/twins"),
        ("get", "/v1/twins/{kind}/{id}"),
        ("patch", "/v1/twins/{kind}/{id}/attributes"),
        ("get", "/v1/twins/{kind}/{id}/history"),
        ("get", "/v1/twins/{kind}/{id}/events"),
        ("post", "/v1/twins/{kind}/{id}/fork"),
        ("get", "/v1/twins/{kind}/{id}/forecast"),
        ("get", "/v1/quality"),
        ("post", "/v1/refold"),
        ("get", "/v1/plant"),
        ("put", "/v1/plant"),
        ("post", "/v1/plant/plan"),
        ("post", "/v1/readings"),
        ("post", "/v1/scans"),
        ("get", "/v1/ingest"),
        ("get", "/v1/rejected"),
        ("post", "/v1/rejected/{id}/retry"),
        ("get", "/v1/flow"),
        ("get", "/v1/checkpoints"),
        ("post", "/v1/rfid/impinj"),
        ("post", "/v1/rfid/zebra"),
        ("post", "/v1/rfid/generic"),
        ("post", "/v1/epcis/capture"),
        ("get", "/v1/dashboards"),
        ("get", "/v1/dashboards/{id}"),
        ("put", "/v1/dashboards/{id}"),
        ("delete", "/v1/dashboards/{id}"),
        ("get", "/v1/stream"),
        ("get", "/livez"),
        ("get", "/readyz"),
        ("get", "/metrics"),
    ] {
        assert!(
            document["paths"][path][method].is_object(),
            "{method} {path} is missing"
        );
    }
    for page in ["/docs", "/"] {
        let answer = node.call(&Request::get(page));
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("text/html; charset=utf-8"))
        );
    }
}

#[test]
fn a_twin_is_sent_once_and_shown_as_it_was() {
    let (_folder, node) = node();
    let path = "/v1/twins/machine/cnc-01";
    let value = |answer: &Answer, metric: &str| answer.json()["state"]["metrics"][metric]["value"].as_f64();
    node.call(&Request::get(path)).problem(404, "twin.not_found");
    reading(&node, &json!({"sensor_id": "cnc-01", "metrics": {"rpm": 1}}));
    let first = node.call(&Request::get(path));
    let tag = first.header("etag").expect("an ETag").to_owned();
    assert_eq!(tag, format!("\"rev:{}\"", first.json()["rev"]));
    let same = node.call(&Request::get(path).header("if-none-match", &tag));
    assert_eq!(
        (same.status, same.body.len(), same.header("etag")),
        (304, 0, Some(&*tag))
    );
    // All that was received until now, and nothing of what comes later.
    let at = now_ms();
    wait_until("the clock goes on", || (now_ms() > at).then_some(()));
    reading(&node, &json!({"sensor_id": "cnc-01", "metrics": {"rpm": 2}}));
    let second = node.call(&Request::get(path).header("if-none-match", &tag));
    assert_eq!((second.status, value(&second, "rpm")), (200, Some(2.0)));
    let then = node.call(&Request::get(&format!("{path}?at={at}")));
    assert_eq!(
        (then.json()["rev"].as_u64(), value(&then, "rpm")),
        (Some(1), Some(1.0))
    );
    node.call(&Request::get(&format!("{path}?at=1000000000000")))
        .problem(404, "twin.not_found");
    node.call(&Request::get(&format!("{path}?at=yesterday")))
        .problem(400, "query.invalid");
    node.call(&Request::get("/v1/twins/robot/r-1"))
        .problem(400, "twin.kind_invalid");
    node.call(&Request::get("/v1/twins/machine/a%20b"))
        .problem(400, "twin.id_invalid");
}

#[test]
fn attributes_are_merged_unless_somebody_was_faster() {
    let (_folder, node) = node();
    let path = "/v1/twins/machine/cnc-01/attributes";
    let patch = |patch: &Value| {
        Request::new("PATCH", path)
            .header("content-type", "application/merge-patch+json")
            .body(patch.to_string())
    };
    node.call(&patch(&json!({"name": "x"})))
        .problem(404, "twin.not_found");
    reading(&node, &json!({"sensor_id": "cnc-01", "metrics": {"rpm": 1}}));
    let set = node.call(&patch(
        &json!({"name": "Mazak 01", "asset": {"year": 2019, "line": "a"}}),
    ));
    let tag = set.header("etag").expect("an ETag").to_owned();
    let merged = node.call(&patch(&json!({"name": null, "asset": {"line": "b"}})).header("if-match", &tag));
    assert_eq!(
        merged.json()["attributes"],
        json!({"asset": {"year": 2019, "line": "b"}})
    );
    let slow = patch(&json!({"name": "too late"})).header("if-match", &tag);
    node.call(&slow).problem(412, "twin.rev_mismatch");
    let twin = node.get("/v1/twins/machine/cnc-01");
    assert_eq!(twin["attributes"], json!({"asset": {"year": 2019, "line": "b"}}));
    node.call(&patch(&json!([1])))
        .problem(400, "attributes.not_object");
    node.call(&patch(&json!({"a": "x".repeat(20_000)})))
        .problem(413, "attributes.too_large");
}

#[test]
fn twins_are_found_sorted_and_paged() {
    let (_folder, node) = node();
    fill(&node);
    let list = |query: &str| -> Vec<String> {
        let items = node.list(&format!("/v1/twins?{query}"));
        items
            .iter()
            .map(|twin| twin["twin"].as_str().expect("an address").to_owned())
            .collect()
    };
    let machines = |numbers: &[u8]| -> Vec<String> {
        numbers
            .iter()
            .map(|number| format!("machine/cnc-0{number}"))
            .collect()
    };
    let filter = encoded("state.execution == \"producing\" && state.metrics.rpm.value > 200");
    assert_eq!(
        list(&format!(
            "kind=machine&filter={filter}&sort=state.metrics.rpm.value"
        )),
        machines(&[4, 6])
    );
    let all = "kind=machine&sort=-state.metrics.rpm.value";
    for limit in [1, 2, 3, 7, 8] {
        let paged = list(&format!("{all}&limit={limit}"));
        assert_eq!(paged, machines(&[7, 6, 5, 4, 3, 2, 1]), "limit {limit}");
    }
    let mut every = list("limit=2");
    every.sort();
    let mut wanted = machines(&[1, 2, 3, 4, 5, 6, 7]);
    wanted.extend(["job/job-1", "location/cell-1", "location/cell-2"].map(str::to_owned));
    wanted.sort();
    assert_eq!(every, wanted);
    let some = node.get(&format!("/v1/twins?{all}&limit=1&fields=state.metrics.rpm.value"));
    assert_eq!(
        some["items"],
        json!([{"twin": "machine/cnc-07", "rev": 1, "state": {"metrics": {"rpm": {"value": 700.0}}}}])
    );
    for (query, code) in [
        ("kind=robot", "twin.kind_invalid"),
        ("limit=0", "query.invalid"),
        ("limit=many", "query.invalid"),
        ("cursor=nonsense", "cursor.invalid"),
        ("sort=-kpis..oee", "sort.invalid"),
    ] {
        node.call(&Request::get(&format!("/v1/twins?{query}")))
            .problem(400, code);
    }
}

#[test]
fn a_filter_that_cannot_be_is_refused_with_its_place() {
    let (_folder, node) = node();
    for (filter, place) in [
        ("kpis.oee <", "character 11"),
        ("kpis.oee < 0.6 && attribtes.location == 'x'", "character 19"),
        ("kind == 'machine' && shout(id)", "character 27"),
    ] {
        let refused = node.call(&Request::get(&format!("/v1/twins?filter={}", encoded(filter))));
        let detail = refused.problem(400, "filter.invalid");
        assert!(detail.contains(place), "{filter}: {detail}");
    }
}

#[test]
fn history_adds_up_to_what_was_sent_at_every_step() {
    let (_folder, node) = node();
    let start = now_ms() / DAY_MS * DAY_MS - DAY_MS + HOUR_MS;
    let minutes = [(0, 100), (0, 200), (0, 300), (1, 400), (6, 500), (70, 900)];
    for (index, (minute, rpm)) in (0_u64..).zip(minutes) {
        let at = start + minute * 60_000 + index;
        reading(
            &node,
            &json!({"sensor_id": "cnc-01", "timestamp": at, "metrics": {"rpm": rpm, "execution": "idle"}}),
        );
    }
    let points = |step: &str, more: &str| -> Vec<Value> {
        let query = format!(
            "metric=rpm&from={}&to={}&step={step}{more}",
            start - HOUR_MS,
            now_ms()
        );
        let history = node.get(&format!("/v1/twins/machine/cnc-01/history?{query}"));
        // A value that still holds has a point of its own, with nothing counted and nothing measured.
        let (counted, held): (Vec<&Value>, Vec<&Value>) = history
            .as_array()
            .expect("a flat array")
            .iter()
            .partition(|point| point["count"] != 0);
        assert!(
            held.iter()
                .all(|point| point["avg"].is_null() && point.get("last").is_none())
        );
        counted
            .iter()
            .map(|point| {
                assert_eq!(point["metric"], "rpm");
                json!([
                    point["count"],
                    point["avg"],
                    point["min"],
                    point["max"],
                    point["last"]
                ])
            })
            .collect()
    };
    let one = |value: f64| json!([1, value, value, value, value]);
    let three = json!([3, 200.0, 100.0, 300.0, 300.0]);
    assert_eq!(points("1m", ""), [three, one(400.0), one(500.0), one(900.0)]);
    assert_eq!(
        points("5m", ""),
        [json!([4, 250.0, 100.0, 400.0, 400.0]), one(500.0), one(900.0)]
    );
    assert_eq!(
        points("1h", ""),
        [json!([5, 300.0, 100.0, 500.0, 500.0]), one(900.0)]
    );
    assert_eq!(points("1d", ""), [json!([6, 400.0, 100.0, 900.0, 900.0])]);
    let raw: Vec<Value> = minutes.iter().map(|(_, rpm)| one(f64::from(*rpm))).collect();
    assert_eq!(points("raw", ""), raw);
    node.call(&Request::get("/v1/twins/machine/cnc-01/history?step=2m"))
        .problem(400, "query.invalid");
    node.call(&Request::get("/v1/twins/machine/nobody/history"))
        .problem(404, "twin.not_found");
}

#[test]
fn events_are_told_in_order_after_a_seq() {
    let (_folder, node) = node();
    for number in 1..=5 {
        let id = format!("m-{number}");
        reading(
            &node,
            &json!({"sensor_id": "cnc-01", "message_id": id, "metrics": {"rpm": number}}),
        );
    }
    let path = "/v1/twins/machine/cnc-01/events";
    let all = node.list(&format!("{path}?limit=2"));
    let ids: Vec<&str> = all
        .iter()
        .filter_map(|event| event["message_id"].as_str())
        .collect();
    assert_eq!(ids, ["m-1", "m-2", "m-3", "m-4", "m-5"]);
    assert_eq!(all[2]["reading"]["metrics"], json!({"rpm": 3.0}));
    let after = node.get(&format!("{path}?after={}", all[2]["seq"]));
    assert_eq!(after["items"], json!(all[3..]));
    assert_eq!(after["cursor"], Value::Null);
    node.call(&Request::get(&format!("{path}?after=x")))
        .problem(400, "query.invalid");
}

#[test]
fn one_bad_item_does_not_sink_the_others_and_repetitions_count_once() {
    let (_folder, node) = node();
    let batch = |body: &str| node.call(&Request::post("/v1/readings", body));
    let good = |id: &str| format!(r#"{{"sensor_id":"cnc-01","message_id":"{id}","metrics":{{"parts":1}}}}"#);
    let bad = r#"{"sensor_id":"cnc-01","metrics":{"a":[1]}}"#;
    let mixed = batch(&format!("[{},{bad},{}]", good("a"), good("b")));
    assert_eq!(mixed.status, 207);
    let mixed = mixed.json();
    assert_eq!((&mixed["accepted"], &mixed["duplicates"]), (&json!(2), &json!(0)));
    let rejected = mixed["rejected"].as_array().expect("a list");
    assert_eq!(rejected.len(), 1);
    assert_eq!(
        (&rejected[0]["index"], &rejected[0]["code"]),
        (&json!(1), &json!("reading.metric_type"))
    );
    let all_bad = batch(&format!("[{bad},{bad}]"));
    assert_eq!((all_bad.status, &all_bad.json()["accepted"]), (400, &json!(0)));
    let again = batch(&format!("[{},{},{}]", good("b"), good("c"), good("c")));
    assert_eq!(
        (again.status, again.json()),
        (200, json!({"accepted": 1, "duplicates": 2, "rejected": []}))
    );
    let lines = Request::post("/v1/readings", format!("{}\n\n{}\n", good("d"), good("d")))
        .header("content-type", "application/x-ndjson");
    assert_eq!(lines.clone().send(node.http).json()["duplicates"], 1);
    let counts = node.counts_that_add_up();
    assert_eq!((counts.applied, counts.duplicate, counts.rejected), (4, 3, 3));
    wait_until("the metrics tell the same", || {
        let text = node.call(&Request::get("/metrics")).text();
        let count = |name: &str| -> f64 {
            let name = format!("ingest_messages_{name}_total{{");
            let lines = text.lines().filter(|line| line.starts_with(&name));
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
        let told = ["received", "applied", "duplicate", "late", "rejected"].map(count);
        (told == [10.0, 4.0, 3.0, 0.0, 3.0]).then_some(())
    });
}

#[test]
fn a_rejected_message_counts_once_the_plant_names_its_sensor() {
    let (_folder, node) = node();
    let put = |plant: &str| node.call(&Request::new("PUT", "/v1/plant").body(plant));
    node.call(&Request::get("/v1/plant"))
        .problem(404, "plant.not_found");
    let before = format!("unknown_sensors: keep_aside\n{PLANT}");
    let planned = node.call(&Request::new("POST", "/v1/plant/plan").body(&before));
    assert_eq!(planned.status, 200, "{}", planned.text());
    node.call(&Request::get("/v1/plant"))
        .problem(404, "plant.not_found");
    let applied = put(&before);
    assert_eq!(applied.json()["changes"], planned.json());
    let message = r#"{"sensor_id":"meter-1","sensor_type":"ENERGY","metrics":{"energy_kwh":12.5}}"#;
    let refused = node.call(&Request::post("/v1/readings", message));
    assert_eq!(refused.status, 400);
    let rejected = node.get("/v1/rejected");
    let item = &rejected["items"][0];
    assert_eq!(item["code"], refused.json()["rejected"][0]["code"]);
    assert_eq!(item["payload"], message);
    let retry = format!("/v1/rejected/{}/retry", item["id"].as_str().expect("an id"));
    let still = node.call(&Request::new("POST", &retry));
    still.problem(409, item["code"].as_str().expect("a code"));
    let after = format!("{before}sensors: [{{id: meter-1, feeds: machine/cnc-01, type: ENERGY}}]\n");
    let changes = node
        .call(&Request::new("POST", "/v1/plant/plan").body(&after))
        .json();
    assert!(
        changes.to_string().contains("cnc-01"),
        "the plan names the twin: {changes}"
    );
    assert_eq!(put(&after).json()["version"], 2);
    assert_eq!(node.get("/v1/plant")["version"], 2);
    let done = node.call(&Request::new("POST", &retry));
    assert_eq!((done.status, &done.json()["outcome"]), (200, &json!("applied")));
    let twin = node.get("/v1/twins/machine/cnc-01");
    assert_eq!(twin["state"]["metrics"]["energy_kwh"]["value"], 12.5);
    assert_eq!(node.get("/v1/rejected")["items"], json!([]));
    node.call(&Request::new("POST", &retry))
        .problem(404, "rejected.not_found");
    put("site: 5").problem(400, "plant.invalid");
    node.counts_that_add_up();
}
