//! Messages of LoRaWAN network servers: ChirpStack v4 and The Things Stack v3.

use gemba_runtime::decode::{chirpstack, the_things_stack};
use gemba_twins::event::Value;

use super::{shown, told};

const CHIRPSTACK_UP: &str = include_str!("../samples/chirpstack_v4_up.json");
const CHIRPSTACK_STATUS: &str = include_str!("../samples/chirpstack_v4_status.json");
const CHIRPSTACK_JOIN: &str = include_str!("../samples/chirpstack_v4_join.json");
const TTS_UPLINK: &str = include_str!("../samples/tts_v3_uplink.json");
const TTS_INVALID: &str = include_str!("../samples/tts_v3_uplink_as_published_invalid.json");
const TTS_UNITS: &str = include_str!("../samples/tts_v3_uplink_value_and_unit.json");
const TTS_OTHERS: &str = include_str!("../samples/tts_v3_other_events.json");

fn of_chirpstack(event: &str) -> String {
    format!("application/2f0f8a52-6d5b-4f0d-8f1d-5b2f6f1f2202/device/24e124710c000319/event/{event}")
}

fn of_things_stack(event: &str) -> String {
    format!("v3/air@tenant1/devices/dev1/{event}")
}

#[test]
fn an_uplink_of_chirpstack_becomes_a_reading() {
    let decoded = chirpstack(&of_chirpstack("up"), CHIRPSTACK_UP.as_bytes()).expect("an uplink");
    insta::assert_json_snapshot!(shown(&decoded), @r#"
    {
      "at": "2026-11-23T07:57:28.560Z",
      "device_metadata": {
        "application": "air",
        "dev_eui": "24e124710c000319",
        "device_name": "air cell 2",
        "device_profile": "Milesight AM319",
        "gateway_id": "a84041ffff1e0002"
      },
      "location_id": "cell-2",
      "message_id": "b1f9c5de-64a1-4f6e-9b43-5a1f70c4c404",
      "metrics": {
        "co2": 1042.0,
        "f_cnt": 1204.0,
        "humidity": 50.5,
        "pir": "trigger",
        "pm2_5": 12.0,
        "pressure": 1013.2,
        "rssi_dbm": -71.0,
        "snr_db": 8.25,
        "temperature": 23.8,
        "tvoc": 0.37
      },
      "sensor_id": "24e124710c000319",
      "sensor_type": "AirQuality",
      "source_system": "chirpstack",
      "tags": {
        "location_id": "cell-2",
        "sensor_type": "AIR_QUALITY"
      }
    }
    "#);
}

#[test]
fn a_status_of_chirpstack_becomes_a_reading() {
    let decoded = chirpstack(&of_chirpstack("status"), CHIRPSTACK_STATUS.as_bytes()).expect("a status");
    insta::assert_json_snapshot!(shown(&decoded), @r#"
    {
      "at": "2026-11-23T08:00:01.000Z",
      "device_metadata": {
        "application": "air",
        "dev_eui": "24e124710c000319",
        "device_name": "air cell 2",
        "device_profile": "Milesight AM319"
      },
      "location_id": "cell-2",
      "message_id": "c2e8b4cd-53b2-4e5d-8a32-4b2e61d5d505",
      "metrics": {
        "battery_pct": 88.3,
        "margin_db": 12.0
      },
      "sensor_id": "24e124710c000319",
      "sensor_type": "AirQuality",
      "source_system": "chirpstack",
      "tags": {
        "location_id": "cell-2",
        "sensor_type": "AIR_QUALITY"
      }
    }
    "#);
}

#[test]
fn an_uplink_of_the_things_stack_becomes_a_reading() {
    let decoded = the_things_stack(&of_things_stack("up"), TTS_UPLINK.as_bytes()).expect("an uplink");
    insta::assert_json_snapshot!(shown(&decoded), @r#"
    {
      "at": "2020-02-12T15:15:45.787Z",
      "device_metadata": {
        "application": "app1",
        "brand": "the-things-products",
        "dev_eui": "0004a30b001c0530",
        "device_id": "dev1",
        "firmware": "quickstart",
        "gateway_id": "gtw1",
        "model": "the-things-uno"
      },
      "message_id": "0004a30b001c0530:AXA50tHUGUucuzS/bCGMNw==:1",
      "metrics": {
        "f_cnt": 1.0,
        "luminosity": 0.64,
        "rssi_dbm": -35.0,
        "snr_db": 5.0,
        "temperature": 1.0
      },
      "sensor_id": "0004a30b001c0530",
      "source_system": "the_things_stack",
      "tags": {
        "key1": "value1",
        "key2": "value2"
      }
    }
    "#);
}

#[test]
fn a_decoded_value_with_its_unit_becomes_one_metric() {
    let decoded = the_things_stack(&of_things_stack("up"), TTS_UNITS.as_bytes()).expect("an uplink");
    insta::assert_json_snapshot!(shown(&decoded), @r#"
    {
      "at": "2026-11-23T07:58:01.905Z",
      "device_metadata": {
        "application": "air",
        "dev_eui": "70b3d57ba0000f1a",
        "device_id": "iam-hall",
        "gateway_id": "gw-roof",
        "simulated": true
      },
      "message_id": "70b3d57ba0000f1a:AZqxWv0ZkQ5zQw0kq5nYDA==:0",
      "metrics": {
        "air_temperature": 21.5,
        "barometric_pressure": 96412.0,
        "co2_concentration": 640.0,
        "device_id": 3930.0,
        "f_cnt": 0.0,
        "protocol_version": 2.0,
        "rssi_dbm": -88.0,
        "snr_db": 0.0,
        "total_voc": 0.0
      },
      "sensor_id": "70b3d57ba0000f1a",
      "source_system": "the_things_stack",
      "tags": {
        "twin": "location/hall"
      }
    }
    "#);
}

#[test]
fn zeroes_that_chirpstack_leaves_out_are_put_back_but_no_others() {
    let event = |rest: &str| format!(r#"{{"deviceInfo":{{"devEui":"AA01"}},{rest}}}"#);
    let metrics = |kind: &str, rest: &str| {
        let decoded = chirpstack(&of_chirpstack(kind), event(rest).as_bytes()).expect(rest);
        let shown = |(name, value): &(Box<str>, Value)| format!("{name}={value:?}");
        decoded.metrics.iter().map(shown).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        metrics("up", r#""object":{"co2":0},"rxInfo":[{}]"#),
        "co2=Number(0.0) snr_db=Number(0.0) f_cnt=Number(0.0)"
    );
    assert_eq!(metrics("up", r#""fCnt":3"#), "f_cnt=Number(3.0)");
    assert_eq!(
        metrics("status", r#""margin":-3"#),
        "margin_db=Number(-3.0) battery_pct=Number(0.0)"
    );
    assert_eq!(
        metrics("status", r#""batteryLevelUnavailable":true"#),
        "margin_db=Number(0.0)"
    );
    assert_eq!(
        metrics("status", r#""externalPowerSource":true"#),
        "margin_db=Number(0.0) external_power=Bool(true)"
    );
    // The codec's own word counts, not ours.
    assert_eq!(metrics("up", r#""object":{"f_cnt":9}"#), "f_cnt=Number(9.0)");
}

#[test]
fn an_integrators_own_topic_is_understood_by_its_content() {
    assert_eq!(
        chirpstack("lora/up-link", CHIRPSTACK_UP.as_bytes())
            .expect("an uplink")
            .metrics
            .len(),
        10
    );
    assert_eq!(
        chirpstack("lora", CHIRPSTACK_STATUS.as_bytes())
            .expect("a status")
            .metrics
            .len(),
        2
    );
    assert!(told(chirpstack("lora", CHIRPSTACK_JOIN.as_bytes())).starts_with("chirpstack.event_unsupported"));
}

#[test]
fn each_mistake_of_chirpstack_has_its_name() {
    for (kind, json, expected) in [
        (
            "join",
            CHIRPSTACK_JOIN,
            r#"chirpstack.event_unsupported: event "join" carries no measurement (subscribe to …/event/up and …/event/status)"#,
        ),
        (
            "up",
            r#"{"deviceInfo":{"devEui":"AA01"},"data":"qg=="}"#,
            "chirpstack.no_object: the uplink has data but no object (add a payload codec to the device profile in ChirpStack)",
        ),
        (
            "up",
            r#"{"object":{"co2":1}}"#,
            "chirpstack.field_missing: deviceInfo is missing",
        ),
        (
            "up",
            r#"{"deviceInfo":{"deviceName":"x"},"object":{"co2":1}}"#,
            "chirpstack.field_missing: deviceInfo.devEui is missing",
        ),
        (
            "up",
            r#"{"deviceInfo":{"devEui":"A A"},"object":{"co2":1}}"#,
            "reading.sensor_id_invalid: deviceInfo.devEui holds ' ' at position 1 (allowed: letters, digits, '-', '_', '.', ':')",
        ),
        (
            "up",
            r#"{"deviceInfo":{"devEui":"AA01","tags":{"sensor_id":"a/b"}},"object":{"co2":1}}"#,
            "reading.sensor_id_invalid: tag sensor_id holds '/' at position 1 (allowed: letters, digits, '-', '_', '.', ':')",
        ),
        (
            "up",
            r#"{"deviceInfo":{"devEui":"AA01","tags":{"location_id":"hall 1"}},"object":{"co2":1}}"#,
            "reading.location_id_invalid: tag location_id holds ' ' at position 4 (allowed: letters, digits, '-', '_', '.', ':')",
        ),
        (
            "up",
            r#"{"deviceInfo":{"devEui":17}}"#,
            "chirpstack.field_type: invalid type: integer `17`, expected a string at line 1 column 26",
        ),
        (
            "up",
            r#"{"deviceInfo":{"devEui":"AA01"},"time":"now","object":{"co2":1}}"#,
            r#"chirpstack.timestamp_invalid: time: "now" is not a time (use RFC 3339, e.g. 2026-11-23T07:57:28.560Z)"#,
        ),
        (
            "up",
            r#"{"deviceInfo":{"devEui":"AA01"},"object":[1]}"#,
            "reading.metric_type: the codec's output is a list (an object is needed)",
        ),
        (
            "up",
            r#"{"deviceInfo":{"devEui":"AA01"},"object":{"co2":NaN}}"#,
            "json.malformed: expected value at line 1 column 49 (NaN and Infinity are not JSON: leave the metric out or send null)",
        ),
        ("up", "[]", r#"json.not_an_object: an object is needed, not "[]""#),
    ] {
        assert_eq!(
            told(chirpstack(&of_chirpstack(kind), json.as_bytes())),
            expected,
            "{json:.100}"
        );
    }
}

#[test]
fn each_mistake_of_the_things_stack_has_its_name() {
    let others: serde_json::Value = serde_json::from_str(TTS_OTHERS).expect("the sample is JSON");
    let uplink = |ids: &str, uplink: &str| format!(r#"{{"end_device_ids":{ids},"uplink_message":{uplink}}}"#);
    for (event, json, expected) in [
        (
            "join",
            others["join"].to_string(),
            r#"the_things_stack.event_unsupported: message "join" carries no measurement (subscribe to v3/…/devices/+/up)"#,
        ),
        (
            "down/ack",
            others["downlink_ack"].to_string(),
            r#"the_things_stack.event_unsupported: message "down/ack" carries no measurement (subscribe to v3/…/devices/+/up)"#,
        ),
        (
            "down/failed",
            others["failed"].to_string(),
            r#"the_things_stack.event_unsupported: message "down/failed" carries no measurement (subscribe to v3/…/devices/+/up)"#,
        ),
        (
            "up",
            TTS_INVALID.to_owned(),
            "json.malformed: expected `,` or `}` at line 79 column 5",
        ),
        (
            "up",
            uplink(r#"{"device_id":"d"}"#, r#"{"frm_payload":"qg=="}"#),
            "the_things_stack.no_decoded_payload: the uplink has frm_payload but no decoded_payload (add a payload formatter to the device in The Things Stack)",
        ),
        (
            "up",
            uplink("{}", r#"{"decoded_payload":{"a":1}}"#),
            "the_things_stack.field_missing: end_device_ids.dev_eui is missing",
        ),
        (
            "up",
            uplink(r#"{"device_id":"d 1"}"#, r#"{"decoded_payload":{"a":1}}"#),
            "reading.sensor_id_invalid: end_device_ids.dev_eui holds ' ' at position 1 (allowed: letters, digits, '-', '_', '.', ':')",
        ),
        (
            "up",
            r#"{"uplink_message":{"decoded_payload":{"a":1}}}"#.to_owned(),
            "the_things_stack.field_missing: end_device_ids is missing",
        ),
        (
            "up",
            uplink(r#"{"device_id":"d"}"#, "7"),
            "the_things_stack.field_type: invalid type: integer `7`, expected an object of an uplink at line 1 column 54",
        ),
    ] {
        assert_eq!(
            told(the_things_stack(&of_things_stack(event), json.as_bytes())),
            expected,
            "{json:.100}"
        );
    }
}

#[test]
fn the_time_is_the_gateways_where_one_of_them_knows_it() {
    let at = |uplink: &str| {
        let json = format!(
            r#"{{"end_device_ids":{{"device_id":"d"}},"received_at":"2026-11-23T08:00:04Z","uplink_message":{{{uplink}"decoded_payload":{{"a":1}}}}}}"#
        );
        let decoded = the_things_stack(&of_things_stack("up"), json.as_bytes()).expect("an uplink");
        decoded.at.expect("a time").to_string()
    };
    let server = r#""received_at":"2026-11-23T08:00:03Z","#;
    let gateways = r#""rx_metadata":[{},{"time":"1970-01-01T00:00:09Z"},{"time":"2026-11-23T08:00:02Z"}],"#;
    let settings = r#""settings":{"time":"2026-11-23T08:00:01Z"},"#;
    assert_eq!(
        at(&format!("{server}{gateways}{settings}")),
        "2026-11-23T08:00:01.000Z"
    );
    assert_eq!(at(&format!("{server}{gateways}")), "2026-11-23T08:00:02.000Z");
    assert_eq!(at(server), "2026-11-23T08:00:03.000Z");
    assert_eq!(at(""), "2026-11-23T08:00:04.000Z");
}
