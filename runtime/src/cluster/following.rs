//! A subscription to all twins of a cluster: those of this node, and beside them those that other nodes keep.
//!
//! Promises: what a node tells is passed on as it is, of each shard from one node at a time; where a node that was
//! followed ends or does not answer, or a shard leaves this one, the subscriber hears `lost` and is told everything
//! anew, never a silent gap. A token holds at any node; for `every` only where one node keeps everything.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream, stream::BoxStream};
use gemba_cluster::{Errand, ShardId, map::ClusterMap};
use gemba_twins::id::TenantId;
use prost::Message as _;
use tokio::sync::watch;

use super::{
    Cluster,
    followed::{TELL_WITHIN, is_of},
    reading::{ASK_WITHIN, READ_WITHIN},
    sending::pause,
    wire::{FollowReply, FollowWire, FrameWire, FramesReply, NextWire, Said, say},
};
use crate::{
    changes::{Frame, FrameKind, Hub, Mode, Spec, SubscribeError, Subscription, merge_tokens, quoted},
    clock,
};

/// Most time that somebody is looked for who keeps a shard.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// What another node tells; `None` where it has ended, or does not answer.
type Told = (usize, Option<FrameWire>);

/// The nodes that are followed for shards which this one does not keep.
struct Parts {
    /// The shards of this node, then those of each other one.
    shards: Vec<BTreeSet<u16>>,
    /// The newest token of each.
    tokens: Vec<Option<String>>,
    told: stream::SelectAll<BoxStream<'static, Told>>,
}

/// A subscription of a client of this node.
pub struct Following {
    hub: Hub,
    cluster: Option<Arc<Cluster>>,
    map: Option<watch::Receiver<Arc<ClusterMap>>>,
    tenant: TenantId,
    spec: Spec,
    /// The subscription's id as a JSON string.
    id: Arc<str>,
    here: Subscription,
    parts: Option<Parts>,
    /// It is told again what it was told before.
    is_again: bool,
    ready: VecDeque<Frame>,
    is_over: bool,
}

impl Following {
    pub(crate) fn open(
        hub: &Hub,
        cluster: Option<Arc<Cluster>>,
        tenant: &TenantId,
        spec: Spec,
    ) -> Result<Self, SubscribeError> {
        let here = hub.subscribe(tenant, spec.clone())?;
        Ok(Self {
            hub: hub.clone(),
            map: cluster.as_ref().map(|cluster| cluster.keeper.map()),
            cluster,
            tenant: tenant.clone(),
            id: quoted(&spec.id),
            spec,
            here,
            parts: None,
            is_again: false,
            ready: VecDeque::new(),
            is_over: false,
        })
    }

