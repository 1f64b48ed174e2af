//! Calls about twins: one, many, attributes, history, events.

use gemba_runtime::{
    changes, clock,
    filter::{Filter, Query, search, wanted},
    node::{HistoryPoint, Step, Wanted},
};
use gemba_twins::{
    RunView,
    event::{Body, Event, TwinMessage, Value},
    id::{InvalidId, Kind, TwinId},
    rollup::Level,
    time::Timestamp,
    twin::Twin,
};
use serde_json::{Map, Value as Json, json};
use warp::http::{HeaderValue, StatusCode, header};

use super::{
    problem::{Problem, Reply},
    routes::{self, Call, ok},
};

/// Longest span of raw readings or buckets in one answer.
const POINTS_MAX: usize = 200_000;

pub(super) fn twin_id(call: &Call) -> Result<TwinId, Problem> {
    let (kind, id) = (&call.path[2], &call.path[3]);
    let parsed = Kind::parse(kind).and_then(|kind| TwinId::new(call.principal.tenant.clone(), kind, id));
    parsed.map_err(|error| match error {
        InvalidId::Kind(_) => Problem::invalid("twin.kind_invalid", error.to_string()),
        other => Problem::invalid("twin.id_invalid", other.to_string()),
    })
}

pub(super) fn time(call: &Call, name: &str) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = call.query(name) else {
        return Ok(None);
    };
    // Grafana's macros give milliseconds since 1970, and 0 for the beginning of all time.
    let parsed = text
        .parse()
        .ok()
        .or_else(|| text.parse().ok().map(Timestamp::from_ms));
    parsed.map(Some).ok_or_else(|| {
        Problem::invalid(
            "query.invalid",
            format!("{name}={text:?} is not a time (use RFC 3339 or milliseconds since 1970)"),
        )
    })
}

fn view(twin: &Twin, now: Timestamp) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2_048);
    // A view has string keys only, and writing to memory cannot fail.
    let _ = serde_json::to_writer(&mut bytes, &twin.view(now));
    bytes
}

pub(super) async fn get(call: &Call) -> Result<Reply, Problem> {
    let id = twin_id(call)?;
    let node = &call.app.node;
    if let Some(at) = time(call, "at")? {
        let twin = node
            .twin_at(&id, at)
            .await?
            .ok_or_else(|| Problem::not_found(&format!("{id} at {at}")))?;
        return Ok(routes::json(StatusCode::OK, view(&twin, at)));
    }
    node.recovered(&id).await?;
    let known = call.header(header::IF_NONE_MATCH);
    let now = clock::now();
    let found = node.twins().with(&id, |twin| {
        let tag = format!("\"rev:{}\"", twin.rev());
        let same = known.is_some_and(|known| {
            known
                .split(',')
                .any(|known| known.trim() == tag || known.trim() == "*")
        });
        (tag, if same { None } else { Some(view(twin, now)) })
    })?;
    let (tag, body) = found.ok_or_else(|| Problem::not_found(&id.to_string()))?;
    let mut reply = match body {
        Some(body) => routes::json(StatusCode::OK, body),
        None => routes::json(StatusCode::NOT_MODIFIED, Vec::new()),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        reply.headers_mut().insert(header::ETAG, tag);
    }
    Ok(reply)
}

pub(super) async fn list(call: &Call) -> Result<Reply, Problem> {
    let kind = call.query("kind").map(Kind::parse).transpose();
    let kind = kind.map_err(|error| Problem::invalid("twin.kind_invalid", error.to_string()))?;
    let fields: Option<Vec<String>> = call
        .query("fields")
        .map(|fields| fields.split(',').map(|field| field.trim().to_owned()).collect());
    let query = Query {
        tenant: call.principal.tenant.clone(),
        kind,
        filter: call
            .query("filter")
            .filter(|text| !text.trim().is_empty())
            .map(Filter::compile)
            .transpose()?,
        sort: call.query("sort").map(str::to_owned),
        limit: call.number("limit", 100, 1_000)?,
        cursor: call.query("cursor").map(str::to_owned),
        now: clock::now(),
    };
    let twins = call.app.node.twins_together(&wanted(&query)?).await?;
    let page = search(&twins, &query, |twin: &Twin| match &fields {
        None => view(twin, query.now),
        Some(fields) => {
            let whole = serde_json::to_value(twin.view(query.now)).unwrap_or_default();
            project(&whole, fields).to_string().into_bytes()
        }
    })
    .await?;
    let mut body = b"{\"items\":[".to_vec();
    for (number, item) in page.items.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item);
    }
    body.extend_from_slice(format!("],\"cursor\":{}}}", json!(page.cursor)).as_bytes());
    Ok(routes::json(StatusCode::OK, body))
}

/// The twin's address and revision, and the fields asked for.
fn project(whole: &Json, fields: &[String]) -> Json {
    let mut projected = changes::project(whole, fields);
    for name in ["twin", "rev"] {
        projected[name] = whole[name].clone();
    }
    projected
}

