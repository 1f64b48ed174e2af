//! The MQTT listener: accepts devices, each in a task of its own, within limits.
//!
//! Promises: what does not say CONNECT in time is closed; one device's faults stay its own; a stop closes the
//! connections after what they sent is answered or left for them to send again.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::{AtomicUsize, Ordering}},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};

use super::{
    connection::{self, Shared},
    metric_names as names,
    sessions::Sessions,
    tls::{TlsError, TlsFiles, server_config},
};
use crate::{ingest::Ingest, keyring::Keyring};

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
        Self { address, tls: None, connections_max: 20_000, packet_max: 256 << 10, connect_timeout: Duration::from_secs(5) }
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
    #[error("refusing to listen for MQTT on {0} without keys (configure [[key]] entries, or listen on 127.0.0.1)")]
    Open(SocketAddr),
}

/// A listener that listens.
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listener {
    /// Waits until it has ended, after its shutdown was told.
    pub async fn ended(self) {
        // A panic of the accept loop has been printed.
        let _ = self.task.await;
    }
}

/// Listens until `shutdown` turns true.
pub async fn serve(
    settings: ListenerSettings,
    ingest: Ingest,
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
    let bind = |source| ListenError::Bind { address: settings.address, source };
    let socket = TcpListener::bind(settings.address).await.map_err(bind)?;
    let address = socket.local_addr().map_err(bind)?;
    let shared = Arc::new(Shared { settings, ingest, keyring, sessions: Arc::new(Sessions::default()), source: "mqtt".into() });
    let task = tokio::spawn(accept(socket, acceptor, shared, shutdown));
    Ok(Listener { address, task })
}

async fn accept(socket: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            // An error means that the sender is gone, which ends the node too.
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, or the peer is gone already; the next one may do better.
            tokio::task::yield_now().await;
            continue;
        };
        if open.fetch_add(1, Ordering::AcqRel) >= shared.settings.connections_max {
            open.fetch_sub(1, Ordering::AcqRel);
            metrics::counter!(names::REFUSED, "reason" => "too_many").increment(1);
            continue;
        }
        metrics::gauge!(names::CONNECTIONS).increment(1.0);
        let (shared, acceptor, open, shutdown) = (shared.clone(), acceptor.clone(), open.clone(), shutdown.clone());
        tokio::spawn(async move {
            let reason = handle(stream, acceptor, shared, shutdown).await;
            debug!(%peer, reason, "connection closed");
            open.fetch_sub(1, Ordering::AcqRel);
            metrics::gauge!(names::CONNECTIONS).decrement(1.0);
            metrics::counter!(names::CLOSED, "reason" => reason).increment(1);
        });
    }
    info!("mqtt listener stopped");
}

async fn handle(stream: TcpStream, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>, shutdown: watch::Receiver<bool>) -> &'static str {
    // Acknowledgements are small and awaited; without this they would wait for each other.
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => connection::run(stream, None, shared, shutdown).await,
        Some(acceptor) => {
            let accepted = tokio::time::timeout(shared.settings.connect_timeout, acceptor.accept(stream)).await;
            let Ok(Ok(stream)) = accepted else { return "tls" };
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let principal = shown.and_then(|certificate| shared.keyring.verify_certificate(certificate));
            connection::run(stream, principal, shared, shutdown).await
        }
    }
}
