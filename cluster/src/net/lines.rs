//! The lines to other nodes: two connections to each, one for short messages that must not wait, one for the rest. Short
//! messages go through an exchange once the node has said that it offers one.
//!
//! Promises: a line is dialled when it is first needed and again after it broke; a peer that stopped answering is noticed
//! by keep-alives within seconds, and before that by each message's own time. Knows addresses, not what they mean.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tower_service::Service;

use super::{
    Credentials, MESSAGE_MAX, PROTOCOL, PROTOCOL_HEADER, SHARD_HEADER,
    codec::{AsBytes, path_of},
    counted::Counted,
    exchange::{self, Exchange, Unanswered},
};
use crate::{Boxed, Courier, Errand, ShardId, Undelivered};

/// A message longer than this goes with the bulk.
const SHORT: usize = 4 << 10;
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(2);
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(3);
/// What is on its way of one stream, and of a connection: a snapshot must not fill the peer's memory.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Most time until an exchange has begun, and the pause after one that did not.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(2);

/// Where nodes are reached: `HOST:PORT` by number.
#[derive(Debug, Clone, Default)]
pub struct AddressBook(Arc<RwLock<BTreeMap<u64, String>>>);

impl AddressBook {
    /// Notes where a node is.
    pub fn set(&self, node: u64, address: impl Into<String>) {
        let mut book = self.0.write().unwrap_or_else(PoisonError::into_inner);
        book.insert(node, address.into());
    }

    /// Forgets a node.
    pub fn remove(&self, node: u64) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&node);
    }

    /// Where a node is.
    #[must_use]
    pub fn get(&self, node: u64) -> Option<String> {
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        book.get(&node).cloned()
    }
}

/// The lines of a node to the others. Cheap to clone.
#[derive(Clone)]
pub struct Lines(Arc<Inner>);

struct Inner {
    credentials: Credentials,
    book: AddressBook,
    protocol: u32,
    /// By node, and whether it is for bulk.
    lines: Mutex<BTreeMap<(u64, bool), Arc<Line>>>,
}

/// One connection to a node.
struct Line {
    channel: Channel,
    exchange: Mutex<Way>,
}

/// How short messages go.
enum Way {
    /// By calls.
    Called,
    /// By calls, until the exchange has begun.
    Beginning,
    /// Through an exchange.
    Exchanged(Arc<Exchange>),
}

impl Line {
    fn way(&self) -> MutexGuard<'_, Way> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exchange(&self) -> Option<Arc<Exchange>> {
        let mut way = self.way();
        match &*way {
            Way::Exchanged(exchange) if exchange.has_ended() => {
                *way = Way::Called;
                None
            }
            Way::Exchanged(exchange) => Some(exchange.clone()),
            Way::Called | Way::Beginning => None,
        }
    }

    /// The node offers exchanges: begins one, if there is none.
    fn begin(self: &Arc<Self>, protocol: u32) {
        {
            let mut way = self.way();
            if !matches!(*way, Way::Called) {
                return;
            }
            *way = Way::Beginning;
        }
        let line = self.clone();
        tokio::spawn(async move {
            let beginning = Exchange::begin(line.channel.clone(), protocol);
            let begun = tokio::time::timeout(EXCHANGE_WITHIN, beginning).await;
            let way = match begun {
                Ok(Ok(exchange)) => Way::Exchanged(Arc::new(exchange)),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "no exchange with a node; it is called");
                    tokio::time::sleep(EXCHANGE_WITHIN).await;
                    Way::Called
                }
                Err(_) => Way::Called,
            };
            *line.way() = way;
        });
    }
}

impl Lines {
    /// Lines to whoever is in the book.
    #[must_use]
    pub fn new(credentials: Credentials, book: AddressBook) -> Self {
        Self::speaking(credentials, book, PROTOCOL)
    }

    /// As [`Lines::new`], in the protocol of another release.
    #[must_use]
    pub fn speaking(credentials: Credentials, book: AddressBook, protocol: u32) -> Self {
        Self(Arc::new(Inner {
            credentials,
            book,
            protocol,
            lines: Mutex::default(),
        }))
    }

    /// Lets go of the lines to a node that has left.
    pub fn hang_up(&self, node: u64) {
        self.known().retain(|(to, _), _| *to != node);
    }

    /// Whether short messages to a node go through an exchange now, rather than by a call each.
    #[must_use]
    pub fn exchanges_with(&self, node: u64) -> bool {
        let line = self.known().get(&(node, false)).cloned();
        line.is_some_and(|line| line.exchange().is_some())
    }

