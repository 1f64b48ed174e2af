//! What holds of alarms whatever comes: values, words, silence, commands of people, in any order.

use std::collections::BTreeMap;

use gemba_twins::{
    alarm::{AlarmAction, AlarmState, AlarmWhat, StaleRule},
    event::Value,
    twin::Twin,
};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{Machine, at, rule, said};

#[derive(Debug, Clone)]
enum Happens {
    Temp(f64),
    Execution(&'static str),
    Time,
    Say(&'static str, AlarmAction),
}

fn happens() -> impl Strategy<Value = (f64, Happens)> {
    let action = prop_oneof![
        Just(AlarmAction::Acknowledged),
        (0..600).prop_map(|s| AlarmAction::Shelved {
            until: at(f64::from(s))
        }),
        Just(AlarmAction::Unshelved),
        Just(AlarmAction::Commented),
        Just(AlarmAction::TakenOut),
        Just(AlarmAction::PutBack),
        Just(AlarmAction::Reset),
    ];
    let what = prop_oneof![
        6 => select(vec![20.0, 78.5, 79.0, 80.0, 80.5, 90.0]).prop_map(Happens::Temp),
        2 => select(vec!["producing", "planned_down", "down"]).prop_map(Happens::Execution),
        2 => Just(Happens::Time),
        3 => (select(vec!["hot", "latched", "silent", "unknown"]), action)
            .prop_map(|(rule, action)| Happens::Say(rule, action)),
    ];
    // Mostly forward, now and then out of order.
    (-5.0..40.0_f64, what)
}

fn machine() -> Machine {
    let hot = rule(|rule| {
        rule.deadband = 1.0;
        rule.on_delay_ms = 5_000;
        rule.off_delay_ms = 3_000;
        rule.refractory_ms = 20_000;
        rule.suppressed_by = Some("state.execution == 'planned_down'".into());
    });
    let latched = rule(|rule| {
        rule.id = "latched".into();
        rule.condition = "metrics.temp >= 80 && state.execution != 'down'".into();
        rule.latching = true;
    });
    let silent = rule(|rule| {
        rule.id = "silent".into();
        rule.condition = "".into();
        rule.suppressed_by = Some("alarms.latched".into());
        rule.stale = Some(StaleRule {
            metric: None,
            after_ms: Some(25_000),
        });
    });
    Machine::with(vec![hot, latched, silent])
}

fn play(machine: &mut Machine, happened: &[(f64, Happens)], leaves: impl Fn(usize) -> bool) {
    let mut s = 0.0;
    for (index, (after, what)) in happened.iter().enumerate() {
        if leaves(index) {
            machine.twin = restored(&machine.twin);
        }
        s += after;
        match what {
            Happens::Temp(value) => machine.temp(s, *value),
            Happens::Execution(word) => machine.execution(s, word),
            Happens::Time => drop(machine.tick(s)),
            Happens::Say(rule, action) => {
                // What is refused is never journaled, but a fold has to bear it.
                let allowed = machine.twin.allows(&said(rule, *action)).is_ok();
                let before = machine.twin.rev();
                machine.say(s, rule, *action);
                assert!(!allowed || machine.twin.rev() > before);
            }
        }
    }
}

fn restored(twin: &Twin) -> Twin {
    Twin::decode(twin.id().clone(), &bytes(twin)).expect("its own bytes")
}

fn bytes(twin: &Twin) -> Vec<u8> {
    let mut bytes = Vec::new();
    twin.encode(&mut bytes);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_twin_that_left_memory_at_any_time_has_the_same_alarms(
        happened in vec(happens(), 1..60),
        leaves in vec(any::<bool>(), 60),
    ) {
        let (mut stayed, mut left) = (machine(), machine());
        play(&mut stayed, &happened, |_| false);
        play(&mut left, &happened, |index| leaves[index]);
        prop_assert_eq!(stayed.story(), left.story());
        prop_assert_eq!(bytes(&stayed.twin), bytes(&left.twin));
        prop_assert_eq!(bytes(&restored(&left.twin)), bytes(&left.twin));
    }

    #[test]
    fn an_occurrence_is_acknowledged_once_and_time_never_goes_back(happened in vec(happens(), 1..80)) {
        let mut machine = machine();
        play(&mut machine, &happened, |_| false);
        let mut waiting: BTreeMap<Box<str>, u32> = BTreeMap::new();
        let mut newest: BTreeMap<Box<str>, _> = BTreeMap::new();
        for change in &machine.effects.alarms {
            let before = newest.insert(change.rule.clone(), change.at);
            prop_assert!(before.is_none_or(|before| before <= change.at), "{:?}", machine.story());
            let waiting = waiting.entry(change.rule.clone()).or_default();
            match change.what {
                AlarmWhat::Raised => {
                    *waiting += 1;
                    prop_assert_eq!(change.state, AlarmState::UnacknowledgedActive);
                }
                AlarmWhat::Acknowledged => {
                    prop_assert!(*waiting > 0, "acknowledged twice: {:?}", machine.story());
                    *waiting = 0;
                }
                _ => {}
            }
        }
        for alarm in machine.twin.alarms() {
            let raised = machine.effects.alarms.iter().filter(|change| {
                change.what == AlarmWhat::Raised && change.rule == alarm.rule().id
            });
            let json = serde_json::to_value(alarm).expect("JSON");
            prop_assert_eq!(json["count"].as_u64(), Some(raised.count() as u64));
            prop_assert!(alarm.past().count() <= 8);
        }
        let summary = machine.twin.alarm_summary().expect("it has rules");
        let count = |fits: fn(AlarmState) -> bool| machine.twin.alarms().filter(|alarm| fits(alarm.state())).count();
        prop_assert_eq!(summary.active, count(AlarmState::is_active));
        prop_assert_eq!(summary.unacknowledged, count(AlarmState::is_unacknowledged));
        prop_assert_eq!(summary.highest_severity.is_some(), summary.active + summary.unacknowledged > 0);
    }

    #[test]
    fn ticks_in_time_or_none_at_all_lead_to_the_same_alarms(
        happened in vec((0.0..40.0_f64, select(vec![20.0, 79.0, 80.5, 90.0])), 1..40),
    ) {
        let (mut ticked, mut silent) = (machine(), machine());
        let (mut s, mut now) = (0.0, -1.0);
        for (after, value) in happened {
            s += after;
            while let Some(deadline) = ticked.deadline_s().filter(|deadline| *deadline <= s && *deadline > now) {
                ticked.tick(deadline);
                now = deadline;
            }
            now = now.max(s);
            ticked.temp(s, value);
            silent.read(s, "temp", Value::Number(value));
        }
        prop_assert_eq!(ticked.story(), silent.story());
    }
}
