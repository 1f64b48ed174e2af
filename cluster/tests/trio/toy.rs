//! A toy in the place of a shard's twins: a chain of hashes over what was applied, watched by a ledger that every
//! replica writes into.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use gemba_cluster::{
    Apply, Boxed, Cut, Epoch, Frame, FrameBody, FrameBuilder, Group, Seq, ShardId,
    keeper::Shards,
    net::{PeerName, Refusal},
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What all replicas of all nodes say was applied.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Epoch and record by shard and seq.
    applied: BTreeMap<(u16, u64), (u64, Vec<u8>)>,
    /// The owner by shard and epoch.
    owners: BTreeMap<(u16, u64), u64>,
}

impl Ledger {
    /// A replica has applied a record: every other one has to agree.
    fn applied(&mut self, shard: u16, seq: u64, epoch: u64, record: &[u8]) {
        let known = self
            .applied
            .entry((shard, seq))
            .or_insert_with(|| (epoch, record.to_vec()));
        assert_eq!(
            *known,
            (epoch, record.to_vec()),
            "shard {shard} seq {seq} was applied differently"
        );
    }

    fn owned(&mut self, shard: u16, epoch: u64, node: u64) {
        let owner = *self.owners.entry((shard, epoch)).or_insert(node);
        assert_eq!(owner, node, "shard {shard} had two owners in epoch {epoch}");
    }

    /// How often a record was applied, and where.
    pub(crate) fn count(&self, shard: u16, record: &[u8]) -> usize {
        let of_shard = self.applied.range((shard, 0)..=(shard, u64::MAX));
        of_shard.filter(|(_, (_, known))| known == record).count()
    }

    pub(crate) fn epochs(&self, shard: u16) -> usize {
        self.owners.range((shard, 0)..=(shard, u64::MAX)).count()
    }
}

/// What a restart finds of a shard's state: seq and hash.
type Durable = Arc<Mutex<BTreeMap<u16, (u64, u64)>>>;

/// The shards of one node.
#[derive(Clone)]
pub(crate) struct Toys {
    pub(crate) node: u64,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    pub(crate) durable: Durable,
    /// As they are now: seq and hash.
    pub(crate) now: Durable,
    pub(crate) groups: Arc<Mutex<BTreeMap<u16, Group>>>,
    /// Bytes that a snapshot carries along, so that it has several pieces.
    pub(crate) ballast: usize,
}

impl Toys {
    pub(crate) fn new(node: u64, ledger: Arc<Mutex<Ledger>>) -> Self {
        Self {
            node,
            ledger,
            durable: Durable::default(),
            now: Durable::default(),
            groups: Arc::default(),
            ballast: 3 << 20,
        }
    }

    pub(crate) fn state(&self, shard: u16) -> (u64, u64) {
        self.now
            .lock()
            .expect("states")
            .get(&shard)
            .copied()
            .unwrap_or_default()
    }
}

impl Shards for Toys {
    fn state(&self, shard: ShardId) -> Boxed<'_, io::Result<Box<dyn Apply>>> {
        let shard = shard.get();
        let (seq, hash) = self
            .durable
            .lock()
            .expect("states")
            .get(&shard)
            .copied()
            .unwrap_or_default();
        self.now.lock().expect("states").insert(shard, (seq, hash));
        let toys = self.clone();
        let toy: Box<dyn Apply> = Box::new(Toy {
            toys,
            shard,
            seq,
            hash,
        });
        Box::pin(async move { Ok(toy) })
    }

    fn opened(&self, group: Group) {
        self.groups
            .lock()
            .expect("groups")
            .insert(group.shard().get(), group);
    }

    fn left(&self, shard: ShardId) {
        self.groups.lock().expect("groups").remove(&shard.get());
        self.durable.lock().expect("states").remove(&shard.get());
        self.now.lock().expect("states").remove(&shard.get());
    }

    fn batch(&self, _: PeerName, shard: ShardId, body: Bytes) -> Boxed<'static, Result<Bytes, Refusal>> {
        let group = self.groups.lock().expect("groups").get(&shard.get()).cloned();
        Box::pin(async move {
            let group = group.ok_or_else(|| Refusal::NotNow("not kept here".into()))?;
            let epoch = group.role().borrow().epoch;
            let applied = group.append(epoch, body_of(&[&body])).await;
            let applied = applied.map_err(|error| Refusal::NotNow(error.to_string()))?;
            Ok(applied.last.get().to_le_bytes().to_vec().into())
        })
    }
}

/// Records as a batch.
pub(crate) fn body_of(records: &[&[u8]]) -> FrameBody {
    let mut builder = FrameBuilder::new();
    records
        .iter()
        .for_each(|record| builder.push(record).expect("room"));
    builder.finish()
}

struct Toy {
    toys: Toys,
    shard: u16,
    seq: u64,
    hash: u64,
}

impl Apply for Toy {
    fn holds(&mut self) -> Seq {
        Seq::new(self.seq)
    }

    fn applied(&mut self, frame: Frame) -> Boxed<'_, io::Result<()>> {
        for (seq, record) in (frame.first().get()..).zip(frame.records()) {
            if seq <= self.seq {
                continue;
            }
            assert_eq!(seq, self.seq + 1, "a seq is missing");
            self.seq = seq;
            self.hash = xxh3_64_with_seed(record, self.hash ^ seq);
            let mut ledger = self.toys.ledger.lock().expect("the ledger");
            ledger.applied(self.shard, seq, frame.epoch().get(), record);
        }
        self.toys
            .now
            .lock()
            .expect("states")
            .insert(self.shard, (self.seq, self.hash));
        Box::pin(async { Ok(()) })
    }

    fn began(&mut self, epoch: Epoch, mine: bool) -> Boxed<'_, io::Result<()>> {
        if mine {
            let mut ledger = self.toys.ledger.lock().expect("the ledger");
            ledger.owned(self.shard, epoch.get(), self.toys.node);
        }
        Box::pin(async { Ok(()) })
    }

    fn snapshot(&mut self) -> Boxed<'_, io::Result<Cut>> {
        let state = (self.seq, self.hash);
        self.toys
            .durable
            .lock()
            .expect("states")
            .insert(self.shard, state);
        let mut bytes = self.hash.to_le_bytes().to_vec();
        bytes.resize(bytes.len() + self.toys.ballast, 7);
        let cut = Cut::in_memory(Seq::new(self.seq), bytes.into());
        Box::pin(async { Ok(cut) })
    }

    fn install(&mut self, cut: Cut) -> Boxed<'_, io::Result<()>> {
        Box::pin(async move {
            let seq = cut.seq.get();
            let bytes = cut.read().await?;
            assert_eq!(bytes.len(), 8 + self.toys.ballast, "the snapshot is whole");
            let hash = bytes
                .first_chunk()
                .copied()
                .map(u64::from_le_bytes)
                .unwrap_or_default();
            (self.seq, self.hash) = (seq, hash);
            self.toys
                .durable
                .lock()
                .expect("states")
                .insert(self.shard, (seq, hash));
            self.toys
                .now
                .lock()
                .expect("states")
                .insert(self.shard, (seq, hash));
            Ok(())
        })
    }
}