    /// The next frame; waits for it. `None` when the subscription is over.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.is_over {
                return None;
            }
            let (Some(cluster), Some(map)) = (self.cluster.clone(), self.map.as_mut()) else {
                return self.here.next().await;
            };
            let Some(parts) = self.parts.as_mut() else {
                self.begin(&cluster).await;
                continue;
            };
            tokio::select! {
                frame = self.here.next() => match frame {
                    Some(frame) => self.take(&cluster, 0, frame),
                    None => return None,
                },
                Some((at, told)) = parts.told.next() => match told.and_then(|wire| frame_of(&self.id, wire)) {
                    Some(frame) => self.take(&cluster, at, frame),
                    None => self.begin_again(None, "a node that was followed has ended or does not answer"),
                },
                Ok(()) = map.changed() => {
                    let elsewhere = cluster.elsewhere();
                    if parts.shards[0].iter().any(|shard| elsewhere.contains(shard)) {
                        self.begin_again(None, "the cluster's shards have moved");
                    }
                }
            }
        }
    }

    /// Finds out who keeps what, and begins to follow them.
    async fn begin(&mut self, cluster: &Arc<Cluster>) {
        let elsewhere = cluster.elsewhere();
        let all = 0..cluster.keeping.shared.settings.shards;
        let here: BTreeSet<u16> = all.filter(|shard| !elsewhere.contains(shard)).collect();
        let mut parts = Parts {
            shards: vec![here],
            tokens: vec![None],
            told: stream::SelectAll::new(),
        };
        if elsewhere.is_empty() {
            self.parts = Some(parts);
            return;
        }
        let (until, mut silent, mut twins) = (clock::instant() + OPEN_WITHIN, BTreeSet::new(), 0);
        let mut left: BTreeSet<u16> = elsewhere.into_iter().collect();
        while !left.is_empty() {
            for (node, shards) in cluster.holders(&left, &silent) {
                match open_at(cluster, node, self.ask_for(&shards)).await {
                    Ok(Some((handle, first, rest))) => {
                        twins += first.twins;
                        left.retain(|shard| !shards.contains(shard));
                        let told = told(cluster.clone(), node, handle, parts.shards.len(), rest);
                        parts.told.push(told);
                        parts.shards.push(shards);
                        parts.tokens.push(None);
                    }
                    Ok(None) => {
                        silent.insert(node);
                    }
                    Err(SubscribeError { code, detail }) => return self.end(code, &detail),
                }
            }
            if !left.is_empty() && clock::instant() >= until {
                let detail = "no node that keeps some of the twins answers (subscribe again)";
                return self.end("stream.unavailable", detail);
            }
            if !left.is_empty() {
                pause().await;
                // All were tried.
                if cluster.holders(&left, &silent).is_empty() {
                    silent.clear();
                }
            }
        }
        // It comes first, and says how many twins of this node match.
        let Some(first) = self.here.next().await else {
            self.is_over = true;
            return;
        };
        let counts = first.kind() == FrameKind::Subscribed;
        if counts && !self.is_again {
            let own = usize::try_from(twins)
                .unwrap_or(usize::MAX)
                .saturating_add(first.twins());
            self.ready.push_back(Frame::subscribed(&self.id, own));
        }
        self.parts = Some(parts);
        if !counts {
            self.take(cluster, 0, first);
        }
    }

    /// What a node is asked to tell of these shards.
    fn ask_for(&self, shards: &BTreeSet<u16>) -> FollowWire {
        FollowWire {
            tenant: self.tenant.to_string(),
            shards: shards.iter().copied().map(u32::from).collect(),
            filter: self
                .spec
                .filter
                .as_ref()
                .map(|filter| filter.text().to_owned())
                .unwrap_or_default(),
            fields: self.spec.fields.clone().unwrap_or_default(),
            every: self.spec.mode == Mode::Every,
            max_rate_hz: self.spec.max_rate_hz,
            resume: self.spec.resume.clone().filter(|_| !self.is_again),
        }
    }

    /// Takes a frame of a part.
    fn take(&mut self, cluster: &Cluster, at: usize, frame: Frame) {
        let Some(parts) = self.parts.as_mut() else { return };
        if parts.told.is_empty() && parts.shards.len() == 1 {
            let is_greeting = frame.kind() == FrameKind::Subscribed && std::mem::take(&mut self.is_again);
            if !is_greeting {
                self.ready.push_back(frame);
            }
            return;
        }
        let count = usize::from(cluster.keeping.shared.settings.shards);
        match frame.kind() {
            FrameKind::Live => {
                parts.tokens[at] = frame.resume().map(str::to_owned);
                let tokens: Option<Vec<(&str, &BTreeSet<u16>)>> = parts
                    .tokens
                    .iter()
                    .zip(&parts.shards)
                    .map(|(token, of)| Some((token.as_deref()?, of)))
                    .collect();
                if let Some(token) = tokens.and_then(|tokens| merge_tokens(&tokens)) {
                    self.ready.push_back(Frame::live(&self.id, token));
                }
            }
            FrameKind::Lost => {
                self.begin_again(
                    frame.lost_count(),
                    "a part of the subscription has lost something",
                );
            }
            FrameKind::Error => {
                self.ready.push_back(frame);
                self.is_over = true;
            }
            FrameKind::Subscribed => {}
            FrameKind::Snapshot | FrameKind::Change | FrameKind::Enter | FrameKind::Leave => {
                if is_of(&self.tenant, &parts.shards[at], count, &frame) {
                    self.ready.push_back(frame);
                }
            }
        }
    }

    /// Says that something was lost, and tells everything anew.
    fn begin_again(&mut self, count: Option<u64>, reason: &str) {
        self.ready.push_back(Frame::lost(&self.id, count, reason));
        let mut spec = self.spec.clone();
        spec.resume = None;
        self.parts = None;
        self.is_again = true;
        match self.hub.subscribe(&self.tenant, spec) {
            Ok(here) => self.here = here,
            Err(SubscribeError { code, detail }) => self.end(code, &detail),
        }
    }

    fn end(&mut self, code: &str, detail: &str) {
        self.ready.push_back(Frame::error(&self.id, code, detail));
        self.is_over = true;
    }
}

/// A part that was opened: its name at its node, the first frame, and those that came with it.
type Opened = (u64, FrameWire, VecDeque<FrameWire>);

/// Opens the part of a node; `None` where it does not answer.
async fn open_at(cluster: &Cluster, node: u64, wire: FollowWire) -> Result<Option<Opened>, SubscribeError> {
    let shard = wire
        .shards
        .first()
        .and_then(|shard| u16::try_from(*shard).ok())
        .unwrap_or_default();
    let asked = cluster
        .sending
        .ask(node, Errand::Batch, shard, say(Said::Follow(wire)), READ_WITHIN)
        .await;
    let Some(reply) = asked.ok().and_then(|reply| FollowReply::decode(reply).ok()) else {
        return Ok(None);
    };
    if reply.handle == 0 {
        let codes = [
            "fields.invalid",
            "rate.invalid",
            "resume.invalid",
            "subscription.invalid",
            "stream.too_many",
        ];
        let code = codes
            .into_iter()
            .find(|code| **code == reply.code)
            .unwrap_or("stream.unavailable");
        return Err(SubscribeError {
            code,
            detail: reply.detail,
        });
    }
    let mut frames = VecDeque::new();
    while frames.is_empty() {
        match next_of(cluster, node, reply.handle).await {
            Some(told) => frames.extend(told),
            None => return Ok(None),
        }
    }
    let first = frames.pop_front().unwrap_or_default();
    if first.kind != FrameKind::Subscribed.as_str() {
        frames.push_front(first);
        return Ok(Some((reply.handle, FrameWire::default(), frames)));
    }
    Ok(Some((reply.handle, first, frames)))
}

