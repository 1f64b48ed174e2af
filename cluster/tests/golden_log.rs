//! Golden rows of a replicated shard's log: what FORMAT.md draws is written, and read for ever.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::{path::Path, sync::mpsc};

use bytes::Bytes;
use gemba_cluster::{
    Entry, Epoch, FrameBuilder, Journal, JournalOptions, LogBase, LogPlace, Said, Seq, ShardId,
};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

const ENTRIES: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("entries");
const MEMBERS: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("members");
const LOG_BASES: TableDefinition<u32, &[u8]> = TableDefinition::new("log_bases");
const SHARD: u16 = 3;

/// The rows as hexadecimal, by index; the second is FORMAT.md's example.
const ROWS: [(u64, &str); 3] = [
    (6, "6b799a420809100118ac02"),
    (7, "02f089f40809100218ac022a020102"),
    (8, "3054371a0809100318ae022002"),
];
const BASE: &str = "837408730804100518ac0220042a0107300238034001";

fn base() -> LogBase {
    LogBase {
        place: Some(LogPlace { term: 4, index: 5 }),
        seq: 300,
        epoch: 4,
        members: Bytes::from_static(&[7]),
        members_place: LogPlace { term: 2, index: 3 },
    }
}

fn story() -> Vec<Entry> {
    let mut frame = FrameBuilder::new();
    for record in [&b"acknowledged"[..], b"means on the disks of a majority"] {
        frame.push(record).expect("room");
    }
    let frame = frame
        .finish()
        .place(ShardId::new(SHARD), Seq::new(301), Epoch::new(9));
    let said = [
        Said::Blank,
        Said::Members(Bytes::from_static(&[1, 2])),
        Said::Frame(frame),
    ];
    (6..)
        .zip(said)
        .map(|(index, said)| Entry {
            place: LogPlace { term: 9, index },
            said,
        })
        .collect()
}

fn waited(ask: impl FnOnce(gemba_cluster::Answered)) {
    let (answer, answered) = mpsc::sync_channel(1);
    ask(Box::new(move |result| {
        answer.send(result).expect("somebody listens")
    }));
    answered.recv().expect("an answer").expect("done");
}

fn write(folder: &Path) {
    let journal = Journal::open(JournalOptions::new(folder.into())).expect("a journal");
    waited(|done| journal.reset_log(ShardId::new(SHARD), base(), done));
    waited(|done| journal.append_entries(ShardId::new(SHARD), story(), done));
    journal.close();
}

fn segment(folder: &Path) -> Database {
    let file = folder.join("segment-000000000001.redb");
    Builder::new().open(file).expect("a segment")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<char> = hexadecimal.chars().collect();
    let pairs = digits.chunks(2).map(|pair| pair.iter().collect::<String>());
    pairs
        .map(|pair| u8::from_str_radix(&pair, 16).expect("digits"))
        .collect()
}

#[test]
fn todays_rows_are_the_golden_ones_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path());
    let database = segment(folder.path());
    let read = database.begin_read().expect("a reader");
    let entries = read.open_table(ENTRIES).expect("a table");
    let rows: Vec<(u64, String)> = entries
        .iter()
        .expect("rows")
        .map(|row| {
            let (key, value) = row.expect("a row");
            (key.value().1, hexadecimal(value.value()))
        })
        .collect();
    assert_eq!(rows, ROWS.map(|(index, row)| (index, row.to_owned())));
    let members = read.open_table(MEMBERS).expect("a table");
    let again = members
        .get((u32::from(SHARD), 7))
        .expect("a row")
        .expect("it is there");
    assert_eq!(hexadecimal(again.value()), ROWS[1].1);
    let bases = read.open_table(LOG_BASES).expect("a table");
    let row = bases.get(u32::from(SHARD)).expect("a row").expect("it is there");
    assert_eq!(hexadecimal(row.value()), BASE);
}

#[test]
fn golden_rows_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path());
    let database = segment(folder.path());
    let write = database.begin_write().expect("a writer");
    for (index, row) in ROWS {
        let (key, bytes) = ((u32::from(SHARD), index), bytes_of(row));
        let mut table = write.open_table(ENTRIES).expect("a table");
        table.insert(key, bytes.as_slice()).expect("written");
    }
    let bytes = bytes_of(BASE);
    let mut table = write.open_table(LOG_BASES).expect("a table");
    table.insert(u32::from(SHARD), bytes.as_slice()).expect("written");
    drop(table);
    write.commit().expect("committed");
    drop(database);
    let journal = Journal::open(JournalOptions::new(folder.path().into())).expect("a journal");
    let log = journal.log(ShardId::new(SHARD)).expect("a log");
    assert_eq!(log.base, base());
    let read = journal.read_entries(ShardId::new(SHARD), 0, u64::MAX, usize::MAX);
    assert_eq!(read.expect("entries"), story());
}

#[test]
fn a_flipped_bit_of_a_row_is_never_read_as_right() {
    let folder = tempfile::tempdir().expect("a folder");
    for (index, row) in ROWS {
        for at in 0..row.len() / 2 {
            write(folder.path());
            let database = segment(folder.path());
            let write = database.begin_write().expect("a writer");
            let mut bytes = bytes_of(row);
            bytes[at] ^= 1 << (at % 8);
            let mut table = write.open_table(ENTRIES).expect("a table");
            let key = (u32::from(SHARD), index);
            table.insert(key, bytes.as_slice()).expect("written");
            drop(table);
            write.commit().expect("committed");
            drop(database);
            // The last row is looked at when the journal opens.
            if let Ok(journal) = Journal::open(JournalOptions::new(folder.path().into())) {
                let read = journal.read_entries(ShardId::new(SHARD), 6, u64::MAX, usize::MAX);
                assert!(read.is_err(), "index {index} byte {at}");
            }
            std::fs::remove_file(folder.path().join("segment-000000000001.redb")).expect("removed");
        }
    }
}
