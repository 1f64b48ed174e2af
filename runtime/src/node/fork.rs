//! What if: a twin as it is or was, folded on with events and a plant model that never happened.
//!
//! Promises: touches nothing live and journals nothing; the same fold as the live one, so that what would happen is
//! what is answered. Bounded in events, in time and in how many run at once. Events are bound as their sensors' real
//! ones would be; what the node would reject is told and left out, and a time in the future is allowed.

use gemba_twins::{
    event::{Body, Event, Position},
    id::TwinId,
    time::Timestamp,
    twin::{Effects, Outcome as Folded, Twin},
};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::{
    Inner, Node, ReadError,
    read::{WORK_MAX, blocking},
};
use crate::{
    clock,
    decode::{self, Rejection},
    plant::{Bindings, PlantModel, twin_configs},
};

/// Most events of one call.
pub const FORK_EVENTS_MAX: usize = 10_000;
/// Most calls at once: each may read a whole shard's journal.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// What is to be tried on a twin.
#[derive(Debug, Clone, Default)]
pub struct Fork {
    /// From the twin as it was at this time; `None` takes it as it is.
    pub at: Option<Timestamp>,
    /// Readings (with `sensor_id`) and scans (with `job_id`) in the native form, in the order in which they come.
    pub events: Vec<Box<str>>,
    /// The plant model from then on; `None` keeps the one in force.
    pub model: Option<PlantModel>,
}

/// Both results side by side.
#[derive(Debug, Clone)]
pub struct Forked {
    /// The twin as it is or was.
    pub before: Twin,
    /// The time that it is shown at.
    pub before_at: Timestamp,
    /// The twin as it would be.
    pub after: Twin,
    /// The time of the last event, or that of `before`.
    pub after_at: Timestamp,
    /// Events folded, and how many of them came late.
    pub applied: usize,
    /// Events that came after what came after them.
    pub late: usize,
    /// Events that the node would not take, by their number.
    pub rejected: Vec<(usize, Rejection)>,
}

/// Why nothing was tried.
#[derive(Debug, Error)]
pub enum ForkError {
    /// The twin's past cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There are too many events.
    #[error("the call has {0} events (at most {FORK_EVENTS_MAX})")]
    TooManyEvents(usize),
    /// It took too long.
    #[error("the journal was not read within {} s (fork from now, or from a twin with less history)", WORK_MAX.as_secs())]
    TooLong,
    /// Others are at it.
    #[error("two other what-ifs are under way (try again in a second)")]
    Busy,
}

impl Node {
    /// A twin as it would be; `None` where there is no such twin, or was none then.
    pub async fn fork(&self, id: &TwinId, fork: Fork) -> Result<Option<Forked>, ForkError> {
        if fork.events.len() > FORK_EVENTS_MAX {
            return Err(ForkError::TooManyEvents(fork.events.len()));
        }
        let permit = AT_ONCE.try_acquire().map_err(|_| ForkError::Busy)?;
        self.recovered(id).await.map_err(ReadError::from)?;
        let (inner, id) = (self.inner.clone(), id.clone());
        let forked = blocking(move || {
            let _permit = permit;
            Ok(inner.fork(&id, fork))
        });
        forked.await?
    }
}

impl Inner {
    fn fork(&self, id: &TwinId, fork: Fork) -> Result<Option<Forked>, ForkError> {
        let started = clock::instant();
        let (before, before_at) = match fork.at {
            Some(at) => (
                self.twin_until(id, at, Some(started))?
                    .ok_or(ForkError::TooLong)?,
                at,
            ),
            None => {
                let live = self.twins.with(id, Twin::clone).map_err(ReadError::from)?;
                (live, clock::now())
            }
        };
        let Some(before) = before else { return Ok(None) };
        let plant = self.plants.plant(id.tenant());
        let bindings = match (&fork.model, &plant) {
            (Some(model), _) => Bindings::of(model),
            (None, Some(plant)) => Bindings::of(&plant.model),
            (None, None) => Bindings::open(),
        };
        let mut forked = Forked {
            after: before.clone(),
            before,
            before_at,
            after_at: before_at,
            applied: 0,
            late: 0,
            rejected: Vec::new(),
        };
        if let Some(model) = &fork.model {
            let version = plant.map_or(1, |plant| plant.version.saturating_add(1));
            forked.configure(model, version);
        }
        for (number, json) in fork.events.iter().enumerate() {
            // A thousand folds take a millisecond, so the time is looked at now and then.
            if number % 1_024 == 0 && started.elapsed() > WORK_MAX {
                return Err(ForkError::TooLong);
            }
            match event(id, &bindings, json, forked.after_at) {
                Ok(event) => forked.fold(&event),
                Err(rejection) => forked.rejected.push((number, rejection)),
            }
        }
        Ok(Some(forked))
    }
}

impl Forked {
    fn configure(&mut self, model: &PlantModel, version: u64) {
        let id = self.after.id().clone();
        let configs = twin_configs(None, model, version).into_iter();
        let own = configs
            .into_iter()
            .find(|(kind, known, _)| (*kind, &**known) == (id.kind(), id.id()));
        let config = own
            .map(|(_, _, config)| config)
            .unwrap_or_else(|| gemba_twins::config::TwinConfig {
                model_version: version,
                attributes: "{}".into(),
                removed: true,
                ..Default::default()
            });
        let event = made(&id, self.before_at, Body::Configured(Box::new(config)));
        self.put(&event);
    }

    fn fold(&mut self, event: &Event) {
        self.after_at = self.after_at.max(event.at);
        match self.put(event) {
            Folded::Late => self.late += 1,
            Folded::Applied | Folded::Ignored => {}
        }
        self.applied += 1;
    }

    fn put(&mut self, event: &Event) -> Folded {
        let position = Position {
            seq: self.after.position().seq.saturating_add(1),
            ..self.after.position()
        };
        // What it would lead to elsewhere is no part of the question.
        self.after.fold(position, event, &mut Effects::default())
    }
}

/// An event as the node would have made it; without a time of its own it happens at `now`.
fn event(id: &TwinId, bindings: &Bindings, json: &str, now: Timestamp) -> Result<Event, Rejection> {
    let is_scan = !json.contains("\"metrics\"");
    let (twin, at, body) = if is_scan {
        let scan = decode::native_scan(None, json.as_bytes())?;
        let at = scan.at;
        let (twin, scan) = bindings.bind_scan(id.tenant(), scan)?;
        (twin, at, Body::Scan(scan))
    } else {
        let reading = decode::native_reading(None, json.as_bytes())?;
        let at = reading.at;
        let (twin, reading) = bindings.bind_reading(id.tenant(), reading)?;
        (twin, at, Body::Reading(reading))
    };
    if twin != *id {
        return Err(Rejection {
            code: "fork.other_twin",
            detail: format!("the event is of {twin} (this call is about {id} alone)"),
        });
    }
    Ok(made(id, at.unwrap_or(now), body))
}

fn made(id: &TwinId, at: Timestamp, body: Body) -> Event {
    Event {
        twin: id.clone(),
        at,
        received_at: at,
        source: "what-if".into(),
        message_id: "".into(),
        origin: None,
        body,
    }
}
