//! Calls about what this node does not keep, on their way to a node of the cluster that does.
//!
//! Promises: who asks and what they may do is settled here, by this node's keys; the answer is the other node's, as it
//! is. A call that came from another node is never passed on again.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use gemba_runtime::node::{Calls, PassedCall, PassedReply};
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::{
    problem::{Problem, Reply},
    routes::{self, App, Call},
};

/// What an answer may depend on.
static HEADERS: [HeaderName; 5] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::RANGE,
];
/// Longest answer that a message between nodes takes.
const ANSWER_MAX: usize = 8 << 20;

/// Has a call answered by a node that keeps the shard that it is about.
pub(super) async fn pass_on(
    call: Call,
    method: &Method,
    path: &str,
    query: &str,
    shard: u16,
) -> Result<Reply, Problem> {
    let taken = |name: &HeaderName| {
        let value = call.headers.get(name)?;
        Some((name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes())))
    };
    let passed = PassedCall {
        method: method.as_str().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: HEADERS.iter().filter_map(taken).collect(),
        body: call.body.clone(),
        principal: call.principal.clone(),
    };
    let reply = call.app.node.pass_on(shard, passed).await?;
    let mut response = Response::new(reply.body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in reply.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_maybe_shared(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// Answers what other nodes pass on.
struct Answering(Weak<App>);

/// Has a node answer what the others of its cluster pass on.
pub(super) fn answer(app: &Arc<App>) {
    app.node.set_calls(Arc::new(Answering(Arc::downgrade(app))));
}

impl Calls for Answering {
    fn answer(&self, call: PassedCall) -> std::pin::Pin<Box<dyn Future<Output = PassedReply> + Send>> {
        let app = self.0.upgrade();
        Box::pin(async move {
            let answered = match app {
                Some(app) => answered(app, call).await,
                None => Err(Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "shard.no_owner",
                    "the node that keeps it is stopping (try again)",
                )),
            };
            let response = answered.unwrap_or_else(|problem| problem.response());
            let response = if response.body().len() > ANSWER_MAX {
                let detail = "the answer is longer than a node passes on (ask for less, or ask a node that keeps the twin)";
                Problem::invalid("answer.too_long", detail).response()
            } else {
                response
            };
            let headers = response
                .headers()
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes())));
            PassedReply {
                status: response.status().as_u16(),
                headers: headers.collect(),
                body: response.body().clone(),
            }
        })
    }
}

async fn answered(app: Arc<App>, passed: PassedCall) -> Result<Reply, Problem> {
    let method = Method::from_bytes(passed.method.as_bytes());
    let method = method.map_err(|error| Problem::invalid("path.invalid", error.to_string()))?;
    let (route, path) = routes::find(&method, &passed.path)?;
    routes::allow(&passed.principal, route)?;
    let mut headers = HeaderMap::new();
    for (name, value) in passed.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_maybe_shared(value)) {
            headers.insert(name, value);
        }
    }
    let call = Call {
        app,
        principal: passed.principal,
        path,
        query: routes::pairs(&passed.query)?,
        headers,
        body: passed.body,
    };
    routes::perform(&call, route).await
}
