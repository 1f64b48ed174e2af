//! Computed metrics in the plant model: of a twin, of a class, and what is refused when they are applied.

use gemba_runtime::plant::{PlantModel, plan, twin_configs};
use gemba_twins::id::Kind;
use serde_json::json;

use super::{model, problems};

const PLANT: &str = r#"
locations: [{id: line-1, type: line}, {id: cell-1, parent: line-1, computed: [{name: too_dry, value: humidity_pct < 30.0}]}]
machines:
  - id: m-1
    location: cell-1
    metrics: [{name: flow, kind: gauge}]
    computed:
      - {name: cost, value: kw_per_part * 2, unit: ct}
      - {name: kw_per_part, value: power_kw / flow}
  - {id: m-2, location: cell-1}
  - {id: m-3}
computed:
  - {name: kw_per_part, value: "power_kw / max(throughput_rate, 1.0)", unit: kW, for: 'kind == "machine" && attributes.line == "line-1"'}
"#;

fn computed_of(model: &PlantModel, id: &str) -> Vec<String> {
    let configs = twin_configs(None, model, 1);
    let (.., config) = configs
        .iter()
        .find(|(_, known, _)| **known == *id)
        .expect("a twin");
    let analysis = config.analysis.as_deref();
    analysis
        .into_iter()
        .flat_map(|analysis| &analysis.computed)
        .map(|computed| format!("{} = {}", computed.name, computed.value.text()))
        .collect()
}

#[test]
fn a_twins_own_comes_before_its_classs_and_inputs_before_what_asks_for_them() {
    let plant = model(PLANT);
    assert_eq!(
        computed_of(&plant, "m-1"),
        ["kw_per_part = power_kw / flow", "cost = kw_per_part * 2"]
    );
    assert_eq!(
        computed_of(&plant, "m-2"),
        ["kw_per_part = power_kw / max(throughput_rate, 1.0)"]
    );
    assert!(computed_of(&plant, "m-3").is_empty(), "it stands in no line");
    assert_eq!(computed_of(&plant, "cell-1"), ["too_dry = humidity_pct < 30.0"]);
    for text in [plant.text(), plant.to_yaml()] {
        assert_eq!(model(&text), plant, "{text}");
    }
}

#[test]
fn only_the_twins_of_the_class_hear_of_a_change_and_the_plan_shows_it() {
    let before = model(PLANT);
    let after = model(&PLANT.replace("throughput_rate, 1.0", "throughput_rate, 2.0"));
    let told: Vec<_> = twin_configs(Some(&before), &after, 2)
        .into_iter()
        .map(|(kind, id, _)| (kind, id))
        .collect();
    assert_eq!(told, [(Kind::Machine, "m-2".into())]);
    assert_eq!(
        plan(Some(&before), &after).settings,
        [
            "computed.kw_per_part: value: power_kw / max(throughput_rate, 1.0) → power_kw / max(throughput_rate, 2.0)"
        ]
    );
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    let machine = |computed: &str| {
        let metrics = "[{name: flow, kind: gauge}, {name: door, kind: state}]";
        problems(&format!(
            "machines: [{{id: m-1, metrics: {metrics}, computed: [{computed}]}}]"
        ))
    };
    insta::assert_snapshot!(machine("{name: a, value: power_kv / flow}"), @"machines[0].computed[0].value: machine/m-1 has no metric power_kv (did you mean power_kw?) (declare it under metrics, or ask for kpis.NAME)");
    insta::assert_snapshot!(machine("{name: a, value: kpis.oe * 2}"), @"machines[0].computed[0].value: machine/m-1 has no metric kpis.oe (did you mean kpis.oee?) (declare it under metrics, or ask for kpis.NAME)");
    insta::assert_snapshot!(machine("{name: a, value: b + 1}, {name: b, value: flow + c}, {name: c, value: a * 2}"), @"machines[0].computed[0].value: asks for itself: a → b → c → a");
    insta::assert_snapshot!(machine("{name: a, value: execution * 2}"), @"machines[0].computed[0].value: * needs a number, not a text (execution)");
    insta::assert_snapshot!(machine("{name: a, value: flow > 1}, {name: b, value: a + 1}"), @"machines[0].computed[1].value: + needs a number, not true or false (a)");
    insta::assert_snapshot!(machine("{name: a, value: execution}"), @"machines[0].computed[0].value: gives a text (a number or a truth is needed)");
    insta::assert_snapshot!(machine("{name: a, value: 'maxx(flow, 1)'}, {value: flow}, {name: b}"), @r#"
    machines[0].computed[0].value: "maxx" is not a function here (did you mean "max"? there are min, max, abs, round, floor, ceil, sqrt, coalesce, known, startsWith, endsWith, contains, double) at character 5
    machines[0].computed[1].name: a metric's name is needed (text of 1 to 128 characters, no control characters)
    machines[0].computed[2].value: is missing (e.g. power_kw / max(throughput_rate, 1.0))
    "#);
    insta::assert_snapshot!(machine("{name: a, value: flow}, {name: a, value: flow}"), @"machines[0].computed[1].name: a is computed twice");
    insta::assert_snapshot!(problems("machines: [{id: m-1}]\ncomputed: [{name: a, value: 1 + 1, for: line == 'l'}, {name: b, value: '2'}, {name: c, value: '1', for: id}]"), @r#"
    computed[0].for: line is not known here (kind, id and attributes.NAME are)
    computed[1].for: is missing (a condition over the twins, e.g. kind == "machine" && attributes.line == "machining")
    computed[2].for: a condition is needed, e.g. attributes.line == "machining"
    "#);
}

#[test]
fn a_part_of_a_model_changes_that_part_alone() {
    let plant = model(PLANT);
    let part = json!({
        "machines": [{"id": "m-2", "ideal_cycle": "5s"}, {"id": "m-9"}],
        "computed": [{"name": "kw_per_part", "unit": "W"}],
        "unknown_sensors": "keep_aside",
    });
    let changed = plant.changed_by(&part).expect("a model");
    insta::assert_snapshot!(plan(Some(&plant), &changed), @r"
    ~ unknown_sensors: register → keep_aside
    ~ computed.kw_per_part: unit: kW → W
    + machine/m-9
    ~ machine/m-2
        ideal_cycle: (none) → 5s
    1 to add, 1 to change, 0 to remove, 4 unchanged
    ");
    let error = plant.changed_by(&json!({"machines": [{"id": "m-1", "location": "cell-7"}]}));
    assert!(
        error
            .expect_err("no such place")
            .to_string()
            .contains("did you mean cell-1?")
    );
    assert!(plant.changed_by(&json!([1])).is_err());
}
