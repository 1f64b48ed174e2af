//! The air of a location: a category for the eye, the EPA's index, levels by named profiles.
//!
//! Promises: a missing or stale value never reads as good, and what is unknown says why. Thresholds of the category:
//! PM2.5 55 µg/m³ and CO2 1000 ppm from the architecture paper, PM2.5 35.4 µg/m³ from the EPA's 2024 breakpoints, CO2
//! 2000 ppm from UBA/IRK 2008 (hygienically unacceptable). The category and the profiles go by the newest values, the
//! index by the NowCast. A value whose unit the plant model declares as another is not judged: nothing is converted.

mod aqi;
mod nowcast;
mod profiles;
mod view;

use prost::Message;

pub use self::profiles::AirProfile;
pub(crate) use self::view::AirView;
use self::{
    aqi::Pollutant,
    nowcast::{Hours, HoursWire},
};
use crate::{
    defaults::{declared_unit, default_unit},
    event::{Reading, Value},
    metric::number,
    time::Timestamp,
    twin::{Nature, Twin},
};

/// What a location remembers of its air beside the newest values.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Air {
    pm25: Option<Box<Hours>>,
    pm10: Option<Box<Hours>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AirWire {
    #[prost(message, optional, tag = "1")]
    pm25: Option<HoursWire>,
    #[prost(message, optional, tag = "2")]
    pm10: Option<HoursWire>,
}

impl Air {
    /// Takes what a reading says of the pollutants.
    pub(crate) fn take(&mut self, at: Timestamp, reading: &Reading) {
        for (name, value) in &reading.metrics {
            let Value::Number(value) = value else { continue };
            for pollutant in Pollutant::ALL {
                if **name == *pollutant.metric() {
                    self.place(pollutant).get_or_insert_default().add(at, *value);
                }
            }
        }
    }

    fn place(&mut self, pollutant: Pollutant) -> &mut Option<Box<Hours>> {
        match pollutant {
            Pollutant::Pm25 => &mut self.pm25,
            Pollutant::Pm10 => &mut self.pm10,
        }
    }

    fn hours(&self, pollutant: Pollutant) -> Option<&Hours> {
        match pollutant {
            Pollutant::Pm25 => self.pm25.as_deref(),
            Pollutant::Pm10 => self.pm10.as_deref(),
        }
    }

    pub(crate) fn to_wire(&self) -> Option<AirWire> {
        let wire = |hours: &Option<Box<Hours>>| hours.as_deref().map(Hours::to_wire);
        (*self != Self::default()).then(|| AirWire {
            pm25: wire(&self.pm25),
            pm10: wire(&self.pm10),
        })
    }

    pub(crate) fn from_wire(wire: Option<AirWire>) -> Self {
        let wire = wire.unwrap_or_default();
        let hours = |wire: Option<HoursWire>| wire.map(|wire| Box::new(Hours::from_wire(&wire)));
        Self {
            pm25: hours(wire.pm25),
            pm10: hours(wire.pm10),
        }
    }

    /// Bytes beside its own struct.
    pub(crate) fn heap_bytes(&self) -> usize {
        let kept = [&self.pm25, &self.pm10].into_iter().flatten().count();
        kept * crate::attributes::block(size_of::<Hours>())
    }
}

/// How the newest value of a metric can be used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Seen {
    Fresh(f64),
    Stale,
    /// The plant model says another unit than the one that thresholds are in.
    OtherUnit,
    Never,
}

impl Seen {
    fn value(self) -> Option<f64> {
        if let Self::Fresh(value) = self {
            Some(value)
        } else {
            None
        }
    }

    /// Why there is no value to judge.
    fn why(self) -> Option<&'static str> {
        match self {
            Self::Fresh(_) => None,
            Self::Stale => Some("stale"),
            Self::OtherUnit => Some("in another unit"),
            Self::Never => Some("not measured"),
        }
    }
}

/// How good the air is, and by which value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Category {
    pub(crate) word: &'static str,
    pub(crate) why: &'static str,
}

/// The category by fresh values alone; a value that was known and is not any more is never good.
fn category(pm25: Seen, co2: Seen) -> Category {
    let above = |seen: Seen, limit: f64| seen.value().is_some_and(|value| value > limit);
    let (word, why) = if above(pm25, 55.0) {
        ("poor", "PM2.5 above 55 µg/m³")
    } else if above(co2, 2_000.0) {
        ("poor", "CO2 above 2000 ppm")
    } else if above(pm25, 35.4) {
        ("moderate", "PM2.5 above 35.4 µg/m³")
    } else if above(co2, 1_000.0) {
        ("moderate", "CO2 above 1000 ppm")
    } else {
        match (pm25, co2) {
            (Seen::Fresh(_), Seen::Fresh(_)) => ("good", "PM2.5 and CO2 below all limits"),
            (Seen::Fresh(_), Seen::Never) => ("good", "PM2.5 below all limits; no fresh CO2"),
            (Seen::Never, Seen::Fresh(_)) => ("good", "CO2 below all limits; no fresh PM2.5"),
            (Seen::Fresh(_), Seen::Stale) => ("unknown", "CO2 is stale; PM2.5 below all limits"),
            (Seen::Stale, Seen::Fresh(_)) => ("unknown", "PM2.5 is stale; CO2 below all limits"),
            (Seen::OtherUnit, _) => ("unknown", "the plant model says that PM2.5 is not in µg/m³"),
            (_, Seen::OtherUnit) => ("unknown", "the plant model says that CO2 is not in ppm"),
            _ => ("unknown", "no fresh PM2.5 and no fresh CO2"),
        }
    };
    Category { word, why }
}

impl Twin {
    /// How a metric can be judged by thresholds in `unit`.
    pub(crate) fn seen(&self, name: &str, unit: &str, now: Timestamp) -> Seen {
        let Some(metric) = self.metrics.get(name) else {
            return Seen::Never;
        };
        if *declared_unit(self.config.as_deref(), name) != *unit {
            return Seen::OtherUnit;
        }
        match number(&metric.value) {
            Some(value) if !self.is_old(metric.at, now) => Seen::Fresh(value),
            _ => Seen::Stale,
        }
    }

    fn seen_by_name(&self, name: &str, now: Timestamp) -> Seen {
        self.seen(name, default_unit(name), now)
    }

    /// The category of a location's air; `None` for other twins.
    pub(crate) fn air_category(&self, now: Timestamp) -> Option<Category> {
        let seen = |name| self.seen_by_name(name, now);
        matches!(self.nature, Nature::Location(_)).then(|| category(seen("pm25_ugm3"), seen("co2_ppm")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_sensor_never_reads_good() {
        use Seen::{Fresh, Never, OtherUnit, Stale};
        for (pm25, co2, wanted) in [
            (Never, Never, "unknown"),
            (Stale, Stale, "unknown"),
            (Stale, Never, "unknown"),
            (Fresh(8.0), Fresh(600.0), "good"),
            (Fresh(8.0), Never, "good"),
            (Fresh(8.0), Stale, "unknown"),
            (Stale, Fresh(600.0), "unknown"),
            (OtherUnit, Fresh(600.0), "unknown"),
            (Fresh(8.0), OtherUnit, "unknown"),
            (Fresh(40.0), Stale, "moderate"),
            (Fresh(8.0), Fresh(1_200.0), "moderate"),
            (Fresh(60.0), Fresh(600.0), "poor"),
            (Never, Fresh(5_000.0), "poor"),
            (Stale, Fresh(5_000.0), "poor"),
        ] {
            assert_eq!(category(pm25, co2).word, wanted, "{pm25:?} {co2:?}");
        }
    }
}
