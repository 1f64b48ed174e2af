//! A twin: the state that its events lead to. `fold` is the heart of the product.
//!
//! Promises: `fold` is deterministic, cannot fail, and its memory is bounded; the same events in the same order give
//! the same bytes (`snapshot.rs`). Knows no clock: `now` reaches only the views.

use crate::{
    alarm::{AlarmChange, Alarms},
    attributes::{Attributes, object},
    config::TwinConfig,
    defaults::{declared_kind, is_needed},
    event::{Body, Event, Position, Reading, Scan, TwinMessage},
    forecast::Forecasts,
    id::{Kind, TwinId},
    job::{Job, Told},
    location::{Location, LocationFlow},
    machine::Machine,
    metric::Metrics,
    pending::Pending,
    quality::Quality,
    rollup::RollupRow,
    sealing::plan,
    time::Timestamp,
};

/// Without data for this long a machine is stale, if the plant model says nothing: machines report each second and
/// meters every 15 s.
const MACHINE_STALE_MS: i64 = 2 * 60_000;
/// Air sensors report each minute; five may be lost.
const LOCATION_STALE_MS: i64 = 5 * 60_000;
/// The plant model may let a twin go stale after a week at most: bounds what a gap leads to.
const STALE_MAX_MS: i64 = 7 * 86_400_000;

/// How an event was folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// In order.
    Applied,
    /// After what came after it: history was corrected.
    Late,
    /// It changes nothing, e.g. an older plant model.
    Ignored,
}

/// What a fold leads to outside of the twin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Effects {
    /// Messages to other twins, in order.
    pub messages: Vec<(TwinId, TwinMessage)>,
    /// Buckets that closed, and corrections of closed ones; to be merged into what is stored.
    pub rollups: Vec<RollupRow>,
    /// What became of its alarms, in order.
    pub alarms: Vec<AlarmChange>,
    /// How often a data contract was broken.
    pub violations: u32,
}

/// What a twin is beside what all twins have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Nature {
    Machine(Box<Machine>),
    Location(Box<Location>),
    Job(Box<Job>),
}

/// The state of one machine, location or job.
#[derive(Debug, Clone, PartialEq)]
pub struct Twin {
    pub(crate) id: TwinId,
    pub(crate) rev: u64,
    pub(crate) position: Position,
    /// The newest event's time.
    pub(crate) updated_at: Option<Timestamp>,
    /// The newest reading's time.
    pub(crate) data_at: Option<Timestamp>,
    /// What was received and waits for what may still come before it.
    pub(crate) pending: Pending,
    /// The newest reading's time of those that are folded.
    pub(crate) sealed_at: Option<Timestamp>,
    /// Data came without a gap from here to `sealed_at`.
    pub(crate) steady_since: Timestamp,
    /// Marked by a tick; data ends it.
    pub(crate) stale: bool,
    pub(crate) quality_score: Option<f64>,
    pub(crate) config: Option<Box<TwinConfig>>,
    pub(crate) attributes: Option<Box<Attributes>>,
    pub(crate) metrics: Metrics,
    pub(crate) nature: Nature,
    /// Absent where the plant model has no rule for it.
    pub(crate) alarms: Option<Box<Alarms>>,
    pub(crate) quality_of_data: Option<Box<Quality>>,
    pub(crate) forecasts: Option<Box<Forecasts>>,
}

impl Twin {
    /// A twin that nothing happened to yet.
    #[must_use]
    pub fn new(id: TwinId) -> Self {
        let nature = match id.kind() {
            Kind::Machine => Nature::Machine(Box::default()),
            Kind::Location => Nature::Location(Box::default()),
            Kind::Job => Nature::Job(Box::default()),
        };
        Self {
            id,
            rev: 0,
            position: Position::default(),
            updated_at: None,
            data_at: None,
            pending: Pending::default(),
            sealed_at: None,
            steady_since: Timestamp::default(),
            stale: false,
            quality_score: None,
            config: None,
            attributes: None,
            metrics: Metrics::default(),
            nature,
            alarms: None,
            quality_of_data: None,
            forecasts: None,
        }
    }

    /// Its address.
    #[must_use]
    pub fn id(&self) -> &TwinId {
        &self.id
    }

    /// Counts the events that changed it.
    #[must_use]
    pub fn rev(&self) -> u64 {
        self.rev
    }

    /// Where the last event that changed it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The time of its newest event.
    #[must_use]
    pub fn updated_at(&self) -> Option<Timestamp> {
        self.updated_at
    }

