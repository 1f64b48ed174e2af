//! Calls about data quality and forecasts: what sensors send, and what metrics will be.

use gemba_runtime::{
    clock,
    filter::{Filter, Query, search, wanted},
};
use gemba_twins::{forecast::HORIZON_MAX_MS, id::TwinId, time::Timestamp, twin::Twin};
use serde_json::{Value as Json, json};

use super::{
    problem::{Problem, Reply},
    routes::{Call, ok},
    twins,
};

/// The horizon of a forecast where none is asked for.
const HORIZON_MS: i64 = 4 * 3_600_000;

/// The sensors of one twin, or of all, a page of twins at a time.
pub(super) async fn list(call: &Call) -> Result<Reply, Problem> {
    let node = &call.app.node;
    let now = clock::now();
    let sensor = call.query("sensor");
    let sensors = |twin: &Twin| -> Vec<Json> {
        let all = twin
            .sensors(now)
            .filter_map(|sensor| serde_json::to_value(sensor).ok());
        all.filter(|shown| sensor.is_none_or(|sensor| shown["sensor"] == sensor))
            .collect()
    };
    if let Some(twin) = call.query("twin") {
        let id = TwinId::parse(call.principal.tenant.clone(), twin)
            .map_err(|error| Problem::invalid("twin.id_invalid", format!("twin={twin:?}: {error}")))?;
        node.recovered(&id).await?;
        let items = node.twins().with(&id, sensors)?;
        let items = items.ok_or_else(|| Problem::not_found(&id.to_string()))?;
        return ok(&json!({"items": items, "cursor": null}));
    }
    let query = Query {
        tenant: call.principal.tenant.clone(),
        kind: None,
        filter: Some(Filter::compile("kind != \"job\"")?),
        sort: None,
        limit: call.number("limit", 100, 1_000)?,
        cursor: call.query("cursor").map(str::to_owned),
        now,
    };
    let twins = node.twins_together(&wanted(&query)?).await?;
    let page = search(&twins, &query, |twin: &Twin| {
        serde_json::to_vec(&sensors(twin)).unwrap_or_default()
    })
    .await?;
    let items: Vec<Json> = page
        .items
        .iter()
        .filter_map(|items| serde_json::from_slice::<Vec<Json>>(items).ok())
        .flatten()
        .collect();
    ok(&json!({"items": items, "cursor": page.cursor}))
}

/// What a metric will be.
pub(super) async fn forecast(call: &Call) -> Result<Reply, Problem> {
    let id = twins::twin_id(call)?;
    let metric = call.query("metric").unwrap_or_default();
    if metric.is_empty() {
        let detail = "metric is missing (name one that the plant model forecasts, e.g. metric=utilization)";
        return Err(Problem::invalid("query.invalid", detail));
    }
    let horizon_ms = match call.query("horizon") {
        None => HORIZON_MS,
        Some(text) => span_ms(text)
            .filter(|ms| (1..=HORIZON_MAX_MS).contains(ms))
            .ok_or_else(|| {
                let detail = format!("horizon={text:?} is not a duration up to a day, e.g. 4h or 90m");
                Problem::invalid("query.invalid", detail)
            })?,
    };
    let node = &call.app.node;
    let at: Option<Timestamp> = twins::time(call, "at")?;
    if let Some(at) = at {
        let twin = node.twin_at(&id, at).await?;
        let twin = twin.ok_or_else(|| Problem::not_found(&format!("{id} at {at}")))?;
        return ok(&twin.forecast(metric, horizon_ms, at));
    }
    node.recovered(&id).await?;
    let now = clock::now();
    let forecast = node.twins().with(&id, |twin| {
        serde_json::to_value(twin.forecast(metric, horizon_ms, now)).unwrap_or_default()
    })?;
    ok(&forecast.ok_or_else(|| Problem::not_found(&id.to_string()))?)
}

/// A number and `s`, `m`, `h` or `d`.
fn span_ms(text: &str) -> Option<i64> {
    let span: gemba_runtime::plant::Span = text.parse().ok()?;
    Some(span.ms())
}
