//! Three replicas against one, on this machine, in one run: `cargo run -p gemba-cluster --example replicas [SECONDS]`.
//!
//! Batches of 500 records of 100 bytes, to one shard and to eight: the journal alone, a group of one node, and three
//! nodes over TLS on loopback, each with a disk of its own (the same one). All of them share the processors, so three
//! nodes have a third each of what they would have.

#![expect(clippy::disallowed_methods, reason = "measures")]

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gemba_cluster::{
    Append, Apply, Ballots, Boxed, Cut, Epoch, Frame, FrameBody, FrameBuilder, Group, Journal,
    JournalOptions, Seq, ShardId, Timing,
    keeper::{Keeper, KeeperOptions, LateKeeper, Shards},
    map::Member,
    net::{AddressBook, Authority, Credentials, Lines, PeerName, Port, PortLimits, Refusal},
};

const RECORDS: usize = 500;
const RECORD: [u8; 100] = [7; 100];

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn batch() -> FrameBody {
    let mut builder = FrameBuilder::new();
    for _ in 0..RECORDS {
        // 50 KB stay within a frame.
        let _ = builder.push(&RECORD);
    }
    builder.finish()
}

/// A state that only counts.
struct Count(Seq);

impl Apply for Count {
    fn holds(&mut self) -> Seq {
        self.0
    }

    fn applied(&mut self, frame: Frame) -> Boxed<'_, io::Result<()>> {
        self.0 = frame.last();
        Box::pin(async { Ok(()) })
    }

    fn began(&mut self, _: Epoch, _: bool) -> Boxed<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn snapshot(&mut self) -> Boxed<'_, io::Result<Cut>> {
        let cut = Cut::in_memory(self.0, Bytes::from_static(b"a count"));
        Box::pin(async { Ok(cut) })
    }

    fn install(&mut self, cut: Cut) -> Boxed<'_, io::Result<()>> {
        self.0 = cut.seq;
        Box::pin(async { Ok(()) })
    }
}

struct Counts;

impl Shards for Counts {
    fn state(&self, _: ShardId) -> Boxed<'_, io::Result<Box<dyn Apply>>> {
        Box::pin(async { Ok(Box::new(Count(Seq::new(0))) as Box<dyn Apply>) })
    }

    fn opened(&self, _: Group) {}

    fn left(&self, _: ShardId) {}

    fn batch(&self, _: PeerName, _: ShardId, _: Bytes) -> Boxed<'static, Result<Bytes, Refusal>> {
        Box::pin(async { Err(Refusal::NotNow("not in this example".into())) })
    }
}

struct Node {
    keeper: Keeper,
    lines: Lines,
    port: Port,
}

