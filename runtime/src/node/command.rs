//! Why a wish of a person or a program was not carried out.
//!
//! Promises: says what holds now, so that the caller can decide anew. Knows nothing of status codes.

use gemba_twins::alarm::{AlarmRefused, AlarmState};
use thiserror::Error;

use crate::decode::Rejection;

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CommandError {
    /// There is no such twin.
    #[error("there is no such twin")]
    NotFound,
    /// The twin is at another revision than the caller thought.
    #[error("the twin is at revision {current}")]
    RevMismatch {
        /// Its revision now.
        current: u64,
    },
    /// The alarm is in another state than the caller thought.
    #[error("the alarm is {}", .current.as_str())]
    StateMismatch {
        /// Its state now.
        current: AlarmState,
    },
    /// The alarm's state does not allow it.
    #[error("{0}")]
    Alarm(AlarmRefused),
    /// The input cannot be carried out.
    #[error("{}", .0.detail)]
    Invalid(Rejection),
    /// Too much is under way.
    #[error("the node is busy (try again in a second)")]
    Busy,
    /// The shard is changing its owner.
    #[error("the shard is changing its owner (nothing was changed; try again)")]
    Moved,
    /// The storage is not available.
    #[error("storage is not available: {0} (nothing was changed; try again)")]
    Unavailable(String),
}
