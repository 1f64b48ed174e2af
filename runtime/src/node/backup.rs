//! The backup of a shard out of a running node, piece by piece.
//!
//! Promises: what was acknowledged anywhere before a backup began is in it; pieces that nobody asks for are let go. The
//! bytes and their way back are in `crate::backup`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use gemba_cluster::{Seq, ShardId};
use gemba_twins::id::TenantId;
use thiserror::Error;

use super::{Node, ReadError, StoreError, read::blocking};
use crate::{
    backup::{Head, beginning, part},
    clock,
    shard::router::{control_number, rejected_shard_of},
    store::Export,
};

/// Bytes of frames in a piece.
const FRAMES_BYTES: usize = 4 << 20;
/// Backups under way at a time: each holds what the store had when it began.
const UNDER_WAY_MAX: usize = 64;
/// A backup that nobody asks for is let go after this.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// Why there is no piece.
#[derive(Debug, Error)]
pub enum BackupError {
    /// There is no such shard.
    #[error("there is no shard {0:?} (its number, or control)")]
    NotFound(String),
    /// The place is not one that a piece ended with, or was let go.
    #[error("the backup has been let go (begin it again, without a place)")]
    Gone,
    /// Too many are under way.
    #[error("{UNDER_WAY_MAX} backups of shards are under way (wait for them)")]
    TooMany,
    /// The shard cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}

/// Some bytes of a shard's backup.
#[derive(Debug, Clone)]
pub struct BackupPiece {
    /// The bytes; those of all pieces, one after the other, are the backup.
    pub bytes: Vec<u8>,
    /// Where the next piece begins; `None` at the end.
    pub next: Option<String>,
}

struct UnderWay {
    export: Export,
    first: u64,
    last: u64,
    used: Instant,
}

/// The snapshots of backups that are under way, by name.
#[derive(Default)]
pub(super) struct Backups {
    under_way: Mutex<(u64, BTreeMap<u64, UnderWay>)>,
}

impl Backups {
    fn put(&self, under_way: UnderWay) -> Result<u64, BackupError> {
        let (last, all) = &mut *self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, under_way| under_way.used.elapsed() < FORGOTTEN);
        if all.len() >= UNDER_WAY_MAX {
            return Err(BackupError::TooMany);
        }
        *last += 1;
        all.insert(*last, under_way);
        Ok(*last)
    }

    fn take(&self, name: u64) -> Option<UnderWay> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .1
            .remove(&name)
    }

    fn put_back(&self, name: u64, mut under_way: UnderWay) {
        under_way.used = clock::instant();
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .1
            .insert(name, under_way);
    }
}

impl Node {
    /// The next piece of a shard's backup: the first one without a place, then each at the place that the one before it
    /// ended with.
    pub async fn backup(&self, shard: &str, place: Option<&str>) -> Result<BackupPiece, BackupError> {
        let number = match shard {
            "control" => control_number(),
            text => text
                .parse()
                .ok()
                .filter(|number: &u16| *number < self.inner.settings.shards)
                .ok_or_else(|| BackupError::NotFound(text.chars().take(40).collect()))?,
        };
        if self.table(number).is_elsewhere() {
            return Err(StoreError::Elsewhere { shard: number }.into());
        }
        let Some(place) = place else {
            return self.begin_backup(number).await;
        };
        let mut words = place.split('-').map(str::parse::<u64>);
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(Ok(name)), None, ..) => self.go_on_with_state(name).await,
            (Some(Ok(from)), Some(Ok(last)), Some(Ok(_)), None) => {
                self.go_on_with_frames(number, from, last).await
            }
            _ => Err(BackupError::Gone),
        }
    }

    async fn begin_backup(&self, number: u16) -> Result<BackupPiece, BackupError> {
        let table = self.table(number);
        if number == control_number() {
            table.recovered().await?;
            if let Some(cluster) = &self.inner.cluster {
                cluster.catch_up([number]).await?;
            }
        } else {
            self.shard_recovered(number).await?;
        }
        let (inner, shards) = (self.inner.clone(), self.inner.settings.shards);
        let begun = blocking(move || {
            let keeps = move |tenant: &TenantId| rejected_shard_of(tenant, shards) == number;
            let export = inner.store.export(number, number == control_number(), keeps)?;
            // After the snapshot: the journal holds what follows it.
            let (first, last) = (inner.journal.first_seq(ShardId::new(number)), table.folded());
            Ok((export, first.get(), last))
        });
        let (export, first, last) = begun.await?;
        // Where the snapshot was written just now, the table may still be told of it.
        let last = last.max(export.seq);
        let head = Head {
            shard: number.into(),
            shards: shards.into(),
            cluster: self
                .inner
                .cluster
                .as_ref()
                .map(|cluster| cluster.name.clone())
                .unwrap_or_default(),
            state: export.seq,
            first: first.min(last + 1),
            last,
            made_ms: clock::now().ms(),
        };
        let under_way = UnderWay {
            export,
            first: head.first,
            last,
            used: clock::instant(),
        };
        let name = self.inner.backups.put(under_way)?;
        Ok(BackupPiece {
            bytes: beginning(&head),
            next: Some(name.to_string()),
        })
    }

    async fn go_on_with_state(&self, name: u64) -> Result<BackupPiece, BackupError> {
        let mut under_way = self.inner.backups.take(name).ok_or(BackupError::Gone)?;
        let next = blocking(move || {
            let piece = under_way.export.next()?;
            Ok((under_way, piece))
        });
        let (under_way, piece) = next.await?;
        let mut bytes = Vec::new();
        // The end of the section is an empty part.
        part(piece.as_deref().unwrap_or_default(), &mut bytes);
        let next = if piece.is_some() {
            self.inner.backups.put_back(name, under_way);
            name.to_string()
        } else {
            format!("{}-{}-{name}", under_way.first, under_way.last)
        };
        Ok(BackupPiece {
            bytes,
            next: Some(next),
        })
    }

    async fn go_on_with_frames(&self, number: u16, from: u64, last: u64) -> Result<BackupPiece, BackupError> {
        let inner = self.inner.clone();
        let read = blocking(move || {
            let (mut bytes, mut next) = (Vec::new(), from);
            for frame in inner.journal.read(ShardId::new(number), Seq::new(from)) {
                let frame = frame.map_err(|error| ReadError::Damaged(error.to_string()))?;
                if frame.first().get() > last || bytes.len() >= FRAMES_BYTES {
                    break;
                }
                part(frame.bytes(), &mut bytes);
                next = frame.last().get() + 1;
            }
            Ok((bytes, next))
        });
        let (mut bytes, next) = read.await?;
        if next > last || bytes.is_empty() {
            part(&[], &mut bytes);
            return Ok(BackupPiece { bytes, next: None });
        }
        Ok(BackupPiece {
            bytes,
            next: Some(format!("{next}-{last}-0")),
        })
    }
}
