//! `gemba export`: a range of the history as CSV, NDJSON or one Parquet file, from the files in a data folder.
//!
//! Promises: works beside a running node, which writes what is waiting first when it is asked; cells that a
//! spreadsheet would take for a formula are marked as text.

use std::{
    fs::File,
    io::{BufWriter, IsTerminal, Write},
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use gemba_runtime::history::{FiledRow, FiledRows, kinds};
use gemba_twins::{id::TenantId, time::Timestamp};
use serde_json::{Map, Value as Json};

use super::client::NodeArgs;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Ndjson,
    Parquet,
}

#[derive(Args)]
pub(super) struct ExportArgs {
    /// readings, scans, alarms, rollups, kpis or states
    #[arg(long, default_value = "readings")]
    kind: String,
    /// Only this twin, e.g. machine/cnc-07
    #[arg(long)]
    twin: Option<String>,
    /// From this time on, e.g. 2026-11-23T06:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// Where to; the standard output if absent
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Whose
    #[arg(long, default_value = "default")]
    tenant: String,
    /// The data folder, or the folder that history.folder names
    #[arg(long, default_value = "gemba-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// Asks the node to write what is waiting before the export
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    if !kinds().contains(&args.kind.as_str()) {
        bail!("--kind {} is none of {}", args.kind, kinds().join(", "));
    }
    let tenant = TenantId::parse(&args.tenant).context("--tenant")?;
    let within = args.data_dir.join("history");
    let root = if within.is_dir() {
        within
    } else {
        args.data_dir.clone()
    };
    if !root.is_dir() {
        bail!(
            "{} does not exist (--data-dir names the node's data folder)",
            root.display()
        );
    }
    if args.fresh {
        args.node
            .send("POST", "/v1/history/write", "application/json", b"")?;
    }
    let rows = FiledRows {
        root: &root,
        tenant: &tenant,
        kind: &args.kind,
        twin: args.twin.as_deref(),
        from: time("--from", args.from.as_deref(), i64::MIN / 2)?,
        to: time("--to", args.to.as_deref(), i64::MAX / 2)?,
    };
    if args.format == Format::Parquet && args.out.is_none() && std::io::stdout().is_terminal() {
        bail!("a Parquet file is not for a terminal (name one with --out, or send it on by a pipe)");
    }
    let out: Box<dyn Write + Send> = match &args.out {
        Some(path) => {
            Box::new(File::create(path).with_context(|| format!("failed to make {}", path.display()))?)
        }
        None => Box::new(std::io::stdout()),
    };
    let mut out = BufWriter::new(out);
    let count = match args.format {
        Format::Parquet => {
            let count = rows.write_parquet(&mut out)?;
            out.flush().context("failed to write the export")?;
            count
        }
        Format::Csv | Format::Ndjson => write(&rows, args.format, &mut out)?,
    };
    eprintln!("{count} rows");
    Ok(())
}

fn time(flag: &str, text: Option<&str>, otherwise: i64) -> anyhow::Result<Timestamp> {
    match text {
        None => Ok(Timestamp::from_ms(otherwise)),
        Some(text) => text.parse().with_context(|| flag.to_owned()),
    }
}

fn write(rows: &FiledRows<'_>, format: Format, out: &mut impl Write) -> anyhow::Result<u64> {
    let (mut count, mut failed) = (0, None);
    rows.each(&mut |row| {
        let written = match format {
            Format::Ndjson => ndjson_line(row, out),
            _ => csv_line(&row, count == 0, out),
        };
        count += 1;
        failed = written.err();
        failed.is_none()
    })?;
    match failed {
        // Whoever reads the output has seen enough.
        Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(count),
        Some(error) => Err(error).context("failed to write the export"),
        None => {
            out.flush().context("failed to write the export")?;
            Ok(count)
        }
    }
}

fn ndjson_line(row: FiledRow, out: &mut impl Write) -> std::io::Result<()> {
    let object: Map<String, Json> = row
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    writeln!(out, "{}", Json::Object(object))
}

fn csv_line(row: &FiledRow, first: bool, out: &mut impl Write) -> std::io::Result<()> {
    if first {
        let names: Vec<&str> = row.iter().map(|(name, _)| *name).collect();
        write!(out, "{}\r\n", names.join(","))?;
    }
    for (index, (_, value)) in row.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        match value {
            Json::Null => {}
            Json::String(text) => out.write_all(csv_text(text).as_bytes())?,
            other => write!(out, "{other}")?,
        }
    }
    out.write_all(b"\r\n")
}

/// Quoted where need be (RFC 4180), and never a formula.
pub(super) fn csv_text(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        "'"
    } else {
        ""
    };
    if text.contains([',', '"', '\r', '\n']) || !guard.is_empty() {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_a_formula() {
        for (text, cell) in [
            ("cnc-07", "cnc-07"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "\"'=1+1\""),
            ("-5", "\"'-5\""),
            ("@cmd", "\"'@cmd\""),
        ] {
            assert_eq!(csv_text(text), cell);
        }
    }
}
