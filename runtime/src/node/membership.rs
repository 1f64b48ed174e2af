//! What a node tells of its cluster, and what can be asked of it there.
//!
//! Promises: a node that is alone says so. Knows nothing of who may ask.

use std::sync::{Arc, atomic::Ordering};

use gemba_cluster::Journal;
use gemba_twins::id::{TenantId, TwinId};

use super::{Health, Inner, Node, StartError};
pub use crate::cluster::{
    Calls, ClusterView, DrainError, Draining, Following, NodeView, PassedCall, PassedReply, ShardView, Wanted,
};
use crate::{
    changes::{Spec, SubscribeError},
    cluster::{Cluster, Keeping, Membership, is_member},
    history::Chunk,
    shard::{Router, Shared},
    store::StoreError,
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

    /// The twins that a search looks at, as they are now: where other nodes keep some of them, these are asked.
    pub async fn twins_together(&self, wanted: &Wanted) -> Result<Arc<Twins>, StoreError> {
        match &self.inner.cluster {
            Some(cluster) => cluster.together(wanted).await,
            None => {
                self.all_recovered().await?;
                Ok(self.inner.twins.clone())
            }
        }
    }

    /// An error where other nodes keep a twin's shard: its calls are passed on, see [`Node::pass_on`].
    pub fn keeps(&self, id: &TwinId) -> Result<(), StoreError> {
        let shard = self.inner.router.shard_of(id);
        if self.inner.twins.tables[usize::from(shard)].is_elsewhere() {
            return Err(StoreError::Elsewhere { shard });
        }
        Ok(())
    }

    /// As [`Node::keeps`], of the shard that keeps a tenant's rejected messages.
    pub fn keeps_rejected(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let shard = self.inner.router.rejected_shard(tenant);
        if self.inner.twins.tables[usize::from(shard)].is_elsewhere() {
            return Err(StoreError::Elsewhere { shard });
        }
        Ok(())
    }

    /// Has a call answered by a node that keeps the shard that it is about.
    pub async fn pass_on(&self, shard: u16, call: PassedCall) -> Result<PassedReply, StoreError> {
        match &self.inner.cluster {
            Some(cluster) => cluster.pass_on(shard, call).await,
            None => Err(StoreError::Elsewhere { shard }),
        }
    }

    /// Names who answers calls that other nodes pass on; only the first one counts.
    pub fn set_calls(&self, calls: Arc<dyn Calls>) {
        if let Some(cluster) = &self.inner.cluster {
            cluster.set_calls(calls);
        }
    }

    /// Opens a subscription to a tenant's twins, of all nodes of the cluster.
    pub fn follow(&self, tenant: &TenantId, spec: Spec) -> Result<Following, SubscribeError> {
        Following::open(&self.inner.hub, self.inner.cluster.clone(), tenant, spec)
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

impl Inner {
    /// What other nodes have of a shard's events within seqs that the journal here does not go back to. Blocks.
    pub(super) fn past(&self, shard: u16, from: u64, to: u64) -> Result<Option<Chunk>, String> {
        let Some(cluster) = &self.cluster else {
            return Ok(None);
        };
        if self.stopping.load(Ordering::Acquire) {
            return Err("the node stops".into());
        }
        tokio::runtime::Handle::current().block_on(cluster.past(shard, from, to))
    }
}
