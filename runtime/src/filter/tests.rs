//! Filters over one machine, and lists over a plant.

use gemba_twins::{
    event::{AttributesSet, Body, Event, Position, Reading, Value as Measured},
    id::{Kind, TenantId, TwinId},
    twin::Effects,
};
use proptest::prelude::*;

use super::*;

fn at() -> Timestamp {
    "2026-11-23T08:00:00Z".parse().expect("a time")
}

fn tenant() -> TenantId {
    TenantId::parse("acme").expect("a tenant")
}

pub(super) fn machine(name: &str, bodies: Vec<Body>) -> Twin {
    let id = TwinId::new(tenant(), Kind::Machine, name).expect("an id");
    let mut twin = Twin::new(id.clone());
    for (seq, body) in (1..).zip(bodies) {
        let event = Event {
            twin: id.clone(),
            at: at(),
            received_at: at(),
            source: "test".into(),
            message_id: "".into(),
            origin: None,
            body,
        };
        twin.fold(Position { shard: 1, seq }, &event, &mut Effects::default());
    }
    twin
}

pub(super) fn reads(metrics: Vec<(Box<str>, Measured)>) -> Body {
    Body::Reading(Reading {
        sensor_id: "s".into(),
        location_id: Some("cell-2".into()),
        metrics,
        ..Reading::default()
    })
}

fn set(patch: &str) -> Body {
    Body::AttributesSet(AttributesSet {
        patch: patch.into(),
        by: "ana".into(),
    })
}

fn mazak() -> Twin {
    let metrics = vec![
        ("execution".into(), Measured::Text("producing".into())),
        ("spindle_rpm".into(), Measured::Number(8_120.0)),
        ("door_open".into(), Measured::Bool(false)),
    ];
    let attributes =
        r#"{"name":"Mazak","tags":["a","b"],"maker":{"name":"Yamazaki","since":1919},"broken":false}"#;
    machine("cnc-07", vec![reads(metrics), set(attributes)])
}

/// What `cel` says of the whole filter.
fn matches_by_cel(filter: &Filter, twin: &Twin) -> bool {
    let program = Program::compile(filter.text()).expect("it compiled before");
    filter.by_cel.over(twin, at()).evaluate(program.expression()) == Some(true)
}

#[test]
fn both_evaluators_agree() {
    let twin = mazak();
    for (text, wanted) in [
        ("kind == 'machine'", true),
        ("twin == 'machine/cnc-07'", true),
        ("kind == \"machine\" && attributes.location == 'cell-2'", true),
        ("kpis.oee < 0.6", false),
        ("!(kpis.oee < 0.6)", false),
        ("!(kind == 'machine')", false),
        ("state.metrics.spindle_rpm.value > 8000", true),
        ("8000.0 < state.metrics.spindle_rpm.value", true),
        ("state.metrics['spindle_rpm'].value == 8120", true),
        ("state.metrics.door_open.value", false),
        ("!state.metrics.door_open.value", true),
        ("has(state.metrics.spindle_rpm)", true),
        ("has(state.metrics.absent)", false),
        ("!has(state.metrics.absent)", true),
        ("!has(attributes.name.deeper)", false),
        ("has(kpis.oee)", true),
        ("state.metrics.absent.value > 1.0 || kind == 'machine'", true),
        ("kind == 'machine' || state.metrics.absent.value > 1.0", true),
        ("state.metrics.absent.value > 1.0 && kind == 'machine'", false),
        ("!(state.metrics.absent.value > 1.0 && kind == 'job')", true),
        ("kind in ['job', 'machine']", true),
        ("rev in [1, 2.0, 'x']", true),
        (
            "id.startsWith('cnc') && id.endsWith('07') && id.contains('-')",
            true,
        ),
        ("state.execution != 'down'", true),
        ("kpis.oee == null", true),
        ("kpis.oee != null", false),
        ("kind == 5", false),
        ("kind != 5", true),
        ("kind < 5 || true", true),
        ("rev == 2", true),
        ("attributes.maker != 'x'", true),
        ("attributes.maker.since == 1919 && !attributes.broken", true),
        ("attributes.maker", false),
    ] {
        let filter = Filter::compile(text).expect(text);
        assert!(filter.is_native(), "{text}");
        assert_eq!(filter.matches(&twin, at()), wanted, "{text}");
        assert_eq!(matches_by_cel(&filter, &twin), wanted, "{text} by cel");
    }
}

