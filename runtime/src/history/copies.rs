//! The history's files copied into an object store: S3 and what speaks as it does, or a folder elsewhere.
//!
//! Promises: a file is copied under the name that it has here, whole, and again when it was replaced; those that a
//! compacted one replaces go only when that one is there; what is deleted here by age stays there. What is there is
//! learned from the store itself, so nothing has to be kept of it. Readers here never ask the store.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::{ObjectStore, PutPayload, WriteMultipart, aws::AmazonS3ConfigKey, path::Path as Key};
use thiserror::Error;
use url::Url;

use super::{compaction::day_folders, file::range_of};
use crate::metric_definitions as names;

/// Longer files go in parts of this size.
const PART: usize = 8 << 20;
/// Parts on their way at a time.
const PARTS: usize = 2;
/// After a restart, a copy is known to be newer than its file where their clocks differ by less than this.
const SLACK_NS: i128 = 60_000_000_000;

/// Where copies go.
#[derive(Clone, Default)]
pub struct CopySettings {
    /// `s3://bucket/folder`, or `file:///folder`.
    pub url: String,
    /// How the store is reached, as S3's tools call it: `aws_endpoint`, `aws_access_key_id`, …
    pub options: BTreeMap<String, String>,
}

impl fmt::Debug for CopySettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Options hold secrets.
        formatter
            .debug_struct("CopySettings")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl CopySettings {
    /// Says what cannot work, without asking the store.
    pub fn check(&self) -> Result<(), String> {
        self.open().map(drop)
    }

    /// Whether there is an option of this name.
    #[must_use]
    pub fn knows(name: &str) -> bool {
        name.parse::<AmazonS3ConfigKey>().is_ok()
    }

    fn open(&self) -> Result<(Box<dyn ObjectStore>, Key), String> {
        let url = Url::parse(&self.url).map_err(|error| {
            format!(
                "{:?} is no URL: {error} (s3://bucket/folder or file:///folder is wanted)",
                self.url
            )
        })?;
        for name in self.options.keys() {
            if !Self::knows(name) {
                return Err(format!(
                    "the option {name:?} is not known (aws_access_key_id, aws_secret_access_key, aws_region, \
                     aws_endpoint, aws_allow_http, …)"
                ));
            }
        }
        object_store::parse_url_opts(
            &url,
            self.options.iter().map(|(name, value)| (name, value.clone())),
        )
        .map_err(|error| format!("{url}: {error} (s3://bucket/folder or file:///folder is wanted)"))
    }
}

/// Why files are not copied.
#[derive(Debug, Error)]
pub(crate) enum CopyError {
    #[error("{path} cannot be read: {error}")]
    Read { path: String, error: io::Error },
    #[error("{key} is not copied: {error}")]
    Store { key: String, error: object_store::Error },
}

/// A file as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    modified_ns: i128,
}

/// A folder below the root, and its files by name.
type Folder = (PathBuf, BTreeMap<String, Seen>);
/// The files of a folder in the store, by name; `None` for what has to be copied again.
type Names = BTreeMap<String, Option<Seen>>;

/// Copies the history's files.
pub(crate) struct Copier {
    store: Box<dyn ObjectStore>,
    prefix: Key,
    root: PathBuf,
    /// What the store has, by folder, as far as it was looked at.
    there: Mutex<BTreeMap<PathBuf, Names>>,
    /// Held while files are copied.
    round: tokio::sync::Mutex<()>,
}

impl Copier {
    /// Copies of what is below `root`; those of a node of a cluster stand in a folder of its own.
    pub(crate) fn new(settings: &CopySettings, root: PathBuf, node: Option<u64>) -> Result<Self, String> {
        let (store, prefix) = settings.open()?;
        let prefix = match node {
            Some(node) => prefix.child(format!("node={node}")),
            None => prefix,
        };
        Ok(Self {
            store,
            prefix,
            root,
            there: Mutex::default(),
            round: tokio::sync::Mutex::default(),
        })
    }

