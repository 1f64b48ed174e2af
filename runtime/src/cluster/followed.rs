//! Subscriptions of other nodes' clients to shards that this node keeps.
//!
//! Promises: what is told is taken at the asking node's own pace, and merged until then as for any slow subscriber; a
//! subscription that nobody asks for ends, and so does one to a shard that leaves this node.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gemba_twins::{
    id::{TenantId, TwinId},
    twin::Twin,
};

use super::{
    keeping::Keeping,
    wire::{FollowReply, FollowWire, FrameWire, FramesReply, NextWire},
};
use crate::{
    changes::{Frame, FrameKind, Mode, Spec, SubscribeError, Subscription},
    clock,
    filter::Filter,
    shard::router::shard_of,
};

/// Most time that a node waits for something to tell.
pub(super) const TELL_WITHIN: Duration = Duration::from_secs(2);
/// Frames in one answer, and their bytes.
const FRAMES: usize = 64;
const FRAMES_BYTES: usize = 256 << 10;
/// A subscription that nobody asks for ends after this.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// Twins counted before giving way.
const SLICE: usize = 256;

/// A subscription of another node's client.
struct Open {
    subscription: tokio::sync::Mutex<Subscription>,
    tenant: TenantId,
    filter: Option<Arc<Filter>>,
    shards: BTreeSet<u16>,
    used: Mutex<Instant>,
}

/// Subscriptions of other nodes' clients, by name.
#[derive(Default)]
pub(super) struct Followed {
    open: Mutex<HashMap<u64, Arc<Open>>>,
    last: AtomicU64,
}

impl Followed {
    /// The subscription of a name; those that were forgotten end.
    fn get(&self, handle: u64) -> Option<Arc<Open>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, open| open.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < FORGOTTEN);
        open.get(&handle).cloned()
    }

    fn remove(&self, handle: u64) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&handle);
    }

    fn put(&self, open: Open) -> u64 {
        let handle = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(handle, Arc::new(open));
        handle
    }
}

impl Keeping {
    /// Opens a subscription for another node's client.
    pub(super) async fn follow(&self, wire: FollowWire) -> Result<FollowReply, String> {
        let tenant = TenantId::parse(&wire.tenant).map_err(|error| error.to_string())?;
        let filter = (!wire.filter.is_empty())
            .then(|| Filter::compile(&wire.filter))
            .transpose();
        let filter = filter.map_err(|error| error.detail)?;
        let shards = wire.shards.iter().map(|shard| u16::try_from(*shard));
        let shards = shards
            .collect::<Result<BTreeSet<u16>, _>>()
            .map_err(|error| error.to_string())?;
        for shard in &shards {
            self.caught_up(*shard).await?;
        }
        let spec = Spec {
            id: "followed".into(),
            filter: filter.clone(),
            fields: (!wire.fields.is_empty()).then_some(wire.fields),
            mode: if wire.every { Mode::Every } else { Mode::Latest },
            max_rate_hz: wire.max_rate_hz,
            resume: wire.resume,
        };
        match self.shared.hub.subscribe(&tenant, spec) {
            Ok(subscription) => {
                let handle = self.followed.put(Open {
                    subscription: tokio::sync::Mutex::new(subscription),
                    tenant,
                    filter,
                    shards,
                    used: Mutex::new(clock::instant()),
                });
                Ok(FollowReply {
                    handle,
                    ..FollowReply::default()
                })
            }
            Err(SubscribeError { code, detail }) => Ok(FollowReply {
                handle: 0,
                code: code.into(),
                detail,
            }),
        }
    }

    /// What is new in a subscription of another node's client.
    pub(super) async fn tell_frames(&self, wire: NextWire) -> FramesReply {
        let ended = FramesReply {
            frames: Vec::new(),
            ended: true,
        };
        let Some(open) = self.followed.get(wire.handle) else {
            return ended;
        };
        let keeps = |shard: &u16| self.table(*shard).is_some_and(|table| table.is_ready());
        if wire.ends || !open.shards.iter().all(keeps) {
            self.followed.remove(wire.handle);
            return ended;
        }
        let mut subscription = open.subscription.lock().await;
        *open.used.lock().unwrap_or_else(PoisonError::into_inner) = clock::instant();
        let until = clock::instant() + TELL_WITHIN;
        let (mut frames, mut bytes, mut is_over) = (Vec::new(), 0, false);
        while frames.is_empty() && !is_over {
            let left = until.saturating_duration_since(clock::instant());
            let mut next = match tokio::time::timeout(left, subscription.next()).await {
                Ok(Some(frame)) => Some(frame),
                Ok(None) => {
                    is_over = true;
                    None
                }
                Err(_) => break,
            };
            while let Some(frame) = next.take() {
                if is_of(&open.tenant, &open.shards, self.twins.shards(), &frame) {
                    bytes += frame.len();
                    let twins = match frame.kind() {
                        FrameKind::Subscribed => self.count(&open).await,
                        _ => 0,
                    };
                    frames.push(FrameWire {
                        kind: frame.kind().as_str().into(),
                        body: frame.body().into(),
                        resume: frame.resume().map(str::to_owned),
                        lost: frame.lost_count(),
                        twins,
                    });
                }
                if frames.len() < FRAMES && bytes < FRAMES_BYTES {
                    next = subscription.try_next();
                }
            }
        }
        *open.used.lock().unwrap_or_else(PoisonError::into_inner) = clock::instant();
        FramesReply {
            frames,
            ended: is_over,
        }
    }

    /// The twins that match, of the shards that are followed.
    async fn count(&self, open: &Open) -> u64 {
        let (mut count, now) = (0, clock::now());
        for shard in &open.shards {
            let mut after = None;
            loop {
                let mut visit = |twin: &Twin| {
                    count += u64::from(
                        open.filter
                            .as_ref()
                            .is_none_or(|filter| filter.matches(twin, now)),
                    );
                };
                let slice = self.twins.slice(
                    (*shard).into(),
                    &open.tenant,
                    None,
                    after.as_ref(),
                    SLICE,
                    &mut visit,
                );
                // What cannot be read is told by the subscription itself.
                after = slice.unwrap_or_default();
                if after.is_none() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        count
    }
}

/// Whether a frame is about a twin of some shards, or about none.
pub(super) fn is_of(tenant: &TenantId, shards: &BTreeSet<u16>, count: usize, frame: &Frame) -> bool {
    let Some(twin) = frame.twin() else { return true };
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    let id = TwinId::parse(tenant.clone(), twin);
    id.is_ok_and(|id| shards.contains(&shard_of(&id, count)))
}
