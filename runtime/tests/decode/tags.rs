//! Reads of RFID readers and EPCIS events.

use gemba_runtime::decode::{
    DecodedRead, EpcisScan, RfidFormat, epcis_event, rfid_format, rfid_reads, split_epcis,
};
use serde_json::{Value, json};

use super::{shown, told};

const IMPINJ: &str = include_str!("../samples/impinj_r700_tagInventory.json");
const ZEBRA: &str = include_str!("../samples/zebra_iotc_tagdata.json");
const SGTIN: &str = "urn:epc:id:sgtin:0614141.812345.6789";

fn reads(format: RfidFormat, text: &str) -> Vec<Value> {
    let one = |read: &DecodedRead| {
        json!([
            read.epc.uri,
            read.reader,
            read.antenna,
            read.rssi_dbm,
            read.at.map(|at| at.to_string())
        ])
    };
    let reads = rfid_reads(format, text.as_bytes()).expect(text);
    reads.iter().map(one).collect()
}

#[test]
fn an_event_of_an_impinj_reader_is_a_read() {
    assert_eq!(rfid_format(IMPINJ.as_bytes()), RfidFormat::Impinj);
    let wanted = json!([
        "7EDA9038051002710002C0AE",
        "impinj-01-23-45",
        "1",
        -70.0,
        "2026-01-15T10:00:00.123Z"
    ]);
    assert_eq!(reads(RfidFormat::Impinj, IMPINJ), [wanted.clone()]);
    // A preset may leave the hexadecimal out: then the same tag comes as base64 alone.
    let without = IMPINJ.replace("\"epcHex\"", "\"unused\"");
    assert_eq!(reads(RfidFormat::Impinj, &without), [wanted]);
    let status = r#"{"timestamp":"2026-01-15T10:00:00Z","hostname":"r","eventType":"inventoryStatus","inventoryStatusEvent":{}}"#;
    assert_eq!(reads(RfidFormat::Impinj, status), [] as [Value; 0]);
}

#[test]
fn a_message_of_a_zebra_reader_is_a_read() {
    assert_eq!(rfid_format(ZEBRA.as_bytes()), RfidFormat::Zebra);
    assert_eq!(
        reads(RfidFormat::Zebra, ZEBRA),
        [json!([SGTIN, null, "2", -56.0, "2026-01-15T10:00:00.123Z"])]
    );
    let heartbeat =
        r#"{"type":"heartbeat","timestamp":"2026-01-15T10:00:00.123+0000","data":{"radio":"on"}}"#;
    assert_eq!(reads(RfidFormat::Zebra, heartbeat), [] as [Value; 0]);
}

