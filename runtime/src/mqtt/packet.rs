//! MQTT packets, 3.1.1 and 5 alike, as a connection sees them.
//!
//! Promises: foreign bytes are read by rumqttc's codec, which is kept and fuzzed there and by our tests; what its
//! state gets wrong is refused here, nothing panics. The few packets that a server writes are written here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Bytes, BytesMut};
use rumqttc::{
    mqttbytes::{self, QoS as QoS4, v4},
    v5::mqttbytes as v5bytes,
    v5::mqttbytes::{QoS as QoS5, v5},
};

/// Which MQTT a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V5,
}

/// What a client asks for when it connects.
#[derive(Debug)]
pub(super) struct Connect {
    pub(super) client_id: String,
    pub(super) keep_alive_s: u16,
    pub(super) clean: bool,
    pub(super) login: Option<(String, String)>,
    pub(super) will: Option<(String, Bytes)>,
}

/// A packet from a client.
#[derive(Debug)]
pub(super) enum Packet {
    Publish { topic: Topic, payload: Bytes, qos: u8, id: u16 },
    Subscribe { id: u16, filters: Vec<String> },
    Unsubscribe { id: u16, filters: usize },
    Ping,
    /// The client goes, and wants its will published or not.
    Disconnect { with_will: bool },
    /// What a client may send and a server ignores.
    Ignored,
}

/// A topic, as its codec gives it.
#[derive(Debug)]
pub(super) enum Topic {
    Text(String),
    Bytes(Bytes),
}

impl Topic {
    /// The topic if it is UTF-8 and may be published to.
    pub(super) fn as_str(&self) -> Option<&str> {
        let text = match self {
            Self::Text(text) => text.as_str(),
            Self::Bytes(bytes) => str::from_utf8(bytes).ok()?,
        };
        (!text.is_empty() && !text.contains(['+', '#', '\0'])).then_some(text)
    }
}

/// Bytes that are not MQTT, or not allowed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// More bytes have to come.
    Incomplete,
    /// Against the protocol.
    Malformed(&'static str),
    TooLarge,
}

fn fault4(error: &mqttbytes::Error) -> Fault {
    match error {
        mqttbytes::Error::InsufficientBytes(_) => Fault::Incomplete,
        mqttbytes::Error::PayloadSizeLimitExceeded(_) => Fault::TooLarge,
        _ => Fault::Malformed("malformed packet"),
    }
}

fn fault5(error: &v5bytes::Error) -> Fault {
    match error {
        v5bytes::Error::InsufficientBytes(_) => Fault::Incomplete,
        v5bytes::Error::PayloadSizeLimitExceeded { .. } => Fault::TooLarge,
        _ => Fault::Malformed("malformed packet"),
    }
}

/// The version that a CONNECT packet names; `None` while it is not whole enough to tell.
pub(super) fn version(bytes: &[u8]) -> Result<Option<Version>, Fault> {
    let Some(first) = bytes.first() else { return Ok(None) };
    if *first != 0x10 {
        return Err(Fault::Malformed("the first packet is not CONNECT"));
    }
    let Some(end) = bytes.iter().skip(1).take(4).position(|byte| byte & 0x80 == 0) else {
        return if bytes.len() > 4 { Err(Fault::Malformed("malformed length")) } else { Ok(None) };
    };
    let Some(name) = bytes.get(2 + end..) else { return Ok(None) };
    match name {
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Ok(Some(Version::V4)),
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Ok(Some(Version::V5)),
        [0, 4, b'M', b'Q', b'T', b'T', _, ..] => Err(Fault::Malformed("protocol level is neither 4 nor 5")),
        short if short.len() < 7 && [0, 4, b'M', b'Q', b'T', b'T'].starts_with(&short[..short.len().min(6)]) => Ok(None),
        _ => Err(Fault::Malformed("protocol name is not MQTT")),
    }
}

/// Runs a codec so that a panic of it counts as malformed input.
fn guarded<T>(read: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(Fault::Malformed("malformed packet")))
}

/// Takes the CONNECT packet from the front.
pub(super) fn read_connect(version: Version, bytes: &mut BytesMut, max: usize) -> Result<Connect, Fault> {
    guarded(|| match version {
        Version::V4 => match v4::Packet::read(bytes, max).map_err(|error| fault4(&error))? {
            v4::Packet::Connect(connect) => Ok(Connect {
                client_id: connect.client_id,
                keep_alive_s: connect.keep_alive,
                clean: connect.clean_session,
                login: connect.login.map(|login| (login.username, login.password)),
                will: connect.last_will.map(|will| (will.topic, will.message)),
            }),
            _ => Err(Fault::Malformed("the first packet is not CONNECT")),
        },
        Version::V5 => match v5::Packet::read(bytes, Some(max_u32(max))).map_err(|error| fault5(&error))? {
            v5::Packet::Connect(connect, will, login) => {
                let will = match will {
                    Some(will) => match String::from_utf8(will.topic.to_vec()) {
                        Ok(topic) => Some((topic, will.message)),
                        Err(_) => return Err(Fault::Malformed("the will's topic is not UTF-8")),
                    },
                    None => None,
                };
                Ok(Connect {
                    client_id: connect.client_id,
                    keep_alive_s: connect.keep_alive,
                    clean: connect.clean_start,
                    login: login.map(|login| (login.username, login.password)),
                    will,
                })
            }
            _ => Err(Fault::Malformed("the first packet is not CONNECT")),
        },
    })
}

