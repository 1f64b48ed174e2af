//! What holds of the fold whatever happens: it is the same every time, survives a snapshot anywhere, and its sums are
//! those of a naive count over all that was received, in whichever order it came.
//!
//! `PROPTEST_CASES` changes how many streams each property is tried with.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod computed;
mod damage;
mod forecast;
mod quality;
mod rollups;
mod states;
mod streams;

use std::collections::BTreeMap;

use gemba_twins::{
    config::{MetricConfig, MetricKind, TwinConfig},
    event::{Body, Event, Origin, Position, Reading, Value},
    id::{Kind, TenantId, TwinId},
    rollup::{Level, RollupRow, Stats},
    time::Timestamp,
    twin::{Effects, Twin},
};
use proptest::{collection::vec, prelude::*};

use streams::any_stream;

/// 2026-02-02T23:00:00Z: midnight is near.
const START_MS: i64 = 1_770_073_200_000;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// What a machine is stale after where the plant model says nothing.
const STALE_MS: i64 = 120_000;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(START_MS + ms)
}

fn id(kind: Kind) -> TwinId {
    TwinId::new(TenantId::parse("acme").expect("a tenant"), kind, "one").expect("an id")
}

fn event(kind: Kind, ms: i64, body: Body) -> Event {
    Event {
        twin: id(kind),
        at: at(ms),
        received_at: at(ms),
        source: "test".into(),
        message_id: "".into(),
        origin: None,
        body,
    }
}

fn reading(ms: i64, metrics: &[(&str, Value)]) -> Event {
    let metrics = metrics
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect();
    let reading = Reading {
        metrics,
        ..Reading::default()
    };
    event(Kind::Machine, ms, Body::Reading(reading))
}

fn configured(stale_after_ms: Option<i64>, rollover_at: Option<f64>) -> Event {
    let counter = MetricConfig {
        name: "cycle_count".into(),
        kind: MetricKind::Counter,
        unit: "".into(),
        rollover_at,
    };
    let config = TwinConfig {
        model_version: 1,
        metrics: vec![counter],
        stale_after_ms,
        ..TwinConfig::default()
    };
    event(Kind::Machine, 0, Body::Configured(Box::new(config)))
}

fn bytes_of(twin: &Twin) -> Vec<u8> {
    let mut bytes = Vec::new();
    twin.encode(&mut bytes);
    bytes
}

fn restored(twin: &Twin) -> Twin {
    Twin::decode(twin.id().clone(), &bytes_of(twin)).expect("its own bytes")
}

/// Folds events; where `leaves` says so, the twin goes through its bytes first.
fn folded(events: &[Event], leaves: impl Fn(usize) -> bool) -> (Twin, Effects) {
    let (mut twin, mut effects) = (Twin::new(events[0].twin.clone()), Effects::default());
    for (index, event) in events.iter().enumerate() {
        if leaves(index) {
            twin = restored(&twin);
        }
        let seq = index as u64 + 1;
        twin.fold(Position { shard: 3, seq }, event, &mut effects);
    }
    (twin, effects)
}

type Buckets = BTreeMap<(Level, Timestamp, Box<str>), Stats>;

/// All rows that were handed out, and what is still open, put together; what cancelled out is left away.
fn history(twin: &Twin, handed_out: &[RollupRow]) -> Buckets {
    let open = Level::ALL.into_iter().flat_map(|level| twin.open_rollups(level));
    let mut buckets = Buckets::new();
    for row in handed_out.iter().cloned().chain(open) {
        for (name, stats) in row.metrics {
            buckets
                .entry((row.level, row.start, name))
                .or_default()
                .merge(&stats);
        }
    }
    buckets.retain(|_, stats| !stats.is_empty());
    buckets
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_events_give_the_same_bytes(events in any_stream()) {
        let (one, other) = (folded(&events, |_| false), folded(&events, |_| false));
        prop_assert_eq!(bytes_of(&one.0), bytes_of(&other.0));
        prop_assert_eq!(format!("{:?}", one.1), format!("{:?}", other.1));
    }

    #[test]
    fn a_twin_that_left_memory_at_any_time_folds_on_as_if_it_had_not(
        events in any_stream(),
        leaves in vec(any::<bool>(), 50),
    ) {
        let (stayed, left) = (folded(&events, |_| false), folded(&events, |index| leaves[index]));
        prop_assert_eq!(bytes_of(&stayed.0), bytes_of(&left.0));
        prop_assert_eq!(bytes_of(&restored(&left.0)), bytes_of(&left.0));
        prop_assert_eq!(format!("{:?}", stayed.1), format!("{:?}", left.1));
    }

    #[test]
    fn an_event_that_was_written_is_read_as_it_was(events in any_stream(), origin in any::<(u16, u64, u32)>()) {
        for mut event in events {
            let (shard, seq, index) = origin;
            event.origin = (index % 2 == 0).then_some(Origin { shard, seq, index });
            event.received_at = at(i64::from(index));
            let mut bytes = Vec::new();
            event.encode(&mut bytes);
            prop_assert_eq!(format!("{:?}", Event::decode(&bytes)), format!("{:?}", Ok::<_, ()>(event)));
        }
    }
}