    fn there(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Names>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies what the store lacks, and removes there what compaction replaced; answers how many files were copied.
    pub(crate) async fn round(self: &Arc<Self>) -> Result<usize, CopyError> {
        let _round = self.round.lock().await;
        let copier = self.clone();
        let local = blocking(move || copier.local()).await?;
        for (folder, files) in &local {
            if !self.there().contains_key(folder) {
                let there = self.list(folder, files).await?;
                self.there().insert(folder.clone(), there);
            }
        }
        let lacks = |(folder, files): &Folder| {
            let all = self.there();
            let there = all.get(folder);
            let lacks = files.iter().filter(|(name, seen)| {
                there.and_then(|there| there.get(*name)).copied().flatten() != Some(**seen)
            });
            lacks
                .map(|(name, seen)| (folder.clone(), name.clone(), *seen))
                .collect::<Vec<_>>()
        };
        let wanted: Vec<_> = local.iter().flat_map(lacks).collect();
        let (mut behind, mut copied) = (wanted.len(), 0);
        metrics::gauge!(names::HISTORY_COPY_BEHIND).set(behind as f64);
        for (folder, name, seen) in wanted {
            if let Some(bytes) = self.copy(&folder, &name).await? {
                copied += 1;
                metrics::counter!(names::HISTORY_COPIED_FILES).increment(1);
                metrics::counter!(names::HISTORY_COPIED_BYTES).increment(bytes);
                let mut there = self.there();
                there.entry(folder).or_default().insert(name, Some(seen));
            }
            behind -= 1;
            metrics::gauge!(names::HISTORY_COPY_BEHIND).set(behind as f64);
        }
        for (folder, files) in &local {
            self.remove_replaced(folder, files).await?;
        }
        Ok(copied)
    }

    /// Whether the store has all files of a day's folder as they are here.
    pub(crate) fn has(&self, folder: &Path) -> bool {
        let Ok(files) = files_in(folder) else { return false };
        let relative = folder.strip_prefix(&self.root).unwrap_or(folder);
        let there = self.there();
        let names = there.get(relative);
        let mut files = files.iter();
        files.all(|(name, seen)| names.and_then(|names| names.get(name)).copied().flatten() == Some(*seen))
    }

    /// The files that are here, by folder below the root.
    fn local(&self) -> Result<Vec<Folder>, CopyError> {
        let of = |folder: PathBuf| {
            let files = files_in(&folder).map_err(|error| CopyError::Read {
                path: folder.display().to_string(),
                error,
            })?;
            let relative = folder.strip_prefix(&self.root).unwrap_or(&folder);
            Ok((relative.to_owned(), files))
        };
        day_folders(&self.root).into_iter().map(of).collect()
    }

    fn key(&self, folder: &Path) -> Key {
        let parts = folder.iter().map(|part| part.to_string_lossy().into_owned());
        parts.fold(self.prefix.clone(), |key, part| key.child(part))
    }

    /// What the store has of a folder; copies older than their files count as lacking.
    async fn list(&self, folder: &Path, files: &BTreeMap<String, Seen>) -> Result<Names, CopyError> {
        let key = self.key(folder);
        let listed: Result<Vec<_>, _> = self.store.list(Some(&key)).try_collect().await;
        let listed = match listed {
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            listed => listed.map_err(|error| CopyError::Store {
                key: key.to_string(),
                error,
            })?,
        };
        let known = |meta: object_store::ObjectMeta| {
            let name = meta.location.filename()?.to_owned();
            let copied_ns = i128::from(meta.last_modified.timestamp()) * 1_000_000_000;
            let seen = files
                .get(&name)
                .copied()
                .filter(|seen| seen.bytes == meta.size && copied_ns > seen.modified_ns + SLACK_NS);
            Some((name, seen))
        };
        Ok(listed.into_iter().filter_map(known).collect())
    }

    /// Copies a file; `None` where it has gone meanwhile.
    async fn copy(&self, folder: &Path, name: &str) -> Result<Option<u64>, CopyError> {
        let (path, key) = (self.root.join(folder).join(name), self.key(folder).child(name));
        let unreadable = |error| CopyError::Read {
            path: path.display().to_string(),
            error,
        };
        let failed = |error| CopyError::Store {
            key: key.to_string(),
            error,
        };
        let opened = {
            let path = path.clone();
            blocking(move || fs::File::open(path)).await
        };
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(unreadable)?,
        };
        let (mut file, mut part) = next_part(file).await.map_err(unreadable)?;
        let mut bytes = part.len() as u64;
        if part.len() < PART {
            let put = self.store.put(&key, PutPayload::from_bytes(part)).await;
            return put.map(|_| Some(bytes)).map_err(failed);
        }
        let upload = self.store.put_multipart(&key).await.map_err(failed)?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART);
        while !part.is_empty() {
            writer.wait_for_capacity(PARTS).await.map_err(failed)?;
            writer.put(part);
            (file, part) = next_part(file).await.map_err(unreadable)?;
            bytes += part.len() as u64;
        }
        writer.finish().await.map_err(failed)?;
        Ok(Some(bytes))
    }

    /// Removes from the store what a file that is here covers, and is itself not here any more.
    async fn remove_replaced(&self, folder: &Path, files: &BTreeMap<String, Seen>) -> Result<(), CopyError> {
        let ranges: Vec<_> = files.keys().filter_map(|name| range_of(name)).collect();
        let is_replaced = |name: &String| {
            let range = range_of(name).filter(|_| !files.contains_key(name));
            range.is_some_and(|(shard, first, last)| {
                ranges
                    .iter()
                    .any(|(of, from, to)| *of == shard && *from <= first && last <= *to)
            })
        };
        let replaced: Vec<String> = match self.there().get(folder) {
            Some(there) => there.keys().filter(|name| is_replaced(name)).cloned().collect(),
            None => return Ok(()),
        };
        for name in replaced {
            let key = self.key(folder).child(name.as_str());
            match self.store.delete(&key).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    let key = key.to_string();
                    return Err(CopyError::Store { key, error });
                }
            }
            if let Some(there) = self.there().get_mut(folder) {
                there.remove(&name);
            }
        }
        Ok(())
    }
}

