//! MQTT packets that a server sends, written for 3.1.1 and 5.
//!
//! Promises: every packet is below 128 bytes but SUBACK and UNSUBACK, which are as long as what they answer, and PUBLISH. Knows
//! nothing of when which is due.

use super::packet::Version;

/// Reason codes of MQTT 5 that are used here.
pub(super) mod reason {
    pub(crate) const UNSPECIFIED: u8 = 0x80;
    pub(crate) const MALFORMED: u8 = 0x81;
    pub(crate) const PROTOCOL_ERROR: u8 = 0x82;
    pub(crate) const VERSION_NOT_SUPPORTED: u8 = 0x84;
    pub(crate) const CLIENT_ID_INVALID: u8 = 0x85;
    pub(crate) const BAD_LOGIN: u8 = 0x86;
    pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
    pub(crate) const SHUTTING_DOWN: u8 = 0x8b;
    pub(crate) const BAD_AUTHENTICATION_METHOD: u8 = 0x8c;
    pub(crate) const KEEP_ALIVE: u8 = 0x8d;
    pub(crate) const TAKEN_OVER: u8 = 0x8e;
    pub(crate) const TOPIC_INVALID: u8 = 0x90;
    pub(crate) const TOPIC_ALIAS_INVALID: u8 = 0x94;
    pub(crate) const TOO_LARGE: u8 = 0x95;
    pub(crate) const PAYLOAD_INVALID: u8 = 0x99;
    pub(crate) const QOS_NOT_SUPPORTED: u8 = 0x9b;
}

/// CONNACK of a connection that stands.
pub(super) fn connack(
    version: Version,
    assigned_id: Option<&str>,
    receive_max: u16,
    packet_max: usize,
) -> Vec<u8> {
    if version == Version::V4 {
        return vec![0x20, 2, 0, 0];
    }
    // Session expiry 0: what was not acknowledged is for the device to send again, and nothing is kept for it.
    let mut properties = vec![0x11, 0, 0, 0, 0, 0x21];
    properties.extend_from_slice(&receive_max.to_be_bytes());
    // Maximum QoS 1, no retained messages, the largest packet.
    properties.extend_from_slice(&[0x24, 1, 0x25, 0, 0x27]);
    properties.extend_from_slice(&u32::try_from(packet_max).unwrap_or(u32::MAX).to_be_bytes());
    // No topic aliases, no subscription identifiers, no shared subscriptions. Wildcards stay allowed: a device
    // subscribes to all that is its own.
    properties.extend_from_slice(&[0x22, 0, 0, 0x29, 0, 0x2a, 0]);
    if let Some(id) = assigned_id {
        properties.push(0x12);
        properties.extend_from_slice(&(id.len() as u16).to_be_bytes());
        properties.extend_from_slice(id.as_bytes());
    }
    let length = properties.len() as u8;
    let mut packet = vec![0x20, length + 3, 0, 0, length];
    packet.extend_from_slice(&properties);
    packet
}

/// CONNACK of a refusal, by its MQTT 5 reason; 3.1.1 knows five and just closes for the others.
pub(super) fn connack_refused(version: Version, reason: u8) -> Vec<u8> {
    let code = match (version, reason) {
        (Version::V5, reason) => return vec![0x20, 3, 0, reason, 0],
        (_, reason::VERSION_NOT_SUPPORTED) => 1,
        (_, reason::CLIENT_ID_INVALID) => 2,
        (_, reason::BAD_LOGIN) => 4,
        (_, reason::NOT_AUTHORIZED) => 5,
        _ => return Vec::new(),
    };
    vec![0x20, 2, 0, code]
}

/// PUBACK; 3.1.1 has no reasons.
pub(super) fn puback(version: Version, id: u16, reason: u8, out: &mut Vec<u8>) {
    let [high, low] = id.to_be_bytes();
    match (version, reason) {
        (Version::V4, _) | (Version::V5, 0) => out.extend_from_slice(&[0x40, 2, high, low]),
        (Version::V5, reason) => out.extend_from_slice(&[0x40, 3, high, low, reason]),
    }
}

/// SUBACK: the QoS of what is granted.
pub(super) fn suback(version: Version, id: u16, granted: &[Option<u8>]) -> Vec<u8> {
    let refused = if version == Version::V5 {
        reason::NOT_AUTHORIZED
    } else {
        0x80
    };
    let codes: Vec<u8> = granted.iter().map(|granted| granted.unwrap_or(refused)).collect();
    with_id(version, 0x90, id, &codes)
}

/// UNSUBACK; only MQTT 5 says something for each filter.
pub(super) fn unsuback(version: Version, id: u16, filters: usize) -> Vec<u8> {
    let codes = if version == Version::V5 {
        vec![0; filters]
    } else {
        Vec::new()
    };
    with_id(version, 0xb0, id, &codes)
}

