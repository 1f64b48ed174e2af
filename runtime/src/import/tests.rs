//! Files as plants have them, and bytes as nobody should: read as they are meant, or refused.

use std::{ops::ControlFlow, path::PathBuf};

use proptest::prelude::*;

use super::{Becomes, Dialect, Format, Import, ImportError, Mapping, identity, sniff};

const MAP: &str = "file = {timezone = 'UTC'}\nconstants = {sensor_id = 's-1'}\ncolumns = {timestamp = 'time'}\n\
                   metrics = {a = 'a'}\n";

fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    std::fs::write(&path, content).expect("written");
    (folder, path)
}

fn dialect(content: &[u8]) -> Dialect {
    let (_folder, path) = file(content);
    sniff(&path, Format::Csv).expect("a table")
}

/// Line and value of each row; what is bad has its code.
fn rows(content: &[u8], format: Format, map: &str) -> Result<Vec<(u64, String)>, ImportError> {
    let (_folder, path) = file(content);
    let mapping = Mapping::parse(map).expect("a mapping");
    let import = Import::open(&path, format, &mapping)?;
    let mut rows = Vec::new();
    import.each("x", 0, &mut |row| {
        let shown = match row.becomes {
            Becomes::Message(message) => {
                let message: serde_json::Value = serde_json::from_str(&message).expect("JSON");
                message["metrics"]["a"].to_string()
            }
            Becomes::Nothing => "nothing".to_owned(),
            Becomes::Bad { code, .. } => code.to_owned(),
        };
        rows.push((row.line, shown));
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

fn utf16(text: &str) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

#[test]
fn the_dialect_is_found() {
    let found = |content: &[u8]| {
        let dialect = dialect(content);
        let names: Vec<String> = dialect.columns.into_iter().map(|column| column.name).collect();
        (
            dialect.encoding.unwrap_or_default(),
            dialect.separator.unwrap_or_default(),
            dialect.header_line.unwrap_or_default(),
            dialect.decimal,
            names.join("|"),
        )
    };
    let table = [
        (
            b"time,a\n2024-01-01,1.5\n".to_vec(),
            ("UTF-8", ',', 1, '.', "time|a"),
        ),
        (
            b"time;a\r\n2024-01-01;1,5\r\n".to_vec(),
            ("UTF-8", ';', 1, ',', "time|a"),
        ),
        (
            utf16("time\ta\n2024-01-01\t1,5\n"),
            ("UTF-16LE", '\t', 1, ',', "time|a"),
        ),
        (
            b"time;\xb0C\n2024-01-01;1,5\n".to_vec(),
            ("windows-1252", ';', 1, ',', "time|\u{b0}C"),
        ),
        (
            b"Report of the oven\n\ntime;a;a\n2024-01-01;1;2\n2024-01-02;1;2\n".to_vec(),
            ("UTF-8", ';', 3, '.', "time|a|a#2"),
        ),
        (
            b"sep=;\ntime;a\n2024-01-01;1,5\n".to_vec(),
            ("UTF-8", ';', 2, ',', "time|a"),
        ),
        (
            b"1710000000,1\n1710000001,2\n".to_vec(),
            ("UTF-8", ',', 0, '.', "1|2"),
        ),
        (
            b"time|a|\n2024-01-01|1|\n".to_vec(),
            ("UTF-8", '|', 1, '.', "time|a|column 3"),
        ),
    ];
    for (content, (encoding, separator, line, decimal, names)) in table {
        let wanted = (encoding, separator, line, decimal, names.to_owned());
        assert_eq!(found(&content), wanted, "{}", String::from_utf8_lossy(&content));
    }
}

#[test]
fn what_may_mean_not_measured_and_two_days_is_noted() {
    let text = "time;a\n03/04/2024;20\n04/04/2024;-200\n05/04/2024;21\n06/04/2024;-200\n";
    let found = dialect(text.as_bytes());
    assert_eq!(found.date_order, Some("ambiguous"));
    assert_eq!(found.columns[1].suspect, Some((-200.0, 2)));
    assert!(
        found.notes.iter().any(|note| note.contains("sentinels = [-200]")),
        "{:?}",
        found.notes
    );
    let sure = dialect(text.replace("03/04", "13/04").as_bytes());
    assert_eq!(sure.date_order, Some("dmy"));
}

#[test]
fn rows_keep_their_lines_and_bad_ones_do_not_sink_the_others() {
    let text = "time,a\n2024-01-01,1\n\n2024-01-02,\"2\"\n2024-01-03\n2024-01-04,4,5\n2024-01-05,n/a\n2024-01-06,6,\n";
    let wanted = [
        (2, "1.0"),
        (4, "2.0"),
        (5, "import.row_unreadable"),
        (6, "import.row_unreadable"),
        (7, "nothing"),
        (8, "6.0"),
    ];
    let wanted = wanted.map(|(line, shown)| (line, shown.to_owned()));
    assert_eq!(rows(text.as_bytes(), Format::Csv, MAP).expect("a table"), wanted);
    let array = br#"[{"time":"2024-01-01","a":1}, {"a":NaN}, {"time":"2024-01-03","a":{"b":1}}, 7]"#;
    let wanted = [
        (1, "1.0"),
        (2, "import.row_unreadable"),
        (3, "nothing"),
        (4, "import.row_unreadable"),
    ];
    let wanted = wanted.map(|(line, shown)| (line, shown.to_owned()));
    assert_eq!(rows(array, Format::Json, MAP).expect("an array"), wanted);
}

#[test]
fn a_file_is_known_by_its_content_and_mapping() {
    let known = |content: &[u8], map: &str| {
        let (_folder, path) = file(content);
        let mapping = Mapping::parse(map).expect("a mapping");
        identity(&path, &mapping, &mut |_| ControlFlow::Continue(())).expect("read")
    };
    let first = known(b"time,a\n2024-01-01,1\n", MAP);
    assert_eq!((first.id.len(), first.lines), (32, 2));
    assert_eq!(
        first,
        known(b"time,a\n2024-01-01,1\n", &format!("# again\n{MAP}"))
    );
    assert_ne!(first.id, known(b"time,a\n2024-01-01,2\n", MAP).id);
    assert_ne!(
        first.id,
        known(b"time,a\n2024-01-01,1\n", &MAP.replace("s-1", "s-2")).id
    );
}

#[test]
fn many_names_that_are_the_same_take_no_time() {
    let header = vec!["x"; super::table::COLUMNS_MAX].join(",");
    let dialect = dialect(format!("{header}\n").as_bytes());
    assert_eq!(dialect.columns.len(), super::table::COLUMNS_MAX);
    assert_eq!(dialect.columns[4_095].name, "x#4096");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_or_refused(
        content in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..400),
            prop::collection::vec(prop::sample::select(b"time,a;\t|\"\n\r{}[]:1-./ \xff\x00".to_vec()), 0..400),
            prop::collection::vec(prop::sample::select(b"PK\x03\x04\x01\x02\x05\x06\x00\xff<xl/worksheets".to_vec()), 0..400),
        ],
    ) {
        let (_folder, path) = file(&content);
        let mapping = Mapping::parse(MAP).expect("a mapping");
        for format in [Format::Csv, Format::Xlsx, Format::Json, Format::NdJson] {
            let _ = sniff(&path, format);
            if let Ok(import) = Import::open(&path, format, &mapping) {
                let _ = import.each("x", 0, &mut |_| ControlFlow::Continue(()));
            }
        }
    }
}
