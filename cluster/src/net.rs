//! The cluster's port: one mutual-TLS listener per node, and the lines to the others.
//!
//! Promises: whoever is not a node of this cluster, by a certificate of its authority, reaches nothing; a silent or
//! half-open peer holds a place for a bounded time and nobody up; a message is at most [`MESSAGE_MAX`] long and ends
//! within its time. Carries bytes: what they say is the business of `raft` and of whoever runs the node.

mod certificates;
mod codec;
mod counted;
mod exchange;
mod lines;
mod port;

pub use certificates::{Authority, CertificateError, Credentials, Made, PeerName};
pub use lines::{AddressBook, Lines};
pub use port::{Answers, Port, PortError, PortLimits, Refusal};

/// The newest protocol that this release speaks; nodes of one cluster speak the same or refuse one another.
pub const PROTOCOL: u32 = 1;

/// Most bytes of a message: the longest frame of the journal, and what stands around it. Batches of entries are cut at
/// 1 MiB, so only a plant model comes near.
pub const MESSAGE_MAX: usize = (8 << 20) + (64 << 10);

/// The header with the sender's protocol.
const PROTOCOL_HEADER: &str = "gemba-protocol";
/// The header with the shard that a message concerns.
const SHARD_HEADER: &str = "gemba-shard";
