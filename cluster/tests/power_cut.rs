//! Power cuts: the journal on a simulated disk that loses, tears and reorders what was not synced.
//!
//! `GEMBA_POWER_CUT_CYCLES` sets the number of cuts (2,000 by default). A failing seed is printed and can be set by
//! `GEMBA_POWER_CUT_SEED`.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use gemba_cluster::{Append, Epoch, FrameBuilder, Journal, JournalOptions, SegmentFiles, Seq, ShardId};
use redb::StorageBackend;

const SECTOR: usize = 512;

/// xorshift64*.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A file: what reads see, what a sync made safe, and the writes since.
#[derive(Debug, Default)]
struct File {
    seen: Vec<u8>,
    safe: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    resized: Option<usize>,
}

#[derive(Debug)]
struct Disk {
    files: Mutex<BTreeMap<u64, File>>,
    /// Writes and syncs until the power fails.
    left: AtomicU64,
    /// Says that it synced and did not.
    lies: bool,
}

impl Disk {
    fn spend(&self) -> io::Result<()> {
        let left = self.left.load(Ordering::Acquire);
        if left == 0 {
            return Err(io::Error::other("the power is off"));
        }
        self.left.store(left - 1, Ordering::Release);
        Ok(())
    }

    /// The power fails: any part of the unsynced writes reached the disk, torn at sectors, in any order.
    fn cut(&self, random: &mut Random) {
        for file in self.files.lock().expect("the disk").values_mut() {
            let mut image = file.safe.clone();
            if let Some(length) = file.resized
                && random.below(2) == 0
            {
                image.resize(length.max(image.len()), 0);
            }
            let mut sectors: Vec<(usize, Vec<u8>)> = Vec::new();
            for (offset, data) in &file.unsynced {
                let mut at = 0;
                while at < data.len() {
                    let end = (SECTOR - (offset + at) % SECTOR + at).min(data.len());
                    sectors.push((offset + at, data[at..end].to_vec()));
                    at = end;
                }
            }
            // Later writes of the same sector may be older on the disk: shuffled.
            for index in (1..sectors.len()).rev() {
                sectors.swap(index, random.below(index as u64 + 1) as usize);
            }
            for (offset, data) in sectors {
                if random.below(2) == 0 && offset + data.len() <= image.len() {
                    image[offset..offset + data.len()].copy_from_slice(&data);
                }
            }
            *file = File {
                seen: image.clone(),
                safe: image,
                unsynced: Vec::new(),
                resized: None,
            };
        }
    }
}

#[derive(Debug, Clone)]
struct Handle(Arc<Disk>, u64);

impl Handle {
    fn with<R>(&self, act: impl FnOnce(&mut File) -> R) -> R {
        act(self.0.files.lock().expect("the disk").entry(self.1).or_default())
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|file| file.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        self.with(|file| match file.seen.get(offset..offset + out.len()) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.spend()?;
        self.with(|file| {
            file.seen.resize(length as usize, 0);
            file.resized = Some(length as usize);
        });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.spend()?;
        if !self.0.lies {
            self.with(|file| {
                file.safe = file.seen.clone();
                file.unsynced.clear();
                file.resized = None;
            });
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.spend()?;
        let offset = offset as usize;
        self.with(|file| {
            file.seen[offset..offset + data.len()].copy_from_slice(data);
            file.unsynced.push((offset, data.to_vec()));
        });
        Ok(())
    }
}

impl SegmentFiles for Handle {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.files.lock().expect("the disk").keys().copied().collect())
    }

    fn open(&self, number: u64) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(Handle(self.0.clone(), number)))
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        self.0.files.lock().expect("the disk").remove(&number);
        Ok(())
    }
}

fn options(disk: &Arc<Disk>, segment_bytes: u64) -> JournalOptions {
    let mut options = JournalOptions::new("unused".into());
    options.files = Arc::new(Handle(disk.clone(), 0));
    options.segment_bytes = segment_bytes;
    options.cache_bytes = 1 << 20;
    options
}

