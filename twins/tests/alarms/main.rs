//! The life of an alarm by ISA-18.2, told by the events that lead through it.
//!
//! Times are seconds after the beginning; a rule is `temp > 80` where nothing else is said.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod properties;
mod timing;

use gemba_twins::{
    alarm::{AlarmAction, AlarmRule, AlarmRules, AlarmSaid, Priority},
    config::TwinConfig,
    event::{Body, Event, Position, Reading, Value},
    id::{Kind, TenantId, TwinId},
    time::Timestamp,
    twin::{Effects, Outcome, Twin},
};

/// 2026-02-02T12:00:00Z.
const START_MS: i64 = 1_770_033_600_000;

fn at(s: f64) -> Timestamp {
    Timestamp::from_ms(START_MS + (s * 1_000.0) as i64)
}

fn rule(change: impl FnOnce(&mut AlarmRule)) -> AlarmRule {
    let mut rule = AlarmRule {
        id: "hot".into(),
        condition: "metrics.temp > 80".into(),
        stale: None,
        priority: Priority::High,
        text: "Too hot".into(),
        deadband: 0.0,
        on_delay_ms: 0,
        off_delay_ms: 0,
        refractory_ms: 0,
        latching: false,
        suppressed_by: None,
    };
    change(&mut rule);
    rule
}

/// A machine with rules, and all that became of its alarms.
#[derive(Clone)]
struct Machine {
    twin: Twin,
    seq: u64,
    version: u64,
    effects: Effects,
}

impl Machine {
    fn with(rules: Vec<AlarmRule>) -> Self {
        let id = TwinId::new(
            TenantId::parse("acme").expect("a tenant"),
            Kind::Machine,
            "cnc-07",
        )
        .expect("an id");
        let mut machine = Self {
            twin: Twin::new(id),
            seq: 0,
            version: 0,
            effects: Effects::default(),
        };
        machine.configure(-1.0, rules);
        machine
    }

    fn fold(&mut self, s: f64, body: Body) -> Outcome {
        let event = Event {
            twin: self.twin.id().clone(),
            at: at(s),
            received_at: at(s),
            source: "".into(),
            message_id: "".into(),
            origin: None,
            body,
        };
        // On its way through the journal nothing is lost.
        let mut bytes = Vec::new();
        event.encode(&mut bytes);
        let event = Event::decode(&bytes).expect("its own bytes");
        self.seq += 1;
        let position = Position {
            shard: 0,
            seq: self.seq,
        };
        self.twin.fold(position, &event, &mut self.effects)
    }

    fn configure(&mut self, s: f64, rules: Vec<AlarmRule>) {
        self.version += 1;
        let config = TwinConfig {
            model_version: self.version,
            alarms: AlarmRules::of(rules),
            ..TwinConfig::default()
        };
        self.fold(s, Body::Configured(Box::new(config)));
    }

    fn read(&mut self, s: f64, metric: &str, value: Value) {
        let reading = Reading {
            metrics: vec![(metric.into(), value)],
            ..Reading::default()
        };
        self.fold(s, Body::Reading(reading));
    }

    fn temp(&mut self, s: f64, value: f64) {
        self.read(s, "temp", Value::Number(value));
    }

    fn execution(&mut self, s: f64, word: &str) {
        self.read(s, "execution", Value::Text(word.into()));
    }

    fn tick(&mut self, s: f64) -> Outcome {
        self.fold(s, Body::Ticked)
    }

    fn say(&mut self, s: f64, rule: &str, action: AlarmAction) {
        self.fold(s, Body::Alarm(said(rule, action)));
    }

    fn state_of(&self, rule: &str) -> &'static str {
        self.twin.alarm(rule).expect("an alarm").state().as_str()
    }

    fn state(&self) -> &'static str {
        self.state_of("hot")
    }

    /// What happened, with the seconds.
    fn story(&self) -> Vec<String> {
        let changes = self.effects.alarms.iter();
        changes
            .map(|change| {
                format!(
                    "{} {} {}",
                    (change.at.ms() - START_MS) as f64 / 1_000.0,
                    change.rule,
                    change.what.as_str()
                )
            })
            .collect()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::to_value(self.twin.alarm("hot").expect("an alarm")).expect("JSON")
    }

    fn deadline_s(&self) -> Option<f64> {
        let deadline = self.twin.next_deadline()?;
        Some((deadline.ms() - START_MS) as f64 / 1_000.0)
    }
}

