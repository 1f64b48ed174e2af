//! Messages from this shard's twins to twins of other shards, until their receiver has them on disk.
//!
//! Promises: sent in the order of their origins and kept until confirmed, so that a receiver that keeps the highest
//! origin it has seen takes each exactly once. What is lost by a crash is derived again by the replay.

use std::collections::{BTreeMap, VecDeque};

use gemba_twins::event::{Event, Origin};

/// Most messages that are on their way to one shard at a time.
const WINDOW: usize = 4_096;

/// What a receiving shard gets.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) from: u16,
    /// The origin of the message sent before the first one; a receiver that has not seen it has missed something.
    pub(crate) previous: Origin,
    pub(crate) events: Vec<Event>,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Event>,
    /// How many of `waiting` were sent.
    sent: usize,
    confirmed: Origin,
    /// Turns since the receiver last confirmed something while messages were out.
    silent_turns: u32,
}

/// The outbox of one shard.
pub(crate) struct Outbox {
    shard: u16,
    lanes: BTreeMap<u16, Lane>,
}

fn origin(event: &Event) -> Origin {
    event.origin.unwrap_or_default()
}

impl Outbox {
    pub(crate) fn new(shard: u16) -> Self {
        Self {
            shard,
            lanes: BTreeMap::new(),
        }
    }

    /// Takes a message for a shard; its origin is higher than those before it.
    pub(crate) fn push(&mut self, to: u16, event: Event) {
        let lane = self.lanes.entry(to).or_default();
        // A replica may hear of a confirmation before it has folded what was confirmed.
        if event.origin.is_none_or(|origin| origin > lane.confirmed) {
            lane.waiting.push_back(event);
        }
    }

    /// A new owner does not know what its predecessor sent.
    pub(crate) fn send_again(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.sent = 0;
            lane.silent_turns = 0;
        }
    }

    /// What can be sent now, by receiving shard.
    pub(crate) fn take_unsent(&mut self) -> Vec<(u16, Transfer)> {
        let from = self.shard;
        let mut transfers = Vec::new();
        for (to, lane) in &mut self.lanes {
            let until = lane.waiting.len().min(WINDOW);
            if lane.sent >= until {
                continue;
            }
            let previous = match lane.sent {
                0 => lane.confirmed,
                sent => origin(&lane.waiting[sent - 1]),
            };
            let events = lane.waiting.range(lane.sent..until).cloned().collect();
            lane.sent = until;
            transfers.push((
                *to,
                Transfer {
                    from,
                    previous,
                    events,
                },
            ));
        }
        transfers
    }

    /// The receiver has everything up to `up_to` on disk.
    pub(crate) fn confirm(&mut self, by: u16, up_to: Origin) {
        let lane = self.lanes.entry(by).or_default();
        while lane.waiting.front().is_some_and(|event| origin(event) <= up_to) {
            lane.waiting.pop_front();
            lane.sent = lane.sent.saturating_sub(1);
        }
        lane.confirmed = lane.confirmed.max(up_to);
        lane.silent_turns = 0;
    }

    /// Time passed: what was sent and not confirmed for two turns is sent again.
    pub(crate) fn turn(&mut self) {
        for lane in self.lanes.values_mut().filter(|lane| lane.sent > 0) {
            lane.silent_turns += 1;
            if lane.silent_turns >= 2 {
                lane.sent = 0;
                lane.silent_turns = 0;
            }
        }
    }

    /// Everything that is not confirmed, with its receiving shard.
    pub(crate) fn unconfirmed(&self) -> impl Iterator<Item = (u16, &Event)> {
        self.lanes
            .iter()
            .flat_map(|(to, lane)| lane.waiting.iter().map(|event| (*to, event)))
    }

    pub(crate) fn len(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len()).sum()
    }
}
