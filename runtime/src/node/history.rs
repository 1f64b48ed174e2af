//! The history's turns: which shard writes files when, rollups and states, compaction, retention, trimming.
//!
//! Promises: runs where blocking is allowed and never holds a shard; what fails is tried again at the next turn and
//! counted; at a clean stop all that was folded is in the files. The journal is trimmed only up to what the history,
//! the checkpoint, the shard's snapshot and `journal.retention` all allow.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gemba_cluster::{Seq, ShardId};
use gemba_twins::{
    id::{TenantId, TwinId},
    rollup::{Level, Stats},
    time::Timestamp,
};

use super::{HistoryPoint, Inner, Node, ReadError};
use crate::{
    clock,
    history::{
        ALARMS_DUE, Cell, FiledRow, FiledRows, FlushError, KPIS, ROLLUPS, STATES, ShardWriter, Sheet,
        address, compact, day_of, delete_older, folder_of, name_of, push_rollup, write_sheet,
    },
    metric_definitions as names,
    shard::record,
};

const DAY_MS: i64 = 86_400_000;
/// How often it is looked whether something is to be written.
const TURN: Duration = Duration::from_secs(5);
/// How often files are compacted, deleted and the journal trimmed.
const UPKEEP_EVERY: Duration = Duration::from_secs(600);
/// Twins looked at in one go.
const SLICE: usize = 256;
/// Rows of states after which a file ends: a state is about 2 KB.
const STATES_MAX: usize = 50_000;

/// Where the history stands.
#[derive(Default)]
pub(super) struct HistoryState {
    writers: BTreeMap<u16, ShardWriter>,
    flushed_at: BTreeMap<u16, Instant>,
    states_at: Option<Instant>,
    upkeep_at: Option<Instant>,
    /// Up to which seq a shard's events are older than the retention; found once, goes on from there.
    expired: BTreeMap<u16, u64>,
    /// The journal was nearly full when it was looked at last.
    pub(super) alarmed: bool,
}

/// Whom the journal is kept for when it is trimmed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    /// The snapshots, the files and the warehouse.
    ByAll,
    /// Not the warehouse: what it lacks stands in the files.
    WithoutWarehouse,
}

impl HistoryState {
    /// The shards and the newest seq of each that stands in files.
    pub(super) fn written(&self) -> impl Iterator<Item = (u16, u64)> {
        self.writers
            .iter()
            .map(|(shard, writer)| (*shard, writer.offset.next.saturating_sub(1)))
    }
}

/// Takes a turn every few seconds for as long as the node runs.
pub(super) async fn run(node: std::sync::Weak<Inner>, state: Arc<Mutex<HistoryState>>) {
    let mut turns = tokio::time::interval(TURN);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let Some(inner) = node.upgrade() else { return };
        if inner.stopping.load(std::sync::atomic::Ordering::Acquire) {
            return;
        }
        let state = state.clone();
        // A turn that panics has said so; the next one goes on from what is saved.
        let _ = tokio::task::spawn_blocking(move || inner.history_turn(&state, false)).await;
    }
}

impl Node {
    /// Writes all that was folded into the history's files, and does what is otherwise done every ten minutes:
    /// compaction, retention, trimming of the journal. For exports and backups.
    pub async fn write_history(&self) {
        let inner = self.inner.clone();
        let work = move || {
            inner.history_turn(&inner.history, true);
            inner.upkeep(&mut inner.history.lock().unwrap_or_else(PoisonError::into_inner));
        };
        // A turn that panics has said so.
        let _ = tokio::task::spawn_blocking(work).await;
        let inner = self.inner.clone();
        // A store that does not answer keeps nobody waiting.
        tokio::spawn(async move { inner.copy_history().await });
    }
}

impl Inner {
    /// One turn; the last one writes all that there is.
    pub(super) fn history_turn(&self, state: &Mutex<HistoryState>, last: bool) {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = &self.settings.history;
        if let Some(root) = settings.folder.as_deref() {
            let states_due = last || due(&mut state.states_at, settings.states_every, false);
            for shard in 0..self.settings.shards {
                if !self.twins.tables[usize::from(shard)].is_ready() {
                    continue;
                }
                if let Err(error) = self.shard_turn(root, shard, &mut state, states_due, last) {
                    metrics::counter!(names::HISTORY_FAILED).increment(1);
                    tracing::warn!(shard, %error, "history not written; trying again");
                }
            }
        }
        if due(&mut state.upkeep_at, UPKEEP_EVERY, true) && !last {
            self.upkeep(&mut state);
        }
        if !last {
            self.keep_within_limits(&mut state);
        }
    }

