//! Data quality of a twin's sensors: what each sends, how regularly, and what of it breaks its contract.
//!
//! Promises: bounded: 8 sensors a twin, 32 fields each, 8 changes of a schema. What breaks a contract is taken all the
//! same and marked, unless the contract rejects (`contract.rs` says which rules are decided before the journal). The
//! score is the share of values that conform, the newest weighing most, times completeness where a period is agreed.
//! Costs a few nanoseconds a value where no contract is agreed. Knows nothing of the sender's own `quality_score`.

mod contract;
mod pace;
mod view;
mod wire;

pub use self::contract::{Contract, MetricContract, Rule, Violation};
pub use self::view::SensorView;
pub(crate) use self::{pace::Pace, wire::QualityWire};
use crate::{
    config::TwinConfig,
    event::{Reading, Value},
    metric::Metrics,
    time::Timestamp,
};

/// Most sensors of a twin that are told apart; readings of more are checked against their contracts all the same.
pub(crate) const SENSORS_MAX: usize = 8;
/// Most fields of a sensor's schema.
pub(crate) const FIELDS_MAX: usize = 32;
/// Most changes of a schema that are kept, the newest.
const CHANGES_MAX: usize = 8;
/// Most metrics marked at once.
const MARKED_MAX: usize = 64;
/// The newest reading weighs this much in the share of conforming values: some sixty readings speak.
const NEWEST_WEIGHS: f32 = 1.0 / 64.0;
/// Values of one reading that a contract looks at one by one.
const VALUES_MAX: usize = 64;

/// What is known of the sensors that feed a twin.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Quality {
    pub(crate) sensors: Vec<Sensor>,
    /// Numbers of the metrics whose newest value breaks a contract.
    pub(crate) marked: Vec<u16>,
}

/// One sensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sensor {
    pub(crate) id: Box<str>,
    pub(crate) first_at: Timestamp,
    pub(crate) last_at: Timestamp,
    pub(crate) readings: u32,
    /// The share of values that conform, of the last readings.
    pub(crate) conforming: f32,
    pub(crate) fields: Vec<Field>,
    /// What only sensors with a contract, or with a schema that changed, have.
    pub(crate) more: Option<Box<More>>,
}

/// A field of a schema: which metric, and the kinds of value it held (1 number, 2 text, 4 bool).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Field {
    pub(crate) metric: u16,
    pub(crate) kinds: u8,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct More {
    /// By the number of the rule less one.
    pub(crate) broken: [u32; Rule::ALL.len()],
    /// The newest violation.
    pub(crate) last: Option<(Rule, Box<str>, Timestamp)>,
    pub(crate) changes: Vec<Change>,
    pub(crate) pace: Option<Pace>,
}

/// A schema changed: a metric came to it (`kinds` 0 before), or held a kind of value that it had not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change {
    pub(crate) at: Timestamp,
    pub(crate) metric: u16,
    pub(crate) kinds_before: u8,
    pub(crate) kind: u8,
}

/// One reading on its way through the fold.
pub(crate) struct Inspection {
    sensor: Option<usize>,
    /// Values by their place in the reading, a bit each: those that break a contract, and those that are not taken.
    broken: u64,
    refused: u64,
    pub(crate) violations: u32,
}

impl Inspection {
    /// Whether the value at a place of the reading is not taken.
    pub(crate) fn refuses(&self, place: usize) -> bool {
        place < VALUES_MAX && self.refused >> place & 1 == 1
    }
}

pub(crate) fn kind_bit(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 1,
        Value::Text(_) => 2,
        Value::Bool(_) => 4,
    }
}

impl Quality {
    /// A reading came: who sent it, and what of it breaks a contract. `metrics` are as they were before it.
    pub(crate) fn begin(
        &mut self,
        reading: &Reading,
        at: Timestamp,
        config: Option<&TwinConfig>,
        metrics: &Metrics,
    ) -> Inspection {
        let sensor = self.sensor(&reading.sensor_id, at);
        let mut inspection = Inspection {
            sensor,
            broken: 0,
            refused: 0,
            violations: 0,
        };
        let analysis = config.and_then(|config| config.analysis.as_deref());
        let contracts = analysis.map_or(&[][..], |analysis| &analysis.contracts);
        for contract in contracts
            .iter()
            .filter(|contract| contract.is_of(&reading.sensor_id))
        {
            self.check(contract, reading, at, metrics, &mut inspection);
        }
        inspection
    }

    fn sensor(&mut self, id: &str, at: Timestamp) -> Option<usize> {
        let known = self.sensors.iter().position(|sensor| *sensor.id == *id);
        if known.is_none() && self.sensors.len() < SENSORS_MAX {
            self.sensors.reserve_exact(1);
            self.sensors.push(Sensor {
                id: id.into(),
                first_at: at,
                last_at: at,
                readings: 0,
                conforming: 1.0,
                fields: Vec::new(),
                more: None,
            });
            return Some(self.sensors.len() - 1);
        }
        known
    }

