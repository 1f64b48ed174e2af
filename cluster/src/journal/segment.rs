//! A segment: one redb file with frames of all shards, keyed by shard and first seq.
//!
//! Promises: knows at any time which seqs it holds; can be closed and opened again under its readers, which redb
//! asks for after an error. A new segment begins with the last seq of each shard, so that these outlive the old ones.

use std::{
    collections::BTreeMap,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    TableError, WriteTransaction, backends::FileBackend,
};

use super::{
    Extent, JournalOptions, OpenError,
    entries::{self, LogBase, LogPlace, SegmentLog},
};
use crate::{Frame, FrameError};

pub(super) type Key = (u32, u64);
pub(super) const FRAMES: TableDefinition<'static, Key, &[u8]> = TableDefinition::new("frames");
/// Last seq and epoch of each shard when the segment began.
pub(super) const BASES: TableDefinition<'static, u32, (u64, u64)> = TableDefinition::new("bases");

/// Where segment files are kept: a folder, or a simulated disk in a test.
pub trait SegmentFiles: Send + Sync {
    /// The numbers of the segments that are there, in any order.
    fn list(&self) -> io::Result<Vec<u64>>;
    /// Opens a segment, or makes it.
    fn open(&self, number: u64) -> io::Result<Box<dyn StorageBackend>>;
    /// Deletes a segment.
    fn remove(&self, number: u64) -> io::Result<()>;
}

/// Segment files in a folder.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder; made when the first segment is.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn file(&self, number: u64) -> PathBuf {
        self.path.join(format!("segment-{number:012}.redb"))
    }

    fn sync(&self) -> io::Result<()> {
        std::fs::File::open(&self.path)?.sync_all()
    }
}

impl SegmentFiles for Folder {
    fn list(&self) -> io::Result<Vec<u64>> {
        std::fs::create_dir_all(&self.path)?;
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix("segment-")?.strip_suffix(".redb"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        Ok(numbers)
    }

    fn open(&self, number: u64) -> io::Result<Box<dyn StorageBackend>> {
        let path = self.file(number);
        let is_new = !path.exists();
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        if is_new {
            // The file's name has to be as durable as what is written into it.
            self.sync()?;
        }
        let backend = FileBackend::new(file).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Box::new(backend))
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        std::fs::remove_file(self.file(number))?;
        self.sync()
    }
}

/// redb wants a backend by value.
#[derive(Debug)]
pub(crate) struct Backend(pub(crate) Box<dyn StorageBackend>);

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
}

/// One segment file.
pub(crate) struct Segment {
    number: u64,
    /// `None` only while it cannot be opened.
    database: RwLock<Option<Database>>,
    extents: Mutex<BTreeMap<u16, Extent>>,
    /// Of the shards that are replicated.
    logs: Mutex<BTreeMap<u16, SegmentLog>>,
    bytes: AtomicU64,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}", self.number)
    }
}

/// Opens all segments in order; makes the first one where there is none.
pub(super) fn open_all(options: &JournalOptions) -> Result<Vec<Arc<Segment>>, OpenError> {
    let mut numbers = options
        .files
        .list()
        .map_err(|error| OpenError::Io(error.to_string()))?;
    numbers.sort_unstable();
    if numbers.is_empty() {
        numbers.push(1);
    }
    let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(numbers.len());
    let mut ends = Ends::default();
    let newest = numbers.last().copied();
    for number in numbers {
        let segment = if Some(number) == newest {
            Segment::open(options, number, &ends)?
        } else {
            Segment::open(&options.full(), number, &ends)?
        };
        super::log_writer::finish(&segments, &segment).map_err(|error| OpenError::Damaged {
            segment: number,
            detail: error.to_string(),
        })?;
        ends.go_on(&segment).map_err(|error| OpenError::Damaged {
            segment: number,
            detail: error.to_string(),
        })?;
        segments.push(segment);
    }
    Ok(segments)
}

/// Where each shard and each log ends, for the segment that goes on from there.
#[derive(Default)]
pub(super) struct Ends {
    extents: BTreeMap<u16, Extent>,
    logs: BTreeMap<u16, LogBase>,
}

impl Ends {
    pub(super) fn new(extents: BTreeMap<u16, Extent>) -> Self {
        Self {
            extents,
            logs: BTreeMap::new(),
        }
    }

    /// Takes in what a segment adds.
    pub(super) fn go_on(&mut self, segment: &Segment) -> Result<(), redb::Error> {
        self.extents.extend(segment.extents());
        for shard in segment.logs().keys() {
            if let Some(end) = segment.log_end(*shard)? {
                self.logs.insert(*shard, end);
            }
        }
        Ok(())
    }
}

