//! The metrics of a twin: the newest value of each, and what is not yet handed out of its history.
//!
//! Promises: an older value never overwrites a newer one; what happened is handed out once, as rows of closed buckets
//! or, where it came late, as corrections of them. Only the open minute is touched per value; wider buckets grow when
//! it closes. A late value that is still the metric's newest also corrects what its predecessor was held for; one
//! between two known values counts by itself. Bounded: 256 metrics, `clip`ped words.

use crate::{
    bucket::{Bucket, STEPS, States, Word},
    config::{Execution, MetricKind, TwinConfig},
    defaults::{declared_kind, rollover_at},
    event::Value,
    rollup::{Level, RollupRow, Stats},
    time::Timestamp,
};

/// Most metrics of a twin; values of more are counted and not taken.
pub(crate) const METRICS_MAX: usize = 256;
/// Longest word kept, in bytes.
const WORD_MAX: usize = 256;
/// A value is held for at most a day, however late the plant model lets it go stale: bounds the rows of one event.
const HOLD_MAX_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;

/// One metric of a twin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Metric {
    pub(crate) name: Box<str>,
    pub(crate) value: Value,
    pub(crate) at: Timestamp,
    pub(crate) kind: MetricKind,
    /// The open minute of a numeric metric.
    pub(crate) open: Bucket,
    /// Its open five minutes and hour, without what is in the narrower ones. Absent until a minute closed.
    pub(crate) wider: Option<Box<[Bucket; 2]>>,
    /// The open hour of a metric of words.
    pub(crate) states: Option<Box<States>>,
}

/// The metrics of a twin, in the order they were first seen.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Metrics {
    /// Start of the open minute; `None` before the first reading.
    pub(crate) minute: Option<Timestamp>,
    pub(crate) items: Vec<Metric>,
    /// Values not taken: of metrics beyond the most a twin has, or words where numbers belong.
    pub(crate) refused: u64,
}

/// What a value is taken by.
pub(crate) struct Rules<'a> {
    pub(crate) config: Option<&'a TwinConfig>,
    pub(crate) stale_ms: i64,
    /// Up to when the data before this reading vouches for the twin's states.
    pub(crate) known_until: Timestamp,
    /// Data came without a gap from here to the data before this reading.
    pub(crate) steady_since: Timestamp,
}

impl Rules<'_> {
    fn hold_ms(&self) -> i64 {
        self.stale_ms.min(HOLD_MAX_MS)
    }
}

