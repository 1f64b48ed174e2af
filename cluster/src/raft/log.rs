//! A group's log as openraft sees it, over the journal.
//!
//! Promises: what was appended can be read at once, and is reported when it is on disk; the owner's records get their
//! seqs here, a follower's frame has to stand where it says. The last entries are kept in memory, so that replication
//! and the state machine seldom read the disk. Knows nothing of what the records mean.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use openraft::{
    EntryPayload, LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use tokio::sync::oneshot;

use super::{
    Batch, Kind, LogId, RaftEntry, Vote,
    ballots::Ballots,
    wire::{log_id, place, raft_entry, write_members},
};
use crate::{Answered, AppendError, Entry, Epoch, Journal, LogBase, LogPlace, Said, Seq, ShardId, Turns};

/// Most bytes of flushed entries that are kept in memory.
const TAIL_BYTES: usize = 4 << 20;
/// Most bytes of entries that go out in one message, but at least one entry.
const READ_BYTES: usize = 1 << 20;

/// The end of a log.
#[derive(Default)]
struct Tail {
    entries: VecDeque<Entry>,
    bytes: usize,
    last: Option<LogPlace>,
    last_seq: u64,
    /// What raft has asked to purge; the journal keeps whole segments and may hold more.
    purged: Option<LogPlace>,
}

/// What the store and the state machine of a group share.
pub(crate) struct Shared {
    pub(crate) shard: ShardId,
    pub(crate) journal: Journal,
    pub(crate) ballots: Arc<Ballots>,
    tail: Mutex<Tail>,
    /// One past the index of the last entry that is on disk.
    flushed: AtomicU64,
    vote: Mutex<Option<Vote>>,
    /// How far the state machine has come.
    pub(crate) applied: Mutex<LogBase>,
}

impl Shared {
    /// Takes up a group's log where the journal has it.
    pub(crate) fn open(
        shard: ShardId,
        journal: Journal,
        ballots: Arc<Ballots>,
        applied: LogBase,
    ) -> io::Result<Arc<Self>> {
        let vote = ballots.vote(shard)?.map(Vote::from);
        let shared = Self {
            shard,
            journal,
            ballots,
            tail: Mutex::default(),
            flushed: AtomicU64::new(0),
            vote: Mutex::new(vote),
            applied: Mutex::new(applied),
        };
        shared.take_up();
        Ok(Arc::new(shared))
    }

    /// Reads from the journal where the log ends.
    fn take_up(&self) {
        let log = self.journal.log(self.shard).unwrap_or_default();
        let mut tail = self.tail();
        tail.last = log.last;
        tail.last_seq = self.journal.last_seq(self.shard).get();
        self.flushed.store(log.next_index(), Ordering::Release);
    }

