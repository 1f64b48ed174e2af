//! Publishes a simulated plant by real MQTT: one connection for each device, QoS 1.
//!
//! Promises: no message lies in the future; at the end it is known how many messages were acknowledged.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use gemba_runtime::clock;
use gemba_twins::time::Timestamp;
use rumqttc::{AsyncClient, EventLoop, MqttOptions, QoS};
use tokio::sync::{Notify, watch};
use tracing::warn;

use super::Plant;

/// Messages of a device that wait while its broker is away; the simulation pauses when they are full.
const WAITING: usize = 10_000;
/// How long the last acknowledgements are waited for.
const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(30);
/// How far apart the seconds of the coarse past are: a machine that is heard so often is not stale.
const COARSE_MS: i64 = 20_000;

/// Where and how fast.
#[derive(Debug, Clone)]
pub struct DriverSettings {
    /// The broker's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// In the topics.
    pub tenant: String,
    /// User and password, where it wants them.
    pub login: Option<(String, String)>,
    /// Simulated seconds in a real one, while the plant's past is played; infinite: as fast as it goes.
    pub speed: f64,
    /// When the plant's time begins; now if absent. What lies in the past is played at `speed`, then real time goes on.
    pub start: Option<Timestamp>,
    /// Before this only every twentieth second of the plant's past is played; all of them if absent.
    pub fine_from: Option<Timestamp>,
    /// Ends after this many simulated seconds.
    pub seconds: Option<u64>,
}

/// Messages published, and how many of them were acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Handed to the devices' connections.
    pub sent: u64,
    /// Acknowledged by the broker.
    pub acknowledged: u64,
}

#[derive(Default)]
struct Acknowledged {
    count: AtomicU64,
    more: Notify,
}

/// Publishes what a plant does.
pub struct Driver {
    settings: DriverSettings,
    devices: HashMap<String, AsyncClient>,
    sent: u64,
    acknowledged: Arc<Acknowledged>,
}

impl Driver {
    /// A driver without connections yet.
    #[must_use]
    pub fn new(settings: DriverSettings) -> Self {
        Self {
            settings,
            devices: HashMap::new(),
            sent: 0,
            acknowledged: Arc::default(),
        }
    }

    /// Lets the plant's time pass and publishes, until `shutdown` turns true or its seconds are over. The plant comes
    /// back: it knows what it did.
    pub async fn run(mut self, mut plant: Plant, mut shutdown: watch::Receiver<bool>) -> (Plant, Published) {
        let start = self.settings.start.unwrap_or_else(clock::now);
        let seconds = self.settings.seconds.unwrap_or(u64::MAX);
        let lasts_ms = i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let began = clock::instant();
        let mut passed_ms = 0;
        while passed_ms < lasts_ms {
            let at = start.plus_ms(passed_ms);
            let ahead_ms = at.ms_since(clock::now());
            let due = if ahead_ms > 0 {
                clock::instant() + Duration::from_millis(ahead_ms.unsigned_abs())
            } else {
                began + Duration::from_secs_f64(passed_ms as f64 / 1_000.0 / self.settings.speed)
            };
            tokio::select! {
                biased;
                // An error means that the sender is gone, which ends us too.
                _ = shutdown.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep_until(due.into()) => {}
            }
            self.publish(&mut plant, at.min(clock::now())).await;
            let is_coarse = self.settings.fine_from.is_some_and(|fine| at < fine);
            passed_ms += if is_coarse { COARSE_MS } else { 1_000 };
        }
        let published = self.finish().await;
        (plant, published)
    }

    async fn publish(&mut self, plant: &mut Plant, now: Timestamp) {
        for publication in plant.step(now) {
            let topic = format!("gemba/v1/{}/{}", self.settings.tenant, publication.topic);
            let client = self.device(&publication.device);
            if client
                .publish(topic, QoS::AtLeastOnce, false, publication.payload)
                .await
                .is_ok()
            {
                self.sent += 1;
            }
        }
    }

    fn device(&mut self, name: &str) -> AsyncClient {
        let settings = &self.settings;
        self.devices
            .entry(name.to_owned())
            .or_insert_with(|| {
                let mut options =
                    MqttOptions::new(format!("sim-{name}"), settings.host.clone(), settings.port);
                options.set_keep_alive(Duration::from_secs(30));
                options.set_clean_session(false);
                if let Some((user, password)) = &settings.login {
                    options.set_credentials(user, password);
                }
                let (client, events) = AsyncClient::new(options, WAITING);
                tokio::spawn(keep_connected(events, name.to_owned(), self.acknowledged.clone()));
                client
            })
            .clone()
    }

    /// Lets the devices go after what they published is acknowledged.
    async fn finish(self) -> Published {
        let count = || self.acknowledged.count.load(Ordering::Acquire);
        let all = async {
            loop {
                let more = self.acknowledged.more.notified();
                if count() >= self.sent {
                    return;
                }
                more.await;
            }
        };
        // A broker that is away keeps us waiting no longer than this; what it did not acknowledge is told.
        let _ = tokio::time::timeout(LAST_ACKNOWLEDGEMENTS, all).await;
        for client in self.devices.values() {
            // A device that is away keeps its messages to itself.
            let _ = client.try_disconnect();
        }
        Published {
            sent: self.sent,
            acknowledged: count(),
        }
    }
}

async fn keep_connected(mut events: EventLoop, device: String, acknowledged: Arc<Acknowledged>) {
    let mut told = false;
    loop {
        match events.poll().await {
            Ok(rumqttc::Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
            Ok(rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_))) => {
                acknowledged.count.fetch_add(1, Ordering::AcqRel);
                acknowledged.more.notify_one();
            }
            Ok(_) => told = false,
            Err(rumqttc::ConnectionError::RequestsDone) => return,
            Err(error) => {
                if !told {
                    warn!(device, %error, "device not connected; trying again");
                    told = true;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}
