//! Frames of shards that are not replicated, through power cuts.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering, mpsc},
};

use gemba_cluster::{Append, Epoch, FrameBuilder, Journal, JournalOptions, Seq, ShardId};

use crate::{
    cycles,
    disk::{Disk, Handle, Random},
    first_seed,
};

fn options(disk: &Arc<Disk>, segment_bytes: u64) -> JournalOptions {
    let mut options = JournalOptions::new("unused".into());
    options.files = Arc::new(Handle(disk.clone(), 0));
    options.segment_bytes = segment_bytes;
    options.cache_bytes = 1 << 20;
    options
}

fn record(shard: u16, seq: u64) -> Vec<u8> {
    format!("shard {shard} record {seq} {}", "x".repeat((seq % 97) as usize)).into_bytes()
}

/// Appends until the power fails, then looks; answers how many acknowledged records are missing.
fn cut_once(
    disk: &Arc<Disk>,
    random: &mut Random,
    acknowledged: &mut BTreeMap<u16, u64>,
) -> Result<u64, String> {
    disk.left.store(u64::MAX, Ordering::Release);
    let journal = Journal::open(options(disk, 300_000)).map_err(|error| error.to_string())?;
    let mut missing = 0;
    for shard in 0..3_u16 {
        let id = ShardId::new(shard);
        let mut seq = 0;
        for frame in journal.read(id, Seq::new(1)) {
            let frame = frame.map_err(|error| error.to_string())?;
            for bytes in frame.records() {
                seq += 1;
                assert_eq!(
                    bytes,
                    record(shard, seq),
                    "shard {shard} seq {seq} is silently wrong"
                );
            }
        }
        assert_eq!(seq, journal.last_seq(id).get());
        missing += acknowledged.get(&shard).copied().unwrap_or(0).saturating_sub(seq);
        acknowledged.insert(shard, seq);
    }
    disk.left.store(20 + random.below(60), Ordering::Release);
    'power: for _ in 0..40 {
        let (answers, answered) = mpsc::sync_channel(8);
        let mut waiting = 0;
        for shard in 0..3_u16 {
            let first = acknowledged.get(&shard).copied().unwrap_or(0) + 1;
            let mut frame = FrameBuilder::new();
            let count = 1 + random.below(8);
            for seq in first..first + count {
                frame.push(&record(shard, seq)).expect("room");
            }
            let answers = answers.clone();
            let done = Box::new(move |result: Result<_, _>| {
                answers
                    .send((shard, first + count - 1, result.is_ok()))
                    .expect("somebody listens");
            });
            let append = Append {
                shard: ShardId::new(shard),
                epoch: Epoch::new(1),
                first: Seq::new(first),
                body: frame.finish(),
                done,
            };
            if journal.append(append).is_ok() {
                waiting += 1;
            }
        }
        for _ in 0..waiting {
            match answered.recv().expect("an answer") {
                (shard, last, true) => {
                    acknowledged.insert(shard, last);
                }
                _ => break 'power,
            }
        }
    }
    disk.left.store(0, Ordering::Release);
    journal.close();
    drop(journal);
    disk.cut(random);
    Ok(missing)
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails() {
    let seed = first_seed();
    for run in 0..cycles().div_ceil(40) {
        let mut random = Random((seed + run).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let disk = Disk::new(false);
        let mut acknowledged = BTreeMap::new();
        for cycle in 0..40 {
            let missing = cut_once(&disk, &mut random, &mut acknowledged);
            assert_eq!(missing, Ok(0), "seed {} cycle {cycle}", seed + run);
        }
    }
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_seen_to_lose() {
    let mut noticed = 0;
    for seed in 1..=30_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let disk = Disk::new(true);
        let mut acknowledged = BTreeMap::new();
        let lost = (0..3).any(|_| !matches!(cut_once(&disk, &mut random, &mut acknowledged), Ok(0)));
        noticed += u64::from(lost);
    }
    assert!(
        noticed > 20,
        "the harness noticed only {noticed} of 30 lying disks"
    );
}
