//! Snowpipe Streaming over its REST API, high-performance architecture: what is asked, and what an answer means.
//!
//! Source: docs.snowflake.com, "Snowpipe Streaming REST API endpoints". Promises: each failure says whether the same
//! request may be sent again, whether its effect is unknown, or whether somebody else has the channel; tokens are
//! renewed before they end and when they are refused. Knows nothing of the journal.

use std::{
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use ureq::Agent;

use super::{breaker::Breaker, key, settings::SnowflakeSettings};
use crate::{clock, outbound};

/// What a path's part and a query's value keep as they are.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// A scoped token is asked for again after this time: before the token it was made from ends.
const SESSION: Duration = Duration::from_secs(50 * 60);
const FORM: &str = "application/x-www-form-urlencoded";
/// Most of an answer that is read.
const ANSWER_MAX: u64 = 4 << 20;

/// Why a request did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Too much at once: the same request may be sent again later.
    Busy(String),
    /// It is not known whether it was done: only what the server says it has committed counts.
    Unknown(String),
    /// Another writer has opened the channel.
    Stale(String),
    /// The server wants the channel opened again.
    Reopen(String),
    /// The channel has rows that are not committed yet.
    Uncommitted,
    /// It will not be done until somebody changes something.
    Refused(String),
    /// Nobody was asked, since the server does not answer; again after this time.
    Closed(Duration),
}

/// What the server says of a channel.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct ChannelStatus {
    #[serde(default)]
    pub(super) channel_status_code: Option<String>,
    #[serde(default)]
    last_committed_offset_token: Option<String>,
    // The reference calls it by one name at the opening and by another in the bulk status.
    #[serde(default)]
    rows_error_count: Option<u64>,
    #[serde(default)]
    rows_errors: Option<u64>,
    #[serde(default)]
    last_error_offset_upper_bound: Option<String>,
    #[serde(default)]
    pub(super) last_error_message: Option<String>,
}

impl ChannelStatus {
    /// The seq up to which all is committed; 0 for nothing, an error for a token that is none of ours.
    pub(super) fn committed(&self) -> Result<u64, Fault> {
        match self.last_committed_offset_token.as_deref() {
            None | Some("") => Ok(0),
            Some(text) => text.parse().map_err(|_| {
                Fault::Refused(format!(
                    "the channel's offset {text:?} is none of gemba's (is its name used by somebody else?)"
                ))
            }),
        }
    }

    /// Rows that were refused since the channel was made.
    pub(super) fn errors(&self) -> u64 {
        self.rows_error_count.or(self.rows_errors).unwrap_or_default()
    }

    /// The seq at or before which the newest error is.
    pub(super) fn error_bound(&self) -> Option<u64> {
        self.last_error_offset_upper_bound.as_deref()?.parse().ok()
    }
}

/// A channel that was opened.
#[derive(Debug, Deserialize)]
pub(super) struct Opened {
    pub(super) next_continuation_token: String,
    pub(super) channel_status: ChannelStatus,
}

#[derive(Clone)]
struct Session {
    /// Where rows go, without a path.
    base: String,
    token: String,
    since: Instant,
}

/// An answer that is not a fault by its status.
struct Answer {
    status: u16,
    text: String,
}

/// The client of one account.
pub(super) struct Client {
    settings: Arc<SnowflakeSettings>,
    agent: Agent,
    breaker: Breaker,
    session: Mutex<Option<Session>>,
}

impl Client {
    pub(super) fn new(settings: Arc<SnowflakeSettings>) -> Result<Self, String> {
        let proxy = settings.proxy.as_ref().map(|proxy| proxy.reveal());
        Ok(Self {
            agent: outbound::agent(settings.ca.as_deref(), proxy, settings.timeout)?,
            breaker: Breaker::new(settings.retry_after),
            settings,
            session: Mutex::default(),
        })
    }

    /// Opens a channel; `careful` leaves it alone where rows are not committed yet.
    pub(super) fn open(&self, pipe: &str, channel: &str, careful: bool) -> Result<Opened, Fault> {
        let path = format!("{}/channels/{}", self.pipe_path("", pipe), encoded(channel));
        let body = json!({"fail_on_uncommitted_rows": careful}).to_string();
        let answer = self.call("PUT", &path, "application/json", body.as_bytes(), false)?;
        parsed(&answer)
    }

