//! Exchanges: one stream of short messages to a node and of their answers back, where a call for each would cost more than
//! the message.
//!
//! Promises: an answer goes to whoever asked for it, in whatever order answers come; when the stream ends, all that wait
//! for one learn it at once; what nobody waits for any more is not sent. A node that offers exchanges says so in the
//! answers to its calls, so an older release is only ever called.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::{
    Request, Response, Status, Streaming,
    client::Grpc,
    metadata::{MetadataMap, MetadataValue},
    transport::Channel,
};
use tower_service::Service;

use super::{
    MESSAGE_MAX, PROTOCOL_HEADER, PeerName,
    codec::{AnsweredWire, AsMessages, AskedWire, EXCHANGE, errand_numbered, number_of},
    port::{Answers, Refusal, protocol_of},
};
use crate::{Boxed, Errand, ShardId};

/// The header by which a node offers exchanges.
const OFFER_HEADER: &str = "gemba-exchange";
/// Longer messages are called: they would hold up those behind them, and what a call costs is little beside them.
const LONG: usize = 64 << 10;
/// Messages that wait to be sent, and answers.
const QUEUE: usize = 1_024;

/// Whether a message may go through an exchange: it is short, and so is its answer.
pub(super) fn carries(errand: Errand, body: &Bytes) -> bool {
    matches!(errand, Errand::Append | Errand::Batch) && body.len() <= LONG
}

/// Offers exchanges to whoever gets this answer.
pub(super) fn offer(headers: &mut MetadataMap) {
    headers.insert(OFFER_HEADER, MetadataValue::from_static("1"));
}

/// Whether the node that answered offers exchanges.
pub(super) fn is_offered(headers: &MetadataMap) -> bool {
    headers.contains_key(OFFER_HEADER)
}

/// Why a message of an exchange was not answered.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The exchange had ended before: the message was not sent.
    Unsent,
    /// It ended, and the message may have arrived.
    Ended(Arc<Status>),
    /// The node refused it for good.
    Never(String),
    /// The node cannot do it now.
    NotNow(String),
}

type Answer = oneshot::Sender<Result<Bytes, Unanswered>>;

/// Who waits for which answer; `None` when the exchange has ended.
struct Waiting(Mutex<Option<HashMap<u64, Answer>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, Answer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False where the exchange has ended.
    fn add(&self, id: u64, answer: Answer) -> bool {
        match &mut *self.lock() {
            Some(waiting) => {
                waiting.insert(id, answer);
                true
            }
            None => false,
        }
    }

    fn take(&self, id: u64) -> Option<Answer> {
        self.lock().as_mut()?.remove(&id)
    }

    fn waits(&self, id: u64) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|waiting| waiting.contains_key(&id))
    }

    fn end(&self, status: Status) {
        let status = Arc::new(status);
        for (_, answer) in self.lock().take().into_iter().flatten() {
            // Whoever gave up does not need the answer.
            let _ = answer.send(Err(Unanswered::Ended(status.clone())));
        }
    }
}

/// The place of one who waits, given up when it no longer does.
struct Place<'a>(&'a Waiting, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.take(self.1);
    }
}

/// The asking end of an exchange; it ends when this is dropped.
pub(super) struct Exchange {
    asked: mpsc::Sender<AskedWire>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
}

impl Exchange {
    /// Begins an exchange with the node at the other end of a channel.
    pub(super) async fn begin(channel: Channel, protocol: u32) -> Result<Self, Status> {
        let (asked, mut asking) = mpsc::channel::<AskedWire>(QUEUE);
        let waiting = Arc::new(Waiting(Mutex::new(Some(HashMap::new()))));
        let waited = waiting.clone();
        let messages = stream::poll_fn(move |context| {
            loop {
                match asking.poll_recv(context) {
                    Poll::Ready(Some(message)) if !waited.waits(message.id) => {}
                    message => return message,
                }
            }
        });
        let mut grpc = Grpc::new(channel)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(messages);
        let headers = request.metadata_mut();
        headers.insert(PROTOCOL_HEADER, MetadataValue::from(protocol));
        let path = hyper::http::uri::PathAndQuery::from_static(EXCHANGE);
        let answers = grpc.streaming(request, path, AsMessages::new()).await?;
        tokio::spawn(hand_out(answers.into_inner(), waiting.clone()));
        Ok(Self {
            asked,
            waiting,
            next: AtomicU64::new(1),
        })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.waiting.lock().is_none()
    }

