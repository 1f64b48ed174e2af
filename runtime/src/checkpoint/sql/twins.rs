//! What twins compute, as rows: buckets of an hour and of a day, KPIs, states.
//!
//! Promises: rows are keyed, so that writing one again replaces it; what is written is at least as new as the seq that
//! its transaction stands for. Finer buckets stay in the history's files: in the warehouse they would cost more than the
//! readings they are made of, which are there.

use std::{collections::BTreeMap, time::Duration};

use gemba_cluster::ShardId;
use gemba_twins::{
    id::{TenantId, TwinId},
    rollup::{Level, RollupRow},
    time::Timestamp,
};

use super::{
    Session,
    statement::{Cell, Holds, Rows, Target},
};
use crate::{
    checkpoint::{
        Shared,
        client::Fault,
        place::Place,
        source::{Found, journaled},
    },
    history::step_of,
};

/// Widths of the buckets that are sent.
pub(crate) const LEVELS: [Level; 2] = [Level::H1, Level::D1];
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;
/// Records of a transaction: bounds how long a turn takes.
const RECORDS_MAX: u64 = 1_000_000;

static ROLLUPS: Target = Target {
    name: "METRIC_ROLLUPS",
    columns: &[
        ("TENANT_ID", Holds::Text),
        ("TWIN_KIND", Holds::Text),
        ("TWIN_ID", Holds::Text),
        ("METRIC", Holds::Text),
        ("STEP", Holds::Text),
        ("BUCKET_TS", Holds::Time),
        ("READING_COUNT", Holds::Whole),
        ("AVG_VALUE", Holds::Number),
        ("TIME_WEIGHTED_AVG", Holds::Number),
        ("MIN_VALUE", Holds::Number),
        ("MAX_VALUE", Holds::Number),
        ("FIRST_VALUE_SEEN", Holds::Number),
        ("LAST_VALUE_SEEN", Holds::Number),
        ("INCREASE", Holds::Number),
        ("COVERED_S", Holds::Number),
        ("CORRECTED", Holds::Flag),
    ],
    keys: 6,
};

static KPIS: Target = Target {
    name: "TWIN_KPIS",
    columns: &[
        ("TENANT_ID", Holds::Text),
        ("TWIN_KIND", Holds::Text),
        ("TWIN_ID", Holds::Text),
        ("KPI", Holds::Text),
        ("KPI_TS", Holds::Time),
        ("KPI_VALUE", Holds::Number),
        ("REASON", Holds::Text),
    ],
    keys: 5,
};

static STATES: Target = Target {
    name: "TWIN_STATES",
    columns: &[
        ("TENANT_ID", Holds::Text),
        ("TWIN_KIND", Holds::Text),
        ("TWIN_ID", Holds::Text),
        ("REV", Holds::Whole),
        ("UPDATED_TS", Holds::Time),
        ("STATE", Holds::Json),
    ],
    keys: 3,
};

/// A twin as it is.
pub(crate) struct TwinNow {
    pub(crate) id: TwinId,
    pub(crate) rev: u64,
    /// Its view as JSON.
    pub(crate) json: String,
    /// Its buckets of [`LEVELS`] from the time that was asked for.
    pub(crate) rollups: Vec<RollupRow>,
}

/// From which time a twin's buckets are wanted, by its id and the seq of its newest event; `None` for not at all.
pub(crate) type Wanted<'a> = dyn Fn(&TwinId, u64) -> Option<Timestamp> + 'a;

