//! MQTT: devices that connect straight to gemba, and brokers that gemba connects to.
//!
//! Promises: a PUBACK leaves only after the message is durable and visible; what cannot be used is kept as rejected,
//! not dropped. Knows nothing of what a message means.

mod listener;

mod connection;
mod kpis;
mod reading;
mod writing;

mod answer;
mod packet;
mod sessions;
mod tls;
mod topic;

mod broker;

mod metric_names;

pub(crate) use broker::client_options;
pub use broker::{BrokerDecoder, BrokerSettings, BrokerSubscription, InvalidBroker, run as run_broker};
pub use kpis::KpiSource;
pub use listener::{ListenError, Listener, ListenerSettings, serve};
pub use tls::{TlsError, TlsFiles, server_config};
