//! Back-fill: twins folded again from the journal, with today's plant model in force from the beginning or from a time.
//!
//! Promises: the live twins go on meanwhile and are touched only by [`Node::take_over`], which journals the new state
//! as an event of the twin, and only if nothing came in between (else what came is folded first). One pass over a
//! shard's journal serves many twins; memory is bounded by how many are asked for at once. History that was handed out
//! stays as it was. Where the journal was trimmed, that is said.

use std::collections::HashMap;

use gemba_cluster::{Seq, ShardId};
use gemba_twins::{
    config::TwinConfig,
    event::{Body, Event, Position},
    id::TwinId,
    refolded::Refolded,
    time::Timestamp,
    twin::{Effects, Twin},
};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::{
    CommandError, Inner, Node, ReadError,
    read::{WORK_MAX, blocking},
};
use crate::{
    clock,
    decode::Rejection,
    plant::twin_configs,
    shard::{CommandKind, record},
};

/// Most twins of one call.
pub const REFOLD_MAX: usize = 200;
/// A state that takes more bytes does not fit into a record of the journal.
const STATE_MAX: usize = 60_000;
/// How often what came in between is folded before a state is taken over; each time it is less.
const ATTEMPTS: usize = 20;
/// Reading whole journals is heavy; one at a time.
static AT_ONCE: Semaphore = Semaphore::const_new(1);

/// A twin as it is, and as it would be.
#[derive(Debug, Clone)]
pub struct RefoldedTwin {
    /// The live one.
    pub before: Twin,
    /// As it follows from the journal with today's model.
    pub after: Twin,
    from: Option<Timestamp>,
    model_version: u64,
    /// The seq up to which `after` was folded.
    seq: u64,
    configuring: Configuring,
}

/// Why nothing was folded again.
#[derive(Debug, Error)]
pub enum RefoldError {
    /// The past cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no model to fold by.
    #[error("no plant model is applied (apply one with `gemba apply -f plant.yaml`)")]
    NoPlant,
    /// Too many at once.
    #[error("{0} twins are asked for (at most {REFOLD_MAX} in one call)")]
    TooMany(usize),
    /// It took too long.
    #[error("the journal was not read within {} s (ask for fewer twins)", WORK_MAX.as_secs())]
    TooLong,
    /// Another one is under way.
    #[error("another refold is under way (try again in a second)")]
    Busy,
}

/// When today's configuration takes the place of those of then.
#[derive(Debug, Clone)]
struct Configuring {
    config: TwinConfig,
    from: Option<Timestamp>,
    is_done: bool,
}

impl Configuring {
    /// Folds an event as if today's model had been in force.
    fn fold(&mut self, twin: &mut Twin, position: Position, event: &Event) {
        let is_before = self.from.is_some_and(|from| event.received_at < from);
        if !is_before && !self.is_done {
            self.is_done = true;
            let configured = Event {
                body: Body::Configured(Box::new(self.config.clone())),
                ..event.clone()
            };
            twin.fold(position, &configured, &mut Effects::default());
        }
        // What is said to other twins was said; what was taken over or configured then is what is replaced.
        if is_before || !matches!(event.body, Body::Configured(_) | Body::Refolded(_)) {
            twin.fold(position, event, &mut Effects::default());
        }
    }
}

impl Node {
    /// Folds twins again by today's model, in force from the beginning or from `from` (by the time of receipt). Twins
    /// that are not known, or not in the model, are left out.
    pub async fn refold(
        &self,
        twins: Vec<TwinId>,
        from: Option<Timestamp>,
    ) -> Result<Vec<RefoldedTwin>, RefoldError> {
        if twins.len() > REFOLD_MAX {
            return Err(RefoldError::TooMany(twins.len()));
        }
        let permit = AT_ONCE.try_acquire().map_err(|_| RefoldError::Busy)?;
        for id in &twins {
            self.recovered(id).await.map_err(ReadError::from)?;
        }
        let inner = self.inner.clone();
        let refolded = blocking(move || {
            let _permit = permit;
            Ok(inner.refold(&twins, from))
        });
        refolded.await?
    }

    /// Takes the new state over: journaled, folded and visible when this returns. Answers the twin's new revision.
    pub async fn take_over(&self, mut refolded: RefoldedTwin, by: &str) -> Result<u64, CommandError> {
        let unavailable = |error: ReadError| CommandError::Unavailable(error.to_string());
        let id = refolded.after.id().clone();
        for _ in 0..ATTEMPTS {
            let mut state = Vec::new();
            refolded.after.encode(&mut state);
            if state.len() > STATE_MAX {
                let detail = format!(
                    "the state of {id} takes {} bytes (at most {STATE_MAX} fit into the journal)",
                    state.len()
                );
                return Err(CommandError::Invalid(Rejection::new("refold.too_large", detail)));
            }
            let kind = CommandKind::Refold {
                twin: id.clone(),
                refolded: Refolded {
                    state: state.into(),
                    model_version: refolded.model_version,
                    from: refolded.from,
                    by: by.into(),
                },
                if_rev: refolded.before.rev(),
            };
            match self
                .command(self.inner.router.shard_of(&id), id.tenant(), kind)
                .await
            {
                Err(CommandError::RevMismatch { .. }) => {}
                done => return done,
            }
            let inner = self.inner.clone();
            refolded = blocking(move || {
                inner.catch_up(&mut refolded)?;
                Ok(refolded)
            })
            .await
            .map_err(unavailable)?;
        }
        Err(CommandError::Busy)
    }
}

