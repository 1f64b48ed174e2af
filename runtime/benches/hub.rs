//! Measures changes and search on this machine: 200 subscriptions with different filters while 10,000 events a
//! second come in through the journal, and searches over 100,000 twins.
//!
//! `cargo bench -p gemba-runtime --bench hub`. Prints latency from the event's hand-over to the subscriber's frame,
//! the journal's commit included, and what the hub costs in CPU time per change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gemba_runtime::{
    changes::{FrameKind, Mode, Spec},
    clock,
    filter::{Filter, Query, search},
    ingest::Message,
    node::Node,
    settings::NodeSettings,
};
use gemba_twins::id::{Kind, TenantId};

const MACHINES: usize = 1_000;
const SUBSCRIPTIONS: usize = 200;
const PER_TICK: usize = 100;
const TICK: Duration = Duration::from_millis(10);
const SECONDS: usize = 5;
const SEARCHED: usize = 100_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("gemba-bench-hub-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let node = Node::start(NodeSettings::new(folder.clone())).await?;
    node.all_recovered().await?;
    let measured = measure(&node).await;
    node.stop().await;
    std::fs::remove_dir_all(&folder)?;
    measured
}

async fn measure(node: &Node) -> Result<(), Box<dyn std::error::Error>> {
    let tenant = TenantId::parse("bench")?;
    let began = clock::instant();
    send(node, &tenant, 0..MACHINES, MACHINES, began).await?;
    let idle = run(
        node,
        &tenant,
        "nobody listens",
        0,
        Mode::Latest,
        |_| String::new(),
        began,
    )
    .await?;
    let cell = |number: usize| {
        format!(
            "kind == 'machine' && attributes.location == 'cell-{}' && rev > {number}",
            number % 200
        )
    };
    let shared = |number: usize| {
        format!(
            "attributes.location.endsWith('{}') && rev > {number}",
            number % 10
        )
    };
    for (name, mode, filter) in [
        (
            "each machine has one watcher, latest",
            Mode::Latest,
            &cell as &dyn Fn(usize) -> String,
        ),
        ("each machine has one watcher, every", Mode::Every, &cell),
        (
            "each machine has twenty watchers, no index",
            Mode::Latest,
            &shared,
        ),
    ] {
        let busy = run(node, &tenant, name, SUBSCRIPTIONS, mode, filter, began).await?;
        let changes = (SECONDS * 1_000 / 10 * PER_TICK) as f64;
        println!(
            "    the hub and its subscribers take {:.1} µs of CPU time per change",
            (busy - idle) * 1e6 / changes
        );
    }
    searches(node, &tenant, began).await
}

/// Sends readings of machines and waits until they are durable and visible.
async fn send(
    node: &Node,
    tenant: &TenantId,
    machines: impl Iterator<Item = usize>,
    all: usize,
    began: Instant,
) -> Result<(), Box<dyn std::error::Error>> {
    let source: Arc<str> = "bench".into();
    let mut batch = node.ingest().batch(tenant, &source);
    let sent_us = began.elapsed().as_micros();
    let mut bytes = 0;
    for machine in machines {
        let json = format!(
            r#"{{"sensor_id":"m{machine}","sensor_type":"MACHINE","location_id":"cell-{}","metrics":{{"execution":"producing","spindle_rpm":{},"sent_us":{sent_us},"energy_kwh":{sent_us}}}}}"#,
            machine * 200 / all,
            machine % 97,
        );
        bytes += json.len();
        batch.push(Message::Reading {
            sensor: None,
            json: json.as_bytes(),
        });
    }
    let permit = node.ingest().admit(tenant, batch.len(), bytes).await;
    batch.submit(permit).await?;
    Ok(())
}

