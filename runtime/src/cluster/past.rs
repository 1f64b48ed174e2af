//! Readings and scans that a node's journal lacks because its replica came with a snapshot: they are asked of the others,
//! so that the node's history has them as well, and the warehouse gets them whoever owns the shard.
//!
//! Promises: what is handed over was committed, in order, and all of what it says it holds; that nobody has something is
//! said only when every node that may have it has answered.

use std::{collections::BTreeMap, path::Path, time::Duration};

use gemba_cluster::{Errand, Journal, Seq, ShardId, map::MemberState};
use gemba_twins::{event::Event, id::TenantId};
use prost::Message as _;

use super::{
    Cluster,
    keeping::Keeping,
    reading::ASK_WITHIN,
    wire::{FoldedReply, FoldedWire, PastEvent, PastReply, PastWire, Said, say},
};
use crate::{
    history::{Chunk, Filed, FiledEvents, Held, KINDS_OF_EVENTS, is_filed, tenants_in},
    shard::record::{self, Record},
};

/// Bytes of records in one answer, about.
const PAGE_BYTES: usize = 4 << 20;
/// Most time until a node has read what it is asked for: it may be in files.
const PAST_WITHIN: Duration = Duration::from_secs(10);

/// Answers up to which seq the warehouse needs nothing of a shard.
pub(crate) type Floors = Box<dyn Fn(u16) -> u64 + Send + Sync>;

impl Cluster {
    /// The epoch in which this node owns a shard and serves it, if it does.
    pub(crate) fn owned_in(&self, shard: u16) -> Option<u64> {
        let role = self.keeping.group(shard)?.role().borrow().clone();
        role.serves.then(|| role.epoch.get())
    }

    /// Names who knows up to which seq the warehouse needs nothing of a shard; only the first one counts.
    pub(crate) fn set_floors(&self, floors: Floors) {
        let _ = self.keeping.floors.set(floors);
    }

    /// Asks the owners of shards that this node does not own up to which seq the warehouse needs nothing of them; those
    /// that answer.
    pub(crate) async fn floors_elsewhere(&self, shards: impl Iterator<Item = u16>) -> Vec<(u16, u64)> {
        let mut by_owner: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
        for shard in shards.filter(|shard| self.owned_in(*shard).is_none()) {
            if let Some(owner) = self.sending.other_owner(shard, 0) {
                by_owner.entry(owner).or_default().push(shard);
            }
        }
        let asked = by_owner.into_iter().map(|(owner, shards)| async move {
            let asked = self
                .sending
                .ask_of_shards(owner, Said::Cleared, &shards, ASK_WITHIN);
            let floors = asked.await;
            shards.into_iter().zip(floors).collect::<Vec<_>>()
        });
        futures_util::future::join_all(asked).await.concat()
    }

    /// What other nodes have of a shard's readings and scans from `from` to `to`, or of the first of them; `None` where
    /// nobody has any. An error where somebody who may have them did not answer.
    pub(crate) async fn past(&self, shard: u16, from: u64, to: u64) -> Result<Option<Chunk>, String> {
        let map = self.keeper.map().borrow().clone();
        let others = map
            .members
            .values()
            .filter(|member| member.node != self.node && member.state() != MemberState::Gone);
        // Those that keep the shard are more likely to have it.
        let keepers = map.keepers(ShardId::new(shard));
        let mut others: Vec<u64> = others.map(|member| member.node).collect();
        others.sort_by_key(|node| !keepers.contains(node));
        let (mut best, mut unheard) = (None::<PastReply>, None);
        for node in others {
            let body = say(Said::Past(PastWire { from, to }));
            let answer = self
                .sending
                .ask(node, Errand::Batch, shard, body, PAST_WITHIN)
                .await;
            let reply = answer
                .map_err(|error| error.to_string())
                .and_then(|answer| PastReply::decode(answer).map_err(|error| error.to_string()));
            match reply {
                Ok(reply) if reply.begins == from => return chunk_of(reply).map(Some),
                Ok(reply) if reply.begins > from => {
                    let is_better = best.as_ref().is_none_or(|best| reply.begins < best.begins);
                    best = if is_better { Some(reply) } else { best };
                }
                Ok(_) => {}
                Err(error) => unheard = Some(error),
            }
        }
        match unheard {
            Some(error) => Err(error),
            None => best.map(chunk_of).transpose(),
        }
    }
}

