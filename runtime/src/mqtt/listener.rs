//! The MQTT listener: accepts devices, each in a task of its own, within limits.
//!
//! Promises: what does not say CONNECT in time is closed; one device's faults stay its own; a stop closes the
//! connections after what they sent is answered or left for them to send again.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::{
    connection::{self, Shared},
    kpis::KpiSource,
    metric_names as names,
    sessions::Sessions,
    tls::{TlsError, TlsFiles, server_config},
};
use crate::{clock, ingest::Ingest, keyring::Keyring};

/// A stop waits this long for the last answers to leave.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Time between two tries while the system gives no connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How the listener listens.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Where.
    pub address: SocketAddr,
    /// With TLS, where given.
    pub tls: Option<TlsFiles>,
    /// Most devices connected at a time.
    pub connections_max: usize,
    /// Largest packet, in bytes.
    pub packet_max: usize,
    /// Time to say CONNECT, TLS included.
    pub connect_timeout: Duration,
}

impl ListenerSettings {
    /// The defaults at an address.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            connections_max: 20_000,
            packet_max: 256 << 10,
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// Why nobody listens.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("failed to listen for MQTT on {address}: {source} (is another program using the port?)")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its TLS files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Without keys everybody would be let in.
    #[error(
        "refusing to listen for MQTT on {0} without keys (configure [[key]] entries, or listen on 127.0.0.1)"
    )]
    Open(SocketAddr),
}

/// A listener that listens.
pub struct Listener {
    /// Where; with the port that was given to it if it asked for any.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listener {
    /// Waits until its connections are closed, after its shutdown was told; at most a few seconds, since a device
    /// that does not take its answers may keep nobody from stopping.
    pub async fn ended(self) {
        // A panic of the accept loop has been printed.
        let _ = self.task.await;
    }
}

/// Listens until `shutdown` turns true.
pub async fn serve(
    settings: ListenerSettings,
    ingest: Ingest,
    kpis: KpiSource,
    keyring: Arc<Keyring>,
    shutdown: watch::Receiver<bool>,
) -> Result<Listener, ListenError> {
    names::describe();
    if keyring.is_open() && !settings.address.ip().is_loopback() {
        return Err(ListenError::Open(settings.address));
    }
    let acceptor = match &settings.tls {
        Some(files) => Some(TlsAcceptor::from(server_config(files, false, &[])?)),
        None => None,
    };
    let bind = |source| ListenError::Bind {
        address: settings.address,
        source,
    };
    let socket = TcpListener::bind(settings.address).await.map_err(bind)?;
    let address = socket.local_addr().map_err(bind)?;
    let shared = Shared {
        settings,
        ingest,
        kpis,
        keyring,
        sessions: Sessions::new(),
        source: "mqtt".into(),
        meters: names::Meters::new(),
    };
    let task = tokio::spawn(accept(socket, acceptor, Arc::new(shared), shutdown));
    Ok(Listener { address, task })
}

async fn accept(
    socket: TcpListener,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mut shutdown: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(shared.settings.connections_max));
    // Each connection holds a sender, so that the receiver ends with the last of them.
    let (connected, mut all_closed) = mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            // An error means that the sender is gone, which ends the node too.
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(problem) => {
                // Mostly out of file descriptors: asking again at once would only burn time.
                warn!(%problem, "an MQTT connection was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            names::refused("too_many");
            continue;
        };
        let (shared, acceptor, connected, shutdown) = (
            shared.clone(),
            acceptor.clone(),
            connected.clone(),
            shutdown.clone(),
        );
        tokio::spawn(async move {
            shared.meters.connections.increment(1.0);
            let reason = handle(stream, acceptor, &shared, shutdown).await;
            debug!(%peer, reason, "connection closed");
            shared.meters.connections.decrement(1.0);
            metrics::counter!(names::CLOSED, "reason" => reason).increment(1);
            drop((place, connected));
        });
    }
    drop((connected, socket));
    if tokio::time::timeout(STOP_MAX, all_closed.recv()).await.is_err() {
        warn!(
            "some MQTT connections did not close in time; their devices send again what was not acknowledged"
        );
    }
    info!("mqtt listener stopped");
}

async fn handle(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    shared: &Arc<Shared>,
    shutdown: watch::Receiver<bool>,
) -> &'static str {
    // Acknowledgements are small and awaited; without this they would wait for each other.
    let _ = stream.set_nodelay(true);
    let say_by = tokio::time::Instant::from_std(clock::instant() + shared.settings.connect_timeout);
    match acceptor {
        None => connection::run(stream, None, say_by, shared.clone(), shutdown).await,
        Some(acceptor) => {
            let Ok(Ok(stream)) = tokio::time::timeout_at(say_by, acceptor.accept(stream)).await else {
                names::refused("tls");
                return "tls";
            };
            let shown = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|chain| chain.first());
            let certified = shown.and_then(|certificate| shared.keyring.verify_certificate(certificate));
            connection::run(stream, certified, say_by, shared.clone(), shutdown).await
        }
    }
}
