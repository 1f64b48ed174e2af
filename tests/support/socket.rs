//! A client of the stream: subscribes, keeps what it is told, and sees to it that frames come as the contract says.

use std::{collections::BTreeMap, io::ErrorKind, net::TcpStream, time::Duration};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Error, Message, WebSocket,
    client::{IntoClientRequest, client},
    handshake::HandshakeError,
    http::StatusCode,
};

use super::http;

/// How long a frame may take before the test has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to `GET /v1/stream`.
pub(crate) struct Socket {
    socket: WebSocket<TcpStream>,
    /// The subprotocol that the node chose.
    pub(crate) protocol: Option<String>,
    /// The status that the node closed the connection with.
    pub(crate) closed_with: Option<u16>,
}

impl Socket {
    /// Connects without a token.
    pub(crate) fn open(port: u16) -> Self {
        Self::open_with(port, &[("sec-websocket-protocol", "gemba.v1")])
            .unwrap_or_else(|status| panic!("refused with {status}"))
    }

    /// Connects with headers of one's own; the status where it is refused.
    pub(crate) fn open_with(port: u16, headers: &[(&'static str, &str)]) -> Result<Self, StatusCode> {
        let address = format!("ws://127.0.0.1:{port}/v1/stream");
        let mut request = address.into_client_request().expect("an address");
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(*name, value.parse().expect("a header"));
        }
        let stream = http::connect(port);
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        match client(request, stream) {
            Ok((socket, answer)) => Ok(Self {
                socket,
                protocol: answer
                    .headers()
                    .get("sec-websocket-protocol")
                    .and_then(|protocol| protocol.to_str().ok())
                    .map(str::to_owned),
                closed_with: None,
            }),
            Err(HandshakeError::Failure(Error::Http(answer))) => Err(answer.status()),
            Err(error) => panic!("the handshake failed: {error}"),
        }
    }

    pub(crate) fn say(&mut self, frame: &Value) {
        self.say_text(frame.to_string());
    }

    pub(crate) fn say_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).expect("sent");
    }

    /// The next frame; `None` where the node closed the connection.
    pub(crate) fn next(&mut self) -> Option<Value> {
        // The node pings every 20 seconds.
        for _ in 0..3 {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    return Some(
                        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}")),
                    );
                }
                Ok(Message::Close(close)) => {
                    self.closed_with = close.map(|close| close.code.into());
                    return None;
                }
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return None,
                Ok(_) => {}
                Err(Error::Protocol(_)) => return None,
                Err(Error::Io(error)) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("no frame came: {error}"),
            }
        }
        panic!("no frame came, only pings");
    }

    /// The next frame, which has to be there.
    pub(crate) fn frame(&mut self) -> Value {
        self.next().expect("the node closed the connection")
    }

    /// Waits for a frame of this type; the ones before it are dropped.
    pub(crate) fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame();
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Subscribes and follows until `live`.
    pub(crate) fn follow(mut self, subscribe: &Value) -> Follower {
        self.say(subscribe);
        let mut follower = Follower {
            socket: self,
            has: BTreeMap::new(),
            revisions: BTreeMap::new(),
            told: Vec::new(),
            resume: None,
        };
        follower.until("the subscription is live", |follower| follower.resume.is_some());
        follower
    }
}

/// A client with one subscription: what it has of each twin after merging what it was told.
pub(crate) struct Follower {
    pub(crate) socket: Socket,
    pub(crate) has: BTreeMap<String, Value>,
    pub(crate) revisions: BTreeMap<String, u64>,
    /// Type and twin of every frame.
    pub(crate) told: Vec<(String, String)>,
    pub(crate) resume: Option<String>,
}

impl Follower {
    /// Goes on from what another one has, over a connection of its own.
    pub(crate) fn resumed(self, port: u16, subscribe: &Value) -> Self {
        let mut subscribe = subscribe.clone();
        subscribe["resume"] = json!(self.resume.expect("a token"));
        let mut next = Follower {
            socket: Socket::open(port),
            resume: None,
            told: Vec::new(),
            ..self
        };
        next.socket.say(&subscribe);
        next.until("the subscription is live again", |next| next.resume.is_some());
        next
    }

    /// Takes frames until what is wanted has come about.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..100_000 {
            if done(self) {
                return;
            }
            let frame = self.socket.frame();
            self.take(&frame);
        }
        panic!("{what}: it did not come about; told {:?}", self.told);
    }

    fn take(&mut self, frame: &Value) {
        let twin = frame["twin"].as_str().unwrap_or_default().to_owned();
        let kind = frame["type"].as_str().expect("a type").to_owned();
        match kind.as_str() {
            "snapshot" => {
                self.has.insert(twin.clone(), frame["value"].clone());
                self.revise(&twin, frame);
            }
            "change" => {
                let has = self.has.get_mut(&twin);
                merge(
                    has.unwrap_or_else(|| panic!("a change of a twin that it does not have: {frame}")),
                    &frame["patch"],
                );
                self.revise(&twin, frame);
            }
            "leave" => {
                self.has.remove(&twin);
            }
            "lost" => self.has.clear(),
            "live" => self.resume = Some(frame["resume"].as_str().expect("a token").to_owned()),
            "error" => panic!("{frame}"),
            _ => {}
        }
        self.told.push((kind, twin));
    }

    fn revise(&mut self, twin: &str, frame: &Value) {
        let rev = frame["rev"].as_u64().expect("a revision");
        let before = self.revisions.insert(twin.to_owned(), rev);
        assert!(
            before.is_none_or(|before| before <= rev),
            "{twin} went back from {before:?} to {rev}"
        );
    }

    /// How often a frame of this type came.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.told.iter().filter(|(known, _)| known == kind).count()
    }
}

/// A twin as the stream shows it: a merge patch cannot carry null, so what is null over HTTP is absent there.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let kept = object.iter().filter(|(_, value)| !value.is_null());
            kept.map(|(name, value)| (name.clone(), without_nulls(value)))
                .collect()
        }
        other => other.clone(),
    }
}

/// RFC 7396 on what the client has.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("an object").remove(name);
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}
