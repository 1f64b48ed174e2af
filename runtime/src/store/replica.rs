//! A shard's snapshot on its way to another node: its rows as they are, one after the other.
//!
//! Promises: what is sent is one consistent cut, whatever is written meanwhile; what is taken over replaces all that was
//! there of the shard in one durable transaction, or nothing. A row is a byte for its table, the lengths of key and value
//! (big-endian, four bytes each), key and value; values carry their checksums with them.

use gemba_twins::id::TenantId;
use redb::{Durability, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};

use super::{
    Bytes, DASHBOARDS, DEDUPE, KNOWN, PLANTS, REJECTED, ROLLUPS, SET_ASIDE, SHARDS, Store, StoreError, TOLD,
    TWINS, unseal,
};
use crate::shard::ShardMeta;

/// Tables in the order and with the numbers in which they are sent. The numbers are between nodes.
const SENT: [Bytes; 10] = [
    SHARDS, TWINS, KNOWN, ROLLUPS, DEDUPE, SET_ASIDE, REJECTED, TOLD, PLANTS, DASHBOARDS,
];
/// Tables whose keys begin with the shard.
const BY_SHARD: usize = 6;
/// Tables of which the control shard has all rows.
const OF_CONTROL: usize = 8;
/// Bytes of rows in a piece.
const PIECE: usize = 512 << 10;
/// Rows are at most so long: a twin, a plant model.
const ROW_MAX: usize = 16 << 20;

/// Which rows are a shard's.
#[derive(Clone, Copy)]
struct RowsOf<'a> {
    shard: u16,
    is_control: bool,
    keeps_rejected: &'a dyn Fn(&TenantId) -> bool,
}

impl RowsOf<'_> {
    fn has(&self, table: usize, key: &[u8]) -> bool {
        let prefix = self.shard.to_be_bytes();
        match table {
            0..BY_SHARD => key.starts_with(&prefix),
            6 => {
                let end = key.iter().position(|byte| *byte == 0);
                let tenant = end.and_then(|end| str::from_utf8(&key[..end]).ok());
                let tenant = tenant.and_then(|tenant| TenantId::parse(tenant).ok());
                !self.is_control && tenant.is_some_and(|tenant| (self.keeps_rejected)(&tenant))
            }
            7 => key.ends_with(&prefix),
            _ => self.is_control,
        }
    }

    /// Where a table's rows of the shard begin.
    fn begin(&self, table: usize) -> Vec<u8> {
        if table < BY_SHARD {
            self.shard.to_be_bytes().to_vec()
        } else {
            Vec::new()
        }
    }

    /// Whether no later key of the table can be the shard's.
    fn is_past(&self, table: usize, key: &[u8]) -> bool {
        table < BY_SHARD && !key.starts_with(&self.shard.to_be_bytes())
    }
}

/// The rows of a shard at its last snapshot, piece by piece.
pub(crate) struct Export {
    read: ReadTransaction,
    shard: u16,
    is_control: bool,
    keeps_rejected: Box<dyn Fn(&TenantId) -> bool + Send + Sync>,
    table: usize,
    after: Option<Vec<u8>>,
    /// The seq that the rows stand for.
    pub(crate) seq: u64,
}

impl Export {
    /// The next piece; `None` at the end. Blocks.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let mut piece = Vec::new();
        let of = RowsOf {
            shard: self.shard,
            is_control: self.is_control,
            keeps_rejected: &*self.keeps_rejected,
        };
        while self.table < SENT.len() {
            let table = self.read.open_table(SENT[self.table])?;
            let begin = self.after.clone().unwrap_or_else(|| of.begin(self.table));
            for row in table.range(begin.as_slice()..)? {
                let (key, value) = row?;
                let (key, value) = (key.value(), value.value());
                if self.after.as_deref() == Some(key) {
                    continue;
                }
                if of.is_past(self.table, key) {
                    break;
                }
                if !of.has(self.table, key) {
                    continue;
                }
                piece.push(u8::try_from(self.table).unwrap_or(u8::MAX));
                for part in [key, value] {
                    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
                    piece.extend_from_slice(&length.to_be_bytes());
                }
                piece.extend_from_slice(key);
                piece.extend_from_slice(value);
                if piece.len() >= PIECE {
                    self.after = Some(key.to_vec());
                    return Ok(Some(piece));
                }
            }
            self.table += 1;
            self.after = None;
        }
        Ok((!piece.is_empty()).then_some(piece))
    }
}

