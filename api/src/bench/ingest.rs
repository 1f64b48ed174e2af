//! `ingest`: MQTT QoS 1 and NDJSON over HTTP, acknowledged when durable and visible, against the same without a fold.

use std::time::Duration;

use anyhow::ensure;
use gemba_runtime::clock;
use tokio::task::JoinHandle;

use super::{BenchArgs, Case, Stand, client};

const CLIENTS: usize = 50;
const WINDOW: usize = 100;
pub(super) const CONNECTIONS: usize = 8;
const BATCH: u64 = 500;

pub(super) async fn run(args: &BenchArgs) -> anyhow::Result<Vec<Case>> {
    let (limit, _) = mqtt(args, true).await?;
    let (rate, mut latencies) = mqtt(args, false).await?;
    let mqtt_case = Case::new("mqtt_qos1")
        .against("listener and journal without fold", rate, limit)
        .percentiles(&mut latencies);
    let (limit, _) = ndjson(args, true).await?;
    let (rate, mut latencies) = ndjson(args, false).await?;
    let http_case = Case::new("http_ndjson")
        .against("the same without fold", rate, limit)
        .percentiles(&mut latencies);
    Ok(vec![mqtt_case, http_case])
}

async fn mqtt(args: &BenchArgs, skip_fold: bool) -> anyhow::Result<(f64, Vec<f64>)> {
    let stand = Stand::start(args, |settings| settings.bench_skip_fold = skip_fold).await?;
    let (port, time, began) = (stand.mqtt.address.port(), args.window(), clock::instant());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            tokio::spawn(client::mqtt_publisher(
                port,
                format!("bench-{number:02}"),
                WINDOW,
                time,
            ))
        })
        .collect();
    let (acknowledged, latencies) = gathered(clients).await?;
    let rate = acknowledged as f64 / began.elapsed().as_secs_f64();
    stand.stop().await;
    Ok((rate, latencies))
}

async fn ndjson(args: &BenchArgs, skip_fold: bool) -> anyhow::Result<(f64, Vec<f64>)> {
    let stand = Stand::start(args, |settings| settings.bench_skip_fold = skip_fold).await?;
    let (port, time, began) = (stand.http.address.port(), args.window(), clock::instant());
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|number| tokio::spawn(sender(port, number, time)))
        .collect();
    let (readings, latencies) = gathered(senders).await?;
    let rate = readings as f64 / began.elapsed().as_secs_f64();
    stand.stop().await;
    Ok((rate, latencies))
}

/// How much was acknowledged, and the times that it took.
type Sent = (u64, Vec<f64>);

/// What senders had acknowledged in all.
pub(super) async fn gathered(senders: Vec<JoinHandle<anyhow::Result<Sent>>>) -> anyhow::Result<Sent> {
    let (mut acknowledged, mut latencies) = (0, Vec::new());
    for sender in senders {
        let (count, times) = sender.await??;
        acknowledged += count;
        latencies.extend(times);
    }
    Ok((acknowledged, latencies))
}

pub(super) async fn sender(port: u16, number: usize, time: Duration) -> anyhow::Result<(u64, Vec<f64>)> {
    let mut http = client::Http::connect(port).await?;
    let sensors: Vec<String> = (0..50).map(|sensor| format!("http-{number}-{sensor}")).collect();
    let (began, mut sent, mut latencies) = (clock::instant(), 0, Vec::new());
    let mut body = String::with_capacity(256 * BATCH as usize);
    while began.elapsed() < time {
        body.clear();
        for reading in sent..sent + BATCH {
            body.push_str(&client::reading(&sensors[(reading % 50) as usize], reading));
            body.push('\n');
        }
        let asked = clock::instant();
        let status = http
            .post("/v1/readings", "application/x-ndjson", body.as_bytes())
            .await?;
        ensure!(status == 200 || status == 429, "the node answered {status}");
        if status == 200 {
            latencies.push(asked.elapsed().as_secs_f64() * 1_000.0);
            sent += BATCH;
        }
    }
    Ok((sent, latencies))
}
