//! `query`: one twin of many against a bare warp route with the same bytes, also under load; and a CEL search.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use gemba_runtime::{clock, ingest::Message};
use gemba_twins::id::TenantId;
use tokio::{sync::watch, task::JoinHandle};
use warp::Filter;

use super::{BenchArgs, Case, Stand, client};

const CONNECTIONS: usize = 64;

/// Makes twins with a reading of eight metrics each.
pub(super) async fn fill(stand: &Stand, twins: usize, rounds: u64) -> anyhow::Result<()> {
    let tenant = TenantId::parse("default")?;
    let source: Arc<str> = "bench".into();
    for round in 0..rounds {
        for from in (0..twins).step_by(1_000) {
            let permit = stand.node.ingest().admit(&tenant, 1_000, 300_000).await;
            let mut batch = stand.node.ingest().batch(&tenant, &source);
            for number in from..(from + 1_000).min(twins) {
                batch.push(Message::Reading {
                    sensor: None,
                    json: machine(number, round).as_bytes(),
                });
            }
            batch.submit(permit).await?;
        }
    }
    Ok(())
}

/// A reading of eight metrics.
pub(super) fn machine(number: usize, round: u64) -> String {
    format!(
        r#"{{"sensor_id":"m-{number:07}","sensor_type":"MACHINE","location_id":"cell-{}","message_id":"fill-{round}-{number}","metrics":{{"execution":"{}","cycle_count":{},"good_count":{},"energy_kwh":{}.5,"power_kw":7.25,"spindle_rpm":{},"temperature_c":41.5,"vibration_mm":0.7}}}}"#,
        number % 1_000,
        if number.is_multiple_of(7) {
            "down"
        } else {
            "producing"
        },
        round * 2,
        round,
        1_000 + round,
        8_000 + number % 100
    )
}

pub(super) async fn run(args: &BenchArgs) -> anyhow::Result<Vec<Case>> {
    let stand = Stand::start(args, |_| {}).await?;
    let twins = args.scaled(args.twins);
    fill(&stand, twins, 1).await?;
    let path = format!("/v1/twins/machine/m-{:07}", twins / 2);
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes();
    let mut http = client::Http::connect(stand.http.address.port()).await?;
    let (status, body) = http.get(&request).await?;
    ensure!(status == 200, "the node answered {status}");
    let bare = bare(body).await?;
    let limit = load(bare.0, &request, args.window()).await?;
    let alone = load(stand.http.address.port(), &request, args.window()).await?;
    let mut cases = vec![
        Case::new("twin_get")
            .against("a bare warp route with the same bytes", alone.0, limit.0)
            .percentiles(&mut alone.1.clone()),
    ];
    let (stop, told) = watch::channel(false);
    let feeding = feed(&stand, twins, 20_000, machine, told)?;
    let limit_loaded = load(bare.0, &request, args.window()).await?;
    let loaded = load(stand.http.address.port(), &request, args.window()).await?;
    let _ = stop.send(true);
    let fed = feeding.await??;
    cases.push(
        Case::new("twin_get_under_load")
            .against(
                "a bare warp route with the same bytes, while the same events come in",
                loaded.0,
                limit_loaded.0,
            )
            .percentiles(&mut loaded.1.clone())
            .with("events_per_s", fed.round())
            .with("limit_per_s_without_load", limit.0.round()),
    );
    cases.push(search(&stand, args, twins).await?);
    bare.1.abort();
    stand.stop().await;
    Ok(cases)
}

async fn bare(body: Vec<u8>) -> anyhow::Result<(u16, JoinHandle<()>)> {
    let body = bytes::Bytes::from(body);
    let route = warp::path!("v1" / "twins" / String / String)
        .and(warp::get())
        .map(move |_, _| {
            warp::http::Response::builder()
                .header("content-type", "application/json")
                .body(body.clone())
        });
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = socket.local_addr()?.port();
    Ok((port, tokio::spawn(warp::serve(route).incoming(socket).run())))
}

