//! A cluster under load whose nodes are killed, frozen, cut off and drained: what was acknowledged is there, once, on
//! every node.
//!
//! `GEMBA_CHAOS_CYCLES` sets the number of blows (7 by default, one of each kind and a second kill), `GEMBA_CHAOS_KINDS`
//! which of the seven are struck by turns (`0123456` by default; `1` is a freeze). Prints how long a message waited for
//! its acknowledgement at most, by blow and shard, and p50 and max of each kind of blow.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    Node,
    cluster::{hashes, seats_behind, wait_until_settled},
    command::gemba,
    device::{Diary, Pace, is_reader, message_id, publish_until},
    request, wait_until,
    wires::Wires,
};

/// MQTT devices, a third of them at each node.
const DEVICES: usize = 20;
/// Messages of the devices between two blows.
const BETWEEN: u64 = 1_500;

fn cycles() -> usize {
    let set = std::env::var("GEMBA_CHAOS_CYCLES").ok();
    set.and_then(|cycles| cycles.parse().ok()).unwrap_or(7)
}

/// The kind of a cycle's blow, 0 to 6.
fn kind(cycle: usize) -> u8 {
    let set = std::env::var("GEMBA_CHAOS_KINDS").unwrap_or_else(|_| "0123456".into());
    let kinds: Vec<u8> = set.bytes().map(|digit| digit.saturating_sub(b'0') % 7).collect();
    kinds.get(cycle % kinds.len().max(1)).copied().unwrap_or_default()
}

/// Posts readings of one machine of one shard, one after the other, to whichever node answers.
struct Probe {
    machine: String,
    shard: u64,
    acknowledged: BTreeSet<u64>,
    /// How long a message waited at most, in the order of the blows.
    gaps: Vec<Duration>,
}

/// A probe that hears nothing for so long asks the next node.
const PATIENCE: Duration = Duration::from_millis(500);

