//! CSV and its kin: text with separators, in the encoding and with the header that sniffing found.
//!
//! Promises: one pass, memory of one record; a record with more or fewer fields than the header is shown as unreadable
//! with its line, and so is one that is not in the encoding; a quote that is never closed ends the reading with the
//! line where it began, before memory fills.

use std::{
    cell::Cell as Count,
    fs::File,
    io::{self, BufReader, Read},
    rc::Rc,
};

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use encoding_rs_io::DecodeReaderBytesBuilder;

use super::{COLUMNS_MAX, Cell, ROW_BYTES_MAX, Row, Seen, distinct, places};
use crate::import::ImportError;

/// How a text is cut into records.
#[derive(Debug, Clone)]
pub(in crate::import) struct TextLayout {
    pub(in crate::import) encoding: &'static Encoding,
    pub(in crate::import) bom: bool,
    pub(in crate::import) separator: u8,
    /// The line of the header; 0 where there is none.
    pub(in crate::import) header_line: u64,
    /// Where the rows begin.
    pub(in crate::import) first_line: u64,
    pub(in crate::import) names: Vec<String>,
    /// Names of the header that stand there twice.
    pub(in crate::import) doubled: Vec<String>,
}

/// What the mapping says of the text, in place of sniffing.
#[derive(Debug, Clone, Default)]
pub(in crate::import) struct TextHints {
    pub(in crate::import) encoding: Option<&'static Encoding>,
    pub(in crate::import) separator: Option<u8>,
    /// The line of the header; 0 says that there is none.
    pub(in crate::import) header_line: Option<u64>,
}

/// Finds encoding, separator and header in the first bytes of a file.
pub(in crate::import) fn layout_of(sample: &[u8], hints: &TextHints) -> Result<TextLayout, ImportError> {
    let (sniffed, bom) = encoding_of(sample);
    let encoding = hints.encoding.unwrap_or(sniffed);
    let text = encoding.decode(sample).0.replace("\r\n", "\n");
    // The last line of a sample may be cut.
    let whole = match text.rfind('\n') {
        Some(at) if sample.len() >= super::super::SAMPLE_BYTES => &text[..=at],
        _ => &text,
    };
    let said = whole.lines().next().and_then(|line| {
        let said = line.trim().strip_prefix("sep=")?;
        (said.len() == 1).then(|| said.as_bytes()[0])
    });
    let separator = match hints.separator.or(said) {
        Some(separator) => separator,
        None => separator_of(whole),
    };
    let mut records = records_of(whole, separator, 1_000);
    if said.is_some() {
        records.retain(|(line, _)| *line > 1);
    }
    let Some(width) = usual_width(&records) else {
        return Err(ImportError::new("import.empty", "the file holds no rows"));
    };
    if width > COLUMNS_MAX {
        let detail = format!("the file has {width} columns (at most {COLUMNS_MAX}; is the separator right?)");
        return Err(ImportError::new("import.too_many_columns", detail));
    }
    // A title above the table has fewer fields than the table.
    let first = records
        .iter()
        .position(|(_, fields)| fields.len() == width)
        .unwrap_or(0);
    let header = match hints.header_line {
        Some(0) => None,
        Some(line) => Some(records.iter().position(|(known, _)| *known >= line).unwrap_or(0)),
        None => looks_like_header(&records[first..]).then_some(first),
    };
    let (names, header_line, first_line) = match header {
        Some(at) => {
            let (line, fields) = &records[at];
            let next = records.get(at + 1).map_or(line + 1, |(next, _)| *next);
            (distinct(fields.iter().cloned()), *line, next)
        }
        None => {
            let names = (1..=width).map(|number| number.to_string()).collect();
            (names, 0, records[first].0)
        }
    };
    let doubled = match header {
        Some(at) => doubled(&records[at].1),
        None => Vec::new(),
    };
    Ok(TextLayout {
        encoding,
        bom,
        separator,
        header_line,
        first_line,
        names,
        doubled,
    })
}

