//! Files in by `POST /v1/uploads`: parts that go on where they were, rows that are loaded once whatever happens to the
//! node meanwhile, attachments of twins, and limits.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{
    Node,
    command::keys,
    example::uploaded,
    free_port,
    http::{Answer, Request},
    wait_until, workbook,
};

const MAP: &str =
    "[constants]\nsensor_id = 'press-1'\n[columns]\ntimestamp = 't'\n[metrics]\nsequence = 'count'\n";

/// A table of many rows of one sensor, a second apart.
fn many_rows(rows: usize) -> String {
    let mut text = String::from("t,count\n");
    for row in 0..rows {
        text.push_str(&format!("{},{row}\n", 1_710_000_000 + row));
    }
    text
}

fn part(id: &str, offset: usize, bytes: &[u8]) -> Request {
    Request::new("PATCH", &format!("/v1/uploads/{id}"))
        .header("content-type", "application/offset+octet-stream")
        .header("upload-offset", &offset.to_string())
        .body(bytes)
}

fn append(node: &Node, id: &str, offset: usize, bytes: &[u8]) -> usize {
    let answer = node.call(&part(id, offset, bytes));
    assert_eq!(answer.status, 204, "{}", answer.text());
    offset_of(&answer)
}

fn offset_of(answer: &Answer) -> usize {
    let offset = answer.header("upload-offset").expect("an offset");
    offset.parse().expect("a number")
}

fn state(node: &Node, id: &str) -> Value {
    node.get(&format!("/v1/uploads/{id}"))
}

/// Waits until an upload came to its end.
fn ended(node: &Node, id: &str) -> Value {
    wait_until("the upload's end", || {
        let state = state(node, id);
        let word = state["state"].as_str().expect("a state");
        ["loaded", "failed", "attached"].contains(&word).then_some(state)
    })
}

fn send(node: &Node, name: &str, map: &str, content: &[u8]) -> Value {
    let id = uploaded(node, &json!({"name": name, "size": content.len(), "map": map}));
    append(node, &id, 0, content);
    ended(node, &id)
}

/// Values of the press, in the order of time.
fn folded(node: &Node) -> Vec<f64> {
    let points =
        node.get("/v1/twins/machine/press-1/history?metric=sequence&step=raw&from=2000-01-01T00:00:00Z");
    let value = |point: &Value| point["last"].as_f64().expect("a number");
    points.as_array().expect("points").iter().map(value).collect()
}

#[test]
fn a_table_comes_in_parts_and_every_row_is_accounted_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(&folder.path().join("data"), &[]);
    let text = "t,count\n1710000000,1\n1710000001,x\n1710000002,3\nnoon,4\n,\n";
    let asked = json!({"name": "press.csv", "size": text.len(), "map": MAP});
    let made = node.call(&Request::post("/v1/uploads", asked.to_string()));
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(made.header("location"), Some(&*format!("/v1/uploads/{id}")));
    let text = text.as_bytes();
    assert_eq!(append(&node, &id, 0, &text[..10]), 10);
    // A part that comes again, or one of later on, is told where to go on.
    for wrong in [0, 20] {
        let answer = node.call(&part(&id, wrong, &text[..10]));
        answer.problem(409, "upload.offset");
        assert_eq!(offset_of(&answer), 10);
    }
    let head = node.call(&Request::new("HEAD", &format!("/v1/uploads/{id}")));
    assert_eq!((head.status, offset_of(&head)), (200, 10));
    assert_eq!(head.header("upload-length"), Some(&*text.len().to_string()));
    let mut beyond = text[10..].to_vec();
    beyond.push(b'x');
    node.call(&part(&id, 10, &beyond)).problem(400, "upload.too_long");
    assert_eq!(state(&node, &id)["state"], "receiving");
    assert_eq!(append(&node, &id, 10, &text[10..]), text.len());
    let loaded = ended(&node, &id);
    assert_eq!(loaded["state"], "loaded", "{loaded}");
    assert_eq!(
        loaded["rows"],
        json!({"read": 5, "accepted": 2, "duplicates": 0, "rejected": 2, "empty": 1})
    );
    assert_eq!(folded(&node), [1.0, 3.0]);
    let rejected = node.list(&format!("/v1/uploads/{id}/rejected?limit=1"));
    assert_eq!(
        (&rejected[0]["line"], &rejected[0]["code"]),
        (&json!(3), &json!("import.number_invalid"))
    );
    assert_eq!(
        (&rejected[1]["line"], &rejected[1]["code"]),
        (&json!(5), &json!("import.timestamp_invalid"))
    );
    // The same file again counts as repeated; with another mapping it is another one.
    let again = send(&node, "copy.csv", MAP, text);
    assert_eq!(
        (&again["same_as"], &again["rows"]["duplicates"]),
        (&json!(id), &json!(2)),
        "{again}"
    );
    let other = send(&node, "press.csv", &MAP.replace("sequence", "parts"), text);
    assert_eq!(other["rows"]["accepted"], 2, "{other}");
    assert_eq!(node.list("/v1/uploads").len(), 3);
    let removed = node.call(&Request::new("DELETE", &format!("/v1/uploads/{id}")));
    assert_eq!(removed.status, 200);
    node.call(&Request::get(&format!("/v1/uploads/{id}")))
        .problem(404, "upload.not_found");
    assert_eq!(folded(&node), [1.0, 3.0], "what was loaded stays");
    node.counts_that_add_up();
}

