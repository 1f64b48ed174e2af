//! The command line: one binary, a command for each thing a user does.
//!
//! Promises: errors are one sentence on stderr that names the thing and the mend; exit status 0 done, 1 failed, 2
//! wrong usage; `--json` where a script would want it.

#[macro_use]
mod output;

mod alarms;
mod backup;
mod certs;
mod client;
mod cluster;
mod demo;
mod export;
mod get;
mod holding;
mod import;
mod keys;
mod plant;
mod ready;
mod refold;
mod serve;
mod simulate;
mod snowflake;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::config::Layers;

/// Digital twins of factories: machines, locations and jobs.
#[derive(Parser)]
#[command(name = "gemba", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The whole product on one machine, with a simulated plant whose devices speak real MQTT
    #[command(after_help = "Example: gemba demo --machines 20 --http 127.0.0.1:8080")]
    Demo(demo::DemoArgs),
    /// One node
    #[command(
        after_help = "Examples:\n  gemba serve --config gemba.toml\n  gemba serve --cluster-listen 10.0.0.1:7600 --cluster-certs certs --cluster-node 1 --found\n  gemba serve --cluster-listen 10.0.0.2:7600 --cluster-certs certs --cluster-node 2 --join 10.0.0.1:7600"
    )]
    Serve(ConfigArgs),
    /// Certificates of a cluster's nodes
    #[command(after_help = "Example: gemba certs --cluster plant --nodes 3 --out certs")]
    Certs(certs::CertsArgs),
    /// The nodes of a cluster
    #[command(after_help = "Example: gemba nodes --url http://10.0.0.1:8080")]
    Nodes(cluster::ClusterViewArgs),
    /// Who owns which shard of a cluster
    #[command(after_help = "Example: gemba shards --json")]
    Shards(cluster::ClusterViewArgs),
    /// Has a node give its shards away and leave its cluster for good
    #[command(after_help = "Example: gemba drain 3")]
    Drain(cluster::DrainArgs),
    /// Twins in the terminal
    #[command(
        after_help = "Examples:\n  gemba get machine --filter 'kpis.oee < 0.6'\n  gemba get job/job-0007\n  gemba get machine --watch"
    )]
    Get(get::GetArgs),
    /// Alarms in the terminal: list, follow, acknowledge, shelve
    #[command(
        after_help = "Examples:\n  gemba alarms --state unacknowledged\n  gemba alarms ack machine:cnc-07:spindle_hot --comment 'on my way'\n  gemba alarms shelve machine:cnc-07:spindle_hot --for 30m\n  gemba alarms history machine:cnc-07:spindle_hot"
    )]
    Alarms(alarms::AlarmsArgs),
    /// Sets the plant model of a running node
    #[command(after_help = "Example: gemba apply -f plant.yaml")]
    Apply(plant::PlantArgs),
    /// Shows what a plant model would change
    #[command(after_help = "Example: gemba plan -f plant.yaml")]
    Plan(plant::PlantArgs),
    /// Folds twins again with today's plant model: shows what would differ, and takes it over
    #[command(
        after_help = "Examples:\n  gemba refold --twin machine/cnc-07\n  gemba refold --kind machine --from 2026-11-01T00:00:00Z --apply"
    )]
    Refold(refold::RefoldArgs),
    /// The plant simulator alone, against any broker
    #[command(
        after_help = "Example: gemba simulate --mqtt mqtt://127.0.0.1:1883 --machines 10 --seed 7 --duration 60"
    )]
    Simulate(simulate::SimulateArgs),
    /// A range of the history as CSV or NDJSON
    #[command(
        after_help = "Example: gemba export --kind readings --twin machine/cnc-07 --from 2026-11-23T06:00:00Z --out cnc-07.csv"
    )]
    Export(export::ExportArgs),
    /// History from a CSV, XLSX, JSON or NDJSON file
    #[command(
        after_help = "Examples:\n  gemba import air.csv --check\n  gemba import air.csv --map air.toml --check\n  gemba import air.csv --map air.toml"
    )]
    Import(import::ImportArgs),
    /// The warehouse's side of the history
    #[command(after_help = "Example: gemba snowflake render --out sql/")]
    Snowflake(snowflake::SnowflakeArgs),
    /// Checks every record of a data folder that no node uses
    #[command(after_help = "Example: gemba verify --data-dir gemba-data")]
    Verify(verify::VerifyArgs),
    /// A consistent copy of a running node or cluster
    #[command(after_help = "Example: gemba backup backup-2026-11-27 --url http://10.0.0.1:8080")]
    Backup(backup::BackupArgs),
    /// Makes a data folder of a backup
    #[command(after_help = "Example: gemba restore backup-2026-11-27 --data-dir gemba-data")]
    Restore(backup::RestoreArgs),
    /// Whether a node can serve, as an exit status
    #[command(after_help = "Example: gemba ready --url http://127.0.0.1:8080")]
    Ready(ready::ReadyArgs),
    /// Shows the configuration in force and where each value came from
    #[command(after_help = "Example: GEMBA_HTTP__ADDRESS=127.0.0.1:9000 gemba config --print")]
    Config(ConfigShowArgs),
    /// Measures this machine with this build
    #[command(after_help = "Example: gemba bench ingest --json")]
    Bench(crate::bench::BenchArgs),
    /// API keys
    #[command(after_help = "Example: gemba key new --tenant acme --role viewer --name wall-display")]
    Key(keys::KeyArgs),
}

