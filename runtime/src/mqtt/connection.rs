//! One device's connection: reads what it publishes, answers when that is durable and visible.
//!
//! Promises: reading stops while the node is busy (the device feels it as back-pressure); acknowledgements leave in
//! the order of the messages; what was not acknowledged when the connection ends is for the device to send again.
//! Bounded: so many batches under way, so large a packet, so long without a byte taken.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
};
use tracing::warn;

use super::{
    listener::ListenerSettings,
    metric_names as names,
    packet::{self, Connect, Fault, Packet, Version, reason},
    sessions::{Session, Sessions},
    topic::Topic,
};
use crate::{
    clock,
    ingest::{Ingest, Outcome, Ticket},
    keyring::{Keyring, Principal},
};

/// Batches of one connection that wait for their acknowledgement; a full one stops the reading.
const BATCHES_UNDER_WAY: usize = 16;
/// Messages taken together at most.
const BATCH_MESSAGES: usize = 512;
/// Largest number of unacknowledged messages that a MQTT 5 client may have.
const RECEIVE_MAX: u16 = 4_096;
/// A client that takes no byte for this long is closed.
const STALLED: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 64 << 10;

/// What all connections of a listener share.
pub(super) struct Shared {
    pub(super) settings: ListenerSettings,
    pub(super) ingest: Ingest,
    pub(super) keyring: Arc<Keyring>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) source: Arc<str>,
}

/// What the writer has to send, in order.
enum Out {
    Bytes(Vec<u8>),
    /// PUBACKs once the ticket resolves: packet ids of the batch's messages, 0 for QoS 0.
    Acknowledge { ticket: Ticket, ids: Vec<u16>, read_at: std::time::Instant },
}

/// Serves a connection to its end; answers why it ended.
pub(super) async fn run<S>(stream: S, principal: Option<Principal>, shared: Arc<Shared>, shutdown: watch::Receiver<bool>) -> &'static str
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::with_capacity(4 << 10);
    let hello = tokio::time::timeout(shared.settings.connect_timeout, hello(&mut reader, &mut buffer, &shared)).await;
    let (version, mut connect) = match hello {
        Ok(Ok(hello)) => hello,
        Ok(Err(reason)) => return reason,
        Err(_) => return "connect_timeout",
    };
    let login = connect.login.take();
    let known = principal.or_else(|| match login {
        Some((user, password)) => shared.keyring.verify_named(&user, &password),
        None => shared.keyring.anyone(),
    });
    let Some(principal) = known.filter(|principal| principal.role.may_send()) else {
        metrics::counter!(names::REFUSED, "reason" => "not_authorized").increment(1);
        // An error means that the client is gone already.
        let _ = writer.write_all(&packet::connack_refused(version, 5, reason::NOT_AUTHORIZED)).await;
        let _ = writer.flush().await;
        return "not_authorized";
    };
    let assigned = connect.client_id.is_empty().then(|| format!("gemba-{:016x}", clock::now().ms()));
    if let (Some(_), Version::V4, false) = (&assigned, version, connect.clean) {
        let _ = writer.write_all(&packet::connack_refused(version, 2, reason::PROTOCOL_ERROR)).await;
        return "client_id";
    }
    let client_id = assigned.clone().unwrap_or_else(|| connect.client_id.clone());
    let session = shared.sessions.open(principal.tenant.clone(), client_id);
    let connack = packet::connack(version, assigned.as_deref(), RECEIVE_MAX, shared.settings.packet_max);
    if writer.write_all(&connack).await.is_err() || writer.flush().await.is_err() {
        return "client_gone";
    }
    let (out, waiting) = mpsc::channel(BATCHES_UNDER_WAY);
    let writing = tokio::spawn(write(writer, waiting, version));
    let mut reading = Reading { version, principal, session, shared, out, keep_alive_s: connect.keep_alive_s };
    let reason = reading.run(&mut reader, &mut buffer, shutdown).await;
    if reason != "client_left"
        && let Some((topic, payload)) = connect.will.take()
    {
        reading.publish_will(&topic, payload).await;
    }
    drop(reading);
    // The writer sends what is durable still, then closes; a client that is gone ends it with an error.
    let _ = writing.await;
    reason
}

