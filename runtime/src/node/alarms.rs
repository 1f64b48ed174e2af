//! Alarms of all twins: lists, figures, what was done about one, and doing something about one.
//!
//! Promises: reads what was folded last; walks in slices and gives way between them, so that it holds up neither shards
//! nor other requests. What becomes of an alarm is told by its twin alone. Knows nothing of who may do what.

use gemba_twins::{
    alarm::{AlarmChange, AlarmSaid, AlarmState, AlarmView, Priority},
    id::{Kind, TenantId, TwinId},
    time::Timestamp,
    twin::Twin,
};

use tokio::{sync::watch, task::JoinHandle};

use super::{CommandError, Node, ReadError, Wanted, read::blocking};
use crate::{notify::InvalidDestination, shard::CommandKind};

/// Twins visited before giving way.
const SLICE: usize = 512;
/// Most alarms listed by name among the figures.
const LISTED_MAX: usize = 100;
/// More than so many alarms in ten minutes are a flood (ISA-18.2, per operator).
const FLOOD: usize = 10;

/// Which alarms are looked for.
#[derive(Debug, Clone)]
pub struct AlarmQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Only those of twins of a kind.
    pub kind: Option<Kind>,
    /// Only those of one twin.
    pub twin: Option<TwinId>,
    /// Only those in one of these states; empty takes all that are not normal.
    pub states: Vec<AlarmState>,
    /// Only those of one of these priorities; empty takes all.
    pub priorities: Vec<Priority>,
    /// Most alarms; a twin's alarms stay together, so there may be some more.
    pub limit: usize,
    /// The twin after which the page begins.
    pub after: Option<TwinId>,
}

/// Some alarms, as the caller made them.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmsPage<T> {
    /// By twin, then in the order of the rules.
    pub items: Vec<T>,
    /// The twin to go on after; `None` at the end.
    pub next: Option<TwinId>,
}

/// How a tenant's alarms stand, by the measures of ISA-18.2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlarmFigures {
    /// Active, and neither on the shelf nor suppressed nor out of service.
    pub active: usize,
    /// Waiting for an acknowledgement.
    pub unacknowledged: usize,
    /// On the shelf.
    pub shelved: usize,
    /// Announced in the last ten minutes; of one alarm at most 11 are counted.
    pub per_10_min: usize,
    /// More than a person can follow.
    pub flood: bool,
    /// Alarms that come and go: at least three times within a minute; at most 100.
    pub chattering: Vec<String>,
    /// Alarms that stand for more than a day; at most 100.
    pub stale: Vec<String>,
}

/// One thing that happened to an alarm.
#[derive(Debug, Clone, PartialEq)]
pub struct PastChange {
    /// When.
    pub at: Timestamp,
    /// What, as a word.
    pub what: &'static str,
    /// Who did it, where it was a person.
    pub by: Option<Box<str>>,
    /// What was said.
    pub comment: Option<Box<str>>,
}

impl AlarmQuery {
    fn takes(&self, alarm: &AlarmView<'_>) -> bool {
        let state = alarm.state();
        let in_state = if self.states.is_empty() {
            state != AlarmState::Normal
        } else {
            self.states.contains(&state)
        };
        in_state && (self.priorities.is_empty() || self.priorities.contains(&alarm.rule().priority))
    }
}

