//! `gemba simulate`: the plant simulator alone, against any broker.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use gemba_runtime::clock;
use gemba_twins::time::Timestamp;
use tokio::sync::watch;

use super::serve::{log_to_stderr, runtime, stop_signal};
use crate::simulate::{Driver, DriverSettings, Plant};

#[derive(Args)]
pub(super) struct SimulateArgs {
    /// The broker, e.g. mqtt://127.0.0.1:1883
    #[arg(long, value_name = "URL")]
    mqtt: String,
    /// Machines of the plant
    #[arg(long, default_value_t = 12)]
    machines: usize,
    /// The same seed gives the same plant
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Simulated seconds in a real one, while the plant's past is played
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Simulated seconds to run; until Ctrl-C if absent
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// When the plant's time begins, in RFC 3339: with --seed and --duration the same messages again; if absent, now,
    /// or --duration ago with a --speed above 1
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// Writes the exact KPIs that the messages must lead to as of the last of them, as JSON, at the end
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// In the topics
    #[arg(long, default_value = "default")]
    tenant: String,
    /// The user's name at the broker
    #[arg(long)]
    user: Option<String>,
    /// The password at the broker
    #[arg(long, env = "GEMBA_MQTT_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Prints the plant model that fits, and ends
    #[arg(long)]
    print_plant: bool,
}

pub(super) fn run(args: &SimulateArgs) -> anyhow::Result<()> {
    let plant = Plant::new(args.machines, args.seed);
    if args.print_plant {
        print!("{}", plant.model_text());
        return Ok(());
    }
    log_to_stderr("warn", false)?;
    anyhow::ensure!(
        args.speed > 0.0 && args.speed.is_finite(),
        "--speed {} has to be above 0",
        args.speed
    );
    let start = match (&args.start, args.duration) {
        (Some(start), _) => Some(start.parse::<Timestamp>().context("--start")?),
        // Faster than real time, the plant's past is played, so that no message lies in the future.
        (None, Some(seconds)) if args.speed > 1.0 => {
            Some(clock::now().plus_ms(-1_000 * i64::try_from(seconds).unwrap_or(0)))
        }
        (None, _) => None,
    };
    let plant = match args.expect {
        Some(_) => plant.recorded(),
        None => plant,
    };
    let place = args
        .mqtt
        .strip_prefix("mqtt://")
        .context("the broker's url does not begin with mqtt://")?;
    let (host, port) = place
        .trim_end_matches('/')
        .split_once(':')
        .unwrap_or((place, "1883"));
    let settings = DriverSettings {
        host: host.to_owned(),
        port: port.parse().with_context(|| format!("{port:?} is not a port"))?,
        tenant: args.tenant.clone(),
        login: args
            .user
            .clone()
            .map(|user| (user, args.password.clone().unwrap_or_default())),
        speed: args.speed,
        start,
        fine_from: None,
        seconds: args.duration,
    };
    runtime()?.block_on(async {
        let (shutdown, told) = watch::channel(false);
        let mut driving = tokio::spawn(Driver::new(settings).run(plant, told));
        let published = tokio::select! {
            published = &mut driving => published,
            stopped = stop_signal() => {
                stopped?;
                // Whoever listened is gone only after this.
                let _ = shutdown.send(true);
                driving.await
            }
        };
        let (plant, published) = published.context("the simulation panicked")?;
        println!(
            "{} messages published, {} acknowledged",
            published.sent, published.acknowledged
        );
        if let Some(file) = &args.expect {
            let expected = plant.expected().unwrap_or_default();
            std::fs::write(file, format!("{expected:#}\n"))
                .with_context(|| format!("failed to write {}", file.display()))?;
        }
        anyhow::ensure!(
            published.sent == published.acknowledged,
            "the broker did not acknowledge all messages (is it still there?)"
        );
        Ok(())
    })
}