    /// Sends a message and waits for its answer; the other end lets go of it after `within`, this one when the future is
    /// dropped.
    pub(super) async fn ask(
        &self,
        errand: Errand,
        shard: ShardId,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, Unanswered> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        if !self.waiting.add(id, answer) {
            return Err(Unanswered::Unsent);
        }
        let _place = Place(&self.waiting, id);
        let message = AskedWire {
            id,
            errand: number_of(errand),
            shard: u32::from(shard.get()),
            within_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX),
            body,
        };
        if self.asked.send(message).await.is_err() {
            return Err(Unanswered::Unsent);
        }
        let forgotten = |_| Err(Unanswered::Ended(Arc::new(Status::unknown("no answer"))));
        answered.await.unwrap_or_else(forgotten)
    }
}

/// Gives each answer to whoever waits for it, until the stream ends.
async fn hand_out(mut answers: Streaming<AnsweredWire>, waiting: Arc<Waiting>) {
    let ended = loop {
        match answers.message().await {
            Ok(Some(AnsweredWire { id, refusal, body })) => {
                let Some(answer) = waiting.take(id) else { continue };
                let reason = || String::from_utf8_lossy(&body).into_owned();
                // Whoever gave up in this moment does not need it.
                let _ = answer.send(match refusal {
                    0 => Ok(body),
                    1 => Err(Unanswered::Never(reason())),
                    _ => Err(Unanswered::NotNow(reason())),
                });
            }
            Ok(None) => break Status::unavailable("the node ended the exchange"),
            Err(status) => break status,
        }
    };
    waiting.end(ended);
}

/// The answering end of a connection's exchanges.
pub(super) struct Exchanging {
    pub(super) answers: Arc<dyn Answers>,
    pub(super) peer: PeerName,
    /// Most messages of an exchange at a time.
    pub(super) most: usize,
}

/// The answers of an exchange.
pub(super) struct Answered(mpsc::Receiver<AnsweredWire>);

impl Stream for Answered {
    type Item = Result<AnsweredWire, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|answer| answer.map(Ok))
    }
}

impl Service<Request<Streaming<AskedWire>>> for Exchanging {
    type Response = Response<Answered>;
    type Error = Status;
    type Future = Boxed<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<AskedWire>>) -> Self::Future {
        let spoken = protocol_of(request.metadata());
        let (answer, answered) = mpsc::channel(QUEUE);
        let serving = Serving {
            answers: self.answers.clone(),
            peer: self.peer.clone(),
            answer,
        };
        let most = self.most;
        Box::pin(async move {
            spoken?;
            tokio::spawn(serving.run(request.into_inner(), most));
            Ok(Response::new(Answered(answered)))
        })
    }
}

#[derive(Clone)]
struct Serving {
    answers: Arc<dyn Answers>,
    peer: PeerName,
    answer: mpsc::Sender<AnsweredWire>,
}

impl Serving {
    async fn run(self, mut messages: Streaming<AskedWire>, most: usize) {
        let places = Arc::new(Semaphore::new(most));
        while let Ok(place) = places.clone().acquire_owned().await {
            let message = tokio::select! {
                () = self.answer.closed() => break,
                message = messages.message() => message,
            };
            let Ok(Some(message)) = message else { break };
            let serving = self.clone();
            tokio::spawn(async move {
                tokio::select! {
                    // The connection is gone, and so is whoever asked.
                    () = serving.answer.closed() => {}
                    () = serving.one(message) => {}
                }
                drop(place);
            });
        }
    }

    async fn one(&self, message: AskedWire) {
        let AskedWire {
            id,
            errand,
            shard,
            within_ms,
            body,
        } = message;
        let answered = match (errand_numbered(errand), u16::try_from(shard)) {
            (Some(errand), Ok(shard)) => {
                let within = Duration::from_millis(within_ms.into());
                let answer = self
                    .answers
                    .answer(self.peer.clone(), errand, ShardId::new(shard), body);
                // Whoever asked has given up by then.
                let Ok(answered) = tokio::time::timeout(within, answer).await else {
                    return;
                };
                answered
            }
            _ => Err(Refusal::Never("an errand that is not known here".into())),
        };
        let (refusal, body) = match answered {
            Ok(body) => (0, body),
            Err(Refusal::Never(reason)) => (1, reason.into()),
            Err(Refusal::NotNow(reason)) => (2, reason.into()),
        };
        // A connection that is gone takes no answer.
        let _ = self.answer.send(AnsweredWire { id, refusal, body }).await;
    }
}