    fn shard_turn(
        &self,
        root: &Path,
        shard: u16,
        state: &mut HistoryState,
        states_due: bool,
        last: bool,
    ) -> Result<(), FlushError> {
        let settings = &self.settings.history;
        let mut writer = match state.writers.remove(&shard) {
            Some(writer) => writer,
            None => ShardWriter::open(root, shard)?,
        };
        if let Some(to) = writer.lacks(&self.journal) {
            writer.fill(to, &|shard, from, to| self.past(shard, from, to))?;
        }
        let folded = self.twins.folded_seq(usize::from(shard));
        let alarms = &self.twins.tables[usize::from(shard)].alarms;
        let waiting = (folded + 1).saturating_sub(writer.offset.next);
        metrics::gauge!(names::HISTORY_LAG_EVENTS, "shard" => shard.to_string()).set(waiting as f64);
        let since = state.flushed_at.entry(shard).or_insert_with(clock::instant);
        let aged = since.elapsed() >= settings.every;
        if waiting > 0 && (last || waiting >= settings.events || alarms.waiting() >= ALARMS_DUE || aged) {
            *since = clock::instant();
            // A writer that failed is opened again, from what it saved.
            writer.flush(&self.journal, alarms, folded)?;
        } else if aged {
            *since = clock::instant();
        }
        if states_due {
            self.write_rollups(root, shard, &mut writer)?;
            self.write_states(root, shard, folded, &mut writer)?;
        }
        state.writers.insert(shard, writer);
        Ok(())
    }

    /// Writes the rollups of each day that changed; a day's file replaces the one before.
    fn write_rollups(&self, root: &Path, shard: u16, writer: &mut ShardWriter) -> Result<(), FlushError> {
        let changed: BTreeSet<(String, String)> = writer.offset.changed_days.clone();
        for (tenant, day) in changed {
            let (Ok(of), Ok(from)) = (
                TenantId::parse(&tenant),
                format!("{day}T00:00:00Z").parse::<jiff::Timestamp>(),
            ) else {
                writer.offset.changed_days.remove(&(tenant, day));
                continue;
            };
            let from = Timestamp::from_ms(from.as_millisecond());
            let mut sheet = Sheet::new(&ROLLUPS);
            self.each_twin(shard, &of, &mut |id| {
                let twin = address(id);
                for level in Level::ALL {
                    for row in self.bucket_rows(id, from, from.plus_ms(DAY_MS), level)? {
                        push_rollup(&mut sheet, &twin, &row);
                    }
                }
                Ok(())
            })?;
            if sheet.rows() > 0 {
                let folder = folder_of(root, &of, &ROLLUPS, &day);
                let bytes = write_sheet(&folder, &format!("{shard:05}.parquet"), &sheet, &[])?;
                metrics::counter!(names::HISTORY_BYTES, "kind" => ROLLUPS.kind).increment(bytes);
            }
            writer.offset.changed_days.remove(&(tenant, day));
            writer.save()?;
        }
        Ok(())
    }

    /// Writes KPIs and states of the twins that changed since they were written last.
    fn write_states(
        &self,
        root: &Path,
        shard: u16,
        folded: u64,
        writer: &mut ShardWriter,
    ) -> Result<(), FlushError> {
        let (after, now) = (writer.offset.states_to, clock::now());
        if folded <= after {
            return Ok(());
        }
        let day = day_of(now);
        for tenant in self.tenants_of(shard) {
            let (mut kpis, mut states) = (Sheet::new(&KPIS), Sheet::new(&STATES));
            let mut part = 0;
            let mut finish = |kpis: &mut Sheet, states: &mut Sheet| -> Result<(), FlushError> {
                for (schema, sheet) in [(&KPIS, kpis), (&STATES, states)] {
                    let sheet = std::mem::replace(sheet, Sheet::new(schema));
                    if sheet.rows() == 0 {
                        continue;
                    }
                    let name = name_of(shard, after + 1 + part, folded);
                    let bytes = write_sheet(&folder_of(root, &tenant, schema, &day), &name, &sheet, &[])?;
                    metrics::counter!(names::HISTORY_BYTES, "kind" => schema.kind).increment(bytes);
                }
                part += 1;
                Ok(())
            };
            self.each_twin(shard, &tenant, &mut |id| {
                let read = self.twins.with(id, |twin| {
                    (twin.position().seq > after).then(|| {
                        let json = serde_json::to_string(&twin.view(now)).unwrap_or_default();
                        (json, twin.rev(), twin.position().seq)
                    })
                });
                if let Ok(Some(Some((json, rev, seq)))) = read {
                    push_state(&mut kpis, &mut states, id, shard, now, &json, rev, seq);
                }
                if states.rows() >= STATES_MAX {
                    finish(&mut kpis, &mut states)?;
                }
                Ok(())
            })?;
            finish(&mut kpis, &mut states)?;
        }
        writer.offset.states_to = folded;
        writer.save()
    }