fn encoding_of(sample: &[u8]) -> (&'static Encoding, bool) {
    if let Some((encoding, _)) = Encoding::for_bom(sample) {
        return (encoding, true);
    }
    // Text of UTF-16 without a mark: every second byte of ASCII is zero.
    let head = &sample[..sample.len().min(512)];
    let zeros = |odd: usize| {
        head.iter()
            .skip(odd)
            .step_by(2)
            .filter(|byte| **byte == 0)
            .count()
    };
    if zeros(1) > head.len() / 4 {
        return (UTF_16LE, false);
    }
    if zeros(0) > head.len() / 4 {
        return (UTF_16BE, false);
    }
    match std::str::from_utf8(sample) {
        Ok(_) => (UTF_8, false),
        // The sample may end within a character.
        Err(error) if error.error_len().is_none() => (UTF_8, false),
        Err(_) => (WINDOWS_1252, false),
    }
}

fn records_of(text: &str, separator: u8, most: usize) -> Vec<(u64, Vec<String>)> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(separator)
        .from_reader(text.as_bytes());
    let (mut records, mut record) = (Vec::new(), csv::StringRecord::new());
    while records.len() < most && matches!(reader.read_record(&mut record), Ok(true)) {
        let line = line_of(&reader, record.as_byte_record());
        records.push((line, record.iter().map(str::to_owned).collect()));
    }
    records
}

/// The line in which the record that was just read begins: the parser's own place of it is before the empty lines that
/// it skipped.
fn line_of<R: Read>(reader: &csv::Reader<R>, record: &csv::ByteRecord) -> u64 {
    let within: usize = record
        .iter()
        .map(|field| field.iter().filter(|byte| **byte == b'\n').count())
        .sum();
    // The last one may lack its line feed.
    let its_own = within as u64 + u64::from(!reader.is_done());
    reader.position().line().saturating_sub(its_own).max(1)
}

/// The number of fields that most records have.
fn usual_width(records: &[(u64, Vec<String>)]) -> Option<usize> {
    let count = |width: usize| records.iter().filter(|(_, fields)| fields.len() == width).count();
    let widths: std::collections::BTreeSet<usize> = records.iter().map(|(_, fields)| fields.len()).collect();
    widths.into_iter().max_by_key(|width| (count(*width), *width))
}

/// The separator with which most records have the same number of fields, more than one.
fn separator_of(text: &str) -> u8 {
    let score = |separator: u8| {
        let records = records_of(text, separator, 200);
        let width = usual_width(&records).unwrap_or(1);
        let agree = records.iter().filter(|(_, fields)| fields.len() == width).count();
        if width < 2 {
            return (0, 0);
        }
        (1_000 * agree / records.len().max(1), width)
    };
    // Of those that fit equally well the first wins: a decimal comma makes commas frequent, never semicolons.
    let mut best = (b',', (0, 0));
    for separator in [b';', b'\t', b'|', b','] {
        let score = score(separator);
        if score.0 > best.1.0 || (score.0 == best.1.0 && score.1 > best.1.1 && separator != b',') {
            best = (separator, score);
        }
    }
    best.0
}

/// Whether the first of these records names what the others hold: words where they have numbers or times.
fn looks_like_header(records: &[(u64, Vec<String>)]) -> bool {
    let is_data = |text: &str| {
        let text = text.trim();
        text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | ','))
            && text.contains(|c: char| c.is_ascii_digit())
    };
    let Some((_, first)) = records.first() else {
        return false;
    };
    if first.iter().any(|field| is_data(field)) {
        return false;
    }
    // Words over words is what a list of names looks like too; it is taken as a header, and shown before loading.
    first.iter().any(|field| !field.trim().is_empty())
}

fn doubled(header: &[String]) -> Vec<String> {
    let mut doubled: Vec<String> = Vec::new();
    for (at, name) in header.iter().enumerate() {
        let name = name.trim();
        if !name.is_empty()
            && header[..at].iter().any(|before| before.trim() == name)
            && !doubled.iter().any(|known| known == name)
        {
            doubled.push(name.to_owned());
        }
    }
    doubled
}

