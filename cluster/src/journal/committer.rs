//! The journal's one writer: a thread that commits whatever is queued, with one sync for all shards.
//!
//! Promises: no timer; what comes during a commit forms the next, so batches grow with the load. After an error the
//! segment is opened again and each append is answered by what is found there, so an answer is never a guess.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread::{Builder, JoinHandle},
    time::Instant,
};

use super::{
    Append, AppendError, AppendRefused, Committed, Extent, Shared, Turns,
    entries::write_rows,
    log_writer::{LogJob, Logged},
    segment::{Ends, FRAMES, Key, Segment, begin},
};
use crate::{Seq, ShardId, metrics as names};

/// Most bytes of one commit: larger ones would keep small appends waiting for the disk.
const COMMIT_BYTES: usize = 16 << 20;

type Answer = mpsc::SyncSender<Result<(), AppendError>>;

pub(super) enum Job {
    Append(Append),
    /// Of a replicated shard.
    Log(LogJob),
    Truncate {
        shard: ShardId,
        after: Seq,
        done: Answer,
    },
    Purge {
        shard: ShardId,
        up_to: Seq,
        done: Answer,
    },
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// The first jobs, up to the size of a commit.
    fn take(&mut self) -> Vec<Job> {
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        while let Some(job) = self.jobs.pop_front() {
            bytes += job.bytes();
            jobs.push(job);
            if bytes >= COMMIT_BYTES {
                break;
            }
        }
        self.bytes -= bytes;
        metrics::gauge!(names::QUEUE_BYTES).set(self.bytes as f64);
        jobs
    }
}

/// The queue to the journal's thread.
pub(super) struct Committer {
    shared: Arc<(Mutex<Queue>, Condvar)>,
    limit: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Where no thread does the work.
    by_hand: Option<Mutex<Writer>>,
}

impl Committer {
    pub(super) fn start(journal: Arc<Shared>) -> io::Result<Self> {
        let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        let limit = journal.options.queue_bytes;
        let mut writer = Writer {
            journal,
            queue: shared.clone(),
            purged: BTreeMap::new(),
            purged_logs: BTreeMap::new(),
        };
        let (thread, by_hand) = match writer.journal.options.turns {
            Turns::Thread => {
                let builder = Builder::new().name("gemba-journal".into());
                (Some(builder.spawn(move || writer.run())?), None)
            }
            Turns::ByHand => (None, Some(Mutex::new(writer))),
        };
        Ok(Self {
            shared,
            limit,
            thread: Mutex::new(thread),
            by_hand,
        })
    }

    /// Does what is queued, where no thread does.
    pub(super) fn turn(&self) {
        if let Some(writer) = &self.by_hand {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(jobs) = writer.take_jobs() {
                writer.work(jobs);
            }
        }
    }

    pub(super) fn queue(&self, job: Job) -> Result<(), AppendRefused> {
        self.offer(job).map_err(|(refused, _)| refused)
    }

    /// Queues a job, or gives it back.
    pub(super) fn offer(&self, job: Job) -> Result<(), (AppendRefused, Job)> {
        let mut queue = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed {
            return Err((AppendRefused::Closed, job));
        }
        let bytes = job.bytes();
        // Raft takes a refusal for a broken disk; what it has under way is limited by its own queue.
        let may_wait = matches!(job, Job::Log(_));
        if queue.bytes > 0 && queue.bytes + bytes > self.limit && !may_wait {
            return Err((AppendRefused::Full, job));
        }
        queue.bytes += bytes;
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.1.notify_one();
        Ok(())
    }

    pub(super) fn wait_for(&self, job: impl FnOnce(Answer) -> Job) -> Result<(), AppendError> {
        let (answer, done) = mpsc::sync_channel(1);
        self.queue(job(answer))?;
        self.turn();
        done.recv()
            .unwrap_or(Err(AppendError::Refused(AppendRefused::Closed)))
    }

    pub(super) fn close(&self) {
        self.shared
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        self.shared.1.notify_one();
        // The last owner of a journal may be an answer that its own thread gives.
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic of the thread has been printed; there is nothing left to save here.
            let _ = thread.join();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.body.length(),
            Self::Log(job) => job.bytes(),
            Self::Truncate { .. } | Self::Purge { .. } => 0,
        }
    }
}

