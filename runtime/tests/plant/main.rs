//! What the plant model promises: every problem is told at once, a valid model reads back as itself, twins are told
//! what changed and no more, and a sensor always feeds the same twin.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod alarms;
mod binding;
mod changing;
mod computed;
mod contract;
mod reading;

use gemba_runtime::plant::PlantModel;
use gemba_twins::id::TenantId;

/// The model that comes with the product.
const EXAMPLE: &str = include_str!("../../../examples/plant.yaml");

fn model(text: &str) -> PlantModel {
    match PlantModel::parse(text) {
        Ok(model) => model,
        Err(error) => panic!("{error}"),
    }
}

/// All that is wrong with a model, a line each.
fn problems(text: &str) -> String {
    let error = PlantModel::parse(text).expect_err("a model with problems");
    error
        .problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

fn tenant() -> TenantId {
    TenantId::parse("acme").expect("a tenant")
}
