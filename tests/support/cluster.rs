//! A cluster of real processes on this machine.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{Node, command::gemba, free_port, wait_until};

/// Where a node of a cluster listens, and where its data is.
pub(crate) struct Seat {
    pub(crate) number: usize,
    pub(crate) http: u16,
    pub(crate) mqtt: u16,
    pub(crate) port: u16,
    data: PathBuf,
    certs: String,
    join: String,
    founds: bool,
    advertise: Option<String>,
    /// Settings of all nodes, as environment variables.
    set: Vec<(&'static str, &'static str)>,
    /// A configuration file.
    pub(crate) config: Option<String>,
}

impl Seat {
    /// Starts the node, or starts it again, and waits until it is ready.
    pub(crate) fn start(&self) -> Node {
        self.start_telling(|_| ())
    }

    /// As [`Seat::start`]; `tell` hears the process's number before the node is ready.
    pub(crate) fn start_telling(&self, tell: impl FnOnce(u32)) -> Node {
        Node::run_telling(self.command(), self.http, self.mqtt, tell)
    }

    /// As [`Seat::start`], with what it logs in a file.
    pub(crate) fn start_logging(&self, log: &Path) -> Node {
        let mut command = self.command();
        command.stderr(std::fs::File::create(log).expect("a file"));
        command.env("GEMBA_LOG__LEVEL", "info");
        Node::run(command, self.http, self.mqtt)
    }

    fn command(&self) -> Command {
        let listen = format!("127.0.0.1:{}", self.port);
        let number = self.number.to_string();
        let mut extra = vec![
            "--cluster-listen",
            &listen,
            "--cluster-certs",
            &self.certs,
            "--cluster-node",
            &number,
        ];
        if !self.join.is_empty() {
            extra.extend(["--join", &self.join]);
        }
        if self.founds {
            extra.push("--found");
        }
        if let Some(advertise) = &self.advertise {
            extra.extend(["--cluster-advertise", advertise]);
        }
        if let Some(config) = &self.config {
            extra.extend(["--config", config]);
        }
        let mut command = Node::command(&self.data, self.http, self.mqtt, &extra);
        if std::env::var("GEMBA_CLUSTER__HEARTBEAT_MS").is_err() {
            // Several nodes of a debug build share few processors with other tests.
            command.env("GEMBA_CLUSTER__HEARTBEAT_MS", "200");
        }
        command.envs(self.set.iter().copied());
        command
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }
}

/// Seats of a cluster: the first one founds it, the others join it.
pub(crate) fn seats(folder: &Path, count: usize) -> Vec<Seat> {
    make(folder, count, None, &[])
}

/// As [`seats`], with settings of all nodes.
pub(crate) fn seats_set(folder: &Path, count: usize, set: &[(&'static str, &'static str)]) -> Vec<Seat> {
    make(folder, count, None, set)
}

/// As [`seats`], each node reached by a port in front of its own.
pub(crate) fn seats_behind(folder: &Path, fronts: &[u16]) -> Vec<Seat> {
    make(folder, fronts.len(), Some(fronts), &[])
}

fn make(
    folder: &Path,
    count: usize,
    fronts: Option<&[u16]>,
    set: &[(&'static str, &'static str)],
) -> Vec<Seat> {
    let certs = folder.join("certs").display().to_string();
    let made = gemba(&[
        "certs",
        "--cluster",
        "plant",
        "--nodes",
        &count.to_string(),
        "--out",
        &certs,
    ]);
    assert_eq!(made.status, 0, "{}", made.err);
    let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
    let reached = fronts.unwrap_or(&ports);
    (1..=count)
        .map(|number| Seat {
            number,
            http: free_port(),
            mqtt: free_port(),
            port: ports[number - 1],
            data: folder.join(format!("node-{number}")),
            certs: certs.clone(),
            join: if number == 1 {
                String::new()
            } else {
                format!("127.0.0.1:{}", reached[0])
            },
            founds: number == 1,
            advertise: fronts.map(|fronts| format!("127.0.0.1:{}", fronts[number - 1])),
            set: set.to_vec(),
            config: None,
        })
        .collect()
}

/// Waits until every shard has `copies` members and an owner, as the map wants it.
pub(crate) fn wait_until_settled(node: &Node, copies: usize) -> Value {
    wait_until("the cluster is as its map wants it", || {
        let view = node.get("/v1/cluster");
        let shards = view["shards"].as_array().expect("shards");
        let is_settled = shards
            .iter()
            .filter(|shard| shard["shard"] != "map")
            .all(|shard| {
                let sorted = |value: &Value| {
                    let mut nodes: Vec<u64> = value
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(Value::as_u64)
                        .collect();
                    nodes.sort_unstable();
                    nodes
                };
                // All nodes keep the control shard.
                let is_full = shard["shard"] == "control" || sorted(&shard["members"]).len() == copies;
                !shard["owner"].is_null() && is_full && sorted(&shard["members"]) == sorted(&shard["wanted"])
            });
        is_settled.then_some(view)
    })
}

/// Hashes of the state of each shard that a node keeps.
pub(crate) fn hashes(node: &Node) -> Vec<(String, Value, Value)> {
    let view = node.get("/v1/cluster?hashes=true");
    let shards = view["shards"].as_array().expect("shards").clone();
    let of = |shard: &Value| {
        (
            shard["shard"].as_str().expect("its name").to_owned(),
            shard["here"].clone(),
            shard["hash"].clone(),
        )
    };
    shards
        .iter()
        .filter(|shard| !shard["hash"].is_null())
        .map(of)
        .collect()
}
