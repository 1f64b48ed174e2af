//! What a packet is and what is none, for both versions, and that no bytes make the reader panic.

use super::*;

const MAX: usize = 1_024;

fn fault_of(version: Version, packet: &[u8]) -> Fault {
    read(version, &mut BytesMut::from(packet), MAX).expect_err("a fault")
}

fn packet_of(version: Version, packet: &[u8]) -> Packet {
    let mut bytes = BytesMut::from(packet);
    let packet = read(version, &mut bytes, MAX).expect("no fault").expect("whole");
    assert!(bytes.is_empty(), "all of it is taken");
    packet
}

fn connect_of(packet: &[u8]) -> Result<Connect, Fault> {
    let connect = read_connect(&mut BytesMut::from(packet), MAX).map_err(|no| no.fault)?;
    Ok(connect.expect("whole"))
}

#[test]
fn connect_is_read_in_both_versions() {
    let connect = connect_of(
        b"\x10\x2a\x00\x04MQTT\x04\xee\x00\x3c\x00\x07cnc-007\x00\x04will\x00\x03bye\x00\x04user\x00\x04pass",
    )
    .expect("a connect");
    assert_eq!(
        (connect.version, connect.keep_alive_s, connect.clean),
        (Version::V4, 60, true)
    );
    assert_eq!(connect.login, Some(("user".into(), "pass".into())));
    let (topic, payload) = connect.will.expect("a will");
    assert_eq!((topic.as_str(), &payload[..]), ("will", &b"bye"[..]));

    let connect = connect_of(b"\x10\x19\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x0a\x00\x07cnc-007")
        .expect("a connect");
    assert_eq!(
        (connect.version, connect.client_id.as_str()),
        (Version::V5, "cnc-007")
    );
}

