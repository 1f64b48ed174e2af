//! JSON as a table: an array of objects, or one object a line; nested fields are columns with dotted names.
//!
//! Promises: an array is cut into its items as it is read, so memory holds one item; an item that is not JSON is shown
//! as unreadable and the next ones still come. Rows are counted by line (NDJSON) or item (array), from 1.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, Read},
    ops::ControlFlow,
};

use serde_json::Value as Json;

use super::{COLUMNS_MAX, Cell, ROW_BYTES_MAX, Row, Seen};
use crate::import::{Format, ImportError};

/// Items looked at for the names of columns.
const LOOK: usize = 1_000;
/// How deep objects in objects are followed.
const DEPTH_MAX: usize = 8;

/// All dotted names of the first items.
pub(super) fn names(file: File, format: Format) -> Result<Vec<String>, ImportError> {
    let (mut names, mut known) = (Vec::new(), BTreeSet::new());
    let mut left = LOOK;
    items(file, format, &mut |_, item| {
        if let Ok(item) = item
            && let Ok(item) = serde_json::from_slice(item)
        {
            collect(&item, String::new(), &mut names, &mut known, 0);
        }
        left -= 1;
        if left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    if names.is_empty() {
        let detail = "the file holds no JSON object (an array of objects or one object a line is needed)";
        return Err(ImportError::new("import.empty", detail));
    }
    Ok(names)
}

fn collect(item: &Json, prefix: String, names: &mut Vec<String>, known: &mut BTreeSet<String>, depth: usize) {
    match item {
        Json::Object(fields) if depth < DEPTH_MAX => {
            for (name, value) in fields {
                let name = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}.{name}")
                };
                collect(value, name, names, known, depth + 1);
            }
        }
        Json::Object(_) | Json::Array(_) => {}
        _ if names.len() < COLUMNS_MAX && !prefix.is_empty() && known.insert(prefix.clone()) => {
            names.push(prefix)
        }
        _ => {}
    }
}

pub(super) fn each(
    file: File,
    format: Format,
    wanted: &[String],
    seen: &mut Seen<'_>,
) -> Result<(), ImportError> {
    items(file, format, &mut |line, item| {
        let cells = item.and_then(|item| {
            let item: Json = serde_json::from_slice(item).map_err(|error| format!("is not JSON: {error}"))?;
            if !item.is_object() {
                return Err("is not a JSON object".to_owned());
            }
            Ok(wanted.iter().map(|name| cell(&item, name)).collect())
        });
        seen(Row { line, cells })
    })
}

fn cell(item: &Json, name: &str) -> Cell {
    match field(item, name) {
        None | Some(Json::Null | Json::Array(_) | Json::Object(_)) => Cell::Absent,
        Some(Json::Bool(truth)) => Cell::Bool(*truth),
        Some(Json::Number(number)) => number.as_f64().map_or(Cell::Absent, Cell::Number),
        Some(Json::String(text)) => Cell::of_text(text),
    }
}

/// A field by its dotted name; a name with a dot of its own is found too.
fn field<'j>(item: &'j Json, name: &str) -> Option<&'j Json> {
    let fields = item.as_object()?;
    if let Some(value) = fields.get(name) {
        return Some(value);
    }
    name.match_indices('.')
        .find_map(|(at, _)| field(fields.get(&name[..at])?, &name[at + 1..]))
}

type EachItem<'f> = dyn FnMut(u64, Result<&[u8], String>) -> ControlFlow<()> + 'f;

fn items(file: File, format: Format, seen: &mut EachItem<'_>) -> Result<(), ImportError> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    skip_bom(&mut reader)?;
    match format {
        Format::NdJson => lines(&mut reader, seen),
        _ => array(&mut reader, seen),
    }
}

fn unreadable(line: u64, error: &std::io::Error) -> ImportError {
    ImportError::new(
        "import.unreadable",
        format!("failed to read on after row {line}: {error}"),
    )
}

fn skip_bom(reader: &mut impl BufRead) -> Result<(), ImportError> {
    let head = reader.fill_buf().map_err(|error| unreadable(0, &error))?;
    if head.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    Ok(())
}