fn said(rule: &str, action: AlarmAction) -> AlarmSaid {
    AlarmSaid {
        rule: rule.into(),
        action,
        by: "mia".into(),
        comment: Some("on my way".into()),
    }
}

/// What happens to the alarm of a step.
#[derive(Clone, Copy)]
enum Step {
    Hot,
    Cool,
    Do(AlarmAction),
    /// The machine is in a planned break, which suppresses the alarm.
    Break,
    Work,
}

/// The transitions of ISA-18.2-2016, figure 4 (states) and OPC UA part 9, 4.8 (the same with shelving): each line leads
/// from normal through its steps to a state.
#[test]
fn each_way_through_the_life_cycle_ends_where_the_standard_says() {
    use AlarmAction::{Acknowledged, Commented, PutBack, Reset, TakenOut, Unshelved};
    use Step::{Break, Cool, Do, Hot, Work};
    let shelve = Do(AlarmAction::Shelved { until: at(3_600.0) });
    let ack = Do(Acknowledged);
    let ways: [(bool, &[Step], &str); 32] = [
        (false, &[], "normal"),
        (false, &[Hot], "unacknowledged_active"),
        (false, &[Hot, ack], "acknowledged_active"),
        (false, &[Hot, ack, ack], "acknowledged_active"),
        (false, &[Hot, ack, Cool], "normal"),
        (false, &[Hot, Cool], "rtn_unacknowledged"),
        (false, &[Hot, Cool, ack], "normal"),
        (false, &[Hot, Cool, Hot], "unacknowledged_active"),
        (false, &[Hot, ack, Cool, Hot], "unacknowledged_active"),
        (false, &[ack], "normal"),
        (false, &[Hot, Do(Commented)], "unacknowledged_active"),
        (false, &[Hot, Do(Reset)], "unacknowledged_active"),
        (true, &[Hot], "unacknowledged_active"),
        (true, &[Hot, ack], "acknowledged_active"),
        (true, &[Hot, Cool], "latched_unacknowledged"),
        (true, &[Hot, Cool, ack], "latched_acknowledged"),
        (true, &[Hot, ack, Cool], "latched_acknowledged"),
        (true, &[Hot, ack, Cool, Do(Reset)], "normal"),
        (true, &[Hot, Cool, Do(Reset)], "latched_unacknowledged"),
        (true, &[Hot, ack, Do(Reset)], "acknowledged_active"),
        (true, &[Hot, ack, Cool, Hot], "unacknowledged_active"),
        (false, &[shelve], "shelved"),
        (false, &[Hot, shelve], "shelved"),
        (false, &[Hot, shelve, Do(Unshelved)], "unacknowledged_active"),
        (false, &[Hot, ack, shelve, Do(Unshelved)], "acknowledged_active"),
        (false, &[shelve, Hot, Do(Unshelved)], "unacknowledged_active"),
        (false, &[Hot, shelve, Cool, Do(Unshelved)], "normal"),
        (false, &[Hot, Break], "suppressed"),
        (false, &[Break, Hot, Work], "unacknowledged_active"),
        (false, &[Break, Hot, Cool, Work], "normal"),
        (false, &[Hot, shelve, Break, Do(TakenOut)], "out_of_service"),
        (false, &[Do(TakenOut), Hot, Do(PutBack)], "unacknowledged_active"),
    ];
    for (number, (latching, steps, state)) in ways.into_iter().enumerate() {
        let mut machine = Machine::with(vec![rule(|rule| {
            rule.latching = latching;
            rule.suppressed_by = Some("state.execution == 'planned_down'".into());
        })]);
        machine.execution(0.0, "producing");
        for (step, s) in steps.iter().zip(1_u32..) {
            let s = f64::from(s);
            match step {
                Hot => machine.temp(s, 90.0),
                Cool => machine.temp(s, 20.0),
                Break => machine.execution(s, "planned_down"),
                Work => machine.execution(s, "producing"),
                Do(action) => machine.say(s, "hot", *action),
            }
        }
        assert_eq!(machine.state(), state, "way {number}: {:?}", machine.story());
    }
}

