//! `gemba serve`: one node, until it is told to stop.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::Arc,
};

use anyhow::Context;
use gemba_runtime::{
    modbus, mqtt,
    node::{Node, StartError},
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

use super::{
    ConfigArgs,
    holding::{held, shared},
};
use crate::{
    config::Config,
    http::{self, App},
};

pub(super) fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let config = Config::of(&args.layers()?)?;
    log_to_stderr(&config.log_level, config.log_json)?;
    let metrics = record_metrics()?;
    runtime()?.block_on(async {
        let running = Running::start(config, metrics).await?;
        say(&running.greeting());
        tokio::select! {
            started = running.node.started() => {
                match started {
                    Ok(()) => say("ready"),
                    Err(problem @ StartError::Cluster(_)) => {
                        running.stop().await;
                        return Err(problem.into());
                    }
                    // What is whole can still be looked at, and the probes say how it is.
                    Err(problem) => say(&format!("not ready: {problem}")),
                }
                stop_signal().await?;
            }
            stopped = stop_signal() => stopped?,
        }
        say("stopping");
        running.stop().await;
        say("stopped; nothing was lost");
        Ok(())
    })
}

/// A line for whoever started the node; it runs on when nobody listens any more.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

pub(super) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")
}

pub(super) fn log_to_stderr(level: &str, json: bool) -> anyhow::Result<()> {
    // What raft cannot deliver to a node that is down it says many times a second; what follows is said by the cluster.
    // At lower levels the warehouse's client would write statements and tokens.
    let directives = format!("openraft=error,{level},snowflake_api=warn");
    let filter =
        EnvFilter::try_new(directives).with_context(|| format!("log.level: {level:?} is not a level"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second call within one process is a test's; the first one stays.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    Ok(())
}

pub(super) fn record_metrics() -> anyhow::Result<PrometheusHandle> {
    let seconds = [
        0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ];
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &seconds)
        .context("failed to set up the metrics")?
        .install_recorder()
        .context("failed to set up the metrics")
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to wait for signals")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("failed to wait for signals"),
        _ = terminate.recv() => Ok(()),
    }
}

/// A node with its ways in.
pub(super) struct Running {
    pub(super) node: Node,
    pub(super) http: http::Bound,
    pub(super) mqtt: Option<mqtt::Listener>,
    pub(super) open: bool,
    brokers: Vec<tokio::task::JoinHandle<()>>,
    shutdown: watch::Sender<bool>,
}

impl Running {
    pub(super) async fn start(config: Config, metrics: PrometheusHandle) -> anyhow::Result<Self> {
        let node = Node::start(config.node).await?;
        let (shutdown, told) = watch::channel(false);
        let app = Arc::new(App {
            node: node.clone(),
            keyring: config.keyring.clone(),
            metrics,
            body_max: config.body_max,
            source: "http".into(),
        });
        let http = http::serve(config.http, app, told.clone()).await?;
        let mqtt = match config.mqtt {
            Some(settings) => Some(
                mqtt::serve(
                    settings,
                    node.ingest().clone(),
                    mqtt::KpiSource {
                        hub: node.hub().clone(),
                        twins: node.twins().clone(),
                    },
                    config.keyring.clone(),
                    told.clone(),
                )
                .await?,
            ),
            None => None,
        };
        let mut brokers = node.notify(&told)?;
        for settings in config.brokers {
            let (ingest, told, node) = (node.ingest().clone(), told.clone(), node.clone());
            brokers.push(tokio::spawn(async move {
                // Messages are bound by the plant model, so the control shard has to be there first.
                if let Err(problem) = node.started().await {
                    tracing::error!(%problem, "broker connector does not start");
                    return;
                }
                let run = |settings: mqtt::BrokerSettings, told| {
                    let ingest = ingest.clone();
                    async move {
                        if let Err(problem) = mqtt::run_broker(settings, ingest, told).await {
                            tracing::error!(%problem, "broker connector cannot run");
                        }
                    }
                };
                match shared(&settings, &node) {
                    Some(own) => run(own, told).await,
                    None => held(&node, told, |told| run(settings.clone(), told)).await,
                }
            }));
        }
        for settings in config.modbus {
            let (ingest, told, node) = (node.ingest().clone(), told.clone(), node.clone());
            brokers.push(tokio::spawn(async move {
                if let Err(problem) = node.started().await {
                    tracing::error!(%problem, "modbus connector does not start");
                    return;
                }
                held(&node, told, |told| {
                    modbus::run(settings.clone(), ingest.clone(), told)
                })
                .await;
            }));
        }
        Ok(Self {
            node,
            http,
            mqtt,
            open: config.keyring.is_open(),
            brokers,
            shutdown,
        })
    }

    pub(super) fn greeting(&self) -> String {
        let mut lines = vec![format!("http  http://{}", self.http.address)];
        if let Some(mqtt) = &self.mqtt {
            lines.push(format!("mqtt  mqtt://{}", mqtt.address));
        }
        if self.open {
            lines.push("no keys are configured: everybody on this machine may do everything (gemba key new makes keys)".into());
        }
        lines.join("\n")
    }

    pub(super) async fn stop(self) {
        // Whoever listened is gone only after this.
        let _ = self.shutdown.send(true);
        if let Some(mqtt) = self.mqtt {
            mqtt.ended().await;
        }
        for broker in self.brokers {
            let _ = broker.await;
        }
        self.http.ended().await;
        self.node.stop().await;
    }
}
