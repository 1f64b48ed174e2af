//! What a replica does with its shard's records: the seam between replication and whoever knows what a record means.

use std::{future::Future, io, pin::Pin};

use bytes::Bytes;

use crate::{Epoch, Frame, Seq};

/// A future in a box.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A shard's state on one replica. Called by one task, one call at a time, in the log's order.
///
/// 1. [`holds`](Apply::holds) is asked once, before anything else: what a restart has brought back from the last
///    durable snapshot, without the journal's tail. The tail comes through `applied`, as far as it is committed.
/// 2. `applied` may be given a frame whose first records are held already (the snapshot stood within it): skip them.
/// 3. Nothing that `applied` is given is ever taken back.
/// 4. `snapshot` is a cut at a seq that `applied` has passed, and need not be the newest.
/// 5. `install` replaces the state. When it returns, `holds` of a restart gives the snapshot's seq or a later one.
/// 6. An error stops the replica; its keeper opens it again, and another `Apply` is made.
pub trait Apply: Send + Sync + 'static {
    /// The last seq that the state holds.
    fn holds(&mut self) -> Seq;

    /// Applies a committed frame.
    fn applied(&mut self, frame: Frame) -> Boxed<'_, io::Result<()>>;

    /// Says that all frames of older epochs have been applied, and whether this replica is the owner of this one. An
    /// owner may serve from here on; it hears of its end by [`crate::Role`] and by refused proposals.
    fn began(&mut self, epoch: Epoch, mine: bool) -> Boxed<'_, io::Result<()>>;

    /// A consistent cut, for a replica that is too far behind.
    fn snapshot(&mut self) -> Boxed<'_, io::Result<Cut>>;

    /// Takes over a cut of another replica.
    fn install(&mut self, cut: Cut) -> Boxed<'_, io::Result<()>>;
}

/// A shard's state at a seq, as bytes.
pub struct Cut {
    /// The last seq that it holds.
    pub seq: Seq,
    /// Its bytes; what they mean is the business of [`Apply`].
    pub bytes: Box<dyn CutBytes>,
}

/// The bytes of a cut, piece by piece.
pub trait CutBytes: Send + Sync + 'static {
    /// The next piece, at most 1 MiB; `None` at the end.
    fn next(&mut self) -> Boxed<'_, io::Result<Option<Bytes>>>;
}

/// Bytes that are in memory.
impl CutBytes for std::vec::IntoIter<Bytes> {
    fn next(&mut self) -> Boxed<'_, io::Result<Option<Bytes>>> {
        let piece = Iterator::next(self);
        Box::pin(async move { Ok(piece) })
    }
}

impl Cut {
    /// A cut that is in memory.
    #[must_use]
    pub fn in_memory(seq: Seq, bytes: Bytes) -> Self {
        let pieces: Vec<Bytes> = bytes
            .chunks(1 << 20)
            .map(|piece| bytes.slice_ref(piece))
            .collect();
        Self {
            seq,
            bytes: Box::new(pieces.into_iter()),
        }
    }

    /// All bytes together.
    pub async fn read(mut self) -> io::Result<Bytes> {
        let mut all = Vec::new();
        while let Some(piece) = self.bytes.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }
}
