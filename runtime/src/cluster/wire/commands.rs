//! Wishes of people and programs, and their answers, on their way between nodes.
//!
//! Promises: as in `wire.rs`. An answer comes as it was given, so that a caller is told the same by every node.

use gemba_twins::{
    alarm::{AlarmRefused, AlarmState},
    event::{AttributesSet, Body, Event},
    id::{TenantId, TwinId},
    time::Timestamp,
};
use prost::Message;

use crate::{dashboards::PutDashboard, decode::Rejection, node::CommandError, shard::CommandKind};

#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct CommandWire {
    /// What a command about a twin says, as the event that it leads to.
    #[prost(bytes = "vec", optional, tag = "1")]
    event: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "2")]
    if_rev: Option<u64>,
    /// The alarm's state that it must have.
    #[prost(uint32, optional, tag = "3")]
    if_state: Option<u32>,
    #[prost(string, tag = "4")]
    tenant: String,
    /// A rejected message that is settled.
    #[prost(uint64, optional, tag = "5")]
    resolve: Option<u64>,
    /// A plant model, or a dashboard where `dashboard` names it.
    #[prost(string, tag = "6")]
    text: String,
    #[prost(string, tag = "7")]
    by: String,
    #[prost(string, optional, tag = "8")]
    dashboard: Option<String>,
}

impl CommandWire {
    pub(in crate::cluster) fn of(kind: &CommandKind) -> Self {
        let mut wire = Self::default();
        let mut say = |twin: &TwinId, body: Body| {
            let event = Event {
                twin: twin.clone(),
                at: Timestamp::from_ms(0),
                received_at: Timestamp::from_ms(0),
                source: "".into(),
                message_id: "".into(),
                origin: None,
                body,
            };
            let mut bytes = Vec::new();
            event.encode(&mut bytes);
            wire.event = Some(bytes);
        };
        match kind {
            CommandKind::SetAttributes {
                twin,
                patch,
                by,
                if_rev,
            } => {
                let (patch, by) = (patch.clone(), by.clone());
                say(twin, Body::AttributesSet(AttributesSet { patch, by }));
                wire.if_rev = *if_rev;
            }
            CommandKind::Alarm { twin, said, if_state } => {
                say(twin, Body::Alarm(said.clone()));
                wire.if_state = if_state.map(|state| state as u32);
            }
            CommandKind::Refold {
                twin,
                refolded,
                if_rev,
            } => {
                say(twin, Body::Refolded(Box::new(refolded.clone())));
                wire.if_rev = Some(*if_rev);
            }
            CommandKind::Resolve { tenant, seq } => {
                wire.tenant = tenant.as_str().to_owned();
                wire.resolve = Some(*seq);
            }
            CommandKind::ApplyPlant { tenant, text, by } => {
                wire.tenant = tenant.as_str().to_owned();
                wire.text = text.to_string();
                wire.by = by.to_string();
            }
            CommandKind::PutDashboard(put) => {
                wire.tenant = put.tenant.as_str().to_owned();
                wire.dashboard = Some(put.id.to_string());
                wire.text = put.content.to_string();
                wire.by = put.by.to_string();
                wire.if_rev = put.if_version;
            }
        }
        wire
    }

    pub(in crate::cluster) fn kind(self) -> Result<CommandKind, String> {
        if let Some(bytes) = &self.event {
            let event = Event::decode(bytes).map_err(|error| error.to_string())?;
            let twin = event.twin;
            return Ok(match event.body {
                Body::AttributesSet(set) => CommandKind::SetAttributes {
                    twin,
                    patch: set.patch,
                    by: set.by,
                    if_rev: self.if_rev,
                },
                Body::Alarm(said) => CommandKind::Alarm {
                    twin,
                    said,
                    if_state: self.if_state.and_then(alarm_state),
                },
                Body::Refolded(refolded) => CommandKind::Refold {
                    twin,
                    refolded: *refolded,
                    if_rev: self.if_rev.unwrap_or_default(),
                },
                _ => return Err("a command that is not known here".into()),
            });
        }
        let tenant = TenantId::parse(&self.tenant).map_err(|error| error.to_string())?;
        Ok(match (self.resolve, self.dashboard) {
            (Some(seq), _) => CommandKind::Resolve { tenant, seq },
            (None, Some(id)) => CommandKind::PutDashboard(Box::new(PutDashboard {
                tenant,
                id: id.into(),
                by: self.by.into(),
                content: self.text.into(),
                if_version: self.if_rev,
            })),
            (None, None) => CommandKind::ApplyPlant {
                tenant,
                text: self.text.into(),
                by: self.by.into(),
            },
        })
    }
}

