//! Files in by `gemba import`: dirty tables as plants have them, shown, loaded once, every row accounted for.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};
use support::{
    Node,
    command::{Said, command, run},
    free_port, wait_until,
    workbook::{self, Sheet},
};

/// As an air monitor's software writes it: a byte order mark, semicolons, decimal commas, days before months, a header
/// that is there twice, -200 for what was not measured, empty columns and rows at the end; one row with a word where
/// a number belongs and one with a day that does not exist.
const AIR: &str = "\u{feff}Date;Time;CO(GT);T;RH;P;T;;\r\n\
    13/03/2024;18.00.00;2,6;13,6;48,9;1013,2;1;;\r\n\
    13/03/2024;19.00.00;-200;13,3;47,7;1013,0;2;;\r\n\
    13/03/2024;20.00.00;2,2;eleven;54,0;1012,8;3;;\r\n\
    13/03/2024;21.00.00;-200;-200;-200;-200;4;;\r\n\
    31/04/2024;22.00.00;1,6;11,2;59,6;1012,5;5;;\r\n\
    14/03/2024;00.00.00;1,2;11,2;59,2;1012,4;6;;\r\n\
    ;;;;;;;;\r\n";

struct Place {
    folder: tempfile::TempDir,
    node: Node,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let node = Node::start(&folder.path().join("data"), &[]);
        Self { folder, node }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    fn import(&self, file: &Path, map: &Path, more: &[&str]) -> Said {
        run(&mut self.command(file, map, more))
    }

    fn command(&self, file: &Path, map: &Path, more: &[&str]) -> std::process::Command {
        let mut import = command(&["import"]);
        import.arg(file).arg("--map").arg(map).args(more);
        import.env("GEMBA_URL", format!("http://127.0.0.1:{}", self.node.http));
        import
    }

