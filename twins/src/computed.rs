//! Computed metrics: recomputed when a reading changes what they ask for, and then metrics like others.
//!
//! Promises: what an input makes absent is absent with its reason, and is not held on with its last value; an input
//! older than the twin's staleness is absent. Shown is what follows from the twin's newest data; in history stands what
//! followed at each time, in whichever order messages came within the lateness window. What comes later than that
//! changes what is computed from then on, and never what was computed before. Costs nothing where the plant model
//! computes nothing.

use std::borrow::Cow;

use crate::{
    config::TwinConfig,
    event::Value,
    expr::{Absent, Operand},
    id::Kind,
    kpis,
    pending::Seen,
    time::Timestamp,
    twin::{Effects, Twin},
};

/// What stands before the name of a KPI where an expression asks for one.
const KPIS: &str = "kpis.";
/// What stands before the name of a series where one asks for how unusual it is.
const ANOMALY: &str = "anomaly.";

/// The names of the numeric KPIs of a kind of twin.
#[must_use]
pub fn kpi_names(kind: Kind) -> &'static [&'static str] {
    kpis::names(kind)
}

impl TwinConfig {
    /// Whether a metric is computed; what a sensor says of it is not taken.
    pub(crate) fn computes(&self, name: &str) -> bool {
        let analysis = self.analysis.as_deref();
        analysis.is_some_and(|analysis| analysis.computed.iter().any(|computed| *computed.name == *name))
    }
}

impl Twin {
    /// A reading of the time `at` was taken, or, without one, another plant model: works out what follows from it now.
    /// History follows when the reading leaves the lateness window ([`Twin::compute_sealed`]), so that it does not
    /// depend on the order in which messages came.
    pub(crate) fn compute(&mut self, at: Option<Timestamp>, effects: &mut Effects) {
        let analysis = self.config.as_ref().and_then(|config| config.analysis.clone());
        let (Some(analysis), Some(now)) = (analysis, self.data_at) else {
            return;
        };
        let mut changed = 0_u32;
        for (number, computed) in analysis.computed.iter().enumerate() {
            let is_touched = computed.value.names().any(|name| {
                let mut before = analysis.computed[..number].iter().enumerate();
                at.is_none()
                    || name.starts_with(KPIS)
                    || name.starts_with(ANOMALY)
                    || self.metrics.get(name).is_some_and(|metric| Some(metric.at) == at)
                    || before.any(|(other, computed)| changed >> other & 1 == 1 && *computed.name == *name)
            });
            if !is_touched {
                continue;
            }
            changed |= 1 << number;
            let value = match computed.value.evaluate(&|name| self.operand(name, now)) {
                Ok(Operand::Number(number)) => Some(Value::Number(number)),
                Ok(Operand::Bool(yes)) => Some(Value::Bool(yes)),
                Ok(Operand::Text(_)) | Err(_) => None,
            };
            let config = self.config.as_deref();
            let metric = match &value {
                Some(value) => self.metrics.see_again(&computed.name, value, now, config),
                None => self.metrics.lapse(&computed.name, now),
            };
            if let (Some(metric), None) = (metric, at) {
                let seen = value.as_ref().map_or(Seen::Lapsed, Seen::of);
                self.take_late(now, &[(metric, seen)], effects);
            }
        }
    }

