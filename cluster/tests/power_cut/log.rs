//! Logs of replicated shards, and votes, through power cuts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
};

use bytes::Bytes;
use gemba_cluster::{
    Ballots, Entry, Epoch, Frame, FrameBuilder, Journal, JournalOptions, LogBase, LogPlace, Said, Seq,
    ShardId, Turns,
};

use crate::{
    cycles,
    disk::{Disk, Handle, RAFT, Random},
    first_seed,
};

const SHARDS: u16 = 3;

/// What a log should hold.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    base: Option<LogPlace>,
    seq: u64,
    entries: Vec<Entry>,
    /// Of the whole history, so that new terms are new.
    term: u64,
}

impl Model {
    fn next_index(&self) -> u64 {
        let first = self.base.map_or(0, |base| base.index + 1);
        first + self.entries.len() as u64
    }

    fn last_seq(&self) -> u64 {
        let frames = self.entries.iter().rev().find_map(|entry| match &entry.said {
            Said::Frame(frame) => Some(frame.last().get()),
            _ => None,
        });
        frames.unwrap_or(self.seq)
    }

    fn members(&self) -> Option<(LogPlace, Bytes)> {
        self.entries.iter().rev().find_map(|entry| match &entry.said {
            Said::Members(bytes) => Some((entry.place, bytes.clone())),
            _ => None,
        })
    }
}

fn frame(shard: u16, first: u64, epoch: u64, count: u64) -> Frame {
    let mut builder = FrameBuilder::new();
    for seq in first..first + count {
        let record = format!(
            "shard {shard} epoch {epoch} record {seq} {}",
            "x".repeat((seq % 97) as usize)
        );
        builder.push(record.as_bytes()).expect("room");
    }
    builder
        .finish()
        .place(ShardId::new(shard), Seq::new(first), Epoch::new(epoch))
}

fn open(disk: &Arc<Disk>) -> Result<(Journal, Ballots), String> {
    let mut options = JournalOptions::new("unused".into());
    options.files = Arc::new(Handle(disk.clone(), 0));
    options.segment_bytes = 150_000;
    options.cache_bytes = 1 << 20;
    options.turns = Turns::ByHand;
    let journal = Journal::open(options).map_err(|error| error.to_string())?;
    let disk = disk.clone();
    let ballots = Ballots::on(Box::new(move || Ok(Box::new(Handle(disk.clone(), RAFT)))));
    Ok((journal, ballots.map_err(|error| error.to_string())?))
}

