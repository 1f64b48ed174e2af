//! Who is connected: one connection per tenant and client id; a second one takes over.
//!
//! Promises: nobody takes over another tenant's connection, and an id that is assigned is nobody else's. Keeps no
//! state of a device that has gone.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use gemba_twins::id::TenantId;
use tokio::sync::Notify;

use crate::clock;

/// All sessions of a listener.
pub(super) struct Sessions {
    next: AtomicU64,
    started_ms: i64,
    open: Mutex<HashMap<Key, (u64, Arc<Notify>)>>,
}

type Key = (TenantId, Arc<str>);

/// A connection's place among the sessions; given up when dropped.
pub(super) struct Session {
    sessions: Arc<Sessions>,
    key: Key,
    number: u64,
    /// Told when another connection takes over.
    pub(super) taken_over: Arc<Notify>,
}

impl Sessions {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            next: AtomicU64::new(1),
            started_ms: clock::now().ms(),
            open: Mutex::default(),
        })
    }

    /// A client id for a device that gave none.
    pub(super) fn assigned_id(&self) -> String {
        format!(
            "gemba-{:x}-{:x}",
            self.started_ms,
            self.next.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// Takes the session of a client id, closing whoever has it.
    pub(super) fn open(self: &Arc<Self>, tenant: &TenantId, client_id: &str) -> Session {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let taken_over = Arc::new(Notify::new());
        let key = (tenant.clone(), Arc::from(client_id));
        let before = self.lock().insert(Key::clone(&key), (number, taken_over.clone()));
        if let Some((_, before)) = before {
            // Keeps until it is looked at.
            before.notify_one();
        }
        Session {
            sessions: self.clone(),
            key,
            number,
            taken_over,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (u64, Arc<Notify>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    pub(super) fn client_id(&self) -> &str {
        &self.key.1
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut open = self.sessions.lock();
        if open
            .get(&self.key)
            .is_some_and(|(number, _)| *number == self.number)
        {
            open.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn is_told(session: &Session) -> bool {
        session.taken_over.notified().now_or_never().is_some()
    }

    #[test]
    fn a_second_connection_takes_over_within_its_tenant() {
        let sessions = Sessions::new();
        let (acme, globex) = (
            TenantId::parse("acme").expect("a tenant"),
            TenantId::parse("globex").expect("a tenant"),
        );
        let first = sessions.open(&acme, "cnc-07");
        let other = sessions.open(&globex, "cnc-07");
        assert!(!is_told(&first));
        let second = sessions.open(&acme, "cnc-07");
        assert!(is_told(&first));
        // The first gives up its place, which is not its own any more.
        drop(first);
        let third = sessions.open(&acme, "cnc-07");
        assert!(is_told(&second));
        assert!(!is_told(&third) && !is_told(&other));
        drop((second, third, other));
        assert!(sessions.lock().is_empty());
    }

    #[test]
    fn assigned_ids_are_unique() {
        let sessions = Sessions::new();
        assert_ne!(sessions.assigned_id(), sessions.assigned_id());
    }
}
