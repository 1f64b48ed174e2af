//! MQTT packets, 3.1.1 and 5 alike, as a connection reads them.
//!
//! Promises: a packet is taken whole or not at all, and nothing panics. The bodies are read by rumqttc's codec, which
//! is kept and already here for the broker connector; the frame, the flags and what else its codec lets pass are
//! checked here. Knows nothing of sessions and of what a topic means.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Bytes, BytesMut};
use rumqttc::{
    mqttbytes::{self, v4},
    v5::mqttbytes::{self as v5bytes, v5},
};

use super::answer::reason;

/// Which MQTT a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// 3.1.1, whose protocol level is 4.
    V4,
    V5,
}

/// What a client asks for when it connects.
#[derive(Debug)]
pub(super) struct Connect {
    pub(super) version: Version,
    pub(super) client_id: String,
    pub(super) keep_alive_s: u16,
    pub(super) clean: bool,
    /// User and password; the user may be empty.
    pub(super) login: Option<(String, String)>,
    /// Topic and payload.
    pub(super) will: Option<(TopicName, Bytes)>,
}

/// A packet from a client.
#[derive(Debug)]
pub(super) enum Packet {
    Publish(Publish),
    Subscribe {
        id: u16,
        filters: Vec<String>,
    },
    Unsubscribe {
        id: u16,
        filters: Vec<String>,
    },
    Ping,
    /// The client goes, and wants its will published or not.
    Disconnect {
        with_will: bool,
    },
    /// What a client may send and a server has no use for.
    Ignored,
}

/// A message. Its retain flag is not looked at: nothing is kept for later subscribers.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) topic: TopicName,
    pub(super) payload: Bytes,
    pub(super) qos: u8,
    /// 0 with QoS 0.
    pub(super) id: u16,
}

/// A topic as its codec gives it, checked to be one.
#[derive(Debug)]
pub(super) enum TopicName {
    Text(String),
    Bytes(Bytes),
}

impl TopicName {
    /// Checks that a message may be published to it.
    fn checked(self) -> Result<Self, Fault> {
        let text = match &self {
            Self::Text(text) => text.as_str(),
            Self::Bytes(bytes) => str::from_utf8(bytes).map_err(|_| Fault::Malformed)?,
        };
        match text.bytes().any(|byte| matches!(byte, b'+' | b'#' | 0)) {
            _ if text.is_empty() => Err(Fault::Topic),
            true => Err(Fault::Topic),
            false => Ok(self),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            // Checked before; an empty topic belongs to nobody.
            Self::Bytes(bytes) => str::from_utf8(bytes).unwrap_or_default(),
        }
    }
}

/// Bytes that are not MQTT, or not allowed here. The connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed,
    /// Well-formed, but not to be sent at this point.
    Protocol,
    TooLarge,
    /// Empty, or with wildcards.
    Topic,
    /// None was offered.
    TopicAlias,
    /// QoS 2.
    Qos,
    /// The protocol level that was asked for.
    Version(u8),
    /// Enhanced authentication was asked for.
    Authentication,
}

impl Fault {
    /// Its name in metrics and logs.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Protocol => "protocol",
            Self::TooLarge => "too_large",
            Self::Topic => "topic",
            Self::TopicAlias => "topic_alias",
            Self::Qos => "qos",
            Self::Version(_) => "version",
            Self::Authentication => "authentication",
        }
    }

    /// Its MQTT 5 reason code.
    pub(super) fn reason(self) -> u8 {
        match self {
            Self::Malformed => reason::MALFORMED,
            Self::Protocol => reason::PROTOCOL_ERROR,
            Self::TooLarge => reason::TOO_LARGE,
            Self::Topic => reason::TOPIC_INVALID,
            Self::TopicAlias => reason::TOPIC_ALIAS_INVALID,
            Self::Qos => reason::QOS_NOT_SUPPORTED,
            Self::Version(_) => reason::VERSION_NOT_SUPPORTED,
            Self::Authentication => reason::BAD_AUTHENTICATION_METHOD,
        }
    }
}

/// A CONNECT that is none. The version tells how to answer; where there is none, nobody would understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoConnect {
    pub(super) version: Option<Version>,
    pub(super) fault: Fault,
}

