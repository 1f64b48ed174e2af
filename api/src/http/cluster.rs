//! Calls about the cluster: how it stands, and letting a node go.
//!
//! Promises: any node answers for the whole cluster; a node that is alone says so.

use gemba_runtime::node::DrainError;
use serde_json::json;
use warp::http::StatusCode;

use super::{
    problem::{Problem, Reply},
    routes::{Call, ok},
};

pub(super) async fn get(call: &Call) -> Result<Reply, Problem> {
    let hashes = match call.query("hashes") {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            let detail = format!("hashes={other:?} is neither true nor false");
            return Err(Problem::invalid("query.invalid", detail));
        }
    };
    match call.app.node.cluster(hashes).await {
        Some(view) => ok(&view),
        None => ok(&json!({"cluster": null, "node": null, "has_quorum": true, "nodes": [], "shards": []})),
    }
}

pub(super) async fn drain(call: &Call) -> Result<Reply, Problem> {
    let text = &call.path[3];
    // No node has the number 0.
    let number = text.parse().unwrap_or_default();
    let drained = call.app.node.drain(number).await.map_err(|error| {
        let detail = error.to_string();
        match error {
            DrainError::Alone => Problem::new(StatusCode::CONFLICT, "cluster.none", detail),
            DrainError::NotFound(0) => {
                let detail = format!("{text:?} is not the number of a node (see GET /v1/cluster)");
                Problem::invalid("node.invalid", detail)
            }
            DrainError::NotFound(_) => Problem::new(StatusCode::NOT_FOUND, "node.not_found", detail),
            DrainError::Refused(_) => Problem::new(StatusCode::CONFLICT, "node.not_drained", detail),
            DrainError::NotNow(_) => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "cluster.no_quorum", detail)
            }
        }
    })?;
    ok(&drained)
}
