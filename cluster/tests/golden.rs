//! Golden files: what a released version wrote is read for ever.
//!
//! `tests/golden/<version>/` holds a journal of two segments and each of its frames as a file of its own. A folder of
//! a released version is never rewritten. When the encoding changes on purpose, `GEMBA_GOLDEN_WRITE=<version>` with
//! `cargo test -p gemba-cluster --test golden` writes the folder of a new version; a folder that is there already
//! stays as it is. The newest folder holds what today's encoder has to give, byte for byte.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{OnceLock, mpsc},
};

use gemba_cluster::{
    Append, Epoch, Frame, FrameBuilder, FrameError, Journal, JournalOptions, ReadError, Seq, ShardId,
};
use redb::{Builder, ReadableDatabase, ReadableTable, TableDefinition};

/// A frame of the golden journal: segment, shard, first seq, epoch, records.
struct Written {
    segment: u64,
    shard: u16,
    first: u64,
    epoch: u64,
    records: Vec<Vec<u8>>,
}

/// What every version's journal holds, in the order it was appended.
fn story() -> Vec<Written> {
    let written = |segment, shard, first, epoch, records: &[&[u8]]| Written {
        segment,
        shard,
        first,
        epoch,
        records: records.iter().map(|record| record.to_vec()).collect(),
    };
    let (long, longer) = ([0x2a; 300], [0x2b; 20_000]);
    vec![
        written(1, 3, 1, 1, &[b"acknowledged means durable", b"", &long]),
        written(1, 7, 1, 1, &[&longer]),
        written(1, 3, 4, 4, &[b"another owner"]),
        written(1, u16::MAX, 1, 2, &[b"of the whole plant", b"and again"]),
        written(2, 3, 5, 4, &[b"in the second segment"]),
        written(2, 12, 1, 9, &[b"\x00\xff", b"late to begin"]),
    ]
}

/// How each shard ends: shard, first seq, last seq, epoch.
const ENDS: [(u16, u64, u64, u64); 4] = [(3, 1, 5, 4), (7, 1, 1, 1), (12, 1, 2, 9), (u16::MAX, 1, 2, 2)];
/// What the second segment says of the first: shard, last seq, epoch.
const BASES: [(u32, u64, u64); 3] = [(3, 4, 4), (7, 1, 1), (65_535, 2, 2)];

/// FORMAT.md's example.
const EXAMPLE: [u8; 49] = [
    b'G', b'M', b'B', b'J', 1, 1, 0, 0, // magic, format, codec, reserved
    9, 0, 0, 0, 2, 0, 0, 0, // bytes of body, records
    12, 0, 0, 0, // shard, reserved
    1, 0, 0, 0, 0, 0, 0, 0, // first seq
    9, 0, 0, 0, 0, 0, 0, 0, // epoch
    0xbf, 0x5a, 0xff, 0xcb, // CRC32C
    2, 0x00, 0xff, 5, b'e', b'v', b'e', b'n', b't',
];

fn folder_of_goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The folders of all versions, the oldest first; writes the one that is asked for before.
fn versions() -> &'static [PathBuf] {
    static VERSIONS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    VERSIONS.get_or_init(|| {
        if let Ok(version) = std::env::var("GEMBA_GOLDEN_WRITE") {
            let folder = folder_of_goldens().join(version);
            if !folder.exists() {
                write(&folder);
            }
        }
        let number = |path: &PathBuf| -> Vec<u32> {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            name.split('.')
                .map(|part| part.parse().expect("a version"))
                .collect()
        };
        let mut folders: Vec<PathBuf> = fs::read_dir(folder_of_goldens())
            .expect("the goldens")
            .map(|entry| entry.expect("a folder").path())
            .collect();
        folders.sort_by_key(number);
        assert!(folders[0].ends_with("0.1"), "{folders:?}");
        folders
    })
}

fn write(folder: &Path) {
    let journal = folder.join("journal");
    append_story(&journal);
    for (written, bytes) in story().iter().zip(stored_frames(&journal)) {
        fs::write(folder.join(frame_file(written)), bytes).expect("written");
    }
}

fn frame_file(written: &Written) -> String {
    format!("frame-{}-{}.bin", written.shard, written.first)
}

fn segment_file(number: u64) -> String {
    format!("segment-{number:012}.redb")
}

/// Appends the story to a new journal.
fn append_story(folder: &Path) {
    for (at, written) in story().iter().enumerate() {
        let mut options = JournalOptions::new(folder.to_owned());
        if story()
            .get(at + 1)
            .is_some_and(|next| next.segment > written.segment)
        {
            // A journal that is over its size begins a new segment after the append.
            options.segment_bytes = 1;
        }
        let journal = Journal::open(options).expect("a journal");
        append(&journal, written);
        journal.close();
    }
}

fn append(journal: &Journal, written: &Written) {
    let mut frame = FrameBuilder::new();
    for record in &written.records {
        frame.push(record).expect("room");
    }
    let (answer, answered) = mpsc::sync_channel(1);
    let append = Append {
        shard: ShardId::new(written.shard),
        epoch: Epoch::new(written.epoch),
        first: Seq::new(written.first),
        body: frame.finish(),
        done: Box::new(move |result| answer.send(result).expect("somebody listens")),
    };
    journal.append(append).expect("taken");
    answered.recv().expect("an answer").expect("appended");
}