impl Segment {
    /// Opens a segment, or makes it: one that is new, or whose making was cut off by a crash, begins where the shards
    /// end.
    pub(super) fn open(options: &JournalOptions, number: u64, ends: &Ends) -> Result<Arc<Self>, OpenError> {
        let (database, bytes) = open_database(options, number)?;
        let whole = has_bases(&database).and_then(|whole| if whole { Ok(()) } else { fill(&database, ends) });
        whole.map_err(|error| OpenError::Damaged {
            segment: number,
            detail: error.to_string(),
        })?;
        Self::of(number, database, bytes)
    }

    fn of(number: u64, database: Database, bytes: u64) -> Result<Arc<Self>, OpenError> {
        let (extents, logs) = survey(&database).map_err(|detail| OpenError::Damaged {
            segment: number,
            detail,
        })?;
        Ok(Arc::new(Self {
            number,
            database: RwLock::new(Some(database)),
            extents: Mutex::new(extents),
            logs: Mutex::new(logs),
            bytes: AtomicU64::new(bytes),
        }))
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Which seqs it holds of which shard; a shard with `first` 0 only ended before this segment began.
    pub(super) fn extents(&self) -> BTreeMap<u16, Extent> {
        self.extents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_extent(&self, shard: u16, first: u64, last: u64, epoch: u64) {
        let mut extents = self.extents.lock().unwrap_or_else(PoisonError::into_inner);
        let extent = extents.entry(shard).or_default();
        if extent.first == 0 {
            extent.first = first;
        }
        extent.last = last;
        extent.epoch = extent.epoch.max(epoch);
    }

    /// The logs that it knows of.
    pub(super) fn logs(&self) -> BTreeMap<u16, SegmentLog> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_log_base(&self, shard: u16, base: LogBase) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.entry(shard).or_default().base = base;
    }

    pub(super) fn set_log_end(&self, shard: u16, last: LogPlace, last_seq: u64) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let log = logs.entry(shard).or_default();
        (log.last, log.last_seq) = (Some(last), last_seq);
    }

    /// Where a log ends here, as the base of a segment that follows.
    pub(super) fn log_end(&self, shard: u16) -> Result<Option<LogBase>, redb::Error> {
        let Some(SegmentLog { base, last, .. }) = self.logs().remove(&shard) else {
            return Ok(None);
        };
        let extent = self.extents().remove(&shard).unwrap_or_default();
        let index = last.map_or(0, |last| last.index);
        let set =
            self.with(|database| entries::members_up_to(&database.begin_read()?, u32::from(shard), index))?;
        let (members_place, members) = set.unwrap_or((base.members_place, base.members));
        Ok(Some(LogBase {
            place: last,
            seq: extent.last,
            epoch: extent.epoch,
            members,
            members_place,
        }))
    }

    /// Looks again at what is in the file.
    pub(super) fn refresh(&self) -> Result<(), redb::Error> {
        let (extents, logs) = self.with(|database| survey(database).map_err(redb::Error::Corrupted))?;
        *self.extents.lock().unwrap_or_else(PoisonError::into_inner) = extents;
        *self.logs.lock().unwrap_or_else(PoisonError::into_inner) = logs;
        Ok(())
    }

    /// Uses the database; fails while it cannot be opened.
    pub(super) fn with<R>(
        &self,
        act: impl FnOnce(&Database) -> Result<R, redb::Error>,
    ) -> Result<R, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match &*database {
            Some(database) => act(database),
            None => Err(redb::Error::DatabaseClosed),
        }
    }

    /// Closes and opens the file, as redb asks for after an error, and looks again at what is in it.
    pub(super) fn reopen(&self, options: &JournalOptions) -> Result<(), OpenError> {
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(place.take());
        let (database, bytes) = open_database(options, self.number)?;
        let (extents, logs) = survey(&database).map_err(|detail| OpenError::Damaged {
            segment: self.number,
            detail,
        })?;
        *self.extents.lock().unwrap_or_else(PoisonError::into_inner) = extents;
        *self.logs.lock().unwrap_or_else(PoisonError::into_inner) = logs;
        self.bytes.store(bytes, Ordering::Release);
        *place = Some(database);
        Ok(())
    }

    /// Asks redb to check its own pages.
    pub(super) fn check_integrity(&self) -> Result<bool, String> {
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        match place.as_mut() {
            Some(database) => database.check_integrity().map_err(|error| error.to_string()),
            None => Err("it cannot be opened".into()),
        }
    }
}

/// A write that is durable when it is committed, and whose file opens at once after a crash.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    write.set_quick_repair(true);
    Ok(write)
}

