//! The listener: takes connections of this cluster's nodes, and their messages.
//!
//! Promises: a handshake ends within its time; places for connections are limited, and those that have not shown a
//! certificate yet take none from those that have; a refusal says why. Knows no group: [`Answers`] does.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Status, body::Body, metadata::MetadataMap, server};
use tower_service::Service;

use super::{
    Credentials, MESSAGE_MAX, PROTOCOL, PROTOCOL_HEADER, PeerName, SHARD_HEADER,
    codec::{AsBytes, AsMessages, EXCHANGE, errand_of},
    counted::Counted,
    exchange::{self, Exchanging},
};
use crate::{Boxed, Errand, ShardId};

/// Limits of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortLimits {
    /// Most connections that have not finished their handshake; beyond it new ones are closed at once.
    pub handshakes: usize,
    /// Most connections of nodes.
    pub connections: usize,
    /// Most messages of one connection at a time.
    pub streams: u32,
    /// Most time of a handshake.
    pub handshake_within: Duration,
    /// Time between two signs of life, and most time until one is answered.
    pub keep_alive: (Duration, Duration),
}

impl Default for PortLimits {
    fn default() -> Self {
        Self {
            handshakes: 64,
            connections: 256,
            streams: 1_024,
            handshake_within: Duration::from_secs(3),
            keep_alive: (Duration::from_secs(5), Duration::from_secs(5)),
        }
    }
}

/// Why a port does not open.
#[derive(Debug, Error)]
#[error("cluster port {address} cannot be opened: {source}")]
pub struct PortError {
    address: SocketAddr,
    source: io::Error,
}

/// Why a message is not answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It will not be, as long as the sender is what it is.
    #[error("{0}")]
    Never(String),
    /// It may be later.
    #[error("{0}")]
    NotNow(String),
}

/// Who answers the messages of other nodes.
pub trait Answers: Send + Sync + 'static {
    /// Answers a message.
    fn answer(
        &self,
        from: PeerName,
        errand: Errand,
        shard: ShardId,
        body: Bytes,
    ) -> Boxed<'static, Result<Bytes, Refusal>>;
}

/// A port that listens; closed when it is dropped.
pub struct Port {
    address: SocketAddr,
    closing: watch::Sender<bool>,
    refused: Arc<AtomicU64>,
}

