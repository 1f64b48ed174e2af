//! Binding: which twin a sensor feeds, and under which names.
//!
//! The first that applies: the model's entry for the sensor; a machine of the same id; the device's tags `twin`
//! (`machine/cnc-07`), `machine_id`, `location_id`. A sensor of which nothing is known is kept aside where the model
//! says so, else a twin is made for it: an air sensor feeds the location it names (or one of its own id), every other
//! sensor a machine of its own id.
//!
//! Promises: pure, and cheap where nothing is renamed: one look-up, and the metrics are passed on as they are. A
//! quantity is a number: text under a metric that is declared as gauge or counter, or whose name ends in a unit, is
//! refused rather than kept as a word. What breaks a data contract that rejects is refused too. Knows nothing of which twins exist.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use gemba_twins::{
    config::MetricKind,
    event::{Reading, Scan, SensorType, Value},
    id::{Kind, TenantId, TwinId},
};

use super::{PlantModel, UnknownSensors, configs::declared, contract::Rejecting, readers::Readers};
use crate::decode::{DecodedReading, DecodedScan, Rejection, first_duplicate, quoted};

/// Ends of names that only quantities have. Single letters are left out: `recipe_c` may well be a word.
const UNIT_ENDINGS: [&str; 20] = [
    "_kwh",
    "_wh",
    "_kw",
    "_ppm",
    "_ppb",
    "_ugm3",
    "_pct",
    "_rpm",
    "_hz",
    "_hpa",
    "_pa",
    "_bar",
    "_ms",
    "_mm",
    "_kg",
    "_db",
    "_dbm",
    "_count",
    "_total",
    "temperature_c",
];

/// Which sensor feeds which twin, by one plant model.
#[derive(Debug, Default)]
pub struct Bindings {
    sensors: HashMap<Box<str>, Binding>,
    machines: HashSet<Box<str>>,
    rejecting: Rejecting,
    pub(super) locations: HashSet<Box<str>>,
    pub(super) exits: HashSet<Box<str>>,
    pub(super) unknown: UnknownSensors,
    pub(super) readers: Readers,
}

#[derive(Debug, Clone)]
struct Binding {
    kind: Kind,
    id: Box<str>,
    sensor_type: Option<SensorType>,
    /// The sensor's names, and the twin's; `None` drops the metric.
    renames: Vec<(Box<str>, Option<Box<str>>)>,
    declared: Declared,
}

/// The metrics of a twin whose kind is declared, and whether they are quantities.
type Declared = Arc<Vec<(Box<str>, bool)>>;

impl Bindings {
    /// The bindings of a plant without a model: every sensor is registered.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// The bindings of a model.
    #[must_use]
    pub fn of(model: &PlantModel) -> Self {
        let mut declarations: HashMap<(Kind, &str), Declared> = HashMap::new();
        for (_, twin, metric) in declared(model) {
            if let Some(kind) = metric.kind {
                let declared = Arc::make_mut(declarations.entry(twin).or_default());
                declared.push((metric.name.into(), kind != MetricKind::State));
            }
        }
        let declared = |kind, id: &str| declarations.get(&(kind, id)).cloned().unwrap_or_default();
        let mut sensors: HashMap<Box<str>, Binding> = HashMap::new();
        for machine in &model.machines {
            let binding = Binding {
                kind: Kind::Machine,
                id: machine.id.clone(),
                sensor_type: None,
                renames: Vec::new(),
                declared: declared(Kind::Machine, &machine.id),
            };
            sensors.insert(machine.id.clone(), binding);
        }
        for sensor in &model.sensors {
            let renamed = sensor
                .metrics
                .iter()
                .filter(|(name, mapping)| **name != mapping.to);
            let renamed = renamed.map(|(name, mapping)| (name.clone(), Some(mapping.to.clone())));
            let dropped = sensor.ignore.iter().map(|name| (name.clone(), None));
            let binding = Binding {
                kind: sensor.feeds.kind,
                id: sensor.feeds.id.clone(),
                sensor_type: sensor.sensor_type,
                renames: renamed.chain(dropped).collect(),
                declared: declared(sensor.feeds.kind, &sensor.feeds.id),
            };
            // Network servers write the EUI of a device in either case; its readings come in lower case.
            if is_eui(&sensor.id) {
                sensors
                    .entry(sensor.id.to_ascii_lowercase().into())
                    .or_insert_with(|| binding.clone());
            }
            sensors.insert(sensor.id.clone(), binding);
        }
        let site = model.site.iter().map(|site| &site.id);
        Self {
            sensors,
            locations: model
                .locations
                .iter()
                .map(|location| &location.id)
                .chain(site)
                .cloned()
                .collect(),
            exits: model
                .locations
                .iter()
                .filter(|location| location.exit)
                .map(|location| location.id.clone())
                .collect(),
            machines: model.machines.iter().map(|machine| machine.id.clone()).collect(),
            unknown: model.unknown_sensors,
            rejecting: Rejecting::of(model),
            readers: Readers::of(&model.readers, &model.epcs),
        }
    }

