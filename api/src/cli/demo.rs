//! `gemba demo`: a node, a simulated plant whose devices speak real MQTT to it, and where to look.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use gemba_runtime::clock;
use gemba_twins::id::TenantId;
use tokio::sync::watch;

use super::{
    ConfigArgs,
    serve::{Running, log_to_stderr, record_metrics, runtime, say, stop_signal},
};
use crate::{
    config::Config,
    simulate::{Driver, DriverSettings, Plant},
};

/// The plant's past that is played first: long enough for a forecast, which takes a day and four hours.
const PAST_MS: i64 = 30 * 3_600_000;
/// Of it, what is played second by second.
const FINE_MS: i64 = 3_600_000;

#[derive(Args)]
pub(super) struct DemoArgs {
    /// Where HTTP listens; another port is taken if this one is not free
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: String,
    /// Where MQTT listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    mqtt: String,
    /// Machines of the plant
    #[arg(long, default_value_t = 12)]
    machines: usize,
    /// Simulated seconds in a real one, while the plant's past is played; as fast as it goes if absent
    #[arg(long, value_name = "X")]
    speed: Option<f64>,
    /// The same seed gives the same plant
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Where the data is kept; a temporary folder that is removed at the end if absent
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    log_to_stderr("warn", false)?;
    let temporary = match &args.data_dir {
        Some(_) => None,
        None => Some(tempfile::tempdir().context("failed to make a temporary folder")?),
    };
    let folder = match (&args.data_dir, &temporary) {
        (Some(folder), _) => folder.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => PathBuf::from("gemba-data"),
    };
    let config = |http: &str| {
        let flags = ConfigArgs {
            config: None,
            data_dir: Some(folder.display().to_string()),
            http: Some(http.to_owned()),
            mqtt: Some(args.mqtt.clone()),
            ..ConfigArgs::default()
        };
        anyhow::Ok(Config::of(&flags.layers()?)?)
    };
    anyhow::ensure!(
        args.speed.is_none_or(|speed| speed > 0.0),
        "--speed has to be above 0"
    );
    let metrics = record_metrics()?;
    runtime()?.block_on(async {
        let address: std::net::SocketAddr = args
            .http
            .parse()
            .with_context(|| format!("{:?} is not an address", args.http))?;
        let free = tokio::net::TcpListener::bind(address).await.is_ok();
        let http = if free {
            args.http.clone()
        } else {
            format!("{}:0", address.ip())
        };
        if !free {
            say(&format!("{address} is taken; listening on another port"));
        }
        let running = Running::start(config(&http)?, metrics).await?;
        running.node.all_recovered().await?;
        let plant = Plant::new(args.machines, args.seed);
        let tenant = TenantId::parse("default")?;
        let model = plant.model().context("the demo's plant model")?;
        let same = running
            .node
            .plant(&tenant)
            .is_some_and(|applied| applied.model.text() == model.text());
        if !same {
            running.node.apply_plant(&tenant, model, "demo").await?;
        }
        let mqtt = running
            .mqtt
            .as_ref()
            .context("the demo needs MQTT (do not switch it off)")?
            .address;
        // A plant that has been running has something to show. One that is known already goes on from now.
        let now = clock::now();
        let start = (!same).then(|| now.plus_ms(-PAST_MS));
        let settings = DriverSettings {
            host: mqtt.ip().to_string(),
            port: mqtt.port(),
            tenant: "default".into(),
            login: None,
            speed: args.speed.unwrap_or(f64::INFINITY),
            start,
            fine_from: start.map(|_| now.plus_ms(-FINE_MS)),
            seconds: None,
        };
        let (shutdown, told) = watch::channel(false);
        let driving = tokio::spawn(Driver::new(settings).run(plant, told));
        let url = format!("http://{}", running.http.address);
        say(&greeting(
            &url,
            &mqtt.to_string(),
            args.machines,
            &folder.display().to_string(),
        ));
        stop_signal().await?;
        say("stopping");
        // Whoever listened is gone only after this.
        let _ = shutdown.send(true);
        let (_, published) = driving.await.context("the simulation panicked")?;
        running.stop().await;
        say(&format!(
            "stopped after {} messages of the plant, {} of them acknowledged",
            published.sent, published.acknowledged
        ));
        anyhow::Ok(())
    })?;
    drop(temporary);
    Ok(())
}

fn greeting(url: &str, mqtt: &str, machines: usize, folder: &str) -> String {
    format!(
        "gemba demo: {machines} machines, their meters, air sensors and jobs, publishing by MQTT to {mqtt}

  page       {url}/
  machines   curl '{url}/v1/twins?kind=machine'
  live       gemba get machine --watch --url {url}
  a job      gemba get job --url {url}
  alarms     gemba alarms --url {url}      then: gemba alarms ack ID --comment 'on my way' --url {url}
  why        gemba get location/line-1 --url {url}      OEE of a line, and what its machines stood still for
  flow       curl '{url}/v1/flow'      how jobs flow, and which location holds them up
  forecast   curl '{url}/v1/twins/location/cell-1/forecast?metric=co2_ppm&horizon=4h'
  search     curl -G '{url}/v1/twins' --data-urlencode 'filter=state.execution != \"producing\"'
  all calls  {url}/docs

data in {folder}; Ctrl-C stops
ready"
    )
}
