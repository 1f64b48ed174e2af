//! `gemba backup`, `gemba restore`: a consistent copy of a running node or cluster, and back from it.
//!
//! Promises: any node can be asked, and nothing stops meanwhile; a backup that breaks off is never taken for a whole one;
//! `restore` writes only into a folder that is not there.

use std::{
    fs::File,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use gemba_runtime::{
    backup::{Head, file_of, missing, restore},
    clock,
};
use serde_json::json;

use super::{
    client::{NodeArgs, encoded},
    serve::say,
};

/// How often a shard is begun again: its node may end, or the shard may move.
const TRIES: usize = 5;

#[derive(Args)]
pub(super) struct BackupArgs {
    /// The folder to write; must not be there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    node: NodeArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct RestoreArgs {
    /// The folder of the backup
    #[arg(value_name = "DIR")]
    backup: PathBuf,
    /// The data folder to make; must not be there
    #[arg(long, value_name = "DIR", default_value = "gemba-data")]
    data_dir: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn back_up(args: &BackupArgs) -> anyhow::Result<()> {
    if args.folder.exists() {
        bail!(
            "{} is there already (back up into a folder that is not)",
            args.folder.display()
        );
    }
    let mut aside = args.folder.as_os_str().to_owned();
    aside.push(".unfinished");
    let aside = PathBuf::from(aside);
    if aside.exists() {
        std::fs::remove_dir_all(&aside).with_context(|| format!("failed to remove {}", aside.display()))?;
    }
    std::fs::create_dir_all(&aside).with_context(|| format!("failed to make {}", aside.display()))?;
    let (began, shows) = (clock::instant(), std::io::stderr().is_terminal() && !args.json);
    // The first one says how many there are.
    let (control, mut bytes) = shard(args, &aside, "control")?;
    let mut heads = vec![control.clone()];
    for number in 0..control.shards {
        let (head, length) = shard(args, &aside, &number.to_string())?;
        bytes += length;
        heads.push(head);
        if shows {
            let rate = bytes as f64 / 1_048_576.0 / began.elapsed().as_secs_f64().max(0.001);
            eprint!("\rshard {} of {}, {rate:.1} MiB/s ", number + 1, control.shards);
            // Progress that cannot be shown is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    }
    if shows {
        eprintln!();
    }
    let count = u16::try_from(control.shards).unwrap_or(u16::MAX);
    if let Some(file) = missing(&aside, count).first() {
        bail!("{file} was not written (take the backup again)");
    }
    File::open(&aside)
        .and_then(|folder| folder.sync_all())
        .context("failed to write the folder to the disk")?;
    std::fs::rename(&aside, &args.folder)
        .with_context(|| format!("failed to make {}", args.folder.display()))?;
    let events: u64 = heads.iter().map(|head| head.last).sum();
    if args.json {
        let shards: Vec<_> = heads
            .iter()
            .map(|head| json!({"shard": name(head), "seq": head.last}))
            .collect();
        say(&json!({"cluster": control.cluster, "bytes": bytes, "shards": shards}).to_string());
    } else {
        say(&format!(
            "{} shards up to {events} records, {bytes} bytes, in {}",
            heads.len(),
            args.folder.display()
        ));
    }
    Ok(())
}

fn name(head: &Head) -> String {
    file_of(head.shard)
        .trim_start_matches("shard-")
        .trim_end_matches(".backup")
        .to_owned()
}

/// Backs up a shard; answers its head, and its bytes.
fn shard(args: &BackupArgs, folder: &Path, shard: &str) -> anyhow::Result<(Head, u64)> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_shard(args, folder, shard) {
            Err(error) if tries < TRIES => tracing::debug!(shard, %error, "a shard is backed up again"),
            done => return done.with_context(|| format!("failed to back up shard {shard}")),
        }
    }
}

fn try_shard(args: &BackupArgs, folder: &Path, shard: &str) -> anyhow::Result<(Head, u64)> {
    let path = folder.join(format!("shard-{shard}.backup"));
    let mut file = File::create(&path).with_context(|| format!("failed to make {}", path.display()))?;
    let (mut head, mut place, mut bytes) = (None, None::<String>, 0);
    loop {
        let asked = match &place {
            None => format!("/v1/backup/{shard}"),
            Some(place) => format!("/v1/backup/{shard}?place={}", encoded(place)),
        };
        let (piece, next) = args.node.bytes(&asked, "gemba-backup-place")?;
        file.write_all(&piece)
            .with_context(|| format!("failed to write {}", path.display()))?;
        bytes += piece.len() as u64;
        if head.is_none() {
            head = Some(Head::read(&piece)?);
        }
        match next {
            Some(next) => place = Some(next),
            None => break,
        }
    }
    file.sync_all()
        .with_context(|| format!("failed to write {}", path.display()))?;
    Ok((head.context("the node sent nothing")?, bytes))
}

pub(super) fn bring_back(args: &RestoreArgs) -> anyhow::Result<()> {
    let shows = std::io::stderr().is_terminal() && !args.json;
    let restored = restore(&args.backup, &args.data_dir, &mut |records| {
        if shows && records.is_multiple_of(1_000) {
            eprint!("\r{records} records ");
            // Progress that cannot be shown is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    })?;
    if shows {
        eprintln!();
    }
    let data_dir = args.data_dir.display();
    if args.json {
        say(
            &json!({"cluster": restored.cluster, "shards": restored.shards, "records": restored.records})
                .to_string(),
        );
    } else {
        say(&format!(
            "{} records of {} shards restored; start a node on {data_dir}, alone or with --found as the first of a new \
             cluster (node.shards = {})",
            restored.records, restored.shards, restored.shards
        ));
    }
    Ok(())
}
