//! The what-if call: a twin as it is or was, and as it would be, side by side with what differs.

use gemba_runtime::{
    decode::Rejection,
    node::fork::{FORK_EVENTS_MAX, Fork, ForkError},
    plant::PlantModel,
};
use gemba_twins::{time::Timestamp, twin::Twin};
use serde::Deserialize;
use serde_json::{Value as Json, json, value::RawValue};
use warp::http::StatusCode;

use super::{
    problem::{Problem, Reply},
    routes::{Call, ok},
    twins,
};

/// Most differences that are told one by one.
const DIFFERENCES_MAX: usize = 1_000;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Asked<'a> {
    at: Option<String>,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    model: Option<Json>,
}

pub(super) async fn fork(call: &Call) -> Result<Reply, Problem> {
    let id = twins::twin_id(call)?;
    let asked = if call.body.is_empty() {
        Asked::default()
    } else {
        serde_json::from_slice(&call.body).map_err(|error| {
            let example = r#"{"at":TIME, "events":[readings or scans], "model":{"machines":[{"id":"cnc-07","ideal_cycle":"50s"}]}}"#;
            Problem::invalid("json.malformed", format!("{error} (example: {example})"))
        })?
    };
    let at: Option<Timestamp> = asked
        .at
        .map(|at| at.parse())
        .transpose()
        .map_err(|error| Problem::invalid("query.invalid", format!("at: {error}")))?;
    let fork = Fork {
        at,
        events: asked.events.iter().map(|event| event.get().into()).collect(),
        model: asked.model.map(|model| changed_model(call, &model)).transpose()?,
    };
    let forked = call.app.node.fork(&id, fork).await?;
    let Some(forked) = forked else {
        let when = at.map(|at| format!(" at {at}")).unwrap_or_default();
        return Err(Problem::not_found(&format!("{id}{when}")));
    };
    let (before, after) = (
        shown(&forked.before, forked.before_at),
        shown(&forked.after, forked.after_at),
    );
    let mut difference = Vec::new();
    differences("", &before, &after, &mut difference);
    let rejected: Vec<Json> = forked.rejected.iter().map(rejection).collect();
    ok(&json!({
        "twin": id.to_string(),
        "before_at": forked.before_at,
        "after_at": forked.after_at,
        "events": {"applied": forked.applied, "late": forked.late, "rejected": rejected},
        "difference": difference,
        "before": before,
        "after": after,
    }))
}

/// A whole model as text (YAML), or the part of the one in force that changes.
fn changed_model(call: &Call, model: &Json) -> Result<PlantModel, Problem> {
    let read = match model {
        Json::String(text) => PlantModel::parse(text),
        part => {
            let plant = call.app.node.plant(&call.principal.tenant);
            let before = plant.map(|plant| plant.model.clone()).unwrap_or_default();
            before.changed_by(part)
        }
    };
    read.map_err(|error| Problem::invalid("plant.invalid", error.to_string()))
}

fn shown(twin: &Twin, at: Timestamp) -> Json {
    serde_json::to_value(twin.view(at)).unwrap_or_default()
}

fn rejection((index, rejection): &(usize, Rejection)) -> Json {
    json!({"index": index, "code": rejection.code, "detail": rejection.detail})
}

/// What differs between two JSON values, leaf by leaf, but for revision and position.
pub(super) fn differences(path: &str, before: &Json, after: &Json, into: &mut Vec<Json>) {
    if into.len() >= DIFFERENCES_MAX || before == after || matches!(path, "rev" | "seq") {
        return;
    }
    let at = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match (before, after) {
        (Json::Object(before), Json::Object(after)) => {
            for (name, value) in before {
                differences(&at(name), value, after.get(name).unwrap_or(&Json::Null), into);
            }
            for (name, value) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
                differences(&at(name), &Json::Null, value, into);
            }
        }
        _ => into.push(json!({"path": path, "before": before, "after": after})),
    }
}

impl From<ForkError> for Problem {
    fn from(error: ForkError) -> Self {
        let detail = error.to_string();
        match error {
            ForkError::Read(error) => error.into(),
            ForkError::TooManyEvents(_) => Self::invalid(
                "fork.too_many_events",
                format!("{detail} (try {FORK_EVENTS_MAX} at a time)"),
            ),
            ForkError::TooLong => Self::new(StatusCode::SERVICE_UNAVAILABLE, "fork.too_long", detail),
            ForkError::Busy => Self::new(StatusCode::TOO_MANY_REQUESTS, "fork.busy", detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_leaf_by_leaf() {
        let before = json!({"rev": 1, "kpis": {"oee": 0.5, "parts": 3}, "gone": {"a": 1}, "list": [1]});
        let after = json!({"rev": 2, "kpis": {"oee": 0.6, "parts": 3}, "new": true, "list": [1, 2]});
        let mut told = Vec::new();
        differences("", &before, &after, &mut told);
        assert_eq!(
            Json::from(told),
            json!([
                {"path": "gone", "before": {"a": 1}, "after": null},
                {"path": "kpis.oee", "before": 0.5, "after": 0.6},
                {"path": "list", "before": [1], "after": [1, 2]},
                {"path": "new", "before": null, "after": true},
            ])
        );
    }
}
