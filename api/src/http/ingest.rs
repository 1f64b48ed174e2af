//! Calls that bring messages in, and those that tell what became of them.

use std::io::Read;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use gemba_runtime::{
    decode::{Content, RfidFormat, split_batch, split_epcis},
    ingest::{Message, Outcome},
    node::RejectedItem,
};
use serde_json::{Value as Json, json};
use warp::http::{StatusCode, header};

use super::{
    problem::{Problem, Reply},
    routes::{self, Call, ok},
};

/// What the items of a body are.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    Readings,
    Scans,
    Rfid(RfidFormat),
    Epcis,
}

pub(super) async fn take(call: &Call, what: What) -> Result<Reply, Problem> {
    let body = inflate(call)?;
    let content = match call
        .header(header::CONTENT_TYPE)
        .map(|kind| kind.split(';').next().unwrap_or_default().trim())
    {
        Some("application/x-ndjson" | "application/ndjson" | "application/jsonl") => Content::NdJson,
        None
        | Some(
            "application/json"
            | "application/ld+json"
            | "application/octet-stream"
            | "text/plain"
            | "application/x-www-form-urlencoded",
        ) => Content::Json,
        Some(other) => {
            let detail = format!(
                "content type {other:?} is not read here (send application/json or application/x-ndjson)"
            );
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "body.type_unsupported",
                detail,
            ));
        }
    };
    let items = match what {
        What::Epcis => split_epcis(&body),
        _ => split_batch(&body, content),
    };
    let items = items.map_err(|rejection| Problem::invalid(rejection.code, rejection.detail))?;
    if items.is_empty() {
        return Err(Problem::invalid(
            "batch.empty",
            "the body holds no item (send a JSON object, an array, or NDJSON)",
        ));
    }
    let app = &call.app;
    let tenant = &call.principal.tenant;
    let permit = app
        .node
        .ingest()
        .try_admit(tenant, items.len(), body.len())
        .ok_or_else(Problem::busy)?;
    let mut batch = app.node.ingest().batch(tenant, &app.source);
    for item in &items {
        batch.push(match what {
            What::Readings => Message::Reading {
                sensor: None,
                json: item,
            },
            What::Scans => Message::Scan {
                reader: None,
                json: item,
            },
            What::Rfid(format) => Message::Rfid {
                format,
                reader: call.query("reader"),
                payload: item,
            },
            What::Epcis => Message::Epcis { payload: item },
        });
    }
    let outcomes = batch.submit(permit).await;
    let outcomes = outcomes.map_err(|error| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "storage.unavailable",
            error.to_string(),
        )
    })?;
    let (mut accepted, mut duplicates, mut rejected) = (0_usize, 0_usize, Vec::new());
    for (index, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Outcome::Applied | Outcome::Late => accepted += 1,
            Outcome::Duplicate => duplicates += 1,
            Outcome::Rejected(rejection) => {
                rejected.push(json!({"index": index, "code": rejection.code, "detail": rejection.detail}));
            }
        }
    }
    let status = match (accepted + duplicates, rejected.len()) {
        (_, 0) => StatusCode::OK,
        (0, _) => StatusCode::BAD_REQUEST,
        _ => StatusCode::MULTI_STATUS,
    };
    let answer = json!({"accepted": accepted, "duplicates": duplicates, "rejected": rejected});
    Ok(routes::json(status, answer.to_string().into_bytes()))
}

/// The body, inflated where it is gzip; a bomb is stopped at the limit of any body.
fn inflate(call: &Call) -> Result<Bytes, Problem> {
    match call.header(header::CONTENT_ENCODING) {
        None | Some("identity") => Ok(call.body.clone()),
        Some("gzip") => {
            let max = call.app.body_max;
            let mut whole = Vec::new();
            let mut limited = MultiGzDecoder::new(&call.body[..]).take(max as u64 + 1);
            limited.read_to_end(&mut whole).map_err(|error| {
                Problem::invalid("body.not_gzip", format!("the body is not gzip: {error}"))
            })?;
            if whole.len() > max {
                let detail = format!("the body inflates to more than {max} bytes (send it in parts)");
                return Err(Problem::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "body.too_large",
                    detail,
                ));
            }
            Ok(whole.into())
        }
        Some(other) => {
            let detail = format!("content encoding {other:?} is not read here (send gzip or none)");
            Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "body.encoding_unsupported",
                detail,
            ))
        }
    }
}

pub(super) fn counts(call: &Call) -> Result<Reply, Problem> {
    ok(&json!({"items": call.app.node.counts(&call.principal.tenant), "cursor": null}))
}

pub(super) async fn list_rejected(call: &Call) -> Result<Reply, Problem> {
    let limit = call.number("limit", 100, 1_000)?;
    let (items, cursor) = call
        .app
        .node
        .rejected(&call.principal.tenant, call.query("cursor"), limit)
        .await?;
    ok(&json!({"items": items.iter().map(item_json).collect::<Vec<_>>(), "cursor": cursor}))
}

fn item_json(item: &RejectedItem) -> Json {
    let mut json = json!({
        "id": item.id,
        "at": item.at,
        "source": item.source,
        "topic": item.topic,
        "code": item.code,
        "detail": item.detail,
        "truncated": item.truncated,
    });
    if let Json::Object(object) = &mut json {
        match str::from_utf8(&item.payload) {
            Ok(text) => object.insert("payload".into(), json!(text)),
            Err(_) => object.insert("payload_base64".into(), json!(STANDARD.encode(&item.payload))),
        };
    }
    json
}

pub(super) async fn retry(call: &Call) -> Result<Reply, Problem> {
    let id = &call.path[2];
    call.app.node.keeps_rejected(&call.principal.tenant)?;
    let outcome = call.app.node.retry_rejected(&call.principal.tenant, id).await?;
    let not_found = || {
        let detail = format!("there is no rejected message {id:?} (see GET /v1/rejected)");
        Problem::new(StatusCode::NOT_FOUND, "rejected.not_found", detail)
    };
    match outcome.ok_or_else(not_found)? {
        Outcome::Applied => ok(&json!({"id": id, "outcome": "applied"})),
        Outcome::Late => ok(&json!({"id": id, "outcome": "late"})),
        Outcome::Duplicate => ok(&json!({"id": id, "outcome": "duplicate"})),
        Outcome::Rejected(rejection) => Err(Problem::new(
            StatusCode::CONFLICT,
            rejection.code,
            format!("still rejected: {}", rejection.detail),
        )),
    }
}