impl Inner {
    fn refold(&self, ids: &[TwinId], from: Option<Timestamp>) -> Result<Vec<RefoldedTwin>, RefoldError> {
        let started = clock::instant();
        let mut by_shard: HashMap<u16, HashMap<TwinId, RefoldedTwin>> = HashMap::new();
        let mut configs: HashMap<&gemba_twins::id::TenantId, (u64, HashMap<_, TwinConfig>)> = HashMap::new();
        for id in ids {
            if !configs.contains_key(id.tenant()) {
                let plant = self.plants.plant(id.tenant()).ok_or(RefoldError::NoPlant)?;
                let told = twin_configs(None, &plant.model, plant.version).into_iter();
                let told = told.map(|(kind, id, config)| ((kind, id), config)).collect();
                configs.insert(id.tenant(), (plant.version, told));
            }
            let (version, told) = &configs[id.tenant()];
            let live = self.twins.with(id, Twin::clone).map_err(ReadError::from)?;
            let config = told.get(&(id.kind(), id.id().into()));
            // Jobs are not in the model, and fold by nothing that it says of them.
            let config = config
                .cloned()
                .or_else(|| (id.kind() == gemba_twins::id::Kind::Job).then(TwinConfig::default));
            if let (Some(before), Some(config)) = (live, config) {
                let refolded = RefoldedTwin {
                    before,
                    after: Twin::new(id.clone()),
                    from,
                    model_version: *version,
                    seq: 0,
                    configuring: Configuring {
                        is_done: config == TwinConfig::default(),
                        config,
                        from,
                    },
                };
                by_shard
                    .entry(self.router.shard_of(id))
                    .or_default()
                    .insert(id.clone(), refolded);
            }
        }
        let mut all = Vec::new();
        for (shard, mut twins) in by_shard {
            self.pass(shard, &mut twins, started)?;
            for mut refolded in twins.into_values() {
                self.catch_up(&mut refolded)?;
                all.push(refolded);
            }
        }
        all.sort_by(|one, other| one.after.id().cmp(other.after.id()));
        Ok(all)
    }

    /// One pass over a shard's journal for all twins asked for.
    fn pass(
        &self,
        shard: u16,
        twins: &mut HashMap<TwinId, RefoldedTwin>,
        started: std::time::Instant,
    ) -> Result<(), RefoldError> {
        let oldest = self.journal.first_seq(ShardId::new(shard)).get();
        if oldest > 1 {
            return Err(ReadError::Trimmed { shard, oldest }.into());
        }
        let until = self.twins.folded_seq(usize::from(shard));
        let damaged = |error: &dyn std::fmt::Display| ReadError::Damaged(error.to_string());
        for frame in self.journal.read(ShardId::new(shard), Seq::new(1)) {
            if started.elapsed() > WORK_MAX {
                return Err(RefoldError::TooLong);
            }
            let frame = frame.map_err(|error| damaged(&error))?;
            for (seq, bytes) in (frame.first().get()..).zip(frame.records()) {
                if seq > until {
                    break;
                }
                if record::peek_twin(bytes).is_none() {
                    continue;
                }
                if let record::Record::Event(event) =
                    record::decode(bytes).map_err(|error| damaged(&error))?
                    && let Some(refolded) = twins.get_mut(&event.twin)
                {
                    refolded.fold(shard, seq, &event);
                }
            }
        }
        for refolded in twins.values_mut() {
            refolded.seq = refolded.seq.max(until);
        }
        Ok(())
    }

    /// Folds what came since, so that both twins stand at the same seq.
    fn catch_up(&self, refolded: &mut RefoldedTwin) -> Result<(), ReadError> {
        let id = refolded.after.id().clone();
        if let Some(live) = self.twins.with(&id, Twin::clone)? {
            refolded.before = live;
        }
        let until = refolded.before.position();
        let after = refolded.seq;
        if until.seq > after {
            self.each_event(&id, after, |seq, event| {
                if seq <= until.seq {
                    refolded.fold(until.shard, seq, &event);
                }
                seq < until.seq
            })?;
            refolded.seq = until.seq;
        }
        Ok(())
    }
}

impl RefoldedTwin {
    fn fold(&mut self, shard: u16, seq: u64, event: &Event) {
        self.configuring
            .fold(&mut self.after, Position { shard, seq }, event);
        self.seq = seq;
    }
}
