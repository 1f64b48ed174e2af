//! Commands: wishes of people and programs become records when their twin is at the revision they name.

use std::collections::BTreeSet;

use gemba_twins::{
    alarm::{AlarmSaid, AlarmState},
    event::{AttributesSet, Body, Event},
    id::TwinId,
    time::Timestamp,
    twin::Twin,
};

use super::{Command, CommandKind, Done, Pending, ShardState, answer, encode};
use crate::{
    clock,
    node::CommandError,
    shard::record::{PlantRecord, Record},
    table::Entry,
};

impl ShardState {
    pub(super) fn command(&mut self, command: Command) {
        if !self.serves() {
            return answer(command.reply, Err(CommandError::Moved));
        }
        match self.refusal() {
            Some(reason) => answer(command.reply, Err(CommandError::Unavailable(reason.to_string()))),
            None => {
                self.commands.push_back(command);
                self.dispatch();
            }
        }
    }

    /// Turns the commands that can go now into records; a second one that depends on the same twin waits.
    pub(super) fn admit_commands(&mut self, wave: &mut Vec<u8>) -> Vec<Pending> {
        let mut pending = Vec::new();
        let mut touched = BTreeSet::new();
        for command in std::mem::take(&mut self.commands) {
            let Command { kind, reply } = command;
            let record = match &kind {
                CommandKind::SetAttributes {
                    twin,
                    patch,
                    by,
                    if_rev,
                } => {
                    if if_rev.is_some() && touched.contains(twin) {
                        self.commands.push_back(Command { kind, reply });
                        continue;
                    }
                    match self.check_rev(twin, *if_rev) {
                        Ok(()) => {}
                        Err(error) => {
                            answer(reply, Err(error));
                            continue;
                        }
                    }
                    touched.insert(twin.clone());
                    let body = Body::AttributesSet(AttributesSet {
                        patch: patch.clone(),
                        by: by.clone(),
                    });
                    Record::Event(own_event(twin.clone(), clock::now(), body))
                }
                CommandKind::Alarm { twin, said, if_state } => {
                    // Whether it is allowed depends on what the command before it leads to.
                    if touched.contains(twin) {
                        self.commands.push_back(Command { kind, reply });
                        continue;
                    }
                    if let Err(error) = self.check_alarm(twin, said, *if_state) {
                        answer(reply, Err(error));
                        continue;
                    }
                    touched.insert(twin.clone());
                    Record::Event(own_event(twin.clone(), clock::now(), Body::Alarm(said.clone())))
                }
                CommandKind::Refold {
                    twin,
                    refolded,
                    if_rev,
                } => {
                    if touched.contains(twin) {
                        self.commands.push_back(Command { kind, reply });
                        continue;
                    }
                    if let Err(error) = self.check_rev(twin, Some(*if_rev)) {
                        answer(reply, Err(error));
                        continue;
                    }
                    touched.insert(twin.clone());
                    let body = Body::Refolded(Box::new(refolded.clone()));
                    Record::Event(own_event(twin.clone(), clock::now(), body))
                }
                CommandKind::Resolve { tenant, seq } => Record::Resolved {
                    tenant: tenant.clone(),
                    seq: *seq,
                },
                CommandKind::ApplyPlant { tenant, text, by } => {
                    if !pending.is_empty() {
                        self.commands.push_back(Command { kind, reply });
                        continue;
                    }
                    let version = self
                        .core
                        .shared
                        .plants
                        .plant(tenant)
                        .map_or(1, |plant| plant.version + 1);
                    let at = clock::now();
                    Record::Plant(PlantRecord {
                        tenant: tenant.clone(),
                        version,
                        at,
                        by: by.clone(),
                        text: text.clone(),
                    })
                }
                CommandKind::PutDashboard(put) => {
                    // What it leads to depends on what was saved before it.
                    if !pending.is_empty() {
                        self.commands.push_back(Command { kind, reply });
                        continue;
                    }
                    match self.core.shared.plants.dashboards.decide(put, clock::now()) {
                        Ok(dashboard) => Record::Dashboard(Box::new(dashboard)),
                        Err(error) => {
                            answer(reply, Err(error));
                            continue;
                        }
                    }
                }
            };
            let start = wave.len();
            encode(&record, wave);
            pending.push(Pending {
                done: Done::Reply(reply),
                record: Some(record),
                bytes: wave.len() - start,
                dedupe: 0,
            });
        }
        pending
    }

    fn look<R>(&self, twin: &TwinId, look: impl FnOnce(&Twin) -> R) -> Result<R, CommandError> {
        match self.core.table.entry(twin) {
            None => Err(CommandError::NotFound),
            Some(Entry::Resident(slot)) => Ok(slot.with(look)),
            Some(Entry::Passive) => match self.core.shared.store.twin(self.core.number, twin) {
                Ok(twin) => twin.as_ref().map(look).ok_or(CommandError::NotFound),
                Err(error) => Err(CommandError::Unavailable(error.to_string())),
            },
        }
    }

    fn check_alarm(
        &self,
        twin: &TwinId,
        said: &AlarmSaid,
        if_state: Option<AlarmState>,
    ) -> Result<(), CommandError> {
        self.look(twin, |twin| {
            twin.allows(said).map_err(CommandError::Alarm)?;
            let current = twin.alarm(&said.rule).map(|alarm| alarm.state());
            match (if_state, current) {
                (Some(wanted), Some(current)) if wanted != current => {
                    Err(CommandError::StateMismatch { current })
                }
                _ => Ok(()),
            }
        })?
    }

    pub(super) fn check_rev(&self, twin: &TwinId, if_rev: Option<u64>) -> Result<(), CommandError> {
        let current = self.look(twin, Twin::rev)?;
        match if_rev {
            Some(wanted) if wanted != current => Err(CommandError::RevMismatch { current }),
            _ => Ok(()),
        }
    }
}

/// An event that no device sent.
pub(super) fn own_event(twin: TwinId, at: Timestamp, body: Body) -> Event {
    Event {
        twin,
        at,
        received_at: at,
        source: "".into(),
        message_id: "".into(),
        origin: None,
        body,
    }
}
