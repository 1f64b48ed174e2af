//! Calls about the plant model.

use gemba_runtime::plant::{self, PlantModel};
use serde_json::{Value as Json, json};
use warp::http::{HeaderValue, Response, StatusCode, header};

use super::{
    problem::{Problem, Reply},
    routes::{Call, ok},
};

fn model(call: &Call) -> Result<PlantModel, Problem> {
    let text = str::from_utf8(&call.body)
        .map_err(|_| Problem::invalid("plant.invalid", "the plant model is not UTF-8"))?;
    PlantModel::parse(text).map_err(|error| Problem::invalid("plant.invalid", error.to_string()))
}

pub(super) fn get(call: &Call) -> Result<Reply, Problem> {
    let Some(plant) = call.app.node.plant(&call.principal.tenant) else {
        let detail = "no plant model is applied (apply one with `gemba apply -f plant.yaml`)";
        return Err(Problem::new(StatusCode::NOT_FOUND, "plant.not_found", detail));
    };
    if call
        .header(header::ACCEPT)
        .is_some_and(|accept| accept.contains("yaml"))
    {
        let mut response = Response::new(plant.model.to_yaml().into());
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
        return Ok(response);
    }
    let model: Json = serde_json::from_str(&plant.model.to_json()).unwrap_or_default();
    ok(&json!({"version": plant.version, "applied_at": plant.applied_at, "by": plant.by, "model": model}))
}

pub(super) async fn put(call: &Call) -> Result<Reply, Problem> {
    let model = model(call)?;
    let before = call.app.node.plant(&call.principal.tenant);
    let changes = plant::plan(before.as_deref().map(|plant| &plant.model), &model);
    let applied = call
        .app
        .node
        .apply_plant(&call.principal.tenant, model, &call.principal.name)
        .await?;
    ok(
        &json!({"version": applied.version, "applied_at": applied.applied_at, "by": applied.by, "changes": changes}),
    )
}

pub(super) fn plan(call: &Call) -> Result<Reply, Problem> {
    let model = model(call)?;
    let before = call.app.node.plant(&call.principal.tenant);
    ok(&plant::plan(before.as_deref().map(|plant| &plant.model), &model))
}