/// The whole files of a folder.
fn files_in(folder: &Path) -> io::Result<BTreeMap<String, Seen>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !name.ends_with(".parquet") {
            continue;
        }
        let data = match entry.metadata() {
            // Compaction has replaced it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            data => data?,
        };
        let modified_ns = i128::from(data.mtime()) * 1_000_000_000 + i128::from(data.mtime_nsec());
        files.insert(
            name,
            Seen {
                bytes: data.len(),
                modified_ns,
            },
        );
    }
    Ok(files)
}

/// The next part of a file; empty at its end.
async fn next_part(mut file: fs::File) -> io::Result<(fs::File, Bytes)> {
    blocking(move || {
        let mut part = Vec::new();
        (&mut file).take(PART as u64).read_to_end(&mut part)?;
        Ok((file, part.into()))
    })
    .await
}

/// Does what blocks elsewhere.
async fn blocking<T: Send + 'static, E: From<Panicked> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Panicked.into()),
    }
}

/// What was done elsewhere has panicked, and has said so.
struct Panicked;

impl From<Panicked> for io::Error {
    fn from(_: Panicked) -> Self {
        Self::other("the reader panicked")
    }
}

impl From<Panicked> for CopyError {
    fn from(panicked: Panicked) -> Self {
        Self::Read {
            path: "the history's folder".into(),
            error: panicked.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::file::name_of, *};

    fn copier(root: &Path, store: &Path) -> Arc<Copier> {
        let settings = CopySettings {
            url: format!("file://{}/plant", store.display()),
            options: BTreeMap::new(),
        };
        Arc::new(Copier::new(&settings, root.to_owned(), None).expect("a store"))
    }

    #[tokio::test]
    async fn copies_follow_what_is_here() {
        let (root, store) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        let day = "tenant=acme/kind=readings/date=2026-01-01";
        let here = root.path().join(day);
        let there = store.path().join("plant").join(day);
        fs::create_dir_all(&here).expect("a folder");
        let write = |name: &str, text: &[u8]| fs::write(here.join(name), text).expect("written");
        write(&name_of(3, 1, 10), b"one");
        write(&name_of(3, 11, 20), b"two");
        write("00003.parquet", b"rollups");
        write(".half.part", b"half");
        let copies = copier(root.path(), store.path());
        assert!(!copies.has(&here));
        assert_eq!(copies.round().await.expect("copied"), 3);
        assert!(copies.has(&here));
        assert_eq!(copies.round().await.expect("copied"), 0);
        let names = |folder: &Path| files_in(folder).expect("files").into_keys().collect::<Vec<_>>();
        assert_eq!(names(&there), names(&here));

        // A file that is replaced is copied again, one larger than a part too; what a compacted one covers goes.
        write("00003.parquet", b"more rollups");
        let large: Vec<u8> = (0..PART + 5).map(|at| at as u8).collect();
        write(&name_of(3, 1, 20), &large);
        for name in [name_of(3, 1, 10), name_of(3, 11, 20)] {
            fs::remove_file(here.join(name)).expect("removed");
        }
        assert!(!copies.has(&here));
        assert_eq!(copies.round().await.expect("copied"), 2);
        assert_eq!(names(&there), names(&here));
        assert_eq!(fs::read(there.join(name_of(3, 1, 20))).expect("a file"), large);
        assert_eq!(
            fs::read(there.join("00003.parquet")).expect("a file"),
            b"more rollups"
        );

        // A new process learns from the store what it has; what is deleted here stays there.
        let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        for name in names(&here) {
            let file = fs::File::options()
                .write(true)
                .open(here.join(name))
                .expect("a file");
            file.set_times(old).expect("set");
        }
        write(&name_of(3, 21, 30), b"three");
        let again = copier(root.path(), store.path());
        assert_eq!(again.round().await.expect("copied"), 1);
        fs::remove_dir_all(&here).expect("removed");
        assert_eq!(again.round().await.expect("copied"), 0);
        assert_eq!(names(&there).len(), 3);
    }

    #[test]
    fn what_cannot_work_is_said() {
        let problem = |url: &str, option: &str| {
            let options = [(option.to_owned(), "x".to_owned())].into_iter();
            let settings = CopySettings {
                url: url.into(),
                options: options.filter(|(name, _)| !name.is_empty()).collect(),
            };
            settings.check().err().unwrap_or_default()
        };
        assert_eq!(problem("s3://bucket/gemba", "aws_region"), "");
        assert!(problem("bucket", "").contains("s3://"));
        assert!(problem("ftp://bucket", "").contains("s3://"));
        assert!(problem("s3://bucket", "acces_key").contains("acces_key"));
        let secret = CopySettings {
            url: "s3://bucket".into(),
            options: [("aws_secret_access_key".into(), "s3cret".into())].into(),
        };
        assert!(!format!("{secret:?}").contains("s3cret"));
    }
}
