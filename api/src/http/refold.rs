//! The back-fill call: what twins would be had today's plant model been in force all along, and taking that over.

use gemba_runtime::{
    clock,
    filter::{self, Query, search},
    node::refold::{REFOLD_MAX, RefoldError, RefoldedTwin},
};
use gemba_twins::{
    id::{Kind, TwinId},
    time::Timestamp,
    twin::Twin,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use warp::http::StatusCode;

use super::{
    fork::differences,
    problem::{Problem, Reply},
    routes::{Call, ok},
};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    twins: Vec<String>,
    kind: Option<String>,
    from: Option<String>,
    apply: bool,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn refold(call: &Call) -> Result<Reply, Problem> {
    let asked: Asked = if call.body.is_empty() {
        Asked::default()
    } else {
        serde_json::from_slice(&call.body).map_err(|error| {
            let example = r#"{"kind":"machine","from":TIME,"apply":false}"#;
            Problem::invalid("json.malformed", format!("{error} (example: {example})"))
        })?
    };
    let from: Option<Timestamp> = asked
        .from
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|error| Problem::invalid("query.invalid", format!("from: {error}")))?;
    let (twins, cursor) = wanted(call, &asked).await?;
    let refolded = call.app.node.refold(twins, from).await?;
    let mut items = Vec::with_capacity(refolded.len());
    for refolded in refolded {
        items.push(item(call, refolded, asked.apply).await);
    }
    ok(&json!({"items": items, "cursor": cursor}))
}

/// The twins of this call, and where the next one goes on.
async fn wanted(call: &Call, asked: &Asked) -> Result<(Vec<TwinId>, Option<String>), Problem> {
    let tenant = &call.principal.tenant;
    if !asked.twins.is_empty() {
        let twins = asked.twins.iter().map(|twin| {
            TwinId::parse(tenant.clone(), twin)
                .map_err(|error| Problem::invalid("twin.id_invalid", format!("{twin:?}: {error}")))
        });
        return Ok((twins.collect::<Result<_, _>>()?, None));
    }
    let kind = asked.kind.as_deref().map(Kind::parse).transpose();
    let limit = asked.limit.unwrap_or(REFOLD_MAX);
    if !(1..=REFOLD_MAX).contains(&limit) {
        let detail = format!("limit={limit} is not a number from 1 to {REFOLD_MAX}");
        return Err(Problem::invalid("query.invalid", detail));
    }
    let query = Query {
        tenant: tenant.clone(),
        kind: kind.map_err(|error| Problem::invalid("twin.kind_invalid", error.to_string()))?,
        filter: None,
        sort: None,
        limit,
        cursor: asked.cursor.clone(),
        now: clock::now(),
    };
    let twins = call.app.node.twins_together(&filter::wanted(&query)?).await?;
    let page = search(&twins, &query, |twin: &Twin| twin.id().clone()).await?;
    Ok((page.items, page.cursor))
}

async fn item(call: &Call, refolded: RefoldedTwin, apply: bool) -> Json {
    let at = clock::now();
    let shown = |twin: &Twin| serde_json::to_value(twin.view(at)).unwrap_or_default();
    let mut difference = Vec::new();
    differences(
        "",
        &shown(&refolded.before),
        &shown(&refolded.after),
        &mut difference,
    );
    // When something changed last is no difference between the two.
    difference.retain(|difference| difference["path"] != "updated_at");
    let twin = refolded.after.id().to_string();
    let mut item =
        json!({"twin": twin, "rev": refolded.before.rev(), "difference": difference, "applied": false});
    if apply && item["difference"] != json!([]) {
        match call.app.node.take_over(refolded, &call.principal.name).await {
            Ok(rev) => {
                item["rev"] = json!(rev);
                item["applied"] = json!(true);
            }
            Err(error) => {
                let problem = Problem::from(error);
                item["error"] = json!({"code": problem.code, "detail": problem.detail});
            }
        }
    }
    item
}

impl From<RefoldError> for Problem {
    fn from(error: RefoldError) -> Self {
        let detail = error.to_string();
        match error {
            RefoldError::Read(error) => error.into(),
            RefoldError::NoPlant => Self::new(StatusCode::NOT_FOUND, "plant.not_found", detail),
            RefoldError::TooMany(_) => Self::invalid("refold.too_many", detail),
            RefoldError::TooLong => Self::new(StatusCode::SERVICE_UNAVAILABLE, "refold.too_long", detail),
            RefoldError::Busy => Self::new(StatusCode::TOO_MANY_REQUESTS, "refold.busy", detail),
        }
    }
}
