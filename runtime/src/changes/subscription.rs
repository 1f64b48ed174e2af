//! One subscription: first what is, then what changes.
//!
//! Promises: no gap between the snapshots and the changes, because it is registered before it looks; a revision is
//! told once; after a resume only what changed since the token is told again. `next` can be dropped and called again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gemba_twins::{
    id::{TenantId, TwinId},
    twin::Twin,
};
use serde_json::Value;

use super::{
    Frame, Mode, SubscribeError,
    hub::{Mailbox, Registration, Revision, render},
    patch::{diff, project},
};
use crate::{clock, table::Twins};

/// Twins looked at for snapshots before giving way.
const SLICE: usize = 256;

struct Sent {
    rev: u64,
    value: Arc<Value>,
}

/// Where the snapshots are.
struct Walk {
    shard: usize,
    after: Option<TwinId>,
    /// Only twins that changed after these seqs, by shard.
    since: Option<Vec<u64>>,
}

/// An open subscription.
pub struct Subscription {
    tenant: TenantId,
    twins: Arc<Twins>,
    mailbox: Arc<Mailbox>,
    _registration: Registration,
    interval: Option<Duration>,
    last_flush: Option<Instant>,
    sent: HashMap<TwinId, Sent>,
    walk: Option<Walk>,
    ready: VecDeque<Frame>,
    /// Seqs visible when the subscription began to look: all that it was told of includes them.
    position: Vec<u64>,
}

impl Subscription {
    pub(super) fn new(
        tenant: TenantId,
        twins: Arc<Twins>,
        mailbox: Arc<Mailbox>,
        registration: Registration,
        max_rate_hz: Option<f64>,
        resume: Option<&str>,
    ) -> Result<Self, SubscribeError> {
        let position: Vec<u64> = (0..twins.shards()).map(|shard| twins.folded_seq(shard)).collect();
        let since = resume.map(|token| decode_token(token, &position)).transpose()?;
        let interval = max_rate_hz.filter(|rate| rate.is_finite() && *rate > 0.0).map(|rate| Duration::from_secs_f64((1.0 / rate).min(3_600.0)));
        let mut subscription = Self {
            tenant,
            twins,
            mailbox,
            _registration: registration,
            interval,
            last_flush: None,
            sent: HashMap::new(),
            walk: Some(Walk { shard: 0, after: None, since: since.clone().flatten() }),
            ready: VecDeque::new(),
            position,
        };
        subscription.ready.push_back(Frame::Subscribed { twins: subscription.count_matching()? });
        match (since, subscription.mailbox.mode) {
            (Some(None), _) => subscription.lose(0, "the resume token is of another data folder"),
            // Revisions are not kept after they were told, so what came in between is told as snapshots.
            (Some(Some(since)), Mode::Every) => {
                let missed = since.iter().zip(&subscription.position).map(|(since, now)| now - since).sum();
                if missed > 0 {
                    subscription.lose(missed, "revisions in between are not kept");
                }
            }
            _ => {}
        }
        Ok(subscription)
    }

    fn lose(&mut self, count: u64, reason: &'static str) {
        self.ready.push_back(Frame::Lost { count, reason });
    }

    fn unavailable(error: impl std::fmt::Display) -> SubscribeError {
        SubscribeError { code: "stream.unavailable", detail: error.to_string() }
    }

