//! The connector against a real broker: three decoders, breaks on either side, and what a broker may do to us.

use gemba_runtime::mqtt::{BrokerDecoder, BrokerSettings, BrokerSubscription, run_broker};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    mosquitto::Broker,
    site::{Site, tenant},
    within,
};

/// A connector that runs.
struct Connector {
    task: JoinHandle<()>,
    shutdown: watch::Sender<bool>,
}

impl Connector {
    fn start(site: &Site, broker: &Broker) -> Self {
        let subscription = |topic: &str, decoder| BrokerSubscription {
            topic: topic.into(),
            qos: 1,
            decoder,
        };
        let settings = BrokerSettings {
            name: "plant".into(),
            url: broker.url(),
            client_id: "gemba-plant".into(),
            tenant: tenant("acme"),
            subscriptions: vec![
                subscription("application/+/device/+/event/+", BrokerDecoder::ChirpStack),
                subscription("v3/+/devices/+/up", BrokerDecoder::TheThingsStack),
                subscription("#", BrokerDecoder::Native),
            ],
            ca: None,
            certificate: None,
            certificate_key: None,
        };
        let (shutdown, told) = watch::channel(false);
        let ingest = site.node.ingest().clone();
        let task = tokio::spawn(async move {
            run_broker(settings, ingest, told)
                .await
                .expect("settings that work")
        });
        Self { task, shutdown }
    }

    async fn stop(self) {
        self.shutdown.send(true).expect("it runs");
        within("the connector's end", self.task).await.expect("no panic");
    }
}

/// A publisher at the broker, which waits for each acknowledgement.
struct Publisher {
    client: AsyncClient,
    events: rumqttc::EventLoop,
}

impl Publisher {
    async fn connect(broker: &Broker) -> Self {
        let mut options = MqttOptions::new("publisher", "127.0.0.1", broker.port);
        options.set_max_packet_size(4 << 20, 4 << 20);
        let (client, events) = AsyncClient::new(options, 10);
        Self { client, events }
    }

