//! What a location says of its air and of the demand it has to meet.
//!
//! Promises: a demand is jobs in a time that is available, e.g. `320/8h` for a shift of eight hours; the takt follows
//! from it. A profile that is not known is refused with the names of those that are.

use std::{fmt, str::FromStr};

use gemba_twins::config::{AirProfile, LocationConfig};
use serde::{Serialize, Serializer};

use super::{
    Location, Span,
    fields::{Fields, shortened},
    written::Tree,
};

/// Jobs that have to leave within a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// How many, more than 0.
    jobs: f64,
    within: Span,
}

impl Demand {
    /// Seconds for each job: available time by demand.
    #[must_use]
    pub fn takt_s(self) -> f64 {
        self.within.seconds() / self.jobs
    }
}

/// A text that is no demand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a demand (jobs and the time available for them, e.g. 40/h or 320/8h)")]
pub struct InvalidDemand(String);

impl FromStr for Demand {
    type Err = InvalidDemand;

    fn from_str(text: &str) -> Result<Self, InvalidDemand> {
        let refuse = || InvalidDemand(shortened(text));
        let (jobs, within) = text.split_once('/').ok_or_else(refuse)?;
        let jobs: f64 = jobs.trim().parse().map_err(|_| refuse())?;
        let within = within.trim();
        let counted = within.starts_with(|first: char| first.is_ascii_digit());
        let within = if counted {
            within.to_owned()
        } else {
            format!("1{within}")
        };
        let within: Span = within.parse().map_err(|_| refuse())?;
        if (1e-3..=1e9).contains(&jobs) {
            Ok(Self { jobs, within })
        } else {
            Err(refuse())
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.jobs, self.within)
    }
}

impl Serialize for Demand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

pub(super) fn as_profiles<S: Serializer>(profiles: &[AirProfile], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(profiles.iter().map(|profile| profile.as_str()))
}

/// What a location twin is told of this.
pub(super) fn config(location: &Location) -> Option<Box<LocationConfig>> {
    let config = LocationConfig {
        air_profiles: location.air_profiles.clone(),
        takt_s: location.demand.map(Demand::takt_s),
    };
    (config != LocationConfig::default()).then(|| Box::new(config))
}

impl Fields<'_, '_> {
    pub(super) fn air_profiles(&mut self) -> Vec<AirProfile> {
        let profiles = self.list("air_profiles", |tree, path, problems| {
            let known = AirProfile::ALL.map(AirProfile::as_str);
            let text = if let Tree::Text(text) = tree {
                text.as_str()
            } else {
                ""
            };
            let found = AirProfile::ALL
                .into_iter()
                .find(|profile| profile.as_str() == text);
            if found.is_none() {
                let hint = problems.nearest(text, known.into_iter());
                let detail = format!(
                    "{:?} is not a profile{hint} (one of {})",
                    shortened(text),
                    known.join(", ")
                );
                problems.add(path, detail);
            }
            found
        });
        let is_repeated = |(at, profile): (usize, &AirProfile)| profiles[..at].contains(profile);
        if profiles.iter().enumerate().any(is_repeated) {
            self.problem("air_profiles", "names a profile twice");
        }
        profiles
    }

    pub(super) fn demand(&mut self) -> Option<Demand> {
        let parsed = self.text("demand")?.parse();
        match parsed {
            Ok(demand) => Some(demand),
            Err(error) => {
                let error: InvalidDemand = error;
                self.problem("demand", &error.to_string());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takt_is_available_time_by_demand() {
        for (written, shown, takt_s) in [
            ("40/h", "40/1h", 90.0),
            ("320/8h", "320/8h", 90.0),
            ("2.5 / 30m", "2.5/30m", 720.0),
        ] {
            let demand: Demand = written.parse().expect(written);
            assert_eq!((demand.to_string().as_str(), demand.takt_s()), (shown, takt_s));
            assert_eq!(shown.parse::<Demand>().expect(shown), demand);
        }
        for text in ["", "40", "0/h", "-1/h", "40/", "x/h", "40/week", "NaN/h"] {
            assert!(text.parse::<Demand>().is_err(), "{text}");
        }
    }
}