#[test]
fn a_file_that_cannot_be_loaded_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(&folder.path().join("data"), &[]);
    for (name, content, code) in [
        (
            "other.csv",
            b"time,number\n1,2\n".to_vec(),
            "import.column_missing",
        ),
        ("bomb.xlsx", workbook::bomb(false), "import.xlsx_refused"),
        (
            "cut.json",
            br#"[{"t":1710000000,"count":1},{"t""#.to_vec(),
            "import.cut_off",
        ),
        (
            "dates.csv",
            b"t,count\n03/04/2024,1\n".to_vec(),
            "import.no_row_fits",
        ),
    ] {
        if content.len() > 8 << 20 {
            let id = uploaded(&node, &json!({"name": name, "size": content.len(), "map": MAP}));
            let mut at = 0;
            for piece in content.chunks(4 << 20) {
                at = append(&node, &id, at, piece);
            }
            let failed = ended(&node, &id);
            assert_eq!(failed["problem"]["code"], code, "{name}: {failed}");
            continue;
        }
        let failed = send(&node, name, MAP, &content);
        assert_eq!(
            (&failed["state"], &failed["problem"]["code"]),
            (&json!("failed"), &json!(code)),
            "{name}: {failed}"
        );
    }
    assert!(node.memory_mib() < 600, "{} MiB", node.memory_mib());
    let asks = |asked: Value| node.call(&Request::post("/v1/uploads", asked.to_string()));
    let wrong_map = asks(json!({"name": "a.csv", "size": 1, "map": MAP.replace("columns", "colums")}));
    assert!(
        wrong_map
            .problem(400, "import.map_invalid")
            .contains("did you mean columns?")
    );
    asks(json!({"name": "a.exe", "size": 1, "map": MAP})).problem(400, "upload.type_unsupported");
    asks(json!({"name": "a.csv", "size": 1})).problem(400, "upload.purpose");
    asks(json!({"name": "a.csv", "size": 0, "map": MAP})).problem(400, "upload.empty");
    asks(json!({"name": "a.csv", "size": 1, "mapp": MAP})).problem(400, "upload.invalid");
}

/// The node is killed between parts, in the middle of loading, and again; each row is there once.
#[test]
fn an_upload_survives_kills_while_it_comes_and_while_it_is_loaded() {
    const ROWS: usize = 60_000;
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (http, mqtt) = (free_port(), free_port());
    let text = many_rows(ROWS);
    let text = text.as_bytes();
    let mut node = Node::start_on(&data, http, mqtt, &[]);
    let id = uploaded(
        &node,
        &json!({"name": "many.csv", "size": text.len(), "map": MAP}),
    );
    let mut at = 0;
    for (number, end) in [text.len() / 3, text.len() / 2, text.len()]
        .into_iter()
        .enumerate()
    {
        at = append(&node, &id, at, &text[at..end]);
        if number < 2 {
            node.kill();
            node = Node::start_on(&data, http, mqtt, &[]);
            let there = node.call(&Request::new("HEAD", &format!("/v1/uploads/{id}")));
            assert_eq!(offset_of(&there), at, "what was acknowledged is there");
        }
    }
    let (mut kills, mut line) = (0, 0);
    while kills < 3 {
        let state = wait_until("some rows", || {
            let state = state(&node, &id);
            (state["line"].as_u64() > Some(line) || state["state"] == "loaded").then_some(state)
        });
        if state["state"] == "loaded" {
            break;
        }
        line = state["line"].as_u64().expect("a line") + 2_000;
        node.kill();
        kills += 1;
        node = Node::start_on(&data, http, mqtt, &[]);
    }
    assert!(kills > 0, "no kill hit the loading: the test shows nothing");
    let loaded = ended(&node, &id);
    assert_eq!(
        (
            &loaded["state"],
            &loaded["rows"]["read"],
            &loaded["rows"]["rejected"]
        ),
        (&json!("loaded"), &json!(ROWS), &json!(0)),
        "{loaded}"
    );
    let wanted: Vec<f64> = (0..ROWS).map(|row| row as f64).collect();
    let folded = folded(&node);
    assert!(folded == wanted, "{} values of {ROWS}", folded.len());
    println!(
        "{kills} kills while loading, 0 lost, 0 doubled: {}",
        loaded["rows"]
    );
    assert!(
        !holds(&data.join("uploads"), "data"),
        "the file's bytes are gone when it is loaded"
    );
}

