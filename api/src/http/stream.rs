//! `GET /v1/stream`: a WebSocket with many subscriptions, or Server-Sent Events with one.
//!
//! Promises: the words of the public contract; a client that takes nothing is closed after a while and until then
//! costs the set of what it missed; frames that are ready together go out together.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use futures_util::{SinkExt, Stream, StreamExt, stream};
use gemba_runtime::{
    changes::{Mode, Spec},
    filter::Filter as TwinFilter,
    keyring::{Principal, Role},
    node::Following,
};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use warp::{
    Filter, Reply as _,
    filters::BoxedFilter,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    ws::{Message, WebSocket},
};

use super::{
    problem::Problem,
    routes::{self, App},
};

const SUBSCRIPTIONS_MAX: usize = 64;
const FRAME_MAX: usize = 64 << 10;
/// Frames of one subscription that wait for the socket.
const WAITING: usize = 256;
/// The status of RFC 6455 for a server that cannot do what was asked.
const UNABLE: u16 = 1011;
/// The status of RFC 6455 for a frame that is too large.
const TOO_LARGE: u16 = 1009;
/// A client that takes nothing for this long is closed.
const STALLED: Duration = Duration::from_secs(30);
const PING: Duration = Duration::from_secs(20);

pub(super) fn filter(app: Arc<App>) -> BoxedFilter<(warp::reply::Response,)> {
    let (for_socket, for_events) = (app.clone(), app);
    let path = warp::path!("v1" / "stream").and(warp::get());
    let socket = path
        .and(warp::ws())
        .and(warp::header::headers_cloned())
        .map(move |ws: warp::ws::Ws, headers: HeaderMap| open_socket(ws, &headers, for_socket.clone()));
    let events = path
        .and(warp::header::headers_cloned())
        .and(warp::query::<Vec<(String, String)>>())
        .map(move |headers: HeaderMap, query: Vec<(String, String)>| {
            let opened = open_events(&headers, &query, &for_events);
            opened.unwrap_or_else(|problem| problem.response().into_response())
        });
    socket.or(events).unify().boxed()
}

/// A page of another site may not use a viewer's network position.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let Some(origin) = text(header::ORIGIN) else {
        return Ok(());
    };
    let host = origin.split_once("://").map(|(_, host)| host);
    if host.is_some() && host == text(header::HOST) {
        return Ok(());
    }
    let detail = "the page is of another site (serve it from this host)";
    Err(Problem::new(StatusCode::FORBIDDEN, "auth.origin", detail))
}

fn may_follow(principal: Principal) -> Result<Principal, Problem> {
    if principal.role.is_at_least(Role::Viewer) {
        return Ok(principal);
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "auth.forbidden",
        "the key may only send (use one with the role viewer)",
    ))
}

fn open_socket(ws: warp::ws::Ws, headers: &HeaderMap, app: Arc<App>) -> warp::reply::Response {
    let offered = headers
        .get(header::SEC_WEBSOCKET_PROTOCOL)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut offered = offered.split(',').map(str::trim);
    let token = offered
        .clone()
        .find_map(|protocol| protocol.strip_prefix("bearer."));
    let principal = match (app.keyring.anyone(), token) {
        (Some(anyone), _) => Ok(anyone),
        (None, Some(token)) => app.keyring.verify(token).ok_or_else(|| {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "auth.invalid",
                "the token is not known (make one with `gemba key new`)",
            )
        }),
        (None, None) => routes::principal(&app.keyring, headers),
    };
    let checked = check_origin(headers).and(principal).and_then(may_follow);
    let principal = match checked {
        Ok(principal) => principal,
        Err(problem) => return problem.response().into_response(),
    };
    let speaks = offered.any(|protocol| protocol == "gemba.v1");
    let reply = ws
        .max_message_size(FRAME_MAX)
        .max_frame_size(FRAME_MAX)
        .on_upgrade(move |socket| converse(socket, app, principal));
    if speaks {
        warp::reply::with_header(reply, header::SEC_WEBSOCKET_PROTOCOL, "gemba.v1").into_response()
    } else {
        reply.into_response()
    }
}

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    Subscribe {
        id: String,
        filter: Option<String>,
        fields: Option<Vec<String>>,
        mode: Option<String>,
        max_rate_hz: Option<f64>,
        resume: Option<String>,
    },
    Unsubscribe {
        id: String,
    },
    Auth {
        token: String,
    },
    Ping,
}

