//! A value is taken: into the open minute, or, where it came late, as corrections of what was handed out.
//!
//! Promises: an older value never overwrites a newer one. A late value that is still the metric's newest also corrects
//! what its predecessor was held for; one between two known values counts by itself. Words are `clip`ped.

use super::{METRICS_MAX, MINUTE_MS, Metric, Metrics, Rules, Taken, number, state_name};
use crate::{
    bucket::{Bucket, STEPS, Word},
    config::MetricKind,
    defaults::{declared_kind, rollover_at},
    event::Value,
    rollup::{Level, RollupRow, Stats},
    time::Timestamp,
};

/// Longest word kept, in bytes.
const WORD_MAX: usize = 256;

impl Metrics {
    /// Takes a value; what belongs to closed buckets goes to `corrections`.
    pub(crate) fn take(
        &mut self,
        name: &str,
        value: &Value,
        at: Timestamp,
        rules: &Rules<'_>,
        corrections: &mut Vec<RollupRow>,
    ) -> Taken {
        let known = self.items.iter().position(|metric| *metric.name == *name);
        let kind = known.map_or_else(
            || declared_kind(rules.config, name),
            |index| self.items[index].kind,
        );
        let usable = match (kind, value) {
            (_, Value::Number(number)) => number.is_finite(),
            (MetricKind::Counter, Value::Text(_)) => false,
            _ => true,
        };
        if !usable || (known.is_none() && self.items.len() >= METRICS_MAX) {
            self.refused = self.refused.saturating_add(1);
            return Taken::by(None);
        }
        let index = known.unwrap_or_else(|| self.add(name, value, at, kind));
        if kind == MetricKind::State {
            self.take_word(index, known.is_none(), value, at, rules, corrections);
            return Taken::by(Some(index));
        }
        self.take_number(index, known.is_none(), value, at, rules, corrections)
    }

    fn add(&mut self, name: &str, value: &Value, at: Timestamp, kind: MetricKind) -> usize {
        self.items.reserve_exact(1);
        self.items.push(Metric {
            name: name.into(),
            value: clip(value),
            at,
            kind,
            lapsed: false,
            open: Bucket::default(),
            wider: None,
            states: None,
        });
        self.items.len() - 1
    }

    fn take_number(
        &mut self,
        index: usize,
        is_new: bool,
        value: &Value,
        at: Timestamp,
        rules: &Rules<'_>,
        corrections: &mut Vec<RollupRow>,
    ) -> Taken {
        let (minute, late) = (self.minute_of(at), self.is_late(at));
        let metric = &mut self.items[index];
        let (kind, before_at) = (metric.kind, metric.at);
        let newest = is_new || at >= before_at;
        let before = if is_new || metric.lapsed {
            None
        } else {
            number(&metric.value)
        };
        let new = number(value).map(|new| new + 0.0); // Minus zero would not survive its way to disk.
        let mut taken = Taken::by(Some(index));
        if newest {
            if let (Some(before), true) = (before, at > before_at) {
                taken.integral = before * at.ms_since(before_at).min(rules.hold_ms()) as f64;
            }
            match (kind, before, new) {
                (MetricKind::Counter, Some(before), Some(new)) => {
                    taken.grown = growth(before, new, || rollover_at(rules.config, &metric.name));
                }
                (MetricKind::Gauge, ..) if !late => metric.hold_until(at, minute, rules),
                _ => {}
            }
            match (&mut metric.value, value) {
                (Value::Number(place), Value::Number(new)) => *place = *new + 0.0,
                (place, value) => *place = clip(value),
            }
            (metric.at, metric.lapsed) = (at, false);
        }
        let Some(new) = new else { return taken };
        if !late {
            metric.open.add(ms_into_hour(at), new);
            if kind == MetricKind::Counter {
                metric.open.grow(taken.grown);
            }
            return taken;
        }
        let part = Stats {
            increase: taken.grown,
            ..Stats::of(at, new)
        };
        self.put(index, at, &part, corrections);
        if newest && kind == MetricKind::Gauge {
            // In the closed minutes the value before was held in its place.
            let held_until = |from: Timestamp| from.plus_ms(rules.hold_ms()).min(minute);
            let (middle, end) = (
                before.map_or(at, |_| held_until(before_at).max(at)),
                held_until(at),
            );
            let (before, new) = (before.unwrap_or(0.0), new);
            self.put_span(index, at, middle, corrections, |ms| Stats {
                integral: (new - before) * ms as f64,
                ..Stats::default()
            });
            self.put_span(index, middle, end, corrections, |ms| Stats::held(new, ms));
        }
        taken
    }

    fn take_word(
        &mut self,
        index: usize,
        is_new: bool,
        value: &Value,
        at: Timestamp,
        rules: &Rules<'_>,
        corrections: &mut Vec<RollupRow>,
    ) {
        let (minute, late) = (self.minute_of(at), self.is_late(at));
        let metric = &mut self.items[index];
        // Between two words that are known, an older one has no end: it is not taken.
        if !is_new && at < metric.at {
            return;
        }
        let before = (!is_new).then(|| metric.word(rules.config));
        // After a gap the same word is a new beginning.
        let resumed = metric.at < rules.steady_since || at > rules.known_until;
        if !late {
            metric.hold_until(at, minute, rules);
        }
        metric.value = clip(value);
        metric.at = at;
        let word = metric.word(rules.config);
        let entered = u32::from(resumed || before.as_ref() != Some(&word));
        if !late {
            if entered > 0 {
                metric.states.get_or_insert_default().add(0, &word, 0, entered);
            }
            return;
        }
        if entered == 0 {
            return;
        }
        self.put_word(index, at, &word, 0, entered, corrections);
        if at >= rules.steady_since {
            // In the closed minutes the word before was held in its place.
            each_minute(at, minute, |from, ms| {
                if let Some(before) = before.as_ref().filter(|_| !resumed) {
                    self.put_word(index, from, before, -ms, 0, corrections);
                }
                self.put_word(index, from, &word, ms, 0, corrections);
            });
        }
    }