/// Hands out the twins of a tenant in a shard that are wanted, until `take` answers false.
pub(crate) type TwinReader =
    dyn Fn(&TenantId, u16, &Wanted<'_>, &mut dyn FnMut(TwinNow) -> bool) -> Result<(), String> + Send + Sync;

/// What changed within a range of seqs.
pub(super) struct Changed {
    after: u64,
    pub(super) to: u64,
    /// Seqs that the journal does not hold any more.
    pub(super) gap: Option<(u64, u64)>,
    /// The earliest time that an event of a twin is about.
    earliest: BTreeMap<TwinId, Timestamp>,
    /// What comes without an event of the twin's own is about this time or later.
    since: Timestamp,
}

impl Changed {
    /// Looks through the journal after `after`, up to `until` or to where it is enough. `since` is when the place was
    /// written last.
    pub(super) fn find(
        shared: &Shared,
        place: &Place,
        after: u64,
        until: u64,
        since: Timestamp,
    ) -> Result<Self, String> {
        let first = shared.journal.first_seq(ShardId::new(place.shard)).get();
        let mut changed = Self {
            after,
            to: until.min(after.saturating_add(RECORDS_MAX)),
            gap: (after + 1 < first).then(|| (after + 1, first - 1)),
            earliest: BTreeMap::new(),
            since,
        };
        let mut next = after + 1;
        while next <= changed.to {
            let given_up = journaled(shared, place, &mut next, changed.to, &mut |found| {
                if let Found::Row(_, event, _) = found {
                    let earliest = changed.earliest.entry(event.twin.clone()).or_insert(event.at);
                    *earliest = event.at.min(*earliest);
                }
                true
            })?;
            let Some(last) = given_up else { break };
            next = last + 1;
        }
        Ok(changed)
    }

    /// From when on a twin's buckets may have changed.
    fn from(&self, id: &TwinId, seq: u64) -> Option<Timestamp> {
        if seq <= self.after {
            return None;
        }
        let told = self.since.plus_ms(-HOUR_MS);
        let earliest = self.earliest.get(id).map_or(told, |earliest| told.min(*earliest));
        Some(earliest.floor_to(DAY_MS))
    }

    /// Writes the rows of the twins that changed, within the transaction that is open.
    pub(super) fn write(
        &self,
        session: &Session,
        place: &Place,
        schema: &str,
        now: Timestamp,
        every: Duration,
        read: &TwinReader,
    ) -> Result<Written, Fault> {
        let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
        let mut tables = Tables {
            session,
            schema,
            tenant: place.tenant.as_str(),
            // What is written again within a round replaces itself.
            slot: now.floor_to(every_ms),
            rollups: Rows::new(&ROLLUPS),
            kpis: Rows::new(&KPIS),
            states: Rows::new(&STATES),
            written: Written::default(),
        };
        let mut fault = None;
        let wanted = |id: &TwinId, seq: u64| self.from(id, seq);
        read(&place.tenant, place.shard, &wanted, &mut |twin| {
            fault = tables.push(&twin).err();
            fault.is_none()
        })
        .map_err(Fault::Refused)?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        tables.send(true)?;
        Ok(tables.written)
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

struct Tables<'a> {
    session: &'a Session,
    schema: &'a str,
    tenant: &'a str,
    slot: Timestamp,
    rollups: Rows,
    kpis: Rows,
    states: Rows,
    written: Written,
}

impl Tables<'_> {
    fn push(&mut self, twin: &TwinNow) -> Result<(), Fault> {
        let view: serde_json::Value = serde_json::from_str(&twin.json)
            .map_err(|error| Fault::Refused(format!("the state of {} cannot be read: {error}", twin.id)))?;
        let key = [
            Cell::Text(Some(self.tenant)),
            Cell::Text(Some(twin.id.kind().as_str())),
            Cell::Text(Some(twin.id.id())),
        ];
        let updated = view["updated_at"].as_str().and_then(|text| text.parse().ok());
        let [tenant, kind, id] = key;
        self.states.push(&[
            tenant,
            kind,
            id,
            Cell::Whole(twin.rev),
            Cell::Time(updated.unwrap_or(self.slot)),
            Cell::Text(Some(&twin.json)),
        ]);
        let kpis = &view["kpis"];
        for (name, value) in kpis.as_object().into_iter().flatten() {
            if value.is_number() || value.is_null() {
                self.kpis.push(&[
                    tenant,
                    kind,
                    id,
                    Cell::Text(Some(name)),
                    Cell::Time(self.slot),
                    Cell::Number(value.as_f64()),
                    Cell::Text(kpis["reasons"][name].as_str()),
                ]);
            }
        }
        for row in &twin.rollups {
            self.push_rollup(key, row);
            // A twin with much history is more than a statement.
            self.send(false)?;
        }
        self.send(false)
    }

    fn push_rollup(&mut self, [tenant, kind, id]: [Cell<'_>; 3], row: &RollupRow) {
        let step = step_of(row.level);
        for (metric, stats) in &row.metrics {
            let measured = |value: f64| Cell::Number((stats.count > 0).then_some(value));
            self.rollups.push(&[
                tenant,
                kind,
                id,
                Cell::Text(Some(metric)),
                Cell::Text(Some(step)),
                Cell::Time(row.start),
                Cell::Whole(u64::from(stats.count)),
                Cell::Number(stats.avg()),
                Cell::Number(stats.time_weighted_avg()),
                measured(stats.min),
                measured(stats.max),
                measured(stats.first),
                measured(stats.last),
                Cell::Number(Some(stats.increase)),
                Cell::Number(Some(f64::from(stats.covered_ms) / 1_000.0)),
                Cell::Flag(row.corrected),
            ]);
        }
    }

    /// Sends the tables that are full, or all.
    fn send(&mut self, all: bool) -> Result<(), Fault> {
        for rows in [&mut self.rollups, &mut self.kpis, &mut self.states] {
            if !all && !rows.is_full() {
                continue;
            }
            let (count, bytes) = (rows.count as u64, rows.bytes() as u64);
            if let Some(statement) = rows.take(self.schema) {
                self.session.run(&statement)?;
                self.written.rows += count;
                self.written.bytes += bytes;
            }
        }
        Ok(())
    }
}
