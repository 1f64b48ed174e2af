//! Changes: what subscribers are told after a fold.
//!
//! Promises: a subscription sees a snapshot of each twin that matches, then every change of it, merged (`latest`) or
//! one by one (`every`); what cannot be delivered is said as `lost`, never left out silently. A slow subscriber holds
//! up nobody and takes bounded memory. Tenants never mix. Knows nothing of WebSockets.

mod hub;
mod patch;
mod subscription;

use std::sync::Arc;

use serde_json::Value;
use thiserror::Error;

use crate::filter::Filter;
pub use self::{hub::Hub, patch::project, subscription::Subscription};

/// The limits of subscriptions.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Most subscriptions of a node.
    pub subscriptions_max: usize,
    /// Most revisions that wait for one `every` subscription; beyond it they are lost, and said to be.
    pub revisions_waiting: usize,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self { subscriptions_max: 20_000, revisions_waiting: 4_096 }
    }
}

/// Whether a tenant's subscribers want to hear of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// There are none.
    None,
    /// Only the newest state.
    Latest,
    /// Each revision.
    Every,
}

/// How a subscriber wants its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
    /// Only twins that match.
    pub filter: Option<Arc<Filter>>,
    /// Only these fields, as dotted paths; all where absent.
    pub fields: Option<Vec<String>>,
    /// How changes come.
    pub mode: Mode,
    /// Most changes of one flush per second; as fast as they come where absent.
    pub max_rate_hz: Option<f64>,
    /// Where an earlier subscription ended.
    pub resume: Option<String>,
}

/// Why there is no subscription.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct SubscribeError {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

/// One thing a subscriber is told; the words of the public contract.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// The subscription stands; so many twins match.
    Subscribed {
        /// Twins that match now.
        twins: usize,
    },
    /// A twin as it is.
    Snapshot {
        /// `kind/id`.
        twin: Arc<str>,
        /// Its revision.
        rev: u64,
        /// Its JSON, or the fields asked for.
        value: Arc<Value>,
    },
    /// All snapshots are told; from here on changes come.
    Live {
        /// What to resume from.
        resume: String,
    },
    /// What changed against what this subscriber has.
    Change {
        /// `kind/id`.
        twin: Arc<str>,
        /// Its revision now.
        rev: u64,
        /// The newest event's time.
        at: Option<gemba_twins::time::Timestamp>,
        /// A merge patch (RFC 7396).
        patch: Value,
    },
    /// The filter began to match.
    Enter {
        /// `kind/id`.
        twin: Arc<str>,
    },
    /// The filter ceased to match.
    Leave {
        /// `kind/id`.
        twin: Arc<str>,
    },
    /// So many revisions could not be told; fresh snapshots follow.
    Lost {
        /// How many.
        count: u64,
        /// Why.
        reason: &'static str,
    },
}
