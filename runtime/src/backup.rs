//! Backups: a shard as one sequence of bytes, out of a running node, and back into a folder that no node uses.
//!
//! Promises: a shard's backup is its snapshot and its journal up to one seq, so all that was acknowledged before it was
//! asked for is in it, once; each part carries its checksums, and a backup that is not whole is not restored. The bytes:
//! `GMBK`, a version byte, then parts with their lengths (big-endian, four bytes) before them: the head (prost), pieces of
//! the snapshot up to an empty one, frames of the journal up to an empty one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::mpsc,
};

use gemba_cluster::{Append, Epoch, Frame, FrameBuilder, Journal, JournalOptions, Seq, ShardId};
use gemba_twins::id::TenantId;
use prost::Message;
use thiserror::Error;

use crate::{
    shard::router::{control_number, rejected_shard_of},
    store::{Store, StoreError},
};

const MAGIC: [u8; 5] = *b"GMBK\x01";
/// Longest part: the longest frame, and a snapshot's piece with a plant model at its end.
const PART_MAX: usize = 32 << 20;
/// Frames that wait for the disk at a time.
const WAITING: usize = 64;

/// What the backup of a shard begins with.
#[derive(Clone, PartialEq, Message)]
pub struct Head {
    /// The shard's number; 65535 is the control shard.
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    /// The number of data shards.
    #[prost(uint32, tag = "2")]
    pub shards: u32,
    /// The cluster's name; empty of a node that was alone.
    #[prost(string, tag = "3")]
    pub cluster: String,
    /// The seq that the snapshot stands for.
    #[prost(uint64, tag = "4")]
    pub state: u64,
    /// The first seq of the journal.
    #[prost(uint64, tag = "5")]
    pub first: u64,
    /// The last seq: all up to it is in the backup.
    #[prost(uint64, tag = "6")]
    pub last: u64,
    /// When it was made, in milliseconds since 1970.
    #[prost(int64, tag = "7")]
    pub made_ms: i64,
}

impl Head {
    /// The head at the beginning of a shard's backup.
    pub fn read(bytes: &[u8]) -> Result<Self, RestoreError> {
        Parts::new(bytes)
            .and_then(|mut parts| parts.head())
            .map_err(|detail| RestoreError::Damaged {
                file: "what the node sent".into(),
                detail,
            })
    }
}

/// A part with its length before it.
pub(crate) fn part(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// The beginning of a shard's backup.
pub(crate) fn beginning(head: &Head) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    part(&head.encode_to_vec(), &mut bytes);
    bytes
}

/// The file of a shard in a backup's folder.
#[must_use]
pub fn file_of(shard: u32) -> String {
    if shard == u32::from(control_number()) {
        "shard-control.backup".into()
    } else {
        format!("shard-{shard}.backup")
    }
}

/// Why nothing was restored.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// A file is not what it should be.
    #[error("{file}: {detail} (take another backup)")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        detail: String,
    },
    /// The backup lacks a shard.
    #[error("{0} is missing (the backup was not finished; take another one)")]
    Missing(String),
    /// There is something in the folder already.
    #[error("{0} is there already (restore into a folder that is not)")]
    Exists(String),
    /// The disk does not take it.
    #[error("failed to write {folder}: {detail} (disk full?)")]
    Io {
        /// The folder.
        folder: String,
        /// What went wrong.
        detail: String,
    },
}

/// What was restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// The cluster that the backup was taken of; empty of a node that was alone.
    pub cluster: String,
    /// The number of data shards.
    pub shards: u16,
    /// Records of the journal.
    pub records: u64,
}

/// The parts of a shard's backup.
struct Parts<R> {
    from: R,
}

impl<R: Read> Parts<R> {
    fn new(mut from: R) -> Result<Self, String> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic).map_err(|error| error.to_string())?;
        if magic[..4] != MAGIC[..4] {
            return Err("it is no backup".into());
        }
        if magic != MAGIC {
            return Err("it was made by a newer gemba".into());
        }
        Ok(Self { from })
    }

    /// The next part; empty at the end of a section.
    fn next(&mut self) -> Result<Vec<u8>, String> {
        let mut length = [0; 4];
        self.from
            .read_exact(&mut length)
            .map_err(|_| "it ends too early".to_owned())?;
        let length = u32::from_be_bytes(length) as usize;
        if length > PART_MAX {
            return Err("it has a part without end".into());
        }
        let mut bytes = vec![0; length];
        self.from
            .read_exact(&mut bytes)
            .map_err(|_| "it ends too early".to_owned())?;
        Ok(bytes)
    }

    fn head(&mut self) -> Result<Head, String> {
        let head = Head::decode(&*self.next()?).map_err(|error| error.to_string())?;
        let is_data = head.shard < head.shards || head.shard == u32::from(control_number());
        if head.shards == 0 || head.shards > u32::from(u16::MAX - 2) || !is_data || head.state > head.last {
            return Err("its head makes no sense".into());
        }
        Ok(head)
    }
}

