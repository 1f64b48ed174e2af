//! Whether the warehouse has what was accepted here: each row once, no other, and the same.
//!
//! Promises: compares row by row, not sums: both sides work out the SHA-256 of each row and of each block of seqs, and only
//! the blocks that differ are looked at row by row. What is compared is what both sides should have: the seqs that the
//! warehouse has committed and that stand in the history's files. Memory is bounded by a tenant's rows of one day. A row
//! is held by its seq, twin or job, times, sensor or reader, message id and number of metrics; the metrics' values are
//! not, since the warehouse writes numbers in its own way.

mod here;
mod there;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use gemba_twins::id::TenantId;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{
    place::{Kept, Place},
    rows::Table,
    warehouse::{Warehouse, WarehouseError},
};
use crate::history::{FileError, ShardWriter};

/// Seqs of a block.
const BLOCK: u64 = 2_048;
/// Differences that are named; all are counted.
const NAMED_MAX: usize = 1_000;

/// Why nothing can be said.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// The warehouse.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// The files.
    #[error(transparent)]
    Files(#[from] FileError),
    /// Something is not as it should be.
    #[error("{0}")]
    Odd(String),
}

/// What is compared, and where both sides are.
pub struct Reconciliation<'a> {
    /// The warehouse.
    pub warehouse: &'a Warehouse,
    /// Database and schema of the tables.
    pub schema: &'a str,
    /// The history's folder.
    pub history: &'a Path,
    /// The checkpoint's folder.
    pub checkpoint: &'a Path,
    /// Whose; all tenants of the files for `None`.
    pub tenant: Option<&'a TenantId>,
    /// The first day that is compared, as `2026-11-23`: where files of before have been deleted.
    pub from_day: Option<&'a str>,
}

/// A tenant's rows of a shard in a table, on both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Whose.
    pub tenant: String,
    /// `readings` or `scans`.
    pub stream: &'static str,
    /// The table.
    pub table: &'static str,
    /// The shard.
    pub shard: u16,
    /// Up to this seq both sides should have everything.
    pub last_seq: u64,
    /// Rows in the files that the warehouse has not committed yet; they are not compared.
    pub waiting: u64,
    /// Rows in the files.
    pub rows_here: u64,
    /// Rows in the table.
    pub rows_there: u64,
    /// SHA-256 over the rows in the files.
    pub checksum_here: String,
    /// SHA-256 over the rows in the table.
    pub checksum_there: String,
    /// Seqs that are here and not there.
    pub missing: Vec<u64>,
    /// Seqs that are there more than once.
    pub doubled: Vec<u64>,
    /// Seqs that are there and not here.
    pub foreign: Vec<u64>,
    /// Seqs whose rows are not the same.
    pub changed: Vec<u64>,
    /// How many differences there are, also those that are not named.
    pub differences: u64,
}

impl Compared {
    /// Whether both sides are the same.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.differences == 0
    }
}

/// The rows of a day, by shard and seq, each by its digest; more than one where a row is doubled.
type Rows = BTreeMap<(u16, u64), Vec<String>>;

/// What a block of seqs holds: rows, and the digest over theirs.
type Blocks = BTreeMap<(u16, u64), (u64, String)>;

fn digest(text: &str) -> String {
    let bytes = Sha256::digest(text.as_bytes());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn block_of(seq: u64) -> u64 {
    seq - seq % BLOCK
}

/// The blocks that rows make; the warehouse works them out in the same way.
fn blocks_of(rows: &Rows) -> Blocks {
    let mut texts: BTreeMap<(u16, u64), (u64, String)> = BTreeMap::new();
    for ((shard, seq), digests) in rows {
        let (count, text) = texts.entry((*shard, block_of(*seq))).or_default();
        *count += digests.len() as u64;
        digests.iter().for_each(|digest| text.push_str(digest));
    }
    texts
        .into_iter()
        .map(|(block, (count, text))| (block, (count, digest(&text))))
        .collect()
}

/// What is found of a shard, day after day.
struct Found {
    compared: Compared,
    here: Sha256,
    there: Sha256,
}

impl Reconciliation<'_> {
    /// Compares both sides; one entry for each tenant, table and shard that has rows on either. Blocks.
    pub fn run(&self) -> Result<Vec<Compared>, ReconcileError> {
        let mut all = Vec::new();
        for tenant in here::tenants(self.history)? {
            if self.tenant.is_none_or(|wanted| *wanted == tenant) {
                for table in Table::OF_EVENTS {
                    all.extend(self.compare(&tenant, table)?);
                }
            }
        }
        Ok(all)
    }

    fn compare(&self, tenant: &TenantId, table: Table) -> Result<Vec<Compared>, ReconcileError> {
        let limits = self.limits(tenant, table)?;
        let there = there::Table {
            warehouse: self.warehouse,
            schema: self.schema,
            tenant,
            table,
            limits: &limits,
        };
        let mut days = here::days(self.history, tenant, table)?;
        days.extend(there.days()?);
        let mut found: BTreeMap<u16, Found> = BTreeMap::new();
        for day in days
            .iter()
            .filter(|day| self.from_day.is_none_or(|from| day.as_str() >= from))
        {
            let mut here = here::rows(self.history, tenant, table, day)?;
            let all = here.len();
            let waits = |(shard, seq): &(u16, u64)| *seq > limits.get(shard).copied().unwrap_or_default();
            for ((shard, _), _) in here.extract_if(.., |at, _| waits(at)) {
                found
                    .entry(shard)
                    .or_insert_with(|| Found::new(tenant, table, shard, &limits))
                    .compared
                    .waiting += 1;
            }
            let (blocks_here, blocks_there) = (blocks_of(&here), there.blocks(day)?);
            tracing::debug!(%tenant, stream = table.word(), day, rows = all, "compared");
            let blocks: BTreeSet<_> = blocks_here.keys().chain(blocks_there.keys()).collect();
            for at in blocks {
                let into = found
                    .entry(at.0)
                    .or_insert_with(|| Found::new(tenant, table, at.0, &limits));
                into.block(*at, blocks_here.get(at), blocks_there.get(at));
                if blocks_here.get(at) != blocks_there.get(at) {
                    let rows_there = there.rows(day, *at)?;
                    let rows_here = here.range(*at..(at.0, at.1 + BLOCK));
                    into.compared
                        .name(rows_here.map(|((_, seq), row)| (*seq, row)), &rows_there);
                }
            }
        }
        Ok(found.into_values().map(Found::finished).collect())
    }

    /// Up to which seq both sides should have everything, by shard.
    fn limits(&self, tenant: &TenantId, table: Table) -> Result<BTreeMap<u16, u64>, ReconcileError> {
        let limit = |shard: u16| {
            let place = Place {
                tenant: tenant.clone(),
                shard,
                table,
            };
            let committed = Kept::load(self.checkpoint, &place)?.clear_to;
            let writer = ShardWriter::open(self.history, shard);
            let writer = writer.map_err(|error| ReconcileError::Odd(error.to_string()))?;
            Ok((shard, committed.min(writer.offset.next.saturating_sub(1))))
        };
        here::shards(self.history)?.into_iter().map(limit).collect()
    }
}