/// What a number led to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Taken {
    /// What a counter grew by.
    pub(crate) grown: f64,
    /// The value before, times the milliseconds for which it was held.
    pub(crate) integral: f64,
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

    fn minute_of(&self, at: Timestamp) -> Timestamp {
        self.minute.unwrap_or_else(|| at.floor_to(MINUTE_MS))
    }

    /// Moves on to the minute of `at`, closing what ends before it.
    pub(crate) fn advance(&mut self, at: Timestamp, rules: &Rules<'_>, rows: &mut Vec<RollupRow>) {
        let minute = at.floor_to(MINUTE_MS);
        match self.minute {
            None => self.minute = Some(minute),
            Some(open) if minute > open => self.close(open, minute, rules, rows),
            Some(_) => {}
        }
    }

    /// Whether a time lies in a minute that is closed.
    pub(crate) fn is_late(&self, at: Timestamp) -> bool {
        self.minute.is_some_and(|open| at < open)
    }

    fn close(&mut self, open: Timestamp, next: Timestamp, rules: &Rules<'_>, rows: &mut Vec<RollupRow>) {
        let mut minute = open;
        while minute < next {
            let end = minute.plus_ms(MINUTE_MS);
            self.items
                .iter_mut()
                .for_each(|metric| metric.hold_until(end, minute, rules));
            let row = self.hand_out(0, minute);
            // Where nothing is held any more, nothing will be for the rest of the gap.
            let following = if row.is_some() { end } else { next };
            rows.extend(row);
            let ends = |level: Level| following.floor_to(level.step_ms()) != minute.floor_to(level.step_ms());
            if ends(Level::M5) {
                rows.extend(self.hand_out(1, minute.floor_to(Level::M5.step_ms())));
            }
            if ends(Level::H1) {
                if let Some(hour) = self.hand_out(2, minute.floor_to(Level::H1.step_ms())) {
                    let start = hour.start.floor_to(Level::D1.step_ms());
                    // An hour that closed is a part of its day.
                    let day = RollupRow {
                        level: Level::D1,
                        start,
                        ..hour.clone()
                    };
                    rows.extend([hour, day]);
                }
                self.items.iter_mut().for_each(Metric::forget_empty_states);
            }
            minute = following;
        }
        self.minute = Some(next);
    }

    /// Takes the row of a step that closes out, and moves it up into the next one.
    fn hand_out(&mut self, step: usize, start: Timestamp) -> Option<RollupRow> {
        let hour = start.floor_to(Level::H1.step_ms());
        let mut metrics = Vec::with_capacity(self.items.len());
        for metric in &mut self.items {
            metric.take_step(step, hour, &mut metrics);
        }
        row(STEPS[step], start, metrics)
    }

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
            return Taken::default();
        }
        let index = known.unwrap_or_else(|| self.add(name, value, at, kind));
        if kind == MetricKind::State {
            self.take_word(index, known.is_none(), value, at, rules, corrections);
            return Taken::default();
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
        let before = if is_new { None } else { number(&metric.value) };
        let new = number(value).map(|new| new + 0.0); // Minus zero would not survive its way to disk.
        let mut taken = Taken::default();
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
            metric.at = at;
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

    /// What the open bucket of a width holds that is not handed out yet.
    pub(crate) fn open_row(&self, level: Level) -> Option<RollupRow> {
        let minute = self.minute?;
        let hour = minute.floor_to(Level::H1.step_ms());
        let steps = STEPS.iter().filter(|step| **step <= level).count();
        let mut metrics = Vec::with_capacity(self.items.len());
        for metric in &self.items {
            metric.sum_steps(steps, hour, &mut metrics);
        }
        row(level, minute.floor_to(level.step_ms()), metrics)
    }

    /// Changes a metric's kind. What it was folded into as the old kind is handed out.
    pub(crate) fn set_kind(&mut self, index: usize, kind: MetricKind, rows: &mut Vec<RollupRow>) {
        if self.items[index].kind == kind {
            return;
        }
        if let Some(minute) = self.minute {
            for level in Level::ALL {
                let steps = STEPS.iter().filter(|step| **step <= level).count();
                let mut metrics = Vec::new();
                self.items[index].sum_steps(steps, minute.floor_to(Level::H1.step_ms()), &mut metrics);
                rows.extend(row(level, minute.floor_to(level.step_ms()), metrics));
            }
        }
        let metric = &mut self.items[index];
        (metric.kind, metric.open, metric.wider, metric.states) = (kind, Bucket::default(), None, None);
    }
}

impl Metric {
    /// The previous value holds until `until`, from the start of the minute on: a gauge's until it is stale itself, a
    /// word as long as the twin sends anything.
    pub(crate) fn hold_until(&mut self, until: Timestamp, minute: Timestamp, rules: &Rules<'_>) {
        let from = self.at.max(minute);
        match self.kind {
            MetricKind::Counter => {}
            MetricKind::Gauge => {
                let ms = until.min(self.at.plus_ms(rules.hold_ms())).ms_since(from);
                if let (Some(value), true) = (number(&self.value), ms > 0) {
                    self.open.hold(value, ms);
                }
            }
            MetricKind::State => {
                // What was said before a gap in the data does not hold after it.
                let ms = until.min(rules.known_until).ms_since(from);
                if ms > 0 && self.at >= rules.steady_since {
                    let word = self.word(rules.config);
                    self.states.get_or_insert_default().add(0, &word, ms, 0);
                }
            }
        }
    }

    /// The word it holds, as history names it.
    fn word(&self, config: Option<&TwinConfig>) -> Word {
        match &self.value {
            Value::Text(word) if is_execution(&self.name) => Word::Execution(execution(word, config)),
            Value::Text(word) => Word::Text(word.clone()),
            Value::Number(number) => Word::Text(number.to_string().into()),
            Value::Bool(yes) => Word::Text(yes.to_string().into()),
        }
    }

