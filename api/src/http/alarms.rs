//! Calls about alarms: lists and figures, one alarm and what happened to it, and doing something about it.
//!
//! Promises: what is done about an alarm is done once; a second acknowledgement is answered with 409 and the state that
//! holds. `If-Match` with an alarm's state makes it conditional (412). An alarm's id is `kind:twin:rule`.

use gemba_runtime::{
    clock,
    node::{AlarmQuery, CommandError, PastChange, ReadError},
    plant::Span,
};
use gemba_twins::{
    alarm::{AlarmAction, AlarmRefused, AlarmSaid, AlarmState, AlarmView, Priority},
    id::{Kind, TwinId},
};
use serde_json::{Value as Json, json};
use warp::http::{HeaderValue, Method, StatusCode, header};

use super::{
    problem::{Problem, Reply},
    routes::{self, Call, ok},
    table::{Operation, Route, route},
    twins,
};
use gemba_runtime::keyring::Role;

/// Longest comment, in characters.
const COMMENT_MAX: usize = 1_000;

/// What a call about alarms does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    ListAlarms,
    AlarmFigures,
    GetAlarm,
    AlarmHistory,
    AcknowledgeAlarm,
    ShelveAlarm,
    UnshelveAlarm,
    CommentAlarm,
    TakeAlarmOutOfService,
    PutAlarmIntoService,
    ResetAlarm,
}

const fn read(path: &'static [&'static str], what: What, summary: &'static str) -> Route {
    route(Method::GET, path, Role::Viewer, Operation::Alarms(what), summary)
}

const fn act(path: &'static [&'static str], what: What, summary: &'static str) -> Route {
    route(
        Method::POST,
        path,
        Role::Operator,
        Operation::Alarms(what),
        summary,
    )
}

/// All calls about alarms.
pub(super) static ROUTES: [Route; 11] = [
    read(
        &["v1", "alarms"],
        What::ListAlarms,
        "Alarms by state, priority and twin",
    ),
    read(
        &["v1", "alarms", "figures"],
        What::AlarmFigures,
        "How the alarms stand: active, flood, chattering, standing for more than a day",
    ),
    read(&["v1", "alarms", "{id}"], What::GetAlarm, "One alarm"),
    read(
        &["v1", "alarms", "{id}", "history"],
        What::AlarmHistory,
        "What happened to an alarm, the newest first",
    ),
    act(
        &["v1", "alarms", "{id}", "ack"],
        What::AcknowledgeAlarm,
        "Acknowledge an alarm",
    ),
    act(
        &["v1", "alarms", "{id}", "shelve"],
        What::ShelveAlarm,
        "Put an alarm on the shelf for a time",
    ),
    act(
        &["v1", "alarms", "{id}", "unshelve"],
        What::UnshelveAlarm,
        "Take an alarm back from the shelf",
    ),
    act(
        &["v1", "alarms", "{id}", "comment"],
        What::CommentAlarm,
        "Remark on an alarm",
    ),
    act(
        &["v1", "alarms", "{id}", "out-of-service"],
        What::TakeAlarmOutOfService,
        "Take an alarm out of service",
    ),
    act(
        &["v1", "alarms", "{id}", "in-service"],
        What::PutAlarmIntoService,
        "Put an alarm back into service",
    ),
    act(
        &["v1", "alarms", "{id}", "reset"],
        What::ResetAlarm,
        "Let go a latched alarm",
    ),
];

pub(super) async fn call(call: &Call, what: What) -> Result<Reply, Problem> {
    match what {
        What::ListAlarms => list(call).await,
        What::AlarmFigures => figures(call).await,
        What::GetAlarm => get(call).await,
        What::AlarmHistory => history(call).await,
        _ => say(call, what).await,
    }
}

/// Twin and rule of `machine:cnc-07:spindle_hot`. Ids of twins may hold colons, those of rules do not.
fn address(call: &Call) -> Result<(TwinId, String), Problem> {
    let id = &call.path[2];
    let parts = id
        .split_once(':')
        .and_then(|(kind, rest)| Some((kind, rest.rsplit_once(':')?)));
    let found = parts.and_then(|(kind, (twin, rule))| {
        let kind = Kind::parse(kind).ok()?;
        let twin = TwinId::new(call.principal.tenant.clone(), kind, twin).ok()?;
        Some((twin, rule.to_owned()))
    });
    found.ok_or_else(|| {
        let detail = format!("{id:?} is not an alarm's id (e.g. machine:cnc-07:spindle_hot)");
        Problem::invalid("alarm.id_invalid", detail)
    })
}