    /// Sends rows, the first and last of which have these seqs; answers the token of the next request.
    pub(super) fn append(
        &self,
        pipe: &str,
        channel: &str,
        token: &str,
        seqs: (u64, u64),
        gzip: &[u8],
    ) -> Result<String, Fault> {
        #[derive(Deserialize)]
        struct Appended {
            next_continuation_token: String,
        }
        let path = format!(
            "{}/channels/{}/rows?continuationToken={}&startOffsetToken={}&endOffsetToken={}",
            self.pipe_path("/data", pipe),
            encoded(channel),
            encoded(token),
            offset_token(seqs.0),
            offset_token(seqs.1)
        );
        let answer = self.call("POST", &path, "application/x-ndjson", gzip, true)?;
        parsed::<Appended>(&answer).map(|appended| appended.next_continuation_token)
    }

    /// What the server says of a channel; `None` where it knows none of that name.
    pub(super) fn status(&self, pipe: &str, channel: &str) -> Result<Option<ChannelStatus>, Fault> {
        #[derive(Deserialize)]
        struct Statuses {
            #[serde(default)]
            channel_statuses: serde_json::Map<String, Json>,
        }
        let path = format!("{}:bulk-channel-status", self.pipe_path("", pipe));
        let body = json!({"channel_names": [channel]}).to_string();
        let answer = self.call("POST", &path, "application/json", body.as_bytes(), false)?;
        let statuses: Statuses = parsed(&answer)?;
        let found = statuses
            .channel_statuses
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(channel));
        found
            .map(|(_, status)| serde_json::from_value(status).map_err(|error| unreadable(&error)))
            .transpose()
    }

    fn pipe_path(&self, data: &str, pipe: &str) -> String {
        format!(
            "/v2/streaming{data}/databases/{}/schemas/{}/pipes/{}",
            encoded(&self.settings.database),
            encoded(&self.settings.schema),
            encoded(pipe)
        )
    }

    /// Whether nobody is asked because the server does not answer.
    pub(super) fn is_closed(&self) -> bool {
        self.breaker.is_open()
    }

    /// An error while the server is known not to answer: nothing need be made ready for it.
    pub(super) fn may_ask(&self) -> Result<(), Fault> {
        self.breaker.would_allow(clock::instant()).map_err(Fault::Closed)
    }

    /// A request, unless the server is known not to answer.
    fn call(&self, method: &str, path: &str, kind: &str, body: &[u8], gzip: bool) -> Result<Answer, Fault> {
        self.breaker.allows(clock::instant()).map_err(Fault::Closed)?;
        let answer = self.ask(method, path, kind, body, gzip);
        match &answer {
            Err(Fault::Unknown(_)) => self.breaker.failed(clock::instant()),
            _ => self.breaker.succeeded(),
        }
        answer
    }

    /// A request with a scoped token; a token that was refused is renewed once.
    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8], gzip: bool) -> Result<Answer, Fault> {
        let mut session = self.session()?;
        let mut renewed = false;
        loop {
            let url = format!("{}{path}", session.base);
            let answer = self.send(method, &url, &session.token, kind, body, gzip)?;
            if answer.status != 401 {
                return judged(answer);
            }
            if renewed {
                // A token that is fresh and refused: whoever is asked for the next one says why.
                return Err(Fault::Busy(code_of(&answer)));
            }
            renewed = true;
            self.forget(&session.token);
            session = self.session()?;
        }
    }

    fn send(
        &self,
        method: &str,
        url: &str,
        token: &str,
        kind: &str,
        body: &[u8],
        gzip: bool,
    ) -> Result<Answer, Fault> {
        let unknown = |error: ureq::Error| Fault::Unknown(error.to_string());
        let authorization = format!("Bearer {token}");
        let key_pair = "KEYPAIR_JWT";
        let type_of_token = "x-snowflake-authorization-token-type";
        let sent = match method {
            "GET" => self
                .agent
                .get(url)
                .header("authorization", authorization)
                .header(type_of_token, key_pair)
                .call(),
            _ => {
                let request = match method {
                    "PUT" => self.agent.put(url),
                    _ => self.agent.post(url),
                };
                let mut request = request
                    .header("authorization", authorization)
                    .header("content-type", kind);
                if kind == FORM {
                    // Only here the key pair speaks, everywhere else the token that is asked for.
                    request = request.header(type_of_token, key_pair);
                }
                if gzip {
                    request = request.header("content-encoding", "gzip");
                }
                request.send(body)
            }
        };
        let mut answer = sent.map_err(unknown)?;
        let status = answer.status().as_u16();
        let read = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string();
        Ok(Answer {
            status,
            text: read.map_err(unknown)?,
        })
    }

    /// The session, made where there is none: the ingest host and a token that is good there.
    fn session(&self) -> Result<Session, Fault> {
        let mut kept = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = kept.as_ref().filter(|session| session.since.elapsed() < SESSION) {
            return Ok(session.clone());
        }
        let url = &self.settings.url;
        let token = key::token(&self.settings, clock::now()).map_err(Fault::Refused)?;
        let refused = |what: &str, answer: &Answer| {
            Fault::Refused(format!(
                "Snowflake refuses {what} ({}): is the user's RSA_PUBLIC_KEY that of the key file?",
                code_of(answer)
            ))
        };
        let answer = self.send(
            "GET",
            &format!("{url}/v2/streaming/hostname"),
            &token,
            "",
            b"",
            false,
        )?;
        if answer.status == 401 || answer.status == 403 {
            return Err(refused("the key pair", &answer));
        }
        // The reference says JSON, the tutorial and the official clients take plain text.
        let answer = judged(answer)?;
        let host = match serde_json::from_str::<Json>(&answer.text) {
            Ok(json) => json["hostname"]
                .as_str()
                .or(json.as_str())
                .unwrap_or_default()
                .to_owned(),
            Err(_) => answer.text.trim().to_owned(),
        };
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(Fault::Refused(format!("{host:?} is no ingest host")));
        }
        // Account names may hold an underscore, hosts do not.
        let host = host.replace('_', "-");
        let form = format!(
            "grant_type={}&scope={}",
            encoded("urn:ietf:params:oauth:grant-type:jwt-bearer"),
            encoded(&host)
        );
        let answer = self.send(
            "POST",
            &format!("{url}/oauth/token"),
            &token,
            FORM,
            form.as_bytes(),
            false,
        )?;
        if answer.status == 401 || answer.status == 403 {
            return Err(refused("a token for its ingest host", &answer));
        }
        let answer = judged(answer)?;
        let scoped = match serde_json::from_str::<Json>(&answer.text) {
            Ok(json) => ["token", "access_token"]
                .iter()
                .find_map(|name| json[*name].as_str())
                .or(json.as_str())
                .unwrap_or_default()
                .to_owned(),
            Err(_) => answer.text.trim().to_owned(),
        };
        if scoped.is_empty() {
            return Err(Fault::Unknown("the answer holds no token".into()));
        }
        // A port of one's own is the ingest host's too, as the official clients have it.
        let (scheme, account) = url.split_once("://").unwrap_or(("https", ""));
        let port = account.rsplit_once(':').filter(|_| !host.contains(':'));
        let port = port.map_or_else(String::new, |(_, port)| format!(":{port}"));
        let session = Session {
            base: format!("{scheme}://{host}{port}"),
            token: scoped,
            since: clock::instant(),
        };
        *kept = Some(session.clone());
        Ok(session)
    }

    /// Gives a token up, unless another has already taken its place.
    fn forget(&self, token: &str) {
        let mut kept = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_some_and(|session| session.token == token) {
            *kept = None;
        }
    }
}

