//! What the plant model says of a location beside what it says of every twin.

use prost::Message;

use crate::air::AirProfile;

/// The part of a twin's configuration that only locations have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LocationConfig {
    /// The profiles that its air is judged by, in the order given.
    pub air_profiles: Vec<AirProfile>,
    /// Seconds in which a job has to leave so that the demand is met: available time by demand.
    pub takt_s: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LocationConfigWire {
    #[prost(uint32, repeated, tag = "1")]
    air_profiles: Vec<u32>,
    #[prost(double, optional, tag = "2")]
    takt_s: Option<f64>,
}

impl LocationConfig {
    pub(crate) fn to_wire(&self) -> LocationConfigWire {
        LocationConfigWire {
            air_profiles: self.air_profiles.iter().map(|profile| *profile as u32).collect(),
            takt_s: self.takt_s,
        }
    }

    pub(crate) fn from_wire(wire: &LocationConfigWire) -> Self {
        Self {
            // A profile that only a later release knows judges nothing here.
            air_profiles: wire
                .air_profiles
                .iter()
                .filter_map(|number| AirProfile::from_number(*number))
                .collect(),
            takt_s: wire.takt_s,
        }
    }
}
