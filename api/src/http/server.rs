//! The server: our own accept loop, because warp has neither TLS nor time limits for headers.
//!
//! Promises: an open keyring listens on loopback only; a slow or silent client costs a place for a bounded time; a
//! stop answers what was begun.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use gemba_runtime::mqtt::{TlsError, TlsFiles, server_config};
use hyper::service::{Service, service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::routes::{self, App};

/// How the server listens.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where.
    pub address: SocketAddr,
    /// With TLS 1.3, where given.
    pub tls: Option<TlsFiles>,
    /// Most connections at a time.
    pub connections_max: usize,
    /// Time for the head of a request, and for the TLS handshake.
    pub header_timeout: Duration,
}

impl ServerSettings {
    /// The defaults at an address.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            connections_max: 10_000,
            header_timeout: Duration::from_secs(10),
        }
    }
}

/// Why nobody serves.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("failed to listen for HTTP on {address}: {source} (is another program using the port?)")]
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
        "refusing to listen for HTTP on {0} without keys (configure [[key]] entries made by `gemba key new`, or listen on 127.0.0.1)"
    )]
    Open(SocketAddr),
}

/// A server that serves.
pub struct Bound {
    /// Where.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Bound {
    /// Waits until it has ended, after its shutdown was told.
    pub async fn ended(self) {
        // A panic of the accept loop has been printed.
        let _ = self.task.await;
    }
}

/// Serves until `shutdown` turns true.
pub async fn serve(
    settings: ServerSettings,
    app: Arc<App>,
    shutdown: watch::Receiver<bool>,
) -> Result<Bound, ServeError> {
    if app.keyring.is_open() && !settings.address.ip().is_loopback() {
        return Err(ServeError::Open(settings.address));
    }
    let acceptor = match &settings.tls {
        Some(files) => Some(TlsAcceptor::from(server_config(
            files,
            true,
            &["h2", "http/1.1"],
        )?)),
        None => None,
    };
    let bind = |source| ServeError::Bind {
        address: settings.address,
        source,
    };
    let socket = TcpListener::bind(settings.address).await.map_err(bind)?;
    let address = socket.local_addr().map_err(bind)?;
    let task = tokio::spawn(accept(socket, acceptor, settings, app, shutdown));
    Ok(Bound { address, task })
}

async fn accept(
    socket: TcpListener,
    acceptor: Option<TlsAcceptor>,
    settings: ServerSettings,
    app: Arc<App>,
    mut shutdown: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(warp::service(routes::all(app)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_header_list_size(32 << 10);
    let (builder, open, graceful) = (
        Arc::new(builder),
        Arc::new(AtomicUsize::new(0)),
        GracefulShutdown::new(),
    );
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            // An error means that the sender is gone, which ends the node too.
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        if open.fetch_add(1, Ordering::AcqRel) >= settings.connections_max {
            open.fetch_sub(1, Ordering::AcqRel);
            metrics::counter!("http_connections_refused_total").increment(1);
            continue;
        }
        // Answers are small and awaited.
        let _ = stream.set_nodelay(true);
        let (service, builder, open, watcher) =
            (service.clone(), builder.clone(), open.clone(), graceful.watcher());
        let (acceptor, timeout) = (acceptor.clone(), settings.header_timeout);
        tokio::spawn(async move {
            match acceptor {
                None => connection(stream, &builder, service, watcher, timeout).await,
                Some(acceptor) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(timeout, acceptor.accept(stream)).await {
                        connection(stream, &builder, service, watcher, timeout).await;
                    }
                }
            }
            open.fetch_sub(1, Ordering::AcqRel);
        });
    }
    // Streams stay open for ever; they resume elsewhere or later.
    let _ = tokio::time::timeout(Duration::from_secs(2), graceful.shutdown()).await;
}

async fn connection<S, T>(
    stream: S,
    builder: &auto::Builder<TokioExecutor>,
    service: TowerToHyperService<T>,
    watcher: hyper_util::server::graceful::Watcher,
    timeout: Duration,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: tower_service::Service<
            hyper::Request<hyper::body::Incoming>,
            Response = warp::reply::Response,
            Error = std::convert::Infallible,
        > + Clone
        + Send
        + 'static,
    T::Future: Send,
{
    let heard = Arc::new(AtomicBool::new(false));
    let service = {
        let heard = heard.clone();
        service_fn(move |request| {
            heard.store(true, Ordering::Release);
            service.call(request)
        })
    };
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(watcher.watch(connection.into_owned()));
    // hyper's own limit begins only when it knows which version of HTTP is spoken.
    match tokio::time::timeout(timeout, &mut served).await {
        Err(_) if heard.load(Ordering::Acquire) => {
            // A client that breaks off is not our error.
            let _ = served.await;
        }
        Err(_) | Ok(_) => {}
    }
}
