//! What a node tells of its cluster, and what can be asked of it there.
//!
//! Promises: a node that is alone says so. Knows nothing of who may ask.

use std::sync::Arc;

use gemba_cluster::Journal;

use super::{Health, Node, StartError};
pub use crate::cluster::{ClusterView, DrainError, Draining, NodeView, ShardView};
use crate::{
    cluster::{Cluster, Keeping, Membership, is_member},
    shard::{Router, Shared},
    table::{TwinTable, Twins},
};

/// Takes the node's place in its cluster, where it is to be in one; its twins and the control shard are `tables`.
pub(super) async fn of(
    shared: Shared,
    journal: &Journal,
    router: Arc<Router>,
    tables: (Arc<Twins>, Arc<TwinTable>),
    health: &Arc<Health>,
) -> Result<Membership, StartError> {
    let Some(member) = shared.settings.cluster.clone() else {
        if is_member(journal) {
            let detail = "the data folder is of a member of a cluster (start it with --cluster-listen and its certificates)";
            return Err(StartError::Cluster(detail.into()));
        }
        return Ok(None);
    };
    let hub = shared.hub.clone();
    let (twins, control) = tables;
    let keeping = Keeping::new(shared, journal.clone(), router, twins, control, health.clone());
    let cluster = Cluster::open(member, keeping)
        .await
        .map_err(StartError::Cluster)?;
    // All nodes of a cluster give the same seqs, so a subscription goes on at any of them.
    hub.set_origin(xxhash_rust::xxh3::xxh3_64(cluster.name.as_bytes()));
    Ok(Some(cluster))
}

impl Node {
    /// Whether it has caught up with its cluster and knows all owners of it; a node that is alone does.
    pub(super) fn takes_part(&self) -> bool {
        let has_owners = |cluster: &Arc<Cluster>| cluster.is_caught_up() && cluster.without_owner() == 0;
        self.inner.cluster.as_ref().is_none_or(has_owners)
    }

    /// Takes messages once the plant models are here, by which they are bound.
    pub(super) fn open_when_caught_up(&self, cluster: Arc<Cluster>) {
        self.inner.ingest.shut();
        let ingest = self.inner.ingest.clone();
        tokio::spawn(async move {
            cluster.caught_up().await;
            ingest.open();
        });
    }

    /// How the cluster stands; `None` for a node that is alone. `hashes` adds a hash of the twins of each shard that this
    /// node keeps: nodes that folded the same events answer the same.
    pub async fn cluster(&self, hashes: bool) -> Option<ClusterView> {
        match &self.inner.cluster {
            Some(cluster) => Some(cluster.view(hashes).await),
            None => None,
        }
    }

    /// Has a node give its shards away and leave; to be called until it has left.
    pub async fn drain(&self, node: u64) -> Result<Draining, DrainError> {
        let cluster = self.inner.cluster.as_ref().ok_or(DrainError::Alone)?;
        cluster.drain(node).await
    }

    /// The node's number in its cluster; `None` for a node that is alone.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.inner.cluster.as_ref().map(|cluster| cluster.node)
    }

    /// Whether this node is the one that runs what runs on one node at a time, and each change of it.
    #[must_use]
    pub fn holds(&self) -> tokio::sync::watch::Receiver<bool> {
        self.inner.router.holds()
    }

    /// Whether each shard that this node keeps has an owner that it knows.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        let cluster = self.inner.cluster.as_ref();
        cluster.is_none_or(|cluster| cluster.without_owner() == 0)
    }
}