/// Returns the CPU seconds that it took.
async fn run(
    node: &Node,
    tenant: &TenantId,
    name: &str,
    subscriptions: usize,
    mode: Mode,
    filter: impl Fn(usize) -> String,
    began: Instant,
) -> Result<f64, Box<dyn std::error::Error>> {
    let frames = Arc::new(AtomicU64::new(0));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut watching = Vec::new();
    let mut ready = Vec::new();
    for number in 0..subscriptions {
        let spec = Spec {
            id: format!("s{number}"),
            filter: Some(Filter::compile(&filter(number))?),
            fields: Some(vec!["state.metrics.sent_us.value".into()]),
            mode,
            ..Spec::default()
        };
        let mut subscription = node.hub().subscribe(tenant, spec)?;
        let (live, is_live) = tokio::sync::oneshot::channel();
        ready.push(is_live);
        let (frames, mut stopped) = (frames.clone(), stopped.clone());
        watching.push(tokio::spawn(async move {
            let (mut live, mut latencies_us) = (Some(live), Vec::new());
            loop {
                let frame = tokio::select! {
                    frame = subscription.next() => frame,
                    _ = stopped.changed() => None,
                };
                let Some(frame) = frame else { break };
                match frame.kind() {
                    FrameKind::Live => {
                        let _ = live.take().map(|live| live.send(()));
                    }
                    FrameKind::Change => {
                        let text = frame.text();
                        let value = text.split("\"value\":").nth(1).unwrap_or_default();
                        let digits: String = value.chars().take_while(|c| c.is_ascii_digit()).collect();
                        let now_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                        latencies_us.push(now_us - digits.parse().unwrap_or(now_us));
                        frames.fetch_add(1, Ordering::Relaxed);
                    }
                    FrameKind::Lost => println!("    lost: {}", frame.text()),
                    _ => {}
                }
            }
            latencies_us
        }));
    }
    for is_live in ready {
        is_live.await?;
    }
    let cpu = cpu_seconds();
    let mut ticks = tokio::time::interval(TICK);
    let mut under_way = tokio::task::JoinSet::new();
    for tick in 0..SECONDS * 100 {
        ticks.tick().await;
        let (node, tenant) = (node.clone(), tenant.clone());
        let first = tick * PER_TICK;
        under_way.spawn(async move {
            let machines = (first..first + PER_TICK).map(|number| number * 7 % MACHINES);
            send(&node, &tenant, machines, MACHINES, began)
                .await
                .map_err(|error| error.to_string())
        });
    }
    while let Some(sent) = under_way.join_next().await {
        sent??;
    }
    let took = cpu_seconds() - cpu;
    println!(
        "{name}: {took:.2} s of CPU time, {} frames",
        frames.load(Ordering::Relaxed)
    );
    stop.send_replace(true);
    let mut latencies_us = Vec::new();
    for watcher in watching {
        latencies_us.extend(watcher.await?);
    }
    latencies_us.sort_unstable();
    if !latencies_us.is_empty() {
        let at =
            |share: f64| latencies_us[((latencies_us.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
        println!(
            "    event to frame: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    Ok(took)
}

async fn searches(node: &Node, tenant: &TenantId, began: Instant) -> Result<(), Box<dyn std::error::Error>> {
    for first in (0..SEARCHED).step_by(5_000) {
        send(node, tenant, first..first + 5_000, SEARCHED, began).await?;
    }
    for (filter, sort) in [
        ("state.metrics.spindle_rpm.value > 95.5", None),
        ("kpis.oee < 0.6 && attributes.location == 'cell-7'", None),
        (
            "attributes.location in ['cell-3', 'cell-4'] || state.execution == 'down'",
            Some("-state.metrics.spindle_rpm.value"),
        ),
        ("id == 'm77'", None),
        ("size(attributes.location) > 6", None),
    ] {
        let query = Query {
            tenant: tenant.clone(),
            kind: Some(Kind::Machine),
            filter: Some(Filter::compile(filter)?),
            sort: sort.map(str::to_owned),
            limit: 100,
            cursor: None,
            now: clock::now(),
        };
        let before = clock::instant();
        let page = search(node.twins(), &query, |twin| twin.rev()).await?;
        println!(
            "{SEARCHED} twins, {filter}: {} found in {:.1} ms",
            page.items.len(),
            before.elapsed().as_secs_f64() * 1e3
        );
    }
    Ok(())
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    // utime and stime are the 14th and 15th fields, in hundredths of a second.
    after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}
