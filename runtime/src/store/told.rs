//! How far each destination of notifications was told of each shard.
//!
//! Promises: written in a transaction of its own, at once on disk. Keys are `name 00 shard`, values a seq and an index.

use redb::{Durability, ReadableDatabase as _};

use super::{Store, StoreError, TOLD, seal, unseal};
use crate::notify::Told;

fn key(name: &str, shard: u16) -> Vec<u8> {
    [name.as_bytes(), &[0], &shard.to_be_bytes()].concat()
}

impl Store {
    /// By shard, how far a destination was told.
    pub(crate) fn told(&self, name: &str) -> Result<Vec<(u16, Told)>, StoreError> {
        let read = self.database.begin_read()?;
        let mut told = Vec::new();
        let rows = read.open_table(TOLD)?;
        for row in rows.range(key(name, 0).as_slice()..=key(name, u16::MAX).as_slice())? {
            let (key, value) = row?;
            let damaged = || StoreError::Damaged {
                what: format!("how far {name} was told"),
            };
            let body = unseal(key.value(), value.value()).ok_or_else(damaged)?;
            let (seq, index) = body.split_first_chunk::<8>().ok_or_else(damaged)?;
            let index = index.first_chunk::<4>().ok_or_else(damaged)?;
            let shard = key.value().last_chunk::<2>().ok_or_else(damaged)?;
            let so_far = Told {
                seq: u64::from_be_bytes(*seq),
                index: u32::from_be_bytes(*index),
            };
            told.push((u16::from_be_bytes(*shard), so_far));
        }
        Ok(told)
    }

    /// Keeps how far a destination was told.
    pub(crate) fn put_told(&self, name: &str, told: &[(u16, Told)]) -> Result<(), StoreError> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.set_quick_repair(true);
        {
            let mut table = write.open_table(TOLD)?;
            for (shard, told) in told {
                let key = key(name, *shard);
                let body = [&told.seq.to_be_bytes()[..], &told.index.to_be_bytes()].concat();
                table.insert(key.as_slice(), seal(&key, body).as_slice())?;
            }
        }
        write.commit()?;
        Ok(())
    }
}
