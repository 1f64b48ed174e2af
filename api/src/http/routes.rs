//! Which call leads where, by the table (`table.rs`).
//!
//! Promises: who is asking is settled before anything else; what a role may not do is refused here, by the table.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use gemba_runtime::{
    decode::RfidFormat,
    keyring::{Keyring, Principal, Role},
    node::Node,
};
use gemba_twins::twin::Twin;
use metrics_exporter_prometheus::PrometheusHandle;
use percent_encoding::percent_decode_str;
use warp::{
    Filter, Reply as _,
    filters::BoxedFilter,
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
};

use super::{
    alarms, backup, cluster, dashboards, docs, flow, fork, ingest, passing, plant,
    problem::{Problem, Reply},
    quality, refold, stream,
    table::{Operation, Route, all_routes},
    twins, uploads,
};

/// Longest time in which nothing of a body comes.
const SILENT: Duration = Duration::from_secs(10);

/// What all calls share.
pub struct App {
    /// The node.
    pub node: Node,
    /// Who may do what.
    pub keyring: Arc<Keyring>,
    /// The metrics, for Prometheus.
    pub metrics: PrometheusHandle,
    /// Largest body of a request, in bytes.
    pub body_max: usize,
    /// The source that messages by HTTP are counted under.
    pub source: Arc<str>,
}

/// One call.
pub(super) struct Call {
    pub(super) app: Arc<App>,
    pub(super) principal: Principal,
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A number in the query, within bounds.
    pub(super) fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, Problem> {
        match self.query(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (1..=max).contains(number))
                .ok_or_else(|| {
                    Problem::invalid(
                        "query.invalid",
                        format!("{name}={text:?} is not a number from 1 to {max}"),
                    )
                }),
        }
    }
}

/// Everything the node answers by HTTP.
pub fn service_filter(app: Arc<App>) -> BoxedFilter<(Response<warp::hyper::body::Bytes>,)> {
    let shared = warp::any().map(move || app.clone());
    warp::method()
        .and(warp::path::full())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .and(shared)
        .then(|method: Method, path: warp::path::FullPath, query: String, headers: HeaderMap, body, app| async move {
            let reply = dispatch(app, &method, path.as_str(), &query, headers, body).await;
            let mut reply = reply.unwrap_or_else(|problem| problem.response());
            let set = reply.headers_mut();
            set.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            if !set.contains_key(header::CACHE_CONTROL) {
                set.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            reply
        })
        .boxed()
}

/// The stream's filter, then all others.
pub(super) fn all(app: Arc<App>) -> BoxedFilter<(warp::reply::Response,)> {
    passing::answer(&app);
    let others = service_filter(app.clone()).map(|reply: Reply| reply.into_response());
    stream::filter(app).or(others).unify().boxed()
}

async fn dispatch<B>(
    app: Arc<App>,
    method: &Method,
    path: &str,
    query: &str,
    headers: HeaderMap,
    body: impl futures_util::Stream<Item = Result<B, warp::Error>> + Send,
) -> Result<Reply, Problem>
where
    B: Buf + Send,
{
    if let Some(reply) = docs::open(&app, method, path, &headers) {
        return Ok(reply);
    }
    let (route, parts) = find(method, path)?;
    let principal = principal(&app.keyring, &headers)?;
    allow(&principal, route)?;
    let body = if route.method == Method::GET {
        Bytes::new()
    } else {
        collect(body, app.body_max).await?
    };
    let pairs = pairs(query)?;
    let call = Call {
        app,
        principal,
        path: parts,
        query: pairs,
        headers,
        body,
    };
    match perform(&call, route).await {
        Err(Problem {
            elsewhere: Some(shard),
            ..
        }) => passing::pass_on(call, &route.method, path, query, shard).await,
        answered => answered,
    }
}

/// The route of a call, and the parts of its path.
pub(super) fn find(method: &Method, path: &str) -> Result<(&'static Route, Vec<String>), Problem> {
    let parts: Vec<String> = path
        .trim_matches('/')
        .split('/')
        .map(|part| {
            percent_decode_str(part)
                .decode_utf8()
                .map(|part| part.into_owned())
        })
        .collect::<Result<_, _>>()
        .map_err(|_| Problem::invalid("path.invalid", "the path is not UTF-8"))?;
    let fits = |route: &&Route| {
        route.path.len() == parts.len()
            && route
                .path
                .iter()
                .zip(&parts)
                .all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
    };
    let mut same_path = all_routes().filter(fits).peekable();
    // The stream has filters of its own; what comes here with its path has another method.
    if same_path.peek().is_none() && path != "/v1/stream" {
        let detail = format!("nothing is at {path} (see /docs)");
        return Err(Problem::new(StatusCode::NOT_FOUND, "path.not_found", detail));
    }
    let wanted = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let Some(route) = same_path.find(|route| route.method == *wanted) else {
        let detail = format!("{method} is not possible at {path} (see /docs)");
        return Err(Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method.not_allowed",
            detail,
        ));
    };
    Ok((route, parts))
}

