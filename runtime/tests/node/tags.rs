//! From a reader's many reads to few scans, and from EPCIS events to a job's path: durable, counted, taken back.

use gemba_runtime::{
    decode::RfidFormat,
    ingest::{Message, Outcome},
    node::Node,
    plant::PlantModel,
};
use serde_json::{Value, json};

use super::{acme, node, submit, twin};

const PLANT: &str = r#"
version: 1
unknown_sensors: keep_aside
locations: [{id: goods-in}, {id: mill}, {id: shipping, exit: true}]
readers:
  - {id: gate-1, location: goods-in, antennas: {2: mill}}
  - {id: dock, location: shipping, read_points: ["https://example.org/dock/1"]}
epcs:
  - {match: "urn:epc:id:sgtin:0614141.812345.*", job: "J-{serial}"}
  - {match: "E28011*", ignore: true}
"#;
const TAG: &str = "3074257BF7194E4000001A85";
/// 2026-02-02T06:00:00Z.
const START_MS: i64 = 1_770_012_000_000;

async fn plant(node: &Node) {
    let model = PlantModel::parse(PLANT).expect("a model");
    node.apply_plant(&acme(), model, "test").await.expect("applied");
}

fn read(second: i64, antenna: u32, rssi: i32) -> Value {
    json!({"epc": TAG, "antenna": antenna, "rssi": rssi, "timestamp": START_MS + second * 1_000})
}

async fn reads(node: &Node, payload: &Value) -> Outcome {
    let payload = payload.to_string();
    let message = Message::Rfid {
        format: RfidFormat::Generic,
        reader: Some("gate-1"),
        payload: payload.as_bytes(),
    };
    let outcomes = submit(node, [message]).await;
    outcomes.into_iter().next().expect("an outcome")
}

async fn capture(node: &Node, event: &Value) -> Outcome {
    let payload = event.to_string();
    let message = Message::Epcis {
        payload: payload.as_bytes(),
    };
    let outcomes = submit(node, [message]).await;
    outcomes.into_iter().next().expect("an outcome")
}