/// Lets through only so many bytes between two records, and lines that end as on Unix: the parser counts those of
/// Windows one too late.
struct Bounded<R> {
    inner: R,
    since: Rc<Count<usize>>,
    /// A carriage return of which it is not known yet whether a line feed follows.
    held: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since.get() > ROW_BYTES_MAX {
            return Err(io::Error::other("the row does not end"));
        }
        // A byte less, so that one that was held has room.
        let mut read = vec![0; buffer.len().saturating_sub(1).max(1)];
        loop {
            let length = self.inner.read(&mut read)?;
            let mut written = 0;
            let mut put = |byte: u8| {
                buffer[written] = byte;
                written += 1;
            };
            for byte in &read[..length] {
                if std::mem::take(&mut self.held) && *byte != b'\n' {
                    put(b'\r');
                }
                if *byte == b'\r' {
                    self.held = true;
                } else {
                    put(*byte);
                }
            }
            if length == 0 && std::mem::take(&mut self.held) {
                put(b'\r');
            }
            if written > 0 || length == 0 {
                self.since.set(self.since.get() + length);
                return Ok(written);
            }
        }
    }
}

pub(super) fn each(
    file: File,
    layout: &TextLayout,
    wanted: &[String],
    seen: &mut Seen<'_>,
) -> Result<(), ImportError> {
    let places = places(&layout.names, wanted)?;
    let since = Rc::new(Count::new(0));
    let decoded = DecodeReaderBytesBuilder::new()
        .encoding(Some(layout.encoding))
        .bom_override(true)
        .build(BufReader::with_capacity(1 << 16, file));
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(layout.separator)
        .from_reader(Bounded {
            inner: decoded,
            since: since.clone(),
            held: false,
        });
    let mut record = csv::ByteRecord::new();
    let mut line = 0;
    loop {
        since.set(0);
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if since.get() > ROW_BYTES_MAX => {
                let detail = format!(
                    "the row after line {line} does not end within {ROW_BYTES_MAX} bytes (is a quote not closed?): {error}"
                );
                return Err(ImportError::new("import.row_too_long", detail));
            }
            Err(error) => {
                let detail = format!("failed to read on after line {line}: {error}");
                return Err(ImportError::new("import.unreadable", detail));
            }
        }
        line = line_of(&reader, &record);
        if line < layout.first_line {
            continue;
        }
        let cells = cells(&record, layout, &places);
        if seen(Row { line, cells }).is_break() {
            return Ok(());
        }
    }
}

fn cells(record: &csv::ByteRecord, layout: &TextLayout, places: &[usize]) -> Result<Vec<Cell>, String> {
    let columns = layout.names.len();
    // Spreadsheets write rows without the empty cells at their end, or with more of them.
    let more =
        (columns..record.len()).any(|at| record.get(at).is_some_and(|field| !field.trim_ascii().is_empty()));
    let blank = record.iter().all(|field| field.trim_ascii().is_empty());
    if more || (record.len() < columns && !blank) {
        return Err(format!(
            "has {} fields where the table has {columns} (is a separator missing, or within a text without quotes?)",
            record.len()
        ));
    }
    let cell = |place: &usize| {
        let bytes = record.get(*place).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes);
        if layout.encoding == UTF_8 && text.contains('\u{fffd}') {
            return Err(format!(
                "column {:?} is not UTF-8 (set encoding in [file], e.g. \"windows-1252\")",
                layout.names[*place]
            ));
        }
        Ok(Cell::of_text(&text))
    };
    places.iter().map(cell).collect()
}

/// The encoding of this name, of those that plants' files have.
pub(in crate::import) fn encoding_named(name: &str) -> Option<&'static Encoding> {
    match name.to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" => Some(UTF_8),
        "utf-16le" | "utf-16" => Some(UTF_16LE),
        "utf-16be" => Some(UTF_16BE),
        "windows-1252" | "latin1" | "iso-8859-1" => Some(WINDOWS_1252),
        _ => None,
    }
}
