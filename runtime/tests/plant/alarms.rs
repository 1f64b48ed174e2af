//! Rules of alarms in a plant model: which twins get them, and everything that is refused before it is in force.

use gemba_runtime::plant::{PlantModel, plan, twin_configs};
use gemba_twins::id::Kind;

use super::model;

const PLANT: &str = r#"
site: {id: works}
locations:
  - {id: line-1, type: line}
  - {id: cell-1, type: cell, parent: line-1}
machines:
  - {id: cnc-1, location: cell-1, metrics: [{name: coolant_l, unit: l}]}
  - {id: cnc-2, location: cell-1, attributes: {vendor: Mazak}}
  - {id: press-1}
alarms:
"#;

fn with(alarms: &str) -> String {
    format!("{PLANT}{alarms}")
}

fn problems(alarms: &str) -> Vec<String> {
    match PlantModel::parse(&with(alarms)) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_rule_is_for_the_twins_it_names() {
    let text = with(
        r#"
  - {id: silent, applies_to: machine, stale: 2m, priority: low}
  - {id: line, applies_to: {kind: machine, where: 'attributes.line == "line-1"'}, condition: metrics.power_kw > 10}
  - {id: mazak, applies_to: {kind: machine, where: attributes.vendor == "Mazak"}, condition: metrics.power_kw > 20}
  - {id: some, applies_to: {kind: machine, ids: [press-1]}, condition: kpis.oee < 0.5}
  - {id: air, applies_to: {kind: location}, condition: metrics.co2_ppm > 1000, deadband: 50}
"#,
    );
    let model = model(&text);
    let configs = twin_configs(None, &model, 1);
    let rules = |wanted: &str| {
        let config = configs.iter().find(|(_, id, _)| **id == *wanted);
        let (_, _, config) = config.expect("a twin");
        config
            .alarms
            .iter()
            .map(|rule| rule.id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(rules("cnc-1"), ["silent", "line"]);
    assert_eq!(rules("cnc-2"), ["silent", "line", "mazak"]);
    assert_eq!(rules("press-1"), ["silent", "some"]);
    assert_eq!(rules("cell-1"), ["air"]);
    assert_eq!(rules("works"), ["air"], "the site is a location too");
    for text in [model.text(), model.to_json(), model.to_yaml()] {
        assert_eq!(self::model(&text), model, "{text}");
    }
}

#[test]
fn a_rule_that_changed_is_told_to_its_twins_alone() {
    let before = model(&with(
        "  - {id: air, applies_to: location, condition: metrics.co2_ppm > 1000}\n",
    ));
    let after = model(&with(
        "  - {id: air, applies_to: location, condition: metrics.co2_ppm > 900}\n",
    ));
    let told = twin_configs(Some(&before), &after, 2);
    assert!(told.iter().all(|(kind, ..)| *kind == Kind::Location));
    assert_eq!(told.len(), 3);
    let shown = plan(Some(&before), &after).to_string();
    assert!(shown.contains("~ alarm/air"), "{shown}");
    assert!(
        shown.contains("condition: metrics.co2_ppm > 1000 → metrics.co2_ppm > 900"),
        "{shown}"
    );
}

#[test]
fn what_could_not_be_judged_is_refused_with_the_nearest_name() {
    for (rule, told) in [
        (
            "{applies_to: machine, condition: 'true'}",
            "alarms[0].id: is missing (it is required)",
        ),
        (
            "{id: a, condition: 'true'}",
            "alarms[0].applies_to: is missing (e.g. {kind: machine})",
        ),
        (
            "{id: a, applies_to: machine}",
            "alarms[0].condition: is missing (or say what must not go stale)",
        ),
        (
            "{id: a, applies_to: machine, condition: 'true', stale: 5s}",
            "alarms[0].stale: stands beside a condition (take one of the two out)",
        ),
        (
            "{id: a:b, applies_to: machine, condition: 'true'}",
            "alarms[0].id: at most 64 characters without ':' are allowed",
        ),
        (
            "{id: a, applies_to: machine, condition: 'true', priority: hot}",
            "alarms[0].priority: \"hot\" is unknown (one of low, medium, high, urgent)",
        ),
        (
            "{id: a, applies_to: machine, condition: 'true', onn_delay: 5s}",
            "alarms[0].onn_delay: unknown key (did you mean on_delay?)",
        ),
        (
            "{id: a, applies_to: machine, condition: metrics.coolant_1 < 5}",
            "alarms[0].condition: \"coolant_1\" is not a metric of these twins (did you mean coolant_l?)",
        ),
        (
            "{id: a, applies_to: machine, condition: metrics.flux > 5}",
            "alarms[0].condition: \"flux\" is not a metric of these twins (declare it among the metrics of its machine, location or sensor)",
        ),
        (
            "{id: a, applies_to: location, condition: metrics.co2_pm > 5}",
            "alarms[0].condition: \"co2_pm\" is not a metric of these twins (did you mean co2_ppm?)",
        ),
        (
            "{id: a, applies_to: machine, condition: state.execution == \'runing\'}",
            "alarms[0].condition: \"runing\" is not an execution state (known are producing, setup, idle, stopped, down, planned_down, unknown)",
        ),
        (
            "{id: a, applies_to: location, condition: state.execution == \'down\'}",
            "alarms[0].condition: \"execution\" is not a field of state",
        ),
        (
            "{id: a, applies_to: machine, condition: kpis.oe < 0.5}",
            "alarms[0].condition: \"oe\" is not a KPI of these twins (did you mean oee?)",
        ),
        (
            "{id: a, applies_to: machine, condition: metrics.power_kw > \'5\'}",
            "alarms[0].condition: a number and text stand on the two sides of an operator (compare the same kind of thing)",
        ),
        (
            "{id: a, applies_to: machine, condition: metrics.power_kw}",
            "alarms[0].condition: is a number, not yes or no (compare it with something)",
        ),
        (
            "{id: a, applies_to: machine, condition: metrics.execution == \'x\', deadband: 2}",
            "alarms[0].condition: holds no limit that a deadband could belong to (compare with <, <=, > or >=)",
        ),
        (
            "{id: a, applies_to: {kind: machine, ids: [cnc-3]}, condition: 'true'}",
            "alarms[0].applies_to.ids[0]: machine cnc-3 is not in the model (did you mean cnc-1?)",
        ),
        (
            "{id: a, applies_to: {kind: machine, where: metrics.power_kw > 1}, condition: 'true'}",
            "alarms[0].applies_to.where: metrics change with each event (name attributes, kind or id, which the model says)",
        ),
        (
            "{id: a, applies_to: machine, stale: {metric: power_kv}}",
            "alarms[0].stale.metric: \"power_kv\" is not a metric of these twins (did you mean power_kw?)",
        ),
        (
            "{id: a, applies_to: machine, condition: 'true', suppressed_by: alarms.b}",
            "alarms[0].suppressed_by: \"b\" is not an alarm of the same twins (did you mean a?)",
        ),
        (
            "{id: a, applies_to: machine, condition: 'true', suppressed_by: alarms.a}",
            "alarms[0].suppressed_by: a is suppressed by itself, maybe by way of others",
        ),
    ] {
        let found = problems(&format!("  - {rule}\n"));
        assert!(
            found.iter().any(|problem| problem.starts_with(told)),
            "{rule}: {found:#?}"
        );
    }
    let unparsed = problems("  - {id: a, applies_to: machine, condition: metrics.power_kw >}\n");
    assert!(unparsed[0].contains("at character"), "{unparsed:?}");
}

#[test]
fn alarms_do_not_suppress_each_other_in_a_circle() {
    let circle = problems(
        "  - {id: a, applies_to: machine, condition: 'true', suppressed_by: alarms.b}\n  \
         - {id: b, applies_to: machine, condition: 'true', suppressed_by: alarms.c}\n  \
         - {id: c, applies_to: machine, condition: 'true', suppressed_by: alarms.a || alarms.d}\n  \
         - {id: d, applies_to: machine, condition: 'true'}\n",
    );
    assert_eq!(circle.len(), 3, "{circle:?}");
    // A suppressor has to be where the suppressed one is.
    let elsewhere = problems(
        "  - {id: a, applies_to: machine, condition: 'true', suppressed_by: alarms.b}\n  \
         - {id: b, applies_to: {kind: machine, ids: [cnc-1]}, condition: 'true'}\n",
    );
    assert_eq!(elsewhere.len(), 1, "{elsewhere:?}");
    let fine = problems(
        "  - {id: a, applies_to: {kind: machine, ids: [cnc-1]}, condition: 'true', suppressed_by: alarms.b}\n  \
         - {id: b, applies_to: machine, condition: 'true'}\n",
    );
    assert_eq!(fine, [] as [String; 0]);
}
