//! The air of a location as JSON.
//!
//! ```json
//! {"category":"moderate","why":"CO2 above 1000 ppm","aqi":53,"aqi_category":"moderate","aqi_pollutant":"pm25",
//!  "aqi_basis":"NowCast of the last 12 clock hours","nowcast_pm25_ugm3":10.0,"nowcast_pm10_ugm3":null,
//!  "nowcast_why":{"pm10":"…"},"tvoc":{"metric":"voc_ppb","value":120,"unit":"ppb"},
//!  "profiles":[{"profile":"uba_co2","metric":"co2_ppm","level":"elevated","value":1120,"source":"…"}]}
//! ```
//! Promises: what cannot be said is null or `unknown` with a reason beside it.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    AirProfile,
    aqi::{Pollutant, nowcast, word},
    profiles::Rule,
};
use crate::{defaults::declared_unit, location::Location, time::Timestamp, twin::Twin};

/// Names of TVOC by their units; the first that is measured is shown.
const TVOC: [&str; 4] = ["tvoc_ugm3", "voc_ppb", "tvoc_ppb", "voc_index"];

pub(crate) struct AirView<'a> {
    pub(crate) twin: &'a Twin,
    pub(crate) location: &'a Location,
    pub(crate) now: Timestamp,
}

impl AirView<'_> {
    fn nowcast(&self, pollutant: Pollutant) -> Result<f64, &'static str> {
        let hours = self.location.air.hours(pollutant).ok_or("not measured")?;
        if *declared_unit(self.twin.config.as_deref(), pollutant.metric()) != *"µg/m³" {
            return Err("not in µg/m³");
        }
        let nowcast = nowcast(&hours.before(self.now));
        nowcast
            .map(|ugm3| pollutant.truncated(ugm3))
            .ok_or("two of the latest three full hours are needed")
    }
}

impl Serialize for AirView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(category) = self.twin.air_category(self.now) {
            map.serialize_entry("category", category.word)?;
            map.serialize_entry("why", category.why)?;
        }
        let nowcasts = Pollutant::ALL.map(|pollutant| (pollutant, self.nowcast(pollutant)));
        let indices = nowcasts
            .iter()
            .filter_map(|(pollutant, ugm3)| Some((pollutant.aqi(*ugm3.as_ref().ok()?)?, *pollutant)));
        let worst = indices.max_by_key(|(aqi, _)| *aqi);
        map.serialize_entry("aqi", &worst.map(|(aqi, _)| aqi))?;
        if let Some((aqi, pollutant)) = worst {
            map.serialize_entry("aqi_category", word(aqi))?;
            map.serialize_entry("aqi_pollutant", short(pollutant))?;
            map.serialize_entry("aqi_basis", "NowCast of the last 12 clock hours")?;
        }
        for (pollutant, ugm3) in &nowcasts {
            let name = match pollutant {
                Pollutant::Pm25 => "nowcast_pm25_ugm3",
                Pollutant::Pm10 => "nowcast_pm10_ugm3",
            };
            map.serialize_entry(name, &ugm3.as_ref().ok())?;
        }
        if nowcasts.iter().any(|(_, ugm3)| ugm3.is_err()) {
            let why: std::collections::BTreeMap<_, _> = nowcasts
                .iter()
                .filter_map(|(pollutant, ugm3)| Some((short(*pollutant), ugm3.as_ref().err()?)))
                .collect();
            map.serialize_entry("nowcast_why", &why)?;
        }
        let config = self.twin.config.as_deref();
        if let Some(metric) = TVOC.iter().find_map(|name| self.twin.metrics.get(name))
            && let Some(value) = crate::metric::number(&metric.value)
        {
            let unit = declared_unit(config, &metric.name);
            map.serialize_entry(
                "tvoc",
                &Tvoc {
                    name: &metric.name,
                    value,
                    unit,
                    stale: self.twin.is_old(metric.at, self.now),
                },
            )?;
        }
        let profiles = config.and_then(|config| config.location.as_deref());
        let profiles = profiles.map_or(&[][..], |config| &config.air_profiles);
        let rules = profiles.iter().flat_map(|profile| {
            profile.rules().iter().map(|rule| Level {
                view: self,
                profile: *profile,
                rule,
            })
        });
        map.serialize_entry("profiles", &rules.collect::<Vec<_>>())?;
        map.end()
    }
}

fn short(pollutant: Pollutant) -> &'static str {
    match pollutant {
        Pollutant::Pm25 => "pm25",
        Pollutant::Pm10 => "pm10",
    }
}

struct Tvoc<'a> {
    name: &'a str,
    value: f64,
    unit: &'a str,
    stale: bool,
}

impl Serialize for Tvoc<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("metric", self.name)?;
        map.serialize_entry("value", &self.value)?;
        map.serialize_entry("unit", self.unit)?;
        if self.stale {
            map.serialize_entry("quality", "stale")?;
        }
        map.end()
    }
}

/// What one rule of a profile says of the newest value.
struct Level<'a> {
    view: &'a AirView<'a>,
    profile: AirProfile,
    rule: &'a Rule,
}

impl Serialize for Level<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let seen = self
            .view
            .twin
            .seen(self.rule.metric, self.rule.unit, self.view.now);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("profile", self.profile.as_str())?;
        map.serialize_entry("metric", self.rule.metric)?;
        match seen.value() {
            Some(value) => {
                map.serialize_entry("level", self.rule.level(value))?;
                map.serialize_entry("value", &value)?;
            }
            None => {
                map.serialize_entry("level", "unknown")?;
                map.serialize_entry("why", &seen.why())?;
            }
        }
        map.serialize_entry("source", self.profile.source())?;
        map.end()
    }
}
