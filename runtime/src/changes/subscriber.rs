//! The hub's side of one subscription: what it was told, what waits for it, and what it is told next.
//!
//! Promises for `latest`: newest state wins, and what waits is a set of twins, however slow the subscriber. For
//! `every`: each revision in order, or `lost` and fresh snapshots. In both, a snapshot is never older than what was
//! told before, and nothing is told twice. Decides only; who waits and wakes is the subscription's business.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use gemba_twins::id::TwinId;
use tokio::sync::Notify;

use super::{
    Frame, FrameKind, HubSettings, Mode, frame,
    group::{Group, Rendered, Step},
    resume::{self, Place},
};

/// The time over which a subscription's rate holds.
const BURST: Duration = Duration::from_millis(100);
/// Bytes of frames made at a time.
const BYTES_AT_A_TIME: usize = 256 * 1024;

/// What a subscriber has of a twin that waits.
pub(super) enum Has {
    /// Nothing; where it began to match lately, that is said first.
    Nothing { enter: bool },
    /// This revision.
    Revision(Arc<Rendered>),
    /// An older one that is not kept.
    Older,
}

/// How far a subscription is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its group is being filled.
    Waiting,
    /// It will be told what matches.
    Greeting,
    /// It is told snapshots.
    Snapshots,
    /// It is told changes.
    Live,
}

/// Where the frames go and what they are made of.
pub(super) struct Telling<'a> {
    pub(super) group: &'a mut Group,
    pub(super) names: &'a [TwinId],
    /// Every change up to these seqs is with the subscribers.
    pub(super) processed: &'a Arc<[u64]>,
    pub(super) origin: u64,
    pub(super) settings: &'a HubSettings,
    pub(super) now: Instant,
    pub(super) out: &'a mut VecDeque<Frame>,
}

impl Telling<'_> {
    fn is_full(&self) -> bool {
        self.out.len() >= self.settings.frames_at_a_time
            || self.out.iter().map(Frame::len).sum::<usize>() >= BYTES_AT_A_TIME
    }

    fn name(&self, twin: u32) -> String {
        self.names
            .get(twin as usize)
            .map(ToString::to_string)
            .unwrap_or_default()
    }
}

/// Where a subscription goes on.
#[derive(Debug, Default)]
pub(super) struct Resume {
    /// The place of its token, if it has one; `Some(None)` where the token is of another data folder.
    pub(super) from: Option<Option<Place>>,
    /// Twins that changed since and do not match.
    pub(super) gone: Vec<u32>,
    /// The newest seqs, by shard: a place beyond them is of another data folder.
    pub(super) newest: Vec<u64>,
}

