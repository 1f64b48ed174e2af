//! The dashboards for Grafana ask only what the node answers: every address is called, every metric is looked for.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};
use support::{
    Node,
    http::Request,
    metrics::{known, read_by},
};

/// Calls `found` with every object below a value.
fn walk(value: &Value, found: &mut dyn FnMut(&Value)) {
    found(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
        Value::Object(map) => map.values().for_each(|item| walk(item, found)),
        _ => {}
    }
}

fn dashboards() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/dashboards");
    let files = fs::read_dir(folder).expect("the folder");
    let mut all: Vec<_> = files
        .map(|file| {
            let path = file.expect("a file").path();
            let text = fs::read_to_string(&path).expect("text");
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, serde_json::from_str(&text).expect("JSON"))
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// What stands at a dotted selector; a list's first item stands for the list.
fn at<'v>(value: &'v Value, selector: &str) -> &'v Value {
    selector
        .split('.')
        .filter(|part| !part.is_empty())
        .fold(value, |value, part| &value[part])
}

#[test]
fn every_address_answers_and_every_column_is_in_the_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), &[]);
    let plant = "site: {id: works}\nlocations: [{id: cell-1, name: Cell 1}]\n\
                 machines: [{id: cnc-01, name: Mazak, location: cell-1, ideal_cycle: 10s}]\n\
                 sensors: [{id: air-1, feeds: location/cell-1, type: AIR_QUALITY}]\n";
    assert_eq!(
        node.call(&Request::new("PUT", "/v1/plant").body(plant)).status,
        200
    );
    for cycles in [10, 12] {
        let machine = json!({"sensor_id": "cnc-01", "metrics": {"execution": "producing", "cycle_count": cycles,
            "good_count": cycles, "scrap_count": 0, "energy_kwh": cycles, "power_kw": 4.5}});
        let air = json!({"sensor_id": "air-1", "metrics": {"co2_ppm": 900, "pm25_ugm3": 7.5}});
        for reading in [machine, air] {
            let answer = node.call(&Request::post("/v1/readings", reading.to_string()));
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    let mut called = 0;
    for (file, dashboard) in dashboards() {
        walk(&dashboard, &mut |query| {
            let (Some(url), Some(columns)) = (query["url"].as_str(), query["columns"].as_array()) else {
                return;
            };
            let path = url
                .replace("${machine}", "cnc-01")
                .replace("${__from}", "0")
                .replace("${__to}", "4102444800000");
            assert!(
                !path.contains("${"),
                "{file}: a variable that nobody fills in {path}"
            );
            let answer = node.get(&path);
            let rows = at(&answer, query["root_selector"].as_str().unwrap_or_default());
            let row = rows.get(0).unwrap_or(rows);
            // A filter may leave nothing over.
            if path.contains("filter=") && row.is_array() {
                called += 1;
                return;
            }
            for column in columns {
                let selector = column["selector"].as_str().expect("a selector");
                let parent = selector.rsplit_once('.').map_or("", |(parent, _)| parent);
                let known = !at(row, selector).is_null()
                    // A KPI over too little data is null, and its name is there all the same.
                    || at(row, parent).as_object().is_some_and(|map| map.contains_key(selector.rsplit('.').next().unwrap_or_default()))
                    // Of a place that no job has left there is no mean stay.
                    || selector == "kpis.dwell_s_mean";
                assert!(known, "{file}: nothing is at {selector} of {path}: {row}");
            }
            called += 1;
        });
    }
    assert!(called >= 12, "only {called} addresses were found");
}

#[test]
fn every_metric_that_is_drawn_is_one_that_the_node_has() {
    let known = known();
    let mut seen = 0;
    for (file, dashboard) in dashboards() {
        walk(&dashboard, &mut |query| {
            let Some(expr) = query["expr"].as_str() else {
                return;
            };
            let metrics = read_by(expr);
            assert!(!metrics.is_empty(), "{file}: no metric in {expr}");
            for metric in metrics {
                assert!(
                    known.contains(&metric),
                    "{file}: {metric} is no metric of the node"
                );
            }
            seen += 1;
        });
    }
    assert!(seen >= 8, "only {seen} expressions were found");
}

#[test]
fn the_dashboards_have_ids_of_their_own_and_panels_that_do_not_overlap() {
    let mut uids = BTreeSet::new();
    for (file, dashboard) in dashboards() {
        assert!(
            uids.insert(dashboard["uid"].as_str().expect("a uid").to_owned()),
            "{file}"
        );
        let mut taken = BTreeSet::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            let part = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
            for x in part("x")..part("x") + part("w") {
                assert!(x < 24, "{file}: a panel is wider than the grid");
                for y in part("y")..part("y") + part("h") {
                    assert!(taken.insert((x, y)), "{file}: panels overlap at {x}, {y}");
                }
            }
        }
    }
    assert_eq!(uids.len(), 4);
}
