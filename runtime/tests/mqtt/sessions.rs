//! Who may connect, for how long, and what becomes of those who go.

use std::time::Duration;

use super::{
    device::{Device, Hello, packet, publish, text},
    site::{Site, keys, tenant},
    within,
};

/// What a CONNECT is answered with.
async fn answer_to(site: &Site, hello: &Hello<'_>) -> Vec<u8> {
    let mut device = Device::dial(site.address).await;
    device.send(&hello.bytes()).await;
    device.next().await.expect("a CONNACK")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_a_key_that_may_send_is_let_in() {
    let site = Site::with(keys(), |_| {}).await;
    for (login, v4, v5) in [
        (Some(("edge", "edge-token")), 0, 0x00),
        (Some(("acme/edge", "edge-token")), 0, 0x00),
        (Some(("", "edge-token")), 0, 0x00),
        (Some(("globex/edge", "edge-token")), 4, 0x86),
        (Some(("edge", "far-token")), 4, 0x86),
        (Some(("edge", "")), 4, 0x86),
        (Some(("nobody", "edge-token")), 4, 0x86),
        // A viewer may see; what it sends is refused.
        (Some(("wall", "wall-token")), 0, 0x00),
        (None, 5, 0x87),
    ] {
        for (level, wanted) in [(4, v4), (5, v5)] {
            let answer = answer_to(
                &site,
                &Hello {
                    login,
                    ..Hello::new(level, "d")
                },
            )
            .await;
            assert_eq!(
                (answer[0], answer[3]),
                (0x20, wanted),
                "{login:?} with level {level}"
            );
        }
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_of_a_device_takes_over() {
    let site = Site::with(keys(), |_| {}).await;
    let hello = |user, password| Hello {
        login: Some((user, password)),
        ..Hello::new(5, "cnc-07")
    };
    let mut first = Device::connect(site.address, &hello("edge", "edge-token")).await;
    // The same client id of another tenant is another device.
    let mut other = Device::connect(site.address, &hello("far", "far-token")).await;
    let mut second = Device::connect(site.address, &hello("edge", "edge-token")).await;
    assert_eq!(first.last_words().await, [0xe0, 2, 0x8e, 0]);
    let reading = r#"{"metrics":{"rpm":1}}"#;
    assert_eq!(
        second
            .publish(5, "gemba/v1/acme/readings/cnc-07", 1, reading)
            .await,
        0
    );
    assert_eq!(
        other
            .publish(5, "gemba/v1/globex/readings/cnc-07", 1, reading)
            .await,
        0
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_without_a_client_id_are_not_taken_for_one() {
    let site = Site::open().await;
    let mut devices = Vec::new();
    for level in [4, 5, 4, 5] {
        devices.push((level, Device::connect(site.address, &Hello::new(level, "")).await));
    }
    for (level, device) in &mut devices {
        let reading = r#"{"metrics":{"rpm":1}}"#;
        assert_eq!(
            device
                .publish(*level, "gemba/v1/acme/readings/cnc-07", 1, reading)
                .await,
            0
        );
    }
    // A 3.1.1 session that is to be kept needs a name.
    let mut nameless = Device::dial(site.address).await;
    nameless
        .send(b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x3c\x00\x00")
        .await;
    assert_eq!(nameless.last_words().await, [0x20, 2, 0, 2]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_falls_silent_is_closed_and_who_pings_is_not() {
    let site = Site::open().await;
    let hello = |id| Hello {
        keep_alive_s: 1,
        ..Hello::new(5, id)
    };
    let mut silent = Device::connect(site.address, &hello("silent")).await;
    let mut alive = Device::connect(site.address, &hello("alive")).await;
    // One ping in time, and the silent one's end comes before the other's.
    alive.send(&[0xc0, 0]).await;
    assert_eq!(alive.next().await.expect("a PINGRESP"), [0xd0, 0]);
    assert_eq!(silent.last_words().await, [0xe0, 2, 0x8d, 0]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_closed_in_time() {
    let site = Site::with(keys(), |settings| {
        settings.connect_timeout = Duration::from_millis(50)
    })
    .await;
    let mut nothing = Device::dial(site.address).await;
    assert_eq!(nothing.last_words().await, b"");
    let mut half = Device::dial(site.address).await;
    half.send(&Hello::new(4, "slow").bytes()[..9]).await;
    assert_eq!(half.last_words().await, b"");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_too_many_is_not_let_in_until_another_goes() {
    let site = Site::with(keys(), |settings| settings.connections_max = 1).await;
    let hello = Hello {
        login: Some(("edge", "edge-token")),
        ..Hello::new(4, "d")
    };
    let first = Device::connect(site.address, &hello).await;
    let mut second = Device::dial(site.address).await;
    assert_eq!(second.last_words().await, b"");
    first.vanish().await;
    within("room", async {
        loop {
            let mut again = Device::dial(site.address).await;
            again.send(&hello.bytes()).await;
            if again.next().await.is_some() {
                break;
            }
        }
    })
    .await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_is_published_for_who_goes_without_a_word() {
    let site = Site::open().await;
    let will = |metric: &str| format!(r#"{{"message_id":"{metric}","metrics":{{"{metric}":1}}}}"#);
    for (level, name, goodbye, published) in [
        (4, "v4_gone", &b""[..], true),
        (5, "v5_gone", b"", true),
        (4, "v4_left", b"\xe0\x00", false),
        (5, "v5_left", b"\xe0\x00", false),
        (5, "v5_left_with_will", b"\xe0\x01\x04", true),
        (4, "v4_faulty", b"\x00\x00", true),
    ] {
        let payload = will(name);
        let hello = Hello {
            will: Some(("gemba/v1/acme/readings/cnc-07", &payload)),
            ..Hello::new(level, name)
        };
        let mut device = Device::connect(site.address, &hello).await;
        device.send(goodbye).await;
        if goodbye.is_empty() {
            device.vanish().await;
        } else {
            device.last_words().await;
        }
        if published {
            within(name, async {
                while site.metric("cnc-07", name).is_none() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    }
    // All connections are closed when this returns, and with them all wills are out.
    let node = site.node.clone();
    let metrics = ["v4_left", "v5_left"].map(|name| site.metric("cnc-07", name));
    assert_eq!(metrics, [None, None]);
    site.stop().await;
    let counts = node.counts(&tenant("acme"));
    assert_eq!(
        counts.iter().map(|counts| counts.applied).sum::<u64>(),
        4,
        "{counts:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_may_subscribe_to_its_own_topics_only() {
    let site = Site::with(keys(), |_| {}).await;
    for (level, refused) in [(4, 0x80), (5, 0x87)] {
        let hello = Hello {
            login: Some(("edge", "edge-token")),
            ..Hello::new(level, "any-client-id")
        };
        let mut device = Device::connect(site.address, &hello).await;
        let properties: &[u8] = if level == 5 { &[0] } else { &[] };
        for (filter, wanted) in [
            ("gemba/v1/acme/devices/edge/#", 1),
            ("gemba/v1/acme/devices/edge/commands/+", 1),
            ("gemba/v1/acme/devices/edge/", refused),
            ("gemba/v1/acme/devices/edge2/#", refused),
            ("gemba/v1/acme/devices/any-client-id/#", refused),
            ("gemba/v1/acme/devices/+/#", refused),
            ("gemba/v1/acme/#", refused),
            ("gemba/v1/globex/devices/edge/#", refused),
            ("gemba/v1/acme/devices/edge/#/x", refused),
            ("$share/g/gemba/v1/acme/devices/edge/#", refused),
            ("#", refused),
        ] {
            let body = [&[0, 7][..], properties, &text(filter), &[1]].concat();
            device.send(&packet(0x82, &body)).await;
            let answer = device.next().await.expect("a SUBACK");
            assert_eq!(
                (answer[0], answer.last()),
                (0x90, Some(&wanted)),
                "{filter} with level {level}"
            );
        }
        let body = [&[0, 8][..], properties, &text("gemba/v1/acme/devices/edge/#")].concat();
        device.send(&packet(0xa2, &body)).await;
        assert_eq!(device.next().await.expect("an UNSUBACK")[0], 0xb0);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_was_read_and_says_why() {
    let site = Site::open().await;
    let mut device = Device::connect(site.address, &Hello::new(5, "cnc-07")).await;
    device
        .send(&publish(
            5,
            "gemba/v1/acme/readings/cnc-07",
            1,
            br#"{"metrics":{"rpm":1}}"#,
        ))
        .await;
    // Visible, so it has been read.
    within("the reading", async {
        while site.metric("cnc-07", "rpm").is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let words = tokio::spawn(async move { device.last_words().await });
    site.stop().await;
    assert_eq!(
        words.await.expect("the last words"),
        [0x40, 2, 0, 1, 0xe0, 2, 0x8b, 0]
    );
}
