//! One place by SQL: what changed, in one transaction with the offset that says so.
//!
//! Promises:
//! 1. Rows and offset are committed together or not at all; where to go on is read from the warehouse.
//! 2. Whatever leaves open whether a transaction was committed gives the session up: a new one reads the offset.
//! 3. A place that another writer has taken is not taken back while that writer shows any sign of life.
//! 4. A row that the warehouse refuses is looked for and written down with what it said, before the offset passes it.
//! 5. Nothing is asked of the warehouse when nothing is new, so that it may sleep; places are written at the same times,
//!    so that it wakes once for all.
//!
//! Knows nothing of when its turn is.

mod failing;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gemba_cluster::ShardId;
use tracing::{error, warn};

use super::{
    Session,
    events::{insert_of, letter_of},
    offsets::{Offset, OffsetRow},
    twins::{Changed, TwinReader, Written},
};
use crate::{
    checkpoint::{
        Shared,
        batch::{Batch, collect},
        client::Fault,
        dead, metric_names as names,
        place::{Kept, Place},
        rows::Table,
        source::Source,
        view::{ChannelState, ChannelView},
    },
    clock,
    history::FileError,
};

/// After this time a session is made anew: long before its token ends.
const SESSION_MAX: Duration = Duration::from_secs(20 * 60);
/// Bytes of lines in a statement: with what is escaped they stay under 1 MB.
const LINES_MAX: usize = 700_000;
/// More rows than a statement holds.
const ROWS_MAX: u64 = 100_000;

struct Open {
    session: Session,
    offset: Offset,
    since: Instant,
}

/// Another writer has the place.
struct Fence {
    seen: Option<Offset>,
    since: Instant,
    alive: bool,
}

/// One place.
pub(crate) struct SqlLane {
    place: Place,
    row: OffsetRow,
    kept: Kept,
    saved: Kept,
    open: Option<Open>,
    source: Source,
    /// The epoch that this lane has taken.
    held: Option<u64>,
    fence: Option<Fence>,
    reason: &'static str,
    failures: u32,
    due: Instant,
    /// How many rows are tried at once, while one that is refused is looked for.
    rows_max: Option<u64>,
    rows_sent: u64,
    bytes_sent: u64,
    view: Arc<Mutex<ChannelView>>,
}

impl SqlLane {
    /// A place as it was left.
    pub(in crate::checkpoint) fn load(
        shared: &Shared,
        place: Place,
        view: &Arc<Mutex<ChannelView>>,
    ) -> Result<Self, FileError> {
        let kept = Kept::load(&shared.root, &place)?;
        let mut lane = Self {
            row: OffsetRow::new(
                &shared.settings.sql_schema(),
                &place,
                &shared.settings.channel_prefix,
            ),
            saved: kept.clone(),
            kept,
            place,
            open: None,
            source: Source::default(),
            held: None,
            fence: None,
            reason: "start",
            failures: 0,
            due: clock::instant(),
            rows_max: None,
            rows_sent: 0,
            bytes_sent: 0,
            view: view.clone(),
        };
        lane.show(ChannelState::Starting, None);
        Ok(lane)
    }

    /// How it stands.
    pub(crate) fn view(&self) -> Arc<Mutex<ChannelView>> {
        self.view.clone()
    }

    /// Lets go of the place: another node writes it, or did meanwhile.
    pub(in crate::checkpoint) fn stand_by(&mut self) {
        (self.open, self.held, self.fence) = (None, None, None);
        (self.reason, self.failures, self.due) = ("owner", 0, clock::instant());
        self.show(ChannelState::Standby, None);
    }

    /// Does what there is to do with the events up to `until`; answers when to come again.
    pub(crate) fn turn(&mut self, shared: &Shared, until: u64, twins: &TwinReader) -> Duration {
        let now = clock::instant();
        if self.due > now {
            return self.due - now;
        }
        // Once after the start it is asked all the same: what is kept here is not the truth.
        let idle = self.held.is_some() && until <= self.kept.clear_to && self.failures == 0;
        if self.fence.is_none() && idle {
            return self.next_round(shared);
        }
        if let Err(wait) = shared.statements.allows(now) {
            self.show(ChannelState::Waiting, None);
            return wait;
        }
        let done = match (&self.fence, &self.open) {
            (Some(_), _) => self.watch(shared),
            (None, None) => self.open(shared),
            (None, Some(_)) => self.write(shared, until, twins),
        };
        match &done {
            Err(Fault::Unknown(_)) => shared.statements.failed(clock::instant()),
            _ => shared.statements.succeeded(),
        }
        match done {
            Ok(Some(wait)) => {
                self.failures = 0;
                wait
            }
            Ok(None) => {
                self.failures = 0;
                self.next_round(shared)
            }
            Err(fault) => self.suffer(shared, fault),
        }
    }

