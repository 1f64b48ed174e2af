//! One channel: rows of a place on their way into its table, exactly once.
//!
//! Promises, by the rules of Snowpipe Streaming's named channels:
//! 1. It goes on only from the offset that the server says is committed; what it remembers itself is a cache.
//! 2. Whatever leaves open whether rows arrived (a time-out, a 5xx, a lost connection) gives the session up: the channel
//!    is opened again and the rows after the committed offset are sent again. Only 429 and 503 are tried in place.
//! 3. Rows that an earlier session sent are waited for before they are given up (`fail_on_uncommitted_rows`).
//! 4. A channel that another writer has taken is not taken back while that writer shows any sign of life.
//! 5. Rows that the server dropped are written down with what it said, before the offset that passes them is kept.
//!
//! Knows nothing of when its turn is.

mod failing;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gemba_cluster::ShardId;
use tracing::{error, warn};

use super::{
    Shared,
    batch::{Batch, collect},
    client::{ChannelStatus, Fault, Opened, gzip},
    dead, metric_names as names,
    place::{Kept, Place},
    source::Source,
    view::{ChannelState, ChannelView},
};
use crate::{clock, history::FileError};

/// Shortest time between two requests of a channel: ten a second are allowed.
const REQUEST_GAP: Duration = Duration::from_millis(105);
/// How often the server is asked what it has committed.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How often what is kept is written while all goes well.
const KEEP_EVERY: Duration = Duration::from_secs(10);

struct Flying {
    first: u64,
    last: u64,
    rows: u64,
}

/// An open channel.
struct Session {
    token: String,
    /// Up to this seq everything was looked at, and sent where it is a row.
    read: u64,
    flying: VecDeque<Flying>,
    polled_at: Instant,
    /// Since when nothing was committed although something flies.
    stalled_at: Instant,
}

/// Another writer has the channel.
struct Fence {
    committed: u64,
    since: Instant,
    /// It has written something.
    alive: bool,
}

/// One channel.
pub(crate) struct Lane {
    place: Place,
    pipe: String,
    channel: String,
    kept: Kept,
    /// What stands on the disk.
    saved: Kept,
    saved_at: Instant,
    session: Option<Session>,
    source: Source,
    fence: Option<Fence>,
    /// Since when rows of an earlier session are waited for.
    careful_since: Option<Instant>,
    /// Why it is opened next.
    reason: &'static str,
    failures: u32,
    next_append: Instant,
    rows_sent: u64,
    bytes_sent: u64,
    view: Arc<Mutex<ChannelView>>,
}

impl Lane {
    /// A channel as it was left.
    pub(super) fn load(
        shared: &Shared,
        place: Place,
        view: &Arc<Mutex<ChannelView>>,
    ) -> Result<Self, FileError> {
        let now = clock::instant();
        let kept = Kept::load(&shared.root, &place)?;
        let mut lane = Self {
            pipe: place.table.pipe(),
            channel: place.channel(&shared.settings.channel_prefix),
            saved: kept.clone(),
            kept,
            place,
            saved_at: now,
            session: None,
            source: Source::default(),
            fence: None,
            careful_since: None,
            reason: "start",
            failures: 0,
            next_append: now,
            rows_sent: 0,
            bytes_sent: 0,
            view: view.clone(),
        };
        lane.show(ChannelState::Starting, None);
        Ok(lane)
    }

    /// How it stands.
    pub(super) fn view(&self) -> Arc<Mutex<ChannelView>> {
        self.view.clone()
    }

    /// Lets go of the channel: another node writes to it, or did meanwhile.
    pub(super) fn stand_by(&mut self) {
        (self.session, self.fence, self.careful_since) = (None, None, None);
        (self.reason, self.failures) = ("owner", 0);
        self.show(ChannelState::Standby, None);
    }

    /// Does what there is to do with the events up to `until`; answers when to come again.
    pub(super) fn turn(&mut self, shared: &Shared, until: u64) -> Duration {
        let done = match (&self.fence, &self.session) {
            (Some(_), _) => self.watch(shared),
            (None, None) => self.open(shared),
            (None, Some(_)) => self.go_on(shared, until),
        };
        match done {
            Ok(wait) => {
                self.failures = 0;
                wait
            }
            Err(fault) => self.suffer(shared, fault),
        }
    }

