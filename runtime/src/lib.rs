//! How one node runs: connectors, shard actors and their twins, changes, history.
//!
//! Invariant: nothing is folded before it is durable, nothing acknowledged or published before it is folded; memory
//! is bounded by one admission gate. Knows nothing of HTTP, nor of who may see what beyond the tenant.

pub mod backup;
pub mod changes;
pub mod checkpoint;
pub mod clock;
pub mod dashboards;
pub mod decode;
pub mod filter;
pub mod history;
pub mod import;
pub mod ingest;
pub mod keyring;
pub mod modbus;
pub mod mqtt;
pub mod node;
pub mod notify;
pub mod plant;
pub mod settings;
pub mod table;
pub mod uploads;

/// The authority of a cluster, and the certificates of its nodes.
pub mod certificates {
    pub use gemba_cluster::net::{Authority, CertificateError, Made, PeerName};
}

mod accounts;
mod cluster;
mod gate;
mod metric_definitions;
mod outbound;
mod plants;
mod presence;
mod shard;
mod store;
