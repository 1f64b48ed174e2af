//! A strict fake of Snowpipe Streaming (high-performance architecture, REST), from the documented protocol.
//!
//! Promises: continuation tokens are checked for session and place; an append is committed later, in order, and only
//! then is its offset shown; opening a channel ends the session before and discards what it had in flight, unless it is
//! asked to refuse; rows are held against the tables of `deploy/snowflake`. Faults are drawn from a seed. What a
//! client of the real service must not do is written down as a violation. A broken service (one that lies) is there
//! for showing that tests see it.

#![expect(dead_code, reason = "each test binary uses its own part")]

mod channel;
mod http;
pub(crate) mod plant;
mod tables;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

pub(crate) use self::tables::Tables;
use self::{
    channel::Channel,
    http::{Reply, Request},
};

/// What goes wrong, each with its probability.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Done, but the answer is lost.
    pub(crate) lost_answer: f64,
    /// 503, not done.
    pub(crate) busy: f64,
    /// 500 although it was done.
    pub(crate) error_after: f64,
    /// The connection ends before anything is done.
    pub(crate) dropped: f64,
    /// The scoped token is no longer good.
    pub(crate) unauthorized: f64,
    /// The channel has to be opened again; what it had in flight is gone.
    pub(crate) reopen: f64,
    /// Longest time until an append is committed.
    pub(crate) commit_ms: u64,
}

/// How a broken service lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Lie {
    #[default]
    None,
    /// Says committed and has dropped a row.
    DropsRows,
    /// Has the rows and says of the last append that it is not committed when the channel is opened.
    ForgetsOffset,
}

#[derive(Default)]
struct State {
    tables: Tables,
    /// By pipe and channel, in capitals.
    channels: BTreeMap<(String, String), Channel>,
    faults: Faults,
    lie: Lie,
    down: bool,
    seed: u64,
    /// The scoped tokens that are good.
    tokens: u64,
    violations: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
    /// The key pair that is registered, by its fingerprint.
    fingerprint: String,
}

impl State {
    /// Whether something of this probability happens.
    fn happens(&mut self, probability: f64) -> bool {
        // xorshift64*: repeatable, and good enough for faults.
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        let drawn = self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        (drawn as f64 / (1_u64 << 53) as f64) < probability
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Commits what is due.
    fn settle(&mut self) {
        let now = now();
        for channel in self.channels.values_mut() {
            channel.settle(now, &mut self.tables, self.lie);
        }
    }
}

/// The fake, listening.
pub(crate) struct Snowpipe {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl Snowpipe {
    /// Listens on a port of its own; knows the key pair of `support/keys`.
    pub(crate) fn start(seed: u64) -> Self {
        Self::listen(seed, None)
    }

    /// As [`Self::start`], over TLS, for clients that speak nothing else.
    pub(crate) fn start_tls(seed: u64, tls: rustls::ServerConfig) -> Self {
        Self::listen(seed, Some(Arc::new(tls)))
    }

