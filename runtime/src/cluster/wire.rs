//! What nodes say to one another on behalf of their clients, as bytes.
//!
//! Promises: fields are added and never used again for another; what is not understood is an error, never a guess.
//! Carried by the cluster's port, beside what replication says.

mod commands;
mod elsewhere;

use bytes::Bytes;
use gemba_twins::event::{Event, Origin};
use prost::Message;

pub(super) use self::{
    commands::{CommandReply, CommandWire},
    elsewhere::{
        CallReply, CallWire, FollowReply, FollowWire, FrameWire, FramesReply, HeaderWire, NextWire,
        PastEvent, PastReply, PastWire, TwinWire, TwinsReply, TwinsWire,
    },
};
use super::standing::ChangeWire;
use crate::{
    accounts::End,
    ingest::{Item, Payload, Submission, TicketState},
    shard::{
        Transfer,
        record::{self, Record},
    },
};

/// What a node says.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Envelope {
    #[prost(oneof = "Said", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15")]
    pub(super) said: Option<Said>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Said {
    /// Messages for the owner of a shard; answered by [`BatchReply`].
    #[prost(message, tag = "1")]
    Batch(BatchWire),
    /// Messages between twins, for the owner of a shard.
    #[prost(message, tag = "2")]
    Transfer(TransferWire),
    /// What a shard has on disk of another one's messages.
    #[prost(message, tag = "3")]
    Confirm(ConfirmWire),
    /// A wish of a person or a program; answered by [`CommandReply`].
    #[prost(message, tag = "4")]
    Command(CommandWire),
    /// How far shards are folded at their owner; answered by [`FoldedReply`].
    #[prost(message, tag = "5")]
    Folded(FoldedWire),
    /// To be answered when a seq of a shard is folded.
    #[prost(message, tag = "6")]
    Await(AwaitWire),
    /// How far a destination of notifications was told.
    #[prost(message, tag = "7")]
    Told(ToldWire),
    /// How the shards stand that the node owns; answered by [`StandingReply`](super::standing::StandingReply).
    #[prost(message, tag = "8")]
    Standing(Nothing),
    /// A change of the cluster's map, for its owner.
    #[prost(message, tag = "9")]
    Change(ChangeWire),
    /// Twins of a shard that the asking node does not keep; answered by [`TwinsReply`].
    #[prost(message, tag = "10")]
    Twins(TwinsWire),
    /// A call about something that the asking node does not keep; answered by [`CallReply`].
    #[prost(message, tag = "11")]
    Call(CallWire),
    /// A subscription to twins that the asking node does not keep; answered by [`FollowReply`].
    #[prost(message, tag = "12")]
    Follow(FollowWire),
    /// What is new in it; answered by [`FramesReply`].
    #[prost(message, tag = "13")]
    Next(NextWire),
    /// Readings and scans that the asking node's journal lacks; answered by [`PastReply`].
    #[prost(message, tag = "14")]
    Past(PastWire),
    /// Up to which seq the warehouse needs nothing of shards that the node owns; answered by [`FoldedReply`], with 0 for
    /// those that it does not own.
    #[prost(message, tag = "15")]
    Cleared(FoldedWire),
}

/// A question that needs no more words.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Nothing {}