    /// Waits for the next of the times at which all places are written.
    fn next_round(&mut self, shared: &Shared) -> Duration {
        let every = shared.settings.sql_every.max(Duration::from_millis(100));
        let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        let past = clock::now().ms().rem_euclid(every_ms);
        let wait = Duration::from_millis((every_ms - past).unsigned_abs());
        self.due = clock::instant() + wait;
        wait
    }

    fn session(&self, shared: &Shared) -> Result<Session, Fault> {
        // The views of costs share statements out by it.
        let tag = format!("gemba/{}/{}", self.place.tenant, self.place.shard);
        Session::new(&shared.settings, tag, false).map_err(Fault::Refused)
    }

    /// Takes the place and finds where to go on.
    fn open(&mut self, shared: &Shared) -> Result<Option<Duration>, Fault> {
        let session = self.session(shared)?;
        let newest = shared.journal.last_seq(ShardId::new(self.place.shard)).get();
        // Taking it fences whoever has it: not where this journal could not go on from there.
        if let Some(before) = self.row.read(&session)?
            && before.last_seq > newest
        {
            session.close();
            return Ok(Some(self.ahead(shared, before.last_seq, newest)));
        }
        let offset = self.row.take(&session, self.held, clock::now())?;
        metrics::counter!(names::REOPENS, "reason" => self.reason).increment(1);
        let reason = self.reason;
        self.edit(|view| *view.reopens.entry(reason).or_default() += 1);
        self.held = Some(offset.epoch);
        if offset.last_seq < self.kept.committed {
            warn!(
                stream = self.place.table.word(),
                committed = offset.last_seq,
                before = self.kept.committed,
                "the warehouse has less than it said before (made anew?); what the journal holds is sent again"
            );
        }
        (self.kept.committed, self.kept.clear_to) = (offset.last_seq, offset.last_seq);
        self.open = Some(Open {
            session,
            offset,
            since: clock::instant(),
        });
        self.keep(shared)?;
        self.show(ChannelState::Running, None);
        Ok(Some(Duration::ZERO))
    }

    /// Writes what is new; `None` when there is nothing more for now.
    fn write(&mut self, shared: &Shared, until: u64, twins: &TwinReader) -> Result<Option<Duration>, Fault> {
        let Some(open) = &self.open else {
            return Ok(Some(Duration::ZERO));
        };
        if open.since.elapsed() > SESSION_MAX {
            self.give_up("aged");
            return Ok(Some(Duration::ZERO));
        }
        // Where it was opened, and past what has been looked at since and is nobody's row.
        let after = self.kept.clear_to;
        if until <= after {
            return Ok(None);
        }
        match self.place.table {
            Table::Twins => self.write_twins(shared, after, until, twins),
            Table::Readings | Table::Scans => self.write_events(shared, after, until),
        }
    }

    fn write_twins(
        &mut self,
        shared: &Shared,
        after: u64,
        until: u64,
        twins: &TwinReader,
    ) -> Result<Option<Duration>, Fault> {
        let since = self
            .open
            .as_ref()
            .map_or_else(clock::now, |open| open.offset.updated);
        let changed = Changed::find(shared, &self.place, after, until, since);
        let changed = changed.map_err(Fault::Refused)?;
        if let Some(gap) = changed.gap {
            self.note_missing(gap);
        }
        let (place, to, every) = (self.place.clone(), changed.to, shared.settings.sql_every);
        let schema = shared.settings.sql_schema();
        self.commit(shared, to, &mut |session| {
            changed.write(session, &place, &schema, clock::now(), every, twins)
        })?;
        Ok((to < until).then_some(Duration::ZERO))
    }

    fn write_events(&mut self, shared: &Shared, after: u64, until: u64) -> Result<Option<Duration>, Fault> {
        let (source, place) = (&mut self.source, &self.place);
        let batch = collect(source, shared, place, after, until, LINES_MAX);
        let mut batch = batch.map_err(Fault::Refused)?;
        batch.missing.iter().for_each(|range| self.note_missing(*range));
        if let Some(rows) = self.rows_max {
            batch.cut(rows);
        }
        if batch.rows == 0 && !batch.full {
            // Nobody's row: the offset goes on with the next one.
            self.kept.clear_to = batch.read;
            self.keep(shared)?;
            self.show(ChannelState::Running, None);
            return Ok(None);
        }
        let statement = insert_of(self.place.table, &shared.settings.sql_schema(), &batch.bytes)?;
        let done = self.commit(shared, batch.read, &mut |session| {
            let Some(statement) = &statement else {
                return Ok(Written::default());
            };
            let rows = session.change(statement)?;
            if rows != batch.rows {
                return Err(Fault::Refused(format!(
                    "{rows} rows were inserted, not {}",
                    batch.rows
                )));
            }
            Ok(Written {
                rows,
                bytes: batch.bytes.len() as u64,
            })
        });
        match done {
            Ok(()) => self.rows_max = self.rows_max.map(|rows| rows * 2).filter(|rows| *rows < ROWS_MAX),
            Err(Fault::Refused(says)) if is_of_a_row(&says) && batch.rows > 1 => {
                // One of them is it: fewer are tried until it stands alone.
                self.roll_back()?;
                self.rows_max = Some(batch.rows / 2);
                return Ok(Some(Duration::ZERO));
            }
            Err(Fault::Refused(says)) if is_of_a_row(&says) && batch.rows == 1 => {
                self.roll_back()?;
                self.set_aside(shared, &batch, &says)?;
            }
            Err(fault) => return Err(fault),
        }
        Ok(batch.full.then_some(Duration::ZERO))
    }