    async fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.client
            .publish(topic, QoS::AtLeastOnce, false, payload)
            .await
            .expect("asked");
        within("the broker's acknowledgement", async {
            while !matches!(self.events.poll().await, Ok(Event::Incoming(Packet::PubAck(_)))) {}
        })
        .await;
    }

    async fn reading(&mut self, number: u64) {
        let payload = format!(r#"{{"message_id":"m-{number}","metrics":{{"stroke":{number}}}}}"#);
        self.publish("gemba/v1/acme/readings/press-1", payload.as_bytes())
            .await;
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    within(what, async {
        while !is() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn rejected(site: &Site) -> u64 {
    site.node
        .counts(&tenant("acme"))
        .iter()
        .map(|counts| counts.rejected)
        .sum()
}

/// Publishes until the connector has subscribed: only from then on does the broker keep messages for it.
async fn subscribed(site: &Site, publisher: &mut Publisher) {
    within("the subscription", async {
        while site.metric("probe", "probe").is_none() {
            publisher
                .publish(
                    "gemba/v1/acme/readings/probe",
                    br#"{"message_id":"probe","metrics":{"probe":1}}"#,
                )
                .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_three_formats_reach_their_twins() {
    let (site, broker) = (Site::open().await, Broker::start(""));
    let connector = Connector::start(&site, &broker);
    let mut publisher = Publisher::connect(&broker).await;
    subscribed(&site, &mut publisher).await;

    publisher
        .publish(
            "gemba/v1/acme/readings/cnc-07",
            br#"{"metrics":{"cycle_count":7}}"#,
        )
        .await;
    publisher
        .publish(
            "gemba/v1/acme/scans/gate-1",
            br#"{"job_id":"job-1","location":"cell-2"}"#,
        )
        .await;
    let up = include_bytes!("../samples/tts_v3_uplink.json");
    publisher.publish("v3/app1@tenant1/devices/dev1/up", up).await;
    let up = include_bytes!("../samples/chirpstack_v4_up.json");
    publisher
        .publish("application/7/device/24e124710b141234/event/up", up)
        .await;
    until("the native reading", || {
        site.metric("cnc-07", "cycle_count") == Some(7.0)
    })
    .await;
    until("the scan", || {
        site.field("acme", "job", "job-1", "/state/location") == Some("cell-2".into())
    })
    .await;
    until("The Things Stack's uplink", || {
        site.metric("0004a30b001c0530", "temperature") == Some(1.0)
    })
    .await;
    until("all five", || {
        let counts = site.counts("acme", "broker.plant");
        counts.applied + counts.late >= 5
    })
    .await;
    connector.stop().await;
    let counts = site.counts("acme", "broker.plant");
    assert_eq!(
        (counts.rejected, counts.in_flight),
        (0, 0),
        "{counts:?} {:?}",
        site.rejected("acme").await
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_keeps_while_we_are_away_arrives_once() {
    let (site, broker) = (Site::open().await, Broker::start(""));
    let mut publisher = Publisher::connect(&broker).await;
    let connector = Connector::start(&site, &broker);
    subscribed(&site, &mut publisher).await;
    connector.stop().await;
    for round in 0..5 {
        for number in 0..20 {
            publisher.reading(round * 100 + number).await;
        }
        let connector = Connector::start(&site, &broker);
        for number in 20..40 {
            publisher.reading(round * 100 + number).await;
        }
        until("the newest reading", || {
            site.metric("press-1", "stroke") == Some((round * 100 + 39) as f64)
        })
        .await;
        connector.stop().await;
    }
    let counts = site.counts("acme", "broker.plant");
    // The probe is one of them.
    assert_eq!(
        (counts.applied + counts.late, counts.rejected),
        (201, 0),
        "{counts:?}"
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connector_comes_back_to_a_broker_that_was_restarted() {
    let (site, mut broker) = (Site::open().await, Broker::start(""));
    let connector = Connector::start(&site, &broker);
    let mut publisher = Publisher::connect(&broker).await;
    subscribed(&site, &mut publisher).await;
    for round in 1..=2 {
        broker.stop();
        broker.restart();
        publisher = Publisher::connect(&broker).await;
        for number in 0..10 {
            publisher.reading(round * 10 + number).await;
        }
        let newest = (round * 10 + 9) as f64;
        until("the newest reading", || {
            site.metric("press-1", "stroke") == Some(newest)
        })
        .await;
    }
    connector.stop().await;
    let counts = site.counts("acme", "broker.plant");
    assert_eq!(
        (counts.applied + counts.late, counts.rejected),
        (21, 0),
        "{counts:?}"
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_kept_and_does_not_come_again() {
    let (site, broker) = (Site::open().await, Broker::start(""));
    let connector = Connector::start(&site, &broker);
    let mut publisher = Publisher::connect(&broker).await;
    subscribed(&site, &mut publisher).await;
    publisher
        .publish("gemba/v1/globex/readings/x", br#"{"metrics":{"rpm":1}}"#)
        .await;
    publisher.publish("überdruck/ventil", b"1").await;
    publisher
        .publish("gemba/v1/acme/readings/x", &vec![b'['; 2 << 20])
        .await;
    publisher
        .publish("v3/app1@tenant1/devices/dev1/up", b"\xff\xfe")
        .await;
    until("their rejection", || rejected(&site) == 4).await;
    connector.stop().await;
    let mut codes = site.rejected("acme").await;
    codes.sort();
    assert_eq!(codes.len(), 4, "{codes:?}");
    for code in ["message.too_large", "mqtt.tenant_mismatch", "mqtt.topic_unknown"] {
        assert!(codes.iter().any(|kept| kept == code), "{code} in {codes:?}");
    }
    // Acknowledged, so a new connection gets none of them again.
    let connector = Connector::start(&site, &broker);
    publisher.reading(1).await;
    until("the next reading", || {
        site.metric("press-1", "stroke") == Some(1.0)
    })
    .await;
    connector.stop().await;
    assert_eq!(site.counts("acme", "broker.plant").rejected, 4);
    assert!(site.field("globex", "machine", "x", "").is_none());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_does_not_keep_the_others_from_working() {
    // mosquitto 2 answers SUBACK with a failure where its access list says no.
    let (site, broker) = (
        Site::open().await,
        Broker::start("topic readwrite gemba/v1/acme/#\ntopic deny v3/#\ntopic deny application/#\n"),
    );
    let connector = Connector::start(&site, &broker);
    let mut publisher = Publisher::connect(&broker).await;
    subscribed(&site, &mut publisher).await;
    publisher.reading(1).await;
    until("the reading", || site.metric("press-1", "stroke") == Some(1.0)).await;
    connector.stop().await;
    site.stop().await;
}