/// PUBLISH with QoS 0. A topic is shorter than 64 KiB: those of twins are below 300 bytes.
pub(super) fn publish(version: Version, topic: &str, payload: &[u8], retain: bool) -> Vec<u8> {
    let properties = usize::from(version == Version::V5);
    let mut packet = Vec::with_capacity(8 + topic.len() + payload.len());
    packet.push(0x30 | u8::from(retain));
    put_length(2 + topic.len() + properties + payload.len(), &mut packet);
    packet.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    packet.extend_from_slice(topic.as_bytes());
    if version == Version::V5 {
        packet.push(0);
    }
    packet.extend_from_slice(payload);
    packet
}

/// The remaining length, as MQTT writes it.
fn put_length(mut length: usize, packet: &mut Vec<u8>) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
}

fn with_id(version: Version, first: u8, id: u16, codes: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    put_length(2 + usize::from(version == Version::V5) + codes.len(), &mut packet);
    packet.extend_from_slice(&id.to_be_bytes());
    if version == Version::V5 {
        packet.push(0);
    }
    packet.extend_from_slice(codes);
    packet
}

/// PINGRESP.
pub(super) const PINGRESP: [u8; 2] = [0xd0, 0];

/// DISCONNECT by the server; 3.1.1 has none and just closes.
pub(super) fn disconnect(version: Version, reason: u8) -> Vec<u8> {
    match version {
        Version::V4 => Vec::new(),
        // With an empty list of properties: rumqttc's codec does not read the packet without.
        Version::V5 => vec![0xe0, 2, reason, 0],
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use rumqttc::{mqttbytes::v4, v5::mqttbytes::v5};

    use super::*;

    /// What a client's codec reads from an answer.
    fn read4(packet: &[u8]) -> v4::Packet {
        v4::Packet::read(&mut BytesMut::from(packet), 1 << 20).expect("a packet")
    }

    fn read5(packet: &[u8]) -> v5::Packet {
        v5::Packet::read(&mut BytesMut::from(packet), Some(1 << 20)).expect("a packet")
    }

    #[test]
    fn a_client_understands_what_it_is_offered() {
        let v5::Packet::ConnAck(connack) = read5(&connack(Version::V5, Some("gemba-1"), 1_024, 262_144))
        else {
            panic!("no CONNACK")
        };
        let properties = connack.properties.expect("properties");
        assert_eq!(properties.max_qos, Some(1));
        assert_eq!(properties.retain_available, Some(0));
        assert_eq!(properties.receive_max, Some(1_024));
        assert_eq!(properties.max_packet_size, Some(262_144));
        assert_eq!(properties.topic_alias_max, Some(0));
        assert_eq!(properties.shared_subscription_available, Some(0));
        assert_eq!(properties.assigned_client_identifier.as_deref(), Some("gemba-1"));
        assert_eq!(properties.session_expiry_interval, Some(0));
    }

    #[test]
    fn answers_are_long_enough_for_many_filters() {
        let granted = vec![Some(1); 300];
        let v4::Packet::SubAck(answer) = read4(&suback(Version::V4, 7, &granted)) else {
            panic!("no SUBACK")
        };
        assert_eq!((answer.pkid, answer.return_codes.len()), (7, 300));
        let v5::Packet::UnsubAck(answer) = read5(&unsuback(Version::V5, 7, 300)) else {
            panic!("no UNSUBACK")
        };
        assert_eq!((answer.pkid, answer.reasons.len()), (7, 300));
    }

    #[test]
    fn a_message_of_any_length_is_read_back() {
        for length in [0, 100, 20_000] {
            let payload = vec![b'1'; length];
            let v4::Packet::Publish(publish) = read4(&super::publish(Version::V4, "a/b", &payload, true))
            else {
                panic!("no PUBLISH")
            };
            assert_eq!(
                (&*publish.topic, publish.retain, publish.payload.len()),
                ("a/b", true, length)
            );
            let v5::Packet::Publish(publish) = read5(&super::publish(Version::V5, "a/b", &payload, false))
            else {
                panic!("no PUBLISH")
            };
            assert_eq!(
                (&*publish.topic, publish.retain, publish.payload.len()),
                (&b"a/b"[..], false, length)
            );
        }
    }

    #[test]
    fn reasons_reach_those_who_know_them() {
        let mut out = Vec::new();
        puback(Version::V4, 0x0102, reason::PAYLOAD_INVALID, &mut out);
        puback(Version::V5, 0x0102, 0, &mut out);
        puback(Version::V5, 0x0102, reason::PAYLOAD_INVALID, &mut out);
        assert_eq!(out, b"\x40\x02\x01\x02\x40\x02\x01\x02\x40\x03\x01\x02\x99");
        assert_eq!(disconnect(Version::V4, reason::TAKEN_OVER), b"");
        assert_eq!(disconnect(Version::V5, reason::TAKEN_OVER), b"\xe0\x02\x8e\x00");
        assert_eq!(
            connack_refused(Version::V4, reason::BAD_LOGIN),
            b"\x20\x02\x00\x04"
        );
        assert_eq!(connack_refused(Version::V4, reason::MALFORMED), b"");
        assert_eq!(
            connack_refused(Version::V5, reason::MALFORMED),
            b"\x20\x03\x00\x81\x00"
        );
    }
}
