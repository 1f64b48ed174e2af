//! Native readings and scans: what is read, what is forgiven, and what each mistake is called.

use gemba_runtime::decode::{METRICS_MAX, native_reading, native_scan};
use gemba_twins::event::Value;

use super::{shown, told};

fn reading(json: &str) -> String {
    told(native_reading(None, json.as_bytes()))
}

fn scan(json: &str) -> String {
    told(native_scan(None, json.as_bytes()))
}

#[test]
fn the_reading_of_the_contract_is_read_whole() {
    let json = r#"{"sensor_id":"cnc-07","sensor_type":"MACHINE","location_id":"cell-2","timestamp":"2026-11-23T07:57:28.560Z","message_id":"01JD",
        "metrics":{"execution":"producing","cycle_count":1042,"good_count":1030,"energy_kwh":5123.4,"door_open":false},"quality_score":0.98,
        "source_system":"edge-1","device_metadata":{"firmware":"2.1"}}"#;
    let decoded = native_reading(Some("cnc-07"), json.as_bytes()).expect("a reading");
    insta::assert_json_snapshot!(shown(&decoded), @r#"
    {
      "at": "2026-11-23T07:57:28.560Z",
      "device_metadata": {
        "firmware": "2.1"
      },
      "location_id": "cell-2",
      "message_id": "01JD",
      "metrics": {
        "cycle_count": 1042.0,
        "door_open": false,
        "energy_kwh": 5123.4,
        "execution": "producing",
        "good_count": 1030.0
      },
      "quality_score": 0.98,
      "sensor_id": "cnc-07",
      "sensor_type": "Machine",
      "source_system": "edge-1",
      "tags": {}
    }
    "#);
}

#[test]
fn the_scan_of_the_contract_is_read_whole() {
    let json = r#"{"job_id":"J-1042","location":"cell-2","product_id":"P-7","product_variant":"blue, matt","scan_timestamp":"2026-11-23T09:57:28.560+02:00",
        "operator_id":"op-3","metadata":{"weight_kg":4.1},"message_id":"01JE"}"#;
    let decoded = native_scan(Some("reader-3"), json.as_bytes()).expect("a scan");
    insta::assert_debug_snapshot!(decoded, @r#"
    DecodedScan {
        job_id: "J-1042",
        location: "cell-2",
        reader_id: Some(
            "reader-3",
        ),
        product_id: Some(
            "P-7",
        ),
        product_variant: Some(
            "blue, matt",
        ),
        operator_id: Some(
            "op-3",
        ),
        at: Some(
            Timestamp(
                1795420648560,
            ),
        ),
        message_id: Some(
            "01JE",
        ),
        metadata: Some(
            "{\"weight_kg\":4.1}",
        ),
    }
    "#);
}

