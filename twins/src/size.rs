//! About how much memory a twin takes: what the limit on resident twins counts by.
//!
//! Promises: within some tenths of what the allocator hands out (`tests/memory.rs` measures it). Counts the twin's own
//! struct and its blocks; not its id's text, which the map of twins shares.

use crate::{
    analysis::Analysis,
    attributes::block,
    bucket::{Bucket, StateTime, States, Word},
    config::{MetricConfig, TwinConfig},
    event::Value,
    machine::{Figures, Machine, figures::StopTime, runs::Done},
    metric::Metric,
    twin::{Nature, Twin},
};

impl Twin {
    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let metrics = block(self.metrics.items.capacity() * size_of::<Metric>());
        let attributes = self.attributes.as_deref().map_or(0, |attributes| {
            block(size_of_val(attributes)) + attributes.heap_bytes()
        });
        size_of::<Self>()
            + metrics
            + self.pending.heap_bytes()
            + self.metrics.items.iter().map(metric_bytes).sum::<usize>()
            + attributes
            + self.config.as_deref().map_or(0, config_bytes)
            + nature_bytes(&self.nature)
            + self.alarms.as_deref().map_or(0, crate::alarm::Alarms::heap_bytes)
            + self
                .quality_of_data
                .as_deref()
                .map_or(0, |quality| block(quality.heap_bytes()))
            + self
                .forecasts
                .as_deref()
                .map_or(0, |forecasts| block(forecasts.heap_bytes()))
    }
}

fn metric_bytes(metric: &Metric) -> usize {
    // The newest and the one that is folded.
    let word = if let Value::Text(word) = &metric.value {
        2 * block(word.len())
    } else {
        0
    };
    let wider = if metric.wider.is_some() {
        block(2 * size_of::<Bucket>())
    } else {
        0
    };
    block(metric.name.len()) + word + wider + metric.states.as_deref().map_or(0, states_bytes)
}

fn states_bytes(states: &States) -> usize {
    let words = states.0.iter().map(|state| {
        if let Word::Text(word) = &state.word {
            block(word.len())
        } else {
            0
        }
    });
    block(size_of::<States>()) + block(states.0.capacity() * size_of::<StateTime>()) + words.sum::<usize>()
}

fn config_bytes(config: &TwinConfig) -> usize {
    let metrics = config
        .metrics
        .iter()
        .map(|metric| size_of::<MetricConfig>() + block(metric.name.len()) + block(metric.unit.len()));
    let words = config
        .execution_map
        .iter()
        .map(|(word, _)| 24 + block(word.len()));
    let operation = config.operation.as_deref().map_or(0, |operation| {
        let shifts = operation.calendar.shifts.iter();
        let shifts = shifts
            .map(|shift| size_of_val(shift) + block(shift.name.len()) + block(size_of_val(&*shift.breaks)));
        block(size_of_val(operation))
            + shifts.sum::<usize>()
            + block(size_of_val(&*operation.calendar.offsets))
    });
    let analysis = config.analysis.as_deref().map_or(0, Analysis::heap_bytes);
    let location = config.location.as_deref();
    let location = location.map_or(0, |location| {
        block(size_of_val(location)) + block(location.air_profiles.len())
    });
    operation
        + block(size_of::<TwinConfig>())
        + location
        + metrics.sum::<usize>()
        + words.sum::<usize>()
        + analysis
}

fn machine_bytes(machine: &Machine) -> usize {
    let stops = |figures: &Figures| {
        let reasons = figures.stops.iter().map(|stop| block(stop.reason.len()));
        block(figures.stops.capacity() * size_of::<StopTime>()) + reasons.sum::<usize>()
    };
    let runs = [&machine.shift, &machine.job].into_iter().flatten();
    let runs = runs.map(|run| block(size_of_val(&**run)) + block(run.name.len()) + stops(&run.figures));
    let done = [&machine.shifts_done, &machine.jobs_done]
        .into_iter()
        .map(|done| {
            let bytes = done.iter().map(|done| block(done.0.len()));
            block(done.capacity() * size_of::<Done>()) + bytes.sum::<usize>()
        });
    let stop = machine.stop.as_deref().map_or(0, |stop| {
        block(size_of_val(stop)) + stop.reason.as_deref().map_or(0, |reason| block(reason.len()))
    });
    block(size_of_val(machine)) + stops(&machine.day) + runs.sum::<usize>() + done.sum::<usize>() + stop
}

fn nature_bytes(nature: &Nature) -> usize {
    // An entry of a sorted map takes half as much again as its own size, for its nodes are part empty.
    let entry = |name: &str| 36 + block(name.len());
    match nature {
        Nature::Machine(machine) => machine_bytes(machine),
        Nature::Location(location) => {
            let names = location.jobs.keys().chain(location.operators.keys());
            let flow = location.flow.as_deref();
            location.line.heap_bytes()
                + block(size_of_val(&**location))
                + names.map(|name| entry(name)).sum::<usize>()
                + location.air.heap_bytes()
                + flow.map_or(0, |flow| block(size_of_val(flow)) + flow.heap_bytes())
        }
        Nature::Job(job) => {
            let visits = job.visits.iter().map(|visit| 32 + block(visit.location.len()));
            let older = job.older.iter().map(|dwell| 32 + block(dwell.location.len()));
            let texts = [&job.product_id, &job.product_variant, &job.operator_id]
                .into_iter()
                .flatten();
            let estimate = job.estimate.as_deref();
            block(size_of_val(&**job))
                + estimate.map_or(0, |estimate| {
                    block(size_of_val(estimate)) + block(estimate.location.len())
                })
                + job.exit.as_ref().map_or(0, |(exit, _)| block(exit.len()))
                + visits.chain(older).sum::<usize>()
                + texts.map(|text| block(text.len())).sum::<usize>()
        }
    }
}
