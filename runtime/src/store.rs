//! The state store, `state.redb`: each shard's snapshot, keyed by shard first.
//!
//! Promises: a snapshot is written in one transaction with the seq it stands for, so what is read back is a
//! consistent cut; each value carries a checksum and damage is reported, never used. It can always be made again
//! from a whole journal. Layout: FORMAT.md.

mod error;
mod replica;
mod told;

pub use self::error::StoreError;
pub(crate) use self::replica::Export;
use std::{collections::BTreeMap, path::Path, sync::Arc};

use gemba_twins::{
    id::{Kind, TenantId, TwinId},
    rollup::{Level, RollupRow},
    time::Timestamp,
    twin::Twin,
};
use prost::Message as _;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    dashboards,
    shard::{RejectedRecord, ShardMeta, record},
    table::{RejectedMessage, RollupKey},
};

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

const FOLDER: Bytes = Bytes::new("folder");
const SHARDS: Bytes = Bytes::new("shards");
const TWINS: Bytes = Bytes::new("twins");
const KNOWN: Bytes = Bytes::new("known");
const ROLLUPS: Bytes = Bytes::new("rollups");
const DEDUPE: Bytes = Bytes::new("dedupe");
const REJECTED: Bytes = Bytes::new("rejected");
const SET_ASIDE: Bytes = Bytes::new("set_aside");
const PLANTS: Bytes = Bytes::new("plants");
/// How far each destination of notifications was told.
const TOLD: Bytes = Bytes::new("told");
const DASHBOARDS: Bytes = Bytes::new("dashboards");
const TABLES: [Bytes; 11] = [
    FOLDER, SHARDS, TWINS, KNOWN, ROLLUPS, DEDUPE, REJECTED, SET_ASIDE, PLANTS, DASHBOARDS, TOLD,
];

/// The layout that FORMAT.md draws.
const FORMAT_VERSION: u8 = 1;

/// The state store of one node.
pub(crate) struct Store {
    database: Database,
}

/// All that one snapshot of a shard writes.
pub(crate) struct Snapshot {
    pub(crate) shard: u16,
    pub(crate) meta: ShardMeta,
    pub(crate) twins: Vec<(TwinId, Vec<u8>)>,
    pub(crate) rollups: Arc<BTreeMap<RollupKey, RollupRow>>,
    /// New keys of the dedupe window, oldest first.
    pub(crate) dedupe: Vec<u128>,
    /// Chunks of the window that begin below this number are out of it.
    pub(crate) dedupe_drop_below: u64,
    /// Rejected messages that are new, and those that are gone.
    pub(crate) rejected: Vec<((TenantId, u64), RejectedMessage)>,
    pub(crate) set_aside: Vec<(TwinId, String)>,
    pub(crate) plants: Vec<(TenantId, Vec<u8>)>,
    pub(crate) dashboards: Vec<dashboards::Row>,
}

/// What a shard starts from.
pub(crate) struct Restored {
    pub(crate) meta: ShardMeta,
    pub(crate) known: Vec<TwinId>,
    /// Chunks of the dedupe window: the number of keys before the chunk, and its keys.
    pub(crate) dedupe: Vec<(u64, Vec<u128>)>,
    pub(crate) set_aside: Vec<TwinId>,
    pub(crate) plants: Vec<(TenantId, Vec<u8>)>,
    pub(crate) dashboards: Vec<Vec<u8>>,
}

impl Store {
    /// Opens the store of a data folder, or makes it; `shards` must be what the folder was made with.
    pub(crate) fn open(path: &Path, shards: u16, cache_bytes: usize) -> Result<Self, StoreError> {
        let database = Database::builder().set_cache_size(cache_bytes).create(path)?;
        let write = database.begin_write()?;
        {
            for table in TABLES {
                write.open_table(table)?;
            }
            let mut folder = write.open_table(FOLDER)?;
            let made_with = folder
                .get(b"folder".as_slice())?
                .map(|value| value.value().to_vec());
            let ours = [&[FORMAT_VERSION][..], &shards.to_be_bytes()].concat();
            match made_with {
                None => {
                    folder.insert(b"folder".as_slice(), ours.as_slice())?;
                }
                Some(theirs) if theirs == ours => {}
                Some(theirs) if theirs.first() == Some(&FORMAT_VERSION) && theirs.len() == 3 => {
                    let theirs = u16::from_be_bytes([theirs[1], theirs[2]]);
                    return Err(StoreError::Folder(format!(
                        "the data folder was made with {theirs} shards, not {shards} (the number is fixed: set node.shards = {theirs})"
                    )));
                }
                Some(_) => {
                    return Err(StoreError::Folder(
                        "state.redb was written by a newer gemba (use that release, or remove state.redb to make it again from the journal)".into(),
                    ));
                }
            }
        }
        write.commit()?;
        Ok(Self { database })
    }