    fn check(
        &mut self,
        contract: &Contract,
        reading: &Reading,
        at: Timestamp,
        metrics: &Metrics,
        inspection: &mut Inspection,
    ) {
        let mut more = inspection
            .sensor
            .map(|sensor| self.sensors[sensor].more.get_or_insert_default());
        if let (Some(more), Some(period_ms)) = (&mut more, contract.period_ms) {
            match &mut more.pace {
                Some(pace) if pace.period_ms == period_ms => pace.heard(at),
                pace => *pace = Some(Pace::new(period_ms, at)),
            }
        }
        let mut book = |violation: Violation<'_>, place: Option<usize>| {
            inspection.violations += 1;
            if let Some(place) = place.filter(|place| *place < VALUES_MAX) {
                inspection.broken |= 1 << place;
                // Rejected contracts never see the other rules broken: those were decided before the journal.
                if contract.rejects && violation.rule == Rule::Rate {
                    inspection.refused |= 1 << place;
                }
            }
            if let Some(more) = &mut more {
                let count = &mut more.broken[violation.rule as usize - 1];
                *count = count.saturating_add(1);
                more.last = Some((violation.rule, violation.metric.into(), at));
            }
        };
        for violation in contract.broken_by(reading) {
            let mut names = reading.metrics.iter().map(|(name, _)| &**name);
            book(violation, names.position(|name| name == violation.metric));
        }
        for (place, (name, value)) in reading.metrics.iter().enumerate() {
            let agreed = contract.metrics.iter().find(|agreed| *agreed.name == **name);
            let Some(most) = agreed.and_then(|agreed| agreed.max_rate_per_s) else {
                continue;
            };
            if let (Some(before), Value::Number(now)) = (metrics.get(name), value)
                && let Value::Number(value_before) = before.value
                && at > before.at
                && (now - value_before).abs() * 1_000.0 > most * at.ms_since(before.at) as f64
            {
                let rule = Rule::Rate;
                book(Violation { metric: name, rule }, Some(place));
            }
        }
    }

    /// The value at a place of the reading was taken as the metric of this number.
    pub(crate) fn taken(
        &mut self,
        inspection: &Inspection,
        place: usize,
        metric: u16,
        value: &Value,
        at: Timestamp,
    ) {
        if inspection.broken != 0 || !self.marked.is_empty() {
            self.mark(
                metric,
                metric != u16::MAX && place < VALUES_MAX && inspection.broken >> place & 1 == 1,
            );
        }
        if metric == u16::MAX {
            return;
        }
        let Some(sensor) = inspection.sensor.map(|sensor| &mut self.sensors[sensor]) else {
            return;
        };
        let kind = kind_bit(value);
        // Readings of a sensor mostly have the same fields in the same order.
        let usual = sensor.fields.get(place);
        if usual.is_some_and(|field| field.metric == metric && field.kinds & kind != 0) {
            return;
        }
        sensor.see(metric, kind, at);
    }

    fn mark(&mut self, metric: u16, is_broken: bool) {
        match (self.marked.iter().position(|marked| *marked == metric), is_broken) {
            (None, true) if self.marked.len() < MARKED_MAX => self.marked.push(metric),
            (Some(at), false) => {
                self.marked.swap_remove(at);
            }
            _ => {}
        }
    }

    /// The reading is through.
    pub(crate) fn end(&mut self, inspection: &Inspection, values: usize, at: Timestamp) {
        let Some(sensor) = inspection.sensor.map(|sensor| &mut self.sensors[sensor]) else {
            return;
        };
        let bad = (inspection.violations.min(u32::from(u16::MAX)) as f32).min(values as f32);
        let conforming = if values == 0 {
            1.0
        } else {
            1.0 - bad / values as f32
        };
        if sensor.readings == 0 {
            sensor.conforming = conforming;
        } else {
            sensor.conforming += (conforming - sensor.conforming) * NEWEST_WEIGHS;
        }
        sensor.readings = sensor.readings.saturating_add(1);
        sensor.last_at = sensor.last_at.max(at);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let sensors = self.sensors.iter().map(|sensor| {
            let more = sensor.more.as_deref().map_or(0, |more| {
                size_of::<More>() + more.changes.capacity() * size_of::<Change>() + 32
            });
            16 + sensor.id.len() + sensor.fields.capacity() * size_of::<Field>() + more
        });
        size_of::<Self>()
            + self.sensors.capacity() * size_of::<Sensor>()
            + sensors.sum::<usize>()
            + 2 * self.marked.capacity()
    }
}

impl Sensor {
    /// A field that is not where it usually is.
    fn see(&mut self, metric: u16, kind: u8, at: Timestamp) {
        let (is_first, is_full) = (self.readings == 0, self.fields.len() >= FIELDS_MAX);
        let kinds_before = match self.fields.iter_mut().find(|field| field.metric == metric) {
            Some(field) if field.kinds & kind != 0 => return,
            Some(field) => {
                let before = field.kinds;
                field.kinds |= kind;
                before
            }
            None if !is_full => {
                self.fields.push(Field { metric, kinds: kind });
                0
            }
            None => return,
        };
        if !is_first {
            let changes = &mut self.more.get_or_insert_default().changes;
            if changes.len() == CHANGES_MAX {
                changes.remove(0);
            }
            changes.push(Change {
                at,
                metric,
                kinds_before,
                kind,
            });
        }
    }
}