#[test]
fn what_integrators_write_is_read_whichever_names_they_chose() {
    for (text, wanted) in [
        (
            r#"{"reader_id":"gate-1","reads":[{"epc":"3074257BF7194E4000001A85","rssi":-60},"E2801170"]}"#,
            json!([
                [SGTIN, "gate-1", null, -60.0, null],
                ["E2801170", "gate-1", null, null, null]
            ]),
        ),
        (
            r#"[{"tag":"pallet 7","antennaPort":3,"readAt":"2026-01-15T11:00:00+01:00"}]"#,
            json!([["pallet 7", null, "3", null, "2026-01-15T10:00:00.000Z"]]),
        ),
        (
            r#"{"idHex":"E2801170","peakRssi":-41.5,"port":"left","time":1768471200,"hostname":"r"}"#,
            json!([["E2801170", "r", "left", -41.5, "2026-01-15T10:00:00.000Z"]]),
        ),
        (
            r#"{"code":"4006381333931","scannerId":"bench-2","timestamp":1768471200123}"#,
            json!([["4006381333931", "bench-2", null, null, "2026-01-15T10:00:00.123Z"]]),
        ),
        (r#"["E2801170"]"#, json!([["E2801170", null, null, null, null]])),
        (r#""E2801170""#, json!([["E2801170", null, null, null, null]])),
        (r#"{"reads":[]}"#, json!([])),
    ] {
        assert_eq!(rfid_format(text.as_bytes()), RfidFormat::Generic, "{text}");
        assert_eq!(json!(reads(RfidFormat::Generic, text)), wanted, "{text}");
    }
}

#[test]
fn what_is_no_read_is_rejected_by_name() {
    for (format, text, code) in [
        (RfidFormat::Generic, "{", "json.malformed"),
        (RfidFormat::Generic, "{}", "rfid.epc_missing"),
        (RfidFormat::Generic, "7", "rfid.not_a_read"),
        (RfidFormat::Generic, r#"{"reads":7}"#, "rfid.reads_invalid"),
        (
            RfidFormat::Generic,
            r#"{"epc":"A","time":"noon"}"#,
            "rfid.timestamp_invalid",
        ),
        (
            RfidFormat::Generic,
            r#"{"epc":"A","time":7}"#,
            "rfid.timestamp_invalid",
        ),
        (RfidFormat::Impinj, "{}", "rfid.not_impinj"),
        (
            RfidFormat::Impinj,
            r#"{"eventType":"tagInventory","tagInventoryEvent":{"epc":"!"}}"#,
            "rfid.epc_invalid",
        ),
        (
            RfidFormat::Impinj,
            r#"{"eventType":"tagInventory","tagInventoryEvent":{}}"#,
            "rfid.epc_missing",
        ),
        (RfidFormat::Zebra, "{}", "rfid.not_zebra"),
    ] {
        let said = told(rfid_reads(format, text.as_bytes()));
        assert!(said.starts_with(code), "{text}: {said}");
    }
    let many = format!("[{}\"A\"]", "\"A\",".repeat(10_000));
    assert!(told(rfid_reads(RfidFormat::Generic, many.as_bytes())).starts_with("rfid.too_many_reads"));
}

/// An event with what they all have, and more.
fn event(more: Value) -> Vec<u8> {
    let mut event = json!({
        "eventID": "urn:uuid:1", "eventTime": "2026-04-03T20:33:31.116-06:00", "eventTimeZoneOffset": "-06:00",
        "readPoint": {"id": "urn:epc:id:sgln:0614141.07346.1234"},
        "bizLocation": {"id": "https://id.gs1.org/414/0614141073467"},
    });
    if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
        event.extend(more);
    }
    event.to_string().into_bytes()
}

fn seen(scans: &[EpcisScan]) -> Vec<(&str, bool)> {
    scans.iter().map(|scan| (&*scan.epc.uri, scan.retracts)).collect()
}

#[test]
fn every_thing_of_every_kind_of_event_was_seen_there() {
    let (one, two) = (
        "urn:epc:id:sgtin:0614141.107346.2017",
        "urn:epc:id:sgtin:0614141.107346.2018",
    );
    let unit = "urn:epc:id:sscc:0614141.1234567890";
    for (more, wanted) in [
        (
            json!({"type": "ObjectEvent", "action": "OBSERVE", "epcList": [one, two]}),
            vec![one, two],
        ),
        (
            json!({"type": "AggregationEvent", "action": "ADD", "parentID": unit, "childEPCs": [one],
                   "childQuantityList": [{"epcClass": "urn:epc:idpat:sgtin:4012345.098765.*", "quantity": 10}]}),
            vec![one, unit],
        ),
        (
            json!({"type": "TransactionEvent", "action": "ADD", "parentID": unit, "epcList": [one]}),
            vec![one, unit],
        ),
        (
            json!({"type": "TransformationEvent", "inputEPCList": [one], "outputEPCList": [two]}),
            vec![one, two],
        ),
        (
            json!({"type": "AssociationEvent", "action": "ADD", "parentID": unit, "childEPCs": [two, two]}),
            vec![two, unit],
        ),
    ] {
        let bytes = event(more);
        let read = epcis_event(&bytes).expect("an event");
        let things: Vec<_> = read.scans.iter().map(|scan| &*scan.epc.uri).collect();
        assert_eq!(things, wanted);
        let scan = &read.scans[0];
        assert_eq!(scan.at.to_string(), "2026-04-04T02:33:31.116Z");
        assert_eq!(scan.message_id.as_deref(), Some("urn:uuid:1"));
        assert_eq!(scan.places.len(), 2);
        let metadata: Value =
            serde_json::from_str(scan.metadata.as_deref().expect("metadata")).expect("JSON");
        assert_eq!(metadata["event_time_zone_offset"], "-06:00");
    }
}

#[test]
fn an_error_declaration_takes_the_event_back_under_another_id() {
    let things = json!({"type": "ObjectEvent", "action": "OBSERVE", "epcList": [SGTIN], "bizStep": "https://ref.gs1.org/cbv/BizStep-shipping"});
    let mut wrong = things.clone();
    wrong["errorDeclaration"] =
        json!({"declarationTime": "2026-04-04T00:00:00Z", "reason": "incorrect_data"});
    let (said, taken_back) = (event(things), event(wrong));
    let (said, taken_back) = (
        epcis_event(&said).expect("an event"),
        epcis_event(&taken_back).expect("an event"),
    );
    assert_eq!(
        (seen(&said.scans), seen(&taken_back.scans)),
        (vec![(SGTIN, false)], vec![(SGTIN, true)])
    );
    assert_ne!(said.scans[0].message_id, taken_back.scans[0].message_id);
    assert!(
        said.scans[0]
            .metadata
            .as_deref()
            .expect("metadata")
            .contains(r#""biz_step":"shipping""#)
    );
}

#[test]
fn sensor_reports_are_readings_in_the_units_they_came_in() {
    let bytes = event(json!({
        "type": "ObjectEvent", "action": "OBSERVE", "epcList": [SGTIN],
        "sensorElementList": [
            {"sensorMetadata": {"time": "2026-04-03T20:05:00Z", "deviceID": "urn:epc:id:giai:4000001.111"},
             "sensorReport": [{"type": "Temperature", "value": 26.0, "uom": "CEL"},
                              {"type": "gs1:MeasurementType-RelativeHumidity", "value": 41, "uom": "P1"},
                              {"type": "Illuminance", "value": 800.0, "uom": "LUX"},
                              {"type": "Odd", "value": 1, "uom": "X9"}]},
            {"sensorMetadata": {}, "sensorReport": [{"type": "Alarm", "booleanValue": true}]},
        ],
    }));
    let read = epcis_event(&bytes).expect("an event");
    assert_eq!(read.readings.len(), 2);
    insta::assert_json_snapshot!(shown(&read.readings[0]), @r#"
    {
      "at": "2026-04-03T20:05:00.000Z",
      "location_id": "urn:epc:id:sgln:0614141.07346.1234",
      "message_id": "urn:uuid:1#0",
      "metrics": {
        "illuminance_lx": 800.0,
        "odd_x9": 1.0,
        "relative_humidity_pct": 41.0,
        "temperature_c": 26.0
      },
      "sensor_id": "urn:epc:id:giai:4000001.111",
      "sensor_type": "AirQuality",
      "source_system": "epcis",
      "tags": {}
    }
    "#);
}

#[test]
fn documents_lists_and_single_events_are_cut_into_events() {
    let one = r#"{"type":"ObjectEvent"}"#;
    for (text, wanted) in [
        (
            format!(r#"{{"type":"EPCISDocument","epcisBody":{{"eventList":[{one},{one}]}}}}"#),
            2,
        ),
        (
            format!(r#"{{"type":"EPCISDocument","epcisBody":{{"event":{one}}}}}"#),
            1,
        ),
        (
            format!(r#"{{"epcisBody":{{"queryResults":{{"resultsBody":{{"eventList":[{one}]}}}}}}}}"#),
            1,
        ),
        (format!("[{one}, {one}, {one}]"), 3),
        (one.to_owned(), 1),
    ] {
        let cut = split_epcis(text.as_bytes()).expect(&text);
        assert_eq!(cut, vec![one.as_bytes(); wanted], "{text}");
    }
    for (text, code) in [
        ("", "json."),
        ("7", "json.not_an_object"),
        (r#"{"epcisBody":{}}"#, "epcis.no_event"),
        ("[]", "epcis.no_event"),
        (r#"{"epcisBody":[]}"#, "epcis.document_invalid"),
    ] {
        let said = told(split_epcis(text.as_bytes()));
        assert!(said.starts_with(code), "{text}: {said}");
    }
}

#[test]
fn an_event_that_says_too_little_is_rejected_by_name() {
    for (more, code) in [
        (json!({"type": "Event"}), "epcis.type_unknown"),
        (
            json!({"type": "ObjectEvent", "epcList": [SGTIN], "eventTime": null}),
            "epcis.time_missing",
        ),
        (
            json!({"type": "ObjectEvent", "epcList": [SGTIN], "eventTime": "noon"}),
            "epcis.time_invalid",
        ),
        (
            json!({"type": "ObjectEvent", "epcList": [7]}),
            "epcis.epc_invalid",
        ),
        (json!({"type": "ObjectEvent"}), "epcis.no_epc"),
        (
            json!({"type": "ObjectEvent", "epcList": [SGTIN], "readPoint": null, "bizLocation": null}),
            "epcis.place_missing",
        ),
    ] {
        let said = told(epcis_event(&event(more.clone())));
        assert!(said.starts_with(code), "{more}: {said}");
    }
}
