//! A plant of a few machines, clients that apply what they are told, and what they must end up with.
//!
//! The hub's decisions are run here step by step, without tasks: a walk can be overtaken by changes anywhere.

mod model;
mod running;
mod story;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use gemba_twins::{
    event::{AttributesSet, Body, Event, Position, Reading, Value as Measured},
    id::{Kind, TenantId, TwinId},
    time::Timestamp,
    twin::{Effects, Twin},
};
use serde_json::Value;

use super::{
    Frame, FrameKind, HubSettings, Mode, Spec,
    group::{Found, GroupKey, cut, matches, whole_text},
    patch::tests::apply,
    projection::Projection,
    resume::{self, Place},
    revision::Revision,
    state::{State, Wake},
    subscriber::Resume,
};
use crate::{clock, filter::Filter, table::TwinSlot};

const SHARDS: u16 = 2;
const ORIGIN: u64 = 77;

fn tenant() -> TenantId {
    TenantId::parse("acme").expect("a tenant")
}

/// What happens to a machine.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Measures(u8),
    Produces,
    Idles,
    Moves(u8),
    IsNamed(u8),
    LosesItsName,
}

/// What a walk saw and did not hand in yet.
struct Seen {
    filling: u64,
    is_last: bool,
    found: Vec<Found>,
}

/// Machines `m0` to `m5` and the tenant's hub.
struct Plant {
    slots: Vec<Arc<TwinSlot>>,
    state: State,
    settings: HubSettings,
    seqs: [u64; SHARDS as usize],
    seconds: i64,
    changed: Vec<Arc<TwinSlot>>,
    revisions: VecDeque<Revision>,
    now: Instant,
    conflated: u64,
}

impl Plant {
    fn new(settings: HubSettings) -> Self {
        let slot = |number: u8| {
            let id = TwinId::new(tenant(), Kind::Machine, &format!("m{number}")).expect("an id");
            TwinSlot::new(Twin::new(id), 0)
        };
        let mut plant = Self {
            slots: (0..6).map(slot).collect(),
            state: State::new(settings.clone(), 1_000),
            settings,
            seqs: [0; SHARDS as usize],
            seconds: 0,
            changed: Vec::new(),
            revisions: VecDeque::new(),
            now: clock::instant(),
            conflated: 0,
        };
        for machine in 0..6 {
            plant.happens(machine, Happening::Moves(machine % 2));
        }
        plant.look();
        plant
    }

