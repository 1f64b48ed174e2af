//! What a cluster goes through.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gemba_cluster::{
    Append, Courier, Epoch, Errand, Group, Journal, JournalOptions, Seq, ShardId,
    map::{Change, MemberState, Standing},
};

use crate::{
    node::{Node, Site, owner, until},
    toy::body_of,
};

const SHARDS: u16 = 2;

/// Founds a cluster of one.
fn found(site: &Site, node: u64) -> Node {
    let node = site.node(node);
    node.run(node.keeper.found(SHARDS, 3)).expect("founded");
    node
}

/// All shards are kept by exactly these nodes, as their owners say.
fn kept_by(nodes: &[Node], wanted: &[u64]) -> bool {
    let wanted: BTreeSet<u64> = wanted.iter().copied().collect();
    let of = |shard: u16| {
        let serving = nodes.iter().find(|node| node.role(shard).serves)?;
        let standing = serving.group(shard)?.standing();
        Some((standing.voters, standing.learners.is_empty()))
    };
    (0..SHARDS)
        .chain([ShardId::MAP.get()])
        .all(|shard| of(shard) == Some((wanted.clone(), true)))
}

fn trio(site: &Site) -> Vec<Node> {
    let first = found(site, 1);
    let mut nodes = vec![first];
    for number in 2..=3 {
        let node = site.node(number);
        node.join(&nodes[0]);
        nodes.push(node);
    }
    until("three nodes keep all shards", || kept_by(&nodes, &[1, 2, 3]));
    nodes
}

/// Everybody has the same state of every shard.
fn alike(nodes: &[Node]) {
    for shard in 0..SHARDS {
        let mut seen = Vec::new();
        let mut same = || {
            seen = nodes.iter().map(|node| node.toys.state(shard)).collect();
            seen.iter().all(|state| *state == seen[0])
        };
        until("the replicas have the same state", &mut same);
    }
}

/// Writes numbered records to a shard, by whichever node serves it, until it is told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<Vec<u8>>>>,
    groups: Arc<Mutex<Vec<Group>>>,
    longest_gap: Arc<Mutex<Duration>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn start(nodes: &[Node], shard: u16, name: &'static str) -> Self {
        let groups: Vec<Group> = nodes.iter().filter_map(|node| node.group(shard)).collect();
        let groups = Arc::new(Mutex::new(groups));
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let longest_gap = Arc::new(Mutex::new(Duration::ZERO));
        let (stopped, done, known, gap) = (
            stop.clone(),
            acknowledged.clone(),
            groups.clone(),
            longest_gap.clone(),
        );
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let (mut number, mut last) = (0_u64, now());
            while !stopped.load(Ordering::Acquire) {
                let serving = {
                    let groups = known.lock().expect("groups");
                    groups.iter().find(|group| group.role().borrow().serves).cloned()
                };
                let Some(group) = serving else {
                    std::thread::park_timeout(Duration::from_millis(5));
                    continue;
                };
                number += 1;
                let record = format!("{name} {number}").into_bytes();
                let epoch = group.role().borrow().epoch;
                let appended = group.append(epoch, body_of(&[&record]));
                let within = Duration::from_secs(3);
                let answer = runtime.block_on(async { tokio::time::timeout(within, appended).await });
                if let Ok(Ok(_)) = answer {
                    done.lock().expect("records").push(record);
                    let mut gap = gap.lock().expect("a gap");
                    *gap = last.elapsed().max(*gap);
                    last = now();
                }
            }
        });
        Self {
            stop,
            acknowledged,
            groups,
            longest_gap,
            thread: Some(thread),
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("records").len()
    }

    /// Some more records are acknowledged.
    fn goes_on(&self) {
        let before = self.count();
        until("the writer goes on", || self.count() > before + 20);
    }

    /// Each acknowledged record was applied once.
    fn check(mut self, site: &Site, shard: u16) -> (usize, Duration) {
        self.stop.store(true, Ordering::Release);
        self.thread
            .take()
            .expect("a thread")
            .join()
            .expect("the writer ends");
        let acknowledged = self.acknowledged.lock().expect("records").clone();
        let ledger = site.ledger.lock().expect("the ledger");
        for record in &acknowledged {
            let count = ledger.count(shard, record);
            assert_eq!(
                count,
                1,
                "{} was applied {count} times",
                String::from_utf8_lossy(record)
            );
        }
        (acknowledged.len(), *self.longest_gap.lock().expect("a gap"))
    }
}