pub(super) async fn set_attributes(call: &Call) -> Result<Reply, Problem> {
    let id = twin_id(call)?;
    let patch: Json = serde_json::from_slice(&call.body).map_err(|error| {
        Problem::invalid(
            "json.malformed",
            format!("the body is not JSON: {error} (send a merge patch, e.g. {{\"name\":\"Mazak 07\"}})"),
        )
    })?;
    if !patch.is_object() {
        return Err(Problem::invalid(
            "attributes.not_object",
            "the body is not a JSON object (send a merge patch)",
        ));
    }
    if call.body.len() > 16_384 {
        let detail = "the attributes take more than 16 KiB (keep documents elsewhere and link them)";
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "attributes.too_large",
            detail,
        ));
    }
    let if_rev = match call.header(header::IF_MATCH) {
        None | Some("*") => None,
        Some(tag) => {
            let rev = tag
                .trim()
                .trim_matches('"')
                .strip_prefix("rev:")
                .and_then(|rev| rev.parse().ok());
            Some(rev.ok_or_else(|| {
                Problem::invalid(
                    "query.invalid",
                    "If-Match is not an ETag of a twin, e.g. \"rev:812\"",
                )
            })?)
        }
    };
    // Before anything is done: the whole call goes to a node that keeps the twin.
    call.app.node.keeps(&id)?;
    call.app
        .node
        .set_attributes(&id, &patch.to_string(), &call.principal.name, if_rev)
        .await?;
    get(call).await
}

pub(super) async fn history(call: &Call) -> Result<Reply, Problem> {
    let id = twin_id(call)?;
    let step = match call.query("step").unwrap_or("1m") {
        "raw" => Step::Raw,
        text => Step::Level(Level::parse(text).ok_or_else(|| {
            Problem::invalid(
                "query.invalid",
                format!("step={text:?} is none of 1m, 5m, 1h, 1d, raw"),
            )
        })?),
    };
    let now = clock::now();
    let to = time(call, "to")?.unwrap_or_else(|| now.plus_ms(5 * 60_000));
    let from = time(call, "from")?.unwrap_or_else(|| match step {
        Step::Level(Level::D1) => Timestamp::from_ms(0),
        Step::Level(Level::H1) => now.plus_ms(-7 * 86_400_000),
        _ => now.plus_ms(-86_400_000),
    });
    let metrics: Vec<&str> = call
        .query
        .iter()
        .filter(|(name, _)| name == "metric")
        .flat_map(|(_, value)| value.split(','))
        .filter(|name| !name.is_empty())
        .collect();
    let one = if let [one] = metrics[..] { Some(one) } else { None };
    exists(call, &id).await?;
    let mut points = call.app.node.history(&id, from, to, step, one).await?;
    points.retain(|point| metrics.is_empty() || metrics.contains(&&*point.metric));
    if points.len() > POINTS_MAX {
        let detail = format!(
            "the answer has {} points (at most {POINTS_MAX}; ask for a shorter time or a wider step)",
            points.len()
        );
        return Err(Problem::invalid("history.too_long", detail));
    }
    ok(&points.iter().map(point).collect::<Vec<_>>())
}

/// The shifts or the jobs of a twin; a twin keeps some of each.
pub(super) async fn runs(call: &Call, of: fn(&Twin) -> Vec<RunView>) -> Result<Reply, Problem> {
    let id = twin_id(call)?;
    let limit = call.number("limit", 10, 100)?;
    call.app.node.recovered(&id).await?;
    let found = call.app.node.twins().with(&id, of)?;
    let mut items = found.ok_or_else(|| Problem::not_found(&id.to_string()))?;
    items.truncate(limit);
    ok(&json!({"items": items, "cursor": null}))
}

pub(super) async fn exists(call: &Call, id: &TwinId) -> Result<(), Problem> {
    call.app.node.recovered(id).await?;
    match call.app.node.twins().with(id, |_| ())? {
        Some(()) => Ok(()),
        None => Err(Problem::not_found(&id.to_string())),
    }
}

/// As [`exists`], also of a twin that other nodes keep: for what is this node's own and about the twin.
pub(super) async fn exists_anywhere(call: &Call, id: &TwinId) -> Result<(), Problem> {
    let node = &call.app.node;
    if node.keeps(id).is_ok() {
        return exists(call, id).await;
    }
    let wanted = Wanted {
        kind: Some(id.kind()),
        filter: Some(Filter::compile(&format!("id == {}", json!(id.id())))?),
        ..Wanted::all(id.tenant().clone())
    };
    match node.twins_together(&wanted).await?.with(id, |_| ())? {
        Some(()) => Ok(()),
        None => Err(Problem::not_found(&id.to_string())),
    }
}

