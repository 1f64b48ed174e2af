//! The way of the protocol's client to the warehouse: each of its requests goes through here.
//!
//! The client (`snowflake-api`) knows one host, no time limit, no statement that takes longer than 45 seconds, and one
//! form of key. Promises: requests go to the host of the settings, by the checkpoint's own HTTP client with its
//! certificates, proxy and time limit; a login carries a token signed anew with the key file, which the client never
//! sees; a statement that runs on is asked for at the same host and nowhere else, until its time is over; a session is
//! made once, so that none takes the place of another in the middle of a transaction. What went wrong stays here until
//! it is asked for, since the client knows no more than that something did.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use http::Extensions;
use reqwest::{Request, Response, Url};
use reqwest_middleware::{Error, Middleware, Next};
use serde_json::{Value as Json, json};
use ureq::Agent;

use super::{super::client::Fault, reply};
use crate::{
    checkpoint::{key, settings::SnowflakeSettings},
    clock,
};

/// Most of an answer that is read.
const ANSWER_MAX: u64 = 64 << 20;
/// A statement is waited for by the server for some 45 seconds each time, so few of these are asked.
const POLLS_MAX: u32 = 10_000;

/// What the client is given for its way; the rest of it stays with whoever made it.
pub(super) struct Shim(pub(super) Arc<Way>);

/// The way, and what happened on it.
pub(super) struct Way {
    settings: Arc<SnowflakeSettings>,
    agent: Agent,
    logged_in: AtomicBool,
    /// What a statement is known by in the warehouse's own log.
    tag: String,
    fault: Mutex<Option<Fault>>,
}

impl Way {
    pub(super) fn new(settings: Arc<SnowflakeSettings>, agent: Agent, tag: String) -> Self {
        Self {
            settings,
            agent,
            logged_in: AtomicBool::new(false),
            tag,
            fault: Mutex::default(),
        }
    }

    /// What went wrong with the last request.
    pub(super) fn take_fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn answer(&self, request: &Request) -> Result<Vec<u8>, Fault> {
        let path = request.url().path().trim_start_matches('/').to_owned();
        let authorization = request
            .headers()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        if request.method() == "GET" {
            // A part of a large result, at a place that the server signed for.
            return self.fetch(request.url(), request);
        }
        let written = request
            .body()
            .and_then(|body| body.as_bytes())
            .unwrap_or_default();
        let mut body: Json = serde_json::from_slice(written).unwrap_or_default();
        let is_login = path == "session/v1/login-request";
        if is_login {
            if self.logged_in.swap(true, Ordering::AcqRel) {
                return Err(Fault::Unknown("the session is over".into()));
            }
            self.sign(&mut body)?;
        } else if path == "session/token-request" {
            // Sessions are given up long before.
            return Err(Fault::Unknown("the session's token is over".into()));
        } else if path == "queries/v1/query-request" {
            body["parameters"] = json!({"QUERY_TAG": self.tag});
        }
        let query = request.url().query().unwrap_or_default();
        let url = format!("{}/{path}?{query}", self.settings.url);
        let began = clock::instant();
        let mut reply = self.post(&url, authorization, &body.to_string())?;
        let mut polls = 0;
        while let Some(next) = reply::still_running(&reply) {
            let next = self.same_origin(next)?;
            if began.elapsed() > self.settings.sql_timeout || polls >= POLLS_MAX {
                return Err(Fault::Unknown(format!(
                    "the statement took longer than {} s (snowflake.sql_timeout_s)",
                    self.settings.sql_timeout.as_secs()
                )));
            }
            polls += 1;
            reply = self.get(&next, authorization)?;
        }
        let emulator = self.settings.emulator;
        let mended = match path.as_str() {
            "session/v1/login-request" => reply::mended_login(reply, emulator),
            "queries/v1/query-request" => reply::mended_query(reply, emulator),
            _ => reply,
        };
        Ok(mended.to_string().into_bytes())
    }

    /// Puts a token of the key pair where the client has written a password.
    fn sign(&self, body: &mut Json) -> Result<(), Fault> {
        let token = key::token(&self.settings, clock::now()).map_err(Fault::Refused)?;
        let data = &mut body["data"];
        if let Some(data) = data.as_object_mut() {
            data.remove("PASSWORD");
        }
        data["ACCOUNT_NAME"] = json!(self.settings.account_name());
        data["AUTHENTICATOR"] = json!("SNOWFLAKE_JWT");
        data["TOKEN"] = json!(token);
        let parameters = &mut data["SESSION_PARAMETERS"];
        for (name, value) in [
            ("QUERY_TAG", json!(self.tag)),
            ("TIMEZONE", json!("UTC")),
            ("LOCK_TIMEOUT", json!(60)),
            ("ABORT_DETACHED_QUERY", json!(true)),
        ] {
            parameters[name] = value;
        }
        Ok(())
    }

