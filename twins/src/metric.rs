//! The metrics of a twin: newest value of each, and the buckets that are open.
//!
//! Promises: an older reading never overwrites a newer one; a closed bucket is handed out once, and late data comes
//! as a correction of it. Only the open minute is touched per reading; coarser buckets grow when it closes.

use crate::{
    config::{MetricKind, TwinConfig},
    event::Value,
    rollup::{Level, RollupRow, Stats},
    time::Timestamp,
};

/// Most metrics of a twin; more are not taken.
pub(crate) const METRICS_MAX: usize = 256;
const COARSE: [Level; 3] = [Level::M5, Level::H1, Level::D1];
const MINUTE_MS: i64 = 60_000;

/// One metric of a twin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Metric {
    pub(crate) name: Box<str>,
    pub(crate) value: Value,
    pub(crate) at: Timestamp,
    pub(crate) kind: MetricKind,
    pub(crate) open: Stats,
    /// Five minutes, hour, day; without the open minute. Absent until a minute closed.
    pub(crate) coarse: Option<Box<[Stats; 3]>>,
}

/// The metrics of a twin, in the order they were first seen.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Metrics {
    /// Start of the open minute; `None` before the first reading.
    pub(crate) minute: Option<Timestamp>,
    pub(crate) items: Vec<Metric>,
}

/// How a metric of this name is folded where the plant model does not say.
pub(crate) fn default_kind(name: &str) -> MetricKind {
    if ["_count", "_kwh", "_total"].iter().any(|end| name.ends_with(end)) {
        MetricKind::Counter
    } else if matches!(name, "execution" | "state" | "state_change") {
        MetricKind::State
    } else {
        MetricKind::Gauge
    }
}

/// The unit that the name of a metric ends with; empty where it names none.
pub(crate) fn default_unit(name: &str) -> &'static str {
    const UNITS: [(&str, &str); 22] = [
        ("_kwh", "kWh"), ("_kw", "kW"), ("_w", "W"), ("_va", "VA"), ("_var", "var"), ("_v", "V"), ("_a", "A"), ("_hz", "Hz"),
        ("_ppm", "ppm"), ("_ppb", "ppb"), ("_ugm3", "µg/m³"), ("_c", "°C"), ("_pct", "%"), ("_hpa", "hPa"),
        ("_pa", "Pa"), ("_rpm", "rpm"), ("_s", "s"), ("_ms", "ms"), ("_mm", "mm"), ("_bar", "bar"), ("_db", "dB"),
        ("_dbm", "dBm"),
    ];
    UNITS.iter().find(|(end, _)| name.ends_with(end)).map_or("", |(_, unit)| unit)
}

pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number),
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        Value::Text(_) => None,
    }
}

impl Metrics {
    pub(crate) fn get(&self, name: &str) -> Option<&Metric> {
        self.items.iter().find(|metric| *metric.name == *name)
    }

    /// A finite number that is not older than `stale_ms` at `now`.
    pub(crate) fn fresh(&self, name: &str, now: Timestamp, stale_ms: i64) -> Option<f64> {
        self.get(name).filter(|metric| now.ms_since(metric.at) <= stale_ms).and_then(|metric| number(&metric.value))
    }

    /// Moves on to the minute of `at`, closing what ends before it. False where `at` lies in a minute that is closed.
    pub(crate) fn advance(&mut self, at: Timestamp, stale_ms: i64, rows: &mut Vec<RollupRow>) -> bool {
        let minute = at.floor_to(MINUTE_MS);
        match self.minute {
            None => self.minute = Some(minute),
            Some(open) if minute > open => self.close(open, minute, stale_ms, rows),
            Some(open) => return minute == open,
        }
        true
    }

    fn close(&mut self, open: Timestamp, next: Timestamp, stale_ms: i64, rows: &mut Vec<RollupRow>) {
        let mut minute = open;
        while minute < next {
            let end = minute.plus_ms(MINUTE_MS);
            let mut row = RollupRow { level: Level::M1, start: minute, corrected: false, metrics: Vec::new() };
            for metric in &mut self.items {
                metric.hold_until(end, minute, stale_ms);
                if metric.open.is_empty() {
                    continue;
                }
                let stats = std::mem::take(&mut metric.open);
                let coarse = metric.coarse.get_or_insert_default();
                coarse.iter_mut().for_each(|coarse| coarse.merge(&stats));
                row.metrics.push((metric.name.clone(), stats));
            }
            let holds = !row.metrics.is_empty();
            if holds {
                rows.push(row);
            }
            // Beyond the reach of the last value nothing holds over, so the rest of the gap is skipped.
            let following = if holds { end } else { next };
            self.close_coarse(minute, following, rows);
            minute = following;
        }
        self.minute = Some(next);
    }

    fn close_coarse(&mut self, minute: Timestamp, following: Timestamp, rows: &mut Vec<RollupRow>) {
        for (index, level) in COARSE.into_iter().enumerate() {
            let start = minute.floor_to(level.step_ms());
            if following.floor_to(level.step_ms()) == start {
                continue;
            }
            let metrics: Vec<_> = self
                .items
                .iter_mut()
                .filter_map(|metric| {
                    let stats = std::mem::take(&mut metric.coarse.as_mut()?[index]);
                    (!stats.is_empty()).then(|| (metric.name.clone(), stats))
                })
                .collect();
            if !metrics.is_empty() {
                rows.push(RollupRow { level, start, corrected: false, metrics });
            }
        }
    }