fn frame_of(id: &Arc<str>, wire: FrameWire) -> Option<Frame> {
    Frame::of_parts(
        FrameKind::parse(&wire.kind)?,
        id,
        wire.body,
        wire.resume,
        wire.lost,
    )
}

/// The next frames of a part; `None` where it has ended, or does not answer.
async fn next_of(cluster: &Cluster, node: u64, handle: u64) -> Option<Vec<FrameWire>> {
    let body = say(Said::Next(NextWire { handle, ends: false }));
    let within = TELL_WITHIN + ASK_WITHIN;
    let asked = cluster
        .sending
        .ask(node, Errand::Batch, ShardId::MAP.get(), body, within)
        .await;
    let reply = FramesReply::decode(asked.ok()?).ok()?;
    (!reply.ended || !reply.frames.is_empty()).then_some(reply.frames)
}

/// Ends a part when nobody listens any more.
struct Ending {
    cluster: Arc<Cluster>,
    node: u64,
    handle: u64,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let (cluster, node, handle) = (self.cluster.clone(), self.node, self.handle);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let body = say(Said::Next(NextWire { handle, ends: true }));
            // A node that does not hear of it ends the part by itself.
            let _ = cluster
                .sending
                .ask(node, Errand::Batch, ShardId::MAP.get(), body, ASK_WITHIN)
                .await;
        });
    }
}

/// What a node tells of its part, until it has ended or does not answer.
fn told(
    cluster: Arc<Cluster>,
    node: u64,
    handle: u64,
    at: usize,
    first: VecDeque<FrameWire>,
) -> BoxStream<'static, Told> {
    let ending = Ending {
        cluster,
        node,
        handle,
    };
    let state = (Some(ending), first);
    stream::unfold(state, move |(ending, mut frames)| async move {
        let listening = ending?;
        while frames.is_empty() {
            match next_of(&listening.cluster, node, handle).await {
                Some(told) => frames.extend(told),
                None => return Some(((at, None), (None, frames))),
            }
        }
        Some(((at, frames.pop_front()), (Some(listening), frames)))
    })
    .boxed()
}

impl Cluster {
    /// Nodes that keep these shards, as few as go, without those that were silent.
    fn holders(&self, shards: &BTreeSet<u16>, silent: &BTreeSet<u64>) -> BTreeMap<u64, BTreeSet<u16>> {
        let map = self.keeper.map().borrow().clone();
        holders(&map, self.node, shards, silent)
    }
}

fn holders(
    map: &ClusterMap,
    own: u64,
    shards: &BTreeSet<u16>,
    silent: &BTreeSet<u64>,
) -> BTreeMap<u64, BTreeSet<u16>> {
    let (mut left, mut chosen) = (shards.clone(), BTreeMap::new());
    loop {
        let mut kept: BTreeMap<u64, BTreeSet<u16>> = BTreeMap::new();
        for shard in &left {
            for node in map.keepers(ShardId::new(*shard)) {
                if node != own && !silent.contains(&node) {
                    kept.entry(node).or_default().insert(*shard);
                }
            }
        }
        let Some((node, keeps)) = kept.into_iter().max_by_key(|(_, keeps)| keeps.len()) else {
            return chosen;
        };
        left.retain(|shard| !keeps.contains(shard));
        chosen.insert(node, keeps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_nodes_are_followed_and_silent_ones_not() {
        let mut map = ClusterMap::default();
        for (shard, nodes) in [(0, [2, 3]), (1, [2, 4]), (2, [4, 5])] {
            map.shards.nodes.insert(shard, nodes.to_vec());
        }
        let shards = BTreeSet::from([0, 1, 2]);
        let chosen = holders(&map, 1, &shards, &BTreeSet::new());
        let wanted = BTreeMap::from([(2, BTreeSet::from([0])), (4, BTreeSet::from([1, 2]))]);
        let wanted_too = BTreeMap::from([(3, BTreeSet::from([0])), (4, BTreeSet::from([1, 2]))]);
        assert!(chosen == wanted || chosen == wanted_too, "{chosen:?}");
        let chosen = holders(&map, 1, &shards, &BTreeSet::from([4]));
        let wanted = BTreeMap::from([(2, BTreeSet::from([0, 1])), (5, BTreeSet::from([2]))]);
        assert_eq!(chosen, wanted);
    }
}