/// Takes the CONNECT packet from the front; `None` while it is not whole.
pub(super) fn read_connect(bytes: &mut BytesMut, max: usize) -> Result<Option<Connect>, NoConnect> {
    let not_mqtt = |fault| NoConnect { version: None, fault };
    match bytes.first() {
        None => return Ok(None),
        Some(0x10) => {}
        Some(_) => return Err(not_mqtt(Fault::Protocol)),
    }
    let Some((header, length)) = whole(bytes, max).map_err(not_mqtt)? else {
        return Ok(None);
    };
    let (version, flags) = match &bytes[header..length] {
        [0, 4, b'M', b'Q', b'T', b'T', 4, flags, ..] => (Version::V4, *flags),
        [0, 4, b'M', b'Q', b'T', b'T', 5, flags, ..] => (Version::V5, *flags),
        [0, 4, b'M', b'Q', b'T', b'T', level, ..] | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', level, ..] => {
            let version = if *level < 5 { Version::V4 } else { Version::V5 };
            return Err(NoConnect {
                version: Some(version),
                fault: Fault::Version(*level),
            });
        }
        _ => return Err(not_mqtt(Fault::Malformed)),
    };
    let (user, password, reserved) = (flags & 0x80 != 0, flags & 0x40 != 0, flags & 1 != 0);
    let connect = if reserved || (version == Version::V4 && password && !user) {
        Err(Fault::Malformed)
    } else {
        guarded(|| match version {
            Version::V4 => connect4(bytes, max),
            Version::V5 => connect5(bytes, max),
        })
    };
    connect.map(Some).map_err(|fault| NoConnect {
        version: Some(version),
        fault,
    })
}

fn connect4(bytes: &mut BytesMut, max: usize) -> Result<Connect, Fault> {
    let Ok(v4::Packet::Connect(connect)) = v4::Packet::read(bytes, max) else {
        return Err(Fault::Malformed);
    };
    let will = match connect.last_will {
        Some(will) => Some((TopicName::Text(will.topic).checked()?, will.message)),
        None => None,
    };
    Ok(Connect {
        version: Version::V4,
        client_id: connect.client_id,
        keep_alive_s: connect.keep_alive,
        clean: connect.clean_session,
        login: connect.login.map(|login| (login.username, login.password)),
        will,
    })
}

fn connect5(bytes: &mut BytesMut, max: usize) -> Result<Connect, Fault> {
    let Ok(v5::Packet::Connect(connect, will, login)) = v5::Packet::read(bytes, Some(max_u32(max))) else {
        return Err(Fault::Malformed);
    };
    if connect
        .properties
        .is_some_and(|properties| properties.authentication_method.is_some())
    {
        return Err(Fault::Authentication);
    }
    let will = match will {
        Some(will) if will.qos == v5bytes::QoS::ExactlyOnce => return Err(Fault::Qos),
        Some(will) => Some((TopicName::Bytes(will.topic).checked()?, will.message)),
        None => None,
    };
    Ok(Connect {
        version: Version::V5,
        client_id: connect.client_id,
        keep_alive_s: connect.keep_alive,
        clean: connect.clean_start,
        login: login.map(|login| (login.username, login.password)),
        will,
    })
}

/// Takes a packet from the front; `None` while it is not whole.
pub(super) fn read(version: Version, bytes: &mut BytesMut, max: usize) -> Result<Option<Packet>, Fault> {
    let Some((header, length)) = whole(bytes, max)? else {
        return Ok(None);
    };
    let (kind, flags) = (bytes[0] >> 4, bytes[0] & 0x0f);
    let flags_are_right = match kind {
        PUBLISH => true,
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => flags == 2,
        _ => flags == 0,
    };
    if !flags_are_right {
        return Err(Fault::Malformed);
    }
    match (kind, version, &bytes[header..length]) {
        (CONNECT, ..) => Err(Fault::Protocol),
        (PUBLISH, ..) if flags & 6 == 4 => Err(Fault::Qos),
        (PUBLISH | SUBSCRIBE | UNSUBSCRIBE | PUBACK, ..) => guarded(|| match version {
            Version::V4 => read4(bytes, max),
            Version::V5 => read5(bytes, max),
        })
        .map(Some),
        (PINGREQ, _, []) => {
            let _ = bytes.split_to(length);
            Ok(Some(Packet::Ping))
        }
        // A reason and no properties, and neither, are right; the codec wants both.
        (DISCONNECT, _, []) | (DISCONNECT, Version::V5, [0 | 4] | [0 | 4, 0]) => {
            let packet = bytes.split_to(length);
            Ok(Some(Packet::Disconnect {
                with_will: packet.get(header) == Some(&4),
            }))
        }
        (DISCONNECT, Version::V5, [reason, ..]) => {
            let with_will = *reason != 0;
            let _ = bytes.split_to(length);
            Ok(Some(Packet::Disconnect { with_will }))
        }
        (PINGREQ | DISCONNECT, ..) => Err(Fault::Malformed),
        _ => Err(Fault::Protocol),
    }
}

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREL: u8 = 6;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;

