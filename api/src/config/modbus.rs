//! Modbus devices of the configuration: what is written, and what is valid.
//!
//! ```toml
//! [[modbus]]
//! name = "meter-press-01"
//! host = "10.0.4.17:502"
//! poll = "15s"
//! points = [
//!   { name = "power_w",    function = "input", address = 0x34, type = "f32" },
//!   { name = "energy_kwh", function = "input", address = 0x48, type = "f32" },
//! ]
//! ```
//! Promises: a setting that cannot work is named. Addresses count from 0, as the protocol does: a data sheet's 30053 is
//! input register 52.

use std::time::Duration;

use gemba_runtime::{
    modbus::{Function, ModbusPoint, ModbusSettings, RegisterKind},
    plant::Span,
};
use gemba_twins::id::{ID_MAX, TenantId, check_id};
use serde::{Deserialize, Serialize};

use super::{ConfigError, tenant, value_error};

const POLL: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(3);
/// Faster than this no meter measures.
const POLL_MIN: Duration = Duration::from_millis(100);
const POINTS_MAX: usize = 256;

const KINDS: [(&str, RegisterKind); 8] = [
    ("u16", RegisterKind::U16),
    ("i16", RegisterKind::I16),
    ("u32", RegisterKind::U32),
    ("i32", RegisterKind::I32),
    ("u64", RegisterKind::U64),
    ("i64", RegisterKind::I64),
    ("f32", RegisterKind::F32),
    ("f64", RegisterKind::F64),
];

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Modbus {
    name: String,
    host: String,
    tenant: Option<String>,
    /// The unit behind a gateway.
    unit: Option<u8>,
    /// What its readings call it; its name if absent.
    sensor_id: Option<String>,
    poll: Option<String>,
    timeout: Option<String>,
    points: Vec<Point>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    name: String,
    function: String,
    address: u16,
    #[serde(rename = "type")]
    kind: String,
    /// `high_first` or `low_first`.
    word_order: Option<String>,
    scale: Option<f64>,
}

pub(super) fn devices(written: &[Modbus], default: &TenantId) -> Result<Vec<ModbusSettings>, ConfigError> {
    let devices = written.iter().map(|device| settings(device, default));
    devices.collect()
}

fn settings(device: &Modbus, default: &TenantId) -> Result<ModbusSettings, ConfigError> {
    let sensor_id = device.sensor_id.clone().unwrap_or_else(|| device.name.clone());
    check_id("modbus.sensor_id", &sensor_id, ID_MAX)
        .map_err(|error| value_error("modbus.sensor_id", error))?;
    let poll = span("modbus.poll", device.poll.as_deref(), POLL)?;
    if poll < POLL_MIN {
        return Err(value_error("modbus.poll", "it is below 100ms"));
    }
    if device.points.is_empty() || device.points.len() > POINTS_MAX {
        let detail = format!(
            "{} has {} points (1 to {POINTS_MAX})",
            device.name,
            device.points.len()
        );
        return Err(value_error("modbus.points", detail));
    }
    let mut points: Vec<ModbusPoint> = Vec::with_capacity(device.points.len());
    for written in &device.points {
        if points.iter().any(|point| *point.name == *written.name) {
            return Err(value_error(
                "modbus.points.name",
                format!("{:?} comes twice", written.name),
            ));
        }
        points.push(point(written)?);
    }
    Ok(ModbusSettings {
        name: device.name.clone(),
        host: if device.host.contains(':') {
            device.host.clone()
        } else {
            format!("{}:502", device.host)
        },
        unit: device.unit.unwrap_or(1),
        tenant: device
            .tenant
            .as_ref()
            .map_or(Ok(default.clone()), |text| tenant("modbus.tenant", text))?,
        sensor_id,
        poll,
        patience: span("modbus.timeout", device.timeout.as_deref(), PATIENCE)?,
        points,
    })
}

fn span(key: &'static str, text: Option<&str>, default: Duration) -> Result<Duration, ConfigError> {
    let Some(text) = text else { return Ok(default) };
    let span: Span = text.parse().map_err(|error| value_error(key, error))?;
    Ok(Duration::from_secs_f64(span.seconds()))
}

fn point(written: &Point) -> Result<ModbusPoint, ConfigError> {
    let kind = KINDS.iter().find(|(word, _)| *word == written.kind);
    let Some((_, kind)) = kind else {
        let known = KINDS.map(|(word, _)| word).join(", ");
        let detail = format!("{:?} is none of {known}", written.kind);
        return Err(value_error("modbus.points.type", detail));
    };
    let function = match written.function.as_str() {
        "input" => Function::Input,
        "holding" => Function::Holding,
        other => {
            let detail = format!("{other:?} is neither input nor holding");
            return Err(value_error("modbus.points.function", detail));
        }
    };
    let low_word_first = match written.word_order.as_deref() {
        None | Some("high_first") => false,
        Some("low_first") => true,
        Some(other) => {
            let detail = format!("{other:?} is neither high_first nor low_first");
            return Err(value_error("modbus.points.word_order", detail));
        }
    };
    if u32::from(written.address) + u32::from(kind.registers()) > 0x1_0000 {
        return Err(value_error(
            "modbus.points.address",
            "its registers end after 65535",
        ));
    }
    let scale = written.scale.unwrap_or(1.0);
    if !scale.is_finite() || scale == 0.0 {
        return Err(value_error(
            "modbus.points.scale",
            "it is not a number other than 0",
        ));
    }
    if written.name.is_empty() || written.name.len() > 128 || written.name.chars().any(char::is_control) {
        return Err(value_error("modbus.points.name", "a metric's name is needed"));
    }
    Ok(ModbusPoint {
        name: written.name.as_str().into(),
        function,
        address: written.address,
        kind: *kind,
        low_word_first,
        scale,
    })
}
