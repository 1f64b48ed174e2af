//! The simulated world: a network that delays, loses and cuts, disks that lose what was not synced, and the ledger of
//! what replicas say they have applied.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use gemba_cluster::{Boxed, Courier, Errand, Group, SegmentFiles, ShardId, Undelivered};
use redb::StorageBackend;

use crate::disk::{Disk, Handle, Random};

/// What all replicas say was applied, and the first thing that must not be.
#[derive(Default)]
pub(crate) struct Ledger {
    applied: BTreeMap<u64, (u64, u64)>,
    seq_of: BTreeMap<u64, u64>,
    owners: BTreeMap<u64, u64>,
    pub(crate) broken: Option<String>,
}

impl Ledger {
    fn broke(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// A replica has applied a record (its number) at a seq.
    pub(crate) fn applied(&mut self, node: u64, seq: u64, epoch: u64, record: u64) {
        let known = *self.applied.entry(seq).or_insert((epoch, record));
        if known != (epoch, record) {
            self.broke(format!(
                "node {node} applied record {record} of epoch {epoch} at seq {seq}, others {known:?}"
            ));
        }
        let at = *self.seq_of.entry(record).or_insert(seq);
        if at != seq {
            self.broke(format!(
                "node {node} applied record {record} at seq {seq}, and it was applied at {at}"
            ));
        }
    }

    pub(crate) fn gap(&mut self, node: u64, has: u64, seq: u64) {
        self.broke(format!("node {node} has applied seq {has} and was given {seq}"));
    }

    pub(crate) fn owned(&mut self, node: u64, epoch: u64) {
        let owner = *self.owners.entry(epoch).or_insert(node);
        if owner != node {
            self.broke(format!("epoch {epoch} has the owners {owner} and {node}"));
        }
    }

    /// Where a record was applied.
    pub(crate) fn seq_of(&self, record: u64) -> Option<u64> {
        self.seq_of.get(&record).copied()
    }

    pub(crate) fn owners(&self) -> usize {
        self.owners.len()
    }

    pub(crate) fn records(&self) -> usize {
        self.applied.len()
    }
}

/// What is shared by all of a run.
pub(crate) struct World {
    random: Mutex<Random>,
    pub(crate) ledger: Mutex<Ledger>,
    /// Links that carry nothing, by direction.
    cut: Mutex<BTreeSet<(u64, u64)>>,
    /// Who listens, by node.
    pub(crate) groups: Mutex<BTreeMap<u64, Group>>,
    /// The incarnation that each node is in.
    incarnations: Mutex<BTreeMap<u64, u64>>,
    /// In per mille.
    pub(crate) loss: AtomicU64,
    /// Most milliseconds of a usual delay.
    pub(crate) delay: AtomicU64,
    /// A hash over all that happened, to see that a run can be run again.
    trace: AtomicU64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            random: Mutex::new(Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)),
            ledger: Mutex::default(),
            cut: Mutex::default(),
            groups: Mutex::default(),
            incarnations: Mutex::default(),
            loss: AtomicU64::new(0),
            delay: AtomicU64::new(5),
            trace: AtomicU64::new(seed),
        })
    }

    pub(crate) fn below(&self, limit: u64) -> u64 {
        self.random.lock().expect("the dice").below(limit)
    }

    pub(crate) fn note(&self, what: u64) {
        let before = self.trace.load(Ordering::Relaxed);
        self.trace.store(
            (before ^ what).wrapping_mul(0x0100_0000_01b3).rotate_left(5),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn trace(&self) -> u64 {
        self.trace.load(Ordering::Relaxed)
    }

    /// Cuts each link for which this is true, in that direction; the others are whole.
    pub(crate) fn cut_links(&self, nodes: u64, is_cut: impl Fn(u64, u64) -> bool) {
        let pairs = (1..=nodes).flat_map(|from| (1..=nodes).map(move |to| (from, to)));
        *self.cut.lock().expect("links") = pairs
            .filter(|(from, to)| from != to && is_cut(*from, *to))
            .collect();
    }

    /// A node begins anew; whoever acted for it before is dead.
    pub(crate) fn begin(&self, node: u64) -> u64 {
        let mut incarnations = self.incarnations.lock().expect("incarnations");
        let incarnation = incarnations.entry(node).or_default();
        *incarnation += 1;
        *incarnation
    }

    pub(crate) fn lives(&self, node: u64, incarnation: u64) -> bool {
        self.incarnations.lock().expect("incarnations").get(&node) == Some(&incarnation)
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.lock().expect("links").contains(&(from, to))
    }

    /// How long a message takes; `None` if it is lost.
    fn travel(&self, from: u64, to: u64) -> Option<Duration> {
        let (loss, delay) = (
            self.loss.load(Ordering::Relaxed),
            self.delay.load(Ordering::Relaxed),
        );
        let lost = self.below(1_000) < loss;
        let slow = if self.below(200) == 0 { 400 } else { 0 };
        let micros = 100 + self.below(delay * 1_000 + 1) + slow * 1_000;
        (!lost && !self.is_cut(from, to)).then(|| Duration::from_micros(micros))
    }
}

/// Carries messages of one incarnation of a node.
pub(crate) struct Post {
    pub(crate) world: Arc<World>,
    pub(crate) node: u64,
    pub(crate) incarnation: u64,
}

impl Courier for Post {
    fn send(
        &self,
        to: u64,
        errand: Errand,
        _: ShardId,
        body: Bytes,
        within: Duration,
    ) -> Boxed<'static, Result<Bytes, Undelivered>> {
        let (world, from, incarnation) = (self.world.clone(), self.node, self.incarnation);
        let (there, back) = (world.travel(from, to), world.travel(to, from));
        world.note(from << 32 | to << 16 | body.len() as u64);
        Box::pin(async move {
            let carried = async {
                // What is lost is never answered; the sender's patience ends it.
                let Some(there) = there else {
                    return std::future::pending().await;
                };
                tokio::time::sleep(there).await;
                let listening = world.groups.lock().expect("groups").get(&to).cloned();
                if !world.lives(from, incarnation) {
                    return std::future::pending().await;
                }
                let Some(group) = listening else {
                    let detail = "nobody listens".into();
                    let is_unsent = true;
                    return Err(Undelivered::Unreachable {
                        to,
                        detail,
                        is_unsent,
                    });
                };
                let answer = group.answer(errand, body).await;
                let Some(back) = back else {
                    return std::future::pending().await;
                };
                tokio::time::sleep(back).await;
                if world.is_cut(to, from) {
                    return std::future::pending().await;
                }
                answer.map_err(|error| Undelivered::Refused {
                    to,
                    reason: error.to_string(),
                })
            };
            match tokio::time::timeout(within, carried).await {
                Ok(answer) => answer,
                Err(_) => Err(Undelivered::Late { to, within }),
            }
        })
    }
}

