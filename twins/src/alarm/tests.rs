//! Native conditions against the `cel` crate, and what is refused when a rule is written.

use super::{
    check::{ConditionError, Kinds, Known},
    condition::{Condition, Expr, Scopes},
    evaluate::Scope,
    foreign::Foreign,
    read::NAMES,
    rule::{AlarmRule, Priority, StaleRule},
};
use crate::{
    event::{AttributesSet, Body, Event, Position, Reading, Value},
    id::{Kind, TenantId, TwinId},
    time::Timestamp,
    twin::{Effects, Twin},
};

fn machine() -> Twin {
    let id = TwinId::new(
        TenantId::parse("acme").expect("a tenant"),
        Kind::Machine,
        "cnc-07",
    )
    .expect("an id");
    let mut twin = Twin::new(id.clone());
    let metrics = [
        ("rpm", Value::Number(9_000.0)),
        ("temp", Value::Number(80.5)),
        ("zero", Value::Number(0.0)),
        ("door", Value::Bool(true)),
        ("tool", Value::Text("T12".into())),
        ("execution", Value::Text("producing".into())),
        ("cycle_count", Value::Number(5.0)),
        ("good_count", Value::Number(4.0)),
    ];
    let reading = Reading {
        metrics: metrics.map(|(name, value)| (name.into(), value)).to_vec(),
        ..Reading::default()
    };
    let set = AttributesSet {
        patch: r#"{"line":"one","age":7,"spindle":{"max":12}}"#.into(),
        by: "test".into(),
    };
    for (seq, body) in (1..).zip([Body::Reading(reading), Body::AttributesSet(set)]) {
        let event = Event {
            twin: id.clone(),
            at: now(),
            received_at: now(),
            source: "".into(),
            message_id: "".into(),
            origin: None,
            body,
        };
        twin.fold(Position { shard: 0, seq }, &event, &mut Effects::default());
    }
    twin
}

fn now() -> Timestamp {
    Timestamp::from_ms(1_770_033_600_000)
}

#[test]
fn native_conditions_say_what_cel_says() {
    let twin = machine();
    for text in [
        "metrics.rpm > 9000",
        "metrics.rpm >= 9000",
        "9000 <= metrics.rpm",
        "metrics.rpm < 8999.5 || metrics.temp > 80",
        "metrics.rpm > 8000 && state.execution == 'producing'",
        "metrics.rpm / 100.0 - 10.0 * 2.0 > 69.9",
        "-metrics.temp < -80.0",
        "metrics.rpm / metrics.zero > 1.0",
        "metrics.zero / metrics.zero > 1.0",
        "metrics.door",
        "!metrics.door",
        "metrics.door == true",
        "metrics.tool == 'T12'",
        "metrics.tool < 'T13'",
        "metrics.tool.startsWith('T')",
        "metrics.tool.endsWith('3') || metrics.tool.contains('1')",
        "metrics.tool + 'a' == 'T12a'",
        "state.execution in ['idle', 'producing']",
        "metrics.rpm in [1.0, 2.0]",
        "kpis.quality_ratio < 0.9",
        "kpis.oee < 0.6",
        "kpis.oee == null",
        "attributes.line == 'one'",
        "attributes.spindle.max > 10.0",
        "attributes['age'] == 7.0",
        "has(attributes.line)",
        "has(attributes.row)",
        "attributes.row == 'x' || true",
        "attributes.row == 'x' && false",
        "attributes.row == 'x' && true",
        "metrics.rpm > 8000 ? metrics.temp > 80 : false",
        "(metrics.rpm > 8000 ? metrics.temp : metrics.zero) > 80",
        "kind == 'machine' && id == 'cnc-07'",
        "metrics.tool > 3",
        "metrics.tool == 3",
        "metrics.unheard > 3",
        "true",
        "size(metrics.tool) == 3",
    ] {
        let mut scopes = Scopes {
            metrics: Vec::new(),
            alarms: &[],
        };
        let native = Condition::compile(text, &mut scopes).expect(text);
        let slot = |name: &str| {
            let place = twin.metrics.items.iter().position(|metric| *metric.name == *name);
            place
                .and_then(|place| u16::try_from(place).ok())
                .unwrap_or(u16::MAX)
        };
        let slots: Vec<u16> = scopes.metrics.iter().map(|name| slot(name)).collect();
        let scope = Scope {
            twin: &twin,
            execution: &std::cell::OnceCell::new(),
            now: now(),
            slots: &slots,
            alarms: &[],
        };
        let program = cel::Program::compile(text).expect(text);
        let names = NAMES.into_iter().filter(|name| *name != "alarms").collect();
        let foreign = Condition {
            root: Expr::Foreign(Box::new(Foreign::new(program.expression().clone(), names))),
        };
        assert_eq!(native.holds(&scope, 0.0), foreign.holds(&scope, 0.0), "{text}");
    }
}