fn chunk_of(reply: PastReply) -> Result<Chunk, String> {
    let mut chunk = Chunk {
        first: reply.begins,
        last: reply.last,
        ..Chunk::default()
    };
    if reply.last < reply.begins {
        return Err("an answer that ends before it begins".into());
    }
    for PastEvent { seq, record } in reply.events {
        match record::decode(&record).map_err(|error| error.to_string())? {
            Record::Event(event) => drop(chunk.events.insert(seq, event)),
            _ => return Err("a record that is no event".into()),
        }
    }
    Ok(chunk)
}

impl Keeping {
    pub(super) fn tell_floors(&self, asked: &FoldedWire) -> FoldedReply {
        let of = |shard: &u32| {
            let number = u16::try_from(*shard).ok()?;
            let serves = self.group(number)?.role().borrow().serves;
            serves.then(|| self.floors.get().map_or(0, |floors| floors(number)))
        };
        FoldedReply {
            next: asked
                .shards
                .iter()
                .map(|shard| of(shard).unwrap_or_default())
                .collect(),
        }
    }

    pub(super) async fn tell_past(&self, shard: u16, asked: PastWire) -> Result<PastReply, String> {
        // What is folded here is committed; what is behind it in the journal may not be.
        let folded = match (self.group(shard), self.table(shard)) {
            (Some(_), Some(table)) => Some(table.folded()),
            _ => None,
        };
        let (journal, history) = (self.journal.clone(), self.shared.settings.history.folder.clone());
        let work = move || told(&journal, history.as_deref(), shard, folded, asked);
        let told = tokio::task::spawn_blocking(work).await;
        told.map_err(|error| error.to_string())?
    }
}

/// What this node has: from the journal, and where that begins later, from the files. `folded` is known of a shard that it
/// keeps.
fn told(
    journal: &Journal,
    history: Option<&Path>,
    shard: u16,
    folded: Option<u64>,
    PastWire { from, to }: PastWire,
) -> Result<PastReply, String> {
    let begins = journal.first_seq(ShardId::new(shard)).get();
    if begins > from
        && let Some(root) = history
        && let Held::Here(to) = Filed::load(root, shard)
            .map_err(|error| error.to_string())?
            .held(from, to)
    {
        return filed(root, shard, from, to);
    }
    let Some(folded) = folded.filter(|_| begins <= to) else {
        return Ok(PastReply::default());
    };
    let from = from.max(begins);
    if from > folded {
        return Err(format!("seq {from} of shard {shard} is not folded there yet"));
    }
    journaled(journal, shard, from, to.min(folded))
}

fn journaled(journal: &Journal, shard: u16, from: u64, to: u64) -> Result<PastReply, String> {
    let mut reply = PastReply {
        begins: from,
        ..PastReply::default()
    };
    let mut bytes = 0;
    for frame in journal.read(ShardId::new(shard), Seq::new(from)) {
        let frame = frame.map_err(|error| error.to_string())?;
        for (seq, record) in (frame.first().get()..).zip(frame.records()) {
            if seq < from {
                continue;
            }
            if seq > to || bytes >= PAGE_BYTES {
                return Ok(reply);
            }
            if let Record::Event(event) = record::decode(record).map_err(|error| error.to_string())?
                && is_filed(&event)
            {
                bytes += record.len();
                let record = record.to_vec().into();
                reply.events.push(PastEvent { seq, record });
            }
            reply.last = seq;
        }
    }
    Ok(reply)
}

fn filed(root: &Path, shard: u16, from: u64, to: u64) -> Result<PastReply, String> {
    let (mut last, mut events) = (to, BTreeMap::<u64, Event>::new());
    let tenants: Vec<TenantId> = tenants_in(root).map_err(|error| error.to_string())?;
    for tenant in &tenants {
        for kind in KINDS_OF_EVENTS {
            let files = FiledEvents {
                root,
                tenant,
                shard,
                kind,
            };
            let chunk = files
                .chunk(from, last, PAGE_BYTES)
                .map_err(|error| error.to_string())?;
            last = last.min(chunk.last);
            events.extend(chunk.events);
        }
    }
    // Of a tenant that was read before another one ended earlier.
    events.retain(|seq, _| *seq <= last);
    let record = |(seq, event): (u64, Event)| {
        let mut record = Vec::new();
        record::encode_event(&event, &mut record);
        PastEvent {
            seq,
            record: record.into(),
        }
    };
    Ok(PastReply {
        begins: from,
        last,
        events: events.into_iter().map(record).collect(),
    })
}
