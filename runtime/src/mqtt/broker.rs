//! The connector to a broker (mosquitto, EMQX, HiveMQ, AWS IoT Core), over rumqttc.
//!
//! Promises: a message is acknowledged to the broker only when it is durable and visible; the session is persistent
//! and the client id stable, so that the broker keeps what comes while the node is down. An acknowledgement of a
//! connection that is gone is dropped: the broker sends that message again and it counts once.

use std::{sync::Arc, time::Duration};

use gemba_twins::id::TenantId;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS, SubscribeFilter, TlsConfiguration, Transport};
use rustls::{ClientConfig, RootCertStore, pki_types::{CertificateDer, pem::PemObject}};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::{metric_names as names, topic::Topic};
use crate::ingest::{Ingest, Message, Ticket};

/// Largest packet that is taken; rumqttc's own 10 KiB would end in a reconnect loop.
const PACKET_MAX: usize = 1 << 20;
/// Messages that wait for their acknowledgement.
const UNDER_WAY: usize = 2_048;

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
    /// The topic filter.
    pub topic: String,
    /// 0 or 1.
    pub qos: u8,
    /// How its payloads are read.
    pub decoder: BrokerDecoder,
}

/// How a broker is reached.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// Names the source `broker.{name}`.
    pub name: String,
    /// `mqtt://` or `mqtts://`, with user and password where it wants them.
    pub url: String,
    /// Stable, so that the broker knows the session again.
    pub client_id: String,
    /// Whose twins its messages feed; the broker's access rules are the boundary.
    pub tenant: TenantId,
    /// What is subscribed to.
    pub subscriptions: Vec<BrokerSubscription>,
    /// Who signed the broker's certificate (PEM), for `mqtts://`.
    pub ca: Option<std::path::PathBuf>,
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

/// The parts of `mqtt[s]://[user[:password]@]host[:port]`.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    tls: bool,
    login: Option<(&'a str, &'a str)>,
    host: &'a str,
    port: u16,
}

impl<'a> Url<'a> {
    fn parse(url: &'a str) -> Result<Self, &'static str> {
        let (tls, rest) = match (url.strip_prefix("mqtt://"), url.strip_prefix("mqtts://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("url does not begin with mqtt:// or mqtts://"),
        };
        let rest = rest.trim_end_matches('/');
        let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| "the port is not a number")?),
            None => (place, if tls { 8883 } else { 1883 }),
        };
        if host.is_empty() {
            return Err("url names no host");
        }
        let login = login.map(|login| login.split_once(':').unwrap_or((login, "")));
        Ok(Self { tls, login, host, port })
    }
}

/// Stays connected to a broker until `shutdown` turns true.
pub async fn run(settings: BrokerSettings, ingest: Ingest, mut shutdown: watch::Receiver<bool>) -> Result<(), InvalidBroker> {
    names::describe();
    let options = options(&settings)?;
    let source: Arc<str> = format!("broker.{}", settings.name).into();
    let settings = Arc::new(settings);
    let mut delay = Duration::from_millis(100);
    while !*shutdown.borrow() {
        // A new event loop for each connection: what rumqttc keeps over a break has known faults.
        let (client, events) = AsyncClient::new(options.clone(), UNDER_WAY * 2);
        let connected = connection(&settings, &ingest, &source, client, events, &mut shutdown).await;
        metrics::gauge!(names::BROKER_CONNECTED, "connector" => source.to_string()).set(0.0);
        if *shutdown.borrow() {
            break;
        }
        match connected {
            Ok(()) => delay = Duration::from_millis(100),
            Err(problem) => {
                warn!(broker = %settings.name, %problem, retry_ms = delay.as_millis() as u64, "not connected to the broker");
                delay = (delay * 2).min(Duration::from_secs(10));
            }
        }
        // Connectors that lost the same broker do not come back at the same moment.
        let jitter = Duration::from_millis(u64::from(std::process::id() % 97));
        tokio::select! {
            () = tokio::time::sleep(delay + jitter) => {}
            _ = shutdown.wait_for(|stop| *stop) => break,
        }
    }
    info!(broker = %settings.name, "broker connector stopped");
    Ok(())
}

