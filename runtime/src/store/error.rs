//! Why the state store, or a shard of it, does not answer.
//!
//! Promises: each reason names what is concerned and what helps.

use thiserror::Error;

/// Why the state store did not answer.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A value's checksum does not fit.
    #[error(
        "state of {what} is damaged (stop the node and remove state.redb: it is made again from the journal)"
    )]
    Damaged {
        /// What the value stood for.
        what: String,
    },
    /// The twin's fold failed earlier; what it shows would be a guess.
    #[error(
        "{twin} is set aside because folding one of its events failed (its events are kept in the journal)"
    )]
    SetAside {
        /// The twin.
        twin: String,
    },
    /// Its shard did not come back; what is said of its twins would be a guess.
    #[error(
        "a shard of this node could not be recovered (the log names it and why; restore the data folder from a backup)"
    )]
    NotRecovered,
    /// No majority of a shard's replicas answers, so nobody knows what was written last.
    #[error("shard {shard} has no owner at the moment (a majority of its nodes does not answer; try again)")]
    NoOwner {
        /// The shard.
        shard: u16,
    },
    /// Another node keeps the shard.
    #[error("shard {shard} is kept by other nodes of the cluster (ask one of them)")]
    Elsewhere {
        /// The shard.
        shard: u16,
    },
    /// What was asked for is kept by other nodes, and is too much to bring together.
    #[error("what other nodes keep of it takes more than {most} MiB (narrow the filter)")]
    TooWide {
        /// The limit in MiB.
        most: usize,
    },
    /// The node that was to do it did not answer.
    #[error(
        "node {node} did not answer, and whether it was carried out is not known (look, and do it again)"
    )]
    Unknown {
        /// The node.
        node: u64,
    },
    /// The folder was made by another release or with another number of shards.
    #[error("{0}")]
    Folder(String),
    /// The file cannot be read or written.
    #[error("failed to use state.redb: {0} (disk full or damaged?)")]
    Io(String),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Io(error.into().to_string())
    }
}
