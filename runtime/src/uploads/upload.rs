//! One upload: what it is, how far it came, and its parts.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use gemba_twins::{
    id::{Kind, TenantId},
    time::Timestamp,
};

use super::{UploadError, blocking, disk::Disk};
use crate::{clock, import::Format};

/// Rejected rows that are kept of one upload; all are counted.
const REJECTED_KEPT: u64 = 100_000;

/// What an upload is; never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    /// 24 hexadecimal digits.
    pub id: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// The file's name.
    pub name: String,
    /// Its media type, where it was said.
    pub media_type: Option<String>,
    /// Its bytes.
    pub size: u64,
    /// Who sends it.
    pub by: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// What becomes of it.
    pub purpose: Purpose,
}

/// What becomes of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Purpose {
    /// Its rows are loaded.
    Load {
        /// How they are written.
        format: Format,
        /// The mapping, as TOML.
        map: String,
    },
    /// It is kept as a twin's.
    Attach {
        /// The twin.
        twin: (Kind, Box<str>),
        /// `application/pdf` or `image/png`.
        media_type: &'static str,
    },
}

/// How far an upload came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Parts are missing.
    Receiving,
    /// It is whole and waits to be loaded.
    Received,
    /// Its rows are being loaded.
    Loading,
    /// All its rows came to their end.
    Loaded,
    /// It cannot be loaded or kept.
    Failed,
    /// It is kept as a twin's.
    Attached,
}

impl Phase {
    /// All of them, with their words.
    pub(super) const ALL: [(&'static str, Self); 6] = [
        ("receiving", Self::Receiving),
        ("received", Self::Received),
        ("loading", Self::Loading),
        ("loaded", Self::Loaded),
        ("failed", Self::Failed),
        ("attached", Self::Attached),
    ];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, phase)| *phase == self)
            .map_or("", |(word, _)| word)
    }
}

/// How rows ended; they add up to the rows that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Durable and folded.
    pub accepted: u64,
    /// Known from before.
    pub duplicates: u64,
    /// Kept aside with a reason.
    pub rejected: u64,
    /// Nothing was measured.
    pub empty: u64,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.accepted + self.duplicates + self.rejected + self.empty
    }
}

/// How far an upload came, and what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct UploadState {
    /// Where it is.
    pub phase: Phase,
    /// Bytes that are on disk.
    pub offset: u64,
    /// The last line that came to its end.
    pub line: u64,
    /// How the rows up to it ended.
    pub counts: Counts,
    /// What stands for the content and the mapping, once it was read.
    pub identity: Option<String>,
    /// An upload of the same content and mapping that was loaded before.
    pub same_as: Option<String>,
    /// What somebody should know of how the file is written.
    pub notes: Vec<String>,
    /// Why it failed: code and detail.
    pub problem: Option<(String, String)>,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// Bytes of the rejected rows that belong to the counts.
    pub(super) rejected_bytes: u64,
}

/// A row that was not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Its line.
    pub line: u64,
    /// For programs.
    pub code: String,
    /// What is wrong, with the mend.
    pub detail: String,
    /// As it was read.
    pub row: String,
}

/// One upload.
pub struct Upload {
    /// What it is.
    pub meta: Meta,
    state: Mutex<UploadState>,
    /// One part at a time.
    parts: tokio::sync::Mutex<()>,
    removed: AtomicBool,
    pub(super) disk: Disk,
}

impl Upload {
    pub(super) fn new(meta: Meta, disk: Disk) -> Self {
        let state = UploadState {
            phase: Phase::Receiving,
            offset: 0,
            line: 0,
            counts: Counts::default(),
            identity: None,
            same_as: None,
            notes: Vec::new(),
            problem: None,
            changed_at: meta.created_at,
            rejected_bytes: 0,
        };
        Self::with(meta, state, disk)
    }

    pub(super) fn with(meta: Meta, state: UploadState, disk: Disk) -> Self {
        Self {
            meta,
            state: Mutex::new(state),
            parts: tokio::sync::Mutex::default(),
            removed: AtomicBool::new(false),
            disk,
        }
    }

