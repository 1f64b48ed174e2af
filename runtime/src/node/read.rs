//! What a node can tell about the past: a twin as it was, its events, its history, what was rejected.
//!
//! Promises: a twin at a time is folded again from the journal, so it is exactly what a caller saw then; work that
//! reads disks runs where blocking is allowed. Where the journal was trimmed, that is said instead of a guess.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use gemba_cluster::{Seq, ShardId};
use gemba_twins::{
    event::{Body, Event, Position, Value},
    id::{TenantId, TwinId},
    rollup::{Level, RollupRow, Stats},
    time::Timestamp,
    twin::{Effects, Twin},
};
use thiserror::Error;

use super::{CommandError, Inner, Node, StoreError};
use crate::{
    decode::RfidFormat,
    ingest::{Message, Outcome},
    shard::{CommandKind, RejectedRecord, Way, record, rejected_page},
};

/// Longest work of one call that may be given up.
pub(super) const WORK_MAX: Duration = Duration::from_secs(30);

/// Why the past cannot be told.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The journal or the state store is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The journal does not reach back that far.
    #[error(
        "the journal of shard {shard} begins at seq {oldest} (older events were deleted by journal.retention)"
    )]
    Trimmed {
        /// The shard.
        shard: u16,
        /// The oldest seq it holds.
        oldest: u64,
    },
    /// The state store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Some of a twin's events.
#[derive(Debug, Clone)]
pub struct EventsPage {
    /// Seq and event, in order.
    pub items: Vec<(u64, Event)>,
    /// The seq to go on after; `None` at the end of the journal.
    pub next: Option<u64>,
    /// The first seq that this node's journal still has of the twin's shard: what is older is not among the items.
    pub begins: u64,
}

/// The width of a history's points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Each reading by itself, from the journal.
    Raw,
    /// Buckets.
    Level(Level),
}

/// One point of a history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPoint {
    /// The bucket's start, or the reading's time.
    pub time: Timestamp,
    /// The metric.
    pub metric: Box<str>,
    /// Late data changed it after it was closed.
    pub corrected: bool,
    /// What was measured.
    pub stats: Stats,
    /// The word, where a raw reading measured one.
    pub text: Option<Box<str>>,
}

/// A rejected message as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct RejectedItem {
    /// Its name for a retry.
    pub id: String,
    /// When it was received.
    pub at: Timestamp,
    /// The connector it came through.
    pub source: Arc<str>,
    /// The topic, sensor or reader it came by; may be empty.
    pub topic: Box<str>,
    /// Why, for programs.
    pub code: Box<str>,
    /// Why, for people.
    pub detail: Box<str>,
    /// As it came.
    pub payload: Vec<u8>,
    /// The payload was longer than is kept.
    pub truncated: bool,
}

impl Node {
    /// A twin as it was when everything received until `at` was folded; `None` where it was not known then.
    pub async fn twin_at(&self, id: &TwinId, at: Timestamp) -> Result<Option<Twin>, ReadError> {
        self.recovered(id).await?;
        let (inner, id) = (self.inner.clone(), id.clone());
        blocking(move || inner.twin_at(&id, at)).await
    }

    /// A twin's journaled events after a seq, at most `limit`.
    pub async fn events(&self, id: &TwinId, after: u64, limit: usize) -> Result<EventsPage, ReadError> {
        self.recovered(id).await?;
        let (inner, id) = (self.inner.clone(), id.clone());
        blocking(move || inner.events(&id, after, limit)).await
    }

    /// A twin's history within `from..to`, in order of time: buckets, or each reading by itself.
    pub async fn history(
        &self,
        id: &TwinId,
        from: Timestamp,
        to: Timestamp,
        step: Step,
        metric: Option<&str>,
    ) -> Result<Vec<HistoryPoint>, ReadError> {
        self.recovered(id).await?;
        let (inner, id, metric) = (self.inner.clone(), id.clone(), metric.map(str::to_owned));
        let wanted = move |name: &str| metric.as_deref().is_none_or(|metric| metric == name);
        blocking(move || match step {
            Step::Raw => inner.raw_history(&id, from, to, &wanted),
            Step::Level(level) => inner.bucket_history(&id, from, to, level, &wanted),
        })
        .await
    }