    pub(super) fn each_twin(
        &self,
        shard: u16,
        tenant: &TenantId,
        take: &mut dyn FnMut(&TwinId) -> Result<(), FlushError>,
    ) -> Result<(), FlushError> {
        let mut after: Option<TwinId> = None;
        loop {
            let mut ids = self
                .twins
                .ids_after(usize::from(shard), tenant, after.as_ref(), SLICE);
            for id in &ids {
                take(id)?;
            }
            if ids.len() < SLICE {
                return Ok(());
            }
            after = ids.pop();
        }
    }

    pub(super) fn tenants_of(&self, shard: u16) -> BTreeSet<TenantId> {
        let map = self.twins.tables[usize::from(shard)]
            .map
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        map.keys().map(|id| id.tenant().clone()).collect()
    }

    /// Readings of before the journal begins, from the history's files.
    pub(super) fn filed_history(
        &self,
        id: &TwinId,
        from: Timestamp,
        to: Timestamp,
        wanted: &dyn Fn(&str) -> bool,
        points: &mut Vec<HistoryPoint>,
    ) -> Result<(), ReadError> {
        let shard = self.router.shard_of(id);
        let oldest = self.journal.first_seq(ShardId::new(shard)).get();
        let Some(root) = self.settings.history.folder.as_deref().filter(|_| oldest > 1) else {
            return Ok(());
        };
        let rows = FiledRows {
            root,
            tenant: id.tenant(),
            kind: "readings",
            twin: Some(&address(id)),
            from,
            to,
        };
        let read = rows.each(&mut |row| {
            points.extend(filed_point(&row, oldest, wanted));
            true
        });
        read.map_err(|error| ReadError::Damaged(error.to_string()))
    }

