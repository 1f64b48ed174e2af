//! Cutting the journal: what stands after a seq goes, and whole segments that nobody needs any more.
//!
//! Promises: a truncation may cut within a frame; a segment goes only when no shard and no log needs anything in it, and
//! the one that is appended to stays.

use std::sync::PoisonError;

use redb::ReadableTable;

use super::{
    AppendError,
    committer::Writer,
    segment::{FRAMES, begin},
};
use crate::{Frame, Seq, ShardId};

impl Writer {
    pub(super) fn truncate(&self, shard: ShardId, after: Seq) -> Result<(), AppendError> {
        let number = u32::from(shard.get());
        let storage = |detail: String| AppendError::Storage {
            shard,
            detail: detail.into(),
        };
        for segment in self.journal.segments().iter().rev() {
            let result = segment.with(|database| {
                let write = begin(database)?;
                {
                    let mut frames = write.open_table(FRAMES)?;
                    frames.retain_in((number, after.get() + 1)..=(number, u64::MAX), |_, _| false)?;
                    let before = frames
                        .range((number, 0)..=(number, after.get()))?
                        .next_back()
                        .transpose()?;
                    let spanning = before.map(|(key, value)| (key.value(), value.value().to_vec()));
                    if let Some((key, bytes)) = spanning
                        && let Ok(frame) = Frame::decode(bytes)
                        && frame.last() > after
                    {
                        let cut = frame.cut_after(after).seal(shard, frame.first(), frame.epoch());
                        frames.insert(key, cut.as_slice())?;
                    }
                }
                write.commit()?;
                Ok(())
            });
            if let Err(error) = result {
                let reopened = segment.reopen(&self.journal.options);
                self.journal.read_extents();
                reopened.map_err(|error| storage(error.to_string()))?;
                return Err(storage(error.to_string()));
            }
            segment
                .reopen(&self.journal.options)
                .map_err(|error| storage(error.to_string()))?;
        }
        self.journal.read_extents();
        Ok(())
    }

    pub(super) fn purge(&mut self, shard: ShardId, up_to: Seq) -> Result<(), AppendError> {
        let purged = self.purged.entry(shard.get()).or_default();
        *purged = up_to.get().max(*purged);
        loop {
            let segments = self.journal.segments();
            let [oldest, _, ..] = &*segments else {
                return Ok(());
            };
            let needed = oldest.extents().iter().any(|(shard, extent)| {
                extent.first > 0 && extent.last > self.purged.get(shard).copied().unwrap_or_default()
            });
            let log_needed = oldest.logs().iter().any(|(shard, log)| {
                log.last != log.base.place
                    && log.last.map(|last| last.index) > self.purged_logs.get(shard).copied()
            });
            if needed || log_needed {
                return Ok(());
            }
            self.journal
                .segments
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(0);
            self.journal.read_extents();
            let removed = self.journal.options.files.remove(oldest.number());
            removed.map_err(|error| AppendError::Storage {
                shard,
                detail: error.to_string().into(),
            })?;
            tracing::info!(segment = oldest.number(), "segment deleted");
        }
    }
}
