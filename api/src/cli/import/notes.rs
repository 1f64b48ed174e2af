//! What an import writes down beside its file: how far it came, and which rows were rejected.
//!
//! Promises: `FILE.import.json` says how far the node acknowledged, for the node, the content and the mapping that it
//! names; it is written aside and renamed, and the rejected rows that belong to it are exactly those in the file
//! beside it. A file whose content, mapping or node changed begins anew.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::{Value as Json, json};

use crate::cli::export::csv_text;

/// How the rows of an import ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) rejected: u64,
    pub(super) empty: u64,
}

impl Counts {
    pub(super) fn rows(&self) -> u64 {
        self.accepted + self.duplicates + self.rejected + self.empty
    }

    pub(super) fn json(&self) -> Json {
        json!({
            "rows": self.rows(), "accepted": self.accepted, "duplicates": self.duplicates,
            "rejected": self.rejected, "empty": self.empty,
        })
    }

    fn of(json: &Json) -> Self {
        let count = |name: &str| json[name].as_u64().unwrap_or_default();
        Self {
            accepted: count("accepted"),
            duplicates: count("duplicates"),
            rejected: count("rejected"),
            empty: count("empty"),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rows: {} accepted, {} duplicates, {} rejected, {} empty",
            self.rows(),
            self.accepted,
            self.duplicates,
            self.rejected,
            self.empty
        )
    }
}

/// The notes of one import.
pub(super) struct Notes {
    path: PathBuf,
    rejected_path: PathBuf,
    identity: String,
    url: String,
    line: u64,
    counts: Counts,
    rejected_bytes: u64,
    done: bool,
}

fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

impl Notes {
    /// Goes on with notes that fit, or begins anew.
    pub(super) fn open(
        file: &Path,
        rejected: Option<&Path>,
        identity: &str,
        url: &str,
        again: bool,
    ) -> anyhow::Result<Self> {
        let path = beside(file, ".import.json");
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        let known: Json = serde_json::from_str(&known).unwrap_or_default();
        let fits = known["identity"] == identity && known["url"] == url;
        // An import that was done is begun anew only when it is asked for.
        let goes_on = fits && !(again && known["done"] == true);
        let known = if goes_on { known } else { Json::Null };
        let notes = Self {
            path,
            rejected_path: rejected.map_or_else(|| beside(file, ".rejected.csv"), Path::to_owned),
            identity: identity.to_owned(),
            url: url.to_owned(),
            line: known["line"].as_u64().unwrap_or_default(),
            counts: Counts::of(&known),
            rejected_bytes: known["rejected_bytes"].as_u64().unwrap_or_default(),
            done: known["done"] == true,
        };
        if !notes.done {
            notes.cut_rejected()?;
        }
        Ok(notes)
    }

    /// Takes away rejected rows that an import wrote which broke off before it noted them.
    fn cut_rejected(&self) -> anyhow::Result<()> {
        let told = || format!("failed to write {}", self.rejected_path.display());
        match OpenOptions::new().write(true).open(&self.rejected_path) {
            Ok(file) => file.set_len(self.rejected_bytes).with_context(told),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(told),
        }
    }

    pub(super) fn line(&self) -> u64 {
        self.line
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn rejected(&self) -> &Path {
        &self.rejected_path
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Notes that all rows up to a line ended so.
    pub(super) fn note(&mut self, line: u64, counts: Counts, rejected: &[Rejected]) -> anyhow::Result<()> {
        if !rejected.is_empty() {
            self.keep(rejected)
                .with_context(|| format!("failed to write {}", self.rejected_path.display()))?;
        }
        self.line = line;
        self.counts.accepted += counts.accepted;
        self.counts.duplicates += counts.duplicates;
        self.counts.rejected += counts.rejected;
        self.counts.empty += counts.empty;
        self.save()
    }

    pub(super) fn done(&mut self) -> anyhow::Result<()> {
        self.done = true;
        self.save()
    }

    fn keep(&mut self, rejected: &[Rejected]) -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.rejected_path)?;
        file.seek(SeekFrom::Start(self.rejected_bytes))?;
        let mut text = String::new();
        if self.rejected_bytes == 0 {
            text.push_str("line,code,reason,row\r\n");
        }
        for row in rejected {
            let fields =
                [&row.line.to_string(), &row.code, &row.detail, &row.row].map(|field| csv_text(field));
            text.push_str(&fields.join(","));
            text.push_str("\r\n");
        }
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        self.rejected_bytes += text.len() as u64;
        Ok(())
    }

    fn save(&self) -> anyhow::Result<()> {
        let mut notes = self.counts.json();
        notes["identity"] = json!(self.identity);
        notes["url"] = json!(self.url);
        notes["line"] = json!(self.line);
        notes["rejected_bytes"] = json!(self.rejected_bytes);
        notes["done"] = json!(self.done);
        let aside = beside(&self.path, ".new");
        let written = File::create(&aside)
            .and_then(|mut file| {
                file.write_all(notes.to_string().as_bytes())?;
                file.sync_data()
            })
            .and_then(|()| std::fs::rename(&aside, &self.path));
        written.with_context(|| {
            format!(
                "failed to note in {} how far the import came (is the folder writable?)",
                self.path.display()
            )
        })
    }
}

/// A row that was not loaded.
pub(super) struct Rejected {
    pub(super) line: u64,
    pub(super) code: String,
    pub(super) detail: String,
    pub(super) row: String,
}
