//! `checkpoint`: rows into the warehouse, how far it lags, a day of a plant, and an outage at full rate.
//!
//! Promises: what was accepted, what the warehouse has and what the files hold are counted each by itself and have to
//! agree. Without `--endpoint` the warehouse is a stand-in that shares the cores with the node.

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use gemba_runtime::{
    checkpoint::{ChannelView, SnowflakeSettings},
    clock,
    ingest::{Message, Outcome},
};
use gemba_twins::id::TenantId;
use tokio::sync::watch;

use super::{
    BenchArgs, Case, Stand, history, percentile, query, resident_bytes,
    warehouse::{COMMIT, Counts, Warehouse},
};

/// Readings of a day of the plant that gemba was designed for.
const DAY_READINGS: usize = 3_900_000;
const DAY_MACHINES: usize = 1_000;
const DAY_MS: i64 = 86_400_000;
/// Shards where the rate of all channels together is not to be the limit: a channel takes 1 MB/s.
const SHARDS: u16 = 64;
const TWINS: usize = 2_000;
/// Most time at full rate, twice, before an outage.
const OUTAGE_BEFORE: Duration = Duration::from_secs(90);
/// Batches that are fed at once.
const FEEDERS: usize = 4;

/// A node, its warehouse, and what it keeps of it.
struct Site {
    stand: Stand,
    /// The stand-in, where it is one.
    warehouse: Option<Warehouse>,
    history: tempfile::TempDir,
    _key: Option<tempfile::TempDir>,
    tenant: TenantId,
}

impl Site {
    async fn start(
        args: &BenchArgs,
        shards: u16,
        change: impl FnOnce(&mut SnowflakeSettings),
    ) -> anyhow::Result<Self> {
        let (key, own) = key(args)?;
        let mut settings = SnowflakeSettings::new(args.account.clone(), args.user.clone(), key);
        let warehouse = match &args.endpoint {
            Some(url) => {
                settings.url.clone_from(url);
                None
            }
            None => Some(Warehouse::start().await?),
        };
        if let Some(warehouse) = &warehouse {
            settings.url.clone_from(&warehouse.url);
            // It speaks no SQL.
            settings.sql_every = Duration::ZERO;
        }
        // No other run has written to these channels.
        settings.channel_prefix = format!("bench-{}", clock::now().ms());
        change(&mut settings);
        let history = args.folder()?;
        let folder = history.path().to_owned();
        let stand = Stand::start(args, |node| {
            node.shards = shards;
            // As many in all as a node of 16 shards has, so that what it takes in memory is there after the warm-up.
            node.dedupe_window = node.dedupe_window * 16 / usize::from(shards);
            node.snowflake = Some(Arc::new(settings));
            node.history.folder = Some(folder);
            node.history.events = node.history.events * 16 / u64::from(shards);
        });
        Ok(Self {
            stand: stand.await?,
            warehouse,
            history,
            _key: own,
            tenant: TenantId::parse("default")?,
        })
    }

    fn counts(&self) -> Counts {
        self.warehouse.as_ref().map(Warehouse::counts).unwrap_or_default()
    }

    fn set_down(&self, down: bool) {
        if let Some(warehouse) = &self.warehouse {
            warehouse.set_down(down);
        }
    }

    /// Age in seconds of the oldest event that is not committed.
    async fn lag_s(&self) -> anyhow::Result<f64> {
        let channels = self.stand.node.checkpoints(&self.tenant).await?;
        let ours = channels.iter().filter(|channel| is_streamed(channel));
        Ok(ours.filter_map(|channel| channel.lag_s).fold(0.0, f64::max))
    }

