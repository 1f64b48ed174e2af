//! What a metric is where the plant model does not say: its kind and unit, read off its name.
//!
//! Promises: the plant model comes first; a name that says nothing is a gauge without a unit. Names end in their
//! unit or in `_count`, as the native format spells them.

use crate::config::{MetricConfig, MetricKind, TwinConfig};

pub(crate) fn default_kind(name: &str) -> MetricKind {
    match name.rsplit_once('_').map_or("", |(_, end)| end) {
        "count" | "kwh" | "total" => MetricKind::Counter,
        _ if matches!(name, "execution" | "state" | "state_change") => MetricKind::State,
        _ => MetricKind::Gauge,
    }
}

/// The unit that a name ends with; empty where it names none.
pub(crate) fn default_unit(name: &str) -> &'static str {
    match name.rsplit_once('_').map_or("", |(_, end)| end) {
        "kwh" => "kWh",
        "kw" => "kW",
        "w" => "W",
        "va" => "VA",
        "var" => "var",
        "v" => "V",
        "a" => "A",
        "hz" => "Hz",
        "ppm" => "ppm",
        "ppb" => "ppb",
        "ugm3" => "µg/m³",
        "c" => "°C",
        "pct" => "%",
        "pa" => "Pa",
        "hpa" => "hPa",
        "bar" => "bar",
        "rpm" => "rpm",
        "ms" => "ms",
        "s" => "s",
        "mm" => "mm",
        "db" => "dB",
        "dbm" => "dBm",
        "index" => "index",
        _ => "",
    }
}

fn declared<'a>(config: Option<&'a TwinConfig>, name: &str) -> Option<&'a MetricConfig> {
    config?.metrics.iter().find(|metric| *metric.name == *name)
}

/// How a metric is folded: by the plant model, else by its name.
pub(crate) fn declared_kind(config: Option<&TwinConfig>, name: &str) -> MetricKind {
    declared(config, name).map_or_else(|| default_kind(name), |metric| metric.kind)
}

/// A metric's unit: by the plant model, else by its name.
pub(crate) fn declared_unit<'a>(config: Option<&'a TwinConfig>, name: &str) -> &'a str {
    let unit = declared(config, name).map_or("", |metric| &*metric.unit);
    if unit.is_empty() { default_unit(name) } else { unit }
}

/// Where the plant model says that a counter wraps round.
pub(crate) fn rollover_at(config: Option<&TwinConfig>, name: &str) -> Option<f64> {
    declared(config, name)?.rollover_at
}

/// Whether a declaration says more than the name does.
pub(crate) fn is_needed(declared: &MetricConfig) -> bool {
    declared.kind != default_kind(&declared.name)
        || declared.rollover_at.is_some()
        || !(declared.unit.is_empty() || *declared.unit == *default_unit(&declared.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_kind_and_unit() {
        use MetricKind::{Counter, Gauge, State};
        for (name, kind, unit) in [
            ("energy_kwh", Counter, "kWh"),
            ("good_count", Counter, ""),
            ("parts_total", Counter, ""),
            ("execution", State, ""),
            ("state", State, ""),
            ("spindle_rpm", Gauge, "rpm"),
            ("co2_ppm", Gauge, "ppm"),
            ("voc_ppb", Gauge, "ppb"),
            ("pm25_ugm3", Gauge, "µg/m³"),
            ("temperature_c", Gauge, "°C"),
            ("cycle_ms", Gauge, "ms"),
            ("cycle_s", Gauge, "s"),
            ("utilization", Gauge, ""),
        ] {
            assert_eq!((default_kind(name), default_unit(name)), (kind, unit), "{name}");
        }
    }

    #[test]
    fn the_plant_model_comes_before_the_name() {
        let metric = |name: &str, kind, unit: &str| MetricConfig {
            name: name.into(),
            kind,
            unit: unit.into(),
            rollover_at: None,
        };
        let metrics = vec![
            metric("energy_kwh", MetricKind::Gauge, "MWh"),
            metric("co2_ppm", MetricKind::Gauge, ""),
        ];
        assert_eq!(metrics.iter().map(is_needed).collect::<Vec<_>>(), [true, false]);
        let config = TwinConfig {
            metrics,
            ..TwinConfig::default()
        };
        assert_eq!(declared_kind(Some(&config), "energy_kwh"), MetricKind::Gauge);
        assert_eq!(declared_unit(Some(&config), "energy_kwh"), "MWh");
        assert_eq!(declared_unit(Some(&config), "co2_ppm"), "ppm");
    }
}
