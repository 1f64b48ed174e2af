//! The `[cluster]` section: whether and how a node is a member of a cluster.
//!
//! Promises: nothing starts with a certificate that cannot be read; the cluster's name and the node's number stand in
//! the certificate alone.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use gemba_runtime::settings::ClusterSettings;
use serde::{Deserialize, Serialize};

use super::{ConfigError, address, value_error};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    /// `off`, or where the cluster's port listens.
    pub(super) listen: String,
    /// Where the others reach it; empty where it is `listen`.
    advertise: String,
    /// The folder with `ca.crt`, `node-N.crt` and `node-N.key`.
    certs: String,
    /// Which of the folder's nodes this one is; 0 the only one.
    node: u64,
    /// Members to ask, separated by commas.
    join: String,
    found: bool,
    zone: String,
    copies: usize,
    gone_after_s: u64,
    rebalance: bool,
    heartbeat_ms: u64,
}

/// What the section leads to; `None` for a node that is alone.
pub(super) fn settings(written: &Cluster) -> Result<Option<ClusterSettings>, ConfigError> {
    if written.listen == "off" {
        return Ok(None);
    }
    let listen = address("cluster.listen", &written.listen)?;
    let folder = PathBuf::from(&written.certs);
    let node = node_of(&folder, written.node)?;
    let read = |name: String| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|error| {
            let hint = "make certificates with `gemba certs`, and name their folder with cluster.certs";
            value_error("cluster.certs", format!("{}: {error} ({hint})", path.display()))
        })
    };
    if !(10..=10_000).contains(&written.heartbeat_ms) {
        let detail = format!("{} is not within 10 to 10000", written.heartbeat_ms);
        return Err(value_error("cluster.heartbeat_ms", detail));
    }
    if !(1..=9).contains(&written.copies) {
        let detail = format!("{} is not within 1 to 9", written.copies);
        return Err(value_error("cluster.copies", detail));
    }
    let join = written
        .join
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let join = join.map(|part| host_and_port("cluster.join", part));
    Ok(Some(ClusterSettings {
        listen,
        advertise: advertised(&written.advertise, listen)?,
        authorities: read("ca.crt".into())?,
        certificate: read(format!("node-{node}.crt"))?,
        key: read(format!("node-{node}.key"))?,
        join: join.collect::<Result<_, _>>()?,
        founds: written.found,
        zone: written.zone.clone(),
        copies: written.copies,
        gone_after: Duration::from_secs(written.gone_after_s),
        rebalances: written.rebalance,
        heartbeat: Duration::from_millis(written.heartbeat_ms),
    }))
}

fn advertised(written: &str, listen: SocketAddr) -> Result<String, ConfigError> {
    if !written.is_empty() {
        return host_and_port("cluster.advertise", written);
    }
    if listen.ip().is_unspecified() || listen.port() == 0 {
        let detail = format!("the others cannot reach {listen} (say where they reach this node: HOST:PORT)");
        return Err(value_error("cluster.advertise", detail));
    }
    Ok(listen.to_string())
}

fn host_and_port(key: &str, text: &str) -> Result<String, ConfigError> {
    let fits = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if fits {
        return Ok(text.to_owned());
    }
    Err(value_error(
        key,
        format!("{text:?} is not HOST:PORT (e.g. 10.0.0.1:7600)"),
    ))
}

/// The number of the node whose certificate stands in the folder.
fn node_of(folder: &Path, written: u64) -> Result<u64, ConfigError> {
    if written > 0 {
        return Ok(written);
    }
    let files = std::fs::read_dir(folder).map_err(|error| {
        let hint = "make certificates with `gemba certs`, and name their folder with cluster.certs";
        value_error("cluster.certs", format!("{}: {error} ({hint})", folder.display()))
    })?;
    let numbers = files.flatten().filter_map(|file| {
        let name = file.file_name();
        let number = name.to_str()?.strip_prefix("node-")?.strip_suffix(".crt")?;
        number.parse::<u64>().ok()
    });
    match numbers.collect::<Vec<_>>()[..] {
        [node] => Ok(node),
        ref several => {
            let detail = format!(
                "{} holds the certificates of {} nodes (say which one this is: cluster.node)",
                folder.display(),
                several.len()
            );
            Err(value_error("cluster.node", detail))
        }
    }
}
