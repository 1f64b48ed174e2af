//! Snapshots that are arriving: one per group, its pieces in order, kept in a file that nobody else sees.
//!
//! Promises: a piece out of order ends the sending, never a snapshot with a hole; what a crash interrupts leaves nothing
//! behind. Knows nothing of what the bytes mean.

use std::{
    io::{self, Read, Seek, Write},
    path::PathBuf,
};

use bytes::Bytes;
use tokio::sync::Mutex;

use super::{
    apply::{Boxed, Cut, CutBytes},
    machine::{Meta, Snapshot},
    wire::{PieceWire, stored_members},
};
use crate::Seq;

const PIECE: usize = 1 << 20;

enum Kept {
    Memory(Vec<Bytes>),
    File(std::fs::File),
}

struct Arriving {
    sending: u64,
    offset: u64,
    kept: Kept,
}

/// Where a group's snapshots arrive.
pub(crate) struct Inbox {
    /// Where the file is made; without a folder, pieces are kept in memory.
    folder: Option<PathBuf>,
    arriving: Mutex<Option<Arriving>>,
}

impl Inbox {
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            arriving: Mutex::new(None),
        }
    }

    /// Takes a piece; answers the snapshot when it was the last one.
    pub(crate) async fn take(&self, piece: PieceWire) -> io::Result<Option<Snapshot>> {
        let mut place = self.arriving.lock().await;
        let mut arriving = match place.take() {
            Some(arriving) if arriving.sending == piece.sending => arriving,
            _ if piece.offset == 0 => Arriving {
                sending: piece.sending,
                offset: 0,
                kept: self.begin()?,
            },
            _ => return Err(io::Error::other("a piece of a snapshot that is not arriving")),
        };
        if arriving.offset != piece.offset {
            return Err(io::Error::other(format!(
                "a piece of a snapshot at {} instead of {}",
                piece.offset, arriving.offset
            )));
        }
        arriving.offset += piece.bytes.len() as u64;
        match &mut arriving.kept {
            Kept::Memory(pieces) => pieces.push(piece.bytes.clone()),
            Kept::File(file) => {
                let (mut writing, bytes) = (file.try_clone()?, piece.bytes.clone());
                tokio::task::spawn_blocking(move || writing.write_all(&bytes))
                    .await
                    .map_err(io::Error::other)??;
            }
        }
        if !piece.is_last {
            *place = Some(arriving);
            return Ok(None);
        }
        let bytes: Box<dyn CutBytes> = match arriving.kept {
            Kept::Memory(pieces) => Box::new(pieces.into_iter()),
            Kept::File(mut file) => {
                file.rewind()?;
                Box::new(FileBytes(file))
            }
        };
        let members_place = piece.members_place.map(Into::into).unwrap_or_default();
        Ok(Some(Snapshot {
            meta: Meta {
                last_log_id: piece.last.map(Into::into),
                last_membership: stored_members(members_place, &piece.members).map_err(io::Error::other)?,
            },
            snapshot: Cut {
                seq: Seq::new(piece.seq),
                bytes,
            },
        }))
    }

    fn begin(&self) -> io::Result<Kept> {
        Ok(match &self.folder {
            // It has no name, so a crash leaves nothing.
            Some(folder) => Kept::File(tempfile::tempfile_in(folder)?),
            None => Kept::Memory(Vec::new()),
        })
    }
}

/// The bytes of a file that has no name.
struct FileBytes(std::fs::File);

impl CutBytes for FileBytes {
    fn next(&mut self) -> Boxed<'_, io::Result<Option<Bytes>>> {
        Box::pin(async move {
            let reading = self.0.try_clone()?;
            let piece = tokio::task::spawn_blocking(move || {
                let mut piece = Vec::with_capacity(PIECE);
                reading.take(PIECE as u64).read_to_end(&mut piece)?;
                Ok::<_, io::Error>(piece)
            });
            let piece = piece.await.map_err(io::Error::other)??;
            Ok((!piece.is_empty()).then(|| piece.into()))
        })
    }
}