    /// A tenant's rejected messages after an id, at most `limit`, and the id to go on after.
    pub async fn rejected(
        &self,
        tenant: &TenantId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<RejectedItem>, Option<String>), ReadError> {
        let shard = self.inner.router.rejected_shard(tenant);
        self.shard_recovered(shard).await?;
        let after = after.and_then(|id| rejected_seq(id, shard)).unwrap_or_default();
        let (inner, tenant) = (self.inner.clone(), tenant.clone());
        blocking(move || {
            let table = &inner.twins.tables[usize::from(shard)];
            let page = rejected_page(&inner.store, table, &tenant, after, limit)?;
            let next = if page.len() < limit {
                None
            } else {
                page.last().map(|(seq, _)| rejected_id(shard, *seq))
            };
            Ok((
                page.into_iter()
                    .map(|(seq, item)| rejected_item(shard, seq, &item))
                    .collect(),
                next,
            ))
        })
        .await
    }

    /// Reads a rejected message again, with the plant model as it is now. `None` where there is no such message;
    /// what is rejected again stays kept.
    pub async fn retry_rejected(&self, tenant: &TenantId, id: &str) -> Result<Option<Outcome>, CommandError> {
        let shard = self.inner.router.rejected_shard(tenant);
        let Some(seq) = rejected_seq(id, shard) else {
            return Ok(None);
        };
        let unavailable = |error: ReadError| CommandError::Unavailable(error.to_string());
        let previous = rejected_id(shard, seq.saturating_sub(1));
        let (items, _) = self
            .rejected(tenant, Some(&previous), 1)
            .await
            .map_err(unavailable)?;
        let Some(item) = items.into_iter().next().filter(|item| item.id == id) else {
            return Ok(None);
        };
        let way = self.inner.way_of(tenant, shard, seq).map_err(unavailable)?;
        let named = (!item.topic.is_empty()).then_some(&*item.topic);
        let message = match way {
            Way::Reading => Message::Reading {
                sensor: named,
                json: &item.payload,
            },
            Way::Scan => Message::Scan {
                reader: named,
                json: &item.payload,
            },
            Way::ChirpStack => Message::ChirpStack {
                topic: &item.topic,
                payload: &item.payload,
            },
            Way::TheThingsStack => Message::TheThingsStack {
                topic: &item.topic,
                payload: &item.payload,
            },
            Way::Impinj | Way::Zebra | Way::Rfid => Message::Rfid {
                format: match way {
                    Way::Impinj => RfidFormat::Impinj,
                    Way::Zebra => RfidFormat::Zebra,
                    _ => RfidFormat::Generic,
                },
                reader: named,
                payload: &item.payload,
            },
            Way::Epcis => Message::Epcis {
                payload: &item.payload,
            },
            Way::None => {
                return Err(CommandError::Invalid(crate::decode::Rejection {
                    code: "rejected.not_retryable",
                    detail: "the message came on a topic that is not read (publish it on one that is)".into(),
                }));
            }
        };
        let permit = self
            .inner
            .gate
            .try_enter(tenant, 1, item.payload.len())
            .ok_or(CommandError::Busy)?;
        let mut batch = self.inner.ingest.batch(tenant, &"retry".into());
        // The id makes a retry that crashed half-way recognisable; the time is when the message first came.
        if let Err(rejection) = batch.push_again(&message, item.at, &format!("rejected:{id}")) {
            return Ok(Some(Outcome::Rejected(rejection)));
        }
        let outcomes = batch
            .submit(permit)
            .await
            .map_err(|error| CommandError::Unavailable(error.to_string()))?;
        let kind = CommandKind::Resolve {
            tenant: tenant.clone(),
            seq,
        };
        self.command(shard, tenant, kind).await?;
        Ok(outcomes.into_iter().next())
    }
}

