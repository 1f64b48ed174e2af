//! What was received and is not folded into history yet: the lateness window of a twin.
//!
//! Promises: kept in the order of time, and of equal times in an order that does not depend on which came first, so
//! that whatever order messages come in within the window, what is folded is the same. Bounded in number: beyond it
//! the oldest are folded early. Sixteen bytes a value.

use crate::{
    attributes::block,
    event::Value,
    time::Timestamp,
    wire::{DecodeError, undecodable},
};

/// Without a word of the plant model, messages may come so much later than newer ones.
pub(crate) const LATENESS_MS: i64 = 10_000;
/// The plant model may make the window a day at most: times are kept as spans from its beginning.
pub(crate) const LATENESS_MAX_MS: i64 = 86_400_000;
/// Most values kept of one twin.
pub(crate) const VALUES_MAX: usize = 384;
/// Places are added so many at a time: a window of a quiet twin takes little.
const GROWTH: usize = 8;
/// Longest span of times within a window: what is kept fits four bytes.
const SPAN_MAX_MS: i64 = 4_000_000_000;

/// A value as it was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Seen<'a> {
    Number(f64),
    Text(&'a str),
    Bool(bool),
    /// A computed metric has no value any more.
    Lapsed,
}

impl<'a> Seen<'a> {
    pub(crate) fn of(value: &'a Value) -> Self {
        match value {
            Value::Number(number) => Self::Number(*number),
            Value::Text(text) => Self::Text(text),
            Value::Bool(yes) => Self::Bool(*yes),
        }
    }

    pub(crate) fn number(self) -> Option<f64> {
        match self {
            // Minus zero would not survive its way to disk.
            Self::Number(number) => Some(number + 0.0),
            Self::Bool(yes) => Some(f64::from(u8::from(yes))),
            Self::Text(_) | Self::Lapsed => None,
        }
    }

    pub(crate) fn value(self) -> Value {
        match self {
            Self::Number(number) => Value::Number(number + 0.0),
            Self::Text(text) => Value::Text(text.into()),
            Self::Bool(yes) => Value::Bool(yes),
            // Whoever takes it takes no value.
            Self::Lapsed => Value::Bool(false),
        }
    }

    pub(crate) fn is(self, value: &Value) -> bool {
        self == Seen::of(value)
    }

    /// An order of values of one time, for want of a better one: numbers by size, then words, then truth.
    pub(crate) fn order(self, other: Self) -> std::cmp::Ordering {
        let rank = |seen: Self| match seen {
            Self::Number(_) => 0,
            Self::Text(_) => 1,
            Self::Bool(_) => 2,
            Self::Lapsed => 3,
        };
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => one.total_cmp(&other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Bool(one), Self::Bool(other)) => one.cmp(&other),
            (one, other) => rank(one).cmp(&rank(other)),
        }
    }
}

/// One value of one metric. `bits` is a number's, or a place among the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    bits: u64,
    /// From the window's beginning.
    after_ms: u32,
    metric: u16,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Form {
    Number = 0,
    Word = 1,
    Bool = 2,
    Lapsed = 3,
}