fn max_u32(max: usize) -> u32 {
    u32::try_from(max).unwrap_or(u32::MAX)
}

/// Takes a packet from the front.
pub(super) fn read(version: Version, bytes: &mut BytesMut, max: usize) -> Result<Packet, Fault> {
    // An MQTT 5 DISCONNECT without a reason is two bytes; the codec wants a payload.
    if let [0xe0, 0x00, ..] = &bytes[..] {
        let _ = bytes.split_to(2);
        return Ok(Packet::Disconnect { with_will: false });
    }
    guarded(|| match version {
        Version::V4 => read4(bytes, max),
        Version::V5 => read5(bytes, max),
    })
}

fn read4(bytes: &mut BytesMut, max: usize) -> Result<Packet, Fault> {
    Ok(match v4::Packet::read(bytes, max).map_err(|error| fault4(&error))? {
        v4::Packet::Publish(publish) => Packet::Publish {
            topic: Topic::Text(publish.topic),
            payload: publish.payload,
            qos: match publish.qos {
                QoS4::AtMostOnce => 0,
                QoS4::AtLeastOnce => 1,
                QoS4::ExactlyOnce => 2,
            },
            id: publish.pkid,
        },
        v4::Packet::Subscribe(subscribe) => Packet::Subscribe {
            id: subscribe.pkid,
            filters: subscribe.filters.into_iter().map(|filter| filter.path).collect(),
        },
        v4::Packet::Unsubscribe(unsubscribe) => {
            Packet::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.topics.len() }
        }
        v4::Packet::PingReq => Packet::Ping,
        v4::Packet::Disconnect => Packet::Disconnect { with_will: false },
        v4::Packet::PubAck(_) => Packet::Ignored,
        _ => return Err(Fault::Malformed("a packet that a client may not send here")),
    })
}

fn read5(bytes: &mut BytesMut, max: usize) -> Result<Packet, Fault> {
    Ok(match v5::Packet::read(bytes, Some(max_u32(max))).map_err(|error| fault5(&error))? {
        v5::Packet::Publish(publish) => {
            if publish.properties.is_some_and(|properties| properties.topic_alias.is_some()) {
                return Err(Fault::Malformed("topic aliases are not supported here"));
            }
            Packet::Publish {
                topic: Topic::Bytes(publish.topic),
                payload: publish.payload,
                qos: match publish.qos {
                    QoS5::AtMostOnce => 0,
                    QoS5::AtLeastOnce => 1,
                    QoS5::ExactlyOnce => 2,
                },
                id: publish.pkid,
            }
        }
        v5::Packet::Subscribe(subscribe) => Packet::Subscribe {
            id: subscribe.pkid,
            filters: subscribe.filters.into_iter().map(|filter| filter.path).collect(),
        },
        v5::Packet::Unsubscribe(unsubscribe) => {
            Packet::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.filters.len() }
        }
        v5::Packet::PingReq(_) => Packet::Ping,
        v5::Packet::Disconnect(disconnect) => Packet::Disconnect {
            with_will: disconnect.reason_code == v5::DisconnectReasonCode::DisconnectWithWillMessage,
        },
        v5::Packet::PubAck(_) => Packet::Ignored,
        _ => return Err(Fault::Malformed("a packet that a client may not send here")),
    })
}

/// Reason codes of MQTT 5 that are used here.
pub(super) mod reason {
    pub(crate) const MALFORMED: u8 = 0x81;
    pub(crate) const PROTOCOL_ERROR: u8 = 0x82;
    pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
    pub(crate) const SERVER_BUSY: u8 = 0x89;
    pub(crate) const SHUTTING_DOWN: u8 = 0x8b;
    pub(crate) const KEEP_ALIVE: u8 = 0x8d;
    pub(crate) const TAKEN_OVER: u8 = 0x8e;
    pub(crate) const TOO_LARGE: u8 = 0x95;
    pub(crate) const PAYLOAD_INVALID: u8 = 0x99;
    pub(crate) const QOS_NOT_SUPPORTED: u8 = 0x9b;
}

