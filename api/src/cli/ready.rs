//! `gemba ready`: whether a node can serve, as an exit status: for containers without a shell, and for scripts.

use anyhow::Context;
use clap::Args;

use super::client::NodeArgs;

#[derive(Args)]
pub(super) struct ReadyArgs {
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &ReadyArgs) -> anyhow::Result<()> {
    args.node
        .get("/readyz")
        .with_context(|| format!("{} is not ready", args.node.url))?;
    println!("ready");
    Ok(())
}
