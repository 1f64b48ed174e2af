//! Sheets of XLSX workbooks.
//!
//! Promises: a workbook is untrusted. It is inflated once, to nowhere, before anything of it is read: what inflates to
//! more than the limits below, or holds a text longer than any cell may be, is refused with its name, whatever sizes
//! it claims. Then cells come one after the other; formulas are never evaluated, their last values are read.

use std::{
    fs::File,
    io::{BufReader, Read},
    ops::ControlFlow,
    path::Path,
};

use calamine::{DataRef, Reader, Xlsx};
use jiff::civil::{Date, DateTime, Time};

use super::{COLUMNS_MAX, Cell, ROW_BYTES_MAX, Row, Seen, distinct, places};
use crate::import::ImportError;

/// Most files within a workbook.
const PARTS_MAX: usize = 2_000;
/// Most bytes that a workbook inflates to: a full sheet of a million rows and a dozen columns has about half of it.
const INFLATED_MAX: u64 = 1 << 30;
/// Most bytes of what is held in memory as a whole: texts that cells share, styles, the list of sheets.
const HELD_MAX: u64 = 64 << 20;
/// Rows looked at in search of the header.
const HEADER_LOOK: usize = 20;

type Workbook = Xlsx<BufReader<File>>;

fn refuse(detail: String) -> ImportError {
    ImportError::new("import.xlsx_refused", detail)
}

fn open(path: &Path, sheet: Option<&str>) -> Result<(Workbook, String), ImportError> {
    let file = File::open(path).map_err(|error| ImportError::unreadable(path, &error))?;
    let workbook: Workbook = Xlsx::new(BufReader::new(file))
        .map_err(|error| refuse(format!("the file is no XLSX workbook: {error}")))?;
    let sheets = workbook.sheet_names();
    let name = match sheet {
        Some(name) => sheets
            .iter()
            .find(|known| *known == name)
            .cloned()
            .ok_or_else(|| {
                let detail = format!(
                    "the workbook has no sheet {name:?}{} (it has {})",
                    crate::import::nearest(name, sheets.iter().map(String::as_str)),
                    crate::import::listed(&sheets)
                );
                ImportError::new("import.sheet_missing", detail)
            })?,
        None => sheets
            .first()
            .cloned()
            .ok_or_else(|| refuse("the workbook has no sheet".into()))?,
    };
    Ok((workbook, name))
}

/// Inflates all parts of a workbook to nowhere, and refuses what is too large.
fn weigh(path: &Path) -> Result<(), ImportError> {
    let file = File::open(path).map_err(|error| ImportError::unreadable(path, &error))?;
    let wrong = |error: zip::result::ZipError| refuse(format!("the file is no XLSX workbook: {error}"));
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(wrong)?;
    if archive.len() > PARTS_MAX {
        return Err(refuse(format!(
            "the workbook has {} parts (at most {PARTS_MAX})",
            archive.len()
        )));
    }
    let mut left = INFLATED_MAX;
    for number in 0..archive.len() {
        let part = archive.by_index(number).map_err(wrong)?;
        let (name, claimed) = (part.name().map_err(wrong)?.into_owned(), part.size());
        let most = if name.starts_with("xl/worksheets/") {
            left
        } else {
            left.min(HELD_MAX)
        };
        if claimed > most {
            return Err(refuse(format!(
                "{name} in the workbook inflates to {claimed} bytes where {most} are left (save the sheet as CSV)"
            )));
        }
        left -= weigh_part(part, &name, claimed)?;
    }
    Ok(())
}

/// Bytes that a part inflates to, if no more than it claims.
fn weigh_part(mut part: impl Read, name: &str, claimed: u64) -> Result<u64, ImportError> {
    let (mut buffer, mut total, mut run) = ([0_u8; 1 << 14], 0_u64, 0_usize);
    loop {
        let length = part
            .read(&mut buffer)
            .map_err(|error| refuse(format!("{name} in the workbook is damaged: {error}")))?;
        if length == 0 {
            return Ok(total);
        }
        total += length as u64;
        if total > claimed {
            return Err(refuse(format!(
                "{name} in the workbook inflates to more than the {claimed} bytes that it claims"
            )));
        }
        // To the nearest buffer: what is sought are texts that have no end.
        run = if buffer[..length].contains(&b'<') {
            0
        } else {
            run + length
        };
        if run > ROW_BYTES_MAX && name.ends_with(".xml") {
            return Err(refuse(format!(
                "{name} in the workbook holds a text of more than {ROW_BYTES_MAX} bytes"
            )));
        }
    }
}

/// Where the table of a sheet begins, and what its columns are called.
struct Header {
    row: u32,
    names: Vec<String>,
}

/// Names of the columns. A file is weighed here, before anything else of it is read.
pub(super) fn names(path: &Path, sheet: Option<&str>) -> Result<Vec<String>, ImportError> {
    weigh(path)?;
    let (mut workbook, sheet) = open(path, sheet)?;
    Ok(header(&mut workbook, &sheet)?.names)
}

