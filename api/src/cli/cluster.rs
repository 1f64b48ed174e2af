//! `gemba nodes`, `gemba shards`, `gemba drain`: the cluster in the terminal.
//!
//! Promises: any node can be asked; `drain` returns when the node has left, and says so when it may be stopped.

use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::Value as Json;

use super::{client::NodeArgs, serve::say};

/// Between two looks at a node that leaves.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct ClusterViewArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct DrainArgs {
    /// The number of the node that is to leave
    #[arg(value_name = "NODE")]
    number: u64,
    #[command(flatten)]
    node: NodeArgs,
    /// Gives up after so many seconds; the node stays draining
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    within: u64,
}

fn view(args: &ClusterViewArgs, part: &str) -> anyhow::Result<Option<Vec<Json>>> {
    let view = args.node.get("/v1/cluster")?;
    if view["cluster"].is_null() {
        bail!(
            "the node at {} is in no cluster (it was started without --cluster-listen)",
            args.node.url
        );
    }
    if args.json {
        say(&serde_json::to_string_pretty(&view[part])?);
        return Ok(None);
    }
    Ok(Some(view[part].as_array().cloned().unwrap_or_default()))
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) if text.is_empty() => "-".into(),
        Json::String(text) => text.clone(),
        Json::Null => "-".into(),
        Json::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
        Json::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Prints rows under their heads, each column as wide as it has to be.
fn table(columns: &[(&str, &str)], rows: &[Json]) {
    let heads = columns
        .iter()
        .map(|(head, _)| (*head).to_owned())
        .collect::<Vec<_>>();
    let cells = rows
        .iter()
        .map(|row| columns.iter().map(|(_, key)| text(&row[*key])).collect());
    let lines: Vec<Vec<String>> = std::iter::once(heads).chain(cells).collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for line in &lines {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        say(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

pub(super) fn nodes(args: &ClusterViewArgs) -> anyhow::Result<()> {
    let Some(nodes) = view(args, "nodes")? else {
        return Ok(());
    };
    let columns = [
        ("NODE", "node"),
        ("ADDRESS", "address"),
        ("ZONE", "zone"),
        ("STATE", "state"),
        ("ANSWERS", "answers"),
        ("OWNS", "owns"),
        ("KEEPS", "keeps"),
    ];
    table(&columns, &nodes);
    Ok(())
}

pub(super) fn shards(args: &ClusterViewArgs) -> anyhow::Result<()> {
    let Some(shards) = view(args, "shards")? else {
        return Ok(());
    };
    let columns = [
        ("SHARD", "shard"),
        ("OWNER", "owner"),
        ("EPOCH", "epoch"),
        ("SEQ", "seq"),
        ("MEMBERS", "members"),
        ("WANTED", "wanted"),
        ("LAG", "lag"),
    ];
    table(&columns, &shards);
    Ok(())
}

pub(super) fn drain(args: &DrainArgs) -> anyhow::Result<()> {
    let path = format!("/v1/cluster/nodes/{}/drain", args.number);
    let (mut before, mut waited) = (None, Duration::ZERO);
    loop {
        let said = args.node.send("POST", &path, "application/json", b"")?;
        if said["left"] == true {
            say(&format!(
                "node {} has left; stop it and remove its data folder",
                args.number
            ));
            return Ok(());
        }
        if before.as_ref() != Some(&said["shards"]) {
            say(&format!(
                "node {} still keeps {} shards",
                args.number, said["shards"]
            ));
            before = Some(said["shards"].clone());
        }
        if waited >= Duration::from_secs(args.within) {
            return Err(anyhow!(
                "node {} has not left within {} s (it goes on draining; call again)",
                args.number,
                args.within
            ));
        }
        std::thread::park_timeout(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
}
