//! `subscribe`: 200 WebSocket clients with filters of their own at 10,000 events a second; then 20 of them stalled.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use gemba_runtime::clock;
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio_tungstenite::{connect_async, tungstenite::Message};

use super::{BenchArgs, Case, Stand, percentile, query, resident_bytes};

const CLIENTS: usize = 200;
const STALLED: usize = 20;
const RATE: usize = 10_000;

pub(super) async fn run(args: &BenchArgs) -> anyhow::Result<Vec<Case>> {
    let (mut alone, frames, _) = measure(args, 0).await?;
    let (mut beside, stalled_frames, grown) = measure(args, STALLED).await?;
    let (p99_alone, p99_beside) = (percentile(&mut alone, 0.99), percentile(&mut beside, 0.99));
    Ok(vec![
        Case::new("fanout")
            .with("clients", CLIENTS)
            .with("events_per_s", RATE)
            .with("frames_per_s", frames)
            .percentiles(&mut alone),
        Case::new("fanout_with_stalled")
            .with("clients", CLIENTS)
            .with("stalled", STALLED)
            .with("frames_per_s", stalled_frames)
            .percentiles(&mut beside)
            .with("limit", "p99 of the same without stalled clients")
            .with("limit_ms", p99_alone)
            .with(
                "ratio",
                (1_000.0 * p99_beside / p99_alone.max(0.001)).round() / 1_000.0,
            )
            .with("rss_grown_bytes", grown),
    ])
}

/// Microseconds since the first call; sender and subscribers are one process.
fn now_us() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(clock::instant).elapsed().as_micros() as u64
}

/// A reading that says when it was made.
fn reading(number: usize, _: u64) -> String {
    format!(
        r#"{{"sensor_id":"m-{number:07}","metrics":{{"sent_us":{},"cycle_count":7,"power_kw":7.25,"spindle_rpm":8000}}}}"#,
        now_us()
    )
}

async fn measure(args: &BenchArgs, stalled: usize) -> anyhow::Result<(Vec<f64>, f64, u64)> {
    let stand = Stand::start(args, |_| {}).await?;
    // A thousand machines in a thousand cells: each client follows five of them.
    let twins = 1_000;
    query::fill(&stand, twins, 1).await?;
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let url = format!("ws://{}/v1/stream", stand.http.address);
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let (mut socket, _) = connect_async(&url).await.context("failed to open a WebSocket")?;
        let cells: Vec<String> = (0..5)
            .map(|cell| format!("'cell-{}'", number * 5 + cell))
            .collect();
        let filter = format!(
            "kind == 'machine' && attributes.location in [{}]",
            cells.join(", ")
        );
        let subscribe =
            json!({"type": "subscribe", "id": "s", "filter": filter, "fields": ["state.metrics.sent_us"]});
        socket.send(Message::text(subscribe.to_string())).await?;
        let (latencies, stalls) = (latencies.clone(), number < stalled);
        clients.push(tokio::spawn(async move {
            if stalls {
                // Holds the connection and takes nothing.
                std::future::pending::<()>().await;
            }
            while let Some(Ok(message)) = socket.next().await {
                let Message::Text(text) = message else { continue };
                let frame: Json = serde_json::from_str(&text).unwrap_or_default();
                let sent = frame["patch"]["state"]["metrics"]["sent_us"]["value"].as_f64();
                if let (Some("change"), Some(sent)) = (frame["type"].as_str(), sent) {
                    let ms = (now_us() as f64 - sent) / 1_000.0;
                    latencies
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(ms.max(0.0));
                }
            }
        }));
    }
    let before = resident_bytes();
    let (stop, told) = watch::channel(false);
    let feeding = query::feed(&stand, twins, RATE, reading, told)?;
    // The first second is for the snapshots.
    tokio::time::sleep(Duration::from_secs(1)).await;
    latencies.lock().unwrap_or_else(PoisonError::into_inner).clear();
    tokio::time::sleep(args.window()).await;
    let measured = std::mem::take(&mut *latencies.lock().unwrap_or_else(PoisonError::into_inner));
    let _ = stop.send(true);
    feeding.await??;
    let grown = resident_bytes().saturating_sub(before);
    clients.into_iter().for_each(|client| client.abort());
    stand.stop().await;
    let frames = measured.len() as f64 / args.window().as_secs_f64();
    Ok((measured, frames.round(), grown))
}
