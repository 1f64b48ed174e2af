//! Where a record stands: shard, seq, epoch; and which shard a key belongs to.
//!
//! Promises: `shard_of` never changes, data folders depend on it. Knows nothing of what a key names.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

/// A shard of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u16);

impl ShardId {
    /// The shard that holds what concerns the whole installation; not counted among the data shards.
    pub const CONTROL: Self = Self(u16::MAX);

    /// The group that holds the cluster's map; no data shard either.
    pub const MAP: Self = Self(u16::MAX - 1);

    /// A shard by its number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in a shard's journal; the first record has 1, 0 stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(u64);

impl Seq {
    /// A position by its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fencing token of a shard's owner; a lower one than the highest seen is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(u64);

impl Epoch {
    /// An epoch by its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The shard of a key among `shards` (at least 1).
#[must_use]
pub fn shard_of(key: &[u8], shards: u16) -> ShardId {
    // The high bits times the number of shards: even, and without a division.
    let scaled = (u128::from(xxh3_64(key)) * u128::from(shards.max(1))) >> 64;
    ShardId(u16::try_from(scaled).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_of_a_key_never_changes() {
        let golden = [
            ("acme\0\u{1}cnc-07", 16),
            ("acme\0\u{2}cell-2", 16),
            ("globex\0\u{3}job-1", 64),
            ("", 16),
        ];
        let now: Vec<_> = golden
            .iter()
            .map(|(key, shards)| shard_of(key.as_bytes(), *shards).get())
            .collect();
        assert_eq!(now, GOLDEN);
    }

    const GOLDEN: [u16; 4] = [4, 8, 12, 2];

    #[test]
    fn keys_spread_evenly() {
        let mut counts = [0_u32; 16];
        (0..16_000).for_each(|number| {
            counts[usize::from(shard_of(format!("key-{number}").as_bytes(), 16).get())] += 1
        });
        assert!(
            counts.iter().all(|count| (800..1_200).contains(count)),
            "{counts:?}"
        );
    }
}