    /// The number of shards a data folder was made with, `None` where there is none yet.
    pub(crate) fn shards_of(path: &Path) -> Result<Option<u16>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        let database = Database::builder().open(path)?;
        let read = database.begin_read()?;
        let folder = match read.open_table(FOLDER) {
            Ok(folder) => folder,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let value = folder
            .get(b"folder".as_slice())?
            .map(|value| value.value().to_vec());
        Ok(value
            .filter(|bytes| bytes.len() == 3)
            .map(|bytes| u16::from_be_bytes([bytes[1], bytes[2]])))
    }

    pub(crate) fn is_set_aside(&self, shard: u16, id: &TwinId) -> Result<bool, StoreError> {
        let read = self.database.begin_read()?;
        Ok(read
            .open_table(SET_ASIDE)?
            .get(twin_key(shard, id).as_slice())?
            .is_some())
    }

    /// A twin as it was at the shard's last snapshot.
    pub(crate) fn twin(&self, shard: u16, id: &TwinId) -> Result<Option<Twin>, StoreError> {
        let key = twin_key(shard, id);
        let read = self.database.begin_read()?;
        let Some(value) = read.open_table(TWINS)?.get(key.as_slice())? else {
            return Ok(None);
        };
        let damaged = || StoreError::Damaged { what: id.to_string() };
        let body = unseal(&key, value.value()).ok_or_else(damaged)?;
        Twin::decode(id.clone(), body).map(Some).map_err(|_| damaged())
    }

    /// Closed buckets of a twin that begin within `from..to`, in order of time.
    pub(crate) fn rollups(
        &self,
        shard: u16,
        id: &TwinId,
        level: Level,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<RollupRow>, StoreError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(ROLLUPS)?;
        let (low, high) = (
            rollup_key(shard, id, level as u8, from.ms()),
            rollup_key(shard, id, level as u8, to.ms()),
        );
        let mut rows = Vec::new();
        for row in table.range(low.as_slice()..high.as_slice())? {
            let (key, value) = row?;
            rows.push(open_rollup(key.value(), value.value(), id)?);
        }
        Ok(rows)
    }