#[expect(clippy::disallowed_methods, reason = "measures how long writers wait")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn owners_die_and_nothing_acknowledged_is_lost() {
    let site = Site::new();
    let mut nodes = trio(&site);
    let writer = Writer::start(&nodes, 0, "kill");
    for _ in 0..3 {
        writer.goes_on();
        let dying = owner(&nodes, 0).number;
        let at = nodes
            .iter()
            .position(|node| node.number == dying)
            .expect("it is there");
        writer.groups.lock().expect("groups").clear();
        let toys = nodes.remove(at).pull_the_plug();
        *writer.groups.lock().expect("groups") = nodes.iter().filter_map(|node| node.group(0)).collect();
        writer.goes_on();
        let back = site.node_with(dying, toys);
        back.join(&nodes[0]);
        until("it takes part again", || back.group(0).is_some());
        writer.groups.lock().expect("groups").extend(back.group(0));
        nodes.push(back);
        until("it has caught up", || {
            let standing = owner(&nodes, 0).group(0).expect("a group").standing();
            standing.behind.iter().all(|(_, behind)| *behind < 50)
        });
    }
    writer.goes_on();
    let (count, gap) = writer.check(&site, 0);
    println!("{count} records acknowledged, longest gap {gap:?}");
    assert!(site.ledger.lock().expect("the ledger").epochs(0) >= 4);
    alike(&nodes);
}

#[test]
fn an_owner_hands_over_under_load() {
    let mut site = Site::new();
    site.rebalances = false;
    let nodes = trio(&site);
    let writer = Writer::start(&nodes, 1, "hand-over");
    let mut took = Vec::new();
    for round in 0..12 {
        writer.goes_on();
        let from = owner(&nodes, 1);
        let to = 1 + (from.number + round) % 3;
        if to == from.number || took.len() == 4 {
            continue;
        }
        let began = now();
        let group = from.group(1).expect("a group");
        // On a busy machine the replicas may elect another one meanwhile.
        if from.run(group.hand_over(to, Duration::from_secs(5))).is_ok() {
            let next = nodes.iter().find(|node| node.number == to).expect("it is there");
            until("the new owner serves", || {
                nodes
                    .iter()
                    .any(|node| node.role(1).serves && node.number == next.number)
            });
            took.push(began.elapsed());
        }
    }
    let (count, gap) = writer.check(&site, 1);
    println!("{count} records acknowledged, longest gap {gap:?}, hand-overs took {took:?}");
    // How long it takes without other work on the machine, the simulation measures.
    assert!(!took.is_empty(), "no hand-over in twelve attempts");
    alike(&nodes);
}

/// What a single node of an earlier release has written: frames, and no log.
fn plain_folder(site: &Site, node: u64) -> usize {
    let journal =
        Journal::open(JournalOptions::new(site.folder_of(node).join("journal"))).expect("a journal");
    for first in (1..=90).step_by(3) {
        let records = (first..first + 3)
            .map(|seq| format!("plain {seq}"))
            .collect::<Vec<_>>();
        let bytes: Vec<&[u8]> = records.iter().map(|record| record.as_bytes()).collect();
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let append = Append {
            shard: ShardId::new(0),
            epoch: Epoch::new(1),
            first: Seq::new(first),
            body: body_of(&bytes),
            done: Box::new(move |result| answer.send(result).expect("somebody listens")),
        };
        journal.append(append).expect("taken");
        answered.recv().expect("an answer").expect("appended");
    }
    journal.close();
    90
}

