//! The backup of a shard, piece by piece.
//!
//! Promises: a backup holds what all tenants have, so it is given only where there is one; the pieces of a shard, one
//! after the other, are its file.

use gemba_runtime::node::BackupError;
use warp::http::{HeaderValue, Response, StatusCode, header};

use super::{
    problem::{Problem, Reply},
    routes::Call,
};

/// The header that says where the next piece begins; without it there is none.
pub(super) const PLACE: &str = "gemba-backup-place";

pub(super) async fn piece(call: &Call) -> Result<Reply, Problem> {
    if call.app.keyring.tenants() > 1 {
        let detail =
            "a backup holds what all tenants have, and the keys are of several (back up the volumes instead)";
        return Err(Problem::new(StatusCode::FORBIDDEN, "backup.tenants", detail));
    }
    let piece = call.app.node.backup(&call.path[2], call.query("place")).await?;
    let mut response = Response::new(piece.bytes.into());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    if let Some(next) = piece.next.and_then(|next| HeaderValue::try_from(next).ok()) {
        headers.insert(PLACE, next);
    }
    Ok(response)
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        let detail = error.to_string();
        match error {
            BackupError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "shard.not_found", detail),
            BackupError::Gone => Self::new(StatusCode::GONE, "backup.gone", detail),
            BackupError::TooMany => Self::new(StatusCode::TOO_MANY_REQUESTS, "backup.too_many", detail),
            BackupError::Read(error) => error.into(),
        }
    }
}
