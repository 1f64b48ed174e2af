//! What the journal promises, on a real folder.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::sync::mpsc;

use gemba_cluster::{
    Append, AppendError, Committed, Epoch, FrameBuilder, Journal, JournalOptions, Seq, ShardId,
};

fn open(folder: &std::path::Path) -> Journal {
    Journal::open(JournalOptions::new(folder.join("journal"))).expect("a journal")
}

fn append(
    journal: &Journal,
    shard: u16,
    epoch: u64,
    first: u64,
    records: &[&str],
) -> Result<Committed, AppendError> {
    let mut frame = FrameBuilder::new();
    records
        .iter()
        .for_each(|record| frame.push(record.as_bytes()).expect("room"));
    let (answer, answered) = mpsc::sync_channel(1);
    let done = Box::new(move |result| answer.send(result).expect("somebody listens"));
    let append = Append {
        shard: ShardId::new(shard),
        epoch: Epoch::new(epoch),
        first: Seq::new(first),
        body: frame.finish(),
        done,
    };
    journal.append(append).expect("taken");
    answered.recv().expect("an answer")
}

fn read(journal: &Journal, shard: u16, from: u64) -> Vec<String> {
    let frames = journal.read(ShardId::new(shard), Seq::new(from));
    frames
        .flat_map(|frame| {
            let frame = frame.expect("a frame");
            frame
                .records()
                .map(|record| String::from_utf8(record.to_vec()).expect("text"))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn what_was_appended_is_there_after_a_reopen() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path());
    assert_eq!(
        append(&journal, 3, 1, 1, &["a", "b"]),
        Ok(Committed { last: Seq::new(2) })
    );
    append(&journal, 3, 1, 3, &["c"]).expect("appended");
    append(&journal, 4, 1, 1, &["z"]).expect("appended");
    journal.close();
    drop(journal);
    let journal = open(folder.path());
    assert_eq!(read(&journal, 3, 1), ["a", "b", "c"]);
    assert_eq!(read(&journal, 3, 3), ["c"]);
    assert_eq!(read(&journal, 4, 1), ["z"]);
    assert_eq!(read(&journal, 5, 1), Vec::<String>::new());
    assert_eq!(
        (
            journal.first_seq(ShardId::new(3)).get(),
            journal.last_seq(ShardId::new(3)).get()
        ),
        (1, 3)
    );
}

#[test]
fn gaps_and_old_owners_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path());
    append(&journal, 1, 2, 1, &["a"]).expect("appended");
    assert!(matches!(
        append(&journal, 1, 2, 3, &["c"]),
        Err(AppendError::Gap { .. })
    ));
    assert!(matches!(
        append(&journal, 1, 1, 2, &["b"]),
        Err(AppendError::StaleEpoch { .. })
    ));
    append(&journal, 1, 3, 2, &["b"]).expect("a newer owner");
    assert_eq!(read(&journal, 1, 1), ["a", "b"]);
}

#[test]
fn a_truncation_cuts_within_a_frame() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path());
    append(&journal, 1, 1, 1, &["a", "b", "c"]).expect("appended");
    append(&journal, 1, 1, 4, &["d"]).expect("appended");
    journal
        .truncate_after(ShardId::new(1), Seq::new(2))
        .expect("truncated");
    assert_eq!(read(&journal, 1, 1), ["a", "b"]);
    append(&journal, 1, 2, 3, &["C"]).expect("appended");
    assert_eq!(read(&journal, 1, 1), ["a", "b", "C"]);
}

#[test]
fn purged_segments_go_and_seqs_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = JournalOptions::new(folder.path().join("journal"));
    options.segment_bytes = 2_000;
    let journal = Journal::open(options.clone()).expect("a journal");
    let text = "x".repeat(500);
    for seq in 1..=20 {
        append(&journal, 1, 1, seq, &[&text]).expect("appended");
    }
    append(&journal, 2, 1, 1, &["kept"]).expect("appended");
    let before = journal.stats().segments;
    assert!(before > 3, "{before} segments");
    journal
        .purge_up_to(ShardId::new(1), Seq::new(20))
        .expect("purged");
    assert!(journal.stats().segments < before);
    assert_eq!(read(&journal, 2, 1), ["kept"]);
    journal.close();
    drop(journal);
    let journal = Journal::open(options).expect("a journal");
    assert_eq!(
        journal.last_seq(ShardId::new(1)).get(),
        20,
        "the seq outlives its records"
    );
    assert!(
        read(&journal, 1, 1).iter().all(|record| *record == text),
        "what is gone is not missed"
    );
    append(&journal, 1, 1, 21, &["next"]).expect("appended");
}

#[test]
fn a_flipped_byte_in_a_segment_is_never_read_as_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path());
    let records: Vec<String> = (0..200)
        .map(|number| format!("record {number:04} of the journal"))
        .collect();
    let shown: Vec<&str> = records.iter().map(String::as_str).collect();
    append(&journal, 1, 1, 1, &shown).expect("appended");
    journal.close();
    drop(journal);
    let path = folder.path().join("journal").join("segment-000000000001.redb");
    let whole = std::fs::read(&path).expect("the segment");
    let at = whole
        .windows(11)
        .position(|bytes| bytes == b"record 0100")
        .expect("a record");
    let mut noticed = 0;
    for offset in 0..40 {
        let mut damaged = whole.clone();
        damaged[at + offset] ^= 0x10;
        std::fs::write(&path, &damaged).expect("written");
        match Journal::open(JournalOptions::new(folder.path().join("journal"))) {
            Err(_) => noticed += 1,
            Ok(journal) => {
                let frames: Vec<_> = journal.read(ShardId::new(1), Seq::new(1)).collect();
                assert!(frames.iter().any(Result::is_err), "byte {offset}: read as right");
                noticed += 1;
            }
        }
    }
    assert_eq!(noticed, 40);
}

/// A crash between the making of a segment's file and its first commit left a file without tables. It was appended to,
/// and what was acknowledged could not be seen after the next start.
#[test]
fn a_segment_whose_making_was_cut_off_takes_appends_that_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let cut_off = |number: u64| {
        std::fs::create_dir_all(&path).expect("a folder");
        let file = path.join(format!("segment-{number:012}.redb"));
        drop(redb::Database::create(file).expect("a file without tables"));
    };
    cut_off(1);
    let journal = open(folder.path());
    append(&journal, 1, 4, 1, &["a", "b"]).expect("appended");
    journal.close();
    drop(journal);
    cut_off(2);
    for (first, text) in [(3, "c"), (4, "d")] {
        let journal = open(folder.path());
        assert_eq!(journal.last_seq(ShardId::new(1)), Seq::new(first - 1));
        append(&journal, 1, 4, first, &[text]).expect("appended");
        journal.close();
    }
    assert_eq!(read(&open(folder.path()), 1, 1), ["a", "b", "c", "d"]);
}