    /// Opens the channel and finds where to go on.
    fn open(&mut self, shared: &Shared) -> Result<Duration, Fault> {
        let newest = shared.journal.last_seq(ShardId::new(self.place.shard)).get();
        // Opening fences whoever has the channel: not where this journal could not go on from there.
        if let Some(status) = shared.client.status(&self.pipe, &self.channel)?
            && status.committed()? > newest
        {
            return Ok(self.ahead(shared, status.committed()?, newest));
        }
        let waited = self.careful_since.map(|since| since.elapsed());
        let careful = waited.is_none_or(|waited| waited < shared.settings.uncommitted_wait);
        let opened = shared.client.open(&self.pipe, &self.channel, careful)?;
        if !careful {
            warn!(channel = %self.channel, table = self.place.table.name(), "rows of an earlier session were given up; they are sent again");
        }
        self.careful_since = None;
        let committed = opened.channel_status.committed()?;
        if committed > newest {
            return Ok(self.ahead(shared, committed, newest));
        }
        self.begin(shared, opened, committed)
    }

    fn begin(&mut self, shared: &Shared, opened: Opened, committed: u64) -> Result<Duration, Fault> {
        let now = clock::instant();
        metrics::counter!(names::REOPENS, "reason" => self.reason).increment(1);
        self.edit(|view| *view.reopens.entry(self.reason).or_default() += 1);
        if self.kept == Kept::default() {
            // Nothing is known of this channel: what was refused before was somebody's to write down then.
            self.kept.errors = opened.channel_status.errors();
        }
        if committed < self.kept.committed {
            warn!(
                channel = %self.channel, table = self.place.table.name(), committed, before = self.kept.committed,
                "the warehouse has less than it said before (table or channel made anew?); what the journal holds is sent again"
            );
            (self.kept.committed, self.kept.clear_to) = (committed, committed);
            self.kept.errors = opened.channel_status.errors();
        }
        self.took(shared, &opened.channel_status, committed)?;
        self.kept.clear_to = self.kept.clear_to.max(committed);
        self.session = Some(Session {
            token: opened.next_continuation_token,
            read: self.kept.clear_to,
            flying: VecDeque::new(),
            polled_at: now,
            stalled_at: now,
        });
        self.keep(shared, true)?;
        self.show(ChannelState::Running, None);
        Ok(Duration::ZERO)
    }

    /// Asks what is committed, and sends what is next.
    fn go_on(&mut self, shared: &Shared, until: u64) -> Result<Duration, Fault> {
        let now = clock::instant();
        let settings = &shared.settings;
        let poll_every = POLL_EVERY.min(settings.flush_every.max(Duration::from_millis(20)));
        let due = |session: &Session| session.polled_at.elapsed() >= poll_every && !session.flying.is_empty();
        if self.session.as_ref().is_some_and(due) {
            self.poll(shared)?;
        }
        let Some(session) = &self.session else {
            return Ok(Duration::ZERO);
        };
        let has_room = session.flying.len() < settings.window_batches;
        let mut wait = settings.flush_every;
        if has_room && session.read < until && self.next_append <= now {
            shared.client.may_ask()?;
            let (source, place) = (&mut self.source, &self.place);
            let batch = collect(source, shared, place, session.read, until, settings.batch_bytes);
            let batch = batch.map_err(Fault::Refused)?;
            if !batch.missing.is_empty() {
                batch.missing.iter().for_each(|range| self.note_missing(*range));
                self.keep(shared, true)?;
            }
            let full = batch.full;
            self.append(shared, batch)?;
            if full {
                wait = self.next_append.saturating_duration_since(clock::instant());
            }
        } else if has_room && session.read < until {
            wait = self.next_append - now;
        }
        if self
            .session
            .as_ref()
            .is_some_and(|session| !session.flying.is_empty())
        {
            wait = wait.min(poll_every);
        }
        self.keep(shared, false)?;
        Ok(wait)
    }

    /// Names seqs that the journal gave up before they were sent, and that no file holds.
    fn note_missing(&mut self, (first, last): (u64, u64)) {
        let missing = &mut self.kept.missing;
        if missing.iter().any(|known| known.0 <= first && last <= known.1) {
            return;
        }
        error!(
            channel = %self.channel, table = self.place.table.name(), from = first, to = last,
            "the journal gave these up before they were sent, and no file of the history holds them"
        );
        match missing.last_mut() {
            Some(known) if known.1 + 1 == first => known.1 = last,
            _ => missing.push((first, last)),
        }
    }

