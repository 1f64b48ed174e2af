//! A stand-in for Snowpipe Streaming in the bench's own process: it takes rows, counts them, and commits them a second
//! later.
//!
//! Promises: offsets of a channel have to grow and continuation tokens to fit, so rows that are lost or sent twice show in
//! its counts. It checks no signature and keeps no row; what the service does beyond that is the tests' strict fake.

use std::{
    collections::{HashMap, VecDeque},
    io::Read,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use flate2::read::GzDecoder;
use gemba_runtime::clock;
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// From an append to its commit; Snowflake says 5 to 10 s until rows can be queried.
pub(super) const COMMIT: Duration = Duration::from_secs(1);

/// What it has taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) rows: u64,
    /// NDJSON, before compression: what is billed.
    pub(super) bytes: u64,
    /// Appends whose offsets did not follow the ones before.
    pub(super) out_of_order: u64,
    pub(super) first_append: Option<Instant>,
    pub(super) last_append: Option<Instant>,
}

#[derive(Default)]
struct Channel {
    session: u64,
    appends: u64,
    flying: VecDeque<(Instant, String, u64, u64)>,
    committed: Option<String>,
}

#[derive(Default)]
struct State {
    down: bool,
    channels: HashMap<String, Channel>,
    counts: Counts,
}

/// The stand-in, listening.
#[derive(Clone)]
pub(super) struct Warehouse {
    pub(super) url: String,
    state: Arc<Mutex<State>>,
}

impl Warehouse {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::<Mutex<State>>::default();
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                // A connection that ends is the client's affair.
                tokio::spawn(async move { drop(serve(stream, &shared).await) });
            }
        });
        Ok(Self { url, state })
    }

    /// Answers nobody, or everybody again.
    pub(super) fn set_down(&self, down: bool) {
        lock(&self.state).down = down;
    }

    /// What is committed by now.
    pub(super) fn counts(&self) -> Counts {
        let mut state = lock(&self.state);
        let State { channels, counts, .. } = &mut *state;
        channels.values_mut().for_each(|channel| channel.settle(counts));
        *counts
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channel {
    fn settle(&mut self, counts: &mut Counts) {
        let now = clock::instant();
        while self.flying.front().is_some_and(|(due, ..)| *due <= now) {
            if let Some((_, end, rows, bytes)) = self.flying.pop_front() {
                self.committed = Some(end);
                counts.rows += rows;
                counts.bytes += bytes;
            }
        }
    }

    fn token(&self) -> String {
        format!("{}-{}", self.session, self.appends)
    }

    fn status(&self) -> Json {
        json!({"last_committed_offset_token": self.committed, "rows_error_count": 0})
    }
}

/// One request after the other, until one is not answered.
async fn serve(mut stream: TcpStream, state: &Mutex<State>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(64 << 10);
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        let whole = end + 4 + length.unwrap_or_default();
        while buffer.len() < whole {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let target = head.split(' ').nth(1).context("no target")?.to_owned();
        let Some((status, body)) = answer(state, &target, &buffer[end + 4..whole]) else {
            return Ok(());
        };
        buffer.drain(..whole);
        let reply = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(reply.as_bytes()).await?;
    }
}

/// What becomes of a request; `None` ends the connection.
fn answer(state: &Mutex<State>, target: &str, body: &[u8]) -> Option<(u16, String)> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if lock(state).down {
        return None;
    }
    if path == "/v2/streaming/hostname" {
        return Some((200, "127.0.0.1".into()));
    }
    if path == "/oauth/token" {
        return Some((200, "token".into()));
    }
    // Names differ by their pipe, too.
    let pipe = path.split("/pipes/").nth(1)?.split(['/', ':']).next()?;
    if path.ends_with(":bulk-channel-status") {
        let asked: Json = serde_json::from_slice(body).ok()?;
        let mut state = lock(state);
        let State { channels, counts, .. } = &mut *state;
        let mut statuses = serde_json::Map::new();
        for name in asked["channel_names"].as_array()?.iter().filter_map(Json::as_str) {
            if let Some(channel) = channels.get_mut(&format!("{pipe}/{name}")) {
                channel.settle(counts);
                statuses.insert(name.to_owned(), channel.status());
            }
        }
        return Some((200, json!({"channel_statuses": statuses}).to_string()));
    }
    let name = path.split("/channels/").nth(1)?.split('/').next()?;
    let key = format!("{pipe}/{name}");
    if !path.ends_with("/rows") {
        let mut state = lock(state);
        let State { channels, counts, .. } = &mut *state;
        let channel = channels.entry(key).or_default();
        channel.settle(counts);
        channel.session += 1;
        channel.appends = 0;
        channel.flying.clear();
        let opened = json!({"next_continuation_token": channel.token(), "channel_status": channel.status()});
        return Some((200, opened.to_string()));
    }
    let (rows, bytes) = unpacked(body)?;
    let of = |wanted: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(name, value)| (name == wanted).then(|| value.to_owned()))
    };
    let (token, start, end) = (
        of("continuationToken")?,
        of("startOffsetToken")?,
        of("endOffsetToken")?,
    );
    let mut state = lock(state);
    let State { channels, counts, .. } = &mut *state;
    let channel = channels.get_mut(&key)?;
    if token != channel.token() {
        let refused = json!({"code": "STALE_CONTINUATION_TOKEN_SEQUENCER", "message": token});
        return Some((400, refused.to_string()));
    }
    let newest = channel
        .flying
        .back()
        .map(|(_, end, ..)| end)
        .or(channel.committed.as_ref());
    counts.out_of_order += u64::from(newest.is_some_and(|newest| start <= *newest));
    let now = clock::instant();
    counts.first_append.get_or_insert(now);
    counts.last_append = Some(now);
    channel.appends += 1;
    channel.flying.push_back((now + COMMIT, end, rows, bytes));
    Some((
        200,
        json!({"next_continuation_token": channel.token()}).to_string(),
    ))
}

/// Lines and bytes of a compressed body.
fn unpacked(body: &[u8]) -> Option<(u64, u64)> {
    let (mut reader, mut piece) = (GzDecoder::new(body), vec![0; 64 << 10]);
    let (mut rows, mut bytes) = (0, 0);
    loop {
        let read = reader.read(&mut piece).ok()?;
        if read == 0 {
            return Some((rows, bytes));
        }
        rows += piece[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
        bytes += read as u64;
    }
}
