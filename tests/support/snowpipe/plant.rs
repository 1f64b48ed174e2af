//! A node that writes to the fake, and what is sent to it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Faults, Snowpipe};
use crate::support::{Node, http::Request, wait_until};

/// Machines whose readings are sent, and jobs that are scanned.
pub(crate) const MACHINES: u64 = 24;
pub(crate) const JOBS: u64 = 6;
pub(crate) const SHARDS: usize = 3;
/// Readings in a request; every fourth comes with a scan.
pub(crate) const IN_A_REQUEST: u64 = 40;

pub(crate) fn calm() -> Faults {
    Faults {
        commit_ms: 20,
        ..Faults::default()
    }
}

/// A data folder, and a node on it that writes to the fake.
pub(crate) struct Plant {
    pub(crate) folder: tempfile::TempDir,
    config: PathBuf,
}

impl Plant {
    pub(crate) fn new(fake: &Snowpipe, more: &str) -> Self {
        Self::with_batches_of(8_000, fake, more)
    }

    pub(crate) fn with_batches_of(bytes: usize, fake: &Snowpipe, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("key.p8");
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/keys");
        std::fs::copy(keys.join("des3.p8"), &key).expect("a key");
        let config = folder.path().join("gemba.toml");
        let text = format!(
            "[node]\nshards = {SHARDS}\n[snowflake]\naccount = \"myorg-account1\"\nuser = \"svc\"\nkey_file = {key:?}\n\
             key_passphrase = \"correct horse\"\nurl = \"http://127.0.0.1:{}\"\nflush_ms = 40\nretry_ms = 20\n\
             batch_bytes = {bytes}\ntimeout_s = 10\nsql_every_s = 0\n{more}",
            fake.port
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
}

/// Sends messages `from..to`; answers when they are acknowledged.
pub(crate) fn feed(node: &Node, from: u64, to: u64) {
    for first in (from..to).step_by(IN_A_REQUEST as usize) {
        let (mut readings, mut scans) = (String::new(), String::new());
        for number in first..to.min(first + IN_A_REQUEST) {
            let reading = json!({"sensor_id": format!("cnc-{}", number % MACHINES), "message_id": format!("r-{number}"),
                "metrics": {"execution": "producing", "good_count": number / MACHINES, "load_pct": 50.5},
                "device_metadata": {"firmware": "2.1"}});
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

/// How many rows messages `0..to` lead to.
pub(crate) fn rows_of(to: u64) -> usize {
    (to + to.div_ceil(4)) as usize
}

pub(crate) fn channels(node: &Node) -> Vec<Value> {
    let mut channels = node.list("/v1/checkpoints");
    channels.retain(|channel| channel["destination"] == "snowflake");
    channels
}

/// Whether all channels are there, and each of them has sent all that there is.
pub(crate) fn caught_up(node: &Node) -> bool {
    let channels = channels(node);
    channels.len() == SHARDS * 2 && channels.iter().all(|channel| channel["lag_events"] == 0)
}

/// Waits until the warehouse has all that the node has.
pub(crate) fn wait_for_all(fake: &Snowpipe, node: &Node, to: u64) {
    wait_until("everything is committed", || {
        (fake.rows("SENSOR_READINGS_RAW").len() + fake.rows("JOB_TRACKING").len() >= rows_of(to)
            && caught_up(node))
        .then_some(())
    });
}