    fn count_matching(&self) -> Result<usize, SubscribeError> {
        let (now, mut count) = (clock::now(), 0);
        for shard in 0..self.twins.shards() {
            let mut after = None;
            loop {
                let visit = &mut |twin: &Twin| {
                    count += usize::from(self.mailbox.filter.as_ref().is_none_or(|filter| filter.matches(twin, now)));
                };
                after = self.twins.slice(shard, &self.tenant, None, after.as_ref(), SLICE, visit).map_err(Self::unavailable)?;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(count)
    }

    /// The next thing to tell; waits for it. `None` when the twins can no longer be read.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.try_next()? {
                return Some(frame);
            }
            if let (Some(interval), Some(last)) = (self.interval, self.last_flush) {
                let due = last + interval;
                if clock::instant() < due {
                    tokio::time::sleep_until(due.into()).await;
                    continue;
                }
            }
            self.mailbox.notify.notified().await;
        }
    }

    /// The next thing to tell if there is one now; `None` when the twins can no longer be read.
    pub fn try_next(&mut self) -> Option<Option<Frame>> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(Some(frame));
            }
            if self.walk.is_some() {
                self.walk_on()?;
                continue;
            }
            if let (Some(interval), Some(last)) = (self.interval, self.last_flush)
                && clock::instant() < last + interval
            {
                return Some(None);
            }
            if !self.flush()? {
                return Some(None);
            }
        }
    }

    /// Tells of some more twins as they are; at the end, that changes come from here on.
    fn walk_on(&mut self) -> Option<()> {
        let Some(mut walk) = self.walk.take() else { return Some(()) };
        if walk.shard >= self.twins.shards() {
            self.ready.push_back(Frame::Live { resume: self.token() });
            return Some(());
        }
        let (mut matching, mut gone) = (Vec::new(), Vec::new());
        let now = clock::now();
        let since = walk.since.as_ref().map(|since| since[walk.shard]);
        let filter = self.mailbox.filter.clone();
        let fields = self.mailbox.fields.clone();
        let next = self.twins.slice(walk.shard, &self.tenant, None, walk.after.as_ref(), SLICE, &mut |twin| {
            let matches = filter.as_ref().is_none_or(|filter| filter.matches(twin, now));
            let told = since.is_none_or(|since| twin.position().seq > since);
            if matches {
                let whole = render(twin, now);
                let value = fields.as_ref().map_or_else(|| whole.clone(), |fields| project(&whole, fields));
                matching.push((twin.id().clone(), twin.rev(), Arc::new(value), told));
            } else if told && since.is_some() {
                gone.push(twin.id().clone());
            }
        });
        let next = next.ok()?;
        for (id, rev, value, told) in matching {
            if told {
                self.ready.push_back(Frame::Snapshot { twin: name(&id), rev, value: value.clone() });
            }
            self.mailbox.told.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
            self.sent.insert(id, Sent { rev, value });
        }
        // It may have matched before the connection broke; a client that did not have it can ignore this.
        self.ready.extend(gone.iter().map(|id| Frame::Leave { twin: name(id) }));
        if next.is_none() {
            walk.shard += 1;
        }
        walk.after = next;
        self.walk = Some(walk);
        Some(())
    }

    /// Tells what waits; false where nothing does.
    fn flush(&mut self) -> Option<bool> {
        let position: Vec<u64> = (0..self.twins.shards()).map(|shard| self.twins.folded_seq(shard)).collect();
        let (dirty, revisions, lost) = {
            let mut waiting = self.mailbox.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            (std::mem::take(&mut waiting.dirty), std::mem::take(&mut waiting.revisions), std::mem::take(&mut waiting.lost))
        };
        if dirty.is_empty() && revisions.is_empty() && lost == 0 {
            return Some(false);
        }
        self.last_flush = Some(clock::instant());
        for id in dirty {
            self.tell_latest(&id)?;
        }
        revisions.into_iter().for_each(|revision| self.tell_revision(revision));
        if lost > 0 {
            self.lose(lost, "the subscriber took its changes too slowly");
            self.sent.clear();
            self.position = position;
            self.walk = Some(Walk { shard: 0, after: None, since: None });
        }
        Some(true)
    }

    fn tell_latest(&mut self, id: &TwinId) -> Option<()> {
        let now = clock::now();
        let found = self.twins.with(id, |twin| {
            let matches = self.mailbox.filter.as_ref().is_none_or(|filter| filter.matches(twin, now));
            let value = matches.then(|| {
                let whole = render(twin, now);
                Arc::new(self.mailbox.fields.as_ref().map_or_else(|| whole.clone(), |fields| project(&whole, fields)))
            });
            Revision { twin: id.clone(), rev: twin.rev(), at: twin.updated_at(), value }
        });
        if let Some(revision) = found.ok()? {
            self.tell_revision(revision);
        }
        Some(())
    }

    fn tell_revision(&mut self, revision: Revision) {
        let Revision { twin: id, rev, at, value } = revision;
        let twin = name(&id);
        match (value, self.sent.get(&id)) {
            (Some(_), Some(sent)) if sent.rev >= rev => {}
            (Some(value), Some(sent)) => {
                // A change outside of the fields asked for is none for this subscriber.
                if let Some(patch) = diff(&sent.value, &value) {
                    self.ready.push_back(Frame::Change { twin, rev, at, patch });
                }
                self.sent.insert(id, Sent { rev, value });
            }
            (Some(value), None) => {
                self.ready.push_back(Frame::Enter { twin: twin.clone() });
                self.ready.push_back(Frame::Snapshot { twin, rev, value: value.clone() });
                self.mailbox.told.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
                self.sent.insert(id, Sent { rev, value });
            }
            (None, Some(sent)) if sent.rev < rev => {
                self.ready.push_back(Frame::Leave { twin });
                self.mailbox.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                self.sent.remove(&id);
            }
            (None, _) => {}
        }
    }

    /// What to resume from: everything up to here was told when the frames handed out so far are taken.
    #[must_use]
    pub fn token(&self) -> String {
        let bytes: Vec<u8> = self.position.iter().flat_map(|seq| seq.to_be_bytes()).collect();
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

fn name(id: &TwinId) -> Arc<str> {
    id.to_string().into()
}

/// The seqs of a token; `None` where it cannot be of this data folder.
fn decode_token(token: &str, position: &[u64]) -> Result<Option<Vec<u64>>, SubscribeError> {
    let invalid = || SubscribeError {
        code: "resume.invalid",
        detail: "resume is not a token that a `live` frame carried (subscribe without it)".into(),
    };
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
    let (chunks, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(invalid());
    }
    let since: Vec<u64> = chunks.iter().map(|chunk| u64::from_be_bytes(*chunk)).collect();
    let fits = since.len() == position.len() && since.iter().zip(position).all(|(since, now)| since <= now);
    Ok(fits.then_some(since))
}
