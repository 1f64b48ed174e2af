//! A shard that cannot come back says so: nobody waits for it for ever, and nothing is said of its twins.

use std::fs;

use gemba_runtime::{node::Node, settings::NodeSettings};
use gemba_twins::id::TwinId;

use super::{Message, acme, node, submit};

#[tokio::test]
async fn who_asks_for_a_twin_of_a_damaged_shard_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = node(folder.path(), |_| {}).await;
    for (message_id, metric) in [("m-1", "damaged_metric"), ("m-2", "whole_metric")] {
        let json = format!(
            r#"{{"sensor_id":"press-1","sensor_type":"MACHINE","message_id":"{message_id}","metrics":{{"{metric}":1}}}}"#
        );
        let reading = Message::Reading {
            sensor: None,
            json: json.as_bytes(),
        };
        submit(&running, [reading]).await;
    }
    running.stop().await;
    drop(running);
    fs::remove_file(folder.path().join("state.redb")).expect("no state: all is folded again");
    let segment = folder.path().join("journal/segment-000000000001.redb");
    let mut bytes = fs::read(&segment).expect("a segment");
    let places: Vec<usize> = (0..bytes.len())
        .filter(|at| bytes[*at..].starts_with(b"damaged_metric"))
        .collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at] ^= 1);
    fs::write(&segment, bytes).expect("written");

    let mut settings = NodeSettings::new(folder.path().to_owned());
    settings.shards = 4;
    let damaged = Node::start(settings).await.expect("the others come back");
    let id = |path: &str| TwinId::parse(acme(), path).expect("an address");
    let told = damaged.recovered(&id("machine/press-1")).await;
    let told = told.expect_err("its shard is damaged").to_string();
    assert!(told.contains("could not be recovered"), "{told}");
    assert!(damaged.all_recovered().await.is_err());
    assert!(damaged.events(&id("machine/press-1"), 0, 10).await.is_err());
    assert!(!damaged.is_ready());
    damaged.stop().await;
}
