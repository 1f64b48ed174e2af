//! What a shard's journal holds: one byte that says which record it is, then its prost body. Drawn in FORMAT.md.
//!
//! Promises: a record once written is read for ever; numbers of kinds and fields are never used again for another.

use std::sync::Arc;

use gemba_twins::{
    event::Event,
    id::{Kind, TenantId},
    time::Timestamp,
};
use prost::Message as _;
use thiserror::Error;

use crate::dashboards::{self, Dashboard};
use crate::decode::RfidFormat;

const EVENT: u8 = 1;
const REJECTED: u8 = 2;
const RESOLVED: u8 = 3;
const PLANT: u8 = 4;
const DASHBOARD: u8 = 10;

/// A record of a shard's journal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    /// A twin folds it.
    Event(Event),
    /// A message was kept aside.
    Rejected(RejectedRecord),
    /// A rejected message was retried with success, or dropped.
    Resolved { tenant: TenantId, seq: u64 },
    /// A tenant's plant model was applied; only on the control shard.
    Plant(PlantRecord),
    /// A dashboard was saved or removed; only on the control shard.
    Dashboard(Box<Dashboard>),
}

/// A message that could not be read or bound, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RejectedRecord {
    pub(crate) tenant: TenantId,
    pub(crate) at: Timestamp,
    pub(crate) source: Arc<str>,
    pub(crate) way: Way,
    pub(crate) topic: Box<str>,
    pub(crate) code: Box<str>,
    pub(crate) detail: Box<str>,
    pub(crate) payload: Box<[u8]>,
    pub(crate) truncated: bool,
}

/// How a rejected message came, and so how it is read again. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Way {
    /// Cannot be read again.
    None = 0,
    Reading = 1,
    Scan = 2,
    ChirpStack = 3,
    TheThingsStack = 4,
    Impinj = 140,
    Zebra = 141,
    Rfid = 142,
    Epcis = 143,
}

impl Way {
    fn from_number(number: u32) -> Self {
        [
            Self::Reading,
            Self::Scan,
            Self::ChirpStack,
            Self::TheThingsStack,
            Self::Impinj,
            Self::Zebra,
            Self::Rfid,
            Self::Epcis,
        ]
        .into_iter()
        .find(|way| *way as u32 == number)
        .unwrap_or(Self::None)
    }

    /// The way of reads in a format.
    pub(crate) fn of(format: RfidFormat) -> Self {
        match format {
            RfidFormat::Impinj => Self::Impinj,
            RfidFormat::Zebra => Self::Zebra,
            RfidFormat::Generic => Self::Rfid,
        }
    }
}

/// A plant model as it was applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlantRecord {
    pub(crate) tenant: TenantId,
    pub(crate) version: u64,
    pub(crate) at: Timestamp,
    pub(crate) by: Box<str>,
    /// The model's canonical text.
    pub(crate) text: Box<str>,
}

/// A record that this release cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("journal record cannot be read: {0} (written by a newer release?)")]
pub(crate) struct Unreadable(String);