fn path(node: &Node, job: &str) -> Vec<String> {
    let twin = twin(node, &format!("job/{job}"));
    let path = twin["state"]["path"].as_array().cloned().unwrap_or_default();
    path.iter()
        .map(|visit| visit["location"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn scans(node: &Node, job: &str) -> Value {
    twin(node, &format!("job/{job}"))["kpis"]["scans"].clone()
}

#[tokio::test]
async fn thousands_of_reads_are_a_few_scans_and_all_are_accounted_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = node(folder.path(), |_| {}).await;
    plant(&running).await;
    // Ten reads a second for half a minute, with echoes at the next antenna.
    for second in 0..30 {
        let mut batch: Vec<Value> = (0..10).map(|_| read(second, 1, -50)).collect();
        batch.push(read(second, 2, -65));
        assert_eq!(
            reads(&running, &json!({ "reads": batch })).await,
            Outcome::Applied
        );
    }
    assert_eq!(
        (path(&running, "J-6789"), scans(&running, "J-6789")),
        (vec!["goods-in".into()], json!(1.0))
    );
    assert_eq!(reads(&running, &read(40, 2, -45)).await, Outcome::Applied);
    assert_eq!(path(&running, "J-6789"), ["goods-in", "mill"]);
    // When it was seen last at the gate is written down with the move.
    assert_eq!(scans(&running, "J-6789"), json!(3.0));
    assert_eq!(
        reads(&running, &json!({"epc": "E280117020"})).await,
        Outcome::Applied,
        "a badge"
    );
    let counts = running.counts(&acme());
    let counted = counts
        .iter()
        .find(|counts| &*counts.source == "test")
        .expect("counts");
    assert_eq!((counted.received, counted.in_flight), (32, 0));
    assert_eq!(
        counted.received,
        counted.applied + counted.duplicate + counted.late + counted.rejected
    );

    // A restart costs one scan at the same place, which changes nothing.
    running.stop().await;
    drop(running);
    let running = node(folder.path(), |_| {}).await;
    assert_eq!(reads(&running, &read(45, 2, -45)).await, Outcome::Applied);
    assert_eq!(reads(&running, &read(46, 2, -45)).await, Outcome::Applied);
    assert_eq!(path(&running, "J-6789"), ["goods-in", "mill"]);
    assert_eq!(scans(&running, "J-6789"), json!(4.0));
    running.stop().await;
}

#[tokio::test]
async fn a_message_of_which_one_read_cannot_be_bound_is_kept_and_the_others_count_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = node(folder.path(), |_| {}).await;
    plant(&running).await;
    let other = json!({"epc": "unknown-tag", "antenna": 1, "timestamp": START_MS});
    let message = json!({"reads": [read(0, 1, -50), other]});
    let Outcome::Rejected(rejection) = reads(&running, &message).await else {
        panic!("not rejected")
    };
    assert_eq!(rejection.code, "rfid.epc_unknown");
    assert_eq!(path(&running, "J-6789"), ["goods-in"]);
    let (kept, _) = running.rejected(&acme(), None, 10).await.expect("a list");
    assert_eq!((kept.len(), &*kept[0].topic), (1, "gate-1"));
    let model =
        PlantModel::parse(&format!("{PLANT}  - {{match: unknown-*, job: found}}\n")).expect("a model");
    running
        .apply_plant(&acme(), model, "test")
        .await
        .expect("applied");
    let retried = running
        .retry_rejected(&acme(), &kept[0].id)
        .await
        .expect("an answer");
    assert!(matches!(retried, Some(Outcome::Applied)), "{retried:?}");
    assert_eq!(
        (path(&running, "found"), scans(&running, "J-6789")),
        (vec!["goods-in".into()], json!(1.0))
    );
    let (kept, _) = running.rejected(&acme(), None, 10).await.expect("a list");
    assert!(kept.is_empty());
    running.stop().await;
}

fn seen(id: &str, minute: i64, place: &str) -> Value {
    let at = gemba_twins::time::Timestamp::from_ms(START_MS + minute * 60_000);
    json!({
        "type": "ObjectEvent", "action": "OBSERVE", "eventID": id, "eventTime": at, "eventTimeZoneOffset": "+02:00",
        "epcList": ["urn:epc:id:sgtin:0614141.812345.1"], "readPoint": {"id": place},
    })
}

#[tokio::test]
async fn an_epcis_event_counts_once_and_an_error_declaration_takes_it_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = node(folder.path(), |_| {}).await;
    plant(&running).await;
    assert_eq!(
        capture(&running, &seen("urn:uuid:1", 0, "goods-in")).await,
        Outcome::Applied
    );
    assert_eq!(
        capture(&running, &seen("urn:uuid:1", 0, "goods-in")).await,
        Outcome::Duplicate
    );
    assert_eq!(
        capture(&running, &seen("urn:uuid:2", 5, "mill")).await,
        Outcome::Applied
    );
    let shipped = seen("urn:uuid:3", 9, "https://example.org/dock/1");
    assert_eq!(capture(&running, &shipped).await, Outcome::Applied);
    assert_eq!(path(&running, "J-1"), ["goods-in", "mill", "shipping"]);
    assert_eq!(twin(&running, "job/J-1")["state"]["status"], "completed");

    let mut wrong = shipped;
    wrong["errorDeclaration"] =
        json!({"declarationTime": "2026-02-02T07:00:00Z", "reason": "incorrect_data"});
    assert_eq!(
        capture(&running, &wrong).await,
        Outcome::Late,
        "history was corrected"
    );
    assert_eq!(capture(&running, &wrong).await, Outcome::Duplicate);
    assert_eq!(path(&running, "J-1"), ["goods-in", "mill"]);
    assert_eq!(twin(&running, "job/J-1")["state"]["status"], "in_progress");
    let Outcome::Rejected(rejection) = capture(&running, &seen("urn:uuid:4", 10, "elsewhere")).await else {
        panic!("not rejected")
    };
    assert_eq!(rejection.code, "scan.location_unknown");
    running.stop().await;
}
