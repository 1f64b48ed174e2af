//! The side of the warehouse.

use std::collections::{BTreeMap, BTreeSet};

use gemba_twins::id::TenantId;

use super::{BLOCK, Blocks, ReconcileError};
use crate::checkpoint::{rows, sql::quoted, warehouse::Warehouse};

/// A tenant's rows in a table, up to the seqs that both sides should have.
pub(super) struct Table<'a> {
    pub(super) warehouse: &'a Warehouse,
    pub(super) schema: &'a str,
    pub(super) tenant: &'a TenantId,
    pub(super) table: rows::Table,
    pub(super) limits: &'a BTreeMap<u16, u64>,
}

impl Table<'_> {
    fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table.name())
    }

    /// The column of the time that a row is about.
    fn time(&self) -> &'static str {
        match self.table {
            rows::Table::Readings => "EVENT_TS",
            rows::Table::Scans | rows::Table::Twins => "SCAN_TS",
        }
    }

    /// The rows that are compared.
    fn wanted(&self) -> String {
        // Shards of one limit stand together.
        let mut shards: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (shard, limit) in self.limits {
            shards.entry(*limit).or_default().push(shard.to_string());
        }
        let of = |(limit, shards): (&u64, &Vec<String>)| {
            format!("(SHARD IN ({}) AND SEQ <= {limit})", shards.join(", "))
        };
        let within: Vec<String> = shards.iter().map(of).collect();
        format!(
            "TENANT_ID = {} AND ({})",
            quoted(self.tenant.as_str()),
            within.join(" OR ")
        )
    }

    fn of_day(&self, day: &str) -> String {
        let (time, wanted, day) = (self.time(), self.wanted(), quoted(day));
        format!("{wanted} AND {time} >= {day}::DATE AND {time} < DATEADD(DAY, 1, {day}::DATE)")
    }

    /// The digest of a row: the files' side makes the same text.
    fn digest(&self) -> String {
        let ms = |column: &str| format!("DATE_PART(EPOCH_MILLISECOND, {column})::VARCHAR");
        let or_nothing = |column: &str| format!("COALESCE({column}, '')");
        let parts = match self.table {
            rows::Table::Readings => vec![
                "SEQ::VARCHAR".to_owned(),
                ms("EVENT_TS"),
                ms("RECEIVED_TS"),
                "TWIN_KIND || '/' || TWIN_ID".into(),
                "SENSOR_ID".into(),
                or_nothing("MESSAGE_ID"),
                "ARRAY_SIZE(OBJECT_KEYS(PAYLOAD))::VARCHAR".into(),
            ],
            rows::Table::Scans | rows::Table::Twins => vec![
                "SEQ::VARCHAR".to_owned(),
                ms("SCAN_TS"),
                ms("RECEIVED_TS"),
                "JOB_ID".into(),
                "LOCATION".into(),
                or_nothing("READER_ID"),
                or_nothing("PRODUCT_ID"),
                "IFF(COMPLETES, 'true', 'false')".into(),
                or_nothing("MESSAGE_ID"),
            ],
        };
        format!("SHA2({}, 256)", parts.join(" || '|' || "))
    }

    fn ask(&self, statement: &str) -> Result<Vec<Vec<String>>, ReconcileError> {
        let rows = self.warehouse.run(statement)?;
        let whole = |row: Vec<Option<String>>| row.into_iter().map(Option::unwrap_or_default).collect();
        Ok(rows.into_iter().map(whole).collect())
    }

    /// The days of which there are rows.
    pub(super) fn days(&self) -> Result<BTreeSet<String>, ReconcileError> {
        let (time, name, wanted) = (self.time(), self.name(), self.wanted());
        let rows = self.ask(&format!(
            "SELECT DISTINCT {time}::DATE::VARCHAR FROM {name} WHERE {wanted}"
        ))?;
        Ok(rows
            .into_iter()
            .filter_map(|row| row.into_iter().next())
            .collect())
    }

    /// What each block of a day holds.
    pub(super) fn blocks(&self, day: &str) -> Result<Blocks, ReconcileError> {
        let rows = self.ask(&format!(
            "SELECT SHARD::VARCHAR, (SEQ - MOD(SEQ, {BLOCK}))::VARCHAR, COUNT(*)::VARCHAR, \
             SHA2(LISTAGG({}, '') WITHIN GROUP (ORDER BY SEQ), 256) FROM {} WHERE {} \
             GROUP BY SHARD, SEQ - MOD(SEQ, {BLOCK})",
            self.digest(),
            self.name(),
            self.of_day(day)
        ))?;
        let mut blocks = Blocks::new();
        for row in rows {
            let [shard, block, count, digest] = <[String; 4]>::try_from(row).map_err(odd)?;
            let at = (number(&shard)?, number(&block)?);
            blocks.insert(at, (number(&count)?, digest.to_ascii_lowercase()));
        }
        Ok(blocks)
    }

    /// The rows of one block of a day, by their seqs.
    pub(super) fn rows(
        &self,
        day: &str,
        (shard, block): (u16, u64),
    ) -> Result<BTreeMap<u64, Vec<String>>, ReconcileError> {
        let rows = self.ask(&format!(
            "SELECT SEQ::VARCHAR, {} FROM {} WHERE {} AND SHARD = {shard} AND SEQ >= {block} AND SEQ < {}",
            self.digest(),
            self.name(),
            self.of_day(day),
            block + BLOCK
        ))?;
        let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for row in rows {
            let [seq, digest] = <[String; 2]>::try_from(row).map_err(odd)?;
            found
                .entry(number(&seq)?)
                .or_default()
                .push(digest.to_ascii_lowercase());
        }
        Ok(found)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, ReconcileError> {
    text.parse().map_err(|_| odd(vec![text.to_owned()]))
}

fn odd(row: Vec<String>) -> ReconcileError {
    ReconcileError::Odd(format!("the warehouse answers what cannot be read: {row:?}"))
}
