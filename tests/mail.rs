//! Notifications by mail, to a real SMTP server: aiosmtpd, with STARTTLS and a login, or as a relay on this machine.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::{Arc, Mutex},
};

use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::{Value, json};
use support::{Node, free_port, http::Request, python::python, wait_until};

const PLANT: &str = r#"
machines: [{id: cnc-07}]
alarms:
  - {id: hot, applies_to: machine, condition: metrics.temperature_c > 80, priority: high, text: Zu heiß}
"#;

/// The server, and what it took. It ends with the test.
struct MailServer {
    child: Child,
    _stdin: ChildStdin,
    mails: Arc<Mutex<Vec<Value>>>,
}

impl MailServer {
    fn start(port: u16, secured: &[&str]) -> Self {
        let mut child = python()
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mail.py"))
            .arg(port.to_string())
            .args(secured)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a Python with aiosmtpd (./dev test makes one in target/python)");
        let stdin = child.stdin.take().expect("piped");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert_eq!(lines.next().and_then(Result::ok).as_deref(), Some("ready"));
        let mails = Arc::new(Mutex::new(Vec::new()));
        let kept = mails.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mail = serde_json::from_str(&line).expect("JSON");
                kept.lock().expect("not poisoned").push(mail);
            }
        });
        Self {
            child,
            _stdin: stdin,
            mails,
        }
    }

    fn mails(&self, count: usize) -> Vec<Value> {
        wait_until("the mails", || {
            let mails = self.mails.lock().expect("not poisoned");
            (mails.len() >= count).then(|| mails.clone())
        })
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        // A server that has ended by itself has failed the test already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node(folder: &Path, notify: &str) -> Node {
    let file = folder.join("gemba.toml");
    fs::write(&file, notify).expect("written");
    let node = Node::start(&folder.join("data"), &["--config", file.to_str().expect("UTF-8")]);
    let answer = node.call(&Request::new("PUT", "/v1/plant").body(PLANT));
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_until("the machine knows its rule", || {
        (node.list("/v1/alarms?state=all").len() == 1).then_some(())
    });
    node
}

fn temperature(node: &Node, value: f64) {
    let reading = json!({"sensor_id": "cnc-07", "metrics": {"temperature_c": value}});
    let answer = node.call(&Request::post("/v1/readings", reading.to_string()));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn subjects(mails: &[Value]) -> Vec<&str> {
    mails
        .iter()
        .map(|mail| mail["headers"]["subject"].as_str().expect("a subject"))
        .collect()
}

#[test]
fn a_mail_goes_over_tls_with_a_login_and_says_what_happened_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params
        .subject_alt_names
        .push(SanType::IpAddress([127, 0, 0, 1].into()));
    let certificate = params.self_signed(&key).expect("a certificate");
    let file = |name: &str, text: String| {
        let file = folder.path().join(name);
        fs::write(&file, text).expect("written");
        file.to_str().expect("UTF-8").to_owned()
    };
    let (certificate, key) = (
        file("mail.crt", certificate.pem()),
        file("mail.key", key.serialize_pem()),
    );
    let secret = file("password", "geheim & lang\n".into());
    let port = free_port();
    let server = MailServer::start(port, &[&certificate, &key, "gemba@plant", "geheim & lang"]);
    let notify = format!(
        "[[notify]]\nname = \"shift\"\nkind = \"smtp\"\nurl = \"smtp://gemba%40plant@127.0.0.1:{port}\"\n\
         secret_file = \"{secret}\"\nca = \"{certificate}\"\nfrom = \"gemba <gemba@plant.example>\"\n\
         to = [\"Schicht <busy@plant.example>\", \"leit@plant.example\"]\non = [\"raised\", \"returned\"]\n"
    );
    let node = node(folder.path(), &notify);
    temperature(&node, 85.5);
    temperature(&node, 20.0);
    let mails = server.mails(2);
    assert_eq!(
        subjects(&mails),
        [
            "[high] raised: Zu heiß (machine/cnc-07)",
            "[high] returned: Zu heiß (machine/cnc-07)"
        ],
        "in order, although the server was busy at first"
    );
    for mail in &mails {
        assert_eq!(mail["tls"], true);
        assert_eq!(mail["from"], "gemba@plant.example");
        assert_eq!(mail["to"], json!(["busy@plant.example", "leit@plant.example"]));
    }
    let [raised, returned] = &mails[..] else {
        panic!("two")
    };
    let body = raised["body"].as_str().expect("text");
    for line in ["Alarm:    machine:cnc-07:hot", "Priority: high", "Value:    85.5"] {
        assert!(body.contains(line), "{line} in {body}");
    }
    assert_ne!(raised["headers"]["message-id"], returned["headers"]["message-id"]);
    assert!(node.stop());
}

#[test]
fn a_mailbox_that_does_not_exist_holds_up_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let server = MailServer::start(port, &[]);
    let notify = |name: &str, to: &str| {
        format!(
            "[[notify]]\nname = \"{name}\"\nkind = \"smtp\"\nurl = \"smtp://127.0.0.1:{port}\"\n\
             from = \"gemba@plant.example\"\nto = [\"{to}\"]\non = [\"raised\"]\n"
        )
    };
    let both = notify("gone", "nobody@plant.example") + &notify("there", "leit@plant.example");
    let node = node(folder.path(), &both);
    for _ in 0..2 {
        temperature(&node, 85.0);
        temperature(&node, 20.0);
    }
    let mails = server.mails(2);
    assert_eq!(subjects(&mails).len(), 2);
    assert_eq!(mails[0]["tls"], false, "to a relay on this machine");
    wait_until("both refusals are counted", || {
        let metrics = node.call(&Request::get("/metrics"));
        metrics
            .text()
            .contains("notify_refused_total{destination=\"gone\"} 2")
            .then_some(())
    });
    assert!(node.stop());
}