impl Inner {
    fn twin_at(&self, id: &TwinId, at: Timestamp) -> Result<Option<Twin>, ReadError> {
        Ok(self.twin_until(id, at, None)?.flatten())
    }

    /// A twin as it was; `None` where work that began at `started` took too long.
    pub(super) fn twin_until(
        &self,
        id: &TwinId,
        at: Timestamp,
        started: Option<Instant>,
    ) -> Result<Option<Option<Twin>>, ReadError> {
        self.fold_again(id, at, started, |_| ())
    }

    /// Folds a twin again from its first event on; `look` sees what each event led to.
    pub(super) fn fold_again(
        &self,
        id: &TwinId,
        at: Timestamp,
        started: Option<Instant>,
        mut look: impl FnMut(&mut Effects),
    ) -> Result<Option<Option<Twin>>, ReadError> {
        let shard = self.router.shard_of(id);
        let oldest = self.journal.first_seq(ShardId::new(shard)).get();
        if oldest > 1 {
            return Err(ReadError::Trimmed { shard, oldest });
        }
        let (mut twin, mut effects) = (Twin::new(id.clone()), Effects::default());
        let mut in_time = true;
        self.each_event(id, 0, |seq, event| {
            if event.received_at <= at {
                twin.fold(Position { shard, seq }, &event, &mut effects);
                look(&mut effects);
                effects = Effects::default();
            }
            in_time = started.is_none_or(|started| started.elapsed() < WORK_MAX);
            in_time
        })?;
        Ok(in_time.then(|| (twin.rev() > 0).then_some(twin)))
    }

    fn events(&self, id: &TwinId, after: u64, limit: usize) -> Result<EventsPage, ReadError> {
        let mut items = Vec::new();
        self.each_event(id, after, |seq, event| {
            items.push((seq, event));
            items.len() <= limit
        })?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more {
            items.last().map(|(seq, _)| *seq)
        } else {
            None
        };
        let begins = self
            .journal
            .first_seq(ShardId::new(self.router.shard_of(id)))
            .get();
        Ok(EventsPage { items, next, begins })
    }