#[test]
fn what_the_native_evaluator_does_not_know_goes_to_cel() {
    let twin = mazak();
    for (text, wanted) in [
        ("size(id) == 6", true),
        ("!has(state.absent.deeper)", false),
        ("links.self.endsWith('cnc-07')", true),
        ("kpis.reasons.oee != ''", true),
        ("kind == 'job' || size(id) == 6", true),
        ("state.metrics.exists(m, m == 'spindle_rpm')", true),
        ("attributes.tags.all(tag, size(tag) == 1)", true),
        ("'b' in attributes.tags && kind == 'machine'", true),
        ("state.metrics.spindle_rpm.value / 2.0 > 4000.0", true),
        ("state.metrics.spindle_rpm.value > double(rev)", true),
        ("attributes.name == attributes.maker.name", false),
        ("type(rev) == double", true),
        ("attributes.tags.filter(t, t > 'a').exists(t, t == 'b')", true),
        ("'machine' == kind ? attributes.broken == false : false", true),
    ] {
        let filter = Filter::compile(text).expect(text);
        assert!(!filter.is_native(), "{text}");
        assert_eq!(filter.matches(&twin, at()), wanted, "{text}");
    }
}

#[test]
fn what_is_no_filter_says_why() {
    let refused = |text: &str| Filter::compile(text).expect_err(text);
    let shown = |text: &str| refused(text).to_string();
    assert_eq!(
        shown("kpi.oee < 1.0"),
        r#""kpi" is not a field of a twin (did you mean "kpis"?)"#
    );
    assert_eq!(refused("rev > 1 && kpi.oee < 1.0").position, Some(11));
    assert_eq!(
        shown("id.startWith('x')"),
        r#""startWith" is not a function (did you mean "startsWith"?)"#
    );
    assert_eq!(
        shown(&"x".repeat(5_000)),
        "the filter has 5000 bytes (at most 4096 are allowed)"
    );
    assert_eq!(refused("kind ==").code, "filter.invalid");
    assert_eq!(refused("kind = 'x'").position, Some(5));
    assert!(shown("").contains("example"), "{}", shown(""));
    assert!(
        shown("attributes.a.exists(x, attributes.b.exists(y, x == y))")
            .contains("a loop stands within another")
    );
    assert!(shown("Type{a: 1} == 2").contains("cannot make messages"));
    for text in [
        format!("{}true", "!".repeat(4_000)),
        format!("{}1{}", "(".repeat(200), ")".repeat(200)),
    ] {
        assert!(shown(&text).contains("nests deeper"), "{}", shown(&text));
    }
}

#[test]
fn long_filters_neither_overflow_the_stack_nor_take_long() {
    for text in [
        format!("id{}", ".a".repeat(2_000)),
        format!("rev == 1{}", "+1".repeat(2_000)),
        format!("id{} == 1", "[0]".repeat(1_000)),
        format!("rev == 1{}", " - 1".repeat(900)),
        format!("rev{}", "<1".repeat(1_900)),
        format!("true{}", "?true:true".repeat(400)),
        format!("kind == 'a'{}", " || kind == 'a'".repeat(250)),
        format!("kind in [{}'a']", "'abc', ".repeat(550)),
        format!("'{}' == id", "(".repeat(4_000)),
        format!("{}'a'", "id == 'a' && ".repeat(300)),
        format!("'\\'{}", "(".repeat(2_000)),
        "[".repeat(20),
    ] {
        // Whether it compiles is not the point.
        if let Ok(filter) = Filter::compile(&text) {
            let _ = filter.matches(&mazak(), at());
        }
    }
}

