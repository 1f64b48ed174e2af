//! What cannot be bound is kept over restarts, and counts once when it is retried.

use gemba_runtime::{ingest::Outcome, plant::PlantModel};

use super::{Message, acme, node, submit, twin};

const ASIDE: &str = "version: 1\nsite: {id: works}\nunknown_sensors: keep_aside\n";
const KNOWN: &str =
    "version: 1\nsite: {id: works}\nunknown_sensors: keep_aside\nmachines:\n  - {id: press-1}\n";

#[tokio::test]
async fn a_rejected_message_waits_for_its_sensor_to_be_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = node(folder.path(), |_| {}).await;
    let model = |text: &str| PlantModel::parse(text).expect("a model");
    running
        .apply_plant(&acme(), model(ASIDE), "test")
        .await
        .expect("applied");
    let json =
        br#"{"sensor_id":"press-1","sensor_type":"MACHINE","message_id":"m-1","metrics":{"stroke":7}}"#;
    let reading = || Message::Reading { sensor: None, json };
    let [Outcome::Rejected(rejection)] = &submit(&running, [reading()]).await[..] else {
        panic!("not rejected")
    };
    assert_eq!(rejection.code, "reading.sensor_unknown");
    // Sent again it is kept again: it never came to count.
    assert!(matches!(
        submit(&running, [reading()]).await[..],
        [Outcome::Rejected(_)]
    ));
    running.stop().await;
    drop(running);

    let running = node(folder.path(), |_| {}).await;
    let (kept, _) = running.rejected(&acme(), None, 10).await.expect("a list");
    assert_eq!(kept.len(), 2);
    assert_eq!(
        (&*kept[0].code, &kept[0].payload[..]),
        ("reading.sensor_unknown", &json[..])
    );
    let (id, again) = (kept[0].id.clone(), kept[1].id.clone());
    let refused = running.retry_rejected(&acme(), &id).await.expect("an answer");
    assert!(matches!(refused, Some(Outcome::Rejected(_))), "{refused:?}");

    running
        .apply_plant(&acme(), model(KNOWN), "test")
        .await
        .expect("applied");
    assert_eq!(
        running.retry_rejected(&acme(), &id).await.expect("an answer"),
        Some(Outcome::Applied)
    );
    assert_eq!(
        running.retry_rejected(&acme(), &again).await.expect("an answer"),
        Some(Outcome::Duplicate)
    );
    assert_eq!(
        twin(&running, "machine/press-1").pointer("/state/metrics/stroke/value"),
        Some(&7.0.into())
    );
    assert_eq!(
        running.retry_rejected(&acme(), &id).await.expect("an answer"),
        None
    );
    assert!(
        running
            .rejected(&acme(), None, 10)
            .await
            .expect("a list")
            .0
            .is_empty()
    );
    running.stop().await;
}
