//! The checkpoint's places on this node: one for each tenant, shard and table, as tenants come.
//!
//! Promises: a place is begun within a second of its tenant's first twin; until then the journal keeps what there is.

use std::{
    sync::{Arc, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use gemba_cluster::{Journal, ShardId};
use gemba_twins::id::TenantId;

use super::{Inner, Node, ReadError, StartError, read::blocking};
use crate::{
    checkpoint::{
        ChannelState, ChannelView, Checkpoint, LEVELS, TwinNow, TwinReader, Wanted, Writer, received_after,
    },
    settings::NodeSettings,
    store::StoreError,
};

/// How often the metrics are set.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
const DAY_MS: i64 = 86_400_000;

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
            if let Some(cluster) = &inner.cluster {
                let floors = cluster.floors_elsewhere(0..inner.settings.shards).await;
                for (shard, floor) in floors {
                    checkpoint.hear_floor(shard, floor);
                }
            }
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
            let (of_until, of_twins) = (node.clone(), node.clone());
            let writer = move || Some(of_until.upgrade()?.writer_of(shard));
            let twins: Arc<TwinReader> = Arc::new(move |tenant, shard, wanted, take| {
                let inner = of_twins.upgrade().ok_or_else(|| "the node stops".to_owned())?;
                inner.each_twin_now(tenant, shard, wanted, take)
            });
            tokio::spawn(checkpoint.clone().work(lane, writer, twins));
        }
    }

    /// Who writes a shard's history into the warehouse: its owner.
    fn writer_of(&self, shard: u16) -> Writer {
        let epoch = match &self.cluster {
            None => Some(0),
            Some(cluster) => cluster.owned_in(shard),
        };
        let until = self.twins.folded_seq(usize::from(shard));
        epoch.map_or(Writer::Another, |epoch| Writer::Ours { epoch, until })
    }

    /// Up to which seq a shard's journal is needed by no channel; where another node owns it, as that one has said.
    pub(super) fn checkpoint_floor(&self, shard: u16) -> Option<u64> {
        let checkpoint = self.checkpoint.as_ref()?;
        Some(match self.writer_of(shard) {
            Writer::Ours { .. } => checkpoint.floor(shard),
            Writer::Another => checkpoint.told_floor(shard),
        })
    }

    /// Hands out a tenant's twins that are wanted, each as it is now, until `take` answers false.
    fn each_twin_now(
        &self,
        tenant: &TenantId,
        shard: u16,
        wanted: &Wanted<'_>,
        take: &mut dyn FnMut(TwinNow) -> bool,
    ) -> Result<(), String> {
        let now = crate::clock::now();
        let mut go_on = true;
        let done = self.each_twin(shard, tenant, &mut |id| {
            if !go_on {
                return Ok(());
            }
            let read = self.twins.with(id, |twin| {
                let from = wanted(id, twin.position().seq)?;
                let json = serde_json::to_string(&twin.view(now)).unwrap_or_default();
                Some((from, twin.rev(), json))
            });
            let (from, rev, json) = match read {
                Ok(Some(Some(read))) => read,
                // A twin that is set aside is shown as such, and holds up no other.
                Ok(_) | Err(StoreError::SetAside { .. }) => return Ok(()),
                Err(error) => return Err(ReadError::from(error).into()),
            };
            let mut rollups = Vec::new();
            for level in LEVELS {
                rollups.extend(self.bucket_rows(id, from, now.plus_ms(DAY_MS), level)?);
            }
            let id = id.clone();
            go_on = take(TwinNow {
                id,
                rev,
                json,
                rollups,
            });
            Ok(())
        });
        done.map_err(|error| error.to_string())
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
