//! `gemba snowflake reconcile`: whether the warehouse has what was accepted here.
//!
//! Promises: works beside a running node; exit status 1 where anything differs, and everything that does is named.

use anyhow::{Context, bail};
use clap::Args;
use gemba_runtime::{
    checkpoint::{Compared, Reconciliation, Warehouse},
    clock,
};
use gemba_twins::id::TenantId;
use serde_json::json;

use super::AccountArgs;
use crate::cli::client::NodeArgs;

const DAY_MS: i64 = 86_400_000;
/// Ranges of seqs that a line names.
const SHOWN: usize = 12;

#[derive(Args)]
pub(super) struct ReconcileArgs {
    #[command(flatten)]
    account: AccountArgs,
    /// The data folder, where it is another than node.data_dir
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Whose; all tenants if absent
    #[arg(long)]
    tenant: Option<String>,
    /// The first day that is compared, e.g. 2026-11-23; where history.keep_days deletes files, the first that it leaves
    #[arg(long, value_name = "DATE")]
    from: Option<String>,
    /// Asks the node to write what is waiting into the files first
    #[arg(long)]
    fresh: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &ReconcileArgs) -> anyhow::Result<()> {
    let (config, settings) = args.account.settings(args.data_dir.as_deref())?;
    let history = config.node.history.folder.as_deref();
    let history = history.context("history.folder is off, and the comparison reads its files")?;
    if args.fresh {
        args.node
            .send("POST", "/v1/history/write", "application/json", b"")?;
    }
    if !history.is_dir() {
        bail!(
            "{} does not exist (--data-dir names the node's data folder)",
            history.display()
        );
    }
    let tenant = args
        .tenant
        .as_deref()
        .map(TenantId::parse)
        .transpose()
        .context("--tenant")?;
    let kept = config.node.history.keep_days.map(|days| {
        let oldest = clock::now().plus_ms(-DAY_MS * i64::from(days));
        oldest.to_string().chars().take(10).collect::<String>()
    });
    let warehouse = Warehouse::open(&settings, false)?;
    let found = Reconciliation {
        warehouse: &warehouse,
        schema: &format!("{}.{}", settings.database, settings.schema),
        history,
        checkpoint: &config.node.data_dir.join("checkpoint"),
        tenant: tenant.as_ref(),
        from_day: args.from.as_deref().or(kept.as_deref()),
    }
    .run()?;
    warehouse.close();
    let differences: u64 = found.iter().map(|compared| compared.differences).sum();
    if args.json {
        let all = json!({"agrees": differences == 0, "differences": differences, "items": found});
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        found.iter().for_each(print);
    }
    if differences > 0 {
        bail!("the warehouse differs from what was accepted in {differences} rows");
    }
    if !args.json {
        let rows: u64 = found.iter().map(|compared| compared.rows_here).sum();
        println!("the warehouse has each of {rows} rows once, no other, and the same");
    }
    Ok(())
}

fn print(compared: &Compared) {
    let short = |checksum: &str| checksum.chars().take(12).collect::<String>();
    println!(
        "{} {} shard {} up to seq {}: {} rows here ({}), {} there ({}), {} not compared yet{}",
        compared.tenant,
        compared.stream,
        compared.shard,
        compared.last_seq,
        compared.rows_here,
        short(&compared.checksum_here),
        compared.rows_there,
        short(&compared.checksum_there),
        compared.waiting,
        if compared.agrees() { "" } else { ": DIFFERS" }
    );
    for (seqs, what) in [
        (&compared.missing, "here and not there"),
        (&compared.doubled, "there more than once"),
        (&compared.foreign, "there and not here"),
        (&compared.changed, "not the same"),
    ] {
        if !seqs.is_empty() {
            println!("  {what}: seq {}", ranges(seqs));
        }
    }
}

/// Seqs as ranges: `3, 7-9`.
fn ranges(seqs: &[u64]) -> String {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for seq in seqs {
        match found.last_mut() {
            Some((_, last)) if *last + 1 == *seq => *last = *seq,
            _ => found.push((*seq, *seq)),
        }
    }
    let shown = found.iter().take(SHOWN).map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if found.len() > SHOWN {
        text.push_str(&format!(" and {} more ranges", found.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_a_range() {
        assert_eq!(ranges(&[3, 7, 8, 9, 11]), "3, 7-9, 11");
        let many: Vec<u64> = (0..40).map(|seq| seq * 2).collect();
        assert!(ranges(&many).ends_with("and 28 more ranges"));
    }
}