    fn upkeep(&self, state: &mut HistoryState) {
        let settings = &self.settings.history;
        let now = clock::now();
        if let Some(root) = settings.folder.as_deref() {
            match compact(root, &day_of(now)) {
                Ok(0) => {}
                Ok(files) => tracing::info!(files, "history compacted"),
                Err(error) => tracing::warn!(%error, "history not compacted; trying again"),
            }
            if let Some(days) = settings.keep_days {
                let oldest = day_of(now.plus_ms(-DAY_MS * i64::from(days)));
                let lacks = |shard, last| self.checkpoint_floor(shard).is_some_and(|floor| floor < last);
                let is_copied = |folder: &Path| self.copier.as_ref().is_none_or(|copier| copier.has(folder));
                match delete_older(root, &oldest, &lacks, &is_copied) {
                    Ok((0, 0)) => {}
                    Ok((folders, kept)) => tracing::info!(
                        folders,
                        kept,
                        "history that is older than history.keep_days deleted, but for what the warehouse or the copy lacks"
                    ),
                    Err(error) => tracing::warn!(%error, "old history not deleted; trying again"),
                }
            }
        }
        if let Some(retention) = self.settings.journal_retention {
            let cutoff = now.plus_ms(-i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
            if let Err(error) = self.trim(state, cutoff, Needed::ByAll) {
                tracing::warn!(%error, "journal not trimmed; trying again");
            }
        }
    }

    /// Gives up the journal's segments of which every event was received before `cutoff`, stands in a snapshot and in
    /// the history.
    pub(super) fn trim(
        &self,
        state: &mut HistoryState,
        cutoff: Timestamp,
        needed: Needed,
    ) -> Result<(), String> {
        let shards = (0..self.settings.shards).chain([crate::shard::router::control_number()]);
        for shard in shards {
            let snapshot = self.store.meta(shard).map_err(|error| error.to_string())?.seq;
            let exported = match state.writers.get(&shard) {
                Some(writer) => writer.offset.next.saturating_sub(1),
                // The control shard has no events of twins.
                None if self.settings.history.folder.is_none() || shard >= self.settings.shards => u64::MAX,
                None => 0,
            };
            let asks = needed == Needed::ByAll && shard < self.settings.shards;
            let checkpointed = asks.then(|| self.checkpoint_floor(shard)).flatten();
            let checkpointed = checkpointed.unwrap_or(u64::MAX);
            let most = snapshot.min(exported).min(checkpointed);
            let expired = self.expired(
                shard,
                state.expired.get(&shard).copied().unwrap_or_default(),
                most,
                cutoff,
            )?;
            state.expired.insert(shard, expired);
            if let Some(cluster) = self.cluster.as_ref().filter(|_| expired > 0) {
                cluster.purge(shard, expired);
            } else if expired > 0 {
                let purged = self.journal.purge_up_to(ShardId::new(shard), Seq::new(expired));
                purged.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// The last seq up to `most` before which everything was received before `cutoff`.
    fn expired(&self, shard: u16, from: u64, most: u64, cutoff: Timestamp) -> Result<u64, String> {
        let mut expired = from;
        for frame in self.journal.read(ShardId::new(shard), Seq::new(from + 1)) {
            let frame = frame.map_err(|error| error.to_string())?;
            let newest = frame.records().last().and_then(record::received_at);
            if frame.last().get() > most || newest.is_some_and(|newest| newest >= cutoff) {
                break;
            }
            expired = frame.last().get();
        }
        Ok(expired)
    }
}

fn due(at: &mut Option<Instant>, every: Duration, first: bool) -> bool {
    match at {
        Some(before) if before.elapsed() < every => false,
        Some(before) => {
            *before = clock::instant();
            true
        }
        None => {
            *at = Some(clock::instant());
            first
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "a row's cells, handed to the two sheets they stand in"
)]
fn push_state(
    kpis: &mut Sheet,
    states: &mut Sheet,
    id: &TwinId,
    shard: u16,
    now: Timestamp,
    json: &str,
    rev: u64,
    seq: u64,
) {
    let twin = address(id);
    let whole = |number: u64| Cell::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let shard = Cell::Integer(i64::from(shard));
    let now = Cell::Time(Some(now));
    states.push(&[
        Cell::Text(Some(&twin)),
        now,
        whole(seq),
        shard,
        whole(rev),
        Cell::Text(Some(json)),
    ]);
    let parsed: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let Some(of) = parsed.get("kpis").and_then(|of| of.as_object()) else {
        return;
    };
    for (name, value) in of {
        let reason = of
            .get("reasons")
            .and_then(|reasons| reasons.get(name))
            .and_then(|reason| reason.as_str());
        if value.is_number() || value.is_null() {
            let value = Cell::Number(value.as_f64());
            kpis.push(&[
                Cell::Text(Some(&twin)),
                Cell::Text(Some(name)),
                now,
                whole(seq),
                shard,
                value,
                Cell::Text(reason),
            ]);
        }
    }
}

/// A row of the files as a point, where it is wanted and from before the journal's oldest seq.
fn filed_point(row: &FiledRow, oldest: u64, wanted: &dyn Fn(&str) -> bool) -> Option<HistoryPoint> {
    let of = |name: &str| {
        row.iter()
            .find(|(column, _)| *column == name)
            .map(|(_, value)| value)
    };
    let metric = of("metric")?.as_str().filter(|metric| wanted(metric))?;
    if of("seq")?.as_u64()? >= oldest {
        return None;
    }
    let time = of("time")?.as_str()?.parse::<Timestamp>().ok()?;
    let flag = of("flag")?.as_bool().map(|yes| f64::from(u8::from(yes)));
    let number = of("value")?.as_f64().or(flag);
    Some(HistoryPoint {
        time,
        metric: metric.into(),
        corrected: false,
        stats: number.map_or_else(Stats::default, |number| Stats::of(time, number)),
        text: of("text")?.as_str().map(Box::from),
    })
}

impl From<ReadError> for FlushError {
    fn from(error: ReadError) -> Self {
        Self::Journal(error.to_string())
    }
}
