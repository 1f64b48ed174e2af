//! The window in which a repeated message is recognised: the last keys of a shard, in the order they came.
//!
//! Promises: bounded; what is taken back (its append failed) is forgotten; numbers each key, so that a snapshot
//! writes only the new ones. Keys are 128-bit hashes of tenant, sender and message id.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

/// Keys are hashes already.
#[derive(Default)]
pub(crate) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // A u128 comes as 16 bytes; its low half is as random as the whole.
        for (low, byte) in bytes.iter().take(8).enumerate() {
            self.0 |= u64::from(*byte) << (8 * low);
        }
    }

    fn write_u128(&mut self, key: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
        let low = key as u64;
        self.0 = low;
    }
}

/// The dedupe window of one shard.
pub(crate) struct Dedupe {
    window: usize,
    keys: HashSet<u128, BuildHasherDefault<AlreadyHashed>>,
    order: VecDeque<u128>,
    /// Keys that ever entered; the key at the back of `order` has the number `count - 1`.
    count: u64,
}

impl Dedupe {
    pub(crate) fn new(window: usize) -> Self {
        Self {
            window,
            keys: HashSet::default(),
            order: VecDeque::new(),
            count: 0,
        }
    }

    /// The number of keys that ever entered.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The number of the oldest key still in the window.
    pub(crate) fn oldest(&self) -> u64 {
        self.count - self.order.len() as u64
    }

    /// Whether a key is in the window.
    pub(crate) fn contains(&self, key: u128) -> bool {
        self.keys.contains(&key)
    }

    /// Takes a key in; false when it is in the window already. Key 0 stands for "cannot be recognised".
    pub(crate) fn insert(&mut self, key: u128) -> bool {
        if key == 0 {
            return true;
        }
        if !self.keys.insert(key) {
            return false;
        }
        self.order.push_back(key);
        self.count += 1;
        if self.order.len() > self.window
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        true
    }

    /// Forgets the keys that entered after the count was `count`.
    pub(crate) fn roll_back(&mut self, count: u64) {
        while self.count > count {
            self.count -= 1;
            if let Some(key) = self.order.pop_back() {
                self.keys.remove(&key);
            }
        }
    }

    /// The keys of the numbers `from..to` that are still in the window.
    pub(crate) fn range(&self, from: u64, to: u64) -> Vec<u128> {
        let oldest = self.oldest();
        let place = |number: u64| usize::try_from(number.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let end = place(to).min(self.order.len());
        self.order.range(place(from).min(end)..end).copied().collect()
    }

    /// Starts from the keys of a snapshot; `first` is the number of the first of them.
    pub(crate) fn restore(&mut self, first: u64, keys: impl IntoIterator<Item = u128>) {
        if self.order.is_empty() {
            self.count = first;
        }
        for key in keys {
            self.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_is_recognised_while_it_is_in_the_window() {
        let mut dedupe = Dedupe::new(3);
        assert!([1, 2, 3].into_iter().all(|key| dedupe.insert(key)));
        assert!(!dedupe.insert(1));
        assert!(dedupe.insert(4));
        assert!(dedupe.insert(1), "the oldest key has left the window");
        assert_eq!((dedupe.count(), dedupe.oldest()), (5, 2));
    }

    #[test]
    fn keys_of_a_failed_append_are_forgotten() {
        let mut dedupe = Dedupe::new(10);
        dedupe.insert(1);
        let before = dedupe.count();
        dedupe.insert(2);
        dedupe.insert(3);
        dedupe.roll_back(before);
        assert!(dedupe.insert(2));
        assert!(!dedupe.insert(1));
    }

    #[test]
    fn a_window_restored_from_chunks_goes_on_where_it_was() {
        let mut before = Dedupe::new(4);
        (1..=6).for_each(|key| assert!(before.insert(key)));
        let mut after = Dedupe::new(4);
        after.restore(before.oldest(), before.range(0, before.count()));
        assert_eq!((after.count(), after.oldest()), (6, 2));
        assert!(!after.insert(6));
        assert_eq!(after.range(5, 6), [6]);
    }
}
