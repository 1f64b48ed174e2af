//! The real replication over a simulated network, simulated disks and simulated time.
//!
//! Each seed is a story: nodes are cut off, crash, lose their power, come back, hand over, take snapshots, while clients
//! write. Then everything is whole again, and this has to be so: no acknowledged record lost, none applied twice, every
//! replica the same, one owner per epoch. `GEMBA_SIMULATION_SEEDS` sets the number of seeds, `GEMBA_SIMULATION_SEED` the
//! first one; a failing seed is printed, with how to tell its story again. By hand, ten thousand of them:
//! `GEMBA_SIMULATION_SEEDS=10000 cargo test --release -p gemba-cluster --test simulation -- --nocapture`.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

#[path = "../power_cut/disk.rs"]
#[expect(dead_code, reason = "the power cuts use more of it")]
mod disk;
mod replica;
mod story;
mod world;

use std::thread;

/// Seeds of a usual run: a fraction of a second of a processor each.
const SEEDS: u64 = 200;

fn number(name: &str, otherwise: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.and_then(|set| set.parse().ok()).unwrap_or(otherwise)
}

/// Runs a story on simulated time.
fn simulate<T>(seed: u64, story: impl Future<Output = T>) -> T {
    gemba_cluster::seed_this_thread(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(story)
}

/// Runs a seed; answers what happened in figures.
fn run(seed: u64) -> story::Outcome {
    simulate(seed, story::tell(seed))
}

#[test]
fn an_owner_hands_over_in_milliseconds() {
    let took = simulate(1, story::hand_overs(1)).expect("hand-overs");
    println!("hand-overs took {took:?} with disks of up to 8 ms and a network of up to 5 ms");
    assert!(took.iter().all(|took| took.as_millis() < 250), "{took:?}");
}

#[test]
fn no_story_loses_an_acknowledged_record() {
    let (first, seeds) = (
        number("GEMBA_SIMULATION_SEED", 1),
        number("GEMBA_SIMULATION_SEEDS", SEEDS),
    );
    let threads = thread::available_parallelism().map_or(2, |threads| threads.get() as u64);
    let of_thread = |thread: u64| {
        move || {
            let mut sum = story::Outcome::default();
            for seed in (first..first + seeds).filter(|seed| seed % threads == thread) {
                let outcome = run(seed);
                assert_eq!(
                    outcome.broken, None,
                    "seed {seed} (GEMBA_SIMULATION_SEED={seed} GEMBA_SIMULATION_SEEDS=1)"
                );
                sum.add(&outcome);
            }
            sum
        }
    };
    let running: Vec<_> = (0..threads)
        .map(|thread| thread::spawn(of_thread(thread)))
        .collect();
    let mut sum = story::Outcome::default();
    for thread in running {
        sum.add(&thread.join().expect("no seed fails"));
    }
    println!("{seeds} seeds: {sum:?}");
    assert!(
        sum.acknowledged > 0 && sum.crashes > 0 && sum.owners >= seeds as usize,
        "{sum:?}"
    );
}

#[test]
fn a_seed_tells_the_same_story_again() {
    for seed in [3, 7] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
