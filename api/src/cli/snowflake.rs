//! `gemba snowflake`: the warehouse's own side as numbered SQL files, applied to it, where the streams into it stand, and
//! whether it has what was accepted, what it refused.

mod migrate;
mod reconcile;
mod render;
mod resend;

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::{Args, Subcommand};
use gemba_runtime::checkpoint::SnowflakeSettings;
use serde_json::Value as Json;

use super::{ConfigArgs, client::NodeArgs};
use crate::config::Config;

#[derive(Args)]
pub(super) struct SnowflakeArgs {
    #[command(subcommand)]
    command: SnowflakeCommand,
}

#[derive(Subcommand)]
enum SnowflakeCommand {
    /// Writes the warehouse's SQL as numbered files
    #[command(after_help = "Example: gemba snowflake render --database GEMBA --premium acme --out sql/")]
    Render(render::RenderArgs),
    /// Applies the files that are not applied yet, in their order
    #[command(
        after_help = "Example: gemba snowflake apply --config gemba.toml --as-role ACCOUNTADMIN --dry-run"
    )]
    Apply(migrate::ApplyArgs),
    /// Where each stream of the history stands, as the node tells it, and which files are applied
    #[command(
        after_help = "Example: gemba snowflake status --url http://127.0.0.1:8080\n         gemba snowflake status --config gemba.toml"
    )]
    Status(StatusArgs),
    /// Whether the warehouse has what was accepted: each row once, no other, and the same
    #[command(after_help = "Example: gemba snowflake reconcile --config gemba.toml --tenant acme")]
    Reconcile(reconcile::ReconcileArgs),
    /// Sends rows again that the warehouse refused, when what it refused them for is mended
    #[command(after_help = "Example: gemba snowflake resend --config gemba.toml --dry-run")]
    Resend(resend::ResendArgs),
}

/// Who asks the warehouse.
#[derive(Args)]
struct AccountArgs {
    /// The configuration file, which has a section [snowflake]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Another role than snowflake.role
    #[arg(long, value_name = "ROLE")]
    as_role: Option<String>,
    /// Another user than snowflake.user
    #[arg(long, value_name = "USER")]
    as_user: Option<String>,
    /// Another key than snowflake.key_file
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl AccountArgs {
    /// The configuration, and the account that it names.
    fn settings(&self, data_dir: Option<&str>) -> anyhow::Result<(Config, Arc<SnowflakeSettings>)> {
        let args = ConfigArgs {
            config: self.config.clone(),
            data_dir: data_dir.map(str::to_owned),
            ..ConfigArgs::default()
        };
        let config = Config::beside_a_node(&args.layers()?)?;
        let written = config.node.snowflake.as_ref();
        let written = written.context("no account is named (--config FILE with a section [snowflake])")?;
        let mut settings = (**written).clone();
        if let Some(role) = &self.as_role {
            crate::config::plain_name(role).map_err(|detail| anyhow::anyhow!("--as-role {detail}"))?;
            settings.role.clone_from(role);
        }
        if let Some(user) = &self.as_user {
            settings.user.clone_from(user);
        }
        if let Some(file) = &self.key_file {
            settings.key_file.clone_from(file);
        }
        Ok((config, Arc::new(settings)))
    }
}

#[derive(Args)]
struct StatusArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    migrations: migrate::MigrationsArgs,
}

pub(super) fn run(args: &SnowflakeArgs) -> anyhow::Result<()> {
    match &args.command {
        SnowflakeCommand::Render(args) => render::write(args),
        SnowflakeCommand::Apply(args) => migrate::apply(args),
        SnowflakeCommand::Status(args) if args.migrations.is_asked() => {
            migrate::status(&args.migrations, args.json)
        }
        SnowflakeCommand::Status(args) => status(args),
        SnowflakeCommand::Reconcile(args) => reconcile::run(args),
        SnowflakeCommand::Resend(args) => resend::run(args),
    }
}

fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let answer = args.node.get("/v1/checkpoints")?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    let mut lines = vec![
        [
            "DESTINATION",
            "STREAM",
            "SHARD",
            "STATE",
            "COMMITTED",
            "NEWEST",
            "LAG",
            "AGE",
            "",
        ]
        .map(str::to_owned),
    ];
    for item in answer["items"].as_array().into_iter().flatten() {
        let text = |name: &str| match &item[name] {
            Json::String(text) => text.clone(),
            Json::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let age = item["lag_s"]
            .as_f64()
            .map_or_else(|| "-".to_owned(), |age| format!("{age:.0} s"));
        let mut says = item["last_error"].as_str().unwrap_or_default().to_owned();
        if item["dead_letters"].as_u64().is_some_and(|letters| letters > 0) {
            says = format!("{} dead letters {says}", item["dead_letters"]);
        }
        lines.push([
            text("destination"),
            text("stream"),
            text("shard"),
            text("state"),
            text("committed_seq"),
            text("newest_seq"),
            text("lag_events"),
            age,
            says,
        ]);
    }
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].len())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..8).map(width).collect();
    for line in &lines {
        let padded = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let row = padded.collect::<Vec<_>>().join("  ");
        println!("{}", format!("{row}  {}", line[8]).trim_end());
    }
    Ok(())
}
