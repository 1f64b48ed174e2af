//! Rollups and counters against a naive count over all that was received.

use std::collections::BTreeMap;

use gemba_twins::{
    event::Value,
    rollup::{Level, Stats},
    time::Timestamp,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::Value as Json;

use super::{
    Buckets, DAY_MS, MINUTE_MS, STALE_MS, at, configured, disorder::as_folded, folded, history, reading,
    streams::moments,
};

/// Adds a part to the buckets of all widths that hold its time.
fn put(buckets: &mut Buckets, name: &str, at: Timestamp, part: &Stats) {
    for level in Level::ALL {
        let key = (level, at.floor_to(level.step_ms()), name.into());
        buckets.entry(key).or_default().merge(part);
    }
}

/// Minute by minute, a value that held from one time to another.
fn hold(buckets: &mut Buckets, name: &str, value: f64, from: Timestamp, to: Timestamp) {
    let mut from = from;
    while from < to {
        let end = from.floor_to(MINUTE_MS).plus_ms(MINUTE_MS).min(to);
        let ms = end.ms_since(from);
        let part = Stats {
            covered_ms: i32::try_from(ms).expect("at most a minute"),
            integral: value * ms as f64,
            ..Stats::default()
        };
        put(buckets, name, from, &part);
        from = end;
    }
}

/// The naive history of gauges: every value counts where its time is; one holds until the next newer one was folded,
/// at most `hold_ms`, as far as minutes are closed.
fn naive_gauges(received: &[(i64, Vec<(&'static str, f64)>)], hold_ms: i64) -> Buckets {
    let mut buckets = Buckets::new();
    let mut newest: BTreeMap<&str, Vec<(Timestamp, f64)>> = BTreeMap::new();
    let each = received
        .iter()
        .flat_map(|(ms, values)| values.iter().map(|value| (*ms, *value)));
    let each: Vec<(i64, (&str, f64))> = each.collect();
    let order = |one: &(&str, f64), other: &(&str, f64)| one.0.cmp(other.0).then(one.1.total_cmp(&other.1));
    for (ms, (name, value)) in as_folded(&each, order) {
        put(&mut buckets, name, at(ms), &Stats::of(at(ms), value));
        let known = newest.entry(name).or_default();
        if known.last().is_none_or(|(last, _)| at(ms) >= *last) {
            known.push((at(ms), value));
        }
    }
    let closed = received
        .iter()
        .map(|(ms, _)| at(*ms))
        .max()
        .expect("a reading")
        .floor_to(MINUTE_MS);
    for (name, known) in newest {
        for (index, (from, value)) in known.iter().enumerate() {
            let next = known.get(index + 1).map_or(closed.max(*from), |(next, _)| *next);
            hold(&mut buckets, name, *value, *from, next.min(from.plus_ms(hold_ms)));
        }
    }
    buckets.retain(|_, stats| !stats.is_empty());
    buckets
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rollups_count_every_reading_once_however_late_it_comes(
        received in moments(80).prop_flat_map(|moments| {
            let values = (0..4_u8, -400_i32..400, -400_i32..400);
            vec(values, moments.len()).prop_map(move |values| {
                let moments = moments.iter().copied();
                moments.zip(values).map(|(ms, (which, one, other))| {
                    let [one, other] = [one, other].map(|quarters| f64::from(quarters) / 4.0);
                    let values = match which {
                        0 => vec![("flow", one)],
                        1 => vec![("level", other)],
                        _ => vec![("flow", one), ("level", other)],
                    };
                    (ms, values)
                }).collect::<Vec<_>>()
            })
        }),
        stale_ms in option::of(select(&[1_i64, 30_000, 600_000, 5 * DAY_MS][..])),
    ) {
        let mut events = vec![configured(stale_ms, None)];
        events.extend(received.iter().map(|(ms, values)| {
            let values: Vec<_> = values.iter().map(|(name, value)| (*name, Value::Number(*value))).collect();
            reading(*ms, &values)
        }));
        let (twin, effects) = folded(&events, |_| false);
        let wanted = naive_gauges(&received, stale_ms.unwrap_or(STALE_MS).min(DAY_MS));
        let found = history(&twin, &effects.rollups);
        for (key, stats) in &wanted {
            prop_assert_eq!(found.get(key), Some(stats), "{:?}", key);
        }
        prop_assert_eq!(found.len(), wanted.len());
    }

    #[test]
    fn a_counter_grows_by_what_was_made_over_resets_and_rollovers(
        steps in vec((0..400_000_i64, 0..450_u32, 0..8_u8), 1..60),
        first in 0..1_000_u32,
        wraps in any::<bool>(),
    ) {
        let (mut register, mut ms, mut made) = (first, 0, Buckets::new());
        let mut events = vec![configured(None, wraps.then_some(1_000.0))];
        events.push(reading(0, &[("cycle_count", Value::Number(f64::from(first)))]));
        for (ahead, parts, what) in steps {
            ms += ahead;
            // A reset is told from a rollover where the register falls over less than half its range, and from
            // growth where it has not passed its old value again.
            let reset = what == 0 && parts < register && (!wraps || register - parts <= 500);
            register = match register + parts {
                _ if reset => parts,
                sum if wraps && sum >= 1_000 => sum - 1_000,
                sum => sum,
            };
            let grown = Stats { increase: f64::from(parts), ..Stats::default() };
            put(&mut made, "cycle_count", at(ms), &grown);
            events.push(reading(ms, &[("cycle_count", Value::Number(f64::from(register)))]));
        }
        let (twin, effects) = folded(&events, |_| false);
        for ((level, start, name), stats) in history(&twin, &effects.rollups) {
            let grown = made.get(&(level, start, name)).map_or(0.0, |stats| stats.increase);
            prop_assert_eq!(stats.increase, grown, "{:?} {}", level, start);
        }
        let today = at(ms).floor_to(DAY_MS);
        let parts_today = made.get(&(Level::D1, today, "cycle_count".into())).map_or(0.0, |stats| stats.increase);
        let view = serde_json::to_value(twin.view(at(ms))).expect("JSON");
        prop_assert_eq!(view.pointer("/kpis/parts"), Some(&Json::from(parts_today)));
    }

    #[test]
    fn a_counter_read_in_any_order_grows_from_the_first_reading_to_the_newest(moments in moments(60)) {
        // One part a second, whenever it is read.
        let value = |ms: i64| (ms + 10_000_000) as f64 / 1_000.0;
        let events: Vec<_> = moments
            .iter()
            .map(|ms| reading(*ms, &[("cycle_count", Value::Number(value(ms / 1_000 * 1_000)))]))
            .collect();
        let (twin, effects) = folded(&events, |_| false);
        let days = history(&twin, &effects.rollups).into_iter().filter(|((level, ..), _)| *level == Level::D1);
        let grown: f64 = days.map(|(_, stats)| stats.increase).sum();
        let newest = moments.iter().max().expect("a reading");
        let received: Vec<_> = moments.iter().map(|ms| (*ms, ())).collect();
        let (first, ()) = as_folded(&received, |(), ()| std::cmp::Ordering::Equal)[0];
        prop_assert_eq!(grown, value(newest / 1_000 * 1_000) - value(first / 1_000 * 1_000));
    }
}