#[test]
fn what_is_no_connect_is_refused_for_its_reason() {
    for (packet, fault) in [
        (&b"\x30\x05\x00\x01ahi"[..], Fault::Protocol),
        (b"\xc0\x00", Fault::Protocol),
        (b"\x10\x0c\x00\x06MQIsdp\x03\x02\x00\x3c", Fault::Version(3)),
        (b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x3c\x00\x00", Fault::Version(6)),
        (b"\x10\x0c\x00\x04MQTX\x04\x02\x00\x3c\x00\x00", Fault::Malformed),
        // The reserved flag; a password without a user in 3.1.1; a will's QoS without a will.
        (b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x3c\x00\x00", Fault::Malformed),
        (
            b"\x10\x10\x00\x04MQTT\x04\x42\x00\x3c\x00\x00\x00\x02pw",
            Fault::Malformed,
        ),
        (b"\x10\x0c\x00\x04MQTT\x04\x0a\x00\x3c\x00\x00", Fault::Malformed),
        // A client id that is not UTF-8, one that goes past the end, and a will on a wildcard.
        (
            b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01\xff",
            Fault::Malformed,
        ),
        (b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x09a", Fault::Malformed),
        (
            b"\x10\x13\x00\x04MQTT\x04\x06\x00\x3c\x00\x00\x00\x01#\x00\x02hi",
            Fault::Topic,
        ),
        // Enhanced authentication, and a will with QoS 2.
        (
            b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x06\x15\x00\x03SCR\x00\x00",
            Fault::Authentication,
        ),
        (
            b"\x10\x15\x00\x04MQTT\x05\x16\x00\x3c\x00\x00\x00\x00\x00\x01a\x00\x02hi",
            Fault::Qos,
        ),
        (b"\x10\xff\xff\xff\x7f", Fault::TooLarge),
        (b"\x10\xff\xff\xff\xff\x01", Fault::Malformed),
    ] {
        assert_eq!(connect_of(packet).map(drop), Err(fault), "{packet:x?}");
    }
}

#[test]
fn a_message_is_read_in_both_versions() {
    let Packet::Publish(publish) = packet_of(Version::V4, b"\x32\x09\x00\x03a/b\x00\x05{}") else {
        panic!("no publish")
    };
    assert_eq!(
        (
            publish.topic.as_str(),
            &publish.payload[..],
            publish.qos,
            publish.id
        ),
        ("a/b", &b"{}"[..], 1, 5)
    );
    // With message expiry, content type and a user property; and QoS 0.
    let properties = b"\x02\x00\x00\x00\x09\x03\x00\x04json\x26\x00\x01k\x00\x01v";
    let mut packet = vec![
        0x30,
        6 + properties.len() as u8 + 2,
        0,
        3,
        b'a',
        b'/',
        b'b',
        properties.len() as u8,
    ];
    packet.extend_from_slice(properties);
    packet.extend_from_slice(b"{}");
    let Packet::Publish(publish) = packet_of(Version::V5, &packet) else {
        panic!("no publish")
    };
    assert_eq!(
        (
            publish.topic.as_str(),
            &publish.payload[..],
            publish.qos,
            publish.id
        ),
        ("a/b", &b"{}"[..], 0, 0)
    );
}

#[test]
fn the_other_packets_of_a_client_are_read() {
    use Version::{V4, V5};
    for (version, packet, wanted) in [
        (V4, &b"\xc0\x00"[..], "Ping"),
        (V4, b"\xe0\x00", "Disconnect { with_will: false }"),
        (V5, b"\xe0\x00", "Disconnect { with_will: false }"),
        (V5, b"\xe0\x01\x00", "Disconnect { with_will: false }"),
        (V5, b"\xe0\x01\x04", "Disconnect { with_will: true }"),
        (V5, b"\xe0\x02\x04\x00", "Disconnect { with_will: true }"),
        // Anything but a normal end keeps the will.
        (V5, b"\xe0\x02\x81\x00", "Disconnect { with_will: true }"),
        (
            V4,
            b"\x82\x08\x00\x05\x00\x03a/#\x01",
            r#"Subscribe { id: 5, filters: ["a/#"] }"#,
        ),
        (
            V5,
            b"\x82\x09\x00\x05\x00\x00\x03a/#\x01",
            r#"Subscribe { id: 5, filters: ["a/#"] }"#,
        ),
        (
            V4,
            b"\xa2\x07\x00\x05\x00\x03a/#",
            r#"Unsubscribe { id: 5, filters: ["a/#"] }"#,
        ),
        (
            V5,
            b"\xa2\x08\x00\x05\x00\x00\x03a/#",
            r#"Unsubscribe { id: 5, filters: ["a/#"] }"#,
        ),
        (V4, b"\x40\x02\x00\x05", "Ignored"),
    ] {
        assert_eq!(format!("{:?}", packet_of(version, packet)), wanted, "{packet:x?}");
    }
}

#[test]
fn violations_are_refused_for_their_reason() {
    use Version::{V4, V5};
    for (version, packet, fault) in [
        // A second CONNECT, packets that only a server sends, and QoS 2's.
        (
            V4,
            &b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"[..],
            Fault::Protocol,
        ),
        (V4, b"\x20\x02\x00\x00", Fault::Protocol),
        (V5, b"\xd0\x00", Fault::Protocol),
        (V5, b"\x62\x02\x00\x05", Fault::Protocol),
        (V5, b"\xf0\x00", Fault::Protocol),
        (V4, b"\x34\x09\x00\x03a/b\x00\x05{}", Fault::Qos),
        // QoS 3, and packet id 0.
        (V4, b"\x36\x09\x00\x03a/b\x00\x05{}", Fault::Malformed),
        (V4, b"\x32\x09\x00\x03a/b\x00\x00{}", Fault::Malformed),
        (V4, b"\x82\x08\x00\x00\x00\x03a/#\x01", Fault::Malformed),
        // Reserved bits.
        (V4, b"\xc1\x00", Fault::Malformed),
        (V4, b"\x80\x08\x00\x05\x00\x03a/#\x01", Fault::Malformed),
        (V5, b"\xe2\x00", Fault::Malformed),
        // Topics: with wildcards, with NUL, empty, not UTF-8, longer than the packet.
        (V4, b"\x30\x05\x00\x03a/#", Fault::Topic),
        (V5, b"\x30\x06\x00\x03a/+\x00", Fault::Topic),
        (V4, b"\x30\x05\x00\x03a\x00b", Fault::Topic),
        (V5, b"\x30\x03\x00\x00\x00", Fault::Topic),
        (V4, b"\x30\x05\x00\x03\xff/b", Fault::Malformed),
        (V5, b"\x30\x06\x00\x03\xff/b\x00", Fault::Malformed),
        (V4, b"\x30\x05\x00\x0fa/b", Fault::Malformed),
        // A property length past the end, which the codec alone would take for a packet that is not whole.
        (V5, b"\x32\x08\x00\x03a/b\x00\x05\x80", Fault::Malformed),
        (V5, b"\x32\x07\x00\x03a/b\x00\x05", Fault::Malformed),
        (V5, b"\x30\x09\x00\x03a/b\x03\x23\x00\x01", Fault::TopicAlias),
        // Nothing subscribed to, bodies where none may be, none where one has to be.
        (V4, b"\x82\x02\x00\x05", Fault::Malformed),
        (V4, b"\xc0\x01\x00", Fault::Malformed),
        (V4, b"\xe0\x01\x00", Fault::Malformed),
        (V4, b"\x30\x00", Fault::Malformed),
        (V4, b"\x30\xff\x7f", Fault::TooLarge),
        (V4, b"\x30\xff\xff\xff\xff", Fault::Malformed),
    ] {
        assert_eq!(fault_of(version, packet), fault, "{packet:x?}");
    }
}

/// Whole packets of both versions.
fn packets() -> Vec<(Version, Vec<u8>)> {
    use Version::{V4, V5};
    let will =
        b"\x10\x2a\x00\x04MQTT\x04\xee\x00\x3c\x00\x07cnc-007\x00\x04will\x00\x03bye\x00\x04user\x00\x04pass";
    vec![
        (
            V4,
            b"\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07cnc-007".to_vec(),
        ),
        (V4, will.to_vec()),
        (
            V5,
            b"\x10\x19\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x0a\x00\x07cnc-007".to_vec(),
        ),
        (
            V5,
            b"\x10\x1a\x00\x04MQTT\x05\x06\x00\x3c\x00\x00\x00\x05\x18\x00\x00\x00\x01\x00\x01a\x00\x02hi"
                .to_vec(),
        ),
        (V4, b"\x32\x09\x00\x03a/b\x00\x05{}".to_vec()),
        (
            V5,
            b"\x32\x14\x00\x03a/b\x00\x05\x0a\x01\x01\x02\x00\x00\x00\x09\x08\x00\x00{}".to_vec(),
        ),
        (V4, b"\x82\x08\x00\x05\x00\x03a/#\x01".to_vec()),
        (V5, b"\x82\x0b\x00\x05\x02\x0b\x05\x00\x03a/#\x01".to_vec()),
        (V4, b"\xa2\x07\x00\x05\x00\x03a/#".to_vec()),
        (V5, b"\xa2\x08\x00\x05\x00\x00\x03a/#".to_vec()),
        (V5, b"\xe0\x02\x04\x00".to_vec()),
        (V5, b"\x40\x04\x00\x05\x10\x00".to_vec()),
    ]
}

#[test]
fn a_packet_is_taken_only_when_it_is_whole() {
    for (version, packet) in packets() {
        let is_connect = packet[0] == 0x10;
        for length in 0..packet.len() {
            let mut bytes = BytesMut::from(&packet[..length]);
            let taken = if is_connect {
                read_connect(&mut bytes, MAX)
                    .map(|connect| connect.is_some())
                    .map_err(|no| no.fault)
            } else {
                read(version, &mut bytes, MAX).map(|packet| packet.is_some())
            };
            assert_eq!(
                (taken, bytes.len()),
                (Ok(false), length),
                "{length} bytes of {packet:x?}"
            );
        }
    }
}

#[test]
fn mutated_packets_never_panic() {
    // Deterministic, so that a failure comes again: xorshift with a fixed seed.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let packets = packets();
    let mut read_at_all = 0_u32;
    for _ in 0..300_000 {
        let (version, mut packet) = packets[random() % packets.len()].clone();
        for _ in 0..=random() % 4 {
            let at = random() % packet.len();
            packet[at] = if random() % 2 == 0 {
                random() as u8
            } else {
                (random() % 8) as u8
            };
        }
        if random() % 4 == 0 {
            packet.truncate(2 + random() % (packet.len() - 1));
            // A frame that is whole but cut short inside is the harder case.
            packet[1] = packet.len() as u8 - 2;
        }
        let mut bytes = BytesMut::from(&packet[..]);
        let before = bytes.len();
        match read(version, &mut bytes, MAX) {
            Ok(Some(_)) => {
                read_at_all += 1;
                assert!(bytes.len() < before, "a packet takes bytes: {packet:x?}");
            }
            Ok(None) => assert_eq!(bytes.len(), before, "nothing is taken of {packet:x?}"),
            Err(_) => {}
        }
        let _ = read_connect(&mut BytesMut::from(&packet[..]), MAX);
    }
    assert!(
        read_at_all > 10_000,
        "the mutations leave {read_at_all} packets whole"
    );
}
