//! One channel of the fake: its session, what is in flight, what is committed.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Lie,
    http::Request,
    tables::{Tables, Verdict},
};

/// Most bytes of rows in a request, as they travel.
const ROWS_MAX: usize = 4_000_000;
/// Requests of a channel in a second.
const REQUESTS_MAX: usize = 10;

struct InFlight {
    end: String,
    rows: Vec<Value>,
    due: Instant,
}

/// Why an append is not taken; `violation` says what no good client does.
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) violation: Option<String>,
}

#[derive(Default)]
pub(super) struct Channel {
    name: String,
    table: String,
    /// Counts sessions.
    client: u64,
    /// Counts appends of the session.
    row: u64,
    in_flight: VecDeque<InFlight>,
    committed: Option<String>,
    /// The offset before the last commit.
    committed_before: Option<String>,
    inserted: u64,
    errors: u64,
    error_bound: String,
    error_message: String,
    requests: VecDeque<Instant>,
}

impl Channel {
    pub(super) fn new(name: &str, table: &str) -> Self {
        Self {
            name: name.to_owned(),
            table: table.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn has_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Begins a session; what the one before had in flight is discarded.
    pub(super) fn open(&mut self) -> String {
        self.lose_session();
        self.token()
    }

    pub(super) fn lose_session(&mut self) {
        self.client += 1;
        self.row = 0;
        self.in_flight.clear();
    }

    pub(super) fn forget_offset(&mut self) {
        self.committed = self.committed_before.clone();
    }

    /// Opaque to clients.
    fn token(&self) -> String {
        format!("{:x}_{:x}+/=", self.client * 7_919, self.row * 104_729)
    }

    pub(super) fn append(
        &mut self,
        request: &Request,
        now: Instant,
        due: Instant,
        tables: &Tables,
    ) -> Result<String, Refused> {
        let refused = |status, code, violation: Option<String>| Refused {
            status,
            code,
            violation,
        };
        self.requests
            .retain(|at| now.duration_since(*at) < Duration::from_secs(1));
        if self.requests.len() >= REQUESTS_MAX {
            return Err(refused(429, "TOO_MANY_REQUESTS", None));
        }
        self.requests.push_back(now);
        let token = request.query("continuationToken").unwrap_or_default();
        if token != self.token() {
            let (client, _) = token.split_once('_').unwrap_or_default();
            return Err(if client == format!("{:x}", self.client * 7_919) {
                refused(400, "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER", None)
            } else {
                refused(400, "STALE_CONTINUATION_TOKEN_SEQUENCER", None)
            });
        }
        let wrong = |says: String| refused(400, "INVALID_REQUEST", Some(says));
        if request.body.len() > ROWS_MAX {
            return Err(wrong(format!("{} bytes of rows", request.body.len())));
        }
        if request.header("content-type") != Some("application/x-ndjson") {
            return Err(wrong(format!(
                "content type {:?}",
                request.header("content-type")
            )));
        }
        let rows = request.rows().map_err(wrong)?;
        let (start, end) = (request.query("startOffsetToken"), request.query("endOffsetToken"));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(wrong("offset tokens are missing".into()));
        };
        let newest = self
            .in_flight
            .back()
            .map(|flying| &flying.end)
            .or(self.committed.as_ref());
        if start > end || newest.is_some_and(|newest| start <= *newest) {
            return Err(wrong(format!(
                "offsets {start} to {end} do not follow {newest:?}"
            )));
        }
        for row in &rows {
            tables.columns_are_all_there(&self.table, row).map_err(wrong)?;
        }
        self.row += 1;
        self.in_flight.push_back(InFlight { end, rows, due });
        Ok(self.token())
    }

    /// Commits what is due, in order.
    pub(super) fn settle(&mut self, now: Instant, tables: &mut Tables, lie: Lie) {
        while self.in_flight.front().is_some_and(|flying| flying.due <= now) {
            let Some(mut flying) = self.in_flight.pop_front() else {
                return;
            };
            if lie == Lie::DropsRows {
                flying.rows.pop();
            }
            for row in flying.rows {
                match tables.insert(&self.table, row) {
                    Verdict::Inserted => self.inserted += 1,
                    // ON_ERROR is CONTINUE: counted and dropped.
                    Verdict::Refused(message) => {
                        self.errors += 1;
                        (self.error_bound, self.error_message) = (flying.end.clone(), message);
                    }
                }
            }
            self.committed_before = self.committed.replace(flying.end);
        }
    }

    pub(super) fn status(&self) -> Value {
        json!({
            "database_name": "GEMBA", "schema_name": "HISTORY", "pipe_name": format!("{}-STREAMING", self.table),
            "channel_name": self.name, "channel_status_code": "ACTIVE", "created_on_ms": 1,
            "last_committed_offset_token": self.committed, "rows_inserted": self.inserted,
            "rows_parsed": self.inserted + self.errors, "rows_errors": self.errors, "rows_error_count": self.errors,
            "last_error_offset_upper_bound": self.error_bound, "last_error_message": self.error_message,
            "last_error_timestamp": null, "snowflake_avg_processing_latency_ms": 5,
        })
    }
}
