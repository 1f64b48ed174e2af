//! What needs no credential: health, metrics, the OpenAPI document and a page that shows it, and where things are.

use serde_json::{Map, Value as Json, json};
use warp::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use super::{
    alarms::What,
    page,
    problem::Reply,
    routes::{self, App},
    table::{Operation, all_routes},
};

/// Answers what everybody may see; `None` for everything else.
pub(super) fn open(app: &App, method: &Method, path: &str, headers: &HeaderMap) -> Option<Reply> {
    if *method != Method::GET && *method != Method::HEAD {
        return None;
    }
    Some(match path {
        "/livez" => routes::json(StatusCode::OK, br#"{"status":"alive"}"#.to_vec()),
        "/readyz" => ready(app),
        "/metrics" => text("text/plain; version=0.0.4", metrics(app, headers)),
        "/openapi.json" => routes::json(StatusCode::OK, document().to_string().into_bytes()),
        "/docs" => page::plain(include_str!("../page/docs.html")),
        "/docs.js" => text(
            "text/javascript; charset=utf-8",
            include_str!("../page/docs.js").to_owned(),
        ),
        "/page.css" => text(
            "text/css; charset=utf-8",
            include_str!("../page/page.css").to_owned(),
        ),
        _ => return page::file(path, headers),
    })
}

/// The metrics of the node, and of the tenant whose key was sent; without keys, of all.
fn metrics(app: &App, headers: &HeaderMap) -> String {
    app.node.measure_room();
    let all = app.metrics.render();
    if app.keyring.is_open() {
        return all;
    }
    let own = routes::principal(&app.keyring, headers)
        .ok()
        .map(|principal| format!("tenant=\"{}\"", principal.tenant));
    let shown = |line: &&str| {
        line.starts_with('#')
            || !line.contains("tenant=\"")
            || own.as_ref().is_some_and(|own| line.contains(own.as_str()))
    };
    all.split_inclusive('\n').filter(shown).collect()
}

fn text(kind: &'static str, body: String) -> Reply {
    let mut response = Response::new(body.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn ready(app: &App) -> Reply {
    let (recovered, shards) = app.node.shards_recovered();
    let node = &app.node;
    let (status, word) = match (node.is_ready(), node.storage_failed(), node.has_quorum()) {
        (true, ..) => (StatusCode::OK, "ready"),
        (false, true, _) => (StatusCode::SERVICE_UNAVAILABLE, "storage_failed"),
        (false, false, true) => (StatusCode::SERVICE_UNAVAILABLE, "recovering"),
        (false, false, false) => (StatusCode::SERVICE_UNAVAILABLE, "no_quorum"),
    };
    let body = json!({"status": word, "shards_recovered": recovered, "shards": shards});
    routes::json(status, body.to_string().into_bytes())
}

/// The OpenAPI document, made of the same table that the dispatch uses.
pub(super) fn document() -> Json {
    let mut paths: Map<String, Json> = Map::new();
    for route in all_routes() {
        let path = format!("/{}", route.path.join("/"));
        let in_path = route
            .path
            .iter()
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Json> = in_path
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
            .collect();
        parameters.extend(parameters_of(route.operation));
        let done = done_of(route.operation);
        let mut operation = json!({
            "operationId": match route.operation {
                Operation::Alarms(what) => format!("{what:?}"),
                operation => format!("{operation:?}"),
            },
            "summary": route.summary,
            "description": format!("Least role: {:?}.", route.least),
            "parameters": parameters,
            "responses": {
                (done.0): done.1,
                "default": {"description": "Not done", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
            },
        });
        if let (Some(body), Json::Object(object)) = (body_of(route.operation), &mut operation) {
            object.insert("requestBody".into(), body);
        }
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    paths.insert("/v1/stream".into(), stream());
    for (path, summary) in [
        ("/livez", "Whether the process runs"),
        ("/readyz", "Whether it can serve"),
        ("/metrics", "Metrics for Prometheus"),
    ] {
        paths.insert(path.into(), json!({"get": {"summary": summary, "security": [], "responses": {"200": {"description": "Yes"}}}}));
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "gemba", "version": env!("CARGO_PKG_VERSION"), "description": "Digital twins of factories: machines, locations and jobs.", "license": {"name": "Apache-2.0"}},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}, "schemas": shaped(schemas())},
    })
}

/// The schemas with the shapes of what is read beside them; `shapes.json` has one a line.
fn shaped(mut schemas: Json) -> Json {
    // A test reads every one of them.
    let shapes: Map<String, Json> = serde_json::from_str(include_str!("shapes.json")).unwrap_or_default();
    for (name, shape) in shapes {
        schemas[name] = shape;
    }
    schemas
}

fn query(name: &str, description: &str) -> Json {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": "string"}})
}

fn parameters_of(operation: Operation) -> Vec<Json> {
    let list = |rest: Vec<Json>| {
        let mut all = rest;
        all.push(query("limit", "Most items, 1 to 1000; 100 if absent"));
        all.push(query("cursor", "Where the page before ended"));
        all
    };
    match operation {
        Operation::ListTwins => list(vec![
            query("kind", "machine, location or job"),
            query(
                "filter",
                "CEL over the twin's JSON, e.g. kpis.oee < 0.6 && attributes.location == \"cell-2\"",
            ),
            query("fields", "Only these dotted paths, with commas between"),
            query(
                "sort",
                "By a field's path, the largest first with - before it, e.g. -kpis.oee",
            ),
        ]),
        Operation::GetTwin => vec![query("at", "As it was at this time (RFC 3339)")],
        Operation::History => vec![
            query("metric", "Only these metrics, with commas between"),
            query("from", "RFC 3339 or milliseconds since 1970; a day ago if absent"),
            query("to", "RFC 3339 or milliseconds since 1970; now if absent"),
            query("step", "1m, 5m, 1h, 1d or raw"),
        ],
        Operation::Events => vec![
            query("after", "Only events after this seq"),
            query("limit", "Most items, 1 to 1000; 100 if absent"),
        ],
        Operation::ListRejected | Operation::UploadRejected => list(Vec::new()),
        Operation::AppendUpload => {
            vec![
                json!({"name": "Upload-Offset", "in": "header", "required": true, "description": "Where the part begins", "schema": {"type": "integer"}}),
            ]
        }
        Operation::Shifts | Operation::MachineJobs => {
            vec![query("limit", "Most items, 1 to 100; 10 if absent")]
        }
        Operation::Alarms(What::ListAlarms) => list(vec![
            query(
                "state",
                "States with commas between, or all, active, unacknowledged; all but normal if absent",
            ),
            query("priority", "low, medium, high, urgent, with commas between"),
            query("twin", "Only those of this twin, e.g. machine/cnc-07"),
            query("kind", "machine or location"),
        ]),
        Operation::Alarms(What::AlarmHistory) => vec![
            query(
                "from",
                "All since this time (RFC 3339), from the journal; the newest few if absent",
            ),
            query("limit", "Most items, 1 to 1000; 100 if absent"),
        ],
        Operation::Backup => vec![query(
            "place",
            "What gemba-backup-place said of the piece before; absent for the first one",
        )],
        Operation::Quality => list(vec![
            query("twin", "Only the sensors of this twin, e.g. machine/cnc-07"),
            query("sensor", "Only this sensor"),
        ]),
        Operation::Forecast => vec![
            query("metric", "One that the plant model forecasts"),
            query("horizon", "How far ahead, up to 1d; 4h if absent"),
            query("at", "As it would have been answered at this time (RFC 3339)"),
        ],
        Operation::RfidImpinj | Operation::RfidZebra | Operation::RfidGeneric => {
            vec![query("reader", "The reader, where its messages do not name it")]
        }
        Operation::Flow => vec![
            query(
                "from",
                "RFC 3339 or milliseconds since 1970, down to its hour; a day before `to` if absent",
            ),
            query(
                "to",
                "RFC 3339 or milliseconds since 1970, up to the end of its hour; now if absent",
            ),
        ],
        _ => Vec::new(),
    }
}

fn body_of(operation: Operation) -> Option<Json> {
    let json_of = |schema: &str| json!({"required": true, "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}}});
    match operation {
        Operation::Readings => Some(json_of("Reading")),
        Operation::Scans => Some(json_of("Scan")),
        Operation::Fork => Some(json_of("Fork")),
        Operation::Refold => Some(json_of("Refold")),
        Operation::RfidImpinj | Operation::RfidZebra => Some(json_of("Object")),
        Operation::RfidGeneric => Some(json_of("Reads")),
        Operation::EpcisCapture => Some(
            json!({"required": true, "content": {"application/ld+json": {"schema": {"$ref": "#/components/schemas/Epcis"}}, "application/json": {"schema": {"$ref": "#/components/schemas/Epcis"}}}}),
        ),
        Operation::PutDashboard => Some(json_of("DashboardContent")),
        Operation::CreateUpload => Some(json_of("NewUpload")),
        Operation::AppendUpload => Some(
            json!({"required": true, "content": {"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}}}),
        ),
        Operation::SetAttributes => Some(
            json!({"required": true, "content": {"application/merge-patch+json": {"schema": {"type": "object"}}}}),
        ),
        Operation::PutPlant | Operation::PlanPlant => Some(
            json!({"required": true, "content": {"application/yaml": {"schema": {"type": "object"}}, "application/json": {"schema": {"type": "object"}}}}),
        ),
        Operation::Alarms(What::ListAlarms | What::AlarmFigures | What::GetAlarm | What::AlarmHistory) => {
            None
        }
        Operation::Alarms(What::ShelveAlarm) => Some(json_of("Shelve")),
        Operation::Alarms(_) => Some(json_of("Comment")),
        _ => None,
    }
}

/// The status of what was done, and what comes with it.
fn done_of(operation: Operation) -> (&'static str, Json) {
    let answer = || json!({"description": "Done", "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{}", answer_of(operation))}}}});
    match operation {
        Operation::CreateUpload => ("201", answer()),
        Operation::AppendUpload => (
            "204",
            json!({"description": "The part is on disk; Upload-Offset says where the next one begins. 409 says the same where the part does not fit."}),
        ),
        Operation::GetAttachment => (
            "200",
            json!({"description": "Done", "content": {"application/pdf": {}, "image/png": {}}}),
        ),
        Operation::Backup => (
            "200",
            json!({"description": "A piece; gemba-backup-place says where the next one begins, and is absent from the last one", "content": {"application/octet-stream": {}}}),
        ),
        _ => ("200", answer()),
    }
}

fn answer_of(operation: Operation) -> &'static str {
    match operation {
        Operation::GetTwin | Operation::SetAttributes => "Twin",
        Operation::Readings
        | Operation::Scans
        | Operation::RfidImpinj
        | Operation::RfidZebra
        | Operation::RfidGeneric
        | Operation::EpcisCapture => "BatchAnswer",
        Operation::History => "History",
        Operation::Shifts | Operation::MachineJobs => "RunList",
        Operation::Alarms(What::ListAlarms) => "AlarmList",
        Operation::Alarms(What::AlarmHistory) => "AlarmEntryList",
        Operation::Alarms(What::AlarmFigures) => "AlarmFigures",
        Operation::Alarms(_) => "Alarm",
        Operation::Cluster => "Cluster",
        Operation::Drain => "Draining",
        Operation::Fork => "Forked",
        Operation::Refold => "List",
        Operation::Forecast => "Forecast",
        Operation::Quality => "SensorList",
        Operation::ListTwins => "TwinList",
        Operation::Events => "TwinEventList",
        Operation::Ingest => "SourceCountsList",
        Operation::ListRejected => "RejectedList",
        Operation::RetryRejected => "Retried",
        Operation::GetPlant => "AppliedPlant",
        Operation::PlanPlant => "Plan",
        Operation::PutPlant => "PlantChange",
        Operation::ListDashboards => "DashboardList",
        Operation::GetDashboard | Operation::PutDashboard => "Dashboard",
        Operation::RemoveDashboard => "DashboardRemoved",
        Operation::Checkpoints => "CheckpointList",
        Operation::CreateUpload | Operation::GetUpload => "Upload",
        Operation::ListUploads | Operation::ListAttachments => "UploadList",
        Operation::UploadRejected => "UploadRejectedList",
        Operation::RemoveUpload => "UploadRemoved",
        Operation::AppendUpload | Operation::GetAttachment | Operation::Backup => "Object",
        Operation::Flow => "Flow",
        Operation::WriteHistory => "Object",
    }
}

fn stream() -> Json {
    json!({"get": {
        "operationId": "Stream",
        "summary": "Follow twins: a WebSocket (subprotocol gemba.v1), or Server-Sent Events for Accept: text/event-stream",
        "description": "A browser passes its token as the subprotocol bearer.<token>. Frames: StreamRequest from the client, StreamFrame from the node.",
        "parameters": [query("filter", "Server-Sent Events: CEL over the twin's JSON"), query("fields", "Server-Sent Events: only these paths"), query("mode", "latest or every"), query("max_rate_hz", "Most flushes a second"), query("resume", "The token of a live frame")],
        "responses": {"101": {"description": "Switching to WebSocket"}, "200": {"description": "Server-Sent Events", "content": {"text/event-stream": {}}}},
    }})
}

fn schemas() -> Json {
    let text = json!({"type": "string"});
    let metrics =
        json!({"type": "object", "additionalProperties": {"type": ["number", "string", "boolean", "null"]}});
    json!({
        "Object": {"type": "object"},
        "Draining": {"type": "object", "required": ["node", "left", "shards"], "properties": {
            "node": {"type": "integer"}, "left": {"type": "boolean"}, "shards": {"type": "integer"}}},
        "Cluster": {"type": "object", "required": ["cluster", "node", "has_quorum", "nodes", "shards"], "properties": {
            "cluster": {"type": ["string", "null"]}, "node": {"type": ["integer", "null"]}, "has_quorum": {"type": "boolean"},
            "nodes": {"type": "array", "items": {"type": "object", "required": ["node", "address", "zone", "state", "answers", "owns", "keeps"], "properties": {
                "node": {"type": "integer"}, "address": text, "zone": text, "state": {"enum": ["up", "draining", "gone"]},
                "answers": {"type": "boolean"}, "owns": {"type": "integer"}, "keeps": {"type": "integer"}}}},
            "shards": {"type": "array", "items": {"type": "object", "required": ["shard", "owner", "epoch", "seq", "members", "wanted", "lag", "here"], "properties": {
                "shard": text, "owner": {"type": ["integer", "null"]}, "epoch": {"type": "integer"}, "seq": {"type": "integer"},
                "members": {"type": "array", "items": {"type": "integer"}}, "wanted": {"type": "array", "items": {"type": "integer"}},
                "lag": {"type": "integer"}, "here": {"type": ["integer", "null"]}, "hash": text}}}}},
        "List": {"type": "object", "required": ["items", "cursor"], "properties": {"items": {"type": "array"}, "cursor": {"type": ["string", "null"]}}},
        "BatchAnswer": {"type": "object", "required": ["accepted", "duplicates", "rejected"], "properties": {
            "accepted": {"type": "integer"}, "duplicates": {"type": "integer"},
            "rejected": {"type": "array", "items": {"type": "object", "properties": {"index": {"type": "integer"}, "code": text, "detail": text}}}}},
        "Alarm": {"type": "object", "required": ["id", "twin", "rule", "text", "state", "priority", "count"], "properties": {
            "id": text, "twin": text, "rule": text, "text": text,
            "state": {"enum": ["normal", "unacknowledged_active", "acknowledged_active", "rtn_unacknowledged", "latched_unacknowledged", "latched_acknowledged", "shelved", "suppressed", "out_of_service"]},
            "priority": {"enum": ["low", "medium", "high", "urgent"]},
            "since": {"type": ["string", "null"]}, "raised_at": {"type": ["string", "null"]}, "returned_at": {"type": ["string", "null"]},
            "acknowledged_at": {"type": ["string", "null"]}, "acknowledged_by": {"type": ["string", "null"]}, "comment": {"type": ["string", "null"]},
            "shelved_until": {"type": ["string", "null"]}, "metric": {"type": ["string", "null"]}, "value": {"type": ["number", "string", "boolean", "null"]},
            "count": {"type": "integer"}, "latching": {"type": "boolean"}}},
        "AlarmFigures": {"type": "object", "required": ["active", "unacknowledged", "per_10_min", "flood", "chattering", "stale"], "properties": {
            "active": {"type": "integer"}, "unacknowledged": {"type": "integer"}, "shelved": {"type": "integer"}, "per_10_min": {"type": "integer"},
            "flood": {"type": "boolean"}, "chattering": {"type": "array", "items": text}, "stale": {"type": "array", "items": text}}},
        "AlarmSummary": {"type": "object", "required": ["active", "unacknowledged", "highest_severity", "shelved"], "properties": {
            "active": {"type": "integer"}, "unacknowledged": {"type": "integer"}, "shelved": {"type": "integer"},
            "highest_severity": {"type": ["string", "null"]}}},
        "Comment": {"type": "object", "properties": {"comment": text}},
        "Shelve": {"type": "object", "required": ["for"], "properties": {"for": text, "comment": text}},
        "Problem": {"type": "object", "required": ["type", "title", "status", "code", "detail"], "properties": {
            "type": text, "title": text, "status": {"type": "integer"}, "code": text, "detail": text}},
        "Reading": {"type": "object", "required": ["sensor_id", "metrics"], "properties": {
            "sensor_id": text, "sensor_type": {"enum": ["MACHINE", "ENERGY", "AIR_QUALITY", "RFID"]}, "location_id": text,
            "timestamp": {"type": "string", "format": "date-time"}, "message_id": text, "metrics": metrics,
            "quality_score": {"type": "number", "minimum": 0, "maximum": 1}, "source_system": text, "device_metadata": {"type": "object"}}},
        "Scan": {"type": "object", "required": ["job_id", "location"], "properties": {
            "job_id": text, "location": text, "product_id": text, "product_variant": text,
            "scan_timestamp": {"type": "string", "format": "date-time"}, "operator_id": text, "metadata": {"type": "object"}, "message_id": text}},
        "Fork": {"type": "object", "properties": {
            "at": {"type": "string", "format": "date-time", "description": "From the twin as it was then; as it is now if absent"},
            "events": {"type": "array", "maxItems": 10_000, "items": {"type": "object"}, "description": "Readings and scans, in the order in which they come"},
            "model": {"type": ["object", "string"], "description": "What changes in the plant model, things by their id; or a whole model as text"}}},
        "Refold": {"type": "object", "properties": {
            "twins": {"type": "array", "items": text, "maxItems": 200, "description": "Only these, e.g. machine/cnc-07"},
            "kind": {"enum": ["machine", "location", "job"]}, "from": {"type": "string", "format": "date-time", "description": "Today's model from this time on only"},
            "apply": {"type": "boolean", "description": "Takes the new state over; without it nothing is changed"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 200}, "cursor": text}},
        "Forked": {"type": "object", "required": ["twin", "before", "after", "difference", "events"], "properties": {
            "twin": text, "before_at": text, "after_at": text, "before": {"type": "object"}, "after": {"type": "object"},
            "difference": {"type": "array", "items": {"type": "object", "required": ["path", "before", "after"]}},
            "events": {"type": "object", "properties": {"applied": {"type": "integer"}, "late": {"type": "integer"}, "rejected": {"type": "array"}}}}},
        "Reads": {"type": "object", "properties": {"reader_id": text, "reads": {"type": "array", "items": {"type": ["object", "string"], "properties": {
            "epc": text, "reader_id": text, "antenna": {"type": ["integer", "string"]}, "rssi": {"type": "number"},
            "timestamp": {"type": "string", "format": "date-time"}}}}}},
        "Epcis": {"type": "object", "required": ["type"], "properties": {"type": text, "epcisBody": {"type": "object"}, "eventTime": text}},
    })
}
