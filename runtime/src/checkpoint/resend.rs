//! Refused rows sent again, when what they were refused for is mended.
//!
//! Promises: a row that the warehouse has is not sent, so sending again at any time doubles nothing (two runs at the
//! same time would); what is refused again stays in its file, with the new reason; a file is put aside only when the
//! warehouse has all of its rows. Blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    dead::{FOLDER, Letter},
    rows::Table,
    sql::{insert_of, is_of_a_row, quoted},
    warehouse::{Warehouse, WarehouseError},
};
use crate::history::{FileError, replace};

/// Most rows, and bytes of them, of a statement.
const ROWS_MAX: usize = 500;
const BYTES_MAX: usize = 512 << 10;
/// Where files go whose rows are there.
const DONE: &str = "resent";

/// Why sending again breaks off. What was sent until then is there; sending again goes on.
#[derive(Debug, Error)]
pub enum ResendError {
    /// The warehouse.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// The folder, or a file of it.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// A line is not one that was written down for a refused row.
    #[error("{path}, line {line}: {detail} (put the file elsewhere, or mend the line)")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        detail: String,
    },
}

/// A row that was refused again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedAgain {
    /// Its seq.
    pub seq: u64,
    /// What the warehouse said.
    pub reason: String,
}

/// What became of a file's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Resent {
    /// The file's name.
    pub file: String,
    /// Its rows.
    pub rows: u64,
    /// Those that the warehouse had.
    pub there: u64,
    /// Those that were sent, or would be.
    pub sent: u64,
    /// Those that were refused again.
    pub refused: Vec<RefusedAgain>,
}

/// What names a row.
#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Head {
    tenant_id: String,
    shard: u16,
    seq: u64,
}

/// Rows of one table to be sent.
struct Sending<'a> {
    warehouse: &'a Warehouse,
    schema: &'a str,
    table: Table,
}

/// Sends the rows of all files in a checkpoint's folder again; with `is_dry` only says what would be sent.
pub fn resend(
    warehouse: &Warehouse,
    schema: &str,
    checkpoint: &Path,
    is_dry: bool,
) -> Result<Vec<Resent>, ResendError> {
    let folder = checkpoint.join(FOLDER);
    let failed = |source| ResendError::File {
        path: folder.clone(),
        source,
    };
    let mut files = Vec::new();
    match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                if path.extension().is_some_and(|extension| extension == "ndjson") {
                    files.push(path);
                }
            }
        }
    }
    files.sort();
    let of_file = |path: &PathBuf| resend_file(warehouse, schema, path, is_dry);
    files.iter().map(of_file).collect()
}

fn resend_file(
    warehouse: &Warehouse,
    schema: &str,
    path: &Path,
    is_dry: bool,
) -> Result<Resent, ResendError> {
    let (table, mut letters) = read(path)?;
    let sending = Sending {
        warehouse,
        schema,
        table,
    };
    let name = path.file_name().unwrap_or_default();
    let mut resent = Resent {
        file: name.to_string_lossy().into_owned(),
        rows: letters.len() as u64,
        ..Resent::default()
    };
    let there = sending.there(&letters)?;
    letters.retain(|(head, _)| !there.contains(&(head.shard, head.seq)));
    resent.there = resent.rows - letters.len() as u64;
    resent.sent = letters.len() as u64;
    if is_dry {
        return Ok(resent);
    }
    let mut refused = BTreeMap::new();
    for part in parts(&letters) {
        sending.send(part, &mut refused)?;
    }
    resent.sent -= refused.len() as u64;
    if refused.is_empty() {
        put_aside(path)?;
        return Ok(resent);
    }
    let (mut text, of) = (String::new(), refused.len());
    for (head, mut letter) in letters {
        let Some(reason) = refused.remove(&head.seq) else {
            continue;
        };
        resent.refused.push(RefusedAgain {
            seq: head.seq,
            reason: reason.clone(),
        });
        (letter.reason, letter.refused, letter.of, letter.certain) = (reason, of as u64, of, true);
        letter.push_line(&mut text);
    }
    replace(path, &text)?;
    Ok(resent)
}

/// The rows of a file, which are all of one table.
fn read(path: &Path) -> Result<(Table, Vec<(Head, Letter)>), ResendError> {
    let text = fs::read_to_string(path).map_err(|source| ResendError::File {
        path: path.to_owned(),
        source,
    })?;
    let (mut table, mut letters) = (Table::Readings, Vec::new());
    for (at, line) in text.lines().enumerate() {
        let odd = |detail: String| ResendError::Line {
            path: path.to_owned(),
            line: at + 1,
            detail,
        };
        let letter: Letter = serde_json::from_str(line).map_err(|error| odd(error.to_string()))?;
        let head: Head = serde_json::from_str(letter.row.get()).map_err(|error| odd(error.to_string()))?;
        let known = Table::OF_EVENTS
            .into_iter()
            .find(|table| table.name() == letter.table);
        table = known.ok_or_else(|| odd(format!("{:?} is no table of refused rows", letter.table)))?;
        letters.push((head, letter));
    }
    Ok((table, letters))
}

