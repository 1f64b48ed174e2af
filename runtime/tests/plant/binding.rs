//! Which twin a message is for, by the model, by tags and without either.

use gemba_runtime::{
    decode::{DecodedReading, native_reading, native_scan},
    plant::Bindings,
};
use gemba_twins::event::Value;

use super::{EXAMPLE, model, tenant};

fn reading(sensor: &str, rest: &str) -> DecodedReading {
    let json = format!(r#"{{"sensor_id":"{sensor}",{rest}}}"#);
    native_reading(None, json.as_bytes()).expect("a reading")
}

fn bound(bindings: &Bindings, reading: DecodedReading) -> String {
    match bindings.bind_reading(&tenant(), reading) {
        Ok((twin, reading)) => {
            let shown = |(name, value): &(Box<str>, Value)| match value {
                Value::Number(number) => format!(" {name}={number}"),
                Value::Text(text) => format!(" {name}={text}"),
                Value::Bool(truth) => format!(" {name}={truth}"),
            };
            format!("{twin}{}", reading.metrics.iter().map(shown).collect::<String>())
        }
        Err(rejection) => rejection.to_string(),
    }
}

#[test]
fn without_a_model_every_sensor_gets_its_twin() {
    let bindings = Bindings::open();
    for (rest, expected) in [
        (r#""metrics":{"a":1}"#, "machine/s-1 a=1"),
        (
            r#""metrics":{"a":1},"sensor_type":"MACHINE","location_id":"cell-1""#,
            "machine/s-1 a=1",
        ),
        (r#""metrics":{"a":1},"sensor_type":"ENERGY""#, "machine/s-1 a=1"),
        (
            r#""metrics":{"a":1},"sensor_type":"AIR_QUALITY""#,
            "location/s-1 a=1",
        ),
        (
            r#""metrics":{"a":1},"sensor_type":"AIR_QUALITY","location_id":"cell-1""#,
            "location/cell-1 a=1",
        ),
        (
            r#""metrics":{"a":1},"sensor_type":"RFID""#,
            "reading.rfid_without_job: sensor s-1 is an RFID reader and its reading names no job (send scans with job_id, or say in the plant model what the reader feeds)",
        ),
    ] {
        assert_eq!(bound(&bindings, reading("s-1", rest)), expected, "{rest}");
    }
}

#[test]
fn the_model_says_which_twin_a_sensor_feeds_and_under_which_names() {
    let bindings = Bindings::of(&model(EXAMPLE));
    for (sensor, rest, expected) in [
        (
            "cnc-07",
            r#""metrics":{"execution":"RUN"}"#,
            "machine/cnc-07 execution=RUN",
        ),
        (
            "meter-cnc-07",
            r#""metrics":{"energy_kwh":5.5}"#,
            "machine/cnc-07 energy_kwh=5.5",
        ),
        (
            "air-cell-1",
            r#""metrics":{"co2_ppm":800},"location_id":"elsewhere""#,
            "location/cell-1 co2_ppm=800",
        ),
        (
            "24e124710c000319",
            r#""metrics":{"co2":800,"tvoc":37,"pir":"idle","rssi_dbm":-70}"#,
            "location/cell-2 co2_ppm=800 voc_index=37 pir=idle",
        ),
        (
            "24e124710c000319",
            r#""metrics":{"rssi_dbm":-70,"f_cnt":1}"#,
            "reading.metrics_empty: the plant model ignores all 2 metrics of sensor 24e124710c000319",
        ),
        (
            "24e124710c000319",
            r#""metrics":{"co2":800,"co2_ppm":801}"#,
            r#"reading.metric_duplicate: metric "co2_ppm" comes twice from sensor 24e124710c000319 (the plant model gives its name to another metric; ignore one)"#,
        ),
        ("another", r#""metrics":{"a":1}"#, "machine/another a=1"),
    ] {
        assert_eq!(
            bound(&bindings, reading(sensor, rest)),
            expected,
            "{sensor} {rest}"
        );
    }
    let typed = bindings
        .bind_reading(&tenant(), reading("meter-cnc-07", r#""metrics":{"a":1}"#))
        .expect("bound")
        .1;
    assert_eq!(typed.sensor_type, Some(gemba_twins::event::SensorType::Energy));
}

#[test]
fn an_eui_is_found_in_either_case() {
    let text = "locations: [{id: hall}]\nsensors: [{id: 24E124710C000319, feeds: location/hall}]";
    let bindings = Bindings::of(&model(text));
    for sensor in ["24e124710c000319", "24E124710C000319"] {
        assert_eq!(
            bound(&bindings, reading(sensor, r#""metrics":{"a":1}"#)),
            "location/hall a=1"
        );
    }
}

#[test]
fn a_quantity_is_a_number() {
    let text = "machines: [{id: m, metrics: [{name: speed, kind: gauge}, {name: mode_pct, kind: state}]}]";
    let (by_model, open) = (Bindings::of(&model(text)), Bindings::open());
    for (bindings, metrics, expected) in [
        (
            &open,
            r#"{"energy_kwh":"5123.4"}"#,
            r#"reading.metric_not_number: metric "energy_kwh" is a quantity but holds the text "5123.4" (send a number, or null)"#,
        ),
        (&open, r#"{"good_count":true}"#, "machine/m good_count=true"),
        (
            &open,
            r#"{"speed":"fast","recipe_c":"C"}"#,
            "machine/m speed=fast recipe_c=C",
        ),
        (
            &by_model,
            r#"{"speed":"fast"}"#,
            r#"reading.metric_not_number: metric "speed" is a quantity but holds the text "fast" (send a number, or null)"#,
        ),
        (&by_model, r#"{"mode_pct":"eco"}"#, "machine/m mode_pct=eco"),
    ] {
        assert_eq!(
            bound(bindings, reading("m", &format!(r#""metrics":{metrics}"#))),
            expected
        );
    }
}

#[test]
fn tags_of_a_device_say_which_twin_it_feeds() {
    let keep_aside = Bindings::of(&model(
        "unknown_sensors: keep_aside\nmachines: [{id: cnc-07}]\nlocations: [{id: hall}]",
    ));
    let tagged = |tags: &[(&str, &str)]| DecodedReading {
        tags: tags
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        ..reading("s-1", r#""metrics":{"a":1}"#)
    };
    let aside = "reading.sensor_unknown: sensor s-1 is not in the plant model (add it to sensors, apply, and retry; the model keeps unknown ones aside)";
    for (tags, open, kept) in [
        (
            vec![("twin", "location/hall")],
            "location/hall a=1",
            "location/hall a=1",
        ),
        (
            vec![("machine_id", "cnc-07"), ("location_id", "hall")],
            "machine/cnc-07 a=1",
            "machine/cnc-07 a=1",
        ),
        (
            vec![("location_id", "hall")],
            "location/hall a=1",
            "location/hall a=1",
        ),
        (vec![("machine_id", "cnc-99")], "machine/cnc-99 a=1", aside),
        (vec![("colour", "blue")], "machine/s-1 a=1", aside),
    ] {
        assert_eq!(bound(&Bindings::open(), tagged(&tags)), open, "{tags:?}");
        assert_eq!(bound(&keep_aside, tagged(&tags)), kept, "{tags:?}");
    }
    for (value, expected) in [
        (
            "cnc-07",
            r#"reading.twin_invalid: tag twin "cnc-07": unknown kind "cnc-07" (one of machine, location, job) (e.g. machine/cnc-07 or location/cell-2)"#,
        ),
        (
            "job/J-1",
            r#"reading.twin_invalid: tag twin "job/J-1": jobs are fed by scans (e.g. machine/cnc-07 or location/cell-2)"#,
        ),
    ] {
        assert_eq!(bound(&Bindings::open(), tagged(&[("twin", value)])), expected);
    }
}

#[test]
fn a_scan_is_for_its_job_and_completes_it_at_an_exit() {
    let scan = |location: &str| {
        let json = format!(r#"{{"job_id":"J-1","location":"{location}"}}"#);
        native_scan(Some("reader-3"), json.as_bytes()).expect("a scan")
    };
    let bindings = Bindings::of(&model("locations: [{id: cell-1}, {id: dock, exit: true}]"));
    for (location, completes) in [("cell-1", false), ("dock", true), ("elsewhere", false)] {
        let (twin, bound) = bindings.bind_scan(&tenant(), scan(location)).expect("bound");
        assert_eq!(
            (twin.to_string().as_str(), bound.completes),
            ("job/J-1", completes),
            "{location}"
        );
        assert_eq!(bound.reader_id.as_deref(), Some("reader-3"));
    }
    let keep_aside = Bindings::of(&model(
        "unknown_sensors: keep_aside\nsite: {id: here}\nlocations: [{id: cell-1}]",
    ));
    assert!(keep_aside.bind_scan(&tenant(), scan("cell-1")).is_ok());
    assert!(keep_aside.bind_scan(&tenant(), scan("here")).is_ok());
    let kept = keep_aside
        .bind_scan(&tenant(), scan("elsewhere"))
        .expect_err("kept aside");
    assert_eq!(
        kept.to_string(),
        "scan.location_unknown: location elsewhere is not in the plant model (add it to locations, apply, and retry; the model keeps unknown ones aside)"
    );
}
