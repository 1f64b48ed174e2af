//! Who may do what over HTTP: tenants that do not see each other, roles that may do what they are for, and callers
//! without a credential.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use serde_json::{Value, json};
use support::{
    Node,
    command::{command, keys},
    free_port,
    http::{Answer, Request},
    socket::Socket,
    wait_until,
};

const ROLES: [&str; 5] = ["device", "viewer", "operator", "engineer", "admin"];
const PLANT: &str = "site: {id: plant-1}\nmachines: [{id: press-9, name: Secret press}]\n\
                     alarms: [{id: fast, applies_to: machine, condition: metrics.power_kw > 1}]\n";

/// Who may call what: the least of viewer, operator, engineer; `send` is for all but viewers.
const LEAST: &[(&str, &str, &str)] = &[
    ("get", "/v1/twins", "viewer"),
    ("get", "/v1/twins/{kind}/{id}", "viewer"),
    ("get", "/v1/twins/{kind}/{id}/history", "viewer"),
    ("get", "/v1/twins/{kind}/{id}/events", "viewer"),
    ("patch", "/v1/twins/{kind}/{id}/attributes", "operator"),
    ("get", "/v1/plant", "viewer"),
    ("post", "/v1/plant/plan", "viewer"),
    ("put", "/v1/plant", "engineer"),
    ("post", "/v1/readings", "send"),
    ("post", "/v1/scans", "send"),
    ("get", "/v1/ingest", "viewer"),
    ("get", "/v1/rejected", "viewer"),
    ("post", "/v1/rejected/{id}/retry", "operator"),
    ("get", "/v1/dashboards", "viewer"),
    ("get", "/v1/dashboards/{id}", "viewer"),
    ("put", "/v1/dashboards/{id}", "viewer"),
    ("delete", "/v1/dashboards/{id}", "viewer"),
    ("get", "/v1/cluster", "viewer"),
    ("post", "/v1/cluster/nodes/{node}/drain", "admin"),
    ("get", "/v1/backup/{shard}", "admin"),
    ("get", "/v1/stream", "viewer"),
    ("get", "/v1/alarms", "viewer"),
    ("get", "/v1/alarms/figures", "viewer"),
    ("get", "/v1/alarms/{id}", "viewer"),
    ("get", "/v1/alarms/{id}/history", "viewer"),
    ("post", "/v1/alarms/{id}/ack", "operator"),
    ("post", "/v1/alarms/{id}/shelve", "operator"),
    ("post", "/v1/alarms/{id}/unshelve", "operator"),
    ("post", "/v1/alarms/{id}/comment", "operator"),
    ("post", "/v1/alarms/{id}/out-of-service", "operator"),
    ("post", "/v1/alarms/{id}/in-service", "operator"),
    ("post", "/v1/alarms/{id}/reset", "operator"),
    ("get", "/v1/twins/{kind}/{id}/shifts", "viewer"),
    ("get", "/v1/twins/{kind}/{id}/jobs", "viewer"),
    ("get", "/v1/twins/{kind}/{id}/forecast", "viewer"),
    ("post", "/v1/twins/{kind}/{id}/fork", "engineer"),
    ("post", "/v1/refold", "engineer"),
    ("get", "/v1/quality", "viewer"),
    ("get", "/v1/flow", "viewer"),
    ("post", "/v1/history/write", "engineer"),
    ("get", "/v1/checkpoints", "viewer"),
    ("post", "/v1/rfid/impinj", "send"),
    ("post", "/v1/rfid/zebra", "send"),
    ("post", "/v1/rfid/generic", "send"),
    ("post", "/v1/epcis/capture", "send"),
    ("post", "/v1/uploads", "operator"),
    ("get", "/v1/uploads", "viewer"),
    ("get", "/v1/uploads/{id}", "viewer"),
    ("patch", "/v1/uploads/{id}", "operator"),
    ("delete", "/v1/uploads/{id}", "operator"),
    ("get", "/v1/uploads/{id}/rejected", "viewer"),
    ("get", "/v1/twins/{kind}/{id}/attachments", "viewer"),
    ("get", "/v1/twins/{kind}/{id}/attachments/{attachment}", "viewer"),
];

fn may(role: &str, least: &str) -> bool {
    let rank = |role: &str| ROLES.iter().position(|known| *known == role).expect("a role");
    if least == "send" {
        role != "viewer"
    } else {
        rank(role) >= rank(least)
    }
}

