//! Few large files instead of many small ones, and none older than is wanted.
//!
//! Promises: only days that are over are compacted, shard by shard; the merged file's name covers the range of those
//! it replaces, and a file whose range another covers is removed, so a crash in between is mended by the next run and
//! our own readers never count a row twice. A foreign reader that lists the folder within that moment may.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parquet::{
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
};

use super::file::{FileError, name_of, range_of};

/// A day's shard is compacted when it has more files than this.
const FILES: usize = 4;

/// The whole files of a folder, without those that another covers, by shard and range.
pub(crate) fn files_of(folder: &Path) -> io::Result<Vec<(u16, u64, u64, PathBuf)>> {
    let mut files = listed(folder)?;
    files.sort_by_key(|(shard, first, last, _)| (*shard, *first, std::cmp::Reverse(*last)));
    let mut kept: Vec<(u16, u64, u64, PathBuf)> = Vec::with_capacity(files.len());
    for file in files {
        if !kept.last().is_some_and(|last| covers(last, &file)) {
            kept.push(file);
        }
    }
    Ok(kept)
}

fn covers(one: &(u16, u64, u64, PathBuf), other: &(u16, u64, u64, PathBuf)) -> bool {
    one.0 == other.0 && one.1 <= other.1 && other.2 <= one.2
}

fn listed(folder: &Path) -> io::Result<Vec<(u16, u64, u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let range = path.file_name().and_then(|name| name.to_str()).and_then(range_of);
        files.extend(range.map(|(shard, first, last)| (shard, first, last, path)));
    }
    Ok(files)
}

/// Compacts the days before `today` of all tenants; answers how many files went.
pub(crate) fn compact(root: &Path, today: &str) -> Result<usize, FileError> {
    let mut gone = 0;
    for folder in day_folders(root) {
        if folder_day(&folder).is_some_and(|day| day < today) {
            gone += compact_folder(&folder).map_err(|error| FileError::of(&folder, error))?;
        }
    }
    Ok(gone)
}

fn compact_folder(folder: &Path) -> Result<usize, ParquetError> {
    let mut gone = 0;
    let kept = files_of(folder)?;
    for (.., path) in listed(folder)? {
        if !kept.iter().any(|(.., kept)| *kept == path) {
            fs::remove_file(&path)?;
            gone += 1;
        }
    }
    let mut by_shard: BTreeMap<u16, Vec<(u64, u64, PathBuf)>> = BTreeMap::new();
    for (shard, first, last, path) in kept {
        by_shard.entry(shard).or_default().push((first, last, path));
    }
    for (shard, files) in by_shard {
        if let ([(first, ..), .., (_, last, _)], true) = (&files[..], files.len() > FILES) {
            if !have_the_same_columns(&files)? {
                continue;
            }
            merge(folder, &name_of(shard, *first, *last), &files)?;
            for (.., path) in &files {
                fs::remove_file(path)?;
            }
            gone += files.len();
        }
    }
    Ok(gone)
}

/// A release that adds a column leaves the days before as they are.
fn have_the_same_columns(files: &[(u64, u64, PathBuf)]) -> Result<bool, ParquetError> {
    let mut columns = BTreeSet::new();
    for (.., path) in files {
        let reader = SerializedFileReader::new(fs::File::open(path)?)?;
        columns.insert(reader.metadata().file_metadata().schema_descr().num_columns());
    }
    Ok(columns.len() <= 1)
}

/// Puts the row groups of some files into one, in their order; the bytes are copied as they are.
fn merge(folder: &Path, name: &str, files: &[(u64, u64, PathBuf)]) -> Result<(), ParquetError> {
    let aside = folder.join(format!(".{name}.part"));
    let out = fs::File::create(&aside)?;
    let mut writer: Option<SerializedFileWriter<fs::File>> = None;
    for (.., path) in files {
        let file = fs::File::open(path)?;
        let reader = SerializedFileReader::new(file.try_clone()?)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            None => {
                let schema = reader.metadata().file_metadata().schema_descr().root_schema_ptr();
                let properties = WriterProperties::builder().set_created_by("gemba".into()).build();
                writer.insert(SerializedFileWriter::new(
                    out.try_clone()?,
                    schema,
                    Arc::new(properties),
                )?)
            }
        };
        for group in reader.metadata().row_groups() {
            let mut next = writer.next_row_group()?;
            for column in group.columns() {
                let closed = parquet::column::writer::ColumnCloseResult {
                    bytes_written: u64::try_from(column.compressed_size()).unwrap_or_default(),
                    rows_written: u64::try_from(group.num_rows()).unwrap_or_default(),
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                next.append_column(&file, closed)?;
            }
            next.close()?;
        }
    }
    if let Some(writer) = writer {
        writer.close()?;
    }
    out.sync_all()?;
    fs::rename(&aside, folder.join(name))?;
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

/// Deletes the days before `oldest`, but for those with a file up to whose seq somebody still needs its shard, and for
/// folders that are not copied; answers how many folders went, and how many were needed.
pub(crate) fn delete_older(
    root: &Path,
    oldest: &str,
    needed: &dyn Fn(u16, u64) -> bool,
    is_copied: &dyn Fn(&Path) -> bool,
) -> io::Result<(usize, usize)> {
    let (mut gone, mut kept) = (0, 0);
    for folder in day_folders(root) {
        if folder_day(&folder).is_none_or(|day| day >= oldest) {
            continue;
        }
        let files = files_of(&folder)?;
        let is_needed = files.iter().any(|(shard, _, last, _)| needed(*shard, *last));
        if is_needed || !is_copied(&folder) {
            kept += 1;
            continue;
        }
        fs::remove_dir_all(&folder)?;
        gone += 1;
    }
    Ok((gone, kept))
}

/// All `tenant=…/kind=…/date=…` folders.
pub(super) fn day_folders(root: &Path) -> Vec<PathBuf> {
    let inner = |folders: Vec<PathBuf>, prefix: &str| -> Vec<PathBuf> {
        let listed = folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten();
        let mut found: Vec<PathBuf> = listed
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| {
                path.file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(|name| name.starts_with(prefix))
            })
            .collect();
        found.sort();
        found
    };
    let tenants = inner(vec![root.to_owned()], "tenant=");
    inner(inner(tenants, "kind="), "date=")
}

fn folder_day(folder: &Path) -> Option<&str> {
    folder.file_name()?.to_str()?.strip_prefix("date=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_days_go_but_for_what_somebody_needs() {
        let root = tempfile::tempdir().expect("a folder");
        let day = |day: &str| {
            root.path()
                .join("tenant=acme/kind=readings")
                .join(format!("date={day}"))
        };
        for (date, last) in [("2026-01-01", 10), ("2026-01-02", 20), ("2026-01-03", 30)] {
            fs::create_dir_all(day(date)).expect("a folder");
            fs::write(day(date).join(name_of(3, 1, last)), "").expect("a file");
        }
        // Somebody has all of shard 3 up to 15.
        let needed = |shard, last| shard == 3 && last > 15;
        let gone = delete_older(root.path(), "2026-01-03", &needed, &|_| true).expect("deleted");
        assert_eq!(gone, (1, 1));
        assert!(!day("2026-01-01").exists() && day("2026-01-02").exists() && day("2026-01-03").exists());
        let kept = delete_older(root.path(), "2026-01-03", &|_, _| false, &|_| false).expect("deleted");
        assert_eq!(kept, (0, 1));
        let gone = delete_older(root.path(), "2026-01-03", &|_, _| false, &|_| true).expect("deleted");
        assert_eq!(gone, (1, 0));
        assert!(day("2026-01-03").exists());
    }
}