#[test]
fn what_cannot_be_judged_is_refused_and_says_why() {
    let metric = |name: &str| {
        Some(match name {
            "temp" => Kinds::Number,
            "tool" => Kinds::Text,
            "door" => Kinds::Any,
            _ => return None,
        })
    };
    let known = Known {
        kind: Kind::Machine,
        metric: &metric,
        metrics: &|| vec!["temp".into(), "tool".into(), "door".into()],
        alarms: &["other".into()],
    };
    let rule = |condition: &str, deadband: f64, suppressed_by: Option<&str>| AlarmRule {
        id: "one".into(),
        condition: condition.into(),
        stale: None,
        priority: Priority::Low,
        text: "".into(),
        deadband,
        on_delay_ms: 0,
        off_delay_ms: 0,
        refractory_ms: 0,
        latching: false,
        suppressed_by: suppressed_by.map(Into::into),
    };
    let told = |condition: &str, deadband: f64| {
        let problems = rule(condition, deadband, None).problems(&known);
        problems.first().map(|(_, problem)| problem.to_string())
    };
    for good in [
        "metrics.temp > 80",
        "metrics.door",
        "metrics.tool == 'T1'",
        "metrics.door == 3.0",
        "kpis.oee < 0.6",
        "alarms.other",
    ] {
        assert_eq!(told(good, 0.0), None, "{good}");
    }
    for (bad, why) in [
        ("metrics.tmp > 80", "\"tmp\" is not a metric of these twins"),
        ("metric.temp > 80", "\"metric\" is not a name"),
        ("state.executon == 'down'", "\"executon\" is not a field of state"),
        ("state.execution == 'dwon'", "\"dwon\" is not an execution state"),
        ("kpis.ooe < 0.6", "\"ooe\" is not a KPI of these twins"),
        ("alarms.othr", "\"othr\" is not an alarm of the same twins"),
        ("siez(metrics.tool) > 3", "\"siez\" is not a function"),
        (
            "metrics.temp > 'hot'",
            "a number and text stand on the two sides of an operator (compare the same kind of thing)",
        ),
        (
            "metrics.temp",
            "is a number, not yes or no (compare it with something)",
        ),
        (
            "metrics.temp && true",
            "&& and || takes yes or no, and here it is a number",
        ),
        (
            "metrics.temp + metrics.tool > 1",
            "a number and text stand on the two sides of an operator (compare the same kind of thing)",
        ),
        (
            "metrics.temp > null",
            "nothing is less or more than null (use == or !=)",
        ),
        (
            "['a'].exists(x, x == 'a')",
            "loops (exists, all, map, filter) are not possible in a condition of an alarm",
        ),
        ("metrics", "metrics is not a value (name a field, e.g. metrics.x)"),
    ] {
        assert_eq!(told(bad, 0.0).as_deref(), Some(why), "{bad}");
    }
    assert!(told("metrics.temp >", 0.0).is_some_and(|why| why.contains("at character")));
    assert!(told("metrics.tool == 'T1'", 1.0).is_some_and(|why| why.contains("deadband")));
    let suppressed = rule("metrics.temp > 80", 0.0, Some("metrics.temp"));
    assert_eq!(
        suppressed.problems(&known).first().map(|(field, _)| *field),
        Some("suppressed_by")
    );
    let stale = AlarmRule {
        condition: "".into(),
        stale: Some(StaleRule {
            metric: Some("tmp".into()),
            after_ms: None,
        }),
        ..rule("", 0.0, None)
    };
    assert!(matches!(
        stale.problems(&known)[..],
        [("stale.metric", ConditionError::Unknown { .. })]
    ));
}

#[test]
fn equal_rules_are_one_value_in_memory() {
    let rule = || AlarmRule {
        id: "shared".into(),
        condition: "metrics.temp > 1".into(),
        stale: None,
        priority: Priority::Low,
        text: "".into(),
        deadband: 0.0,
        on_delay_ms: 0,
        off_delay_ms: 0,
        refractory_ms: 0,
        latching: false,
        suppressed_by: None,
    };
    let (one, other) = (
        super::AlarmRules::of(vec![rule()]),
        super::AlarmRules::of(vec![rule()]),
    );
    let (one, other) = (one.set().expect("a rule"), other.set().expect("a rule"));
    assert!(std::sync::Arc::ptr_eq(one, other));
}
