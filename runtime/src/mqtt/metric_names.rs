//! The names of MQTT's metrics, with what they count.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(super) const CONNECTIONS: &str = "mqtt_connections";
pub(super) const REFUSED: &str = "mqtt_connections_refused_total";
pub(super) const CLOSED: &str = "mqtt_connections_closed_total";
pub(super) const FORBIDDEN: &str = "mqtt_publish_forbidden_total";
pub(super) const ACKNOWLEDGE_SECONDS: &str = "mqtt_acknowledge_seconds";
pub(super) const BROKER_CONNECTED: &str = "broker_connected";
pub(super) const BROKER_RECONNECTS: &str = "broker_reconnects_total";
pub(super) const BROKER_STALE_ACKS: &str = "broker_stale_acknowledgements_total";

/// Tells the recorder what each metric means.
pub(super) fn describe() {
    describe_gauge!(CONNECTIONS, "Devices connected to the MQTT listener");
    describe_counter!(REFUSED, "Connections refused, by reason");
    describe_counter!(CLOSED, "Connections closed by the node, by reason");
    describe_counter!(FORBIDDEN, "Messages on another tenant's topic");
    describe_histogram!(ACKNOWLEDGE_SECONDS, Unit::Seconds, "Time from reading messages to their acknowledgement");
    describe_gauge!(BROKER_CONNECTED, "1 while a broker connector is connected, by connector");
    describe_counter!(BROKER_RECONNECTS, "Connections made to a broker, by connector");
    describe_counter!(BROKER_STALE_ACKS, "Acknowledgements dropped because their connection was gone");
}
