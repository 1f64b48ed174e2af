//! Data contracts and forecasts in the plant model: what rejects is refused before it is journaled, what marks is not.

use gemba_runtime::{
    decode::native_reading,
    plant::{Bindings, plan, twin_configs},
};
use gemba_twins::id::Kind;

use super::{model, problems, tenant};

const PLANT: &str = r#"
locations: [{id: cell-1}]
machines:
  - id: m-1
    contract: {period: 1s, metrics: {power_kw: {max: 90, max_rate_per_s: 50}}}
    forecast: [power_kw, {metric: utilization, deviation: 0.2}]
sensors:
  - id: air-1
    feeds: location/cell-1
    metrics: {co2: {to: co2_ppm, unit: ppm}}
    contract:
      period: 60s
      required: [co2_ppm]
      on_violation: reject
      metrics: {co2_ppm: {type: number, unit: ppm, min: 300, max: 5000}, door: {type: text, one_of: [open, shut]}}
forecast: [{metric: kpis.energy_kwh, for: kind == "machine"}]
"#;

#[test]
fn what_a_contract_rejects_is_refused_with_what_was_agreed() {
    let bindings = Bindings::of(&model(PLANT));
    let bind = |sensor: &str, metrics: &str| {
        let json = format!(r#"{{"sensor_id":"{sensor}","metrics":{metrics}}}"#);
        let reading = native_reading(None, json.as_bytes()).expect("a reading");
        match bindings.bind_reading(&tenant(), reading) {
            Ok((twin, _)) => twin.to_string(),
            Err(rejection) => format!("{}: {}", rejection.code, rejection.detail),
        }
    };
    insta::assert_snapshot!(bind("air-1", r#"{"co2":300,"door":"open","noise_db":-5}"#), @"location/cell-1");
    insta::assert_snapshot!(bind("air-1", r#"{"co2":299.5}"#), @r#"contract.range: metric "co2_ppm" of sensor air-1 is 299.5; its contract says 300 to 5000 (the sensor's contract rejects; mend the sensor, or the contract and retry)"#);
    insta::assert_snapshot!(bind("air-1", r#"{"co2":400,"door":"ajar"}"#), @r#"contract.enumeration: metric "door" of sensor air-1 is "ajar"; its contract says one of open, shut (the sensor's contract rejects; mend the sensor, or the contract and retry)"#);
    insta::assert_snapshot!(bind("air-1", r#"{"co2":true}"#), @r#"contract.type: metric "co2_ppm" of sensor air-1 is true; its contract says a number (the sensor's contract rejects; mend the sensor, or the contract and retry)"#);
    insta::assert_snapshot!(bind("air-1", r#"{"door":"open"}"#), @r#"contract.required: metric "co2_ppm" of sensor air-1 is missing; its contract says every reading holds it (the sensor's contract rejects; mend the sensor, or the contract and retry)"#);
    // This one only marks.
    insta::assert_snapshot!(bind("m-1", r#"{"power_kw":95}"#), @"machine/m-1");
}

#[test]
fn twins_hear_of_their_contracts_and_forecasts_and_of_no_others() {
    let plant = model(PLANT);
    let configs = twin_configs(None, &plant, 1);
    let analysis = |kind: Kind, id: &str| {
        let (.., config) = configs
            .iter()
            .find(|(known, name, _)| (*known, &**name) == (kind, id))
            .expect("a twin");
        config.analysis.as_deref().expect("something").clone()
    };
    let (machine, cell) = (analysis(Kind::Machine, "m-1"), analysis(Kind::Location, "cell-1"));
    assert_eq!((machine.contracts.len(), cell.contracts.len()), (1, 1));
    assert_eq!(
        (&*machine.contracts[0].sensor, &*cell.contracts[0].sensor),
        ("", "air-1")
    );
    assert_eq!(
        (machine.contracts[0].period_ms, cell.contracts[0].rejects),
        (Some(1_000), true)
    );
    let forecasts: Vec<_> = machine
        .forecasts
        .iter()
        .map(|rule| (&*rule.metric, rule.deviation))
        .collect();
    assert_eq!(
        forecasts,
        [
            ("power_kw", None),
            ("utilization", Some(0.2)),
            ("kpis.energy_kwh", None)
        ]
    );
    assert!(cell.forecasts.is_empty());
    for text in [plant.text(), plant.to_yaml()] {
        assert_eq!(model(&text), plant, "{text}");
    }
    let changed = model(&PLANT.replace("kpis.energy_kwh", "kpis.parts"));
    assert_eq!(
        plan(Some(&plant), &changed).settings,
        [
            "forecast.kpis.parts: (none) → for: kind == \"machine\", metric: kpis.parts",
            "forecast.kpis.energy_kwh: removed"
        ]
    );
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    let contract = |contract: &str| {
        problems(&format!(
            "locations: [{{id: c-1}}]\nsensors: [{{id: s-1, feeds: location/c-1, metrics: {{co2: {{to: co2_ppm, unit: ppm}}}}, ignore: [rssi], contract: {contract}}}]"
        ))
    };
    insta::assert_snapshot!(contract("{periode: 5s, on_violation: drop, metrics: {co2_ppm: {min: 5, max: 1}, b: {type: text, max: 1}, c: {max: high, max_rate_per_s: -1}, d: {type: numbre}, e: {one_of: [1]}}}"), @r#"
    sensors[0].contract.periode: unknown key (did you mean period?)
    sensors[0].contract.metrics.co2_ppm.min: 5 is above max, 1
    sensors[0].contract.metrics.b.type: min, max and max_rate_per_s are of numbers, one_of is of text
    sensors[0].contract.metrics.c.max: a number is needed
    sensors[0].contract.metrics.c.max_rate_per_s: a number above 0 is needed
    sensors[0].contract.metrics.d.type: "numbre" is unknown (one of number, text, bool)
    sensors[0].contract.metrics.e.one_of[0]: a word of 1 to 200 characters is needed (put it in quotes)
    sensors[0].contract.on_violation: "drop" is unknown (one of accept, reject)
    "#);
    insta::assert_snapshot!(contract("{metrics: {co2_ppm: {unit: ppb}, co2: {max: 5}}, required: [rssi]}"), @"
    sensors[0].contract.metrics.co2_ppm.unit: is ppb, where ppm is declared of co2_ppm of location/c-1
    sensors[0].contract: co2 is the device's name (at the twin it is co2_ppm)
    sensors[0].contract: rssi is ignored (take it out of one of the two)
    ");
    let forecast = |forecast: &str| problems(&format!("machines: [{{id: m-1, forecast: {forecast}}}]"));
    insta::assert_snapshot!(forecast("[power_kv]"), @"machines[0].forecast[0]: machine/m-1 has no metric power_kv (did you mean power_kw?) (declare it under metrics, or name kpis.NAME)");
    insta::assert_snapshot!(forecast("[energy_kwh]"), @"machines[0].forecast[0]: energy_kwh is a counter (forecast a level, such as power_kw, or utilization)");
    insta::assert_snapshot!(forecast("[power_kw, power_kw]"), @"machines[0].forecast[1]: power_kw is forecast twice");
    insta::assert_snapshot!(forecast("[{metric: power_kw, deviation: 0}, {deviation: 1}]"), @"
    machines[0].forecast[0].deviation: a number above 0 is needed, in the metric's unit
    machines[0].forecast[1].metric: a metric's name is needed (text of 1 to 128 characters, no control characters)
    ");
}