/// Requests per second over many connections, and their times in ms.
async fn load(port: u16, request: &[u8], time: Duration) -> anyhow::Result<(f64, Vec<f64>)> {
    let began = clock::instant();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let request = request.to_vec();
            tokio::spawn(async move {
                let mut http = client::Http::connect(port).await?;
                let (mut count, mut latencies) = (0_u64, Vec::new());
                while began.elapsed() < time {
                    let asked = clock::instant();
                    let (status, _) = http.get(&request).await?;
                    ensure!(status == 200, "the node answered {status}");
                    count += 1;
                    latencies.push(asked.elapsed().as_secs_f64() * 1_000.0);
                }
                Ok((count, latencies))
            })
        })
        .collect();
    let (mut requests, mut latencies) = (0, Vec::new());
    for client in clients {
        let (count, times) = client.await??;
        requests += count;
        latencies.extend(times);
    }
    Ok((requests as f64 / began.elapsed().as_secs_f64(), latencies))
}

/// Feeds events at a rate until told to stop; answers the rate reached.
pub(super) fn feed(
    stand: &Stand,
    twins: usize,
    per_second: usize,
    reading: fn(usize, u64) -> String,
    mut told: watch::Receiver<bool>,
) -> anyhow::Result<JoinHandle<anyhow::Result<f64>>> {
    let (ingest, tenant) = (stand.node.ingest().clone(), TenantId::parse("default")?);
    Ok(tokio::spawn(async move {
        let source: Arc<str> = "bench".into();
        let per_tick = per_second.div_ceil(100);
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let (began, mut sent, mut round) = (clock::instant(), 0_usize, 1_000_u64);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                stopped = told.wait_for(|stop| *stop) => {
                    drop(stopped.context("the bench ended")?);
                    return Ok(sent as f64 / began.elapsed().as_secs_f64());
                }
            }
            let permit = ingest.admit(&tenant, per_tick, 300 * per_tick).await;
            let mut batch = ingest.batch(&tenant, &source);
            for _ in 0..per_tick {
                batch.push(Message::Reading {
                    sensor: None,
                    json: reading(sent % twins, round).as_bytes(),
                });
                sent += 1;
                round += u64::from(sent.is_multiple_of(twins));
            }
            batch.submit(permit).await?;
        }
    }))
}

async fn search(stand: &Stand, args: &BenchArgs, twins: usize) -> anyhow::Result<Case> {
    let filter = "kind%20%3D%3D%20%22machine%22%20%26%26%20state.metrics.spindle_rpm.value%20%3E%208090.0%20%26%26%20attributes.location%20%3D%3D%20%22cell-95%22";
    let request =
        format!("GET /v1/twins?filter={filter}&limit=100 HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes();
    let mut http = client::Http::connect(stand.http.address.port()).await?;
    let mut times = Vec::new();
    for _ in 0..20 {
        let asked = clock::instant();
        let (status, _) = http.get(&request).await?;
        ensure!(status == 200, "the node answered {status}");
        times.push(asked.elapsed().as_secs_f64() * 1_000.0);
    }
    let rate = |searching: bool| {
        let request = request.clone();
        async move {
            let (stop, told) = watch::channel(false);
            let feeding = feed(stand, twins, 40_000, machine, told)?;
            let (mut http, began) = (
                client::Http::connect(stand.http.address.port()).await?,
                clock::instant(),
            );
            while began.elapsed() < args.window() {
                if searching {
                    http.get(&request).await?;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            let _ = stop.send(true);
            feeding.await?
        }
    };
    let (without, with) = (rate(false).await?, rate(true).await?);
    Ok(Case::new("search")
        .with("twins", twins)
        .with("p50_ms", super::percentile(&mut times.clone(), 0.5))
        .with("p99_ms", super::percentile(&mut times, 0.99))
        .with("ingest_per_s", with.round())
        .with("ingest_per_s_without_search", without.round())
        .with("ratio", (1_000.0 * with / without).round() / 1_000.0))
}
