//! Applying a model over another: what is shown before, and what the twins are told.

use gemba_runtime::plant::{plan, twin_configs};
use gemba_twins::{config::TwinConfig, id::Kind};

use super::{EXAMPLE, model};

const BEFORE: &str = r#"
site: {id: helsinki, timezone: Europe/Helsinki}
locations: [{id: line-1, type: line}, {id: cell-1, type: cell, parent: line-1}, {id: yard}]
machines:
  - {id: cnc-07, name: Mazak 07, location: cell-1, ideal_cycle: 45s}
  - {id: cnc-08, location: cell-1}
sensors: [{id: meter-7, feeds: machine/cnc-07}]
"#;

const AFTER: &str = r#"
unknown_sensors: keep_aside
site: {id: helsinki, timezone: Europe/Helsinki}
locations: [{id: line-1, type: line}, {id: cell-1, type: cell, parent: line-1}, {id: dock, exit: true}]
machines:
  - {id: cnc-07, name: Mazak 07, location: cell-1, ideal_cycle: 40s, stale_after: 30s, execution: {RUN: producing}}
  - {id: cnc-08, location: cell-1}
sensors: [{id: meter-7, feeds: machine/cnc-07, metrics: {e: {to: energy_kwh, unit: kWh, rollover_at: 1000000}}}]
"#;

fn told(old: Option<&str>, new: &str) -> Vec<String> {
    let old = old.map(model);
    twin_configs(old.as_ref(), &model(new), 7)
        .into_iter()
        .map(|(kind, id, config)| shown(kind, &id, &config))
        .collect()
}

fn shown(kind: Kind, id: &str, config: &TwinConfig) -> String {
    assert_eq!(config.model_version, 7);
    if config.removed {
        return format!("{kind}/{id} removed");
    }
    let metrics: Vec<String> = config
        .metrics
        .iter()
        .map(|metric| {
            format!(
                " {}:{:?}:{}:{:?}",
                metric.name, metric.kind, metric.unit, metric.rollover_at
            )
        })
        .collect();
    let cycle = config
        .ideal_cycle_s
        .map(|cycle| format!(" cycle {cycle}"))
        .unwrap_or_default();
    let stale = config
        .stale_after_ms
        .map(|ms| format!(" stale {ms}"))
        .unwrap_or_default();
    let words: Vec<String> = config
        .execution_map
        .iter()
        .map(|(word, ours)| format!(" {word}={ours:?}"))
        .collect();
    format!(
        "{kind}/{id} {}{cycle}{stale}{}{}",
        config.attributes,
        words.concat(),
        metrics.concat()
    )
}

#[test]
fn a_plan_shows_what_would_change() {
    let difference = plan(Some(&model(BEFORE)), &model(AFTER));
    insta::assert_snapshot!(difference.to_string(), @r#"
    ~ unknown_sensors: register → keep_aside
    + location/dock
        exit: true
    ~ machine/cnc-07
        execution: (none) → {"RUN":"producing"}
        ideal_cycle: 45s → 40s
        stale_after: (none) → 30s
    ~ sensor/meter-7
        metrics: (none) → {"e":{"rollover_at":1000000.0,"to":"energy_kwh","unit":"kWh"}}
    - location/yard
    1 to add, 2 to change, 1 to remove, 4 unchanged
    "#);
    insta::assert_json_snapshot!(difference, @r#"
    {
      "added": [
        {
          "twin": "location/dock",
          "what": [
            "exit: true"
          ]
        }
      ],
      "changed": [
        {
          "twin": "machine/cnc-07",
          "what": [
            "execution: (none) → {\"RUN\":\"producing\"}",
            "ideal_cycle: 45s → 40s",
            "stale_after: (none) → 30s"
          ]
        },
        {
          "twin": "sensor/meter-7",
          "what": [
            "metrics: (none) → {\"e\":{\"rollover_at\":1000000.0,\"to\":\"energy_kwh\",\"unit\":\"kWh\"}}"
          ]
        }
      ],
      "removed": [
        {
          "twin": "location/yard",
          "what": []
        }
      ],
      "settings": [
        "unknown_sensors: register → keep_aside"
      ],
      "unchanged": 4
    }
    "#);
}

#[test]
fn the_same_model_changes_nothing() {
    let example = model(EXAMPLE);
    let nothing = plan(Some(&example), &example);
    assert!(nothing.is_empty());
    assert_eq!(nothing.unchanged, 34);
    assert_eq!(twin_configs(Some(&example), &example, 2), []);
    assert_eq!(plan(None, &example).added.len(), 34);
}

#[test]
fn each_twin_is_told_where_it_stands_and_how_it_is_measured() {
    insta::assert_snapshot!(told(None, BEFORE).join("\n"), @r#"
    location/helsinki {"timezone":"Europe/Helsinki","type":"site"}
    location/line-1 {"parent":"helsinki","site":"helsinki","type":"line"}
    location/cell-1 {"line":"line-1","parent":"line-1","site":"helsinki","type":"cell"}
    location/yard {"parent":"helsinki","site":"helsinki"}
    machine/cnc-07 {"cell":"cell-1","line":"line-1","location":"cell-1","name":"Mazak 07","site":"helsinki"} cycle 45
    machine/cnc-08 {"cell":"cell-1","line":"line-1","location":"cell-1","site":"helsinki"}
    "#);
}

#[test]
fn only_twins_with_news_are_told() {
    insta::assert_snapshot!(told(Some(BEFORE), AFTER).join("\n"), @r#"
    location/dock {"exit":true,"parent":"helsinki","site":"helsinki"}
    machine/cnc-07 {"cell":"cell-1","line":"line-1","location":"cell-1","name":"Mazak 07","site":"helsinki"} cycle 40 stale 30000 RUN=Producing energy_kwh:Counter:kWh:Some(1000000.0)
    location/yard removed
    "#);
}

#[test]
fn a_line_that_gets_another_name_is_news_for_all_its_machines() {
    let renamed = BEFORE.replace("line-1", "line-9");
    let twins: Vec<String> = told(Some(BEFORE), &renamed)
        .iter()
        .map(|told| told.split(' ').take(1).collect())
        .collect();
    assert_eq!(
        twins,
        [
            "location/line-9",
            "location/cell-1",
            "machine/cnc-07",
            "machine/cnc-08",
            "location/line-1"
        ]
    );
}

#[test]
fn the_kind_of_a_metric_follows_from_its_name_where_the_model_gives_none() {
    let text = "machines: [{id: m, metrics: [{name: a_kwh, unit: kWh}, {name: b_count, unit: x}, {name: execution, unit: x}, {name: d, unit: x}, {name: e, rollover_at: 9}, {name: f_kwh, kind: gauge}, {name: g}]}]";
    assert_eq!(
        told(None, text),
        [
            "machine/m {} a_kwh:Counter:kWh:None b_count:Counter:x:None execution:State:x:None d:Gauge:x:None e:Counter::Some(9.0) f_kwh:Gauge::None"
        ]
    );
}