    /// Rejected messages of a tenant after a seq, in order.
    pub(crate) fn rejected(
        &self,
        tenant: &TenantId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, RejectedRecord)>, StoreError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(REJECTED)?;
        let (low, high) = (
            rejected_key(tenant, after.saturating_add(1)),
            rejected_key(tenant, u64::MAX),
        );
        let mut items = Vec::new();
        for row in table.range(low.as_slice()..high.as_slice())?.take(limit) {
            let (key, value) = row?;
            let key = key.value();
            let seq = key[key.len() - 8..]
                .try_into()
                .map(u64::from_be_bytes)
                .unwrap_or_default();
            let damaged = || StoreError::Damaged {
                what: format!("rejected message {seq}"),
            };
            let body = unseal(key, value.value()).ok_or_else(damaged)?;
            items.push((seq, record::decode_rejected(body).map_err(|_| damaged())?));
        }
        Ok(items)
    }

    /// What a shard keeps beside its twins, as of its last snapshot.
    pub(crate) fn meta(&self, shard: u16) -> Result<ShardMeta, StoreError> {
        let key = shard.to_be_bytes();
        let read = self.database.begin_read()?;
        let Some(value) = read.open_table(SHARDS)?.get(key.as_slice())? else {
            return Ok(ShardMeta::default());
        };
        let damaged = || StoreError::Damaged {
            what: format!("shard {shard} (its position)"),
        };
        let body = unseal(&key, value.value()).ok_or_else(damaged)?;
        ShardMeta::decode(body).map_err(|_| damaged())
    }

    /// Writes a shard's snapshot in one durable transaction.
    pub(crate) fn write(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.set_quick_repair(true);
        let shard = snapshot.shard;
        {
            let (mut twins, mut known) = (write.open_table(TWINS)?, write.open_table(KNOWN)?);
            for (id, bytes) in &snapshot.twins {
                let key = twin_key(shard, id);
                twins.insert(key.as_slice(), seal(&key, bytes.clone()).as_slice())?;
                known.insert(key.as_slice(), [].as_slice())?;
            }
            let mut rollups = write.open_table(ROLLUPS)?;
            for ((id, level, start), row) in snapshot.rollups.iter() {
                let key = rollup_key(shard, id, *level, *start);
                let before = match rollups.get(key.as_slice())? {
                    Some(value) => Some(open_rollup(&key, value.value(), id)?),
                    None => None,
                };
                let mut bytes = Vec::new();
                match before {
                    Some(mut before) => {
                        before.merge(row);
                        before.encode(&mut bytes);
                    }
                    None => row.encode(&mut bytes),
                }
                rollups.insert(key.as_slice(), seal(&key, bytes).as_slice())?;
            }
            let mut dedupe = write.open_table(DEDUPE)?;
            if !snapshot.dedupe.is_empty() {
                let first = snapshot.meta.dedupe_count - snapshot.dedupe.len() as u64;
                let key = dedupe_key(shard, first);
                let bytes = snapshot.dedupe.iter().flat_map(|key| key.to_le_bytes()).collect();
                dedupe.insert(key.as_slice(), seal(&key, bytes).as_slice())?;
            }
            let (low, high) = (
                dedupe_key(shard, 0),
                dedupe_key(shard, snapshot.dedupe_drop_below),
            );
            dedupe.retain_in(low.as_slice()..high.as_slice(), |_, _| false)?;
            let mut rejected = write.open_table(REJECTED)?;
            for ((tenant, seq), item) in &snapshot.rejected {
                let key = rejected_key(tenant, *seq);
                match item {
                    Some(item) => {
                        let mut bytes = Vec::new();
                        record::encode_rejected_body(item, &mut bytes);
                        rejected.insert(key.as_slice(), seal(&key, bytes).as_slice())?;
                    }
                    None => {
                        rejected.remove(key.as_slice())?;
                    }
                }
            }
            let mut set_aside = write.open_table(SET_ASIDE)?;
            for (id, reason) in &snapshot.set_aside {
                set_aside.insert(twin_key(shard, id).as_slice(), reason.as_bytes())?;
            }
            let mut plants = write.open_table(PLANTS)?;
            for (tenant, bytes) in &snapshot.plants {
                let key = tenant.as_str().as_bytes();
                plants.insert(key, seal(key, bytes.clone()).as_slice())?;
            }
            let mut saved = write.open_table(DASHBOARDS)?;
            for (key, bytes) in &snapshot.dashboards {
                match bytes {
                    Some(bytes) => saved.insert(key.as_slice(), seal(key, bytes.clone()).as_slice())?,
                    None => saved.remove(key.as_slice())?,
                };
            }
            let key = shard.to_be_bytes();
            let meta = seal(&key, snapshot.meta.encode_to_vec());
            write
                .open_table(SHARDS)?
                .insert(key.as_slice(), meta.as_slice())?;
        }
        write.commit()?;
        Ok(())
    }

    /// What a shard starts from: its last snapshot, without the twins themselves.
    pub(crate) fn restore(&self, shard: u16) -> Result<Restored, StoreError> {
        let read = self.database.begin_read()?;
        let damaged = |what: &str| StoreError::Damaged {
            what: format!("shard {shard} ({what})"),
        };
        let key = shard.to_be_bytes();
        let meta = self.meta(shard)?;
        let shard_range = (key.to_vec(), (u32::from(shard) + 1).to_be_bytes()[2..].to_vec());
        // The last shard number has no next one within two bytes.
        let end = if shard == u16::MAX {
            vec![0xff; 3]
        } else {
            shard_range.1
        };
        let range = shard_range.0.as_slice()..end.as_slice();
        let mut known = Vec::new();
        for row in read.open_table(KNOWN)?.range(range.clone())? {
            known.push(id_of(row?.0.value()).ok_or_else(|| damaged("its list of twins"))?);
        }
        let mut set_aside = Vec::new();
        for row in read.open_table(SET_ASIDE)?.range(range.clone())? {
            set_aside.push(id_of(row?.0.value()).ok_or_else(|| damaged("its list of twins"))?);
        }
        let mut dedupe = Vec::new();
        for row in read.open_table(DEDUPE)?.range(range)? {
            let (key, value) = row?;
            let body = unseal(key.value(), value.value()).ok_or_else(|| damaged("its dedupe window"))?;
            let first = key.value()[2..]
                .try_into()
                .map(u64::from_be_bytes)
                .unwrap_or_default();
            let keys = body
                .chunks_exact(16)
                .map(|chunk| u128::from_le_bytes(chunk.try_into().unwrap_or_default()));
            dedupe.push((first, keys.collect()));
        }
        let mut plants = Vec::new();
        for row in read.open_table(PLANTS)?.iter()? {
            let (key, value) = row?;
            let body = unseal(key.value(), value.value()).ok_or_else(|| damaged("its plant models"))?;
            let tenant = str::from_utf8(key.value())
                .ok()
                .and_then(|text| TenantId::parse(text).ok());
            plants.push((tenant.ok_or_else(|| damaged("its plant models"))?, body.to_vec()));
        }
        let mut dashboards = Vec::new();
        for row in read.open_table(DASHBOARDS)?.iter()? {
            let (key, value) = row?;
            let body = unseal(key.value(), value.value()).ok_or_else(|| damaged("its dashboards"))?;
            dashboards.push(body.to_vec());
        }
        Ok(Restored {
            meta,
            known,
            dedupe,
            set_aside,
            plants,
            dashboards,
        })
    }

    /// Checks every value; calls `seen` with the number checked so far. Returns what is damaged.
    pub(crate) fn verify(&self, seen: &mut dyn FnMut(u64)) -> Result<Vec<String>, StoreError> {
        let read = self.database.begin_read()?;
        let (mut damaged, mut count) = (Vec::new(), 0);
        for definition in [SHARDS, TWINS, ROLLUPS, DEDUPE, REJECTED, PLANTS, DASHBOARDS, TOLD] {
            let name = redb::TableHandle::name(&definition).to_owned();
            for row in read.open_table(definition)?.iter()? {
                let (key, value) = row?;
                count += 1;
                if unseal(key.value(), value.value()).is_none() {
                    damaged.push(format!(
                        "state.redb: {name}: {}",
                        String::from_utf8_lossy(key.value())
                    ));
                }
                if count % 4_096 == 0 {
                    seen(count);
                }
            }
        }
        seen(count);
        Ok(damaged)
    }
}