    /// Asks whichever node of the cluster is at an address: for a node that joins.
    pub async fn ask_at(
        &self,
        address: &str,
        errand: Errand,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, Undelivered> {
        let dial = Dial {
            credentials: self.0.credentials.clone(),
            target: Target::Address(address.to_owned()),
        };
        let way = (0, errand, ShardId::MAP, self.0.protocol);
        let answered = call(channel(dial), way, body, within).await;
        answered.map(|(answer, _)| answer)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<(u64, bool), Arc<Line>>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, node: u64, is_bulk: bool) -> Arc<Line> {
        let dial = || {
            let dial = Dial {
                credentials: self.0.credentials.clone(),
                target: Target::Node(node, self.0.book.clone()),
            };
            Arc::new(Line {
                channel: channel(dial),
                exchange: Mutex::new(Way::Called),
            })
        };
        self.known().entry((node, is_bulk)).or_insert_with(dial).clone()
    }

    /// Sends a message by the way that is open for it.
    async fn ask(
        &self,
        line: Arc<Line>,
        way: (u64, Errand, ShardId, u32),
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, Undelivered> {
        let (to, errand, shard, protocol) = way;
        let may_be_exchanged = exchange::carries(errand, &body);
        if may_be_exchanged && let Some(exchange) = line.exchange() {
            let asked = exchange.ask(errand, shard, body.clone(), within);
            match tokio::time::timeout(within, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                Err(_) => return Err(Undelivered::Late { to, within }),
                Ok(Err(Unanswered::Never(reason))) => return Err(Undelivered::Refused { to, reason }),
                Ok(Err(Unanswered::NotNow(detail))) => return Err(unreachable(to, detail)),
                Ok(Err(Unanswered::Ended(status))) => return Err(unreachable(to, chain(&*status))),
                // It ended a moment ago: the node is called.
                Ok(Err(Unanswered::Unsent)) => {}
            }
        }
        let (answer, offers) = call(line.channel.clone(), way, body, within).await?;
        if may_be_exchanged && offers {
            line.begin(protocol);
        }
        Ok(answer)
    }
}

fn channel(dial: Dial) -> Channel {
    // The address is the dialler's business; this one only names the scheme.
    Endpoint::from_static("http://node.gemba.internal")
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_WITHIN)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector_lazy(dial)
}

impl Courier for Lines {
    fn send(
        &self,
        to: u64,
        errand: Errand,
        shard: ShardId,
        body: Bytes,
        within: Duration,
    ) -> Boxed<'static, Result<Bytes, Undelivered>> {
        let is_bulk = body.len() > SHORT || matches!(errand, Errand::Piece | Errand::Batch);
        let lines = self.clone();
        // A channel is made within the runtime that will drive it.
        Box::pin(async move {
            let way = (to, errand, shard, lines.0.protocol);
            lines.ask(lines.line(to, is_bulk), way, body, within).await
        })
    }
}

fn unreachable(to: u64, detail: String) -> Undelivered {
    Undelivered::Unreachable {
        to,
        detail,
        is_unsent: false,
    }
}

/// Sends a message by a call: to whom, what for, about which shard, in which protocol. Answers also whether the node
/// offers exchanges.
async fn call(
    channel: Channel,
    (to, errand, shard, protocol): (u64, Errand, ShardId, u32),
    body: Bytes,
    within: Duration,
) -> Result<(Bytes, bool), Undelivered> {
    if body.len() > MESSAGE_MAX {
        let reason = format!("a message of {} bytes is too long to be sent", body.len());
        return Err(Undelivered::Refused { to, reason });
    }
    let asked = async {
        let mut grpc = Grpc::new(channel)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(chain(&error)))?;
        let mut request = Request::new(body);
        request.set_timeout(within);
        let headers = request.metadata_mut();
        headers.insert(PROTOCOL_HEADER, MetadataValue::from(protocol));
        headers.insert(SHARD_HEADER, MetadataValue::from(u32::from(shard.get())));
        let path = hyper::http::uri::PathAndQuery::from_static(path_of(errand));
        grpc.unary(request, path, AsBytes).await
    };
    match tokio::time::timeout(within, asked).await {
        Ok(Ok(answer)) => {
            let offers = exchange::is_offered(answer.metadata());
            Ok((answer.into_inner(), offers))
        }
        Ok(Err(status)) => Err(match status.code() {
            Code::DeadlineExceeded | Code::Cancelled => Undelivered::Late { to, within },
            Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::InvalidArgument => {
                let reason = status.message().to_owned();
                Undelivered::Refused { to, reason }
            }
            _ => {
                let (detail, is_unsent) = (chain(&status), is_unconnected(&status));
                Undelivered::Unreachable {
                    to,
                    detail,
                    is_unsent,
                }
            }
        }),
        Err(_) => Err(Undelivered::Late { to, within }),
    }
}

/// Whether there was no connection at all.
fn is_unconnected(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<Unconnected>())
}

/// An error with its causes: the first one seldom says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// No connection came about.
#[derive(Debug, thiserror::Error)]
#[error("not connected")]
struct Unconnected(#[source] io::Error);

#[derive(Clone)]
enum Target {
    Node(u64, AddressBook),
    Address(String),
}

/// Dials a node and checks who answers.
#[derive(Clone)]
struct Dial {
    credentials: Credentials,
    target: Target,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TlsStream<Counted>>;
    type Error = Unconnected;
    type Future = Boxed<'static, Result<Self::Response, Unconnected>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unconnected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { credentials, target } = self.clone();
        let dialled = async move {
            let (address, node) = match target {
                Target::Address(address) => (address, None),
                Target::Node(node, book) => {
                    let address = book.get(node);
                    let unknown = || io::Error::other(format!("no address of node {node} is known"));
                    (address.ok_or_else(unknown)?, Some(node))
                }
            };
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            let expected = credentials.expected(node).map_err(io::Error::other)?;
            let connector = TlsConnector::from(credentials.client.clone());
            Ok(TokioIo::new(
                connector.connect(expected, Counted::new(stream)).await?,
            ))
        };
        Box::pin(async move { dialled.await.map_err(Unconnected) })
    }
}