fn holds(folder: &Path, name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name() == name || holds(&entry.path(), name))
}

#[test]
fn attachments_are_a_twin_s_and_nothing_but_what_they_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let node = Node::start(&data, &[]);
    let reading = Request::post("/v1/readings", r#"{"sensor_id":"cnc-01","metrics":{"rpm":5}}"#);
    assert_eq!(node.call(&reading).status, 200);
    let asks = |asked: Value| node.call(&Request::post("/v1/uploads", asked.to_string()));
    let missing = asks(json!({"name": "a.pdf", "size": 1, "twin": "machine/nobody"}));
    missing.problem(404, "twin.not_found");
    asks(json!({"name": "a.svg", "size": 1, "twin": "machine/cnc-01"}))
        .problem(400, "upload.type_unsupported");
    let attach = |name: &str, content: &[u8]| {
        let id = uploaded(
            &node,
            &json!({"name": name, "size": content.len(), "twin": "machine/cnc-01"}),
        );
        append(&node, &id, 0, content);
        ended(&node, &id)
    };
    let pdf = b"%PDF-1.7 manual \"of\" the machine";
    let kept = attach("Manual \u{e4}\"1.pdf", pdf);
    assert_eq!(kept["state"], "attached", "{kept}");
    let page = attach("page.png", b"<html><script>alert(1)</script>");
    assert_eq!(
        (&page["state"], &page["problem"]["code"]),
        (&json!("failed"), &json!("upload.content_differs"))
    );
    let list = "/v1/twins/machine/cnc-01/attachments";
    assert_eq!(node.list(list).len(), 1);
    let content = kept["links"]["content"].as_str().expect("a link").to_owned();
    let check = |node: &Node| {
        let answer = node.call(&Request::get(&content));
        assert_eq!((answer.status, &*answer.body), (200, &pdf[..]));
        assert_eq!(answer.header("content-type"), Some("application/pdf"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(
            answer.header("content-disposition"),
            Some("attachment; filename=\"Manual __1.pdf\"; filename*=UTF-8''Manual%20%C3%A4%221%2Epdf")
        );
    };
    check(&node);
    node.kill();
    let node = Node::start(&data, &[]);
    check(&node);
    node.call(&Request::get("/v1/twins/machine/cnc-01/attachments/0f"))
        .problem(404, "attachment.not_found");
    let id = kept["id"].as_str().expect("an id");
    assert_eq!(
        node.call(&Request::new("DELETE", &format!("/v1/uploads/{id}")))
            .status,
        200
    );
    assert!(node.list(list).is_empty());
}

#[test]
fn what_uploads_may_take_is_bounded_and_a_tenant_sees_only_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("gemba.toml");
    let tokens = keys(&config, &[("acme", "operator"), ("globex", "operator")]);
    let limits = "[uploads]\nbytes_each = 1000\nbytes_together = 2500\ntenant_bytes = 1800\ncount_max = 3\n";
    let written = std::fs::read_to_string(&config).expect("the keys");
    std::fs::write(&config, format!("{limits}{written}")).expect("written");
    let node = Node::start(
        &folder.path().join("data"),
        &["--config", config.to_str().expect("UTF-8")],
    );
    let (acme, globex) = (Some(&*tokens[0]), Some(&*tokens[1]));
    let asks = |size: usize, token| {
        let asked = json!({"name": "a.csv", "size": size, "map": MAP});
        node.call(&Request::post("/v1/uploads", asked.to_string()).token(token))
    };
    assert!(
        asks(1_001, acme)
            .problem(413, "upload.too_large")
            .contains("1000")
    );
    let first = asks(1_000, acme);
    assert_eq!(first.status, 201);
    assert!(asks(900, acme).problem(413, "upload.too_large").contains("1800"));
    assert_eq!(asks(700, acme).status, 201);
    assert_eq!(asks(700, globex).status, 201);
    let full = asks(900, globex).problem(413, "upload.too_large");
    assert!(full.contains("the node"), "{full}");
    assert_eq!(asks(1, acme).status, 201);
    assert!(asks(1, acme).problem(413, "upload.too_large").contains("as many"));
    let theirs = format!("/v1/uploads/{}", first.json()["id"].as_str().expect("an id"));
    for method in ["GET", "PATCH", "DELETE"] {
        node.call(&Request::new(method, &theirs).token(globex))
            .problem(404, "upload.not_found");
    }
    let own = node.call(&Request::get("/v1/uploads").token(globex)).json();
    assert_eq!(own["items"].as_array().map(Vec::len), Some(1));
    let metrics = node.call(&Request::get("/metrics")).text();
    for reason in ["bytes_each", "tenant_bytes", "bytes_together", "count_max"] {
        let line = format!("upload_refused_total{{reason=\"{reason}\"}} 1");
        assert!(metrics.contains(&line), "{reason}");
    }
}