/// CONNACK of a connection that stands.
pub(super) fn connack(version: Version, assigned_id: Option<&str>, receive_max: u16, packet_max: usize) -> Vec<u8> {
    match version {
        Version::V4 => vec![0x20, 2, 0, 0],
        Version::V5 => {
            // Session expiry 0, receive maximum, maximum QoS 1, no retain, maximum packet size, no topic aliases,
            // no wildcard, identified or shared subscriptions.
            let mut properties = vec![0x11, 0, 0, 0, 0, 0x21];
            properties.extend_from_slice(&receive_max.to_be_bytes());
            properties.extend_from_slice(&[0x24, 1, 0x25, 0, 0x27]);
            properties.extend_from_slice(&max_u32(packet_max).to_be_bytes());
            properties.extend_from_slice(&[0x22, 0, 0, 0x29, 0, 0x2a, 0]);
            if let Some(id) = assigned_id {
                properties.push(0x12);
                properties.extend_from_slice(&u16::try_from(id.len()).unwrap_or(0).to_be_bytes());
                properties.extend_from_slice(id.as_bytes());
            }
            // All of it stays far below 128 bytes, so lengths take one byte.
            let length = u8::try_from(properties.len()).unwrap_or(0);
            let mut packet = vec![0x20, length + 3, 0, 0, length];
            packet.extend_from_slice(&properties);
            packet
        }
    }
}

/// CONNACK of a refusal: 3.1.1 knows "bad user name or password" (4) and "not authorized" (5) and few others.
pub(super) fn connack_refused(version: Version, code_v4: u8, reason_v5: u8) -> Vec<u8> {
    match version {
        Version::V4 => vec![0x20, 2, 0, code_v4],
        Version::V5 => vec![0x20, 3, 0, reason_v5, 0],
    }
}

/// PUBACK; 3.1.1 has no reasons.
pub(super) fn puback(version: Version, id: u16, reason: u8, out: &mut Vec<u8>) {
    let [high, low] = id.to_be_bytes();
    match (version, reason) {
        (Version::V4, _) | (Version::V5, 0) => out.extend_from_slice(&[0x40, 2, high, low]),
        (Version::V5, reason) => out.extend_from_slice(&[0x40, 3, high, low, reason]),
    }
}

pub(super) fn suback(version: Version, id: u16, granted: &[bool]) -> Vec<u8> {
    let refused = if version == Version::V5 { reason::NOT_AUTHORIZED } else { 0x80 };
    let codes = granted.iter().map(|granted| if *granted { 1 } else { refused }).collect();
    with_id(version, 0x90, id, codes)
}

pub(super) fn unsuback(version: Version, id: u16, filters: usize) -> Vec<u8> {
    let codes = if version == Version::V5 { vec![0; filters] } else { Vec::new() };
    with_id(version, 0xb0, id, codes)
}

fn with_id(version: Version, first: u8, id: u16, codes: Vec<u8>) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    body.extend_from_slice(&codes);
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(&body);
    packet
}

pub(super) const PINGRESP: [u8; 2] = [0xd0, 0];

/// DISCONNECT by the server; 3.1.1 has none and just closes.
pub(super) fn disconnect(version: Version, reason: u8) -> Vec<u8> {
    match version {
        Version::V4 => Vec::new(),
        Version::V5 => vec![0xe0, 1, reason],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CONNECT and a PUBLISH of each version.
    fn packets() -> [(Version, Vec<u8>); 4] {
        let connect4 = b"\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07cnc-007".to_vec();
        let connect5 = b"\x10\x14\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x07cnc-007".to_vec();
        let publish4 = b"\x32\x0b\x00\x03a/b\x00\x05{...".to_vec();
        let publish5 = b"\x32\x0c\x00\x03a/b\x00\x05\x00{...".to_vec();
        [(Version::V4, connect4), (Version::V5, connect5), (Version::V4, publish4), (Version::V5, publish5)]
    }

    #[test]
    fn the_version_is_read_from_connect_alone() {
        let [(_, four), (_, five), (_, publish), _] = packets();
        assert_eq!(version(&four), Ok(Some(Version::V4)));
        assert_eq!(version(&five), Ok(Some(Version::V5)));
        assert!(version(&publish).is_err());
        for length in 0..8 {
            assert_eq!(version(&four[..length]), Ok(None), "{length} bytes");
        }
        assert!(version(b"\x10\x10\x00\x06MQIsdp\x03").is_err());
    }

    #[test]
    fn mutated_packets_never_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        for _ in 0..200_000 {
            let (version, mut packet) = packets()[random() % 4].clone();
            for _ in 0..=random() % 4 {
                let at = random() % packet.len();
                packet[at] = random() as u8;
            }
            packet.truncate(1 + random() % packet.len());
            let _ = super::version(&packet);
            let _ = read_connect(version, &mut BytesMut::from(&packet[..]), 1_024);
            let _ = read(version, &mut BytesMut::from(&packet[..]), 1_024);
        }
    }
}
