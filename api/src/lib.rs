//! How people reach gemba: HTTP, WebSocket, the command line.
//!
//! Invariant: the tenant comes from the credential, never from a path; what a caller may not see answers as if it did
//! not exist. Knows nothing of how a twin is folded or where it is stored.

pub mod bench;
pub mod cli;
pub mod config;
pub mod http;
pub mod simulate;
