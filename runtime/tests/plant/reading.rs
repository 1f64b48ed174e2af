//! Reading a plant model: YAML or JSON, and all that is wrong with it.

use gemba_runtime::plant::{PLANT_TEXT_MAX, PlantModel, UnknownSensors, twin_configs};
use gemba_twins::id::Kind;
use proptest::prelude::*;

use super::{EXAMPLE, model, problems};

#[test]
fn the_example_is_a_valid_model_and_reads_back_in_every_form() {
    let example = model(EXAMPLE);
    assert_eq!(
        (
            example.locations().len(),
            example.machines().len(),
            example.sensors().len()
        ),
        (11, 9, 4)
    );
    for text in [example.text(), example.to_json(), example.to_yaml()] {
        assert_eq!(model(&text), example, "{text}");
    }
    assert!(!example.text().contains('\n'), "the journal's form is one line");
}

#[test]
fn what_is_left_out_stays_left_out() {
    let smallest = model("{}");
    assert_eq!(smallest, PlantModel::default());
    assert_eq!(smallest.text(), r#"{"version":1}"#);
    assert_eq!(smallest.unknown_sensors(), UnknownSensors::Register);
    let some = model("machines: [{id: m-1}]\nlocations:\nsensors: []\nunknown_sensors: keep_aside");
    assert_eq!(
        some.text(),
        r#"{"version":1,"unknown_sensors":"keep_aside","machines":[{"id":"m-1"}]}"#
    );
}

#[test]
fn every_problem_is_told_with_its_path() {
    let text = r#"
version: 2
sites: {id: x}
unknown_sensors: refuse
site: {id: hel sinki, timezone: Europe/Helsinky, attributes: {name: x}}
locations:
  - {id: cell-1, type: room, exit: maybe, stale_after: 5}
  - {name: no id}
  - just-a-name
machines:
  - {id: 17, ideal_cycle: fast, idealcycle: 3s, stale_after: -1s}
  - {id: m-2, execution: {RUN: producting, HALT: [1]}, metrics: [{name: e, kind: meter}, {name: f, kind: gauge, rollover_at: 5}, {kind: gauge}, {name: g}, {name: g}]}
  - {id: m-3, id: m-4, location: cell 1, attributes: {a: {b: 1, b: 2}, location: x}}
sensors:
  - {id: s-1, feeds: job/J-1, type: LASER}
  - {id: s-2, feeds: cell-1, metrics: {a: b, c: b, d: {to: ""}, e: {unit: [1]}}, ignore: [a, 7]}
  - {id: s-3}
"#;
    insta::assert_snapshot!(problems(text), @r#"
    sites: unknown key (did you mean site?)
    version: this release reads version 1 (the format's version, not the plant's)
    unknown_sensors: "refuse" is unknown (one of register, keep_aside)
    site.timezone: "Europe/Helsinky" is not a time zone (use a name of the IANA database, e.g. Europe/Helsinki)
    site.id: the id holds ' ' at position 3 (allowed: letters, digits, '-', '_', '.', ':')
    site.attributes.name: follows from the model (take it out here, and say it where the model has it)
    locations[0].type: "room" is unknown (one of site, area, line, cell)
    locations[0].exit: true or false is needed
    locations[0].stale_after: 5 has no unit (write 5s for seconds)
    locations[1].id: is missing (it is required)
    locations[2]: is text (a mapping of id, name, type, parent, exit, stale_after, shifts, air_profiles, demand, metrics, computed, forecast, contract, attributes is needed)
    machines[0].idealcycle: unknown key (did you mean ideal_cycle?)
    machines[0].id: is a number (text is needed; put it in quotes)
    machines[0].ideal_cycle: "fast" is not a duration (a number and us, ms, s, m, h or d, e.g. 45s; more than 0, at most 366d)
    machines[0].stale_after: "-1s" is not a duration (a number and us, ms, s, m, h or d, e.g. 45s; more than 0, at most 366d)
    machines[1].execution.RUN: "producting" is unknown (did you mean producing?) (one of producing, setup, idle, stopped, down, planned_down, unknown)
    machines[1].execution.HALT: one of producing, setup, idle, stopped, down, planned_down, unknown is needed
    machines[1].metrics[0].kind: "meter" is unknown (one of gauge, counter, state)
    machines[1].metrics[1].rollover_at: only a counter rolls over (kind: counter)
    machines[1].metrics[2].name: a metric's name is needed (text of 1 to 128 characters, no control characters)
    machines[1].metrics: "g" is declared twice
    machines[2].id: is given twice
    machines[2].location: the id holds ' ' at position 4 (allowed: letters, digits, '-', '_', '.', ':')
    machines[2].attributes.a: "b" is given twice
    machines[2].attributes.location: follows from the model (take it out here, and say it where the model has it)
    sensors[0].feeds: jobs are fed by scans, not by sensors (machine/ID or location/ID is needed)
    sensors[0].type: "LASER" is unknown (one of MACHINE, ENERGY, AIR_QUALITY, RFID)
    sensors[1].feeds: "cell-1" is not a twin (machine/ID or location/ID is needed)
    sensors[1].metrics.c: another metric of this sensor becomes "b" already
    sensors[1].metrics.d.to: a metric's name is needed (text of 1 to 128 characters, no control characters)
    sensors[1].metrics.e.unit: is a list (text is needed; put it in quotes)
    sensors[1].ignore[1]: a metric's name is needed (text of 1 to 128 characters, no control characters)
    sensors[1].ignore: "a" is also among the metrics (take it out of one of the two)
    sensors[2].feeds: is missing (machine/ID or location/ID is needed)
    "#);
}

#[test]
fn every_reference_that_leads_nowhere_is_told_with_the_nearest_name() {
    let text = r#"
site: {id: helsinki}
locations:
  - {id: line-1, type: line}
  - {id: cell-1, parent: lin-1}
  - {id: cell-2, parent: cell-3}
  - {id: cell-3, parent: cell-2}
  - {id: cell-1}
  - {id: helsinki}
machines: [{id: cnc-07, location: cel-2}, {id: cnc-08, location: somewhere-else}]
sensors: [{id: s-1, feeds: machine/cnc-7}, {id: s-2, feeds: location/cnc-07}, {id: s-2, feeds: location/helsinki}]
"#;
    insta::assert_snapshot!(problems(text), @"
    locations[4].id: cell-1 occurs a second time
    sensors[2].id: s-2 occurs a second time
    site.id: helsinki is also a location (the site is a location twin of its own)
    locations[1].parent: location lin-1 is not in the model (did you mean line-1?)
    locations[2].parent: cell-2 stands in itself
    locations[3].parent: cell-3 stands in itself
    machines[0].location: location cel-2 is not in the model (did you mean cell-2?)
    machines[1].location: location somewhere-else is not in the model
    sensors[0].feeds: machine cnc-7 is not in the model (did you mean cnc-07?)
    sensors[1].feeds: location cnc-07 is not in the model
    ");
}

#[test]
fn two_sensors_may_not_say_different_things_of_one_metric() {
    let text = r#"
machines: [{id: m-1, metrics: [{name: energy_kwh, kind: counter, unit: kWh}]}]
sensors:
  - {id: s-1, feeds: machine/m-1, metrics: {e: {to: energy_kwh, unit: MWh, kind: gauge}}}
  - {id: s-2, feeds: machine/m-1, metrics: {v: {to: voltage, unit: V}}}
  - {id: s-3, feeds: machine/m-1, metrics: {v: {to: voltage, unit: kV}}}
"#;
    insta::assert_snapshot!(problems(text), @"
    sensors[0].metrics.e: says kind gauge of energy_kwh of machine/m-1, where counter was said before
    sensors[0].metrics.e: says unit MWh of energy_kwh of machine/m-1, where kWh was said before
    sensors[2].metrics.v: says unit kV of voltage of machine/m-1, where V was said before
    ");
}

#[test]
fn text_that_is_neither_yaml_nor_json_is_told_with_its_position() {
    let texts = [
        "",
        "- a\n- b",
        "machines: [",
        "machines:\n  - id: a\n id: b",
        "{\"machines\": [}",
        "a: &a [*a, *a]",
        "--- {}\n--- {}",
    ];
    let told: String = texts
        .iter()
        .map(|text| format!("{text:?} -> {}", problems(text)))
        .collect();
    insta::assert_snapshot!(told, @r#"
    "" -> the model: is nothing (a mapping of version, site, shifts, micro_stop, lateness, unknown_sensors, locations, machines, sensors, alarms, computed, forecast, readers, epcs is needed)
    "- a\n- b" -> the model: is a list (a mapping of version, site, shifts, micro_stop, lateness, unknown_sensors, locations, machines, sensors, alarms, computed, forecast, readers, epcs is needed)
    "machines: [" -> line 1, column 11: unclosed bracket '[' at line 1, column 11
    "machines:\n  - id: a\n id: b" -> line 3, column 2: while parsing a block mapping, did not find expected key at line 3, column 2
    "{\"machines\": [}" -> line 1, column 15: expected value at line 1 column 15
    "a: &a [*a, *a]" -> line 1, column 8: recursive references require weak recursion types at line 1, column 8
    "--- {}\n--- {}" -> line 2, column 5: multiple YAML documents detected; use from_str_multiple or from_str_multiple_with_options at line 2, column 5
    "#);
    let long = problems(&" ".repeat(PLANT_TEXT_MAX + 1));
    assert_eq!(
        long,
        "the text: has 4194305 bytes (at most 4194304 are allowed)\n"
    );
}

#[test]
fn yaml_does_not_guess_types_where_ids_and_words_are_meant() {
    let read = model(
        "machines: [{id: '007', execution: {on: producing, off: down, 1: idle}}, {id: 0815, attributes: {lot: 007, since: 2019}}]",
    );
    assert_eq!(
        read.text(),
        r#"{"version":1,"machines":[{"id":"007","execution":{"1":"idle","off":"down","on":"producing"}},{"id":"0815","attributes":{"lot":"007","since":2019}}]}"#
    );
}

#[test]
fn what_is_said_of_one_twin_is_bounded() {
    let mappings: String = (0..200)
        .map(|number| format!("m{number}: {{to: n{number}, unit: x}}, "))
        .collect();
    let more = mappings.replace("to: n", "to: o");
    let sensors = format!(
        "[{{id: a, feeds: machine/m, metrics: {{{mappings}}}}}, {{id: b, feeds: machine/m, metrics: {{{more}}}}}]"
    );
    assert_eq!(
        problems(&format!("machines: [{{id: m}}]\nsensors: {sensors}")),
        "machine/m: 400 metrics are declared (at most 256)\n"
    );
    let long: String = (0..250)
        .map(|number| {
            format!(
                "{{name: {number}-{}, unit: {}}}, ",
                "n".repeat(120),
                "u".repeat(100)
            )
        })
        .collect();
    assert_eq!(
        problems(&format!("machines: [{{id: m, metrics: [{long}]}}]")),
        "machine/m: attributes, metrics and words take 61892 bytes (at most 49152)\n"
    );
    let note = "x".repeat(17_000);
    assert_eq!(
        problems(&format!("machines: [{{id: m, attributes: {{note: {note}}}}}]")),
        "machines[0].attributes: take 17011 bytes as JSON (at most 16384)\n"
    );
}

#[test]
fn many_problems_are_told_in_short() {
    let many: String = (0..1_000)
        .map(|number| format!("  - {{id: m-{number}, location: nowhere-{number}}}\n"))
        .collect();
    let known: String = (0..1_000)
        .map(|number| format!("  - {{id: there-{number}}}\n"))
        .collect();
    let error = PlantModel::parse(&format!("locations:\n{known}machines:\n{many}")).expect_err("nowhere");
    assert_eq!(error.problems.len(), 100);
}

fn any_model() -> impl Strategy<Value = PlantModel> {
    let id = "[a-z0-9.:_-]{1,12}";
    let machine = (
        id,
        prop::option::of("\\PC{1,20}"),
        prop::option::of(1_u32..1_000_000),
        any::<bool>(),
    );
    let machines = prop::collection::vec(machine, 0..6);
    (machines, prop::collection::vec(id, 0..6), any::<bool>()).prop_map(|(machines, locations, keep_aside)| {
        let mut seen = std::collections::BTreeSet::new();
        let locations: Vec<_> = locations
            .into_iter()
            .filter(|id| seen.insert(id.clone()))
            .enumerate()
            .map(|(at, id)| serde_json::json!({"id": id, "exit": at % 2 == 0, "type": "cell"}))
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        let machines: Vec<_> = machines
            .into_iter()
            .filter(|(id, ..)| seen.insert(id.clone()))
            .map(|(id, name, cycle, counts)| {
                serde_json::json!({
                    "id": id,
                    "name": name,
                    "ideal_cycle": cycle.map(|cycle| format!("{cycle}us")),
                    "location": locations.first().map(|location| location["id"].clone()),
                    "metrics": if counts { serde_json::json!([{"name": "energy_kwh", "rollover_at": 4294967296_u64}]) } else { serde_json::json!([]) },
                    "attributes": {"note": name, "counts": counts},
                })
            })
            .collect();
        let unknown = if keep_aside { "keep_aside" } else { "register" };
        model(&serde_json::json!({"locations": locations, "machines": machines, "unknown_sensors": unknown}).to_string())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_model_reads_back_as_itself(read in any_model()) {
        for text in [read.text(), read.to_json(), read.to_yaml()] {
            prop_assert_eq!(&model(&text), &read, "{}", text);
        }
    }

    #[test]
    fn a_damaged_model_is_read_or_refused(at in 0..EXAMPLE.len(), length in 0_usize..12, token in prop::sample::select(vec!["{", "}", "[", ":", ",", "'", "&a", "*a", "\n  ", "!!x", "null", "\0", "é"])) {
        let boundary = |at: usize| (at..=EXAMPLE.len()).find(|at| EXAMPLE.is_char_boundary(*at)).expect("the end is one");
        let text = format!("{}{token}{}", &EXAMPLE[..boundary(at)], &EXAMPLE[boundary((at + length).min(EXAMPLE.len()))..]);
        if let Err(error) = PlantModel::parse(&text) {
            prop_assert!(!error.problems.is_empty());
        }
    }
}

#[test]
fn shifts_that_cannot_be_are_told_and_those_of_a_place_come_before_the_plants() {
    let text = r#"
lateness: 2h
shifts:
  - {name: early, start: 6, end: "14:00"}
  - {name: late, days: [mon, tues], start: "14:00", end: "24:00"}
  - {name: night, start: "22:00", end: "06:00", breaks: ["05:00-07:00", "02:00-02:30", "noon"]}
  - {name: night, start: "22:00", end: "06:00"}
"#;
    insta::assert_snapshot!(problems(text), @r#"
    shifts[0].start: is a number (text is needed; put it in quotes)
    shifts[1].days[1]: a day is needed (did you mean tue?) (one of mon, tue, wed, thu, fri, sat, sun)
    shifts[1].end: "24:00" is no time of day (from 00:00 to 23:59)
    shifts[2].breaks[0]: "05:00-07:00" is no break within 22:00-06:00 (write it so: "09:00-09:15")
    shifts[2].breaks[2]: "noon" is no break within 22:00-06:00 (write it so: "09:00-09:15")
    shifts: shift "night" is given twice
    lateness: at most an hour is possible (what comes later corrects history)
    "#);
    let model = model(
        r#"
site: {id: works, timezone: Europe/Helsinki}
shifts: [{name: early, start: 06:00, end: 14:00}]
locations: [{id: line-1, type: line, shifts: [{name: day, start: 07:00, end: 19:00}]}, {id: cell-1, parent: line-1}]
machines: [{id: a}, {id: b, location: cell-1}, {id: c, location: cell-1, shifts: []}]
"#,
    );
    let shifts: Vec<_> = twin_configs(None, &model, 1)
        .into_iter()
        .filter(|(kind, ..)| *kind == Kind::Machine)
        .map(|(_, id, config)| {
            let operation = config.operation.expect("each stands somewhere");
            let names: Vec<_> = operation
                .calendar
                .shifts
                .iter()
                .map(|shift| shift.name.to_string())
                .collect();
            (id.to_string(), names.join(" "), operation.reports_to.join(" "))
        })
        .collect();
    let wanted = [
        ("a", "early", "works"),
        ("b", "day", "cell-1 line-1 works"),
        ("c", "", "cell-1 line-1 works"),
    ];
    assert_eq!(
        shifts,
        wanted.map(|(id, names, around)| (id.into(), names.into(), around.into()))
    );
}
