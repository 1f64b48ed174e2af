//! How a shard comes back: its last snapshot, and the tail of its journal folded again.
//!
//! Promises: afterwards the shard is as it was when its last event was folded; messages to other twins that may not
//! have arrived are in the outbox again. Damage stops the shard with its place named; nothing damaged is folded.

use std::sync::Arc;

use gemba_cluster::{Journal, Seq, ShardId};
use thiserror::Error;
use tracing::info;

use super::{
    Core, Shared,
    record::{self, Record},
    router::control_number,
};
use crate::{
    clock, history::filed_to, ingest::dedupe_key, metric_definitions as names, plant::PlantModel,
    store::StoreError, table::TwinTable,
};

/// Events after which a recovery writes a snapshot of its own, so that a long tail needs no more memory than usual.
const SNAPSHOT_EVERY: u64 = 500_000;

/// Why a shard cannot come back.
#[derive(Debug, Error)]
pub(crate) enum RecoverError {
    /// The journal is damaged or does not reach back to the snapshot.
    #[error("failed to recover shard {shard} at seq {seq}: {detail} (restore the data folder from a backup)")]
    Journal {
        /// The shard.
        shard: u16,
        /// Where.
        seq: u64,
        /// What is wrong.
        detail: String,
    },
    /// The state store cannot be read.
    #[error("failed to recover shard {shard}: {source}")]
    Store {
        /// The shard.
        shard: u16,
        /// What is wrong.
        source: StoreError,
    },
}

/// Brings a shard back, with the journal's records up to `until`. Blocks; run it where blocking is allowed.
pub(crate) fn recover(
    number: u16,
    shared: Shared,
    table: Arc<TwinTable>,
    journal: &Journal,
    until: u64,
) -> Result<Core, RecoverError> {
    let began = clock::instant();
    let store_error = |source| RecoverError::Store {
        shard: number,
        source,
    };
    let restored = shared.store.restore(number).map_err(store_error)?;
    let mut core = Core::new(number, shared, table);
    if number == control_number() {
        restore_plants(&core, &restored.plants)?;
        for bytes in &restored.dashboards {
            let restored = core.shared.plants.dashboards.restore(bytes);
            restored.map_err(|detail| RecoverError::Journal {
                shard: number,
                seq: core.seq,
                detail: format!("a dashboard: {detail}"),
            })?;
        }
    }
    if let Some(root) = core
        .shared
        .settings
        .history
        .folder
        .as_deref()
        .filter(|_| number != control_number())
    {
        // What the files hold is not kept again. An offset that cannot be read is told of by the history itself.
        core.table
            .alarms
            .filed(filed_to(root, number).unwrap_or_default());
    }
    core.restore(restored).map_err(store_error)?;
    let from_snapshot = core.seq;
    if core.seq < until {
        replay(&mut core, journal, until)?;
    }
    core.shared
        .notifier
        .begin(number, core.seq, &core.shared.store)
        .map_err(store_error)?;
    core.changed.clear();
    core.table.set_folded(core.seq);
    let seconds = began.elapsed().as_secs_f64();
    metrics::histogram!(names::RECOVERY_SECONDS).record(seconds);
    info!(
        shard = number,
        seq = core.seq,
        replayed = core.seq - from_snapshot,
        seconds,
        "shard recovered"
    );
    Ok(core)
}

fn replay(core: &mut Core, journal: &Journal, until: u64) -> Result<(), RecoverError> {
    let number = core.number;
    let at = |seq: u64, detail: String| RecoverError::Journal {
        shard: number,
        seq,
        detail,
    };
    let shard = ShardId::new(number);
    let oldest = journal.first_seq(shard).get();
    if oldest > core.seq + 1 {
        let detail = format!(
            "the journal begins at seq {oldest}, the state ends at {}",
            core.seq
        );
        return Err(at(core.seq + 1, detail));
    }
    core.begin_batch(0);
    for frame in journal.read(shard, Seq::new(core.seq + 1)) {
        let frame = frame.map_err(|error| at(core.seq + 1, error.to_string()))?;
        if frame.first().get() > until {
            break;
        }
        for (seq, bytes) in (frame.first().get()..).zip(frame.records()) {
            if seq > core.seq {
                if seq != core.seq + 1 {
                    return Err(at(core.seq + 1, format!("the next record is seq {seq}")));
                }
                let record = record::decode(bytes).map_err(|error| at(seq, error.to_string()))?;
                if let Record::Event(event) = &record {
                    core.dedupe.insert(dedupe_key(event));
                    core.dedupe_folded = core.dedupe.count();
                }
                core.fold(seq, &record).map_err(|source| RecoverError::Store {
                    shard: number,
                    source,
                })?;
            }
        }
        // One batch per frame keeps the list of changed twins from growing with the tail.
        core.changed.clear();
        core.begin_batch(0);
        let fresh = core
            .table
            .history
            .pending
            .lock()
            .map_or(0, |pending| pending.len());
        if core.folded_since_snapshot >= SNAPSHOT_EVERY
            || fresh > 50_000
            || core.is_crowded() && fresh > 5_000
        {
            core.snapshot_now().map_err(|source| RecoverError::Store {
                shard: number,
                source,
            })?;
            core.passivate(0);
        }
    }
    Ok(())
}

fn restore_plants(core: &Core, plants: &[(gemba_twins::id::TenantId, Vec<u8>)]) -> Result<(), RecoverError> {
    for (tenant, bytes) in plants {
        let damaged = |detail: String| RecoverError::Journal {
            shard: core.number,
            seq: core.seq,
            detail,
        };
        let plant = record::decode_plant(bytes).map_err(|error| damaged(error.to_string()))?;
        let model = PlantModel::parse(&plant.text)
            .map_err(|error| damaged(format!("plant model of {tenant}: {error}")))?;
        core.put_plant(&plant, model);
    }
    Ok(())
}
