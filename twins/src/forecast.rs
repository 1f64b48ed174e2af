//! Forecasts and anomalies of the metrics that the plant model names, over quarters of an hour.
//!
//! Promises: bounded (8 series a twin, about 1 KB each, none where none is named) and deterministic; what came late
//! is not taken, and a quarter of which less than a third is known counts as a gap. A series is a metric, a KPI as
//! `kpis.NAME`, or `utilization`: the share of the quarter in which the machine produced. Does not know what follows
//! from an anomaly.

mod detector;
mod model;
mod view;
mod wire;

pub(crate) use self::view::Anomalies;
pub use self::view::{ForecastView, HORIZON_MAX_MS};
pub(crate) use self::{detector::Detector, model::Model, wire::ForecastsWire};
use crate::{
    config::{Execution, MetricKind},
    event::Value,
    time::Timestamp,
    twin::{Nature, Twin},
};

/// Most series of a twin.
pub const SERIES_MAX: usize = 8;
/// A quarter of an hour.
pub(crate) const STEP_MS: i64 = 900_000;
/// Quarters of a day.
pub(crate) const SEASON: usize = 96;
/// What has to be known of a quarter.
const COVERED_MIN_MS: i64 = STEP_MS / 3;

/// A metric that is forecast.
#[derive(Debug, Clone, PartialEq)]
pub struct ForecastRule {
    /// The metric, `kpis.NAME`, or `utilization` of a machine.
    pub metric: Box<str>,
    /// An anomaly is a quarter that is further from its forecast than this, in the metric's unit (0.2 is 20 points of
    /// utilization); `None` goes by the score.
    pub deviation: Option<f64>,
}

/// The series of a twin.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Forecasts {
    pub(crate) series: Vec<Series>,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) metric: Box<str>,
    /// The open quarter, counted from 1970.
    pub(crate) slot: i64,
    /// Of the open quarter: the time that is known, and the value times that time.
    pub(crate) covered_ms: i64,
    pub(crate) integral: f64,
    /// The newest value, and since when it holds.
    pub(crate) value: Option<f64>,
    pub(crate) value_at: Timestamp,
    pub(crate) model: Model,
    pub(crate) detector: Detector,
}

impl Series {
    fn new(metric: &str, at: Timestamp) -> Self {
        Self {
            metric: metric.into(),
            slot: slot_of(at),
            covered_ms: 0,
            integral: 0.0,
            value: None,
            value_at: at,
            model: Model::default(),
            detector: Detector::default(),
        }
    }

    /// The value before holds until `at`, but not longer than `hold_ms`; from then on it is `value`.
    fn advance(&mut self, at: Timestamp, value: Option<f64>, hold_ms: i64, rule: &ForecastRule) {
        let until = at.min(self.value_at.plus_ms(hold_ms));
        let mut from = self.value_at;
        while slot_of(from) < slot_of(at) {
            let end = start_of(slot_of(from) + 1);
            self.hold(from, end.min(until));
            self.close(rule);
            // Of what is not known, quarters need not be gone through one by one.
            from = if end < until { end } else { start_of(slot_of(at)) };
            self.slot = slot_of(from);
        }
        self.hold(from, until);
        (self.value, self.value_at) = (value, at);
    }

    fn hold(&mut self, from: Timestamp, to: Timestamp) {
        if let (Some(value), true) = (self.value, to > from) {
            let ms = to.ms_since(from);
            self.covered_ms += ms;
            self.integral += value * ms as f64;
        }
    }

    fn close(&mut self, rule: &ForecastRule) {
        if self.covered_ms >= COVERED_MIN_MS {
            let mean = self.integral / self.covered_ms as f64;
            if let Some(expected) = self.model.expected(self.slot) {
                let end = start_of(self.slot + 1);
                self.detector.see(mean, expected, rule.deviation, end, self.slot);
            }
            self.model.learn(self.slot, mean);
        }
        (self.covered_ms, self.integral) = (0, 0.0);
    }
}

pub(crate) fn slot_of(at: Timestamp) -> i64 {
    at.ms().div_euclid(STEP_MS)
}

pub(crate) fn start_of(slot: i64) -> Timestamp {
    Timestamp::from_ms(slot.saturating_mul(STEP_MS))
}

impl Twin {
    /// A reading of the newest time was taken: the series go on to it.
    pub(crate) fn observe(&mut self, at: Timestamp) {
        let analysis = self.config.as_ref().and_then(|config| config.analysis.clone());
        let Some(analysis) = analysis.filter(|analysis| !analysis.forecasts.is_empty()) else {
            return;
        };
        let mut forecasts = self.forecasts.take().unwrap_or_default();
        let hold_ms = self.stale_after_ms();
        for (number, rule) in analysis.forecasts.iter().take(SERIES_MAX).enumerate() {
            // They stand in the order of the rules; a new model may have others.
            let known = forecasts
                .series
                .iter()
                .position(|series| series.metric == rule.metric);
            match known {
                Some(known) => forecasts.series.swap(number, known),
                None => forecasts.series.insert(number, Series::new(&rule.metric, at)),
            }
            let value = self.observed(&rule.metric, at);
            let series = &mut forecasts.series[number];
            if at >= series.value_at {
                series.advance(at, value, hold_ms, rule);
            }
        }
        forecasts
            .series
            .truncate(analysis.forecasts.len().min(SERIES_MAX));
        self.forecasts = Some(forecasts);
    }

    /// The value of a series now.
    fn observed(&self, name: &str, now: Timestamp) -> Option<f64> {
        if let Some(kpi) = name.strip_prefix("kpis.") {
            return self.kpi(kpi)?.ok();
        }
        match self.metrics.get(name) {
            Some(metric) if metric.kind == MetricKind::Gauge => {
                let is_fresh = now.ms_since(metric.at) <= self.stale_after_ms();
                match (is_fresh, &metric.value) {
                    (true, Value::Number(number)) => Some(*number),
                    (true, Value::Bool(yes)) => Some(f64::from(u8::from(*yes))),
                    _ => None,
                }
            }
            Some(_) => None,
            None => match &self.nature {
                Nature::Machine(machine) if name == "utilization" && machine.since.is_some() => {
                    match machine.execution {
                        Execution::Unknown => None,
                        execution => Some(f64::from(u8::from(execution == Execution::Producing))),
                    }
                }
                _ => None,
            },
        }
    }

    /// How unusual a series is, 0 to below 1; `None` where it is not forecast or not known yet.
    pub(crate) fn anomaly_score(&self, name: &str) -> Option<f64> {
        let forecasts = self.forecasts.as_deref()?;
        let series = forecasts.series.iter().find(|series| *series.metric == *name)?;
        series.detector.score()
    }
}

impl Forecasts {
    pub(crate) fn heap_bytes(&self) -> usize {
        let one = size_of::<Series>() + Model::HEAP_BYTES + 32;
        size_of::<Self>() + self.series.len() * one
    }
}
