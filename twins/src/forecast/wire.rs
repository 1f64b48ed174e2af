//! Series as bytes, within a twin's snapshot.
//!
//! Promises: lossless, bit for bit; a series with another number of quarters is damaged.

use prost::Message;

use super::{
    Detector, Forecasts, Model, SEASON, Series,
    model::{Errors, FAR},
};
use crate::{
    time::Timestamp,
    wire::{DecodeError, undecodable},
};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ForecastsWire {
    #[prost(message, repeated, tag = "1")]
    series: Vec<SeriesWire>,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesWire {
    #[prost(string, tag = "1")]
    metric: String,
    #[prost(sint64, tag = "2")]
    slot: i64,
    #[prost(sint64, tag = "3")]
    covered_ms: i64,
    #[prost(double, tag = "4")]
    integral: f64,
    #[prost(double, optional, tag = "5")]
    value: Option<f64>,
    #[prost(sint64, tag = "6")]
    value_at_ms: i64,
    #[prost(float, repeated, tag = "7")]
    newest: Vec<f32>,
    #[prost(float, repeated, tag = "8")]
    season: Vec<f32>,
    #[prost(double, tag = "9")]
    level: f64,
    #[prost(double, tag = "10")]
    trend: f64,
    #[prost(sint64, tag = "11")]
    last_slot: i64,
    #[prost(sint64, tag = "12")]
    first_slot: i64,
    #[prost(uint32, tag = "13")]
    known: u32,
    #[prost(bool, tag = "14")]
    is_seasonal: bool,
    #[prost(float, repeated, tag = "15")]
    far: Vec<f32>,
    /// Seasonal naive, Holt-Winters near and far.
    #[prost(float, repeated, tag = "16")]
    squares: Vec<f32>,
    #[prost(uint32, repeated, tag = "17")]
    counts: Vec<u32>,
    /// Residual, fast, slow, spread, z.
    #[prost(double, repeated, tag = "18")]
    detector: Vec<f64>,
    #[prost(uint32, tag = "19")]
    seen: u32,
    #[prost(sint64, optional, tag = "20")]
    since_ms: Option<i64>,
    #[prost(sint64, optional, tag = "21")]
    began_slot: Option<i64>,
}

impl ForecastsWire {
    pub(crate) fn of(forecasts: &Forecasts) -> Self {
        Self {
            series: forecasts.series.iter().map(to_wire).collect(),
        }
    }

    pub(crate) fn forecasts(self) -> Result<Forecasts, DecodeError> {
        let series = self.series.into_iter().map(from_wire);
        Ok(Forecasts {
            series: series.collect::<Result<_, _>>()?,
        })
    }
}

fn to_wire(series: &Series) -> SeriesWire {
    let (model, detector) = (&series.model, &series.detector);
    let errors = [model.naive_errors, model.near_errors, model.far_errors];
    SeriesWire {
        metric: series.metric.to_string(),
        slot: series.slot,
        covered_ms: series.covered_ms,
        integral: series.integral,
        value: series.value,
        value_at_ms: series.value_at.ms(),
        newest: model.newest.to_vec(),
        season: model.season.to_vec(),
        level: model.level,
        trend: model.trend,
        last_slot: model.last_slot,
        first_slot: model.first_slot,
        known: model.known,
        is_seasonal: model.is_seasonal,
        far: model.far.to_vec(),
        squares: errors.map(|errors| errors.squares).to_vec(),
        counts: errors.map(|errors| errors.count).to_vec(),
        detector: vec![
            detector.residual,
            detector.fast,
            detector.slow,
            detector.spread,
            detector.z,
        ],
        seen: detector.count,
        since_ms: detector.since.map(Timestamp::ms),
        began_slot: detector.began_slot,
    }
}

fn exactly<T, const N: usize>(values: Vec<T>) -> Result<[T; N], DecodeError> {
    values
        .try_into()
        .map_err(|_| undecodable("a series with a wrong number of values"))
}

fn from_wire(wire: SeriesWire) -> Result<Series, DecodeError> {
    let (squares, counts): ([f32; 3], [u32; 3]) = (exactly(wire.squares)?, exactly(wire.counts)?);
    let errors = |number: usize| Errors {
        squares: squares[number],
        count: counts[number],
    };
    let [residual, fast, slow, spread, z] = exactly(wire.detector)?;
    Ok(Series {
        metric: wire.metric.into(),
        slot: wire.slot,
        covered_ms: wire.covered_ms,
        integral: wire.integral,
        value: wire.value,
        value_at: Timestamp::from_ms(wire.value_at_ms),
        model: Model {
            newest: Box::new(exactly::<f32, SEASON>(wire.newest)?),
            season: Box::new(exactly::<f32, SEASON>(wire.season)?),
            level: wire.level,
            trend: wire.trend,
            last_slot: wire.last_slot,
            first_slot: wire.first_slot,
            known: wire.known,
            is_seasonal: wire.is_seasonal,
            far: exactly::<f32, FAR>(wire.far)?,
            naive_errors: errors(0),
            near_errors: errors(1),
            far_errors: errors(2),
        },
        detector: Detector {
            residual,
            fast,
            slow,
            spread,
            count: wire.seen,
            z,
            since: wire.since_ms.map(Timestamp::from_ms),
            began_slot: wire.began_slot,
        },
    })
}
