//! How a node's storage does, as its shards tell.
//!
//! Promises: lock-free; one append that succeeds ends what a failed one said. Knows nothing of what failed.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::clock;

/// How a node's storage does.
#[derive(Default)]
pub(crate) struct Health {
    failed_at_ms: AtomicI64,
    pub(crate) broken: AtomicBool,
}

/// A failed append speaks for the storage this long, unless another append succeeds.
const FAILURE_SPEAKS_MS: i64 = 5_000;

impl Health {
    pub(crate) fn append_failed(&self) {
        self.failed_at_ms.store(clock::now().ms(), Ordering::Release);
    }

    pub(crate) fn append_succeeded(&self) {
        if self.failed_at_ms.load(Ordering::Acquire) != 0 {
            self.failed_at_ms.store(0, Ordering::Release);
        }
    }

    pub(crate) fn storage_failed(&self) -> bool {
        let failed_at = self.failed_at_ms.load(Ordering::Acquire);
        failed_at != 0 && clock::now().ms() - failed_at < FAILURE_SPEAKS_MS
    }
}