fn options(settings: &BrokerSettings) -> Result<MqttOptions, InvalidBroker> {
    let invalid = |detail: &str| InvalidBroker { name: settings.name.clone(), detail: detail.to_owned() };
    let url = Url::parse(&settings.url).map_err(invalid)?;
    if settings.client_id.is_empty() {
        return Err(invalid("client_id is empty (the broker keeps messages only for a session it can name)"));
    }
    if settings.subscriptions.is_empty() {
        return Err(invalid("it has no subscription"));
    }
    let mut options = MqttOptions::new(&settings.client_id, url.host, url.port);
    options.set_clean_session(false);
    options.set_manual_acks(true);
    options.set_keep_alive(Duration::from_secs(20));
    options.set_max_packet_size(PACKET_MAX, PACKET_MAX);
    options.set_inflight(1_000);
    if let Some((user, password)) = url.login {
        options.set_credentials(user, password);
    }
    if url.tls {
        let Some(file) = &settings.ca else {
            return Err(invalid("mqtts:// needs ca, the file with the certificate of who signed the broker's"));
        };
        let mut roots = RootCertStore::empty();
        let chain = CertificateDer::pem_file_iter(file).map_err(|error| invalid(&format!("{}: {error}", file.display())))?;
        for certificate in chain {
            let certificate = certificate.map_err(|error| invalid(&format!("{}: {error}", file.display())))?;
            roots.add(certificate).map_err(|error| invalid(&format!("{}: {error}", file.display())))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(&error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(config))));
    }
    Ok(options)
}

/// A message that waits for its acknowledgement.
struct Waiting {
    ticket: Ticket,
    publish: Publish,
}

/// One connection, from CONNECT to its end.
async fn connection(
    settings: &Arc<BrokerSettings>,
    ingest: &Ingest,
    source: &Arc<str>,
    client: AsyncClient,
    mut events: EventLoop,
    shutdown: &mut watch::Receiver<bool>,
) -> Result<(), String> {
    let (waiting, tickets) = mpsc::channel(UNDER_WAY);
    // Acknowledges from a task of its own: the polling task may never wait for its own queue.
    let mut acknowledging = tokio::spawn(acknowledge(client.clone(), tickets));
    loop {
        let event = tokio::select! {
            event = events.poll() => event.map_err(|error| error.to_string())?,
            _ = &mut acknowledging => return Err("storage did not take a message; the broker sends it again".into()),
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        match event {
            Event::Incoming(Packet::ConnAck(connack)) => {
                info!(broker = %settings.name, session_present = connack.session_present, "connected to the broker");
                metrics::gauge!(names::BROKER_CONNECTED, "connector" => source.to_string()).set(1.0);
                metrics::counter!(names::BROKER_RECONNECTS, "connector" => source.to_string()).increment(1);
                let filters = settings.subscriptions.iter().map(|subscription| {
                    let qos = if subscription.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
                    SubscribeFilter::new(subscription.topic.clone(), qos)
                });
                // Also into a session that is present: the configuration may have changed since.
                client.try_subscribe_many(filters).map_err(|error| error.to_string())?;
            }
            Event::Incoming(Packet::Publish(publish)) => {
                let ticket = submit(settings, ingest, source, &publish).await;
                // Waiting here stops the polling, and with it the reading: back-pressure for the broker.
                if waiting.send(Waiting { ticket, publish }).await.is_err() {
                    return Err("storage did not take a message; the broker sends it again".into());
                }
            }
            _ => {}
        }
    }
    // What is durable by now is still acknowledged; the rest comes again.
    drop(waiting);
    let drained = async {
        while !acknowledging.is_finished() {
            if events.poll().await.is_err() {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), drained).await;
    Ok(())
}

async fn submit(settings: &BrokerSettings, ingest: &Ingest, source: &Arc<str>, publish: &Publish) -> Ticket {
    let permit = ingest.admit(&settings.tenant, 1, publish.payload.len() + publish.topic.len()).await;
    let mut batch = ingest.batch(&settings.tenant, source);
    let (topic, payload) = (publish.topic.as_str(), &publish.payload[..]);
    let matching = settings.subscriptions.iter().find(|subscription| rumqttc::matches(topic, &subscription.topic));
    batch.push(match matching.map(|subscription| subscription.decoder) {
        Some(BrokerDecoder::ChirpStack) => Message::ChirpStack { topic, payload },
        Some(BrokerDecoder::TheThingsStack) => Message::TheThingsStack { topic, payload },
        Some(BrokerDecoder::Native) | None => Topic::parse(topic, &settings.tenant).message(topic, payload),
    });
    batch.submit(permit)
}

/// Acknowledges in order what is durable; ends at the first message that is not.
async fn acknowledge(client: AsyncClient, mut tickets: mpsc::Receiver<Waiting>) {
    while let Some(Waiting { ticket, publish }) = tickets.recv().await {
        if ticket.await.is_err() {
            return;
        }
        // The client belongs to one connection, so an acknowledgement cannot reach a later one.
        if publish.qos != QoS::AtMostOnce && client.ack(&publish).await.is_err() {
            metrics::counter!(names::BROKER_STALE_ACKS).increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_or_refused() {
        let url = Url::parse("mqtts://app:secret@broker.example:8884/").expect("a url");
        assert_eq!(url, Url { tls: true, login: Some(("app", "secret")), host: "broker.example", port: 8884 });
        assert_eq!(Url::parse("mqtt://127.0.0.1").expect("a url").port, 1883);
        for wrong in ["http://broker", "mqtt://", "mqtt://broker:many"] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }
}
