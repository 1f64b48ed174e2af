//! What a connected device is sent: answers in order, acknowledgements when their messages are durable and visible.
//!
//! Promises: a PUBACK leaves only after its message's ticket has resolved, and never waits for a later one; a batch
//! that could not be made durable ends the connection, so that the device sends it again. Bounded: so many batches
//! under way, so long without the device taking a byte.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use metrics::Histogram;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

use super::{
    answer::{self, reason},
    packet::Version,
};
use crate::ingest::{Outcome, Ticket};

/// Batches of one connection that wait for their acknowledgement; a full one stops the reading. What a device sends
/// meanwhile is read together, so few are enough.
pub(super) const BATCHES_UNDER_WAY: usize = 16;
/// Messages that a MQTT 5 device may have unacknowledged.
pub(super) const RECEIVE_MAX: u16 = 1_024;
/// A device that takes no byte for this long is closed.
pub(super) const STALLED: Duration = Duration::from_secs(30);
/// Answers that are collected before they are sent.
const WRITE_BYTES: usize = 16 << 10;

/// What the writer has to send, in order.
pub(super) enum Out {
    Bytes(Vec<u8>),
    Acknowledge(Acknowledge),
}

/// The acknowledgements of a batch.
pub(super) struct Acknowledge {
    /// None where no message of the batch was taken.
    pub(super) ticket: Option<Ticket>,
    /// For each message, in order.
    pub(super) due: Vec<Due>,
    pub(super) read_at: Instant,
}

/// What a message's sender is owed.
pub(super) enum Due {
    /// QoS 0.
    Nothing,
    /// A PUBACK with the outcome.
    Message(u16),
    /// A PUBACK that says no; the message is not part of the batch.
    Forbidden(u16),
}

/// Sends until there is no more to send, the device takes none, or a batch is not durable.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut waiting: mpsc::Receiver<Out>,
    version: Version,
    seconds: Histogram,
) {
    let mut bytes = Vec::with_capacity(1 << 10);
    while let Some(mut out) = waiting.recv().await {
        // What is ready goes out together.
        loop {
            if !take(out, &mut writer, version, &mut bytes, &seconds).await {
                return;
            }
            match waiting.try_recv() {
                Ok(next) if bytes.len() < WRITE_BYTES => out = next,
                Ok(next) => {
                    if !send(&mut writer, &mut bytes).await {
                        return;
                    }
                    out = next;
                }
                Err(_) => break,
            }
        }
        if !send(&mut writer, &mut bytes).await {
            return;
        }
    }
    // The device may have closed its side already.
    let _ = timeout(STALLED, writer.shutdown()).await;
}

/// Appends what is to be sent; false where the connection is over.
async fn take<W: AsyncWrite + Unpin>(
    out: Out,
    writer: &mut W,
    version: Version,
    bytes: &mut Vec<u8>,
    seconds: &Histogram,
) -> bool {
    let Acknowledge { ticket, due, read_at } = match out {
        Out::Bytes(packet) => {
            bytes.extend_from_slice(&packet);
            return true;
        }
        Out::Acknowledge(acknowledge) => acknowledge,
    };
    let outcomes = match ticket {
        None => Ok(Vec::new()),
        Some(mut ticket) => match (&mut ticket).now_or_never() {
            Some(outcomes) => outcomes,
            None => {
                // Earlier acknowledgements do not wait for this batch.
                if !send(writer, bytes).await {
                    return false;
                }
                ticket.await
            }
        },
    };
    let Ok(outcomes) = outcomes else {
        // Nothing is promised: the device keeps its messages and comes back.
        bytes.extend_from_slice(&answer::disconnect(version, reason::UNSPECIFIED));
        let _ = send(writer, bytes).await;
        let _ = timeout(STALLED, writer.shutdown()).await;
        return false;
    };
    seconds.record(read_at.elapsed().as_secs_f64());
    acknowledge(version, due, &outcomes, bytes);
    true
}

fn acknowledge(version: Version, due: Vec<Due>, outcomes: &[Outcome], bytes: &mut Vec<u8>) {
    let mut outcomes = outcomes.iter();
    for due in due {
        match due {
            Due::Nothing => {
                outcomes.next();
            }
            Due::Message(id) => {
                let reason = outcomes.next().map_or(reason::UNSPECIFIED, reason_of);
                answer::puback(version, id, reason, bytes);
            }
            // 3.1.1 has no way to say no but to close, which the reader does.
            Due::Forbidden(id) if version == Version::V5 => {
                answer::puback(version, id, reason::NOT_AUTHORIZED, bytes);
            }
            Due::Forbidden(_) => {}
        }
    }
}

/// Rejected messages are kept, so they are acknowledged; MQTT 5 can say that nothing came of them.
fn reason_of(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Rejected(rejection) if rejection.code.starts_with("mqtt.") => reason::TOPIC_INVALID,
        Outcome::Rejected(_) => reason::PAYLOAD_INVALID,
        Outcome::Applied | Outcome::Duplicate | Outcome::Late => 0,
    }
}

/// Sends what was collected; false where the device does not take it.
async fn send<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &mut Vec<u8>) -> bool {
    if bytes.is_empty() {
        return true;
    }
    let sent = timeout(STALLED, async {
        writer.write_all(bytes).await?;
        writer.flush().await
    });
    let sent = matches!(sent.await, Ok(Ok(())));
    bytes.clear();
    sent
}