    /// Begins the log anew where the state came by a snapshot that the log does not lead to.
    pub(crate) async fn mend(&self) -> io::Result<()> {
        let (base, log) = (self.applied(), self.journal.log(self.shard).unwrap_or_default());
        let Some(at) = base.place else { return Ok(()) };
        let known = log.base.place == Some(at)
            || (log.last >= Some(at)
                && self
                    .journal
                    .row_at(self.shard, at.index)
                    .is_ok_and(|row| row.is_some_and(|row| row.0 == at)));
        if known {
            return Ok(());
        }
        tracing::info!(shard = %self.shard, seq = base.seq, "the log goes on after a snapshot");
        let shard = self.shard;
        self.change(|journal, done| {
            journal.reset_log(shard, base, done);
            if journal.turns() == Turns::ByHand {
                journal.turn();
            }
        })
        .await?;
        self.take_up();
        Ok(())
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn vote(&self) -> Option<Vote> {
        *self.vote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn applied(&self) -> LogBase {
        self.applied
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Does what blocks: on a thread for it, or here where the journal is worked by hand.
    pub(crate) async fn blocking<R: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&Self) -> io::Result<R> + Send + 'static,
    ) -> io::Result<R> {
        match self.journal.turns() {
            Turns::ByHand => act(self),
            Turns::Thread => {
                let shared = self.clone();
                tokio::task::spawn_blocking(move || act(&shared))
                    .await
                    .map_err(io::Error::other)?
            }
        }
    }

    /// Waits for the journal to change the log.
    async fn change(&self, ask: impl FnOnce(&Journal, Answered)) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        ask(
            &self.journal,
            // Whoever gave up does not need the answer.
            Box::new(move |result| drop(answer.send(result))),
        );
        answered
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)
    }

    /// The entries of a range, up to a number of bytes.
    async fn read(self: &Arc<Self>, from: u64, until: u64, bytes: usize) -> io::Result<Vec<Entry>> {
        let (mut kept, held_from) = {
            let tail = self.tail();
            let held_from = tail.entries.front().map_or(u64::MAX, |entry| entry.place.index);
            let from = from.max(held_from);
            let (mut kept, mut left) = (Vec::new(), bytes);
            let skipped = usize::try_from(from - held_from).unwrap_or(usize::MAX);
            for entry in tail.entries.iter().skip(skipped) {
                if left == 0 || entry.place.index >= until {
                    break;
                }
                left = left.saturating_sub(entry.length());
                kept.push(entry.clone());
            }
            (kept, held_from)
        };
        if from >= held_from {
            return Ok(kept);
        }
        let until = until.min(held_from);
        let mut read = self
            .blocking(move |shared| {
                let read = shared.journal.read_entries(shared.shard, from, until, bytes);
                read.map_err(io::Error::other)
            })
            .await?;
        // A log may begin anywhere; what is evicted from the tail is on disk.
        let is_whole = read.last().is_none_or(|entry| entry.place.index + 1 == until);
        if is_whole && read.iter().map(Entry::length).sum::<usize>() < bytes {
            read.append(&mut kept);
        }
        Ok(read)
    }

    /// Puts entries at the end of the log; answers them with their frames at their places.
    fn push(&self, given: impl Iterator<Item = RaftEntry>) -> io::Result<Vec<Entry>> {
        let mut tail = self.tail();
        let mut pushed = Vec::new();
        for entry in given {
            let at = place(&entry.log_id);
            let said = match entry.payload {
                EntryPayload::Blank => Said::Blank,
                EntryPayload::Membership(members) => Said::Members(write_members(&members)),
                EntryPayload::Normal(Batch::Proposed(body)) => {
                    Said::Frame(body.place(self.shard, Seq::new(tail.last_seq + 1), Epoch::new(at.term)))
                }
                EntryPayload::Normal(Batch::Placed(frame)) => Said::Frame(frame),
            };
            if let Said::Frame(frame) = &said {
                if frame.first().get() != tail.last_seq + 1 || frame.shard() != self.shard {
                    return Err(io::Error::other(format!(
                        "the owner's frame of shard {} and seq {} does not follow seq {} of shard {}",
                        frame.shard(),
                        frame.first(),
                        tail.last_seq,
                        self.shard
                    )));
                }
                tail.last_seq = frame.last().get();
            }
            let entry = Entry { place: at, said };
            tail.last = Some(at);
            tail.bytes += entry.length();
            tail.entries.push_back(entry.clone());
            pushed.push(entry);
        }
        let flushed = self.flushed.load(Ordering::Acquire);
        while tail.bytes > TAIL_BYTES
            && let Some(first) = tail.entries.front()
            && first.place.index < flushed
        {
            tail.bytes -= first.length();
            tail.entries.pop_front();
        }
        Ok(pushed)
    }

    /// Forgets the kept entries outside a range.
    fn keep(&self, from: u64, until: u64) {
        let mut tail = self.tail();
        tail.entries
            .retain(|entry| (from..until).contains(&entry.place.index));
        tail.bytes = tail.entries.iter().map(Entry::length).sum();
    }
}

/// The log store of a group.
#[derive(Clone)]
pub(crate) struct LogStore(pub(crate) Arc<Shared>);

