//! The connector to a broker (mosquitto, EMQX, HiveMQ, AWS IoT Core), over rumqttc.
//!
//! Promises: a message is acknowledged to the broker only when it is durable and visible; the session is persistent
//! and the client id stable, so that the broker keeps what comes while the node is down. An acknowledgement of a
//! connection that is gone is dropped: the broker sends that message again and it counts once. Faults that rumqttc
//! keeps over a break cannot matter, since each connection has an event loop of its own.

mod filter;
mod options;

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
use rumqttc::{
    AsyncClient, Event, EventLoop, Outgoing, Packet, Publish, QoS, SubAck, SubscribeFilter,
    SubscribeReasonCode,
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tracing::{error, info, warn};

use self::filter::matches;
use super::{metric_names as names, topic::Topic};
use crate::{
    clock,
    ingest::{Ingest, Message, Ticket},
};

/// Batches that wait for their acknowledgement; rumqttc reads ten messages at a time at most.
const BATCHES_UNDER_WAY: usize = 256;
/// Acknowledgements that wait to be sent; more than there can be, so that nobody ever waits for room.
const REQUESTS_MAX: usize = 4_096;
/// Largest message that is used; the same as on the own listener.
const MESSAGE_MAX: usize = 256 << 10;
/// First wait before connecting again, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A connection that held this long was a good one: the waits begin anew.
const HELD: Duration = Duration::from_secs(10);
/// What is durable when the node stops has this long to be acknowledged; the rest comes again.
const STOP_MAX: Duration = Duration::from_secs(2);

/// How a subscription's payloads are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerDecoder {
    /// gemba's own topics and JSON.
    Native,
    /// ChirpStack v4 events.
    ChirpStack,
    /// The Things Stack v3 messages.
    TheThingsStack,
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
        let (client, events) = AsyncClient::new(options.clone(), REQUESTS_MAX);
        // A panic in the client library ends the connection, not the connector.
        let connection = AssertUnwindSafe(connector.connection(client, events, &mut shutdown)).catch_unwind();
        let ended = connection
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

/// Messages that wait for their acknowledgement, without their payloads.
struct Waiting {
    ticket: Ticket,
    messages: Vec<Publish>,
}

impl Connector {
    /// One connection, from CONNECT to its end.
    async fn connection(
        &self,
        client: AsyncClient,
        mut events: EventLoop,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Ended {
        let (waiting, tickets) = mpsc::channel(BATCHES_UNDER_WAY);
        // Acknowledges from a task of its own: the polling task may never wait for its own queue. The client belongs
        // to this connection, so that an acknowledgement cannot reach a later one.
        let acknowledging = acknowledge(client.clone(), tickets, self.source.clone());
        let mut acknowledging = tokio::spawn(acknowledging);
        let ended = tokio::select! {
            ended = self.read_on(&client, &mut events, &waiting) => ended,
            _ = &mut acknowledging => Ended::NotDurable,
            // An error means that the sender is gone, which ends the node too.
            _ = shutdown.wait_for(|stop| *stop) => Ended::Stopping,
        };
        drop(waiting);
        if matches!(ended, Ended::Stopping) {
            let last_words = async {
                tokio::select! {
                    _ = &mut acknowledging => {}
                    // What still comes is not read: it was promised nothing and comes again.
                    () = poll_to_the_end(&mut events) => return,
                }
                // Goes out after the acknowledgements.
                if client.try_disconnect().is_ok() {
                    poll_to_the_end(&mut events).await;
                }
            };
            // Too slow: the broker sends again what it got no acknowledgement for.
            let _ = timeout(STOP_MAX, last_words).await;
        }
        acknowledging.abort();
        ended
    }

    async fn read_on(
        &self,
        client: &AsyncClient,
        events: &mut EventLoop,
        waiting: &mpsc::Sender<Waiting>,
    ) -> Ended {
        loop {
            let event = match events.poll().await {
                Ok(event) => event,
                Err(problem) => return Ended::Broken(problem.to_string()),
            };
            match event {
                Event::Incoming(Packet::ConnAck(connack)) => {
                    info!(broker = %self.settings.name, session_present = connack.session_present, "connected to the broker");
                    self.connected_gauge(1.0);
                    metrics::counter!(names::BROKER_CONNECTS, "connector" => self.source.to_string())
                        .increment(1);
                    // Also into a session that is present: the configuration may have changed since.
                    let filters = self.settings.subscriptions.iter().map(|subscription| {
                        let qos = if subscription.qos == 0 {
                            QoS::AtMostOnce
                        } else {
                            QoS::AtLeastOnce
                        };
                        SubscribeFilter::new(subscription.topic.clone(), qos)
                    });
                    if let Err(problem) = client.try_subscribe_many(filters) {
                        return Ended::Broken(problem.to_string());
                    }
                }
                Event::Incoming(Packet::SubAck(answer)) => self.check_granted(&answer),
                Event::Incoming(Packet::Publish(first)) => {
                    let mut messages = vec![first];
                    // What was read together is submitted together.
                    while let Some(Event::Incoming(Packet::Publish(_))) = events.state.events.front() {
                        if let Some(Event::Incoming(Packet::Publish(next))) = events.state.events.pop_front()
                        {
                            messages.push(next);
                        }
                    }
                    // Waiting in here stops the polling, and with it the reading: back-pressure for the broker.
                    let submitted = self.submit(messages).await;
                    if waiting.send(submitted).await.is_err() {
                        return Ended::NotDurable;
                    }
                }
                _ => {}
            }
        }
    }

    async fn submit(&self, mut messages: Vec<Publish>) -> Waiting {
        let tenant = &self.settings.tenant;
        let bytes = messages
            .iter()
            .map(|message| message.payload.len() + message.topic.len())
            .sum();
        let permit = self.ingest.admit(tenant, messages.len(), bytes).await;
        let mut batch = self.ingest.batch(tenant, &self.source);
        for message in &mut messages {
            // Only its number is needed from here on.
            let payload = std::mem::take(&mut message.payload);
            batch.push(self.message(&message.topic, &payload));
        }
        Waiting {
            ticket: batch.submit(permit),
            messages,
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

/// Acknowledges in order what is durable; ends at the first batch that is not.
async fn acknowledge(client: AsyncClient, mut tickets: mpsc::Receiver<Waiting>, source: Arc<str>) {
    while let Some(Waiting { ticket, messages }) = tickets.recv().await {
        if ticket.await.is_err() {
            return;
        }
        for message in messages.iter().filter(|message| message.qos != QoS::AtMostOnce) {
            if client.ack(message).await.is_err() {
                metrics::counter!(names::BROKER_STALE_ACKS, "connector" => source.to_string()).increment(1);
            }
        }
    }
}

/// Polls until the connection has ended or DISCONNECT has been sent.
async fn poll_to_the_end(events: &mut EventLoop) {
    while !matches!(
        events.poll().await,
        Err(_) | Ok(Event::Outgoing(Outgoing::Disconnect))
    ) {}
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
