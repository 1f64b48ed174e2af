//! HTTP/1.1 as far as the fake needs it: one request after the other on a connection.

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::Value;

use super::tables::unpacked;

pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

pub(super) struct Reply {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
}

impl Reply {
    pub(super) fn text(status: u16, text: String) -> Self {
        Self {
            status,
            kind: "text/plain",
            body: text.into_bytes(),
        }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            kind: "application/json",
            body: body.to_string().into_bytes(),
        }
    }
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn query(&self, name: &str) -> Option<String> {
        self.query
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    }

    pub(super) fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// The rows of the body: each a JSON text and a line feed.
    pub(super) fn rows(&self) -> Result<Vec<Value>, String> {
        let whole = unpacked(self)?;
        let Some(lines) = whole.strip_suffix(b"\n") else {
            return Err("the last row is not followed by a line feed".into());
        };
        lines
            .split(|byte| *byte == b'\n')
            // The official clients leave lines empty.
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).map_err(|error| format!("a row is not JSON: {error}")))
            .collect()
    }
}

/// Serves a connection until it ends, or until a request gets no answer.
pub(super) fn serve(stream: impl Read + Write, answer: &dyn Fn(&Request) -> Option<Reply>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let Some(reply) = answer(&request) else { return };
        let head = format!(
            "HTTP/1.1 {} x\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
            reply.status,
            reply.kind,
            reply.body.len()
        );
        let writer = reader.get_mut();
        let sent = writer
            .write_all(head.as_bytes())
            .and_then(|()| writer.write_all(&reply.body))
            .and_then(|()| writer.flush());
        if sent.is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    Some(Request {
        method,
        path: decoded(path),
        query: query
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect(),
        headers,
        body,
    })
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}
