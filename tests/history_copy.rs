//! The history's files in an S3 bucket: a store that speaks S3 (moto's server) holds what the folder holds, byte by byte.
//!
//! `GEMBA_PYTHON` names a Python with the packages of `tests/requirements.txt`; `./dev test` makes one.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    collections::BTreeMap,
    net::TcpStream,
    path::Path,
    process::{Child, Stdio},
};

use serde_json::{Value, json};
use support::{Node, free_port, http::Request, python::python, wait_until};

/// An object store that forgets everything when it ends.
struct Store {
    child: Child,
    endpoint: String,
}

impl Store {
    fn start(port: u16) -> Self {
        let child = python()
            .args([
                "-m",
                "moto.server",
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a Python with moto (./dev test makes one in target/python)");
        let store = Self {
            child,
            endpoint: format!("http://127.0.0.1:{port}"),
        };
        wait_until("the store listens", || {
            TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
        });
        store.ask(&["make", "plant"]);
        store
    }

    fn ask(&self, arguments: &[&str]) -> Vec<u8> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/history_copy.py");
        let output = python()
            .args([script, &self.endpoint])
            .args(arguments)
            .output()
            .expect("Python runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// What the bucket and the folder hold: digests by name.
    fn compare(&self, history: &Path) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        let folder = history.display().to_string();
        let said: Value = serde_json::from_slice(&self.ask(&["compare", "plant", &folder])).expect("JSON");
        let of = |name: &str| serde_json::from_value(said[name].clone()).expect("digests");
        (of("there"), of("here"))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn feed(node: &Node, from: u64, to: u64) {
    let lines: String = (from..to)
        .map(|number| {
            let reading = json!({"sensor_id": format!("cnc-{}", number % 5), "message_id": format!("m-{number}"),
                "metrics": {"good_count": number}});
            format!("{reading}\n")
        })
        .collect();
    let request = Request::post("/v1/readings", lines).header("content-type", "application/x-ndjson");
    assert_eq!(node.call(&request).status, 200);
    assert_eq!(node.call(&Request::post("/v1/history/write", "{}")).status, 200);
}

#[test]
fn a_bucket_holds_what_the_folder_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, data, config) = (
        free_port(),
        folder.path().join("data"),
        folder.path().join("gemba.toml"),
    );
    let store = Store::start(port);
    let text = format!(
        "[history]\ncopy_to = \"s3://plant/gemba\"\n[history.copy_options]\naws_region = \"eu-central-1\"\n\
         aws_endpoint = \"{}\"\naws_allow_http = \"true\"\naws_access_key_id = \"gemba\"\n\
         aws_secret_access_key = \"s3cret\"\n",
        store.endpoint
    );
    std::fs::write(&config, text).expect("a configuration");
    let config = config.display().to_string();
    let history = data.join("history");
    let alike = |store: &Store, files: usize| {
        wait_until("the bucket holds what the folder holds", || {
            let (there, here) = store.compare(&history);
            let below: BTreeMap<String, String> = here
                .into_iter()
                .map(|(name, digest)| (format!("gemba/{name}"), digest))
                .collect();
            (there.len() > files && there == below).then_some(there.len())
        })
    };
    let node = Node::start(&data, &["--config", &config]);
    feed(&node, 0, 200);
    let files = alike(&store, 0);
    feed(&node, 200, 400);
    let more = alike(&store, files);
    assert!(node.stop());

    // The store is away: the node starts and works, says what is missing, and copies all when it is back.
    drop(store);
    let node = Node::start(&data, &["--config", &config]);
    feed(&node, 400, 600);
    assert_eq!(
        node.get("/v1/twins/machine/cnc-1")["state"]["metrics"]["good_count"]["value"],
        596.0
    );
    let store = Store::start(port);
    alike(&store, more);
    assert!(node.stop());
}

#[test]
fn a_copy_that_cannot_work_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text, says) in [
        ("scheme", "copy_to = \"ftp://plant\"", "s3://bucket/folder"),
        (
            "option",
            "copy_to = \"s3://plant\"\ncopy_options = { acces_key = \"x\" }",
            "acces_key",
        ),
        (
            "files",
            "folder = \"off\"\ncopy_to = \"s3://plant\"",
            "history.folder is off",
        ),
    ] {
        let config = folder.path().join(format!("{name}.toml"));
        std::fs::write(&config, format!("[history]\n{text}\n")).expect("a configuration");
        let data = folder.path().join("data").display().to_string();
        let run = support::command::gemba(&[
            "serve",
            "--config",
            &config.display().to_string(),
            "--data-dir",
            &data,
        ]);
        assert_ne!(run.status, 0);
        assert!(
            run.err.contains("history.copy_to") && run.err.contains(says),
            "{}",
            run.err
        );
    }
}
