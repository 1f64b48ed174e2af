//! The alerts fire when they should, by Prometheus's own tool; what they and the dashboards ask for is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};

use super::{
    deploy, said_by, said_well_by, settings, string,
    support::{
        Node,
        http::Request,
        metrics::{known, read_by},
    },
    text, yaml,
};

/// Prometheus's own, not a node's.
const FOREIGN: [&str; 1] = ["up"];

fn promtool() -> Command {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/promtool");
    Command::new(if own.exists() {
        own.as_os_str()
    } else {
        "promtool".as_ref()
    })
}

fn rules() -> Vec<Value> {
    let alerts = yaml(&deploy("alerts.yml"));
    let groups = alerts["groups"].as_array().expect("groups");
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules").clone())
        .collect()
}

#[test]
fn prometheus_takes_the_rules_and_the_settings() {
    said_well_by(promtool().args(["check", "rules"]).arg(deploy("alerts.yml")));
    for settings in ["compose/prometheus.yaml", "grafana/prometheus.yaml"] {
        said_well_by(
            promtool()
                .args(["check", "config", "--syntax-only"])
                .arg(deploy(settings)),
        );
    }
}

#[test]
fn each_alert_fires_in_its_example_and_not_for_another_reason() {
    said_well_by(promtool().args(["test", "rules"]).arg(deploy("alerts.test.yml")));
    // An alert that no example makes fire may never fire at all.
    let tests = yaml(&deploy("alerts.test.yml"));
    let mut fired = BTreeSet::new();
    for example in tests["tests"].as_array().expect("tests") {
        for expected in example["alert_rule_test"].as_array().expect("expectations") {
            if !expected["exp_alerts"].as_array().expect("alerts").is_empty() {
                fired.insert(string(expected, "/alertname").to_owned());
            }
        }
    }
    let rules: BTreeSet<_> = rules()
        .iter()
        .map(|rule| string(rule, "/alert").to_owned())
        .collect();
    assert_eq!(rules, fired);

    // With other rules the examples do not come out.
    let folder = tempfile::tempdir().expect("a folder");
    let late = text(&deploy("alerts.yml")).replace("for: 30s", "for: 30m");
    std::fs::write(folder.path().join("alerts.yml"), late).expect("written");
    std::fs::copy(deploy("alerts.test.yml"), folder.path().join("alerts.test.yml")).expect("copied");
    let said = said_by(
        promtool()
            .args(["test", "rules"])
            .arg(folder.path().join("alerts.test.yml")),
    );
    assert!(
        said.expect_err("an alert comes too late")
            .contains("GembaQuorumLost")
    );
}

#[test]
fn alerts_say_how_bad_it_is_and_name_settings_that_there_are() {
    let settings = settings();
    for rule in rules() {
        let name = string(&rule, "/alert").to_owned();
        assert!(
            ["critical", "warning"].contains(&string(&rule, "/labels/severity")),
            "{name}"
        );
        assert!(!string(&rule, "/annotations/summary").is_empty());
        let description = string(&rule, "/annotations/description");
        let named = description.split(|c: char| c.is_whitespace() || "(),;:".contains(c));
        for word in named.map(|word| word.trim_end_matches('.')) {
            let section = word.split_once('.').map(|(section, _)| section);
            let is_setting = section.is_some_and(|section| {
                settings
                    .iter()
                    .any(|known| known.starts_with(&format!("{section}.")))
            });
            let all_of_a_section = word.ends_with(".*");
            assert!(
                !is_setting || all_of_a_section || settings.contains(word),
                "{name}: {word} is no setting"
            );
        }
    }
}

#[test]
fn what_alerts_and_dashboards_ask_for_is_what_nodes_have() {
    let known = known();
    let mut asked: BTreeMap<String, String> = BTreeMap::new();
    for rule in rules() {
        for metric in read_by(string(&rule, "/expr")) {
            asked.insert(metric, string(&rule, "/alert").to_owned());
        }
    }
    for test in yaml(&deploy("alerts.test.yml"))["tests"]
        .as_array()
        .expect("tests")
    {
        for series in test["input_series"].as_array().expect("series") {
            for metric in read_by(string(series, "/series")) {
                asked.insert(metric, "alerts.test.yml".into());
            }
        }
    }
    assert!(asked.len() >= 15, "only {} metrics were found", asked.len());
    for (metric, place) in &asked {
        assert!(
            known.contains(metric) || FOREIGN.contains(&metric.as_str()),
            "{place}: {metric} is no metric of a node"
        );
    }
}

#[test]
fn a_node_shows_what_can_be_seen_of_it_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), &[]);
    for reading in [
        json!({"sensor_id": "cnc-01", "metrics": {"execution": "producing"}}),
        json!({"sensor_id": "cnc-01", "metrics": {"power_kw": {"not": "a number"}}}),
    ] {
        let answer = node.call(&Request::post("/v1/readings", reading.to_string()));
        assert!([200, 400].contains(&answer.status), "{}", answer.text());
    }
    let shown = node.call(&Request::new("GET", "/metrics")).text();
    let figure = |name: &str| -> f64 {
        let line = shown.lines().find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let line = line.unwrap_or_else(|| panic!("{name} is not shown"));
        line.rsplit(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .expect("a number")
    };
    assert_eq!(figure("ingest_messages_received_total"), 2.0);
    assert_eq!(figure("ingest_messages_rejected_total"), 1.0);
    assert!(figure("journal_commit_seconds_bucket") >= 0.0);
    let (free, size) = (figure("storage_free_bytes"), figure("storage_size_bytes"));
    assert!(0.0 < free && free < size, "{free} of {size}");
}
