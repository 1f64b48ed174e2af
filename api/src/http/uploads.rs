//! Calls about files that come in parts: tables to load, and attachments of twins.
//!
//! Promises: parts go by tus.io's core protocol (`Upload-Offset`, 409 with the right one); what another tenant uploaded
//! answers as if it did not exist; an attachment is never shown as part of a page, whatever it holds.

use std::sync::Arc;

use gemba_runtime::uploads::{NewUpload, Purpose, Upload, UploadError};
use gemba_twins::id::{Kind, TwinId};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use warp::http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::{
    problem::{Problem, Reply},
    routes::{self, Call, ok},
    twins,
};

const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
/// The media type of a part.
const PART: &str = "application/offset+octet-stream";

/// An upload as it is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    name: String,
    size: u64,
    media_type: Option<String>,
    map: Option<String>,
    twin: Option<String>,
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        let detail = error.to_string();
        match error {
            UploadError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "upload.not_found", detail),
            UploadError::Invalid { code, .. } => Self::invalid(code, detail),
            UploadError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "upload.too_large", detail),
            UploadError::Offset { .. } => Self::new(StatusCode::CONFLICT, "upload.offset", detail),
            UploadError::Storage(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage.unavailable", detail)
            }
        }
    }
}

fn link(upload: &Upload) -> String {
    format!("/v1/uploads/{}", upload.meta.id)
}

fn shown(upload: &Upload) -> Json {
    let (meta, state) = (&upload.meta, upload.state());
    let mut json = json!({
        "id": meta.id,
        "name": meta.name,
        "media_type": meta.media_type,
        "size": meta.size,
        "offset": state.offset,
        "state": state.phase.as_str(),
        "by": meta.by,
        "created_at": meta.created_at,
        "changed_at": state.changed_at,
        "links": {"self": link(upload)},
    });
    match &meta.purpose {
        Purpose::Load { format, .. } => {
            let counts = state.counts;
            json["format"] = json!(format.as_str());
            json["line"] = json!(state.line);
            json["rows"] = json!({
                "read": counts.rows(), "accepted": counts.accepted, "duplicates": counts.duplicates,
                "rejected": counts.rejected, "empty": counts.empty,
            });
            json["notes"] = json!(state.notes);
            json["links"]["rejected"] = json!(format!("{}/rejected", link(upload)));
        }
        Purpose::Attach { twin, media_type } => {
            let twin = format!("{}/{}", twin.0.as_str(), twin.1);
            json["links"]["content"] = json!(format!("/v1/twins/{twin}/attachments/{}", meta.id));
            json["twin"] = json!(twin);
            json["media_type"] = json!(media_type);
        }
    }
    if let Some(same) = &state.same_as {
        json["same_as"] = json!(same);
    }
    if let Some((code, detail)) = &state.problem {
        json["problem"] = json!({"code": code, "detail": detail});
    }
    json
}

/// Sets what a client of tus.io looks for.
fn with_offset(mut reply: Reply, upload: &Upload, offset: u64) -> Reply {
    let set = reply.headers_mut();
    set.insert(UPLOAD_OFFSET, offset.into());
    set.insert(UPLOAD_LENGTH, upload.meta.size.into());
    set.insert(TUS_RESUMABLE, HeaderValue::from_static("1.0.0"));
    reply
}

fn found(call: &Call) -> Result<Arc<Upload>, Problem> {
    Ok(call
        .app
        .node
        .uploads()
        .get(&call.principal.tenant, &call.path[2])?)
}

pub(super) async fn create(call: &Call) -> Result<Reply, Problem> {
    let asked: Asked = serde_json::from_slice(&call.body).map_err(|error| {
        let detail = format!("{error} (send {{\"name\":…,\"size\":…,\"map\":…}}, or twin in place of map)");
        Problem::invalid("upload.invalid", detail)
    })?;
    let twin = match &asked.twin {
        None => None,
        Some(text) => Some(known_twin(call, text).await?),
    };
    let new = NewUpload {
        name: asked.name,
        size: asked.size,
        media_type: asked.media_type,
        map: asked.map,
        twin,
        by: call.principal.name.to_string(),
    };
    let upload = call
        .app
        .node
        .uploads()
        .create(&call.principal.tenant, new)
        .await?;
    let body = shown(&upload).to_string().into_bytes();
    let mut reply = with_offset(routes::json(StatusCode::CREATED, body), &upload, 0);
    if let Ok(place) = HeaderValue::from_str(&link(&upload)) {
        reply.headers_mut().insert(header::LOCATION, place);
    }
    Ok(reply)
}

