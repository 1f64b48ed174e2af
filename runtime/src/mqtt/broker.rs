//! The connector to a broker (mosquitto, EMQX, HiveMQ, AWS IoT Core), over rumqttc.
//!
//! Promises: a message is acknowledged to the broker only when it is durable and visible; the session is persistent
//! and the client id stable, so that the broker keeps what comes while the node is down. An acknowledgement of a
//! connection that is gone is dropped: the broker sends that message again and it counts once. Faults that rumqttc
//! keeps over a break cannot matter, since each connection has an event loop of its own.

mod filter;
mod options;
mod session;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use gemba_twins::id::TenantId;
use rumqttc::{Packet, PubAck, PubRec, Publish, QoS, SubAck, SubscribeReasonCode};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{error, info, warn};

use self::{
    filter::matches,
    session::{Session, Waiting},
};
use super::{metric_names as names, topic::Topic};
use crate::{
    clock,
    decode::RfidFormat,
    ingest::{Ingest, Message},
};

/// Largest message that is used; the same as on the own listener.
const MESSAGE_MAX: usize = 256 << 10;
/// First wait before connecting again, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A connection that held this long was a good one: the waits begin anew.
const HELD: Duration = Duration::from_secs(10);

/// How a subscription's payloads are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerDecoder {
    /// gemba's own topics and JSON.
    Native,
    /// ChirpStack v4 events.
    ChirpStack,
    /// The Things Stack v3 messages.
    TheThingsStack,
    /// Reads of RFID tags or barcodes; the topic's last level names the reader.
    Rfid(RfidFormat),
    /// GS1 EPCIS 2.0 events.
    Epcis,
}

/// A subscription at a broker.
#[derive(Debug, Clone)]
pub struct BrokerSubscription {
    /// The topic filter; `$share/{group}/…` shares the messages with other nodes.
    pub topic: String,
    /// 0 or 1. With 0 the broker drops what comes while the node is down or busy.
    pub qos: u8,
    /// How its payloads are read.
    pub decoder: BrokerDecoder,
}

/// How a broker is reached.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// Names the source `broker.{name}`.
    pub name: String,
    /// `mqtt://` or `mqtts://`, with user and password where it wants them (`%40` for an `@` in them).
    pub url: String,
    /// Stable, so that the broker knows the session again.
    pub client_id: String,
    /// Whose twins its messages feed; the broker's access rules are the boundary.
    pub tenant: TenantId,
    /// What is subscribed to; a message that fits several is read by the first.
    pub subscriptions: Vec<BrokerSubscription>,
    /// Who signed the broker's certificate (PEM), for `mqtts://`; without it, whom the system trusts.
    pub ca: Option<PathBuf>,
    /// The connector's own certificate (PEM), for brokers that want one, as AWS IoT Core does.
    pub certificate: Option<PathBuf>,
    /// The certificate's key (PEM).
    pub certificate_key: Option<PathBuf>,
}

/// Settings that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("broker {name}: {detail}")]
pub struct InvalidBroker {
    /// The broker.
    pub name: String,
    /// What is wrong.
    pub detail: String,
}

/// Why a connection ended.
#[derive(Debug, Error)]
enum Ended {
    #[error("the node stops")]
    Stopping,
    #[error("{0}")]
    Broken(String),
    #[error("a message could not be made durable (the broker sends it again)")]
    NotDurable,
}

/// The options of a client that only publishes to a broker.
pub(crate) fn client_options(
    name: &str,
    url: &str,
    client_id: &str,
    ca: Option<PathBuf>,
) -> Result<rumqttc::MqttOptions, String> {
    options::to_publish(name, url, client_id, ca).map_err(|invalid| invalid.detail)
}

