//! A twin: the state that its events lead to. `fold` is the heart of the product.
//!
//! Promises: `fold` is deterministic, cannot fail, and its memory is bounded; the same events in the same order give
//! the same bytes (`snapshot.rs`). Knows no clock: `now` reaches only the views.

use crate::{
    attributes::{Attributes, object},
    config::{Execution, MetricKind, TwinConfig},
    event::{Body, Event, Position, Reading, Scan, TwinMessage, Value},
    id::{Kind, TwinId},
    job::{Job, Told},
    location::Location,
    machine::Machine,
    metric::Metrics,
    rollup::{Level, RollupRow},
    time::Timestamp,
};

/// Without data for this long a machine is stale, if the plant model says nothing: machines report each second and
/// meters every 15 s.
const MACHINE_STALE_MS: i64 = 2 * 60_000;
/// Air sensors report each minute; five may be lost.
const LOCATION_STALE_MS: i64 = 5 * 60_000;

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
    /// Marked by a tick; data ends it.
    pub(crate) stale: bool,
    pub(crate) quality_score: Option<f64>,
    pub(crate) config: Option<Box<TwinConfig>>,
    pub(crate) attributes: Option<Box<Attributes>>,
    pub(crate) metrics: Metrics,
    pub(crate) nature: Nature,
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
            stale: false,
            quality_score: None,
            config: None,
            attributes: None,
            metrics: Metrics::default(),
            nature,
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
                if !self.attributes.get_or_insert_default().patch(&set.patch) {
                    return Outcome::Ignored;
                }
                Outcome::Applied
            }
            Body::Configured(config) => self.fold_config(config),
            Body::Ticked => self.fold_tick(event.at),
            Body::Told(message) => match &mut self.nature {
                Nature::Location(location) => {
                    location.hear(message);
                    Outcome::Applied
                }
                _ => Outcome::Ignored,
            },
        };
        if outcome != Outcome::Ignored {
            self.rev += 1;
            self.position = position;
            self.updated_at = self.updated_at.max(Some(event.at));
        }
        outcome
    }

    fn fold_reading(&mut self, at: Timestamp, reading: &Reading, effects: &mut Effects) -> Outcome {
        let stale_ms = self.stale_after_ms();
        if let Some(location) = &reading.location_id
            && self.id.kind() == Kind::Machine
            && self.attributes.as_ref().and_then(|known| known.sensed_location.as_ref()) != Some(location)
        {
            self.attributes.get_or_insert_default().sensed_location = Some(location.clone());
        }
        if !self.metrics.advance(at, stale_ms, &mut effects.rollups) {
            let config = self.config.as_deref();
            self.metrics.correct(&reading.metrics, at, config, &mut effects.rollups);
            return Outcome::Late;
        }
        let in_order = self.data_at.is_none_or(|newest| at >= newest);
        if in_order {
            self.account(at);
            self.data_at = Some(at);
            self.stale = false;
            self.quality_score = reading.quality_score;
        }
        for (name, value) in &reading.metrics {
            let grown = self.metrics.take(name, value, at, stale_ms, self.config.as_deref());
            let Nature::Machine(machine) = &mut self.nature else { continue };
            if grown > 0.0 || name.ends_with("_count") || **name == *"energy_kwh" {
                machine.count(name, grown);
            }
            if let Value::Text(word) = value
                && in_order
                && matches!(&**name, "execution" | "state")
            {
                machine.set_execution(execution(word, self.config.as_deref()), at);
            }
        }
        Outcome::Applied
    }

    /// Accounts a machine's time up to `at`.
    fn account(&mut self, at: Timestamp) {
        let known_until = self.data_at.map_or(at, |data_at| data_at.plus_ms(self.stale_after_ms()));
        if let Nature::Machine(machine) = &mut self.nature {
            machine.account(at, known_until);
        }
    }

    fn fold_scan(&mut self, at: Timestamp, scan: &Scan, effects: &mut Effects) -> Outcome {
        let Nature::Job(job) = &mut self.nature else { return Outcome::Ignored };
        let mut told = Told::new();
        let newest = job.scan(self.id.id(), at, scan, &mut told);
        for (location, message) in told {
            if let Ok(to) = TwinId::new(self.id.tenant().clone(), Kind::Location, &location) {
                effects.messages.push((to, message));
            }
        }
        if newest { Outcome::Applied } else { Outcome::Late }
    }

    fn fold_config(&mut self, config: &TwinConfig) -> Outcome {
        if self.config.as_ref().is_some_and(|known| known.model_version >= config.model_version) {
            return Outcome::Ignored;
        }
        for declared in &config.metrics {
            if let Some(metric) = self.metrics.items.iter_mut().find(|metric| metric.name == declared.name) {
                metric.kind = declared.kind;
            }
        }
        self.attributes.get_or_insert_default().model = object(&config.attributes);
        self.config = Some(Box::new(config.clone()));
        Outcome::Applied
    }

    fn fold_tick(&mut self, at: Timestamp) -> Outcome {
        match self.stale_deadline() {
            Some(deadline) if deadline <= at => {}
            _ => return Outcome::Ignored,
        }
        self.account(at);
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

    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        self.stale || self.stale_deadline().is_some_and(|deadline| now > deadline)
    }

    pub(crate) fn stale_after_ms(&self) -> i64 {
        let default = if self.id.kind() == Kind::Machine { MACHINE_STALE_MS } else { LOCATION_STALE_MS };
        self.config.as_ref().and_then(|config| config.stale_after_ms).unwrap_or(default)
    }

    /// Its open bucket of a width, as far as it goes; none where nothing was measured.
    #[must_use]
    pub fn open_rollups(&self, level: Level) -> Vec<RollupRow> {
        self.metrics.open_row(level).into_iter().collect()
    }

    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let metrics: usize = self.metrics.items.iter().map(|metric| size_of_val(metric) + metric.name.len() + metric.coarse.as_ref().map_or(0, |coarse| size_of_val(&**coarse))).sum();
        let nature = match &self.nature {
            Nature::Machine(machine) => size_of_val(&**machine),
            Nature::Location(location) => size_of_val(&**location) + 64 * location.jobs.len(),
            Nature::Job(job) => size_of_val(&**job) + 64 * job.visits.len(),
        };
        let attributes = self.attributes.as_ref().map_or(0, |attributes| size_of_val(&**attributes) + 2 * attributes_bytes(attributes));
        size_of::<Self>() + self.id.id().len() + metrics + nature + attributes + self.config.as_ref().map_or(0, |config| size_of_val(&**config) + config.attributes.len())
    }
}

fn attributes_bytes(attributes: &Attributes) -> usize {
    // An entry of a JSON object takes about as much as its text twice over.
    attributes.set.iter().chain(&attributes.model).map(|(name, _)| name.len() + 64).sum()
}

fn execution(word: &str, config: Option<&TwinConfig>) -> Execution {
    let mapped = config.and_then(|config| config.execution_map.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)));
    mapped.map(|(_, execution)| *execution).or_else(|| Execution::of_word(word)).unwrap_or(Execution::Unknown)
}

/// The kind and unit a metric is folded and shown with.
pub(crate) fn declared<'a>(config: Option<&'a TwinConfig>, name: &str, kind: MetricKind) -> (MetricKind, &'a str) {
    let declared = config.and_then(|config| config.metrics.iter().find(|metric| *metric.name == *name));
    match declared {
        Some(metric) if !metric.unit.is_empty() => (metric.kind, &metric.unit),
        Some(metric) => (metric.kind, crate::metric::default_unit(name)),
        None => (kind, crate::metric::default_unit(name)),
    }
}
