//! `gemba snowflake resend`: rows that the warehouse refused, sent again.
//!
//! Promises: works beside a running node; exit status 1 where a row is refused again, and each of these is named.

use anyhow::bail;
use clap::Args;
use gemba_runtime::checkpoint::{Warehouse, resend};
use serde_json::json;

use super::AccountArgs;

#[derive(Args)]
pub(super) struct ResendArgs {
    #[command(flatten)]
    account: AccountArgs,
    /// The data folder, where it is another than node.data_dir
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Only says what would be sent
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ResendArgs) -> anyhow::Result<()> {
    let (config, settings) = args.account.settings(args.data_dir.as_deref())?;
    let data = &config.node.data_dir;
    if !data.is_dir() {
        bail!(
            "{} does not exist (--data-dir names the node's data folder)",
            data.display()
        );
    }
    let warehouse = Warehouse::open(&settings, false)?;
    let schema = format!("{}.{}", settings.database, settings.schema);
    let files = resend(&warehouse, &schema, &data.join("checkpoint"), args.dry_run)?;
    warehouse.close();
    let refused: usize = files.iter().map(|file| file.refused.len()).sum();
    if args.json {
        let all = json!({"dry_run": args.dry_run, "refused": refused, "items": files});
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        let sent = if args.dry_run { "would be sent" } else { "sent" };
        for file in &files {
            println!(
                "{}: of {} rows {} there already, {} {sent}, {} refused again",
                file.file,
                file.rows,
                file.there,
                file.sent,
                file.refused.len()
            );
            for row in &file.refused {
                println!("  seq {}: {}", row.seq, row.reason);
            }
        }
        if files.is_empty() {
            println!("no refused rows are kept in {}", data.display());
        }
    }
    if refused > 0 {
        bail!("{refused} rows were refused again; they stay in the data folder's checkpoint/dead-letters");
    }
    Ok(())
}