impl Node {
    /// Alarms that fit, each as `render` makes it.
    pub async fn alarms<T: Send>(
        &self,
        query: &AlarmQuery,
        mut render: impl FnMut(&AlarmView<'_>) -> T + Send,
    ) -> Result<AlarmsPage<T>, ReadError> {
        let mut items = Vec::new();
        if let Some(id) = &query.twin {
            self.recovered(id).await?;
            self.twins().with(id, |twin| {
                let alarms = twin.alarms().filter(|alarm| query.takes(alarm));
                items.extend(alarms.map(|alarm| render(&alarm)));
            })?;
            return Ok(AlarmsPage { items, next: None });
        }
        let twins = self
            .twins_together(&Wanted {
                kind: query.kind,
                ..Wanted::all(query.tenant.clone())
            })
            .await?;
        let mut at = query.after.clone();
        loop {
            let mut full = None;
            let next = twins.page(&query.tenant, query.kind, at.as_ref(), SLICE, &mut |twin| {
                if full.is_some() {
                    return;
                }
                let alarms = twin.alarms().filter(|alarm| query.takes(alarm));
                items.extend(alarms.map(|alarm| render(&alarm)));
                if items.len() >= query.limit {
                    full = Some(twin.id().clone());
                }
            })?;
            if full.is_some() || next.is_none() {
                return Ok(AlarmsPage { items, next: full });
            }
            at = next;
            tokio::task::yield_now().await;
        }
    }

    /// Delivers notifications until `shutdown` turns true; an error where a destination cannot work.
    pub fn notify(
        &self,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<Vec<JoinHandle<()>>, InvalidDestination> {
        self.inner.notifier.run(&self.inner.store, shutdown)
    }

    /// How a tenant's alarms stand at `now`.
    pub async fn alarm_figures(&self, tenant: &TenantId, now: Timestamp) -> Result<AlarmFigures, ReadError> {
        let twins = self.twins_together(&Wanted::all(tenant.clone())).await?;
        let mut figures = AlarmFigures::default();
        let mut count = |twin: &Twin| {
            if let Some(summary) = twin.alarm_summary() {
                figures.active += summary.active;
                figures.unacknowledged += summary.unacknowledged;
                figures.shelved += summary.shelved;
                for alarm in twin.alarms() {
                    figures.per_10_min += alarm.per_10_min(now);
                    if alarm.chatters(now) && figures.chattering.len() < LISTED_MAX {
                        figures.chattering.push(alarm.id());
                    }
                    if alarm.stands(now) && figures.stale.len() < LISTED_MAX {
                        figures.stale.push(alarm.id());
                    }
                }
            }
        };
        for shard in 0..twins.shards() {
            let mut at = None;
            loop {
                at = twins.slice(shard, tenant, None, at.as_ref(), SLICE, &mut count)?;
                tokio::task::yield_now().await;
                if at.is_none() {
                    break;
                }
            }
        }
        figures.chattering.sort_unstable();
        figures.stale.sort_unstable();
        figures.flood = figures.per_10_min > FLOOD;
        Ok(figures)
    }

    /// Does something about an alarm; `if_state` makes it conditional. Answers the twin's new revision.
    pub async fn say_of_alarm(
        &self,
        twin: &TwinId,
        said: AlarmSaid,
        if_state: Option<AlarmState>,
    ) -> Result<u64, CommandError> {
        let recovered = self.recovered(twin).await;
        recovered.map_err(|error| CommandError::Unavailable(error.to_string()))?;
        let kind = CommandKind::Alarm {
            twin: twin.clone(),
            said,
            if_state,
        };
        self.command(self.inner.router.shard_of(twin), twin.tenant(), kind)
            .await
    }

    /// What happened to an alarm since a time, the newest first and at most `limit`: folded again from the journal.
    pub async fn alarm_history(
        &self,
        twin: &TwinId,
        rule: &str,
        from: Timestamp,
        limit: usize,
    ) -> Result<Vec<PastChange>, ReadError> {
        self.recovered(twin).await?;
        let (inner, twin, rule) = (self.inner.clone(), twin.clone(), Box::<str>::from(rule));
        blocking(move || {
            let mut past = std::collections::VecDeque::new();
            inner.fold_again(&twin, Timestamp::from_ms(i64::MAX), None, |effects| {
                let changes = effects.alarms.drain(..);
                for change in changes.filter(|change: &AlarmChange| change.rule == rule && change.at >= from)
                {
                    if past.len() == limit {
                        past.pop_front();
                    }
                    past.push_back(PastChange {
                        at: change.at,
                        what: change.what.as_str(),
                        by: change.by,
                        comment: change.comment,
                    });
                }
            })?;
            Ok(past.into_iter().rev().collect())
        })
        .await
    }
}