#[test]
fn a_single_node_with_data_grows_to_three_and_five_and_shrinks_to_three() {
    let site = Site::new();
    let plain = plain_folder(&site, 1) as u64;
    let toys = crate::toy::Toys::new(1, site.ledger.clone());
    // Its state has come to the last seq before; nobody hears of these records again.
    toys.durable.lock().expect("states").insert(0, (plain, 4_711));
    let first = site.node_with(1, toys);
    first.run(first.keeper.found(SHARDS, 3)).expect("founded");
    let mut nodes = vec![first];
    until("the only node serves", || nodes[0].role(0).serves);
    let writer = Writer::start(&nodes, 0, "growth");
    let more = |nodes: &mut Vec<Node>, number: u64| {
        let node = site.node(number);
        node.join(&nodes[0]);
        nodes.push(node);
    };
    for number in 2..=3 {
        more(&mut nodes, number);
    }
    until("three nodes keep all shards", || kept_by(&nodes, &[1, 2, 3]));
    writer
        .groups
        .lock()
        .expect("groups")
        .extend(nodes[1..].iter().filter_map(|node| node.group(0)));
    writer.goes_on();
    alike(&nodes);
    for number in 4..=5 {
        more(&mut nodes, number);
    }
    until("five nodes keep the map", || {
        let map = ShardId::MAP.get();
        nodes.iter().any(|node| {
            node.role(map).serves
                && node
                    .group(map)
                    .is_some_and(|group| group.standing().voters.len() == 5)
        })
    });
    for number in [1, 2] {
        let draining = Change::Stand(Standing {
            node: number,
            state: MemberState::Draining as i32,
        });
        let keeper = &owner(&nodes, ShardId::MAP.get()).keeper;
        nodes[0].run(keeper.change_map(draining)).expect("draining");
        until("its shards are elsewhere", || {
            let mut on: Vec<Group> = nodes.iter().filter_map(|node| node.group(0)).collect();
            std::mem::swap(&mut *writer.groups.lock().expect("groups"), &mut on);
            (0..SHARDS).all(|shard| nodes[number as usize - 1].group(shard).is_none())
        });
        writer.goes_on();
    }
    let rest = nodes.split_off(2);
    until("the last three keep all shards", || {
        (0..SHARDS).all(|shard| {
            let serving = rest.iter().find(|node| node.role(shard).serves);
            let group = serving.and_then(|node| node.group(shard));
            group.is_some_and(|group| group.standing().voters == BTreeSet::from([3, 4, 5]))
        })
    });
    let (count, gap) = writer.check(&site, 0);
    println!("{count} records acknowledged while it grew and shrank, longest gap {gap:?}");
    alike(&rest);
    assert!(
        rest[0].toys.state(0).0 > plain,
        "seqs go on where the plain folder ended"
    );
}