/// Reads what a log holds.
fn read(journal: &Journal, shard: u16, model: &Model) -> Model {
    let id = ShardId::new(shard);
    let Some(log) = journal.log(id) else {
        return Model {
            term: model.term,
            ..Model::default()
        };
    };
    let read = journal.read_entries(id, log.first_index(), log.next_index(), usize::MAX);
    let found = Model {
        base: log.base.place,
        seq: log.base.seq,
        entries: read.expect("entries"),
        term: model.term,
    };
    assert_eq!(found.next_index(), log.next_index());
    assert_eq!(
        found.last_seq(),
        journal.last_seq(id).get(),
        "frames and entries end together"
    );
    let frames: Vec<Frame> = journal
        .read(id, Seq::new(log.base.seq + 1))
        .map(|frame| frame.expect("a frame"))
        .collect();
    let said: Vec<Frame> = found
        .entries
        .iter()
        .filter_map(|entry| match &entry.said {
            Said::Frame(frame) => Some(frame.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(frames, said);
    if let (Some(last), Some(members)) = (log.last, found.members()) {
        assert_eq!(journal.members_at(id, last.index).expect("members"), members);
    }
    for entry in found.entries.iter().step_by(7) {
        let row = journal
            .row_at(id, entry.place.index)
            .expect("a row")
            .expect("it is there");
        assert_eq!(row.0, entry.place);
        let up_to = journal.place_up_to(id, row.1).expect("a place").expect("one");
        assert!(up_to.0 >= entry.place && up_to.1 == row.1);
    }
    found
}

/// A change that is asked for, and what the log is after it.
fn change(
    journal: &Journal,
    random: &mut Random,
    shard: u16,
    before: &Model,
    done: impl Fn(bool) + Send + Sync + 'static,
) -> Model {
    let (id, mut after) = (ShardId::new(shard), before.clone());
    let answered = Box::new(move |result: Result<(), _>| done(result.is_ok()));
    match random.below(20) {
        0 if !after.entries.is_empty() => {
            let keep = random.below(after.entries.len() as u64 + 1) as usize;
            let from = after.base.map_or(0, |base| base.index + 1) + keep as u64;
            after.entries.truncate(keep);
            journal.truncate_entries(id, from, answered);
        }
        1 => {
            after.term += 1;
            let place = LogPlace {
                term: after.term,
                index: after.next_index() + random.below(50),
            };
            after.base = Some(place);
            after.seq = random.below(after.last_seq() + 100);
            after.entries.clear();
            let base = LogBase {
                place: Some(place),
                seq: after.seq,
                epoch: after.term,
                members: Bytes::from_static(b"members of a snapshot"),
                members_place: place,
            };
            journal.reset_log(id, base, answered);
        }
        _ => {
            after.term += u64::from(random.below(4) == 0);
            for _ in 0..=random.below(4) {
                let place = LogPlace {
                    term: after.term,
                    index: after.next_index(),
                };
                let said = match random.below(8) {
                    0 => Said::Blank,
                    1 => Said::Members(format!("members at {}", place.index).into()),
                    _ => Said::Frame(frame(
                        shard,
                        after.last_seq() + 1,
                        after.term,
                        1 + random.below(8),
                    )),
                };
                after.entries.push(Entry { place, said });
            }
            let added = after.entries[before.entries.len()..].to_vec();
            journal.append_entries(id, added, answered);
        }
    }
    after
}

/// Changes logs and votes until the power fails, then looks.
fn cut_once(
    disk: &Arc<Disk>,
    random: &mut Random,
    known: &mut BTreeMap<u16, Vec<Model>>,
    votes: &mut BTreeMap<u16, (u64, u64)>,
) -> Result<(), String> {
    disk.power_on();
    let (journal, ballots) = open(disk)?;
    for shard in 0..SHARDS {
        let models = known.entry(shard).or_insert_with(|| vec![Model::default()]);
        let found = read(&journal, shard, &models[models.len() - 1]);
        let fits = models
            .iter()
            .any(|model| (model.base, &model.entries) == (found.base, &found.entries));
        if !fits {
            return Err(format!(
                "shard {shard} holds what was never there:\n{found:?}\ninstead of one of\n{models:?}"
            ));
        }
        *models = vec![found];
        let (least, most) = votes.get(&shard).copied().unwrap_or_default();
        let vote = ballots
            .voted(ShardId::new(shard))
            .map_err(|error| error.to_string())?
            .unwrap_or(0);
        if !(least..=most).contains(&vote) {
            return Err(format!(
                "shard {shard} has voted in term {vote}, not in {least} to {most}"
            ));
        }
        votes.insert(shard, (vote, vote));
    }
    disk.left.store(20 + random.below(80), Ordering::Release);
    for _ in 0..40 {
        let answers = Arc::new(Mutex::new(BTreeMap::new()));
        for shard in 0..SHARDS {
            let models = known.get_mut(&shard).expect("a model");
            let answers = answers.clone();
            let after = change(&journal, random, shard, &models[0], move |is_done| {
                answers.lock().expect("answers").insert(shard, is_done);
            });
            models.push(after);
        }
        journal.turn();
        let answers = answers.lock().expect("answers").clone();
        assert_eq!(answers.len(), usize::from(SHARDS), "every change is answered");
        for (shard, is_done) in &answers {
            if *is_done {
                known.get_mut(shard).expect("a model").remove(0);
            }
        }
        let shard = random.below(u64::from(SHARDS)) as u16;
        let (least, _) = votes.get(&shard).copied().unwrap_or_default();
        let voted = ballots
            .vote_in(ShardId::new(shard), least + 1, random.below(5))
            .is_ok();
        votes.insert(shard, (least + u64::from(voted), least + 1));
        if !voted || answers.values().any(|is_done| !is_done) {
            break;
        }
    }
    disk.power_off();
    drop((journal, ballots));
    disk.cut(random);
    Ok(())
}

#[test]
fn logs_and_votes_are_what_was_answered_after_the_power_failed() {
    for run in 0..cycles().div_ceil(200) {
        let seed = first_seed() + run;
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let disk = Disk::new(false);
        let (mut known, mut votes) = (BTreeMap::new(), BTreeMap::new());
        for cycle in 0..40 {
            let seen = cut_once(&disk, &mut random, &mut known, &mut votes);
            assert_eq!(seen, Ok(()), "seed {seed} cycle {cycle}");
        }
    }
}
