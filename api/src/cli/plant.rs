//! `gemba apply` and `gemba plan`: the plant model of a running node.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use gemba_runtime::plant::PlantModel;
use serde_json::Value as Json;

use super::client::NodeArgs;

#[derive(Args)]
pub(super) struct PlantArgs {
    /// The plant model, YAML or JSON
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

impl PlantArgs {
    /// The file, checked here first, so that its problems are named even without a node.
    fn text(&self) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(&self.file)
            .with_context(|| format!("failed to read {} (does it exist?)", self.file.display()))?;
        PlantModel::parse(&text).with_context(|| format!("{} is no plant model", self.file.display()))?;
        Ok(text)
    }
}

pub(super) fn apply(args: &PlantArgs) -> anyhow::Result<()> {
    let answer = args
        .node
        .send("PUT", "/v1/plant", "application/yaml", args.text()?.as_bytes())?;
    if args.json {
        println!("{answer}");
        return Ok(());
    }
    show(&answer["changes"]);
    println!("version {} is in force", answer["version"]);
    Ok(())
}

pub(super) fn plan(args: &PlantArgs) -> anyhow::Result<()> {
    let answer = args.node.send(
        "POST",
        "/v1/plant/plan",
        "application/yaml",
        args.text()?.as_bytes(),
    )?;
    if args.json {
        println!("{answer}");
    } else {
        show(&answer);
    }
    Ok(())
}

fn show(changes: &Json) {
    for (name, sign) in [("added", '+'), ("changed", '~'), ("removed", '-')] {
        for item in changes[name].as_array().into_iter().flatten() {
            let what: Vec<&str> = item["what"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Json::as_str)
                .collect();
            println!(
                "{sign} {} {}",
                item["twin"].as_str().unwrap_or_default(),
                what.join("; ")
            );
        }
    }
    if let Some(unchanged) = changes["unchanged"].as_u64() {
        println!("  {unchanged} unchanged");
    }
}
