//! MQTT as devices and brokers meet it: what is acknowledged is durable and visible, what is wrong is refused by name,
//! and nobody's fault is anybody else's.
//!
//! Devices speak over real sockets, byte by byte or by a kept client library; brokers are real mosquittos.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod brokers;
mod certificates;
mod clients;
mod device;
mod kpis;
mod messages;
mod mosquitto;
mod sessions;
mod site;
mod violations;

use std::{future::Future, time::Duration};

/// Waits for what has to come, and fails when it does not.
async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let waited = tokio::time::timeout(Duration::from_secs(30), future).await;
    waited.unwrap_or_else(|_| panic!("{what} did not come"))
}