/// An append that is in the transaction under way.
struct Written {
    append_done: super::Done,
    key: Key,
    bytes: Vec<u8>,
    shard: ShardId,
    extent: Extent,
    records: u32,
}

pub(super) struct Writer {
    pub(super) journal: Arc<Shared>,
    queue: Arc<(Mutex<Queue>, Condvar)>,
    pub(super) purged: BTreeMap<u16, u64>,
    /// By index, of the shards that are replicated.
    pub(super) purged_logs: BTreeMap<u16, u64>,
}

impl Writer {
    fn run(&mut self) {
        while let Some(jobs) = self.next_jobs() {
            self.work(jobs);
        }
    }

    fn work(&mut self, jobs: Vec<Job>) {
        let mut appends = Vec::with_capacity(jobs.len());
        let mut logged = Vec::new();
        for job in jobs {
            match job {
                Job::Append(append) => appends.push(append),
                Job::Log(LogJob::Append(append)) => logged.push(append),
                Job::Log(job) => {
                    self.commit(std::mem::take(&mut appends), std::mem::take(&mut logged));
                    self.change_log(job);
                }
                Job::Truncate { shard, after, done } => {
                    self.commit(std::mem::take(&mut appends), std::mem::take(&mut logged));
                    // A caller that went away does not need its answer.
                    let _ = done.send(self.truncate(shard, after));
                }
                Job::Purge { shard, up_to, done } => {
                    self.commit(std::mem::take(&mut appends), std::mem::take(&mut logged));
                    let _ = done.send(self.purge(shard, up_to));
                }
            }
        }
        self.commit(appends, logged);
    }

    /// What is queued, up to the size of a commit; `None` when the journal is closed and all is done.
    fn next_jobs(&self) -> Option<Vec<Job>> {
        let (queue, waker) = &*self.queue;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.jobs.is_empty() {
            if queue.closed {
                return None;
            }
            queue = waker.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Some(queue.take())
    }

    fn take_jobs(&self) -> Option<Vec<Job>> {
        let mut queue = self.queue.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!queue.jobs.is_empty()).then(|| queue.take())
    }

    fn active(&self) -> Arc<Segment> {
        let segments = self
            .journal
            .segments
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        // `open` makes the first segment, and purging leaves the last.
        segments[segments.len() - 1].clone()
    }

    pub(super) fn commit(&self, appends: Vec<Append>, logged: Vec<super::log_writer::LogAppend>) {
        if appends.is_empty() && logged.is_empty() {
            return;
        }
        let began = now();
        let active = self.active();
        let written = self.admit(appends);
        let logged = self.admit_entries(logged);
        if written.is_empty() && logged.is_empty() {
            return;
        }
        let result = active.with(|database| {
            let write = begin(database)?;
            {
                let mut frames = write.open_table(FRAMES)?;
                for item in &written {
                    frames.insert(item.key, item.bytes.as_slice())?;
                }
            }
            for item in &logged {
                item.begin(&write)?;
                write_rows(&write, u32::from(item.shard.get()), &item.rows)?;
            }
            write.commit()?;
            Ok(())
        });
        metrics::histogram!(names::COMMIT_SECONDS).record(began.elapsed().as_secs_f64());
        match result {
            Ok(()) => {
                active.add_bytes(written.iter().map(|item| item.bytes.len() as u64).sum());
                self.answer(&active, written);
                self.answer_entries(&active, logged);
                self.roll(&active);
            }
            Err(error) => self.fail(&active, written, logged, &error.to_string().into()),
        }
    }

