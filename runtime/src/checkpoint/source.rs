//! The events of a place in the order of their seqs: out of its shard's journal, and out of the history's files where the
//! journal has given them up.
//!
//! Promises: whoever reads sees no difference between the two; seqs that neither holds are named. What is read from files
//! is bounded and kept until it is passed, so that a file is not read again for each request. Knows nothing of where
//! events go.

use gemba_cluster::{Seq, ShardId};
use gemba_twins::{event::Event, time::Timestamp};

use super::{Shared, place::Place, rows::Table};
use crate::{
    history::{Chunk, Filed, FiledEvents, Held},
    shard::record::{self, Record},
};

/// Bytes of events read from files at once: some requests' worth.
const CHUNK_BYTES: usize = 8 << 20;

/// Reads the events of a place.
#[derive(Default)]
pub(super) struct Source {
    chunk: Option<Chunk>,
}

/// What is handed out.
pub(super) enum Found<'a> {
    /// A row of the place, and whether it was read from a file.
    Row(u64, &'a Event, bool),
    /// Up to this seq there is nothing more.
    Nothing(u64),
    /// Neither the journal nor the files hold these.
    Missing(u64, u64),
}

impl Source {
    /// Hands out what there is after `after` up to `until`, in order, until `take` answers false.
    pub(super) fn each(
        &mut self,
        shared: &Shared,
        place: &Place,
        after: u64,
        until: u64,
        take: &mut dyn FnMut(Found<'_>) -> bool,
    ) -> Result<(), String> {
        let until = until.min(shared.journal.last_seq(ShardId::new(place.shard)).get());
        let mut next = after + 1;
        while next <= until {
            let Some(gap) = journaled(shared, place, &mut next, until, take)? else {
                return Ok(());
            };
            if !self.filed(shared, place, &mut next, gap, take)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hands out what the files hold from `next` to `last`; whether to go on after it.
    fn filed(
        &mut self,
        shared: &Shared,
        place: &Place,
        next: &mut u64,
        last: u64,
        take: &mut dyn FnMut(Found<'_>) -> bool,
    ) -> Result<bool, String> {
        let filed = match &shared.history {
            Some(root) => Some(Filed::load(root, place.shard).map_err(|error| error.to_string())?),
            None => None,
        };
        while *next <= last {
            let held = filed
                .as_ref()
                .map_or(Held::Never(last), |filed| filed.held(*next, last));
            let goes_on = match held {
                Held::Here(to) => self.chunked(shared, place, next, to, take)?,
                Held::Never(to) => {
                    let missing = Found::Missing(*next, to);
                    *next = to + 1;
                    take(missing)
                }
                // The history's next turn settles whether the files will hold it.
                Held::NotYet => false,
            };
            if !goes_on {
                return Ok(false);
            }
        }
        self.chunk = None;
        Ok(true)
    }

    fn chunked(
        &mut self,
        shared: &Shared,
        place: &Place,
        next: &mut u64,
        to: u64,
        take: &mut dyn FnMut(Found<'_>) -> bool,
    ) -> Result<bool, String> {
        let is_there = |chunk: &Chunk| chunk.first <= *next && *next <= chunk.last;
        let chunk = match self.chunk.take().filter(is_there) {
            Some(chunk) => chunk,
            None => {
                let files = files(shared, place).ok_or("there is no history")?;
                files
                    .chunk(*next, to, CHUNK_BYTES)
                    .map_err(|error| error.to_string())?
            }
        };
        let last = chunk.last.min(to);
        for (seq, event) in chunk.events.range(*next..=last) {
            if !take(Found::Row(*seq, event, true)) {
                self.chunk = Some(chunk);
                return Ok(false);
            }
            *next = seq + 1;
        }
        *next = last + 1;
        self.chunk = Some(chunk);
        Ok(take(Found::Nothing(last)))
    }
}

/// Hands out what the journal holds from `next` on; answers the last of the seqs that it has given up and that come next.
pub(super) fn journaled(
    shared: &Shared,
    place: &Place,
    next: &mut u64,
    until: u64,
    take: &mut dyn FnMut(Found<'_>) -> bool,
) -> Result<Option<u64>, String> {
    for frame in shared.journal.read(ShardId::new(place.shard), Seq::new(*next)) {
        let frame = frame.map_err(|error| error.to_string())?;
        // Seqs follow one another, so only what was given up leaves a gap.
        if frame.first().get() > *next {
            return Ok(Some(until.min(frame.first().get() - 1)));
        }
        for (seq, bytes) in (frame.first().get()..).zip(frame.records()) {
            if seq < *next {
                continue;
            }
            if seq > until {
                return Ok(None);
            }
            let event = event_of(bytes, place)?;
            let found = match &event {
                Some(event) => Found::Row(seq, event, false),
                None => Found::Nothing(seq),
            };
            if !take(found) {
                return Ok(None);
            }
            *next = seq + 1;
        }
    }
    Ok((*next <= until).then_some(until))
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

fn files<'a>(shared: &'a Shared, place: &'a Place) -> Option<FiledEvents<'a>> {
    Some(FiledEvents {
        root: shared.history.as_deref()?,
        tenant: &place.tenant,
        shard: place.shard,
        kind: place.table.word(),
    })
}

/// When the first event after `after` was received; of what only files hold, when the oldest of its file was.
pub(super) fn received_after(shared: &Shared, place: &Place, after: u64) -> Option<Timestamp> {
    let journaled = super::batch::received_after(&shared.journal, place.shard, after);
    let shard = ShardId::new(place.shard);
    let mut frames = shared.journal.read(shard, Seq::new(after + 1)).one_by_one();
    let is_gap = match frames.next() {
        Some(Ok(frame)) => frame.first().get() > after + 1,
        Some(Err(_)) => false,
        None => shared.journal.last_seq(shard).get() > after,
    };
    if !is_gap {
        return journaled;
    }
    // A file that cannot be read stops the channel, which says so.
    let filed = files(shared, place).and_then(|files| files.oldest_received(after).ok().flatten());
    filed.into_iter().chain(journaled).min()
}
