//! Changes: what subscribers are told after a fold.
//!
//! Promises: a subscription is told each twin that matches, then every change of it, merged (`latest`) or one by one
//! (`every`); what cannot be told is said as `lost`, never left out silently. A slow subscriber holds up nobody and
//! takes bounded memory; a shard only hands over what changed and goes on. Tenants never mix. Knows nothing of
//! WebSockets. Read `state.rs` first: it decides everything; `hub.rs` has the tasks and locks.
//!
//! A client's rules: `snapshot` replaces what it has of a twin, `change` is a merge patch on it, `leave` removes it,
//! `lost` removes everything. `live` says that the snapshots are complete, and comes again every few seconds with a
//! fresh token. Members that are null are left out of values, because a merge patch cannot carry them.

mod frame;
mod group;
mod hub;
mod inbox;
mod index;
mod metrics;
mod patch;
mod projection;
mod resume;
mod revision;
mod state;
mod subscriber;
mod subscription;
#[cfg(test)]
mod tests;
mod walk;

use std::{sync::Arc, time::Duration};

use thiserror::Error;

pub(crate) use self::{frame::quoted, resume::merge as merge_tokens};
pub use self::{
    frame::{Frame, FrameKind},
    hub::Hub,
    projection::project,
    subscription::Subscription,
};
use crate::filter::Filter;

/// The limits of subscriptions.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Most subscriptions of a node.
    pub subscriptions_max: usize,
    /// Most revisions of an `every` subscription that are kept for those who are slow or come back.
    pub revisions_kept: usize,
    /// Most bytes of them.
    pub revisions_kept_bytes: usize,
    /// Most revisions, over all twins of a tenant, that wait to be looked at; beyond it they are lost, and said to be.
    pub revisions_waiting: usize,
    /// Most bytes of them.
    pub revisions_waiting_bytes: usize,
    /// Most bytes kept of what a slow `latest` subscriber has; beyond it, it is told snapshots instead of patches.
    pub kept_bytes: usize,
    /// Flushes per second of a subscription that asks for nothing else.
    pub max_rate_hz: f64,
    /// Frames made at a time, so that the tenant's other subscriptions get their turns.
    pub frames_at_a_time: usize,
    /// How often a subscription is told a fresh token.
    pub token_every: Duration,
    /// How long revisions are kept after the last `every` subscription to them ended.
    pub linger: Duration,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            subscriptions_max: 20_000,
            revisions_kept: 4_096,
            revisions_kept_bytes: 4 << 20,
            revisions_waiting: 65_536,
            revisions_waiting_bytes: 64 << 20,
            kept_bytes: 256 << 10,
            // 10 ms: five times below what a person sees, and it caps what a busy plant costs per subscriber.
            max_rate_hz: 100.0,
            frames_at_a_time: 64,
            token_every: Duration::from_secs(10),
            linger: Duration::from_secs(60),
        }
    }
}

/// Whether a tenant's subscribers want to hear of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wants {
    /// There are none.
    None,
    /// Only the newest state.
    Latest,
    /// Each revision.
    Every,
}

/// How a subscriber wants its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// What it has not taken yet is merged: newest state, bounded memory.
    #[default]
    Latest,
    /// Each revision in order.
    Every,
}

/// What a subscriber asks for.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// The subscriber's name for the subscription; in every frame.
    pub id: String,
    /// Only twins that match.
    pub filter: Option<Arc<Filter>>,
    /// Only these fields, as dotted paths; all where absent or empty.
    pub fields: Option<Vec<String>>,
    /// How changes come.
    pub mode: Mode,
    /// Most flushes per second, held over a tenth of a second; what changes between two of them comes together.
    pub max_rate_hz: Option<f64>,
    /// The token of an earlier subscription to the same.
    pub resume: Option<String>,
}

/// Why there is no subscription.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct SubscribeError {
    /// For programs: `fields.invalid`, `rate.invalid`, `resume.invalid`, `subscription.invalid`, `stream.too_many`,
    /// `stream.unavailable`.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}