    /// Where a result is asked for: a path, or an address at the host that was asked first.
    fn same_origin(&self, next: &str) -> Result<String, Fault> {
        let base = Url::parse(&self.settings.url).map_err(|error| Fault::Refused(error.to_string()))?;
        let url = base
            .join(next)
            .map_err(|error| Fault::Unknown(error.to_string()))?;
        if url.origin() == base.origin() {
            Ok(url.to_string())
        } else {
            Err(Fault::Refused(format!(
                "the result lies at another host: {next:?}"
            )))
        }
    }

    fn post(&self, url: &str, authorization: Option<&str>, body: &str) -> Result<Json, Fault> {
        let mut request = self
            .agent
            .post(url)
            .header("content-type", "application/json")
            .header("accept", "application/snowflake");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        parsed(request.send(body))
    }

    fn get(&self, url: &str, authorization: Option<&str>) -> Result<Json, Fault> {
        let mut request = self.agent.get(url).header("accept", "application/snowflake");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        parsed(request.call())
    }

    fn fetch(&self, url: &Url, request: &Request) -> Result<Vec<u8>, Fault> {
        if url.scheme() != "https" {
            return Err(Fault::Refused(format!(
                "a part of a result lies at {url}, which is not https"
            )));
        }
        let mut get = self.agent.get(url.as_str());
        for (name, value) in request.headers() {
            get = get.header(name.as_str(), value.as_bytes());
        }
        let mut answer = get.call().map_err(|error| Fault::Unknown(error.to_string()))?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(Fault::Unknown(format!("a part of a result: HTTP {status}")));
        }
        let read = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_vec();
        read.map_err(|error| Fault::Unknown(error.to_string()))
    }
}

/// An answer's JSON; what none is, and each failure of the service, leaves open what was done.
fn parsed(answer: Result<http::Response<ureq::Body>, ureq::Error>) -> Result<Json, Fault> {
    let mut answer = answer.map_err(|error| Fault::Unknown(error.to_string()))?;
    let status = answer.status().as_u16();
    let text = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string();
    let text = text.map_err(|error| Fault::Unknown(error.to_string()))?;
    match status {
        429 | 503 => return Err(Fault::Busy(format!("HTTP {status}"))),
        408 | 500.. => return Err(Fault::Unknown(format!("HTTP {status} {}", head(&text)))),
        _ => {}
    }
    let json: Json = serde_json::from_str(&text)
        .map_err(|_| Fault::Unknown(format!("HTTP {status}, and no JSON: {}", head(&text))))?;
    if json.get("success").is_none() && status >= 400 {
        return Err(Fault::Refused(format!("HTTP {status} {}", head(&text))));
    }
    Ok(json)
}

/// The beginning of a text, for an error.
fn head(text: &str) -> String {
    let message = serde_json::from_str::<Json>(text).ok();
    let message = message
        .as_ref()
        .and_then(|json| json["message"].as_str())
        .unwrap_or(text);
    message.chars().take(300).collect()
}

/// What the client is told; the rest is asked of the way.
#[derive(Debug, thiserror::Error)]
#[error("the request did not get through")]
struct Stopped;

#[async_trait]
impl Middleware for Shim {
    async fn handle(
        &self,
        request: Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        // It blocks, as the checkpoint's turns do: they run where that is allowed.
        match self.0.answer(&request) {
            Ok(body) => Ok(Response::from(http::Response::new(body))),
            Err(fault) => {
                *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
                Err(Error::Middleware(Stopped.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound;
    use std::time::Duration;

    fn way(url: &str) -> Way {
        let mut settings = SnowflakeSettings::new("acc".into(), "svc".into(), "none.p8".into());
        settings.url = url.into();
        let agent = outbound::agent(None, None, Duration::from_secs(1)).expect("an agent");
        Way::new(Arc::new(settings), agent, "gemba".into())
    }

    #[test]
    fn a_result_is_asked_for_at_the_same_host_only() {
        let way = way("https://acc.snowflakecomputing.com");
        let asked = |next: &str| way.same_origin(next);
        assert_eq!(
            asked("/queries/1/result"),
            Ok("https://acc.snowflakecomputing.com/queries/1/result".into())
        );
        for elsewhere in [
            "//evil.example/x",
            "https://evil.example/x",
            "http://acc.snowflakecomputing.com/x",
        ] {
            assert!(matches!(asked(elsewhere), Err(Fault::Refused(_))), "{elsewhere}");
        }
    }
}
