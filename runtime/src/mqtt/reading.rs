//! What a connected device sends: messages to the ingest in batches, the rest answered.
//!
//! Promises: whatever one read brings is decoded and submitted together; reading stops while the node is busy or too
//! much of this device waits for its acknowledgement, which the device feels as back-pressure. Messages before a
//! violation still count. Knows nothing of how acknowledgements are written.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use gemba_twins::id::check_id;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{mpsc, watch},
    time::timeout,
};
use tracing::warn;

use super::{
    answer::{self, reason},
    connection::Shared,
    kpis::KpiTopics,
    metric_names as names,
    packet::{self, Fault, Packet, Publish, TopicName, Version},
    sessions::Session,
    topic::Topic,
    writing::{Acknowledge, Due, Out},
};
use crate::{
    clock,
    keyring::{Principal, Role},
};

/// Messages taken together at most.
const BATCH_MESSAGES: usize = 256;
/// A read asks for this much at first and for up to 16 times as much from a device that fills it, so that thousands
/// of quiet devices cost little.
const READ_BYTES: usize = 4 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// A device that says it never falls silent is still noticed when it has for a day.
const SILENCE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It said so.
    ClientLeft,
    /// It said so, and that its will be published.
    ClientLeftWithWill,
    ClientGone,
    KeepAlive,
    TakenOver,
    Shutdown,
    /// The writer ended: the device takes no answers, or its messages could not be made durable.
    NotAnswered,
    Forbidden,
    Fault(Fault),
}

impl End {
    /// Its name in metrics and logs.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::ClientLeftWithWill => "client_left_with_will",
            Self::ClientGone => "client_gone",
            Self::KeepAlive => "keep_alive",
            Self::TakenOver => "taken_over",
            Self::Shutdown => "shutdown",
            Self::NotAnswered => "not_answered",
            Self::Forbidden => "not_authorized",
            Self::Fault(fault) => fault.label(),
        }
    }

    /// What a MQTT 5 device is told.
    fn reason(self) -> Option<u8> {
        match self {
            Self::ClientLeft | Self::ClientLeftWithWill | Self::ClientGone | Self::NotAnswered => None,
            Self::KeepAlive => Some(reason::KEEP_ALIVE),
            Self::TakenOver => Some(reason::TAKEN_OVER),
            Self::Shutdown => Some(reason::SHUTTING_DOWN),
            Self::Forbidden => Some(reason::NOT_AUTHORIZED),
            Self::Fault(fault) => Some(fault.reason()),
        }
    }
}

/// The reading half of a connection.
pub(super) struct Reading {
    version: Version,
    principal: Principal,
    session: Session,
    shared: Arc<Shared>,
    out: mpsc::Sender<Out>,
    kpis: KpiTopics,
    /// Messages that are read but not submitted.
    messages: Vec<Publish>,
    bytes: usize,
    /// Whether a message to another tenant has been logged; the others are only counted.
    audited: bool,
}

impl Reading {
    pub(super) fn new(
        version: Version,
        principal: Principal,
        session: Session,
        shared: Arc<Shared>,
        out: mpsc::Sender<Out>,
    ) -> Self {
        let kpis = KpiTopics::new(shared.kpis.clone(), principal.tenant.clone(), version);
        Self {
            version,
            principal,
            session,
            shared,
            out,
            kpis,
            messages: Vec::new(),
            bytes: 0,
            audited: false,
        }
    }

