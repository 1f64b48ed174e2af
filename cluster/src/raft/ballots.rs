//! `raft.redb`: how this node has voted in each group, how far it knows a group to be committed, and which snapshots
//! it has taken over.
//!
//! Promises: a vote is on disk before it is answered, votes of several groups share a commit; each row has a checksum.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Mutex, PoisonError, RwLock},
};

use bytes::Bytes;
use prost::Message;
use redb::{
    Builder, Database, Durability, ReadableDatabase, StorageBackend, TableDefinition, TableError,
    backends::FileBackend,
};

use super::{
    clockwork::throw,
    wire::{PlaceWire, VoteWire},
};
use crate::{LogBase, LogPlace, ShardId, journal::Backend};

const VOTES: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("votes");
const COMMITTED: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("committed");
const INSTALLED: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("installed");
const IDENTITY: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("identity");

/// Entries after which the committed place is written again. A lower one is right too, only less: what is above it is
/// applied when the group's owner says so.
const COMMITTED_EVERY: u64 = 1_024;

#[derive(Clone, PartialEq, Message)]
struct InstalledRow {
    #[prost(message, optional, tag = "1")]
    place: Option<PlaceWire>,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(uint64, tag = "3")]
    epoch: u64,
    #[prost(bytes = "bytes", tag = "4")]
    members: Bytes,
    #[prost(message, optional, tag = "5")]
    members_place: Option<PlaceWire>,
}

#[derive(Clone, PartialEq, Message)]
struct MapRow {
    #[prost(bytes = "bytes", tag = "1")]
    map: Bytes,
}

/// Whose data a folder holds.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Identity {
    /// The cluster's name.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// The node's number in it.
    #[prost(uint64, tag = "2")]
    pub node: u64,
    /// Drawn when the folder was made; 0 asks for the one that is known, or for a new one.
    #[prost(uint64, tag = "3")]
    pub instance: u64,
}

#[derive(Default)]
struct Pending {
    votes: BTreeMap<u32, VoteWire>,
    /// Of the last vote that was given, and of the last one that is on disk.
    given: u64,
    written: u64,
}

/// Opens the file, again after an error.
type Opener = Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync>;

/// The ballots of a node.
pub struct Ballots {
    opener: Opener,
    /// `None` only while it cannot be opened.
    database: RwLock<Option<Database>>,
    pending: Mutex<Pending>,
    /// Held by whoever commits for all that wait.
    turn: Mutex<()>,
    committed: Mutex<BTreeMap<u32, LogPlace>>,
}

