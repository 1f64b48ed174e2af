//! Shards that this node does not keep: their twins are asked of a node that does, and calls about them are passed on.
//!
//! Promises: what was acknowledged anywhere is in what a holder answers; a holder that does not answer is replaced by
//! another one, and where none does that is said. A change is passed on once: where its fate is not known, that is the
//! answer. What one search brings together is bounded.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use gemba_cluster::{Boxed, Errand, Undelivered};
use gemba_twins::{
    id::{Kind, TenantId, TwinId},
    time::Timestamp,
    twin::Twin,
};
use prost::Message as _;

use super::{
    Cluster,
    keeping::Keeping,
    reading::{ASK_WITHIN, COMMAND_WITHIN, READ_WITHIN},
    sending::pause,
    wire::{CallReply, CallWire, HeaderWire, Said, TwinWire, TwinsReply, TwinsWire, say},
};
use crate::{
    clock,
    filter::Filter,
    keyring::{Principal, Role},
    store::StoreError,
    table::{Entry, TwinSlot, TwinTable, Twins},
};

/// Bytes of twins in one answer.
const PAGE_BYTES: usize = 1 << 20;
/// Twins visited before giving way.
const SLICE: usize = 256;
/// Most bytes of twins that are brought together for one search.
const TOGETHER_MAX: usize = 64 << 20;
/// Shards that are asked for at a time.
const AT_A_TIME: usize = 4;

/// Which twins a search looks at.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose.
    pub tenant: TenantId,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only those that match; the search filters itself, this only saves the way.
    pub filter: Option<Arc<Filter>>,
    /// Only those after this one, where the search goes by id.
    pub after: Option<TwinId>,
    /// The first ones of each shard, where the search goes by id and needs no more.
    pub limit: Option<usize>,
    /// The time it is, for what is stale.
    pub now: Timestamp,
}

impl Wanted {
    /// All twins of a tenant.
    #[must_use]
    pub fn all(tenant: TenantId) -> Self {
        Self {
            tenant,
            kind: None,
            filter: None,
            after: None,
            limit: None,
            now: clock::now(),
        }
    }
}

/// A client's call on its way to a node that keeps what it is about. Who asks is known and may do it.
#[derive(Debug, Clone)]
pub struct PassedCall {
    /// `GET` and the like.
    pub method: String,
    /// As the client sent it, percent-encoded.
    pub path: String,
    /// As the client sent it, without the question mark.
    pub query: String,
    /// Those that the answer may depend on.
    pub headers: Vec<(String, Bytes)>,
    /// The body.
    pub body: Bytes,
    /// Who asks.
    pub principal: Principal,
}

/// The answer to a [`PassedCall`].
#[derive(Debug, Clone)]
pub struct PassedReply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, Bytes)>,
    /// The body.
    pub body: Bytes,
}

/// Answers calls that other nodes pass on.
pub trait Calls: Send + Sync {
    /// Answers a call; never passes it on again.
    fn answer(&self, call: PassedCall) -> Boxed<'static, PassedReply>;
}

fn headers_wire(headers: Vec<(String, Bytes)>) -> Vec<HeaderWire> {
    let wire = |(name, value)| HeaderWire { name, value };
    headers.into_iter().map(wire).collect()
}

fn headers(wire: Vec<HeaderWire>) -> Vec<(String, Bytes)> {
    wire.into_iter()
        .map(|header| (header.name, header.value))
        .collect()
}

impl Cluster {
    /// The data shards that other nodes keep.
    pub(crate) fn elsewhere(&self) -> Vec<u16> {
        let tables = self.keeping.twins.tables.iter();
        let elsewhere = (0_u16..).zip(tables).filter(|(_, table)| table.is_elsewhere());
        elsewhere.map(|(shard, _)| shard).collect()
    }

