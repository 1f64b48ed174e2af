//! Nodes killed with `kill -9` under load: what was acknowledged is there, and counted once.
//!
//! `GEMBA_CRASH_CYCLES` sets the number of kills (20 by default).

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use support::{
    Broker, Node,
    device::{CELLS, Diary, Pace, is_reader, message_id, publish_until},
    free_port, request, wait_until,
};

const DEVICES: usize = 20;
/// Of them read where jobs are: what a job tells its locations crosses shards.
const READERS: usize = 4;
/// Messages acknowledged between two kills.
const BETWEEN_KILLS: u64 = 2_000;

fn cycles() -> u64 {
    std::env::var("GEMBA_CRASH_CYCLES")
        .ok()
        .and_then(|cycles| cycles.parse().ok())
        .unwrap_or(20)
}

/// Messages that devices may have acknowledged in a cycle: a broker that takes them faster than the node would
/// otherwise hold ever more of them.
const IN_A_CYCLE: u64 = 2 * BETWEEN_KILLS;

/// Kills the node again and again while devices publish to it or to its broker, each time after it applied `taken`
/// messages at least; answers what the devices wrote down.
fn kill_under_load(
    folder: &Path,
    http: u16,
    mqtt: u16,
    devices_to: u16,
    extra: &[&str],
    taken: u64,
) -> Vec<Diary> {
    let pace = Arc::new(Pace::default());
    let mut node = Node::start_on(folder, http, mqtt, extra);
    let devices: Vec<_> = (0..DEVICES)
        .map(|number| {
            let pace = pace.clone();
            let name = match number {
                0..READERS => format!("job-{number:02}"),
                _ => format!("crash-{number:02}"),
            };
            std::thread::spawn(move || publish_until(&pace, devices_to, &name))
        })
        .collect();
    for _ in 0..cycles() {
        let acknowledged = pace.acknowledged.load(Ordering::Acquire);
        pace.allowed.store(acknowledged + IN_A_CYCLE, Ordering::Release);
        wait_until("the next messages", || {
            let now = pace.acknowledged.load(Ordering::Acquire);
            (now >= acknowledged + BETWEEN_KILLS).then_some(())
        });
        if taken > 0 {
            wait_until("the node to take them", || {
                (node.counts_that_add_up().applied >= taken).then_some(())
            });
        }
        node.kill();
        node = Node::start_on(folder, http, mqtt, extra);
    }
    pace.stop.store(true, Ordering::Release);
    let diaries = devices
        .into_iter()
        .map(|device| device.join().expect("a device"))
        .collect();
    node.kill();
    diaries
}

/// What a node holds of a device: how often each message id was journaled, and how many values were folded.
fn held(node: &Node, sensor: &str) -> (BTreeMap<String, u64>, u64) {
    let (mut ids, mut after) = (BTreeMap::new(), 0);
    let kind = if is_reader(sensor) { "job" } else { "machine" };
    loop {
        let page = node.get(&format!(
            "/v1/twins/{kind}/{sensor}/events?after={after}&limit=1000"
        ));
        for event in page["items"].as_array().expect("events") {
            if let Some(id) = event["message_id"].as_str() {
                *ids.entry(id.to_owned()).or_default() += 1;
            }
            after = event["seq"].as_u64().expect("a seq");
        }
        if page["cursor"].is_null() {
            break;
        }
    }
    if kind == "job" {
        let scans = node.get(&format!("/v1/twins/job/{sensor}"))["kpis"]["scans"].as_f64();
        return (ids, scans.expect("a count") as u64);
    }
    let history = node.get(&format!(
        "/v1/twins/machine/{sensor}/history?metric=sequence&step=1d"
    ));
    let folded = history
        .as_array()
        .expect("points")
        .iter()
        .map(|point| point["count"].as_u64().expect("a count"));
    (ids, folded.sum())
}

