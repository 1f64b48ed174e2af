//! What became of alarms, on its way into the history's files.
//!
//! Promises: a change of an alarm is an effect of a fold and in no journal, so what waits is kept in the shard's
//! snapshot and what came after it is derived again in a replay; what stands in files is not taken again. So each change
//! stands in exactly one file, as what is journaled does. Bounded: beyond its limit the oldest is dropped, counted and
//! said. Knows nothing of files.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    metric_definitions as names,
    notify::{Notice, Told},
};

/// Changes after which files are due: about 5 MB.
pub(crate) const ALARMS_DUE: usize = 20_000;
/// Most changes that wait. They only come to so many while no file can be written.
const ALARMS_MAX: usize = 200_000;

/// A shard's changes of alarms that stand in no file.
#[derive(Default)]
pub(crate) struct UnfiledAlarms {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<Told, Arc<Notice>>,
    /// Up to this seq all stands in files.
    filed: u64,
}

impl UnfiledAlarms {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something became of an alarm, live, in a replay or out of a snapshot.
    pub(crate) fn push(&self, notice: Arc<Notice>) {
        let mut state = self.lock();
        if notice.seq <= state.filed {
            return;
        }
        state.waiting.insert(notice.told(), notice);
        if state.waiting.len() > ALARMS_MAX
            && let Some((told, dropped)) = state.waiting.pop_first()
        {
            metrics::counter!(names::HISTORY_ALARMS_DROPPED).increment(1);
            tracing::error!(
                shard = dropped.shard,
                seq = told.seq,
                alarm = dropped.alarm(),
                "a change of an alarm is not in the history: no file could be written for too long (disk full?)"
            );
        }
    }

    /// Up to `seq` all stands in files.
    pub(crate) fn filed(&self, seq: u64) {
        let mut state = self.lock();
        state.filed = state.filed.max(seq);
        let first = Told {
            seq: state.filed + 1,
            index: 0,
        };
        state.waiting = state.waiting.split_off(&first);
    }

    /// What waits of some seqs, in the order in which it happened.
    pub(crate) fn of(&self, seqs: RangeInclusive<u64>) -> Vec<Arc<Notice>> {
        let told = |seq, index| Told { seq, index };
        let range = told(*seqs.start(), 0)..=told(*seqs.end(), u32::MAX);
        self.lock()
            .waiting
            .range(range)
            .map(|(_, notice)| notice.clone())
            .collect()
    }

    /// How much waits.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use gemba_twins::{
        alarm::{AlarmChange, AlarmState, AlarmWhat, Priority},
        id::{Kind, TenantId, TwinId},
        time::Timestamp,
    };

    use super::*;

    fn notice(seq: u64, index: u32) -> Arc<Notice> {
        let tenant = TenantId::parse("acme").expect("a tenant");
        Arc::new(Notice {
            shard: 0,
            seq,
            index,
            twin: TwinId::new(tenant, Kind::Machine, "cnc-07").expect("an id"),
            change: AlarmChange {
                rule: "hot".into(),
                text: "".into(),
                what: AlarmWhat::Raised,
                at: Timestamp::from_ms(0),
                state: AlarmState::UnacknowledgedActive,
                priority: Priority::High,
                value: None,
                by: None,
                comment: None,
            },
        })
    }

    #[test]
    fn a_replay_brings_back_what_no_file_holds_and_nothing_else() {
        let alarms = UnfiledAlarms::default();
        alarms.filed(4);
        // The snapshot kept 3 and 5, the replay derives from 5 on.
        for (seq, index) in [(3, 0), (5, 0), (5, 0), (5, 1), (7, 0)] {
            alarms.push(notice(seq, index));
        }
        let seqs = |range| -> Vec<(u64, u32)> {
            let of = alarms.of(range);
            of.iter().map(|notice| (notice.seq, notice.index)).collect()
        };
        assert_eq!(seqs(0..=9), [(5, 0), (5, 1), (7, 0)]);
        assert_eq!(seqs(6..=9), [(7, 0)]);
        alarms.filed(5);
        assert_eq!(seqs(0..=9), [(7, 0)]);
        // It never goes back.
        alarms.filed(2);
        alarms.push(notice(5, 2));
        assert_eq!(alarms.waiting(), 1);
    }

    #[test]
    fn what_waits_has_a_limit() {
        let alarms = UnfiledAlarms::default();
        for seq in 1..=ALARMS_MAX as u64 + 1 {
            alarms.push(notice(seq, 0));
        }
        assert_eq!(alarms.waiting(), ALARMS_MAX);
        assert_eq!(alarms.of(1..=2).len(), 1, "the oldest went");
    }
}
