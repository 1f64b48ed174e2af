//! A notice as a CloudEvent.
//!
//! Promises: CloudEvents 1.0 in its JSON form; the id is the notice's, so a repetition is the same event. The type is
//! `gemba.alarm.` and what happened.

use gemba_twins::event::Value;
use serde_json::{Value as Json, json};

use super::notice::Notice;

fn value(notice: &Notice) -> Json {
    match &notice.change.value {
        None => Json::Null,
        Some(Value::Number(number)) => json!(number),
        Some(Value::Text(text)) => json!(text),
        Some(Value::Bool(yes)) => json!(yes),
    }
}

/// The event as JSON.
pub(super) fn cloud_event(notice: &Notice) -> Vec<u8> {
    let change = &notice.change;
    json!({
        "specversion": "1.0",
        "id": notice.id(),
        "source": format!("/v1/twins/{}", notice.twin),
        "type": format!("gemba.alarm.{}", change.what.as_str()),
        "subject": notice.alarm(),
        "time": change.at,
        "datacontenttype": "application/json",
        "tenant": notice.twin.tenant().as_str(),
        "data": {
            "id": notice.alarm(),
            "twin": notice.twin.to_string(),
            "rule": change.rule,
            "what": change.what.as_str(),
            "state": change.state.as_str(),
            "priority": change.priority.as_str(),
            "text": change.text,
            "value": value(notice),
            "by": change.by,
            "comment": change.comment,
        },
    })
    .to_string()
    .into_bytes()
}
