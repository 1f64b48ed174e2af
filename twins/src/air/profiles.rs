//! Named threshold profiles of air, each with its source. A location is judged by those that its plant model names.
//!
//! Promises: a profile judges a metric only in the unit that its thresholds are in; units are never converted, so a
//! TVOC index or ppb has no level by a profile in µg/m³. The profiles judge the newest value, while their sources mean
//! averages over hours or a day: what is shown is where the air stands now, not a certificate.

/// A published set of thresholds. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AirProfile {
    /// CO2 by the German environment agency.
    UbaCo2 = 1,
    /// TVOC by the German environment agency.
    UbaTvoc = 2,
    /// RESET Air for commercial interiors.
    ResetAirCi = 3,
    /// WELL Building Standard, version 2.
    WellV2 = 4,
    /// WHO air quality guidelines.
    Who2021 = 5,
}

/// Thresholds for one metric.
pub(crate) struct Rule {
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    /// From the best level to the worst but one.
    steps: &'static [(Bound, &'static str)],
    beyond: &'static str,
}

enum Bound {
    Below(f64),
    UpTo(f64),
}

use Bound::{Below, UpTo};

const UBA_CO2: [Rule; 1] = [Rule {
    metric: "co2_ppm",
    unit: "ppm",
    steps: &[(Below(1_000.0), "harmless"), (UpTo(2_000.0), "elevated")],
    beyond: "unacceptable",
}];
const UBA_TVOC: [Rule; 1] = [Rule {
    metric: "tvoc_ugm3",
    unit: "µg/m³",
    steps: &[
        (UpTo(300.0), "level_1"),
        (UpTo(1_000.0), "level_2"),
        (UpTo(3_000.0), "level_3"),
        (UpTo(10_000.0), "level_4"),
    ],
    beyond: "level_5",
}];
const RESET_AIR_CI: [Rule; 3] = [
    Rule {
        metric: "co2_ppm",
        unit: "ppm",
        steps: &[(Below(600.0), "high_performance"), (Below(1_000.0), "acceptable")],
        beyond: "exceeded",
    },
    Rule {
        metric: "tvoc_ugm3",
        unit: "µg/m³",
        steps: &[(Below(400.0), "high_performance"), (Below(500.0), "acceptable")],
        beyond: "exceeded",
    },
    Rule {
        metric: "pm25_ugm3",
        unit: "µg/m³",
        steps: &[(Below(12.0), "high_performance"), (Below(35.0), "acceptable")],
        beyond: "exceeded",
    },
];
const WELL_V2: [Rule; 3] = [
    Rule {
        metric: "co2_ppm",
        unit: "ppm",
        steps: &[(UpTo(750.0), "enhanced"), (UpTo(900.0), "met")],
        beyond: "exceeded",
    },
    Rule {
        metric: "tvoc_ugm3",
        unit: "µg/m³",
        steps: &[(UpTo(500.0), "met")],
        beyond: "exceeded",
    },
    Rule {
        metric: "pm25_ugm3",
        unit: "µg/m³",
        steps: &[(UpTo(12.0), "enhanced"), (UpTo(15.0), "met")],
        beyond: "exceeded",
    },
];
const WHO_2021: [Rule; 2] = [
    Rule {
        metric: "pm25_ugm3",
        unit: "µg/m³",
        steps: &[(UpTo(15.0), "within_guideline")],
        beyond: "above_guideline",
    },
    Rule {
        metric: "pm10_ugm3",
        unit: "µg/m³",
        steps: &[(UpTo(45.0), "within_guideline")],
        beyond: "above_guideline",
    },
];

impl AirProfile {
    /// All profiles, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::UbaCo2,
        Self::UbaTvoc,
        Self::ResetAirCi,
        Self::WellV2,
        Self::Who2021,
    ];

    /// The profile of an on-disk number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| *profile as u32 == number)
    }

    /// Its name in the plant model and in the JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UbaCo2 => "uba_co2",
            Self::UbaTvoc => "uba_tvoc",
            Self::ResetAirCi => "reset_air_ci",
            Self::WellV2 => "well_v2",
            Self::Who2021 => "who_2021",
        }
    }

    /// Where its thresholds come from.
    #[must_use]
    pub fn source(self) -> &'static str {
        match self {
            Self::UbaCo2 => {
                "UBA, IRK/AOLG: Gesundheitliche Bewertung von Kohlendioxid in der Innenraumluft, \
                 Bundesgesundheitsblatt 51 (2008) 1358"
            }
            Self::UbaTvoc => {
                "UBA, IRK/AOLG: Beurteilung von Innenraumluftkontaminationen mittels Referenz- und Richtwerten, \
                 Bundesgesundheitsblatt 50 (2007) 990"
            }
            Self::ResetAirCi => {
                "RESET Air, Commercial Interiors: acceptable and high performance, daily averages"
            }
            Self::WellV2 => "WELL Building Standard v2, features A01, A03, A05 and A06",
            Self::Who2021 => "WHO global air quality guidelines (2021), 24-hour means",
        }
    }

    pub(crate) fn rules(self) -> &'static [Rule] {
        match self {
            Self::UbaCo2 => &UBA_CO2,
            Self::UbaTvoc => &UBA_TVOC,
            Self::ResetAirCi => &RESET_AIR_CI,
            Self::WellV2 => &WELL_V2,
            Self::Who2021 => &WHO_2021,
        }
    }
}

impl Rule {
    /// The level of a value.
    pub(crate) fn level(&self, value: f64) -> &'static str {
        let within = |bound: &Bound| match bound {
            Below(limit) => value < *limit,
            UpTo(limit) => value <= *limit,
        };
        self.steps
            .iter()
            .find(|(bound, _)| within(bound))
            .map_or(self.beyond, |(_, level)| level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_change_where_their_sources_say() {
        for (profile, metric, value, wanted) in [
            (AirProfile::UbaCo2, "co2_ppm", 999.9, "harmless"),
            (AirProfile::UbaCo2, "co2_ppm", 1_000.0, "elevated"),
            (AirProfile::UbaCo2, "co2_ppm", 2_000.0, "elevated"),
            (AirProfile::UbaCo2, "co2_ppm", 2_000.1, "unacceptable"),
            (AirProfile::UbaTvoc, "tvoc_ugm3", 300.0, "level_1"),
            (AirProfile::UbaTvoc, "tvoc_ugm3", 301.0, "level_2"),
            (AirProfile::UbaTvoc, "tvoc_ugm3", 25_000.0, "level_5"),
            (AirProfile::ResetAirCi, "co2_ppm", 600.0, "acceptable"),
            (AirProfile::ResetAirCi, "pm25_ugm3", 11.9, "high_performance"),
            (AirProfile::ResetAirCi, "tvoc_ugm3", 500.0, "exceeded"),
            (AirProfile::WellV2, "co2_ppm", 900.0, "met"),
            (AirProfile::WellV2, "pm25_ugm3", 15.1, "exceeded"),
            (AirProfile::Who2021, "pm10_ugm3", 45.0, "within_guideline"),
        ] {
            let rule = profile.rules().iter().find(|rule| rule.metric == metric);
            assert_eq!(
                rule.map(|rule| rule.level(value)),
                Some(wanted),
                "{profile:?} {value}"
            );
        }
    }

    #[test]
    fn names_and_numbers_tell_profiles_apart() {
        for profile in AirProfile::ALL {
            assert_eq!(AirProfile::from_number(profile as u32), Some(profile));
            let same = AirProfile::ALL
                .iter()
                .filter(|other| other.as_str() == profile.as_str());
            assert_eq!(same.count(), 1);
        }
    }
}