    /// Folds an event. Whatever else follows from it is appended to `effects`.
    pub fn fold(&mut self, position: Position, event: &Event, effects: &mut Effects) -> Outcome {
        let outcome = match &event.body {
            Body::Reading(reading) => self.fold_reading(event.at, reading, effects),
            Body::Scan(scan) => self.fold_scan(event.at, scan, effects),
            Body::AttributesSet(set) => {
                let mut attributes = self.attributes.take().unwrap_or_default();
                let changed = attributes.patch(&set.patch);
                self.attributes = (*attributes != Attributes::default()).then_some(attributes);
                if changed {
                    Outcome::Applied
                } else {
                    Outcome::Ignored
                }
            }
            Body::Configured(config) => self.fold_config(config, effects),
            Body::Ticked => self.fold_tick(event.at, effects),
            Body::Alarm(said) => {
                self.with_alarms(|alarms, twin| alarms.act(twin, said, event.at, &mut effects.alarms))
            }
            Body::Refolded(refolded) => self.take_over(refolded),
            Body::Told(message) => match &mut self.nature {
                Nature::Location(location) => {
                    location.listen(&self.id, message, &mut effects.messages);
                    Outcome::Applied
                }
                Nature::Job(job) => {
                    if job.hear(message) {
                        Outcome::Applied
                    } else {
                        Outcome::Ignored
                    }
                }
                Nature::Machine(_) => Outcome::Ignored,
            },
        };
        if outcome != Outcome::Ignored {
            self.rev = self.rev.saturating_add(1);
            self.position = position;
            self.updated_at = self.updated_at.max(Some(event.at));
            if self.alarms.is_some() {
                // The model and people have clocks of their own, and data may be of long ago: they do not move time on.
                let at = match event.body {
                    Body::Configured(_) | Body::AttributesSet(_) => Timestamp::default(),
                    _ => event.at,
                };
                self.with_alarms(|alarms, twin| {
                    alarms.judge(twin, at, &mut effects.alarms);
                    true
                });
            }
        }
        outcome
    }

    /// Looks at the alarms and the rest of the twin side by side; says whether something applied.
    fn with_alarms(&mut self, look: impl FnOnce(&mut Alarms, &Self) -> bool) -> Outcome {
        let Some(mut alarms) = self.alarms.take() else {
            return Outcome::Ignored;
        };
        let applied = look(&mut alarms, self);
        self.alarms = Some(alarms);
        if applied {
            Outcome::Applied
        } else {
            Outcome::Ignored
        }
    }

    fn fold_reading(&mut self, at: Timestamp, reading: &Reading, effects: &mut Effects) -> Outcome {
        let newest = self.data_at.is_none_or(|data_at| at >= data_at);
        let is_late = self.is_late(at);
        self.take_values(at, reading, effects);
        if let Nature::Location(location) = &mut self.nature {
            location.air.take(at, reading);
        }
        if newest {
            self.data_at = Some(at);
            self.stale = false;
            self.quality_score = reading.quality_score;
            self.sense_location(reading);
        }
        self.seal(effects);
        self.compute(Some(at), effects);
        if newest {
            self.observe(at);
        }
        if is_late { Outcome::Late } else { Outcome::Applied }
    }

    /// A machine stands where its sensor says, unless the model or a person says otherwise.
    fn sense_location(&mut self, reading: &Reading) {
        let sensed = self
            .attributes
            .as_ref()
            .and_then(|attributes| attributes.sensed_location.as_ref());
        if let Some(location) = &reading.location_id
            && self.id.kind() == Kind::Machine
            && sensed != Some(location)
        {
            self.attributes.get_or_insert_default().sensed_location = Some(location.clone());
        }
    }

    /// Up to when the data so far says what state the twin is in.
    fn known_until(&self, at: Timestamp) -> Timestamp {
        self.data_at
            .map_or(at, |data_at| data_at.plus_ms(self.stale_after_ms()))
    }

    fn fold_scan(&mut self, at: Timestamp, scan: &Scan, effects: &mut Effects) -> Outcome {
        let Nature::Job(job) = &mut self.nature else {
            return Outcome::Ignored;
        };
        let mut told = Told::default();
        if scan.retracts && !job.retract(self.id.id(), at, &scan.location, &mut told) {
            return Outcome::Ignored;
        }
        let newest = !scan.retracts && job.scan(self.id.id(), at, scan, &mut told);
        for (location, message) in told.0 {
            if let Ok(to) = TwinId::new(self.id.tenant().clone(), Kind::Location, &location) {
                effects.messages.push((to, message));
            }
        }
        if newest { Outcome::Applied } else { Outcome::Late }
    }

