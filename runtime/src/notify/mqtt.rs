//! Notifications as MQTT messages to a broker: QoS 1, taken when the broker acknowledges.
//!
//! Promises: one message at a time, so the order holds; a connection that breaks is made anew for the next try. The
//! broker's URL is the configuration's.

use std::{path::PathBuf, time::Duration};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, mqttbytes::valid_topic};
use tokio::time::timeout;

use super::{deliver::Failed, message::cloud_event, notice::Notice};
use crate::mqtt::client_options;

const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Mqtt {
    options: MqttOptions,
    topic: String,
    connection: Option<(AsyncClient, EventLoop)>,
}

impl Mqtt {
    pub(super) fn new(
        name: &str,
        url: &str,
        client_id: &str,
        topic: &str,
        ca: Option<PathBuf>,
    ) -> Result<Self, String> {
        if !valid_topic(topic) || topic.is_empty() {
            return Err(format!("{topic:?} is no topic (no + and no #)"));
        }
        Ok(Self {
            options: client_options(name, url, client_id, ca)?,
            topic: topic.to_owned(),
            connection: None,
        })
    }

    fn topic(&self, notice: &Notice) -> String {
        self.topic
            .replace("{tenant}", notice.twin.tenant().as_str())
            .replace("{kind}", notice.twin.kind().as_str())
            .replace("{twin}", notice.twin.id())
            .replace("{rule}", &notice.change.rule)
    }

    pub(super) async fn carry(&mut self, notice: &Notice) -> Result<(), Failed> {
        let (topic, body) = (self.topic(notice), cloud_event(notice));
        let (client, events) = self
            .connection
            .get_or_insert_with(|| AsyncClient::new(self.options.clone(), 4));
        let told = timeout(TIMEOUT, async {
            client
                .publish(topic, QoS::AtLeastOnce, false, body)
                .await
                .map_err(|error| error.to_string())?;
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::PubAck(_))) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        })
        .await
        .unwrap_or_else(|_| Err("the broker did not acknowledge in time".into()));
        told.map_err(|detail: String| {
            // What it may still send comes again under its id.
            self.connection = None;
            Failed::Again(detail)
        })
    }
}
