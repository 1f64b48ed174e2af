//! `cluster`: three nodes on this machine against one, in one run: ingest, bytes on the wire, a query and a subscription
//! of what another node owns, and what an idle cluster costs.
//!
//! All nodes, and the load, share the machine's cores and its disk: ratios say more than figures.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use gemba_runtime::{
    certificates::{Authority, PeerName},
    clock,
};
use serde_json::{Value as Json, json};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use super::{BenchArgs, Case, client, ingest, percentile, recover::free_port};

/// Nodes of the cluster.
const NODES: usize = 3;
/// Queries, and changes followed, of each kind.
const ASKED: usize = 2_000;
/// Ticks of the processor's time in a second, as Linux shows them to everybody.
const TICKS_PER_S: f64 = 100.0;

/// A process of its own; gone when it is dropped.
struct Process {
    child: Child,
    http: u16,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(folder: &Path, more: &[&str]) -> anyhow::Result<Self> {
        let http = free_port()?;
        let child = Command::new(std::env::current_exe()?)
            .args([
                "serve",
                "--mqtt",
                "off",
                "--http",
                &format!("127.0.0.1:{http}"),
                "--data-dir",
            ])
            .arg(folder)
            .args(more)
            .env("GEMBA_LOG__LEVEL", "error")
            .stdout(Stdio::null())
            .spawn()
            .context("failed to start a node")?;
        Ok(Self { child, http })
    }

    async fn get(&self, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
        client::Http::connect(self.http)
            .await?
            .get(request.as_bytes())
            .await
    }

    async fn json(&self, path: &str) -> anyhow::Result<Json> {
        let (status, body) = self.get(path).await?;
        ensure!(status == 200, "{path}: {status}");
        Ok(serde_json::from_slice(&body)?)
    }

    /// Seconds of a processor that the process has used.
    fn cpu_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The name in parentheses may hold spaces; user and system time are the 14th and 15th fields.
        let after = stat.rsplit_once(')').map(|(_, after)| after).unwrap_or_default();
        let ticks = after
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|ticks| ticks.parse::<f64>().ok());
        ticks.sum::<f64>() / TICKS_PER_S
    }

    /// Bytes that it has sent to other nodes.
    async fn sent_bytes(&self) -> anyhow::Result<f64> {
        let (_, text) = self.get("/metrics").await?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("cluster_sent_bytes_total "));
        line.and_then(|value| value.parse().ok())
            .context("the node does not count what it sends")
    }
}

pub(super) async fn run(args: &BenchArgs) -> anyhow::Result<Vec<Case>> {
    let folder = tempfile::Builder::new()
        .prefix("gemba-bench")
        .tempdir_in(args.data_dir.clone().unwrap_or_else(std::env::temp_dir));
    let folder = folder.context("failed to make a folder for the data")?;
    let alone = Process::start(&folder.path().join("alone"), &[])?;
    until(&alone, "/readyz", |_| true).await?;
    let (one_rate, _, _) = load(args, &[alone.http]).await?;
    drop(alone);

    let nodes = cluster(folder.path()).await?;
    let idle = idle(args, &nodes).await;
    let before = sent(&nodes).await?;
    let ports: Vec<u16> = nodes.iter().map(|node| node.http).collect();
    let (rate, events, mut latencies) = load(args, &ports).await?;
    let wire = (sent(&nodes).await? - before) / events as f64;
    let body = client::reading("http-0-00", 1_000).len() + 1;
    let mut cases = vec![
        Case::new("ingest_three_replicas")
            .against("one node of the same machine", rate, one_rate)
            .percentiles(&mut latencies),
        Case::new("wire")
            .with("bytes_per_event", wire.round())
            .with("limit", "the event as it came, twice: to two other nodes")
            .with("limit_bytes", 2 * body)
            .with("events", events),
        idle,
    ];
    cases.extend(reads(args, &nodes).await?);
    Ok(cases)
}

/// Three nodes that keep everything.
async fn cluster(folder: &Path) -> anyhow::Result<Vec<Process>> {
    let certs = folder.join("certs");
    std::fs::create_dir_all(&certs)?;
    let authority = Authority::make("bench")?;
    std::fs::write(certs.join("ca.crt"), authority.certificate())?;
    let (certs_text, mut nodes, mut first) = (certs.display().to_string(), Vec::new(), String::new());
    for number in 1..=NODES {
        let made = authority.certify(&PeerName::new("bench", number as u64)?)?;
        std::fs::write(certs.join(format!("node-{number}.crt")), &made.certificate)?;
        std::fs::write(certs.join(format!("node-{number}.key")), &made.key)?;
        let (listen, number) = (format!("127.0.0.1:{}", free_port()?), number.to_string());
        let mut more = vec![
            "--cluster-listen",
            &listen,
            "--cluster-certs",
            &certs_text,
            "--cluster-node",
            &number,
        ];
        if nodes.is_empty() {
            more.push("--found");
        } else {
            more.extend(["--join", &first]);
        }
        nodes.push(Process::start(&folder.join(format!("node-{number}")), &more)?);
        if first.is_empty() {
            first.clone_from(&listen);
        }
    }
    for node in &nodes {
        until(node, "/readyz", |_| true).await?;
    }
    // Each shard has all its copies, and its owner is where the map wants it.
    let has_all = |view: &Json| {
        let shards = view["shards"].as_array();
        shards.is_some_and(|shards| {
            let is_whole = |shard: &Json| {
                shard["owner"].is_u64()
                    && shard["owner"] == shard["wanted"][0]
                    && shard["members"]
                        .as_array()
                        .is_some_and(|members| members.len() == NODES)
            };
            !shards.is_empty() && shards.iter().all(is_whole)
        })
    };
    until(&nodes[0], "/v1/cluster", has_all).await?;
    Ok(nodes)
}

