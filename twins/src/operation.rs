//! When a twin means to work, as bytes within its configuration; drawn in FORMAT.md.

use prost::Message;

use crate::{
    calendar::{Calendar, Offset, Shift},
    config::Operation,
};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperationWire {
    #[prost(message, repeated, tag = "1")]
    shifts: Vec<ShiftWire>,
    #[prost(uint32, repeated, tag = "2")]
    offsets: Vec<u32>,
    #[prost(int64, optional, tag = "3")]
    micro_stop_ms: Option<i64>,
    #[prost(int64, optional, tag = "4")]
    lateness_ms: Option<i64>,
    #[prost(string, repeated, tag = "5")]
    reports_to: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ShiftWire {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    days: u32,
    #[prost(uint32, tag = "3")]
    start_min: u32,
    #[prost(uint32, tag = "4")]
    end_min: u32,
    /// From and to of each.
    #[prost(uint32, repeated, tag = "5")]
    breaks: Vec<u32>,
}

pub(crate) fn operation_to_wire(operation: &Operation) -> OperationWire {
    let shift = |shift: &Shift| ShiftWire {
        name: shift.name.to_string(),
        days: shift.days.into(),
        start_min: shift.start_min.into(),
        end_min: shift.end_min.into(),
        breaks: shift
            .breaks
            .iter()
            .flat_map(|(from, to)| [u32::from(*from), u32::from(*to)])
            .collect(),
    };
    OperationWire {
        shifts: operation.calendar.shifts.iter().map(shift).collect(),
        offsets: operation
            .calendar
            .offsets
            .iter()
            .map(|offset| offset.number())
            .collect(),
        micro_stop_ms: operation.micro_stop_ms,
        lateness_ms: operation.lateness_ms,
        reports_to: operation.reports_to.iter().map(|id| id.to_string()).collect(),
    }
}

pub(crate) fn operation_from_wire(wire: OperationWire) -> Operation {
    let minutes = |minutes: u32| u16::try_from(minutes).unwrap_or(u16::MAX);
    let shift = |shift: ShiftWire| Shift {
        name: shift.name.into(),
        days: u8::try_from(shift.days & 0x7f).unwrap_or(0),
        start_min: minutes(shift.start_min),
        end_min: minutes(shift.end_min),
        breaks: shift
            .breaks
            .chunks_exact(2)
            .map(|pair| (minutes(pair[0]), minutes(pair[1])))
            .collect(),
    };
    Operation {
        calendar: Calendar {
            shifts: wire.shifts.into_iter().map(shift).collect(),
            offsets: wire.offsets.into_iter().map(Offset::from_number).collect(),
        },
        micro_stop_ms: wire.micro_stop_ms,
        lateness_ms: wire.lateness_ms,
        reports_to: wire.reports_to.into_iter().map(String::into_boxed_str).collect(),
    }
}
