//! A subscriber's end of a subscription: the next frame, when there is one.
//!
//! Promises: `next` can be dropped and called again without losing a frame; a subscription that is dropped ends.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::Notify;

use super::{
    Frame, FrameKind,
    hub::{Open, TenantHub},
    metrics as names,
};
use crate::clock;

/// An open subscription.
pub struct Subscription {
    hub: Arc<TenantHub>,
    name: u64,
    notify: Arc<Notify>,
    ready: VecDeque<Frame>,
    ended: bool,
    _open: Open,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({})", self.name)
    }
}

/// What there is at the moment.
enum Now {
    Frame(Frame),
    Wait(Option<std::time::Duration>),
    Ended,
}

impl Subscription {
    pub(super) fn new(hub: Arc<TenantHub>, name: u64, notify: Arc<Notify>, open: Open) -> Self {
        Self {
            hub,
            name,
            notify,
            ready: VecDeque::new(),
            ended: false,
            _open: open,
        }
    }

    /// The next frame; waits for it. `None` when the subscription is over.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.now() {
                Now::Frame(frame) => return Some(frame),
                Now::Ended => return None,
                Now::Wait(None) => self.notify.notified().await,
                Now::Wait(Some(wait)) => {
                    // A flush that is due later is not made earlier by what changes meanwhile; `now` sees to it.
                    let _ = tokio::time::timeout(wait, self.notify.notified()).await;
                }
            }
        }
    }

    /// The next frame, if there is one at the moment.
    pub fn try_next(&mut self) -> Option<Frame> {
        match self.now() {
            Now::Frame(frame) => Some(frame),
            Now::Wait(_) | Now::Ended => None,
        }
    }

    fn now(&mut self) -> Now {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Now::Frame(frame);
            }
            if self.ended {
                return Now::Ended;
            }
            let origin = self.hub.origin.load(Ordering::Acquire);
            let told = self
                .hub
                .lock()
                .tell(self.name, origin, clock::instant(), &mut self.ready);
            match told {
                Err(_) => self.ended = true,
                Ok(wait) if self.ready.is_empty() => match wait {
                    Some(wait) if wait.is_zero() => {}
                    wait => return Now::Wait(wait),
                },
                Ok(_) => self.count(),
            }
        }
    }

    fn count(&self) {
        metrics::counter!(names::FRAMES).increment(self.ready.len() as u64);
        let lost = self.ready.iter().filter(|frame| frame.kind() == FrameKind::Lost);
        for frame in lost {
            metrics::counter!(names::LOST).increment(frame.lost_count().unwrap_or(1));
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.unsubscribe(self.name);
    }
}
