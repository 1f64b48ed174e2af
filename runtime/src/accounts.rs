//! Every message is accounted for: received = applied + duplicate + late + rejected + in flight, by tenant and source.
//!
//! Promises: what is counted as received ends in exactly one of the others; what was never promised to its sender
//! (storage failed before the commit) is taken back from received. Counts run since the node started.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use gemba_twins::{id::TenantId, time::Timestamp};
use serde::Serialize;

use crate::metric_definitions as names;

/// How many messages of a source ended how, since the node started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceCounts {
    /// The connector, e.g. `mqtt`, `http`, `broker.plant`.
    pub source: Arc<str>,
    /// All that came and is not taken back.
    pub received: u64,
    /// Folded in order.
    pub applied: u64,
    /// Recognised as sent before.
    pub duplicate: u64,
    /// Folded, with corrected history.
    pub late: u64,
    /// Kept aside with a reason.
    pub rejected: u64,
    /// Not at their end yet.
    pub in_flight: u64,
    /// When counting began.
    pub since: Timestamp,
}

/// The counts of one source of one tenant.
pub(crate) struct Account {
    received: AtomicU64,
    ended: [AtomicU64; 4],
    metrics: [metrics::Counter; 5],
}

/// How a message ended. The numbers are indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum End {
    Applied = 0,
    Duplicate = 1,
    Late = 2,
    Rejected = 3,
}

impl End {
    /// The end with a number; `None` for what has not ended.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Applied, Self::Duplicate, Self::Late, Self::Rejected]
            .into_iter()
            .find(|end| *end as u8 == number)
    }
}

impl Account {
    fn new(tenant: &TenantId, source: &Arc<str>) -> Self {
        let counter = |name: &'static str| metrics::counter!(name, "tenant" => tenant.as_str().to_owned(), "source" => source.to_string());
        Self {
            received: AtomicU64::new(0),
            ended: Default::default(),
            metrics: [
                counter(names::MESSAGES_APPLIED),
                counter(names::MESSAGES_DUPLICATE),
                counter(names::MESSAGES_LATE),
                counter(names::MESSAGES_REJECTED),
                counter(names::MESSAGES_RECEIVED),
            ],
        }
    }

    pub(crate) fn received(&self, messages: u64) {
        self.received.fetch_add(messages, Ordering::AcqRel);
    }

    /// Nothing was promised for these: they count as never received.
    pub(crate) fn taken_back(&self, messages: u64) {
        self.received.fetch_sub(messages, Ordering::AcqRel);
    }

    /// These came to their ends; `ends` by the numbers of [`End`].
    pub(crate) fn ended(&self, ends: [u64; 4]) {
        for (index, count) in ends.into_iter().enumerate() {
            if count > 0 {
                self.ended[index].fetch_add(count, Ordering::AcqRel);
                self.metrics[index].increment(count);
            }
        }
        self.metrics[4].increment(ends.iter().sum());
    }

    fn counts(&self, source: &Arc<str>, since: Timestamp) -> SourceCounts {
        // The ends are read first: a message that ends in between shows as in flight, never as too many ended.
        let [applied, duplicate, late, rejected] =
            [0, 1, 2, 3].map(|end: usize| self.ended[end].load(Ordering::Acquire));
        let received = self.received.load(Ordering::Acquire);
        let in_flight = received.saturating_sub(applied + duplicate + late + rejected);
        SourceCounts {
            source: source.clone(),
            received,
            applied,
            duplicate,
            late,
            rejected,
            in_flight,
            since,
        }
    }
}

type AccountsBySource = BTreeMap<(TenantId, Arc<str>), Arc<Account>>;

/// All accounts of a node.
pub(crate) struct Accounts {
    since: Timestamp,
    accounts: RwLock<AccountsBySource>,
}

impl Accounts {
    pub(crate) fn new(since: Timestamp) -> Self {
        Self {
            since,
            accounts: RwLock::default(),
        }
    }

    pub(crate) fn account(&self, tenant: &TenantId, source: &Arc<str>) -> Arc<Account> {
        let key = (tenant.clone(), source.clone());
        if let Some(account) = self
            .accounts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return account.clone();
        }
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        accounts
            .entry(key)
            .or_insert_with(|| Arc::new(Account::new(tenant, source)))
            .clone()
    }

    pub(crate) fn counts(&self, tenant: &TenantId) -> Vec<SourceCounts> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts
            .iter()
            .filter(|((owner, _), _)| owner == tenant)
            .map(|((_, source), account)| account.counts(source, self.since))
            .collect()
    }
}