/// The length of the header and of all of the packet at the front; `None` while it is not whole. What is too large
/// is refused as soon as its header is there.
fn whole(bytes: &[u8], max: usize) -> Result<Option<(usize, usize)>, Fault> {
    let mut remaining = 0;
    for at in 0..4 {
        let Some(byte) = bytes.get(1 + at) else {
            return Ok(None);
        };
        remaining |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let (header, length) = (2 + at, 2 + at + remaining);
            return match length {
                _ if length > max => Err(Fault::TooLarge),
                _ if length > bytes.len() => Ok(None),
                _ => Ok(Some((header, length))),
            };
        }
    }
    Err(Fault::Malformed)
}

/// Runs the codec so that a panic of it would count as malformed input; none is known.
fn guarded<T>(read: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(Fault::Malformed))
}

fn max_u32(max: usize) -> u32 {
    u32::try_from(max).unwrap_or(u32::MAX)
}

// The packet is whole, so whatever the codec does not like, lack of bytes included, is malformed.

fn read4(bytes: &mut BytesMut, max: usize) -> Result<Packet, Fault> {
    Ok(
        match v4::Packet::read(bytes, max).map_err(|_| Fault::Malformed)? {
            v4::Packet::Publish(publish) => Packet::Publish(Publish {
                topic: TopicName::Text(publish.topic).checked()?,
                payload: publish.payload,
                qos: u8::from(publish.qos != mqttbytes::QoS::AtMostOnce),
                id: publish.pkid,
            }),
            v4::Packet::Subscribe(subscribe) => Packet::Subscribe {
                id: id(subscribe.pkid)?,
                filters: subscribe.filters.into_iter().map(|filter| filter.path).collect(),
            },
            v4::Packet::Unsubscribe(unsubscribe) => Packet::Unsubscribe {
                id: id(unsubscribe.pkid)?,
                filters: unsubscribe.topics,
            },
            _ => Packet::Ignored,
        },
    )
}

fn read5(bytes: &mut BytesMut, max: usize) -> Result<Packet, Fault> {
    Ok(
        match v5::Packet::read(bytes, Some(max_u32(max))).map_err(|_| Fault::Malformed)? {
            v5::Packet::Publish(publish) => {
                if publish
                    .properties
                    .is_some_and(|properties| properties.topic_alias.is_some())
                {
                    return Err(Fault::TopicAlias);
                }
                Packet::Publish(Publish {
                    topic: TopicName::Bytes(publish.topic).checked()?,
                    payload: publish.payload,
                    qos: u8::from(publish.qos != v5bytes::QoS::AtMostOnce),
                    id: publish.pkid,
                })
            }
            v5::Packet::Subscribe(subscribe) => Packet::Subscribe {
                id: id(subscribe.pkid)?,
                filters: subscribe.filters.into_iter().map(|filter| filter.path).collect(),
            },
            v5::Packet::Unsubscribe(unsubscribe) => Packet::Unsubscribe {
                id: id(unsubscribe.pkid)?,
                filters: unsubscribe.filters,
            },
            _ => Packet::Ignored,
        },
    )
}

fn id(id: u16) -> Result<u16, Fault> {
    if id == 0 { Err(Fault::Malformed) } else { Ok(id) }
}

#[cfg(test)]
mod tests;
