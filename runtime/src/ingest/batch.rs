//! A batch of messages on their way to their shards: decoded, bound to twins, encoded as journal records.
//!
//! Promises: all work that needs no order is done here, in the connector's own task, so that the shard actors only
//! put things in order. A message that cannot be read or bound becomes a record of its rejection.

mod several;

use std::sync::Arc;

use gemba_twins::{
    event::{Body, Event},
    id::{TenantId, TwinId},
    time::Timestamp,
};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::{Ingest, Message, Permit, Ticket, TicketState};
use crate::{
    accounts::{Account, End},
    clock,
    decode::{self, Rejection},
    plant::Bindings,
    shard::{RejectedRecord, Way, record, router::shard_key},
};

/// A time further ahead of our clock than this is refused: five minutes forgive a badly set clock, no more.
const FUTURE_MS: i64 = 5 * 60 * 1_000;
/// Most bytes of one record: it has to fit into a journal frame.
const RECORD_MAX: usize = 60_000;
/// Most bytes of a rejected message that are kept.
const REJECTED_PAYLOAD_MAX: usize = 32_768;

/// What one shard gets of a batch.
pub(crate) struct Submission {
    pub(crate) ticket: Arc<TicketState>,
    pub(crate) items: Vec<Item>,
    /// The records of the items, one after the other.
    pub(crate) arena: Vec<u8>,
}

/// One message of a submission.
pub(crate) struct Item {
    /// Its number in the batch.
    pub(crate) index: u32,
    /// What a repetition is recognised by; 0 where it cannot be.
    pub(crate) dedupe: u128,
    /// The end of its record in the arena; it begins where the one before ends.
    pub(crate) end: u32,
    pub(crate) payload: Payload,
}

/// What an item is, besides its bytes.
#[expect(clippy::large_enum_variant, reason = "nearly all items are events")]
pub(crate) enum Payload {
    Event(Event),
    Rejected(Box<RejectedRecord>),
}

/// Messages of one tenant and source that are submitted together.
pub struct Batch {
    ingest: Ingest,
    tenant: TenantId,
    source: Arc<str>,
    account: Arc<Account>,
    bindings: Arc<Bindings>,
    now: Timestamp,
    /// By shard; a batch mostly meets few of them.
    parts: Vec<(u16, Vec<Item>, Vec<u8>)>,
    rejections: Vec<(u32, Rejection)>,
    messages: u32,
    /// Messages that lead to no event.
    quiet: Vec<u32>,
    /// Scans of tags that are on their way, by job.
    presences: Vec<(Box<str>, u64)>,
}

impl Batch {
    pub(super) fn new(ingest: Ingest, tenant: &TenantId, source: &Arc<str>) -> Self {
        let account = ingest.inner.accounts.account(tenant, source);
        let bindings = ingest.inner.plants.bindings(tenant);
        Self {
            ingest,
            tenant: tenant.clone(),
            source: source.clone(),
            account,
            bindings,
            now: clock::now(),
            parts: Vec::new(),
            rejections: Vec::new(),
            messages: 0,
            quiet: Vec::new(),
            presences: Vec::new(),
        }
    }

    /// Messages pushed so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages as usize
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Takes a message: decodes it and binds it to its twin.
    pub fn push(&mut self, message: Message<'_>) {
        if let Err(rejection) = self.take(&message, self.now, None) {
            self.push_rejected(self.messages - 1, &message, rejection);
        }
    }

    /// Takes a message that was received at `received_at` and is called `fallback_id` where it has no id of its own.
    /// One that cannot be read or bound is not taken: it is kept as rejected already.
    pub(crate) fn push_again(
        &mut self,
        message: &Message<'_>,
        received_at: Timestamp,
        fallback_id: &str,
    ) -> Result<(), Rejection> {
        self.take(message, received_at, Some(fallback_id))
            .inspect_err(|_| {
                self.messages -= 1;
                self.account.taken_back(1);
            })
    }

    fn take(
        &mut self,
        message: &Message<'_>,
        received_at: Timestamp,
        fallback_id: Option<&str>,
    ) -> Result<(), Rejection> {
        let index = self.messages;
        self.messages += 1;
        self.account.received(1);
        if let Message::Rfid { .. } | Message::Epcis { .. } = message {
            return self.take_several(index, message, received_at, fallback_id.is_some());
        }
        let event = self.event(message, received_at, fallback_id)?;
        self.push_event(index, event)
    }