#[test]
fn who_was_let_go_of_meanwhile_learns_it_from_a_majority_and_not_from_its_own_map() {
    let site = Site::new();
    let mut nodes = trio(&site);
    let at = nodes.iter().position(|node| node.number == 3).expect("node 3");
    drop(nodes.remove(at));
    let draining = Change::Stand(Standing {
        node: 3,
        state: MemberState::Draining as i32,
    });
    for change in [draining, Change::Leave(3)] {
        until("it is let go of", || {
            let keeper = &owner(&nodes, ShardId::MAP.get()).keeper;
            nodes[0].run(keeper.change_map(change.clone())).is_ok()
        });
    }
    let node = site.node(3);
    // Its own map is of before, and the addresses of the others may not be known yet.
    until("it is certain", || node.run(node.keeper.ask_around()));
    assert!(!node.keeper.map().borrow().members.contains_key(&3));
    // Its own replica of the map's group is behind what it has learned: the map here never goes back, or replicas that
    // it has just been given would be let go of again.
    let (mut map, seqs) = (node.keeper.map(), Arc::new(Mutex::new(Vec::new())));
    let seen = seqs.clone();
    node.spawn(async move {
        loop {
            seen.lock().expect("seqs").push(map.borrow_and_update().seq);
            if map.changed().await.is_err() {
                return;
            }
        }
    });
    node.join(&nodes[0]);
    nodes.push(node);
    until("it keeps all shards again", || kept_by(&nodes, &[1, 2, 3]));
    let seqs = seqs.lock().expect("seqs").clone();
    assert!(seqs.is_sorted(), "{seqs:?}");
    let node = nodes.pop().expect("node 3");
    drop(nodes);
    assert!(
        !node.run(node.keeper.ask_around()),
        "with nobody to ask nothing is certain"
    );
}

#[test]
fn a_batch_comes_to_the_owner_by_another_node() {
    let site = Site::new();
    let nodes = trio(&site);
    let within = Duration::from_secs(5);
    // Whoever owns the shard may be handing it over; then the batch was not taken, and the sender tries again.
    until("the batch is applied by its owner", || {
        let owner = owner(&nodes, 0).number;
        let other = nodes
            .iter()
            .find(|node| node.number != owner)
            .expect("another one");
        let body = bytes::Bytes::from_static(b"forwarded");
        let sent = other
            .lines
            .send(owner, Errand::Batch, ShardId::new(0), body, within);
        other.run(sent).is_ok_and(|answer| answer.len() == 8)
    });
    assert_eq!(site.ledger.lock().expect("the ledger").count(0, b"forwarded"), 1);
}

/// Flips a byte of a record in the segment files of a folder; there are copies of a page where redb has let go of one.
fn damage(folder: &std::path::Path, record: &[u8]) {
    for file in std::fs::read_dir(folder.join("journal")).expect("a folder") {
        let path = file.expect("a file").path();
        let mut bytes = std::fs::read(&path).expect("a segment");
        let places: Vec<usize> = bytes
            .windows(record.len())
            .enumerate()
            .filter_map(|(at, window)| (window == record).then_some(at))
            .collect();
        for at in places {
            bytes[at + record.len() / 2] ^= 0x10;
        }
        std::fs::write(&path, bytes).expect("written");
    }
}

#[test]
fn a_replica_with_a_damaged_frame_is_healed_from_the_others() {
    let site = Site::new();
    let mut nodes = trio(&site);
    for number in 0..40 {
        let record = format!("a record to be damaged, number {number:04}");
        until("it is applied", || {
            let serving = owner(&nodes, 0);
            let group = serving.group(0).expect("a group");
            let appended = group.append(serving.role(0).epoch, body_of(&[record.as_bytes()]));
            serving.run(appended).is_ok()
        });
    }
    alike(&nodes);
    // One in the middle, which is seen when the state is brought up again, and the last one, which is seen at once.
    for damaged in [
        "a record to be damaged, number 0020",
        "a record to be damaged, number 0039",
    ] {
        let serving = owner(&nodes, 0).number;
        let at = nodes
            .iter()
            .position(|node| node.number != serving)
            .expect("another one");
        let number = nodes[at].number;
        let toys = nodes.remove(at).pull_the_plug();
        damage(&site.folder_of(number), damaged.as_bytes());
        let back = site.node_with(number, toys);
        back.join(&nodes[0]);
        nodes.push(back);
        until("it is a voter again, with a log that is whole", || {
            let healed = nodes.last().expect("it is there");
            healed.journal.check_log(ShardId::new(0)).is_ok()
                && healed
                    .group(0)
                    .is_some_and(|group| group.standing().applied.get() >= 40)
                && kept_by(&nodes, &[1, 2, 3])
        });
        alike(&nodes);
    }
}