/// Stays connected to a broker until `shutdown` turns true.
pub async fn run(
    settings: BrokerSettings,
    ingest: Ingest,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), InvalidBroker> {
    names::describe();
    let options = options::of(&settings)?;
    let connector = Connector {
        source: format!("broker.{}", settings.name).into(),
        settings,
        ingest,
    };
    let mut failures = 0;
    loop {
        let began = clock::instant();
        let session = Session::new(&connector, options.clone());
        // A panic in the client library ends the connection, not the connector.
        let ended = AssertUnwindSafe(session.run(&mut shutdown))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Ended::Broken("the MQTT client panicked".into()));
        connector.connected_gauge(0.0);
        if matches!(ended, Ended::Stopping) {
            info!(broker = %connector.settings.name, "broker connector stopped");
            return Ok(());
        }
        let held = clock::instant() - began > HELD && !matches!(ended, Ended::NotDurable);
        failures = if held { 1 } else { failures + 1 };
        let wait = wait_before(failures, RandomState::new().build_hasher().finish());
        warn!(broker = %connector.settings.name, problem = %ended, wait_ms = wait.as_millis() as u64, "broker connection ended");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // An error means that the sender is gone, which ends the node too.
            _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

/// Doubles with each failure; half of it is by chance, so that connectors which lost the same broker do not all come
/// back at the same moment.
fn wait_before(failures: u32, random: u64) -> Duration {
    let longest = WAIT_MIN
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(WAIT_MAX);
    longest / 2 + (longest / 2).mul_f64(random as f64 / u64::MAX as f64)
}

struct Connector {
    settings: BrokerSettings,
    ingest: Ingest,
    source: Arc<str>,
}

impl Connector {
    async fn submit(&self, messages: &[Publish]) -> Waiting {
        let tenant = &self.settings.tenant;
        let bytes = messages
            .iter()
            .map(|message| message.payload.len() + message.topic.len())
            .sum();
        let permit = self.ingest.admit(tenant, messages.len(), bytes).await;
        let mut batch = self.ingest.batch(tenant, &self.source);
        for message in messages {
            batch.push(self.message(&message.topic, &message.payload));
        }
        Waiting {
            ticket: batch.submit(permit),
            owed: messages
                .iter()
                .filter_map(|message| match message.qos {
                    QoS::AtMostOnce => None,
                    QoS::AtLeastOnce => Some(Packet::PubAck(PubAck::new(message.pkid))),
                    // From a subscription that was once made with QoS 2; the session remembers it.
                    QoS::ExactlyOnce => Some(Packet::PubRec(PubRec::new(message.pkid))),
                })
                .collect(),
            messages: messages.len(),
        }
    }

    fn message<'a>(&self, topic: &'a str, payload: &'a Bytes) -> Message<'a> {
        if payload.len() > MESSAGE_MAX {
            let detail = format!(
                "the message has {} bytes (at most {MESSAGE_MAX} are read; split it)",
                payload.len()
            );
            return Message::Refused {
                topic,
                payload,
                code: "message.too_large",
                detail,
            };
        }
        let fits = |subscription: &&BrokerSubscription| matches(topic, &subscription.topic);
        match self
            .settings
            .subscriptions
            .iter()
            .find(fits)
            .map(|subscription| subscription.decoder)
        {
            Some(BrokerDecoder::ChirpStack) => Message::ChirpStack { topic, payload },
            Some(BrokerDecoder::TheThingsStack) => Message::TheThingsStack { topic, payload },
            Some(BrokerDecoder::Rfid(format)) => Message::Rfid {
                format,
                reader: topic.rsplit('/').next(),
                payload,
            },
            Some(BrokerDecoder::Epcis) => Message::Epcis { payload },
            // A session may still hold subscriptions that are not configured any more.
            Some(BrokerDecoder::Native) | None => {
                Topic::parse(topic, &self.settings.tenant).message(topic, payload)
            }
        }
    }

    /// Says which subscriptions the broker did not grant; it would keep silent for ever.
    fn check_granted(&self, answer: &SubAck) {
        for (subscription, code) in self.settings.subscriptions.iter().zip(&answer.return_codes) {
            let (broker, topic) = (&self.settings.name, &subscription.topic);
            match code {
                SubscribeReasonCode::Failure => {
                    error!(%broker, %topic, "the broker refused a subscription (may this user read the topic?)");
                    metrics::counter!(names::BROKER_REFUSED, "connector" => self.source.to_string())
                        .increment(1);
                }
                SubscribeReasonCode::Success(QoS::AtMostOnce) if subscription.qos > 0 => {
                    warn!(%broker, %topic, "the broker grants QoS 0 only: what comes while the node is down is lost");
                }
                SubscribeReasonCode::Success(_) => {}
            }
        }
    }

    fn connected_gauge(&self, value: f64) {
        metrics::gauge!(names::BROKER_CONNECTED, "connector" => self.source.to_string()).set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_differ() {
        assert_eq!(wait_before(1, 0), Duration::from_millis(50));
        assert_eq!(wait_before(1, u64::MAX), WAIT_MIN);
        assert_eq!(wait_before(4, u64::MAX), Duration::from_millis(800));
        assert_eq!(wait_before(40, u64::MAX), WAIT_MAX);
        assert!(wait_before(40, 0) >= WAIT_MAX / 2);
    }
}
