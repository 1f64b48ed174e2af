//! Rows of a place on their way into one request.
//!
//! Promises: rows come in the order of their seqs, each once; a batch ends before it is larger than was asked, and the
//! reading after a bounded number of records, so that a turn is short. Knows nothing of where rows go.

use gemba_cluster::{Journal, Seq, ShardId};
use gemba_twins::time::Timestamp;

use super::{
    Shared,
    place::Place,
    rows::push_line,
    source::{Found, Source},
};
use crate::shard::record;

/// Records looked at in one go.
const RECORDS_MAX: u64 = 100_000;

/// Rows on their way.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// NDJSON.
    pub(super) bytes: Vec<u8>,
    pub(super) rows: u64,
    /// Rows that were read from the history's files.
    pub(super) filed: u64,
    /// The seqs of the first and last row.
    pub(super) first: u64,
    pub(super) last: u64,
    /// When the oldest row was received.
    pub(super) oldest: Option<Timestamp>,
    /// Up to this seq everything was looked at.
    pub(super) read: u64,
    /// There may be more.
    pub(super) full: bool,
    /// Seqs that neither the journal nor the history's files hold.
    pub(super) missing: Vec<(u64, u64)>,
}

impl Batch {
    /// Leaves the first rows only, `rows` of them.
    pub(super) fn cut(&mut self, rows: u64) {
        #[derive(serde::Deserialize)]
        struct Row {
            #[serde(rename = "SEQ")]
            seq: u64,
        }
        let most = usize::try_from(rows).unwrap_or(usize::MAX);
        let lines: Vec<&[u8]> = self.bytes.split_inclusive(|byte| *byte == b'\n').collect();
        if lines.len() <= most || most == 0 {
            return;
        }
        // A row is JSON with its seq, so that nothing is cut off that is not sent later.
        let Ok(last) = serde_json::from_slice::<Row>(lines[most - 1]) else {
            return;
        };
        let end = lines[..most].iter().map(|line| line.len()).sum();
        self.bytes.truncate(end);
        (self.rows, self.last, self.read, self.full) = (rows, last.seq, last.seq, true);
    }
}

/// The rows of a place after `after`, up to `until`, of about `bytes_max` bytes.
pub(super) fn collect(
    source: &mut Source,
    shared: &Shared,
    place: &Place,
    after: u64,
    until: u64,
    bytes_max: usize,
) -> Result<Batch, String> {
    let mut batch = Batch {
        read: after,
        ..Batch::default()
    };
    source.each(shared, place, after, until, &mut |found| {
        let seq = match found {
            Found::Missing(first, last) => {
                batch.missing.push((first, last));
                last
            }
            Found::Nothing(seq) => seq,
            Found::Row(seq, event, is_filed) => {
                let before = batch.bytes.len();
                push_line(&mut batch.bytes, place.shard, seq, event);
                if before > 0 && batch.bytes.len() > bytes_max {
                    batch.bytes.truncate(before);
                    batch.full = true;
                    return false;
                }
                if batch.rows == 0 {
                    (batch.first, batch.oldest) = (seq, Some(event.received_at));
                }
                batch.rows += 1;
                batch.filed += u64::from(is_filed);
                batch.last = seq;
                seq
            }
        };
        batch.read = seq;
        batch.full = seq - after >= RECORDS_MAX;
        !batch.full
    })?;
    Ok(batch)
}

/// When the first record after `after` that is an event was received.
pub(crate) fn received_after(journal: &Journal, shard: u16, after: u64) -> Option<Timestamp> {
    let mut frames = journal
        .read(ShardId::new(shard), Seq::new(after + 1))
        .one_by_one();
    let frame = frames.next()?.ok()?;
    let skip = usize::try_from((after + 1).saturating_sub(frame.first().get())).ok()?;
    frame.records().skip(skip).find_map(record::received_at)
}