#[test]
fn what_a_sender_may_leave_out_or_write_otherwise() {
    let at = |json: &str| {
        native_reading(None, json.as_bytes())
            .expect(json)
            .at
            .map(|at| at.to_string())
    };
    let head = r#"{"sensor_id":"s","metrics":{"a":1}"#;
    for (rest, expected) in [
        ("}", None),
        (r#","timestamp":null}"#, None),
        (
            r#","timestamp":"2026-11-23T07:57:28Z"}"#,
            Some("2026-11-23T07:57:28.000Z"),
        ),
        (
            r#","timestamp":"2026-11-23T09:57:28.5604+02:00"}"#,
            Some("2026-11-23T07:57:28.560Z"),
        ),
        (r#","timestamp":1795420648560}"#, Some("2026-11-23T07:57:28.560Z")),
    ] {
        assert_eq!(at(&format!("{head}{rest}")).as_deref(), expected, "{rest}");
    }
    // The topic names the sensor, null is not measured, a byte order mark and fields of others are no matter.
    let json = "\u{feff}{\"metrics\":{\"a\":null,\"b\":-0.5,\"c\":1e3},\"mine\":[{\"x\":[1]}],\"device_metadata\":null}";
    let decoded = native_reading(Some("s"), json.as_bytes()).expect("a reading");
    assert_eq!(&*decoded.sensor_id, "s");
    assert_eq!(
        decoded.metrics,
        [
            ("b".into(), Value::Number(-0.5)),
            ("c".into(), Value::Number(1000.0))
        ]
    );
    assert_eq!(decoded.device_metadata, None);
    let escaped = native_reading(
        None,
        br#"{"sensor_\u0069d":"\u0073","metrics":{"\u0061":"\u00e4"}}"#,
    );
    assert_eq!(
        escaped.expect("escapes").metrics,
        [("a".into(), Value::Text("ä".into()))]
    );
    assert!(
        native_scan(
            None,
            br#"{"job_id":"J","location":"L","timestamp":1795420648560}"#
        )
        .expect("a scan")
        .at
        .is_some()
    );
}

#[test]
fn text_that_is_not_json_is_told_with_its_position() {
    for (json, expected) in [
        (
            " ",
            "json.malformed: EOF while parsing a value at line 1 column 1 (nothing was sent)",
        ),
        (
            r#"{"sensor_id":"s","metrics":{"a":1}"#,
            "json.malformed: EOF while parsing an object at line 1 column 34 (the message is cut off)",
        ),
        (
            r#"{"sensor_id":"s","metrics":{"a":NaN}}"#,
            "json.malformed: expected value at line 1 column 33 (NaN and Infinity are not JSON: leave the metric out or send null)",
        ),
        (
            r#"{"sensor_id":"s","metrics":{"a":-Infinity}}"#,
            "json.malformed: invalid number at line 1 column 34 (NaN and Infinity are not JSON: leave the metric out or send null)",
        ),
        (
            r#"{"sensor_id":"s","metrics":{"a":nan}}"#,
            "json.malformed: expected ident at line 1 column 34 (NaN and Infinity are not JSON: leave the metric out or send null)",
        ),
        (
            r#"{"sensor_id":"s","metrics":{"a":1e999}}"#,
            "json.number_too_large: number out of range at line 1 column 37 (numbers go up to 1.8e308)",
        ),
        (
            "{\"sensor_id\":\"s\",\n\"metrics\":{\"a\":1,}}",
            "json.malformed: trailing comma at line 2 column 18",
        ),
        (
            r#"{"sensor_id":"s","metrics":{"a":1}}{"sensor_id":"t"}"#,
            "json.malformed: trailing characters at line 1 column 36 (send several objects as an array or as NDJSON)",
        ),
        (
            r#"[{"sensor_id":"s"}]"#,
            "json.not_an_object: invalid type: sequence, expected an object that holds a reading at line 1 column 0",
        ),
        (
            r#""cnc-07""#,
            r#"json.not_an_object: invalid type: string "cnc-07", expected an object that holds a reading at line 1 column 8"#,
        ),
        (
            "{'sensor_id':'s'}",
            "json.malformed: key must be a string at line 1 column 2",
        ),
    ] {
        assert_eq!(reading(json), expected, "{json}");
    }
    assert_eq!(
        told(native_reading(None, b"{\"sensor_id\":\"\xff\"}")),
        "json.not_utf8: byte 14 is not UTF-8 (send JSON as UTF-8)"
    );
    let deep = format!(
        "{{\"sensor_id\":\"s\",\"x\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(
        reading(&deep),
        "reading.field_missing: metrics is missing (it is required)"
    );
}

#[test]
fn each_mistake_of_a_reading_has_its_name() {
    let metrics = |metrics: &str| format!(r#"{{"sensor_id":"s","metrics":{metrics}}}"#);
    let with = |field: &str| format!(r#"{{"sensor_id":"s","metrics":{{"a":1}},{field}}}"#);
    let many: Vec<String> = (0..=METRICS_MAX)
        .map(|number| format!(r#""m{number}":{number}"#))
        .collect();
    for (json, expected) in [
        (
            "{}".into(),
            "reading.field_missing: metrics is missing (it is required)",
        ),
        (
            r#"{"sensor_id":"s"}"#.into(),
            "reading.field_missing: metrics is missing (it is required)",
        ),
        (
            r#"{"metrics":{"a":1}}"#.into(),
            "reading.field_missing: sensor_id is missing (it is required)",
        ),
        (
            r#"{"sensor_id":7,"metrics":{"a":1}}"#.into(),
            "reading.field_type: sensor_id is a number (it has to be text, in quotes)",
        ),
        (
            r#"{"sensor_id":"cnc 07","metrics":{"a":1}}"#.into(),
            "reading.sensor_id_invalid: sensor_id holds ' ' at position 3 (allowed: letters, digits, '-', '_', '.', ':')",
        ),
        (
            r#"{"sensor_id":"","metrics":{"a":1}}"#.into(),
            "reading.sensor_id_invalid: sensor_id is empty (give 1 to 128 characters)",
        ),
        (
            with(r#""sensor_id":"t""#),
            "reading.field_duplicate: sensor_id is given twice",
        ),
        (
            metrics("{}"),
            "reading.metrics_empty: metrics holds no value (null means not measured; send at least one)",
        ),
        (
            metrics(r#"{"a":null}"#),
            "reading.metrics_empty: metrics holds no value (null means not measured; send at least one)",
        ),
        (
            metrics("[1]"),
            "reading.field_type: metrics is a list (it has to be an object of names and values)",
        ),
        (
            metrics("null"),
            "reading.field_type: metrics is null (it has to be an object of names and values)",
        ),
        (
            metrics(r#""a""#),
            "reading.field_type: metrics is text (it has to be an object of names and values)",
        ),
        (
            metrics(r#"{"a":{"b":1}}"#),
            r#"reading.metric_type: metric "a" is an object (a number, text, true or false is needed; give nested values names of their own)"#,
        ),
        (
            metrics(r#"{"a":[1]}"#),
            r#"reading.metric_type: metric "a" is a list (a number, text, true or false is needed; give nested values names of their own)"#,
        ),
        (
            metrics(r#"{"a":1,"b":2,"a":3}"#),
            r#"reading.metric_duplicate: metric "a" is given twice (send two readings, each with its time)"#,
        ),
        (
            metrics(r#"{"":1}"#),
            r#"reading.metric_name_invalid: metric name "" has 0 characters (1 to 128 without control characters are allowed)"#,
        ),
        (
            metrics(r#"{"a\nb":1}"#),
            "reading.metric_name_invalid: metric name \"a\\nb\" has 3 characters (1 to 128 without control characters are allowed)",
        ),
        (
            metrics(&format!(r#"{{"{}":1}}"#, "n".repeat(129))),
            r#"reading.metric_name_invalid: metric name "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…" has 129 characters (1 to 128 without control characters are allowed)"#,
        ),
        (
            metrics(&format!(r#"{{"a":"{}"}}"#, "t".repeat(257))),
            r#"reading.metric_text_too_long: metric "a" is a text of 257 characters (at most 256)"#,
        ),
        (
            metrics(&format!("{{{}}}", many.join(","))),
            "reading.too_many_metrics: more than 256 metrics (split the reading)",
        ),
        (
            with(r#""sensor_type":"LASER""#),
            r#"reading.sensor_type_unknown: sensor_type "LASER" is unknown (one of MACHINE, ENERGY, AIR_QUALITY, RFID)"#,
        ),
        (
            with(r#""location_id":"cell/2""#),
            "reading.location_id_invalid: location_id holds '/' at position 4 (allowed: letters, digits, '-', '_', '.', ':')",
        ),
        (
            with(r#""timestamp":"yesterday""#),
            r#"reading.timestamp_invalid: timestamp: "yesterday" is not a time (use RFC 3339, e.g. 2026-11-23T07:57:28.560Z)"#,
        ),
        (
            with(r#""timestamp":1795420648"#),
            "reading.timestamp_invalid: timestamp 1795420648 is not between 2000 and 2200 (numbers count milliseconds since 1970, not seconds)",
        ),
        (
            with(r#""timestamp":1795420648.5"#),
            "reading.timestamp_invalid: timestamp is a number (use RFC 3339 text, or a whole number of milliseconds since 1970)",
        ),
        (
            with(r#""message_id":"""#),
            r#"reading.message_id_invalid: message_id "" has 0 characters (1 to 256 without control characters are allowed; without any, one is derived from the content)"#,
        ),
        (
            with(r#""message_id":17"#),
            "reading.field_type: message_id is a number (it has to be text, in quotes)",
        ),
        (
            with(r#""quality_score":1.1"#),
            "reading.quality_score_range: quality_score is 1.1 (0 to 1 is allowed)",
        ),
        (
            with(r#""quality_score":"good""#),
            "reading.field_type: quality_score is text (a number from 0 to 1 is needed)",
        ),
        (
            with(r#""source_system":{"name":"edge"}"#),
            "reading.field_type: source_system is an object (it has to be text, in quotes)",
        ),
        (
            with(&format!(r#""source_system":"{}""#, "e".repeat(129))),
            r#"reading.field_length: source_system "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee…" has 129 characters (1 to 128 without control characters are allowed)"#,
        ),
        (
            with(&format!(r#""device_metadata":"{}""#, "m".repeat(9_000))),
            "reading.field_length: device_metadata has 9002 bytes (at most 8192 are kept)",
        ),
    ] {
        assert_eq!(reading(&json), expected, "{json:.200}");
    }
    assert_eq!(
        told(native_reading(Some("t"), metrics(r#"{"a":1}"#).as_bytes())),
        r#"reading.sensor_mismatch: the topic names sensor "t", the message "s" (they have to agree)"#
    );
}

#[test]
fn each_mistake_of_a_scan_has_its_name() {
    let with = |field: &str| format!(r#"{{"job_id":"J-1","location":"cell-2",{field}}}"#);
    for (json, expected) in [
        (
            "{}".into(),
            "scan.field_missing: job_id is missing (it is required)",
        ),
        (
            r#"{"job_id":"J-1"}"#.into(),
            "scan.field_missing: location is missing (it is required)",
        ),
        (
            r#"{"job_id":"J 1","location":"cell-2"}"#.into(),
            "scan.job_id_invalid: job_id holds ' ' at position 1 (allowed: letters, digits, '-', '_', '.', ':')",
        ),
        (
            r#"{"job_id":"J-1","location":{"id":"cell-2"}}"#.into(),
            "scan.field_type: location is an object (it has to be text, in quotes)",
        ),
        (
            with(r#""job_id":"J-2""#),
            "scan.field_duplicate: job_id is given twice",
        ),
        (
            with(r#""scan_timestamp":"2026-11-23""#),
            r#"scan.timestamp_invalid: scan_timestamp: "2026-11-23" is not a time (use RFC 3339, e.g. 2026-11-23T07:57:28.560Z)"#,
        ),
        (
            with(r#""scan_timestamp":1,"timestamp":2"#),
            "scan.field_duplicate: scan_timestamp is given twice",
        ),
        (
            with(r#""operator_id":"""#),
            r#"scan.field_length: operator_id "" has 0 characters (1 to 128 without control characters are allowed)"#,
        ),
        (
            with(r#""product_id":"a\u0000b""#),
            "scan.field_length: product_id \"a\\0b\" has 3 characters (1 to 128 without control characters are allowed)",
        ),
        (
            with(r#""reader_id":"r/1""#),
            "scan.reader_id_invalid: reader_id holds '/' at position 1 (allowed: letters, digits, '-', '_', '.', ':')",
        ),
        (
            "[]".into(),
            "json.not_an_object: invalid type: sequence, expected an object that holds a scan at line 1 column 0",
        ),
    ] {
        assert_eq!(scan(&json), expected, "{json}");
    }
    assert_eq!(
        told(native_scan(Some("r-2"), with(r#""reader_id":"r-1""#).as_bytes())),
        r#"scan.reader_mismatch: the topic names reader "r-2", the message "r-1" (they have to agree)"#
    );
}

#[test]
fn what_a_rejection_says_stays_short() {
    let long = "x".repeat(1_000_000);
    for json in [
        format!(r#"{{"sensor_id":"{long}","metrics":{{"a":1}}}}"#),
        format!(r#"{{"sensor_id":"s","metrics":{{"{long}":1}}}}"#),
        format!(r#"{{"sensor_id":"s","metrics":{{"a":1}},"timestamp":"{long}"}}"#),
        format!(r#"{{"sensor_id":"s","metrics":{{"a":1}},"message_id":"{long}"}}"#),
        format!(r#"{{"sensor_id":"s","metrics":{{"a":1}},"sensor_type":"{long}"}}"#),
        format!(r#""{long}""#),
    ] {
        let said = reading(&json);
        assert!(said.len() < 400, "{said}");
    }
}
