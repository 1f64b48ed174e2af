//! Who is told what, as the operator says it. Valid values only.
//!
//! Promises: a destination that exists can be tried; secrets are not shown by `Debug`.

use std::{fmt, path::PathBuf};

use gemba_twins::{
    alarm::{AlarmWhat, Priority},
    id::TenantId,
};
use thiserror::Error;

use super::notice::Notice;

/// A destination that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("notify {name}: {detail}")]
pub struct InvalidDestination {
    /// The destination.
    pub name: String,
    /// What is wrong.
    pub detail: String,
}

/// Where notifications go.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its name: how far it was told is kept under it.
    pub name: String,
    /// How it is told.
    pub means: Means,
    /// Whose alarms; empty takes all tenants.
    pub tenants: Vec<TenantId>,
    /// Alarms of these priorities; empty takes all.
    pub priorities: Vec<Priority>,
    /// What has to happen to an alarm.
    pub on: Vec<AlarmWhat>,
    /// Most notifications that wait for it; beyond it the oldest is dropped, counted.
    pub queue_max: usize,
}

/// How a destination is told.
#[derive(Clone)]
pub enum Means {
    /// An HTTP POST of a CloudEvent.
    Webhook {
        /// `https://` or `http://`.
        url: String,
        /// Signs each request, where given.
        secret: Option<Vec<u8>>,
        /// Who signed the server's certificate (PEM); without it, whom the system trusts.
        ca: Option<PathBuf>,
    },
    /// A message to a broker, QoS 1.
    Mqtt {
        /// `mqtt://` or `mqtts://`, with user and password where it wants them.
        url: String,
        /// Stable, so that the broker knows the client again.
        client_id: String,
        /// The topic; `{tenant}`, `{kind}`, `{twin}` and `{rule}` are filled in.
        topic: String,
        /// Who signed the broker's certificate (PEM).
        ca: Option<PathBuf>,
    },
    /// A mail by SMTP.
    Mail {
        /// `smtps://user@host` with TLS from the start, or `smtp://user@host` with STARTTLS, which only a loopback
        /// address may do without.
        url: String,
        /// The user's password, where the URL has none.
        password: Option<String>,
        /// Who the mail is from: an address, or a name with one in angle brackets.
        from: String,
        /// Who gets it; at least one.
        to: Vec<String>,
        /// Who signed the server's certificate (PEM); without it, whom the system trusts.
        ca: Option<PathBuf>,
    },
}

impl Means {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Mqtt { .. } => "mqtt",
            Self::Mail { .. } => "smtp",
        }
    }
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Destination {
    /// Whether it is told this.
    pub(super) fn takes(&self, notice: &Notice) -> bool {
        let (tenant, change) = (notice.twin.tenant(), &notice.change);
        self.on.contains(&change.what)
            && (self.priorities.is_empty() || self.priorities.contains(&change.priority))
            && (self.tenants.is_empty() || self.tenants.contains(tenant))
    }
}