fn spec(
    id: &str,
    filter: Option<&str>,
    fields: Option<Vec<String>>,
    mode: Option<&str>,
    max_rate_hz: Option<f64>,
    resume: Option<String>,
) -> Result<Spec, Problem> {
    let filter = filter
        .filter(|text| !text.trim().is_empty())
        .map(TwinFilter::compile)
        .transpose()?;
    let mode = match mode {
        None | Some("latest") => Mode::Latest,
        Some("every") => Mode::Every,
        Some(other) => {
            return Err(Problem::invalid(
                "stream.mode_invalid",
                format!("mode {other:?} is neither latest nor every"),
            ));
        }
    };
    Ok(Spec {
        id: id.to_owned(),
        filter,
        fields,
        mode,
        max_rate_hz,
        resume,
    })
}

fn error(id: Option<&str>, code: &str, detail: &str) -> String {
    match id {
        Some(id) => json!({"type": "error", "id": id, "code": code, "detail": detail}).to_string(),
        None => json!({"type": "error", "code": code, "detail": detail}).to_string(),
    }
}

/// Passes a subscription's frames on until either side ends; waits while the socket is full.
async fn pass_on(id: String, mut subscription: Following, out: mpsc::Sender<Message>) {
    while let Some(frame) = subscription.next().await {
        if out.send(Message::text(frame.text())).await.is_err() {
            return;
        }
    }
    // The node stops; the client finds out by this. It may be gone already.
    let _ = out
        .send(Message::text(error(
            Some(&id),
            "stream.unavailable",
            "the subscription ended (subscribe again)",
        )))
        .await;
}

async fn converse(socket: WebSocket, app: Arc<App>, mut principal: Principal) {
    let (mut sink, mut said) = socket.split();
    let (out, mut waiting) = mpsc::channel::<Message>(WAITING);
    let mut open: BTreeMap<String, tokio::task::JoinHandle<()>> = BTreeMap::new();
    if app.node.all_recovered().await.is_err() {
        let farewell = Message::close_with(UNABLE, "a shard of this node could not be recovered");
        // Who does not take it finds out by the end of the connection.
        let _ = tokio::time::timeout(STALLED, sink.send(farewell)).await;
        return;
    }
    let mut sending = tokio::spawn(async move {
        let mut pings = tokio::time::interval(PING);
        loop {
            let first = tokio::select! {
                message = waiting.recv() => match message {
                    Some(message) => message,
                    None => break,
                },
                _ = pings.tick() => Message::ping(Vec::new()),
            };
            let sent = tokio::time::timeout(STALLED, async {
                sink.feed(first).await?;
                while let Ok(message) = waiting.try_recv() {
                    sink.feed(message).await?;
                }
                sink.flush().await
            });
            // One that stalled would not take the farewell either.
            if !matches!(sent.await, Ok(Ok(()))) {
                return;
            }
        }
        // The client may be gone already.
        let _ = tokio::time::timeout(STALLED, sink.close()).await;
    });
    loop {
        let message = tokio::select! {
            message = said.next() => message,
            // Nobody hears the answers any more.
            _ = &mut sending => break,
        };
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(problem)) if is_too_large(&problem) => {
                let farewell = Message::close_with(TOO_LARGE, "a frame is larger than 64 KiB");
                // Who does not take it finds out by the end of the connection.
                let _ = out.try_send(farewell);
                break;
            }
            Some(Err(_)) | None => break,
        };
        let Ok(text) = message.to_str() else {
            if message.is_close() {
                break;
            }
            continue;
        };
        let answer = match serde_json::from_str::<Said>(text) {
            Err(problem) => Some(error(
                None,
                "stream.invalid",
                &format!("the frame is not one that is known here: {problem}"),
            )),
            Ok(Said::Ping) => Some(json!({"type": "pong"}).to_string()),
            Ok(Said::Unsubscribe { id }) => {
                if let Some(task) = open.remove(&id) {
                    task.abort();
                    None
                } else {
                    Some(error(
                        Some(&id),
                        "stream.not_subscribed",
                        "there is no subscription of this id",
                    ))
                }
            }
            Ok(Said::Auth { token }) => match app.keyring.verify(&token).map(may_follow) {
                Some(Ok(new)) if new.tenant == principal.tenant => {
                    principal = new;
                    None
                }
                _ => Some(error(
                    None,
                    "auth.invalid",
                    "the token is not known, or of another tenant",
                )),
            },
            Ok(Said::Subscribe {
                id,
                filter,
                fields,
                mode,
                max_rate_hz,
                resume,
            }) => {
                open.retain(|_, task| !task.is_finished());
                let refused = if id.is_empty() || id.len() > 128 {
                    Some(("stream.id_invalid", "id has to have 1 to 128 characters"))
                } else if open.contains_key(&id) {
                    Some((
                        "stream.id_taken",
                        "a subscription of this id is open (unsubscribe it first)",
                    ))
                } else if open.len() >= SUBSCRIPTIONS_MAX {
                    Some((
                        "stream.too_many",
                        "64 subscriptions are open on this connection (close some)",
                    ))
                } else {
                    None
                };
                match refused {
                    Some((code, detail)) => Some(error(Some(&id), code, detail)),
                    None => {
                        let opened = spec(
                            &id,
                            filter.as_deref(),
                            fields,
                            mode.as_deref(),
                            max_rate_hz,
                            resume,
                        )
                        .and_then(|spec| {
                            let refused = |error: gemba_runtime::changes::SubscribeError| {
                                Problem::invalid(error.code, error.detail)
                            };
                            app.node.follow(&principal.tenant, spec).map_err(refused)
                        });
                        match opened {
                            Ok(subscription) => {
                                open.insert(id.clone(), tokio::spawn(pass_on(id, subscription, out.clone())));
                                None
                            }
                            Err(problem) => Some(error(Some(&id), problem.code, &problem.detail)),
                        }
                    }
                }
            }
        };
        if let Some(answer) = answer
            && out.send(Message::text(answer)).await.is_err()
        {
            break;
        }
    }
    open.into_values().for_each(|task| task.abort());
    drop(out);
    if !sending.is_finished() {
        // A panic of the sending task has been printed.
        let _ = sending.await;
    }
}

