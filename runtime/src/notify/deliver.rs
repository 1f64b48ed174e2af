//! The task of a destination: one notice after the other, each until it is taken.
//!
//! Promises: what cannot be delivered is tried again, for ever, with waits that grow to a minute; what the other side
//! refuses for good is counted, logged and left. How far it came is kept before the queue is found empty.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tracing::{error, info, warn};

use super::{
    Means, Notifier, mail::Mail, metric_names as names, mqtt::Mqtt, notice::Notice, queue::Lane,
    webhook::Webhook,
};
use crate::{notify::InvalidDestination, store::Store};

/// First wait before another try, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// After so many deliveries it is kept how far it came: so many may come twice after a crash.
const SAVE_EVERY: usize = 64;

/// Why a notice was not taken.
#[derive(Debug)]
pub(super) enum Failed {
    /// It may be taken later.
    Again(String),
    /// It never will be.
    Refused(String),
}

enum Carrier {
    Webhook(Webhook),
    Mqtt(Box<Mqtt>),
    Mail(Box<Mail>),
}

impl Carrier {
    fn of(lane: &Lane) -> Result<Self, InvalidDestination> {
        let destination = &lane.destination;
        let invalid = |detail| InvalidDestination {
            name: destination.name.clone(),
            detail,
        };
        Ok(match &destination.means {
            Means::Webhook { url, secret, ca } => {
                Self::Webhook(Webhook::new(url, secret.clone(), ca.as_deref()).map_err(invalid)?)
            }
            Means::Mqtt {
                url,
                client_id,
                topic,
                ca,
            } => Self::Mqtt(Box::new(
                Mqtt::new(&destination.name, url, client_id, topic, ca.clone()).map_err(invalid)?,
            )),
            Means::Mail {
                url,
                password,
                from,
                to,
                ca,
            } => Self::Mail(Box::new(
                Mail::new(
                    &destination.name,
                    url,
                    password.as_deref(),
                    from,
                    to,
                    ca.as_deref(),
                )
                .map_err(invalid)?,
            )),
        })
    }

    async fn carry(&mut self, notice: &Notice) -> Result<(), Failed> {
        match self {
            Self::Webhook(webhook) => webhook.carry(notice).await,
            Self::Mqtt(mqtt) => mqtt.carry(notice).await,
            Self::Mail(mail) => mail.carry(notice).await,
        }
    }
}

impl Notifier {
    /// Delivers until `shutdown` turns true; an error where a destination cannot work.
    pub(crate) fn run(
        &self,
        store: &Arc<Store>,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<Vec<JoinHandle<()>>, InvalidDestination> {
        names::describe();
        let lanes = self
            .lanes
            .iter()
            .map(|lane| Ok((lane.clone(), Carrier::of(lane)?)));
        let lanes: Vec<_> = lanes.collect::<Result<_, InvalidDestination>>()?;
        let tasks = lanes.into_iter().map(|(lane, carrier)| {
            let (store, mut shutdown) = (store.clone(), shutdown.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = deliver(&lane, carrier, &store) => {}
                    // An error means that the sender is gone, which ends the node too.
                    _ = shutdown.wait_for(|stop| *stop) => {}
                }
                save(&lane, &store).await;
                info!(destination = %lane.destination.name, "notifications stopped");
            })
        });
        Ok(tasks.collect())
    }
}

async fn deliver(lane: &Lane, mut carrier: Carrier, store: &Arc<Store>) {
    let name = &lane.destination.name;
    let (mut failures, mut unsaved) = (0_u32, 0);
    loop {
        let Some(notice) = lane.next() else {
            if unsaved > 0 {
                save(lane, store).await;
                unsaved = 0;
            }
            lane.woken.notified().await;
            continue;
        };
        match carrier.carry(&notice).await {
            Ok(()) => {
                metrics::counter!(names::DELIVERED, "destination" => name.clone()).increment(1);
                failures = 0;
            }
            Err(Failed::Refused(detail)) => {
                metrics::counter!(names::REFUSED, "destination" => name.clone()).increment(1);
                error!(destination = %name, id = notice.id(), %detail, "notification refused; it is not sent again");
                failures = 0;
            }
            Err(Failed::Again(detail)) => {
                metrics::counter!(names::FAILED, "destination" => name.clone()).increment(1);
                let wait = WAIT_MIN.saturating_mul(1 << failures.min(10)).min(WAIT_MAX);
                failures += 1;
                warn!(destination = %name, %detail, wait_ms = wait.as_millis() as u64, "notification not delivered");
                tokio::time::sleep(wait).await;
                continue;
            }
        }
        lane.done(&notice);
        unsaved += 1;
        if unsaved >= SAVE_EVERY {
            save(lane, store).await;
            unsaved = 0;
        }
    }
}

/// Keeps how far a destination was told.
async fn save(lane: &Lane, store: &Arc<Store>) {
    let told = lane.take_unsaved();
    if told.is_empty() {
        return;
    }
    let (store, name) = (store.clone(), lane.destination.name.clone());
    let saved = tokio::task::spawn_blocking(move || store.put_told(&name, &told)).await;
    if let Ok(Err(problem)) = saved {
        // What is not kept is delivered again after a restart, under its id.
        warn!(destination = %lane.destination.name, %problem, "not kept how far notifications were delivered");
    }
}