/// One try to post a reading; whether it was acknowledged.
fn try_post(http: u16, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", http)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let head = format!(
        "POST /v1/readings HTTP/1.0\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

/// What the blows and the probes share.
#[derive(Default)]
struct Stage {
    blow: AtomicU64,
    over: AtomicBool,
}

#[expect(clippy::disallowed_methods, reason = "measures")]
fn now() -> Instant {
    Instant::now()
}

fn probe(stage: &Stage, http: &[u16], mut probe: Probe) -> Probe {
    let (mut number, mut at) = (0_u64, probe.shard as usize);
    let (mut longest, mut blow) = (Duration::ZERO, 0);
    while !stage.over.load(Ordering::Acquire) {
        number += 1;
        let body = json!({
            "sensor_id": probe.machine, "message_id": format!("{}-{number}", probe.machine),
            "metrics": {"sequence": number},
        })
        .to_string();
        let began = now();
        loop {
            match try_post(http[at % http.len()], &body) {
                Some(200) => break,
                // It may have been taken: it is sent again under its id, to the next node.
                _ => at += 1,
            }
            if stage.over.load(Ordering::Acquire) {
                probe.gaps.push(longest.max(began.elapsed()));
                return probe;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        probe.acknowledged.insert(number);
        let now_blow = stage.blow.load(Ordering::Acquire);
        if now_blow != blow {
            // What was under way when a blow fell, waited for that one.
            blow = now_blow;
            probe.gaps.push(std::mem::take(&mut longest));
        }
        longest = longest.max(began.elapsed());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    probe.gaps.push(longest);
    probe
}

/// Asks until the cluster has an owner to answer.
fn ask(node: &Node, path: &str) -> Value {
    wait_until("an answer", || {
        let (status, body) = request(node.http, "GET", path, &[], b"");
        assert!(
            [200, 503].contains(&status),
            "{path}: {}",
            String::from_utf8_lossy(&body)
        );
        (status == 200).then(|| serde_json::from_slice(&body).expect("JSON"))
    })
}

/// A machine of each shard.
fn machines(node: &Node, shards: u64) -> BTreeMap<u64, String> {
    let mut of = BTreeMap::new();
    for number in 0.. {
        let machine = format!("probe-{number}");
        let reading = json!({"sensor_id": machine, "metrics": {"sequence": 0}}).to_string();
        wait_until("a reading is taken", || {
            let (status, _) = node.post("/v1/readings", "application/json", reading.as_bytes());
            (status == 200).then_some(())
        });
        let twin = ask(node, &format!("/v1/twins/machine/{machine}"));
        of.entry(twin["seq"]["shard"].as_u64().expect("a shard"))
            .or_insert(machine);
        if of.len() as u64 == shards {
            break;
        }
    }
    of
}

/// The node that owns most shards.
fn heaviest(view: &Value) -> usize {
    let nodes = view["nodes"].as_array().expect("nodes").iter();
    let most = nodes.max_by_key(|node| node["owns"].as_u64());
    usize::try_from(most.and_then(|node| node["node"].as_u64()).expect("a node")).expect("small")
}

fn signal(node: &Node, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &node.pid().to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

/// How often each message id of a twin was journaled.
fn journaled(node: &Node, kind: &str, id: &str) -> BTreeMap<String, u64> {
    let (mut ids, mut after) = (BTreeMap::new(), 0);
    loop {
        let page = ask(
            node,
            &format!("/v1/twins/{kind}/{id}/events?after={after}&limit=1000"),
        );
        for event in page["items"].as_array().expect("events") {
            if let Some(id) = event["message_id"].as_str().filter(|id| !id.is_empty()) {
                *ids.entry(id.to_owned()).or_default() += 1;
            }
            after = event["seq"].as_u64().expect("a seq");
        }
        if page["cursor"].is_null() {
            return ids;
        }
    }
}

fn assert_once(node: &Node, kind: &str, id: &str, wanted: impl Iterator<Item = String>) -> usize {
    let ids = journaled(node, kind, id);
    let doubled: Vec<_> = ids.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "{id}: counted twice: {doubled:?}");
    let mut count = 0;
    for wanted in wanted {
        assert!(
            ids.contains_key(&wanted),
            "{id}: {wanted} was acknowledged and is lost"
        );
        count += 1;
    }
    count
}

/// A blow: its kind, and the node that it hit.
type Blow = (&'static str, usize);

/// The value that a share of them (in per cent) does not pass; they are sorted.
fn percentile(sorted: &[u128], share: usize) -> u128 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((sorted.len() * share / 100).min(last))
        .copied()
        .unwrap_or_default()
}

/// Prints how long messages waited.
fn print_gaps(probes: &[Probe], blows: &[Blow]) {
    let mut kinds: BTreeMap<&str, Vec<u128>> = BTreeMap::new();
    println!("longest time until an acknowledgement, ms, by blow and shard:");
    for (at, (kind, node)) in blows.iter().enumerate() {
        let mut gaps: Vec<u128> = probes
            .iter()
            .filter_map(|probe| Some(probe.gaps.get(at + 1)?.as_millis()))
            .collect();
        gaps.sort_unstable();
        println!("  node {node} {kind:24} {gaps:?}");
        kinds.entry(kind).or_default().extend(gaps);
    }
    println!("and by kind, of all shards:");
    for (kind, gaps) in &mut kinds {
        gaps.sort_unstable();
        println!(
            "  {kind:24} p50 {} max {}",
            percentile(gaps, 50),
            percentile(gaps, 100)
        );
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_counted_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let wires = Arc::new(Wires::default());
    let listeners: Vec<TcpListener> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let fronts: Vec<u16> = listeners
        .iter()
        .map(|listener| listener.local_addr().expect("its address").port())
        .collect();
    let seats = seats_behind(folder.path(), &fronts);
    for (listener, seat) in listeners.into_iter().zip(&seats) {
        wires.lead(listener, seat.number, seat.port);
    }
    let mut nodes: BTreeMap<usize, Node> = BTreeMap::new();
    for seat in &seats {
        let (wires, number) = (wires.clone(), seat.number);
        let node = seat.start_telling(move |pid| wires.is_process(number, pid));
        nodes.insert(seat.number, node);
    }
    wait_until_settled(&nodes[&1], 3);
    let http: Vec<u16> = seats.iter().map(|seat| seat.http).collect();

    let stage = Arc::new(Stage::default());
    let of_shard = machines(&nodes[&1], 16);
    let probes: Vec<_> = of_shard
        .into_iter()
        .map(|(shard, machine)| {
            let (stage, http) = (stage.clone(), http.clone());
            let new = Probe {
                machine,
                shard,
                acknowledged: BTreeSet::new(),
                gaps: Vec::new(),
            };
            std::thread::spawn(move || probe(&stage, &http, new))
        })
        .collect();
    let pace = Arc::new(Pace::default());
    let devices: Vec<_> = (0..DEVICES)
        .map(|number| {
            let (pace, mqtt) = (pace.clone(), seats[number % 3].mqtt);
            let name = if number < 4 {
                format!("job-{number:02}")
            } else {
                format!("chaos-{number:02}")
            };
            std::thread::spawn(move || publish_until(&pace, mqtt, &name))
        })
        .collect();
    let some_messages = || {
        let before = pace.acknowledged.load(Ordering::Acquire);
        pace.allowed.store(before + 2 * BETWEEN, Ordering::Release);
        wait_until("the next messages", || {
            (pace.acknowledged.load(Ordering::Acquire) >= before + BETWEEN).then_some(())
        });
    };

    let mut blows = Vec::new();
    // A node that left comes back with a snapshot, and its journal begins there: it is always the same one.
    let mut left = None;
    for cycle in 0..cycles() {
        some_messages();
        let view = nodes.values().next().expect("a node").get("/v1/cluster");
        let kind = kind(cycle);
        let victim = match kind {
            6 => *left.get_or_insert(heaviest(&view)),
            _ => heaviest(&view),
        };
        let others: Vec<usize> = (1..=3).filter(|node| *node != victim).collect();
        stage.blow.fetch_add(1, Ordering::AcqRel);
        let seat = &seats[victim - 1];
        let from = others.iter().map(|other| (*other, victim));
        let to = others.iter().map(|other| (victim, *other));
        let blow = match kind {
            0 | 3 => {
                nodes.remove(&victim).expect("it runs").kill();
                std::thread::park_timeout(Duration::from_secs(4));
                let wires = wires.clone();
                nodes.insert(
                    victim,
                    seat.start_telling(move |pid| wires.is_process(victim, pid)),
                );
                "killed"
            }
            1 => {
                signal(&nodes[&victim], "STOP");
                std::thread::park_timeout(Duration::from_secs(10));
                signal(&nodes[&victim], "CONT");
                "frozen for 10 s"
            }
            2 => {
                wires.cut(from);
                std::thread::park_timeout(Duration::from_secs(6));
                "hears nobody for 6 s"
            }
            4 => {
                wires.cut(to);
                std::thread::park_timeout(Duration::from_secs(6));
                "is heard by nobody for 6 s"
            }
            5 => {
                wires.cut(from.chain(to));
                std::thread::park_timeout(Duration::from_secs(6));
                "cut off for 6 s"
            }
            _ => {
                let url = format!("http://127.0.0.1:{}", seats[others[0] - 1].http);
                let drained = gemba(&["drain", &victim.to_string(), "--url", &url]);
                assert_eq!(drained.status, 0, "{} {}", drained.out, drained.err);
                blows.push(("drained", victim));
                some_messages();
                stage.blow.fetch_add(1, Ordering::AcqRel);
                assert!(nodes.remove(&victim).expect("it runs").stop());
                let wires = wires.clone();
                nodes.insert(
                    victim,
                    seat.start_telling(move |pid| wires.is_process(victim, pid)),
                );
                wait_until_settled(&nodes[&victim], 3);
                "back after its drain"
            }
        };
        wires.mend();
        blows.push((blow, victim));
        wait_until("the cluster has come to itself", || {
            let view = nodes.values().map(|node| node.get("/v1/cluster"));
            view.into_iter()
                .all(|view| view["has_quorum"] == true)
                .then_some(())
        });
    }
    some_messages();
    pace.stop.store(true, Ordering::Release);
    stage.over.store(true, Ordering::Release);
    let diaries: Vec<Diary> = devices
        .into_iter()
        .map(|device| device.join().expect("a device"))
        .collect();
    let probes: Vec<Probe> = probes
        .into_iter()
        .map(|probe| probe.join().expect("a probe"))
        .collect();
    print_gaps(&probes, &blows);

    let mut checked = 0;
    let whole: Vec<&Node> = nodes
        .iter()
        .filter_map(|(number, node)| (Some(*number) != left).then_some(node))
        .collect();
    for (number, node) in whole.iter().enumerate() {
        for diary in diaries.iter().skip(number).step_by(whole.len()) {
            let kind = if is_reader(&diary.sensor) {
                "job"
            } else {
                "machine"
            };
            let wanted = diary
                .acknowledged
                .iter()
                .map(|number| message_id(&diary.sensor, *number));
            checked += assert_once(node, kind, &diary.sensor, wanted);
        }
        for probe in probes.iter().skip(number).step_by(whole.len()) {
            let wanted = probe
                .acknowledged
                .iter()
                .map(|number| format!("{}-{number}", probe.machine));
            checked += assert_once(node, "machine", &probe.machine, wanted);
        }
    }
    println!("{checked} acknowledged messages, each journaled once");
    assert!(checked > 5_000, "only {checked} messages");
    let all = wait_until("all replicas are alike", || {
        let all: Vec<_> = nodes.values().map(hashes).collect();
        (all[0] == all[1] && all[1] == all[2]).then_some(all)
    });
    assert_eq!(all[0].len(), 16);
}