/// The twin of an attachment, which has to be there.
async fn known_twin(call: &Call, text: &str) -> Result<(Kind, Box<str>), Problem> {
    let wrong = |detail: String| Problem::invalid("twin.id_invalid", detail);
    let (kind, id) = text
        .split_once('/')
        .ok_or_else(|| wrong(format!("twin {text:?} is not of the form machine/cnc-07")))?;
    let kind = Kind::parse(kind).map_err(|error| Problem::invalid("twin.kind_invalid", error.to_string()))?;
    let twin =
        TwinId::new(call.principal.tenant.clone(), kind, id).map_err(|error| wrong(error.to_string()))?;
    twins::exists_anywhere(call, &twin).await?;
    Ok((kind, id.into()))
}

pub(super) async fn append(call: &Call) -> Result<Reply, Problem> {
    let upload = found(call)?;
    let kind = call.header(header::CONTENT_TYPE).unwrap_or_default();
    if kind != PART {
        let detail = format!("a part is of type {PART}, not {kind:?}");
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "body.type_unsupported",
            detail,
        ));
    }
    let offset = call.header(UPLOAD_OFFSET).and_then(|text| text.parse().ok());
    let offset = offset.ok_or_else(|| {
        Problem::invalid(
            "upload.offset_missing",
            "the header Upload-Offset has to say where the part begins",
        )
    })?;
    let (tenant, id) = (&call.principal.tenant, &call.path[2]);
    let taken = call
        .app
        .node
        .uploads()
        .append(tenant, id, offset, call.body.clone())
        .await;
    match taken {
        Ok(offset) => {
            let mut reply = Response::new(Default::default());
            *reply.status_mut() = StatusCode::NO_CONTENT;
            Ok(with_offset(reply, &upload, offset))
        }
        Err(UploadError::Offset { at }) => {
            let problem = Problem::from(UploadError::Offset { at });
            Ok(with_offset(problem.response(), &upload, at))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn get(call: &Call) -> Result<Reply, Problem> {
    let upload = found(call)?;
    let offset = upload.state().offset;
    Ok(with_offset(ok(&shown(&upload))?, &upload, offset))
}

pub(super) fn list(call: &Call) -> Result<Reply, Problem> {
    let all = call.app.node.uploads().list(&call.principal.tenant);
    let items: Vec<Json> = all.iter().map(|upload| shown(upload)).collect();
    ok(&json!({"items": items, "cursor": null}))
}

pub(super) async fn remove(call: &Call) -> Result<Reply, Problem> {
    let id = &call.path[2];
    call.app.node.uploads().remove(&call.principal.tenant, id).await?;
    ok(&json!({"id": id, "removed": true}))
}

pub(super) async fn rejected(call: &Call) -> Result<Reply, Problem> {
    let upload = found(call)?;
    let limit = call.number("limit", 100, 1_000)?;
    let skip: usize = match call.query("cursor") {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| Problem::invalid("cursor.invalid", format!("cursor {text:?} is not one of ours")))?,
    };
    let rows = read(move || upload.rejected(skip, limit + 1)).await?;
    let cursor = (rows.len() > limit).then(|| (skip + limit).to_string());
    let items: Vec<Json> = rows
        .iter()
        .take(limit)
        .map(|row| json!({"line": row.line, "code": row.code, "detail": row.detail, "row": row.row}))
        .collect();
    ok(&json!({"items": items, "cursor": cursor}))
}

async fn read<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked.to_string())));
    Ok(done.map_err(UploadError::Storage)?)
}

pub(super) async fn attachments(call: &Call) -> Result<Reply, Problem> {
    let items: Vec<Json> = attached(call).await?.iter().map(|upload| shown(upload)).collect();
    ok(&json!({"items": items, "cursor": null}))
}

async fn attached(call: &Call) -> Result<Vec<Arc<Upload>>, Problem> {
    let twin = twins::twin_id(call)?;
    twins::exists_anywhere(call, &twin).await?;
    let uploads = call.app.node.uploads();
    Ok(uploads.attachments(&call.principal.tenant, twin.kind(), twin.id()))
}

pub(super) async fn attachment(call: &Call) -> Result<Reply, Problem> {
    let id = &call.path[5];
    let found = attached(call)
        .await?
        .into_iter()
        .find(|upload| upload.meta.id == *id);
    let upload = found.ok_or_else(|| {
        let detail = format!("the twin has no attachment {id:?} (see GET …/attachments)");
        Problem::new(StatusCode::NOT_FOUND, "attachment.not_found", detail)
    })?;
    let own = upload.clone();
    let content = read(move || own.content()).await?;
    let Purpose::Attach { media_type, .. } = upload.meta.purpose else {
        return Err(Problem::from(UploadError::NotFound(id.clone())));
    };
    let mut reply = Response::new(content.into());
    let set = reply.headers_mut();
    set.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    set.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
    if let Ok(disposition) = HeaderValue::from_str(&disposition(&upload.meta.name)) {
        set.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(reply)
}

/// A download under the file's name (RFC 6266), whatever characters it has.
fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ') {
                c
            } else {
                '_'
            }
        })
        .collect();
    let encoded = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}