    fn fold_config(&mut self, config: &TwinConfig, effects: &mut Effects) -> Outcome {
        if self
            .config
            .as_ref()
            .is_some_and(|known| known.model_version >= config.model_version)
        {
            return Outcome::Ignored;
        }
        // What was received before is folded by the model that was in force.
        self.seal_all(effects);
        let mut kept = config.clone();
        kept.attributes = "".into();
        kept.metrics.retain(is_needed);
        kept.metrics.shrink_to_fit();
        let model = object(&config.attributes);
        if !model.is_empty() || self.attributes.is_some() {
            self.attributes.get_or_insert_default().model = model;
        }
        for index in 0..self.metrics.items.len() {
            let kind = declared_kind(Some(&kept), &self.metrics.items[index].name);
            self.metrics.set_kind(index, kind, &mut effects.rollups);
        }
        self.leave_locations(&kept, effects);
        let (before, rules) = (self.alarms.take(), std::mem::take(&mut kept.alarms));
        let at = self.data_at.unwrap_or_default();
        let alarms = Alarms::configured(before.map(|alarms| *alarms), rules, at, &mut effects.alarms);
        self.alarms = alarms.map(Box::new);
        self.config = Some(Box::new(kept));
        if let Nature::Machine(machine) = &mut self.nature {
            machine.replan();
        }
        self.compute(None, effects);
        Outcome::Applied
    }

    fn fold_tick(&mut self, at: Timestamp, effects: &mut Effects) -> Outcome {
        let is_over = |deadline: Option<Timestamp>| deadline.is_some_and(|deadline| deadline <= at);
        if !is_over(self.stale_deadline()) {
            // An alarm's delay may be over; the alarms are judged after each event that applies.
            return if is_over(self.alarm_deadline()) {
                Outcome::Applied
            } else {
                Outcome::Ignored
            };
        }
        let known_until = self.known_until(at);
        self.seal_all(effects);
        if let Nature::Machine(machine) = &mut self.nature {
            machine.account(at, known_until, plan(self.config.as_deref()));
        }
        self.stale = true;
        self.report(effects);
        Outcome::Applied
    }

    /// When it becomes stale unless data comes; `None` where it is stale already, or never had data.
    #[must_use]
    pub fn stale_deadline(&self) -> Option<Timestamp> {
        if self.stale || self.id.kind() == Kind::Job {
            return None;
        }
        self.data_at.map(|data_at| data_at.plus_ms(self.stale_after_ms()))
    }

    /// When something happens to one of its alarms unless an event comes before.
    fn alarm_deadline(&self) -> Option<Timestamp> {
        self.alarms.as_ref()?.bench.deadline
    }

    /// Whether the plant model has rules of alarms for it.
    #[must_use]
    pub fn has_alarms(&self) -> bool {
        self.alarms.is_some()
    }

    /// When it has to be told that time has passed: a `Ticked` event of that time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = [self.stale_deadline(), self.alarm_deadline()];
        deadlines.into_iter().flatten().min()
    }

    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        self.stale || self.stale_deadline().is_some_and(|deadline| now > deadline)
    }

    pub(crate) fn stale_after_ms(&self) -> i64 {
        let default = if self.id.kind() == Kind::Machine {
            MACHINE_STALE_MS
        } else {
            LOCATION_STALE_MS
        };
        let configured = self.config.as_ref().and_then(|config| config.stale_after_ms);
        configured.unwrap_or(default).clamp(1, STALE_MAX_MS)
    }

    /// Whether the plant model held it once and does not any more.
    pub(crate) fn is_removed(&self) -> bool {
        self.config.as_ref().is_some_and(|config| config.removed)
    }

    /// Whether a value of this time is too old to go by.
    pub(crate) fn is_old(&self, at: Timestamp, now: Timestamp) -> bool {
        self.stale || now.ms_since(at) > self.stale_after_ms()
    }

    /// Jobs through a location from the hour of `from` up to `to`; `None` for other twins.
    #[must_use]
    pub fn flow(&self, from: Timestamp, to: Timestamp) -> Option<LocationFlow> {
        let Nature::Location(location) = &self.nature else {
            return None;
        };
        let flow = location.flow.as_deref();
        Some(flow.map_or_else(LocationFlow::default, |flow| {
            flow.between(from, to, location.wip())
        }))
    }

    /// The attributes as JSON text of an object.
    #[must_use]
    pub fn attributes_json(&self) -> String {
        serde_json::to_string(&crate::view::AllAttributes(self.attributes.as_deref()))
            .unwrap_or_else(|_| "{}".into())
    }
}