pub(super) fn say(said: Said) -> Bytes {
    Envelope { said: Some(said) }.encode_to_vec().into()
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BatchWire {
    /// The records, one after the other.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) arena: Bytes,
    /// Where each ends.
    #[prost(uint32, repeated, tag = "2")]
    pub(super) ends: Vec<u32>,
    /// What a repetition of each is recognised by: 16 bytes, little-endian.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) keys: Bytes,
}

impl BatchWire {
    /// The batch as a submission of nobody's.
    pub(super) fn submission(self, ticket: std::sync::Arc<TicketState>) -> Result<Submission, String> {
        let mut items = Vec::with_capacity(self.ends.len());
        let (keys, _) = self.keys.as_chunks::<16>();
        if keys.len() != self.ends.len() {
            return Err("a batch without its keys".into());
        }
        let mut start = 0;
        for ((index, end), key) in (0_u32..).zip(&self.ends).zip(keys) {
            let bytes = self.arena.get(start..*end as usize);
            let bytes = bytes.ok_or("a batch shorter than its records")?;
            let payload = match record::decode(bytes).map_err(|error| error.to_string())? {
                Record::Event(event) => Payload::Event(event),
                Record::Rejected(rejected) => Payload::Rejected(Box::new(rejected)),
                _ => return Err("a batch with records that no client sends".into()),
            };
            items.push(Item {
                index,
                dedupe: u128::from_le_bytes(*key),
                end: *end,
                payload,
            });
            start = *end as usize;
        }
        Ok(Submission {
            ticket,
            items,
            arena: self.arena.to_vec(),
        })
    }
}

/// Nothing was promised for a message.
const UNKNOWN_END: u8 = u8::MAX;

#[derive(Clone, PartialEq, Message)]
pub(super) struct BatchReply {
    /// Whether the node owned the shard; where not, nothing was taken.
    #[prost(bool, tag = "1")]
    pub(super) owned: bool,
    /// Who may own it.
    #[prost(uint64, optional, tag = "2")]
    pub(super) owner: Option<u64>,
    /// How each message ended, a byte each.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) ends: Bytes,
}

impl BatchReply {
    pub(super) fn of(ends: impl Iterator<Item = Option<End>>) -> Self {
        let ends = ends.map(|end| end.map_or(UNKNOWN_END, |end| end as u8));
        Self {
            owned: true,
            owner: None,
            ends: ends.collect(),
        }
    }

    pub(super) fn end(&self, at: usize) -> Option<End> {
        End::from_number(self.ends.get(at).copied().unwrap_or(UNKNOWN_END))
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct OriginWire {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(uint32, tag = "3")]
    index: u32,
}

impl From<Origin> for OriginWire {
    fn from(origin: Origin) -> Self {
        Self {
            shard: u32::from(origin.shard),
            seq: origin.seq,
            index: origin.index,
        }
    }
}

impl From<OriginWire> for Origin {
    fn from(wire: OriginWire) -> Self {
        Self {
            shard: u16::try_from(wire.shard).unwrap_or(u16::MAX),
            seq: wire.seq,
            index: wire.index,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TransferWire {
    #[prost(uint32, tag = "1")]
    from: u32,
    #[prost(message, optional, tag = "2")]
    previous: Option<OriginWire>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    events: Vec<Vec<u8>>,
}

/// Bytes of events in one message.
const TRANSFER_BYTES: usize = 1 << 20;

impl TransferWire {
    /// A transfer in parts that fit into messages.
    pub(super) fn parts(transfer: &Transfer) -> Vec<Self> {
        let mut parts: Vec<Self> = Vec::new();
        let (mut previous, mut bytes) = (transfer.previous, TRANSFER_BYTES);
        for event in &transfer.events {
            let mut encoded = Vec::new();
            event.encode(&mut encoded);
            if bytes >= TRANSFER_BYTES || parts.is_empty() {
                bytes = 0;
                parts.push(Self {
                    from: u32::from(transfer.from),
                    previous: Some(previous.into()),
                    events: Vec::new(),
                });
            }
            bytes += encoded.len();
            if let Some(part) = parts.last_mut() {
                part.events.push(encoded);
            }
            previous = event.origin.unwrap_or(previous);
        }
        parts
    }

    pub(super) fn transfer(self) -> Result<Transfer, String> {
        let events = self.events.iter().map(|bytes| Event::decode(bytes));
        Ok(Transfer {
            from: u16::try_from(self.from).map_err(|error| error.to_string())?,
            previous: self.previous.map(Origin::from).unwrap_or_default(),
            events: events
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ConfirmWire {
    #[prost(uint32, tag = "1")]
    pub(super) by: u32,
    #[prost(message, optional, tag = "2")]
    pub(super) up_to: Option<OriginWire>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FoldedWire {
    #[prost(uint32, repeated, tag = "1")]
    pub(super) shards: Vec<u32>,
}

/// For each shard asked for: the seq that is folded and 1, or 0 where the node does not own it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FoldedReply {
    #[prost(uint64, repeated, tag = "1")]
    pub(super) next: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct AwaitWire {
    #[prost(uint64, tag = "1")]
    pub(super) seq: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ToldWire {
    #[prost(string, tag = "1")]
    pub(super) destination: String,
    /// Of which shard (the field of an origin), up to which seq and index.
    #[prost(message, repeated, tag = "2")]
    pub(super) told: Vec<OriginWire>,
}

#[cfg(test)]
mod tests {
    use gemba_twins::{event::Body, id::TenantId, time::Timestamp};

    use super::*;

    #[test]
    fn a_long_transfer_is_cut_and_each_part_names_what_came_before_it() {
        let twin = gemba_twins::id::TwinId::new(
            TenantId::parse("acme").expect("a tenant"),
            gemba_twins::id::Kind::Machine,
            "cnc",
        );
        let twin = twin.expect("a twin");
        let event = |seq| Event {
            twin: twin.clone(),
            at: Timestamp::from_ms(1),
            received_at: Timestamp::from_ms(1),
            source: "x".repeat(300_000).as_str().into(),
            message_id: "".into(),
            origin: Some(Origin {
                shard: 3,
                seq,
                index: 0,
            }),
            body: Body::Ticked,
        };
        let transfer = Transfer {
            from: 3,
            previous: Origin {
                shard: 3,
                seq: 9,
                index: 1,
            },
            events: (10..20).map(event).collect(),
        };
        let parts = TransferWire::parts(&transfer);
        assert!(parts.len() > 1);
        let mut previous = transfer.previous;
        for part in parts {
            let part = part.transfer().expect("a transfer");
            assert_eq!(part.previous, previous);
            previous = part
                .events
                .last()
                .and_then(|event| event.origin)
                .expect("an origin");
        }
        assert_eq!(previous.seq, 19);
    }
}
