//! The names of MQTT's metrics, with what they count.

use metrics::{Counter, Gauge, Histogram, Unit, describe_counter, describe_gauge, describe_histogram};

pub(super) const CONNECTIONS: &str = "mqtt_connections";
pub(super) const REFUSED: &str = "mqtt_connections_refused_total";
pub(super) const CLOSED: &str = "mqtt_connections_closed_total";
pub(super) const FORBIDDEN: &str = "mqtt_publish_forbidden_total";
pub(super) const RECEIVED_BYTES: &str = "mqtt_received_bytes_total";
pub(super) const ACKNOWLEDGE_SECONDS: &str = "mqtt_acknowledge_seconds";
pub(super) const BROKER_CONNECTED: &str = "broker_connected";
pub(super) const BROKER_CONNECTS: &str = "broker_connects_total";
pub(super) const BROKER_STALE_ACKS: &str = "broker_stale_acknowledgements_total";
pub(super) const BROKER_REFUSED: &str = "broker_subscriptions_refused_total";

/// Tells the recorder what each metric means.
pub(super) fn describe() {
    describe_gauge!(CONNECTIONS, "Devices connected to the MQTT listener");
    describe_counter!(REFUSED, "Connections refused, by reason");
    describe_counter!(CLOSED, "Connections ended, by reason");
    describe_counter!(
        FORBIDDEN,
        "Messages on another tenant's topic, by the sender's tenant"
    );
    describe_counter!(RECEIVED_BYTES, Unit::Bytes, "Bytes received from devices");
    describe_histogram!(
        ACKNOWLEDGE_SECONDS,
        Unit::Seconds,
        "Time from reading messages to their acknowledgement"
    );
    describe_gauge!(
        BROKER_CONNECTED,
        "1 while a broker connector is connected, by connector"
    );
    describe_counter!(BROKER_CONNECTS, "Connections made to a broker, by connector");
    describe_counter!(
        BROKER_STALE_ACKS,
        "Acknowledgements dropped because their connection was gone, by connector"
    );
    describe_counter!(
        BROKER_REFUSED,
        "Subscriptions that a broker refused, by connector"
    );
}

/// The metrics that every read and every batch meets, looked up once.
pub(super) struct Meters {
    pub(super) connections: Gauge,
    pub(super) received_bytes: Counter,
    pub(super) acknowledge_seconds: Histogram,
}

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            connections: metrics::gauge!(CONNECTIONS),
            received_bytes: metrics::counter!(RECEIVED_BYTES),
            acknowledge_seconds: metrics::histogram!(ACKNOWLEDGE_SECONDS),
        }
    }
}

/// Counts a connection that was not let in.
pub(super) fn refused(reason: &'static str) {
    metrics::counter!(REFUSED, "reason" => reason).increment(1);
}