/// Parts of rows that a statement can hold.
fn parts(letters: &[(Head, Letter)]) -> Vec<&[(Head, Letter)]> {
    let (mut parts, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, (_, letter)) in letters.iter().enumerate() {
        let length = letter.row.get().len();
        if at > from && (at - from >= ROWS_MAX || bytes + length > BYTES_MAX) {
            parts.push(&letters[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += length;
    }
    parts.push(&letters[from..]);
    parts
}

fn put_aside(path: &Path) -> Result<(), ResendError> {
    let failed = |source| ResendError::File {
        path: path.to_owned(),
        source,
    };
    let done = path.with_file_name(DONE);
    fs::create_dir_all(&done).map_err(failed)?;
    fs::rename(path, done.join(path.file_name().unwrap_or_default())).map_err(failed)
}

impl Sending<'_> {
    /// Which of these rows the warehouse has, by shard and seq.
    fn there(&self, letters: &[(Head, Letter)]) -> Result<BTreeSet<(u16, u64)>, ResendError> {
        let mut there = BTreeSet::new();
        for part in letters.chunks(ROWS_MAX) {
            let mut places: BTreeMap<(&str, u16), Vec<String>> = BTreeMap::new();
            for (head, _) in part {
                let seqs = places.entry((&head.tenant_id, head.shard)).or_default();
                seqs.push(head.seq.to_string());
            }
            for ((tenant, shard), seqs) in places {
                let found = self.warehouse.run(&format!(
                    "SELECT SEQ::VARCHAR FROM {}.{} WHERE TENANT_ID = {} AND SHARD = {shard} AND SEQ IN ({})",
                    self.schema,
                    self.table.name(),
                    quoted(tenant),
                    seqs.join(", ")
                ))?;
                let seqs = found.into_iter().flatten().flatten();
                there.extend(seqs.filter_map(|seq| Some((shard, seq.parse().ok()?))));
            }
        }
        Ok(there)
    }

    /// Sends rows; one that is refused is found by halving what it stands in.
    fn send(
        &self,
        letters: &[(Head, Letter)],
        refused: &mut BTreeMap<u64, String>,
    ) -> Result<(), ResendError> {
        let lines: Vec<&str> = letters.iter().map(|(_, letter)| letter.row.get()).collect();
        let statement = insert_of(self.table, self.schema, lines.join("\n").as_bytes());
        let Some(statement) = statement.map_err(WarehouseError::from)? else {
            return Ok(());
        };
        match self.warehouse.run(&statement) {
            Ok(_) => Ok(()),
            Err(WarehouseError::Refused(says)) if is_of_a_row(&says) => {
                if let [(head, _)] = letters {
                    refused.insert(head.seq, says);
                    return Ok(());
                }
                let (first, second) = letters.split_at(letters.len() / 2);
                self.send(first, refused)?;
                self.send(second, refused)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn letter(seq: u64, text: &str) -> (Head, Letter) {
        let row = format!("{{\"TENANT_ID\":\"acme\",\"SHARD\":3,\"SEQ\":{seq},\"T\":\"{text}\"}}");
        let head = serde_json::from_str(&row).expect("a head");
        let letter = Letter {
            seq,
            table: "JOB_TRACKING".into(),
            reason: "refused".into(),
            refused: 1,
            of: 1,
            certain: true,
            row: RawValue::from_string(row).expect("JSON"),
        };
        (head, letter)
    }

    #[test]
    fn parts_are_bounded_in_rows_and_bytes_and_leave_nothing_out() {
        let letters: Vec<_> = (0..1_203).map(|seq| letter(seq, "x")).collect();
        let lengths: Vec<usize> = parts(&letters).iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [500, 500, 203]);
        let long = "x".repeat(200_000);
        let letters: Vec<_> = (0..5).map(|seq| letter(seq, &long)).collect();
        let lengths: Vec<usize> = parts(&letters).iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [2, 2, 1]);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ndjson");
        let whole = serde_json::to_string(&letter(1, "x").1).expect("JSON");
        fs::write(&path, format!("{whole}\n")).expect("written");
        let (table, letters) = read(&path).expect("read");
        assert_eq!((table, letters.len(), letters[0].0.shard), (Table::Scans, 1, 3));
        for (line, said) in [
            ("{", "EOF"),
            (&*whole.replace("JOB_TRACKING", "TWIN_KPIS"), "no table"),
            (&*whole.replace("TENANT_ID", "TENANT"), "TENANT_ID"),
        ] {
            fs::write(&path, format!("{whole}\n{line}\n")).expect("written");
            let error = read(&path).err().expect("refused").to_string();
            assert!(error.contains("line 2: ") && error.contains(said), "{error}");
        }
    }
}
