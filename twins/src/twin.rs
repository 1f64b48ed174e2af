//! A twin: the state that its events lead to. `fold` is the heart of the product.
//!
//! Promises: `fold` is deterministic, cannot fail, and its memory is bounded; the same events in the same order give
//! the same bytes (`snapshot.rs`). Knows no clock: `now` reaches only the views.

use crate::{
    alarm::{AlarmChange, Alarms},
    attributes::{Attributes, object},
    config::{MetricKind, TwinConfig},
    defaults::{declared_kind, is_needed},
    event::{Body, Event, Position, Reading, Scan, TwinMessage, Value},
    forecast::Forecasts,
    id::{Kind, TwinId},
    job::{Job, Told},
    location::{Location, LocationFlow},
    machine::Machine,
    metric::{Metrics, Rules, execution, is_execution},
    quality::Quality,
    rollup::{Level, RollupRow},
    time::Timestamp,
};

/// Without data for this long a machine is stale, if the plant model says nothing: machines report each second and
/// meters every 15 s.
const MACHINE_STALE_MS: i64 = 2 * 60_000;
/// Air sensors report each minute; five may be lost.
const LOCATION_STALE_MS: i64 = 5 * 60_000;
/// The plant model may let a twin go stale after a week at most: bounds what a gap leads to.
const STALE_MAX_MS: i64 = 7 * 86_400_000;
const MS_PER_HOUR: f64 = 3_600_000.0;

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
    /// Data came without a gap from here to `data_at`.
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
            Body::Ticked => self.fold_tick(event.at),
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
        let rules = Rules {
            config: self.config.as_deref(),
            stale_ms: self.stale_after_ms(),
            known_until: self.known_until(at),
            steady_since: self.steady_since,
        };
        let is_late = self.metrics.is_late(at);
        let mut quality = self.quality_of_data.take().unwrap_or_default();
        let inspection = quality.begin(reading, at, rules.config, &self.metrics);
        let mut machine = if let Nature::Machine(machine) = &mut self.nature {
            Some(machine)
        } else {
            None
        };
        if newest {
            self.metrics.advance(at, &rules, &mut effects.rollups);
            if let Some(machine) = &mut machine {
                machine.account(at, rules.known_until);
            }
            if self.data_at.is_none() || at > rules.known_until {
                self.steady_since = at;
            }
        }
        let mut corrections = Vec::new();
        let mut said = None;
        for (place, (name, value)) in reading.metrics.iter().enumerate() {
            if inspection.refuses(place) || rules.config.is_some_and(|config| config.computes(name)) {
                self.metrics.refused = self.metrics.refused.saturating_add(1);
                continue;
            }
            let taken = self.metrics.take(name, value, at, &rules, &mut corrections);
            quality.taken(&inspection, place, taken.metric, value, at);
            let Some(machine) = &mut machine else { continue };
            match value {
                Value::Number(_) if &**name == "power_kw" && self.metrics.get("energy_kwh").is_none() => {
                    machine.used(taken.integral / MS_PER_HOUR, at);
                }
                Value::Number(_) => machine.count(name, taken.grown, at),
                Value::Text(word) if is_execution(name) => said = Some(execution(word, rules.config)),
                _ => {}
            }
        }
        if newest && at > rules.known_until {
            // After a gap nothing holds that was said before it; up to the gap it did, also within the open minute.
            let minute = at.floor_to(Level::M1.step_ms());
            let items = self.metrics.items.iter_mut();
            items
                .filter(|metric| metric.kind == MetricKind::State)
                .for_each(|metric| metric.hold_until(at, minute, &rules));
        }
        if let (Some(machine), Some(said)) = (machine, said) {
            machine.say(said, at, self.steady_since);
        }
        if let Nature::Location(location) = &mut self.nature {
            location.air.take(at, reading);
        }
        if newest {
            self.data_at = Some(at);
            self.stale = false;
            self.quality_score = reading.quality_score;
            self.sense_location(reading);
        }
        quality.end(&inspection, reading.metrics.len(), at);
        effects.violations += inspection.violations;
        self.quality_of_data = Some(quality);
        self.compute(Some(at), &mut corrections);
        if newest {
            self.observe(at);
        }
        effects.rollups.append(&mut corrections);
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
        let (before, rules) = (self.alarms.take(), std::mem::take(&mut kept.alarms));
        let at = self.data_at.unwrap_or_default();
        let alarms = Alarms::configured(before.map(|alarms| *alarms), rules, at, &mut effects.alarms);
        self.alarms = alarms.map(Box::new);
        self.config = Some(Box::new(kept));
        self.compute(None, &mut effects.rollups);
        Outcome::Applied
    }

    fn fold_tick(&mut self, at: Timestamp) -> Outcome {
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
        if let Nature::Machine(machine) = &mut self.nature {
            machine.account(at, known_until);
        }
        self.stale = true;
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

    /// What its open bucket of a width holds that is not handed out yet; none where nothing is. Of an hour's or a
    /// day's bucket, parts are handed out before it closes: merge them with this.
    #[must_use]
    pub fn open_rollups(&self, level: Level) -> Vec<RollupRow> {
        self.metrics.open_row(level).into_iter().collect()
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