    /// Takes a value in the open minute; answers what a counter grew by.
    pub(crate) fn take(&mut self, name: &str, value: &Value, at: Timestamp, stale_ms: i64, config: Option<&TwinConfig>) -> f64 {
        let minute = self.minute.unwrap_or(at);
        let Some(metric) = self.find_or_add(name, value, at, config) else { return 0.0 };
        let Some(new) = number(value) else {
            if at >= metric.at {
                (metric.value, metric.at) = (value.clone(), at);
            }
            return 0.0;
        };
        let mut grown = 0.0;
        if at > metric.at {
            metric.hold_until(at, minute, stale_ms);
        }
        if at >= metric.at {
            if metric.kind == MetricKind::Counter && metric.open_or_closed()
                && let Some(old) = number(&metric.value)
            {
                grown = counter_growth(old, new, rollover(name, config));
            }
            match &mut metric.value {
                Value::Number(place) => *place = new,
                other => *other = value.clone(),
            }
            metric.at = at;
        }
        metric.open.add(at, new);
        metric.open.increase += grown;
        grown
    }

    /// A value of a minute that is closed: corrections for the closed buckets, the rest into those still open.
    pub(crate) fn correct(&mut self, reading: &[(Box<str>, Value)], at: Timestamp, config: Option<&TwinConfig>, rows: &mut Vec<RollupRow>) {
        let open = self.minute.unwrap_or(at);
        for level in Level::ALL {
            let start = at.floor_to(level.step_ms());
            let closed = start < open.floor_to(level.step_ms());
            let mut row = RollupRow { level, start, corrected: true, metrics: Vec::new() };
            for (name, value) in reading {
                let Some(value_number) = number(value) else { continue };
                let stats = Stats::of(at, value_number);
                if closed {
                    row.metrics.push((name.clone(), stats));
                } else if let Some(metric) = self.find_or_add(name, value, at, config)
                    && let Some(index) = COARSE.into_iter().position(|coarse| coarse == level)
                {
                    metric.coarse.get_or_insert_default()[index].merge(&stats);
                }
            }
            if !row.metrics.is_empty() {
                rows.push(row);
            }
        }
    }

    fn find_or_add(&mut self, name: &str, value: &Value, at: Timestamp, config: Option<&TwinConfig>) -> Option<&mut Metric> {
        let place = match self.items.iter().position(|metric| *metric.name == *name) {
            Some(place) => place,
            None if self.items.len() >= METRICS_MAX => return None,
            None => {
                let declared = config.and_then(|config| config.metrics.iter().find(|metric| *metric.name == *name));
                let kind = declared.map_or_else(|| default_kind(name), |metric| metric.kind);
                let metric = Metric { name: name.into(), value: value.clone(), at, kind, open: Stats::default(), coarse: None };
                self.items.reserve_exact(1);
                self.items.push(metric);
                self.items.len() - 1
            }
        };
        self.items.get_mut(place)
    }

    /// The open bucket of a width, with what its metrics did so far.
    pub(crate) fn open_row(&self, level: Level) -> Option<RollupRow> {
        let minute = self.minute?;
        let start = minute.floor_to(level.step_ms());
        let metrics: Vec<_> = self
            .items
            .iter()
            .filter_map(|metric| {
                let mut stats = metric.open;
                if let (Some(index), Some(coarse)) = (COARSE.into_iter().position(|coarse| coarse == level), &metric.coarse) {
                    let mut whole = coarse[index];
                    whole.merge(&stats);
                    stats = whole;
                }
                (!stats.is_empty()).then(|| (metric.name.clone(), stats))
            })
            .collect();
        (!metrics.is_empty()).then_some(RollupRow { level, start, corrected: false, metrics })
    }
}

impl Metric {
    /// The previous value holds until `until`, from the start of the minute on, and not past staleness.
    fn hold_until(&mut self, until: Timestamp, minute: Timestamp, stale_ms: i64) {
        if self.kind == MetricKind::Counter {
            return;
        }
        let Some(value) = number(&self.value) else { return };
        let held_to = i64::from(self.open.covered_ms);
        let from = self.at.max(minute);
        let to = until.min(self.at.plus_ms(stale_ms));
        let ms = to.ms_since(from);
        if ms > 0 && held_to + ms <= MINUTE_MS {
            self.open.hold(value, ms);
        }
    }

    /// Whether a value of it was folded before, so that a counter's difference means something.
    fn open_or_closed(&self) -> bool {
        self.open.count > 0 || self.coarse.is_some()
    }
}

/// What a counter grew by: a fall is a rollover where one is declared, else a reset to zero.
fn counter_growth(old: f64, new: f64, rollover_at: Option<f64>) -> f64 {
    if new >= old {
        return new - old;
    }
    match rollover_at {
        // A fall over most of the range is a wrap; a small one in the middle of it is a reset.
        Some(limit) if limit > old && old - new > limit / 2.0 => limit - old + new,
        _ => new.max(0.0),
    }
}

fn rollover(name: &str, config: Option<&TwinConfig>) -> Option<f64> {
    config?.metrics.iter().find(|metric| *metric.name == *name)?.rollover_at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_differenced_over_reset_and_rollover() {
        let wrap = Some(4_294_967_296.0);
        for (old, new, rollover, grown) in [
            (10.0, 15.0, None, 5.0),
            (10.0, 3.0, None, 3.0),
            (4_294_967_290.0, 4.0, wrap, 10.0),
            (100.0, 4.0, wrap, 4.0),
            (7.0, 7.0, wrap, 0.0),
        ] {
            assert_eq!(counter_growth(old, new, rollover), grown, "{old} to {new}");
        }
    }
}