fn not_found(id: &str) -> Problem {
    let detail = format!("there is no alarm {id} (see GET /v1/alarms?state=all)");
    Problem::new(StatusCode::NOT_FOUND, "alarm.not_found", detail)
}

fn view(alarm: &AlarmView<'_>) -> Vec<u8> {
    // A view has string keys only, and writing to memory cannot fail.
    serde_json::to_vec(alarm).unwrap_or_default()
}

/// The states that a query asks for; empty takes all but normal.
fn states(text: &str) -> Result<Vec<AlarmState>, Problem> {
    let mut states = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let matching: Vec<AlarmState> = AlarmState::ALL
            .into_iter()
            .filter(|state| match word {
                "all" => true,
                "active" => state.is_active(),
                "unacknowledged" => state.is_unacknowledged(),
                word => state.as_str() == word,
            })
            .collect();
        if matching.is_empty() {
            let known: Vec<&str> = AlarmState::ALL.into_iter().map(AlarmState::as_str).collect();
            let detail = format!(
                "state={word:?} is none of all, active, unacknowledged, {}",
                known.join(", ")
            );
            return Err(Problem::invalid("query.invalid", detail));
        }
        states.extend(matching);
    }
    Ok(states)
}

fn priorities(text: &str) -> Result<Vec<Priority>, Problem> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| {
            Priority::parse(word).ok_or_else(|| {
                let detail = format!("priority={word:?} is none of low, medium, high, urgent");
                Problem::invalid("query.invalid", detail)
            })
        })
        .collect()
}

async fn list(call: &Call) -> Result<Reply, Problem> {
    let tenant = &call.principal.tenant;
    let twin = |name: &str, text: &str| {
        TwinId::parse(tenant.clone(), text)
            .map_err(|error| Problem::invalid("query.invalid", format!("{name}={text:?}: {error}")))
    };
    let kind = call.query("kind").map(Kind::parse).transpose();
    let query = AlarmQuery {
        tenant: tenant.clone(),
        kind: kind.map_err(|error| Problem::invalid("twin.kind_invalid", error.to_string()))?,
        twin: call.query("twin").map(|text| twin("twin", text)).transpose()?,
        states: states(call.query("state").unwrap_or_default())?,
        priorities: priorities(call.query("priority").unwrap_or_default())?,
        limit: call.number("limit", 100, 1_000)?,
        after: call
            .query("cursor")
            .map(|text| twin("cursor", text))
            .transpose()?,
    };
    let page = call.app.node.alarms(&query, view).await?;
    let mut body = b"{\"items\":[".to_vec();
    body.extend_from_slice(&page.items.join(&b','));
    let cursor = page.next.map(|twin| twin.to_string());
    body.extend_from_slice(format!("],\"cursor\":{}}}", json!(cursor)).as_bytes());
    Ok(routes::json(StatusCode::OK, body))
}

async fn figures(call: &Call) -> Result<Reply, Problem> {
    let figures = call
        .app
        .node
        .alarm_figures(&call.principal.tenant, clock::now())
        .await?;
    ok(&json!({
        "active": figures.active,
        "unacknowledged": figures.unacknowledged,
        "shelved": figures.shelved,
        "per_10_min": figures.per_10_min,
        "flood": figures.flood,
        "chattering": figures.chattering,
        "stale": figures.stale,
    }))
}

async fn get(call: &Call) -> Result<Reply, Problem> {
    let (twin, rule) = address(call)?;
    call.app.node.recovered(&twin).await?;
    let found = call.app.node.twins().with(&twin, |twin| {
        twin.alarm(&rule)
            .map(|alarm| (format!("\"{}\"", alarm.state().as_str()), view(&alarm)))
    })?;
    let (tag, body) = found.flatten().ok_or_else(|| not_found(&call.path[2]))?;
    let mut reply = routes::json(StatusCode::OK, body);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        reply.headers_mut().insert(header::ETAG, tag);
    }
    Ok(reply)
}

