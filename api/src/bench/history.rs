//! `history`: rows into Parquet files, and out of them again into an export.

use std::path::Path;

use anyhow::ensure;
use gemba_runtime::{clock, history::FiledRows};
use gemba_twins::{id::TenantId, time::Timestamp};

use super::{BenchArgs, Case, Stand, query};

/// Metrics of each reading that [`query::fill`] sends.
const METRICS: u64 = 8;

pub(super) async fn run(args: &BenchArgs) -> anyhow::Result<Vec<Case>> {
    let twins = args.scaled(args.twins).min(10_000);
    let rounds = (args.scaled(1_000_000) / twins).max(1);
    let (root, tenant) = (args.folder()?, TenantId::parse("default")?);
    let history = root.path().to_owned();
    let stand = Stand::start(args, |settings| {
        settings.history.folder = Some(history);
        // Nothing is written before it is measured.
        settings.history.events = u64::MAX;
        settings.history.every = std::time::Duration::from_secs(86_400);
    })
    .await?;
    let began = clock::instant();
    query::fill(&stand, twins, rounds as u64).await?;
    let filled_s = began.elapsed().as_secs_f64();
    let began = clock::instant();
    stand.node.write_history().await;
    let written_s = began.elapsed().as_secs_f64();
    let rows = (twins * rounds) as u64 * METRICS;
    let bytes = bytes_in(&root.path().join("tenant=default/kind=readings"));
    let all = counted(root.path(), &tenant, None)?;
    ensure!(
        all.0 == rows,
        "{rows} rows were sent, and {} are in the files",
        all.0
    );
    let one = counted(root.path(), &tenant, Some("machine/m-0000001"))?;
    ensure!(one.0 == rounds as u64 * METRICS, "one twin has {} rows", one.0);
    stand.stop().await;
    let per_s = |seconds: f64| rows as f64 / seconds;
    Ok(vec![
        Case::new("parquet_write")
            .against("the ingest of the same rows", per_s(written_s), per_s(filled_s))
            .with("rows", rows)
            .with("bytes", bytes)
            .with(
                "bytes_per_row",
                (100.0 * bytes as f64 / rows as f64).round() / 100.0,
            ),
        Case::new("parquet_export")
            .against("writing them", per_s(all.1), per_s(written_s))
            .with("rows", rows),
        Case::new("parquet_export_twin")
            .with("ms", (one.1 * 1_000.0).round())
            .with("limit", "all twins")
            .with("limit_ms", (all.1 * 1_000.0).round())
            .with("rows", one.0)
            .with("twins", twins),
    ])
}

/// The rows of readings that the files hold, and the seconds it took to read them.
pub(super) fn counted(root: &Path, tenant: &TenantId, twin: Option<&str>) -> anyhow::Result<(u64, f64)> {
    let rows = FiledRows {
        root,
        tenant,
        kind: "readings",
        twin,
        from: Timestamp::from_ms(i64::MIN / 2),
        to: Timestamp::from_ms(i64::MAX / 2),
    };
    let began = clock::instant();
    let count = rows.write_parquet(std::io::sink())?;
    Ok((count, began.elapsed().as_secs_f64()))
}

/// Bytes of the files below a folder.
pub(super) fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => bytes_in(&entry.path()),
            Ok(about) => about.len(),
            Err(_) => 0,
        })
        .sum()
}
