//! Delays, deadbands, refractory times, shelves and staleness: when exactly an alarm changes.

use gemba_twins::{
    alarm::{AlarmAction, StaleRule},
    event::Value,
    twin::Outcome,
};

use super::{Machine, at, rule};

#[test]
fn a_value_has_to_come_back_behind_its_limit_by_the_deadband() {
    // ISA-18.2 annex: about 1 % for a temperature; here 2 degrees.
    for (condition, hot, within, behind) in [
        ("metrics.temp > 80", 80.5, 78.5, 78.0),
        ("metrics.temp >= 80", 80.0, 78.0, 77.9),
        ("metrics.temp < 80", 79.5, 81.5, 82.0),
        ("!(metrics.temp <= 80)", 80.5, 78.5, 78.0),
        ("80 < metrics.temp", 80.5, 78.5, 78.0),
        ("metrics.temp > metrics.other", 80.5, 78.5, 78.0),
    ] {
        let mut machine = Machine::with(vec![rule(|rule| {
            rule.condition = condition.into();
            rule.deadband = 2.0;
        })]);
        machine.read(-0.5, "other", Value::Number(80.0));
        machine.temp(0.0, within);
        let below = if condition.contains("temp < 80") {
            "normal"
        } else {
            machine.state()
        };
        assert_eq!(machine.state(), below);
        machine.temp(1.0, hot);
        assert_eq!(machine.state(), "unacknowledged_active", "{condition}");
        machine.temp(2.0, within);
        assert_eq!(
            machine.state(),
            "unacknowledged_active",
            "{condition} within the deadband"
        );
        machine.temp(3.0, behind);
        assert_eq!(
            machine.state(),
            "rtn_unacknowledged",
            "{condition} behind the deadband"
        );
    }
}

#[test]
fn an_on_delay_counts_from_when_the_condition_came() {
    let delayed = || Machine::with(vec![rule(|rule| rule.on_delay_ms = 10_000)]);
    let mut machine = delayed();
    machine.temp(0.0, 90.0);
    assert_eq!((machine.state(), machine.deadline_s()), ("normal", Some(10.0)));
    machine.temp(9.9, 91.0);
    assert_eq!(machine.state(), "normal");
    assert_eq!(machine.tick(10.0), Outcome::Applied);
    assert_eq!(machine.state(), "unacknowledged_active");

    let mut machine = delayed();
    machine.temp(0.0, 90.0);
    machine.temp(9.0, 70.0);
    machine.temp(9.5, 90.0);
    assert_eq!(
        machine.tick(10.0),
        Outcome::Ignored,
        "the condition failed in between"
    );
    assert_eq!(machine.deadline_s(), Some(19.5));

    // A tick that never came changes nothing: the next event settles what was due, as of when it was.
    let mut machine = delayed();
    machine.temp(0.0, 90.0);
    machine.temp(60.0, 70.0);
    assert_eq!(machine.story(), ["10 hot raised", "60 hot returned"]);
}

#[test]
fn an_off_delay_keeps_an_alarm_that_comes_and_goes() {
    let mut machine = Machine::with(vec![rule(|rule| rule.off_delay_ms = 30_000)]);
    for s in 0..10 {
        machine.temp(f64::from(s), if s % 2 == 0 { 90.0 } else { 70.0 });
    }
    assert_eq!(machine.story(), ["0 hot raised"]);
    machine.tick(39.0);
    assert_eq!(machine.story(), ["0 hot raised", "39 hot returned"]);
}

#[test]
fn within_its_refractory_time_an_alarm_is_not_raised_again() {
    let mut machine = Machine::with(vec![rule(|rule| rule.refractory_ms = 300_000)]);
    machine.temp(0.0, 90.0);
    machine.temp(10.0, 70.0);
    machine.temp(20.0, 90.0);
    assert_eq!(
        (machine.state(), machine.deadline_s()),
        ("rtn_unacknowledged", Some(140.0)),
        "stale comes first"
    );
    machine.temp(290.0, 91.0);
    assert_eq!(
        (machine.state(), machine.deadline_s()),
        ("rtn_unacknowledged", Some(300.0))
    );
    machine.tick(300.0);
    assert_eq!(
        machine.story(),
        ["0 hot raised", "10 hot returned", "300 hot raised"]
    );
    machine.temp(310.0, 70.0);
    machine.temp(320.0, 90.0);
    machine.temp(330.0, 70.0);
    machine.temp(700.0, 70.0);
    assert_eq!(
        machine.story().len(),
        4,
        "what came and went within the time was never raised"
    );
}

