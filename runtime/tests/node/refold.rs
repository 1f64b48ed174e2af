//! Back-fill: after a parameter of the plant model changed, the past is folded again by it, shown, and taken over.

use gemba_runtime::{
    node::{Node, refold::RefoldedTwin},
    plant::PlantModel,
};
use gemba_twins::{id::TwinId, time::Timestamp, twin::Twin};
use serde_json::{Value, json};

use super::{acme, clock, message, node, submit, twin};

fn plant(terms: &str) -> PlantModel {
    let text = format!("machines: [{{id: cnc-1, ideal_cycle: 30s{terms}}}, {{id: cnc-2}}]");
    PlantModel::parse(&text).expect("a model")
}

fn id(path: &str) -> TwinId {
    TwinId::parse(acme(), path).expect("an address")
}

async fn feed(node: &Node, sensor: &str, at: Timestamp, parts: u32) {
    let json = json!({
        "sensor_id": sensor,
        "timestamp": at,
        "metrics": {"execution": "producing", "part_count": parts, "power_kw": 6 + parts},
    });
    submit(node, [message(false, &json.to_string())]).await;
}

async fn refold(node: &Node, path: &str, from: Option<Timestamp>) -> RefoldedTwin {
    let mut refolded = node.refold(vec![id(path)], from).await.expect("folded again");
    refolded.pop().expect("a twin")
}

fn shown(twin: &Twin, at: Timestamp) -> Value {
    serde_json::to_value(twin.view(at)).expect("JSON")
}

#[tokio::test]
async fn the_past_is_folded_again_by_todays_model_and_taken_over_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let now = clock::now();
    let at = |s: i64| now.plus_ms(s * 1_000);
    let before = {
        let node = node(folder.path(), |_| {}).await;
        node.apply_plant(&acme(), plant(""), "kim")
            .await
            .expect("applied");
        for (s, parts) in [(-60, 0), (-30, 1), (-1, 2)] {
            feed(&node, "cnc-1", at(s), parts).await;
            feed(&node, "cnc-2", at(s), parts).await;
        }
        let agreed = plant(", contract: {metrics: {power_kw: {max: 7}}}");
        node.apply_plant(&acme(), agreed, "kim").await.expect("applied");

        // The contract came after the readings, so none was held against it; from the beginning, one breaks it.
        let refolded = refold(&node, "machine/cnc-1", None).await;
        let (live, again) = (shown(&refolded.before, now), shown(&refolded.after, now));
        assert_eq!(live, twin(&node, "machine/cnc-1"));
        assert_eq!(live["state"]["data_quality"], Value::Null);
        assert_eq!(again["state"]["data_quality"]["violations"], json!(1));
        assert_eq!(again["state"]["quality"], json!("suspect"));
        assert_eq!(again["kpis"], live["kpis"]);
        // From now on is as it is.
        let since = refold(&node, "machine/cnc-1", Some(at(3_600))).await;
        assert_eq!(shown(&since.after, now)["state"], live["state"]);
        // What does not differ does not differ by a bit.
        let other = refold(&node, "machine/cnc-2", None).await;
        let without_rev = |twin: &Twin| {
            let mut shown = shown(twin, now);
            shown["rev"] = Value::Null;
            shown["seq"] = Value::Null;
            shown["updated_at"] = Value::Null;
            shown
        };
        assert_eq!(without_rev(&other.before), without_rev(&other.after));

        // A reading that comes in between is in what is taken over.
        feed(&node, "cnc-1", at(0), 3).await;
        let rev = node.take_over(refolded, "kim").await.expect("taken over");
        let taken = twin(&node, "machine/cnc-1");
        assert_eq!(taken["rev"], json!(rev));
        assert!(rev > live["rev"].as_u64().expect("a rev"));
        assert_eq!(taken["state"]["metrics"]["part_count"]["value"], json!(3.0));
        assert_eq!(taken["state"]["data_quality"]["violations"], json!(2));
        feed(&node, "cnc-1", at(1), 4).await;
        let before = twin(&node, "machine/cnc-1");
        assert_eq!(before["state"]["data_quality"]["violations"], json!(3));
        node.stop().await;
        before
    };
    // Replayed from zero it is the same.
    std::fs::remove_file(folder.path().join("state.redb")).expect("no state");
    let node = node(folder.path(), |_| {}).await;
    let after = twin(&node, "machine/cnc-1");
    assert_eq!((&after["rev"], &after["kpis"]), (&before["rev"], &before["kpis"]));
    assert_eq!(after["state"], before["state"]);
    // Folded once more there is nothing to take over.
    let again = refold(&node, "machine/cnc-1", None).await;
    assert_eq!(
        shown(&again.after, now)["state"],
        shown(&again.before, now)["state"]
    );
    node.stop().await;
}
