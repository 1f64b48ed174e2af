//! Time in each state, and of each job at its locations, against a naive count.

use std::collections::BTreeMap;

use gemba_twins::{
    event::{Body, Event, Position, Value},
    id::Kind,
    rollup::Level,
    twin::{Effects, Outcome, Twin},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::Value as Json;

use super::{
    STALE_MS, at,
    disorder::LATENESS_MS,
    event, folded, history, id, reading,
    streams::{any_scan, in_order, moments},
};

/// Milliseconds in each state as the machine shows them, and as its history adds up.
fn times_in_state(twin: &Twin) -> BTreeMap<String, i64> {
    let view = serde_json::to_value(twin.view(at(0))).expect("JSON");
    let times = view
        .pointer("/state/time_in_state_total_s")
        .and_then(Json::as_object);
    let times = times.into_iter().flatten();
    times
        .map(|(state, s)| {
            (
                state.clone(),
                (s.as_f64().expect("seconds") * 1_000.0).round() as i64,
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn time_in_states_adds_up_to_the_time_accounted_for_however_late_words_come(
        moments in moments(60),
        words in vec(option::of(select(&["producing", "idle", "down", "unknown"][..])), 60),
        ticks in vec(option::weighted(0.2, 0..400_000_i64), 60),
    ) {
        let (mut twin, mut effects) = (Twin::new(id(Kind::Machine)), Effects::default());
        let mut fold = |twin: &mut Twin, event: &Event| twin.fold(Position { shard: 0, seq: 1 }, event, &mut effects);
        // Something is said at the beginning, so that the times are shown.
        fold(&mut twin, &reading(-1, &[("execution", Value::Text("setup".into()))]));
        let (mut from, mut to, mut newest, mut is_folded) = (-1, -1, -1, false);
        for ((ms, word), tick) in moments.into_iter().zip(words).zip(ticks) {
            let mut metrics = vec![("flow", Value::Number(1.0))];
            metrics.extend(word.map(|word| ("execution", Value::Text(word.into()))));
            fold(&mut twin, &reading(ms, &metrics));
            newest = newest.max(ms);
            // Time is accounted from the first reading that is folded on.
            if !is_folded {
                from = from.min(ms);
            }
            is_folded |= from < newest - LATENESS_MS;
            to = to.max(newest);
            if let Some(later) = tick {
                let tick = event(Kind::Machine, newest + later, Body::Ticked);
                if fold(&mut twin, &tick) == Outcome::Applied {
                    to = to.max(newest + later);
                    is_folded = true;
                }
            }
            // Only what is above zero is shown, so less than nothing in one state would make the others too much.
            prop_assert_eq!(times_in_state(&twin).values().sum::<i64>(), to - from, "after {}", ms);
        }
    }

    #[test]
    fn a_machine_and_its_history_agree_with_a_naive_count_of_time_in_states(
        moments in moments(60).prop_map(in_order).prop_map(|mut moments| { moments.dedup(); moments }),
        words in vec(option::of(select(&["producing", "idle", "down"][..])), 60),
    ) {
        let mut wanted: BTreeMap<String, i64> = BTreeMap::new();
        let (mut state, mut events) = ("unknown", Vec::new());
        let last = *moments.last().expect("a reading");
        // At the end every state is said once more, which closes what the history still holds open.
        let says = |index: usize, ms: i64, state| if ms == last { Some(state) } else { words[index] };
        for (index, ms) in moments.iter().enumerate() {
            if let Some(before) = index.checked_sub(1).map(|before| moments[before]) {
                let known = (ms - before).min(STALE_MS);
                *wanted.entry(state.into()).or_default() += known;
                *wanted.entry("unknown".into()).or_default() += ms - before - known;
                if ms - before > STALE_MS {
                    state = "unknown";
                }
            }
            let word = says(index, *ms, state);
            state = word.unwrap_or(state);
            let mut metrics = vec![("flow", Value::Number(1.0))];
            metrics.extend(word.map(|word| ("execution", Value::Text(word.into()))));
            events.push(reading(*ms, &metrics));
        }
        wanted.retain(|_, ms| *ms > 0);
        let (twin, effects) = folded(&events, |_| false);
        prop_assert_eq!(times_in_state(&twin), wanted.clone());
        let mut by_history: BTreeMap<String, i64> = BTreeMap::new();
        for ((level, _, name), stats) in history(&twin, &effects.rollups) {
            if let (Level::D1, Some(state)) = (level, name.strip_prefix("execution=")) {
                *by_history.entry(state.into()).or_default() += i64::from(stats.covered_ms);
            }
        }
        by_history.retain(|_, ms| *ms > 0);
        // Time in which nobody knows the state has no row.
        wanted.remove("unknown");
        by_history.remove("unknown");
        prop_assert_eq!(by_history, wanted);
    }

    #[test]
    fn a_jobs_time_at_its_locations_adds_up_to_its_lead_time(
        moments in moments(40),
        scans in vec(any_scan(), 40),
    ) {
        let events: Vec<_> = moments
            .iter()
            .zip(scans)
            .map(|(ms, scan)| event(Kind::Job, *ms, Body::Scan(scan)))
            .collect();
        let (twin, _) = folded(&events, |_| false);
        let view = serde_json::to_value(twin.view(at(0))).expect("JSON");
        let ms = |s: &Json| (s.as_f64().expect("seconds") * 1_000.0).round() as i64;
        let dwell = view["state"]["dwell"].as_object().expect("an object");
        let dwell: i64 = dwell.values().map(|dwell| ms(&dwell["dwell_s"])).sum();
        prop_assert_eq!(dwell, ms(&view["kpis"]["elapsed_s"]));
    }
}
