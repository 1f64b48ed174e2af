//! Files in: tables of CSV, XLSX, JSON and NDJSON as native readings and scans, by a mapping.
//!
//! Promises: what is read is shown before it is loaded; each row becomes a message, nothing, or a reason with its line,
//! so that the counts add up; memory is bounded whatever the file; a message's id follows from the file's content, the
//! mapping and the line, so that an import which is repeated or goes on counts once. Two ways in use it: `gemba import`
//! and uploads. Knows nothing of who loads the messages.

mod dialect;
mod mapping;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod values;

use std::{
    fs::File,
    io::Read,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

pub use self::{
    dialect::{ColumnSeen, Dialect},
    mapping::{Kind, MAPPING_BYTES_MAX, Mapping},
    rows::{Becomes, Mapped},
};
use self::{
    rows::RowMapper,
    table::{Layout, Row},
};

/// Bytes at the beginning of a text from which its dialect is sniffed.
const SAMPLE_BYTES: usize = 512 << 10;
/// Bytes of rows that are held for it: a row may have a MiB.
const SAMPLE_BYTES_HELD: usize = 16 << 20;
/// Rows from which the dialect of a table is sniffed.
const SAMPLE_ROWS: usize = 2_000;

/// Why a file cannot be imported at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct ImportError {
    /// For programs, e.g. `import.column_missing`.
    pub code: &'static str,
    /// What is wrong, with the mend in parentheses.
    pub detail: String,
}

impl ImportError {
    fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }

    fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self::new("import.unreadable", format!("failed to read {name}: {error}"))
    }
}

/// A format of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text with separators.
    Csv,
    /// A workbook of Excel or LibreOffice.
    Xlsx,
    /// An array of objects.
    Json,
    /// An object a line.
    NdJson,
}

impl Format {
    /// The format by the end of a file's name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, end) = name.rsplit_once('.')?;
        match end.to_ascii_lowercase().as_str() {
            "csv" | "tsv" | "txt" => Some(Self::Csv),
            "xlsx" | "xlsm" => Some(Self::Xlsx),
            "json" => Some(Self::Json),
            "ndjson" | "jsonl" => Some(Self::NdJson),
            _ => None,
        }
    }

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Xlsx => "xlsx",
            Self::Json => "json",
            Self::NdJson => "ndjson",
        }
    }
}

/// A file that was looked at and can be loaded.
#[derive(Debug, Clone)]
pub struct Import {
    path: PathBuf,
    format: Format,
    layout: Layout,
    mapper: RowMapper,
    dialect: Dialect,
    preview: Vec<Mapped>,
}

impl Import {
    /// Looks at a file: its dialect, and what its first rows become. Fails where none of them can be read.
    pub fn open(path: &Path, format: Format, mapping: &Mapping) -> Result<Self, ImportError> {
        let layout = match format {
            Format::Csv => Layout::Text(table::layout_of(&head(path)?, &mapping.text)?),
            Format::Xlsx => Layout::Sheet {
                name: mapping.sheet.clone(),
            },
            Format::Json | Format::NdJson => Layout::Json,
        };
        let names = table::names(path, format, &layout)?;
        let sample = beginning(path, format, &layout, &names)?;
        let cells: Vec<Vec<_>> = sample.iter().filter_map(|row| row.cells.clone().ok()).collect();
        let mut dialect = dialect::look(format.as_str(), &layout, &names, &cells, &mapping.sentinels);
        for name in mapping.wanted().iter().filter(|name| !names.contains(name)) {
            if format == Format::Csv || format == Format::Xlsx {
                break;
            }
            dialect.notes.push(format!(
                "the first items have no {name:?}{}",
                nearest(name, names.iter().map(String::as_str))
            ));
        }
        let mapper = RowMapper::new(mapping, &dialect);
        let first = beginning(path, format, &layout, mapper.wanted())?;
        let preview: Vec<Mapped> = first.iter().map(|row| mapper.map(row, "preview")).collect();
        let is_bad = |row: &&Mapped| matches!(row.becomes, Becomes::Bad { .. });
        let bad = preview.iter().filter(is_bad).count();
        if bad > 0
            && !preview
                .iter()
                .any(|row| matches!(row.becomes, Becomes::Message(_)))
            && let Some(Mapped {
                line,
                becomes: Becomes::Bad { detail, .. },
                ..
            }) = preview.iter().find(is_bad)
        {
            let detail = format!("none of the first {bad} rows can be loaded; line {line}: {detail}");
            return Err(ImportError::new("import.no_row_fits", detail));
        }
        Ok(Self {
            path: path.to_owned(),
            format,
            layout,
            mapper,
            dialect,
            preview,
        })
    }

