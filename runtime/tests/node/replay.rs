//! Replay: a journal folded from zero, and from snapshots of any age, gives the same twins, bit for bit.
//!
//! `GEMBA_REPLAY_EVENTS` sets the number of events (1,000,000 by default).

use std::fs;

use gemba_runtime::node::Node;

use super::{clock, message, node, plant_day, submit};

fn events() -> u64 {
    std::env::var("GEMBA_REPLAY_EVENTS")
        .ok()
        .and_then(|events| events.parse().ok())
        .unwrap_or(1_000_000)
}

const BATCH: u64 = 5_000;

fn hash_of(node: &Node) -> u64 {
    node.twins().hash().expect("a hash")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folded_from_zero_and_from_snapshots_the_twins_are_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let (state, aside) = (
        folder.path().join("state.redb"),
        folder.path().join("state.redb.aside"),
    );
    // Ends as late as a node takes it, so that nothing goes stale and no tick is due while hashes are compared, however
    // long the machine takes.
    let start_ms = clock::now().ms() + 4 * 60_000 - events() as i64 * 20;
    let mut fed = 0;
    let empty = hash_of(&node(&folder.path().join("empty"), |_| {}).await);
    let mut hash = empty;
    for part in 1..=4 {
        let node = node(folder.path(), |settings| settings.snapshot_events = 30_000).await;
        assert_eq!(hash_of(&node), hash, "after restart {part}");
        while fed < events() * part / 4 {
            let plant = plant_day(fed, BATCH, start_ms);
            submit(&node, plant.iter().map(|(scan, json)| message(*scan, json))).await;
            fed += BATCH;
        }
        node.stop().await;
        hash = hash_of(&node);
        if part == 2 {
            fs::copy(&state, &aside).expect("a copy of the state half way");
        }
    }
    assert_ne!(hash, empty);

    fs::copy(&aside, &state).expect("the old state");
    let from_snapshot = node(folder.path(), |settings| settings.snapshot_events = u64::MAX).await;
    assert_eq!(hash_of(&from_snapshot), hash, "from the snapshots half way");
    from_snapshot.stop().await;
    drop(from_snapshot);

    fs::remove_file(&state).expect("no state");
    let from_zero = node(folder.path(), |settings| settings.snapshot_events = u64::MAX).await;
    assert_eq!(hash_of(&from_zero), hash, "from zero");
    println!(
        "{fed} events, {} twins, hash {hash:016x}",
        from_zero.twins().known()
    );
    from_zero.stop().await;
}