/// Asks until the answer is 200 and as it should be.
async fn until(node: &Process, path: &str, fits: impl Fn(&Json) -> bool) -> anyhow::Result<()> {
    for _ in 0..6_000 {
        if let Ok(answer) = node.json(path).await
            && fits(&answer)
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("{path} was never as it should be")
}

async fn sent(nodes: &[Process]) -> anyhow::Result<f64> {
    let mut bytes = 0.0;
    for node in nodes {
        bytes += node.sent_bytes().await?;
    }
    Ok(bytes)
}

/// Readings per second, how many there were, and the times of the batches.
async fn load(args: &BenchArgs, ports: &[u16]) -> anyhow::Result<(f64, u64, Vec<f64>)> {
    let (time, began) = (args.window(), clock::instant());
    let senders: Vec<_> = (0..ingest::CONNECTIONS)
        .map(|number| tokio::spawn(ingest::sender(ports[number % ports.len()], number, time)))
        .collect();
    let (readings, latencies) = ingest::gathered(senders).await?;
    Ok((
        readings as f64 / began.elapsed().as_secs_f64(),
        readings,
        latencies,
    ))
}

/// What the nodes cost while nothing comes in.
async fn idle(args: &BenchArgs, nodes: &[Process]) -> Case {
    let used = || nodes.iter().map(Process::cpu_s).sum::<f64>();
    let (before, began) = (used(), clock::instant());
    tokio::time::sleep(args.window()).await;
    let share = (used() - before) / began.elapsed().as_secs_f64() / nodes.len() as f64;
    Case::new("idle")
        .with("nodes", nodes.len())
        .with("cores_per_node", (1_000.0 * share).round() / 1_000.0)
}

/// A query and a subscription at the owner of a twin, and at another node.
async fn reads(args: &BenchArgs, nodes: &[Process]) -> anyhow::Result<Vec<Case>> {
    let (machine, asked) = ("bench-reads", args.scaled(ASKED));
    let body = |number: usize| json!({"sensor_id": machine, "metrics": {"number": number}}).to_string();
    let mut sender = client::Http::connect(nodes[0].http).await?;
    ensure!(
        sender
            .post("/v1/readings", "application/json", body(0).as_bytes())
            .await?
            == 200,
        "not taken"
    );
    let path = format!("/v1/twins/machine/{machine}");
    let shard = nodes[0].json(&path).await?["seq"]["shard"].to_string();
    let view = nodes[0].json("/v1/cluster").await?;
    let row = view["shards"]
        .as_array()
        .and_then(|rows| rows.iter().find(|row| row["shard"] == shard.as_str()));
    let owner = row
        .and_then(|row| row["owner"].as_u64())
        .context("the shard has no owner")?;
    let owner = usize::try_from(owner)? - 1;
    let (owner, other) = (&nodes[owner], &nodes[(owner + 1) % nodes.len()]);
    let mut queries = [Vec::new(), Vec::new()];
    let mut frames = [Vec::new(), Vec::new()];
    for (at, node) in [owner, other].into_iter().enumerate() {
        let (request, mut http) = (
            format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes(),
            client::Http::connect(node.http).await?,
        );
        for _ in 0..asked {
            let began = clock::instant();
            ensure!(http.get(&request).await?.0 == 200, "the query was not answered");
            queries[at].push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        let (mut socket, _) = connect_async(format!("ws://127.0.0.1:{}/v1/stream", node.http)).await?;
        let subscribe = json!({"type": "subscribe", "id": "s", "filter": format!("id == '{machine}'"), "max_rate_hz": 1_000});
        socket.send(Message::text(subscribe.to_string())).await?;
        let mut sender = client::Http::connect(owner.http).await?;
        let mut is_live = false;
        for number in 0..asked / 4 {
            while !is_live {
                is_live = next(&mut socket).await?["type"] == "live";
            }
            let began = clock::instant();
            let number = at * ASKED + number + 1;
            let status = sender
                .post("/v1/readings", "application/json", body(number).as_bytes())
                .await?;
            ensure!(status == 200, "the reading was not taken");
            while next(&mut socket).await?["patch"]["state"]["metrics"]["number"]["value"]
                != json!(number as f64)
            {}
            frames[at].push(began.elapsed().as_secs_f64() * 1_000.0);
        }
    }
    let case = |name: &str, times: &mut [Vec<f64>; 2]| {
        let [own, other] = times;
        let extra = percentile(other, 0.5) - percentile(own, 0.5);
        Case::new(name)
            .percentiles(other)
            .with("limit", "the same at the owner")
            .with("limit_p50_ms", percentile(own, 0.5))
            .with("limit_p99_ms", percentile(own, 0.99))
            .with("extra_p50_ms", (extra * 1_000.0).round() / 1_000.0)
    };
    Ok(vec![
        case("remote_query", &mut queries),
        case("remote_subscription", &mut frames),
    ])
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// The next frame.
async fn next(socket: &mut Socket) -> anyhow::Result<Json> {
    loop {
        let message = socket.next().await.context("the node closed the stream")??;
        if let Message::Text(text) = message {
            return Ok(serde_json::from_str(&text)?);
        }
    }
}
