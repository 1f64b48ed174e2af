//! The promise of a batch: resolves when each of its messages came to its end, or when one of them could not be
//! made durable.
//!
//! Promises: resolves once; gives back the admission permit and books the outcomes at that moment. Parts of a batch
//! may end on several shards in any order.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use thiserror::Error;

use super::{Outcome, Permit};
use crate::{
    accounts::{Account, End},
    decode::Rejection,
};

/// Why nothing is promised for a batch: its sender should send it again later.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// The journal could not write (disk full, broken).
    #[error("storage is not available: {0} (nothing was acknowledged; send it again)")]
    Storage(Arc<str>),
    /// The shard changes its owner.
    #[error("the shard is changing its owner (nothing was acknowledged; send it again)")]
    Moved,
    /// The node is stopping.
    #[error("the node is stopping (nothing was acknowledged; send it again)")]
    Stopping,
}

const PENDING: u8 = u8::MAX;

/// Told at the end whether all became durable.
pub(crate) type Settle = Box<dyn FnOnce(bool) + Send>;

/// Shared by the waiting connector and the shards that its messages went to.
pub(crate) struct TicketState {
    ends: Box<[AtomicU8]>,
    rejections: Vec<(u32, Rejection)>,
    remaining: AtomicUsize,
    failure: Mutex<Option<SubmitError>>,
    permit: Mutex<Option<Permit>>,
    /// Where its outcomes are booked; none for messages of another node's, which books them itself.
    account: Option<Arc<Account>>,
    settle: Mutex<Option<Settle>>,
    waker: AtomicWaker,
}

impl TicketState {
    /// `parts` are what the messages are made of: most are one, some several.
    pub(crate) fn new(
        messages: usize,
        parts: usize,
        rejections: Vec<(u32, Rejection)>,
        permit: Option<Permit>,
        account: Option<Arc<Account>>,
        settle: Option<Settle>,
    ) -> Arc<Self> {
        let ends = (0..messages).map(|_| AtomicU8::new(PENDING)).collect();
        Arc::new(Self {
            ends,
            rejections,
            remaining: AtomicUsize::new(parts),
            failure: Mutex::new(None),
            permit: Mutex::new(permit),
            account,
            settle: Mutex::new(settle),
            waker: AtomicWaker::new(),
        })
    }

    /// A part of the message at `index` came to its end. The gravest end of its parts is the message's.
    pub(crate) fn end(&self, index: u32, end: End) {
        let place = &self.ends[index as usize];
        // An error means that a graver one is there already.
        let _ = place.fetch_update(Ordering::AcqRel, Ordering::Acquire, |known| {
            (known == PENDING || gravity(end as u8) > gravity(known)).then_some(end as u8)
        });
        self.one_less();
    }

    /// The message at `index` could not be made durable.
    pub(crate) fn fail(&self, error: SubmitError) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.one_less();
    }

    fn one_less(&self) {
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    fn close(&self) {
        let mut ends = [0_u64; 4];
        let mut unpromised = 0;
        for end in &self.ends {
            match end.load(Ordering::Acquire) {
                PENDING => unpromised += 1,
                end => ends[usize::from(end)] += 1,
            }
        }
        if let Some(account) = &self.account {
            account.ended(ends);
            account.taken_back(unpromised);
        }
        let settle = self.settle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(settle) = settle {
            settle(
                self.failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .is_none(),
            );
        }
        drop(self.permit.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.waker.wake();
    }

    /// Whether its messages came to another node.
    pub(crate) fn is_foreign(&self) -> bool {
        self.account.is_none()
    }

    /// How each message ended so far; `None` where nothing was promised.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Option<End>> {
        self.ends
            .iter()
            .map(|end| End::from_number(end.load(Ordering::Acquire)))
    }

    fn outcomes(&self) -> Result<Vec<Outcome>, SubmitError> {
        if let Some(error) = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
        {
            return Err(error);
        }
        let mut rejections = self.rejections.iter();
        let outcome = |end: &AtomicU8| match end.load(Ordering::Acquire) {
            end if end == End::Duplicate as u8 => Outcome::Duplicate,
            end if end == End::Late as u8 => Outcome::Late,
            end if end == End::Rejected as u8 => match rejections.next() {
                Some((_, rejection)) => Outcome::Rejected(rejection.clone()),
                None => Outcome::Applied,
            },
            _ => Outcome::Applied,
        };
        Ok(self.ends.iter().map(outcome).collect())
    }
}

/// A message of which one part was late and another was known before is late.
fn gravity(end: u8) -> u8 {
    match end {
        end if end == End::Rejected as u8 => 3,
        end if end == End::Late as u8 => 2,
        end if end == End::Applied as u8 => 1,
        _ => 0,
    }
}

/// Resolves to the outcomes of a batch's messages, in the order they were pushed.
#[must_use = "nothing may be acknowledged before the ticket resolves"]
pub struct Ticket(pub(crate) Arc<TicketState>);

impl Future for Ticket {
    type Output = Result<Vec<Outcome>, SubmitError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.0.remaining.load(Ordering::Acquire) > 0 {
            self.0.waker.register(context.waker());
            // Asked again after registering, so that an end in between is not missed.
            if self.0.remaining.load(Ordering::Acquire) > 0 {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.0.outcomes())
    }
}
