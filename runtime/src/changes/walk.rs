//! Walks over a tenant's twins: to fill a group, and to find out what a resumed subscription missed.
//!
//! Promises: holds no lock between slices and gives way after each; changes that come meanwhile count more than what
//! the walk saw.

use std::sync::Arc;

use gemba_twins::id::TwinId;

use super::{
    group::{Found, matches},
    hub::TenantHub,
    resume::Place,
    state::Wake,
    subscriber::Resume,
};
use crate::store::StoreError;

/// Twins walked over before giving way.
const SLICE: usize = 256;

/// Fills a group again after it had to be emptied.
pub(super) async fn refill(hub: Arc<TenantHub>, group: u64) {
    if let Err(error) = fill(&hub, group).await {
        hub.lock()
            .fail_group(group, "stream.unavailable", &error.to_string());
    }
}

/// Fills a new subscription's group and finds out what it missed; then it begins.
pub(super) async fn prepare(hub: Arc<TenantHub>, group: u64, subscriber: u64, from: Option<Option<Place>>) {
    let prepared = async {
        fill(&hub, group).await?;
        let newest = hub.folded().to_vec();
        let gone = match &from {
            Some(Some(Place::Seqs(since))) => gone_since(&hub, group, since).await?,
            _ => Vec::new(),
        };
        Ok::<_, StoreError>((newest, gone))
    };
    match prepared.await {
        Ok((newest, gone)) => hub.lock().start(
            subscriber,
            Resume {
                from,
                gone: Vec::new(),
                newest,
            },
            &gone,
        ),
        Err(error) => hub
            .lock()
            .fail(subscriber, "stream.unavailable", error.to_string()),
    }
}

/// Walks over all twins until the group holds those that match.
async fn fill(hub: &Arc<TenantHub>, group: u64) -> Result<(), StoreError> {
    loop {
        let (filling, filter, fields) = {
            let state = hub.lock();
            let (Some(filling), Some(group)) = (state.filling(group), state.group(group)) else {
                return Ok(());
            };
            (filling, group.filter.clone(), group.key.fields.clone())
        };
        for shard in 0..hub.twins.shards() {
            let mut after: Option<TwinId> = None;
            loop {
                let mut found = Vec::new();
                after = hub
                    .twins
                    .slice(shard, &hub.tenant, None, after.as_ref(), SLICE, &mut |twin| {
                        if matches(filter.as_ref(), twin) {
                            found.push(Found::of(twin, fields.as_deref()));
                        }
                    })?;
                if !found.is_empty() {
                    hub.lock().fill(group, filling, found);
                }
                tokio::task::yield_now().await;
                if after.is_none() {
                    break;
                }
            }
        }
        let mut wake = Wake::default();
        hub.lock().filled(group, filling, &mut wake);
        wake.up();
    }
}

/// Twins that changed after these seqs and do not match.
async fn gone_since(hub: &Arc<TenantHub>, group: u64, since: &[u64]) -> Result<Vec<TwinId>, StoreError> {
    let filter = hub.lock().group(group).and_then(|group| group.filter.clone());
    let mut gone = Vec::new();
    if filter.is_none() {
        return Ok(gone);
    }
    for shard in 0..hub.twins.shards() {
        let since = since.get(shard).copied().unwrap_or(u64::MAX);
        let mut after: Option<TwinId> = None;
        loop {
            after = hub
                .twins
                .slice(shard, &hub.tenant, None, after.as_ref(), SLICE, &mut |twin| {
                    if twin.position().seq > since && !matches(filter.as_ref(), twin) {
                        gone.push(twin.id().clone());
                    }
                })?;
            tokio::task::yield_now().await;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(gone)
}