    /// Takes a step's part out into `into` and moves it up.
    fn take_step(&mut self, step: usize, hour: Timestamp, into: &mut Vec<(Box<str>, Stats)>) {
        let bucket = match step {
            0 => Some(&mut self.open),
            wider => self.wider.as_mut().map(|buckets| &mut buckets[wider - 1]),
        };
        if let Some(bucket) = bucket.filter(|bucket| !bucket.is_empty()) {
            let stats = std::mem::take(bucket).stats(self.kind, hour);
            into.push((self.name.clone(), stats));
            if step < 2 {
                self.wider.get_or_insert_default()[step].merge(self.kind, hour, &stats);
            }
        }
        for state in self.states.iter_mut().flat_map(|states| states.0.iter_mut()) {
            let (ms, entered) = (
                std::mem::take(&mut state.ms[step]),
                std::mem::take(&mut state.entered[step]),
            );
            if ms == 0 && entered == 0 {
                continue;
            }
            into.push((state_name(&self.name, &state.word), Stats::state(ms, entered)));
            if step < 2 {
                state.ms[step + 1] = state.ms[step + 1].saturating_add(ms);
                state.entered[step + 1] = state.entered[step + 1].saturating_add(entered);
            }
        }
    }

    /// The sum of its narrowest steps.
    fn sum_steps(&self, steps: usize, hour: Timestamp, into: &mut Vec<(Box<str>, Stats)>) {
        let mut stats = self.open.stats(self.kind, hour);
        for wider in self
            .wider
            .iter()
            .flat_map(|buckets| buckets.iter())
            .take(steps - 1)
        {
            stats.merge(&wider.stats(self.kind, hour));
        }
        if !stats.is_empty() {
            into.push((self.name.clone(), stats));
        }
        for state in self.states.iter().flat_map(|states| states.0.iter()) {
            let stats = Stats::state(
                state.ms[..steps].iter().sum(),
                state.entered[..steps].iter().sum(),
            );
            if !stats.is_empty() {
                into.push((state_name(&self.name, &state.word), stats));
            }
        }
    }

    fn forget_empty_states(&mut self) {
        if let Some(states) = &mut self.states {
            states.forget_empty();
            if states.0.is_empty() {
                self.states = None;
            }
        }
    }
}

/// The metrics that say what a machine does.
pub(crate) fn is_execution(name: &str) -> bool {
    matches!(name, "execution" | "state")
}

/// The execution state of a control's word: by the plant model, else by the words everybody knows.
pub(crate) fn execution(word: &str, config: Option<&TwinConfig>) -> Execution {
    let map = config.map_or(&[][..], |config| &config.execution_map);
    let mapped = map
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(word))
        .map(|(_, execution)| *execution);
    mapped
        .or_else(|| Execution::of_word(word))
        .unwrap_or(Execution::Unknown)
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

fn state_name(metric: &str, word: &Word) -> Box<str> {
    [metric, "=", word.as_str()].concat().into()
}

fn ms_into_hour(at: Timestamp) -> u32 {
    u32::try_from(at.ms_since(at.floor_to(Level::H1.step_ms()))).unwrap_or(0)
}

fn row(level: Level, start: Timestamp, mut metrics: Vec<(Box<str>, Stats)>) -> Option<RollupRow> {
    metrics.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    (!metrics.is_empty()).then_some(RollupRow {
        level,
        start,
        corrected: false,
        metrics,
    })
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
    fn a_word_of_the_plant_model_comes_before_what_everybody_knows() {
        let config = TwinConfig {
            execution_map: vec![
                ("WARMUP".into(), Execution::Setup),
                ("active".into(), Execution::Idle),
            ],
            ..TwinConfig::default()
        };
        for (word, config, wanted) in [
            ("ACTIVE", None, Execution::Producing),
            ("ACTIVE", Some(&config), Execution::Idle),
            ("warmup", Some(&config), Execution::Setup),
            ("feed_hold", Some(&config), Execution::Stopped),
            ("gobbledygook", Some(&config), Execution::Unknown),
        ] {
            assert_eq!(execution(word, config), wanted, "{word}");
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
