//! Errors as RFC 9457 `application/problem+json`, each with a code that programs may rely on.

use gemba_runtime::{
    decode::Rejection,
    filter::{FilterError, SearchError},
    node::{CommandError, ReadError, StoreError},
};
use gemba_twins::alarm::AlarmRefused;
use serde_json::json;
use warp::http::{HeaderValue, Response, StatusCode, header};

/// What a caller is told when something is not done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) detail: String,
    /// The shard that it is about, where other nodes keep that.
    pub(super) elsewhere: Option<u16>,
}

pub(super) type Reply = Response<warp::hyper::body::Bytes>;

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            elsewhere: None,
        }
    }

    pub(super) fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "twin.not_found",
            format!("there is no {what} (see GET /v1/twins)"),
        )
    }

    pub(super) fn busy() -> Self {
        let detail = "too much is under way (send it again after Retry-After)";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "ingest.busy", detail)
    }

    pub(super) fn response(&self) -> Reply {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        let mut response = Response::new(body.to_string().into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let detail = error.to_string();
        match error {
            CommandError::NotFound => Self::not_found("such twin"),
            CommandError::RevMismatch { .. } => {
                let detail = format!("{detail} (read it again and decide anew)");
                Self::new(StatusCode::PRECONDITION_FAILED, "twin.rev_mismatch", detail)
            }
            CommandError::StateMismatch { .. } => {
                let detail = format!("{detail} (read it again and decide anew)");
                Self::new(StatusCode::PRECONDITION_FAILED, "alarm.state_mismatch", detail)
            }
            CommandError::Alarm(refused @ AlarmRefused::Unknown) => {
                Self::new(StatusCode::NOT_FOUND, refused.code(), detail)
            }
            CommandError::Alarm(refused) => Self::new(StatusCode::CONFLICT, refused.code(), detail),
            CommandError::Invalid(Rejection { code, .. }) => Self::invalid(code, detail),
            CommandError::Busy => Self::busy(),
            CommandError::Moved => Self::new(StatusCode::SERVICE_UNAVAILABLE, "shard.no_owner", detail),
            CommandError::Unavailable(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage.unavailable", detail)
            }
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let detail = error.to_string();
        match error {
            ReadError::Trimmed { .. } => Self::new(StatusCode::GONE, "history.trimmed", detail),
            ReadError::Damaged(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "journal.damaged", detail),
            ReadError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let (status, code) = match &error {
            StoreError::SetAside { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "twin.set_aside"),
            StoreError::Damaged { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "state.damaged"),
            StoreError::NoOwner { .. } | StoreError::Elsewhere { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "shard.no_owner")
            }
            StoreError::TooWide { .. } => (StatusCode::BAD_REQUEST, "filter.too_wide"),
            StoreError::NotRecovered | StoreError::Unknown { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "state.unavailable")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "state.unavailable"),
        };
        Self {
            elsewhere: match error {
                StoreError::Elsewhere { shard } => Some(shard),
                _ => None,
            },
            ..Self::new(status, code, error.to_string())
        }
    }
}

impl From<FilterError> for Problem {
    fn from(error: FilterError) -> Self {
        let place = match error.position {
            Some(position) if !error.detail.contains(" at character ") => {
                format!(" at character {}", position + 1)
            }
            _ => String::new(),
        };
        Self::invalid(error.code, error.detail + &place)
    }
}

impl From<SearchError> for Problem {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Cursor => Self::invalid("cursor.invalid", error.to_string()),
            SearchError::Sort(_) => Self::invalid("sort.invalid", error.to_string()),
            SearchError::Store(error) => error.into(),
        }
    }
}