    /// Reads until the connection ends, and tells the device why.
    pub(super) async fn run<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        buffer: &mut BytesMut,
        keep_alive_s: u16,
        mut shutdown: watch::Receiver<bool>,
    ) -> End {
        let (taken_over, out) = (self.session.taken_over.clone(), self.out.clone());
        let end = tokio::select! {
            end = self.read_on(reader, buffer, keep_alive_s) => end,
            () = taken_over.notified() => End::TakenOver,
            () = out.closed() => End::NotAnswered,
            // An error means that the sender is gone, which ends the node too.
            _ = shutdown.wait_for(|stop| *stop) => End::Shutdown,
        };
        if let Some(reason) = end.reason() {
            // The writer may have ended with the device.
            let _ = self
                .out
                .send(Out::Bytes(answer::disconnect(self.version, reason)))
                .await;
        }
        end
    }

    async fn read_on<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        buffer: &mut BytesMut,
        keep_alive_s: u16,
    ) -> End {
        let silence_max = match keep_alive_s {
            0 => SILENCE_MAX,
            // One and a half times, as the standard says.
            seconds => Duration::from_millis(u64::from(seconds) * 1_500),
        };
        let mut read_bytes = READ_BYTES;
        loop {
            if let Err(end) = self.take(buffer).await {
                return end;
            }
            buffer.reserve(read_bytes);
            let room = buffer.capacity() - buffer.len();
            match timeout(silence_max, reader.read_buf(buffer)).await {
                Ok(Ok(0) | Err(_)) => return End::ClientGone,
                Ok(Ok(read)) => {
                    self.shared.meters.received_bytes.increment(read as u64);
                    if read == room {
                        read_bytes = (read_bytes * 2).min(READ_BYTES_MAX);
                    } else if read < READ_BYTES / 2 && read_bytes > READ_BYTES {
                        read_bytes /= 2;
                    }
                }
                Err(_) => return End::KeepAlive,
            }
        }
    }

    /// Takes all whole packets from the buffer.
    async fn take(&mut self, buffer: &mut BytesMut) -> Result<(), End> {
        loop {
            match packet::read(self.version, buffer, self.shared.settings.packet_max) {
                Ok(Some(Packet::Publish(publish))) => {
                    // What a message costs besides its payload, roughly.
                    self.bytes += publish.payload.len() + 64;
                    self.messages.push(publish);
                    if self.messages.len() >= BATCH_MESSAGES {
                        self.submit().await?;
                    }
                }
                Ok(Some(other)) => {
                    // Answers keep their order with the acknowledgements before them.
                    self.submit().await?;
                    self.answer(other).await?;
                }
                Ok(None) => {
                    self.submit().await?;
                    if buffer.is_empty() && buffer.capacity() > READ_BYTES_MAX {
                        *buffer = BytesMut::new();
                    }
                    return Ok(());
                }
                Err(fault) => {
                    self.submit().await?;
                    return Err(End::Fault(fault));
                }
            }
        }
    }

    /// Sends the messages that are read on their way, and their acknowledgements after them.
    async fn submit(&mut self) -> Result<(), End> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let read_at = clock::instant();
        let tenant = &self.principal.tenant;
        let permit = self
            .shared
            .ingest
            .admit(tenant, self.messages.len(), self.bytes)
            .await;
        let may_send = self.principal.role.may_send();
        let mut batch = self.shared.ingest.batch(tenant, &self.shared.source);
        let mut due = Vec::with_capacity(self.messages.len());
        let mut forbidden = 0;
        for Publish {
            topic,
            payload,
            qos,
            id,
        } in self.messages.drain(..)
        {
            let name = topic.as_str();
            let parsed = Topic::parse(name, tenant);
            if parsed == Topic::Foreign || !may_send {
                forbidden += 1;
                if qos > 0 {
                    due.push(Due::Forbidden(id));
                }
                if self.version == Version::V4 {
                    // 3.1.1 cannot say no, so the connection ends; what comes after was not heard.
                    break;
                }
                continue;
            }
            batch.push(parsed.message(name, &payload));
            due.push(if qos > 0 { Due::Message(id) } else { Due::Nothing });
        }
        self.bytes = 0;
        let ticket = (!batch.is_empty()).then(|| batch.submit(permit));
        let acknowledge = Acknowledge { ticket, due, read_at };
        self.out
            .send(Out::Acknowledge(acknowledge))
            .await
            .map_err(|_| End::NotAnswered)?;
        if forbidden > 0 {
            self.audit(forbidden);
            if self.version == Version::V4 {
                return Err(End::Forbidden);
            }
        }
        Ok(())
    }

    fn audit(&mut self, forbidden: u64) {
        let Principal { tenant, name, .. } = &self.principal;
        metrics::counter!(names::FORBIDDEN, "tenant" => tenant.as_str().to_owned()).increment(forbidden);
        if !std::mem::replace(&mut self.audited, true) {
            warn!(%tenant, device = %name, "message refused: another tenant's topic, or a key that only reads; more of this connection are only counted");
        }
    }

    async fn answer(&mut self, packet: Packet) -> Result<(), End> {
        let bytes = match packet {
            Packet::Ping => answer::PINGRESP.to_vec(),
            Packet::Subscribe { id, filters } => return self.subscribe(id, &filters).await,
            Packet::Unsubscribe { id, filters } => {
                for filter in &filters {
                    self.kpis.unsubscribe(filter);
                }
                answer::unsuback(self.version, id, filters.len())
            }
            Packet::Disconnect { with_will: true } => return Err(End::ClientLeftWithWill),
            Packet::Disconnect { with_will: false } => return Err(End::ClientLeft),
            Packet::Ignored | Packet::Publish(_) => return Ok(()),
        };
        self.out
            .send(Out::Bytes(bytes))
            .await
            .map_err(|_| End::NotAnswered)
    }

    /// Grants a device its own topics, and KPIs to whoever may read; what KPIs there are may come before the
    /// answer, as MQTT has it.
    async fn subscribe(&mut self, id: u16, filters: &[String]) -> Result<(), End> {
        let may_read = self.principal.role.is_at_least(Role::Viewer);
        let granted: Vec<Option<u8>> = filters
            .iter()
            .map(|filter| {
                if may_read && self.kpis.fits(filter) {
                    self.kpis.subscribe(filter, &self.out).then_some(0)
                } else {
                    self.owns(filter).then_some(1)
                }
            })
            .collect();
        self.out
            .send(Out::Bytes(answer::suback(self.version, id, &granted)))
            .await
            .map_err(|_| End::NotAnswered)
    }

    /// Whether a filter asks only for the device's own topics, `gemba/v1/{tenant}/devices/{device}/…`. The device is
    /// who its credential says, and its client id only where nobody needs a credential.
    fn owns(&self, filter: &str) -> bool {
        let device = if self.shared.keyring.is_open() {
            self.session.client_id()
        } else {
            &self.principal.name
        };
        let own = filter
            .strip_prefix("gemba/v1/")
            .and_then(|rest| rest.strip_prefix(self.principal.tenant.as_str()))
            .and_then(|rest| rest.strip_prefix("/devices/"))
            .and_then(|rest| rest.strip_prefix(device))
            .is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'));
        own && check_id("device", device, 128).is_ok() && rumqttc::mqttbytes::valid_filter(filter)
    }

    /// Publishes what the device left for the case that it goes without a word.
    pub(super) async fn publish_will(&mut self, topic: TopicName, payload: Bytes) {
        self.messages.clear();
        self.bytes = payload.len() + 64;
        self.messages.push(Publish {
            topic,
            payload,
            qos: 0,
            id: 0,
        });
        // Nobody is there to be told of a failure.
        let _ = self.submit().await;
    }
}