    /// Checks that each append follows what its shard holds and what this commit adds; answers those that do not.
    fn admit(&self, appends: Vec<Append>) -> Vec<Written> {
        let mut ends: BTreeMap<u16, Extent> = BTreeMap::new();
        let mut written = Vec::with_capacity(appends.len());
        for Append {
            shard,
            epoch,
            first,
            body,
            done,
        } in appends
        {
            let end = ends
                .entry(shard.get())
                .or_insert_with(|| self.journal.extent(shard));
            if epoch.get() < end.epoch {
                done(Err(AppendError::StaleEpoch {
                    shard,
                    epoch: epoch.get(),
                    current: end.epoch,
                }));
                continue;
            }
            if first.get() != end.last + 1 || body.count() == 0 {
                done(Err(AppendError::Gap {
                    shard,
                    first,
                    last: Seq::new(end.last),
                }));
                continue;
            }
            end.last = first.get() + u64::from(body.count()) - 1;
            end.epoch = epoch.get();
            if end.first == 0 {
                end.first = first.get();
            }
            let (records, extent) = (body.count(), *end);
            let key = (u32::from(shard.get()), first.get());
            written.push(Written {
                append_done: done,
                key,
                bytes: body.seal(shard, first, epoch),
                shard,
                extent,
                records,
            });
        }
        written
    }

    fn answer(&self, active: &Segment, written: Vec<Written>) {
        for item in &written {
            active.set_extent(item.shard.get(), item.key.1, item.extent.last, item.extent.epoch);
        }
        self.journal
            .set_extents(written.iter().map(|item| (item.shard.get(), item.extent)));
        metrics::counter!(names::FRAMES).increment(written.len() as u64);
        metrics::counter!(names::APPENDED_BYTES)
            .increment(written.iter().map(|item| item.bytes.len() as u64).sum());
        metrics::counter!(names::APPENDED_RECORDS)
            .increment(written.iter().map(|item| u64::from(item.records)).sum());
        for item in written {
            (item.append_done)(Ok(Committed {
                last: Seq::new(item.extent.last),
            }));
        }
    }

    /// A failed commit may have reached the disk all the same: opens the segment again and looks.
    fn fail(&self, active: &Segment, written: Vec<Written>, logged: Vec<Logged>, detail: &Arc<str>) {
        metrics::counter!(names::COMMIT_ERRORS).increment(1);
        tracing::warn!(segment = active.number(), %detail, "commit failed; opening the segment again");
        if let Err(error) = active.reopen(&self.journal.options) {
            tracing::error!(segment = active.number(), %error, "segment cannot be opened again");
        }
        self.journal.read_extents();
        for item in written {
            let found = active.with(|database| {
                let read = redb::ReadableDatabase::begin_read(database)?;
                let frames = read.open_table(FRAMES)?;
                Ok(frames
                    .get(item.key)?
                    .is_some_and(|value| value.value() == item.bytes.as_slice()))
            });
            let storage = || AppendError::Storage {
                shard: item.shard,
                detail: detail.clone(),
            };
            (item.append_done)(match found {
                Ok(true) => Ok(Committed {
                    last: Seq::new(item.extent.last),
                }),
                Ok(false) | Err(_) => Err(storage()),
            });
        }
        super::log_writer::answer_failed(active, logged, detail);
    }

    /// Begins a new segment when the one appended to is large enough; a disk that is too full for it goes on with
    /// the old one.
    fn roll(&self, active: &Segment) {
        if active.bytes() < self.journal.options.segment_bytes {
            return;
        }
        let extents = self
            .journal
            .extents
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut ends = Ends::new(extents);
        let opened = ends
            .go_on(active)
            .map_err(|error| super::OpenError::Io(error.to_string()))
            .and_then(|()| Segment::open(&self.journal.options, active.number() + 1, &ends));
        match opened {
            Ok(segment) => {
                let mut segments = self
                    .journal
                    .segments
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                segments.push(segment);
                metrics::gauge!(names::SEGMENTS).set(segments.len() as f64);
                drop(segments);
                // It lets go of what it has cached.
                if let Err(error) = active.reopen(&self.journal.options.full()) {
                    tracing::error!(segment = active.number(), %error, "segment cannot be opened again");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "no new segment; going on with the old one");
                // Half a file that could not be filled is worth nothing.
                let _ = self.journal.options.files.remove(active.number() + 1);
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "measures a commit for the metrics; reaches nothing that is kept"
)]
fn now() -> Instant {
    Instant::now()
}