/// The window of one twin.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Pending {
    /// What times are counted from.
    base: Timestamp,
    kept: Vec<Kept>,
    words: Vec<Box<str>>,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.kept.len() >= VALUES_MAX
    }

    fn at_of(&self, kept: &Kept) -> Timestamp {
        self.base.plus_ms(i64::from(kept.after_ms))
    }

    fn seen(&self, kept: &Kept) -> Seen<'_> {
        match kept.form {
            Form::Number => Seen::Number(f64::from_bits(kept.bits)),
            Form::Bool => Seen::Bool(kept.bits != 0),
            Form::Lapsed => Seen::Lapsed,
            Form::Word => {
                let place = usize::try_from(kept.bits).unwrap_or(usize::MAX);
                Seen::Text(self.words.get(place).map_or("", |word| word))
            }
        }
    }

    /// The oldest time in it.
    pub(crate) fn first_at(&self) -> Option<Timestamp> {
        self.kept.first().map(|kept| self.at_of(kept))
    }

    /// The newest time in it.
    pub(crate) fn last_at(&self) -> Option<Timestamp> {
        self.kept.last().map(|kept| self.at_of(kept))
    }

    /// Keeps a value; false where its time is too far from the others to be kept with them.
    pub(crate) fn keep(&mut self, metric: usize, seen: Seen<'_>, at: Timestamp) -> bool {
        if self.kept.is_empty() {
            self.base = at;
            self.words.clear();
        }
        if at < self.base {
            let by_ms = self.base.ms_since(at);
            let last_ms = self.kept.last().map_or(0, |kept| i64::from(kept.after_ms));
            let Some(by) = u32::try_from(by_ms)
                .ok()
                .filter(|_| last_ms + by_ms < SPAN_MAX_MS)
            else {
                return false;
            };
            self.kept.iter_mut().for_each(|kept| kept.after_ms += by);
            self.base = at;
        }
        let after_ms = at.ms_since(self.base);
        let (Some(after_ms), Ok(metric)) = (
            u32::try_from(after_ms).ok().filter(|_| after_ms < SPAN_MAX_MS),
            u16::try_from(metric),
        ) else {
            return false;
        };
        let (form, bits) = match seen {
            Seen::Number(number) => (Form::Number, (number + 0.0).to_bits()),
            Seen::Bool(yes) => (Form::Bool, u64::from(yes)),
            Seen::Lapsed => (Form::Lapsed, 0),
            Seen::Text(word) => (Form::Word, self.word(word)),
        };
        let kept = Kept {
            bits,
            after_ms,
            metric,
            form,
        };
        // Mostly the newest, so it is looked for from the end.
        let mut place = self.kept.len();
        while place > 0 && self.is_before(&kept, &self.kept[place - 1]) {
            place -= 1;
        }
        if self.kept.len() == self.kept.capacity() {
            self.kept.reserve_exact(GROWTH);
        }
        self.kept.insert(place, kept);
        true
    }

    fn is_before(&self, one: &Kept, other: &Kept) -> bool {
        let order = (one.after_ms, one.metric).cmp(&(other.after_ms, other.metric));
        order.then_with(|| self.seen(one).order(self.seen(other))).is_lt()
    }

    fn word(&mut self, word: &str) -> u64 {
        let place = self.words.iter().position(|known| **known == *word);
        let place = place.unwrap_or_else(|| {
            if self.words.len() >= 2 * GROWTH {
                self.forget_words();
            }
            self.words.reserve_exact(1);
            self.words.push(word.into());
            self.words.len() - 1
        });
        place as u64
    }

    /// Drops the words that no value has any more.
    fn forget_words(&mut self) {
        let mut words: Vec<Box<str>> = Vec::with_capacity(self.words.len());
        for kept in self.kept.iter_mut().filter(|kept| kept.form == Form::Word) {
            let place = usize::try_from(kept.bits).unwrap_or(usize::MAX);
            let Some(word) = self.words.get(place) else {
                continue;
            };
            let place = words.iter().position(|known| known == word);
            kept.bits = place.unwrap_or_else(|| {
                words.push(word.clone());
                words.len() - 1
            }) as u64;
        }
        self.words = words;
    }

    /// How many of the values, from the `from`th on, have one time, and which.
    pub(crate) fn group(&self, from: usize) -> Option<(usize, Timestamp)> {
        let first = self.kept.get(from)?;
        let same = |kept: &&Kept| kept.after_ms == first.after_ms;
        let length = self.kept[from..].iter().take_while(same).count();
        Some((length, self.at_of(first)))
    }

    /// The metric and the value of the `place`th.
    pub(crate) fn get(&self, place: usize) -> Option<(usize, Seen<'_>)> {
        let kept = self.kept.get(place)?;
        Some((usize::from(kept.metric), self.seen(kept)))
    }

    /// The first ones are folded.
    pub(crate) fn forget(&mut self, number: usize) {
        self.kept.drain(..number);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let words = self.words.iter().map(|word| block(word.len()));
        block(self.kept.capacity() * size_of::<Kept>())
            + block(self.words.capacity() * size_of::<Box<str>>())
            + words.sum::<usize>()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PendingWire {
    #[prost(sint64, tag = "1")]
    base_ms: i64,
    #[prost(string, repeated, tag = "2")]
    words: Vec<String>,
    /// In the order of time.
    #[prost(uint32, repeated, tag = "3")]
    after_ms: Vec<u32>,
    /// The place of the metric among the twin's, times four, plus the form: 0 a number, 1 a word, 2 yes or no, 3 no
    /// value any more.
    #[prost(uint32, repeated, tag = "4")]
    metrics: Vec<u32>,
    #[prost(fixed64, repeated, tag = "5")]
    bits: Vec<u64>,
}

impl Pending {
    pub(crate) fn wire(&self) -> Option<PendingWire> {
        (!self.is_empty()).then(|| PendingWire {
            base_ms: self.base.ms(),
            words: self.words.iter().map(|word| word.to_string()).collect(),
            after_ms: self.kept.iter().map(|kept| kept.after_ms).collect(),
            metrics: self
                .kept
                .iter()
                .map(|kept| 4 * u32::from(kept.metric) + kept.form as u32)
                .collect(),
            bits: self.kept.iter().map(|kept| kept.bits).collect(),
        })
    }

    pub(crate) fn from_wire(wire: PendingWire) -> Result<Self, DecodeError> {
        if wire.after_ms.len() != wire.metrics.len() || wire.bits.len() != wire.metrics.len() {
            return Err(undecodable("a window of values of different lengths"));
        }
        let values = wire.after_ms.into_iter().zip(wire.metrics).zip(wire.bits);
        let kept = values
            .map(|((after_ms, metric), bits)| {
                let form = match metric % 4 {
                    0 => Form::Number,
                    1 => Form::Word,
                    2 => Form::Bool,
                    _ => Form::Lapsed,
                };
                Ok(Kept {
                    bits,
                    after_ms,
                    metric: u16::try_from(metric / 4).map_err(undecodable)?,
                    form,
                })
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self {
            base: Timestamp::from_ms(wire.base_ms),
            kept,
            words: wire.words.into_iter().map(String::into_boxed_str).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(1_764_115_200_000 + ms)
    }

    fn all(pending: &Pending) -> Vec<(i64, usize, String)> {
        (0..)
            .map_while(|place| {
                let (metric, seen) = pending.get(place)?;
                let (_, time) = pending.group(place)?;
                Some((time.ms_since(at(0)), metric, format!("{seen:?}")))
            })
            .collect()
    }

    #[test]
    fn values_are_kept_in_one_order_however_they_came() {
        let values = [
            (5, 1, Seen::Number(2.0)),
            (5, 0, Seen::Text("idle")),
            (3, 0, Seen::Text("producing")),
            (5, 1, Seen::Number(1.0)),
            (9, 2, Seen::Bool(true)),
        ];
        let mut orders = Vec::new();
        for first in 0..values.len() {
            let mut pending = Pending::default();
            for number in 0..values.len() {
                let (ms, metric, seen) = values[(first + number) % values.len()];
                assert!(pending.keep(metric, seen, at(ms)));
            }
            orders.push(all(&pending));
        }
        assert!(orders.iter().all(|order| *order == orders[0]), "{orders:#?}");
        assert_eq!(
            orders[0].iter().map(|value| value.0).collect::<Vec<_>>(),
            [3, 5, 5, 5, 9]
        );
    }

    #[test]
    fn endless_new_words_stay_within_bounds() {
        let mut pending = Pending::default();
        for number in 0..1_000 {
            assert!(pending.keep(0, Seen::Text(&format!("word {number}")), at(number)));
            if number >= 5 {
                pending.forget(1);
            }
        }
        assert!(pending.words.len() <= 2 * GROWTH, "{}", pending.words.len());
        let (_, last) = pending.get(4).unwrap_or((0, Seen::Bool(false)));
        assert_eq!(last, Seen::Text("word 999"));
    }

    #[test]
    fn a_value_takes_sixteen_bytes() {
        assert_eq!(size_of::<Kept>(), 16);
    }
}
