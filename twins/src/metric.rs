//! The metrics of a twin: the newest value of each, and what is not yet handed out of its history.
//!
//! Promises: what happened is handed out once, as rows of closed buckets. Only the open minute is touched per value
//! (`take.rs`); wider buckets grow when it closes. Bounded: 256 metrics. The newest value is known as soon as it is
//! seen; what is folded of it waits for the lateness window (`pending.rs`).

mod take;
mod words;

pub(crate) use self::words::{execution, execution_of_number, is_execution};
use crate::{
    bucket::{Bucket, STEPS, States, Word},
    config::{MetricKind, TwinConfig},
    defaults::rollover_at,
    event::Value,
    pending::Seen,
    rollup::{Level, RollupRow, Stats},
    time::Timestamp,
};

/// Most metrics of a twin; values of more are counted and not taken.
pub(crate) const METRICS_MAX: usize = 256;
/// A value is held for at most a day, however late the plant model lets it go stale: bounds the rows of one event.
const HOLD_MAX_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;

/// One metric of a twin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Metric {
    pub(crate) name: Box<str>,
    /// The newest value, also where it still waits to be folded.
    pub(crate) value: Value,
    pub(crate) at: Timestamp,
    /// The newest value that is folded, and its time: what history goes on from.
    pub(crate) sealed: Option<(Value, Timestamp)>,
    pub(crate) kind: MetricKind,
    /// A computed one whose inputs left it without a value at `at`: the value before does not hold.
    pub(crate) lapsed: bool,
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
    pub(crate) fn hold_ms(&self) -> i64 {
        self.stale_ms.min(HOLD_MAX_MS)
    }
}

/// What a number led to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Taken {
    /// What a counter grew by.
    pub(crate) grown: f64,
    /// When the value before it was read.
    pub(crate) since: Option<Timestamp>,
    /// No newer value is known.
    pub(crate) newest: bool,
}

impl Taken {
    /// What a value after `before` leads to, where none is newer.
    pub(crate) fn of(
        metric: &Metric,
        before: Option<(Seen<'_>, Timestamp)>,
        seen: Seen<'_>,
        at: Timestamp,
        config: Option<&TwinConfig>,
    ) -> Self {
        if before.is_some_and(|(_, before_at)| at < before_at) {
            return Self::default();
        }
        let numbers = before.and_then(|(before, _)| before.number()).zip(seen.number());
        let grown = match (metric.kind, numbers) {
            (MetricKind::Counter, Some((before, new))) => {
                take::growth(before, new, || rollover_at(config, &metric.name))
            }
            _ => 0.0,
        };
        Self {
            grown,
            since: numbers.and(before).map(|(_, before_at)| before_at),
            newest: true,
        }
    }
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
        self.items
            .iter()
            .find(|metric| *metric.name == *name && !metric.lapsed)
    }

    /// Where a metric is, also where it has lapsed.
    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.items.iter().position(|metric| *metric.name == *name)
    }

    /// The newest value of a metric that is folded, and its time.
    pub(crate) fn sealed(&self, name: &str) -> Option<(&Value, Timestamp)> {
        let metric = self.items.get(self.index_of(name)?)?;
        metric.sealed.as_ref().map(|(value, at)| (value, *at))
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

    /// A metric has no value any more from `at` on, which is not before the open minute.
    pub(crate) fn lapse(&mut self, name: &str, at: Timestamp) -> Option<usize> {
        let known = |metric: &Metric| *metric.name == *name && !metric.lapsed;
        let index = self.items.iter().position(known)?;
        let metric = &mut self.items[index];
        (metric.at, metric.lapsed) = (at, true);
        Some(index)
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
        let Some((value, at)) = &self.sealed else { return };
        let (at, from) = (*at, (*at).max(minute));
        match self.kind {
            MetricKind::Counter => {}
            MetricKind::Gauge => {
                let ms = until.min(at.plus_ms(rules.hold_ms())).ms_since(from);
                if let (Some(value), true) = (number(value), ms > 0) {
                    self.open.hold(value, ms);
                }
            }
            MetricKind::State => {
                // What was said before a gap in the data does not hold after it.
                let ms = until.min(rules.known_until).ms_since(from);
                if ms > 0 && at >= rules.steady_since {
                    let word = self.word(Seen::of(value), rules.config);
                    self.states.get_or_insert_default().add(0, &word, ms, 0);
                }
            }
        }
    }

    /// A word of it, as history names it.
    fn word(&self, seen: Seen<'_>, config: Option<&TwinConfig>) -> Word {
        match seen {
            Seen::Text(word) if is_execution(&self.name) => Word::Execution(execution(word, config)),
            Seen::Text(word) => Word::Text(word.into()),
            Seen::Number(number) => Word::Text(number.to_string().into()),
            Seen::Bool(yes) => Word::Text(yes.to_string().into()),
            Seen::Lapsed => Word::Text("".into()),
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

fn state_name(metric: &str, word: &Word) -> Box<str> {
    [metric, "=", word.as_str()].concat().into()
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