/// Rows of another node that take the place of a shard's.
pub(crate) struct Import {
    write: WriteTransaction,
    shard: u16,
    is_control: bool,
    /// What came and is not a whole row yet.
    rest: Vec<u8>,
}

impl Import {
    /// Takes some more bytes. Blocks.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        let mut at = 0;
        while let Some((table, key, value, end)) = row(&rest[at..])? {
            let Some(table) = SENT.get(usize::from(table)) else {
                return Err(StoreError::Io("a snapshot has rows of a newer gemba".into()));
            };
            self.write.open_table(*table)?.insert(key, value)?;
            at += end;
        }
        self.rest = rest[at..].to_vec();
        Ok(())
    }

    /// Puts the rows in force.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        if !self.rest.is_empty() {
            return Err(StoreError::Io("a snapshot ends within a row".into()));
        }
        self.write.commit()?;
        tracing::info!(
            shard = self.shard,
            control = self.is_control,
            "snapshot of another node taken over"
        );
        Ok(())
    }
}

/// A row: its table, key and value, and where it ends.
type Row<'a> = (u8, &'a [u8], &'a [u8], usize);

/// The first row of bytes; `None` where it is not whole yet.
fn row(bytes: &[u8]) -> Result<Option<Row<'_>>, StoreError> {
    let Some((head, rest)) = bytes.split_first_chunk::<9>() else {
        return Ok(None);
    };
    let length =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (key, value) = (length(1), length(5));
    if key > ROW_MAX || value > ROW_MAX {
        return Err(StoreError::Io("a snapshot is damaged: a row without end".into()));
    }
    if rest.len() < key + value {
        return Ok(None);
    }
    Ok(Some((
        head[0],
        &rest[..key],
        &rest[key..key + value],
        9 + key + value,
    )))
}

impl Store {
    /// A shard's rows as of its last snapshot, for another node.
    pub(crate) fn export(
        &self,
        shard: u16,
        is_control: bool,
        keeps_rejected: impl Fn(&TenantId) -> bool + Send + Sync + 'static,
    ) -> Result<Export, StoreError> {
        let read = self.database.begin_read()?;
        let key = shard.to_be_bytes();
        let meta = read.open_table(SHARDS)?.get(key.as_slice())?.map(|value| {
            unseal(&key, value.value()).and_then(|body| <ShardMeta as prost::Message>::decode(body).ok())
        });
        let seq = match meta {
            None => 0,
            Some(Some(meta)) => meta.seq,
            Some(None) => {
                let what = format!("shard {shard} (its position)");
                return Err(StoreError::Damaged { what });
            }
        };
        Ok(Export {
            read,
            shard,
            is_control,
            keeps_rejected: Box::new(keeps_rejected),
            table: 0,
            after: None,
            seq,
        })
    }

