//! What the plant model has its twins work out, put into their configurations.
//!
//! Promises: a twin of which nothing is said keeps a configuration without it. The parts know what they mean
//! (`computed.rs` and its neighbours).

use std::sync::Arc;

use gemba_twins::{analysis::Analysis, config::TwinConfig, id::Kind};

use super::{PlantModel, computed, written::Problems};

type Configs = Vec<(Kind, Box<str>, TwinConfig)>;

/// Completes the configurations of a model.
pub(super) fn put(model: &PlantModel, configs: &mut Configs) {
    if !computed::is_used(model) {
        return;
    }
    for (kind, id, config) in configs {
        let analysis = Analysis {
            computed: computed::put(model, *kind, id, config),
        };
        config.analysis = (!analysis.is_empty()).then(|| Arc::new(analysis));
    }
}

/// Adds what is wrong with it.
pub(super) fn check(model: &PlantModel, configs: &Configs, problems: &mut Problems) {
    if computed::is_used(model) {
        computed::check(model, configs, problems);
    }
}
