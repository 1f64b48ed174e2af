//! Power cuts: the journal on a simulated disk that loses, tears and reorders what was not synced.
//!
//! `GEMBA_POWER_CUT_CYCLES` sets the number of cuts (2,000 by default). A failing seed is printed and can be set by
//! `GEMBA_POWER_CUT_SEED`.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod disk;
mod frames;
mod log;

fn number(name: &str, otherwise: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.and_then(|set| set.parse().ok()).unwrap_or(otherwise)
}

fn cycles() -> u64 {
    number("GEMBA_POWER_CUT_CYCLES", 2_000)
}

fn first_seed() -> u64 {
    number("GEMBA_POWER_CUT_SEED", 1)
}
