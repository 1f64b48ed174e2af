//! Nodes in one process, over real TLS on loopback: owners die and hand over, clusters grow and shrink, replicas catch
//! up and are healed. Every replica writes into one ledger: what two of them apply differently, or two owners of one
//! epoch, is noticed there.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod exchange;
mod node;
mod port;
mod stories;
mod toy;
