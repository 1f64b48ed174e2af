//! A forecast and the anomalies as JSON.
//!
//! Promises: no number without the data for it: where too little is known the list is empty and the reason said. The
//! interval is that of the errors so far, 95 of 100 if they go on as they were and are spread as a bell.

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::{
    STEP_MS, Series,
    model::{ERRORS_MIN, Expected, Method},
    slot_of, start_of,
};
use crate::{time::Timestamp, twin::Twin};

/// Longest horizon: a day.
pub const HORIZON_MAX_MS: i64 = 86_400_000;
/// Within so many standard deviations are 95 of 100.
const WITHIN: f64 = 1.96;
/// The newest data of a forecast may be so old.
const SILENT_MAX: i64 = 96;

/// A forecast of a series as of a time.
pub struct ForecastView<'a> {
    metric: &'a str,
    points: Result<(Method, Vec<(i64, Option<Expected>)>), &'static str>,
}

impl Twin {
    /// What a metric will be within a horizon after `now`.
    #[must_use]
    pub fn forecast<'a>(&'a self, metric: &'a str, horizon_ms: i64, now: Timestamp) -> ForecastView<'a> {
        let series = self
            .forecasts
            .as_deref()
            .map_or(&[][..], |forecasts| &forecasts.series);
        let series = series.iter().find(|series| *series.metric == *metric);
        let is_named = self
            .config
            .as_ref()
            .and_then(|config| config.analysis.as_ref())
            .is_some_and(|analysis| analysis.forecasts.iter().any(|rule| *rule.metric == *metric));
        let points = match series {
            Some(series) => series.points(horizon_ms.clamp(STEP_MS, HORIZON_MAX_MS), now),
            None if is_named => Err("no data yet"),
            None => Err("this metric is not forecast (name it under forecast in the plant model)"),
        };
        ForecastView { metric, points }
    }

    /// The anomalies that are on.
    pub(crate) fn anomalies(&self) -> impl Iterator<Item = (&Series, Timestamp)> {
        let series = self
            .forecasts
            .as_deref()
            .map_or(&[][..], |forecasts| &forecasts.series);
        series
            .iter()
            .filter_map(|series| Some((series, series.detector.since?)))
    }
}

impl Series {
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn points(
        &self,
        horizon_ms: i64,
        now: Timestamp,
    ) -> Result<(Method, Vec<(i64, Option<Expected>)>), &'static str> {
        let (model, now) = (&self.model, slot_of(now));
        if model.known < ERRORS_MIN {
            return Err("less than four hours of data");
        }
        if now.saturating_sub(model.last_slot) > SILENT_MAX {
            return Err("the newest data is more than a day old");
        }
        let (first, count) = (now + 1, horizon_ms.div_euclid(STEP_MS));
        let middle = first + count / 2 - model.last_slot;
        let method = model
            .method(middle)
            .ok_or("less than a day and four hours of data")?;
        let points = (first..first + count).map(|slot| (slot, model.forecast(slot, method)));
        Ok((method, points.collect()))
    }
}

impl Serialize for ForecastView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("metric", self.metric)?;
        let method = self.points.as_ref().ok().map(|(method, _)| method.as_str());
        map.serialize_entry("method", &method)?;
        map.serialize_entry("step_s", &(STEP_MS / 1_000))?;
        let points = self.points.as_ref().map_or(&[][..], |(_, points)| points);
        map.serialize_entry("points", &Points(points))?;
        map.serialize_entry("reason", &self.points.as_ref().err())?;
        map.end()
    }
}

struct Points<'a>(&'a [(i64, Option<Expected>)]);

impl Serialize for Points<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (slot, expected) in self.0 {
            list.serialize_element(&Point(*slot, expected.as_ref()))?;
        }
        list.end()
    }
}

struct Point<'a>(i64, Option<&'a Expected>);

impl Serialize for Point<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("time", &start_of(self.0))?;
        let away = self.1.map(|expected| WITHIN * expected.deviation);
        let value = self.1.map(|expected| expected.value);
        map.serialize_entry("value", &value)?;
        map.serialize_entry("low", &value.zip(away).map(|(value, away)| value - away))?;
        map.serialize_entry("high", &value.zip(away).map(|(value, away)| value + away))?;
        map.end()
    }
}

/// The anomalies of a twin as a list.
pub(crate) struct Anomalies<'a>(pub(crate) &'a Twin);

impl Serialize for Anomalies<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for (series, since) in self.0.anomalies() {
            list.serialize_element(&Anomaly(series, since))?;
        }
        list.end()
    }
}

struct Anomaly<'a>(&'a Series, Timestamp);

impl Serialize for Anomaly<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("metric", &*self.0.metric)?;
        map.serialize_entry("score", &self.0.detector.score())?;
        map.serialize_entry("since", &self.1)?;
        map.end()
    }
}