    /// The shard folds an event and hands over what changed.
    fn happens(&mut self, machine: u8, what: Happening) {
        let slot = self.slots[usize::from(machine)].clone();
        self.seconds += 1;
        let at = Timestamp::from_ms(1_795_000_000_000 + self.seconds * 1_000);
        let reading = |metric: &str, value| Reading {
            sensor_id: "s".into(),
            metrics: vec![(metric.into(), value)],
            ..Reading::default()
        };
        let body = match what {
            Happening::Measures(value) => {
                Body::Reading(reading("spindle_rpm", Measured::Number(f64::from(value))))
            }
            Happening::Produces => Body::Reading(reading("execution", Measured::Text("producing".into()))),
            Happening::Idles => Body::Reading(reading("execution", Measured::Text("idle".into()))),
            Happening::Moves(cell) => attributes(&format!(r#"{{"location":"cell-{cell}"}}"#)),
            Happening::IsNamed(name) => attributes(&format!(
                r#"{{"name":{{"short":"{name}"}},"tags":[null,{name}]}}"#
            )),
            Happening::LosesItsName => attributes(r#"{"name":null}"#),
        };
        let shard = u16::from(machine) % SHARDS;
        self.seqs[usize::from(shard)] += 1;
        let position = Position {
            shard,
            seq: self.seqs[usize::from(shard)],
        };
        let event = Event {
            twin: slot.id().clone(),
            at,
            received_at: at,
            source: "test".into(),
            message_id: "".into(),
            origin: None,
            body,
        };
        let mut state = slot.lock();
        state.twin.fold(position, &event, &mut Effects::default());
        if self.state.has(Mode::Every) {
            self.revisions
                .push_back(Revision::of(&state.twin, self.state.targets()));
        }
        drop(state);
        self.changed.push(slot);
    }

    /// The hub looks at what came in.
    fn look(&mut self) {
        let mut wake = Wake::default();
        self.state.take_changed(&self.changed, &mut wake);
        self.state
            .take_revisions(&mut self.revisions, usize::MAX, &mut wake);
        self.conflated += wake.conflated;
        self.state.set_processed(self.seqs.into());
        self.changed.clear();
    }

    /// More revisions came than are kept.
    fn overflow(&mut self) -> Vec<u64> {
        let missed = self.revisions.len() as u64;
        self.revisions.clear();
        if missed == 0 {
            Vec::new()
        } else {
            self.state.missed(missed)
        }
    }

    /// What a walk sees of machines, to be taken in later.
    fn see(&self, group: u64, machines: Range<usize>) -> Option<Seen> {
        let filling = self.state.filling(group)?;
        let known = self.state.group(group).expect("a group");
        let (filter, fields) = (known.filter.as_ref(), known.key.fields.as_deref());
        let seen =
            |slot: &Arc<TwinSlot>| slot.with(|twin| matches(filter, twin).then(|| Found::of(twin, fields)));
        let is_last = machines.end == self.slots.len();
        Some(Seen {
            filling,
            is_last,
            found: self.slots[machines].iter().filter_map(seen).collect(),
        })
    }

    fn take_in(&mut self, group: u64, seen: Seen) {
        self.state.fill(group, seen.filling, seen.found);
        if seen.is_last {
            self.state.filled(group, seen.filling, &mut Wake::default());
        }
    }

    fn walk(&mut self, group: u64, machines: Range<usize>) {
        if let Some(seen) = self.see(group, machines) {
            self.take_in(group, seen);
        }
    }

    /// What a client with this specification has to have in the end.
    fn wanted(&self, spec: &Spec) -> BTreeMap<String, (u64, Value)> {
        let fields = Projection::of(spec.fields.as_deref()).expect("fields");
        let shown = |twin: &Twin| {
            let value = cut(&whole_text(twin), fields.as_ref());
            (
                twin.id().to_string(),
                (twin.rev(), serde_json::from_str(&value).expect("json")),
            )
        };
        let matching =
            |slot: &Arc<TwinSlot>| slot.with(|twin| matches(spec.filter.as_ref(), twin).then(|| shown(twin)));
        self.slots.iter().filter_map(matching).collect()
    }
}

fn attributes(patch: &str) -> Body {
    Body::AttributesSet(AttributesSet {
        patch: patch.into(),
        by: "ana".into(),
    })
}

fn spec(filter: &str, fields: &[&str], mode: Mode) -> Spec {
    Spec {
        id: "s1".into(),
        filter: (!filter.is_empty()).then(|| Filter::compile(filter).expect("a filter")),
        fields: Some(fields.iter().map(|field| (*field).to_owned()).collect()),
        mode,
        ..Spec::default()
    }
}

/// A subscriber that believes what it is told, and checks that it may.
struct Client {
    spec: Spec,
    subscriber: u64,
    group: u64,
    from: Option<Option<Place>>,
    /// Machines walked over so far; `None` when it has begun.
    walked: Option<usize>,
    /// What the walk saw of the last one.
    seen: Option<Seen>,
    has: BTreeMap<String, (u64, Value)>,
    token: Option<String>,
    /// The newest revision it was ever told of each twin.
    told: BTreeMap<String, u64>,
    /// The same when it came back: up to there it may be told again what came after its token.
    told_before: BTreeMap<String, u64>,
    live: bool,
    /// Revisions may be missing until the next snapshot of each twin.
    lost: u64,
    entering: Option<String>,
    heard: Vec<Value>,
    ready: VecDeque<Frame>,
}

impl Client {
    fn subscribe(plant: &mut Plant, spec: Spec) -> Self {
        Self::join(plant, spec, None, BTreeMap::new())
    }

    fn join(plant: &mut Plant, spec: Spec, token: Option<&str>, has: BTreeMap<String, (u64, Value)>) -> Self {
        let fields = Projection::of(spec.fields.as_deref())
            .expect("fields")
            .map(Arc::new);
        let filter = spec.filter.as_ref().map(|filter| filter.text().into());
        let key = GroupKey {
            filter,
            fields,
            mode: spec.mode,
        };
        let scope = resume::scope(&tenant(), &key);
        let from = token.map(|token| resume::decode(token, ORIGIN, scope).expect("a token"));
        if plant.state.is_empty() {
            plant.state.set_processed(plant.seqs.into());
        }
        let group = plant.state.join(key, spec.filter.clone());
        let interval = Duration::from_millis(10);
        let subscriber = plant
            .state
            .subscribe(group, "\"s1\"".into(), scope, interval, plant.now);
        Self {
            spec,
            subscriber,
            group,
            from,
            walked: Some(0),
            seen: None,
            told: BTreeMap::new(),
            told_before: BTreeMap::new(),
            has,
            token: token.map(str::to_owned),
            live: false,
            lost: 0,
            entering: None,
            heard: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// Goes on with the walk before the start: hands in one machine and looks at the next.
    fn walk(&mut self, plant: &mut Plant) {
        let Some(walked) = self.walked else { return };
        if let Some(seen) = self.seen.take() {
            plant.take_in(self.group, seen);
        }
        if plant.state.filling(self.group).is_some() {
            let next = walked % plant.slots.len();
            self.seen = plant.see(self.group, next..next + 1);
            self.walked = Some(next + 1);
            return;
        }
        let gone = match &self.from {
            Some(Some(Place::Seqs(since))) => {
                let gone = |twin: &Twin| {
                    let position = twin.position();
                    let newer = position.seq > since[usize::from(position.shard)];
                    (newer && !matches(self.spec.filter.as_ref(), twin)).then(|| twin.id().clone())
                };
                plant.slots.iter().filter_map(|slot| slot.with(gone)).collect()
            }
            _ => Vec::new(),
        };
        let resume = Resume {
            from: self.from.take(),
            gone: Vec::new(),
            newest: plant.seqs.to_vec(),
        };
        plant.state.start(self.subscriber, resume, &gone);
        self.walked = None;
    }

    fn started(mut self, plant: &mut Plant) -> Self {
        while self.walked.is_some() {
            self.walk(plant);
        }
        self
    }

    /// Takes up to so many frames.
    fn take(&mut self, plant: &mut Plant, most: usize) -> usize {
        for taken in 0..most {
            if self.ready.is_empty() {
                let _ = plant
                    .state
                    .tell(self.subscriber, ORIGIN, plant.now, &mut self.ready);
            }
            let Some(frame) = self.ready.pop_front() else {
                return taken;
            };
            self.hear(&frame);
        }
        most
    }

    /// Takes all there is; time goes on meanwhile.
    fn catch_up(&mut self, plant: &mut Plant) {
        loop {
            plant.now += Duration::from_millis(10);
            if self.take(plant, 100) > 0 {
                continue;
            }
            let wait = plant
                .state
                .tell(self.subscriber, ORIGIN, plant.now, &mut self.ready)
                .expect("it is open");
            if self.ready.is_empty() && wait != Some(Duration::ZERO) {
                return;
            }
        }
    }

    /// The connection breaks; what was made for it and not taken is gone.
    fn disconnect(&mut self, plant: &mut Plant) {
        plant.state.unsubscribe(self.subscriber, plant.now);
        self.ready.clear();
    }

    fn resumed(mut self, plant: &mut Plant) -> Self {
        self.disconnect(plant);
        match self.token.take() {
            Some(token) => Self {
                told: self.told.clone(),
                told_before: self.told,
                ..Self::join(plant, self.spec, Some(&token), self.has)
            },
            None => Self::join(plant, self.spec, None, BTreeMap::new()),
        }
    }

    fn hear(&mut self, frame: &Frame) {
        let json: Value = serde_json::from_str(&frame.text()).expect("a frame is JSON");
        assert_eq!(json["type"], frame.kind().as_str());
        assert_eq!(json["id"], "s1");
        assert_eq!(frame.len(), frame.text().len());
        let twin = json["twin"].as_str().unwrap_or_default().to_owned();
        let rev = json["rev"].as_u64().unwrap_or_default();
        if let Some(entering) = self.entering.take() {
            assert_eq!(
                (frame.kind(), &entering),
                (FrameKind::Snapshot, &twin),
                "an enter is followed by the snapshot"
            );
        }
        // Told again after the client came back: it takes what is newer than what it has of the twin.
        let told_before =
            self.spec.mode == Mode::Every && self.told_before.get(&twin).is_some_and(|told| rev <= *told);
        if matches!(frame.kind(), FrameKind::Change | FrameKind::Snapshot) {
            let told = self.told.entry(twin.clone()).or_default();
            *told = rev.max(*told);
        }
        let newer = match self.has.get(&twin) {
            Some((held, _)) => rev > *held,
            None => frame.kind() == FrameKind::Snapshot,
        };
        match frame.kind() {
            FrameKind::Subscribed => {}
            FrameKind::Change | FrameKind::Snapshot if told_before && !newer => {}
            FrameKind::Snapshot => {
                if let Some((had, _)) = self.has.get(&twin) {
                    assert!(rev >= *had, "a snapshot of {twin} went back from {had} to {rev}");
                }
                self.has.insert(twin, (rev, json["value"].clone()));
            }
            FrameKind::Live => {
                self.live = true;
                self.token = frame.resume().map(str::to_owned);
            }
            FrameKind::Change => {
                let (had, value) = self
                    .has
                    .get_mut(&twin)
                    .expect("a change only of what the client has");
                match self.spec.mode {
                    Mode::Latest => assert!(rev > *had, "{twin} went from {had} to {rev}"),
                    Mode::Every => assert_eq!(rev, *had + 1, "{twin} has a gap or a repetition"),
                }
                *had = rev;
                apply(value, &json["patch"]);
            }
            FrameKind::Enter => self.entering = Some(twin),
            FrameKind::Leave => {
                self.has.remove(&twin);
            }
            FrameKind::Lost => {
                self.lost += json["count"].as_u64().unwrap_or(1);
                self.has.clear();
                self.live = false;
            }
            FrameKind::Error => panic!("{json}"),
        }
        self.heard.push(json);
    }

    fn kinds(&self) -> Vec<&str> {
        self.heard
            .iter()
            .filter_map(|frame| frame["type"].as_str())
            .collect()
    }

    fn must_have(&self, plant: &Plant) {
        let values = |has: &BTreeMap<String, (u64, Value)>| -> BTreeMap<String, Value> {
            has.iter()
                .map(|(twin, (_, value))| (twin.clone(), value.clone()))
                .collect()
        };
        assert_eq!(
            values(&self.has),
            values(&plant.wanted(&self.spec)),
            "what the client has is not what is"
        );
    }
}