fn point(point: &HistoryPoint) -> Json {
    let stats = &point.stats;
    if let Some(text) = &point.text {
        return json!({"time": point.time, "metric": point.metric, "text": text});
    }
    let mut json = json!({
        "time": point.time,
        "metric": point.metric,
        "count": stats.count,
        "avg": stats.avg(),
        "time_weighted_avg": stats.time_weighted_avg(),
        "covered_s": f64::from(stats.covered_ms) / 1_000.0,
        "increase": stats.increase,
        "corrected": point.corrected,
    });
    if stats.count > 0
        && let Json::Object(object) = &mut json
    {
        for (name, value) in [
            ("min", stats.min),
            ("max", stats.max),
            ("first", stats.first),
            ("last", stats.last),
        ] {
            object.insert(name.to_owned(), json!(value));
        }
    }
    json
}

pub(super) async fn events(call: &Call) -> Result<Reply, Problem> {
    let id = twin_id(call)?;
    let after = call.query("after").or(call.query("cursor")).unwrap_or("0");
    let after = after
        .parse()
        .map_err(|_| Problem::invalid("query.invalid", format!("after={after:?} is not a seq")))?;
    exists(call, &id).await?;
    let page = call
        .app
        .node
        .events(&id, after, call.number("limit", 100, 1_000)?)
        .await?;
    let items: Vec<Json> = page
        .items
        .iter()
        .map(|(seq, event)| event_json(*seq, event))
        .collect();
    ok(&json!({
        "items": items,
        "cursor": page.next.map(|seq| seq.to_string()),
        "begins_seq": page.begins,
    }))
}

fn event_json(seq: u64, event: &Event) -> Json {
    let mut json = json!({"seq": seq, "at": event.at, "received_at": event.received_at});
    let Json::Object(object) = &mut json else {
        return json;
    };
    if !event.source.is_empty() {
        object.insert("source".into(), json!(event.source));
    }
    if !event.message_id.is_empty() {
        object.insert("message_id".into(), json!(event.message_id));
    }
    let (kind, content) = match &event.body {
        Body::Reading(reading) => {
            let metrics: Map<String, Json> = reading
                .metrics
                .iter()
                .map(|(name, value)| (name.to_string(), value_json(value)))
                .collect();
            (
                "reading",
                json!({"sensor_id": reading.sensor_id, "metrics": metrics, "quality_score": reading.quality_score}),
            )
        }
        Body::Scan(scan) => (
            "scan",
            json!({"location": scan.location, "reader_id": scan.reader_id, "product_id": scan.product_id, "operator_id": scan.operator_id, "completes": scan.completes, "retracts": scan.retracts}),
        ),
        Body::AttributesSet(set) => {
            let patch: Json = serde_json::from_str(&set.patch).unwrap_or_default();
            ("attributes_set", json!({"patch": patch, "by": set.by}))
        }
        Body::Configured(config) => (
            "configured",
            json!({"model_version": config.model_version, "removed": config.removed}),
        ),
        Body::Ticked => ("ticked", json!({})),
        Body::Alarm(said) => (
            "alarm",
            json!({"rule": said.rule, "action": said.action.as_str(), "by": said.by, "comment": said.comment}),
        ),
        Body::Refolded(refolded) => (
            "refolded",
            json!({"model_version": refolded.model_version, "from": refolded.from, "by": refolded.by}),
        ),
        Body::Told(TwinMessage::JobEntered { job, entered_at, .. }) => {
            ("job_entered", json!({"job": job, "entered_at": entered_at}))
        }
        Body::Told(TwinMessage::JobLeft {
            job,
            entered_at,
            left_at,
        }) => (
            "job_left",
            json!({"job": job, "entered_at": entered_at, "left_at": left_at}),
        ),
        Body::Told(TwinMessage::MachineReported(report)) => (
            "machine_reported",
            json!({"machine": report.machine(), "execution": report.execution()}),
        ),
        Body::Told(TwinMessage::JobFlow(flow)) => {
            let changes: Vec<Json> = flow
                .changes
                .iter()
                .map(|change| {
                    json!({"from": change.from, "entered_at": change.entered_at, "left_at": change.left_at, "added": change.added})
                })
                .collect();
            (
                "job_flow",
                json!({"job": flow.job, "changes": changes, "retraction": flow.retraction}),
            )
        }
        Body::Told(TwinMessage::JobFinished {
            job,
            remaining_ms,
            visits,
        }) => (
            "job_finished",
            json!({"job": job, "remaining_s": *remaining_ms as f64 / 1_000.0, "visits": visits}),
        ),
        Body::Told(TwinMessage::Estimated {
            location,
            entered_at,
            remaining_ms,
            visits,
        }) => (
            "estimated",
            json!({"location": location, "entered_at": entered_at, "remaining_s": *remaining_ms as f64 / 1_000.0, "visits": visits}),
        ),
        Body::Told(TwinMessage::JobDwellCorrected { job, by_ms }) => (
            "job_dwell_corrected",
            json!({"job": job, "by_s": *by_ms as f64 / 1_000.0}),
        ),
    };
    object.insert("type".into(), json!(kind));
    object.insert(kind.to_owned(), content);
    json
}

fn value_json(value: &Value) -> Json {
    match value {
        Value::Number(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::Bool(yes) => json!(yes),
    }
}