async fn history(call: &Call) -> Result<Reply, Problem> {
    let (twin, rule) = address(call)?;
    let limit = call.number("limit", 100, 1_000)?;
    let from = twins::time(call, "from")?;
    call.app.node.recovered(&twin).await?;
    let known = call.app.node.twins().with(&twin, |twin| {
        let alarm = twin.alarm(&rule)?;
        let past = alarm.past().map(|(at, what, by, comment)| PastChange {
            at,
            what,
            by: by.map(Into::into),
            comment: comment.map(Into::into),
        });
        Some(past.collect::<Vec<_>>())
    })?;
    let mut past = known.flatten().ok_or_else(|| not_found(&call.path[2]))?;
    if let Some(from) = from {
        past = match call.app.node.alarm_history(&twin, &rule, from, limit).await {
            // What the journal has forgotten, the twin still knows in part.
            Err(ReadError::Trimmed { .. }) => past,
            past => past?,
        };
        past.retain(|change| change.at >= from);
    }
    past.truncate(limit);
    let items: Vec<Json> = past
        .iter()
        .map(|change| json!({"at": change.at, "what": change.what, "by": change.by, "comment": change.comment}))
        .collect();
    ok(&json!({"items": items, "cursor": null}))
}

/// The comment and the time on the shelf that a body names.
fn body(call: &Call) -> Result<(Option<Box<str>>, Option<Span>), Problem> {
    if call.body.iter().all(u8::is_ascii_whitespace) {
        return Ok((None, None));
    }
    let invalid = |detail: String| Problem::invalid("alarm.body_invalid", detail);
    let example = "{\"comment\":\"…\"}";
    let body: Json = serde_json::from_slice(&call.body).map_err(|error| {
        Problem::invalid(
            "json.malformed",
            format!("the body is not JSON: {error} (send {example})"),
        )
    })?;
    let Json::Object(fields) = body else {
        return Err(invalid(format!("the body is not a JSON object (send {example})")));
    };
    let (mut comment, mut time) = (None, None);
    for (name, value) in &fields {
        match (name.as_str(), value) {
            ("comment", Json::Null) => {}
            ("comment", Json::String(text)) if text.chars().count() <= COMMENT_MAX => {
                comment = Some(text.trim()).filter(|text| !text.is_empty()).map(Box::from);
            }
            ("comment", _) => {
                return Err(invalid(format!(
                    "comment is not text of at most {COMMENT_MAX} characters"
                )));
            }
            ("for", Json::String(text)) => {
                let span = text
                    .parse::<Span>()
                    .map_err(|error| invalid(format!("for: {error}")))?;
                time = Some(span);
            }
            (other, _) => {
                return Err(invalid(format!(
                    "{other:?} is not a field of the body (comment, and for of shelve)"
                )));
            }
        }
    }
    Ok((comment, time))
}

async fn say(call: &Call, what: What) -> Result<Reply, Problem> {
    let (twin, rule) = address(call)?;
    let (comment, time) = body(call)?;
    call.app.node.keeps(&twin)?;
    if time.is_some() && what != What::ShelveAlarm {
        return Err(Problem::invalid(
            "alarm.body_invalid",
            "only shelve takes \"for\"",
        ));
    }
    let action = match what {
        What::ShelveAlarm => {
            let time = time.ok_or_else(|| {
                Problem::invalid(
                    "alarm.body_invalid",
                    "\"for\" is missing (e.g. {\"for\":\"30m\"}; at most 31d)",
                )
            })?;
            AlarmAction::Shelved {
                until: clock::now().plus_ms(time.ms()),
            }
        }
        What::UnshelveAlarm => AlarmAction::Unshelved,
        What::CommentAlarm if comment.is_none() => {
            return Err(Problem::invalid("alarm.body_invalid", "\"comment\" is missing"));
        }
        What::CommentAlarm => AlarmAction::Commented,
        What::TakeAlarmOutOfService => AlarmAction::TakenOut,
        What::PutAlarmIntoService => AlarmAction::PutBack,
        What::ResetAlarm => AlarmAction::Reset,
        _ => AlarmAction::Acknowledged,
    };
    let if_state = match call.header(header::IF_MATCH).map(str::trim) {
        None | Some("*") => None,
        Some(tag) => {
            let word = tag.trim_matches('"');
            let state = AlarmState::ALL.into_iter().find(|state| state.as_str() == word);
            Some(state.ok_or_else(|| {
                Problem::invalid(
                    "query.invalid",
                    "If-Match is not a state, e.g. \"unacknowledged_active\"",
                )
            })?)
        }
    };
    let said = AlarmSaid {
        rule: rule.into(),
        action,
        by: call.principal.name.as_ref().into(),
        comment,
    };
    let said = call.app.node.say_of_alarm(&twin, said, if_state).await;
    said.map_err(|error| match error {
        CommandError::NotFound | CommandError::Alarm(AlarmRefused::Unknown) => not_found(&call.path[2]),
        other => other.into(),
    })?;
    get(call).await
}
