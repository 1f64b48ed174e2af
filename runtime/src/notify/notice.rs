//! What a destination is told: a change of an alarm, and where in the journal it came from.
//!
//! Promises: its id is the same however often it is derived, and no other has it. Its bytes stand in a shard's snapshot
//! while a destination waits for it.

use gemba_twins::{
    alarm::{AlarmChange, AlarmState, AlarmWhat, Priority},
    event::Value,
    id::{TenantId, TwinId},
    time::Timestamp,
};
use prost::Message as _;

/// One notification.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Notice {
    /// The shard and seq of the event that led to it, and its number among what that event led to.
    pub(crate) shard: u16,
    pub(crate) seq: u64,
    pub(crate) index: u32,
    pub(crate) twin: TwinId,
    pub(crate) change: AlarmChange,
}

/// How far a destination was told of a shard: all up to this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Told {
    pub(crate) seq: u64,
    pub(crate) index: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NoticeWire {
    #[prost(uint64, tag = "1")]
    seq: u64,
    #[prost(uint32, tag = "2")]
    index: u32,
    #[prost(string, tag = "3")]
    tenant: String,
    #[prost(string, tag = "4")]
    twin: String,
    #[prost(string, tag = "5")]
    rule: String,
    #[prost(string, tag = "6")]
    text: String,
    #[prost(uint32, tag = "7")]
    what: u32,
    #[prost(sint64, tag = "8")]
    at_ms: i64,
    #[prost(uint32, tag = "9")]
    state: u32,
    #[prost(uint32, tag = "10")]
    priority: u32,
    #[prost(oneof = "ValueWire", tags = "11, 12, 13")]
    value: Option<ValueWire>,
    #[prost(string, optional, tag = "14")]
    by: Option<String>,
    #[prost(string, optional, tag = "15")]
    comment: Option<String>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum ValueWire {
    #[prost(double, tag = "11")]
    Number(f64),
    #[prost(string, tag = "12")]
    Text(String),
    #[prost(bool, tag = "13")]
    Bool(bool),
}

impl Notice {
    pub(crate) fn told(&self) -> Told {
        Told {
            seq: self.seq,
            index: self.index,
        }
    }

    /// The id that a repetition is known by. The time is in it, so that a data folder made anew gives other ids.
    pub(crate) fn id(&self) -> String {
        format!(
            "{}-{}-{}-{:x}",
            self.shard,
            self.seq,
            self.index,
            self.change.at.ms()
        )
    }

    /// `machine:cnc-07:spindle_hot`
    pub(crate) fn alarm(&self) -> String {
        format!("{}:{}:{}", self.twin.kind(), self.twin.id(), self.change.rule)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let change = &self.change;
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        NoticeWire {
            seq: self.seq,
            index: self.index,
            tenant: self.twin.tenant().as_str().to_owned(),
            twin: self.twin.to_string(),
            rule: change.rule.to_string(),
            text: change.text.to_string(),
            what: change.what as u32,
            at_ms: change.at.ms(),
            state: change.state as u32,
            priority: change.priority as u32,
            value: change.value.as_ref().map(|value| match value {
                Value::Number(number) => ValueWire::Number(*number),
                Value::Text(text) => ValueWire::Text(text.to_string()),
                Value::Bool(yes) => ValueWire::Bool(*yes),
            }),
            by: text(&change.by),
            comment: text(&change.comment),
        }
        .encode_to_vec()
    }

    /// Reads a notice of a shard; `None` for bytes that are none, or that a newer release wrote.
    pub(crate) fn decode(shard: u16, bytes: &[u8]) -> Option<Self> {
        let wire = NoticeWire::decode(bytes).ok()?;
        let tenant = TenantId::parse(&wire.tenant).ok()?;
        let state = AlarmState::ALL
            .into_iter()
            .find(|state| *state as u32 == wire.state)?;
        Some(Self {
            shard,
            seq: wire.seq,
            index: wire.index,
            twin: TwinId::parse(tenant, &wire.twin).ok()?,
            change: AlarmChange {
                rule: wire.rule.into(),
                text: wire.text.into(),
                what: AlarmWhat::from_number(wire.what)?,
                at: Timestamp::from_ms(wire.at_ms),
                state,
                priority: Priority::from_number(wire.priority)?,
                value: wire.value.map(|value| match value {
                    ValueWire::Number(number) => Value::Number(number),
                    ValueWire::Text(text) => Value::Text(text.into()),
                    ValueWire::Bool(yes) => Value::Bool(yes),
                }),
                by: wire.by.map(Into::into),
                comment: wire.comment.map(Into::into),
            },
        })
    }
}
