//! A Parquet file of the history: where it lies, and how it comes to be there whole or not at all.
//!
//! Promises: a file is written aside, synced and renamed, so that whoever lists the folder sees whole files only; the
//! name follows from what the file holds (shard, first and last seq), so writing it again replaces it by the same.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use gemba_twins::id::TenantId;
use parquet::{
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
};
use thiserror::Error;

use super::sheet::{Schema, Sheet};

/// Rows of a row group: small enough that a reader of one twin skips most of a file, large enough to compress well.
pub(super) const GROUP_ROWS: usize = 64 * 1_024;

/// Why a file of the history cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("failed to use {path}: {detail} (disk full or damaged?)")]
    Io {
        /// The file.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// An export cannot be written.
    #[error("failed to write the export: {detail}")]
    Export {
        /// What is wrong.
        detail: String,
    },
}

impl FileError {
    pub(crate) fn of(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::Io {
            path: path.display().to_string(),
            detail: error.to_string(),
        }
    }
}

/// The folder of a tenant's files of one kind and day.
pub(crate) fn folder_of(root: &Path, tenant: &TenantId, schema: &Schema, day: &str) -> PathBuf {
    root.join(format!("tenant={tenant}"))
        .join(format!("kind={}", schema.kind))
        .join(format!("date={day}"))
}

/// Writes a sheet; answers the file's size in bytes.
pub(crate) fn write(
    folder: &Path,
    name: &str,
    sheet: &Sheet,
    says: &[(&str, String)],
) -> Result<u64, FileError> {
    let path = folder.join(name);
    let failed = |error: &dyn std::fmt::Display| FileError::of(&path, error);
    make_folder(folder).map_err(|error| failed(&error))?;
    // A name that no glob for `*.parquet` takes.
    let aside = folder.join(format!(".{name}.part"));
    let written = write_aside(&aside, sheet, says).map_err(|error| failed(&error));
    let renamed = written.and_then(|bytes| {
        fs::rename(&aside, &path)
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|error| failed(&error))?;
        Ok(bytes)
    });
    if renamed.is_err() {
        // It may never have been there; half a file is worth nothing.
        let _ = fs::remove_file(&aside);
    }
    renamed
}

/// Makes a folder so that it survives a power cut: each level that is new is synced into the one above.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

fn write_aside(path: &Path, sheet: &Sheet, says: &[(&str, String)]) -> Result<u64, ParquetError> {
    let schema = sheet.schema();
    let file = File::create(path)?;
    let mut writer =
        SerializedFileWriter::new(file.try_clone()?, schema.parquet()?, properties(schema, says)?)?;
    for rows in sheet.order().chunks(GROUP_ROWS) {
        sheet.write(rows, writer.next_row_group()?)?;
    }
    writer.close()?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// How a file of a kind is written, and what it says of itself.
pub(super) fn properties(
    schema: &Schema,
    says: &[(&str, String)],
) -> Result<Arc<WriterProperties>, ParquetError> {
    let sorted = (0..schema.sorted_by).map(|index| SortingColumn {
        column_idx: i32::try_from(index).unwrap_or_default(),
        descending: false,
        nulls_first: true,
    });
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by("gemba".into())
        .set_key_value_metadata(Some(
            says.iter()
                .map(|(key, value)| KeyValue::new((*key).to_owned(), value.clone()))
                .collect(),
        ))
        .set_sorting_columns(Some(sorted.collect()))
        .build();
    Ok(Arc::new(properties))
}

/// The name of a file that holds a shard's records from `first` to `last`.
pub(crate) fn name_of(shard: u16, first: u64, last: u64) -> String {
    format!("{shard:05}-{first:020}-{last:020}.parquet")
}

/// What a file's name says it holds: shard, first and last seq.
pub(crate) fn range_of(name: &str) -> Option<(u16, u64, u64)> {
    let mut parts = name.strip_suffix(".parquet")?.split('-');
    let range = (
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    );
    parts.next().is_none().then_some(range)
}

/// Writes a small text file whole or not at all.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    let failed = |error: io::Error| FileError::of(path, error);
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder).map_err(failed)?;
    let aside = path.with_extension("part");
    let mut file = File::create(&aside).map_err(failed)?;
    io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&aside, path)
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(failed)
}
