//! The checkpoint's channels on this node: one for each tenant, shard and table, as tenants come.
//!
//! Promises: a channel is begun within a second of its tenant's first twin; until then the journal keeps what there is.

use std::{
    sync::{Arc, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use gemba_cluster::{Journal, ShardId};
use gemba_twins::id::TenantId;

use super::{Inner, Node, ReadError, StartError, read::blocking};
use crate::{
    checkpoint::{ChannelState, ChannelView, Checkpoint, received_after},
    settings::NodeSettings,
};

/// How often the metrics are set.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// The checkpoint that the settings ask for.
pub(super) fn of(settings: &NodeSettings, journal: &Journal) -> Result<Option<Arc<Checkpoint>>, StartError> {
    let Some(snowflake) = &settings.snowflake else {
        return Ok(None);
    };
    let root = settings.data_dir.join("checkpoint");
    let history = settings.history.folder.clone();
    let made = Checkpoint::new(snowflake.clone(), journal.clone(), root, history);
    made.map(|checkpoint| Some(Arc::new(checkpoint)))
        .map_err(StartError::Checkpoint)
}

/// Begins channels as tenants come, and measures, for as long as the node runs.
pub(super) async fn run(node: Weak<Inner>, checkpoint: Arc<Checkpoint>) {
    let mut turns = tokio::time::interval(Checkpoint::SURVEY_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut measured = crate::clock::instant();
    loop {
        turns.tick().await;
        let Some(inner) = node.upgrade() else { return };
        if inner.stopping.load(Ordering::Acquire) {
            return;
        }
        for shard in 0..inner.settings.shards {
            inner.begin_channels(shard, &checkpoint, &node);
        }
        if measured.elapsed() >= MEASURE_EVERY {
            measured = crate::clock::instant();
            let checkpoint = checkpoint.clone();
            // It reads the journal; a panic has been printed, and the next one measures again.
            let _ = tokio::task::spawn_blocking(move || checkpoint.measure()).await;
        }
    }
}

impl Inner {
    fn begin_channels(&self, shard: u16, checkpoint: &Arc<Checkpoint>, node: &Weak<Self>) {
        let table = &self.twins.tables[usize::from(shard)];
        if !table.is_ready() {
            return;
        }
        let folded = self.twins.folded_seq(usize::from(shard));
        let twins = table.map.read().unwrap_or_else(PoisonError::into_inner).len();
        if !checkpoint.wants_survey(shard, twins, folded) {
            return;
        }
        for lane in checkpoint.survey(shard, self.tenants_of(shard), twins, folded) {
            let node = node.clone();
            let until = move || Some(node.upgrade()?.twins.folded_seq(usize::from(shard)));
            tokio::spawn(checkpoint.clone().work(lane, until));
        }
    }
}

impl Node {
    /// How a tenant's history stands at each of its destinations: the files of each shard, then the channels.
    pub async fn checkpoints(&self, tenant: &TenantId) -> Result<Vec<ChannelView>, ReadError> {
        let (inner, tenant) = (self.inner.clone(), tenant.clone());
        blocking(move || Ok(inner.checkpoints(&tenant))).await
    }
}

impl Inner {
    fn checkpoints(&self, tenant: &TenantId) -> Vec<ChannelView> {
        let now = crate::clock::now();
        let state = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let written: Vec<(u16, u64)> = state.written().collect();
        drop(state);
        let files = written.into_iter().map(|(shard, written)| {
            let newest = self.journal.last_seq(ShardId::new(shard)).get();
            let mut view = ChannelView::of_files(shard);
            view.state = ChannelState::Running;
            (view.committed_seq, view.sent_seq, view.clear_to) = (written, written, written);
            view.at(newest, received_after(&self.journal, shard, written), now)
        });
        let mut all: Vec<ChannelView> = files.collect();
        if let Some(checkpoint) = &self.checkpoint {
            all.extend(checkpoint.channels(Some(tenant)));
        }
        all
    }
}
