//! The air category of a location: good, moderate, poor, or unknown.
//!
//! Promises: a missing or stale value never reads as good. Thresholds: PM2.5 55 µg/m³ and CO2 1000 ppm from the
//! architecture paper, PM2.5 35.4 µg/m³ from the EPA's 2024 breakpoints, CO2 2000 ppm from UBA/IRK 2008 (hygienically
//! unacceptable).

/// How good the air is, and by which value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Air {
    pub(crate) category: &'static str,
    pub(crate) reason: &'static str,
}

/// The category by fresh values alone.
pub(crate) fn category(pm25_ugm3: Option<f64>, co2_ppm: Option<f64>) -> Air {
    let pm25_above = |limit: f64| pm25_ugm3.is_some_and(|value| value > limit);
    let co2_above = |limit: f64| co2_ppm.is_some_and(|value| value > limit);
    let (category, reason) = if pm25_above(55.0) {
        ("poor", "PM2.5 above 55 µg/m³")
    } else if co2_above(2_000.0) {
        ("poor", "CO2 above 2000 ppm")
    } else if pm25_above(35.4) {
        ("moderate", "PM2.5 above 35.4 µg/m³")
    } else if co2_above(1_000.0) {
        ("moderate", "CO2 above 1000 ppm")
    } else {
        match (pm25_ugm3, co2_ppm) {
            (Some(_), Some(_)) => ("good", "PM2.5 and CO2 below all limits"),
            (Some(_), None) => ("good", "PM2.5 below all limits; no fresh CO2"),
            (None, Some(_)) => ("good", "CO2 below all limits; no fresh PM2.5"),
            (None, None) => ("unknown", "no fresh PM2.5 and no fresh CO2"),
        }
    };
    Air { category, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_sensor_never_reads_good() {
        for (pm25, co2, wanted) in [
            (None, None, "unknown"),
            (Some(8.0), Some(600.0), "good"),
            (Some(40.0), None, "moderate"),
            (Some(8.0), Some(1_200.0), "moderate"),
            (Some(60.0), Some(600.0), "poor"),
            (None, Some(5_000.0), "poor"),
        ] {
            assert_eq!(category(pm25, co2).category, wanted, "{pm25:?} {co2:?}");
        }
    }
}
