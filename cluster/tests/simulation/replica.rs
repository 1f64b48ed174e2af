//! A simulated node: the real group, log and ballots on a simulated disk, with a toy for a state.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use gemba_cluster::{
    Apply, Ballots, Boxed, Cut, Epoch, Frame, FrameBody, FrameBuilder, Group, GroupOptions, Journal,
    JournalOptions, Seq, ShardId, Timing, Turns, found,
};

use crate::{
    disk::{Disk, RAFT, Random},
    world::{Drive, Post, World},
};

pub(crate) const SHARD: ShardId = ShardId::new(0);

/// A state: its last seq, and a hash over all that was applied.
pub(crate) type State = (u64, u64);

/// What outlives a crash of a node.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) node: u64,
    world: Arc<World>,
    pub(crate) disk: Arc<Disk>,
    /// The last durable snapshot.
    durable: Arc<Mutex<State>>,
    pub(crate) now: Arc<Mutex<State>>,
}

/// A node that is on.
pub(crate) struct Replica {
    pub(crate) group: Group,
    turning: tokio::task::JoinHandle<()>,
}

impl Machine {
    pub(crate) fn new(node: u64, world: Arc<World>) -> Self {
        Self {
            node,
            world,
            disk: Disk::new(false),
            durable: Arc::default(),
            now: Arc::default(),
        }
    }

    /// Starts on what the disk holds.
    pub(crate) async fn start(&self, founds: bool) -> Result<Replica, String> {
        let incarnation = self.world.begin(self.node);
        let drive = Drive {
            disk: self.disk.clone(),
            world: self.world.clone(),
            node: self.node,
            incarnation,
        };
        let mut options = JournalOptions::new("unused".into());
        options.files = Arc::new(drive.clone());
        options.segment_bytes = 200_000;
        options.cache_bytes = 1 << 20;
        options.turns = Turns::ByHand;
        let journal = Journal::open(options).map_err(|error| error.to_string())?;
        let ballots =
            Ballots::on(Box::new(move || Ok(drive.file(RAFT)))).map_err(|error| error.to_string())?;
        let ballots = Arc::new(ballots);
        if founds {
            found(&journal, &ballots, SHARD, self.node)
                .await
                .map_err(|error| error.to_string())?;
        }
        let turning = tokio::spawn(turn(self.world.clone(), self.node, incarnation, journal.clone()));
        let state = *self.durable.lock().expect("a state");
        *self.now.lock().expect("a state") = state;
        let toy = Toy {
            machine: self.clone(),
            incarnation,
            state,
        };
        let options = GroupOptions {
            shard: SHARD,
            node: self.node,
            journal,
            ballots,
            courier: Arc::new(Post {
                world: self.world.clone(),
                node: self.node,
                incarnation,
            }),
            apply: Box::new(toy),
            timing: Timing {
                install: Duration::from_secs(5),
                ..Timing::default()
            },
            spool: None,
        };
        let group = Group::open(options).await.map_err(|error| error.to_string())?;
        self.world
            .groups
            .lock()
            .expect("groups")
            .insert(self.node, group.clone());
        Ok(Replica { group, turning })
    }

    /// The node is off from one moment to the next. With the power, what was not synced goes too.
    pub(crate) fn crash(&self, replica: Replica, with_power: bool) {
        self.world.begin(self.node);
        self.world.groups.lock().expect("groups").remove(&self.node);
        replica.turning.abort();
        // Its tasks act on nothing any more; they end when they notice.
        let group = replica.group;
        tokio::spawn(async move { group.close().await });
        if with_power {
            // Dice of its own: how many it throws depends on redb's pages.
            let mut random = Random(self.world.below(u64::MAX - 1) | 1);
            self.disk.cut(&mut random);
        }
    }

    /// Makes a durable snapshot.
    pub(crate) fn save(&self) -> Seq {
        let state = *self.now.lock().expect("a state");
        *self.durable.lock().expect("a state") = state;
        Seq::new(state.0)
    }
}

/// The journal's disk: each commit takes its time.
async fn turn(world: Arc<World>, node: u64, incarnation: u64, journal: Journal) {
    while world.lives(node, incarnation) {
        let slow = if world.below(300) == 0 { 200_000 } else { 0 };
        tokio::time::sleep(Duration::from_micros(500 + world.below(8_000) + slow)).await;
        if world.lives(node, incarnation) {
            journal.turn();
        }
    }
}

/// Numbered records as a batch.
pub(crate) fn body_of(numbers: impl Iterator<Item = u64>) -> FrameBody {
    let mut builder = FrameBuilder::new();
    numbers.for_each(|number| builder.push(&number.to_le_bytes()).expect("room"));
    builder.finish()
}

struct Toy {
    machine: Machine,
    incarnation: u64,
    state: State,
}

impl Toy {
    fn lives(&self) -> bool {
        self.machine.world.lives(self.machine.node, self.incarnation)
    }
}

impl Apply for Toy {
    fn holds(&mut self) -> Seq {
        Seq::new(self.state.0)
    }

    fn applied(&mut self, frame: Frame) -> Boxed<'_, io::Result<()>> {
        let node = self.machine.node;
        if self.lives() {
            let mut ledger = self.machine.world.ledger.lock().expect("the ledger");
            for (seq, record) in (frame.first().get()..).zip(frame.records()) {
                if seq <= self.state.0 {
                    continue;
                }
                if seq != self.state.0 + 1 {
                    ledger.gap(node, self.state.0, seq);
                }
                let number = record
                    .first_chunk()
                    .copied()
                    .map(u64::from_le_bytes)
                    .unwrap_or_default();
                ledger.applied(node, seq, frame.epoch().get(), number);
                self.state = (
                    seq,
                    (self.state.1 ^ number)
                        .wrapping_mul(0x0100_0000_01b3)
                        .rotate_left(7),
                );
            }
            *self.machine.now.lock().expect("a state") = self.state;
        }
        self.machine.world.note(node << 40 | frame.last().get());
        Box::pin(async { Ok(()) })
    }

    fn began(&mut self, epoch: Epoch, mine: bool) -> Boxed<'_, io::Result<()>> {
        if mine && self.lives() {
            let mut ledger = self.machine.world.ledger.lock().expect("the ledger");
            ledger.owned(self.machine.node, epoch.get());
        }
        Box::pin(async { Ok(()) })
    }

    fn snapshot(&mut self) -> Boxed<'_, io::Result<Cut>> {
        // The last durable one is as good as the newest, and more of a test.
        let (seq, hash) = *self.machine.durable.lock().expect("a state");
        let cut = Cut::in_memory(Seq::new(seq), hash.to_le_bytes().to_vec().into());
        Box::pin(async { Ok(cut) })
    }

    fn install(&mut self, cut: Cut) -> Boxed<'_, io::Result<()>> {
        Box::pin(async move {
            let seq = cut.seq.get();
            let bytes = cut.read().await?;
            let hash = bytes
                .first_chunk()
                .copied()
                .map(u64::from_le_bytes)
                .unwrap_or_default();
            if !self.lives() {
                return Err(io::Error::other("the node has crashed"));
            }
            self.state = (seq, hash);
            *self.machine.durable.lock().expect("a state") = self.state;
            *self.machine.now.lock().expect("a state") = self.state;
            Ok(())
        })
    }
}