    /// Waits until all is committed; answers the seconds it took.
    async fn caught_up(&self) -> anyhow::Result<f64> {
        let began = clock::instant();
        loop {
            let channels = self.stand.node.checkpoints(&self.tenant).await?;
            let mut ours = channels.iter().filter(|channel| is_streamed(channel)).peekable();
            if ours.peek().is_some() && ours.all(|channel| channel.lag_events == 0) {
                return Ok(began.elapsed().as_secs_f64());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Rows that the warehouse has; an error where these are not the accepted ones, or not in order.
    fn complete(&self, accepted: u64) -> anyhow::Result<Counts> {
        let counts = self.counts();
        if self.warehouse.is_some() {
            let (rows, out_of_order) = (counts.rows, counts.out_of_order);
            ensure!(
                rows == accepted && out_of_order == 0,
                "{accepted} readings were accepted, {rows} rows are there, {out_of_order} requests out of order"
            );
        }
        Ok(counts)
    }
}

/// What goes by SQL has a rhythm of its own, of minutes.
fn is_streamed(channel: &ChannelView) -> bool {
    channel.destination == "snowflake" && channel.channel.is_some()
}

/// The key pair: the one that is named, or one made for the stand-in.
fn key(args: &BenchArgs) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    if let Some(key) = &args.key {
        return Ok((key.clone(), None));
    }
    ensure!(
        args.endpoint.is_none(),
        "--endpoint needs --key, the private key of --user"
    );
    let folder = tempfile::tempdir().context("failed to make a folder for a key")?;
    let path = folder.path().join("key.p8");
    let made = Command::new("openssl")
        .args([
            "genpkey",
            "-quiet",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-out",
        ])
        .arg(&path)
        .output()
        .context("failed to run openssl, which makes a key (install it, or name a key with --key)")?;
    let says = String::from_utf8_lossy(&made.stderr);
    ensure!(made.status.success(), "openssl made no key: {says}");
    Ok((path, Some(folder)))
}

pub(super) async fn run(args: &BenchArgs) -> anyhow::Result<Vec<Case>> {
    if let Some(seconds) = args.outage {
        ensure!(
            args.endpoint.is_none(),
            "--outage needs the stand-in (leave --endpoint away)"
        );
        return Ok(vec![outage(args, Duration::from_secs(seconds)).await?]);
    }
    let limit = rows(args, u64::MAX / 4).await?;
    let (rate, counts) = rows(args, 1_000_000).await?;
    let mut case = Case::new("rows").against("without a channel's 1 MB/s", rate, limit.0);
    if let Some(bytes) = counts.bytes.checked_div(counts.rows) {
        case = case.with("bytes_per_row", bytes);
    }
    Ok(vec![case, lag(args).await?, day(args).await?])
}

/// Rows per second from the first request to the last, with 16 channels.
async fn rows(args: &BenchArgs, channel_bytes_per_s: u64) -> anyhow::Result<(f64, Counts)> {
    let site = Site::start(args, 16, |settings| {
        settings.channel_bytes_per_s = channel_bytes_per_s;
        settings.retry_after = Duration::from_millis(50);
    })
    .await?;
    site.set_down(true);
    let rounds = (args.scaled(500_000) / TWINS) as u64;
    let began = clock::instant();
    query::fill(&site.stand, TWINS, rounds).await?;
    site.set_down(false);
    site.caught_up().await?;
    let accepted = TWINS as u64 * rounds;
    let counts = site.complete(accepted)?;
    let seconds = match (counts.first_append, counts.last_append) {
        (Some(first), Some(last)) => (last - first).as_secs_f64(),
        _ => began.elapsed().as_secs_f64(),
    };
    site.stand.stop().await;
    Ok((accepted as f64 / seconds.max(0.001), counts))
}

/// How far the warehouse is behind while events come in at a rate.
async fn lag(args: &BenchArgs) -> anyhow::Result<Case> {
    let site = Site::start(args, SHARDS, |_| {}).await?;
    query::fill(&site.stand, TWINS, 1).await?;
    site.caught_up().await?;
    let (stop, told) = watch::channel(false);
    let began = clock::instant();
    let feeding = query::feed(&site.stand, TWINS, args.rate, query::machine, told)?;
    let mut lags = Vec::new();
    while began.elapsed() < args.window() {
        tokio::time::sleep(Duration::from_millis(250)).await;
        lags.push(site.lag_s().await?);
    }
    let _ = stop.send(true);
    let rate = feeding.await??;
    let rest_s = site.caught_up().await?;
    site.stand.stop().await;
    let seconds = |lags: &mut Vec<f64>, share| (10.0 * percentile(lags, share)).round() / 10.0;
    Ok(Case::new("lag")
        .against("the rate asked for", rate, args.rate as f64)
        .with("lag_p50_s", seconds(&mut lags, 0.5))
        .with("lag_max_s", seconds(&mut lags, 1.0))
        .with("caught_up_after_s", (10.0 * rest_s).round() / 10.0)
        .with("commit_s", COMMIT.as_secs_f64())
        .with("shards", SHARDS))
}

/// A day of a plant, spread over yesterday: into the warehouse and into files, both counted.
async fn day(args: &BenchArgs) -> anyhow::Result<Case> {
    let site = Site::start(args, SHARDS, |_| {}).await?;
    let readings = args.scaled(DAY_READINGS);
    let (source, from): (Arc<str>, _) = ("bench".into(), clock::now().plus_ms(-DAY_MS));
    let began = clock::instant();
    for first in (0..readings).step_by(1_000) {
        let permit = site.stand.node.ingest().admit(&site.tenant, 1_000, 300_000).await;
        let mut batch = site.stand.node.ingest().batch(&site.tenant, &source);
        for number in first..(first + 1_000).min(readings) {
            let at = from.plus_ms(number as i64 * DAY_MS / readings as i64);
            let reading = format!(
                r#"{{"sensor_id":"m-{:04}","message_id":"day-{number}","timestamp":"{at}","metrics":{{"power_kw":{}.25,"temperature_c":{}.5}}}}"#,
                number % DAY_MACHINES,
                number % 17,
                40 + number % 7
            );
            batch.push(Message::Reading {
                sensor: None,
                json: reading.as_bytes(),
            });
        }
        batch.submit(permit).await?;
    }
    let accepted_s = began.elapsed().as_secs_f64();
    let rest_s = site.caught_up().await?;
    let counts = site.complete(readings as u64)?;
    site.stand.node.write_history().await;
    let (filed, exported_s) = history::counted(site.history.path(), &site.tenant, None)?;
    ensure!(
        filed == 2 * readings as u64,
        "{readings} readings of two metrics were accepted, {filed} rows are in the files"
    );
    let bytes = history::bytes_in(&site.history.path().join("tenant=default/kind=readings"));
    site.stand.stop().await;
    let per_gb = SnowflakeSettings::new(String::new(), String::new(), PathBuf::new()).credits_per_gb;
    let credits = counts.bytes as f64 / 1e9 * per_gb * 30.0;
    Ok(Case::new("day")
        .with("readings", readings)
        .with("rows_in_warehouse", counts.rows)
        .with("rows_in_files", filed)
        .with("accepted_in_s", accepted_s.round())
        .with("caught_up_after_s", (10.0 * rest_s).round() / 10.0)
        .with("exported_in_s", (10.0 * exported_s).round() / 10.0)
        .with("file_bytes", bytes)
        .with("streamed_bytes", counts.bytes)
        .with("credits_per_gb", per_gb)
        .with("credits_per_month", (1_000.0 * credits).round() / 1_000.0))
}

/// The warehouse answers nobody for a while, at the full rate of the ingest.
async fn outage(args: &BenchArgs, time: Duration) -> anyhow::Result<Case> {
    let site = Site::start(args, SHARDS, |_| {}).await?;
    query::fill(&site.stand, TWINS, 1).await?;
    // Twice, so that the memory that any load takes is there before.
    let before = time.min(OUTAGE_BEFORE);
    let warm = fed(&site, 1, before).await?;
    site.caught_up().await?;
    let with = fed(&site, 1 << 32, before).await?;
    site.caught_up().await?;
    let resident_before = resident_bytes();
    site.set_down(true);
    let feeding = fed(&site, 1 << 33, time);
    let mut resident = Vec::new();
    let sampling = async {
        for _ in 0..10 {
            tokio::time::sleep(time / 10).await;
            resident.push(resident_bytes() / 1_000_000);
        }
    };
    let (without, ()) = tokio::join!(feeding, sampling);
    let without = without?;
    site.set_down(false);
    let caught_up_s = site.caught_up().await?;
    let accepted = TWINS as u64 + warm.accepted + with.accepted + without.accepted;
    let counts = site.complete(accepted)?;
    site.stand.stop().await;
    let tenth = |number: f64| (10.0 * number).round() / 10.0;
    Ok(Case::new("outage")
        .against("the same with the warehouse there", without.rate(), with.rate())
        .with("outage_s", time.as_secs())
        .with("refused", without.refused)
        .with("accepted", accepted)
        .with("rows_in_warehouse", counts.rows)
        .with("rss_before_mb", resident_before / 1_000_000)
        .with("rss_by_tenths_mb", resident)
        .with("rss_after_mb", resident_bytes() / 1_000_000)
        .with("caught_up_after_s", tenth(caught_up_s))
        .with("times_real_time", tenth(without.seconds / caught_up_s))
        .with("shards", SHARDS))
}

/// What became of what was fed.
#[derive(Default)]
struct Fed {
    accepted: u64,
    refused: u64,
    seconds: f64,
}

impl Fed {
    fn rate(&self) -> f64 {
        self.accepted as f64 / self.seconds
    }
}

/// Feeds readings as fast as they are taken, each durable and folded.
async fn fed(site: &Site, first_round: u64, time: Duration) -> anyhow::Result<Fed> {
    let began = clock::instant();
    let feeders: Vec<_> = (0..FEEDERS)
        .map(|feeder| {
            let (ingest, tenant) = (site.stand.node.ingest().clone(), site.tenant.clone());
            tokio::spawn(async move {
                let source: Arc<str> = "bench".into();
                let (each, mut round, mut fed) = (TWINS / FEEDERS, first_round, Fed::default());
                while began.elapsed() < time {
                    let permit = ingest.admit(&tenant, each, 300 * each).await;
                    let mut batch = ingest.batch(&tenant, &source);
                    for number in feeder * each..(feeder + 1) * each {
                        batch.push(Message::Reading {
                            sensor: None,
                            json: query::machine(number, round).as_bytes(),
                        });
                    }
                    for outcome in batch.submit(permit).await? {
                        let is_taken = matches!(outcome, Outcome::Applied | Outcome::Late);
                        fed.accepted += u64::from(is_taken);
                        fed.refused += u64::from(!is_taken);
                    }
                    round += 1;
                }
                anyhow::Ok(fed)
            })
        })
        .collect();
    let mut all = Fed::default();
    for feeder in feeders {
        let fed = feeder.await??;
        all.accepted += fed.accepted;
        all.refused += fed.refused;
    }
    all.seconds = began.elapsed().as_secs_f64();
    Ok(all)
}
