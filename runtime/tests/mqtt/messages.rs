//! What becomes of messages: visible when acknowledged, counted once, rejected by name.

use super::{
    device::{Device, Hello, publish},
    site::{Site, keys},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_reading_is_visible_at_once() {
    let site = Site::open().await;
    for level in [4, 5] {
        let mut device = Device::connect(site.address, &Hello::new(level, "cnc-07")).await;
        for count in 1..=20_u16 {
            let reading = format!(
                r#"{{"sensor_id":"cnc-07","message_id":"{level}-{count}","metrics":{{"cycle_count":{count}}}}}"#
            );
            assert_eq!(
                device
                    .publish(level, "gemba/v1/acme/readings/cnc-07", count, &reading)
                    .await,
                0
            );
            assert_eq!(site.metric("cnc-07", "cycle_count"), Some(f64::from(count)));
        }
    }
    assert_eq!(site.counts("acme", "mqtt").received, 40);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_come_in_order_also_for_many_messages_in_one_write() {
    let site = Site::open().await;
    let mut device = Device::connect(site.address, &Hello::new(4, "cnc-07")).await;
    let mut bytes = Vec::new();
    for id in 1..=2_000_u16 {
        let reading = format!(
            r#"{{"sensor_id":"s-{}","message_id":"{id}","metrics":{{"count":{id}}}}}"#,
            id % 37
        );
        bytes.extend_from_slice(&publish(
            4,
            &format!("gemba/v1/acme/readings/s-{}", id % 37),
            id,
            reading.as_bytes(),
        ));
        if id % 500 == 0 {
            bytes.extend_from_slice(&[0xc0, 0]);
        }
    }
    device.send(&bytes).await;
    for id in 1..=2_000_u16 {
        assert_eq!(
            device.next().await.expect("a PUBACK"),
            [&[0x40, 2][..], &id.to_be_bytes()].concat()
        );
        if id % 500 == 0 {
            assert_eq!(device.next().await.expect("a PINGRESP"), [0xd0, 0]);
        }
    }
    let counts = site.counts("acme", "mqtt");
    assert_eq!((counts.received, counts.applied), (2_000, 2_000));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_sent_again_counts_once() {
    let site = Site::open().await;
    let reading = r#"{"sensor_id":"cnc-07","message_id":"m-1","metrics":{"cycle_count":7}}"#;
    for level in [4, 5, 4] {
        let mut device = Device::connect(site.address, &Hello::new(level, "cnc-07")).await;
        assert_eq!(
            device
                .publish(level, "gemba/v1/acme/readings/cnc-07", 9, reading)
                .await,
            0
        );
    }
    let counts = site.counts("acme", "mqtt");
    assert_eq!((counts.applied, counts.duplicate), (1, 2));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_acknowledged_and_kept_with_its_reason() {
    let site = Site::open().await;
    let topic = "gemba/v1/acme/readings/cnc-07";
    let mut device = Device::connect(site.address, &Hello::new(5, "cnc-07")).await;
    assert_eq!(device.publish(5, topic, 1, "{").await, 0x99);
    assert_eq!(
        device
            .publish(5, topic, 2, r#"{"metrics":{"t":"NaN","u":[1]}}"#)
            .await,
        0x99
    );
    assert_eq!(device.publish(5, "plant/7/temperature", 3, "21.5").await, 0x90);
    assert_eq!(device.publish(5, topic, 4, r#"{"metrics":{"good":1}}"#).await, 0);
    // 3.1.1 has no reasons.
    let mut device = Device::connect(site.address, &Hello::new(4, "cnc-08")).await;
    assert_eq!(
        device.publish(4, "gemba/v2/acme/readings/cnc-08", 1, "{}").await,
        0
    );
    let counts = site.counts("acme", "mqtt");
    assert_eq!((counts.received, counts.applied, counts.rejected), (5, 1, 4));
    let codes = site.rejected("acme").await;
    assert_eq!(
        codes.iter().filter(|code| *code == "mqtt.topic_unknown").count(),
        2,
        "{codes:?}"
    );
    assert_eq!(codes.len(), 4, "{codes:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn qos_0_is_taken_and_not_answered() {
    let site = Site::open().await;
    let mut device = Device::connect(site.address, &Hello::new(4, "cnc-07")).await;
    device
        .send(&publish(
            4,
            "gemba/v1/acme/readings/cnc-07",
            0,
            br#"{"metrics":{"rpm":8000}}"#,
        ))
        .await;
    // The answer to what follows comes when the message is visible: answers keep their order.
    device.send(&[0xc0, 0]).await;
    assert_eq!(device.next().await.expect("a PINGRESP"), [0xd0, 0]);
    assert_eq!(site.metric("cnc-07", "rpm"), Some(8_000.0));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_moves_its_job() {
    let site = Site::open().await;
    let mut device = Device::connect(site.address, &Hello::new(4, "gate-1")).await;
    let scan = r#"{"job_id":"job-4711","location":"cell-2","message_id":"s-1"}"#;
    assert_eq!(device.publish(4, "gemba/v1/acme/scans/gate-1", 1, scan).await, 0);
    assert_eq!(
        site.field("acme", "job", "job-4711", "/state/location"),
        Some("cell-2".into())
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_topic_is_refused_and_nothing_of_it_is_kept() {
    let site = Site::with(keys(), |_| {}).await;
    let reading = r#"{"metrics":{"rpm":1}}"#;
    let hello = |level| Hello {
        login: Some(("edge", "edge-token")),
        ..Hello::new(level, "edge-1")
    };
    // MQTT 5 can say no to one message.
    let mut device = Device::connect(site.address, &hello(5)).await;
    assert_eq!(
        device
            .publish(5, "gemba/v1/globex/readings/cnc-07", 1, reading)
            .await,
        0x87
    );
    assert_eq!(
        device
            .publish(5, "gemba/v1/acme/readings/cnc-07", 2, reading)
            .await,
        0
    );
    // Both in one write, the foreign one between two of its own.
    let mut bytes = publish(5, "gemba/v1/acme/readings/a", 3, reading.as_bytes());
    bytes.extend_from_slice(&publish(5, "gemba/v1/globex/scans/b", 4, b"{}"));
    bytes.extend_from_slice(&publish(5, "gemba/v1/acme/readings/c", 5, reading.as_bytes()));
    device.send(&bytes).await;
    assert_eq!(device.next().await.expect("a PUBACK"), [0x40, 2, 0, 3]);
    assert_eq!(device.next().await.expect("a PUBACK"), [0x40, 3, 0, 4, 0x87]);
    assert_eq!(device.next().await.expect("a PUBACK"), [0x40, 2, 0, 5]);
    // 3.1.1 can only close; what came before still counts.
    let mut device = Device::connect(site.address, &hello(4)).await;
    let mut bytes = publish(4, "gemba/v1/acme/readings/d", 6, reading.as_bytes());
    bytes.extend_from_slice(&publish(4, "gemba/v1/globex/readings/e", 7, reading.as_bytes()));
    device.send(&bytes).await;
    assert_eq!(device.last_words().await, [0x40, 2, 0, 6]);

    assert_eq!(site.counts("acme", "mqtt").applied, 4);
    assert!(site.node.counts(&super::site::tenant("globex")).is_empty());
    assert_eq!(site.field("globex", "machine", "cnc-07", ""), None);
    assert!(site.rejected("globex").await.is_empty());
    site.stop().await;
}