    fn listen(seed: u64, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let state = State {
            tables: Tables::of_deploy(),
            seed: seed.max(1),
            tokens: 1,
            fingerprint: include_str!("../keys/fingerprint.txt").trim().to_owned(),
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (shared, tls) = (shared.clone(), tls.clone());
                std::thread::spawn(move || {
                    let answer = |request: &Request| answer(&shared, request);
                    match tls.map(rustls::ServerConnection::new) {
                        Some(Ok(tls)) => http::serve(rustls::StreamOwned::new(tls, stream), &answer),
                        _ => http::serve(stream, &answer),
                    }
                });
            }
        });
        Self { port, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub(crate) fn set_lie(&self, lie: Lie) {
        self.state().lie = lie;
    }

    /// Answers nobody, or everybody again.
    pub(crate) fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    /// Another key pair is registered; tokens of the one before are good no more.
    pub(crate) fn rotate_key(&self, fingerprint: &str) {
        let mut state = self.state();
        state.fingerprint = fingerprint.trim().to_owned();
        state.tokens += 1;
    }

    /// The rows of a table in the order of their commit.
    pub(crate) fn rows(&self, table: &str) -> Vec<Value> {
        let mut state = self.state();
        state.settle();
        state.tables.rows(table).to_vec()
    }

    /// What a client did that the real service does not take.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// How often something happened: `open`, `append`, `lost_answer`, …
    pub(crate) fn count(&self, what: &str) -> u64 {
        self.state().counts.get(what).copied().unwrap_or_default()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the fake is another machine, with a clock of its own"
)]
fn now() -> Instant {
    Instant::now()
}

/// What becomes of a request; `None` ends the connection without an answer.
fn answer(state: &Mutex<State>, request: &Request) -> Option<Reply> {
    let mut state = state.lock().expect("not poisoned");
    if state.down {
        return None;
    }
    state.settle();
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v2/streaming/hostname") => {
            return Some(match tables::claims(request, &state.fingerprint) {
                // The reference says JSON, the tutorial takes plain text.
                Ok(()) if state.happens(0.5) => Reply::json(200, &json!({"hostname": "127.0.0.1"})),
                Ok(()) => Reply::text(200, "127.0.0.1".into()),
                Err(says) => refuse(&mut state, 401, "JWT_TOKEN_INVALID", &says),
            });
        }
        ("POST", "/oauth/token") => {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            let granted = form.contains("urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer")
                && form.contains("scope=127.0.0.1");
            if !granted {
                state
                    .violations
                    .push(format!("a form without grant and scope: {form}"));
            }
            return Some(match tables::claims(request, &state.fingerprint) {
                Ok(()) => Reply::text(200, scoped(state.tokens)),
                Err(says) => refuse(&mut state, 401, "JWT_TOKEN_INVALID", &says),
            });
        }
        _ => {}
    }
    if request.path.starts_with("/telemetry/") {
        return Some(Reply::json(200, &json!({"data": {}, "success": true})));
    }
    let faults = state.faults.clone();
    let expires = state.happens(faults.unauthorized);
    if expires || request.bearer() != Some(&scoped(state.tokens)) {
        state.tokens += u64::from(expires);
        return Some(refuse(
            &mut state,
            401,
            "TOKEN_EXPIRED",
            "the scoped token is not good",
        ));
    }
    if state.happens(faults.dropped) {
        state.count("dropped");
        return None;
    }
    if state.happens(faults.busy) {
        state.count("busy");
        return Some(Reply::text(503, "busy".into()));
    }
    let done = perform(&mut state, request);
    if state.happens(faults.lost_answer) {
        state.count("lost_answer");
        return None;
    }
    if state.happens(faults.error_after) {
        state.count("error_after");
        return Some(Reply::text(500, "<html>oops</html>".into()));
    }
    Some(done)
}

/// A scoped token. It is opaque to gemba, and official clients read its end.
fn scoped(number: u64) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let head = part(json!({"alg": "HS256", "typ": "JWT"}));
    format!(
        "{head}.{}.c2ln",
        part(json!({"sub": format!("scoped-{number}"), "exp": 4_000_000_000_u64}))
    )
}

fn refuse(state: &mut State, status: u16, code: &'static str, message: &str) -> Reply {
    state.count(code);
    Reply::json(status, &json!({"code": code, "message": message}))
}

