//! `gemba import`: history from a CSV, XLSX, JSON or NDJSON file, by a mapping.
//!
//! Promises: how the file is written and what its first rows become is shown before anything is loaded; every row ends
//! as accepted, duplicate, rejected or empty, and the counts add up; rejected rows are kept beside the file with their
//! lines; what breaks off goes on where it was, and what is repeated counts once.

mod notes;
mod progress;
mod sending;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use gemba_runtime::import::{
    Becomes, Dialect, Format, Import, MAPPING_BYTES_MAX, Mapped, Mapping, identity, sniff,
};
use serde_json::{Value as Json, json};

use self::{notes::Notes, progress::Progress, sending::Sender};
use super::client::NodeArgs;

/// First rows shown before loading.
const SHOWN_ROWS: usize = 3;

#[derive(Args)]
pub(super) struct ImportArgs {
    /// The file: .csv, .tsv, .txt, .xlsx, .json, .ndjson or .jsonl
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Which column is what (TOML; examples/import has some)
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    map: Option<PathBuf>,
    /// Shows how the file is read and, with --map, what its first rows become; loads nothing
    #[arg(long)]
    check: bool,
    /// Sends a file again that was imported before; what the node remembers still counts once
    #[arg(long)]
    again: bool,
    /// csv, xlsx, json or ndjson, where the file's name does not say it
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Where rows that are not loaded are kept; FILE.rejected.csv if absent
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// The result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &ImportArgs) -> anyhow::Result<()> {
    let format = format(args)?;
    let cannot = || format!("{} cannot be imported", args.file.display());
    let Some(map) = &args.map else {
        let dialect = sniff(&args.file, format).with_context(cannot)?;
        if args.json {
            println!("{}", json!({"dialect": dialect}));
        } else {
            show_dialect(&dialect);
        }
        return Ok(());
    };
    let mapping = mapping(map)?;
    let import = Import::open(&args.file, format, &mapping).with_context(cannot)?;
    if !args.json {
        show_dialect(import.dialect());
        show_rows(&import);
    }
    if args.check {
        if args.json {
            let rows: Vec<Json> = import.preview().iter().take(SHOWN_ROWS).map(row_json).collect();
            println!("{}", json!({"dialect": import.dialect(), "rows": rows}));
        }
        return Ok(());
    }
    load(args, &mapping, &import)
}

fn mapping(path: &Path) -> anyhow::Result<Mapping> {
    let name = path.display();
    let length = std::fs::metadata(path).map_or(0, |file| file.len());
    if length > MAPPING_BYTES_MAX as u64 {
        bail!("{name} has more than {MAPPING_BYTES_MAX} bytes (is it a mapping?)");
    }
    let text =
        std::fs::read_to_string(path).with_context(|| format!("failed to read {name} (does it exist?)"))?;
    Mapping::parse(&text).with_context(|| name.to_string())
}

fn format(args: &ImportArgs) -> anyhow::Result<Format> {
    let name = args.file.display().to_string();
    let found = match &args.format {
        Some(word) => Format::of_name(&format!(".{word}")),
        None => Format::of_name(&name),
    };
    let word = args.format.as_deref().unwrap_or(&name);
    found.with_context(|| {
        format!("{word} names no format that is read (give --format csv, xlsx, json or ndjson)")
    })
}

