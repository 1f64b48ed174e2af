//! The admission gate: what is under way between the connectors and the journal has a limit, per node and tenant.
//!
//! Promises: nothing reaches a shard actor's mailbox without a permit, and a permit is given back when its messages
//! are folded or refused, so the unbounded mailboxes of the actors stay bounded. Knows nothing of what it admits.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use gemba_twins::id::TenantId;
use tokio::sync::Notify;

use crate::settings::AdmissionLimits;

/// The gate of one node.
pub(crate) struct Gate {
    limits: AdmissionLimits,
    /// Nobody passes while the journal is full.
    closed: AtomicBool,
    node: Level,
    tenants: RwLock<HashMap<TenantId, Arc<Level>>>,
    freed: Notify,
}

#[derive(Default)]
struct Level {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Level {
    /// Takes a share unless that would pass a limit. What is larger than a limit passes when nothing else is under way.
    fn take(&self, messages: usize, bytes: usize, messages_max: usize, bytes_max: usize) -> bool {
        let before_messages = self.messages.fetch_add(messages, Ordering::AcqRel);
        let before_bytes = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let fits = before_messages + messages <= messages_max && before_bytes + bytes <= bytes_max;
        if fits || before_messages == 0 {
            return true;
        }
        self.give_back(messages, bytes);
        false
    }

    fn give_back(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// The right to have some messages under way; given back when dropped.
pub struct Permit {
    gate: Arc<Gate>,
    tenant: Arc<Level>,
    messages: usize,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.tenant.give_back(self.messages, self.bytes);
        self.gate.node.give_back(self.messages, self.bytes);
        self.gate.freed.notify_waiters();
    }
}

impl Gate {
    pub(crate) fn new(limits: AdmissionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            closed: AtomicBool::new(false),
            node: Level::default(),
            tenants: RwLock::default(),
            freed: Notify::new(),
        })
    }

    /// A permit, or `None` where the node or the tenant has too much under way.
    pub(crate) fn try_enter(
        self: &Arc<Self>,
        tenant: &TenantId,
        messages: usize,
        bytes: usize,
    ) -> Option<Permit> {
        if self.closed.load(Ordering::Acquire) {
            return None;
        }
        let level = self.tenant(tenant);
        if !level.take(
            messages,
            bytes,
            self.limits.tenant_messages,
            self.limits.tenant_bytes,
        ) {
            return None;
        }
        if !self
            .node
            .take(messages, bytes, self.limits.node_messages, self.limits.node_bytes)
        {
            level.give_back(messages, bytes);
            return None;
        }
        Some(Permit {
            gate: self.clone(),
            tenant: level,
            messages,
            bytes,
        })
    }

    /// Waits for a permit: back-pressure for those who can stop reading.
    pub(crate) async fn enter(self: &Arc<Self>, tenant: &TenantId, messages: usize, bytes: usize) -> Permit {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Registered before the try, so that a permit freed in between wakes us.
            freed.as_mut().enable();
            if let Some(permit) = self.try_enter(tenant, messages, bytes) {
                return permit;
            }
            freed.await;
        }
    }

    /// Lets nobody in any more, or again; answers whether that is new.
    pub(crate) fn set_closed(&self, closed: bool) -> bool {
        let new = self.closed.swap(closed, Ordering::AcqRel) != closed;
        self.freed.notify_waiters();
        new
    }

    /// Messages and bytes under way on this node.
    pub(crate) fn under_way(&self) -> (usize, usize) {
        (
            self.node.messages.load(Ordering::Acquire),
            self.node.bytes.load(Ordering::Acquire),
        )
    }

    fn tenant(&self, tenant: &TenantId) -> Arc<Level> {
        if let Some(level) = self
            .tenants
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(tenant)
        {
            return level.clone();
        }
        self.tenants
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(tenant.clone())
            .or_default()
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Arc<Gate> {
        Gate::new(AdmissionLimits {
            node_messages: 10,
            node_bytes: 1_000,
            tenant_messages: 6,
            tenant_bytes: 600,
        })
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).expect("a tenant")
    }

    #[test]
    fn one_tenant_cannot_shut_out_another() {
        let gate = gate();
        let greedy = gate
            .try_enter(&tenant("greedy"), 6, 60)
            .expect("within its share");
        assert!(gate.try_enter(&tenant("greedy"), 1, 1).is_none());
        assert!(gate.try_enter(&tenant("modest"), 4, 40).is_some());
        drop(greedy);
        assert_eq!(gate.under_way(), (0, 0));
    }

    #[test]
    fn what_is_larger_than_the_limit_passes_alone() {
        let gate = gate();
        let large = gate
            .try_enter(&tenant("a"), 1, 5_000)
            .expect("nothing else is under way");
        assert!(gate.try_enter(&tenant("b"), 1, 1).is_none());
        drop(large);
        assert!(gate.try_enter(&tenant("b"), 1, 1).is_some());
    }

    #[test]
    fn nobody_passes_a_closed_gate() {
        let gate = gate();
        assert!(gate.set_closed(true));
        assert!(gate.try_enter(&tenant("a"), 1, 1).is_none());
        assert!(gate.set_closed(false) && !gate.set_closed(false));
        assert!(gate.try_enter(&tenant("a"), 1, 1).is_some());
    }

    #[tokio::test]
    async fn who_waits_is_let_in_when_a_permit_returns() {
        let gate = gate();
        let first = gate.try_enter(&tenant("a"), 6, 6).expect("room");
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(&tenant("a"), 1, 1).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        drop(waiting.await.expect("let in"));
    }
}
