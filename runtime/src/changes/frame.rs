//! What a subscriber is told, as the JSON text of the public contract.
//!
//! Promises: a frame's body is made once and shared by all subscriptions that are told the same; only the
//! subscription's id is put in for each. Knows nothing of WebSockets.

use std::{fmt::Write, sync::Arc};

use super::{group::Rendered, patch};

/// What a frame says; its `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// The subscription stands, and so many twins match.
    Subscribed,
    /// A twin as it is; replaces what the subscriber has of it.
    Snapshot,
    /// Everything up to now was told; carries the token to resume from. Comes again every few seconds.
    Live,
    /// A twin changed; a merge patch against what this subscriber was last told of it.
    Change,
    /// The filter began to match a twin; its snapshot follows.
    Enter,
    /// The filter ceased to match a twin.
    Leave,
    /// Something could not be told. The subscriber forgets what it has: fresh snapshots follow, then `live`.
    Lost,
    /// The subscription ended, and why.
    Error,
}

impl FrameKind {
    /// The word for it in the frame.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscribed => "subscribed",
            Self::Snapshot => "snapshot",
            Self::Live => "live",
            Self::Change => "change",
            Self::Enter => "enter",
            Self::Leave => "leave",
            Self::Lost => "lost",
            Self::Error => "error",
        }
    }

    /// The kind of a word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let all = [
            Self::Subscribed,
            Self::Snapshot,
            Self::Live,
            Self::Change,
            Self::Enter,
            Self::Leave,
            Self::Lost,
            Self::Error,
        ];
        all.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One frame for one subscription.
#[derive(Debug, Clone)]
pub struct Frame {
    kind: FrameKind,
    /// The subscription's id as a JSON string.
    id: Arc<str>,
    /// What follows the id, up to the closing brace.
    body: Arc<str>,
    resume: Option<Arc<str>>,
    lost: Option<u64>,
}

/// A subscription's id as it stands in its frames: a JSON string.
pub(crate) fn quoted(id: &str) -> Arc<str> {
    let mut quoted = String::new();
    patch::quote(id, &mut quoted);
    quoted.into()
}

impl Frame {
    /// A frame that another node has made, for a subscription here; `None` where it is not whole.
    pub(crate) fn of_parts(
        kind: FrameKind,
        id: &Arc<str>,
        body: String,
        resume: Option<String>,
        lost: Option<u64>,
    ) -> Option<Self> {
        let is_whole = body.starts_with(',') && body.ends_with('}');
        is_whole.then(|| Self {
            kind,
            id: id.clone(),
            body: body.into(),
            resume: resume.map(Into::into),
            lost,
        })
    }

    /// What follows the subscription's id.
    pub(crate) fn body(&self) -> &str {
        &self.body
    }

    /// The twin that it is about, if it is about one.
    pub(crate) fn twin(&self) -> Option<&str> {
        // A twin's name needs no escapes.
        let rest = self.body.strip_prefix(",\"twin\":\"")?;
        rest.split_once('"').map(|(twin, _)| twin)
    }

    /// How many twins match, where it says that the subscription stands.
    pub(crate) fn twins(&self) -> usize {
        let count = self
            .body
            .strip_prefix(",\"twins\":")
            .and_then(|rest| rest.strip_suffix('}'));
        count.and_then(|count| count.parse().ok()).unwrap_or_default()
    }

    pub(super) fn new(kind: FrameKind, id: &Arc<str>, body: Arc<str>) -> Self {
        Self {
            kind,
            id: id.clone(),
            body,
            resume: None,
            lost: None,
        }
    }

    pub(crate) fn live(id: &Arc<str>, resume: String) -> Self {
        let body = format!(",\"resume\":\"{resume}\"}}").into();
        Self {
            kind: FrameKind::Live,
            id: id.clone(),
            body,
            resume: Some(resume.into()),
            lost: None,
        }
    }

    pub(crate) fn error(id: &Arc<str>, code: &str, detail: &str) -> Self {
        let mut body = format!(",\"code\":\"{code}\",\"detail\":");
        patch::quote(detail, &mut body);
        body.push('}');
        Self::new(FrameKind::Error, id, body.into())
    }

    pub(crate) fn subscribed(id: &Arc<str>, twins: usize) -> Self {
        Self::new(FrameKind::Subscribed, id, format!(",\"twins\":{twins}}}").into())
    }

    /// `count` is null where nobody can know how much was lost.
    pub(crate) fn lost(id: &Arc<str>, count: Option<u64>, reason: &str) -> Self {
        let shown = count.map_or_else(|| "null".to_owned(), |count| count.to_string());
        let body = format!(",\"count\":{shown},\"reason\":\"{reason}\"}}").into();
        Self {
            lost: count,
            ..Self::new(FrameKind::Lost, id, body)
        }
    }

    /// What it says.
    #[must_use]
    pub fn kind(&self) -> FrameKind {
        self.kind
    }

    /// The token of a `live` frame.
    #[must_use]
    pub fn resume(&self) -> Option<&str> {
        self.resume.as_deref()
    }

    /// How many revisions a `lost` frame is about, where that is known.
    #[must_use]
    pub fn lost_count(&self) -> Option<u64> {
        self.lost
    }

    /// Its length as text, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        "{\"type\":\"\",\"id\":".len() + self.kind.as_str().len() + self.id.len() + self.body.len()
    }

    /// Whether it has no text; it always has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The frame as the JSON text that goes out.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.len());
        for part in [
            "{\"type\":\"",
            self.kind.as_str(),
            "\",\"id\":",
            &self.id,
            &self.body,
        ] {
            text.push_str(part);
        }
        text
    }
}

/// The body of `enter` and `leave`. A twin's name needs no escapes.
pub(super) fn named(twin: &str) -> Arc<str> {
    format!(",\"twin\":\"{twin}\"}}").into()
}

pub(super) fn snapshot(twin: &str, now: &Rendered) -> Arc<str> {
    format!(
        ",\"twin\":\"{twin}\",\"rev\":{},\"value\":{}}}",
        now.rev, now.text
    )
    .into()
}

pub(super) fn change(twin: &str, before: &Rendered, now: &Rendered) -> Arc<str> {
    let mut body = String::with_capacity(256);
    // Writing to a String cannot fail.
    let _ = write!(body, ",\"twin\":\"{twin}\",\"rev\":{}", now.rev);
    if let Some(at) = now.at {
        let _ = write!(body, ",\"at\":\"{at}\"");
    }
    body.push_str(",\"patch\":");
    patch::write_patch(&before.text, &now.text, &mut body);
    body.push('}');
    body.into()
}