/// One subscription.
pub(super) struct Subscriber {
    pub(super) group: u64,
    pub(super) notify: Arc<Notify>,
    /// Its id as a JSON string.
    id: Arc<str>,
    scope: u64,
    interval: Duration,
    phase: Phase,
    waiting: HashMap<u32, Has>,
    /// The twins of `waiting`, longest waiting first.
    order: VecDeque<u32>,
    /// Bytes of the revisions in `waiting`.
    kept_bytes: usize,
    /// What is left of the flush under way.
    quota: usize,
    flushing: bool,
    next_flush: Instant,
    /// What will have been told at the end of the flush under way.
    candidate: Arc<[u64]>,
    /// Everything up to here was told.
    told: Arc<[u64]>,
    /// The next revision of the ring.
    cursor: u64,
    lost: Option<(Option<u64>, &'static str)>,
    last_token: Instant,
    /// Why it ends.
    pub(super) failed: Option<(&'static str, String)>,
}

impl Subscriber {
    pub(super) fn new(group: u64, id: Arc<str>, scope: u64, interval: Duration, now: Instant) -> Self {
        Self {
            group,
            notify: Arc::new(Notify::new()),
            id,
            scope,
            interval,
            phase: Phase::Waiting,
            waiting: HashMap::new(),
            order: VecDeque::new(),
            kept_bytes: 0,
            quota: 0,
            flushing: false,
            next_flush: now,
            candidate: [].into(),
            told: [].into(),
            cursor: 0,
            lost: None,
            last_token: now,
            failed: None,
        }
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// How many twins wait for it.
    #[cfg(test)]
    pub(super) fn waits(&self) -> usize {
        self.waiting.len()
    }

    /// Begins, once its group is filled and shows all changes up to `processed`.
    pub(super) fn start(&mut self, group: &Group, processed: &Arc<[u64]>, resume: Resume) {
        let Resume { from, gone, newest } = resume;
        self.phase = Phase::Greeting;
        self.told = processed.clone();
        self.cursor = group.ring.next();
        match from {
            None => self.begin_anew(group, None),
            Some(Some(Place::Ring { ring, next }))
                if group.key.mode == Mode::Every && ring == group.ring.name =>
            {
                if (group.ring.first()..=group.ring.next()).contains(&next) {
                    self.cursor = next;
                } else {
                    let lost = group.ring.next().checked_sub(next);
                    self.begin_anew(group, Some((lost, "the revisions since then are no longer kept")));
                }
            }
            Some(Some(Place::Seqs(seqs))) if group.key.mode == Mode::Latest => {
                if seqs.len() != newest.len() || seqs.iter().zip(&newest).any(|(before, now)| before > now) {
                    self.begin_anew(group, Some((None, "the resume token is of another data folder")));
                } else if gone.len() > group.members.len() + 256 {
                    // Naming all that left takes longer than to begin anew.
                    self.begin_anew(group, Some((None, "too much has changed since then")));
                } else {
                    let before = |shard: u16| seqs.get(usize::from(shard)).copied().unwrap_or_default();
                    let newer = group.members.iter().filter(|(_, member)| {
                        let position = member.now.position;
                        position.seq > before(position.shard)
                    });
                    let newer: Vec<u32> = newer.map(|(number, _)| *number).collect();
                    newer
                        .into_iter()
                        .chain(gone)
                        .for_each(|number| self.wait(number, Has::Older));
                }
            }
            Some(None) => self.begin_anew(group, Some((None, "the resume token is of another data folder"))),
            Some(Some(_)) => {
                self.begin_anew(group, Some((None, "the revisions since then are no longer kept")))
            }
        }
    }

    /// Forgets what the subscriber has: all that matches is told again.
    pub(super) fn begin_anew(&mut self, group: &Group, lost: Option<(Option<u64>, &'static str)>) {
        self.waiting.clear();
        self.order.clear();
        self.kept_bytes = 0;
        self.flushing = false;
        self.cursor = group.ring.next();
        if lost.is_some() {
            self.lost = lost;
        }
        for number in group.members.keys() {
            self.wait(*number, Has::Nothing { enter: false });
        }
        if self.phase == Phase::Live {
            self.phase = Phase::Snapshots;
        }
    }

    fn wait(&mut self, twin: u32, has: Has) {
        if self.waiting.insert(twin, has).is_none() {
            self.order.push_back(twin);
        }
    }

    /// `latest`: a twin changed. `before` is what the subscriber has of it, unless it waits already. True where it is
    /// merged into what waits.
    pub(super) fn mark(&mut self, twin: u32, before: Option<&Arc<Rendered>>, settings: &HubSettings) -> bool {
        if self.waiting.contains_key(&twin) {
            return true;
        }
        let has = match before {
            None => Has::Nothing { enter: true },
            Some(before) if self.kept_bytes + before.text.len() > settings.kept_bytes => Has::Older,
            Some(before) => {
                self.kept_bytes += before.text.len();
                Has::Revision(before.clone())
            }
        };
        self.wait(twin, has);
        false
    }

    /// Makes the next frames. Where there are none, returns how long to wait; `None`: until something changes.
    pub(super) fn tell(&mut self, telling: &mut Telling<'_>) -> Option<Duration> {
        if self.phase == Phase::Waiting || !telling.group.ready {
            return None;
        }
        if self.phase == Phase::Greeting {
            telling
                .out
                .push_back(Frame::subscribed(&self.id, telling.group.members.len()));
            self.phase = Phase::Snapshots;
        }
        if let Some((count, reason)) = self.lost.take() {
            telling.out.push_back(Frame::lost(&self.id, count, reason));
        }
        match telling.group.key.mode {
            Mode::Latest => self.tell_latest(telling),
            Mode::Every => self.tell_every(telling),
        }
    }

    /// How long the rate makes the next flush wait. It holds over a tenth of a second: some changes that come one
    /// after the other, as those of one commit do, go out at once.
    fn wait_to_flush(&self, now: Instant) -> Option<Duration> {
        let ahead = self.next_flush.saturating_duration_since(now);
        let wait = ahead.saturating_sub(BURST.saturating_sub(self.interval));
        (!wait.is_zero()).then_some(wait)
    }

    fn tell_latest(&mut self, telling: &mut Telling<'_>) -> Option<Duration> {
        if !self.flushing {
            if self.phase == Phase::Live && self.order.is_empty() {
                self.told = telling.processed.clone();
                return self.refresh_token(telling);
            }
            if self.phase == Phase::Live
                && let Some(wait) = self.wait_to_flush(telling.now)
            {
                return Some(wait);
            }
            self.flushing = true;
            self.quota = self.order.len();
            // Whatever changed up to here is in `waiting` now. At the start the walk's own floor counts.
            self.candidate = if self.phase == Phase::Live {
                telling.processed.clone()
            } else {
                self.told.clone()
            };
            self.next_flush = self.next_flush.max(telling.now) + self.interval;
        }
        while self.quota > 0 && !telling.is_full() {
            self.quota -= 1;
            self.tell_next(telling);
        }
        if self.quota == 0 {
            self.flushing = false;
            self.told = self.candidate.clone();
            if self.phase == Phase::Snapshots {
                self.phase = Phase::Live;
                self.send_token(telling);
            } else {
                self.refresh_token(telling);
            }
        }
        Some(Duration::ZERO)
    }

    /// Tells of the twin that waits longest.
    fn tell_next(&mut self, telling: &mut Telling<'_>) {
        let Some(twin) = self.order.pop_front() else {
            return;
        };
        let Some(has) = self.waiting.remove(&twin) else {
            return;
        };
        if let Has::Revision(before) = &has {
            self.kept_bytes -= before.text.len();
        }
        let name = telling.name(twin);
        let mut say = |kind, body| telling.out.push_back(Frame::new(kind, &self.id, body));
        match (has, telling.group.members.get_mut(&twin)) {
            (Has::Nothing { .. }, None) => {}
            (Has::Nothing { enter }, Some(member)) => {
                if enter {
                    say(FrameKind::Enter, frame::named(&name));
                }
                say(FrameKind::Snapshot, frame::snapshot(&name, &member.now));
            }
            (Has::Revision(before), Some(member)) => {
                // A change outside of the fields asked for is none for this subscriber.
                if before.text != member.now.text {
                    say(FrameKind::Change, member.change_from(&name, &before));
                }
            }
            (Has::Older, Some(member)) => say(FrameKind::Snapshot, frame::snapshot(&name, &member.now)),
            (Has::Revision(_) | Has::Older, None) => say(FrameKind::Leave, frame::named(&name)),
        }
    }

    fn tell_every(&mut self, telling: &mut Telling<'_>) -> Option<Duration> {
        if self.phase == Phase::Live && self.cursor == telling.group.ring.next() {
            self.flushing = false;
            return self.refresh_token(telling);
        }
        if self.phase == Phase::Live && !self.flushing {
            if let Some(wait) = self.wait_to_flush(telling.now) {
                return Some(wait);
            }
            self.flushing = true;
            self.next_flush = self.next_flush.max(telling.now) + self.interval;
        }
        while !telling.is_full() {
            if self.cursor < telling.group.ring.first() {
                // Those still kept are not told one by one either: the snapshots show their end.
                let count = telling.group.ring.next() - self.cursor;
                self.begin_anew(telling.group, None);
                telling.out.push_back(Frame::lost(
                    &self.id,
                    Some(count),
                    "the subscriber took its revisions too slowly",
                ));
            }
            // The ring goes first: a snapshot shows the state at its end.
            if let Some((twin, step)) = telling.group.ring.get(self.cursor).cloned() {
                self.cursor += 1;
                self.tell_step(twin, step, telling);
            } else if !self.order.is_empty() {
                self.tell_next(telling);
            } else if self.phase == Phase::Snapshots {
                self.phase = Phase::Live;
                self.send_token(telling);
            } else {
                break;
            }
        }
        Some(Duration::ZERO)
    }

    fn tell_step(&mut self, twin: u32, step: Step, telling: &mut Telling<'_>) {
        let waits = self.waiting.contains_key(&twin);
        let mut say = |kind, body| telling.out.push_back(Frame::new(kind, &self.id, body));
        match step {
            // Its snapshot is still to come and will show this.
            Step::Changed(_) | Step::Entered { .. } if waits => {}
            Step::Left(_) if waits => {
                self.waiting.remove(&twin);
            }
            Step::Changed(body) => say(FrameKind::Change, body),
            Step::Entered { named, snapshot } => {
                say(FrameKind::Enter, named);
                say(FrameKind::Snapshot, snapshot);
            }
            Step::Left(body) => say(FrameKind::Leave, body),
        }
    }

    fn refresh_token(&mut self, telling: &mut Telling<'_>) -> Option<Duration> {
        if telling.now.saturating_duration_since(self.last_token) >= telling.settings.token_every {
            self.send_token(telling);
            return Some(Duration::ZERO);
        }
        Some(telling.settings.token_every)
    }

    fn send_token(&mut self, telling: &mut Telling<'_>) {
        self.last_token = telling.now;
        let place = match telling.group.key.mode {
            Mode::Latest => Place::Seqs(self.told.to_vec()),
            Mode::Every => Place::Ring {
                ring: telling.group.ring.name,
                next: self.cursor,
            },
        };
        telling.out.push_back(Frame::live(
            &self.id,
            resume::encode(telling.origin, self.scope, &place),
        ));
    }
}
