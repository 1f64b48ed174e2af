//! What leaves the lateness window is folded in the order of time; what is in it is seen at once.
//!
//! Promises: what is folded does not depend on the order in which messages came within the window. Readings of one
//! time are folded as one: first the time up to it is accounted and quantities are counted, then words hold. What is
//! older than the window corrects history. Views see what waits as if it were folded, on a copy.

use std::borrow::Cow;

use crate::{
    config::{MetricKind, TwinConfig},
    event::{Reading, TwinMessage},
    id::{Kind, TwinId},
    line::MachineReport,
    machine::{Machine, Plan, Said},
    metric::{Metric, Metrics, Rules, Taken},
    pending::{LATENESS_MAX_MS, LATENESS_MS, Seen},
    rollup::{Level, RollupRow},
    time::Timestamp,
    twin::{Effects, Nature, Twin},
};

/// Stands for a reading without a usable value: it vouches for the twin's states as any other does.
const NO_METRIC: usize = u16::MAX as usize;

pub(crate) fn plan(config: Option<&TwinConfig>) -> Plan<'_> {
    Plan {
        operation: config.and_then(|config| config.operation.as_deref()),
        ideal_cycle_s: config.and_then(|config| config.ideal_cycle_s),
    }
}

impl Twin {
    /// How much later than newer ones messages may come.
    fn lateness_ms(&self) -> i64 {
        let operation = self.config.as_ref().and_then(|config| config.operation.as_ref());
        let said = operation.and_then(|operation| operation.lateness_ms);
        said.unwrap_or(LATENESS_MS).clamp(0, LATENESS_MAX_MS)
    }

    /// Whether a time is older than the lateness window.
    pub(crate) fn is_late(&self, at: Timestamp) -> bool {
        self.data_at
            .is_some_and(|data_at| at < data_at.plus_ms(-self.lateness_ms()))
    }

    /// Takes the values of a reading: into the window, or, where what is newer is folded already, as late ones.
    pub(crate) fn take_values(&mut self, at: Timestamp, reading: &Reading, effects: &mut Effects) {
        let is_sealed = self.sealed_at.is_some_and(|sealed_at| at <= sealed_at);
        let (mut late, mut kept) = (Vec::new(), false);
        let config = self.config.as_deref();
        let mut quality = self.quality_of_data.take().unwrap_or_default();
        let inspection = quality.begin(reading, at, config, &self.metrics);
        for (place, (name, value)) in reading.metrics.iter().enumerate() {
            if inspection.refuses(place) || config.is_some_and(|config| config.computes(name)) {
                self.metrics.refused = self.metrics.refused.saturating_add(1);
                continue;
            }
            let metric = self.metrics.see(name, value, at, config);
            let number = metric.and_then(|metric| u16::try_from(metric).ok());
            quality.taken(
                &inspection,
                place,
                number.unwrap_or(u16::MAX),
                value,
                at,
                &self.metrics,
            );
            let Some(metric) = metric else { continue };
            let seen = Seen::of(value);
            if is_sealed || !self.pending.keep(metric, seen, at) {
                late.push((metric, seen));
            } else {
                kept = true;
            }
        }
        quality.end(&inspection, reading.metrics.len(), at);
        effects.violations += inspection.violations;
        self.quality_of_data = Some(quality);
        if !late.is_empty() {
            self.take_late(at, &late, effects);
        } else if !kept && !is_sealed {
            self.pending.keep(NO_METRIC, Seen::Bool(true), at);
        }
    }

