//! Waiting until a node has what it is asked about.
//!
//! Promises: what is answered after it has recovered misses nothing that was acknowledged before, on this node or, in a
//! cluster, anywhere; what cannot come back is an error and no wait. Knows nothing of how a shard comes back.

use std::sync::{Arc, PoisonError};

use gemba_twins::id::TwinId;

use super::{Node, StartError, StoreError};
use crate::table::TwinTable;

impl Node {
    /// Waits until a twin's shard has recovered, which now goes first; an error where it cannot. In a cluster it waits
    /// until all is folded here that was acknowledged anywhere before.
    pub async fn recovered(&self, id: &TwinId) -> Result<(), StoreError> {
        self.shard_recovered(self.inner.router.shard_of(id)).await
    }

    pub(crate) async fn shard_recovered(&self, number: u16) -> Result<(), StoreError> {
        let shard = usize::from(number);
        let table = &self.inner.twins.tables[shard];
        if let Some(cluster) = &self.inner.cluster {
            table.recovered().await?;
            cluster.catch_up([number]).await?;
            // Another state may be taking its place just now.
            return table.recovered().await;
        }
        if table.is_ready() {
            return Ok(());
        }
        {
            let mut waiting = self
                .inner
                .to_recover
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = waiting.iter().position(|number| usize::from(*number) == shard)
                && let Some(number) = waiting.remove(at)
            {
                waiting.push_front(number);
            }
        }
        table.recovered().await
    }

    /// Waits until plant models and dashboards have recovered; an error where they cannot.
    pub async fn control_recovered(&self) -> Result<(), StoreError> {
        self.inner.control.recovered().await
    }

    /// Waits until all shards that this node keeps have recovered; an error where one cannot.
    pub async fn all_recovered(&self) -> Result<(), StoreError> {
        self.inner.control.recovered().await?;
        let Some(cluster) = &self.inner.cluster else {
            for table in &self.inner.twins.tables {
                table.recovered().await?;
            }
            return Ok(());
        };
        let tables = || {
            self.inner
                .twins
                .tables
                .iter()
                .filter(|table| !table.is_elsewhere())
        };
        for table in tables() {
            table.recovered().await?;
        }
        let elsewhere = cluster.elsewhere();
        let here = cluster.all_shards().filter(|shard| !elsewhere.contains(shard));
        cluster.catch_up(here).await?;
        // Another state may be taking the place of one just now.
        for table in tables() {
            table.recovered().await?;
        }
        Ok(())
    }

    /// Waits until the node is up: its shards have recovered, and in a cluster it is a member that has all that it
    /// keeps. An error where it cannot be.
    pub async fn started(&self) -> Result<(), StartError> {
        let Some(cluster) = &self.inner.cluster else {
            return self.all_recovered().await.map_err(StartError::NotRecovered);
        };
        let mut failed = cluster.failed();
        tokio::select! {
            () = cluster.caught_up() => Ok(()),
            Ok(reason) = failed.wait_for(Option::is_some) => {
                Err(StartError::Cluster(reason.clone().unwrap_or_default()))
            }
        }
    }

    /// Whether all shards have recovered and the storage answers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let is_here = |table: &Arc<TwinTable>| table.is_ready() || table.is_elsewhere();
        is_here(&self.inner.control)
            && self.inner.twins.tables.iter().all(is_here)
            && self.takes_part()
            && !self.storage_failed()
    }

    /// Shards that have recovered, and all of them.
    #[must_use]
    pub fn shards_recovered(&self) -> (usize, usize) {
        let tables = &self.inner.twins.tables;
        (
            tables.iter().filter(|table| table.is_ready()).count(),
            tables.iter().filter(|table| !table.is_elsewhere()).count(),
        )
    }
}