    /// Calls `take` with each folded event of a twin after a seq, until it returns false.
    pub(super) fn each_event(
        &self,
        id: &TwinId,
        after: u64,
        mut take: impl FnMut(u64, Event) -> bool,
    ) -> Result<(), ReadError> {
        let shard = self.router.shard_of(id);
        let until = self.twins.folded_seq(usize::from(shard));
        let damaged = |error: &dyn std::fmt::Display| ReadError::Damaged(error.to_string());
        let address = (id.tenant().as_str(), id.kind(), id.id());
        for frame in self
            .journal
            .read(ShardId::new(shard), Seq::new(after.saturating_add(1)))
        {
            let frame = frame.map_err(|error| damaged(&error))?;
            for (seq, bytes) in (frame.first().get()..).zip(frame.records()) {
                if seq > until {
                    return Ok(());
                }
                if seq <= after || record::peek_twin(bytes) != Some(address) {
                    continue;
                }
                if let record::Record::Event(event) =
                    record::decode(bytes).map_err(|error| damaged(&error))?
                    && !take(seq, event)
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn raw_history(
        &self,
        id: &TwinId,
        from: Timestamp,
        to: Timestamp,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<HistoryPoint>, ReadError> {
        let mut points = Vec::new();
        self.filed_history(id, from, to, wanted, &mut points)?;
        self.each_event(id, 0, |_, event| {
            if let Body::Reading(reading) = event.body
                && (from..to).contains(&event.at)
            {
                for (name, value) in reading.metrics {
                    if !wanted(&name) {
                        continue;
                    }
                    let (stats, text) = match value {
                        Value::Number(number) => (Stats::of(event.at, number), None),
                        Value::Bool(yes) => (Stats::of(event.at, f64::from(u8::from(yes))), None),
                        Value::Text(text) => (Stats::default(), Some(text)),
                    };
                    points.push(HistoryPoint {
                        time: event.at,
                        metric: name,
                        corrected: false,
                        stats,
                        text,
                    });
                }
            }
            true
        })?;
        // Stable, so readings of the same moment stay in the order of the journal.
        points.sort_by(|a, b| (a.time, &a.metric).cmp(&(b.time, &b.metric)));
        Ok(points)
    }

    fn bucket_history(
        &self,
        id: &TwinId,
        from: Timestamp,
        to: Timestamp,
        level: Level,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<HistoryPoint>, ReadError> {
        let rows = self.bucket_rows(id, from, to, level)?;
        let points = rows.into_iter().flat_map(|row| {
            let (time, corrected) = (row.start, row.corrected);
            let metrics = row.metrics.into_iter().filter(|(name, _)| wanted(name));
            metrics
                .map(move |(metric, stats)| HistoryPoint {
                    time,
                    metric,
                    corrected,
                    stats,
                    text: None,
                })
                .collect::<Vec<_>>()
        });
        Ok(points.collect())
    }

    /// A twin's buckets that begin within `from..to`, closed and open, in order of time.
    pub(super) fn bucket_rows(
        &self,
        id: &TwinId,
        from: Timestamp,
        to: Timestamp,
        level: Level,
    ) -> Result<Vec<RollupRow>, ReadError> {
        let shard = self.router.shard_of(id);
        let table = &self.twins.tables[usize::from(shard)];
        let from = from.floor_to(level.step_ms());
        let open = self
            .twins
            .with(id, |twin| twin.open_rollups(level))?
            .unwrap_or_default();
        let mut rows = {
            // Held while both places are read, so that no row is missed or seen twice on its way.
            let writing = table
                .history
                .writing
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            let mut rows = self.store.rollups(shard, id, level, from, to)?;
            let pending = table
                .history
                .pending
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let range = (id.clone(), level as u8, from.ms())..(id.clone(), level as u8, to.ms());
            rows.extend(writing.range(range.clone()).map(|(_, row)| row.clone()));
            rows.extend(pending.range(range).map(|(_, row)| row.clone()));
            rows
        };
        rows.extend(open.into_iter().filter(|row| (from..to).contains(&row.start)));
        rows.sort_by_key(|row| row.start);
        let mut merged: Vec<RollupRow> = Vec::with_capacity(rows.len());
        for row in rows {
            match merged.last_mut() {
                Some(last) if last.start == row.start => last.merge(&row),
                _ => merged.push(row),
            }
        }
        Ok(merged)
    }

    fn way_of(&self, tenant: &TenantId, shard: u16, seq: u64) -> Result<Way, ReadError> {
        let table = &self.twins.tables[usize::from(shard)];
        let page = rejected_page(&self.store, table, tenant, seq.saturating_sub(1), 1)?;
        Ok(page.first().map_or(Way::None, |(_, item)| item.way))
    }
}

/// Runs work that reads disks where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|panicked| Err(ReadError::Damaged(format!("reading failed: {panicked}"))))
}

fn rejected_id(shard: u16, seq: u64) -> String {
    format!("{shard}-{seq}")
}

fn rejected_seq(id: &str, shard: u16) -> Option<u64> {
    let (number, seq) = id.split_once('-')?;
    (number.parse() == Ok(shard)).then(|| seq.parse().ok())?
}

fn rejected_item(shard: u16, seq: u64, item: &RejectedRecord) -> RejectedItem {
    RejectedItem {
        id: rejected_id(shard, seq),
        at: item.at,
        source: item.source.clone(),
        topic: item.topic.clone(),
        code: item.code.clone(),
        detail: item.detail.clone(),
        payload: item.payload.to_vec(),
        truncated: item.truncated,
    }
}