/// A value with its checksum behind it; the key is in the sum, so that a value under a wrong key is noticed.
fn seal(key: &[u8], mut body: Vec<u8>) -> Vec<u8> {
    let sum = checksum(key, &body);
    body.extend_from_slice(&sum);
    body
}

fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (body, sum) = value.split_last_chunk::<8>()?;
    (checksum(key, body) == *sum).then_some(body)
}

fn checksum(key: &[u8], body: &[u8]) -> [u8; 8] {
    (xxh3_64(key).rotate_left(1) ^ xxh3_64(body)).to_le_bytes()
}

fn twin_key(shard: u16, id: &TwinId) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + id.tenant().as_str().len() + id.id().len() + 10);
    key.extend_from_slice(&shard.to_be_bytes());
    key.extend_from_slice(id.tenant().as_str().as_bytes());
    key.extend_from_slice(&[0, id.kind() as u8]);
    key.extend_from_slice(id.id().as_bytes());
    key
}

fn id_of(key: &[u8]) -> Option<TwinId> {
    let rest = key.get(2..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let tenant = TenantId::parse(str::from_utf8(&rest[..end]).ok()?).ok()?;
    let kind = Kind::from_number(u32::from(*rest.get(end + 1)?))?;
    TwinId::new(tenant, kind, str::from_utf8(rest.get(end + 2..)?).ok()?).ok()
}

fn rollup_key(shard: u16, id: &TwinId, level: u8, start_ms: i64) -> Vec<u8> {
    let mut key = twin_key(shard, id);
    key.extend_from_slice(&[0, level]);
    // Times are after 1970, so their big-endian bytes sort as they do.
    key.extend_from_slice(&start_ms.to_be_bytes());
    key
}

fn open_rollup(key: &[u8], value: &[u8], id: &TwinId) -> Result<RollupRow, StoreError> {
    let damaged = || StoreError::Damaged {
        what: format!("the rollups of {id}"),
    };
    RollupRow::decode(unseal(key, value).ok_or_else(damaged)?).map_err(|_| damaged())
}

fn dedupe_key(shard: u16, first: u64) -> Vec<u8> {
    [&shard.to_be_bytes()[..], &first.to_be_bytes()].concat()
}

fn rejected_key(tenant: &TenantId, seq: u64) -> Vec<u8> {
    [tenant.as_str().as_bytes(), &[0], &seq.to_be_bytes()].concat()
}
