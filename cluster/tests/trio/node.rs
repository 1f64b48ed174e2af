//! A node of a test: its folder, its port on loopback with TLS, its keeper; and the plug that can be pulled.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gemba_cluster::{
    Ballots, Folder, Group, Journal, JournalOptions, Role, SegmentFiles, ShardId, Timing,
    keeper::{Keeper, KeeperOptions},
    map::Member,
    net::{AddressBook, Answers, Authority, Credentials, Lines, PeerName, Port, PortLimits},
};
use redb::StorageBackend;
use tokio::runtime::{Builder, Runtime};

use crate::toy::{Ledger, Toys};

/// Files of a folder, until the plug is pulled.
#[derive(Debug, Clone)]
struct Plugged {
    folder: Folder,
    is_off: Arc<AtomicBool>,
}

#[derive(Debug)]
struct File {
    file: Box<dyn StorageBackend>,
    is_off: Arc<AtomicBool>,
}

impl File {
    fn on(&self) -> io::Result<()> {
        if self.is_off.load(Ordering::Acquire) {
            return Err(io::Error::other("the power is off"));
        }
        Ok(())
    }
}

impl StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.on().and_then(|()| self.file.set_len(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.on().and_then(|()| self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.on().and_then(|()| self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

impl SegmentFiles for Plugged {
    fn list(&self) -> io::Result<Vec<u64>> {
        self.folder.list()
    }

    fn open(&self, number: u64) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(File {
            file: self.folder.open(number)?,
            is_off: self.is_off.clone(),
        }))
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        self.folder.remove(number)
    }
}

/// Where the nodes of a test are.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    pub(crate) gone_after: u32,
    pub(crate) rebalances: bool,
    pub(crate) segment_bytes: u64,
    pub(crate) now_ms: fn() -> i64,
}

/// The time it is for all nodes.
pub(crate) const NOW_MS: i64 = 1_764_000_000_000;

pub(crate) const CLUSTER: &str = "plant";

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            authority: Authority::make(CLUSTER).expect("an authority"),
            ledger: Arc::default(),
            gone_after: 0,
            rebalances: true,
            segment_bytes: 448 << 20,
            now_ms: || NOW_MS,
        }
    }

    pub(crate) fn folder_of(&self, node: u64) -> PathBuf {
        let folder = self.folder.path().join(format!("node-{node}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    pub(crate) fn credentials(&self, node: u64) -> Credentials {
        credentials(&self.authority, CLUSTER, node)
    }

    pub(crate) fn node(&self, node: u64) -> Node {
        let toys = Toys::new(node, self.ledger.clone());
        self.node_with(node, toys)
    }

    /// Starts a node on what its folder holds.
    pub(crate) fn node_with(&self, number: u64, toys: Toys) -> Node {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("node-{number}"))
            .enable_all()
            .build()
            .expect("a runtime");
        let is_off = Arc::new(AtomicBool::new(false));
        let folder = self.folder_of(number);
        let mut options = JournalOptions::new(folder.join("journal"));
        options.segment_bytes = self.segment_bytes;
        options.files = Arc::new(Plugged {
            folder: Folder::new(folder.join("journal")),
            is_off: is_off.clone(),
        });
        let journal = Journal::open(options).expect("a journal");
        let ballots = Arc::new(Ballots::open(&folder.join("raft.redb")).expect("ballots"));
        let (book, credentials) = (AddressBook::default(), self.credentials(number));
        let lines = Lines::new(credentials.clone(), book.clone());
        let late = Arc::new(Late::default());
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let port = runtime
            .block_on(Port::open(any, credentials, PortLimits::default(), late.clone()))
            .expect("a port");
        let member = Member {
            node: number,
            address: port.address().to_string(),
            zone: format!("zone-{number}"),
            ..Member::default()
        };
        let keeper = runtime
            .block_on(Keeper::open(KeeperOptions {
                cluster: CLUSTER.into(),
                member,
                journal: journal.clone(),
                ballots,
                courier: Arc::new(lines.clone()),
                shards: Arc::new(toys.clone()),
                timing: timing(),
                spool: Some(folder),
                gone_after: self.gone_after,
                rebalances: self.rebalances,
                now_ms: self.now_ms,
            }))
            .expect("a keeper");
        *late.0.lock().expect("a place") = Some(keeper.clone());
        let (following, mut map) = (book, keeper.map());
        runtime.spawn(async move {
            loop {
                for member in map.borrow_and_update().members.values() {
                    following.set(member.node, member.address.clone());
                }
                if map.changed().await.is_err() {
                    return;
                }
            }
        });
        Node {
            number,
            runtime: Some(runtime),
            keeper,
            lines,
            port: Some(port),
            toys,
            journal,
            is_off,
        }
    }
}