/// The story's frames as the segment files hold them, read without the journal.
fn stored_frames(journal: &Path) -> Vec<Vec<u8>> {
    let table: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("frames");
    let frame = |written: &Written| {
        let segment = Builder::new()
            .open(journal.join(segment_file(written.segment)))
            .expect("a segment");
        let frames = segment
            .begin_read()
            .expect("a reader")
            .open_table(table)
            .expect("a table");
        let key = (u32::from(written.shard), written.first);
        let value = frames.get(key).expect("a look").expect("a frame");
        value.value().to_vec()
    };
    story().iter().map(frame).collect()
}

/// A copy of a version's journal: opening a segment writes to it.
fn copy_of(version: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(version.join("journal")).expect("a journal") {
        let path = entry.expect("a segment").path();
        fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    folder
}

fn golden_frame(version: &Path, written: &Written) -> Vec<u8> {
    fs::read(version.join(frame_file(written))).expect("a golden frame")
}

/// A frame with another byte, and the checksum that belongs to it.
fn resealed(mut bytes: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    bytes[at] = byte;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..36]), &bytes[40..]);
    bytes[36..40].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn frames_of_every_version_are_read() {
    for version in versions() {
        for written in story() {
            let frame = Frame::decode(golden_frame(version, &written)).expect("a frame");
            let shown = (frame.shard().get(), frame.first().get(), frame.epoch().get());
            assert_eq!(shown, (written.shard, written.first, written.epoch));
            assert_eq!(frame.records().collect::<Vec<_>>(), written.records);
        }
    }
}

#[test]
fn the_journal_of_every_version_is_read() {
    for version in versions() {
        let folder = copy_of(version);
        let journal = Journal::open(JournalOptions::new(folder.path().to_owned())).expect("a journal");
        for (shard, first, last, epoch) in ENDS {
            let shard = ShardId::new(shard);
            let found = (
                journal.first_seq(shard).get(),
                journal.last_seq(shard).get(),
                journal.epoch(shard).get(),
            );
            assert_eq!(found, (first, last, epoch), "shard {shard} of {version:?}");
            let frames: Result<Vec<Frame>, ReadError> = journal.read(shard, Seq::new(1)).collect();
            let read: Vec<Vec<u8>> = frames
                .expect("frames")
                .iter()
                .flat_map(|frame| frame.records().map(<[u8]>::to_vec).collect::<Vec<_>>())
                .collect();
            let of_shard = story().into_iter().filter(|written| written.shard == shard.get());
            let wanted: Vec<_> = of_shard.flat_map(|written| written.records).collect();
            assert_eq!(read, wanted, "shard {shard} of {version:?}");
        }
        let report = journal.verify(&mut |_| {});
        assert_eq!((report.frames, report.records, report.shards), (6, 10, 4));
        assert_eq!(report.damage, Vec::<String>::new());
        assert_eq!(journal.stats().segments, 2);
    }
}

#[test]
fn a_journal_of_every_version_is_gone_on_with() {
    for version in versions() {
        let folder = copy_of(version);
        let options = JournalOptions::new(folder.path().to_owned());
        let journal = Journal::open(options.clone()).expect("a journal");
        let next = Written {
            segment: 2,
            shard: 7,
            first: 2,
            epoch: 1,
            records: vec![b"by a later release".to_vec()],
        };
        append(&journal, &next);
        // Shard 7 holds nothing in the second segment, so its first record there follows what the bases say.
        journal.close();
        drop(journal);
        fs::remove_file(folder.path().join(segment_file(1))).expect("the old segment");
        let journal = Journal::open(options).expect("a journal");
        let ends = [3, 7, u16::MAX].map(|shard| journal.last_seq(ShardId::new(shard)).get());
        assert_eq!(ends, [5, 2, 2], "the seq outlives its records");
        assert_eq!(journal.first_seq(ShardId::new(u16::MAX)).get(), 3);
    }
}

#[test]
fn todays_frames_are_the_newest_golden_ones_byte_for_byte() {
    let newest = versions().last().expect("a version");
    let folder = tempfile::tempdir().expect("a folder");
    append_story(folder.path());
    for (written, bytes) in story().iter().zip(stored_frames(folder.path())) {
        assert_eq!(bytes, golden_frame(newest, written), "{}", frame_file(written));
    }
    for journal in [folder.path(), copy_of(newest).path()] {
        let table: TableDefinition<u32, (u64, u64)> = TableDefinition::new("bases");
        let segment = Builder::new()
            .open(journal.join(segment_file(2)))
            .expect("a segment");
        let bases = segment
            .begin_read()
            .expect("a reader")
            .open_table(table)
            .expect("a table");
        let rows: Vec<_> = bases
            .iter()
            .expect("rows")
            .map(|row| {
                let (shard, base) = row.expect("a row");
                (shard.value(), base.value().0, base.value().1)
            })
            .collect();
        assert_eq!(rows, BASES);
    }
}

#[test]
fn a_frame_is_as_format_md_draws_it() {
    let frame = Frame::decode(EXAMPLE.to_vec()).expect("a frame");
    assert_eq!(frame.records().collect::<Vec<_>>(), [&b"\x00\xff"[..], b"event"]);
    let shown = (frame.shard().get(), frame.first().get(), frame.last().get());
    assert_eq!((shown, frame.epoch().get()), ((12, 1, 2), 9));
}

#[test]
fn a_later_format_is_named_and_reserved_bytes_are_not_looked_at() {
    for (at, format, codec) in [(4, 2, 1), (5, 1, 2)] {
        let newer = Frame::decode(resealed(EXAMPLE.to_vec(), at, 2));
        assert_eq!(newer, Err(FrameError::Newer { format, codec }));
    }
    for reserved in [6, 7, 18, 19] {
        assert!(Frame::decode(resealed(EXAMPLE.to_vec(), reserved, 1)).is_ok());
    }
}