    fn rules(&self, at: Timestamp) -> Rules<'_> {
        Rules {
            config: self.config.as_deref(),
            stale_ms: self.stale_after_ms(),
            known_until: self.sealed_until(at),
            steady_since: self.steady_since,
        }
    }

    /// Up to when what is folded says what state the twin is in.
    fn sealed_until(&self, at: Timestamp) -> Timestamp {
        self.sealed_at
            .map_or(at, |sealed_at| sealed_at.plus_ms(self.stale_after_ms()))
    }

    pub(crate) fn take_late(&mut self, at: Timestamp, values: &[(usize, Seen<'_>)], effects: &mut Effects) {
        let steady_since = self.steady_since;
        let rules = Rules {
            config: self.config.as_deref(),
            stale_ms: self.stale_after_ms(),
            known_until: self.sealed_until(at),
            steady_since,
        };
        let mut corrections = Vec::new();
        let mut said = Said::default();
        for (metric, seen) in values {
            let taken = self.metrics.take(*metric, *seen, at, &rules, &mut corrections);
            if let (Nature::Machine(machine), Some(metric)) =
                (&mut self.nature, self.metrics.items.get(*metric))
            {
                machine.take(&metric.name, *seen, at, &taken, &rules, &mut said);
            }
        }
        if let Nature::Machine(machine) = &mut self.nature {
            machine.hear(&said, at, steady_since, plan(self.config.as_deref()));
        }
        effects.rollups.append(&mut corrections);
    }

    /// Folds what left the window.
    pub(crate) fn seal(&mut self, effects: &mut Effects) {
        if let Some(data_at) = self.data_at {
            let bound = data_at.plus_ms(-self.lateness_ms());
            self.seal_before(bound, effects);
        }
    }

    /// Folds all that waits.
    pub(crate) fn seal_all(&mut self, effects: &mut Effects) {
        if let Some(last) = self.pending.last_at() {
            self.seal_before(last.plus_ms(1), effects);
        }
    }

    fn seal_before(&mut self, bound: Timestamp, effects: &mut Effects) {
        let mut done = 0;
        while let Some((number, at)) = self.pending.group(done) {
            if at >= bound && !(self.pending.is_full() && done == 0) {
                break;
            }
            self.seal_group(done, number, at, effects);
            // After each group, so that what is told does not depend on how many were folded at once.
            self.report(effects);
            done += number;
        }
        if done > 0 {
            self.pending.forget(done);
        }
    }

    fn seal_group(&mut self, from: usize, number: usize, at: Timestamp, effects: &mut Effects) {
        let stale_ms = self.stale_after_ms();
        let known_until = self.sealed_until(at);
        let config = self.config.as_deref();
        let rules = Rules {
            config,
            stale_ms,
            known_until,
            steady_since: self.steady_since,
        };
        let plan = plan(config);
        let mut machine = if let Nature::Machine(machine) = &mut self.nature {
            Some(machine)
        } else {
            None
        };
        self.metrics.advance(at, &rules, &mut effects.rollups);
        if let Some(machine) = &mut machine {
            machine.account(at, known_until, plan);
        }
        let after_gap = at > known_until;
        if self.sealed_at.is_none() || after_gap {
            self.steady_since = at;
        }
        let mut corrections = Vec::new();
        let mut said = Said::default();
        for place in from..from + number {
            let Some((metric, seen)) = self.pending.get(place) else {
                continue;
            };
            if metric >= self.metrics.items.len() {
                continue;
            }
            let taken = self.metrics.take(metric, seen, at, &rules, &mut corrections);
            if let (Some(machine), Some(metric)) = (&mut machine, self.metrics.items.get(metric)) {
                machine.take(&metric.name, seen, at, &taken, &rules, &mut said);
            }
        }
        if after_gap {
            self.metrics.hold_over_gap(at, &rules);
        }
        if let Some(machine) = machine {
            machine.hear(&said, at, self.steady_since, plan);
        }
        self.sealed_at = Some(at);
        effects.rollups.append(&mut corrections);
        self.compute_sealed(at, effects);
    }

    /// The machine as if all that waits were folded.
    pub(crate) fn machine_now(&self) -> Option<Cow<'_, Machine>> {
        let Nature::Machine(machine) = &self.nature else {
            return None;
        };
        if self.pending.is_empty() {
            return Some(Cow::Borrowed(machine));
        }
        let mut machine = (**machine).clone();
        let plan = plan(self.config.as_deref());
        let mut rules = self.rules(self.pending.first_at().unwrap_or_default());
        let mut newer: Vec<(usize, Seen<'_>, Timestamp)> = Vec::new();
        let (mut from, mut sealed_at) = (0, self.sealed_at);
        while let Some((number, at)) = self.pending.group(from) {
            rules.known_until = sealed_at.map_or(at, |sealed_at| sealed_at.plus_ms(rules.stale_ms));
            machine.account(at, rules.known_until, plan);
            if sealed_at.is_none() || at > rules.known_until {
                rules.steady_since = at;
            }
            let mut said = Said::default();
            for place in from..from + number {
                let Some((index, seen)) = self.pending.get(place) else {
                    continue;
                };
                let Some(metric) = self.metrics.items.get(index) else {
                    continue;
                };
                let known = newer.iter().position(|(known, ..)| *known == index);
                let before = known
                    .and_then(|known| newer.get(known))
                    .map(|(_, seen, at)| (*seen, *at))
                    .or_else(|| metric.sealed.as_ref().map(|(value, at)| (Seen::of(value), *at)));
                let taken = Taken::of(metric, before, seen, at, rules.config);
                machine.take(&metric.name, seen, at, &taken, &rules, &mut said);
                match known.and_then(|known| newer.get_mut(known)) {
                    Some(place) => *place = (index, seen, at),
                    None => newer.push((index, seen, at)),
                }
            }
            machine.hear(&said, at, rules.steady_since, plan);
            sealed_at = Some(at);
            from += number;
        }
        Some(Cow::Owned(machine))
    }

    /// Tells the locations around a machine what it did.
    pub(crate) fn report(&mut self, effects: &mut Effects) {
        let Nature::Machine(machine) = &mut self.nature else {
            return;
        };
        let config = self.config.as_deref();
        let operation = config.and_then(|config| config.operation.as_deref());
        let Some(operation) = operation.filter(|operation| !operation.reports_to.is_empty()) else {
            machine.untold.clear();
            return;
        };
        for report in machine.reports(self.id.id(), plan(config)) {
            for location in &operation.reports_to {
                tell(&self.id, location, report.clone(), effects);
            }
        }
    }

    /// Tells the locations that are around a machine no more that it left.
    pub(crate) fn leave_locations(&self, new: &TwinConfig, effects: &mut Effects) {
        let around = |config: &TwinConfig| {
            let operation = config.operation.as_ref();
            operation.map_or_else(Vec::new, |operation| operation.reports_to.to_vec())
        };
        let stays = around(new);
        for location in self.config.as_deref().map(around).unwrap_or_default() {
            if !stays.contains(&location) {
                tell(&self.id, &location, MachineReport::left(self.id.id()), effects);
            }
        }
    }

    /// What its open bucket of a width holds that is not handed out yet; none where nothing is. Of an hour's or a
    /// day's bucket, parts are handed out before it closes: merge them with this. What is still within the lateness
    /// window may lie in more than one bucket.
    #[must_use]
    pub fn open_rollups(&self, level: Level) -> Vec<RollupRow> {
        if self.pending.is_empty() {
            return self.metrics.open_row(level).into_iter().collect();
        }
        let (mut copy, mut effects) = (self.clone(), Effects::default());
        copy.seal_all(&mut effects);
        effects.rollups.retain(|row| row.level == level);
        effects.rollups.extend(copy.metrics.open_row(level));
        effects.rollups
    }
}

fn tell(from: &TwinId, location: &str, report: MachineReport, effects: &mut Effects) {
    if let Ok(to) = TwinId::new(from.tenant().clone(), Kind::Location, location) {
        let message = TwinMessage::MachineReported(Box::new(report));
        effects.messages.push((to, message));
    }
}

impl Metrics {
    /// After a gap nothing holds that was said before it; up to the gap it did, also within the open minute.
    fn hold_over_gap(&mut self, at: Timestamp, rules: &Rules<'_>) {
        let minute = at.floor_to(Level::M1.step_ms());
        let words = |metric: &&mut Metric| metric.kind == MetricKind::State;
        self.items
            .iter_mut()
            .filter(words)
            .for_each(|metric| metric.hold_until(at, minute, rules));
    }
}
