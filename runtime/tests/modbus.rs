//! A meter that is asked over Modbus TCP: frame for frame what a real one answers, and what becomes of it.
//!
//! The frames are those of an Eastron SDM630's registers, recorded at a public implementation of the protocol.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::{net::SocketAddr, time::Duration};

use gemba_runtime::{
    clock,
    modbus::{Function, ModbusPoint, ModbusSettings, RegisterKind, run},
    node::Node,
    settings::NodeSettings,
};
use gemba_twins::id::{TenantId, TwinId};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

const FRAMES: &str = include_str!("samples/modbus_sdm630_frames.txt");

/// What is asked and answered, in hexadecimal, without the transaction's number.
fn frames() -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = |text: &str| -> Vec<u8> {
        let digits = text.trim().as_bytes().chunks(2);
        digits
            .map(|two| u8::from_str_radix(str::from_utf8(two).expect("ASCII"), 16).expect("hexadecimal"))
            .collect()
    };
    let frame = |line: &str| {
        let (asked, answered) = line.split_once("->")?;
        Some((bytes(asked)[2..].to_vec(), bytes(answered)[2..].to_vec()))
    };
    FRAMES.lines().filter_map(frame).collect()
}

/// A meter: answers what it knows as it was recorded, and tells what it was asked.
async fn meter(asked: mpsc::Sender<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            answer(stream, &asked).await;
        }
    });
    address
}

async fn answer(mut stream: TcpStream, asked: &mpsc::Sender<Vec<u8>>) {
    let mut request = [0_u8; 12];
    while stream.read_exact(&mut request).await.is_ok() {
        if asked.send(request[2..].to_vec()).await.is_err() {
            return;
        }
        let Some((_, known)) = frames().into_iter().find(|(known, _)| *known == request[2..]) else {
            return;
        };
        let mut frame = request[..2].to_vec();
        frame.extend(known);
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}

fn point(name: &str, address: u16) -> ModbusPoint {
    ModbusPoint {
        name: name.into(),
        function: Function::Input,
        address,
        kind: RegisterKind::F32,
        low_word_first: false,
        scale: if name.ends_with("_kw") { 0.001 } else { 1.0 },
    }
}

#[tokio::test]
async fn a_meter_is_asked_and_its_answers_are_readings() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = NodeSettings::new(folder.path().to_owned());
    settings.shards = 2;
    let node = Node::start(settings).await.expect("a node");
    node.all_recovered().await.expect("recovered");
    let tenant = TenantId::parse("acme").expect("a tenant");
    let (tell, mut asked) = mpsc::channel(64);
    let address = meter(tell).await;
    let (stop, stopped) = watch::channel(false);
    let device = ModbusSettings {
        name: "meter-1".into(),
        host: address.to_string(),
        unit: 1,
        tenant: tenant.clone(),
        sensor_id: "press-01".into(),
        poll: Duration::from_millis(20),
        patience: Duration::from_secs(5),
        points: vec![
            point("l1_v", 0),
            point("l2_v", 2),
            point("l3_v", 4),
            point("power_kw", 0x34),
            point("energy_kwh", 0x48),
            // The meter has no such register.
            point("nothing", 0x2000),
        ],
    };
    let running = tokio::spawn(run(device, node.ingest().clone(), stopped));
    // The second round begins when the first one's reading is durable.
    for _ in 0..2 {
        for (request, _) in frames() {
            assert_eq!(asked.recv().await, Some(request));
        }
    }
    let id = TwinId::parse(tenant, "machine/press-01").expect("an address");
    let now = clock::now();
    let shown = node
        .twins()
        .with(&id, |twin| serde_json::to_value(twin.view(now)).expect("JSON"));
    let shown = shown.expect("the store").expect("a twin");
    let value = |name: &str| {
        shown["state"]["metrics"][name]["value"]
            .as_f64()
            .unwrap_or(f64::NAN)
    };
    for (name, wanted) in [
        ("l1_v", 230.2),
        ("l2_v", 231.1),
        ("l3_v", 229.8),
        ("power_kw", 2.810_5),
        ("energy_kwh", 12_345.677_734_375),
    ] {
        assert!(
            (value(name) - wanted).abs() < 1e-4,
            "{name} is {} in {shown}",
            value(name)
        );
    }
    assert_eq!(shown["state"]["metrics"]["nothing"], Value::Null);
    stop.send(true).expect("it listens");
    running.await.expect("it stopped");
    node.stop().await;
}
