//! Uploads of a node: loaded in the background once all shards have recovered.

use std::sync::Arc;

use tracing::error;

use super::Node;
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
            // Messages are bound by the plant model, so the control shard has to be there first.
            if let Err(problem) = recovering.all_recovered().await {
                error!(%problem, "uploads are not loaded");
                return;
            }
            drop(recovering);
            uploads::run(uploads, ingest, node).await;
        });
    }
}
