//! What the warehouse answers, mended to what the protocol's client reads.
//!
//! The client (`snowflake-api`) takes some answers of the real service for broken: it never learns why a statement was
//! refused, and takes a session that ended for a reply that cannot be read. Promises: a code and a message always come
//! through; what a reply lacks is never made up, but for an emulator (`emulator = true`), which leaves out what a
//! service would say of itself.

use serde_json::{Map, Value as Json, json};

/// The statement runs on: its result is asked for under `getResultUrl`.
const IN_PROGRESS: [&str; 2] = ["333333", "333334"];
/// The session is over: its token, or the whole of it.
const SESSION_OVER: [&str; 5] = ["390103", "390104", "390110", "390111", "390112"];
/// Types of columns that the client knows.
const TYPES: [&str; 13] = [
    "fixed",
    "real",
    "text",
    "date",
    "variant",
    "timestamp_ltz",
    "timestamp_ntz",
    "timestamp_tz",
    "object",
    "binary",
    "time",
    "boolean",
    "array",
];

/// Where to ask again, when a statement is still running.
pub(super) fn still_running(reply: &Json) -> Option<&str> {
    let code = reply["code"].as_str()?;
    IN_PROGRESS
        .contains(&code)
        .then(|| reply["data"]["getResultUrl"].as_str())?
}

/// Whether a code says that the session is over.
pub(super) fn is_session_over(code: &str) -> bool {
    SESSION_OVER.contains(&code)
}

/// A reply to a login, as the client reads it.
pub(super) fn mended_login(mut reply: Json, emulator: bool) -> Json {
    if reply["success"] == json!(true) {
        if emulator {
            let data = &mut reply["data"];
            let token = data["token"].clone();
            fill(data, "sessionId", json!(1));
            fill(data, "masterToken", token);
            fill(data, "serverVersion", json!("emulator"));
            fill(data, "masterValidityInSeconds", json!(14_400));
            fill(data, "validityInSeconds", json!(3_600));
            fill(&mut data["sessionInfo"], "roleName", json!(""));
        }
        return coded(reply);
    }
    // Without data it would be taken for the answer to a session's end.
    let code = code_of(&reply);
    reply["data"] = json!({"authnMethod": null, "errorCode": code});
    coded(reply)
}

/// A reply to a statement, as the client reads it.
pub(super) fn mended_query(mut reply: Json, emulator: bool) -> Json {
    if reply["success"] != json!(true) {
        let code = code_of(&reply);
        let data = &mut reply["data"];
        if !data.is_object() {
            *data = Json::Object(Map::new());
        }
        data["errorCode"] = json!(code);
        fill(data, "age", json!(0));
        fill(data, "internalError", json!(false));
        fill(data, "queryId", json!(""));
        fill(data, "sqlState", json!(""));
        return coded(reply);
    }
    let data = &mut reply["data"];
    if let Some(columns) = data["rowtype"].as_array_mut() {
        for column in columns {
            // A type that is newer than the client is a text to it.
            if !column["type"].as_str().is_some_and(|of| TYPES.contains(&of)) {
                column["type"] = json!("text");
            }
        }
    }
    if let Some(data) = data.as_object_mut() {
        for name in ["chunks", "chunkHeaders"] {
            if data.get(name).is_some_and(Json::is_null) {
                data.remove(name);
            }
        }
    }
    if emulator {
        let total = data["total"].clone();
        fill(data, "returned", total);
        fill(data, "finalRoleName", json!(""));
        fill(data, "version", json!(1));
        fill(data, "statementTypeId", json!(0));
        fill(data, "parameters", json!([]));
    }
    coded(reply)
}

/// The code of a reply, wherever it stands.
fn code_of(reply: &Json) -> String {
    let text = |value: &Json| match value {
        Json::String(text) if !text.is_empty() => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    };
    text(&reply["data"]["errorCode"])
        .or_else(|| text(&reply["code"]))
        .unwrap_or_else(|| "000000".into())
}

/// The client reads a code as a text.
fn coded(mut reply: Json) -> Json {
    if let Json::Number(number) = &reply["code"] {
        reply["code"] = json!(number.to_string());
    }
    reply
}

fn fill(into: &mut Json, name: &str, value: Json) {
    if into[name].is_null() {
        into[name] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_keeps_its_reason() {
        let reply =
            json!({"data": null, "code": "390144", "message": "JWT token is invalid.", "success": false});
        let mended = mended_login(reply, false);
        assert_eq!(mended["data"]["errorCode"], "390144");
        assert_eq!(mended["message"], "JWT token is invalid.");
    }

    #[test]
    fn a_session_that_is_over_is_an_error_with_its_code() {
        let reply =
            json!({"data": null, "code": "390112", "message": "Your session has expired.", "success": false});
        let mended = mended_query(reply, false);
        assert_eq!(mended["data"]["errorCode"], "390112");
        assert!(is_session_over("390112") && !is_session_over("002003"));
    }

    #[test]
    fn a_statement_that_runs_on_says_where_to_ask() {
        let reply = json!({"code": "333334", "data": {"getResultUrl": "/queries/1/result"}, "success": true});
        assert_eq!(still_running(&reply), Some("/queries/1/result"));
        assert_eq!(
            still_running(&json!({"code": null, "data": {"getResultUrl": "/x"}})),
            None
        );
    }

    #[test]
    fn what_is_lacking_is_made_up_for_an_emulator_only() {
        let reply = || json!({"success": true, "data": {"rowtype": [{"type": "vector"}, {"type": "fixed"}], "total": 3, "chunkHeaders": null}});
        let mended = mended_query(reply(), false);
        assert!(mended["data"]["returned"].is_null());
        assert!(mended["data"].get("chunkHeaders").is_none());
        assert_eq!(
            mended["data"]["rowtype"],
            json!([{"type": "text"}, {"type": "fixed"}])
        );
        assert_eq!(mended_query(reply(), true)["data"]["returned"], 3);
        let login = json!({"success": true, "data": {"token": "t", "sessionInfo": {}}});
        assert!(mended_login(login.clone(), false)["data"]["masterToken"].is_null());
        assert_eq!(mended_login(login, true)["data"]["masterToken"], "t");
    }
}