/// The disk of a node, as one incarnation sees it.
#[derive(Clone)]
pub(crate) struct Drive {
    pub(crate) disk: Arc<Disk>,
    pub(crate) world: Arc<World>,
    pub(crate) node: u64,
    pub(crate) incarnation: u64,
}

struct File {
    handle: Handle,
    drive: Drive,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "file of node {}", self.drive.node)
    }
}

impl File {
    fn on(&self) -> io::Result<()> {
        if self.drive.world.lives(self.drive.node, self.drive.incarnation) {
            return Ok(());
        }
        Err(io::Error::other("the node has crashed"))
    }
}

impl StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        self.on().and_then(|()| self.handle.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.on().and_then(|()| self.handle.read(offset, out))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.on().and_then(|()| self.handle.set_len(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.on().and_then(|()| self.handle.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.on().and_then(|()| self.handle.write(offset, data))
    }
}

impl Drive {
    pub(crate) fn file(&self, number: u64) -> Box<dyn StorageBackend> {
        Box::new(File {
            handle: Handle(self.disk.clone(), number),
            drive: self.clone(),
        })
    }
}

impl SegmentFiles for Drive {
    fn list(&self) -> io::Result<Vec<u64>> {
        Handle(self.disk.clone(), 0).list()
    }

    fn open(&self, number: u64) -> io::Result<Box<dyn StorageBackend>> {
        Ok(self.file(number))
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        if !self.world.lives(self.node, self.incarnation) {
            return Err(io::Error::other("the node has crashed"));
        }
        Handle(self.disk.clone(), 0).remove(number)
    }
}