impl Debug for LogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "log of shard {}", self.0.shard)
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let until = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(until) => *until,
        Bound::Unbounded => u64::MAX,
    };
    (from, until)
}

impl LogStore {
    async fn entries(&self, from: u64, until: u64, bytes: usize) -> io::Result<Vec<RaftEntry>> {
        if from >= until {
            return Ok(Vec::new());
        }
        let from = self
            .0
            .tail()
            .purged
            .map_or(from, |purged| from.max(purged.index + 1));
        let entries = self.0.read(from, until, bytes).await?;
        let mut length = 0;
        let fits = entries.iter().enumerate().take_while(|(nth, entry)| {
            length += entry.length();
            // A long frame goes alone, and then it fits into a message.
            *nth == 0 || length <= bytes
        });
        fits.map(|(_, entry)| entry)
            .map(|entry| raft_entry(entry).map_err(io::Error::other))
            .collect()
    }
}

impl RaftLogReader<Kind> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<RaftEntry>> {
        let (from, until) = bounds(&range);
        self.entries(from, until, usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.0.vote())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        self.entries(start, end, READ_BYTES).await
    }
}

impl RaftLogStorage<Kind> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Kind>> {
        let base = self.0.journal.log(self.0.shard).and_then(|log| log.base.place);
        let tail = self.0.tail();
        Ok(LogState {
            last_purged_log_id: base.max(tail.purged).map(log_id),
            last_log_id: tail.last.max(tail.purged).map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let wire = vote.into();
        self.0
            .blocking(move |shared| shared.ballots.save_vote(shared.shard, wire))
            .await?;
        *self.0.vote.lock().unwrap_or_else(PoisonError::into_inner) = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(committed) => self.0.ballots.note_committed(self.0.shard, place(&committed)),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let committed = self.0.ballots.committed(self.0.shard)?;
        // A note that outlived its entries says nothing.
        let last = self.0.tail().last;
        Ok(committed.filter(|place| Some(*place) <= last).map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Kind>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = self.0.push(entries.into_iter())?;
        let Some(last) = entries.last().map(|entry| entry.place.index) else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        let shared = self.0.clone();
        let done = move |result: Result<(), AppendError>| {
            if result.is_ok() {
                shared.flushed.fetch_max(last + 1, Ordering::AcqRel);
            }
            callback.io_completed(result.map_err(io::Error::other));
        };
        self.0
            .journal
            .append_entries(self.0.shard, entries, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index() + 1);
        self.0.keep(0, from);
        let shard = self.0.shard;
        self.0
            .change(|journal, done| journal.truncate_entries(shard, from, done))
            .await?;
        self.0.take_up();
        Ok(())
    }

    async fn purge(&mut self, id: LogId) -> io::Result<()> {
        let (shard, at) = (self.0.shard, place(&id));
        let log = self.0.journal.log(shard).unwrap_or_default();
        if self.0.tail().last.is_none_or(|last| last.index < at.index) {
            // The state came by a snapshot: the log goes on after it.
            let mut base = self.0.applied();
            if base.place.is_none() {
                base.place = Some(at);
            }
            if base.place != Some(at) {
                return Err(io::Error::other(format!(
                    "the log of shard {shard} cannot go on after {id}: the state stands at {:?}",
                    base.place
                )));
            }
            self.0.keep(0, 0);
            self.0
                .change(|journal, done| journal.reset_log(shard, base, done))
                .await?;
            self.0.take_up();
            return Ok(());
        }
        self.0.keep(at.index + 1, u64::MAX);
        {
            let mut tail = self.0.tail();
            tail.purged = tail.purged.max(Some(at));
        }
        if at.index < log.first_index() {
            return Ok(());
        }
        let row = self
            .0
            .blocking(move |shared| shared.journal.row_at(shard, at.index).map_err(io::Error::other))
            .await?;
        let Some((_, seq)) = row else { return Ok(()) };
        self.0
            .change(|journal, done| journal.purge_log(shard, at.index, seq, done))
            .await
    }
}
