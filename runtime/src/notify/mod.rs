//! Notifications: what becomes of alarms, told outside by webhook, MQTT and mail.
//!
//! Promises: whatever a destination is for reaches it at least once, with an id by which a repetition is known, and in
//! the order in which it happened on each shard; what is not delivered survives `kill -9`, since it stands in the
//! shard's snapshot or is derived again from the journal's tail. A destination that does not answer holds up nobody but
//! itself, and its queue is bounded. Destinations come from the operator's configuration alone: no plant model, no
//! caller and no answer (a redirect) can name one. Knows nothing of when an alarm is raised.

mod deliver;
mod mail;
mod message;
mod metric_names;
mod mqtt;
mod notice;
mod queue;
mod settings;
mod webhook;

pub use self::settings::{Destination, InvalidDestination, Means};
pub(crate) use self::{
    notice::{Notice, Told},
    queue::Notifier,
};
