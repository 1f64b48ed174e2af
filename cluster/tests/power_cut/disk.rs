//! A simulated disk that loses, tears and reorders what was not synced.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use gemba_cluster::SegmentFiles;
use redb::StorageBackend;

/// The number of `raft.redb` among the files; those below are segments.
pub(crate) const RAFT: u64 = 1 << 40;

const SECTOR: usize = 512;

/// xorshift64*.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A file: what reads see, what a sync made safe, and the writes since.
#[derive(Debug, Default)]
pub(crate) struct File {
    seen: Vec<u8>,
    safe: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    resized: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Disk {
    files: Mutex<BTreeMap<u64, File>>,
    /// Writes and syncs until the power fails.
    pub(crate) left: AtomicU64,
    /// Says that it synced and did not.
    pub(crate) lies: bool,
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new(lies: bool) -> Arc<Self> {
        Arc::new(Self {
            files: Mutex::default(),
            left: AtomicU64::new(u64::MAX),
            lies,
        })
    }

    /// What is written from here on stays, until the power is cut.
    pub(crate) fn power_on(&self) {
        self.left.store(u64::MAX, Ordering::Release);
    }

    /// Nothing more reaches the disk.
    pub(crate) fn power_off(&self) {
        self.left.store(0, Ordering::Release);
    }

    fn spend(&self) -> io::Result<()> {
        let left = self.left.load(Ordering::Acquire);
        if left == 0 {
            return Err(io::Error::other("the power is off"));
        }
        self.left.store(left - 1, Ordering::Release);
        Ok(())
    }

    /// The power fails: any part of the unsynced writes reached the disk, torn at sectors, in any order.
    pub(crate) fn cut(&self, random: &mut Random) {
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
pub(crate) struct Handle(pub(crate) Arc<Disk>, pub(crate) u64);

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
                if let Some(length) = file.resized.take() {
                    file.safe.resize(length, 0);
                }
                for (offset, data) in std::mem::take(&mut file.unsynced) {
                    let end = (offset + data.len()).min(file.safe.len());
                    if offset < end {
                        file.safe[offset..end].copy_from_slice(&data[..end - offset]);
                    }
                }
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
        let files = self.0.files.lock().expect("the disk");
        Ok(files.keys().copied().filter(|number| *number < RAFT).collect())
    }

    fn open(&self, number: u64) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(Handle(self.0.clone(), number)))
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        self.0.files.lock().expect("the disk").remove(&number);
        Ok(())
    }
}