/// Does what a route says, on this node.
pub(super) async fn perform(call: &Call, route: &Route) -> Result<Reply, Problem> {
    if is_of_control(route.operation) {
        // A node that comes back must not say that there is no plant model, or no dashboard.
        call.app.node.control_recovered().await?;
    }
    match route.operation {
        Operation::GetTwin => twins::get(call).await,
        Operation::ListTwins => twins::list(call).await,
        Operation::SetAttributes => twins::set_attributes(call).await,
        Operation::History => twins::history(call).await,
        Operation::Shifts => twins::runs(call, Twin::shifts).await,
        Operation::MachineJobs => twins::runs(call, Twin::jobs).await,
        Operation::Events => twins::events(call).await,
        Operation::Fork => fork::fork(call).await,
        Operation::Forecast => quality::forecast(call).await,
        Operation::Quality => quality::list(call).await,
        Operation::Refold => refold::refold(call).await,
        Operation::GetPlant => plant::get(call),
        Operation::PutPlant => plant::put(call).await,
        Operation::PlanPlant => plant::plan(call),
        Operation::Readings => ingest::take(call, ingest::What::Readings).await,
        Operation::Scans => ingest::take(call, ingest::What::Scans).await,
        Operation::Ingest => ingest::counts(call),
        Operation::ListRejected => ingest::list_rejected(call).await,
        Operation::RetryRejected => ingest::retry(call).await,
        Operation::Alarms(what) => alarms::call(call, what).await,
        Operation::WriteHistory => {
            call.app.node.write_history().await;
            Ok(json(StatusCode::OK, br#"{"written":true}"#.to_vec()))
        }
        Operation::Checkpoints => {
            let items = call.app.node.checkpoints(&call.principal.tenant).await?;
            ok(&serde_json::json!({"items": items, "cursor": null}))
        }
        Operation::Flow => flow::get(call).await,
        Operation::RfidImpinj => ingest::take(call, ingest::What::Rfid(RfidFormat::Impinj)).await,
        Operation::RfidZebra => ingest::take(call, ingest::What::Rfid(RfidFormat::Zebra)).await,
        Operation::RfidGeneric => ingest::take(call, ingest::What::Rfid(RfidFormat::Generic)).await,
        Operation::EpcisCapture => ingest::take(call, ingest::What::Epcis).await,
        Operation::ListDashboards => dashboards::list(call),
        Operation::GetDashboard => dashboards::get(call),
        Operation::PutDashboard => dashboards::put(call).await,
        Operation::RemoveDashboard => dashboards::remove(call).await,
        Operation::Cluster => cluster::get(call).await,
        Operation::Drain => cluster::drain(call).await,
        Operation::Backup => backup::piece(call).await,
        Operation::CreateUpload => uploads::create(call).await,
        Operation::ListUploads => uploads::list(call),
        Operation::GetUpload => uploads::get(call),
        Operation::AppendUpload => uploads::append(call).await,
        Operation::RemoveUpload => uploads::remove(call).await,
        Operation::UploadRejected => uploads::rejected(call).await,
        Operation::ListAttachments => uploads::attachments(call).await,
        Operation::GetAttachment => uploads::attachment(call).await,
    }
}

/// Whether an operation is about plant models or dashboards.
fn is_of_control(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::GetPlant
            | Operation::PutPlant
            | Operation::PlanPlant
            | Operation::ListDashboards
            | Operation::GetDashboard
            | Operation::PutDashboard
            | Operation::RemoveDashboard
    )
}

/// The names and values of a query.
pub(super) fn pairs(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced)
            .decode_utf8()
            .map(|text| text.into_owned())
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect::<Result<_, std::str::Utf8Error>>()
        .map_err(|_| Problem::invalid("query.invalid", "the query is not UTF-8"))
}

/// Who is asking.
pub(super) fn principal(keyring: &Keyring, headers: &HeaderMap) -> Result<Principal, Problem> {
    if let Some(anyone) = keyring.anyone() {
        return Ok(anyone);
    }
    let unauthorized = |code, detail: &str| Problem::new(StatusCode::UNAUTHORIZED, code, detail);
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(unauthorized(
            "auth.missing",
            "no credential was sent (send Authorization: Bearer <token>)",
        ));
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::trim);
    token.and_then(|token| keyring.verify(token)).ok_or_else(|| {
        unauthorized(
            "auth.invalid",
            "the token is not known (make one with `gemba key new`)",
        )
    })
}

pub(super) fn allow(principal: &Principal, route: &Route) -> Result<(), Problem> {
    let allowed = match route.least {
        Role::Device => principal.role.may_send(),
        least => principal.role.is_at_least(least),
    };
    if allowed {
        return Ok(());
    }
    let detail = format!(
        "the key {} may not do this (its role is {:?})",
        principal.name, principal.role
    );
    Err(Problem::new(StatusCode::FORBIDDEN, "auth.forbidden", detail))
}

/// The whole body, if it is not larger than `max`.
async fn collect<B: Buf>(
    body: impl futures_util::Stream<Item = Result<B, warp::Error>>,
    max: usize,
) -> Result<Bytes, Problem> {
    let mut body = std::pin::pin!(body);
    let mut whole = BytesMut::new();
    loop {
        let Ok(chunk) = tokio::time::timeout(SILENT, body.next()).await else {
            let detail = format!(
                "nothing more of the body came for {} s (send it again)",
                SILENT.as_secs()
            );
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body.timeout", detail));
        };
        let Some(chunk) = chunk else {
            return Ok(whole.freeze());
        };
        let mut chunk =
            chunk.map_err(|_| Problem::invalid("body.broken", "the body ended before it was whole"))?;
        if whole.len() + chunk.remaining() > max {
            let detail = format!("the body is larger than {max} bytes (send it in parts)");
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body.too_large",
                detail,
            ));
        }
        whole.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
    }
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Reply {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn ok(body: &impl serde::Serialize) -> Result<Reply, Problem> {
    let bytes = serde_json::to_vec(body).map_err(|error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "answer.unwritable",
            error.to_string(),
        )
    })?;
    Ok(json(StatusCode::OK, bytes))
}
