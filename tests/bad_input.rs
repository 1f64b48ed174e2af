//! What broken and hostile senders do to a node over HTTP: each is told what is wrong by a code, or their message is
//! kept as rejected; the node lives on, its counts add up and its memory is bounded.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    io::Write,
    sync::atomic::{AtomicU64, Ordering},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use support::{
    Node,
    http::{Answer, Request, connect, read_to_end},
};

fn node(extra: &[&str]) -> (tempfile::TempDir, Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), extra);
    (folder, node)
}

/// Asserts that the node answers, still takes what is good, and that every message has its end.
fn assert_lives_on(node: &Node) {
    assert_eq!(node.get("/readyz")["status"], "ready");
    let good = Request::post("/v1/readings", r#"{"sensor_id":"good-1","metrics":{"a":1}}"#);
    assert_eq!(node.call(&good).json()["accepted"], 1);
    node.counts_that_add_up();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("written")
}

#[test]
fn a_bad_message_is_kept_with_the_reason_that_its_sender_was_told() {
    let (_folder, node) = node(&[]);
    let reading = |fields: &str| format!(r#"{{"sensor_id":"cnc-01",{fields}}}"#);
    let with = |metrics: &str| reading(&format!(r#""metrics":{metrics}"#));
    let at = |time: &str| reading(&format!(r#""metrics":{{"a":1}},"timestamp":{time}"#));
    let many: Vec<String> = (0..300).map(|number| format!("\"m{number}\":1")).collect();
    let readings: Vec<(Vec<u8>, &str)> = [
        ("{".to_owned(), "json.malformed"),
        (
            r#"{"sensor_id":"cnc-01" "metrics":{}}"#.to_owned(),
            "json.malformed",
        ),
        ("5".to_owned(), "json.not_an_object"),
        ("\"text\"".to_owned(), "json.not_an_object"),
        (with(r#"{"a":NaN}"#), "json.malformed"),
        (with(r#"{"a":Infinity}"#), "json.malformed"),
        (with(r#"{"a":-1e999}"#), "json.number_too_large"),
        (
            with(&format!(r#"{{"a":{}}}"#, "9".repeat(400))),
            "json.number_too_large",
        ),
        (with("{}"), "reading.metrics_empty"),
        (with(r#"{"a":null}"#), "reading.metrics_empty"),
        (with("[1]"), "reading.field_type"),
        (with(r#"{"a":{"b":1}}"#), "reading.metric_type"),
        (with(r#"{"a":1,"a":2}"#), "reading.metric_duplicate"),
        (with(r#"{"":1}"#), "reading.metric_name_invalid"),
        (
            with(&format!(r#"{{"a":"{}"}}"#, "x".repeat(300))),
            "reading.metric_text_too_long",
        ),
        (
            with(&format!("{{{}}}", many.join(","))),
            "reading.too_many_metrics",
        ),
        (r#"{"metrics":{"a":1}}"#.to_owned(), "reading.field_missing"),
        (r#"{"sensor_id":"cnc-01"}"#.to_owned(), "reading.field_missing"),
        (
            r#"{"sensor_id":7,"metrics":{"a":1}}"#.to_owned(),
            "reading.field_type",
        ),
        (
            r#"{"sensor_id":"Säge 1","metrics":{"a":1}}"#.to_owned(),
            "reading.sensor_id_invalid",
        ),
        (
            r#"{"sensor_id":"../../etc","metrics":{"a":1}}"#.to_owned(),
            "reading.sensor_id_invalid",
        ),
        (
            format!(r#"{{"sensor_id":"{}","metrics":{{"a":1}}}}"#, "x".repeat(129)),
            "reading.sensor_id_invalid",
        ),
        (at("\"2999-01-01T00:00:00Z\""), "reading.timestamp_invalid"),
        (at("\"2099-01-01T00:00:00Z\""), "reading.timestamp_future"),
        (at("\"yesterday\""), "reading.timestamp_invalid"),
        (at("\"2026-02-30T00:00:00Z\""), "reading.timestamp_invalid"),
        (at("1e400"), "json.number_too_large"),
        (at("[]"), "reading.timestamp_invalid"),
    ]
    .into_iter()
    .map(|(message, code)| (message.into_bytes(), code))
    .chain([(
        b"{\"sensor_id\":\"cnc-\xff\",\"metrics\":{\"a\":1}}".to_vec(),
        "json.not_utf8",
    )])
    .collect();
    let scans = [
        ("{}", "scan.field_missing"),
        (r#"{"job_id":"job-1"}"#, "scan.field_missing"),
        (r#"{"job_id":"job 1","location":"cell-1"}"#, "scan.job_id_invalid"),
        (
            r#"{"job_id":"job-1","location":"cell/1"}"#,
            "scan.location_invalid",
        ),
        (
            r#"{"job_id":"job-1","location":"cell-1","scan_timestamp":"soon"}"#,
            "scan.timestamp_invalid",
        ),
    ];
    let mut sent = Vec::new();
    let scans = scans.map(|(scan, code)| ("/v1/scans", scan.as_bytes().to_vec(), code));
    let all = readings
        .into_iter()
        .map(|(reading, code)| ("/v1/readings", reading, code))
        .chain(scans);
    for (path, message, code) in all {
        let shown = String::from_utf8_lossy(&message)
            .chars()
            .take(90)
            .collect::<String>();
        let answer = node.call(&Request::post(path, &message));
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        let rejected = answer.json()["rejected"][0].clone();
        assert_eq!(rejected["code"], code, "{shown}: {rejected}");
        assert!(!rejected["detail"].as_str().expect("a detail").is_empty());
        sent.push((shown, rejected));
    }
    let kept = node.list("/v1/rejected?limit=7");
    assert_eq!(kept.len(), sent.len());
    for (kept, (shown, told)) in kept.iter().zip(&sent) {
        assert_eq!(
            (&kept["code"], &kept["detail"]),
            (&told["code"], &told["detail"]),
            "{shown}"
        );
    }
    assert_eq!(node.counts_that_add_up().rejected, sent.len() as u64);
    assert_eq!(node.get("/v1/twins")["items"], json!([]));
    assert_lives_on(&node);
}

#[test]
fn a_body_that_is_no_batch_is_refused_whole() {
    let (_folder, node) = node(&[]);
    let post = |body: &[u8]| Request::post("/v1/readings", body);
    let good = br#"{"sensor_id":"cnc-01","metrics":{"a":1}}"#;
    let as_kind = |kind: &str| post(good).header("content-type", kind);
    let as_encoding = |encoding: &str, body: &[u8]| post(body).header("content-encoding", encoding);
    for (request, status, code) in [
        (post(b""), 400, "batch.empty"),
        (post(b"[]"), 400, "batch.empty"),
        (post(b"[{"), 400, "json.malformed"),
        (post(b"[1] 2"), 400, "json.malformed"),
        (as_kind("application/xml"), 415, "body.type_unsupported"),
        (as_kind("image/png"), 415, "body.type_unsupported"),
        (as_encoding("br", good), 415, "body.encoding_unsupported"),
        (as_encoding("gzip", good), 400, "body.not_gzip"),
        (as_encoding("gzip", &gzip(good)[..20]), 400, "body.not_gzip"),
        (
            Request::new("PUT", "/v1/plant").body(b"\xff\xfe"),
            400,
            "plant.invalid",
        ),
        (
            Request::new("PUT", "/v1/plant").body("a: &a [*a,*a]\nb: [*a"),
            400,
            "plant.invalid",
        ),
        (Request::get("/v1/twins/machine/%ff"), 400, "path.invalid"),
        (Request::get("/v1/twins?filter=%ff"), 400, "query.invalid"),
    ] {
        node.call(&request).problem(status, code);
    }
    let packed = as_encoding("gzip", &gzip(good));
    assert_eq!(node.call(&packed).json()["accepted"], 1);
    assert_lives_on(&node);
}

#[test]
fn large_bodies_and_bombs_are_stopped_before_they_take_memory() {
    let (_folder, node) = node(&[]);
    let before = node.memory_mib();
    for _ in 0..3 {
        let large = Request::post("/v1/readings", vec![b' '; 10 << 20]);
        node.call(&large).problem(413, "body.too_large");
        let bomb = Request::post("/v1/readings", gzip(&vec![b' '; 64 << 20]));
        node.call(&bomb.header("content-encoding", "gzip"))
            .problem(413, "body.too_large");
        // What unpacks to more than a plain body may have is refused, too.
        let larger = Request::post("/v1/readings", gzip(&vec![b' '; 9 << 20]));
        node.call(&larger.header("content-encoding", "gzip"))
            .problem(413, "body.too_large");
    }
    for opening in ["[", "{\"a\":"] {
        let deep = opening.repeat(1_000_000);
        let nested = format!(r#"{{"sensor_id":"cnc-01","metrics":{{"a":1}},"device_metadata":{deep}"#);
        for body in [deep.clone(), nested] {
            assert_eq!(node.call(&Request::post("/v1/readings", body)).status, 400);
        }
        let patch = Request::new("PATCH", "/v1/twins/machine/good-1/attributes").body(&deep);
        node.call(&patch).problem(400, "json.malformed");
        let filter = format!("/v1/twins?filter={}", "(".repeat(3_000));
        node.call(&Request::get(&filter)).problem(400, "filter.invalid");
    }
    let grown = node.memory_mib().saturating_sub(before);
    assert!(grown < 150, "the node grew by {grown} MiB");
    assert_lives_on(&node);
}

/// Sends raw bytes and reads until the node closes.
fn raw(node: &Node, bytes: &[u8]) -> Option<Answer> {
    let mut stream = connect(node.http);
    // The node may close before it has read all of it.
    let _ = stream.write_all(bytes);
    let answer = read_to_end(&mut stream);
    (!answer.is_empty()).then(|| Answer::parse(&answer))
}

#[test]
fn what_is_not_http_is_answered_and_closed() {
    let (_folder, node) = node(&[]);
    let flood: String = (0..500).map(|number| format!("x-{number}: y\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(1 << 20));
    for (head, statuses) in [
        (
            format!("GET /livez HTTP/1.1\r\nhost: x\r\n{flood}\r\n"),
            [431, 400],
        ),
        (
            format!("GET /livez HTTP/1.1\r\nhost: x\r\n{long}\r\n"),
            [431, 400],
        ),
        ("GARBAGE\r\n\r\n".to_owned(), [400, 400]),
        ("GET /livez HTTP/9.9\r\n\r\n".to_owned(), [400, 505]),
        (
            "POST /v1/readings HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n".to_owned(),
            [400, 400],
        ),
        (
            "POST /v1/readings HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n".to_owned(),
            [400, 400],
        ),
    ] {
        let answer = raw(&node, head.as_bytes()).expect("an answer");
        assert!(
            statuses.contains(&answer.status),
            "{}: {}",
            &head[..40.min(head.len())],
            answer.status
        );
    }
    // A sender that breaks off in the middle of a body leaves nothing behind.
    let mut stream = connect(node.http);
    stream
        .write_all(b"POST /v1/readings HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{\"sensor_id\":")
        .expect("sent");
    drop(stream);
    assert_lives_on(&node);
    assert_eq!(node.counts_that_add_up().received, 1);
}

/// Whoever connected and said nothing, or sent a body of which nothing more came, held a connection for ever.
#[test]
fn a_slow_client_costs_a_place_for_a_bounded_time() {
    let (_folder, node) = node(&[]);
    let begun = |bytes: &[u8]| {
        let mut stream = connect(node.http);
        stream.write_all(bytes).expect("sent");
        stream
    };
    let silent = begun(b"");
    let head = begun(b"GET /livez HTTP/1.1\r\nhost:");
    let body = begun(b"POST /v1/readings HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{");
    let idle = begun(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_lives_on(&node);
    for (name, mut stream) in [("silent", silent), ("head", head), ("idle", idle)] {
        // Panics where the node has not closed within a minute.
        let said = read_to_end(&mut stream);
        assert!(said.is_empty() || name != "silent", "{name}");
    }
    let mut stream = body;
    Answer::parse(&read_to_end(&mut stream)).problem(408, "body.timeout");
    assert_lives_on(&node);
}

#[test]
fn too_much_at_a_time_is_told_to_come_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gemba.toml");
    std::fs::write(&file, "[limits]\ntenant_messages = 1\n").expect("written");
    let node = Node::start(
        &folder.path().join("data"),
        &["--config", file.to_str().expect("UTF-8")],
    );
    let reading = Request::post("/v1/readings", r#"{"sensor_id":"cnc-01","metrics":{"a":1}}"#);
    let (accepted, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // One message at a time is let in, and eight senders want to: somebody has to come again soon.
                for _ in 0..2_000 {
                    if refused.load(Ordering::Acquire) > 0 {
                        return;
                    }
                    let answer = node.call(&reading);
                    if answer.status == 200 {
                        accepted.fetch_add(1, Ordering::AcqRel);
                    } else {
                        answer.problem(429, "ingest.busy");
                        assert_eq!(answer.header("retry-after"), Some("1"));
                        refused.fetch_add(1, Ordering::AcqRel);
                    }
                }
            });
        }
    });
    assert!(
        refused.load(Ordering::Acquire) > 0,
        "nobody was told to come again"
    );
    // What was refused has not been received.
    assert_eq!(
        node.counts_that_add_up().received,
        accepted.load(Ordering::Acquire)
    );
    assert_lives_on(&node);
}

#[test]
fn what_is_not_there_and_what_cannot_be_done_is_said() {
    let (_folder, node) = node(&[]);
    node.call(&Request::get("/v1/nothing"))
        .problem(404, "path.not_found");
    node.call(&Request::new("DELETE", "/v1/plant"))
        .problem(405, "method.not_allowed");
    node.call(&Request::new("POST", "/v1/stream"))
        .problem(405, "method.not_allowed");
    node.call(&Request::get("/v1/stream"))
        .problem(406, "stream.protocol");
    node.call(&Request::get("/v1/twins?filter=%ff"))
        .problem(400, "query.invalid");
    node.call(&Request::post("/v1/readings", ""))
        .problem(400, "batch.empty");
    let head = node.call(&Request::new("HEAD", "/v1/twins"));
    assert_eq!((head.status, head.body.len()), (200, 0));
}
