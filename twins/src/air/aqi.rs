//! The Air Quality Index of one pollutant, and the NowCast it is taken from.
//!
//! Promises: the US EPA's rule of May 2024 (EPA-454/B-24-002, table 6): the concentration is truncated, the index
//! interpolated and rounded; above 500 the last segment goes on. Knows nothing of sensors: the concentrations are those
//! of `nowcast.rs`.

/// Hours that a NowCast is over.
pub(crate) const HOURS: usize = 12;

/// What an index is known for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pollutant {
    Pm25,
    Pm10,
}

/// From and to, of the concentration in its smallest unit and of the index.
type Segment = (i64, i64, i64, i64);

/// In tenths of µg/m³.
const PM25: [Segment; 6] = [
    (0, 90, 0, 50),
    (91, 354, 51, 100),
    (355, 554, 101, 150),
    (555, 1_254, 151, 200),
    (1_255, 2_254, 201, 300),
    (2_255, 3_254, 301, 500),
];
/// In µg/m³.
const PM10: [Segment; 6] = [
    (0, 54, 0, 50),
    (55, 154, 51, 100),
    (155, 254, 101, 150),
    (255, 354, 151, 200),
    (355, 424, 201, 300),
    (425, 604, 301, 500),
];

impl Pollutant {
    pub(crate) const ALL: [Self; 2] = [Self::Pm25, Self::Pm10];

    /// Its metric at a location.
    pub(crate) fn metric(self) -> &'static str {
        match self {
            Self::Pm25 => "pm25_ugm3",
            Self::Pm10 => "pm10_ugm3",
        }
    }

    fn per_ugm3(self) -> f64 {
        match self {
            Self::Pm25 => 10.0,
            Self::Pm10 => 1.0,
        }
    }

    fn smallest_units(self, ugm3: f64) -> i64 {
        // A value such as 35.4 has no exact float; a billionth is far below what is measured.
        (ugm3 * self.per_ugm3() + 1e-9).floor() as i64
    }

    /// The concentration as the rule truncates it: 0.1 µg/m³ for PM2.5, 1 µg/m³ for PM10.
    pub(crate) fn truncated(self, ugm3: f64) -> f64 {
        self.smallest_units(ugm3) as f64 / self.per_ugm3()
    }

    /// The index of a concentration; `None` where it is no concentration.
    pub(crate) fn aqi(self, ugm3: f64) -> Option<u32> {
        if !(0.0..1e6).contains(&ugm3) {
            return None;
        }
        let (table, value) = match self {
            Self::Pm25 => (&PM25, self.smallest_units(ugm3)),
            Self::Pm10 => (&PM10, self.smallest_units(ugm3)),
        };
        let (from, to, low, high) = *table.iter().find(|(_, to, ..)| value <= *to).unwrap_or(&table[5]);
        let slope = (high - low) as f64 / (to - from) as f64;
        Some((low as f64 + (value - from) as f64 * slope).round() as u32)
    }
}

/// The word for an index.
pub(crate) fn word(aqi: u32) -> &'static str {
    match aqi {
        0..=50 => "good",
        51..=100 => "moderate",
        101..=150 => "unhealthy_for_sensitive_groups",
        151..=200 => "unhealthy",
        201..=300 => "very_unhealthy",
        _ => "hazardous",
    }
}

/// The NowCast of hourly means, the newest first: weights fall off the faster the more the air changes. `None` unless
/// two of the latest three hours are known.
pub(crate) fn nowcast(hours: &[Option<f64>; HOURS]) -> Option<f64> {
    if hours[..3].iter().flatten().count() < 2 {
        return None;
    }
    let known = || hours.iter().flatten().copied();
    let (least, most) = (known().fold(f64::INFINITY, f64::min), known().fold(0.0, f64::max));
    let weight = if most > 0.0 { (least / most).max(0.5) } else { 1.0 };
    let (mut sum, mut weights, mut factor) = (0.0, 0.0, 1.0);
    for hour in hours {
        if let Some(mean) = hour {
            sum += factor * mean;
            weights += factor;
        }
        factor *= weight;
    }
    Some(sum / weights)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

    use serde_json::Value as Json;

    use super::*;

    fn vectors() -> Json {
        serde_json::from_str(include_str!("../../tests/vectors/epa_aqi_2024.json")).expect("the vectors")
    }

    #[test]
    fn the_index_is_that_of_the_epa_for_every_vector() {
        let vectors = vectors();
        let points = vectors["cases"].as_array().expect("a list");
        assert!(points.len() >= 30, "{}", points.len());
        for point in points {
            let pollutant = match point["p"].as_str() {
                Some("pm25") => Pollutant::Pm25,
                _ => Pollutant::Pm10,
            };
            let concentration = point["c"].as_f64().expect("a number");
            let wanted = point["aqi"].as_u64().expect("an index");
            assert_eq!(
                pollutant.aqi(concentration).map(u64::from),
                Some(wanted),
                "{point}"
            );
        }
    }

    #[test]
    fn the_nowcast_is_that_of_the_epa_for_every_vector() {
        let vectors = vectors();
        for case in vectors["nowcast"].as_array().expect("a list") {
            let mut hours = [None; HOURS];
            let given = case["hours_newest_first"].as_array().expect("hours");
            for (hour, mean) in hours.iter_mut().zip(given) {
                *hour = mean.as_f64();
            }
            let found = nowcast(&hours);
            let Some(wanted) = case["nowcast"].as_f64() else {
                assert_eq!(found, None, "{case}");
                continue;
            };
            let found = found.expect("a NowCast");
            assert!((found - wanted).abs() < 1e-9, "{found} for {case}");
            assert_eq!(
                Some(Pollutant::Pm25.truncated(found)),
                case["nowcast_trunc"].as_f64(),
                "{case}"
            );
            assert_eq!(
                Pollutant::Pm25.aqi(found).map(u64::from),
                case["aqi"].as_u64(),
                "{case}"
            );
        }
    }

    #[test]
    fn what_is_no_concentration_has_no_index() {
        for value in [-0.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Pollutant::Pm25.aqi(value), None, "{value}");
        }
        assert_eq!(word(Pollutant::Pm10.aqi(604.0).expect("an index")), "hazardous");
    }
}
