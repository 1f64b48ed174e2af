//! A group's state machine as openraft sees it, over an [`Apply`].
//!
//! Promises: frames reach the `Apply` once, in order; a new owner's epoch is announced after all frames of older ones;
//! which snapshot a state was taken over from is on disk before the state is. Holds no state of its own that the
//! journal, `raft.redb` and the `Apply` would not lead to.

use std::{
    io,
    sync::{Arc, PoisonError},
};

use futures_util::{Stream, StreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, SnapshotMeta,
    storage::{EntryResponder, RaftStateMachine},
};
use tokio::sync::watch;

use super::{
    Applied, Batch, Kind, LogId, StoredMembership,
    apply::{Apply, Cut},
    ballots::Ballots,
    log::Shared,
    wire::{log_id, place, stored_members, write_members},
};
use crate::{Epoch, Journal, LogBase, Seq, ShardId};

pub(crate) type Meta = openraft::alias::SnapshotMetaOf<Kind>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<Kind, Cut>;

/// Finds out at which entry a state stands.
pub(crate) fn find(shard: ShardId, journal: &Journal, ballots: &Ballots, holds: Seq) -> io::Result<LogBase> {
    let installed = ballots.installed(shard)?.filter(|base| base.seq == holds.get());
    let log = journal.log(shard);
    if let Some(base) = installed
        && let Some(at) = base.place
    {
        // The snapshot knows its place, whatever the log has at that seq: it may end with entries that never counted.
        let is_in_log = log
            .as_ref()
            .is_some_and(|log| log.base.place <= Some(at) && log.last >= Some(at));
        if !is_in_log {
            return Ok(base);
        }
        let known = match &log {
            Some(log) if log.base.place == Some(at) => Some(at),
            _ => journal.row_at(shard, at.index).ok().flatten().map(|row| row.0),
        };
        if known != Some(at) {
            return Ok(base);
        }
    }
    let Some(log) = log else {
        return Ok(LogBase::default());
    };
    if holds.get() < log.base.seq {
        return Err(io::Error::other(format!(
            "the state of shard {shard} ends at seq {holds}, its journal begins after seq {} (it needs a snapshot of \
             another replica)",
            log.base.seq
        )));
    }
    let found = journal.place_up_to(shard, holds).map_err(io::Error::other)?;
    let Some((at, _)) = found else {
        return Ok(LogBase {
            place: None,
            ..log.base
        });
    };
    let (members_place, members) = journal.members_at(shard, at.index).map_err(io::Error::other)?;
    Ok(LogBase {
        place: Some(at),
        seq: holds.get(),
        epoch: at.term,
        members,
        members_place,
    })
}

/// The state machine of a group.
pub(crate) struct Machine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) apply: Box<dyn Apply>,
    pub(crate) node: u64,
    /// The epoch that was announced last, and whether this node owns it.
    pub(crate) began: watch::Sender<(Epoch, bool)>,
}

impl Machine {
    fn note(&self, change: impl FnOnce(&mut LogBase)) {
        change(&mut self.shared.applied.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Announces an epoch when the first entry of its owner is applied: raft lets an owner commit nothing before it.
    async fn begin(&mut self, term: u64) -> io::Result<()> {
        let epoch = Epoch::new(term);
        if self.began.borrow().0 >= epoch {
            return Ok(());
        }
        let mine = self.shared.vote().is_some_and(|vote| {
            vote.is_committed() && vote.leader_id().term == term && vote.leader_id().voted_for == self.node
        });
        self.apply.began(epoch, mine).await?;
        self.began.send_replace((epoch, mine));
        Ok(())
    }

    async fn applied(&mut self, batch: Batch, at: &LogId) -> io::Result<Applied> {
        let Batch::Placed(frame) = batch else {
            return Err(io::Error::other(format!(
                "entry {at} has no place in the journal"
            )));
        };
        let done = Applied {
            first: frame.first(),
            last: frame.last(),
        };
        if done.last.get() > self.shared.applied().seq {
            self.apply.applied(frame).await?;
            self.note(|applied| applied.seq = done.last.get());
        }
        Ok(done)
    }

    async fn cut(&mut self) -> io::Result<(LogBase, Cut)> {
        let applied = self.shared.applied();
        let cut = self.apply.snapshot().await?;
        if cut.seq.get() == applied.seq {
            return Ok((applied, cut));
        }
        let seq = cut.seq;
        let shared = self.shared.clone();
        let base = shared
            .blocking(move |shared| find(shared.shard, &shared.journal, &shared.ballots, seq))
            .await?;
        Ok((base, cut))
    }
}

fn meta(base: &LogBase) -> io::Result<Meta> {
    Ok(SnapshotMeta {
        last_log_id: base.place.map(log_id),
        last_membership: stored_members(base.members_place, &base.members).map_err(io::Error::other)?,
    })
}

fn snapshot(base: &LogBase, snapshot: Cut) -> io::Result<Snapshot> {
    Ok(Snapshot {
        meta: meta(base)?,
        snapshot,
    })
}

/// Hands over a cut that was made already.
pub(crate) struct Builder(Option<io::Result<(LogBase, Cut)>>);

impl RaftSnapshotBuilder<Kind> for Builder {
    type SnapshotData = Cut;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let made = self.0.take();
        let (base, cut) =
            made.unwrap_or_else(|| Err(io::Error::other("the snapshot was handed over already")))?;
        snapshot(&base, cut)
    }
}

impl RaftStateMachine<Kind> for Machine {
    type SnapshotData = Cut;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.shared.applied();
        let members = stored_members(applied.members_place, &applied.members).map_err(io::Error::other)?;
        Ok((applied.place.map(log_id), members))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = Result<EntryResponder<Kind>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let at = place(&entry.log_id);
            self.begin(at.term).await?;
            let done = match entry.payload {
                EntryPayload::Blank => Applied::default(),
                EntryPayload::Membership(members) => {
                    let bytes = write_members(&members);
                    self.note(|applied| {
                        applied.members = bytes;
                        applied.members_place = at;
                    });
                    Applied::default()
                }
                EntryPayload::Normal(batch) => self.applied(batch, &entry.log_id).await?,
            };
            self.note(|applied| {
                applied.place = Some(at);
                applied.epoch = at.term;
            });
            if let Some(responder) = responder {
                responder.send(done);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        Builder(Some(self.cut().await))
    }

    async fn install_snapshot(&mut self, meta: &Meta, cut: Cut) -> io::Result<()> {
        let at = meta.last_log_id.as_ref().map(place);
        let base = LogBase {
            place: at,
            seq: cut.seq.get(),
            epoch: at.map_or(0, |at| at.term),
            members: write_members(meta.last_membership.membership()),
            members_place: meta
                .last_membership
                .log_id()
                .as_ref()
                .map(place)
                .unwrap_or_default(),
        };
        let row = base.clone();
        self.shared
            .blocking(move |shared| shared.ballots.save_installed(shared.shard, &row))
            .await?;
        self.apply.install(cut).await?;
        let term = base.epoch;
        self.note(|applied| *applied = base);
        self.begin(term).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        if self.shared.applied().place.is_none() {
            return Ok(None);
        }
        let (base, cut) = self.cut().await?;
        snapshot(&base, cut).map(Some)
    }
}