#[derive(Clone, PartialEq, prost::Message)]
struct RejectedWire {
    #[prost(string, tag = "1")]
    tenant: String,
    #[prost(sint64, tag = "2")]
    at_ms: i64,
    #[prost(string, tag = "3")]
    source: String,
    #[prost(uint32, tag = "4")]
    way: u32,
    #[prost(string, tag = "5")]
    topic: String,
    #[prost(string, tag = "6")]
    code: String,
    #[prost(string, tag = "7")]
    detail: String,
    #[prost(bytes = "vec", tag = "8")]
    payload: Vec<u8>,
    #[prost(bool, tag = "9")]
    truncated: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResolvedWire {
    #[prost(string, tag = "1")]
    tenant: String,
    #[prost(uint64, tag = "2")]
    seq: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PlantWire {
    #[prost(string, tag = "1")]
    tenant: String,
    #[prost(uint64, tag = "2")]
    version: u64,
    #[prost(sint64, tag = "3")]
    at_ms: i64,
    #[prost(string, tag = "4")]
    by: String,
    #[prost(string, tag = "5")]
    text: String,
}

/// What a shard keeps with its snapshot beside the twins.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ShardMeta {
    /// The seq that the snapshot stands for.
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    /// Keys that ever entered the dedupe window.
    #[prost(uint64, tag = "2")]
    pub(crate) dedupe_count: u64,
    /// The highest message taken from each shard.
    #[prost(message, repeated, tag = "3")]
    pub(crate) heard: Vec<OriginWire>,
    /// Messages to other twins that are not confirmed.
    #[prost(message, repeated, tag = "4")]
    pub(crate) outbox: Vec<OutboxWire>,
    /// Rejected messages kept, by tenant.
    #[prost(message, repeated, tag = "5")]
    pub(crate) rejected: Vec<RejectedCountWire>,
    /// Twins with alarms that have to be told when time has passed.
    #[prost(message, repeated, tag = "120")]
    pub(crate) deadlines: Vec<DeadlineWire>,
    /// Notifications that a destination still waits for, as `notify` encodes them.
    #[prost(bytes = "vec", repeated, tag = "121")]
    pub(crate) notices: Vec<Vec<u8>>,
    /// Changes of alarms that stand in no file of the history, encoded likewise.
    #[prost(bytes = "vec", repeated, tag = "122")]
    pub(crate) unfiled_alarms: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeadlineWire {
    #[prost(sint64, tag = "1")]
    pub(crate) at_ms: i64,
    #[prost(string, tag = "2")]
    pub(crate) tenant: String,
    /// `machine/cnc-07`
    #[prost(string, tag = "3")]
    pub(crate) twin: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct OriginWire {
    #[prost(uint32, tag = "1")]
    pub(crate) shard: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) seq: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) index: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OutboxWire {
    #[prost(uint32, tag = "1")]
    pub(crate) to_shard: u32,
    /// The event as the receiver will journal it, with its origin.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) event: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RejectedCountWire {
    #[prost(string, tag = "1")]
    pub(crate) tenant: String,
    #[prost(uint64, tag = "2")]
    pub(crate) count: u64,
}

pub(crate) fn encode_event(event: &Event, out: &mut Vec<u8>) {
    out.push(EVENT);
    event.encode(out);
}

pub(crate) fn encode_rejected(rejected: &RejectedRecord, out: &mut Vec<u8>) {
    out.push(REJECTED);
    encode_rejected_body(rejected, out);
}

pub(crate) fn encode_rejected_body(rejected: &RejectedRecord, out: &mut Vec<u8>) {
    let wire = RejectedWire {
        tenant: rejected.tenant.as_str().to_owned(),
        at_ms: rejected.at.ms(),
        source: rejected.source.to_string(),
        way: rejected.way as u32,
        topic: rejected.topic.to_string(),
        code: rejected.code.to_string(),
        detail: rejected.detail.to_string(),
        payload: rejected.payload.to_vec(),
        truncated: rejected.truncated,
    };
    out.extend_from_slice(&wire.encode_to_vec());
}

pub(crate) fn encode_resolved(tenant: &TenantId, seq: u64, out: &mut Vec<u8>) {
    out.push(RESOLVED);
    out.extend_from_slice(
        &ResolvedWire {
            tenant: tenant.as_str().to_owned(),
            seq,
        }
        .encode_to_vec(),
    );
}

pub(crate) fn encode_plant(plant: &PlantRecord, out: &mut Vec<u8>) {
    out.push(PLANT);
    out.extend_from_slice(&encode_plant_body(plant));
}

pub(crate) fn encode_dashboard(dashboard: &Dashboard, out: &mut Vec<u8>) {
    out.push(DASHBOARD);
    out.extend_from_slice(&dashboards::encode(dashboard));
}

pub(crate) fn encode_plant_body(plant: &PlantRecord) -> Vec<u8> {
    PlantWire {
        tenant: plant.tenant.as_str().to_owned(),
        version: plant.version,
        at_ms: plant.at.ms(),
        by: plant.by.to_string(),
        text: plant.text.to_string(),
    }
    .encode_to_vec()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Record, Unreadable> {
    match bytes.split_first() {
        Some((&EVENT, body)) => Event::decode(body).map(Record::Event).map_err(unreadable),
        Some((&REJECTED, body)) => decode_rejected(body).map(Record::Rejected),
        Some((&RESOLVED, body)) => {
            let wire = ResolvedWire::decode(body).map_err(unreadable)?;
            Ok(Record::Resolved {
                tenant: tenant(&wire.tenant)?,
                seq: wire.seq,
            })
        }
        Some((&PLANT, body)) => decode_plant(body).map(Record::Plant),
        Some((&DASHBOARD, body)) => {
            let dashboard = dashboards::decode(body).map_err(unreadable)?;
            Ok(Record::Dashboard(Box::new(dashboard)))
        }
        Some((kind, _)) => Err(Unreadable(format!("kind {kind}"))),
        None => Err(Unreadable("no bytes".into())),
    }
}

/// The address of the twin that an event record is for, without reading the rest; `None` for other records.
pub(crate) fn peek_twin(bytes: &[u8]) -> Option<(&str, Kind, &str)> {
    match bytes.split_first() {
        Some((&EVENT, body)) => Event::peek_twin(body).ok(),
        _ => None,
    }
}

/// When the event of a record was received; `None` for other records.
pub(crate) fn received_at(bytes: &[u8]) -> Option<Timestamp> {
    match decode(bytes) {
        Ok(Record::Event(event)) => Some(event.received_at),
        _ => None,
    }
}

pub(crate) fn decode_rejected(body: &[u8]) -> Result<RejectedRecord, Unreadable> {
    let wire = RejectedWire::decode(body).map_err(unreadable)?;
    Ok(RejectedRecord {
        tenant: tenant(&wire.tenant)?,
        at: Timestamp::from_ms(wire.at_ms),
        source: wire.source.into(),
        way: Way::from_number(wire.way),
        topic: wire.topic.into(),
        code: wire.code.into(),
        detail: wire.detail.into(),
        payload: wire.payload.into(),
        truncated: wire.truncated,
    })
}

pub(crate) fn decode_plant(body: &[u8]) -> Result<PlantRecord, Unreadable> {
    let wire = PlantWire::decode(body).map_err(unreadable)?;
    Ok(PlantRecord {
        tenant: tenant(&wire.tenant)?,
        version: wire.version,
        at: Timestamp::from_ms(wire.at_ms),
        by: wire.by.into(),
        text: wire.text.into(),
    })
}

fn tenant(text: &str) -> Result<TenantId, Unreadable> {
    TenantId::parse(text).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> Unreadable {
    Unreadable(error.to_string())
}