impl Found {
    fn new(tenant: &TenantId, table: Table, shard: u16, limits: &BTreeMap<u16, u64>) -> Self {
        let compared = Compared {
            tenant: tenant.as_str().to_owned(),
            stream: table.word(),
            table: table.name(),
            shard,
            last_seq: limits.get(&shard).copied().unwrap_or_default(),
            ..Compared::default()
        };
        Self {
            compared,
            here: Sha256::new(),
            there: Sha256::new(),
        }
    }

    fn block(&mut self, at: (u16, u64), here: Option<&(u64, String)>, there: Option<&(u64, String)>) {
        for (side, rows, sum) in [
            (here, &mut self.compared.rows_here, &mut self.here),
            (there, &mut self.compared.rows_there, &mut self.there),
        ] {
            if let Some((count, digest)) = side {
                *rows += count;
                sum.update(format!("{}:{digest}", at.1));
            }
        }
    }

    fn finished(self) -> Compared {
        let text = |sum: Sha256| sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Compared {
            checksum_here: text(self.here),
            checksum_there: text(self.there),
            ..self.compared
        }
    }
}

impl Compared {
    /// Names what differs between the rows of a block.
    fn name<'a>(
        &mut self,
        here: impl Iterator<Item = (u64, &'a Vec<String>)>,
        there: &BTreeMap<u64, Vec<String>>,
    ) {
        let mut note = |into: &mut Vec<u64>, seq: u64| {
            self.differences += 1;
            if into.len() < NAMED_MAX {
                into.push(seq);
            }
        };
        let mut known = BTreeSet::new();
        for (seq, row) in here {
            known.insert(seq);
            match there.get(&seq) {
                None => note(&mut self.missing, seq),
                Some(found) if found.len() > row.len() => note(&mut self.doubled, seq),
                Some(found) if found != row => note(&mut self.changed, seq),
                Some(_) => {}
            }
        }
        for seq in there.keys().filter(|seq| !known.contains(seq)) {
            note(&mut self.foreign, *seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let row = |text: &str| vec![digest(text)];
        let here: BTreeMap<u64, Vec<String>> = (1..=5).map(|seq| (seq, row(&seq.to_string()))).collect();
        let mut there = here.clone();
        there.remove(&2);
        there.insert(3, vec![digest("3"), digest("3")]);
        there.insert(4, row("four"));
        there.insert(9, row("9"));
        let mut compared = Compared::default();
        compared.name(here.iter().map(|(seq, row)| (*seq, row)), &there);
        assert_eq!((&compared.missing, &compared.doubled), (&vec![2], &vec![3]));
        assert_eq!((&compared.changed, &compared.foreign), (&vec![4], &vec![9]));
        assert_eq!((compared.differences, compared.agrees()), (4, false));
    }

    #[test]
    fn blocks_differ_where_a_row_does() {
        let rows = |doubled: u64| -> Rows {
            let row = |seq: u64| {
                (
                    (0, seq),
                    vec![digest(&seq.to_string()); if seq == doubled { 2 } else { 1 }],
                )
            };
            (1..=BLOCK + 5).map(row).collect()
        };
        let (whole, doubled) = (blocks_of(&rows(0)), blocks_of(&rows(3)));
        assert_eq!(whole.len(), 2);
        assert_ne!(whole[&(0, 0)], doubled[&(0, 0)]);
        assert_eq!(whole[&(0, BLOCK)], doubled[&(0, BLOCK)]);
    }
}