/// Whether a client's frame was beyond the limit.
fn is_too_large(problem: &warp::Error) -> bool {
    let cause = std::error::Error::source(problem);
    cause.is_some_and(|cause| cause.to_string().contains("too long"))
}

fn open_events(
    headers: &HeaderMap,
    query: &[(String, String)],
    app: &Arc<App>,
) -> Result<warp::reply::Response, Problem> {
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    if !accepts {
        let detail = "open a WebSocket here, or send Accept: text/event-stream";
        return Err(Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "stream.protocol",
            detail,
        ));
    }
    check_origin(headers)?;
    let principal = may_follow(routes::principal(&app.keyring, headers)?)?;
    let value = |name: &str| {
        query
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    let fields =
        value("fields").map(|fields| fields.split(',').map(|field| field.trim().to_owned()).collect());
    let last = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .or(value("resume"));
    let rate = match value("max_rate_hz") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Problem::invalid("query.invalid", format!("max_rate_hz={text:?} is not a number"))
        })?),
    };
    let spec = spec(
        "sse",
        value("filter"),
        fields,
        value("mode"),
        rate,
        last.map(str::to_owned),
    )?;
    let subscription = app
        .node
        .follow(&principal.tenant, spec)
        .map_err(|error| Problem::invalid(error.code, error.detail))?;
    Ok(warp::sse::reply(
        warp::sse::keep_alive()
            .interval(PING)
            .stream(events(subscription)),
    )
    .into_response())
}

/// The frames as events; the id of `live` resumes. A task takes them, for the answer has to be shared between threads.
fn events(
    mut subscription: Following,
) -> impl Stream<Item = Result<warp::sse::Event, Infallible>> + Send + Sync {
    let (out, waiting) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                frame = subscription.next() => match frame {
                    Some(frame) => {
                        // Nobody listens any more.
                        if out.send(frame).await.is_err() {
                            return;
                        }
                    }
                    None => return,
                },
                () = out.closed() => return,
            }
        }
    });
    stream::unfold(waiting, |mut waiting| async move {
        let frame = waiting.recv().await?;
        let mut event = warp::sse::Event::default()
            .event(frame.kind().as_str())
            .data(frame.text());
        let id = frame.resume().map(str::to_owned);
        if let Some(id) = id {
            event = event.id(id);
        }
        Some((Ok(event), waiting))
    })
}
