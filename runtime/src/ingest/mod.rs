//! The way in: from a connector's bytes to events that are durable and folded.
//!
//! Promises: a message pushed into a batch ends in exactly one [`Outcome`], after it is on disk and visible; a batch
//! whose ticket fails was promised nothing and may be sent again. What cannot be read or bound is kept as rejected.
//! Knows nothing of the protocols that the connectors speak.

mod batch;
mod ticket;

use std::sync::Arc;

use gemba_twins::id::TenantId;
use tokio::sync::watch;

pub use batch::Batch;
pub(crate) use batch::{Item, Payload, Submission, dedupe_key};
pub(crate) use ticket::TicketState;
pub use ticket::{SubmitError, Ticket};

use crate::{
    accounts::Accounts,
    decode::{Rejection, RfidFormat},
    gate::Gate,
    metric_definitions as names,
    plants::PlantDirectory,
    presence::Presences,
    shard::Router,
};

pub use crate::gate::Permit;

/// One message as it came in.
#[derive(Debug, Clone)]
pub enum Message<'a> {
    /// A native reading; `sensor` where the topic names it.
    Reading {
        /// The sensor that the topic names.
        sensor: Option<&'a str>,
        /// One JSON object.
        json: &'a [u8],
    },
    /// A native scan; `reader` where the topic names it.
    Scan {
        /// The reader that the topic names.
        reader: Option<&'a str>,
        /// One JSON object.
        json: &'a [u8],
    },
    /// An event of ChirpStack v4.
    ChirpStack {
        /// The topic it came on.
        topic: &'a str,
        /// JSON.
        payload: &'a [u8],
    },
    /// A message of The Things Stack v3.
    TheThingsStack {
        /// The topic it came on.
        topic: &'a str,
        /// JSON.
        payload: &'a [u8],
    },
    /// Reads of RFID tags or barcodes, one or many.
    Rfid {
        /// Who wrote them.
        format: RfidFormat,
        /// The reader that the topic or the call names.
        reader: Option<&'a str>,
        /// JSON.
        payload: &'a [u8],
    },
    /// A GS1 EPCIS 2.0 event or document.
    Epcis {
        /// JSON.
        payload: &'a [u8],
    },
    /// What the connector itself found unusable; kept as rejected.
    Refused {
        /// Where it came from.
        topic: &'a str,
        /// As it came.
        payload: &'a [u8],
        /// Why, for programs.
        code: &'static str,
        /// Why, for people.
        detail: String,
    },
}

/// How a message ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Durable and folded.
    Applied,
    /// Sent before; counted once.
    Duplicate,
    /// Durable and folded, with corrected history.
    Late,
    /// Durable and kept aside, for this reason.
    Rejected(Rejection),
}

/// The way in of one node. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    inner: Arc<Inner>,
}

struct Inner {
    gate: Arc<Gate>,
    accounts: Arc<Accounts>,
    plants: Arc<PlantDirectory>,
    router: Arc<Router>,
    presences: Presences,
    /// Whether nothing is taken in yet.
    is_shut: watch::Sender<bool>,
}

impl Ingest {
    pub(crate) fn new(
        gate: Arc<Gate>,
        accounts: Arc<Accounts>,
        plants: Arc<PlantDirectory>,
        router: Arc<Router>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                gate,
                accounts,
                plants,
                router,
                presences: Presences::default(),
                is_shut: watch::Sender::new(false),
            }),
        }
    }

    /// An empty batch of one tenant and source (`mqtt`, `http`, `broker.plant`).
    #[must_use]
    pub fn batch(&self, tenant: &TenantId, source: &Arc<str>) -> Batch {
        Batch::new(self.clone(), tenant, source)
    }

    /// Nothing is taken in until [`Ingest::open`].
    pub(crate) fn shut(&self) {
        self.inner.is_shut.send_replace(true);
    }

    pub(crate) fn open(&self) {
        self.inner.is_shut.send_replace(false);
    }

    /// Passes the admission gate, or says that the node is busy (HTTP 429).
    #[must_use]
    pub fn try_admit(&self, tenant: &TenantId, messages: usize, bytes: usize) -> Option<Permit> {
        let permit = if *self.inner.is_shut.borrow() {
            None
        } else {
            self.inner.gate.try_enter(tenant, messages, bytes)
        };
        if permit.is_none() {
            metrics::counter!(names::ADMISSION_REFUSED, "tenant" => tenant.as_str().to_owned()).increment(1);
        }
        permit
    }

    /// Waits at the admission gate: a connector that stops reading meanwhile pushes back on its sender.
    pub async fn admit(&self, tenant: &TenantId, messages: usize, bytes: usize) -> Permit {
        // The sender lives as long as the node.
        let _ = self.inner.is_shut.subscribe().wait_for(|is_shut| !is_shut).await;
        self.inner.gate.enter(tenant, messages, bytes).await
    }
}
