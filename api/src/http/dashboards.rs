//! Calls about the dashboards that people of a tenant save.
//!
//! Promises: everybody of the tenant may see a dashboard, only its owner (the key that made it) changes it; a save names
//! the version it is based on where it sends `If-Match`.

use gemba_runtime::{dashboards::Dashboard, node::CommandError};
use serde_json::{Value as Json, json, value::RawValue};
use warp::http::{HeaderValue, StatusCode, header};

use super::{
    problem::{Problem, Reply},
    routes::{Call, ok},
};

fn tag(version: u64) -> String {
    format!("\"version:{version}\"")
}

/// What a dashboard is, without what it shows.
fn head(call: &Call, dashboard: &Dashboard) -> Json {
    json!({
        "id": dashboard.id,
        "owner": dashboard.owner,
        "mine": *dashboard.owner == *call.principal.name,
        "version": dashboard.version,
        "saved_at": dashboard.saved_at,
    })
}

pub(super) fn list(call: &Call) -> Result<Reply, Problem> {
    let all = call.app.node.dashboards(&call.principal.tenant);
    let items: Vec<Json> = all
        .iter()
        .map(|dashboard| {
            let mut item = head(call, dashboard);
            let content: Json = serde_json::from_str(&dashboard.content).unwrap_or_default();
            item["title"] = content["title"].clone();
            item
        })
        .collect();
    ok(&json!({"items": items, "cursor": null}))
}

pub(super) fn get(call: &Call) -> Result<Reply, Problem> {
    let id = &call.path[2];
    let found = call.app.node.dashboard(&call.principal.tenant, id);
    let dashboard = found.ok_or_else(|| not_found(id))?;
    let mut shown = head(call, &dashboard);
    // It was JSON when it was saved.
    shown["content"] = serde_json::from_str(&dashboard.content).unwrap_or_default();
    let mut reply = ok(&shown)?;
    if let Ok(value) = HeaderValue::from_str(&tag(dashboard.version)) {
        reply.headers_mut().insert(header::ETAG, value);
    }
    Ok(reply)
}

pub(super) async fn put(call: &Call) -> Result<Reply, Problem> {
    let text = str::from_utf8(&call.body)
        .map_err(|_| Problem::invalid("json.malformed", "the dashboard is not UTF-8"))?;
    let content: Box<RawValue> = serde_json::from_str(text)
        .map_err(|error| Problem::invalid("json.malformed", format!("the dashboard is not JSON: {error}")))?;
    if !content.get().trim_start().starts_with('{') {
        let detail = "a dashboard is a JSON object, e.g. {\"title\":\"Wall\",\"panels\":[]}";
        return Err(Problem::invalid("dashboard.not_object", detail));
    }
    let (id, principal) = (&call.path[2], &call.principal);
    let saved = call
        .app
        .node
        .put_dashboard(
            &principal.tenant,
            id,
            &principal.name,
            content.get(),
            if_version(call)?,
        )
        .await;
    saved.map_err(|error| refused(id, error))?;
    get(call)
}

pub(super) async fn remove(call: &Call) -> Result<Reply, Problem> {
    let (id, principal) = (&call.path[2], &call.principal);
    let removed = call
        .app
        .node
        .remove_dashboard(&principal.tenant, id, &principal.name, if_version(call)?)
        .await;
    removed.map_err(|error| refused(id, error))?;
    ok(&json!({"id": id, "removed": true}))
}

/// The version that `If-Match` names; 0 for `If-None-Match: *`, which wants that there is none.
fn if_version(call: &Call) -> Result<Option<u64>, Problem> {
    if call.header(header::IF_NONE_MATCH) == Some("*") {
        return Ok(Some(0));
    }
    match call.header(header::IF_MATCH) {
        None | Some("*") => Ok(None),
        Some(text) => {
            let version = text.trim().trim_matches('"').strip_prefix("version:");
            let version = version.and_then(|version| version.parse().ok());
            version.map(Some).ok_or_else(|| {
                let detail = "If-Match is not an ETag of a dashboard, e.g. \"version:3\"";
                Problem::invalid("query.invalid", detail)
            })
        }
    }
}

fn not_found(id: &str) -> Problem {
    let detail = format!("there is no dashboard {id:?} (see GET /v1/dashboards)");
    Problem::new(StatusCode::NOT_FOUND, "dashboard.not_found", detail)
}

fn refused(id: &str, error: CommandError) -> Problem {
    match error {
        CommandError::NotFound => not_found(id),
        CommandError::RevMismatch { current } => {
            let detail = format!("the dashboard is at version {current} (read it again and decide anew)");
            Problem::new(
                StatusCode::PRECONDITION_FAILED,
                "dashboard.version_mismatch",
                detail,
            )
        }
        CommandError::Invalid(rejection) if rejection.code == "dashboard.not_owner" => {
            Problem::new(StatusCode::FORBIDDEN, rejection.code, rejection.detail)
        }
        other => other.into(),
    }
}