/// Reads the CONNECT packet.
async fn hello<R: AsyncRead + Unpin>(reader: &mut R, buffer: &mut BytesMut, shared: &Shared) -> Result<(Version, Connect), &'static str> {
    loop {
        match packet::version(buffer) {
            Ok(Some(version)) => match packet::read_connect(version, buffer, shared.settings.packet_max) {
                Ok(connect) => return Ok((version, connect)),
                Err(Fault::Incomplete) => {}
                Err(_) => return Err("protocol"),
            },
            Ok(None) => {}
            Err(_) => return Err("protocol"),
        }
        match reader.read_buf(buffer).await {
            Ok(0) | Err(_) => return Err("client_gone"),
            Ok(_) => {}
        }
    }
}

struct Reading {
    version: Version,
    principal: Principal,
    session: Session,
    shared: Arc<Shared>,
    out: mpsc::Sender<Out>,
    keep_alive_s: u16,
}

impl Reading {
    async fn run<R: AsyncRead + Unpin>(&mut self, reader: &mut R, buffer: &mut BytesMut, mut shutdown: watch::Receiver<bool>) -> &'static str {
        let idle = match self.keep_alive_s {
            0 => Duration::from_secs(3_600 * 24),
            seconds => Duration::from_millis(u64::from(seconds) * 1_500),
        };
        let taken_over = self.session.taken_over.clone();
        loop {
            if let Err((reason, code)) = self.take(buffer).await {
                if let Some(code) = code {
                    // The writer may have ended with the client.
                    let _ = self.out.send(Out::Bytes(packet::disconnect(self.version, code))).await;
                }
                return reason;
            }
            buffer.reserve(READ_BYTES);
            let (reason, code) = tokio::select! {
                read = tokio::time::timeout(idle, reader.read_buf(buffer)) => match read {
                    Ok(Ok(0) | Err(_)) => return "client_gone",
                    Ok(Ok(_)) => continue,
                    Err(_) => ("keep_alive", reason::KEEP_ALIVE),
                },
                () = taken_over.notified() => ("taken_over", reason::TAKEN_OVER),
                () = self.out.closed() => return "not_durable",
                // An error means that the sender is gone, which ends the node too.
                _ = shutdown.wait_for(|stop| *stop) => ("shutdown", reason::SHUTTING_DOWN),
            };
            let _ = self.out.send(Out::Bytes(packet::disconnect(self.version, code))).await;
            return reason;
        }
    }

    /// Takes all whole packets from the buffer.
    async fn take(&mut self, buffer: &mut BytesMut) -> Result<(), (&'static str, Option<u8>)> {
        let mut messages: Vec<(packet::Topic, Bytes, u16)> = Vec::new();
        let mut bytes = 0;
        let end = loop {
            if buffer.is_empty() {
                break Ok(());
            }
            match packet::read(self.version, buffer, self.shared.settings.packet_max) {
                Ok(Packet::Publish { qos: 2, .. }) => break Err(("qos", Some(reason::QOS_NOT_SUPPORTED))),
                Ok(Packet::Publish { topic, payload, id, .. }) => {
                    if topic.as_str().is_none() {
                        break Err(("topic", Some(reason::MALFORMED)));
                    }
                    bytes += payload.len() + 64;
                    messages.push((topic, payload, id));
                    if messages.len() >= BATCH_MESSAGES {
                        self.submit(std::mem::take(&mut messages), std::mem::take(&mut bytes)).await?;
                    }
                }
                Ok(other) => {
                    // Answers keep their order with the acknowledgements before them.
                    self.submit(std::mem::take(&mut messages), std::mem::take(&mut bytes)).await?;
                    self.answer(other).await?;
                }
                Err(Fault::Incomplete) => break Ok(()),
                Err(Fault::TooLarge) => break Err(("too_large", Some(reason::TOO_LARGE))),
                Err(Fault::Malformed(_)) => break Err(("protocol", Some(reason::MALFORMED))),
            }
        };
        self.submit(messages, bytes).await?;
        end
    }

    async fn submit(&mut self, messages: Vec<(packet::Topic, Bytes, u16)>, bytes: usize) -> Result<(), (&'static str, Option<u8>)> {
        if messages.is_empty() {
            return Ok(());
        }
        let read_at = clock::instant();
        let tenant = &self.principal.tenant;
        let permit = self.shared.ingest.admit(tenant, messages.len(), bytes).await;
        let mut batch = self.shared.ingest.batch(tenant, &self.shared.source);
        let mut ids = Vec::with_capacity(messages.len());
        let mut foreign = false;
        for (name, payload, id) in &messages {
            let Some(name) = name.as_str() else { continue };
            let topic = Topic::parse(name, tenant);
            if topic == Topic::Foreign {
                foreign = true;
                break;
            }
            batch.push(topic.message(name, payload));
            ids.push(*id);
        }
        if !batch.is_empty() {
            let acknowledge = Out::Acknowledge { ticket: batch.submit(permit), ids, read_at };
            self.out.send(acknowledge).await.map_err(|_| ("client_gone", None))?;
        }
        if foreign {
            warn!(tenant = %self.principal.tenant, device = %self.principal.name, "publish to another tenant's topic refused");
            metrics::counter!(names::FORBIDDEN, "tenant" => tenant.as_str().to_owned()).increment(1);
            return Err(("not_authorized", Some(reason::NOT_AUTHORIZED)));
        }
        Ok(())
    }

    async fn answer(&mut self, packet: Packet) -> Result<(), (&'static str, Option<u8>)> {
        let bytes = match packet {
            Packet::Ping => packet::PINGRESP.to_vec(),
            Packet::Subscribe { id, filters } => {
                let own = format!("gemba/v1/{}/devices/{}/", self.principal.tenant, self.principal.name);
                let granted: Vec<bool> = filters.iter().map(|filter| filter.starts_with(&own)).collect();
                packet::suback(self.version, id, &granted)
            }
            Packet::Unsubscribe { id, filters } => packet::unsuback(self.version, id, filters),
            Packet::Disconnect { with_will: true } => return Err(("client_left_with_will", None)),
            Packet::Disconnect { with_will: false } => return Err(("client_left", None)),
            Packet::Ignored | Packet::Publish { .. } => return Ok(()),
        };
        self.out.send(Out::Bytes(bytes)).await.map_err(|_| ("client_gone", None))
    }

    async fn publish_will(&mut self, topic: &str, payload: Bytes) {
        if !topic.contains(['+', '#', '\0']) {
            // Nobody is there to be told of a failure.
            let _ = self.submit(vec![(packet::Topic::Text(topic.to_owned()), payload, 0)], topic.len()).await;
        }
    }
}