fn lines(reader: &mut impl BufRead, seen: &mut EachItem<'_>) -> Result<(), ImportError> {
    let mut text = Vec::new();
    let mut line = 0;
    loop {
        text.clear();
        line += 1;
        let read = reader
            .by_ref()
            .take(ROW_BYTES_MAX as u64 + 1)
            .read_until(b'\n', &mut text)
            .map_err(|error| unreadable(line, &error))?;
        if read == 0 {
            return Ok(());
        }
        let too_long = read > ROW_BYTES_MAX && !text.ends_with(b"\n");
        if too_long {
            skip_line(reader).map_err(|error| unreadable(line, &error))?;
        }
        let item = text.trim_ascii();
        if item.is_empty() {
            continue;
        }
        let item = if too_long {
            Err(format!("has more than {ROW_BYTES_MAX} bytes"))
        } else {
            Ok(item)
        };
        if seen(line, item).is_break() {
            return Ok(());
        }
    }
}

fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let head = reader.fill_buf()?;
        let (length, ended) = match head.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (head.len(), head.is_empty()),
        };
        reader.consume(length);
        if ended {
            return Ok(());
        }
    }
}

/// Cuts an array at its commas by counting brackets and quotes; one object alone is an array of it.
fn array(reader: &mut impl BufRead, seen: &mut EachItem<'_>) -> Result<(), ImportError> {
    let mut cutter = Cutter::default();
    loop {
        let head = reader
            .fill_buf()
            .map_err(|error| unreadable(cutter.number, &error))?;
        if head.is_empty() {
            break;
        }
        let length = head.len();
        for byte in head {
            if cutter.take(*byte, seen)?.is_break() {
                return Ok(());
            }
        }
        reader.consume(length);
    }
    if cutter.alone && cutter.depth == 0 {
        // One object without an array around it.
        let _ = cutter.end(seen);
        return Ok(());
    }
    if !cutter.ended {
        let detail = format!(
            "the array does not end after item {} (is the file cut off?)",
            cutter.number
        );
        return Err(ImportError::new("import.cut_off", detail));
    }
    Ok(())
}

#[derive(Default)]
struct Cutter {
    item: Vec<u8>,
    number: u64,
    depth: usize,
    begun: bool,
    alone: bool,
    in_text: bool,
    escaped: bool,
    too_long: bool,
    ended: bool,
}

impl Cutter {
    fn end(&mut self, seen: &mut EachItem<'_>) -> ControlFlow<()> {
        let item = std::mem::take(&mut self.item);
        let too_long = std::mem::take(&mut self.too_long);
        if item.trim_ascii().is_empty() {
            return ControlFlow::Continue(());
        }
        self.number += 1;
        seen(
            self.number,
            if too_long {
                Err(format!("has more than {ROW_BYTES_MAX} bytes"))
            } else {
                Ok(item.trim_ascii())
            },
        )
    }

    fn take(&mut self, byte: u8, seen: &mut EachItem<'_>) -> Result<ControlFlow<()>, ImportError> {
        if !self.begun {
            match byte {
                b'[' => self.begun = true,
                b'{' => {
                    (self.begun, self.alone, self.depth) = (true, true, 1);
                    self.item.push(byte);
                }
                _ if byte.is_ascii_whitespace() => {}
                _ => {
                    let detail =
                        "the file is neither a JSON array nor an object (NDJSON is named .ndjson or .jsonl)";
                    return Err(ImportError::new("import.not_json", detail));
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        if self.ended || (self.alone && self.depth == 0) {
            if byte.is_ascii_whitespace() {
                return Ok(ControlFlow::Continue(()));
            }
            let detail =
                "something follows the end of the JSON value (one object a line is NDJSON: name it .ndjson)";
            return Err(ImportError::new("import.not_json", detail));
        }
        if self.in_text {
            (self.in_text, self.escaped) = match (byte, self.escaped) {
                (_, true) => (true, false),
                (b'\\', false) => (true, true),
                (b'"', false) => (false, false),
                _ => (true, false),
            };
        } else {
            match byte {
                b'"' => self.in_text = true,
                b'[' | b'{' => self.depth += 1,
                b']' if self.depth == 0 => {
                    self.ended = true;
                    return Ok(self.end(seen));
                }
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                b',' if self.depth == 0 => return Ok(self.end(seen)),
                _ => {}
            }
        }
        if self.item.len() < ROW_BYTES_MAX {
            self.item.push(byte);
        } else {
            self.too_long = true;
        }
        Ok(ControlFlow::Continue(()))
    }
}