fn record(shard: u16, seq: u64) -> Vec<u8> {
    format!("shard {shard} record {seq} {}", "x".repeat((seq % 97) as usize)).into_bytes()
}

/// Appends until the power fails, then looks; answers how many acknowledged records are missing.
fn cut_once(
    disk: &Arc<Disk>,
    random: &mut Random,
    acknowledged: &mut BTreeMap<u16, u64>,
) -> Result<u64, String> {
    disk.left.store(u64::MAX, Ordering::Release);
    let journal = Journal::open(options(disk, 300_000)).map_err(|error| error.to_string())?;
    let mut missing = 0;
    for shard in 0..3_u16 {
        let id = ShardId::new(shard);
        let mut seq = 0;
        for frame in journal.read(id, Seq::new(1)) {
            let frame = frame.map_err(|error| error.to_string())?;
            for bytes in frame.records() {
                seq += 1;
                assert_eq!(
                    bytes,
                    record(shard, seq),
                    "shard {shard} seq {seq} is silently wrong"
                );
            }
        }
        assert_eq!(seq, journal.last_seq(id).get());
        missing += acknowledged.get(&shard).copied().unwrap_or(0).saturating_sub(seq);
        acknowledged.insert(shard, seq);
    }
    disk.left.store(20 + random.below(60), Ordering::Release);
    'power: for _ in 0..40 {
        let (answers, answered) = mpsc::sync_channel(8);
        let mut waiting = 0;
        for shard in 0..3_u16 {
            let first = acknowledged.get(&shard).copied().unwrap_or(0) + 1;
            let mut frame = FrameBuilder::new();
            let count = 1 + random.below(8);
            for seq in first..first + count {
                frame.push(&record(shard, seq)).expect("room");
            }
            let answers = answers.clone();
            let done = Box::new(move |result: Result<_, _>| {
                answers
                    .send((shard, first + count - 1, result.is_ok()))
                    .expect("somebody listens");
            });
            let append = Append {
                shard: ShardId::new(shard),
                epoch: Epoch::new(1),
                first: Seq::new(first),
                body: frame.finish(),
                done,
            };
            if journal.append(append).is_ok() {
                waiting += 1;
            }
        }
        for _ in 0..waiting {
            match answered.recv().expect("an answer") {
                (shard, last, true) => {
                    acknowledged.insert(shard, last);
                }
                _ => break 'power,
            }
        }
    }
    disk.left.store(0, Ordering::Release);
    journal.close();
    drop(journal);
    disk.cut(random);
    Ok(missing)
}

fn cycles() -> u64 {
    std::env::var("GEMBA_POWER_CUT_CYCLES")
        .ok()
        .and_then(|cycles| cycles.parse().ok())
        .unwrap_or(2_000)
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails() {
    let seed = std::env::var("GEMBA_POWER_CUT_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    for run in 0..cycles().div_ceil(40) {
        let mut random = Random((seed + run).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let disk = Arc::new(Disk {
            files: Mutex::default(),
            left: AtomicU64::new(u64::MAX),
            lies: false,
        });
        let mut acknowledged = BTreeMap::new();
        for cycle in 0..40 {
            let missing = cut_once(&disk, &mut random, &mut acknowledged);
            assert_eq!(missing, Ok(0), "seed {} cycle {cycle}", seed + run);
        }
    }
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_seen_to_lose() {
    let mut noticed = 0;
    for seed in 1..=30_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let disk = Arc::new(Disk {
            files: Mutex::default(),
            left: AtomicU64::new(u64::MAX),
            lies: true,
        });
        let mut acknowledged = BTreeMap::new();
        let lost = (0..3).any(|_| !matches!(cut_once(&disk, &mut random, &mut acknowledged), Ok(0)));
        noticed += u64::from(lost);
    }
    assert!(
        noticed > 20,
        "the harness noticed only {noticed} of 30 lying disks"
    );
}
