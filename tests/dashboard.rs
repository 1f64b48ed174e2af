//! The page in the binary: it comes with a policy and caching of its own, and the shapes that it is typed by are those
//! that the node speaks.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use serde_json::{Value, json};
use support::{Node, http::Request, schema::violations, socket::Socket};

fn node() -> (tempfile::TempDir, Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), &[]);
    (folder, node)
}

fn committed() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("api/dashboard/openapi.json")
}

#[test]
fn the_page_is_typed_by_what_the_node_documents() {
    let (_folder, node) = node();
    let live = node.get("/openapi.json");
    if std::env::var_os("GEMBA_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&live).expect("JSON") + "\n";
        std::fs::write(committed(), text).expect("written");
    }
    let text = std::fs::read_to_string(committed()).expect("the document that the page is typed by");
    let typed: Value = serde_json::from_str(&text).expect("JSON");
    // What the node documents beyond it does not concern the page.
    for part in ["/components/schemas", "/paths"] {
        let named = typed.pointer(part).and_then(Value::as_object).expect("an object");
        for (name, shape) in named {
            assert_eq!(
                Some(shape),
                live.pointer(part).and_then(|all| all.get(name)),
                "{name} changed (run GEMBA_BLESS=1 cargo test --test dashboard, then see what of the page does not fit)"
            );
        }
    }
}

#[test]
fn frames_are_of_the_documented_shapes() {
    let (_folder, node) = node();
    let document = node.get("/openapi.json");
    let reading = |value: u32| {
        let reading = json!({"sensor_id": "cnc-01", "metrics": {"rpm": value, "execution": "producing"}});
        let answer = node.call(&Request::post("/v1/readings", reading.to_string()));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    reading(1);
    let mut socket = Socket::open(node.http);
    let mut seen = Vec::new();
    let mut take = |socket: &mut Socket, until: &str| loop {
        let frame = socket.frame();
        let kind = frame["type"].as_str().expect("a type").to_owned();
        let mut name = kind.clone();
        name[..1].make_ascii_uppercase();
        let schema = json!({"$ref": format!("#/components/schemas/{name}Frame")});
        let lacks = violations(&document, &schema, &frame);
        assert!(lacks.is_empty(), "{frame}: {lacks:?}");
        seen.push(kind.clone());
        if kind == until {
            return;
        }
    };
    let filter = "kind == 'machine' && state.metrics.rpm.value < 10.0";
    socket.say(&json!({"type": "subscribe", "id": "s1", "filter": filter}));
    take(&mut socket, "live");
    reading(2);
    take(&mut socket, "change");
    reading(20);
    take(&mut socket, "leave");
    reading(3);
    take(&mut socket, "enter");
    socket.say(&json!({"type": "ping"}));
    take(&mut socket, "pong");
    socket.say(&json!({"type": "unsubscribe", "id": "unknown"}));
    take(&mut socket, "error");
    for kind in [
        "subscribed",
        "snapshot",
        "live",
        "change",
        "leave",
        "enter",
        "pong",
        "error",
    ] {
        assert!(seen.iter().any(|known| known == kind), "no {kind} came");
    }
}

#[test]
fn a_saved_dashboard_survives_a_crash_and_is_changed_only_by_who_saw_it() {
    let (folder, node) = node();
    let put = |content: &str| Request::new("PUT", "/v1/dashboards/wall").body(content);
    let saved = node.call(&put(r#"{"title":"Wall","panels":[]}"#).header("if-none-match", "*"));
    assert_eq!(saved.status, 200, "{}", saved.text());
    assert_eq!(saved.header("etag"), Some("\"version:1\""));
    let second = node.call(&put(r#"{"title":"Wall 2"}"#).header("if-match", "\"version:1\""));
    assert_eq!(second.json()["version"], 2);
    let late = node.call(&put(r#"{"title":"Wall 3"}"#).header("if-match", "\"version:1\""));
    late.problem(412, "dashboard.version_mismatch");
    node.call(&put("[]")).problem(400, "dashboard.not_object");
    node.call(&put(&format!(r#"{{"title":"{}"}}"#, "x".repeat(50_000))))
        .problem(400, "dashboard.too_large");
    for id in ["gone", "kept"] {
        let other = Request::new("PUT", &format!("/v1/dashboards/{id}")).body(r#"{"title":"x"}"#);
        assert_eq!(node.call(&other).status, 200);
    }
    let removed = node.call(&Request::new("DELETE", "/v1/dashboards/gone"));
    assert_eq!(removed.status, 200);
    let titles = |node: &Node| -> Vec<(String, String)> {
        let items = node.list("/v1/dashboards");
        let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
        items
            .iter()
            .map(|item| (text(item, "id"), text(item, "title")))
            .collect()
    };
    let wanted = [
        ("kept".to_owned(), "x".to_owned()),
        ("wall".to_owned(), "Wall 2".to_owned()),
    ];
    assert_eq!(titles(&node), wanted);
    node.kill();
    // From the journal, and then from the snapshot that stopping writes.
    let node = Node::start(folder.path(), &[]);
    assert_eq!(titles(&node), wanted);
    assert!(node.stop());
    let node = Node::start(folder.path(), &[]);
    assert_eq!(titles(&node), wanted);
    node.call(&Request::get("/v1/dashboards/gone"))
        .problem(404, "dashboard.not_found");
}

#[test]
fn the_page_comes_with_a_strict_policy_and_nothing_of_another_host() {
    let (_folder, node) = node();
    let answer = node.call(&Request::get("/"));
    assert_eq!(answer.status, 200);
    let policy = answer
        .header("content-security-policy")
        .expect("a policy")
        .to_owned();
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("http"),
        "{policy}"
    );
    let page = answer.text();
    assert!(!page.contains("http://") && !page.contains("src=\"//"), "{page}");
    let Some(script) = page
        .split('"')
        .find(|part| part.starts_with("/assets/") && part.ends_with(".js"))
    else {
        // Built without npm: the page says how to have the dashboard.
        assert!(page.contains("npm run build"), "{page}");
        return;
    };
    let asset = node.call(&Request::get(script).header("accept-encoding", "gzip"));
    assert_eq!(asset.header("content-encoding"), Some("gzip"));
    assert_eq!(
        asset.header("cache-control"),
        Some("public, max-age=31536000, immutable")
    );
    let tag = asset.header("etag").expect("a tag").to_owned();
    let again = node.call(&Request::get(script).header("if-none-match", &tag));
    assert_eq!((again.status, again.body.len()), (304, 0));
    let plain = node.call(&Request::get(script));
    assert_eq!(plain.header("content-encoding"), None);
    assert!(plain.body.len() > asset.body.len());
    let first = node.call(&Request::get("/"));
    assert_eq!(first.header("cache-control"), Some("no-cache"));
}