/// The database of a segment, and about how many bytes of frames it holds: redb keeps a file at most half empty.
fn open_database(options: &JournalOptions, number: u64) -> Result<(Database, u64), OpenError> {
    let backend = options
        .files
        .open(number)
        .map_err(|error| OpenError::Io(error.to_string()))?;
    let bytes = backend.len().unwrap_or_default() / 2;
    // A disk that lies about its syncs can leave a file on which redb panics.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut builder = Builder::new();
        builder.set_cache_size(options.cache_bytes);
        builder.create_with_backend(Backend(backend))
    }));
    match opened {
        Ok(Ok(database)) => Ok((database, bytes)),
        Ok(Err(error @ redb::DatabaseError::DatabaseAlreadyOpen)) => Err(OpenError::Io(error.to_string())),
        Ok(Err(error)) => Err(OpenError::Damaged {
            segment: number,
            detail: error.to_string(),
        }),
        Err(_) => Err(OpenError::Damaged {
            segment: number,
            detail: "opening it panicked".into(),
        }),
    }
}

/// Whether a segment's making came to its end.
fn has_bases(database: &Database) -> Result<bool, redb::Error> {
    match database.begin_read()?.open_table(BASES) {
        Ok(_) => Ok(true),
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the tables of a segment that begins where the shards end.
fn fill(database: &Database, ends: &Ends) -> Result<(), redb::Error> {
    let write = begin(database)?;
    {
        write.open_table(FRAMES)?;
        let mut table = write.open_table(BASES)?;
        for (shard, extent) in &ends.extents {
            table.insert(u32::from(*shard), (extent.last, extent.epoch))?;
        }
    }
    for (shard, base) in &ends.logs {
        entries::write_base(&write, u32::from(*shard), base, false)?;
    }
    write.commit()?;
    Ok(())
}

type Found = (BTreeMap<u16, Extent>, BTreeMap<u16, SegmentLog>);

/// Which seqs a file holds of which shard, and what it knows of their logs.
fn survey(database: &Database) -> Result<Found, String> {
    let failed = |error: redb::Error| error.to_string();
    let read = database.begin_read().map_err(|error| failed(error.into()))?;
    let mut logs: BTreeMap<u16, SegmentLog> = BTreeMap::new();
    for (shard, log) in entries::survey(&read).map_err(failed)? {
        let shard = u16::try_from(shard).map_err(|_| "a shard's number is out of range".to_owned())?;
        logs.insert(shard, log);
    }
    let mut extents = BTreeMap::new();
    match read.open_table(BASES) {
        Ok(bases) => {
            for row in bases.iter().map_err(|error| failed(error.into()))? {
                let (shard, base) = row.map_err(|error| failed(error.into()))?;
                let (last, epoch) = base.value();
                let shard = u16::try_from(shard.value())
                    .map_err(|_| "a shard's number is out of range".to_owned())?;
                extents.insert(
                    shard,
                    Extent {
                        first: 0,
                        last,
                        epoch,
                    },
                );
            }
        }
        Err(error) => return Err(failed(error.into())),
    }
    let frames = read.open_table(FRAMES).map_err(|error| failed(error.into()))?;
    let mut next = Some(0_u32);
    while let Some(from) = next {
        let mut range = frames.range((from, 0)..).map_err(|error| failed(error.into()))?;
        let Some(row) = range.next() else { break };
        let (key, _) = row.map_err(|error| failed(error.into()))?;
        let (number, first) = key.value();
        let shard = u16::try_from(number).map_err(|_| "a shard's number is out of range".to_owned())?;
        let mut of_shard = frames
            .range((number, 0)..=(number, u64::MAX))
            .map_err(|error| failed(error.into()))?;
        let last_row = of_shard
            .next_back()
            .transpose()
            .map_err(|error| failed(error.into()))?;
        let Some((key, value)) = last_row else { break };
        let frame = Frame::decode(value.value().to_vec()).and_then(|frame| {
            if frame.first().get() == key.value().1 {
                Ok(frame)
            } else {
                Err(FrameError::NotAFrame("wrong place"))
            }
        });
        let (last, epoch) = match (frame, logs.get_mut(&shard)) {
            (Ok(frame), _) => (frame.last().get(), frame.epoch().get()),
            // Other replicas have what is damaged here.
            (Err(_), Some(log)) => {
                log.is_damaged = true;
                (log.last_seq, log.last.map_or(0, |last| last.term))
            }
            (Err(error), None) => return Err(format!("shard {shard}, seq {}: {error}", key.value().1)),
        };
        extents.insert(shard, Extent { first, last, epoch });
        next = number.checked_add(1);
    }
    Ok((extents, logs))
}