/// Where the configuration comes from.
#[derive(Args, Clone, Default)]
struct ConfigArgs {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the data is (node.data_dir)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where HTTP listens (http.address)
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Where MQTT listens, or off (mqtt.address)
    #[arg(long, value_name = "ADDR")]
    mqtt: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// How the node is a member of a cluster; without these it is alone.
#[derive(Args, Clone, Default)]
struct ClusterArgs {
    /// Where the cluster's port listens (cluster.listen): makes the node a member of a cluster
    #[arg(long, value_name = "ADDR")]
    cluster_listen: Option<String>,
    /// Where the other nodes reach it (cluster.advertise)
    #[arg(long, value_name = "HOST:PORT")]
    cluster_advertise: Option<String>,
    /// The folder with ca.crt, node-N.crt and node-N.key (cluster.certs)
    #[arg(long, value_name = "DIR")]
    cluster_certs: Option<String>,
    /// Which node of the folder this one is (cluster.node)
    #[arg(long, value_name = "N")]
    cluster_node: Option<u64>,
    /// Members to ask, separated by commas (cluster.join)
    #[arg(long, value_name = "HOST:PORT")]
    join: Option<String>,
    /// Makes the cluster, if this node is in none and nobody of --join answers (cluster.found)
    #[arg(long)]
    found: bool,
    /// What fails together with this node (cluster.zone)
    #[arg(long, value_name = "TEXT")]
    zone: Option<String>,
}

#[derive(Args)]
struct ConfigShowArgs {
    /// Show it; nothing else can be done here yet
    #[arg(long, required = true)]
    print: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl ConfigArgs {
    fn layers(&self) -> anyhow::Result<Layers> {
        let mut layers = Layers::defaults();
        if let Some(file) = &self.config {
            let text = std::fs::read_to_string(file).map_err(|error| {
                anyhow::anyhow!("failed to read {}: {error} (does it exist?)", file.display())
            })?;
            layers.file(&file.display().to_string(), &text)?;
        }
        layers.environment(std::env::vars())?;
        for (key, value) in [
            ("node.data_dir", &self.data_dir),
            ("http.address", &self.http),
            ("mqtt.address", &self.mqtt),
        ] {
            if let Some(value) = value {
                layers.flag(key, value);
            }
        }
        let cluster = &self.cluster;
        for (key, value) in [
            ("cluster.listen", cluster.cluster_listen.clone()),
            ("cluster.advertise", cluster.cluster_advertise.clone()),
            ("cluster.certs", cluster.cluster_certs.clone()),
            ("cluster.node", cluster.cluster_node.map(|node| node.to_string())),
            ("cluster.join", cluster.join.clone()),
            ("cluster.found", cluster.found.then(|| "true".to_owned())),
            ("cluster.zone", cluster.zone.clone()),
        ] {
            if let Some(value) = value {
                layers.flag(key, &value);
            }
        }
        Ok(layers)
    }
}

/// Runs the command that the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Nodes(args) => cluster::nodes(&args),
        Command::Shards(args) => cluster::shards(&args),
        Command::Drain(args) => cluster::drain(&args),
        Command::Certs(args) => certs::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Alarms(args) => alarms::run(&args),
        Command::Apply(args) => plant::apply(&args),
        Command::Plan(args) => plant::plan(&args),
        Command::Refold(args) => refold::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Snowflake(args) => snowflake::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Backup(args) => backup::back_up(&args),
        Command::Restore(args) => backup::bring_back(&args),
        Command::Ready(args) => ready::run(&args),
        Command::Config(args) => show_config(&args),
        Command::Bench(args) => crate::bench::run(&args),
        Command::Key(args) => keys::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gemba: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show_config(args: &ConfigShowArgs) -> anyhow::Result<()> {
    let layers = args.config.layers()?;
    crate::config::Config::of(&layers)?;
    let shown = layers.shown();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    let width = shown.iter().map(|shown| shown.key.len()).max().unwrap_or(0);
    for setting in shown {
        println!("{:width$} = {}  ({})", setting.key, setting.value, setting.source);
    }
    Ok(())
}
