//! A believable plant: machines with shifts, set-ups, stops and faults, energy meters, air sensors, jobs that wander.
//!
//! Promises: repeatable: the same seed and the same steps give the same messages; every message carries a time and
//! an id. Knows no clock and no network: `driver` publishes what a step gives.

#[cfg(test)]
mod disorder;
mod driver;
mod ledger;
mod machine;
mod random;
mod truth;

use gemba_runtime::plant::PlantModel;
use gemba_twins::time::Timestamp;
use serde_json::{Value as Json, json};

pub use self::driver::{Driver, DriverSettings, Published};
use self::{machine::SimulatedMachine, random::Random, truth::Truth};

/// What a device publishes.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// Which gateway's connection it goes through: publications of one keep their order.
    pub device: String,
    /// Below `gemba/v1/{tenant}/`.
    pub topic: String,
    /// JSON.
    pub payload: String,
}

struct Air {
    cell: usize,
    co2: f64,
    pm25: f64,
}

struct Job {
    id: String,
    product: &'static str,
    /// Where it is on its route.
    stop: usize,
    leaves_at: Timestamp,
}

/// The plant.
pub struct Plant {
    random: Random,
    machines: Vec<SimulatedMachine>,
    cells: usize,
    air: Vec<Air>,
    jobs: Vec<Job>,
    jobs_made: u64,
    messages: u64,
    seed: u64,
    minute: Option<Timestamp>,
    /// The second of the step before.
    second: Option<i64>,
    began: Option<Timestamp>,
    /// How much later than newer ones a message may come.
    lateness_ms: i64,
    /// Kept only where somebody asks for it.
    truth: Option<Truth>,
}

