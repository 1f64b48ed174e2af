//! A story: what happens to the nodes of one seed, and what has to be so in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gemba_cluster::Group;

use crate::{
    replica::{Machine, Replica, body_of},
    world::World,
};

/// What happened, in figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) broken: Option<String>,
    pub(crate) acknowledged: usize,
    pub(crate) applied: usize,
    pub(crate) owners: usize,
    pub(crate) crashes: usize,
    trace: u64,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.applied += other.applied;
        self.owners += other.owners;
        self.crashes += other.crashes;
    }
}

/// Most time of a story.
const MOST: Duration = Duration::from_secs(180);

struct Story {
    world: Arc<World>,
    machines: Vec<Machine>,
    replicas: BTreeMap<u64, Replica>,
    acknowledged: Arc<Mutex<Vec<(u64, u64)>>>,
    /// Changes of voters that are under way.
    changing: Vec<tokio::task::JoinHandle<()>>,
    crashes: usize,
}

async fn rest(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Tells the story of a seed.
pub(crate) async fn tell(seed: u64) -> Outcome {
    let world = World::new(seed);
    let nodes = if seed.is_multiple_of(4) { 5 } else { 3 };
    let machines: Vec<Machine> = (1..=nodes)
        .map(|node| Machine::new(node, world.clone()))
        .collect();
    let mut story = Story {
        world: world.clone(),
        machines,
        replicas: BTreeMap::new(),
        acknowledged: Arc::default(),
        changing: Vec::new(),
        crashes: 0,
    };
    let told = tokio::time::timeout(MOST, story.go(nodes)).await;
    let broken = told.unwrap_or_else(|_| Err("the story has no end".into())).err();
    // The lines of its groups hold the world: ten thousand of them would stay in memory.
    world.groups.lock().expect("groups").clear();
    let ledger = world.ledger.lock().expect("the ledger");
    Outcome {
        broken: ledger.broken.clone().or(broken),
        acknowledged: story.acknowledged.lock().expect("records").len(),
        applied: ledger.records(),
        owners: ledger.owners(),
        crashes: story.crashes,
        trace: world.trace(),
    }
}

/// How long planned hand-overs take in a world where nothing goes wrong.
pub(crate) async fn hand_overs(seed: u64) -> Result<Vec<Duration>, String> {
    let world = World::new(seed);
    let mut story = Story {
        machines: (1..=3).map(|node| Machine::new(node, world.clone())).collect(),
        world,
        replicas: BTreeMap::new(),
        acknowledged: Arc::default(),
        changing: Vec::new(),
        crashes: 0,
    };
    for machine in &story.machines {
        let replica = machine.start(machine.node == 1).await?;
        story.replicas.insert(machine.node, replica);
    }
    story
        .until("the first node serves", 10_000, |story| {
            story.serving() == Some(1)
        })
        .await?;
    let group = story.replicas[&1].group.clone();
    group
        .set_voters((1..=3).collect())
        .await
        .map_err(|error| error.to_string())?;
    rest(3_000).await;
    let mut took = Vec::new();
    for to in [2, 3, 1, 3, 2] {
        let from = story.serving().ok_or("nobody serves")?;
        let began = now();
        let group = story.replicas[&from].group.clone();
        group
            .hand_over(to, Duration::from_secs(5))
            .await
            .map_err(|error| error.to_string())?;
        let mut role = story.replicas[&to].group.role();
        role.wait_for(|role| role.serves)
            .await
            .map_err(|error| error.to_string())?;
        took.push(began.elapsed());
        rest(2_000).await;
    }
    Ok(took)
}

#[expect(clippy::disallowed_methods, reason = "simulated time")]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

impl Story {
    async fn go(&mut self, nodes: u64) -> Result<(), String> {
        for machine in &self.machines {
            let replica = machine.start(machine.node == 1).await?;
            self.replicas.insert(machine.node, replica);
        }
        self.until("the first node serves", 10_000, |story| {
            story.serving() == Some(1)
        })
        .await?;
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..3)
            .map(|client| tokio::spawn(self.client(client, stop.clone())))
            .collect();
        rest(self.world.below(200)).await;
        let group = self.replicas[&1].group.clone();
        let growing = group.set_voters((1..=nodes).collect());
        let grown = tokio::time::timeout(Duration::from_secs(30), growing).await;
        grown
            .map_err(|_| "the first node cannot let the others in".to_owned())?
            .map_err(|error| error.to_string())?;
        self.world.loss.store(self.world.below(30), Ordering::Relaxed);
        for _ in 0..6 + self.world.below(6) {
            self.happen(nodes).await?;
            rest(200 + self.world.below(1_500)).await;
            if let Some(broken) = self.world.ledger.lock().expect("the ledger").broken.clone() {
                return Err(broken);
            }
        }
        self.heal().await?;
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.map_err(|error| error.to_string())?;
        }
        self.check().await
    }

    /// Something happens.
    async fn happen(&mut self, nodes: u64) -> Result<(), String> {
        let node = 1 + self.world.below(nodes);
        match self.world.below(16) {
            0..=3 => {
                // One side hears nothing of the other, or only one direction is cut.
                let (side, only_out) = (self.world.below(1 << nodes), self.world.below(3) == 0);
                let is_in = move |node: u64| side >> (node - 1) & 1 == 1;
                self.world.cut_links(nodes, move |from, to| {
                    is_in(from) != is_in(to) && (!only_out || is_in(from))
                });
            }
            4..=5 => self.world.cut_links(nodes, |_, _| false),
            6..=8 => {
                // Owners die more often than others.
                let node = if self.world.below(2) == 0 {
                    self.serving().unwrap_or(node)
                } else {
                    node
                };
                self.crash(node);
            }
            9..=11 => self.start(node).await?,
            12 => {
                if let Some(serving) = self.serving() {
                    let group = self.replicas[&serving].group.clone();
                    tokio::spawn(async move { group.hand_over(node, Duration::from_secs(1)).await });
                }
            }
            13 => {
                // A snapshot, after which the log before it is not needed.
                if let Some(replica) = self.replicas.get(&node) {
                    let seq = self.machines[node as usize - 1].save();
                    let group = replica.group.clone();
                    tokio::spawn(async move { group.purge_up_to(seq).await });
                }
            }
            14 => self
                .world
                .delay
                .store(1 + self.world.below(60), Ordering::Relaxed),
            _ => {
                if let Some(serving) = self.serving() {
                    let group = self.replicas[&serving].group.clone();
                    let without = 1 + self.world.below(nodes);
                    let voters: BTreeSet<u64> = (1..=nodes)
                        .filter(|node| *node != without || *node == serving)
                        .collect();
                    let change = async move { drop(group.set_voters(voters).await) };
                    self.changing.push(tokio::spawn(change));
                }
            }
        }
        Ok(())
    }

    fn crash(&mut self, node: u64) {
        let with_power = self.world.below(2) == 0;
        if let Some(replica) = self.replicas.remove(&node) {
            self.machines[node as usize - 1].crash(replica, with_power);
            self.crashes += 1;
        }
    }

    async fn start(&mut self, node: u64) -> Result<(), String> {
        if let Some(replica) = self.replicas.get(&node) {
            let failed = replica.group.role().borrow().failed.clone();
            match failed {
                None => return Ok(()),
                Some(_) => self.crash(node),
            }
        }
        let machine = self.machines[node as usize - 1].clone();
        let replica = machine
            .start(false)
            .await
            .map_err(|error| format!("node {node} does not start: {error}"))?;
        self.replicas.insert(node, replica);
        Ok(())
    }

    /// Everything is whole again.
    async fn heal(&mut self) -> Result<(), String> {
        let nodes = self.machines.len() as u64;
        self.world.cut_links(nodes, |_, _| false);
        self.world.loss.store(0, Ordering::Relaxed);
        self.world.delay.store(3, Ordering::Relaxed);
        for node in 1..=nodes {
            self.start(node).await?;
        }
        self.until("somebody serves", 30_000, |story| story.serving().is_some())
            .await?;
        // An owner changes one thing at a time: what is under way ends first, or never.
        for mut changing in std::mem::take(&mut self.changing) {
            if tokio::time::timeout(Duration::from_secs(10), &mut changing)
                .await
                .is_err()
            {
                changing.abort();
            }
        }
        for _ in 0..20 {
            let Some(serving) = self.serving() else {
                rest(500).await;
                continue;
            };
            let group = self.replicas[&serving].group.clone();
            let changing = group.set_voters((1..=nodes).collect());
            let changed = tokio::time::timeout(Duration::from_secs(10), changing).await;
            if matches!(changed, Ok(Ok(()))) {
                return Ok(());
            }
            rest(500).await;
        }
        Err("the voters cannot be set".into())
    }

    /// What has to be so.
    async fn check(&mut self) -> Result<(), String> {
        let mut last = u64::MAX;
        // An owner may just be handing over, or not know yet that it is none.
        for number in (0..100).map(|tries| u64::MAX - tries) {
            rest(200).await;
            let Some(serving) = self.serving() else { continue };
            let group = self.replicas[&serving].group.clone();
            let epoch = group.role().borrow().epoch;
            let appended = group.append(epoch, body_of(std::iter::once(number)));
            if matches!(
                tokio::time::timeout(Duration::from_secs(2), appended).await,
                Ok(Ok(_))
            ) {
                last = number;
                break;
            }
        }
        self.until("all replicas have applied the same", 60_000, |story| {
            let mut states = story
                .machines
                .iter()
                .map(|machine| *machine.now.lock().expect("a state"));
            let first = states.next();
            states.all(|state| Some(state) == first)
                && first.map(|state| state.0) == story.world.ledger.lock().expect("the ledger").seq_of(last)
        })
        .await?;
        let ledger = self.world.ledger.lock().expect("the ledger");
        for (record, seq) in self.acknowledged.lock().expect("records").iter() {
            if ledger.seq_of(*record) != Some(*seq) {
                return Err(format!(
                    "record {record} was acknowledged at seq {seq}, and stands at {:?}",
                    ledger.seq_of(*record)
                ));
            }
        }
        Ok(())
    }

    /// The node that says it serves; there may be more, and some of them wrong.
    fn serving(&self) -> Option<u64> {
        let mut serving = self
            .replicas
            .iter()
            .filter(|(_, replica)| replica.group.role().borrow().serves);
        serving.next().map(|(node, _)| *node)
    }

    async fn until(&self, what: &str, millis: u64, so: impl Fn(&Self) -> bool) -> Result<(), String> {
        for _ in 0..millis / 20 {
            if so(self) {
                return Ok(());
            }
            rest(20).await;
        }
        let roles: Vec<_> = self
            .replicas
            .iter()
            .map(|(node, replica)| (node, replica.group.standing()))
            .collect();
        Err(format!("waited in vain until {what}: {roles:#?}"))
    }

    /// Writes new records to whoever says it serves; a record that was not acknowledged is never sent again.
    fn client(&self, client: u64, stop: Arc<AtomicBool>) -> impl Future<Output = ()> + Send + use<> {
        let (world, acknowledged) = (self.world.clone(), self.acknowledged.clone());
        async move {
            let mut next = (client + 1) << 32;
            while !stop.load(Ordering::Relaxed) {
                rest(5 + world.below(60)).await;
                let serving: Vec<Group> = {
                    let groups = world.groups.lock().expect("groups");
                    groups
                        .values()
                        .filter(|group| group.role().borrow().serves)
                        .cloned()
                        .collect()
                };
                if serving.is_empty() {
                    continue;
                }
                let group = &serving[world.below(serving.len() as u64) as usize];
                let (first, count) = (next, 1 + world.below(4));
                next += count;
                let epoch = group.role().borrow().epoch;
                let appended = group.append(epoch, body_of(first..first + count));
                let within = Duration::from_millis(100 + world.below(2_000));
                if let Ok(Ok(applied)) = tokio::time::timeout(within, appended).await {
                    let mut acknowledged = acknowledged.lock().expect("records");
                    acknowledged.extend((first..first + count).zip(applied.first.get()..));
                }
            }
        }
    }
}