fn alarm_state(number: u32) -> Option<AlarmState> {
    AlarmState::ALL.into_iter().find(|state| *state as u32 == number)
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct CommandReply {
    /// The answer, or what is wrong: 0 done, 1 moved, 2 not found, 3 another revision, 4 another state of the alarm,
    /// 5 the alarm's state forbids it, 6 invalid, 7 busy, 8 unavailable.
    #[prost(uint32, tag = "1")]
    what: u32,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(string, tag = "3")]
    code: String,
    #[prost(string, tag = "4")]
    detail: String,
}

/// Codes of what a shard may find invalid; the others are found before a command is sent.
const CODES: [&str; 2] = ["dashboard.not_owner", "dashboard.too_many"];

impl CommandReply {
    pub(in crate::cluster) fn of(result: Result<u64, CommandError>) -> Self {
        let detail = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let (what, number, code) = match result {
            Ok(value) => (0, value, ""),
            Err(CommandError::Moved) => (1, 0, ""),
            Err(CommandError::NotFound) => (2, 0, ""),
            Err(CommandError::RevMismatch { current }) => (3, current, ""),
            Err(CommandError::StateMismatch { current }) => (4, current as u64, ""),
            Err(CommandError::Alarm(refused)) => (5, refused_number(refused), refused.code()),
            Err(CommandError::Invalid(rejection)) => (6, 0, rejection.code),
            Err(CommandError::Busy) => (7, 0, ""),
            Err(CommandError::Unavailable(_)) => (8, 0, ""),
        };
        Self {
            what,
            number,
            code: code.into(),
            detail,
        }
    }

    pub(in crate::cluster) fn result(self) -> Result<u64, CommandError> {
        let state = u32::try_from(self.number).ok().and_then(alarm_state);
        let unavailable = CommandError::Unavailable(self.detail.clone());
        Err(match self.what {
            0 => return Ok(self.number),
            1 => CommandError::Moved,
            2 => CommandError::NotFound,
            3 => CommandError::RevMismatch { current: self.number },
            4 => state.map_or(unavailable, |current| CommandError::StateMismatch { current }),
            5 => refused_of(self.number).map_or(unavailable, CommandError::Alarm),
            6 => match CODES.into_iter().find(|code| *code == self.code) {
                Some(code) => CommandError::Invalid(Rejection::new(code, self.detail)),
                None => unavailable,
            },
            7 => CommandError::Busy,
            _ => unavailable,
        })
    }
}

/// A refusal as a number: its kind in the hundreds, the alarm's state below.
fn refused_number(refused: AlarmRefused) -> u64 {
    match refused {
        AlarmRefused::Unknown => 0,
        AlarmRefused::Acknowledged(state) => 100 + state as u64,
        AlarmRefused::NotShelved(state) => 200 + state as u64,
        AlarmRefused::OutOfService => 300,
        AlarmRefused::InService => 400,
        AlarmRefused::NotLatched(state) => 500 + state as u64,
    }
}

fn refused_of(number: u64) -> Option<AlarmRefused> {
    let state = u32::try_from(number % 100).ok().and_then(alarm_state);
    Some(match number / 100 {
        0 => AlarmRefused::Unknown,
        1 => AlarmRefused::Acknowledged(state?),
        2 => AlarmRefused::NotShelved(state?),
        3 => AlarmRefused::OutOfService,
        4 => AlarmRefused::InService,
        5 => AlarmRefused::NotLatched(state?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_commands_come_as_they_were_given() {
        let refused = [
            AlarmRefused::Unknown,
            AlarmRefused::OutOfService,
            AlarmRefused::InService,
        ];
        let by_state = AlarmState::ALL.into_iter().flat_map(|state| {
            [
                AlarmRefused::Acknowledged(state),
                AlarmRefused::NotShelved(state),
                AlarmRefused::NotLatched(state),
            ]
        });
        let alarms = refused.into_iter().chain(by_state).map(CommandError::Alarm);
        let errors = alarms.chain([
            CommandError::Moved,
            CommandError::NotFound,
            CommandError::RevMismatch { current: 812 },
            CommandError::StateMismatch {
                current: AlarmState::ALL[1],
            },
            CommandError::Invalid(Rejection::new("dashboard.too_many", "many")),
            CommandError::Busy,
        ]);
        for error in errors {
            let bytes = CommandReply::of(Err(error.clone())).encode_to_vec();
            let back = CommandReply::decode(&*bytes).expect("a reply").result();
            assert_eq!(back, Err(error));
        }
        assert_eq!(CommandReply::of(Ok(7)).result(), Ok(7));
    }
}