/// Rows as they travel.
pub(super) fn gzip(rows: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(rows.len() / 6), Compression::fast());
    // A vector takes everything.
    let _ = encoder.write_all(rows);
    encoder.finish().unwrap_or_default()
}

/// A seq as an offset token: of one length, so that tokens sort as texts too.
pub(super) fn offset_token(seq: u64) -> String {
    format!("{seq:020}")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

fn unreadable(error: &serde_json::Error) -> Fault {
    Fault::Unknown(format!("the answer cannot be read: {error}"))
}

fn parsed<T: for<'de> Deserialize<'de>>(answer: &Answer) -> Result<T, Fault> {
    serde_json::from_str(&answer.text).map_err(|error| unreadable(&error))
}

/// The code of an error, or its status where there is none.
fn code_of(answer: &Answer) -> String {
    let json: Json = serde_json::from_str(&answer.text).unwrap_or_default();
    json["code"]
        .as_str()
        .map_or_else(|| format!("HTTP {}", answer.status), str::to_owned)
}

/// What an answer's status and code mean.
fn judged(answer: Answer) -> Result<Answer, Fault> {
    let code = code_of(&answer);
    match answer.status {
        200..300 => Ok(answer),
        429 | 503 => Err(Fault::Busy(code)),
        408 | 500.. => Err(Fault::Unknown(code)),
        _ if code == "ERR_CHANNEL_HAS_UNCOMMITTED_DATA" => Err(Fault::Uncommitted),
        _ if code == "STALE_CONTINUATION_TOKEN_SEQUENCER" => Err(Fault::Stale(code)),
        _ if code.starts_with("ERR_CHANNEL_") || code.starts_with("STALE_") => Err(Fault::Reopen(code)),
        _ => {
            let json: Json = serde_json::from_str(&answer.text).unwrap_or_default();
            let message = json["message"].as_str().unwrap_or_default();
            Err(Fault::Refused(format!("{code} {message}").trim_end().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(status: u16, text: &str) -> Fault {
        let answer = Answer {
            status,
            text: text.to_owned(),
        };
        judged(answer).err().expect("a fault")
    }

    #[test]
    fn a_fault_says_what_may_be_done_next() {
        let code = |code: &str| format!("{{\"code\":\"{code}\",\"message\":\"m\"}}");
        for (status, text, expected) in [
            (503, String::new(), Fault::Busy("HTTP 503".into())),
            (429, code("TOO_MANY"), Fault::Busy("TOO_MANY".into())),
            (500, String::new(), Fault::Unknown("HTTP 500".into())),
            (504, "<html>".into(), Fault::Unknown("HTTP 504".into())),
            (409, code("ERR_CHANNEL_HAS_UNCOMMITTED_DATA"), Fault::Uncommitted),
            (
                400,
                code("STALE_CONTINUATION_TOKEN_SEQUENCER"),
                Fault::Stale("STALE_CONTINUATION_TOKEN_SEQUENCER".into()),
            ),
            (
                400,
                code("ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER"),
                Fault::Reopen("ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER".into()),
            ),
            (
                400,
                code("STALE_PIPE_CACHE"),
                Fault::Reopen("STALE_PIPE_CACHE".into()),
            ),
            (
                404,
                code("PIPE_NOT_FOUND"),
                Fault::Refused("PIPE_NOT_FOUND m".into()),
            ),
        ] {
            assert_eq!(fault(status, &text), expected, "{status} {text}");
        }
    }

    #[test]
    fn both_names_of_the_count_of_errors_are_read_and_a_foreign_offset_is_refused() {
        let of = |text: &str| serde_json::from_str::<ChannelStatus>(text).expect("a status");
        assert_eq!(of(r#"{"rows_errors":2}"#).errors(), 2);
        assert_eq!(of(r#"{"rows_errors":2,"rows_error_count":2}"#).errors(), 2);
        assert_eq!(of(r#"{"rows_error_count":3}"#).errors(), 3);
        assert_eq!(of("{}").committed(), Ok(0));
        assert_eq!(of(r#"{"last_committed_offset_token":null}"#).committed(), Ok(0));
        let token = format!(r#"{{"last_committed_offset_token":"{}"}}"#, offset_token(42));
        assert_eq!(of(&token).committed(), Ok(42));
        assert!(
            of(r#"{"last_committed_offset_token":"file-7"}"#)
                .committed()
                .is_err()
        );
    }
}
