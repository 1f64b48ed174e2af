//! What the plant model has its twins work out, put into their configurations.
//!
//! Promises: a twin of which nothing is said keeps a configuration without it. The parts know what they mean
//! (`computed.rs`, `contract.rs`, `forecast.rs`).

use std::sync::Arc;

use gemba_twins::{analysis::Analysis, config::TwinConfig, id::Kind};

use super::{PlantModel, computed, contract, forecast, written::Problems};

type Configs = Vec<(Kind, Box<str>, TwinConfig)>;

/// Completes the configurations of a model.
pub(super) fn put(model: &PlantModel, configs: &mut Configs) {
    if !computed::is_used(model) && !contract::is_used(model) && !forecast::is_used(model) {
        return;
    }
    let mut contracts = contract::by_twin(model);
    for (kind, id, config) in configs {
        let analysis = Analysis {
            computed: computed::put(model, *kind, id, config),
            contracts: contracts.remove(&(*kind, &**id)).unwrap_or_default(),
            forecasts: forecast::put(model, *kind, id, config),
        };
        config.analysis = (!analysis.is_empty()).then(|| Arc::new(analysis));
    }
}

/// Adds what is wrong with it.
pub(super) fn check(model: &PlantModel, configs: &Configs, problems: &mut Problems) {
    if computed::is_used(model) {
        computed::check(model, configs, problems);
    }
    contract::check(model, problems);
    if forecast::is_used(model) {
        forecast::check(model, configs, problems);
    }
}
