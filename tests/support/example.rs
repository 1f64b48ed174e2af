//! Examples of what the OpenAPI document asks for: a request that should succeed for each operation.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{
    Node,
    http::{Request, encoded},
};

/// A small plant model.
pub(crate) const PLANT: &str = "site: {id: plant-1}\nlocations: [{id: cell-1}, {id: cell-2}]\n\
                                machines: [{id: cnc-01, name: Mazak 01, location: cell-1, metrics: [{name: rpm, unit: rpm}]}]\n\
                                alarms: [{id: fast, applies_to: machine, condition: metrics.rpm > 50},
                                         {id: spinning, applies_to: machine, condition: metrics.rpm > 1}]\n";

/// A small mapping of a table.
pub(crate) const MAP: &str =
    "constants = {sensor_id = 'cnc-01'}\ncolumns = {timestamp = 'at'}\nmetrics = {rpm = 'rpm'}\n";

/// Asks for room for a file; answers the upload's id.
pub(crate) fn uploaded(node: &Node, asked: &Value) -> String {
    let answer = node.call(&Request::post("/v1/uploads", asked.to_string()));
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// Milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the node under test has a clock of its own"
)]
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("not that late")
}

/// An example of what a parameter may be, where the walk gives it.
fn example(name: &str) -> Option<String> {
    Some(match name {
        "filter" => "kind == 'machine'".to_owned(),
        "kind" => "machine".to_owned(),
        "fields" => "kpis,state.execution".to_owned(),
        "sort" => "-state.metrics.rpm.value".to_owned(),
        "limit" => "2".to_owned(),
        "at" | "to" => now_ms().to_string(),
        "metric" => "rpm".to_owned(),
        "from" | "after" => "0".to_owned(),
        "step" => "1h".to_owned(),
        "reader" => "gate-1".to_owned(),
        "mode" => "latest".to_owned(),
        "max_rate_hz" => "5".to_owned(),
        _ => return None,
    })
}

/// A call of an operation about the machine `cnc-01`, its alarms, or the first rejected message.
pub(crate) fn example_request(node: &Node, path: &str, method: &str, operation: &Value) -> Request {
    let id = if path.starts_with("/v1/rejected") {
        let rejected = node.get("/v1/rejected");
        rejected["items"][0]["id"].as_str().expect("an id").to_owned()
    } else if path.ends_with("shelve") {
        "machine:cnc-01:spinning".to_owned()
    } else if path.starts_with("/v1/alarms") {
        "machine:cnc-01:fast".to_owned()
    } else if path.starts_with("/v1/uploads/") {
        uploaded(node, &json!({"name": "a.csv", "size": 1, "map": MAP}))
    } else if method == "delete" {
        "to-remove".to_owned()
    } else {
        "cnc-01".to_owned()
    };
    let mut path = path
        .replace("{kind}", "machine")
        .replace("{id}", &id)
        .replace("{node}", "1")
        .replace("{shard}", "0");
    if path.contains("{attachment}") {
        let picture = b"\x89PNG\r\n\x1a\n";
        let upload = uploaded(
            node,
            &json!({"name": "a.png", "size": 8, "twin": "machine/cnc-01"}),
        );
        let part = Request::new("PATCH", &format!("/v1/uploads/{upload}")).header("upload-offset", "0");
        let part = part
            .header("content-type", "application/offset+octet-stream")
            .body(picture);
        assert_eq!(node.call(&part).status, 204);
        path = path.replace("{attachment}", &upload);
    }
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    for name in parameters
        .filter(|parameter| parameter["in"] == "query")
        .filter_map(|parameter| parameter["name"].as_str())
    {
        if let Some(value) = example(name) {
            let sign = if path.contains('?') { '&' } else { '?' };
            path.push_str(&format!("{sign}{name}={}", encoded(&value)));
        }
    }
    let request = Request::new(&method.to_uppercase(), &path).header("upload-offset", "0");
    let Some(content) = operation["requestBody"]["content"].as_object() else {
        return request;
    };
    let (kind, written) = content.iter().next().expect("a content type");
    let body = match (written["schema"]["$ref"].as_str(), kind.as_str()) {
        (Some("#/components/schemas/Reading"), _) => {
            r#"{"sensor_id":"cnc-01","metrics":{"rpm":5}}"#.to_owned()
        }
        (Some("#/components/schemas/Refold"), _) => r#"{"twins":["machine/cnc-01"],"apply":true}"#.to_owned(),
        (Some("#/components/schemas/Fork"), _) => {
            r#"{"events":[{"sensor_id":"cnc-01","metrics":{"rpm":7}}],"model":{"machines":[{"id":"cnc-01","ideal_cycle":"5s"}]}}"#
                .to_owned()
        }
        (Some("#/components/schemas/NewUpload"), _) => json!({"name": "b.csv", "size": 1, "map": MAP}).to_string(),
        (_, "application/offset+octet-stream") => "x".to_owned(),
        (Some("#/components/schemas/DashboardContent"), _) => r#"{"title":"Wall"}"#.to_owned(),
        (Some("#/components/schemas/Scan"), _) => r#"{"job_id":"job-1","location":"cell-1"}"#.to_owned(),
        (Some("#/components/schemas/Comment"), _) => r#"{"comment":"seen"}"#.to_owned(),
        (Some("#/components/schemas/Shelve"), _) => r#"{"for":"30m"}"#.to_owned(),
        (Some("#/components/schemas/Reads"), _) => r#"{"reads":["E2801170200014CD9B5A08EC"]}"#.to_owned(),
        (Some("#/components/schemas/Epcis"), _) => json!({
            "type": "ObjectEvent", "action": "OBSERVE", "eventTime": "2026-01-15T10:00:00Z", "eventTimeZoneOffset": "+00:00",
            "epcList": ["urn:epc:id:sgtin:0614141.812345.6789"], "readPoint": {"id": "cell-1"},
        })
        .to_string(),
        (_, _) if path.starts_with("/v1/rfid/impinj") => {
            json!({"eventType": "tagInventory", "hostname": "gate-1", "tagInventoryEvent": {"epcHex": "E2801170200014CD9B5A08EC"}})
                .to_string()
        }
        (_, _) if path.starts_with("/v1/rfid/zebra") => {
            json!({"type": "SIMPLE", "data": {"idHex": "E2801170200014CD9B5A08EC", "antenna": 1}}).to_string()
        }
        (_, "application/merge-patch+json") => r#"{"note":"seen"}"#.to_owned(),
        (_, "application/yaml") => PLANT.to_owned(),
        (_, "application/json") if path.starts_with("/v1/plant") => json!({"site": {"id": "p"}}).to_string(),
        _ => panic!("{method} {path} takes {written}: give this walk an example of it"),
    };
    request.header("content-type", kind).body(body)
}
