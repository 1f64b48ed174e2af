//! What comes in another order, or more than once, within the lateness window leads to the same.

use gemba_twins::{
    config::{Operation, TwinConfig},
    event::{Body, Event, Value},
    id::{Kind, TenantId, TwinId},
    rollup::{RollupRow, Stats},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value as Json;

use super::{
    at, bytes_of, computed::analysis, event, folded, history, reading, restored, streams::any_operation,
};

/// The window where the plant model says nothing.
pub(crate) const LATENESS_MS: i64 = 10_000;

/// The order in which values are folded, of the order in which they come: what is not older than all that was folded
/// waits until ten seconds newer data came, in the order of time.
pub(crate) fn as_folded<T: Clone>(
    received: &[(i64, T)],
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
) -> Vec<(i64, T)> {
    let (mut folded, mut waits) = (Vec::new(), Vec::<(i64, T)>::new());
    let (mut newest, mut sealed) = (i64::MIN, i64::MIN);
    for (ms, value) in received {
        if *ms <= sealed {
            folded.push((*ms, value.clone()));
            continue;
        }
        newest = newest.max(*ms);
        waits.push((*ms, value.clone()));
        waits.sort_by(|one, other| one.0.cmp(&other.0).then_with(|| order(&one.1, &other.1)));
        let out = waits.partition_point(|(ms, _)| *ms < newest - LATENESS_MS);
        sealed = waits[..out].last().map_or(sealed, |(ms, _)| *ms);
        folded.extend(waits.drain(..out));
    }
    folded.extend(waits);
    folded
}

/// A machine's readings of several sensors, in the order of time: counters that only grow, power, words.
fn day() -> impl Strategy<Value = Vec<Event>> {
    let words = ["producing", "idle", "down", "stopped", "setup", "planned_down"];
    let step = (
        prop_oneof![9 => 0..4_000_i64, 1 => 0..900_000_i64],
        0..6_u8,
        select(words.to_vec()),
        0..5_u32,
        0..40_u32,
    );
    vec(step, 1..150).prop_map(|steps| {
        let (mut ms, mut parts, mut kwh) = (0, 0, 0.0);
        let mut reads = |(ahead, what, word, made, quarters): (i64, u8, &str, u32, u32)| {
            ms += ahead;
            parts += made;
            kwh += f64::from(quarters) / 4.0;
            let number = |value: u32| Value::Number(f64::from(value));
            let metrics = match what {
                0 => vec![
                    ("energy_kwh", Value::Number(kwh)),
                    ("power_factor", Value::Number(0.5)),
                ],
                1 => vec![
                    ("execution", Value::Text(word.into())),
                    ("power_kw", number(quarters)),
                ],
                2 => vec![("job_id", Value::Text(format!("job-{}", parts / 20).into()))],
                3 => vec![
                    ("execution", Value::Text(word.into())),
                    ("downtime_reason", Value::Text("chips".into())),
                ],
                _ => vec![("good_count", number(parts)), ("scrap_count", number(parts / 7))],
            };
            reading(ms, &metrics)
        };
        steps.into_iter().map(&mut reads).collect()
    })
}

fn configured(operation: Operation) -> Event {
    let config = TwinConfig {
        model_version: 1,
        ideal_cycle_s: Some(2.0),
        operation: Some(Box::new(operation)),
        ..TwinConfig::default()
    };
    event(Kind::Machine, 0, Body::Configured(Box::new(config)))
}

/// The same machine with metrics that follow from what it sends, from each other and from its KPIs.
fn computing() -> Event {
    let Body::Configured(config) = configured(Operation::default()).body else {
        unreachable!("a configuration")
    };
    let computed = [
        ("load", "power_kw / max(energy_kwh, 1.0)"),
        ("loss", "load * (1.0 - kpis.quality_ratio)"),
    ];
    let config = TwinConfig {
        analysis: Some(analysis(&computed)),
        ..*config
    };
    event(Kind::Machine, 0, Body::Configured(Box::new(config)))
}

/// What is shown, without what counts messages.
fn shown(twin: &gemba_twins::twin::Twin, last: &Event) -> Json {
    let mut view = serde_json::to_value(twin.view(last.at)).expect("JSON");
    for part in ["rev", "seq"] {
        view[part].take();
    }
    view["shifts"] = serde_json::to_value(twin.shifts()).expect("JSON");
    view["jobs"] = serde_json::to_value(twin.jobs()).expect("JSON");
    view
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_within_the_window_gives_the_same_rollups_and_figures(
        events in day(),
        delays in vec(0..=LATENESS_MS, 150),
        operation in any_operation(),
    ) {
        let operation = Operation { lateness_ms: None, ..operation };
        let mut sorted = vec![configured(operation)];
        sorted.extend(events.iter().cloned());
        let mut arrivals: Vec<_> = events.iter().zip(&delays).collect();
        arrivals.sort_by_key(|(event, delay)| event.at.plus_ms(**delay));
        let mut shuffled = sorted[..1].to_vec();
        shuffled.extend(arrivals.into_iter().map(|(event, _)| event.clone()));
        let last = sorted.last().expect("an event");
        let (in_order, in_disorder) = (folded(&sorted, |_| false), folded(&shuffled, |_| false));
        prop_assert_eq!(shown(&in_order.0, last), shown(&in_disorder.0, last));
        let histories = [&in_order, &in_disorder].map(|(twin, effects)| history(twin, &effects.rollups));
        prop_assert_eq!(&histories[0], &histories[1]);
    }

    #[test]
    fn the_history_of_what_is_computed_does_not_depend_on_the_order(
        events in day(),
        delays in vec(0..=LATENESS_MS, 150),
    ) {
        let mut arrivals: Vec<_> = events.iter().zip(&delays).collect();
        arrivals.sort_by_key(|(event, delay)| event.at.plus_ms(**delay));
        let shuffled: Vec<_> = arrivals.into_iter().map(|(event, _)| event.clone()).collect();
        let histories = [&events, &shuffled].map(|events| {
            let (twin, effects) = folded(&[vec![computing()], events.clone()].concat(), |index| index % 7 == 0);
            history(&twin, &effects.rollups)
        });
        prop_assert_eq!(&histories[0], &histories[1]);
    }

    #[test]
    fn what_comes_three_times_counts_once(
        events in day(),
        delays in vec((0..=LATENESS_MS, 0..=LATENESS_MS, 0..=LATENESS_MS), 150),
    ) {
        let once = [vec![configured(Operation::default())], events.clone()].concat();
        let mut arrivals: Vec<_> = events
            .iter()
            .zip(&delays)
            .flat_map(|(event, (one, two, three))| [one, two, three].map(|delay| (event.at.plus_ms(*delay), event)))
            .collect();
        arrivals.sort_by_key(|(at, _)| *at);
        let mut thrice = once[..1].to_vec();
        thrice.extend(arrivals.into_iter().map(|(_, event)| event.clone()));
        let last = once.last().expect("an event");
        let (once, thrice) = (folded(&once, |_| false), folded(&thrice, |_| false));
        prop_assert_eq!(&shown(&once.0, last)["kpis"], &shown(&thrice.0, last)["kpis"]);
        prop_assert_eq!(&shown(&once.0, last)["state"]["time_in_state_s"], &shown(&thrice.0, last)["state"]["time_in_state_s"]);
    }

    #[test]
    fn what_waits_is_seen_as_if_it_were_folded(events in day(), operation in any_operation()) {
        let without_window = Operation { lateness_ms: Some(0), ..operation.clone() };
        let with_window = Operation { lateness_ms: Some(60_000), ..operation };
        let last = events.last().expect("an event");
        let [at_once, later] = [without_window, with_window].map(|operation| {
            let events = [vec![configured(operation)], events.clone()].concat();
            shown(&folded(&events, |_| false).0, last)
        });
        prop_assert_eq!(at_once, later);
    }

    #[test]
    fn parts_of_a_bucket_are_put_together_in_any_grouping(
        parts in vec(vec((select(&["a", "b", "c"][..]), 0..60_000_i64, -400_i32..400), 0..4), 3),
    ) {
        let row = |values: &Vec<(&str, i64, i32)>| {
            let mut row = RollupRow { level: gemba_twins::rollup::Level::M1, start: at(0), corrected: false, metrics: Vec::new() };
            for (name, ms, quarters) in values {
                let stats = Stats::of(at(*ms), f64::from(*quarters) / 4.0);
                row.merge(&RollupRow { metrics: vec![((*name).into(), stats)], ..row.clone() });
            }
            row
        };
        let [a, b, c] = [&parts[0], &parts[1], &parts[2]].map(row);
        let merged = |rows: &[&RollupRow]| {
            let mut whole = rows[0].clone();
            rows[1..].iter().for_each(|row| whole.merge(row));
            whole
        };
        let left = merged(&[&merged(&[&a, &b]), &c]);
        prop_assert_eq!(&left, &merged(&[&a, &merged(&[&b, &c])]));
        prop_assert_eq!(&left, &merged(&[&c, &a, &b]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_line_hears_its_machine_in_any_order_and_twice_and_survives_its_bytes(
        events in day(),
        operation in any_operation(),
        turn in any::<prop::sample::Index>(),
    ) {
        let operation = Operation { lateness_ms: None, ..operation };
        let events = [vec![configured(operation)], events].concat();
        let (_, effects) = folded(&events, |_| false);
        let line = TwinId::new(TenantId::parse("acme").expect("a tenant"), Kind::Location, "line-1").expect("an id");
        let heard: Vec<_> = effects
            .messages
            .into_iter()
            .filter(|(to, _)| *to == line)
            .map(|(_, message)| Event { twin: line.clone(), ..event(Kind::Location, 0, Body::Told(message)) })
            .collect();
        for event in &heard {
            let mut bytes = Vec::new();
            event.encode(&mut bytes);
            prop_assert_eq!(&Event::decode(&bytes).expect("its own bytes"), event);
        }
        if heard.is_empty() {
            return Ok(());
        }
        let (in_order, _) = folded(&heard, |index| index % 3 == 0);
        let mut twice = heard.clone();
        twice.rotate_left(turn.index(heard.len()));
        twice.extend(heard.iter().cloned());
        let (in_disorder, _) = folded(&twice, |_| false);
        let [one, other] = [&in_order, &in_disorder].map(|line| shown(line, &heard[0]));
        prop_assert_eq!(&one["kpis"], &other["kpis"]);
        prop_assert_eq!(&one["state"]["machines"], &other["state"]["machines"]);
        prop_assert_eq!(bytes_of(&restored(&in_order)), bytes_of(&in_order));
    }
}
