//! Modbus TCP: energy meters and other devices that have to be asked.
//!
//! Promises: a device is asked at its period, one request at a time; what it answers becomes one reading with the time
//! of the answer, which is submitted until it is durable (a meter's register loses nothing meanwhile). A request that
//! the device refuses leaves its points out, the others stay; a connection that broke is made anew, with a growing wait.
//! Knows nothing of what the numbers mean: names, scales and units are the configuration's.

mod registers;

use std::{sync::Arc, time::Duration};

use gemba_twins::id::TenantId;
use serde_json::{Map, json};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_modbus::{
    client::{Context, Reader, tcp},
    slave::Slave,
};
use tracing::{info, warn};

pub use self::registers::{Function, ModbusPoint, RegisterKind};
use self::registers::{Request, numbers, requests};
use crate::{
    clock,
    ingest::{Ingest, Message, Outcome},
};

/// First wait before connecting again, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a reading that could not be made durable waits before it is submitted again.
const AGAIN: Duration = Duration::from_secs(1);

/// A device that is asked.
#[derive(Debug, Clone)]
pub struct ModbusSettings {
    /// Names the source `modbus.{name}`.
    pub name: String,
    /// Host and port.
    pub host: String,
    /// The unit behind a gateway; 1 where there is none, mostly.
    pub unit: u8,
    /// Whose twins it feeds.
    pub tenant: TenantId,
    /// The sensor that its readings name.
    pub sensor_id: String,
    /// How often it is asked.
    pub poll: Duration,
    /// How long an answer is waited for.
    pub patience: Duration,
    /// What it is asked for.
    pub points: Vec<ModbusPoint>,
}

/// Why a connection ended.
#[derive(Debug, Error)]
enum Ended {
    #[error("the node stops")]
    Stopping,
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    Broken(String),
}

/// Asks a device until `shutdown` turns true.
pub async fn run(settings: ModbusSettings, ingest: Ingest, mut shutdown: watch::Receiver<bool>) {
    let requests = requests(&settings.points);
    let mut device = Device {
        source: format!("modbus.{}", settings.name).into(),
        refused: vec![false; requests.len()],
        requests,
        settings,
        ingest,
    };
    let mut failures = 0_u32;
    loop {
        let (ended, answered) = device.ask(&mut shutdown).await;
        if matches!(ended, Ended::Stopping) {
            return;
        }
        failures = if answered { 1 } else { failures.saturating_add(1) };
        let wait = WAIT_MIN.saturating_mul(1 << (failures - 1).min(10)).min(WAIT_MAX);
        warn!(device = %device.settings.name, problem = %ended, wait_ms = wait.as_millis() as u64, "modbus connection ended");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // An error means that the sender is gone, which ends the node too.
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
    }
}

struct Device {
    settings: ModbusSettings,
    ingest: Ingest,
    source: Arc<str>,
    requests: Vec<Request>,
    /// Requests that the device refused last time; each is logged once.
    refused: Vec<bool>,
}

impl Device {
    /// Asks over one connection until it breaks; whether the device answered at all.
    async fn ask(&mut self, shutdown: &mut watch::Receiver<bool>) -> (Ended, bool) {
        let mut stopped = shutdown.clone();
        let mut answered = false;
        tokio::select! {
            ended = self.poll(&mut answered) => (ended, answered),
            _ = stopped.wait_for(|stop| *stop) => (Ended::Stopping, answered),
        }
    }

    async fn poll(&mut self, answered: &mut bool) -> Ended {
        let mut context = match self.connect().await {
            Ok(context) => context,
            Err(ended) => return ended,
        };
        info!(device = %self.settings.name, host = %self.settings.host, "connected to the modbus device");
        let mut due = interval(self.settings.poll);
        // A device that was slow is not asked twice in a row.
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            match self.read(&mut context).await {
                Ok(Some(reading)) => {
                    *answered = true;
                    self.submit(&reading).await;
                }
                Ok(None) => *answered = true,
                Err(ended) => return ended,
            }
        }
    }

    async fn connect(&self) -> Result<Context, Ended> {
        let patience = self.settings.patience;
        let address = timeout(patience, tokio::net::lookup_host(&self.settings.host));
        let address = address.await.map_err(|_| Ended::Silent(patience))?;
        let address = address
            .map_err(|problem| Ended::Broken(problem.to_string()))?
            .next()
            .ok_or_else(|| Ended::Broken("the host has no address".into()))?;
        let connected = timeout(patience, tcp::connect_slave(address, Slave(self.settings.unit)));
        connected
            .await
            .map_err(|_| Ended::Silent(patience))?
            .map_err(|problem| Ended::Broken(problem.to_string()))
    }

    /// What the device answers as a native reading; `None` where it has no value.
    async fn read(&mut self, context: &mut Context) -> Result<Option<String>, Ended> {
        let mut values = vec![None; self.settings.points.len()];
        for (number, request) in self.requests.iter().enumerate() {
            let answer = async {
                match request.function {
                    Function::Holding => {
                        context
                            .read_holding_registers(request.address, request.count)
                            .await
                    }
                    Function::Input => context.read_input_registers(request.address, request.count).await,
                }
            };
            let patience = self.settings.patience;
            let answer = timeout(patience, answer)
                .await
                .map_err(|_| Ended::Silent(patience))?;
            match answer.map_err(|problem| Ended::Broken(problem.to_string()))? {
                Ok(registers) => {
                    self.refused[number] = false;
                    for (index, value) in numbers(request, &self.settings.points, &registers) {
                        values[index] = Some(value);
                    }
                }
                Err(exception) => {
                    if !std::mem::replace(&mut self.refused[number], true) {
                        let (device, address) = (&self.settings.name, request.address);
                        warn!(%device, address, count = request.count, %exception, "modbus request refused");
                    }
                }
            }
        }
        let metrics: Map<_, _> = self
            .settings
            .points
            .iter()
            .zip(&values)
            .filter_map(|(point, value)| Some((point.name.to_string(), json!((*value)?))))
            .collect();
        if metrics.is_empty() {
            return Ok(None);
        }
        let reading = json!({
            "sensor_id": self.settings.sensor_id,
            "sensor_type": "ENERGY",
            "timestamp": clock::now(),
            "metrics": metrics,
            "source_system": "modbus",
        });
        Ok(Some(reading.to_string()))
    }

    /// Submits a reading until it is durable; its time makes that it counts once.
    async fn submit(&self, reading: &str) {
        let tenant = &self.settings.tenant;
        loop {
            let permit = self.ingest.admit(tenant, 1, reading.len()).await;
            let mut batch = self.ingest.batch(tenant, &self.source);
            batch.push(Message::Reading {
                sensor: None,
                json: reading.as_bytes(),
            });
            match batch.submit(permit).await {
                Ok(outcomes) => {
                    if let Some(Outcome::Rejected(rejection)) = outcomes.first() {
                        warn!(device = %self.settings.name, %rejection, "reading rejected");
                    }
                    return;
                }
                Err(problem) => {
                    warn!(device = %self.settings.name, %problem, "reading waits");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}
