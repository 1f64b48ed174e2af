//! Uploads of a node: loaded in the background once the node is up.

use std::sync::Arc;

use tracing::error;

use super::{Node, StartError};
use crate::uploads;

impl Node {
    /// Loads what was uploaded, for as long as the node lives.
    pub(super) fn load_uploads(&self) {
        let (node, uploads, ingest) = (
            Arc::downgrade(&self.inner),
            self.inner.uploads.clone(),
            self.inner.ingest.clone(),
        );
        let recovering = self.clone();
        tokio::spawn(async move {
            // Messages are bound by the plant model, so the control shard has to be there first. Shards that other
            // nodes keep are none of this one's business.
            match recovering.started().await {
                Ok(()) => {}
                // The node ends, and says why.
                Err(StartError::Cluster(_)) => return,
                Err(problem) => {
                    error!(%problem, "uploads are not loaded");
                    return;
                }
            }
            drop(recovering);
            uploads::run(uploads, ingest, node).await;
        });
    }
}
