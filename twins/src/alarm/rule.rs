//! What the plant model says of a twin's alarms: rules, compiled once and shared by all twins with the same ones.
//!
//! Promises: equal rules are one value in memory, however many twins have them, so a twin pays a pointer; the order of
//! the rules is the model's. A condition that this release cannot read (a newer one wrote it) never holds. Knows
//! nothing of which twins a rule is for.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use prost::Message as _;

use super::{
    condition::{Condition, Scopes},
    wire::RulesWire,
};
use crate::wire::{DecodeError, undecodable};

/// How urgent an alarm is. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Priority {
    /// When there is time.
    Low = 1,
    /// Within the shift.
    Medium = 2,
    /// Soon.
    High = 3,
    /// At once.
    Urgent = 4,
}

impl Priority {
    /// All, the least urgent first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Urgent];

    /// The priority of an on-disk number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| *priority as u32 == number)
    }

    /// The priority of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.as_str() == word)
    }

    /// The priority as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }
}

/// A rule about data that does not come.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StaleRule {
    /// The metric whose value must not get old; `None` takes any data of the twin.
    pub metric: Option<Box<str>>,
    /// Milliseconds without it; `None` takes the twin's own.
    pub after_ms: Option<i64>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmRule {
    /// Its name within the plant model.
    pub id: Box<str>,
    /// When it is active, in CEL; empty for a rule about data that does not come.
    pub condition: Box<str>,
    /// What must not stay away, instead of a condition.
    pub stale: Option<StaleRule>,
    /// How urgent it is.
    pub priority: Priority,
    /// What a person reads.
    pub text: Box<str>,
    /// By so much a value has to come back behind its limit before the condition ceases to hold.
    pub deadband: f64,
    /// The condition has to hold for so long, in milliseconds.
    pub on_delay_ms: i64,
    /// The condition has to fail for so long, in milliseconds.
    pub off_delay_ms: i64,
    /// So long after it was raised it is not raised again, in milliseconds.
    pub refractory_ms: i64,
    /// Once raised it stays until a person resets it.
    pub latching: bool,
    /// When it is suppressed by design, in CEL.
    pub suppressed_by: Option<Box<str>>,
}

/// The rules of a twin; equal ones are shared.
#[derive(Clone, Default)]
pub struct AlarmRules(Option<Arc<RuleSet>>);

/// Compiled rules.
pub(crate) struct RuleSet {
    /// As they are on disk, which is what makes them equal to others.
    bytes: Box<[u8]>,
    pub(crate) rules: Vec<CompiledRule>,
    /// The metrics that conditions name.
    pub(crate) metrics: Vec<Box<str>>,
    /// Whether any of them is suppressed by something.
    pub(crate) suppresses: bool,
}

/// A rule with its conditions.
pub(crate) struct CompiledRule {
    pub(crate) rule: AlarmRule,
    pub(crate) condition: Option<Condition>,
    pub(crate) suppressed_by: Option<Condition>,
    /// The metric that is shown as its value, as an index of the set's metrics.
    pub(crate) shown: Option<u16>,
}

/// Rule sets by their bytes, as long as a twin has them.
type Sets = BTreeMap<Box<[u8]>, Weak<RuleSet>>;

/// Rule sets in use. What is in it never changes a fold: it only saves making the same set again.
static RULES: LazyLock<Mutex<Sets>> = LazyLock::new(Mutex::default);
/// Entries after which those of sets no longer in use are looked for.
const SWEEP_AT: usize = 256;

impl AlarmRules {
    /// The rules, compiled.
    #[must_use]
    pub fn of(rules: Vec<AlarmRule>) -> Self {
        if rules.is_empty() {
            return Self(None);
        }
        let bytes = RulesWire::of(&rules).encode_to_vec();
        Self(Some(shared(bytes, || rules)))
    }

    /// No rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The rules, in the model's order.
    pub fn iter(&self) -> impl Iterator<Item = &AlarmRule> {
        self.0
            .iter()
            .flat_map(|set| set.rules.iter().map(|compiled| &compiled.rule))
    }

    pub(crate) fn set(&self) -> Option<&Arc<RuleSet>> {
        self.0.as_ref()
    }

    /// As they are on disk.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.as_ref().map_or_else(Vec::new, |set| set.bytes.to_vec())
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        let rules = RulesWire::decode(&*bytes).map_err(undecodable)?.rules()?;
        Ok(Self(Some(shared(bytes, || rules))))
    }
}

fn shared(bytes: Vec<u8>, rules: impl FnOnce() -> Vec<AlarmRule>) -> Arc<RuleSet> {
    let mut sets = RULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(set) = sets.get(&*bytes).and_then(Weak::upgrade) {
        return set;
    }
    let set = Arc::new(RuleSet::of(bytes.clone().into(), rules()));
    if sets.len() >= SWEEP_AT && sets.len().is_power_of_two() {
        sets.retain(|_, set| set.strong_count() > 0);
    }
    sets.insert(bytes.into(), Arc::downgrade(&set));
    set
}

impl RuleSet {
    fn of(bytes: Box<[u8]>, rules: Vec<AlarmRule>) -> Self {
        let ids: Vec<Box<str>> = rules.iter().map(|rule| rule.id.clone()).collect();
        let mut scopes = Scopes {
            metrics: Vec::new(),
            alarms: &ids,
        };
        let rules: Vec<CompiledRule> = rules
            .into_iter()
            .map(|rule| {
                let mut compiled = |text: &str| Condition::compile(text, &mut scopes).ok();
                let condition = if rule.stale.is_none() {
                    compiled(&rule.condition)
                } else {
                    None
                };
                let suppressed_by = rule.suppressed_by.as_deref().and_then(&mut compiled);
                let first = match (&rule.stale, &condition) {
                    (Some(stale), _) => stale.metric.as_deref().map(|metric| scopes.metric(metric)),
                    (None, Some(condition)) => condition.first_metric(),
                    (None, None) => None,
                };
                CompiledRule {
                    rule,
                    condition,
                    suppressed_by,
                    shown: first,
                }
            })
            .collect();
        Self {
            bytes,
            suppresses: rules.iter().any(|compiled| compiled.suppressed_by.is_some()),
            rules,
            metrics: scopes.metrics,
        }
    }
}

impl PartialEq for AlarmRules {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one.bytes == other.bytes,
            (None, None) => true,
            _ => false,
        }
    }
}

impl fmt::Debug for AlarmRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