async fn node(folder: &std::path::Path, authority: &Authority, number: u64) -> Result<Node, Failed> {
    let folder = folder.join(number.to_string());
    std::fs::create_dir_all(&folder)?;
    let name = PeerName::new("bench", number)?;
    let made = authority.certify(&name)?;
    let credentials = Credentials::read(authority.certificate(), &made.certificate, &made.key)?;
    let (book, late) = (AddressBook::default(), Arc::new(LateKeeper::default()));
    let lines = Lines::new(credentials.clone(), book.clone());
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let port = Port::open(any, credentials, PortLimits::default(), late.clone()).await?;
    let member = Member {
        node: number,
        address: port.address().to_string(),
        zone: number.to_string(),
        ..Member::default()
    };
    let keeper = Keeper::open(KeeperOptions {
        cluster: "bench".into(),
        member,
        journal: Journal::open(JournalOptions::new(folder.join("journal")))?,
        ballots: Arc::new(Ballots::open(&folder.join("raft.redb"))?),
        courier: Arc::new(lines.clone()),
        shards: Arc::new(Counts),
        timing: Timing::default(),
        spool: Some(folder),
        gone_after: 0,
        rebalances: true,
        now_ms: || 0,
    })
    .await?;
    late.set(keeper.clone());
    let mut map = keeper.map();
    tokio::spawn(async move {
        loop {
            for member in map.borrow_and_update().members.values() {
                book.set(member.node, member.address.clone());
            }
            if map.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(Node { keeper, lines, port })
}

/// Figures of a run.
#[derive(Default)]
struct Figures {
    per_s: f64,
    p50: Duration,
    p99: Duration,
}

fn figures(name: &str, mut took: Vec<Duration>, time: Duration) -> Figures {
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
    let figures = Figures {
        per_s: took.len() as f64 / time.as_secs_f64(),
        p50: at(50),
        p99: at(99),
    };
    println!(
        "{name:32} {:8.0} batches/s {:10.0} records/s  p50 {:?}  p99 {:?}",
        figures.per_s,
        figures.per_s * RECORDS as f64,
        figures.p50,
        figures.p99
    );
    figures
}

/// The journal alone, as a single node uses it: one batch of each shard at a time.
fn alone(folder: &std::path::Path, shards: u16, time: Duration) -> Result<Figures, Failed> {
    let journal = Journal::open(JournalOptions::new(folder.join(format!("alone-{shards}"))))?;
    let writers: Vec<_> = (0..shards)
        .map(|shard| {
            let journal = journal.clone();
            std::thread::spawn(move || {
                let (began, mut next, mut took) = (Instant::now(), 1, Vec::new());
                while began.elapsed() < time {
                    let sent = Instant::now();
                    let (answer, answered) = std::sync::mpsc::sync_channel(1);
                    let append = Append {
                        shard: ShardId::new(shard),
                        epoch: Epoch::new(1),
                        first: Seq::new(next),
                        body: batch(),
                        done: Box::new(move |result| drop(answer.send(result))),
                    };
                    if journal.append(append).is_err() || !matches!(answered.recv(), Ok(Ok(_))) {
                        break;
                    }
                    next += RECORDS as u64;
                    took.push(sent.elapsed());
                }
                took
            })
        })
        .collect();
    let took = writers
        .into_iter()
        .flat_map(|writer| writer.join().unwrap_or_default());
    Ok(figures(
        &format!("journal alone, {shards} shards"),
        took.collect(),
        time,
    ))
}

/// Groups: one batch of each shard at a time, by its owner.
async fn groups(name: &str, nodes: &[Node], shards: u16, time: Duration) -> Figures {
    let mut writers = Vec::new();
    for shard in 0..shards {
        let groups: Vec<Group> = nodes
            .iter()
            .filter_map(|node| node.keeper.group(ShardId::new(shard)))
            .collect();
        writers.push(tokio::spawn(async move {
            let (began, mut took) = (Instant::now(), Vec::new());
            while began.elapsed() < time {
                let serving = groups.iter().find(|group| group.role().borrow().serves);
                let Some(group) = serving else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                let (sent, epoch) = (Instant::now(), group.role().borrow().epoch);
                if group.append(epoch, batch()).await.is_ok() {
                    took.push(sent.elapsed());
                }
            }
            took
        }));
    }
    let mut took = Vec::new();
    for writer in writers {
        took.extend(writer.await.unwrap_or_default());
    }
    figures(&format!("{name}, {shards} shards"), took, time)
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let seconds = std::env::args().nth(1).and_then(|seconds| seconds.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(5));
    let folder = tempfile::tempdir()?;
    let authority = Authority::make("bench")?;
    for shards in [1, 8] {
        let place = folder.path().to_owned();
        let single = tokio::task::spawn_blocking(move || alone(&place, shards, time)).await??;
        let place = folder.path().join(format!("groups-{shards}"));
        let first = node(&place, &authority, 1).await?;
        first.keeper.found(shards, 3).await?;
        let mut nodes = vec![first];
        for shard in (0..shards).map(ShardId::new) {
            while nodes[0]
                .keeper
                .group(shard)
                .is_none_or(|group| !group.role().borrow().serves)
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let one = groups("group of one", &nodes, shards, time).await;
        for number in 2..=3 {
            let node = node(&place, &authority, number).await?;
            let address = nodes[0].port.address().to_string();
            node.keeper
                .join(&node.lines, &address, Duration::from_secs(5))
                .await?;
            nodes.push(node);
        }
        let voters = |shard| {
            let groups = nodes
                .iter()
                .filter_map(|node| node.keeper.group(ShardId::new(shard)));
            groups
                .map(|group| group.standing())
                .any(|standing| standing.role.serves && standing.voters.len() == 3)
        };
        while !(0..shards).all(voters) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let three = groups("three replicas over TLS", &nodes, shards, time).await;
        println!(
            "{:32} group of one {:.2}, three replicas {:.2} of the journal alone; three of one {:.2}",
            "",
            one.per_s / single.per_s,
            three.per_s / single.per_s,
            three.per_s / one.per_s
        );
        for node in &nodes {
            node.keeper.close().await;
        }
    }
    Ok(())
}
