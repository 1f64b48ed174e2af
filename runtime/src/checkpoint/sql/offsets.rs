//! How far a place is committed by SQL, as a row of `CHECKPOINT_OFFSETS`, and whose turn it is to write.
//!
//! Promises: the row is moved on in the transaction of the rows it stands for, by whoever knows the seq and the epoch
//! that stand there: a writer of before finds no row to update. Each opening raises the epoch.

use gemba_twins::time::Timestamp;

use super::{Session, ntz, quoted};
use crate::checkpoint::{client::Fault, place::Place};

/// Where a place stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) last_seq: u64,
    pub(super) epoch: u64,
    /// When it was moved or taken last.
    pub(super) updated: Timestamp,
}

/// The row of a place.
pub(super) struct OffsetRow {
    table: String,
    key: String,
    tenant: String,
    shard: u16,
    stream: String,
}

impl OffsetRow {
    pub(super) fn new(schema: &str, place: &Place, prefix: &str) -> Self {
        let stream = format!("{prefix}.{}", place.table.word());
        let tenant = place.tenant.as_str().to_owned();
        Self {
            table: format!("{schema}.CHECKPOINT_OFFSETS"),
            key: format!(
                "TENANT_ID = {} AND SHARD = {} AND STREAM = {}",
                quoted(&tenant),
                place.shard,
                quoted(&stream)
            ),
            tenant,
            shard: place.shard,
            stream,
        }
    }

    /// What stands there; `None` where there is no row yet.
    pub(super) fn read(&self, session: &Session) -> Result<Option<Offset>, Fault> {
        let Self { table, key, .. } = self;
        let rows = session.run(&format!(
            "SELECT LAST_SEQ::VARCHAR, EPOCH::VARCHAR, TO_VARCHAR(DATE_PART(EPOCH_MILLISECOND, UPDATED_TS)) \
             FROM {table} WHERE {key}"
        ))?;
        if rows.len() > 1 {
            return Err(Fault::Refused(format!(
                "{table} has {} rows of one place ({key}): leave the one with the smallest LAST_SEQ",
                rows.len()
            )));
        }
        let Some(row) = rows.first() else { return Ok(None) };
        let number = |column: usize| row.get(column)?.as_deref()?.parse::<i64>().ok();
        match (number(0), number(1), number(2)) {
            (Some(last_seq), Some(epoch), Some(updated)) if last_seq >= 0 && epoch >= 0 => Ok(Some(Offset {
                last_seq: last_seq.unsigned_abs(),
                epoch: epoch.unsigned_abs(),
                updated: Timestamp::from_ms(updated),
            })),
            _ => Err(Fault::Refused(format!(
                "{table} holds what cannot be read ({key}): {row:?}"
            ))),
        }
    }

    /// Takes the place: raises its epoch, from `held` where that is known. What stood there before, with the new epoch.
    pub(super) fn take(&self, session: &Session, held: Option<u64>, now: Timestamp) -> Result<Offset, Fault> {
        let Self { table, key, .. } = self;
        session.run("BEGIN")?;
        let before = match self.read(session)? {
            Some(before) => before,
            None => {
                session.change(&format!(
                    "INSERT INTO {table} (TENANT_ID, SHARD, STREAM, LAST_SEQ, EPOCH, UPDATED_TS) \
                     SELECT {}, {}, {}, 0, 0, {}::TIMESTAMP_NTZ(3)",
                    quoted(&self.tenant),
                    self.shard,
                    quoted(&self.stream),
                    quoted(&ntz(now))
                ))?;
                Offset {
                    last_seq: 0,
                    epoch: 0,
                    updated: now,
                }
            }
        };
        if held.is_some_and(|held| held != before.epoch) {
            session.run("ROLLBACK")?;
            return Err(Fault::Stale(format!(
                "epoch {} is another writer's",
                before.epoch
            )));
        }
        let epoch = before.epoch + 1;
        let taken = session.change(&format!(
            "UPDATE {table} SET EPOCH = {epoch} WHERE {key} AND EPOCH = {} AND LAST_SEQ = {}",
            before.epoch, before.last_seq
        ))?;
        if taken != 1 {
            session.run("ROLLBACK")?;
            return Err(Fault::Reopen(format!("{taken} rows were taken")));
        }
        session.run("COMMIT")?;
        Ok(Offset { epoch, ..before })
    }

    /// Moves the row on within a transaction; false where another writer, or an earlier try, has done so.
    pub(super) fn advance(
        &self,
        session: &Session,
        from: Offset,
        to: u64,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        let Self { table, key, .. } = self;
        let moved = session.change(&format!(
            "UPDATE {table} SET LAST_SEQ = {to}, UPDATED_TS = {}::TIMESTAMP_NTZ(3) \
             WHERE {key} AND LAST_SEQ = {} AND EPOCH = {}",
            quoted(&ntz(now)),
            from.last_seq,
            from.epoch
        ))?;
        Ok(moved == 1)
    }
}