    /// How far it came.
    #[must_use]
    pub fn state(&self) -> UploadState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Bytes that it takes or may take on disk.
    pub(super) fn bytes_kept(&self) -> u64 {
        match self.state().phase {
            Phase::Loaded | Phase::Failed => 0,
            Phase::Receiving | Phase::Received | Phase::Loading | Phase::Attached => self.meta.size,
        }
    }

    pub(super) fn begin(&self) -> io::Result<()> {
        self.disk.begin(&self.meta, &self.state())
    }

    /// Changes the state on disk, and then for everybody to see. Blocks.
    pub(super) fn change(&self, change: impl FnOnce(&mut UploadState)) -> io::Result<()> {
        let mut state = self.state();
        change(&mut state);
        state.changed_at = clock::now();
        self.disk.save(&self.meta, &state)?;
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        self.removed.store(true, Ordering::Release);
        self.disk.remove(&self.meta)
    }

    /// Takes a part; answers where the next one begins, and the bytes taken.
    pub(super) async fn append(
        self: &std::sync::Arc<Self>,
        offset: u64,
        part: Bytes,
    ) -> Result<(u64, u64), UploadError> {
        let _alone = self.parts.lock().await;
        let state = self.state();
        if state.phase != Phase::Receiving || state.offset != offset {
            return Err(UploadError::Offset { at: state.offset });
        }
        let length = part.len() as u64;
        if offset + length > self.meta.size {
            let detail = format!(
                "the part ends at {} and the upload has {} bytes (make a new upload of the right size)",
                offset + length,
                self.meta.size
            );
            return Err(UploadError::invalid("upload.too_long", detail));
        }
        let own = self.clone();
        blocking(move || own.write(offset, &part)).await?;
        Ok((offset + length, length))
    }

    fn write(&self, offset: u64, part: &[u8]) -> io::Result<()> {
        self.disk.write(&self.meta, offset, part)?;
        let end = offset + part.len() as u64;
        if end < self.meta.size {
            return self.change(|state| state.offset = end);
        }
        match &self.meta.purpose {
            Purpose::Load { .. } => self.change(|state| {
                state.offset = end;
                state.phase = Phase::Received;
            }),
            Purpose::Attach { media_type, .. } => {
                if self.disk.begins_as(&self.meta, media_type)? {
                    self.change(|state| {
                        state.offset = end;
                        state.phase = Phase::Attached;
                    })
                } else {
                    let detail = format!("the file does not begin as {media_type} does (is it one?)");
                    self.fail("upload.content_differs", detail)
                }
            }
        }
    }

    /// Notes that it cannot be used, and lets its bytes go. Blocks.
    pub(super) fn fail(&self, code: &str, detail: String) -> io::Result<()> {
        self.change(|state| {
            state.offset = self.meta.size;
            state.phase = Phase::Failed;
            state.problem = Some((code.to_owned(), detail));
        })?;
        self.disk.drop_data(&self.meta)
    }

    /// Notes that all rows up to a line came to their end. Blocks.
    pub(super) fn note(&self, line: u64, counts: Counts, rejected: &[RejectedRow]) -> io::Result<()> {
        let state = self.state();
        let room = REJECTED_KEPT.saturating_sub(state.counts.rejected);
        let kept = &rejected[..rejected.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        let rejected_bytes = self.disk.keep_rejected(&self.meta, state.rejected_bytes, kept)?;
        self.change(|state| {
            state.line = line;
            state.rejected_bytes = rejected_bytes;
            state.counts.accepted += counts.accepted;
            state.counts.duplicates += counts.duplicates;
            state.counts.rejected += counts.rejected;
            state.counts.empty += counts.empty;
        })
    }

    /// Rejected rows, from the `skip`th on. Blocks.
    pub fn rejected(&self, skip: usize, limit: usize) -> io::Result<Vec<RejectedRow>> {
        self.disk
            .rejected(&self.meta, self.state().rejected_bytes, skip, limit)
    }

    /// The bytes of an attachment. Blocks.
    pub fn content(&self) -> io::Result<Vec<u8>> {
        self.disk.content(&self.meta)
    }
}