/// A node with keys, and the tokens of its keys in their order.
fn guarded(of: &[(&str, &str)]) -> (tempfile::TempDir, Node, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("gemba.toml");
    let tokens = keys(&config, of);
    let node = Node::start(
        &folder.path().join("data"),
        &["--config", config.to_str().expect("UTF-8")],
    );
    (folder, node, tokens)
}

/// Every operation of the document that needs a credential, with the least role that the table gives it.
fn operations(node: &Node) -> Vec<(String, String, &'static str)> {
    let document = node.get("/openapi.json");
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if operation["security"] == json!([]) {
                continue;
            }
            let least = LEAST.iter().find(|(known, at, _)| known == method && at == path);
            let (_, _, least) = least.unwrap_or_else(|| panic!("say who may call {method} {path}"));
            operations.push((method.to_uppercase(), path.clone(), *least));
        }
    }
    assert_eq!(
        operations.len(),
        LEAST.len(),
        "an operation is missing in the document"
    );
    operations
}

/// A call of an operation about a twin, an alarm of a twin, or a rejected message.
fn request(method: &str, path: &str, kind: &str, id: &str) -> Request {
    let body = match path {
        "/v1/readings" => r#"{"sensor_id":"own","metrics":{"a":1}}"#,
        "/v1/scans" => r#"{"job_id":"own-job","location":"own-cell"}"#,
        "/v1/plant" | "/v1/plant/plan" if method != "GET" => "site: {id: own}",
        "/v1/dashboards/{id}" if method == "PUT" => r#"{"title":"own"}"#,
        "/v1/rfid/impinj" => {
            r#"{"eventType":"tagInventory","hostname":"own","tagInventoryEvent":{"epcHex":"E2801170"}}"#
        }
        "/v1/rfid/zebra" => r#"{"type":"SIMPLE","data":{"idHex":"E2801170","antenna":1}}"#,
        "/v1/rfid/generic" => r#"{"reader_id":"own","reads":["E2801170"]}"#,
        "/v1/epcis/capture" => {
            r#"{"type":"ObjectEvent","action":"OBSERVE","eventTime":"2026-01-15T10:00:00Z","eventTimeZoneOffset":"+00:00","epcList":["urn:epc:id:sgtin:0614141.812345.6789"],"readPoint":{"id":"own-cell"}}"#
        }
        "/v1/refold" => r#"{"kind":"machine"}"#,
        _ if path.ends_with("/fork") => r#"{"events":[]}"#,
        _ if method == "PATCH" => r#"{"note":"mine"}"#,
        _ if path.ends_with("/shelve") => r#"{"for":"30m"}"#,
        _ if path.ends_with("/comment") => r#"{"comment":"mine"}"#,
        _ => "",
    };
    let id = if path.starts_with("/v1/alarms") {
        format!("machine:{id}:fast")
    } else {
        id.to_owned()
    };
    let asked = if path.ends_with("/forecast") {
        "?metric=utilization"
    } else {
        ""
    };
    let path = path
        .replace("{kind}", kind)
        .replace("{id}", &id)
        .replace("{node}", "1")
        .replace("{attachment}", "0f");
    Request::new(method, &format!("{path}{asked}")).body(body)
}

fn token_of<'t>(tokens: &'t [String], of: &[(&str, &str)], tenant: &str, role: &str) -> &'t str {
    let at = of.iter().position(|known| *known == (tenant, role));
    &tokens[at.expect("a key")]
}

/// Asserts that an answer tells nothing of the other tenant.
fn assert_tells_nothing(answer: &Answer, said: &str) {
    let told = format!("{answer:?} {}", answer.text()).to_lowercase();
    for secret in ["acme", "secret"] {
        assert!(
            !told.contains(secret),
            "{said} tells {secret:?}: {}",
            answer.text()
        );
    }
}