fn load(args: &ImportArgs, mapping: &Mapping, import: &Import) -> anyhow::Result<()> {
    let mut progress = Progress::new(args.json);
    let size = std::fs::metadata(&args.file).map_or(0, |file| file.len());
    let known = identity(&args.file, mapping, &mut |read| {
        progress.reading(read, size);
        ControlFlow::Continue(())
    })?;
    let mut notes = Notes::open(
        &args.file,
        args.rejected.as_deref(),
        &known.id,
        &args.node.url,
        args.again,
    )?;
    if notes.is_done() {
        let told = format!(
            "{} was imported into {} with this mapping already: nothing was sent (--again sends it again)",
            args.file.display(),
            args.node.url
        );
        return finish(args, &notes, &told);
    }
    if notes.line() > 0 && !args.json {
        println!("going on after line {}", notes.line());
    }
    let is_text = matches!(import.dialect().format, "csv" | "ndjson");
    progress.loading(notes.counts().rows(), is_text.then_some(known.lines));
    let mut sender = Sender::new(&args.node, mapping.kind().path());
    let mut failed = None;
    let after = notes.line();
    let read = import.each(&known.id, after, &mut |row| {
        sender.take(row);
        if sender.is_full()
            && let Err(problem) = sender.send(&mut notes)
        {
            failed = Some(problem);
            return ControlFlow::Break(());
        }
        progress.rows(notes.counts());
        ControlFlow::Continue(())
    });
    let done = match failed {
        Some(problem) => Err(problem),
        None => sender.send(&mut notes),
    };
    progress.end();
    done.and(read.map_err(anyhow::Error::from)).with_context(|| {
        format!(
            "the import stopped after line {} (run it again: it goes on there)",
            notes.line()
        )
    })?;
    notes.done()?;
    finish(args, &notes, "")
}

/// Tells the counts, which add up.
fn finish(args: &ImportArgs, notes: &Notes, told: &str) -> anyhow::Result<()> {
    let counts = notes.counts();
    let kept = (counts.rejected > 0).then(|| notes.rejected().display().to_string());
    if args.json {
        let mut answer = counts.json();
        answer["rejected_file"] = json!(kept);
        answer["sent"] = json!(told.is_empty());
        println!("{answer}");
    } else {
        if !told.is_empty() {
            println!("{told}");
        }
        println!("{counts}");
        if let Some(kept) = &kept {
            println!("rejected rows are in {kept}, with their lines and reasons");
        }
    }
    let nothing = counts.accepted + counts.duplicates == 0 && counts.rejected > 0;
    anyhow::ensure!(!nothing, "no row was accepted (see {})", kept.unwrap_or_default());
    Ok(())
}

fn show_dialect(dialect: &Dialect) {
    let mut said = vec![dialect.format.to_owned()];
    said.extend(dialect.encoding.map(|encoding| {
        let bom = if dialect.bom {
            " with a byte order mark"
        } else {
            ""
        };
        format!("{encoding}{bom}")
    }));
    said.extend(
        dialect
            .separator
            .map(|separator| format!("separator {separator:?}")),
    );
    said.extend(dialect.header_line.map(|line| format!("header in line {line}")));
    said.push(format!("decimal sign {:?}", dialect.decimal));
    said.extend(dialect.date_order.map(|order| format!("dates {order}")));
    println!("read as {}", said.join(", "));
    for column in &dialect.columns {
        let example = column
            .example
            .as_ref()
            .map_or_else(String::new, |text| format!(", e.g. {text}"));
        println!("  {}: {}{example}", column.name, column.holds);
    }
    for note in &dialect.notes {
        println!("note: {note}");
    }
}

fn show_rows(import: &Import) {
    for row in import.preview().iter().take(SHOWN_ROWS) {
        match &row.becomes {
            Becomes::Message(message) => println!("line {}: {message}", row.line),
            Becomes::Nothing => println!("line {}: nothing was measured", row.line),
            Becomes::Bad { detail, .. } => println!("line {}: rejected, {detail}", row.line),
        }
    }
    let bad = |row: &&Mapped| matches!(row.becomes, Becomes::Bad { .. });
    let count = import.preview().iter().filter(bad).count();
    if count > 0 {
        let first = import.preview().iter().find(bad);
        if let Some(Mapped {
            line,
            becomes: Becomes::Bad { detail, .. },
            ..
        }) = first
        {
            println!(
                "of the first {} rows {count} will be rejected, e.g. line {line}: {detail}",
                import.preview().len()
            );
        }
    }
}

fn row_json(row: &Mapped) -> Json {
    match &row.becomes {
        Becomes::Message(message) => {
            let message: Json = serde_json::from_str(message).unwrap_or_default();
            json!({"line": row.line, "message": message})
        }
        Becomes::Nothing => json!({"line": row.line, "message": null}),
        Becomes::Bad { code, detail } => json!({"line": row.line, "code": code, "detail": detail}),
    }
}