#[test]
fn an_alarm_shows_when_it_came_who_cares_and_what_was_measured() {
    let mut machine = Machine::with(vec![rule(|_| ())]);
    machine.temp(0.0, 70.0);
    assert_eq!(
        machine.json()["raised_at"],
        serde_json::Value::Null,
        "it never was"
    );
    machine.temp(1.0, 91.5);
    machine.say(5.0, "hot", AlarmAction::Acknowledged);
    machine.temp(9.0, 95.0);
    let json = machine.json();
    for (field, value) in [
        ("id", "machine:cnc-07:hot"),
        ("twin", "machine/cnc-07"),
        ("rule", "hot"),
        ("text", "Too hot"),
        ("state", "acknowledged_active"),
        ("priority", "high"),
        ("since", "2026-02-02T12:00:05.000Z"),
        ("raised_at", "2026-02-02T12:00:01.000Z"),
        ("acknowledged_at", "2026-02-02T12:00:05.000Z"),
        ("acknowledged_by", "mia"),
        ("comment", "on my way"),
        ("metric", "temp"),
    ] {
        assert_eq!(json[field], value, "{field}");
    }
    assert_eq!((&json["value"], &json["count"]), (&95.0.into(), &1.into()));
    assert_eq!(
        machine.effects.alarms[0].value,
        Some(Value::Number(91.5)),
        "as it was when raised"
    );
    let twin = serde_json::to_value(machine.twin.view(at(10.0))).expect("JSON");
    assert_eq!(
        twin["alarms"],
        serde_json::json!({"active": 1, "unacknowledged": 0, "highest_severity": "high", "shelved": 0})
    );
}

#[test]
fn a_machine_without_rules_says_nothing_of_alarms() {
    let mut machine = Machine::with(Vec::new());
    machine.temp(0.0, 900.0);
    assert!(!machine.twin.has_alarms());
    assert_eq!(machine.twin.alarms().count(), 0);
    let twin = serde_json::to_value(machine.twin.view(at(1.0))).expect("JSON");
    assert_eq!(twin.get("alarms"), None);
}

#[test]
fn what_is_absent_decides_nothing() {
    let mut machine = Machine::with(vec![rule(|rule| {
        rule.condition = "metrics.temp > 80 || metrics.load / metrics.speed > 2.0".into();
    })]);
    machine.temp(0.0, 20.0);
    assert_eq!(machine.state(), "normal", "load and speed never came");
    machine.temp(1.0, 90.0);
    assert_eq!(machine.state(), "unacknowledged_active", "one part is enough");
    machine.temp(2.0, 20.0);
    assert_eq!(
        machine.state(),
        "unacknowledged_active",
        "the other part is still not known"
    );
    machine.read(3.0, "speed", Value::Number(4.0));
    machine.read(4.0, "load", Value::Number(4.0));
    assert_eq!(machine.state(), "rtn_unacknowledged");
}

#[test]
fn a_rule_that_changed_goes_on_with_its_alarm_and_one_that_is_gone_says_so() {
    let mut machine = Machine::with(vec![rule(|_| ())]);
    machine.temp(0.0, 90.0);
    machine.configure(
        1.0,
        vec![rule(|rule| rule.condition = "metrics.temp > 100".into())],
    );
    assert_eq!(machine.state(), "rtn_unacknowledged");
    machine.configure(2.0, vec![rule(|rule| rule.id = "other".into())]);
    assert!(machine.twin.alarm("hot").is_none());
    assert_eq!(
        machine.story(),
        [
            "0 hot raised",
            "0 hot returned",
            "0 hot removed",
            "0 other raised"
        ],
        "as of the newest data: the model has a clock of its own"
    );
    machine.configure(3.0, Vec::new());
    assert!(!machine.twin.has_alarms());
}

#[test]
fn an_alarm_may_be_suppressed_by_another_one() {
    let stopped = rule(|rule| {
        rule.id = "stopped".into();
        rule.condition = "state.execution == 'down'".into();
    });
    let cold = rule(|rule| {
        rule.id = "cold".into();
        rule.condition = "metrics.temp < 30".into();
        rule.suppressed_by = Some("alarms.stopped".into());
    });
    let mut machine = Machine::with(vec![stopped, cold]);
    machine.execution(0.0, "down");
    machine.temp(1.0, 20.0);
    assert_eq!(
        (machine.state_of("stopped"), machine.state_of("cold")),
        ("unacknowledged_active", "suppressed")
    );
    machine.execution(2.0, "producing");
    assert_eq!(machine.state_of("cold"), "unacknowledged_active");
    assert_eq!(
        machine.story(),
        [
            "0 stopped raised",
            "2 stopped returned",
            "2 cold unsuppressed",
            "2 cold raised"
        ]
    );
}