#[test]
fn a_shelf_has_an_end() {
    let mut machine = Machine::with(vec![rule(|_| ())]);
    machine.temp(0.0, 90.0);
    machine.say(1.0, "hot", AlarmAction::Shelved { until: at(100.0) });
    assert_eq!((machine.state(), machine.deadline_s()), ("shelved", Some(100.0)));
    machine.temp(50.0, 70.0);
    machine.temp(60.0, 90.0);
    machine.tick(100.0);
    assert_eq!(
        machine.state(),
        "unacknowledged_active",
        "still hot, so it is announced again"
    );
    assert_eq!(
        machine.story(),
        [
            "0 hot raised",
            "1 hot shelved",
            "100 hot shelf_expired",
            "100 hot raised"
        ]
    );
    let far = AlarmAction::Shelved { until: at(1e9) };
    machine.say(101.0, "hot", far);
    let until = machine.json()["shelved_until"].clone();
    assert_eq!(until, "2026-03-05T12:01:41.000Z", "31 days at most");
}

#[test]
fn data_that_stays_away_is_an_alarm_of_its_own() {
    let silent = |metric: Option<&str>, after_ms| {
        rule(|rule| {
            rule.condition = "".into();
            rule.stale = Some(StaleRule {
                metric: metric.map(Into::into),
                after_ms,
            });
        })
    };
    let mut machine = Machine::with(vec![silent(Some("temp"), Some(30_000))]);
    machine.read(0.0, "load", Value::Number(1.0));
    machine.read(100.0, "load", Value::Number(1.0));
    assert_eq!(machine.state(), "normal", "what never came cannot stay away");
    machine.temp(110.0, 20.0);
    machine.read(130.0, "load", Value::Number(1.0));
    assert_eq!(machine.deadline_s(), Some(140.0));
    machine.tick(140.0);
    assert_eq!(machine.state(), "unacknowledged_active");
    machine.temp(150.0, 20.0);
    assert_eq!(machine.state(), "rtn_unacknowledged");
    machine.temp(300.0, 20.0);
    assert_eq!(
        machine.story(),
        [
            "140 hot raised",
            "150 hot returned",
            "180 hot raised",
            "300 hot returned"
        ],
        "without a tick the next event tells that it was away"
    );

    let mut rule = silent(Some("temp"), Some(30_000));
    rule.off_delay_ms = 20_000;
    let mut machine = Machine::with(vec![rule]);
    machine.temp(0.0, 20.0);
    machine.tick(30.0);
    machine.temp(40.0, 20.0);
    machine.tick(60.0);
    assert_eq!(machine.story(), ["30 hot raised", "60 hot returned"]);

    // Of the whole twin, after the time that it is stale itself: two minutes for a machine.
    let mut machine = Machine::with(vec![silent(None, None)]);
    machine.temp(0.0, 20.0);
    machine.tick(120.0);
    assert_eq!(machine.story(), ["120 hot raised"]);
}

#[test]
fn a_reading_out_of_order_changes_no_alarm_unless_it_is_the_newest_of_its_metric() {
    let mut machine = Machine::with(vec![rule(|_| ())]);
    machine.temp(10.0, 70.0);
    machine.temp(5.0, 95.0);
    assert_eq!(machine.state(), "normal");
    machine.read(20.0, "load", Value::Number(1.0));
    machine.temp(15.0, 95.0);
    assert_eq!(machine.story(), ["20 hot raised"], "at the newest time seen");
}

#[test]
fn alarms_that_come_and_go_or_stand_for_long_are_told() {
    let mut machine = Machine::with(vec![rule(|_| ())]);
    for s in [0.0, 20.0, 40.0] {
        assert!(!machine.twin.alarm("hot").expect("an alarm").chatters(at(s)));
        machine.temp(s, 90.0);
        machine.temp(s + 10.0, 70.0);
    }
    let alarm = machine.twin.alarm("hot").expect("an alarm");
    assert!(alarm.chatters(at(60.0)), "three within a minute");
    assert!(!alarm.chatters(at(700.0)), "ten minutes later it is forgotten");
    assert_eq!((alarm.per_10_min(at(60.0)), alarm.per_10_min(at(630.0))), (3, 1));
    machine.temp(1_000.0, 90.0);
    let alarm = machine.twin.alarm("hot").expect("an alarm");
    assert!(!alarm.stands(at(1_000.0 + 86_400.0)));
    assert!(alarm.stands(at(1_001.0 + 86_400.0)));
}