    fn append(&mut self, shared: &Shared, batch: Batch) -> Result<(), Fault> {
        let now = clock::instant();
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        if batch.rows > 0 {
            let compressed = gzip(&batch.bytes);
            let seqs = (batch.first, batch.last);
            let token = &session.token;
            session.token = shared
                .client
                .append(&self.pipe, &self.channel, token, seqs, &compressed)?;
            if session.flying.is_empty() {
                (session.stalled_at, session.polled_at) = (now, now);
            }
            session.flying.push_back(Flying {
                first: batch.first,
                last: batch.last,
                rows: batch.rows,
            });
            let bytes = batch.bytes.len() as u64;
            self.rows_sent += batch.rows;
            self.bytes_sent += bytes;
            let table = self.place.table.word();
            metrics::counter!(names::ROWS_SENT, "table" => table).increment(batch.rows);
            metrics::counter!(names::ROWS_FILED, "table" => table).increment(batch.filed);
            metrics::counter!(names::BYTES_SENT, "table" => table).increment(bytes);
            metrics::counter!(names::BYTES_ON_WIRE, "table" => table).increment(compressed.len() as u64);
            metrics::gauge!(names::CREDITS).increment(bytes as f64 / 1e9 * shared.settings.credits_per_gb);
            let by_rate =
                Duration::from_secs_f64(bytes as f64 / shared.settings.channel_bytes_per_s.max(1) as f64);
            self.next_append = now + by_rate.max(REQUEST_GAP);
        }
        session.read = batch.read;
        if session.flying.is_empty() {
            self.kept.clear_to = batch.read;
        }
        self.show(ChannelState::Running, None);
        Ok(())
    }

    fn poll(&mut self, shared: &Shared) -> Result<(), Fault> {
        let status = shared.client.status(&self.pipe, &self.channel)?;
        let Some(status) = status else {
            return Err(Fault::Reopen("gone".into()));
        };
        let committed = status.committed()?;
        if committed < self.kept.committed {
            return Err(Fault::Reopen("went_back".into()));
        }
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        session.polled_at = clock::instant();
        let sent = session.flying.back().map_or(session.read, |newest| newest.last);
        if committed > sent.max(session.read) {
            return Err(Fault::Stale(format!("offset {committed} is not this node's")));
        }
        if committed > self.kept.committed {
            session.stalled_at = clock::instant();
            let mut rows = 0;
            while session
                .flying
                .front()
                .is_some_and(|oldest| oldest.last <= committed)
            {
                rows += session.flying.pop_front().map_or(0, |flown| flown.rows);
            }
            let clear_to = session
                .flying
                .front()
                .map_or(session.read, |oldest| oldest.first - 1);
            let table = self.place.table.word();
            metrics::counter!(names::COMMITS, "table" => table).increment(1);
            metrics::counter!(names::ROWS_COMMITTED, "table" => table).increment(rows);
            self.took(shared, &status, committed)?;
            self.kept.clear_to = clear_to;
            self.edit(|view| {
                view.rows_committed += rows;
                view.committed_at = Some(clock::now());
            });
            self.show(ChannelState::Running, None);
        } else if session.stalled_at.elapsed() > shared.settings.uncommitted_wait {
            return Err(Fault::Reopen("stalled".into()));
        }
        Ok(())
    }

    /// Notes what is committed; rows that were refused on the way are written down first.
    fn took(&mut self, shared: &Shared, status: &ChannelStatus, committed: u64) -> Result<(), Fault> {
        let errors = status.errors();
        if errors < self.kept.errors {
            // The count began anew with the channel.
            self.kept.errors = 0;
        }
        if errors > self.kept.errors {
            let refused = errors - self.kept.errors;
            let last = status.error_bound().unwrap_or(committed).min(committed);
            let said = status
                .last_error_message
                .as_deref()
                .unwrap_or("no reason was given");
            let written = dead::write(shared, &self.place, self.kept.committed, last, refused, said);
            let written = written.map_err(Fault::Refused)?;
            error!(
                channel = %self.channel, table = self.place.table.name(), rows = refused, after = self.kept.committed, last, said,
                "the warehouse refused rows; they are in {}", written.display()
            );
            metrics::counter!(names::DEAD_LETTERS, "table" => self.place.table.word()).increment(refused);
            (self.kept.errors, self.kept.committed) = (errors, committed);
            self.kept.dead_letters += refused;
            self.keep(shared, true)?;
        }
        self.kept.committed = committed;
        Ok(())
    }

    /// Writes down what is kept, now or when it is time.
    fn keep(&mut self, shared: &Shared, now: bool) -> Result<(), Fault> {
        if self.kept != self.saved && (now || self.saved_at.elapsed() >= KEEP_EVERY) {
            self.kept
                .save(&shared.root, &self.place)
                .map_err(|error| Fault::Refused(error.to_string()))?;
            (self.saved, self.saved_at) = (self.kept.clone(), clock::instant());
        }
        Ok(())
    }

    fn show(&mut self, state: ChannelState, says: Option<String>) {
        let sent = self
            .session
            .as_ref()
            .map_or(self.kept.clear_to, |session| session.read);
        let row_bytes = self.bytes_sent as f64 / self.rows_sent.max(1) as f64;
        self.edit(|view| {
            view.stand(state, &self.kept, sent, says);
            view.row_bytes = row_bytes;
        });
    }

    fn edit<T>(&self, change: impl FnOnce(&mut ChannelView) -> T) -> T {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
