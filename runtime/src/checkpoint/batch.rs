//! Rows of a place out of its shard's journal.
//!
//! Promises: rows come in the order of their seqs, each once; a batch ends before it is larger than was asked, and the
//! reading after a bounded number of records, so that a turn is short. Knows nothing of where rows go.

use gemba_cluster::{Journal, Seq, ShardId};
use gemba_twins::{event::Event, time::Timestamp};

use super::{
    place::Place,
    rows::{Table, push_line},
};
use crate::shard::record::{self, Record};

/// Records looked at in one go.
const RECORDS_MAX: u64 = 100_000;

/// Rows on their way.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// NDJSON.
    pub(super) bytes: Vec<u8>,
    pub(super) rows: u64,
    /// The seqs of the first and last row.
    pub(super) first: u64,
    pub(super) last: u64,
    /// When the oldest row was received.
    pub(super) oldest: Option<Timestamp>,
    /// Up to this seq everything was looked at.
    pub(super) read: u64,
    /// There may be more.
    pub(super) full: bool,
    /// Seqs that the journal does not hold any more.
    pub(super) gap: Option<(u64, u64)>,
}

/// The rows of a place after `after`, up to `until`, of about `bytes_max` bytes.
pub(super) fn collect(
    journal: &Journal,
    place: &Place,
    after: u64,
    until: u64,
    bytes_max: usize,
) -> Result<Batch, String> {
    let mut batch = Batch {
        read: after,
        ..Batch::default()
    };
    each_event(journal, place, after, until, &mut |seq, event| {
        // Seqs follow one another, so only what was given up leaves a gap.
        if seq > batch.read + 1 {
            batch.gap = Some((batch.read + 1, seq - 1));
        }
        if let Some(event) = event {
            let before = batch.bytes.len();
            push_line(&mut batch.bytes, place.shard, seq, &event);
            if before > 0 && batch.bytes.len() > bytes_max {
                batch.bytes.truncate(before);
                batch.full = true;
                return false;
            }
            if batch.rows == 0 {
                (batch.first, batch.oldest) = (seq, Some(event.received_at));
            }
            batch.rows += 1;
            batch.last = seq;
        }
        batch.read = seq;
        batch.full = seq - after >= RECORDS_MAX;
        !batch.full
    })?;
    Ok(batch)
}

/// Hands out the seqs after `after` up to `until`, each with its event where it is a row of the place, until `take`
/// answers false.
pub(super) fn each_event(
    journal: &Journal,
    place: &Place,
    after: u64,
    until: u64,
    take: &mut dyn FnMut(u64, Option<Event>) -> bool,
) -> Result<(), String> {
    for frame in journal.read(ShardId::new(place.shard), Seq::new(after + 1)) {
        let frame = frame.map_err(|error| error.to_string())?;
        for (seq, bytes) in (frame.first().get()..).zip(frame.records()) {
            if seq <= after {
                continue;
            }
            if seq > until {
                return Ok(());
            }
            if !take(seq, event_of(bytes, place)?) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The event of a record, where it is a row of the place.
fn event_of(bytes: &[u8], place: &Place) -> Result<Option<Event>, String> {
    let ours = record::peek_twin(bytes).is_some_and(|(tenant, kind, _)| {
        tenant == place.tenant.as_str() && Table::may_hold(place.table, kind)
    });
    if !ours {
        return Ok(None);
    }
    match record::decode(bytes).map_err(|error| error.to_string())? {
        Record::Event(event) if place.table.holds(&event) => Ok(Some(event)),
        _ => Ok(None),
    }
}

/// When the first record after `after` that is an event was received.
pub(crate) fn received_after(journal: &Journal, shard: u16, after: u64) -> Option<Timestamp> {
    let mut frames = journal.read(ShardId::new(shard), Seq::new(after + 1));
    let frame = frames.next()?.ok()?;
    let skip = usize::try_from((after + 1).saturating_sub(frame.first().get())).ok()?;
    frame.records().skip(skip).find_map(record::received_at)
}