    fn put_span(
        &mut self,
        index: usize,
        from: Timestamp,
        to: Timestamp,
        corrections: &mut Vec<RollupRow>,
        part: impl Fn(i64) -> Stats,
    ) {
        each_minute(from, to, |from, ms| self.put(index, from, &part(ms), corrections));
    }

    /// Puts a part that belongs to the closed minute of `at` where it belongs, from the narrowest bucket up.
    fn put(&mut self, index: usize, at: Timestamp, part: &Stats, corrections: &mut Vec<RollupRow>) {
        let Some(open_step) = self.correct(at, &self.items[index].name.clone(), part, corrections) else {
            return;
        };
        let metric = &mut self.items[index];
        let hour = at.floor_to(Level::H1.step_ms());
        metric.wider.get_or_insert_default()[open_step - 1].merge(metric.kind, hour, part);
    }

    fn put_word(
        &mut self,
        index: usize,
        at: Timestamp,
        word: &Word,
        ms: i64,
        entered: u32,
        corrections: &mut Vec<RollupRow>,
    ) {
        let name = state_name(&self.items[index].name, word);
        let part = Stats::state(i32::try_from(ms).unwrap_or(0), entered);
        if let Some(open_step) = self.correct(at, &name, &part, corrections) {
            self.items[index]
                .states
                .get_or_insert_default()
                .add(open_step, word, ms, entered);
        }
    }

    /// Corrects the closed buckets of `at`; answers the narrowest step that is still open, if one is.
    fn correct(
        &self,
        at: Timestamp,
        name: &str,
        part: &Stats,
        corrections: &mut Vec<RollupRow>,
    ) -> Option<usize> {
        let open = self.minute_of(at);
        let mut correct = |level: Level| {
            let start = at.floor_to(level.step_ms());
            let closed = start < open.floor_to(level.step_ms());
            // A day that is still open gets the hour as a part, as it got those before.
            if closed || level == Level::D1 {
                add(corrections, level, start, closed, name, part);
            }
            closed
        };
        let open_step = STEPS.into_iter().position(|level| !correct(level));
        if open_step.is_none() {
            correct(Level::D1);
        }
        open_step
    }
}

/// What a counter grew by: a fall is a rollover where one is declared, else a reset to zero.
fn growth(before: f64, new: f64, rollover_at: impl FnOnce() -> Option<f64>) -> f64 {
    if new >= before {
        return new - before;
    }
    match rollover_at() {
        // A fall over most of the range is a wrap; a smaller one is a reset.
        Some(limit) if limit > before && before - new > limit / 2.0 => limit - before + new,
        _ => new.max(0.0),
    }
}

fn clip(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(number + 0.0),
        Value::Text(text) => Value::Text(text[..text.floor_char_boundary(WORD_MAX)].into()),
        Value::Bool(yes) => Value::Bool(*yes),
    }
}

fn ms_into_hour(at: Timestamp) -> u32 {
    u32::try_from(at.ms_since(at.floor_to(Level::H1.step_ms()))).unwrap_or(0)
}

fn add(rows: &mut Vec<RollupRow>, level: Level, start: Timestamp, corrected: bool, name: &str, part: &Stats) {
    let part = RollupRow {
        level,
        start,
        corrected,
        metrics: vec![(name.into(), *part)],
    };
    match rows
        .iter_mut()
        .rev()
        .find(|row| row.level == level && row.start == start)
    {
        Some(row) => row.merge(&part),
        None => rows.push(part),
    }
}

/// Calls with each minute's part of a span: where it begins, and its milliseconds.
fn each_minute(from: Timestamp, to: Timestamp, mut call: impl FnMut(Timestamp, i64)) {
    let mut from = from;
    while from < to {
        let end = from.floor_to(MINUTE_MS).plus_ms(MINUTE_MS).min(to);
        call(from, end.ms_since(from));
        from = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_differenced_over_reset_and_rollover() {
        let wrap = Some(4_294_967_296.0);
        for (before, new, rollover, grown) in [
            (10.0, 15.0, None, 5.0),
            (10.0, 3.0, None, 3.0),
            (4_294_967_290.0, 4.0, wrap, 10.0),
            (100.0, 4.0, wrap, 4.0),
            (7.0, 7.0, wrap, 0.0),
        ] {
            assert_eq!(growth(before, new, || rollover), grown, "{before} to {new}");
        }
    }

    #[test]
    fn a_span_is_cut_at_each_minute() {
        let at = |ms: i64| Timestamp::from_ms(1_764_115_200_000 + ms);
        let mut parts = Vec::new();
        each_minute(at(50_000), at(130_000), |from, ms| {
            parts.push((from.ms_since(at(0)), ms))
        });
        assert_eq!(parts, [(50_000_i64, 10_000), (60_000, 60_000), (120_000, 10_000)]);
    }
}