    /// How the file is written.
    #[must_use]
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// What the first rows become; their message ids are not those that they will have.
    #[must_use]
    pub fn preview(&self) -> &[Mapped] {
        &self.preview
    }

    /// Shows what each row behind `after_line` becomes, until `seen` breaks off.
    pub fn each(
        &self,
        identity: &str,
        after_line: u64,
        seen: &mut dyn FnMut(Mapped) -> ControlFlow<()>,
    ) -> Result<(), ImportError> {
        table::each(
            &self.path,
            self.format,
            &self.layout,
            self.mapper.wanted(),
            &mut |row| {
                if row.line <= after_line {
                    return ControlFlow::Continue(());
                }
                seen(self.mapper.map(&row, identity))
            },
        )
    }
}

/// How a file is written, without any mapping; what the mapping's `[file]` says is not known then.
pub fn sniff(path: &Path, format: Format) -> Result<Dialect, ImportError> {
    let layout = match format {
        Format::Csv => Layout::Text(table::layout_of(&head(path)?, &table::TextHints::default())?),
        Format::Xlsx => Layout::Sheet { name: None },
        Format::Json | Format::NdJson => Layout::Json,
    };
    let names = table::names(path, format, &layout)?;
    let sample = beginning(path, format, &layout, &names)?;
    let cells: Vec<Vec<_>> = sample.into_iter().filter_map(|row| row.cells.ok()).collect();
    Ok(dialect::look(format.as_str(), &layout, &names, &cells, &[]))
}

/// The first rows of a table, as many as may be held.
fn beginning(
    path: &Path,
    format: Format,
    layout: &Layout,
    wanted: &[String],
) -> Result<Vec<Row>, ImportError> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    table::each(path, format, layout, wanted, &mut |row| {
        bytes += row.bytes();
        rows.push(row);
        if rows.len() == SAMPLE_ROWS || bytes > SAMPLE_BYTES_HELD {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(rows)
}

fn head(path: &Path) -> Result<Vec<u8>, ImportError> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SAMPLE_BYTES as u64).read_to_end(&mut head))
        .map_err(|error| ImportError::unreadable(path, &error))?;
    Ok(head)
}

/// What stands for a file and its mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// 32 digits of its content and the mapping; in the message ids of its rows.
    pub id: String,
    /// Lines that it has, if it is a text.
    pub lines: u64,
}

/// Reads a file once to know it again. `seen` hears of the bytes read so far, and breaks off.
pub fn identity(
    path: &Path,
    mapping: &Mapping,
    seen: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Identity, ImportError> {
    let wrong = |error: std::io::Error| ImportError::unreadable(path, &error);
    let mut file = File::open(path).map_err(wrong)?;
    let (mut hasher, mut buffer, mut read, mut lines) = (Xxh3::new(), vec![0; 1 << 18], 0, 0);
    loop {
        let length = file.read(&mut buffer).map_err(wrong)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        read += length as u64;
        lines += buffer[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
        if seen(read).is_break() {
            return Err(ImportError::new(
                "import.broken_off",
                "the reading was broken off",
            ));
        }
    }
    hasher.update(&mapping.fingerprint().to_le_bytes());
    Ok(Identity {
        id: format!("{:032x}", hasher.digest128()),
        lines,
    })
}

/// A hint that names the nearest of the known names.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let tolerated = (name.chars().count() / 3).clamp(1, 4);
    known
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= 2 * tolerated)
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min()
        .map(|(_, candidate)| format!(" (did you mean {candidate}?)"))
        .unwrap_or_default()
}

/// The first of some names, for a detail.
fn listed(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(12).map(String::as_str).collect();
    let more = if names.len() > 12 { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