    /// The twin that a reading is for, and the reading under the twin's names.
    pub fn bind_reading(
        &self,
        tenant: &TenantId,
        mut reading: DecodedReading,
    ) -> Result<(TwinId, Reading), Rejection> {
        let (twin, declared) = match self.sensors.get(&reading.sensor_id) {
            Some(binding) => {
                if !binding.renames.is_empty() {
                    rename(&mut reading, &binding.renames)?;
                }
                reading.sensor_type = reading.sensor_type.or(binding.sensor_type);
                (
                    twin(tenant, binding.kind, &binding.id)?,
                    binding.declared.as_slice(),
                )
            }
            None => (self.unlisted(tenant, &reading)?, [].as_slice()),
        };
        for (name, value) in &reading.metrics {
            if let Value::Text(text) = value
                && is_quantity(declared, name)
            {
                return Err(not_a_number(name, text));
            }
        }
        let reading = Reading {
            sensor_id: reading.sensor_id,
            sensor_type: reading.sensor_type,
            location_id: reading.location_id,
            metrics: reading.metrics,
            quality_score: reading.quality_score,
            source_system: reading.source_system,
            device_metadata: reading.device_metadata,
        };
        self.rejecting.check(twin.kind(), twin.id(), &reading)?;
        Ok((twin, reading))
    }

    /// The job that a scan is for, and the scan.
    pub fn bind_scan(&self, tenant: &TenantId, scan: DecodedScan) -> Result<(TwinId, Scan), Rejection> {
        if self.unknown == UnknownSensors::KeepAside && !self.locations.contains(&scan.location) {
            let detail = format!(
                "location {} is not in the plant model (add it to locations, apply, and retry; the model keeps unknown \
                 ones aside)",
                scan.location
            );
            return Err(Rejection::new("scan.location_unknown", detail));
        }
        let twin = TwinId::new(tenant.clone(), Kind::Job, &scan.job_id)
            .map_err(|error| Rejection::new("scan.job_id_invalid", error.to_string()))?;
        let scan = Scan {
            completes: self.exits.contains(&scan.location),
            location: scan.location,
            reader_id: scan.reader_id,
            product_id: scan.product_id,
            product_variant: scan.product_variant,
            operator_id: scan.operator_id,
            metadata: scan.metadata,
            retracts: false,
        };
        Ok((twin, scan))
    }

