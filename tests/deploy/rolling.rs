//! `rolling-restart.sh` with three real nodes under load: each is stopped and started again, one after the other, and what
//! devices were told is there is there, once, on every node.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    deploy,
    support::{
        Node,
        cluster::{hashes, seats, wait_until_settled},
        device::{Diary, Pace, message_id, publish_until},
        wait_until,
    },
};

/// Devices, as many at each node.
const DEVICES: usize = 6;
/// Messages a second of all devices together.
const RATE: u64 = 600;

#[expect(clippy::disallowed_methods, reason = "a load has a clock of its own")]
fn now() -> Instant {
    Instant::now()
}

/// The script, which has a node restarted by making a file and waiting until it is gone.
fn script(folder: &std::path::Path, http: &[u16]) -> Child {
    let restart = r#"touch "$NODE.down"; while [ -e "$NODE.down" ]; do sleep 0.05; done"#;
    let nodes = http
        .iter()
        .enumerate()
        .map(|(at, port)| format!("node-{at}=http://127.0.0.1:{port}"));
    Command::new(deploy("rolling-restart.sh"))
        .args([
            "--restart",
            restart,
            "--pause",
            "0.1",
            "--wait",
            "120",
            "--lag",
            "50",
        ])
        .args(nodes)
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("the script starts")
}

/// Restarts what the script asks for until it ends, while devices may send so much more; answers whom, in order.
fn serve(
    script: &mut Child,
    folder: &std::path::Path,
    nodes: &mut [Option<Node>],
    start: impl Fn(usize) -> Node,
) -> Vec<usize> {
    let mut restarted = Vec::new();
    loop {
        for (at, place) in nodes.iter_mut().enumerate() {
            let asked = folder.join(format!("node-{at}.down"));
            if asked.exists() {
                let node = place.take().expect("it runs");
                assert!(node.stop(), "node {at} did not end well");
                *place = Some(start(at));
                restarted.push(at);
                std::fs::remove_file(asked).expect("removed");
            }
        }
        // It gives up by itself.
        if let Some(status) = script.try_wait().expect("its state") {
            assert!(status.success(), "the script gave up after {restarted:?}");
            return restarted;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn three_nodes_restart_one_by_one_under_load_and_nothing_is_lost_or_counted_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let seats = seats(folder.path(), 3);
    let mut nodes: Vec<Option<Node>> = seats.iter().map(|seat| Some(seat.start())).collect();
    wait_until_settled(nodes[2].as_ref().expect("it runs"), 3);
    let http: Vec<u16> = seats.iter().map(|seat| seat.http).collect();

    let pace = Pace::default();
    let began = now();
    let (restarted, diaries): (Vec<usize>, Vec<Diary>) = std::thread::scope(|scope| {
        let pace = &pace;
        let devices: Vec<_> = (0..DEVICES)
            .map(|number| {
                let mqtt = seats[number % seats.len()].mqtt;
                scope.spawn(move || publish_until(pace, mqtt, &format!("device-{number}")))
            })
            .collect();
        scope.spawn(move || {
            while !pace.stop.load(Ordering::Acquire) {
                let due = RATE * u64::try_from(began.elapsed().as_millis()).expect("not for ever") / 1_000;
                pace.allowed.store(due, Ordering::Release);
                std::thread::park_timeout(Duration::from_millis(10));
            }
        });
        wait_until("messages come in", || {
            (pace.acknowledged.load(Ordering::Acquire) > RATE).then_some(())
        });
        let mut script = script(folder.path(), &http);
        let restarted = serve(&mut script, folder.path(), &mut nodes, |at| seats[at].start());
        pace.stop.store(true, Ordering::Release);
        (
            restarted,
            devices
                .into_iter()
                .map(|device| device.join().expect("a device"))
                .collect(),
        )
    });
    assert_eq!(restarted, [0, 1, 2]);

    let nodes: Vec<Node> = nodes.into_iter().flatten().collect();
    let (mut acknowledged, mut again) = (0, 0);
    for (at, diary) in diaries.iter().enumerate() {
        // Asked at another node than the one that acknowledged.
        let events =
            nodes[(at + 1) % 3].list(&format!("/v1/twins/machine/{}/events?limit=1000", diary.sensor));
        let mut ids: BTreeMap<&str, u64> = BTreeMap::new();
        for id in events.iter().filter_map(|event| event["message_id"].as_str()) {
            *ids.entry(id).or_default() += 1;
        }
        let doubled: Vec<_> = ids
            .iter()
            .filter(|(id, times)| !id.is_empty() && **times > 1)
            .collect();
        assert!(doubled.is_empty(), "{}: counted twice: {doubled:?}", diary.sensor);
        for number in &diary.acknowledged {
            let id = message_id(&diary.sensor, *number);
            assert!(ids.contains_key(id.as_str()), "{id} was acknowledged and is lost");
        }
        acknowledged += diary.acknowledged.len();
        again += diary.sent_again;
    }
    println!(
        "{acknowledged} messages acknowledged while three nodes restarted within {:.1} s, {again} sent again, 0 lost, 0 doubled",
        began.elapsed().as_secs_f64()
    );
    wait_until("all replicas are alike", || {
        let all: Vec<_> = nodes.iter().map(hashes).collect();
        (all[0] == all[1] && all[1] == all[2]).then_some(())
    });
}
