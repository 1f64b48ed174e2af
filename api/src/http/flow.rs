//! The flow of jobs through the plant, as a dashboard draws it: locations, a Sankey list, the bottleneck.

use gemba_runtime::{clock, node::Place};
use serde_json::{Value as Json, json};

use super::{
    problem::{Problem, Reply},
    routes::{Call, ok},
    twins::time,
};

const DAY_MS: i64 = 86_400_000;
/// Little's law and what was counted agree within this in a steady flow.
const STEADY: f64 = 0.25;

pub(super) async fn get(call: &Call) -> Result<Reply, Problem> {
    let now = clock::now();
    let to = time(call, "to")?.unwrap_or(now);
    let from = time(call, "from")?.unwrap_or_else(|| to.plus_ms(-DAY_MS));
    if from > to {
        let detail = "from is later than to (turn them round)";
        return Err(Problem::invalid("query.invalid", detail));
    }
    let flow = call.app.node.flow(&call.principal.tenant, from, to).await?;
    let edges: Vec<Json> = flow
        .edges
        .iter()
        .map(|edge| json!({"from": edge.from, "to": edge.to, "count": edge.count}))
        .collect();
    let mut answer = json!({
        "from": flow.from,
        "to": flow.to,
        "kept_from": flow.kept_from,
        "kept": "the running clock hour and the 24 before it, by the hour",
        "locations": flow.locations.iter().map(place).collect::<Vec<_>>(),
        "flows": edges,
        "bottleneck": flow.bottleneck().map(bottleneck),
    });
    if flow.bottleneck().is_none()
        && let Json::Object(object) = &mut answer
    {
        object.insert(
            "bottleneck_reason".into(),
            json!("no job left a location within this time"),
        );
    }
    ok(&answer)
}

fn place(place: &Place) -> Json {
    json!({
        "location": place.location,
        "wip": place.flow.wip,
        "entered": place.flow.entered,
        "left": place.flow.left,
        "throughput_per_h": place.throughput_per_h(),
        "dwell_s_mean": place.dwell_s_mean(),
        "wip_mean": place.wip_mean(),
        "wip_by_littles_law": place.wip_by_littles_law(),
    })
}

fn bottleneck(place: &Place) -> Json {
    let (counted, by_law) = (place.wip_mean(), place.wip_by_littles_law());
    let steady = counted
        .zip(by_law)
        .map(|(counted, by_law)| (counted - by_law).abs() <= STEADY * counted.max(by_law));
    json!({
        "location": place.location,
        "dwell_s_mean": place.dwell_s_mean(),
        "why": "longest mean dwell",
        "wip_mean": counted,
        "wip_by_littles_law": by_law,
        "steady": steady,
    })
}