    /// The readings of the time `at` were folded: works out what follows from them, and from what was folded before.
    pub(crate) fn compute_sealed(&mut self, at: Timestamp, effects: &mut Effects) {
        let analysis = self.config.as_ref().and_then(|config| config.analysis.as_ref());
        let Some(analysis) = analysis.filter(|analysis| !analysis.computed.is_empty()).cloned() else {
            return;
        };
        let mut changed = 0_u32;
        for (number, computed) in analysis.computed.iter().enumerate() {
            let is_touched = computed.value.names().any(|name| {
                let mut before = analysis.computed[..number].iter().enumerate();
                name.starts_with(KPIS)
                    || name.starts_with(ANOMALY)
                    || self
                        .metrics
                        .sealed(name)
                        .is_some_and(|(_, sealed_at)| sealed_at == at)
                    || before.any(|(other, computed)| changed >> other & 1 == 1 && *computed.name == *name)
            });
            if !is_touched {
                continue;
            }
            changed |= 1 << number;
            let value = match computed.value.evaluate(&|name| self.sealed_operand(name, at)) {
                Ok(Operand::Number(number)) => Some(Value::Number(number)),
                Ok(Operand::Bool(yes)) => Some(Value::Bool(yes)),
                Ok(Operand::Text(_)) | Err(_) => None,
            };
            let known = self.metrics.index_of(&computed.name);
            match (value, known) {
                (Some(value), Some(metric)) => self.take_late(at, &[(metric, Seen::of(&value))], effects),
                (Some(value), None) => {
                    // It had a value then, and has none now.
                    let config = self.config.as_deref();
                    if let Some(metric) = self.metrics.see(&computed.name, &value, at, config) {
                        self.metrics.lapse(&computed.name, at);
                        self.take_late(at, &[(metric, Seen::of(&value))], effects);
                    }
                }
                (None, Some(metric)) => self.take_late(at, &[(metric, Seen::Lapsed)], effects),
                (None, None) => {}
            }
        }
    }

    /// A name's value for an expression, of what is folded up to `at`.
    fn sealed_operand(&self, name: &str, at: Timestamp) -> Option<Operand<'_>> {
        if let Some(kpi) = name.strip_prefix(KPIS) {
            return self.kpi(kpi, &self.sealed_basis())?.ok().map(Operand::Number);
        }
        if let Some(series) = name.strip_prefix(ANOMALY) {
            return self.anomaly_score(series).map(Operand::Number);
        }
        let (value, sealed_at) = self.metrics.sealed(name)?;
        (at.ms_since(sealed_at) <= self.stale_after_ms()).then_some(match value {
            Value::Number(number) => Operand::Number(*number),
            Value::Text(text) => Operand::Text(text),
            Value::Bool(yes) => Operand::Bool(*yes),
        })
    }

    /// A name's value for an expression, as of a time.
    pub(crate) fn operand(&self, name: &str, now: Timestamp) -> Option<Operand<'_>> {
        if let Some(kpi) = name.strip_prefix(KPIS) {
            return self.kpi(kpi, &self.basis())?.ok().map(Operand::Number);
        }
        if let Some(series) = name.strip_prefix(ANOMALY) {
            return self.anomaly_score(series).map(Operand::Number);
        }
        let metric = self
            .metrics
            .get(name)
            .filter(|metric| now.ms_since(metric.at) <= self.stale_after_ms())?;
        Some(match &metric.value {
            Value::Number(number) => Operand::Number(*number),
            Value::Text(text) => Operand::Text(text),
            Value::Bool(yes) => Operand::Bool(*yes),
        })
    }

    /// The computed metrics that have no value, and why.
    pub(crate) fn absent_computed(&self) -> impl Iterator<Item = (&str, Cow<'static, str>)> {
        let analysis = self.config.as_ref().and_then(|config| config.analysis.as_deref());
        analysis
            .into_iter()
            .flat_map(|analysis| &analysis.computed)
            .filter(|computed| self.metrics.get(&computed.name).is_none())
            .map(|computed| (&*computed.name, self.why_absent(&computed.value)))
    }

    pub(crate) fn why_absent(&self, value: &crate::expr::Expr) -> Cow<'static, str> {
        let Some(now) = self.data_at else {
            return "no data yet".into();
        };
        match value.evaluate(&|name| self.operand(name, now)) {
            Ok(Operand::Text(_)) => "the result is a text, not a number".into(),
            // An input came back since, by an event that recomputes nothing: the next reading does.
            Ok(_) => "not computed yet".into(),
            Err(Absent::Missing(name)) if self.metrics.get(name).is_some() => {
                format!("{name} is stale").into()
            }
            Err(absent) => absent.to_string().into(),
        }
    }
}
