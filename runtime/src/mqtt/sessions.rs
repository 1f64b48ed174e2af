//! Who is connected: one connection per client id and tenant; a second one takes over.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use gemba_twins::id::TenantId;
use tokio::sync::Notify;

/// All sessions of a listener.
#[derive(Default)]
pub(super) struct Sessions {
    next: AtomicU64,
    open: Mutex<HashMap<(TenantId, String), (u64, Arc<Notify>)>>,
}

/// A connection's place among the sessions; given up when dropped.
pub(super) struct Session {
    sessions: Arc<Sessions>,
    key: (TenantId, String),
    number: u64,
    /// Told when another connection takes over.
    pub(super) taken_over: Arc<Notify>,
}

impl Sessions {
    /// Takes the session of a client id, closing whoever has it.
    pub(super) fn open(self: &Arc<Self>, tenant: TenantId, client_id: String) -> Session {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let taken_over = Arc::new(Notify::new());
        let key = (tenant, client_id);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = open.insert(key.clone(), (number, taken_over.clone())) {
            before.notify_one();
        }
        drop(open);
        Session { sessions: self.clone(), key, number, taken_over }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut open = self.sessions.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            open.remove(&self.key);
        }
    }
}
