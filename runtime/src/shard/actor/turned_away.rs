//! Messages that a replicated shard does not take here after all: they go on to whoever owns it.
//!
//! Promises: a message goes on only where it cannot be counted twice, because nothing of it was proposed or because it can
//! be recognised; every other one is answered as not taken.

use std::sync::Arc;

use super::{Done, Pending, ShardState, answer, encode};
use crate::{
    ingest::{Item, Payload, Submission, SubmitError, TicketState},
    node::CommandError,
    shard::record::Record,
};

impl ShardState {
    /// Sends callers on to the owner, where that cannot count anything twice.
    pub(super) fn turn_away(&mut self, pending: Vec<Pending>, is_untouched: bool) {
        let mut parts: Vec<Submission> = Vec::new();
        for Pending {
            done, record, dedupe, ..
        } in pending
        {
            match done {
                Done::Ticket(ticket, index) => match record {
                    Some(record) if (is_untouched || dedupe != 0) && !ticket.is_foreign() => {
                        put_back(&mut parts, ticket, index, dedupe, record);
                    }
                    _ => ticket.fail(SubmitError::Moved),
                },
                Done::Reply(reply) if is_untouched => answer(reply, Err(CommandError::Moved)),
                Done::Reply(reply) => {
                    let detail =
                        "the shard changed its owner, and whether it was carried out is not known here";
                    answer(reply, Err(CommandError::Unavailable(detail.into())));
                }
                Done::Heard | Done::Nobody => {}
            }
        }
        for part in parts {
            self.router.send_on(self.core.number, part);
        }
    }
}

/// Makes a submission again of what was taken out of it.
fn put_back(parts: &mut Vec<Submission>, ticket: Arc<TicketState>, index: u32, dedupe: u128, record: Record) {
    let at = parts.iter().position(|part| Arc::ptr_eq(&part.ticket, &ticket));
    let at = at.unwrap_or_else(|| {
        parts.push(Submission {
            ticket: ticket.clone(),
            items: Vec::new(),
            arena: Vec::new(),
        });
        parts.len() - 1
    });
    let part = &mut parts[at];
    encode(&record, &mut part.arena);
    let payload = match record {
        Record::Event(event) => Payload::Event(event),
        Record::Rejected(rejected) => Payload::Rejected(Box::new(rejected)),
        // Nobody submits other records.
        Record::Resolved { .. } | Record::Plant(_) | Record::Dashboard(_) => {
            return ticket.fail(SubmitError::Moved);
        }
    };
    part.items.push(Item {
        index,
        dedupe,
        end: u32::try_from(part.arena.len()).unwrap_or(u32::MAX),
        payload,
    });
}