    fn history(&self, twin: &str, metric: &str) -> Vec<(String, Value)> {
        let points = self.node.get(&format!(
            "/v1/twins/{twin}/history?metric={metric}&step=raw&from=2000-01-01T00:00:00Z"
        ));
        let point = |point: &Value| {
            let time = point["time"].as_str().expect("a time").to_owned();
            let value = if point["text"].is_string() {
                &point["text"]
            } else {
                &point["last"]
            };
            (time, value.clone())
        };
        points.as_array().expect("points").iter().map(point).collect()
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/import")
        .join(name)
}

fn at(time: &str, value: impl Into<Value>) -> (String, Value) {
    (time.to_owned(), value.into())
}

fn json_of(said: &Said) -> Value {
    assert_eq!(said.status, 0, "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

#[test]
fn a_dirty_table_is_shown_then_loaded_and_every_row_is_accounted_for() {
    let place = Place::new();
    let (file, map) = (place.write("air.csv", AIR), example("air.toml"));
    let checked = place.import(&file, &map, &["--check"]);
    assert_eq!(checked.status, 0, "{checked:?}");
    for said in [
        "UTF-8 with a byte order mark",
        "separator ';'",
        "header in line 1",
        "decimal sign ','",
        "dates dmy",
        "\"T\" twice",
        "\"timestamp\":\"2024-03-13T17:00:00.000Z\"",
        "of the first 7 rows 2 will be rejected",
    ] {
        assert!(checked.out.contains(said), "{said}: {}", checked.out);
    }
    assert!(place.node.list("/v1/twins").is_empty(), "a check loads nothing");

    let loaded = json_of(&place.import(&file, &map, &["--json"]));
    assert_eq!(
        (
            &loaded["rows"],
            &loaded["accepted"],
            &loaded["rejected"],
            &loaded["empty"],
            &loaded["duplicates"]
        ),
        (&json!(7), &json!(3), &json!(2), &json!(2), &json!(0)),
        "{loaded}"
    );
    let twin = "location/cell-2";
    assert_eq!(
        place.history(twin, "co_mgm3"),
        [
            at("2024-03-13T17:00:00.000Z", 2.6),
            at("2024-03-13T23:00:00.000Z", 1.2)
        ]
    );
    assert_eq!(
        place.history(twin, "temperature_c"),
        [
            at("2024-03-13T17:00:00.000Z", 13.6),
            at("2024-03-13T18:00:00.000Z", 13.3),
            at("2024-03-13T23:00:00.000Z", 11.2)
        ]
    );
    let kept = std::fs::read_to_string(format!("{}.rejected.csv", file.display())).expect("rejected rows");
    let lines: Vec<&str> = kept.lines().collect();
    assert_eq!(lines.len(), 3, "{kept}");
    assert!(
        lines[1].starts_with("4,import.number_invalid,") && lines[1].contains("eleven"),
        "{kept}"
    );
    assert!(
        lines[2].starts_with("6,import.timestamp_invalid,") && lines[2].contains("31/04/2024"),
        "{kept}"
    );

    // Repeated, it is known as done; sent again all the same, the node counts each message once.
    let repeated = json_of(&place.import(&file, &map, &["--json"]));
    assert_eq!((&repeated["sent"], &repeated["rows"]), (&json!(false), &json!(7)));
    let again = json_of(&place.import(&file, &map, &["--json", "--again"]));
    assert_eq!(
        (&again["accepted"], &again["duplicates"], &again["rejected"]),
        (&json!(0), &json!(3), &json!(2))
    );
    assert_eq!(place.history(twin, "co_mgm3").len(), 2);
    let counts = place.node.counts_that_add_up();
    assert_eq!((counts.received, counts.duplicate), (6, 3));
}

#[test]
fn a_table_with_a_row_for_each_value_is_loaded_with_its_units_checked() {
    let place = Place::new();
    let text = "Tag,Time,Parameter,Value,Unit\n\
                Press 12,2024-03-10T08:00:00Z,Active power,12.5,kW\n\
                Press 12,2024-03-10T08:00:00Z,Energy,5123400,Wh\n\
                Press 12,2024-03-10T08:00:00Z,State,RUN,\n\
                Press 12,2024-03-10T08:01:00Z,Active power,12500,W\n\
                Press 12,2024-03-10T08:01:00Z,Oil level,3,mm\n";
    let file = place.write("historian.csv", text);
    let loaded = json_of(&place.import(&file, &example("long.toml"), &["--json"]));
    assert_eq!(
        (&loaded["accepted"], &loaded["rejected"], &loaded["empty"]),
        (&json!(3), &json!(1), &json!(1)),
        "{loaded}"
    );
    let twin = "machine/press-12";
    assert_eq!(
        place.history(twin, "power_kw"),
        [at("2024-03-10T08:00:00.000Z", 12.5)]
    );
    assert_eq!(
        place.history(twin, "energy_kwh"),
        [at("2024-03-10T08:00:00.000Z", 5123.4)]
    );
    assert_eq!(
        place.history(twin, "execution"),
        [at("2024-03-10T08:00:00.000Z", "producing")]
    );
    let kept = std::fs::read_to_string(format!("{}.rejected.csv", file.display())).expect("rejected rows");
    assert!(kept.contains("5,import.unit_differs"), "{kept}");
}

#[test]
fn json_and_lines_of_json_are_loaded_with_what_is_wrong_told_by_line() {
    let place = Place::new();
    let map = place.write(
        "map.toml",
        "kind = 'scans'\ncolumns = {job_id = 'order.id', location = 'at', timestamp = 'ts'}\n",
    );
    let rows = [
        r#"{"order":{"id":"job-1"},"at":"cell-1","ts":"2024-03-10T08:00:00Z"}"#,
        r#"{"order":{"id":"job-1"},"at":"cell-2","ts":1710058200}"#,
        r#"{"order":{"id":"job 1"},"at":"cell-2","ts":1710058200}"#,
    ];
    let lines = place.write(
        "scans.ndjson",
        format!("{}\n{}\n\n{{oops\n{}\n", rows[0], rows[1], rows[2]),
    );
    let loaded = json_of(&place.import(&lines, &map, &["--json"]));
    assert_eq!(
        (&loaded["accepted"], &loaded["rejected"]),
        (&json!(2), &json!(2)),
        "{loaded}"
    );
    let kept = std::fs::read_to_string(format!("{}.rejected.csv", lines.display())).expect("rejected rows");
    assert!(
        kept.contains("\n4,import.row_unreadable") && kept.contains("\n5,scan.job_id_invalid"),
        "{kept}"
    );
    let path = place.node.get("/v1/twins/job/job-1")["state"]["flow_path"].clone();
    assert_eq!(path.as_array().map(Vec::len), Some(2), "{path}");
    // The same as an array, known again by what it says.
    let map = place.write(
        "content.toml",
        "kind = 'scans'\nids = 'content'\ncolumns = {job_id = 'order.id', location = 'at', timestamp = 'ts'}\n",
    );
    let array = place.write("scans.json", format!("[{},\n{}]", rows[0], rows[1]));
    assert_eq!(json_of(&place.import(&array, &map, &["--json"]))["accepted"], 2);
    let longer = place.write(
        "more.json",
        format!("[{},{}]", rows[1], rows[1].replace("cell-2", "cell-3")),
    );
    let loaded = json_of(&place.import(&longer, &map, &["--json"]));
    assert_eq!(
        (&loaded["accepted"], &loaded["duplicates"]),
        (&json!(1), &json!(1)),
        "{loaded}"
    );
}

#[test]
fn a_workbook_is_loaded_and_one_that_inflates_without_end_is_refused() {
    let place = Place::new();
    let map = place.write(
        "map.toml",
        "file = {timezone = 'UTC'}\nconstants = {sensor_id = 'oven-1'}\ncolumns = {timestamp = 'When'}\n\
         metrics = {temperature_c = 'Temp'}\n",
    );
    // 45361.75 is 2024-03-10 18:00 in a workbook.
    let sheet = Sheet::new(&["Report of the oven"])
        .row(&["When", "Temp", "Note"])
        .dated(45_361.75, 180.5)
        .dated(45_361.76, 181.5);
    let file = place.write("oven.xlsx", workbook::of(&sheet));
    let checked = place.import(&file, &map, &["--check", "--json"]);
    let checked = json_of(&checked);
    assert_eq!(checked["dialect"]["format"], "xlsx");
    assert_eq!(
        checked["rows"][0]["message"]["timestamp"],
        "2024-03-10T18:00:00.000Z"
    );
    let loaded = json_of(&place.import(&file, &map, &["--json"]));
    assert_eq!(
        (&loaded["accepted"], &loaded["rows"]),
        (&json!(2), &json!(2)),
        "{loaded}"
    );
    let values = place.history("machine/oven-1", "temperature_c");
    assert_eq!(values[0], at("2024-03-10T18:00:00.000Z", 180.5));

    for (name, bomb) in [
        ("bomb.xlsx", workbook::bomb(true)),
        ("lying.xlsx", workbook::bomb(false)),
        ("cell.xlsx", workbook::endless_cell()),
    ] {
        assert!(bomb.len() < 16 << 20, "{} bytes are sent", bomb.len());
        let file = place.write(name, bomb);
        let refused = place.import(&file, &map, &[]);
        assert_eq!(refused.status, 1, "{refused:?}");
        assert!(refused.err.contains("in the workbook"), "{}", refused.err);
    }
    let text = place.write("no.xlsx", "Date;Time");
    assert!(place.import(&text, &map, &[]).err.contains("no XLSX workbook"));
}

#[test]
fn what_cannot_be_decided_is_asked_and_what_is_misspelt_is_named() {
    let place = Place::new();
    let file = place.write("a.csv", "when,watts\n03/04/2024 08:00,1\n04/04/2024 08:00,2\n");
    let map = "[constants]\nsensor_id = 'm-1'\n[columns]\ntimestamp = 'when'\n[metrics]\npower_kw = {from = 'watts', scale = 0.001}\n";
    let refused = |map: &str| {
        let map = place.write("map.toml", map);
        let said = place.import(&file, &map, &[]);
        assert_eq!(said.status, 1, "{said:?}");
        assert_eq!(said.err.trim_end().lines().count(), 1, "{}", said.err);
        said.err
    };
    let zone = format!("[file]\ntimezone = 'UTC'\n{map}");
    assert!(refused(&zone).contains("date_order"));
    let order = format!("[file]\ndate_order = 'dmy'\n{map}");
    assert!(refused(&order).contains("timezone"));
    assert!(refused(&zone.replace("'watts'", "'wats'")).contains("did you mean watts?"));
    assert!(refused(&zone.replace("timezone", "timezome")).contains("did you mean timezone?"));
    let both = zone.replace("[file]", "[file]\ndate_order = 'mdy'");
    let map = place.write("map.toml", both);
    assert_eq!(json_of(&place.import(&file, &map, &["--json"]))["accepted"], 2);
    assert_eq!(
        place.history("machine/m-1", "power_kw"),
        [
            at("2024-03-04T08:00:00.000Z", 0.001),
            at("2024-04-04T08:00:00.000Z", 0.002)
        ]
    );
    let quote = place.write(
        "quote.csv",
        format!("when,watts\n\"03/04/2024 08:00,1\n{}", "x,1\n".repeat(400_000)),
    );
    assert!(place.import(&quote, &map, &[]).err.contains("quote"));
}

/// A table of many rows of one sensor, a second apart.
fn many_rows(rows: usize) -> String {
    let mut text = String::from("t,count\n");
    for row in 0..rows {
        text.push_str(&format!("{},{row}\n", 1_710_000_000 + row));
    }
    text
}

const COUNTER: &str =
    "[constants]\nsensor_id = 'press-1'\n[columns]\ntimestamp = 't'\n[metrics]\nsequence = 'count'\n";

/// Both the node and the command are killed in the middle; the command is run again.
#[test]
fn an_import_that_was_killed_goes_on_and_counts_each_row_once() {
    const ROWS: usize = 40_000;
    let folder = tempfile::tempdir().expect("a folder");
    let (data, http, mqtt) = (folder.path().join("data"), free_port(), free_port());
    let mut place = Place {
        node: Node::start_on(&data, http, mqtt, &[]),
        folder,
    };
    let file = place.write("many.csv", many_rows(ROWS));
    let map = place.write("map.toml", COUNTER);
    let notes = format!("{}.import.json", file.display());
    let line = || -> u64 {
        let text = std::fs::read_to_string(&notes).unwrap_or_default();
        let notes: Value = serde_json::from_str(&text).unwrap_or_default();
        notes["line"].as_u64().unwrap_or_default()
    };
    let start = |place: &Place| {
        let mut import = place.command(&file, &map, &["--json"]);
        import.stdout(Stdio::null()).stderr(Stdio::null());
        import.spawn().expect("gemba starts")
    };
    let mut import = start(&place);
    wait_until("some rows", || (line() > 4_000).then_some(()));
    import.kill().expect("killed");
    import.wait().expect("reaped");
    let before = line();
    let mut import = start(&place);
    wait_until("more rows", || (line() > before + 4_000).then_some(()));
    place.node.kill();
    place.node = Node::start_on(&data, http, mqtt, &[]);
    // It waits for the node and goes on by itself.
    assert!(import.wait().expect("reaped").success());
    let done = json_of(&place.import(&file, &map, &["--json"]));
    assert_eq!(
        (&done["rows"], &done["rejected"], &done["sent"]),
        (&json!(ROWS), &json!(0), &json!(false)),
        "{done}"
    );
    assert!(before < ROWS as u64, "the first kill hit it on its way");
    let values = place.history("machine/press-1", "sequence");
    let folded: Vec<f64> = values
        .iter()
        .map(|(_, value)| value.as_f64().expect("a number"))
        .collect();
    let wanted: Vec<f64> = (0..ROWS).map(|row| row as f64).collect();
    assert!(folded == wanted, "{} values of {ROWS}", folded.len());
}
