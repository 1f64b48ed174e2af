//! Who reads MQTT and nothing else, as Grafana's MQTT source does: the KPIs of twins as flat retained topics.

use std::net::SocketAddr;

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Packet, QoS, SubscribeReasonCode,
};
use serde_json::Value;

use super::{
    device::{Device, Hello},
    site::{Site, keys},
    within,
};

fn client(address: SocketAddr, user: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(format!("kpis-{user}"), "127.0.0.1", address.port());
    options.set_credentials(user, format!("{user}-token"));
    AsyncClient::new(options, 16)
}

/// Subscribes; whether it was granted.
async fn subscribe(client: &AsyncClient, events: &mut EventLoop, filter: &str) -> bool {
    client.subscribe(filter, QoS::AtMostOnce).await.expect("asked");
    loop {
        let event = within("a SUBACK", events.poll()).await.expect("connected");
        if let Event::Incoming(Packet::SubAck(answer)) = event {
            return matches!(answer.return_codes[..], [SubscribeReasonCode::Success(_)]);
        }
    }
}

/// The next message: topic, whether it was retained, payload.
async fn next(events: &mut EventLoop) -> (String, bool, Value) {
    loop {
        let event = within("a message", events.poll()).await.expect("connected");
        if let Event::Incoming(Packet::Publish(publish)) = event {
            let payload = serde_json::from_slice(&publish.payload).expect("JSON");
            return (publish.topic, publish.retain, payload);
        }
    }
}

async fn counted(edge: &mut Device, machine: &str, number: u16, good: u16, scrap: u16) {
    let payload = format!(
        r#"{{"sensor_id":"{machine}","message_id":"{machine}-{number}","metrics":{{"execution":"producing","good_count":{good},"scrap_count":{scrap}}}}}"#
    );
    let topic = format!("gemba/v1/acme/readings/{machine}");
    assert_eq!(edge.publish(5, &topic, number, &payload).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn kpis_come_at_once_and_again_when_they_change() {
    let site = Site::with(keys(), |_| {}).await;
    let hello = Hello {
        login: Some(("edge", "edge-token")),
        ..Hello::new(5, "edge")
    };
    let mut edge = Device::connect(site.address, &hello).await;
    counted(&mut edge, "cnc-07", 1, 10, 0).await;
    counted(&mut edge, "cnc-07", 2, 13, 1).await;
    counted(&mut edge, "cnc-08", 3, 10, 0).await;
    let (wall, mut events) = client(site.address, "wall");
    assert!(subscribe(&wall, &mut events, "gemba/v1/acme/kpis/machine/cnc-07").await);
    let (topic, retained, kpis) = next(&mut events).await;
    assert_eq!((&*topic, retained), ("gemba/v1/acme/kpis/machine/cnc-07", true));
    let quality = |kpis: &Value| kpis["quality_ratio"].as_f64();
    // KPIs of a machine are over what the lateness window has let go: it may be 3 of 4 already, or still to come.
    let mut last = quality(&kpis);
    assert!(
        kpis.as_object()
            .expect("an object")
            .values()
            .all(Value::is_number),
        "numbers only, nothing else and nothing nested: {kpis}"
    );
    while last != Some(0.75) {
        let (topic, retained, kpis) = next(&mut events).await;
        assert_eq!((&*topic, retained), ("gemba/v1/acme/kpis/machine/cnc-07", false));
        last = quality(&kpis);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_another_tenants_kpis_and_who_only_reads_cannot_send() {
    let site = Site::with(keys(), |_| {}).await;
    let (wall, mut events) = client(site.address, "wall");
    assert!(!subscribe(&wall, &mut events, "gemba/v1/globex/kpis/#").await);
    assert!(!subscribe(&wall, &mut events, "gemba/v1/+/kpis/#").await);
    let (edge, mut edge_events) = client(site.address, "edge");
    assert!(
        !subscribe(&edge, &mut edge_events, "gemba/v1/acme/kpis/#").await,
        "a device sees nothing"
    );
    wall.publish(
        "gemba/v1/acme/readings/cnc-07",
        QoS::AtLeastOnce,
        false,
        r#"{"sensor_id":"cnc-07","metrics":{"spindle_rpm":1}}"#,
    )
    .await
    .expect("handed over");
    let ended = loop {
        match within("the end", events.poll()).await {
            Ok(Event::Incoming(Packet::PubAck(_))) => panic!("acknowledged"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(ended, ConnectionError::MqttState(_) | ConnectionError::Io(_)),
        "{ended}"
    );
    assert_eq!(site.metric("cnc-07", "spindle_rpm"), None);
    site.stop().await;
}