impl Port {
    /// Listens.
    pub async fn open(
        address: SocketAddr,
        credentials: Credentials,
        limits: PortLimits,
        answers: Arc<dyn Answers>,
    ) -> Result<Self, PortError> {
        let failed = |source| PortError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (closing, closed) = watch::channel(false);
        let refused = Arc::new(AtomicU64::new(0));
        let taking = Taking {
            acceptor: TlsAcceptor::from(credentials.server.clone()),
            credentials,
            limits,
            answers,
            refused: refused.clone(),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            connections: Arc::new(Semaphore::new(limits.connections)),
        };
        tokio::spawn(taking.run(listener, closed));
        Ok(Self {
            address,
            closing,
            refused,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that were refused since it was opened.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.closing.send_replace(true);
    }
}

#[derive(Clone)]
struct Taking {
    acceptor: TlsAcceptor,
    credentials: Credentials,
    limits: PortLimits,
    answers: Arc<dyn Answers>,
    refused: Arc<AtomicU64>,
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Taking {
    async fn run(self, listener: TcpListener, mut closed: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                _ = closed.changed() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => self.take(stream, from, &mut connections),
                    Err(error) => {
                        // Out of file descriptors, most likely: others may close.
                        tracing::warn!(%error, "cluster port cannot accept");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        connections.shutdown().await;
    }

    fn take(&self, stream: TcpStream, from: SocketAddr, connections: &mut JoinSet<()>) {
        let Ok(handshake) = self.handshakes.clone().try_acquire_owned() else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let taking = self.clone();
        connections.spawn(async move {
            let shaken = tokio::time::timeout(taking.limits.handshake_within, taking.shake(stream)).await;
            drop(handshake);
            let (stream, peer) = match shaken {
                Ok(Ok(shaken)) => shaken,
                Ok(Err(error)) => return taking.refuse(from, &error.to_string()),
                Err(_) => return taking.refuse(from, "no handshake in time"),
            };
            let Ok(_place) = taking.connections.clone().try_acquire_owned() else {
                return taking.refuse(from, "too many connections of nodes");
            };
            taking.serve(stream, peer).await;
        });
    }

    fn refuse(&self, from: SocketAddr, reason: &str) {
        // The first ones tell what is wrong; a flood is not worth a log of its own.
        if self.refused.fetch_add(1, Ordering::Relaxed).is_power_of_two() {
            tracing::warn!(%from, reason, "connection to the cluster port refused");
        }
    }

    async fn shake(
        &self,
        stream: TcpStream,
    ) -> io::Result<(tokio_rustls::server::TlsStream<Counted>, PeerName)> {
        stream.set_nodelay(true)?;
        let stream = self.acceptor.accept(Counted::new(stream)).await?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = certificates.first().and_then(PeerName::of);
        let peer = peer.ok_or_else(|| io::Error::other("the certificate names no node of a cluster"))?;
        let own = &self.credentials.name;
        if peer.cluster != own.cluster {
            return Err(io::Error::other(format!(
                "{peer} is not of cluster {:?}",
                own.cluster
            )));
        }
        if peer.node == own.node {
            return Err(io::Error::other(format!("{peer} has this node's own number")));
        }
        Ok((stream, peer))
    }

    async fn serve(&self, stream: tokio_rustls::server::TlsStream<Counted>, peer: PeerName) {
        let (answers, most) = (self.answers.clone(), self.limits.streams as usize);
        let service = service_fn(move |request: Request<Incoming>| {
            let (answers, peer) = (answers.clone(), peer.clone());
            async move {
                if request.uri().path() == EXCHANGE {
                    let mut grpc = server::Grpc::new(AsMessages::new())
                        .max_decoding_message_size(MESSAGE_MAX)
                        .max_encoding_message_size(MESSAGE_MAX);
                    let exchanging = Exchanging { answers, peer, most };
                    return Ok(grpc.streaming(exchanging, request).await);
                }
                let asked = Asked {
                    answers,
                    peer,
                    errand: errand_of(request.uri().path()),
                };
                let mut grpc = server::Grpc::new(AsBytes)
                    .max_decoding_message_size(MESSAGE_MAX)
                    .max_encoding_message_size(MESSAGE_MAX);
                let response: Response<Body> = grpc.unary(asked, request).await;
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let (interval, within) = self.limits.keep_alive;
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(interval)
            .keep_alive_timeout(within)
            .max_concurrent_streams(self.limits.streams)
            // Who has frozen takes back all that it was late with at once: no reason to hang up on a node of the cluster.
            .max_pending_accept_reset_streams(Some(self.limits.streams as usize))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection of a node ended");
        }
    }
}

fn number(headers: &MetadataMap, name: &str) -> Option<u32> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// Refuses a sender that speaks another protocol.
pub(super) fn protocol_of(headers: &MetadataMap) -> Result<(), Status> {
    match number(headers, PROTOCOL_HEADER) {
        Some(PROTOCOL) => Ok(()),
        Some(other) => Err(Status::failed_precondition(format!(
            "protocol {other} is not spoken here, but {PROTOCOL} (upgrade the older node)"
        ))),
        None => Err(Status::invalid_argument("a message without a protocol")),
    }
}

/// One message.
struct Asked {
    answers: Arc<dyn Answers>,
    peer: PeerName,
    errand: Option<Errand>,
}

impl Service<tonic::Request<Bytes>> for Asked {
    type Response = tonic::Response<Bytes>;
    type Error = Status;
    type Future = Boxed<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Status>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (answers, peer, errand) = (self.answers.clone(), self.peer.clone(), self.errand);
        Box::pin(async move {
            protocol_of(request.metadata())?;
            let errand = errand.ok_or_else(|| Status::unimplemented("an errand that is not known here"))?;
            let shard = number(request.metadata(), SHARD_HEADER).and_then(|shard| u16::try_from(shard).ok());
            let shard = shard.ok_or_else(|| Status::invalid_argument("a message without a shard"))?;
            let answer = answers.answer(peer, errand, ShardId::new(shard), request.into_inner());
            match answer.await {
                Ok(answer) => {
                    let mut response = tonic::Response::new(answer);
                    exchange::offer(response.metadata_mut());
                    Ok(response)
                }
                Err(Refusal::Never(reason)) => Err(Status::failed_precondition(reason)),
                Err(Refusal::NotNow(reason)) => Err(Status::unavailable(reason)),
            }
        })
    }
}
