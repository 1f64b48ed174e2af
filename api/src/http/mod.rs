//! The HTTP side: who is asking, what they ask, what they are told.
//!
//! Promises: the tenant comes from the credential; every error is RFC 9457 with a stable code; bodies are bounded.
//! Knows nothing of storage or folds beyond what the node offers.

mod alarms;
mod backup;
mod cluster;
mod dashboards;
mod docs;
mod flow;
mod fork;
mod ingest;
mod page;
mod passing;
mod plant;
mod problem;
mod quality;
mod refold;
mod routes;
mod server;
mod stream;
mod table;
mod twins;
mod uploads;

pub use routes::{App, service_filter};
pub use server::{Bound, ServeError, ServerSettings, serve};