/// Sends answers in order; ends when there are no more, when the client takes none, or when a batch is not durable.
async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut waiting: mpsc::Receiver<Out>, version: Version) {
    let mut bytes = Vec::with_capacity(4 << 10);
    while let Some(out) = waiting.recv().await {
        let mut next = Some(out);
        // What is ready goes out together.
        while let Some(out) = next.take() {
            match out {
                Out::Bytes(packet) => bytes.extend_from_slice(&packet),
                Out::Acknowledge { ticket, ids, read_at } => match ticket.await {
                    Ok(outcomes) => {
                        metrics::histogram!(names::ACKNOWLEDGE_SECONDS).record(read_at.elapsed().as_secs_f64());
                        for (id, outcome) in ids.into_iter().zip(outcomes).filter(|(id, _)| *id != 0) {
                            let rejected = matches!(outcome, Outcome::Rejected(_));
                            packet::puback(version, id, if rejected { reason::PAYLOAD_INVALID } else { 0 }, &mut bytes);
                        }
                    }
                    Err(_) => {
                        // Nothing is promised: the device keeps its messages and comes back.
                        bytes.extend_from_slice(&packet::disconnect(version, reason::SERVER_BUSY));
                        let _ = tokio::time::timeout(STALLED, writer.write_all(&bytes)).await;
                        let _ = writer.shutdown().await;
                        return;
                    }
                },
            }
            if bytes.len() < READ_BYTES {
                next = waiting.try_recv().ok();
            }
        }
        let sent = tokio::time::timeout(STALLED, async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        });
        if !matches!(sent.await, Ok(Ok(()))) {
            return;
        }
        bytes.clear();
    }
    let _ = writer.shutdown().await;
}
