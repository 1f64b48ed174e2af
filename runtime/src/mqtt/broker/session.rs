//! One connection to a broker, from CONNECT to its end.
//!
//! Promises: acknowledgements go out in order, when their messages are durable and visible, many with one write; so
//! many messages may wait for theirs and no more are read, which pushes back on the broker. What reads also
//! acknowledges: rumqttc sends one queued request for ten messages it reads, so a queue of acknowledgements between
//! two tasks would fill up and stop both.

use std::{
    collections::VecDeque,
    future::{pending, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, Publish, QoS,
    SubscribeFilter,
};
use tokio::{sync::watch, time::timeout};
use tracing::info;

use super::{Connector, Ended, names};
use crate::ingest::{SubmitError, Ticket};

/// Messages that may wait for their acknowledgement; brokers leave 10 to 1,000 unacknowledged, but some send more.
const UNDER_WAY_MAX: usize = 4_096;
/// Messages submitted together.
const BATCH_MAX: usize = 256;
/// A broker that takes nothing for this long is gone.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// What is durable when the node stops has this long to be acknowledged; the rest comes again.
const STOP_MAX: Duration = Duration::from_secs(2);

/// A batch that is not durable yet, and what the broker is owed for it.
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) owed: Vec<Packet>,
    pub(super) messages: usize,
}

pub(super) struct Session<'a> {
    connector: &'a Connector,
    client: AsyncClient,
    events: EventLoop,
    under_way: VecDeque<Waiting>,
    messages_under_way: usize,
}

impl<'a> Session<'a> {
    pub(super) fn new(connector: &'a Connector, options: MqttOptions) -> Self {
        // The queue holds the one SUBSCRIBE of a connection.
        let (client, events) = AsyncClient::new(options, 4);
        Self {
            connector,
            client,
            events,
            under_way: VecDeque::new(),
            messages_under_way: 0,
        }
    }

    pub(super) async fn run(mut self, shutdown: &mut watch::Receiver<bool>) -> Ended {
        let ended = tokio::select! {
            ended = self.converse() => ended,
            // An error means that the sender is gone, which ends the node too.
            _ = shutdown.wait_for(|stop| *stop) => Ended::Stopping,
        };
        if matches!(ended, Ended::Stopping) {
            // Too slow: the broker sends again what it got no acknowledgement for.
            let _ = timeout(STOP_MAX, self.last_words()).await;
        }
        let unsaid: usize = self.under_way.iter().map(|waiting| waiting.owed.len()).sum();
        metrics::counter!(names::BROKER_STALE_ACKS, "connector" => self.connector.source.to_string())
            .increment(unsaid as u64);
        ended
    }

    async fn converse(&mut self) -> Ended {
        loop {
            let next = tokio::select! {
                biased;
                durable = first_durable(&mut self.under_way) => Next::Durable(durable),
                event = self.events.poll(), if self.messages_under_way < UNDER_WAY_MAX => Next::Event(event),
            };
            let done = match next {
                Next::Durable(result) => self.acknowledge(result).await,
                Next::Event(Ok(event)) => self.hear(event).await,
                Next::Event(Err(problem)) => Err(Ended::Broken(problem.to_string())),
            };
            if let Err(ended) = done {
                return ended;
            }
        }
    }

    async fn hear(&mut self, event: Event) -> Result<(), Ended> {
        match event {
            Event::Incoming(Packet::ConnAck(connack)) => {
                let connector = self.connector;
                info!(broker = %connector.settings.name, session_present = connack.session_present, "connected to the broker");
                connector.connected_gauge(1.0);
                metrics::counter!(names::BROKER_CONNECTS, "connector" => connector.source.to_string())
                    .increment(1);
                // Also into a session that is present: the configuration may have changed since.
                let filters = connector.settings.subscriptions.iter().map(|subscription| {
                    let qos = if subscription.qos == 0 {
                        QoS::AtMostOnce
                    } else {
                        QoS::AtLeastOnce
                    };
                    SubscribeFilter::new(subscription.topic.clone(), qos)
                });
                self.client
                    .try_subscribe_many(filters)
                    .map_err(|problem| Ended::Broken(problem.to_string()))
            }
            Event::Incoming(Packet::SubAck(answer)) => {
                self.connector.check_granted(&answer);
                Ok(())
            }
            Event::Incoming(Packet::Publish(first)) => {
                let messages = self.read_together(first);
                let waiting = self.connector.submit(&messages).await;
                self.messages_under_way += waiting.messages;
                self.under_way.push_back(waiting);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What was read together is submitted together.
    fn read_together(&mut self, first: Publish) -> Vec<Publish> {
        let mut messages = vec![first];
        let events = &mut self.events.state.events;
        while messages.len() < BATCH_MAX
            && let Some(Event::Incoming(Packet::Publish(_))) = events.front()
            && let Some(Event::Incoming(Packet::Publish(next))) = events.pop_front()
        {
            messages.push(next);
        }
        messages
    }

    /// Sends what is owed for the first batch, and for those behind it that are durable too.
    async fn acknowledge(&mut self, first: Result<(), SubmitError>) -> Result<(), Ended> {
        let mut result = first;
        loop {
            let Some(waiting) = self.under_way.pop_front() else {
                break;
            };
            self.messages_under_way -= waiting.messages;
            if result.is_err() {
                self.under_way.push_front(waiting);
                return Err(Ended::NotDurable);
            }
            self.write(waiting.owed).await?;
            match durable_now(&mut self.under_way).await {
                Some(next) => result = next,
                None => break,
            }
        }
        let Some(network) = self.events.network.as_mut() else {
            return Ok(());
        };
        sent(timeout(WRITE_MAX, network.flush()).await)
    }

    async fn write(&mut self, packets: Vec<Packet>) -> Result<(), Ended> {
        let Some(network) = self.events.network.as_mut() else {
            return Ok(());
        };
        for packet in packets {
            sent(timeout(WRITE_MAX, network.write(packet)).await)?;
        }
        Ok(())
    }

    /// Acknowledges what becomes durable yet and takes leave. What still comes is promised nothing and comes again.
    async fn last_words(&mut self) {
        while !self.under_way.is_empty() {
            let durable = first_durable(&mut self.under_way).await;
            if self.acknowledge(durable).await.is_err() {
                return;
            }
        }
        if self.client.try_disconnect().is_ok() {
            while !matches!(
                self.events.poll().await,
                Err(_) | Ok(Event::Outgoing(Outgoing::Disconnect))
            ) {}
        }
    }
}

enum Next {
    Durable(Result<(), SubmitError>),
    Event(Result<Event, ConnectionError>),
}

/// Waits for the first batch; for ever when there is none.
async fn first_durable(under_way: &mut VecDeque<Waiting>) -> Result<(), SubmitError> {
    match under_way.front_mut() {
        Some(waiting) => (&mut waiting.ticket).await.map(drop),
        None => pending().await,
    }
}

/// Whether the first batch is durable already.
async fn durable_now(under_way: &mut VecDeque<Waiting>) -> Option<Result<(), SubmitError>> {
    let front = under_way.front_mut()?;
    poll_fn(|context| match Pin::new(&mut front.ticket).poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result.map(drop))),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn sent<E: std::fmt::Display>(
    written: Result<Result<(), E>, tokio::time::error::Elapsed>,
) -> Result<(), Ended> {
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(problem)) => Err(Ended::Broken(problem.to_string())),
        Err(_) => Err(Ended::Broken("the broker takes nothing".into())),
    }
}