impl Ballots {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        Self::on(Box::new(move || {
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            if let Some(folder) = path.parent() {
                std::fs::File::open(folder)?.sync_all()?;
            }
            Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
        }))
    }

    /// Opens what a simulated disk holds.
    pub fn on(opener: Opener) -> io::Result<Self> {
        let database = RwLock::new(Some(open_database(&opener)?));
        Ok(Self {
            opener,
            database,
            pending: Mutex::default(),
            turn: Mutex::default(),
            committed: Mutex::default(),
        })
    }

    /// Says whose data this is, and learns the folder's instance; another cluster's or another node's is refused.
    pub fn claim(&self, cluster: &str, node: u64) -> io::Result<Identity> {
        match self.read::<Identity>(IDENTITY, 0)? {
            Some(known) if known.cluster == cluster && known.node == node => Ok(known),
            Some(known) => Err(io::Error::other(format!(
                "the data folder belongs to node {} of cluster {:?}, this is node {node} of {cluster:?}",
                known.node, known.cluster
            ))),
            None => {
                let identity = Identity {
                    cluster: cluster.into(),
                    node,
                    instance: throw().max(1),
                };
                self.write(IDENTITY, 0, &identity)?;
                Ok(identity)
            }
        }
    }

    /// The cluster's map as it was last saved.
    pub(crate) fn map(&self) -> io::Result<Option<Bytes>> {
        let row: Option<MapRow> = self.read(IDENTITY, 1)?;
        Ok(row.map(|row| row.map))
    }

    /// Saves the cluster's map. Blocks.
    pub(crate) fn save_map(&self, map: &Bytes) -> io::Result<()> {
        self.write(IDENTITY, 1, &MapRow { map: map.clone() })
    }

    pub(crate) fn vote(&self, shard: ShardId) -> io::Result<Option<VoteWire>> {
        self.read(VOTES, shard.get().into())
    }

    /// The term that a shard's replica has voted in last.
    pub fn voted(&self, shard: ShardId) -> io::Result<Option<u64>> {
        Ok(self.vote(shard)?.map(|vote| vote.term))
    }

    /// Votes for a node, for good.
    pub fn vote_in(&self, shard: ShardId, term: u64, node: u64) -> io::Result<()> {
        let committed = false;
        self.save_vote(
            shard,
            VoteWire {
                term,
                node,
                committed,
            },
        )
    }

    /// Writes a vote; on disk when it returns. Blocks.
    pub(crate) fn save_vote(&self, shard: ShardId, vote: VoteWire) -> io::Result<()> {
        let mine = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.votes.insert(shard.get().into(), vote);
            pending.given += 1;
            pending.given
        };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (votes, given) = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.written >= mine {
                return Ok(());
            }
            (std::mem::take(&mut pending.votes), pending.given)
        };
        let result = self.commit(Durability::Immediate, |write| {
            let mut table = write.open_table(VOTES)?;
            for (shard, vote) in &votes {
                table.insert(*shard, seal(*shard, vote).as_slice())?;
            }
            Ok(())
        });
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                pending.written = given;
                Ok(())
            }
            Err(error) => {
                // Whoever waits behind writes its own, and these again.
                for (shard, vote) in votes {
                    pending.votes.entry(shard).or_insert(vote);
                }
                Err(error)
            }
        }
    }

    pub(crate) fn committed(&self, shard: ShardId) -> io::Result<Option<LogPlace>> {
        let row: Option<PlaceWire> = self.read(COMMITTED, shard.get().into())?;
        Ok(row.map(Into::into))
    }

    /// Notes how far a group is committed; written now and then, and not synced.
    pub(crate) fn note_committed(&self, shard: ShardId, place: LogPlace) -> io::Result<()> {
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = committed.entry(shard.get().into()).or_default();
        if place.index < known.index + COMMITTED_EVERY {
            return Ok(());
        }
        *known = place;
        drop(committed);
        let row: PlaceWire = place.into();
        let number = u32::from(shard.get());
        self.commit(Durability::None, |write| {
            write
                .open_table(COMMITTED)?
                .insert(number, seal(number, &row).as_slice())?;
            Ok(())
        })
    }

    /// The snapshot that a shard's state was last taken over from.
    pub(crate) fn installed(&self, shard: ShardId) -> io::Result<Option<LogBase>> {
        let row: Option<InstalledRow> = self.read(INSTALLED, shard.get().into())?;
        Ok(row.map(|row| LogBase {
            place: row.place.map(Into::into),
            seq: row.seq,
            epoch: row.epoch,
            members: row.members,
            members_place: row.members_place.map(Into::into).unwrap_or_default(),
        }))
    }

    /// Writes which snapshot a shard's state is about to be taken over from. Blocks.
    pub(crate) fn save_installed(&self, shard: ShardId, base: &LogBase) -> io::Result<()> {
        let row = InstalledRow {
            place: base.place.map(Into::into),
            seq: base.seq,
            epoch: base.epoch,
            members: base.members.clone(),
            members_place: Some(base.members_place.into()),
        };
        self.write(INSTALLED, shard.get().into(), &row)
    }

    /// Forgets a shard that has left this node. Its vote stays: a vote that was given is never given again.
    pub(crate) fn forget(&self, shard: ShardId) -> io::Result<()> {
        let number = u32::from(shard.get());
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        committed.remove(&number);
        drop(committed);
        self.commit(Durability::Immediate, |write| {
            write.open_table(COMMITTED)?.remove(number)?;
            write.open_table(INSTALLED)?.remove(number)?;
            Ok(())
        })
    }

    fn read<M: Message + Default>(
        &self,
        table: TableDefinition<'static, u32, &'static [u8]>,
        key: u32,
    ) -> io::Result<Option<M>> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(closed)?;
        let read = database.begin_read().map_err(io::Error::other)?;
        let table = match read.open_table(table) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(io::Error::other(error)),
        };
        let Some(value) = table.get(key).map_err(io::Error::other)? else {
            return Ok(None);
        };
        let (sum, rest) = value
            .value()
            .split_first_chunk::<4>()
            .ok_or_else(|| damaged(key))?;
        if u32::from_le_bytes(*sum) != checksum(key, rest) {
            return Err(damaged(key));
        }
        M::decode(rest).map(Some).map_err(io::Error::other)
    }

    fn write(
        &self,
        table: TableDefinition<'static, u32, &'static [u8]>,
        key: u32,
        row: &impl Message,
    ) -> io::Result<()> {
        self.commit(Durability::Immediate, |write| {
            write.open_table(table)?.insert(key, seal(key, row).as_slice())?;
            Ok(())
        })
    }

    fn commit(
        &self,
        durability: Durability,
        act: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> io::Result<()> {
        let committed = || -> Result<(), redb::Error> {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            let database = database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            let mut write = database.begin_write()?;
            write.set_durability(durability)?;
            act(&write)?;
            write.commit()?;
            Ok(())
        };
        let Err(error) = committed() else { return Ok(()) };
        // redb asks for this after an error.
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        *database = open_database(&self.opener).ok();
        Err(io::Error::other(format!(
            "failed to write raft.redb: {error} (disk full?)"
        )))
    }
}

fn open_database(opener: &Opener) -> io::Result<Database> {
    let mut builder = Builder::new();
    builder.set_cache_size(1 << 20);
    builder
        .create_with_backend(Backend(opener()?))
        .map_err(io::Error::other)
}

fn closed() -> io::Error {
    io::Error::other("raft.redb cannot be opened")
}

fn damaged(key: u32) -> io::Error {
    io::Error::other(format!(
        "raft.redb is damaged at shard {key} (remove this node and let it join again)"
    ))
}

fn seal(key: u32, row: &impl Message) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    // A vector takes whatever is written.
    let _ = row.encode(&mut bytes);
    let sum = checksum(key, &bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn checksum(key: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&key.to_le_bytes()), bytes)
}