fn assert_nothing_lost_or_doubled(node: &Node, diaries: &[Diary]) {
    let mut acknowledged = 0;
    for diary in diaries {
        let (ids, folded) = held(node, &diary.sensor);
        let wanted: BTreeSet<String> = diary
            .acknowledged
            .iter()
            .map(|number| message_id(&diary.sensor, *number))
            .collect();
        let missing: Vec<_> = wanted.iter().filter(|id| !ids.contains_key(*id)).collect();
        assert!(
            missing.is_empty(),
            "{} acknowledged messages are missing, e.g. {:?}",
            missing.len(),
            missing.first()
        );
        let doubled: Vec<_> = ids.iter().filter(|(_, times)| **times > 1).collect();
        assert!(
            doubled.is_empty(),
            "{} messages were journaled twice, e.g. {:?}",
            doubled.len(),
            doubled.first()
        );
        assert_eq!(
            folded,
            ids.len() as u64,
            "{}: values folded against messages journaled",
            diary.sensor
        );
        acknowledged += diary.acknowledged.len() as u64;
    }
    assert_effects_counted_once(node, diaries);
    println!(
        "{} kills, {acknowledged} acknowledged, 0 missing, 0 counted twice",
        cycles()
    );
    assert!(acknowledged >= cycles() * BETWEEN_KILLS);
}

/// Each job went through its cells one after the other; each cell heard of each visit once.
fn assert_effects_counted_once(node: &Node, diaries: &[Diary]) {
    let jobs = || diaries.iter().filter(|diary| is_reader(&diary.sensor));
    let visits: u64 = jobs().map(|job| job.sent - 1).sum();
    let heard = || {
        let cells = (0..CELLS).map(|cell| node.get(&format!("/v1/twins/location/cell-{cell}")));
        cells.fold((0.0, 0.0), |(visits, wip), cell| {
            let kpi = |name: &str| cell["kpis"][name].as_f64().unwrap_or_default();
            (visits + kpi("visits"), wip + kpi("wip"))
        })
    };
    let wanted = (visits as f64, READERS as f64);
    for _ in 0..2_000 {
        if heard() == wanted {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    panic!(
        "visits and jobs at cells are {:?}, the jobs made {wanted:?}",
        heard()
    );
}

#[test]
fn devices_lose_nothing_when_their_node_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (http, mqtt) = (free_port(), free_port());
    let diaries = kill_under_load(folder.path(), http, mqtt, mqtt, &[], 0);
    let node = Node::start_on(folder.path(), http, mqtt, &[]);
    assert_nothing_lost_or_doubled(&node, &diaries);
    let sent_again: u64 = diaries.iter().map(|diary| diary.sent_again).sum();
    println!("{sent_again} sent again");
    assert!(
        sent_again > 0,
        "no kill hit a message on its way: the test shows nothing"
    );
    node.counts_that_add_up();
    assert!(node.stop(), "the node stops well");
}

/// A broker that had kept thousands of messages sent them all at once; acknowledgements queued up behind the reading
/// until both waited for each other, and nothing came any more.
#[test]
fn a_broker_s_messages_are_not_lost_when_the_node_is_killed() {
    let (folder, broker_folder) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let broker = Broker::start(broker_folder.path());
    let (data, http, mqtt) = (folder.path().join("data"), free_port(), free_port());
    let config = folder.path().join("gemba.toml");
    std::fs::write(
        &config,
        format!(
            "[[broker]]\nname = \"plant\"\nurl = \"mqtt://127.0.0.1:{}\"\nclient_id = \"gemba-crash\"\n\
             [[broker.subscriptions]]\ntopic = \"gemba/v1/default/#\"\nqos = 1\ndecoder = \"native\"\n",
            broker.port
        ),
    )
    .expect("a configuration");
    let extra = ["--config", config.to_str().expect("a path")];
    // The broker keeps messages only for a session that it knows.
    let node = Node::start_on(&data, http, mqtt, &extra);
    wait_until("the subscription", || {
        broker.publish(
            "gemba/v1/default/readings/probe",
            br#"{"sensor_id":"probe","metrics":{"probe":1}}"#,
        );
        (request(node.http, "GET", "/v1/twins/machine/probe", &[], b"").0 == 200).then_some(())
    });
    node.kill();
    let diaries = kill_under_load(&data, http, mqtt, broker.port, &extra, IN_A_CYCLE * 7 / 8);
    let node = Node::start_on(&data, http, mqtt, &extra);
    // The broker took everything; what the node had not acknowledged to it comes again now.
    for diary in &diaries {
        wait_until("what the broker holds", || {
            (held(&node, &diary.sensor).1 >= diary.sent).then_some(())
        });
    }
    assert_nothing_lost_or_doubled(&node, &diaries);
    let counts = node.counts_that_add_up();
    println!("{counts:?} since the last kill");
    assert!(node.stop(), "the node stops well");
}