#[test]
fn what_another_tenant_has_answers_as_if_it_did_not_exist() {
    let of = [("acme", "admin"), ("globex", "admin")];
    let (_folder, node, tokens) = guarded(&of);
    let (acme, globex) = (Some(&*tokens[0]), Some(&*tokens[1]));
    for request in [
        Request::new("PUT", "/v1/plant").body(PLANT),
        Request::post(
            "/v1/readings",
            r#"{"sensor_id":"press-9","metrics":{"secret_rpm":7}}"#,
        ),
        Request::post("/v1/scans", r#"{"job_id":"press-9","location":"press-9"}"#),
        Request::new("PUT", "/v1/dashboards/wall-1").body(r#"{"title":"Secret wall"}"#),
    ] {
        let answer = node.call(&request.token(acme));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let bad = Request::post("/v1/readings", r#"{"sensor_id":"secret bad","metrics":{"a":1}}"#);
    assert_eq!(node.call(&bad.token(acme)).status, 400);
    let rejected = node.call(&Request::get("/v1/rejected").token(acme)).json();
    let rejected = rejected["items"][0]["id"].as_str().expect("an id").to_owned();
    let asked = Request::post(
        "/v1/uploads",
        r#"{"name":"secret.ndjson","size":5,"map":"kind='scans'\ncolumns={job_id='j',location='l',timestamp='t'}"}"#,
    );
    let upload = node.call(&asked.token(acme)).json();
    let upload = upload["id"].as_str().expect("an id").to_owned();
    let twins = ["machine", "job", "location"].map(|kind| (kind, "press-9"));
    for (kind, id) in twins {
        // What a job tells its location arrives a little later.
        let own = Request::get(&format!("/v1/twins/{kind}/{id}")).token(acme);
        wait_until("its own twins are there", || {
            (node.call(&own).status == 200).then_some(())
        });
    }
    for (method, path, _) in operations(&node) {
        let said = format!("{method} {path}");
        if !path.contains("{id}") {
            let answer = node.call(&request(&method, &path, "", "").token(globex));
            assert_tells_nothing(&answer, &said);
            assert!(!answer.text().contains("press-9"), "{said}: {}", answer.text());
            continue;
        }
        if (&*method, &*path) == ("PUT", "/v1/dashboards/{id}") {
            // The same id is another dashboard in another tenant.
            let own = node.call(&request(&method, &path, "", "wall-1").token(globex));
            assert_eq!(own.json()["version"], 1, "{said}: {}", own.text());
            assert_tells_nothing(&own, &said);
            continue;
        }
        let known = if path.contains("{kind}") || path.starts_with("/v1/alarms") {
            "press-9"
        } else if path.starts_with("/v1/dashboards") {
            "wall-1"
        } else if path.starts_with("/v1/uploads") {
            &*upload
        } else {
            &*rejected
        };
        for (kind, _) in twins {
            let theirs = node.call(&request(&method, &path, kind, known).token(globex));
            let nobodys = node.call(&request(&method, &path, kind, "99-99999").token(globex));
            assert_eq!(theirs.status, 404, "{said}: {}", theirs.text());
            assert_tells_nothing(&theirs, &said);
            // Nothing but the name that was asked for differs from a thing that nobody has.
            assert_eq!(theirs.text().replace(known, "99-99999"), nobodys.text(), "{said}");
        }
    }
    // The metrics need no key; of a tenant they tell who shows one of its keys.
    for (token, told) in [(None, false), (globex, false), (acme, true)] {
        let metrics = Request::get("/metrics");
        let metrics = node.call(&match token {
            Some(_) => metrics.token(token),
            None => metrics,
        });
        assert_eq!(metrics.status, 200);
        assert!(
            metrics.text().contains("journal_frames_total"),
            "{}",
            metrics.text()
        );
        assert_eq!(
            metrics.text().contains("tenant=\"acme\""),
            told,
            "{}",
            metrics.text()
        );
        assert_eq!(metrics.text().contains("acme"), told, "{}", metrics.text());
    }
    // What was tried changed nothing.
    let twin = node
        .call(&Request::get("/v1/twins/machine/press-9").token(acme))
        .json();
    assert_eq!(
        twin["attributes"],
        json!({"name": "Secret press", "site": "plant-1"})
    );
    let wall = node
        .call(&Request::get("/v1/dashboards/wall-1").token(acme))
        .json();
    assert_eq!(
        (&wall["content"]["title"], &wall["version"]),
        (&json!("Secret wall"), &json!(1))
    );
    let kept = node.call(&Request::get("/v1/rejected").token(acme)).json();
    assert_eq!(kept["items"][0]["id"], *rejected);
}

#[test]
fn a_stream_shows_the_twins_of_its_own_tenant() {
    let of = [("acme", "viewer"), ("globex", "admin"), ("acme", "device")];
    let (_folder, node, tokens) = guarded(&of);
    let send = |token: &str, id: &str| {
        let reading = json!({"sensor_id": id, "metrics": {"rpm": 1}});
        let request = Request::post("/v1/readings", reading.to_string());
        assert_eq!(node.call(&request.token(Some(token))).status, 200);
    };
    send(&tokens[2], "secret-press");
    send(&tokens[1], "lathe-1");
    let bearer = format!("Bearer {}", tokens[1]);
    let mut globex = Socket::open_with(node.http, &[("authorization", &*bearer)]).expect("opened");
    globex.say(&json!({"type": "subscribe", "id": "all"}));
    assert_eq!(globex.frame()["twins"], 1);
    assert_eq!(globex.wait_for("snapshot")["twin"], "machine/lathe-1");
    globex.wait_for("live");
    send(&tokens[2], "secret-press-2");
    send(&tokens[1], "lathe-2");
    let next = globex.frame();
    assert_eq!(
        (&next["type"], &next["twin"]),
        (&json!("enter"), &json!("machine/lathe-2"))
    );
    // A token of another tenant does not change whose twins a connection shows.
    globex.say(&json!({"type": "auth", "token": tokens[0]}));
    assert_eq!(globex.wait_for("error")["code"], "auth.invalid");
}

#[test]
fn each_role_may_do_what_it_is_for() {
    let of = ROLES.map(|role| ("acme", role));
    let (_folder, node, tokens) = guarded(&of);
    for (method, path, least) in operations(&node) {
        for role in ROLES {
            let token = token_of(&tokens, &of, "acme", role);
            let answer = node.call(&request(&method, &path, "machine", "cnc-01").token(Some(token)));
            let said = format!("{role}: {method} {path} {} {}", answer.status, answer.text());
            if may(role, least) {
                // A dashboard is its owner's, whatever the role.
                let owned = answer.text().contains("dashboard.not_owner");
                assert!(owned || ![401, 403].contains(&answer.status), "{said}");
                assert!(answer.status < 500, "{said}");
            } else if path == "/v1/stream" {
                let bearer = format!("Bearer {token}");
                let refused = Socket::open_with(node.http, &[("authorization", &*bearer)]).err();
                assert_eq!(refused.map(|status| status.as_u16()), Some(403), "{said}");
                let events = Request::get(&path)
                    .header("accept", "text/event-stream")
                    .token(Some(token));
                node.call(&events).problem(403, "auth.forbidden");
            } else {
                answer.problem(403, "auth.forbidden");
            }
        }
    }
}

#[test]
fn nobody_gets_in_without_a_token_that_is_known() {
    let (_folder, node, _) = guarded(&[("acme", "admin")]);
    for (method, path, _) in operations(&node) {
        let mut request = request(&method, &path, "machine", "cnc-01");
        if path == "/v1/stream" {
            request = request.header("accept", "text/event-stream");
        }
        let missing = node.call(&request);
        missing.problem(401, "auth.missing");
        assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
        for token in ["", "gemba_unknown", "Secret"] {
            node.call(&request.clone().token(Some(token)))
                .problem(401, "auth.invalid");
        }
        let basic = request.header("authorization", "Basic YTpi");
        node.call(&basic).problem(401, "auth.invalid");
    }
    for headers in [
        &[][..],
        &[("sec-websocket-protocol", "gemba.v1, bearer.gemba_unknown")][..],
    ] {
        let refused = Socket::open_with(node.http, headers).err();
        assert_eq!(refused.map(|status| status.as_u16()), Some(401));
    }
    for open in ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/"] {
        assert_eq!(node.call(&Request::get(open)).status, 200, "{open}");
    }
}

#[test]
fn without_keys_a_node_listens_to_its_own_machine_only() {
    let folder = tempfile::tempdir().expect("a folder");
    // Ends with what it said; one that begins to serve instead is ended.
    let serve = |http: &str, mqtt: &str| {
        let mut node = command(&["serve", "--http", http, "--mqtt", mqtt])
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gemba starts");
        let mut lines = BufReader::new(node.stdout.take().expect("its output")).lines();
        let serves = lines.by_ref().map_while(Result::ok).any(|line| line == "ready");
        if serves {
            node.kill().expect("killed");
        }
        let output = node.wait_with_output().expect("reaped");
        assert!(!serves, "it serves everybody at {http} and {mqtt}");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (everywhere, here) = (
        format!("0.0.0.0:{}", free_port()),
        format!("127.0.0.1:{}", free_port()),
    );
    for (http, mqtt) in [(&everywhere, "off"), (&here, &*everywhere)] {
        let (status, said) = serve(http, mqtt);
        assert_eq!(status, Some(1), "{said}");
        assert!(
            said.contains(&*everywhere) && said.contains("without keys"),
            "{said}"
        );
    }
    assert_holds_nothing(folder.path());
}

/// A folder that a refused node left can be used by one that is not.
fn assert_holds_nothing(folder: &Path) {
    let node = Node::start(&folder.join("data"), &[]);
    assert_eq!(node.get("/v1/twins")["items"], Value::Array(Vec::new()));
}