/// The backup of a shard after its head.
type Opened = (Head, Parts<io::BufReader<std::fs::File>>);

fn open(folder: &Path, shard: u32) -> Result<Option<Opened>, RestoreError> {
    let file = folder.join(file_of(shard));
    let damaged = |detail: String| RestoreError::Damaged {
        file: file.display().to_string(),
        detail,
    };
    match std::fs::File::open(&file) {
        Ok(opened) => {
            let mut parts = Parts::new(io::BufReader::new(opened)).map_err(damaged)?;
            let head = parts.head().map_err(damaged)?;
            if head.shard != shard {
                return Err(damaged(format!("it is of shard {}", head.shard)));
            }
            Ok(Some((head, parts)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// Makes a data folder of a backup: a node that is started on it is alone, or the first one of a new cluster. `seen` hears
/// of the records so far. Blocks for as long as it takes; nothing is at `data_dir` before all of it is.
pub fn restore(backup: &Path, data_dir: &Path, seen: &mut dyn FnMut(u64)) -> Result<Restored, RestoreError> {
    if data_dir.exists() {
        return Err(RestoreError::Exists(data_dir.display().to_string()));
    }
    let missing = |shard: u32| RestoreError::Missing(backup.join(file_of(shard)).display().to_string());
    let (control, _) =
        open(backup, control_number().into())?.ok_or_else(|| missing(control_number().into()))?;
    let shards: Vec<u32> = (0..control.shards).chain([control_number().into()]).collect();
    let mut heads = BTreeMap::new();
    for shard in &shards {
        let (head, _) = open(backup, *shard)?.ok_or_else(|| missing(*shard))?;
        if (head.shards, &head.cluster) != (control.shards, &control.cluster) {
            let file = backup.join(file_of(*shard)).display().to_string();
            return Err(RestoreError::Damaged {
                file,
                detail: "it is of another backup".into(),
            });
        }
        heads.insert(*shard, head);
    }
    let mut aside = data_dir.as_os_str().to_owned();
    aside.push(".restoring");
    let aside = PathBuf::from(aside);
    if aside.exists() {
        std::fs::remove_dir_all(&aside).map_err(|error| failed(&aside, &error))?;
    }
    let count = u16::try_from(control.shards).unwrap_or(u16::MAX);
    let records = fill(backup, &aside, count, &heads, seen)?;
    std::fs::rename(&aside, data_dir).map_err(|error| failed(data_dir, &error))?;
    if let Some(parent) = data_dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let synced = std::fs::File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|error| failed(parent, &error))?;
    }
    Ok(Restored {
        cluster: control.cluster,
        shards: count,
        records,
    })
}

fn failed(folder: &Path, error: &dyn std::fmt::Display) -> RestoreError {
    RestoreError::Io {
        folder: folder.display().to_string(),
        detail: error.to_string(),
    }
}

fn fill(
    backup: &Path,
    folder: &Path,
    shards: u16,
    heads: &BTreeMap<u32, Head>,
    seen: &mut dyn FnMut(u64),
) -> Result<u64, RestoreError> {
    let io = |error: &dyn std::fmt::Display| failed(folder, error);
    std::fs::create_dir_all(folder.join("journal")).map_err(|error| io(&error))?;
    let store = Store::open(&folder.join("state.redb"), shards, 64 << 20).map_err(|error| io(&error))?;
    let mut records = 0;
    // A journal that was trimmed begins where it began.
    let begins = heads
        .iter()
        .filter(|(_, head)| head.first > 1)
        .map(|(shard, head)| {
            let shard = ShardId::new(u16::try_from(*shard).unwrap_or(u16::MAX));
            (shard, Seq::new(head.first - 1))
        });
    let mut options = JournalOptions::new(folder.join("journal"));
    let begins: BTreeMap<ShardId, Seq> = begins.collect();
    Journal::begin_at(&options, &begins).map_err(|error| io(&error))?;
    options.queue_bytes = 64 << 20;
    let journal = Journal::open(options).map_err(|error| io(&error))?;
    for (shard, head) in heads {
        let file = backup.join(file_of(*shard)).display().to_string();
        let damaged = |detail: String| RestoreError::Damaged {
            file: file.clone(),
            detail,
        };
        let Some((_, mut parts)) = open(backup, *shard)? else {
            return Err(RestoreError::Missing(file));
        };
        let number = u16::try_from(*shard).unwrap_or(u16::MAX);
        take_state(&store, number, shards, &mut parts).map_err(|error| match error {
            Taking::Read(detail) => damaged(detail),
            Taking::Store(error) => io(&error),
        })?;
        let last = take_frames(&journal, number, head, &mut parts, &mut |count| {
            records += count;
            seen(records);
        })
        .map_err(damaged)?;
        if last != head.last {
            return Err(damaged(format!(
                "its journal ends at seq {last}, not at {}",
                head.last
            )));
        }
    }
    journal.close();
    Ok(records)
}

enum Taking {
    Read(String),
    Store(StoreError),
}

fn take_state<R: Read>(store: &Store, shard: u16, shards: u16, parts: &mut Parts<R>) -> Result<(), Taking> {
    let keeps = |tenant: &TenantId| rejected_shard_of(tenant, shards) == shard;
    let mut import = store
        .import(shard, shard == control_number(), &keeps)
        .map_err(Taking::Store)?;
    loop {
        let piece = parts.next().map_err(Taking::Read)?;
        if piece.is_empty() {
            return import.finish().map_err(Taking::Store);
        }
        import.take(&piece).map_err(Taking::Store)?;
    }
}

/// Appends a shard's frames up to the backup's last seq; answers the last one.
fn take_frames<R: Read>(
    journal: &Journal,
    shard: u16,
    head: &Head,
    parts: &mut Parts<R>,
    seen: &mut dyn FnMut(u64),
) -> Result<u64, String> {
    let shard = ShardId::new(shard);
    let (done, answers) = mpsc::sync_channel(WAITING * 2);
    let (mut waiting, mut last) = (0, head.first.saturating_sub(1));
    let text = |error: &dyn std::fmt::Display| error.to_string();
    loop {
        let bytes = parts.next()?;
        let is_end = bytes.is_empty();
        while waiting > 0 && (is_end || waiting >= WAITING) {
            let answer: Result<gemba_cluster::Committed, gemba_cluster::AppendError> =
                answers.recv().map_err(|error| text(&error))?;
            answer.map_err(|error| text(&error))?;
            waiting -= 1;
        }
        if is_end {
            return Ok(last);
        }
        let frame = Frame::decode(bytes).map_err(|error| text(&error))?;
        if frame.shard() != shard {
            return Err(format!("it has a frame of shard {}", frame.shard()));
        }
        let (mut body, mut first) = (FrameBuilder::new(), None);
        for (seq, record) in (frame.first().get()..).zip(frame.records()) {
            // A page of frames may begin within what the one before it ended with, and the last one may go on.
            if seq <= last || seq > head.last {
                continue;
            }
            if seq != last + 1 {
                return Err(format!("seq {seq} follows {last}"));
            }
            first.get_or_insert(seq);
            body.push(record).map_err(|error| text(&error))?;
            last = seq;
        }
        let Some(first) = first else { continue };
        let body = body.finish();
        seen(body.count().into());
        let done = done.clone();
        let append = Append {
            shard,
            epoch: Epoch::new(frame.epoch().get()),
            first: Seq::new(first),
            body,
            done: Box::new(move |result| {
                // Whoever gave up does not wait for it.
                let _ = done.send(result);
            }),
        };
        journal.append(append).map_err(|error| text(&error))?;
        waiting += 1;
    }
}

/// The shards that a backup in this folder lacks, by their files.
#[must_use]
pub fn missing(folder: &Path, shards: u16) -> BTreeSet<String> {
    let all = (0..u32::from(shards))
        .chain([control_number().into()])
        .map(file_of);
    all.filter(|file| !folder.join(file).exists()).collect()
}
