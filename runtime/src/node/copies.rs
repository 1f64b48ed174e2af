//! The history's files on their way into an object store, for as long as the node runs.
//!
//! Promises: what could not be copied is said, counted and tried again; nothing waits for it.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use super::{Inner, StartError};
use crate::{history::Copier, metric_definitions as names, settings::NodeSettings};

/// Between two looks for files that the store lacks.
const EVERY: Duration = Duration::from_secs(30);

/// The copies that the settings ask for; those of node `node` of a cluster stand apart.
pub(super) fn of(settings: &NodeSettings, node: Option<u64>) -> Result<Option<Arc<Copier>>, StartError> {
    let history = &settings.history;
    let (Some(copies), Some(root)) = (&history.copies, &history.folder) else {
        return Ok(None);
    };
    Copier::new(copies, root.clone(), node)
        .map(|copier| Some(Arc::new(copier)))
        .map_err(StartError::Copies)
}

/// Copies now and then.
pub(super) async fn run(node: Weak<Inner>) {
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let Some(inner) = node.upgrade() else { return };
        if inner.stopping.load(Ordering::Acquire) {
            return;
        }
        inner.copy_history().await;
    }
}

impl Inner {
    /// Copies what the store lacks.
    pub(super) async fn copy_history(&self) {
        let Some(copier) = &self.copier else { return };
        if let Err(error) = copier.round().await {
            metrics::counter!(names::HISTORY_COPY_FAILED).increment(1);
            tracing::warn!(%error, "the history's files are not all copied; trying again");
        }
    }
}