    /// Begins to replace a shard's rows by another node's; nothing changes until [`Import::finish`].
    pub(crate) fn import(
        &self,
        shard: u16,
        is_control: bool,
        keeps_rejected: &dyn Fn(&TenantId) -> bool,
    ) -> Result<Import, StoreError> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.set_quick_repair(true);
        let of = RowsOf {
            shard,
            is_control,
            keeps_rejected,
        };
        let tables = if is_control { SENT.len() } else { OF_CONTROL };
        for (number, table) in SENT.into_iter().enumerate().take(tables) {
            let mut table = write.open_table(table)?;
            let begin = of.begin(number);
            let mut own = Vec::new();
            for row in table.range(begin.as_slice()..)? {
                let (key, _) = row?;
                if of.is_past(number, key.value()) {
                    break;
                }
                if of.has(number, key.value()) {
                    own.push(key.value().to_vec());
                }
            }
            for key in own {
                table.remove(key.as_slice())?;
            }
        }
        Ok(Import {
            write,
            shard,
            is_control,
            rest: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(folder: &std::path::Path) -> Store {
        Store::open(&folder.join("state.redb"), 16, 1 << 20).expect("a store")
    }

    fn put(store: &Store, table: Bytes, key: &[u8], value: &[u8]) {
        let write = store.database.begin_write().expect("a transaction");
        let mut open = write.open_table(table).expect("a table");
        open.insert(key, super::super::seal(key, value.to_vec()).as_slice())
            .expect("inserted");
        drop(open);
        write.commit().expect("committed");
    }

    fn keys(store: &Store, table: Bytes) -> Vec<Vec<u8>> {
        let read = store.database.begin_read().expect("a transaction");
        let open = read.open_table(table).expect("a table");
        let rows = open.iter().expect("rows");
        rows.map(|row| row.expect("a row").0.value().to_vec()).collect()
    }

    #[test]
    fn a_shard_goes_to_another_node_and_the_others_stay_as_they_are() {
        let (here, there) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        let (from, to) = (store(here.path()), store(there.path()));
        for shard in [4_u16, 5, 6] {
            let prefix = shard.to_be_bytes();
            put(
                &from,
                TWINS,
                &[&prefix[..], b"acme\0\x01cnc"].concat(),
                &vec![7; 300_000],
            );
            put(
                &from,
                ROLLUPS,
                &[&prefix[..], b"acme\0\x01cnc\0\x01"].concat(),
                &vec![8; 400_000],
            );
            put(&from, TOLD, &[&b"hook\0"[..], &prefix].concat(), b"told");
            put(&to, TWINS, &[&prefix[..], b"acme\0\x01old"].concat(), b"old");
        }
        put(&from, REJECTED, b"acme\0\0\0\0\0\0\0\0\x01", b"rejected");
        put(&from, PLANTS, b"acme", b"plant");
        let mut export = from.export(5, false, |_| true).expect("an export");
        let mut import = to.import(5, false, &|_| true).expect("an import");
        let mut pieces = 0;
        while let Some(piece) = export.next().expect("a piece") {
            pieces += 1;
            // They arrive cut elsewhere.
            piece
                .chunks(100_000)
                .for_each(|part| import.take(part).expect("taken"));
        }
        import.finish().expect("taken over");
        assert!(pieces > 1, "several pieces");
        let twins = keys(&to, TWINS);
        assert_eq!(
            twins,
            [
                [&4_u16.to_be_bytes()[..], b"acme\0\x01old"].concat(),
                [&5_u16.to_be_bytes()[..], b"acme\0\x01cnc"].concat(),
                [&6_u16.to_be_bytes()[..], b"acme\0\x01old"].concat(),
            ]
        );
        assert_eq!(keys(&to, ROLLUPS).len(), 1);
        assert_eq!(keys(&to, TOLD), [[&b"hook\0"[..], &5_u16.to_be_bytes()].concat()]);
        assert_eq!(keys(&to, REJECTED).len(), 1);
        assert!(keys(&to, PLANTS).is_empty(), "plants are the control shard's");
    }

    #[test]
    fn half_a_row_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let to = store(folder.path());
        put(
            &to,
            TWINS,
            &[&5_u16.to_be_bytes()[..], b"acme\0\x01old"].concat(),
            b"old",
        );
        let mut import = to.import(5, false, &|_| true).expect("an import");
        import.take(&[1, 0, 0, 0, 4, 0, 0, 0, 9, 0]).expect("taken");
        assert!(import.finish().is_err());
        assert_eq!(keys(&to, TWINS).len(), 1);
    }
}