/// The first row of those at the beginning that has as many cells as any of them.
fn header(workbook: &mut Workbook, sheet: &str) -> Result<Header, ImportError> {
    let mut rows: Vec<(u32, Vec<Cell>)> = Vec::new();
    walk(workbook, sheet, &mut |row, cells| {
        rows.push((row, cells));
        if rows.len() == HEADER_LOOK {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    let width = |cells: &[Cell]| cells.iter().filter(|cell| **cell != Cell::Absent).count();
    let widest = rows.iter().map(|(_, cells)| width(cells)).max().unwrap_or(0);
    let found = rows
        .into_iter()
        .find(|(_, cells)| width(cells) == widest && widest > 0);
    let Some((row, cells)) = found else {
        return Err(ImportError::new(
            "import.empty",
            format!("the sheet {sheet:?} holds no rows"),
        ));
    };
    let names = distinct(cells.iter().map(Cell::shown));
    Ok(Header { row, names })
}

pub(super) fn each(
    path: &Path,
    sheet: Option<&str>,
    wanted: &[String],
    seen: &mut Seen<'_>,
) -> Result<(), ImportError> {
    let (mut workbook, sheet) = open(path, sheet)?;
    let header = header(&mut workbook, &sheet)?;
    let places = places(&header.names, wanted)?;
    walk(&mut workbook, &sheet, &mut |row, cells| {
        if row <= header.row {
            return ControlFlow::Continue(());
        }
        let cells = places
            .iter()
            .map(|place| cells.get(*place).cloned().unwrap_or(Cell::Absent))
            .collect();
        seen(Row {
            line: u64::from(row) + 1,
            cells: Ok(cells),
        })
    })
}

/// Shows the rows of a sheet that hold anything, with their numbers from 0.
fn walk(
    workbook: &mut Workbook,
    sheet: &str,
    seen: &mut dyn FnMut(u32, Vec<Cell>) -> ControlFlow<()>,
) -> Result<(), ImportError> {
    let wrong = |error: calamine::XlsxError| refuse(format!("the sheet {sheet:?} cannot be read: {error}"));
    let mut reader = workbook.worksheet_cells_reader(sheet).map_err(wrong)?;
    let (mut row, mut cells, mut bytes) = (0_u32, Vec::new(), 0);
    while let Some(cell) = reader.next_cell().map_err(wrong)? {
        let (at, column) = cell.get_position();
        if at < row {
            return Err(refuse(format!(
                "the rows of the sheet {sheet:?} are not in order"
            )));
        }
        if at > row {
            if !cells.is_empty() && seen(row, std::mem::take(&mut cells)).is_break() {
                return Ok(());
            }
            (row, bytes) = (at, 0);
        }
        let column = column as usize;
        let value = value(cell.get_value());
        if value == Cell::Absent || column >= COLUMNS_MAX {
            continue;
        }
        // Cells share texts: a small workbook could have the same long one in each.
        if let Cell::Text(text) = &value {
            bytes += text.len();
        }
        if bytes > ROW_BYTES_MAX {
            return Err(refuse(format!(
                "row {} of the sheet {sheet:?} has more than {ROW_BYTES_MAX} bytes",
                row + 1
            )));
        }
        if cells.len() <= column {
            cells.resize(column + 1, Cell::Absent);
        }
        cells[column] = value;
    }
    if !cells.is_empty() {
        let _ = seen(row, cells);
    }
    Ok(())
}

fn value(value: &DataRef<'_>) -> Cell {
    match value {
        DataRef::Int(number) => Cell::Number(*number as f64),
        DataRef::Float(number) => Cell::Number(*number),
        DataRef::String(text) => Cell::of_text(text),
        DataRef::SharedString(text) => Cell::of_text(text),
        DataRef::Bool(truth) => Cell::Bool(*truth),
        DataRef::DateTime(time) if time.is_datetime() => match wall_time(time) {
            Some(time) => Cell::Time(time),
            None => Cell::Number(time.as_f64()),
        },
        DataRef::DateTime(duration) => Cell::Number(duration.as_f64()),
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => Cell::of_text(text),
        // A formula that failed has no value.
        DataRef::Error(_) | DataRef::Empty => Cell::Absent,
    }
}

fn wall_time(time: &calamine::ExcelDateTime) -> Option<DateTime> {
    let (year, month, day, hour, minute, second, millisecond) = time.to_ymd_hms_milli();
    let date = Date::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
    );
    let time = Time::new(
        i8::try_from(hour).ok()?,
        i8::try_from(minute).ok()?,
        i8::try_from(second).ok()?,
        i32::from(millisecond) * 1_000_000,
    );
    Some(date.ok()?.to_datetime(time.ok()?))
}