    fn event(
        &self,
        message: &Message<'_>,
        received_at: Timestamp,
        fallback_id: Option<&str>,
    ) -> Result<Event, Rejection> {
        match message {
            Message::Reading { sensor, json } => {
                self.reading(decode::native_reading(*sensor, json)?, received_at, fallback_id)
            }
            Message::ChirpStack { topic, payload } => {
                self.reading(decode::chirpstack(topic, payload)?, received_at, fallback_id)
            }
            Message::TheThingsStack { topic, payload } => self.reading(
                decode::the_things_stack(topic, payload)?,
                received_at,
                fallback_id,
            ),
            Message::Scan { reader, json } => {
                let mut scan = decode::native_scan(*reader, json)?;
                let (at, given_id) = (scan.at, scan.message_id.take());
                let (twin, scan) = self.bindings.bind_scan(&self.tenant, scan)?;
                self.complete(
                    twin,
                    at,
                    received_at,
                    given_id.as_deref().or(fallback_id),
                    Body::Scan(scan),
                )
            }
            // Taken by `take_several`.
            Message::Rfid { .. } | Message::Epcis { .. } => {
                Err(Rejection::new("message.unreadable", "many in one"))
            }
            Message::Refused { code, detail, .. } => Err(Rejection {
                code,
                detail: detail.clone(),
            }),
        }
    }

    fn reading(
        &self,
        mut reading: decode::DecodedReading,
        received_at: Timestamp,
        fallback_id: Option<&str>,
    ) -> Result<Event, Rejection> {
        let (at, given_id) = (reading.at, reading.message_id.take());
        let (twin, reading) = self.bindings.bind_reading(&self.tenant, reading)?;
        self.complete(
            twin,
            at,
            received_at,
            given_id.as_deref().or(fallback_id),
            Body::Reading(reading),
        )
    }

    fn complete(
        &self,
        twin: TwinId,
        at: Option<Timestamp>,
        received_at: Timestamp,
        message_id: Option<&str>,
        body: Body,
    ) -> Result<Event, Rejection> {
        if let Some(at) = at
            && at.ms_since(self.now) > FUTURE_MS
        {
            return Err(Rejection {
                code: "reading.timestamp_future",
                detail: format!(
                    "timestamp {at} is more than 5 minutes ahead of {} (set the device's clock)",
                    self.now
                ),
            });
        }
        let mut event = Event {
            twin,
            at: at.unwrap_or(received_at),
            received_at,
            source: self.source.clone(),
            message_id: message_id.unwrap_or_default().into(),
            origin: None,
            body,
        };
        if event.message_id.is_empty() && at.is_some() {
            event.message_id = derived_id(&event);
        }
        Ok(event)
    }

    fn push_event(&mut self, index: u32, event: Event) -> Result<(), Rejection> {
        let dedupe = dedupe_key(&event);
        let shard = self.ingest.inner.router.shard_of(&event.twin);
        let (_, items, arena) = part(&mut self.parts, shard);
        let start = arena.len();
        record::encode_event(&event, arena);
        let length = arena.len() - start;
        if length > RECORD_MAX {
            arena.truncate(start);
            let detail =
                format!("the event takes {length} bytes (at most {RECORD_MAX} are kept; split the message)");
            return Err(Rejection {
                code: "message.too_large",
                detail,
            });
        }
        items.push(Item {
            index,
            dedupe,
            end: end_of(arena),
            payload: Payload::Event(event),
        });
        Ok(())
    }