    /// The twins that a search looks at: those of this node, and beside them those that others keep, as they are now.
    pub(crate) async fn together(&self, wanted: &Wanted) -> Result<Arc<Twins>, StoreError> {
        let until = clock::instant() + READ_WITHIN;
        let own = &self.keeping.twins;
        loop {
            let elsewhere = self.elsewhere();
            let here = (0..self.keeping.shared.settings.shards).filter(|shard| !elsewhere.contains(shard));
            self.catch_up_until(here, until).await?;
            let asked = elsewhere.iter().map(|shard| self.fetch(*shard, wanted, until));
            let asked: Vec<_> = asked.collect();
            let fetched: Vec<(Arc<TwinTable>, usize)> =
                stream::iter(asked).buffered(AT_A_TIME).try_collect().await?;
            if fetched.iter().map(|(_, bytes)| bytes).sum::<usize>() > TOGETHER_MAX {
                return Err(StoreError::TooWide {
                    most: TOGETHER_MAX >> 20,
                });
            }
            // Another state may be taking the place of one just now, or a shard may have left meanwhile.
            if self.elsewhere() != elsewhere {
                continue;
            }
            for table in own.tables.iter().filter(|table| !table.is_elsewhere()) {
                table.recovered().await?;
            }
            if elsewhere.is_empty() {
                return Ok(own.clone());
            }
            let mut tables = own.tables.clone();
            for (shard, (table, _)) in elsewhere.into_iter().zip(fetched) {
                tables[usize::from(shard)] = table;
            }
            let store = own.store.clone();
            return Ok(Arc::new(Twins { tables, store }));
        }
    }

    /// The wanted twins of a shard that others keep, and their bytes.
    async fn fetch(
        &self,
        shard: u16,
        wanted: &Wanted,
        until: Instant,
    ) -> Result<(Arc<TwinTable>, usize), StoreError> {
        let table = TwinTable::new(shard);
        let (mut bytes, mut count) = (0, 0);
        let mut wire = TwinsWire {
            tenant: wanted.tenant.to_string(),
            kind: wanted.kind.map(Kind::as_str).unwrap_or_default().to_owned(),
            filter: wanted
                .filter
                .as_ref()
                .map(|filter| filter.text().to_owned())
                .unwrap_or_default(),
            after: wanted.after.as_ref().map(ToString::to_string).unwrap_or_default(),
            limit: wanted.limit.map_or(0, |limit| limit as u64),
            now_ms: wanted.now.ms(),
        };
        loop {
            let reply: TwinsReply = self.ask_holder(shard, &wire, until).await?;
            for TwinWire { id, state } in reply.twins {
                let damaged = || StoreError::Damaged { what: id.clone() };
                let twin = TwinId::parse(wanted.tenant.clone(), &id).map_err(|_| damaged())?;
                let twin = Twin::decode(twin, &state).map_err(|_| damaged())?;
                bytes += state.len();
                count += 1;
                table.put(twin.id().clone(), Entry::Resident(TwinSlot::new(twin, 0)));
            }
            let is_enough = wanted.limit.is_some_and(|limit| count >= limit) || bytes > TOGETHER_MAX;
            match reply.next {
                Some(next) if !is_enough => wire.after = next,
                _ => return Ok((table, bytes)),
            }
        }
    }

    /// Asks those that keep a shard, one after the other, for a page of its twins.
    async fn ask_holder(
        &self,
        shard: u16,
        wire: &TwinsWire,
        until: Instant,
    ) -> Result<TwinsReply, StoreError> {
        for turn in 0.. {
            if let Some(holder) = self.sending.other_owner(shard, turn) {
                let body = say(Said::Twins(wire.clone()));
                let asked = self
                    .sending
                    .ask(holder, Errand::Batch, shard, body, ASK_WITHIN * 3)
                    .await;
                match asked.map(TwinsReply::decode) {
                    Ok(Ok(reply)) => return Ok(reply),
                    Ok(Err(error)) => {
                        tracing::warn!(shard, holder, %error, "a node answered what is not understood")
                    }
                    Err(error) => {
                        tracing::debug!(shard, holder, %error, "twins not told; asking another node")
                    }
                }
            }
            if clock::instant() >= until {
                break;
            }
            pause().await;
        }
        Err(StoreError::NoOwner { shard })
    }