/// Machines in a cell.
const CELL: usize = 4;
/// What a twin waits for late messages where its model says nothing.
const LATENESS_MS: i64 = 10_000;
/// Where jobs end.
const EXIT: &str = "shipping";
/// What needs a person: the spindles when their coolant fails, the air when all machines of a cell run.
const ALARMS: &str = "\
alarms:
  - id: spindle_hot
    applies_to: machine
    condition: metrics.spindle_temp_c > 80
    priority: high
    text: Spindle too hot
    deadband: 5
    on_delay: 5s
  - {id: down, applies_to: machine, condition: state.execution == \"down\", priority: medium, text: Stands still by a fault, on_delay: 20s}
  - {id: silent, applies_to: machine, stale: 1m, priority: low, text: Sends nothing}
  - {id: co2, applies_to: location, condition: metrics.co2_ppm > 1000, priority: medium, text: Open the windows, deadband: 100}
  - {id: dust, applies_to: location, condition: metrics.pm25_ugm3 > 35.4, priority: high, text: Fine dust, latching: true}
";
/// What meters and air sensors are agreed to send.
const METER: &str = "{period: 15s, required: [energy_kwh], metrics: {power_factor: {min: 0, max: 1}}}";
const AIR: &str = "{period: 1m, required: [co2_ppm], metrics: {co2_ppm: {min: 300, max: 5000}}}";
/// What is foreseen once there are some hours of it.
const FORECAST: &str = "\
forecast:
  - {metric: utilization, for: kind == \"machine\"}
  - {metric: power_kw, for: kind == \"machine\"}
  - {metric: co2_ppm, for: kind == \"location\"}
";
const PRODUCTS: [&str; 4] = ["housing", "shaft", "bracket", "valve-block"];

impl Plant {
    /// A plant of so many machines.
    #[must_use]
    pub fn new(machines: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let cells = machines.div_ceil(CELL).max(1);
        let machines = (0..machines)
            .map(|number| SimulatedMachine::new(number, number / CELL, &mut random))
            .collect();
        let air = (0..cells)
            .map(|cell| Air {
                cell,
                co2: 480.0,
                pm25: 9.0,
            })
            .collect();
        Self {
            random,
            machines,
            cells,
            air,
            jobs: Vec::new(),
            jobs_made: 0,
            messages: 0,
            seed,
            minute: None,
            second: None,
            began: None,
            lateness_ms: LATENESS_MS,
            truth: None,
        }
    }

    /// Keeps a record of what it does, for [`Plant::expected`]; takes memory for each job.
    #[must_use]
    pub fn recorded(mut self) -> Self {
        self.truth = Some(Truth::new(self.lateness_ms));
        self
    }

    /// The KPIs that what it published must lead to, by twin; `None` if it is not [`Plant::recorded`].
    #[must_use]
    pub fn expected(&self) -> Option<Json> {
        let twins = self.truth.as_ref()?.kpis(EXIT);
        Some(json!({"seed": self.seed, "messages": self.messages, "twins": twins}))
    }

    /// The plant model that fits it, as YAML.
    #[must_use]
    pub fn model_text(&self) -> String {
        let mut text =
            String::from("version: 1\nsite: {id: demo-plant, name: Demo plant, timezone: Europe/Helsinki}\n");
        text.push_str(ledger::SHIFTS);
        if self.lateness_ms != LATENESS_MS {
            text.push_str(&format!("lateness: {}ms\n", self.lateness_ms));
        }
        text.push_str("locations:\n");
        text.push_str("  - {id: line-1, name: Line 1, type: line}\n");
        text.push_str("  - {id: goods-in, name: Goods in, type: cell}\n  - {id: shipping, name: Shipping, type: cell, exit: true, demand: 40/h}\n");
        for cell in 1..=self.cells {
            text.push_str(&format!(
                "  - {{id: cell-{cell}, name: Cell {cell}, type: cell, parent: line-1, air_profiles: [uba_co2, reset_air_ci, who_2021]}}\n"
            ));
        }
        text.push_str("machines:\n");
        for machine in &self.machines {
            text.push_str(&format!(
                "  - {{id: {}, name: {}, location: cell-{}, ideal_cycle: {}ms, stale_after: 30s}}\n",
                machine.id,
                machine.name,
                machine.cell + 1,
                machine.ideal_cycle_ms
            ));
        }
        text.push_str("sensors:\n");
        for machine in &self.machines {
            text.push_str(&format!(
                "  - {{id: meter-{0}, feeds: machine/{0}, type: ENERGY, contract: {METER}}}\n",
                machine.id
            ));
        }
        for cell in 1..=self.cells {
            text.push_str(&format!(
                "  - {{id: air-{cell}, feeds: location/cell-{cell}, type: AIR_QUALITY, contract: {AIR}}}\n"
            ));
        }
        text.push_str(ALARMS);
        text.push_str(FORECAST);
        text
    }

    /// The plant model that fits it.
    pub fn model(&self) -> Result<PlantModel, gemba_runtime::plant::PlantError> {
        PlantModel::parse(&self.model_text())
    }

    /// A second passes: what the devices publish at `now`.
    pub fn step(&mut self, now: Timestamp) -> Vec<Publication> {
        let mut out = Vec::new();
        self.began.get_or_insert(now);
        let second = now.ms() / 1_000;
        let before = self.second.replace(second).unwrap_or(second - 1);
        for number in 0..self.machines.len() {
            let machine = &mut self.machines[number];
            machine.step(now, &mut self.random);
            let (said, meter, register_kwh) = (machine.said(), machine.meter(), machine.register_kwh());
            let (id, cell, ideal_cycle_ms) = (machine.id.clone(), machine.cell, machine.ideal_cycle_ms);
            if let Some(truth) = &mut self.truth {
                truth.machine(&id, cell, ideal_cycle_ms, now, said);
            }
            let spindle_temp_c = machine.spindle_temp_c();
            let mut metrics = json!({
                "execution": said.state,
                "cycle_count": said.cycles,
                "good_count": said.good,
                "scrap_count": said.cycles - said.good,
                "power_kw": said.power_kw,
            });
            if let Some(celsius) = spindle_temp_c {
                metrics["spindle_temp_c"] = celsius.into();
            }
            out.push(self.reading(&id, &id, "MACHINE", Some(cell), now, metrics));
            // Meters send every fifteen seconds, one after the other.
            let quarter = |second: i64| (second + number as i64).div_euclid(15);
            if quarter(second) != quarter(before) {
                if let Some(truth) = &mut self.truth {
                    truth.meter(&id, register_kwh);
                }
                let sensor = format!("meter-{id}");
                out.push(self.reading(&id, &sensor, "ENERGY", Some(cell), now, meter));
            }
        }
        let minute = now.floor_to(60_000);
        if self.minute != Some(minute) {
            self.minute = Some(minute);
            self.step_air(now, &mut out);
        }
        self.step_jobs(now, &mut out);
        out
    }

    fn id(&mut self) -> String {
        self.messages += 1;
        format!("sim-{:x}-{:x}", self.seed, self.messages)
    }

    fn reading(
        &mut self,
        gateway: &str,
        sensor: &str,
        kind: &str,
        cell: Option<usize>,
        now: Timestamp,
        metrics: serde_json::Value,
    ) -> Publication {
        let payload = json!({
            "sensor_id": sensor,
            "sensor_type": kind,
            "location_id": cell.map(|cell| format!("cell-{}", cell + 1)),
            "timestamp": now,
            "message_id": format!("{}-{}", self.id(), now.ms()),
            "metrics": metrics,
            "quality_score": 1.0,
        });
        Publication {
            device: gateway.to_owned(),
            topic: format!("readings/{sensor}"),
            payload: payload.to_string(),
        }
    }

    fn step_air(&mut self, now: Timestamp, out: &mut Vec<Publication>) {
        for number in 0..self.air.len() {
            let busy = self
                .machines
                .iter()
                .filter(|machine| machine.cell == number && machine.is_running())
                .count() as f64;
            let (drift, dust) = (self.random.between(-25.0, 25.0), self.random.between(-1.5, 1.5));
            let spike = self.random.chance(0.01);
            let staffed = staffed(now);
            let air = &mut self.air[number];
            // Rises with the people who work there, falls by the ventilation; a door now and then lets dust in.
            air.co2 =
                (air.co2 + 0.15 * (520.0 + 190.0 * busy * staffed - air.co2) + drift).clamp(400.0, 3_000.0);
            air.pm25 =
                (air.pm25 + 0.2 * (7.0 + 2.0 * busy - air.pm25) + dust + if spike { 45.0 } else { 0.0 })
                    .clamp(1.0, 300.0);
            let (co2, pm25, cell) = (air.co2, air.pm25, air.cell);
            let metrics = json!({
                "co2_ppm": co2.round(), "pm1_ugm3": round(0.7 * pm25, 1), "pm25_ugm3": round(pm25, 1),
                "pm4_ugm3": round(1.3 * pm25, 1), "pm10_ugm3": round(1.6 * pm25, 1),
                "voc_ppb": (60.0 + 0.2 * (co2 - 400.0)).round(),
                "temperature_c": round(21.0 + 0.4 * busy, 1), "humidity_pct": round(41.0 - busy, 1),
                "pressure_hpa": 1_013.2,
            });
            let sensor = format!("air-{}", cell + 1);
            out.push(self.reading(&sensor, &sensor, "AIR_QUALITY", Some(cell), now, metrics));
        }
    }

    fn step_jobs(&mut self, now: Timestamp, out: &mut Vec<Publication>) {
        if self.jobs.len() < 3 * self.cells && self.random.chance(0.05) {
            self.jobs_made += 1;
            let job = Job {
                id: self.job_id(now),
                product: PRODUCTS[(self.jobs_made % 4) as usize],
                stop: 0,
                leaves_at: now.plus_ms(self.random.between(5_000.0, 30_000.0) as i64),
            };
            out.push(self.scan(&job.id.clone(), job.product, "goods-in", now));
            self.jobs.push(job);
        }
        for number in 0..self.jobs.len() {
            if self.jobs[number].leaves_at > now {
                continue;
            }
            // Every tenth job goes back a step: rework. The second cell is the slow one.
            let back = self.jobs[number].stop > 1 && self.random.chance(0.1);
            let stop = if back {
                self.jobs[number].stop - 1
            } else {
                self.jobs[number].stop + 1
            };
            let stay_s = self.random.between(10.0, 60.0) * if stop == 2 { 3.0 } else { 1.0 };
            let job = &mut self.jobs[number];
            job.stop = stop;
            job.leaves_at = now.plus_ms((stay_s * 1_000.0) as i64);
            let (id, product) = (job.id.clone(), job.product);
            let location = if stop > self.cells {
                EXIT.to_owned()
            } else {
                format!("cell-{stop}")
            };
            out.push(self.scan(&id, product, &location, now));
        }
        let cells = self.cells;
        self.jobs.retain(|job| job.stop <= cells);
    }

    /// Runs of one day in one data folder do not make the same jobs again.
    fn job_id(&self, now: Timestamp) -> String {
        let began = self.began.unwrap_or(now).to_string();
        let (month, day, hour, minute) = (&began[5..7], &began[8..10], &began[11..13], &began[14..16]);
        format!("job-{month}{day}-{hour}{minute}-{:03}", self.jobs_made)
    }

    fn scan(&mut self, job: &str, product: &str, location: &str, now: Timestamp) -> Publication {
        let operator = 1 + self.random.below(6);
        if let Some(truth) = &mut self.truth {
            truth.scan(job, location, now);
        }
        let payload = json!({
            "job_id": job, "location": location, "product_id": product, "operator_id": format!("op-{operator}"),
            "scan_timestamp": now, "message_id": format!("{}-{}", self.id(), now.ms()),
        });
        Publication {
            device: "gates".to_owned(),
            topic: format!("scans/gate-{location}"),
            payload: payload.to_string(),
        }
    }
}

/// How many of the people of a full shift are there: most about noon (UTC), half of them in the deep of the night.
fn staffed(now: Timestamp) -> f64 {
    let day = now.ms().rem_euclid(86_400_000) as f64 / 86_400_000.0;
    0.75 - 0.25 * (std::f64::consts::TAU * day).cos()
}

fn round(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(seed: u64) -> Vec<Publication> {
        let mut plant = Plant::new(6, seed);
        let start = Timestamp::from_ms(1_764_144_000_000);
        (0..3_600)
            .flat_map(|second| plant.step(start.plus_ms(second * 1_000)))
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_plant() {
        assert_eq!(hour(7), hour(7));
        assert_ne!(hour(7), hour(8));
    }

    #[test]
    fn an_hour_of_the_plant_is_believable() {
        let hour = hour(7);
        let count = |prefix: &str| {
            hour.iter()
                .filter(|publication| publication.topic.starts_with(prefix))
                .count()
        };
        assert_eq!(count("readings/air-1"), 60);
        assert!(count("scans/gate-shipping") > 5, "jobs are finished");
        for state in ["producing", "setup", "idle", "stopped"] {
            assert!(
                hour.iter().any(|publication| publication.payload.contains(state)),
                "{state} is seen"
            );
        }
        assert_eq!(count("readings/meter-"), 6 * 240);
    }

    #[test]
    fn its_model_is_a_valid_plant() {
        let plant = Plant::new(9, 1);
        let model = plant.model().expect("a plant model");
        assert_eq!(model.machines().len(), 9);
        assert_eq!(model.alarms().len(), 5);
    }
}