    fn push_rejected(&mut self, index: u32, message: &Message<'_>, rejection: Rejection) {
        let (way, topic, payload): (Way, &str, &[u8]) = match message {
            Message::Reading { sensor, json } => (Way::Reading, sensor.unwrap_or_default(), json),
            Message::Scan { reader, json } => (Way::Scan, reader.unwrap_or_default(), json),
            Message::ChirpStack { topic, payload } => (Way::ChirpStack, topic, payload),
            Message::TheThingsStack { topic, payload } => (Way::TheThingsStack, topic, payload),
            Message::Rfid {
                format,
                reader,
                payload,
            } => (Way::of(*format), reader.unwrap_or_default(), payload),
            Message::Epcis { payload } => (Way::Epcis, "", payload),
            Message::Refused { topic, payload, .. } => (Way::None, topic, payload),
        };
        let kept = &payload[..payload.len().min(REJECTED_PAYLOAD_MAX)];
        let rejected = RejectedRecord {
            tenant: self.tenant.clone(),
            at: self.now,
            source: self.source.clone(),
            way,
            topic: topic.chars().take(1_000).collect(),
            code: rejection.code.into(),
            detail: rejection.detail.clone().into(),
            payload: kept.into(),
            truncated: kept.len() < payload.len(),
        };
        let shard = self.ingest.inner.router.rejected_shard(&self.tenant);
        let (_, items, arena) = part(&mut self.parts, shard);
        record::encode_rejected(&rejected, arena);
        items.push(Item {
            index,
            dedupe: 0,
            end: end_of(arena),
            payload: Payload::Rejected(Box::new(rejected)),
        });
        self.rejections.push((index, rejection));
    }

    /// Sends the batch to its shards.
    pub fn submit(mut self, permit: Permit) -> Ticket {
        let rejections = std::mem::take(&mut self.rejections);
        let messages = std::mem::take(&mut self.messages) as usize;
        let parts = std::mem::take(&mut self.parts);
        let events = parts.iter().map(|(_, items, _)| items.len()).sum::<usize>();
        let quiet = std::mem::take(&mut self.quiet);
        let ticket = TicketState::new(
            messages,
            events + quiet.len(),
            rejections,
            Some(permit),
            Some(self.account.clone()),
            self.settle_later(),
        );
        quiet
            .into_iter()
            .for_each(|index| ticket.end(index, End::Applied));
        for (shard, items, arena) in parts {
            if !items.is_empty() {
                self.ingest.inner.router.submit(
                    shard,
                    Submission {
                        ticket: ticket.clone(),
                        items,
                        arena,
                    },
                );
            }
        }
        Ticket(ticket)
    }
}

fn end_of(arena: &[u8]) -> u32 {
    // A batch is bounded by the admission gate far below 4 GiB.
    u32::try_from(arena.len()).unwrap_or(u32::MAX)
}

fn part(parts: &mut Vec<(u16, Vec<Item>, Vec<u8>)>, shard: u16) -> &mut (u16, Vec<Item>, Vec<u8>) {
    let at = match parts.iter().position(|(number, ..)| *number == shard) {
        Some(at) => at,
        None => {
            parts.push((shard, Vec::new(), Vec::new()));
            parts.len() - 1
        }
    };
    &mut parts[at]
}

/// What a repetition of an event is recognised by: tenant, sensor or job, and message id. 0 where there is no id.
pub(crate) fn dedupe_key(event: &Event) -> u128 {
    if event.message_id.is_empty() || event.origin.is_some() {
        return 0;
    }
    let sender = match &event.body {
        Body::Reading(reading) => &*reading.sensor_id,
        Body::Scan(_) => event.twin.id(),
        _ => return 0,
    };
    let mut hasher = Xxh3::new();
    for part in [
        event.twin.tenant().as_str(),
        event.twin.kind().as_str(),
        sender,
        &event.message_id,
    ] {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    hasher.digest128().max(1)
}

/// A message id derived from the content, for senders that give a timestamp but no id.
fn derived_id(event: &Event) -> Box<str> {
    let mut bytes = Vec::with_capacity(256);
    let content = Event {
        received_at: event.at,
        source: "".into(),
        ..event.clone()
    };
    bytes.extend_from_slice(&shard_key(&event.twin));
    content.encode(&mut bytes);
    format!("~{:032x}", xxh3_128(&bytes)).into()
}

impl Drop for Batch {
    fn drop(&mut self) {
        // `submit` takes the count; what was pushed and never submitted was never received.
        self.account.taken_back(u64::from(self.messages));
        if !self.presences.is_empty() {
            let presences = &self.ingest.inner.presences;
            presences.settle(&self.tenant, &self.presences, false);
        }
    }
}
