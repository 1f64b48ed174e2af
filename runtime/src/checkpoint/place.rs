//! A channel's place: whose rows, of which shard, for which table; and what is kept of it over a restart.
//!
//! Promises: two places never have one name, whatever case the server keeps; what is kept is only ever behind the
//! truth, which is what the server says.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gemba_twins::id::TenantId;
use serde::{Deserialize, Serialize};

use super::{dead::FOLDER, rows::Table};
use crate::history::{FileError, replace};

/// A channel's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) tenant: TenantId,
    pub(super) shard: u16,
    pub(super) table: Table,
}

impl Place {
    /// The channel's name, e.g. `gemba.acme.00003`. The table is its pipe's.
    pub(super) fn channel(&self, prefix: &str) -> String {
        format!("{prefix}.{}.{:05}", plain(self.tenant.as_str()), self.shard)
    }

    fn file_stem(&self) -> String {
        format!(
            "{}.{:05}.{}",
            plain(self.tenant.as_str()),
            self.shard,
            self.table.word()
        )
    }

    fn kept_path(&self, root: &Path) -> PathBuf {
        root.join("_state").join(format!("{}.json", self.file_stem()))
    }

    /// Where rows of these seqs that the server refused are written down.
    pub(super) fn dead_letters(&self, root: &Path, first: u64, last: u64) -> PathBuf {
        root.join(FOLDER)
            .join(format!("{}.{first:020}-{last:020}.ndjson", self.file_stem()))
    }
}

/// Lower-case letters, digits and `-` stay; everything else becomes `_` and its hexadecimal digits.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => out.push(char::from(byte)),
            _ => out.push_str(&format!("_{byte:02x}")),
        }
    }
    out
}

/// What is kept of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The newest offset that the server said is committed.
    pub(super) committed: u64,
    /// Up to this seq every row of the place is committed, or there is none.
    pub(super) clear_to: u64,
    /// Refused rows that were written down.
    pub(super) errors: u64,
    /// Dead letters written down.
    #[serde(default)]
    pub(super) dead_letters: u64,
    /// Seqs that the journal gave up before they were sent, and that no file of the history holds.
    #[serde(default)]
    pub(super) missing: Vec<(u64, u64)>,
}

impl Kept {
    /// What was kept; nothing where there is no file.
    pub(super) fn load(root: &Path, place: &Place) -> Result<Self, FileError> {
        let path = place.kept_path(root);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| FileError::of(&path, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(FileError::of(&path, error)),
        }
    }

    pub(super) fn save(&self, root: &Path, place: &Place) -> Result<(), FileError> {
        let text = serde_json::to_string(self).unwrap_or_default();
        replace(&place.kept_path(root), &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_where_tenants_do() {
        let name = |tenant: &str| {
            let tenant = TenantId::parse(tenant).expect("a tenant");
            let place = Place {
                tenant,
                shard: 3,
                table: Table::Scans,
            };
            place.channel("gemba").to_ascii_uppercase()
        };
        assert_eq!(name("acme-1"), "GEMBA.ACME-1.00003");
        let mut names: Vec<String> = ["acme", "Acme", "_41cme", "a.b", "a:b", "a_b"].map(name).to_vec();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 6, "{names:?}");
    }

    #[test]
    fn what_was_kept_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place {
            tenant: TenantId::parse("acme").expect("a tenant"),
            shard: 0,
            table: Table::Readings,
        };
        assert_eq!(
            Kept::load(folder.path(), &place).expect("nothing yet"),
            Kept::default()
        );
        let kept = Kept {
            committed: 7,
            clear_to: 9,
            missing: vec![(1, 3)],
            ..Kept::default()
        };
        kept.save(folder.path(), &place).expect("saved");
        assert_eq!(Kept::load(folder.path(), &place).expect("kept"), kept);
    }
}