    /// Has a call answered by a node that keeps the shard that it is about.
    pub(crate) async fn pass_on(&self, shard: u16, call: PassedCall) -> Result<PassedReply, StoreError> {
        let (until, may_repeat) = (clock::instant() + READ_WITHIN, call.method == "GET");
        let body = say(Said::Call(CallWire {
            method: call.method,
            path: call.path,
            query: call.query,
            headers: headers_wire(call.headers),
            body: call.body,
            tenant: call.principal.tenant.to_string(),
            name: call.principal.name.to_string(),
            role: call.principal.role.as_str().to_owned(),
        }));
        for turn in 0.. {
            if let Some(holder) = self.sending.other_owner(shard, turn) {
                let asked = self
                    .sending
                    .ask(holder, Errand::Batch, shard, body.clone(), COMMAND_WITHIN)
                    .await;
                match asked.map(CallReply::decode) {
                    Ok(Ok(reply)) => {
                        return Ok(PassedReply {
                            status: u16::try_from(reply.status).unwrap_or(500),
                            headers: headers(reply.headers),
                            body: reply.body,
                        });
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(shard, holder, %error, "a node answered what is not understood")
                    }
                    Err(error) => {
                        tracing::debug!(shard, holder, %error, "a call was not answered");
                        // What never arrived may be sent to another one.
                        if !may_repeat && !matches!(error, Undelivered::Unreachable { is_unsent: true, .. }) {
                            return Err(StoreError::Unknown { node: holder });
                        }
                    }
                }
            }
            if clock::instant() >= until {
                break;
            }
            pause().await;
        }
        Err(StoreError::NoOwner { shard })
    }
}

impl Keeping {
    /// A page of a shard's twins, as far as they are folded at its owner.
    pub(super) async fn tell_twins(&self, shard: u16, wire: TwinsWire) -> Result<TwinsReply, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let tenant = TenantId::parse(&wire.tenant).map_err(|error| text(&error))?;
        let kind = (!wire.kind.is_empty())
            .then(|| Kind::parse(&wire.kind))
            .transpose();
        let kind = kind.map_err(|error| text(&error))?;
        let filter = (!wire.filter.is_empty())
            .then(|| Filter::compile(&wire.filter))
            .transpose();
        let filter = filter.map_err(|error| error.detail)?;
        let mut after = match wire.after.as_str() {
            "" => None,
            after => Some(TwinId::parse(tenant.clone(), after).map_err(|error| text(&error))?),
        };
        self.caught_up(shard).await?;
        let now = Timestamp::from_ms(wire.now_ms);
        let most = usize::try_from(wire.limit)
            .ok()
            .filter(|limit| *limit > 0)
            .unwrap_or(usize::MAX);
        let (mut twins, mut bytes) = (Vec::new(), 0);
        loop {
            let mut take = |twin: &Twin| {
                if filter.as_ref().is_none_or(|filter| filter.matches(twin, now)) {
                    let mut state = Vec::new();
                    twin.encode(&mut state);
                    bytes += state.len();
                    let id = twin.id().to_string();
                    twins.push(TwinWire {
                        id,
                        state: state.into(),
                    });
                }
            };
            let at = usize::from(shard);
            let slice = self
                .twins
                .slice(at, &tenant, kind, after.as_ref(), SLICE, &mut take);
            after = slice.map_err(|error| text(&error))?;
            if after.is_none() || bytes >= PAGE_BYTES || twins.len() >= most {
                let next = after.map(|after| after.to_string());
                return Ok(TwinsReply { twins, next });
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a shard that is kept here is as far as at its owner.
    pub(super) async fn caught_up(&self, shard: u16) -> Result<(), String> {
        let cluster = self.cluster().ok_or("the node is starting")?;
        let table = self.table(shard).ok_or("no such shard")?;
        table.recovered().await.map_err(|error| error.to_string())?;
        cluster
            .catch_up([shard])
            .await
            .map_err(|error| error.to_string())?;
        table.recovered().await.map_err(|error| error.to_string())
    }

    /// Answers a call that another node has passed on.
    pub(super) async fn answer_call(&self, wire: CallWire) -> Result<CallReply, String> {
        let calls = self.calls().ok_or("the node is starting")?;
        let tenant = TenantId::parse(&wire.tenant).map_err(|error| error.to_string())?;
        let role = Role::parse(&wire.role).ok_or("a role that is not known here")?;
        let principal = Principal {
            tenant,
            name: wire.name.as_str().into(),
            role,
        };
        let call = PassedCall {
            method: wire.method,
            path: wire.path,
            query: wire.query,
            headers: headers(wire.headers),
            body: wire.body,
            principal,
        };
        let reply = calls.answer(call).await;
        Ok(CallReply {
            status: reply.status.into(),
            headers: headers_wire(reply.headers),
            body: reply.body,
        })
    }
}
