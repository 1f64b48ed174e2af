//! Rows that the warehouse refused, written down where a person finds them.
//!
//! Promises: the file's name follows from the seqs it is about, so that writing it again replaces it by the same; the
//! rows stand in it as they were sent. The server says how many rows it refused and where the last one is, not which
//! they are: where there are fewer than the rows in question, each line says so.

use std::path::PathBuf;

use serde_json::{json, value::RawValue};

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
    let certain = rows.len() as u64 <= refused;
    let mut text = String::new();
    for (seq, row) in &rows {
        // A row is a line of JSON.
        let row: Option<&RawValue> = serde_json::from_str(row).ok();
        let line = json!({
            "seq": seq, "table": place.table.name(), "reason": said, "refused": refused, "of": rows.len(),
            "certain": certain, "row": row,
        });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    let path = place.dead_letters(&shared.root, after + 1, last);
    replace(&path, &text).map_err(|error| error.to_string())?;
    Ok(path)
}