/// Does what a request with a good token asks.
fn perform(state: &mut State, request: &Request) -> Reply {
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    match (request.method.as_str(), &parts[..]) {
        (
            "PUT",
            [
                "v2",
                "streaming",
                "databases",
                _,
                "schemas",
                _,
                "pipes",
                pipe,
                "channels",
                channel,
            ],
        ) => open(state, pipe, channel, request),
        (
            "POST",
            [
                "v2",
                "streaming",
                "data",
                "databases",
                _,
                "schemas",
                _,
                "pipes",
                pipe,
                "channels",
                channel,
                "rows",
            ],
        ) => append(state, pipe, channel, request),
        // Not in the reference; the official clients ask for it before anything else.
        ("POST", ["v2", "streaming", "databases", _, "schemas", _, "pipes", pipe])
            if pipe.ends_with(":pipe-info") =>
        {
            let stage = json!({"expiry_time_ms": 4_000_000_000_000_u64, "location_type": "S3", "use_s3_regional_url": false,
                "location": "bucket/path", "region": "us-west-2",
                "creds": {"AWS_KEY_ID": "none", "AWS_SECRET_KEY": "none", "AWS_TOKEN": "none"}});
            let encryption = json!({"pipe_key": "none", "pipe_key_id": "none", "diversifier": "none"});
            Reply::json(
                200,
                &json!({"rowset_stage_location": stage, "durable_stage_location": stage, "encryption_info": encryption}),
            )
        }
        ("POST", ["v2", "streaming", "databases", _, "schemas", _, "pipes", pipe])
            if pipe.ends_with(":bulk-channel-status") =>
        {
            status(state, pipe.trim_end_matches(":bulk-channel-status"), request)
        }
        _ => {
            state
                .violations
                .push(format!("{} {}", request.method, request.path));
            refuse(state, 404, "NOT_FOUND", "no such call")
        }
    }
}

fn key(pipe: &str, channel: &str) -> (String, String) {
    (pipe.to_ascii_uppercase(), channel.to_ascii_uppercase())
}

fn table_of(state: &State, pipe: &str) -> Option<String> {
    let table = pipe.to_ascii_uppercase().strip_suffix("-STREAMING")?.to_owned();
    state.tables.has(&table).then_some(table)
}

fn open(state: &mut State, pipe: &str, channel: &str, request: &Request) -> Reply {
    let Some(table) = table_of(state, pipe) else {
        return refuse(state, 404, "ERR_PIPE_DOES_NOT_EXIST", pipe);
    };
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let careful = body["fail_on_uncommitted_rows"].as_bool().unwrap_or_default();
    let lie = state.lie;
    let opened = state.channels.entry(key(pipe, channel));
    let opened = opened.or_insert_with(|| Channel::new(channel, &table));
    if careful && opened.has_in_flight() {
        return refuse(
            state,
            409,
            "ERR_CHANNEL_HAS_UNCOMMITTED_DATA",
            "rows are in flight",
        );
    }
    if lie == Lie::ForgetsOffset {
        opened.forget_offset();
    }
    let token = opened.open();
    let status = opened.status();
    state.count("open");
    Reply::json(
        200,
        &json!({"next_continuation_token": token, "channel_status": status}),
    )
}

fn append(state: &mut State, pipe: &str, channel: &str, request: &Request) -> Reply {
    let faults = state.faults.clone();
    let due =
        now() + Duration::from_millis(faults.commit_ms / 4 + state.seed % faults.commit_ms.max(1) * 3 / 4);
    let reopen = state.happens(faults.reopen);
    let Some(known) = state.channels.get_mut(&key(pipe, channel)) else {
        return refuse(state, 404, "ERR_CHANNEL_DOES_NOT_EXIST", channel);
    };
    if reopen {
        known.lose_session();
        return refuse(
            state,
            400,
            "ERR_CHANNEL_MUST_BE_REOPENED",
            "the service moved the channel",
        );
    }
    match known.append(request, now(), due, &state.tables) {
        Ok(token) => {
            state.count("append");
            Reply::json(200, &json!({"next_continuation_token": token}))
        }
        Err(channel::Refused {
            status,
            code,
            violation,
        }) => {
            state.violations.extend(violation.clone());
            refuse(state, status, code, violation.as_deref().unwrap_or(code))
        }
    }
}

fn status(state: &mut State, pipe: &str, request: &Request) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let mut statuses = serde_json::Map::new();
    for name in body["channel_names"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        // Names are told apart by case here, unlike at the opening.
        if let Some(channel) = state
            .channels
            .get(&key(pipe, name))
            .filter(|channel| channel.name() == name)
        {
            statuses.insert(name.to_owned(), channel.status());
        }
    }
    state.count("status");
    Reply::json(200, &json!({"channel_statuses": statuses}))
}