    fn roll_back(&self) -> Result<(), Fault> {
        match &self.open {
            Some(open) => open.session.run("ROLLBACK").map(drop),
            None => Ok(()),
        }
    }

    /// Writes down a row that the warehouse refuses, here and there, and goes past it.
    fn set_aside(&mut self, shared: &Shared, batch: &Batch, says: &str) -> Result<(), Fault> {
        let seq = batch.last;
        let written = dead::write(shared, &self.place, seq - 1, seq, 1, says).map_err(Fault::Refused)?;
        error!(
            stream = self.place.table.word(),
            shard = self.place.shard,
            seq,
            says,
            "the warehouse refused a row; it is in {}",
            written.display()
        );
        let letter = letter_of(
            &self.place,
            &shared.settings.sql_schema(),
            seq,
            says,
            &batch.bytes,
            clock::now(),
        );
        self.commit(shared, batch.read, &mut |session| {
            session.run(&letter)?;
            Ok(Written::default())
        })?;
        metrics::counter!(names::DEAD_LETTERS, "table" => self.place.table.word()).increment(1);
        self.kept.dead_letters += 1;
        self.keep(shared)
    }

    /// Commits what `work` writes together with the offset `to`.
    fn commit(
        &mut self,
        shared: &Shared,
        to: u64,
        work: &mut dyn FnMut(&Session) -> Result<Written, Fault>,
    ) -> Result<(), Fault> {
        let Some(Open { session, offset, .. }) = &mut self.open else {
            return Err(Fault::Reopen("there is no session".into()));
        };
        let now = clock::now();
        session.run("BEGIN")?;
        // First the offset: whoever holds its lock is the only one who writes.
        if !self.row.advance(session, *offset, to, now)? {
            session.run("ROLLBACK")?;
            let found = self.row.read(session)?;
            return match found {
                Some(found) if found.epoch == offset.epoch => {
                    Err(Fault::Reopen(format!("the offset is {} already", found.last_seq)))
                }
                _ => Err(Fault::Stale(format!(
                    "the epoch is not {} any more",
                    offset.epoch
                ))),
            };
        }
        let written = work(session)?;
        session.run("COMMIT")?;
        (offset.last_seq, offset.updated) = (to, now);
        (self.kept.committed, self.kept.clear_to) = (to, to);
        self.rows_sent += written.rows;
        self.bytes_sent += written.bytes;
        let table = self.place.table.word();
        metrics::counter!(names::COMMITS, "table" => table).increment(1);
        metrics::counter!(names::ROWS_SENT, "table" => table).increment(written.rows);
        metrics::counter!(names::ROWS_COMMITTED, "table" => table).increment(written.rows);
        metrics::counter!(names::BYTES_SENT, "table" => table).increment(written.bytes);
        self.edit(|view| {
            view.rows_committed += written.rows;
            view.committed_at = Some(now);
        });
        self.keep(shared)?;
        self.show(ChannelState::Running, None);
        Ok(())
    }

    fn keep(&mut self, shared: &Shared) -> Result<(), Fault> {
        if self.kept != self.saved {
            self.kept
                .save(&shared.root, &self.place)
                .map_err(|error| Fault::Refused(error.to_string()))?;
            self.saved = self.kept.clone();
        }
        Ok(())
    }

    fn show(&mut self, state: ChannelState, says: Option<String>) {
        let row_bytes = self.bytes_sent as f64 / self.rows_sent.max(1) as f64;
        self.edit(|view| {
            view.stand(state, &self.kept, self.kept.clear_to, says);
            view.row_bytes = row_bytes;
        });
    }

    fn edit<T>(&self, change: impl FnOnce(&mut ChannelView) -> T) -> T {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether an error is about a value of a row: those of 100000 and above are, e.g. 100078 for a text that is too long.
pub(crate) fn is_of_a_row(says: &str) -> bool {
    says.starts_with("100") && says.bytes().take(6).all(|byte| byte.is_ascii_digit())
}
