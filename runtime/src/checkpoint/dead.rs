//! Rows that the warehouse refused, written down where a person finds them.
//!
//! Promises: the file's name follows from the seqs it is about, so that writing it again replaces it by the same; the
//! rows stand in it as they were sent. The server says how many rows it refused and where the last one is, not which
//! they are: where there are fewer than the rows in question, each line says so.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Shared,
    place::Place,
    rows::push_line,
    source::{Found, Source},
};
use crate::history::replace;

/// Where they are, in the checkpoint's folder.
pub(super) const FOLDER: &str = "dead-letters";
/// Bytes after which no more rows in question are written down.
const BYTES_MAX: usize = 16 << 20;

/// A row that was refused, or may have been: a line of a file.
#[derive(Serialize, Deserialize)]
pub(super) struct Letter {
    pub(super) seq: u64,
    pub(super) table: String,
    pub(super) reason: String,
    /// How many of the rows in question were refused.
    pub(super) refused: u64,
    /// How many rows are in question.
    pub(super) of: usize,
    /// All of them were refused.
    pub(super) certain: bool,
    /// As it was sent.
    pub(super) row: Box<RawValue>,
}

impl Letter {
    /// Appends it as a line.
    pub(super) fn push_line(&self, out: &mut String) {
        // Nothing of it has a form that JSON lacks.
        out.push_str(&serde_json::to_string(self).unwrap_or_default());
        out.push('\n');
    }
}

/// Writes down the rows after `after`, up to `last`, `refused` of which were refused; answers where.
pub(super) fn write(
    shared: &Shared,
    place: &Place,
    after: u64,
    last: u64,
    refused: u64,
    said: &str,
) -> Result<PathBuf, String> {
    let mut rows: Vec<(u64, String)> = Vec::new();
    let mut bytes = 0;
    Source::default().each(shared, place, after, last, &mut |found| {
        if let Found::Row(seq, event, _) = found {
            let mut line = Vec::new();
            push_line(&mut line, place.shard, seq, event);
            bytes += line.len();
            rows.push((seq, String::from_utf8_lossy(line.trim_ascii_end()).into_owned()));
        }
        bytes < BYTES_MAX
    })?;
    let (of, mut text) = (rows.len(), String::new());
    for (seq, row) in rows {
        let letter = Letter {
            seq,
            table: place.table.name().into(),
            reason: said.into(),
            refused,
            of,
            certain: of as u64 <= refused,
            // A row is a line of JSON.
            row: RawValue::from_string(row).unwrap_or_else(|_| RawValue::NULL.to_owned()),
        };
        letter.push_line(&mut text);
    }
    let path = place.dead_letters(&shared.root, after + 1, last);
    replace(&path, &text).map_err(|error| error.to_string())?;
    Ok(path)
}
