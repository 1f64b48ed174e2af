//! `gemba bench`: measures this machine with this build.
//!
//! Promises: each figure stands beside the limit that was measured in the same run, because machines are noisy; the
//! load generator runs on the same cores and counts only what was acknowledged.

mod capacity;
mod checkpoint;
mod client;
mod cluster;
mod history;
mod ingest;
mod query;
mod recover;
mod subscribe;
mod warehouse;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};
use gemba_runtime::{keyring::Keyring, mqtt, node::Node, settings::NodeSettings};
use gemba_twins::id::TenantId;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Map, Value as Json, json};
use tokio::sync::watch;

use crate::http::{self, App, ServerSettings};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// Messages per second, acknowledged when durable and visible.
    Ingest,
    /// Reading one twin, and searching many.
    Query,
    /// From an event to its frame.
    Subscribe,
    /// From `kill -9` to the first answer, and to all twins.
    Recover,
    /// Bytes for each twin.
    Capacity,
    /// Rows into Parquet files, and out of them.
    History,
    /// Rows into Snowflake, or a stand-in for it: rate, lag, a day, an outage.
    Checkpoint,
    /// Three nodes of this machine against one.
    Cluster,
}

/// How it is measured.
#[derive(Args, Debug, Clone)]
pub struct BenchArgs {
    /// What to measure
    pub name: Bench,
    /// As one line of JSON
    #[arg(long)]
    pub json: bool,
    /// A tenth of the work: a look, not a measurement
    #[arg(long)]
    pub quick: bool,
    /// Twins, where the case says nothing else
    #[arg(long, default_value_t = 100_000)]
    pub twins: usize,
    /// Events of the recovery
    #[arg(long, default_value_t = 10_000_000)]
    pub events: usize,
    /// Seconds of each case
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Events per second while the lag of a checkpoint is measured
    #[arg(long, default_value_t = 60_000)]
    pub rate: usize,
    /// checkpoint: only an outage of so many seconds, at full rate
    #[arg(long, value_name = "SECONDS")]
    pub outage: Option<u64>,
    /// checkpoint: an account's address instead of the stand-in; its tables get the rows
    #[arg(long, value_name = "URL", requires = "key")]
    pub endpoint: Option<String>,
    /// The private key of the service user
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The account of the endpoint
    #[arg(long, default_value = "bench")]
    pub account: String,
    /// The service user
    #[arg(long, default_value = "bench")]
    pub user: String,
    /// Where the data goes; a temporary folder if absent
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl BenchArgs {
    fn window(&self) -> Duration {
        Duration::from_secs(if self.quick {
            self.seconds.div_ceil(5)
        } else {
            self.seconds
        })
    }

    /// A folder for data, gone at the end.
    fn folder(&self) -> anyhow::Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix("gemba-bench")
            .tempdir_in(self.data_dir.clone().unwrap_or_else(std::env::temp_dir))
            .context("failed to make a folder for the data")
    }

    fn scaled(&self, number: usize) -> usize {
        if self.quick { number.div_ceil(10) } else { number }
    }
}

/// A figure and its limit.
struct Case(Map<String, Json>);

impl Case {
    fn new(name: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("case".into(), json!(name));
        Self(fields)
    }

    fn with(mut self, name: &str, value: impl Into<Json>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    fn against(self, limit: &str, rate: f64, limit_rate: f64) -> Self {
        self.with("rate_per_s", rate.round())
            .with("limit", limit)
            .with("limit_per_s", limit_rate.round())
            .with("ratio", (1_000.0 * rate / limit_rate).round() / 1_000.0)
    }

    fn percentiles(self, latencies: &mut [f64]) -> Self {
        let (p50, p99) = (percentile(latencies, 0.5), percentile(latencies, 0.99));
        self.with("p50_ms", p50).with("p99_ms", p99)
    }
}

/// A share of milliseconds, to the microsecond.
fn percentile(latencies: &mut [f64], share: f64) -> f64 {
    latencies.sort_by(f64::total_cmp);
    let at = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
    latencies
        .get(at)
        .map_or(0.0, |ms| (ms * 1_000.0).round() / 1_000.0)
}

/// A node with its listeners, on ports of their own.
struct Stand {
    node: Node,
    http: http::Bound,
    mqtt: mqtt::Listener,
    shutdown: watch::Sender<bool>,
    _folder: Option<tempfile::TempDir>,
}

impl Stand {
    async fn start(args: &BenchArgs, change: impl FnOnce(&mut NodeSettings)) -> anyhow::Result<Self> {
        let folder = args.folder()?;
        let mut settings = NodeSettings::new(folder.path().to_owned());
        change(&mut settings);
        let node = Node::start(settings).await?;
        node.all_recovered().await?;
        let keyring = Arc::new(Keyring::open(TenantId::parse("default")?));
        let (shutdown, told) = watch::channel(false);
        let app = Arc::new(App {
            node: node.clone(),
            keyring: keyring.clone(),
            metrics: metrics_handle(),
            body_max: 8 << 20,
            source: "http".into(),
        });
        let loopback = "127.0.0.1:0".parse()?;
        let http = http::serve(ServerSettings::new(loopback), app, told.clone()).await?;
        let mqtt = mqtt::serve(
            mqtt::ListenerSettings::new(loopback),
            node.ingest().clone(),
            mqtt::KpiSource {
                hub: node.hub().clone(),
                twins: node.twins().clone(),
            },
            keyring,
            told,
        )
        .await?;
        Ok(Self {
            node,
            http,
            mqtt,
            shutdown,
            _folder: Some(folder),
        })
    }

    async fn stop(self) {
        // Whoever listened is gone only after this.
        let _ = self.shutdown.send(true);
        self.mqtt.ended().await;
        self.http.ended().await;
        self.node.stop().await;
    }
}

fn metrics_handle() -> PrometheusHandle {
    // Not installed: a bench measures the node, not the recorder.
    PrometheusBuilder::new().build_recorder().handle()
}

/// Resident bytes of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .unwrap_or(0)
        * 1_024
}

/// Runs a bench and prints its figures.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let cases = runtime.block_on(async {
        match args.name {
            Bench::Ingest => ingest::run(args).await,
            Bench::Query => query::run(args).await,
            Bench::Subscribe => subscribe::run(args).await,
            Bench::Recover => recover::run(args).await,
            Bench::Capacity => capacity::run(args).await,
            Bench::History => history::run(args).await,
            Bench::Checkpoint => checkpoint::run(args).await,
            Bench::Cluster => cluster::run(args).await,
        }
    })?;
    let name = format!("{:?}", args.name).to_lowercase();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if args.json {
        let cases: Vec<_> = cases.into_iter().map(|case| case.0).collect();
        println!("{}", json!({"bench": name, "cores": cores, "cases": cases}));
    } else {
        println!("{name} on {cores} cores");
        for case in cases {
            let fields: Vec<String> = case
                .0
                .iter()
                .filter(|(field, _)| *field != "case")
                .map(|(field, value)| format!("{field} {value}"))
                .collect();
            println!(
                "  {}: {}",
                case.0["case"].as_str().unwrap_or_default(),
                fields.join(", ")
            );
        }
    }
    Ok(())
}
