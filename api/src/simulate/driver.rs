//! Publishes a simulated plant by real MQTT: one connection for each device, QoS 1.

use std::{collections::HashMap, time::Duration};

use gemba_runtime::clock;
use gemba_twins::time::Timestamp;
use rumqttc::{AsyncClient, EventLoop, MqttOptions, QoS};
use tokio::sync::watch;
use tracing::warn;

use super::Plant;

/// Messages of a device that wait while its broker is away; the simulation pauses when they are full.
const WAITING: usize = 10_000;

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
    /// Simulated seconds in a real one.
    pub speed: f64,
    /// Ends after this many simulated seconds.
    pub seconds: Option<u64>,
}

/// Publishes what a plant does.
pub struct Driver {
    settings: DriverSettings,
    devices: HashMap<String, AsyncClient>,
    published: u64,
}

impl Driver {
    /// A driver without connections yet.
    #[must_use]
    pub fn new(settings: DriverSettings) -> Self {
        Self {
            settings,
            devices: HashMap::new(),
            published: 0,
        }
    }

    /// Lets the plant's time pass and publishes, until `shutdown` turns true or its seconds are over; answers the
    /// number of messages.
    pub async fn run(mut self, mut plant: Plant, mut shutdown: watch::Receiver<bool>) -> u64 {
        let tick = Duration::from_secs_f64((1.0 / self.settings.speed).clamp(0.001, 60.0));
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Faster than real time, the plant's past is played, so that no message lies in the future.
        let start = match self.settings.seconds {
            Some(seconds) if self.settings.speed > 1.0 => {
                clock::now().plus_ms(-1_000 * i64::try_from(seconds).unwrap_or(0))
            }
            _ if self.settings.speed > 1.0 => clock::now().plus_ms(-86_400_000),
            _ => clock::now(),
        };
        for second in 0_i64.. {
            if self
                .settings
                .seconds
                .is_some_and(|seconds| second >= i64::try_from(seconds).unwrap_or(i64::MAX))
            {
                break;
            }
            tokio::select! {
                _ = ticks.tick() => {}
                // An error means that the sender is gone, which ends us too.
                _ = shutdown.wait_for(|stop| *stop) => break,
            }
            let now = if self.settings.speed > 1.0 {
                start.plus_ms(1_000 * second).min(clock::now())
            } else {
                clock::now()
            };
            self.publish(&mut plant, now).await;
        }
        self.finish().await
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
                self.published += 1;
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
                tokio::spawn(keep_connected(events, name.to_owned()));
                client
            })
            .clone()
    }

    /// Lets the devices go after what they published is acknowledged.
    async fn finish(self) -> u64 {
        for client in self.devices.values() {
            // A device that is away keeps its messages to itself.
            let _ = client.disconnect().await;
        }
        self.published
    }
}

async fn keep_connected(mut events: EventLoop, device: String) {
    let mut told = false;
    loop {
        match events.poll().await {
            Ok(rumqttc::Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
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
