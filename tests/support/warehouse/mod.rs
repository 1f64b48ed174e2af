//! Snowflake's protocol and SQL as fakesnow has them (`serve.py`), a plant whose node writes to it, and what is there.

use std::{
    collections::BTreeMap,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};

use crate::support::{
    Node,
    command::{Said, command, run},
    free_port,
    http::Request,
    python::python,
    request, wait_until,
};

pub(crate) const SHARDS: usize = 2;
/// Streams by SQL of a tenant and shard: readings, scans, and what twins compute.
pub(crate) const STREAMS: usize = 3;
pub(crate) const MACHINES: u64 = 6;
pub(crate) const JOBS: u64 = 4;
/// Readings in a request; every fourth comes with a scan.
pub(crate) const IN_A_REQUEST: u64 = 40;

/// One at a time: each is a whole Python, and what waits for it counts in seconds.
static ALONE: Mutex<()> = Mutex::new(());

/// A running fakesnow.
pub(crate) struct Warehouse {
    child: Child,
    pub(crate) port: u16,
    _alone: MutexGuard<'static, ()>,
}

impl Warehouse {
    pub(crate) fn start() -> Self {
        // A test that failed has nothing to do with the next one.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let port = free_port();
        let support = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
        let fingerprint =
            std::fs::read_to_string(support.join("keys/fingerprint.txt")).expect("a fingerprint");
        let child = python()
            .arg(support.join("warehouse/serve.py"))
            .args([&port.to_string(), fingerprint.trim()])
            .stdout(Stdio::null())
            .spawn()
            .expect("a Python with fakesnow (./dev test makes one in target/python)");
        let mut warehouse = Self {
            child,
            port,
            _alone: alone,
        };
        wait_until("fakesnow listens", || {
            let ended = warehouse.child.try_wait().expect("asked");
            assert!(
                ended.is_none(),
                "fakesnow ended: is it in target/python (./dev test)?"
            );
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        warehouse
    }

    fn ask(&self, path: &str, body: &str) -> Value {
        let (status, body) = request(self.port, "POST", path, &[], body.as_bytes());
        let said = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(status, 200, "{path}: {said}");
        serde_json::from_str(&said).expect("JSON")
    }

    pub(crate) fn set_faults(&self, faults: &Value) {
        self.ask("/_faults", &faults.to_string());
    }

    /// How often something happened: a statement by its first word, or a fault.
    pub(crate) fn count(&self, what: &str) -> u64 {
        self.ask("/_counts", "")[what].as_u64().unwrap_or_default()
    }

    /// Runs a statement; its rows as texts.
    pub(crate) fn rows(&self, statement: &str) -> Vec<Vec<String>> {
        let answer = self.ask("/_sql", statement);
        let rows = answer["rows"].as_array().expect("rows").iter();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rows.map(|row| row.as_array().expect("a row").iter().map(text).collect())
            .collect()
    }

    /// The one number that a statement answers.
    pub(crate) fn number(&self, statement: &str) -> f64 {
        let rows = self.rows(statement);
        rows[0][0]
            .parse()
            .unwrap_or_else(|_| panic!("{statement}: {rows:?}"))
    }
}

impl Drop for Warehouse {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A data folder, and a node on it that writes to the warehouse.
pub(crate) struct Plant {
    folder: tempfile::TempDir,
    pub(crate) config: PathBuf,
}

impl Plant {
    pub(crate) fn new(warehouse: &Warehouse, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("key.p8");
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/keys");
        std::fs::copy(keys.join("aes.p8"), &key).expect("a key");
        let config = folder.path().join("gemba.toml");
        let text = format!(
            "[node]\nshards = {SHARDS}\ndata_dir = {:?}\n[history]\nevery_s = 1\n[snowflake]\naccount = \"myorg-account1\"\n\
             user = \"svc\"\nkey_file = {key:?}\nkey_passphrase = \"correct horse\"\nurl = \"http://127.0.0.1:{}\"\n\
             emulator = true\nhistory_by = \"sql\"\nsql_every_s = 1\nretry_ms = 20\n{more}",
            folder.path().join("data"),
            warehouse.port
        );
        std::fs::write(&config, text).expect("written");
        Self { folder, config }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn start(&self) -> Node {
        Node::start(&self.data(), &["--config", self.config.to_str().expect("UTF-8")])
    }

    /// Runs `gemba snowflake …` with this plant's configuration.
    pub(crate) fn snowflake(&self, arguments: &[&str]) -> Said {
        let mut all = vec!["snowflake"];
        all.extend(arguments);
        all.extend(["--config", self.config.to_str().expect("UTF-8")]);
        run(&mut command(&all))
    }

    /// A warehouse with its tables, and the plant of a node that writes to it.
    pub(crate) fn with_tables(warehouse: &Warehouse, more: &str) -> Self {
        let plant = Self::new(warehouse, more);
        let said = plant.snowflake(&["apply"]);
        assert_eq!(said.status, 0, "{}", said.err);
        plant
    }
}

/// Sends messages `from..to`; answers when they are acknowledged.
pub(crate) fn feed(node: &Node, from: u64, to: u64) {
    for first in (from..to).step_by(IN_A_REQUEST as usize) {
        let (mut readings, mut scans) = (String::new(), String::new());
        for number in first..to.min(first + IN_A_REQUEST) {
            let reading = json!({"sensor_id": format!("cnc-{}", number % MACHINES), "message_id": format!("r-{number}"),
                "metrics": {"execution": "producing", "load_pct": 50.5},
                "device_metadata": {"note": "it's a \"quoted\" \\ line\nand ünïcode"}});
            readings.push_str(&format!("{reading}\n"));
            if number % 4 == 0 {
                let scan = json!({"job_id": format!("job-{}", number / 4 % JOBS), "location": format!("cell-{}", number % 3), "message_id": format!("s-{number}")});
                scans.push_str(&format!("{scan}\n"));
            }
        }
        for (path, body) in [("/v1/readings", readings), ("/v1/scans", scans)] {
            let request = Request::post(path, body).header("content-type", "application/x-ndjson");
            let answer = node.call(&request);
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
}

pub(crate) fn streams(node: &Node) -> Vec<Value> {
    let mut streams = node.list("/v1/checkpoints");
    streams.retain(|stream| stream["destination"] == "snowflake");
    streams
}

/// Waits until the warehouse has all that the node has.
pub(crate) fn wait_for_all(node: &Node) {
    wait_until("everything is committed", || {
        let streams = streams(node);
        let all = streams.len() == SHARDS * STREAMS && streams.iter().all(|stream| stream["lag_events"] == 0);
        all.then_some(())
    });
}

/// What the warehouse has against what was acknowledged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) rows: u64,
    pub(crate) missing: u64,
    pub(crate) doubled: u64,
}

/// Looks for messages `0..to` in the tables of readings and scans.
pub(crate) fn look(warehouse: &Warehouse, to: u64) -> Found {
    let mut found = Found::default();
    for (table, prefix, step) in [("SENSOR_READINGS_RAW", "r-", 1), ("JOB_TRACKING", "s-", 4)] {
        let mut times: BTreeMap<String, u64> = BTreeMap::new();
        for row in warehouse.rows(&format!("SELECT MESSAGE_ID FROM {table}")) {
            *times.entry(row[0].clone()).or_default() += 1;
            found.rows += 1;
        }
        let mut wanted = (0..to).step_by(step).map(|number| format!("{prefix}{number}"));
        found.missing += wanted.by_ref().filter(|id| !times.contains_key(id)).count() as u64;
        found.doubled += times.values().filter(|times| **times > 1).count() as u64;
    }
    found
}
