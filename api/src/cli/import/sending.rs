//! Rows on their way to the node, a batch at a time.
//!
//! Promises: a batch counts only when the node acknowledged it; a node that is busy, restarting or out of reach for a
//! while gets the same batch again, and knows what it has of it by the message ids.

use std::time::Duration;

use anyhow::bail;
use gemba_runtime::import::{Becomes, Mapped};
use serde_json::Value as Json;

use super::notes::{Counts, Notes, Rejected};
use crate::cli::client::{NodeArgs, Told};

/// Messages of a batch: one commit of the node for so many is cheap, and little is sent twice.
const BATCH_ROWS: usize = 2_000;
/// Bytes of a batch, far below what a node takes.
const BATCH_BYTES: usize = 1 << 20;
/// Longest time that a node which does not answer is waited for.
const PATIENCE_S: u64 = 60;

pub(super) struct Sender<'n> {
    node: &'n NodeArgs,
    path: &'static str,
    rows: Vec<Mapped>,
    bytes: usize,
}

impl<'n> Sender<'n> {
    pub(super) fn new(node: &'n NodeArgs, path: &'static str) -> Self {
        Self {
            node,
            path,
            rows: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn take(&mut self, row: Mapped) {
        self.bytes += row.cells.len();
        if let Becomes::Message(message) = &row.becomes {
            self.bytes += message.len() + 1;
        }
        self.rows.push(row);
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Sends what was taken, and notes how it ended.
    pub(super) fn send(&mut self, notes: &mut Notes) -> anyhow::Result<()> {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        let Some(line) = rows.last().map(|row| row.line) else {
            return Ok(());
        };
        let (mut counts, mut rejected, mut body, mut sent) =
            (Counts::default(), Vec::new(), String::new(), Vec::new());
        for row in rows {
            match row.becomes {
                Becomes::Nothing => counts.empty += 1,
                Becomes::Bad { code, detail } => rejected.push(Rejected {
                    line: row.line,
                    code: code.to_owned(),
                    detail,
                    row: row.cells,
                }),
                Becomes::Message(message) => {
                    body.push_str(&message);
                    body.push('\n');
                    sent.push((row.line, message));
                }
            }
        }
        if !sent.is_empty() {
            let answer = self.post(&body)?;
            let count = |name: &str| answer[name].as_u64().unwrap_or_default();
            (counts.accepted, counts.duplicates) = (count("accepted"), count("duplicates"));
            let refused = answer["rejected"].as_array().map_or(&[][..], Vec::as_slice);
            if count("accepted") + count("duplicates") + refused.len() as u64 != sent.len() as u64 {
                bail!("the node's answer does not add up: {answer}");
            }
            for item in refused {
                let at = item["index"]
                    .as_u64()
                    .and_then(|index| usize::try_from(index).ok());
                let Some((line, message)) = at.and_then(|at| sent.get(at)) else {
                    bail!("the node rejected what was not sent: {item}");
                };
                let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
                rejected.push(Rejected {
                    line: *line,
                    code: text("code"),
                    detail: text("detail"),
                    row: message.clone(),
                });
            }
            rejected.sort_by_key(|row| row.line);
        }
        counts.rejected = rejected.len() as u64;
        notes.note(line, counts, &rejected)
    }

    fn post(&self, body: &str) -> anyhow::Result<Json> {
        let (mut waited, mut pause) = (0, 1);
        loop {
            let told = self.node.tell(self.path, "application/x-ndjson", body.as_bytes());
            let problem = match told {
                Ok(Told {
                    status: 200 | 207,
                    json,
                    ..
                }) => return Ok(json),
                // All of the batch was rejected, each with its reason.
                Ok(Told {
                    status: 400, json, ..
                }) if json["rejected"].is_array() => return Ok(json),
                Ok(told @ Told { status: 429, .. }) => {
                    // Back-pressure is no failure: the node says when to come again.
                    wait(told.retry_after_s);
                    continue;
                }
                Ok(told @ Told { status: 503, .. }) => told.problem(),
                Ok(told) => return Err(told.problem()),
                Err(problem) => problem,
            };
            if waited >= PATIENCE_S {
                return Err(problem);
            }
            wait(pause);
            waited += pause;
            pause = (2 * pause).min(8);
        }
    }
}

fn wait(seconds: u64) {
    std::thread::park_timeout(Duration::from_secs(seconds.clamp(1, 60)));
}