    /// The twin of a sensor that the model does not name.
    fn unlisted(&self, tenant: &TenantId, reading: &DecodedReading) -> Result<TwinId, Rejection> {
        if let Some(tagged) = tagged(tenant, reading)? {
            let is_known = || match tagged.kind() {
                Kind::Location => self.locations.contains(tagged.id()),
                _ => self.machines.contains(tagged.id()),
            };
            if self.unknown == UnknownSensors::Register || is_known() {
                return Ok(tagged);
            }
        }
        if self.unknown == UnknownSensors::KeepAside {
            let detail = format!(
                "sensor {} is not in the plant model (add it to sensors, apply, and retry; the model keeps unknown ones \
                 aside)",
                reading.sensor_id
            );
            return Err(Rejection::new("reading.sensor_unknown", detail));
        }
        match reading.sensor_type {
            Some(SensorType::AirQuality) => twin(
                tenant,
                Kind::Location,
                reading.location_id.as_ref().unwrap_or(&reading.sensor_id),
            ),
            Some(SensorType::Rfid) => {
                let detail = format!(
                    "sensor {} is an RFID reader and its reading names no job (send scans with job_id, or say in the \
                     plant model what the reader feeds)",
                    reading.sensor_id
                );
                Err(Rejection::new("reading.rfid_without_job", detail))
            }
            Some(SensorType::Machine | SensorType::Energy) | None => {
                twin(tenant, Kind::Machine, &reading.sensor_id)
            }
        }
    }
}

pub(super) fn is_eui(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_quantity(declared: &[(Box<str>, bool)], name: &str) -> bool {
    match declared.iter().find(|(declared, _)| **declared == *name) {
        Some((_, quantity)) => *quantity,
        None => UNIT_ENDINGS.iter().any(|end| name.ends_with(end)),
    }
}

fn twin(tenant: &TenantId, kind: Kind, id: &str) -> Result<TwinId, Rejection> {
    TwinId::new(tenant.clone(), kind, id)
        .map_err(|error| Rejection::new("reading.twin_invalid", error.to_string()))
}

/// The twin that an integrator wrote into the device's tags.
fn tagged(tenant: &TenantId, reading: &DecodedReading) -> Result<Option<TwinId>, Rejection> {
    let tag = |wanted: &str| {
        reading
            .tags
            .iter()
            .find(|(name, _)| **name == *wanted)
            .map(|(_, value)| &**value)
    };
    if let Some(text) = tag("twin") {
        let invalid = |why: String| {
            let detail = format!(
                "tag twin {}: {why} (e.g. machine/cnc-07 or location/cell-2)",
                quoted(text)
            );
            Rejection::new("reading.twin_invalid", detail)
        };
        let tagged = TwinId::parse(tenant.clone(), text).map_err(|error| invalid(error.to_string()))?;
        if tagged.kind() == Kind::Job {
            return Err(invalid("jobs are fed by scans".into()));
        }
        return Ok(Some(tagged));
    }
    match (tag("machine_id"), tag("location_id")) {
        (Some(machine), _) => twin(tenant, Kind::Machine, machine).map(Some),
        (None, Some(location)) => twin(tenant, Kind::Location, location).map(Some),
        (None, None) => Ok(None),
    }
}

fn rename(reading: &mut DecodedReading, renames: &[(Box<str>, Option<Box<str>>)]) -> Result<(), Rejection> {
    let measured = reading.metrics.len();
    reading
        .metrics
        .retain_mut(|(name, _)| match renames.iter().find(|(from, _)| from == name) {
            Some((_, Some(to))) => {
                name.clone_from(to);
                true
            }
            Some((_, None)) => false,
            None => true,
        });
    if reading.metrics.is_empty() {
        let detail = format!(
            "the plant model ignores all {measured} metrics of sensor {}",
            reading.sensor_id
        );
        return Err(Rejection::new("reading.metrics_empty", detail));
    }
    match first_duplicate(&reading.metrics) {
        Some(name) => {
            let detail = format!(
                "metric {} comes twice from sensor {} (the plant model gives its name to another metric; ignore one)",
                quoted(name),
                reading.sensor_id
            );
            Err(Rejection::new("reading.metric_duplicate", detail))
        }
        None => Ok(()),
    }
}

fn not_a_number(name: &str, text: &str) -> Rejection {
    let detail = format!(
        "metric {} is a quantity but holds the text {} (send a number, or null)",
        quoted(name),
        quoted(text)
    );
    Rejection::new("reading.metric_not_number", detail)
}
