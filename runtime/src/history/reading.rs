//! Rows read back from the files: for a history that reaches further than the journal, and for exports.
//!
//! Promises: row groups that cannot hold what is asked for are skipped by their statistics; rows come day by day and
//! file by file, those of a file sorted. Knows nothing of the journal.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use gemba_twins::{id::TenantId, time::Timestamp};
use parquet::{
    errors::ParquetError,
    file::{
        metadata::RowGroupMetaData,
        reader::{FileReader, SerializedFileReader},
        statistics::Statistics,
    },
    record::{Field, Row},
};
use serde_json::{Value as Json, json};

use super::{
    compaction::files_of,
    file::{FileError, folder_of},
    rows::{ALARMS, KPIS, READINGS, ROLLUPS, SCANS, STATES, day_of},
    sheet::Schema,
};

/// Kinds of files, by the words of `kind=`.
static KINDS: [&Schema; 6] = [&READINGS, &SCANS, &ALARMS, &ROLLUPS, &KPIS, &STATES];

/// The words of all kinds of files.
#[must_use]
pub fn kinds() -> Vec<&'static str> {
    KINDS.iter().map(|schema| schema.kind).collect()
}

/// Which rows are wanted.
pub struct FiledRows<'a> {
    /// The history's folder.
    pub root: &'a Path,
    /// Whose.
    pub tenant: &'a TenantId,
    /// One of [`kinds`].
    pub kind: &'a str,
    /// `machine/cnc-07`; `None` for all.
    pub twin: Option<&'a str>,
    /// The first time that is wanted.
    pub from: Timestamp,
    /// The first time that is not wanted any more.
    pub to: Timestamp,
}

/// A row as the file holds it: a value for each column, in their order.
pub type FiledRow = Vec<(&'static str, Json)>;

impl FiledRows<'_> {
    /// Hands out the rows until `take` answers false. Blocks.
    pub fn each(&self, take: &mut dyn FnMut(FiledRow) -> bool) -> Result<(), FileError> {
        self.each_row(&mut |schema, row| take(filed_row(schema, row)))
    }

    /// What the kind's files hold.
    pub(super) fn schema(&self) -> Option<&'static Schema> {
        KINDS.iter().copied().find(|schema| schema.kind == self.kind)
    }

    /// Hands out the rows as they are read.
    pub(super) fn each_row(
        &self,
        take: &mut dyn FnMut(&'static Schema, &Row) -> bool,
    ) -> Result<(), FileError> {
        let Some(schema) = self.schema() else {
            return Ok(());
        };
        for folder in self.folders(schema)? {
            for path in paths_of(&folder).map_err(|error| FileError::of(&folder, error))? {
                let go_on = self.each_of(&path, schema, take);
                if !go_on.map_err(|error| FileError::of(&path, error))? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The days' folders that may hold what is wanted, in order.
    fn folders(&self, schema: &Schema) -> Result<Vec<PathBuf>, FileError> {
        let day = folder_of(self.root, self.tenant, schema, "");
        let above = day.parent().unwrap_or(self.root);
        let listed = match fs::read_dir(above) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FileError::of(above, error)),
        };
        let (first, last) = (
            format!("date={}", day_of(self.from)),
            format!("date={}", day_of(self.to)),
        );
        // What is written once an hour stands under the day of its writing.
        let mut folders: Vec<PathBuf> = listed
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| {
                let name = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                name.starts_with("date=") && (first.as_str()..=last.as_str()).contains(&name)
            })
            .collect();
        folders.sort();
        Ok(folders)
    }

    fn each_of(
        &self,
        path: &Path,
        schema: &'static Schema,
        take: &mut dyn FnMut(&'static Schema, &Row) -> bool,
    ) -> Result<bool, ParquetError> {
        let reader = SerializedFileReader::new(File::open(path)?)?;
        let time = schema.columns.iter().position(|column| column.name == "time");
        for (index, group) in reader.metadata().row_groups().iter().enumerate() {
            if !self.may_hold(group, time.unwrap_or_default()) {
                continue;
            }
            for row in reader.get_row_group(index)?.get_row_iter(None)? {
                let row = row?;
                if self.wants(&row) && !take(schema, &row) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn wants(&self, row: &Row) -> bool {
        row.get_column_iter()
            .all(|(name, field)| match (name.as_str(), field) {
                ("twin", Field::Str(twin)) => self.twin.is_none_or(|wanted| wanted == twin),
                ("time", Field::TimestampMillis(ms)) => (self.from.ms()..self.to.ms()).contains(ms),
                _ => true,
            })
    }

    fn may_hold(&self, group: &RowGroupMetaData, time: usize) -> bool {
        let twin_fits = self.twin.is_none_or(|twin| match group.column(0).statistics() {
            Some(Statistics::ByteArray(of)) => {
                let above = of.min_opt().is_some_and(|min| min.data() > twin.as_bytes());
                let below = of.max_is_exact() && of.max_opt().is_some_and(|max| max.data() < twin.as_bytes());
                !above && !below
            }
            _ => true,
        });
        let time_fits = match group.column(time).statistics() {
            Some(Statistics::Int64(of)) => {
                let after = of.min_opt().is_some_and(|min| *min >= self.to.ms());
                let before = of.max_opt().is_some_and(|max| *max < self.from.ms());
                !after && !before
            }
            _ => true,
        };
        twin_fits && time_fits
    }
}

/// The files of a folder: those of a range that no other covers, and those that are replaced whole.
fn paths_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = files_of(folder)?.into_iter().map(|(.., path)| path).collect();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.ends_with(".parquet") && !name.starts_with('.') && super::file::range_of(name).is_none() {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn filed_row(schema: &'static Schema, row: &Row) -> FiledRow {
    let mut fields = row.get_column_iter().map(|(_, field)| match field {
        Field::Str(text) => json!(text),
        Field::TimestampMillis(ms) => json!(Timestamp::from_ms(*ms)),
        Field::Long(number) => json!(number),
        Field::Double(number) => json!(number),
        Field::Bool(yes) => json!(yes),
        _ => Json::Null,
    });
    // What an older file does not have is null.
    let cells = schema
        .columns
        .iter()
        .map(|column| (column.name, fields.next().unwrap_or_default()));
    cells.collect()
}
