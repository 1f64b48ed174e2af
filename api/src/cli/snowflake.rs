//! `gemba snowflake`: the warehouse's own side as numbered SQL files, and where the streams into it stand.
//!
//! Promises: what is rendered depends on nothing but the flags; each statement may be run again; names are checked, so
//! that no flag can become a statement.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use gemba_twins::id::TenantId;

use serde_json::Value as Json;

use super::client::NodeArgs;
use crate::config::plain_name;

/// The migrations in their order, as they stand in `deploy/snowflake/`.
const MIGRATIONS: [(&str, &str); 9] = [
    (
        "001_roles_and_warehouses.sql",
        include_str!("../../../deploy/snowflake/001_roles_and_warehouses.sql"),
    ),
    (
        "002_tenants.sql",
        include_str!("../../../deploy/snowflake/002_tenants.sql"),
    ),
    (
        "003_tables.sql",
        include_str!("../../../deploy/snowflake/003_tables.sql"),
    ),
    (
        "004_normalized.sql",
        include_str!("../../../deploy/snowflake/004_normalized.sql"),
    ),
    (
        "005_analytics.sql",
        include_str!("../../../deploy/snowflake/005_analytics.sql"),
    ),
    (
        "006_streams_and_tasks.sql",
        include_str!("../../../deploy/snowflake/006_streams_and_tasks.sql"),
    ),
    (
        "007_cortex.sql",
        include_str!("../../../deploy/snowflake/007_cortex.sql"),
    ),
    (
        "008_costs.sql",
        include_str!("../../../deploy/snowflake/008_costs.sql"),
    ),
    (
        "009_stages.sql",
        include_str!("../../../deploy/snowflake/009_stages.sql"),
    ),
];
const PREMIUM: &str = include_str!("../../../deploy/snowflake/100_premium_tenant.sql");

#[derive(Args)]
pub(super) struct SnowflakeArgs {
    #[command(subcommand)]
    command: SnowflakeCommand,
}

#[derive(Subcommand)]
enum SnowflakeCommand {
    /// Writes the warehouse's SQL as numbered files
    #[command(after_help = "Example: gemba snowflake render --database GEMBA --premium acme --out sql/")]
    Render(RenderArgs),
    /// Where each stream of the history stands, as the node tells it
    #[command(after_help = "Example: gemba snowflake status --url http://127.0.0.1:8080")]
    Status(StatusArgs),
}

#[derive(Args)]
struct StatusArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args)]
struct RenderArgs {
    /// The database
    #[arg(long, default_value = "GEMBA")]
    database: String,
    /// The schema of what all tenants share
    #[arg(long, default_value = "CORE")]
    schema: String,
    /// What the names of roles and users begin with
    #[arg(long, default_value = "GEMBA")]
    role: String,
    /// What the names of warehouses begin with
    #[arg(long, default_value = "GEMBA")]
    warehouse: String,
    /// Credits a month after which the warehouses are suspended
    #[arg(long, default_value_t = 150)]
    credit_quota: u32,
    /// A tenant that gets a schema, a role and a warehouse of its own; may be given again
    #[arg(long, value_name = "TENANT")]
    premium: Vec<String>,
    /// The folder for the files; the standard output if absent
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &SnowflakeArgs) -> anyhow::Result<()> {
    match &args.command {
        SnowflakeCommand::Render(args) => write(args),
        SnowflakeCommand::Status(args) => status(args),
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

fn write(args: &RenderArgs) -> anyhow::Result<()> {
    let files = render(args)?;
    let Some(out) = &args.out else {
        for (name, text) in files {
            println!("-- {name}\n{text}");
        }
        return Ok(());
    };
    std::fs::create_dir_all(out).with_context(|| format!("failed to make {}", out.display()))?;
    for (name, text) in files {
        let path = out.join(&name);
        std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn render(args: &RenderArgs) -> anyhow::Result<Vec<(String, String)>> {
    let quota = args.credit_quota.to_string();
    let mut values = vec![("credit_quota", quota.as_str())];
    for (flag, name) in [
        ("database", &args.database),
        ("schema", &args.schema),
        ("role", &args.role),
        ("warehouse", &args.warehouse),
    ] {
        plain_name(name).map_err(|detail| anyhow::anyhow!("--{flag} {detail}"))?;
        values.push((flag, name));
    }
    let mut files: Vec<(String, String)> = MIGRATIONS
        .iter()
        .map(|(name, template)| ((*name).to_owned(), filled(template, &values)))
        .collect();
    for (index, tenant) in args.premium.iter().enumerate() {
        TenantId::parse(tenant).with_context(|| format!("--premium {tenant}"))?;
        let upper: String = tenant
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letter.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect();
        let own = [("tenant", tenant.as_str()), ("tenant_upper", upper.as_str())];
        let of_tenant: Vec<_> = values.iter().copied().chain(own).collect();
        files.push((
            format!("{}_premium_{upper}.sql", 100 + index),
            filled(PREMIUM, &of_tenant),
        ));
    }
    Ok(files)
}

fn filled(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{{name}}}}}"), value)
    })
}
