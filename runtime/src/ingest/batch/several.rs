//! Messages of which each may hold several events: reads of tags, EPCIS events.
//!
//! Promises: a message ends in one outcome, the gravest of its parts: one part that cannot be bound rejects the message,
//! which is kept and may be retried, while the others are folded; their ids make the retry count them once. A read that
//! changes nothing ends as applied together with its batch.

use gemba_twins::{
    event::{Body, Event, Scan},
    time::Timestamp,
};
use serde_json::json;

use super::{Batch, FUTURE_MS};
use crate::{
    decode::{self, DecodedRead, Rejection, RfidFormat},
    ingest::{Message, ticket::Settle},
    plant::BoundRead,
    presence::Read,
};

impl Batch {
    /// Takes the parts of a message. `whole` takes all or none of them.
    pub(super) fn take_several(
        &mut self,
        index: u32,
        message: &Message<'_>,
        received_at: Timestamp,
        whole: bool,
    ) -> Result<(), Rejection> {
        let parts = match message {
            Message::Rfid {
                format,
                reader,
                payload,
            } => return self.take_reads(index, *format, *reader, payload, received_at, whole),
            Message::Epcis { payload } => self.seen(payload, received_at)?,
            _ => Vec::new(),
        };
        let mut wrong = None;
        let mut events = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Ok(event) => events.extend(event),
                Err(rejection) => drop(wrong.get_or_insert(rejection)),
            }
        }
        self.push_parts(index, events, wrong, whole)
    }

    fn push_parts(
        &mut self,
        index: u32,
        events: Vec<Event>,
        mut wrong: Option<Rejection>,
        whole: bool,
    ) -> Result<(), Rejection> {
        if whole && let Some(rejection) = wrong {
            return Err(rejection);
        }
        if events.is_empty() && wrong.is_none() {
            self.quiet.push(index);
        }
        for event in events {
            if let Err(rejection) = self.push_event(index, event) {
                wrong.get_or_insert(rejection);
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    /// The events of an EPCIS document or event.
    fn seen(
        &self,
        payload: &[u8],
        received_at: Timestamp,
    ) -> Result<Vec<Result<Option<Event>, Rejection>>, Rejection> {
        let mut parts = Vec::new();
        for event in decode::split_epcis(payload)? {
            let event = match decode::epcis_event(event) {
                Ok(event) => event,
                Err(rejection) => {
                    parts.push(Err(rejection));
                    continue;
                }
            };
            for seen in &event.scans {
                let bound = self.bindings.bind_seen(&self.tenant, seen);
                parts.push(bound.and_then(|bound| {
                    let Some((job, scan)) = bound else { return Ok(None) };
                    let id = seen.message_id.as_deref();
                    self.complete(job, Some(seen.at), received_at, id, Body::Scan(scan))
                        .map(Some)
                }));
            }
            for reading in event.readings {
                parts.push(self.reading(reading, received_at, None).map(Some));
            }
        }
        Ok(parts)
    }

    fn take_reads(
        &mut self,
        index: u32,
        format: RfidFormat,
        reader: Option<&str>,
        payload: &[u8],
        received_at: Timestamp,
        whole: bool,
    ) -> Result<(), Rejection> {
        let (mut wrong, mut bound) = (None, Vec::new());
        for read in decode::rfid_reads(format, payload)? {
            let at = read.at.unwrap_or(received_at);
            let known = self.bindings.bind_read(&self.tenant, reader, &read);
            match known.and_then(|known| self.not_ahead(at).map(|()| known)) {
                Ok(Some(known)) => bound.push((known, read, at)),
                Ok(None) => {}
                Err(rejection) => drop(wrong.get_or_insert(rejection)),
            }
        }
        if whole && let Some(rejection) = wrong {
            return Err(rejection);
        }
        // In the order of time: a reader may send its reads by antenna.
        bound.sort_by_key(|(_, _, at)| *at);
        let mut events = Vec::new();
        for (known, read, at) in &bound {
            for (location, at) in self.smooth(known, read, *at) {
                let scan = self.scan_of(known, read, &location);
                match self.complete(known.job.clone(), Some(at), received_at, None, Body::Scan(scan)) {
                    Ok(event) => events.push(event),
                    Err(rejection) => drop(wrong.get_or_insert(rejection)),
                }
            }
        }
        self.push_parts(index, events, wrong, false)
    }

    /// The scans that a read leads to.
    fn smooth(&mut self, known: &BoundRead, read: &DecodedRead, at: Timestamp) -> Vec<(Box<str>, Timestamp)> {
        let read = Read {
            location: &known.location,
            rssi_dbm: read.rssi_dbm,
            at,
            smoothing: known.smoothing,
        };
        let own: Vec<u64> = self.presences.iter().map(|(_, number)| *number).collect();
        let presences = &self.ingest.inner.presences;
        let verdict = presences.take(&self.tenant, known.job.id(), &read, &own);
        if let Some(number) = verdict.number {
            self.presences.push((known.job.id().into(), number));
        }
        verdict.scans
    }

    fn scan_of(&self, known: &BoundRead, read: &DecodedRead, location: &str) -> Scan {
        let metadata = json!({"epc": read.epc.uri, "antenna": read.antenna, "rssi_dbm": read.rssi_dbm});
        Scan {
            reader_id: known.reader.clone(),
            metadata: Some(metadata.to_string().into()),
            ..self.bindings.scan_at(location)
        }
    }

    /// Says at the batch's end whether its scans of tags became durable.
    pub(super) fn settle_later(&mut self) -> Option<Settle> {
        if self.presences.is_empty() {
            return None;
        }
        let scans = std::mem::take(&mut self.presences);
        let (ingest, tenant) = (self.ingest.clone(), self.tenant.clone());
        Some(Box::new(move |durable| {
            ingest.inner.presences.settle(&tenant, &scans, durable);
        }))
    }

    fn not_ahead(&self, at: Timestamp) -> Result<(), Rejection> {
        if at.ms_since(self.now) <= FUTURE_MS {
            return Ok(());
        }
        let detail = format!(
            "{at} is more than 5 minutes ahead of {} (set the reader's clock)",
            self.now
        );
        Err(Rejection::new("rfid.timestamp_future", detail))
    }
}
