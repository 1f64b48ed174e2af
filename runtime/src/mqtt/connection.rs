//! One device's connection, from its first byte to its last.
//!
//! Promises: nothing is read from a device before it has said who it is, but its CONNECT, which is small and in time;
//! its will is published when it goes without a word; what it was still owed is sent before the connection closes.
//! Knows nothing of sockets and TLS.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    time::{timeout, timeout_at},
};

use super::{
    answer::{self, reason},
    kpis::KpiSource,
    listener::ListenerSettings,
    metric_names::Meters,
    packet::{self, Connect, NoConnect, Version},
    reading::{End, Reading},
    sessions::Sessions,
    writing::{self, BATCHES_UNDER_WAY, STALLED},
};
use crate::{
    ingest::Ingest,
    keyring::{Keyring, Principal},
};

/// Largest CONNECT: who has not said who they are gets little memory.
const CONNECT_MAX: usize = 32 << 10;
/// How long a closed connection is still read, so that what the device sends meanwhile does not make the system drop
/// the answers that it has not fetched.
const LINGER: Duration = Duration::from_millis(500);

/// What all connections of a listener share.
pub(super) struct Shared {
    pub(super) settings: ListenerSettings,
    pub(super) ingest: Ingest,
    pub(super) kpis: KpiSource,
    pub(super) keyring: Arc<Keyring>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) source: Arc<str>,
    pub(super) meters: Meters,
}

/// Why a device is not let in.
struct Refusal {
    /// None where what came was not MQTT.
    version: Option<Version>,
    label: &'static str,
    reason: u8,
}

/// Serves a connection to its end; answers why it ended. `certified` is who its certificate says it is, `say_by` the
/// time until which it has to have said CONNECT.
pub(super) async fn run<S>(
    stream: S,
    certified: Option<Principal>,
    say_by: tokio::time::Instant,
    shared: Arc<Shared>,
    shutdown: watch::Receiver<bool>,
) -> &'static str
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::with_capacity(1 << 10);
    let connect = match timeout_at(say_by, hello(&mut reader, &mut buffer)).await {
        Ok(Ok(Some(connect))) => connect,
        Ok(Ok(None)) => return "client_gone",
        Ok(Err(NoConnect { version, fault })) => {
            let refusal = Refusal {
                version,
                label: fault.label(),
                reason: fault.reason(),
            };
            return refuse(refusal, &mut reader, &mut writer).await;
        }
        Err(_) => return "connect_timeout",
    };
    let principal = match admit(&connect, certified, &shared.keyring) {
        Ok(principal) => principal,
        Err(refusal) => return refuse(refusal, &mut reader, &mut writer).await,
    };
    let Connect {
        version,
        client_id,
        keep_alive_s,
        will,
        ..
    } = connect;
    let assigned = client_id.is_empty().then(|| shared.sessions.assigned_id());
    let session = shared
        .sessions
        .open(&principal.tenant, assigned.as_deref().unwrap_or(&client_id));
    let connack = answer::connack(
        version,
        assigned.as_deref(),
        writing::RECEIVE_MAX,
        shared.settings.packet_max,
    );
    if send(&mut writer, &connack).await.is_err() {
        return "client_gone";
    }
    let (out, waiting) = mpsc::channel(BATCHES_UNDER_WAY);
    let writing = tokio::spawn(writing::write(
        writer,
        waiting,
        version,
        shared.meters.acknowledge_seconds.clone(),
    ));
    let mut reading = Reading::new(version, principal, session, shared, out);
    let end = reading
        .run(&mut reader, &mut buffer, keep_alive_s, shutdown)
        .await;
    if !matches!(end, End::ClientLeft)
        && let Some((topic, payload)) = will
    {
        reading.publish_will(topic, payload).await;
    }
    drop(reading);
    // The writer sends what becomes durable still, then closes; a device that is gone ends it with an error.
    let _ = writing.await;
    if !matches!(end, End::ClientGone) {
        linger(&mut reader).await;
    }
    end.label()
}

/// Reads the CONNECT packet; `None` where the device has gone.
async fn hello<R: AsyncRead + Unpin>(
    reader: &mut R,
    buffer: &mut BytesMut,
) -> Result<Option<Connect>, NoConnect> {
    loop {
        if let Some(connect) = packet::read_connect(buffer, CONNECT_MAX)? {
            return Ok(Some(connect));
        }
        match reader.read_buf(buffer).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}

/// Who is connecting: by certificate, else by user and password, else anyone where no keys are configured.
fn admit(connect: &Connect, certified: Option<Principal>, keyring: &Keyring) -> Result<Principal, Refusal> {
    let refused = |label, reason| {
        Err(Refusal {
            version: Some(connect.version),
            label,
            reason,
        })
    };
    if connect.version == Version::V4 && connect.client_id.is_empty() && !connect.clean {
        return refused("client_id", reason::CLIENT_ID_INVALID);
    }
    let known = match (certified, &connect.login) {
        (Some(principal), _) => principal,
        (None, Some((user, password))) => {
            // A password alone says it all: it is a token.
            let known = if user.is_empty() {
                keyring.verify(password)
            } else {
                keyring.verify_named(user, password)
            };
            match known {
                Some(principal) => principal,
                None => return refused("login", reason::BAD_LOGIN),
            }
        }
        (None, None) => match keyring.anyone() {
            Some(principal) => principal,
            None => return refused("not_authorized", reason::NOT_AUTHORIZED),
        },
    };
    Ok(known)
}

async fn refuse<R, W>(refusal: Refusal, reader: &mut R, writer: &mut W) -> &'static str
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    super::metric_names::refused(refusal.label);
    if let Some(version) = refusal.version {
        // A device that is gone already does not need to know.
        let _ = send(writer, &answer::connack_refused(version, refusal.reason)).await;
    }
    let _ = timeout(STALLED, writer.shutdown()).await;
    linger(reader).await;
    refusal.label
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> std::io::Result<()> {
    let sent = timeout(STALLED, async {
        writer.write_all(bytes).await?;
        writer.flush().await
    });
    sent.await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// Reads on for a moment and forgets what comes.
async fn linger<R: AsyncRead + Unpin>(reader: &mut R) {
    let mut forgotten = [0; 4 << 10];
    // Either way the connection closes after this.
    let _ = timeout(LINGER, async {
        while !matches!(reader.read(&mut forgotten).await, Ok(0) | Err(_)) {}
    })
    .await;
}