pub(crate) fn credentials(authority: &Authority, cluster: &str, node: u64) -> Credentials {
    let name = PeerName::new(cluster, node).expect("a name");
    let made = authority.certify(&name).expect("a certificate");
    Credentials::read(authority.certificate(), &made.certificate, &made.key).expect("credentials")
}

/// The machine is busy in tests: owners are given a little longer than by default.
fn timing() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(150),
        election: (Duration::from_millis(900), Duration::from_millis(1_800)),
        install: Duration::from_secs(60),
    }
}

/// A port opens before its keeper is there.
#[derive(Default)]
struct Late(Mutex<Option<Keeper>>);

impl Answers for Late {
    fn answer(
        &self,
        from: PeerName,
        errand: gemba_cluster::Errand,
        shard: ShardId,
        body: bytes::Bytes,
    ) -> gemba_cluster::Boxed<'static, Result<bytes::Bytes, gemba_cluster::net::Refusal>> {
        match &*self.0.lock().expect("a place") {
            Some(keeper) => keeper.answer(from, errand, shard, body),
            None => Box::pin(async { Err(gemba_cluster::net::Refusal::NotNow("not yet".into())) }),
        }
    }
}

pub(crate) struct Node {
    pub(crate) number: u64,
    runtime: Option<Runtime>,
    pub(crate) keeper: Keeper,
    pub(crate) lines: Lines,
    port: Option<Port>,
    pub(crate) toys: Toys,
    pub(crate) journal: Journal,
    is_off: Arc<AtomicBool>,
}

impl Node {
    /// Runs something on the node.
    pub(crate) fn run<T>(&self, act: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is on").block_on(act)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.as_ref().expect("it is on").address()
    }

    pub(crate) fn refused(&self) -> u64 {
        self.port.as_ref().expect("it is on").refused()
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.as_ref().expect("it runs").spawn(work);
    }

    pub(crate) fn join(&self, other: &Self) {
        let address = other.address().to_string();
        let joined = self.keeper.join(&self.lines, &address, Duration::from_secs(5));
        self.run(joined).expect("joined");
    }

    pub(crate) fn group(&self, shard: u16) -> Option<Group> {
        self.keeper.group(ShardId::new(shard))
    }

    pub(crate) fn role(&self, shard: u16) -> Role {
        self.group(shard)
            .map(|group| group.role().borrow().clone())
            .unwrap_or_default()
    }

    /// The node is gone from one moment to the next: nothing more reaches its disk or the others. What a restart finds
    /// of its toys is what was durable.
    pub(crate) fn pull_the_plug(mut self) -> Toys {
        self.is_off.store(true, Ordering::Release);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
        self.toys.groups.lock().expect("groups").clear();
        self.toys.clone()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.block_on(self.keeper.close());
            drop(self.port.take());
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..2_400 {
        if so() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(25));
    }
    panic!("waited a minute for this: {what}");
}

/// The node that serves a shard.
pub(crate) fn owner(nodes: &[Node], shard: u16) -> &Node {
    let mut found = None;
    until("somebody serves the shard", || {
        found = nodes.iter().position(|node| node.role(shard).serves);
        found.is_some()
    });
    &nodes[found.expect("found")]
}