fn path() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "kind",
        "id",
        "twin",
        "rev",
        "seq.seq",
        "updated_at",
        "attributes",
        "attributes.name",
        "attributes.name.deeper",
        "attributes.tags",
        "attributes.maker.since",
        "attributes.broken",
        "attributes['location']",
        "state.execution",
        "state.quality",
        "state.absent",
        "state.metrics",
        "state.metrics.spindle_rpm",
        "state.metrics.spindle_rpm.value",
        "state.metrics.spindle_rpm.unit",
        "state.metrics.spindle_rpm.at",
        "state.metrics.door_open.value",
        "state.metrics.absent.value",
        "kpis.oee",
        "kpis.absent",
        "kpis.reasons",
        "kpis.reasons.oee",
        "links.self",
        "links.location",
        "alarms.active",
    ])
    .prop_map(str::to_owned)
}

fn literal() -> impl Strategy<Value = String> {
    let literals = [
        "'machine'",
        "'cell-2'",
        "\"cnc-07\"",
        "1",
        "2.0",
        "-1",
        "8120",
        "null",
        "true",
        "false",
        "''",
    ];
    prop::sample::select(literals.to_vec()).prop_map(str::to_owned)
}

fn condition() -> impl Strategy<Value = String> {
    let comparison = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        (path(), comparison.clone(), literal())
            .prop_map(|(path, is, literal)| format!("{path} {is} {literal}")),
        (literal(), comparison, path()).prop_map(|(literal, is, path)| format!("{literal} {is} {path}")),
        (path(), prop::collection::vec(literal(), 0..4))
            .prop_map(|(path, literals)| format!("{path} in [{}]", literals.join(", "))),
        path()
            .prop_filter("a field", |path| path.contains('.'))
            .prop_map(|path| format!("has({path})")),
        (
            path(),
            prop::sample::select(vec!["startsWith", "endsWith", "contains"]),
            "[a-c7-]{0,2}"
        )
            .prop_map(|(path, test, text)| format!("{path}.{test}('{text}')")),
        path(),
        literal(),
        path().prop_map(|path| format!("size({path}) > 1")),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" && "))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" || "))),
            inner.clone().prop_map(|part| format!("!({part})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_native_evaluator_says_what_cel_says(text in condition()) {
        let filter = Filter::parse(&text).expect("a filter");
        for twin in [mazak(), machine("bare", Vec::new())] {
            prop_assert_eq!(filter.matches(&twin, at()), matches_by_cel(&filter, &twin), "{}", text);
        }
    }

    #[test]
    fn foreign_text_never_panics(text in "\\PC{0,60}") {
        if let Ok(filter) = Filter::parse(&text) {
            let _ = filter.matches(&mazak(), at());
        }
    }

    #[test]
    fn what_looks_like_a_filter_never_panics(text in "[a-z.()'\\[\\]!&|=<>? 0-9:{},+-]{0,60}") {
        if let Ok(filter) = Filter::parse(&text) {
            let _ = filter.matches(&mazak(), at());
        }
    }

    #[test]
    fn an_index_of_filters_never_misses_a_match(text in condition()) {
        let filter = Filter::parse(&text).expect("a filter");
        let twin = mazak();
        if filter.matches(&twin, at()) {
            for (path, texts) in filter.required_texts() {
                let path: Vec<&str> = path.iter().map(|part| &**part).collect();
                let Some(gemba_twins::Field::Text(has)) = twin.field(&path, at()) else {
                    return Err(TestCaseError::fail(format!("{text} matches without a text at {path:?}")));
                };
                prop_assert!(texts.contains(&&*has), "{}", text);
            }
        }
    }
}
