//! A kept client library against the listener, for both versions.

use std::time::Duration;

use super::{
    site::{Site, keys},
    within,
};

const READING: &str = r#"{"metrics":{"cycle_count":7}}"#;
const TOPIC: &str = "gemba/v1/acme/readings/cnc-07";

#[tokio::test(flavor = "multi_thread")]
async fn rumqttc_for_3_1_1_publishes_subscribes_and_leaves() {
    use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS, SubscribeReasonCode};
    let site = Site::with(keys(), |_| {}).await;
    let mut options = MqttOptions::new("cnc-07", "127.0.0.1", site.address.port());
    options
        .set_credentials("edge", "edge-token")
        .set_keep_alive(Duration::from_secs(5));
    let (client, mut events) = AsyncClient::new(options, 10);
    client
        .subscribe("gemba/v1/acme/devices/edge/#", QoS::AtLeastOnce)
        .await
        .expect("asked");
    client
        .publish(TOPIC, QoS::AtLeastOnce, true, READING)
        .await
        .expect("asked");
    let (mut granted, mut acknowledged) = (None, false);
    within("both answers", async {
        while granted.is_none() || !acknowledged {
            match events.poll().await.expect("connected") {
                Event::Incoming(Packet::SubAck(answer)) => granted = answer.return_codes.first().copied(),
                Event::Incoming(Packet::PubAck(_)) => acknowledged = true,
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(granted, Some(SubscribeReasonCode::Success(QoS::AtLeastOnce)));
    assert_eq!(site.metric("cnc-07", "cycle_count"), Some(7.0));
    client.disconnect().await.expect("asked");
    within("the end", async {
        while !matches!(events.poll().await, Ok(Event::Outgoing(Outgoing::Disconnect))) {}
    })
    .await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rumqttc_for_5_learns_the_limits_and_the_reasons() {
    use rumqttc::v5::{
        AsyncClient, Event, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{Packet, PubAckReason},
        },
    };
    let site = Site::with(keys(), |_| {}).await;
    let mut options = MqttOptions::new("cnc-07", "127.0.0.1", site.address.port());
    options
        .set_credentials("edge", "edge-token")
        .set_keep_alive(Duration::from_secs(5));
    let (client, mut events) = AsyncClient::new(options, 10);
    client
        .publish(TOPIC, QoS::AtLeastOnce, false, READING)
        .await
        .expect("asked");
    client
        .publish(TOPIC, QoS::AtLeastOnce, false, "{")
        .await
        .expect("asked");
    client
        .publish("gemba/v1/globex/readings/x", QoS::AtLeastOnce, false, READING)
        .await
        .expect("asked");
    let (mut limits, mut reasons) = (None, Vec::new());
    within("the acknowledgements", async {
        while reasons.len() < 3 {
            // A reason that says no comes to this client as an error of its own, after the event.
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(connack))) => limits = connack.properties,
                Ok(Event::Incoming(Packet::PubAck(answer))) => reasons.push(answer.reason),
                _ => {}
            }
        }
    })
    .await;
    let limits = limits.expect("limits");
    assert_eq!(
        (limits.max_qos, limits.retain_available, limits.topic_alias_max),
        (Some(1), Some(0), Some(0))
    );
    assert_eq!(
        reasons,
        [
            PubAckReason::Success,
            PubAckReason::PayloadFormatInvalid,
            PubAckReason::NotAuthorized
        ]
    );
    assert_eq!(site.metric("cnc-07", "cycle_count"), Some(7.0));
    site.stop().await;
}
