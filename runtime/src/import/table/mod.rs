//! Rows of a file, one after the other, whatever its format: CSV, XLSX, JSON or NDJSON.
//!
//! Promises: memory is bounded by one row (and by the limits of `xlsx.rs`), however long the file is; a row that
//! cannot be read comes as such, with its line, and the next ones still come. Knows nothing of what columns mean.

mod json;
mod text;
mod xlsx;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    ops::ControlFlow,
    path::Path,
};

use jiff::civil::DateTime;

use super::{Format, ImportError};
pub(super) use text::{TextHints, TextLayout, encoding_named, layout_of};

/// Longest row, in bytes as they stand in the file: far above any row of measurements, and what a quote that is not
/// closed may swallow before it is noticed.
pub(super) const ROW_BYTES_MAX: usize = 1 << 20;
/// Most columns of a table.
pub(super) const COLUMNS_MAX: usize = 4_096;

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Absent,
    Text(String),
    Number(f64),
    Bool(bool),
    /// A time of the clock on the wall, as spreadsheets have it.
    Time(DateTime),
}

impl Cell {
    pub(super) fn of_text(text: &str) -> Self {
        match text.trim_start_matches('\u{feff}').trim() {
            "" => Self::Absent,
            text => Self::Text(text.to_owned()),
        }
    }

    /// As it is shown to people, and read where text is meant.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Absent => String::new(),
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Bool(truth) => truth.to_string(),
            Self::Time(time) => time.to_string(),
        }
    }
}

/// One row: its line (of a text), row (of a sheet) or number (of a JSON array), and its cells in the order in which
/// they were wanted, or why it cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) cells: Result<Vec<Cell>, String>,
}

impl Row {
    /// About the bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        let cell = |cell: &Cell| match cell {
            Cell::Text(text) => 32 + text.len(),
            _ => 32,
        };
        self.cells
            .as_ref()
            .map_or(64, |cells| cells.iter().map(cell).sum())
    }
}

/// What is told of each row; breaks off where enough was seen.
pub(super) type Seen<'f> = dyn FnMut(Row) -> ControlFlow<()> + 'f;

/// How the columns of a file are found.
#[derive(Debug, Clone)]
pub(super) enum Layout {
    Text(TextLayout),
    Sheet { name: Option<String> },
    Json,
}

/// Names of the columns, as far as a look at the beginning tells.
pub(super) fn names(path: &Path, format: Format, layout: &Layout) -> Result<Vec<String>, ImportError> {
    match (format, layout) {
        (Format::Csv, Layout::Text(layout)) => Ok(layout.names.clone()),
        (Format::Xlsx, Layout::Sheet { name }) => xlsx::names(path, name.as_deref()),
        _ => json::names(open(path)?, format),
    }
}

/// Shows every row with the cells of these columns.
pub(super) fn each(
    path: &Path,
    format: Format,
    layout: &Layout,
    wanted: &[String],
    seen: &mut Seen<'_>,
) -> Result<(), ImportError> {
    match (format, layout) {
        (Format::Csv, Layout::Text(layout)) => text::each(open(path)?, layout, wanted, seen),
        (Format::Xlsx, Layout::Sheet { name }) => xlsx::each(path, name.as_deref(), wanted, seen),
        _ => json::each(open(path)?, format, wanted, seen),
    }
}

fn open(path: &Path) -> Result<File, ImportError> {
    File::open(path).map_err(|error| ImportError::unreadable(path, &error))
}

/// Names for a header: what is empty is called by its number, and what is there twice gets a number of its own.
pub(super) fn distinct(header: impl Iterator<Item = String>) -> Vec<String> {
    let (mut names, mut taken, mut next) = (Vec::new(), BTreeSet::new(), BTreeMap::<String, usize>::new());
    for (at, written) in header.enumerate() {
        let base = match written.trim() {
            "" => format!("column {}", at + 1),
            name => name.chars().take(200).collect(),
        };
        let mut name = base.clone();
        while taken.contains(&name) {
            let again = next.entry(base.clone()).or_insert(1);
            *again += 1;
            name = format!("{base}#{again}");
        }
        taken.insert(name.clone());
        names.push(name);
    }
    names
}

/// Places of the wanted columns; the nearest name is told for one that is not there.
fn places(names: &[String], wanted: &[String]) -> Result<Vec<usize>, ImportError> {
    let place = |name: &String| {
        names.iter().position(|known| known == name).ok_or_else(|| {
            let detail = format!(
                "the file has no column {name:?}{} (it has {})",
                super::nearest(name, names.iter().map(String::as_str)),
                super::listed(names)
            );
            ImportError::new("import.column_missing", detail)
        })
    };
    wanted.iter().map(place).collect()
}
